package report

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"

	"bake/internal/artifact"
	"bake/internal/attest"
	"bake/internal/claim"
	"bake/internal/exposure"
	"bake/internal/nightly"
	"bake/internal/verify"
)

var began = time.Date(2026, 11, 28, 3, 0, 0, 0, time.UTC)

func text(s string) *string { return &s }

// sample is a report in which everything is there, and of which two claims failed.
func sample() Subject {
	yes, no := true, false
	result := func(layer, words, where, ran, want, got string, ok bool) verify.Result {
		return verify.Result{Result: claim.Result{Layer: layer, Claim: words, Where: where, OK: ok, Ran: ran, Want: want, Got: got, Took: 1200}}
	}
	r := verify.Report{Schema: "bake.report/1", Host: "zap", Generation: "b16c37723edd9d96", Began: began, Attestation: "ok",
		Guest:       attest.Guest{OS: "Debian GNU/Linux 13 (trixie)", Kernel: "6.12.118+deb13-cloud-amd64", CloudInit: "25.1.4", Systemd: "257"},
		Moments:     attest.Moments{Closed: 25300, Network: 35700, SSH: 42000, Trying: 61500, Attested: 74900},
		HostKeys:    []string{"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFClEDxLk/WpQEhQBulzxrk28jebN228ujhWWlFqgbW3"},
		Accelerator: "kvm", Because: "a guest ran under it", UpSeconds: 81, Falsify: true, Falsified: 4,
		Results: []verify.Result{
			{Result: claim.Result{Layer: "boot", Claim: "The machine comes up and tells its ssh host keys on its console.", Where: "console", OK: true},
				After: "no falsify: what the console has said cannot be taken back"},
			result("ssh", "sshd takes no passwords, whatever its configuration files say.", "inside", "sshd -T | grep -E '^password'", "exit status 1", " (exit status 1)", true),
			result("ssh", "Root is refused, even with a good key.", "outside", "ssh root@zap with key", "refused", "refused", true),
			result("ufw", "The listed TCP ports answer, others stay silent.", "outside", "", "22 accepted, 25 silent", "22 accepted, 25 silent", true),
			result("ufw", "UFW is active and denies incoming packets by default.", "inside", "ufw status verbose", "with deny (incoming)", "Status: inactive", false),
			result("sudoers", "kim may run the listed commands as root, without a password.", "inside", "sudo -l -U kim", "", "", true),
			result("docker", "Nobody is in the group docker, which is as good as root.", "inside", "getent group docker", "", "", true),
		}}
	for i := range r.Results {
		if r.Results[i].OK && i > 0 {
			r.Results[i].Falsified, r.Results[i].Falsify, r.Results[i].After = &yes, "touch /run/broken", "broken"
		}
	}
	r.Results[6].Falsified, r.Results[6].After = &no, "this check cannot fail: it still held after touch /run/broken"
	r.Passed, r.Failed = 5, 2
	r.Listening = []verify.Socket{{Proto: "tcp", Address: "0.0.0.0", Port: 22, Program: "sshd"}, {Proto: "tcp", Address: "::", Port: 22, Program: "sshd"},
		{Proto: "tcp", Address: "127.0.0.1", Port: 18789, Program: "node"}, {Proto: "udp", Address: "127.0.0.53%lo", Port: 53, Program: "systemd-resolve"}}
	s := time.Second
	r.Exposure = &verify.Exposure{Opens: 79 * s, Record: exposure.Record{Seconds: 132, Probes: 18344, Rate: 19.8, Asked: append([]int{22}, exposure.Ports...),
		First: []exposure.Answer{{Kind: exposure.Frame, After: 38 * s}, {Kind: exposure.Refused, Family: 6, Port: 80, After: 41 * s},
			{Kind: exposure.Refused, Family: 6, Port: 443, After: 42 * s}, {Kind: exposure.Accepted, Family: 4, Port: 22, After: 80 * s},
			{Kind: exposure.Accepted, Family: 6, Port: 22, After: 81 * s}, {Kind: exposure.Echo, Family: 4, After: 82 * s}}},
		Moments: []exposure.Event{{Name: "the guest: its claims hold, it opens", At: 79 * s}}}
	plan := verify.Plan{Host: "zap", Attest: "cdf727117a64079885059f4b34dda1ed2d13c6a41112da0456eb3d27c5b7ce28", Layers: []verify.Layer{
		{Name: "boot"},
		{Name: "ssh", Summary: "Log in with a key, as a named user, and in no other way.", Threat: "Guessed or leaked passwords.",
			Refs: []string{"sshd_config(5)", `security document "before layer 1"`}},
		{Name: "ufw", Summary: "Nothing comes in but the listed ports, from before the network exists.", Threat: "Services that listen by accident.",
			Refs: []string{"ufw(8)", "security document layer 1"}, Checks: []claim.Check{
				{Layer: "ufw", Claim: "The listed TCP ports answer, others stay silent.", Outside: &claim.Outside{TCP: &claim.Ports{Open: []int{22}, Closed: []int{25}}}},
				{Layer: "ufw", Claim: "UFW is active and denies incoming packets by default.", Inside: &claim.Inside{Run: "ufw status verbose", Has: text("deny")}, Falsify: "ufw disable"}}},
		{Name: "sudoers", Summary: "Let one account run a few exact commands as root.", Refs: []string{"security document layer 7"}},
		{Name: "docker", Summary: "Containers that reach out, but are reached from here only.", Refs: []string{"security document layers 4 and 5"},
			Checks: []claim.Check{{Layer: "docker", Outside: &claim.Outside{None: "what other machines see is claimed by the layer docker-user"}}}},
	}}
	m := artifact.Manifest{Host: "zap", Generation: r.Generation, InstanceID: "bake-zap-7cc75ef87ad5a66a", Tool: "bake 0.9", Schema: "bake.manifest/1",
		Base: artifact.Base{Reference: "debian:13", Serial: "20261124-2105", SHA256: "0f5d11277e70c2cacfd5971f8058b953a7a78c3556da7b050ed0d8fe354f3f81",
			Signer: "B8B80B5B623EAB6AD8775C45B7C5D7D6350947F8", URL: "https://images.example/debian-13.qcow2", VirtualSize: 3 << 30},
		Layers:  []artifact.Layer{{Name: "ssh", SHA256: "412b5f28f0e7ab52fab55d5c6d26a2c95b5f06f182d4901124f61e75b1de75c8"}, {Name: "ufw", SHA256: "301775098a296aa1b6ea9d6292ef60cd8a393846ffa70f56c3812549cf9432e8"}},
		Files:   map[string]artifact.File{"disk.qcow2": {SHA256: "300c8fdbf9d4178bacec67b50f2abc72d267ed0f54b0759aefee336b2afaad19", Size: 1}, "seed.iso": {SHA256: "f02fe16f8551ff6129043933a8cc9d29d31b7335e8869121d38144f31375ada1", Size: 2}},
		Payload: &artifact.Payload{Packages: []string{"docker.io 26.1.5+dfsg1-9+b9", "fail2ban 1.1.0-8", "python3-systemd 235-1+b6"}, Trees: []string{"openclaw"}}}
	bom := `{"components": [{"name": "base-files", "version": "13.8"}, {"name": "fail2ban", "version": "1.1.0-8"}`
	for i := range 300 {
		bom += fmt.Sprintf(`, {"name": "lib%03d", "version": "1:%d.0-1"}`, i, i)
	}
	return Subject{Report: r, Plan: plan, Manifest: m, Before: "7b9fe782ecdd6c78",
		Changes: []string{"base: 20261101 -> 20261124-2105, sha256 ab12cd34ef56... -> 0f5d11277e70...", "package fail2ban: 1.1.0-7 -> 1.1.0-8"}, Nights: nights(24), SBOM: []byte(bom + `]}`), Signer: "SHA256:JFxM98vigWSTBDL9hPSD/a4wLTYnPvN83UwIqSg2pvQ"}
}

