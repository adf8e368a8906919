package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"bake/internal/artifact"
	"bake/layers"
)

const (
	kernelLine = "[    0.000000] Linux version 6.12\r\n"
	finalLine  = "Cloud-init v. 25.1.4 running 'modules:final' at Mon. Up 30.00 seconds.\r\n"
	tryLine    = "\r\nbake: trying 24 claims\r\n"
	keyLine    = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
)

// script answers what bake says on standard error: when a line contains the next
// cue, what belongs to it is done.
type script struct {
	t    *testing.T
	said bytes.Buffer
	cues []cue
}

type cue struct {
	words string
	do    func()
}

func (s *script) Write(p []byte) (int, error) {
	s.said.Write(p)
	if len(s.cues) > 0 && strings.Contains(string(p), s.cues[0].words) {
		next := s.cues[0]
		s.cues = s.cues[1:]
		next.do()
	}
	return len(p), nil
}

// run runs bake status in this process.
func (s *script) run(ctx context.Context, dir string, terminal bool, args ...string) outcome {
	s.t.Helper()
	var stdout bytes.Buffer
	e := systemEnv()
	e.Stdout, e.Stderr, e.Terminal, e.Layers = &stdout, s, terminal, layers.FS
	args = append([]string{"bake", "--config", dir, "--out", filepath.Join(dir, "out"), "status"}, args...)
	code := run(ctx, e, args)
	if len(s.cues) > 0 {
		s.t.Errorf("nobody has said %q:\n%s", s.cues[0].words, s.said.String())
	}
	return outcome{code, stdout.String(), s.said.String()}
}

// appendTo returns what adds to a log.
func appendTo(t *testing.T, path, text string) func() {
	return func() {
		file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
		if err == nil {
			_, err = file.WriteString(text)
		}
		if err := errors.Join(err, file.Close()); err != nil {
			t.Error(err)
		}
	}
}

// replace returns what begins another log, as a start of the machine does.
func replace(t *testing.T, path, text string) func() {
	return func() {
		if err := errors.Join(os.WriteFile(path+".new", []byte(text), 0o600), os.Rename(path+".new", path)); err != nil {
			t.Error(err)
		}
	}
}

func TestFollow(t *testing.T) {
	bad := strings.Replace(consoleOf(strings.Repeat("a", 64), ""), "v1 ok", "v1 fail", 1)
	bad = strings.Replace(strings.Replace(bad, "failed=0", "failed=1", 1), " end", ` first="ufw: UFW is active." end`, 1)
	good := consoleOf(strings.Repeat("a", 64), "")
	seconds := regexp.MustCompile(`after \d+ s\b`)
	for name, test := range map[string]struct {
		start string // the log at first, "" for none
		cues  func(path string) []cue
		code  int
		want  string // on standard error, with N for seconds
		state string // on standard output
	}{
		"from before the start on": {"", func(path string) []cue {
			return []cue{
				{"not started: there is no log", appendTo(t, path, kernelLine)},
				{"the kernel runs", replace(t, path, good)},
			}
		}, 0, "bake: zap: the kernel runs after N s\nbake: zap: the firmware", "zap: attested"},
		"to the verdict": {kernelLine, func(path string) []cue {
			verdict := good[strings.Index(good, "BAKE-RESULT"):]
			return []cue{
				{"not yet: the kernel runs", appendTo(t, path, finalLine)},
				{"cloud-init installs", appendTo(t, path, tryLine+verdict[:30])},
				{"the guest tries its claims", appendTo(t, path, verdict[30:])},
			}
		}, 0, "bake: zap: not yet: the kernel runs\nbake: zap: cloud-init installs after N s\nbake: zap: the guest tries its claims after N s\nbake: zap: the guest has its verdict after N s\n",
			"zap: attested: 24 claims hold\n"},
		"to a failure": {kernelLine, func(path string) []cue {
			return []cue{{"not yet", replace(t, path, bad)}}
		}, 7, "bake: zap: stayed shut: 1 of 24 claims failed, first ufw: UFW is active.\n", "zap: stayed shut: "},
		"over a start": {kernelLine + finalLine, func(path string) []cue {
			return []cue{
				{"not yet: cloud-init installs after 30.0 s of its uptime", replace(t, path, kernelLine)},
				{"the kernel runs", appendTo(t, path, good)},
			}
		}, 0, "bake: zap: the kernel runs after N s\nbake: zap: the firmware", "zap: attested"},
		"of a machine that dies": {kernelLine, func(path string) []cue {
			return []cue{{"not yet", appendTo(t, path, "[    2.0] Kernel panic - not syncing: x\r\n")}}
		}, 7, "bake: zap: died: the kernel panicked: x; the last stage was: the kernel runs\n", "zap: died: "},
		"what is over": {good, func(string) []cue { return nil }, 0, "bake: zap: attested: 24 claims hold\n", "zap: attested"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "console.log")
			if test.start != "" {
				appendTo(t, path, test.start)()
			}
			s := &script{t: t, cues: test.cues(path)}
			o := s.run(t.Context(), dir, false, "--host", "zap", "--console", path, "--follow")
			if got := seconds.ReplaceAllString(o.stderr, "after N s"); o.code != test.code || !strings.Contains(got, test.want) ||
				!strings.HasPrefix(o.stdout, test.state) {
				t.Errorf("exit status %d, stderr\n%s\nstdout\n%s", o.code, got, o.stdout)
			}
		})
	}
}

