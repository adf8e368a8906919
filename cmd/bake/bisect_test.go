package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bake/internal/artifact"
	"bake/internal/bisect"
	"bake/internal/claim"
	"bake/internal/verify"
)

// redIf are the verdicts of machines of which the claim that is named does not hold; ""
// is a machine of which all do. Nothing is booted: TestFullBisect boots.
func redIf(t *testing.T, judge func(m artifact.Manifest, o verify.Options) string) func(verify.Options) (verify.Report, error) {
	return func(o verify.Options) (verify.Report, error) {
		var m artifact.Manifest
		content, err := os.ReadFile(filepath.Join(filepath.Dir(o.Disk), "manifest.json"))
		if err == nil {
			err = json.Unmarshal(content, &m)
		}
		if err != nil {
			t.Error(err)
		}
		failed := judge(m, o)
		report := verify.Report{Host: o.Plan.Host, Generation: o.Generation}
		for _, name := range []string{"UFW is active.", "It is fast."} {
			result := verify.Result{Result: claim.Result{Layer: "ufw", Claim: name, OK: name != failed}}
			if !result.OK {
				report.Failed++
			}
			report.Results = append(report.Results, result)
		}
		return report, nil
	}
}

// hunted is what bake bisect --json printed, which must end so.
func (f *fortnight) hunted(code int, args ...string) (v bisectView) {
	f.sleep.t.Helper()
	o := f.sleep.bake(append([]string{"bisect", "--json", "--host", "pak"}, args...)...)
	if o.code != code {
		f.sleep.t.Fatalf("exit status %d, want %d\n%s%s", o.code, code, o.stdout, o.stderr)
	}
	if code == 0 {
		if err := json.Unmarshal([]byte(o.stdout), &v); err != nil {
			f.sleep.t.Fatalf("%v\n%s", err, o.stdout)
		}
	}
	return v
}

func causes(v bisectView) (all []string) {
	for _, c := range v.Cause {
		all = append(all, c.String())
	}
	return all
}