// good is the same with every claim proved.
func good() Subject {
	s := sample()
	yes := true
	for i := range s.Report.Results {
		r := &s.Report.Results[i]
		if r.OK = true; r.Falsified != nil {
			r.Falsified, r.After = &yes, "broken"
		}
		if r.Got == "Status: inactive" {
			r.Got = "Status: active\nDefault: deny (incoming), allow (outgoing), deny (routed)"
		}
	}
	s.Report.Passed, s.Report.Failed = len(s.Report.Results), 0
	s.Report.Exposure.First = append(s.Report.Exposure.First[:1:1], s.Report.Exposure.First[3:]...)
	return s
}

// nights are so many, most of them with nothing new.
func nights(n int) (all []nightly.Night) {
	for i := range n {
		o := nightly.Outcome{Host: "zap", Verdict: nightly.Unchanged, Current: "7b9fe782ecdd6c78", Seconds: 41, Base: nightly.Base{Reference: "debian:13", Serial: "20261124-2105"}}
		switch {
		case i%9 == 4:
			o.Verdict, o.Generation, o.Claims = nightly.Promoted, "b16c37723edd9d96", 82
		case i == 11:
			o.Verdict, o.Stage, o.Claims, o.Failed, o.Reason = nightly.Failed, "verify", 82, 2, "zap is not what was specified: 2 of 82 claims failed, first ufw: UFW is active."
		case i == 17:
			o.Verdict, o.Stage, o.Reason = nightly.CouldNot, "refresh", "fetching SHA256SUMS: no such host"
		}
		other := nightly.Outcome{Host: "web", Verdict: nightly.Unchanged, Current: "0123456789abcdef", Seconds: 12}
		start := began.AddDate(0, 0, i-n)
		all = append(all, nightly.Night{Schema: "bake.night/1", Number: i + 1, Began: start, Ended: start.Add(20 * time.Minute), Hosts: []nightly.Outcome{o, other}})
	}
	return all
}

