package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"bake/internal/archive"
	"bake/internal/artifact"
	"bake/internal/backup"
	"bake/internal/claim"
	"bake/internal/host"
	"bake/internal/status"
	"bake/internal/tool"
	"bake/internal/verify"
	"bake/layers"
)

// estate is a host, its stores and a machine of which there is no more than the layer
// backup's programs, behind an ssh that runs them here.
type estate struct {
	*snapshotLab
	config string
	boot   func(context.Context, verify.Options) (verify.Report, error)
	stderr string
}

const estateHost = `host: zap
base: debian:13
machine: {disk: 1GiB}
admin: {name: ops, keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIC5fZc/o+6nL5wffhDwRKx2uFUYmLG4ZcnVAjhhwA3Wo ops@example]}
layers: [own]
payload: none
`

// estateSSH is an ssh that logs in here: as bake-backup to fetch, as the admin for the
// rest. What is claimed of a machine holds here, if it is done by a shell alone.
const estateSSH = `#!/bin/sh
lab=%[1]s
all="$*"
case "$all" in
*"-l bake-backup"*) exec python3 -I $lab/lib/backup ;;
*"bake/restore ready"*) exec python3 -I $lab/lib/restore ready 1 ;;
*"bake/restore"*) exec python3 -I $lab/lib/restore ${all##*bake/restore} ;;
esac
cd $lab/claims && exec env -i PATH=$lab/claims:/bin:/usr/bin /bin/sh
`

func newEstate(t *testing.T) *estate {
	t.Helper()
	for _, name := range []string{"rsync", "qemu-img"} {
		if _, err := exec.LookPath(name); err != nil && os.Getenv("CI") == "" {
			t.Skip(err)
		}
	}
	e := &estate{snapshotLab: newSnapshotLab(t)}
	e.config = filepath.Join(e.dir, "config")
	e.write(t, "config/hosts/zap.yaml", estateHost)
	e.write(t, "config/layers/own/layer.yaml", "layer: own\nsummary: A claim that holds anywhere.\nthreat: none\n"+
		"checks:\n  inside:\n    - {claim: Something is so., run: \"true\", exit: 0, falsify: \"false\"}\n")
	e.write(t, "config/backup.yaml", "default: {tree: "+e.dir+"/store}\n")
	e.write(t, "bin/ssh", fmt.Sprintf(estateSSH, e.dir))
	e.write(t, "claims/sudo", "#!/bin/sh\nexec env \"$@\"\n")
	e.write(t, "config/out/zap/known_hosts", "zap ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIC5fZc/o+6nL5wffhDwRKx2uFUYmLG4ZcnVAjhhwA3Wo\n")
	base := filepath.Join(e.dir, "base.qcow2")
	if out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", base, "1G").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if code, _ := e.bake(t, "image", "--host", "zap", "--base", base); code != 0 {
		t.Fatal(e.stderr)
	}
	latest, err := os.Readlink(filepath.Join(e.config, "out/zap/latest"))
	if err = errors.Join(err, os.Symlink(latest, filepath.Join(e.config, "out/zap/current"))); err != nil {
		t.Fatal(err)
	}
	return e
}

func (e *estate) bake(t *testing.T, args ...string) (int, string) {
	t.Helper()
	getenv := func(name string) string {
		return map[string]string{"HOME": e.dir, "PATH": filepath.Join(e.dir, "bin") + ":" + os.Getenv("PATH")}[name]
	}
	var stdout, stderr bytes.Buffer
	world := env{Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr, Layers: layers.FS, Getenv: getenv, Tools: tool.Box{Getenv: getenv}, Boot: e.boot}
	code := run(t.Context(), world, append([]string{"bake", "--config", e.config, "--out", filepath.Join(e.config, "out")}, args...))
	e.stderr = stderr.String()
	t.Logf("bake %s: exit %d\n%s", strings.Join(args, " "), code, e.stderr)
	return code, stdout.String()
}