// newRed has a host whose current generation is good, and one that may be red and differs
// in a package, a layer, a key, memory and processors.
func newRed(t *testing.T, judge func(m artifact.Manifest, o verify.Options) string) *fortnight {
	f := newFortnight(t)
	f.sleep.write(t, "layers/motd/layer.yaml", ownLayer, 0o644)
	f.sleep.write(t, "layers/motd/files/etc/motd", "hello\n", 0o644)
	host, err := os.ReadFile(filepath.Join(f.sleep.dir, "hosts/pak.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	with := func(pairs ...string) {
		text := strings.NewReplacer(append([]string{"fail2ban]", "fail2ban, motd]"}, pairs...)...).Replace(string(host))
		f.sleep.write(t, "hosts/pak.yaml", text, 0o644)
	}
	with()
	f.sleep.must(0, nil, "--host", "pak")
	f.offer(t, "2")
	with("disk: 1GiB", "disk: 1GiB, vcpus: 3, memory: 3GiB", "ufw,", "ufw: {logging: high},", "ops@example", "eve@example")
	f.sleep.write(t, "layers/motd/files/etc/motd", "hello, world\n", 0o644)
	f.boot = redIf(t, judge)
	n := f.sleep.must(7, nil, "--host", "pak")
	if got := f.verdicts(n); got != "pak failed" {
		t.Fatal(got)
	}
	return f
}

func hasPackage(m artifact.Manifest, text string) bool {
	return slices.Contains(m.Payload.Packages, text)
}

// digestOfLayer is the digest of a layer.
func digestOfLayer(m artifact.Manifest, name string) string {
	for _, l := range m.Layers {
		if l.Name == name {
			return l.SHA256
		}
	}
	return ""
}

func TestBisect(t *testing.T) {
	const red = "UFW is active."
	motd := ""
	for name, test := range map[string]struct {
		judge func(m artifact.Manifest, o verify.Options) string
		cause []string
	}{
		"a package": {func(m artifact.Manifest, _ verify.Options) string {
			return map[bool]string{true: red}[hasPackage(m, "fail2ban 2")]
		}, []string{"package fail2ban: 1 -> 2"}},
		"a setting": {func(_ artifact.Manifest, o verify.Options) string {
			return map[bool]string{true: red}[o.Plan.VCPUs == 3]
		}, []string{"host machine.vcpus: absent -> 3"}},
		"a layer": {func(m artifact.Manifest, _ verify.Options) string {
			if motd == "" {
				motd = digestOfLayer(m, "motd")
			}
			return map[bool]string{true: red}[digestOfLayer(m, "motd") == motd]
		}, []string{"layer motd: sha256 "}},
		"two together": {func(m artifact.Manifest, o verify.Options) string {
			return map[bool]string{true: red}[hasPackage(m, "fail2ban 2") && o.Plan.VCPUs == 3]
		}, []string{"package fail2ban: 1 -> 2", "host machine.vcpus: absent -> 3"}},
		"another claim on the way": {func(m artifact.Manifest, o verify.Options) string {
			switch newer := hasPackage(m, "fail2ban 2"); {
			case newer && o.Plan.Memory == 3<<30:
				return red
			case newer:
				return "It is fast."
			}
			return ""
		}, []string{"package fail2ban: 1 -> 2", "host machine.memory: absent -> 3GiB"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newRed(t, test.judge)
			before := traces(t, filepath.Join(f.sleep.dir, "out"))
			dry := f.hunted(0, "--dry-run")
			if len(dry.Changes) != 6 || dry.Guess != bisect.Guess(6) || len(dry.Trials) != 0 || len(dry.Claims) != 1 {
				t.Errorf("%+v", dry)
			}
			for path, is := range traces(t, filepath.Join(f.sleep.dir, "out")) {
				if before[path] != is {
					t.Errorf("a dry run has written %s", path)
				}
			}
			current, latest := f.sleep.current("pak"), linkOf(t, f.sleep, "latest")
			booted := len(f.booted)
			v := f.hunted(0)
			if got := causes(v); !slices.EqualFunc(got, test.cause, strings.HasPrefix) {
				t.Errorf("because of %q, want %q: %+v", got, test.cause, v.Trials)
			}
			if len(v.Trials) == 0 || len(f.booted)-booted > len(v.Trials) {
				t.Errorf("%d boots, %d trials", len(f.booted)-booted, len(v.Trials))
			}
			if f.sleep.current("pak") != current || linkOf(t, f.sleep, "latest") != latest {
				t.Error("latest or current is another")
			}
			if _, err := os.Stat(filepath.Join(f.sleep.dir, "out/.bisect")); err == nil {
				t.Error("it has left its directory")
			}
			var kept bisectView
			content, err := os.ReadFile(filepath.Join(f.sleep.dir, "out/pak", latest, bisectReport))
			if err == nil {
				err = json.Unmarshal(content, &kept)
			}
			if err != nil || !slices.Equal(causes(kept), causes(v)) {
				t.Errorf("%v, %+v", err, kept)
			}
			checkClean(t, filepath.Join(f.sleep.dir, "out"))
		})
	}
}

func linkOf(t *testing.T, s *sleep, which string) string {
	t.Helper()
	target, err := os.Readlink(filepath.Join(s.dir, "out/pak", which))
	if err != nil {
		t.Fatal(err)
	}
	return target
}

// TestBisectResumes cuts a search off at each boot, and has the next one go on.
func TestBisectResumes(t *testing.T) {
	judge := func(m artifact.Manifest, o verify.Options) string {
		return map[bool]string{true: "UFW is active."}[hasPackage(m, "fail2ban 2") && o.Plan.VCPUs == 3]
	}
	f := newRed(t, judge)
	before := len(f.booted)
	whole := f.hunted(0)
	all := len(f.booted) - before
	for cut := 1; ; cut += 3 {
		n, before := 0, len(f.booted)
		f.boot = func(o verify.Options) (verify.Report, error) {
			if n++; n == cut {
				return verify.Report{}, lackError{errors.New("the disk is full")}
			}
			return redIf(t, judge)(o)
		}
		o := f.sleep.bake("bisect", "--host", "pak")
		if o.code == 0 {
			break
		}
		if o.code != 4 || !strings.Contains(o.stderr, "the disk is full (what was tried is kept: bake bisect --host pak goes on)") {
			t.Fatalf("%+v", o)
		}
		f.boot = redIf(t, judge)
		v := f.hunted(0)
		if !slices.Equal(causes(v), causes(whole)) || len(v.Trials) != len(whole.Trials) {
			t.Errorf("cut off at boot %d: %+v", cut, v)
		}
		if got := len(f.booted) - before; got != all+1 { // the one that was cut off twice
			t.Errorf("cut off at boot %d: %d boots, want %d", cut, got, all+1)
		}
	}
}

// What cannot be searched is said.
func TestBisectRefuses(t *testing.T) {
	f := newFortnight(t)
	f.sleep.must(0, nil)
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{nil, 2, "are one generation"},
		{[]string{"--bad", "0123456789abcdef"}, 4, "has no generation 0123456789abcdef"},
		{[]string{"--host", "zap"}, 2, "want one host"},
		{[]string{"now"}, 2, `unexpected argument "now"`},
	} {
		if o := f.sleep.bake(append([]string{"bisect", "--host", "pak"}, test.args...)...); o.code != test.code || !strings.Contains(o.stderr, test.want) {
			t.Errorf("%q: %+v", test.args, o)
		}
	}
	f.offer(t, "2")
	f.sleep.must(0, nil, "--host", "pak")
	f.offer(t, "3")
	f.boot = failing("pak")
	f.sleep.must(7, nil, "--host", "pak")
	good := f.sleep.current("pak")
	if o := f.sleep.bake("bisect", "--host", "pak", "--good", "latest", "--bad", "current"); o.code != 4 || !strings.Contains(o.stderr, "the claims of generation") {
		t.Errorf("%+v", o)
	}

	// What fails with none of the changes, too, is not one of them.
	if v := f.hunted(0, "--again"); len(v.Cause) != 0 || !strings.Contains(v.Why, "with none of the changes it is bad now") {
		t.Errorf("%+v", v)
	}
	f.boot = judged(true)
	if v := f.hunted(0, "--again"); len(v.Cause) != 0 || !strings.Contains(v.Why, "with all of the changes it is good now") {
		t.Errorf("%+v", v)
	}
	if f.sleep.current("pak") != good {
		t.Error("current is another")
	}
}