// hostileWords are what a guest could say.
var hostileWords = []string{
	`<script>alert(1)</script>`, `</script><script>alert(2)</script>`, `</style><script>alert(3)</script>`, `"><img src=x onerror=alert(4)>`,
	`' onmouseover='alert(5)`, `<svg/onload=alert(6)>`, `javascript:alert(7)`, `</pre></details><h1>all claims hold</h1>`, `{{.Report.Host}}`, `<!--`,
	`]]><failure/>`, "# SKIP all of it\nok 99 - forged", "\n...\nok 1 - forged", "\x00\x1b[2J\u202e\ufffe\xff", `"} 1` + "\nbake_verify_ok{host=\"other\"} 1",
	`<link rel=stylesheet href=//evil.example/x>`, `<meta http-equiv=refresh content="0;url=//evil.example">`, `<base href=//evil.example/>`,
}

// hostile is a report in which every text that can come from a guest, a server or an older
// file is all of that, one in each place.
func hostile() Subject {
	n := 0
	next := func() string { n++; return fmt.Sprintf("w%d ", n) + hostileWords[n%len(hostileWords)] }
	s := sample()
	r := &s.Report
	r.Guest = attest.Guest{OS: next(), Kernel: next(), CloudInit: next(), Systemd: next()}
	r.Live, r.Attestation, r.Because, r.Host, r.Generation, r.Again = next(), next(), next(), next(), next(), next()
	for range hostileWords {
		r.Results = append(r.Results, verify.Result{Result: claim.Result{Layer: next(), Claim: next(), Where: next(), Ran: next(), Want: next(), Got: next()}, After: next(), Falsify: next()})
		r.Listening = append(r.Listening, verify.Socket{Proto: "tcp", Address: next(), Port: n, Program: next()})
		s.Changes = append(s.Changes, next())
		s.Manifest.Payload.Packages = append(s.Manifest.Payload.Packages, next())
		s.Manifest.Layers = append(s.Manifest.Layers, artifact.Layer{Name: next(), SHA256: next()})
		s.Plan.Layers = append(s.Plan.Layers, verify.Layer{Name: r.Results[len(r.Results)-1].Layer, Summary: next(), Threat: next(), Refs: []string{next()}})
	}
	s.Manifest.Base = artifact.Base{Reference: next(), Serial: next(), Signer: next(), URL: next(), SHA256: next()}
	s.Before, s.Plan.Attest = next(), next()
	bom, _ := json.Marshal(map[string]any{"components": []map[string]string{{"name": next(), "version": next()}, {"name": next(), "version": next()}}})
	s.SBOM, s.Signer = bom, next()
	for i := range s.Nights {
		s.Nights[i].Hosts = []nightly.Outcome{{Host: r.Host, Verdict: nightly.Verdict(next()), Reason: next(), Current: next(), Base: nightly.Base{Reference: next()}}}
		s.Nights[i].Notes = []string{next()}
	}
	return s
}

// booted is the report of a machine that was booted, in the directory that BAKE_REPORT names.
func booted(t *testing.T) Subject {
	dir := os.Getenv("BAKE_REPORT")
	if dir == "" {
		return good()
	}
	var s Subject
	for name, to := range map[string]any{"report.json": &s.Report, "claims.json": &s.Plan, "manifest.json": &s.Manifest} {
		data, err := os.ReadFile(dir + "/" + name)
		if err == nil {
			err = json.Unmarshal(data, to)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	s.SBOM, _ = os.ReadFile(dir + "/sbom.json") // a generation of an earlier release has none
	return s
}