// A machine that has no verdict in time is told with its last stage and its last
// words; whoever is interrupted says nothing but that.
func TestFollowEnds(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "console.log")
	appendTo(t, path, kernelLine+finalLine+"Get:1 http://mirror\x1b[2J.example/debian\r\n")()
	s := &script{t: t}
	o := s.run(t.Context(), dir, false, "--host", "zap", "--console", path, "--follow", "--deadline", "1ms")
	const want = `bake: zap: not yet: cloud-init installs after 30.0 s of its uptime
bake: zap: no verdict within 1ms: not yet: cloud-init installs after 30.0 s of its uptime; its last lines:
bake:   | [    0.000000] Linux version 6.12
bake:   | Cloud-init v. 25.1.4 running 'modules:final' at Mon. Up 30.00 seconds.
bake:   | Get:1 http://mirror.example/debian
`
	if o.code != 7 || o.stderr != want || !strings.HasPrefix(o.stdout, "zap: not yet") {
		t.Errorf("exit status %d, stdout %q, stderr\n%s", o.code, o.stdout, o.stderr)
	}

	s = &script{t: t}
	o = s.run(t.Context(), dir, false, "--host", "zap", "--console", path+".absent", "--follow", "--deadline", "1ms", "-q")
	if want := "bake: zap: no verdict within 1ms: not started: there is no log " + path + ".absent\n"; o.code != 7 || o.stderr != want {
		t.Errorf("exit status %d, stderr %q", o.code, o.stderr)
	}

	ctx, cancel := context.WithCancel(t.Context())
	s = &script{t: t, cues: []cue{{"not yet", cancel}}}
	o = s.run(ctx, dir, false, "--host", "zap", "--console", path, "--follow")
	if o.code != 130 || !strings.HasSuffix(o.stderr, "bake: interrupted\n") || o.stdout != "" {
		t.Errorf("exit status %d, stdout %q, stderr %q", o.code, o.stdout, o.stderr)
	}
}

// On a terminal stages come and go, and nothing but the result is left.
func TestFollowOnTerminal(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "console.log")
	appendTo(t, path, kernelLine)()
	good := consoleOf(strings.Repeat("a", 64), "")
	s := &script{t: t, cues: []cue{{"not yet", appendTo(t, path, finalLine)}, {"cloud-init installs", replace(t, path, good)}}}
	o := s.run(t.Context(), dir, true, "--host", "zap", "--console", path, "--follow")
	if o.code != 0 || strings.Contains(o.stderr, "\n") || !strings.Contains(o.stderr, "\r\x1b[Kbake: zap: cloud-init installs after ") {
		t.Errorf("exit status %d, stderr %q", o.code, o.stderr)
	}
}

// The generation whose claims a machine tried is named; one that is damaged is told
// of and does not count.
func TestStatusKnowsGenerations(t *testing.T) {
	w := newWorkshop(t)
	w.expect(t, w.command("image", "--host", "zap"), 0)
	old, err := artifact.Open(filepath.Join(w.dir, "out"), "zap", "latest")
	if err != nil {
		t.Fatal(err)
	}
	if err := old.Promote(); err != nil {
		t.Fatal(err)
	}
	w.write(t, "hosts/zap.yaml", strings.Replace(hostFixture, "sysctl]", "sysctl, journald]", 1), 0o644)
	w.expect(t, w.command("image", "--host", "zap"), 0)
	plan, err := readPlan(old)
	if err != nil {
		t.Fatal(err)
	}
	w.write(t, "console.log", consoleOf(plan.Attest, keyLine), 0o600)
	if o := w.booted(t, judged(false), "verify", "--host", "zap", "--boot"); o.code != 7 {
		t.Fatal(o)
	}
	look := func(args ...string) outcome {
		return finish(t, w.command(append([]string{"status", "--host", "zap", "--console", "console.log"}, args...)...))
	}

	o := look()
	for _, line := range []string{
		"zap: attested: 24 claims hold\n",
		"    claims      those of generation " + old.Manifest.Generation + "\n",
		"    base        file:base.qcow2, 0m old\n",
		", 1 of 1 claims failed\n    current     " + old.Manifest.Generation + ", not verified yet\n",
		"    known_hosts out/zap/known_hosts\n",
	} {
		if o.code != 0 || o.stderr != "" || !strings.Contains(o.stdout, line) {
			t.Errorf("exit status %d, no line %q in\n%s%s", o.code, line, o.stdout, o.stderr)
		}
	}
	var view statusView
	if err := json.Unmarshal([]byte(look("--json").stdout), &view); err != nil || view.Generation != old.Manifest.Generation ||
		len(view.Generations) != 2 || !view.Generations[0].IsLatest || !view.Generations[1].IsCurrent || view.IsHostFile {
		t.Errorf("%v, %+v", err, view)
	}

	if strings.Contains(o.stdout, "    reboot ") {
		t.Errorf("nobody has looked whether one is due:\n%s", o.stdout)
	}
	for _, test := range []struct{ generation, due, want string }{
		{old.Manifest.Generation, "true", "    reboot      is due: what was installed waits for it, as of bake verify 3d ago\n"},
		{old.Manifest.Generation, "false", "    reboot      none was due, as of bake verify 3d ago\n"},
		{"another", "true", ""},
	} {
		began := time.Now().Add(-80 * time.Hour).Format(time.RFC3339)
		w.write(t, "out/zap/live.json", fmt.Sprintf(`{"generation": %q, "began": %q, "guest": {"os": "Debian", "reboot_due": %s}}`, test.generation, began, test.due), 0o600)
		if o := look(); !strings.Contains(o.stdout, test.want) || test.want == "" && strings.Contains(o.stdout, "    reboot ") {
			t.Errorf("%+v: %s%s", test, o.stdout, o.stderr)
		}
	}

	w.write(t, "out/zap/"+old.Manifest.Generation+"/claims.json", "{", 0o600)
	if o := look(); !strings.Contains(o.stderr, "generation "+old.Manifest.Generation+" does not count: ") ||
		!strings.Contains(o.stdout, "those of nothing that is kept here") {
		t.Errorf("exit status %d\n%s%s", o.code, o.stdout, o.stderr)
	}
}