// live writes a state, without what only looks like a database: a backup of it would be
// exit status 7.
func (e *estate) live(t *testing.T) {
	t.Helper()
	python(t, fullState, e.state)
	for _, name := range []string{"", "-wal"} {
		if err := os.Remove(e.state + "/state/only-looks.sqlite" + name); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRestoreIntoMachine takes a state out of a machine and puts it back, by bake's own
// commands.
func TestRestoreIntoMachine(t *testing.T) {
	e := newEstate(t)
	e.live(t)
	e.receive(t) // and beside the others the first time
	if code, _ := e.bake(t, "restore", "--host", "zap", "--yes", "zap", "--address", "127.0.0.1"); code != 6 || !strings.Contains(e.stderr, "there is no repository") {
		t.Errorf("without a backup: exit %d", code)
	}
	if code, _ := e.bake(t, "backup", "init", "--host", "zap"); code != 0 {
		t.Fatalf("exit %d", code)
	}
	if code, _ := e.bake(t, "backup", "--host", "zap", "--address", "127.0.0.1"); code != 0 {
		t.Fatalf("exit %d", code)
	}
	_, before := e.receive(t)
	e.write(t, "state/workspace/since", "lost")

	for _, args := range [][]string{nil, {"--yes", "zip"}, {"--yes", "zap", "--to", "x"}, {"--yes", "zap", "--at", "soon"}, {"--yes", "zap", "--at", "2026-11-28", "--snapshot", "1"}} {
		if code, _ := e.bake(t, append([]string{"restore", "--host", "zap", "--address", "127.0.0.1"}, args...)...); code != 2 {
			t.Errorf("%v: exit %d", args, code)
		}
	}
	if code, _ := e.bake(t, "restore", "--host", "zap", "--yes", "zap", "--at", "2001-01-01"); code != 4 || !strings.Contains(e.stderr, "there is no backup from before 2001-01-01") {
		t.Errorf("--at: exit %d", code)
	}
	look := filepath.Join(e.dir, "look")
	if code, out := e.bake(t, "restore", "--host", "zap", "--to", look); code != 0 || strings.TrimSpace(out) != look {
		t.Errorf("--to: exit %d, %q", code, out)
	}
	if text, err := os.ReadFile(filepath.Join(look, e.state, "workspace/a")); string(text) != "linked" {
		t.Error(err)
	}

	a := &app{out: filepath.Join(e.config, "out")}
	g, err := artifact.Open(a.out, "zap", "latest")
	if err != nil {
		t.Fatal(err)
	}
	if is := a.generationOf("zap", g.Manifest.InstanceID); is == "" || is != g.Manifest.Generation || a.generationOf("zap", "another") != "" || a.generationOf("zip", g.Manifest.InstanceID) != "" {
		t.Errorf("it is %q, and not %q", is, g.Manifest.Generation)
	}

	// Somebody deploys: the state would get another machine under it.
	held, err := artifact.Lock(t.Context(), filepath.Join(e.config, "out"), "zap")
	if err != nil {
		t.Fatal(err)
	}
	if code, _ := e.bake(t, "restore", "--host", "zap", "--yes", "zap", "--address", "127.0.0.1"); code != 4 || !strings.Contains(e.stderr, "another bake works on it") {
		t.Errorf("beside a deploy: exit %d", code)
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}

	// One claim, that the machine tries the claims of this generation, cannot hold here.
	code, out := e.bake(t, "restore", "--host", "zap", "--yes", "zap", "--address", "127.0.0.1", "--json")
	var view restoreView
	if err := json.Unmarshal([]byte(out), &view); err != nil {
		t.Fatal(err)
	}
	if code != 7 || view.Attested || view.Claims == 0 || view.RPO <= 0 || view.RTO <= 0 || len(view.Aside) != 1 || view.Gateway != "none" || len(view.Databases) != 2 {
		t.Errorf("exit %d, %+v", code, view)
	}
	if _, err := os.Stat(view.Aside[0] + "/workspace/since"); err != nil {
		t.Error(err)
	}
	_, after := e.receive(t)
	if diff := differences(before, after, strings.TrimPrefix(e.state, "/")+"/"); diff != "" {
		t.Error(diff)
	}
}

// TestRestoreRefusesHostile: what a machine could put into its backups does not get
// into another, or onto this one.
func TestRestoreRefusesHostile(t *testing.T) {
	e := newEstate(t)
	good, err := stateOf("zap", time.Now(), map[string][]byte{"a": []byte("0123456789")})
	if err != nil {
		t.Fatal(err)
	}
	other, err := stateOf("zip", time.Now(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		stream []byte
		says   string
	}{
		"changed":   {bytes.Replace(good, []byte("0123456789"), []byte("9876543210"), 1), "is not what the manifest says"},
		"truncated": {good[:len(good)/2], "ends"},
		"another's": {other, "the state of zip"},
		"nothing":   {nil, "ends without a manifest"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			manifest := []byte("{}")
			if i := bytes.Index(test.stream, []byte(`{"format"`)); i >= 0 {
				var raw json.RawMessage
				if err := json.NewDecoder(bytes.NewReader(test.stream[i:])).Decode(&raw); err != nil {
					t.Fatal(err)
				}
				manifest = raw
			}
			if err := errors.Join(os.WriteFile(filepath.Join(dir, archive.StateFile), test.stream, 0o600), os.WriteFile(filepath.Join(dir, archive.ManifestFile), manifest, 0o600)); err != nil {
				t.Fatal(err)
			}
			for _, args := range [][]string{{"--to", filepath.Join(dir, "to")}, {"--yes", "zap", "--address", "127.0.0.1"}} {
				if code, _ := e.bake(t, append([]string{"restore", "--host", "zap", "--from", dir}, args...)...); code != 5 || !strings.Contains(e.stderr, test.says) {
					t.Errorf("%v: exit %d", args, code)
				}
			}
			demandGone(t, filepath.Join(dir, "to"))
		})
	}
	if entries, err := os.ReadDir(e.state); err != nil || len(entries) != 0 {
		t.Errorf("%v, %v", entries, err)
	}
}

// TestDrill rehearses in a machine that is a server of ssh which runs the guest's
// programs.
func TestDrill(t *testing.T) {
	e := newEstate(t)
	e.live(t)
	if code, _ := e.bake(t, "drill", "--host", "zap", "--max-age", "8d"); code != 7 || !strings.Contains(e.stderr, "no restore was ever proven") {
		t.Errorf("exit %d", code)
	}
	for _, args := range [][]string{{"init"}, {"--address", "127.0.0.1"}} {
		if code, _ := e.bake(t, append([]string{"backup", "--host", "zap"}, args...)...); code != 0 {
			t.Fatalf("%v: exit %d", args, code)
		}
	}
	holds := true
	e.boot = func(ctx context.Context, o verify.Options) (verify.Report, error) {
		if o.Rehearse == nil {
			t.Error("nothing is rehearsed")
		}
		report := verify.Report{Host: "zap", Results: []verify.Result{{Result: claim.Result{Layer: "own", Claim: "Something is so.", OK: holds}}}}
		return report, o.Rehearse(ctx, e.login(t))
	}
	read := func() (d drill) {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(e.config, "out/zap", drillFile))
		if err = errors.Join(err, json.Unmarshal(data, &d)); err != nil {
			t.Fatal(err)
		}
		return d
	}
	code, out := e.bake(t, "drill", "--host", "zap")
	first := read()
	if code != 0 || !first.OK || first.Proven.IsZero() || first.RPO <= 0 || first.RTO <= 0 || first.Databases != 2 || first.Claims != 1 || first.Gateway != "none" {
		t.Errorf("exit %d, %s\n%+v", code, out, first)
	}
	if code, _ := e.bake(t, "drill", "--host", "zap", "--max-age", "8d"); code != 0 {
		t.Errorf("exit %d", code)
	}
	if code, _ := e.bake(t, "drill", "--host", "zap", "--max-age", "1ms"); code != 7 || !strings.Contains(e.stderr, "a restore was proven last") {
		t.Errorf("exit %d", code)
	}

	// What fails is kept too, beside the last proof.
	for name, fail := range map[string]func(){
		"a claim":   func() { holds = false },
		"the guest": func() { holds = true; e.write(t, "lib/restore", "print('{\"digest\": \"another\"}')") },
		"no end":    func() { holds = true; e.write(t, "lib/restore", "while True: print('x' * 100000)") },
	} {
		fail()
		code, _ := e.bake(t, "drill", "--host", "zap")
		if d := read(); code != 7 && code != 5 || d.OK || d.Reason == "" || !d.Proven.Equal(first.Proven) {
			t.Errorf("%s: exit %d, %+v", name, code, d)
		}
	}
}

// TestLeftOut: what a machine does not take of a backup, as its layers have no such state, is
// told of by a restore, and a drill has proven nothing. Where the old state went is said
// before what comes after it can fail.
func TestLeftOut(t *testing.T) {
	e := newEstate(t)
	e.live(t)
	config := filepath.Join(e.dir, "lib/backup.json")
	fewer, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	e.write(t, "more/file", "x")
	e.write(t, "lib/backup.json", strings.Replace(string(fewer), e.dir+"/none", e.dir+"/more", 1))
	for _, args := range [][]string{{"init"}, {"--address", "127.0.0.1"}} {
		if code, _ := e.bake(t, append([]string{"backup", "--host", "zap"}, args...)...); code != 0 {
			t.Fatalf("%v: exit %d", args, code)
		}
	}
	e.write(t, "lib/backup.json", string(fewer))
	e.boot = func(ctx context.Context, o verify.Options) (verify.Report, error) {
		return verify.Report{Host: "zap"}, o.Rehearse(ctx, e.login(t))
	}
	if code, out := e.bake(t, "drill", "--host", "zap", "--json"); code != 7 || !strings.Contains(out, `"ok": false`) || !strings.Contains(e.stderr, "/more and 0 others of the backup are no state of") {
		t.Errorf("exit %d, %s", code, out)
	}
	e.write(t, "etc/openclaw.json", `{"gateway": {"port": 1}}`) // one that is never ready
	code, _ := e.bake(t, "restore", "--host", "zap", "--yes", "zap", "--address", "127.0.0.1")
	if code != 7 || !strings.Contains(e.stderr, "the gateway is not ready") {
		t.Errorf("exit %d", code)
	}
	for _, want := range []string{"/more and 0 others of the backup are left out", "what was there is in " + e.state + ".before-"} {
		if !strings.Contains(e.stderr, want) {
			t.Errorf("not said: %s", want)
		}
	}
}

// login is a client of a server that runs the guest's programs.
func (e *estate) login(t *testing.T) *ssh.Client {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		if there, err := listener.Accept(); err == nil {
			e.serveSSH(there, signer)
		}
	}()
	here, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn, channels, requests, err := ssh.NewClientConn(here, "guest", &ssh.ClientConfig{User: "ops", HostKeyCallback: ssh.InsecureIgnoreHostKey()})
	if err != nil {
		t.Fatal(err)
	}
	return ssh.NewClient(conn, channels, requests)
}

func (e *estate) serveSSH(conn net.Conn, signer ssh.Signer) {
	config := &ssh.ServerConfig{NoClientAuth: true}
	config.AddHostKey(signer)
	_, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for offer := range channels {
		channel, requests, err := offer.Accept()
		if err != nil {
			return
		}
		go func() {
			defer channel.Close()
			var command struct{ Text string }
			request := <-requests
			if err := errors.Join(ssh.Unmarshal(request.Payload, &command), request.Reply(true, nil)); err != nil {
				return
			}
			cmd := exec.Command(filepath.Join(e.dir, "bin/ssh"), command.Text)
			cmd.Stdin, cmd.Stdout, cmd.Stderr = channel, channel, channel.Stderr()
			status := struct{ Code uint32 }{}
			if err := cmd.Run(); err != nil {
				status.Code = 1
			}
			_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(status))
		}()
	}
}

// TestAside: what a step on the way prints is no product.
func TestAside(t *testing.T) {
	var stdout, stderr bytes.Buffer
	e := env{Stdout: &stdout, Stderr: &stderr}
	a := &app{env: e, ui: &ui{env: e}, json: true}
	b := a.aside()
	if err := errors.Join(b.printLines([]string{"one"}), b.printPath("zap", "two")); err != nil {
		t.Fatal(err)
	}
	if stdout.Len() > 0 || stderr.String() != "one\ntwo\n" {
		t.Errorf("%q, %q", stdout.String(), stderr.String())
	}
}