// A log that only root may read is said to be so.
func TestStatusOfRootsLog(t *testing.T) {
	demandRoot(t)
	w := newWorkshop(t)
	w.write(t, "console.log", kernelLine, 0o600)
	cmd := w.command("status", "--host", "zap", "--console", "console.log")
	w.as(t, cmd, nobody, "home")
	w.expect(t, cmd, 4, "permission denied (libvirt writes it for root: use sudo, or name a copy with --console)")
}

// The ssh of this machine logs in where the key is the one on the console, runs the
// command and passes its exit status on, and goes nowhere else, whatever the
// directory is called.
func TestSSH(t *testing.T) {
	demand(t, "ssh")
	real, err := exec.LookPath("ssh")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorkshop(t)
	right, wrong := hostSigner(t), hostSigner(t)
	address := admit(t, right)
	_, port, _ := net.SplitHostPort(address)
	bin := t.TempDir()
	// A careless configuration: what it says must not count.
	config := filepath.Join(bin, "config")
	careless := ssh.MarshalAuthorizedKey(right.PublicKey())
	text := "Host *\nStrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nNoHostAuthenticationForLocalhost yes\nKnownHostsCommand /bin/echo zap " + string(careless)
	if err := errors.Join(os.WriteFile(config, []byte(text), 0o600),
		os.WriteFile(filepath.Join(bin, "ssh"), fmt.Appendf(nil, "#!/bin/sh\nexec %s -F %s -p %s \"$@\"\n", real, config, port), 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, out := range []string{"out", "o u%t", `o'u\t%h`, "öut"} {
		for _, test := range []struct {
			key  ssh.Signer
			code int
			says string
		}{{right, 7, ""}, {wrong, 255, "Host key verification failed"}} {
			line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(test.key.PublicKey())))
			w.expect(t, w.command("seed", "--host", "zap", "--format", "dir", "--out", out), 0)
			claims, err := os.ReadFile(filepath.Join(w.dir, out, "zap/seed/claims.json"))
			if err != nil {
				t.Fatal(err)
			}
			w.write(t, "console.log", consoleOf(hexDigest(claims), line), 0o600)
			w.expect(t, w.command("status", "--host", "zap", "--console", "console.log", "--out", out), 0)
			cmd := w.command("ssh", "--host", "zap", "--out", out, "--address", "127.0.0.1", "--", "exit", "7")
			cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
			if o := finish(t, cmd); o.code != test.code || !strings.Contains(o.stderr, test.says) {
				t.Errorf("%s: exit status %d, want %d\n%s", out, o.code, test.code, o.stderr)
			}
		}
	}
	cmd := w.command("ssh", "--host", "zap", "--address", "127.0.0.1")
	cmd.Env = []string{"PATH="}
	w.expect(t, cmd, 4, "ssh is not installed: it is in the package openssh-client (apt-get install openssh-client)")
	for _, out := range []string{`o"ut`, "o${HOME}"} {
		w.tool(t, "cp", "-a", "out", out)
		w.expect(t, w.command("ssh", "--host", "zap", "--address", "127.0.0.1", "--out", out), 1, "ssh cannot be told of a file of that name")
	}
}

func hostSigner(t *testing.T) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// admit is an ssh server that lets everybody in and ends every command with the
// status 7.
func admit(t *testing.T, key ssh.Signer) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	config := &ssh.ServerConfig{NoClientAuth: true}
	config.AddHostKey(key)
	session := func(conn net.Conn) {
		defer conn.Close()
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
			for request := range requests {
				_ = request.Reply(true, nil)
				if request.Type == "exec" {
					_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{7}))
					channel.Close()
				}
			}
		}
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go session(conn)
		}
	}()
	return listener.Addr().String()
}