func TestChoose(t *testing.T) {
	at := func(hour int) time.Time { return time.Date(2026, 11, 28, hour, 0, 0, 0, time.UTC) }
	all := []backup.Snapshot{{ID: "aa11", Time: at(1)}, {ID: "aa22", Time: at(2)}, {ID: "bb", Time: at(3)}}
	for want, p := range map[string]pick{"bb": {}, "aa22": {at: at(2)}, "aa11": {snapshot: "aa1"}} {
		if s, err := p.choose(all); err != nil || s.ID != want {
			t.Errorf("%+v: %s, %v", p, s.ID, err)
		}
	}
	for code, p := range map[int]pick{2: {snapshot: "aa"}, 4: {at: at(0)}} {
		if _, err := p.choose(all); exitCode(err) != code {
			t.Errorf("%+v: %v", p, err)
		}
	}
}

// TestRestoreAsksLibvirt: a restore looks for the machine where it would make one, unless it has
// been told, or has been there.
func TestRestoreAsksLibvirt(t *testing.T) {
	address := netip.MustParsePrefix("192.0.2.5/24")
	for name, test := range map[string]struct {
		host  host.Host
		o     restoreOptions
		known bool
		want  string
	}{
		"nothing is said":          {want: "qemu:///system"},
		"an empty hypervisor":      {host: host.Host{Network: host.Network{Addresses: []netip.Prefix{address}}}, want: "qemu:///system"},
		"a machine without one":    {host: host.Host{Network: host.Network{Addresses: []netip.Prefix{address}}}, known: true},
		"keys, but no address":     {known: true, want: "qemu:///system"},
		"an address":               {o: restoreOptions{address: "192.0.2.5"}},
		"an address and a libvirt": {host: host.Host{Domain: host.Domain{URI: "qemu:///session"}}, o: restoreOptions{address: "192.0.2.5"}, want: "qemu:///session"},
		"the host file's":          {host: host.Host{Domain: host.Domain{URI: "qemu:///session"}}, known: true, want: "qemu:///session"},
	} {
		a := &app{out: t.TempDir()}
		test.host.Name = "zap"
		if test.known {
			if err := artifact.Keep(a.out, "zap", status.KnownFile, func([]byte) ([]byte, error) { return []byte("zap key\n"), nil }); err != nil {
				t.Fatal(err)
			}
		}
		if got := a.libvirtOf(test.o, &test.host); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}
