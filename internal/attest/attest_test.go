package attest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"bake/internal/claim"
)

// guest is a directory that stands for a guest's root. Its scripts note that they
// were called; programs of systemd's are in bin.
type guest struct {
	root, bin string
	console   bytes.Buffer
}

// hostKeyList is what the console of a guest shows.
const hostKeyList = "\n-----BEGIN SSH HOST KEY KEYS-----\nssh-ed25519 AAAA\n-----END SSH HOST KEY KEYS-----\n"

func newGuest(t *testing.T) *guest {
	t.Helper()
	g := &guest{root: t.TempDir(), bin: t.TempDir()}
	for _, name := range []string{"gate", "seal"} {
		g.script(t, filepath.Join(g.root, Dir, name), `echo "`+name+` $*" >> "`+g.root+`/calls"`)
	}
	g.script(t, filepath.Join(g.bin, "systemctl"), "exit 0")
	g.write(t, "/etc/cloud/cloud-init.disabled", "")
	g.write(t, "/etc/ssh/ssh_host_ed25519_key.pub", "ssh-ed25519 AAAA root@zap\n")
	g.write(t, "/proc/uptime", "12.34 5.6\n")
	g.write(t, "state", "good\n")
	if err := os.MkdirAll(filepath.Join(g.root, "dev/virtio-ports"), 0o755); err != nil {
		t.Fatal(err)
	}
	g.write(t, "/dev/virtio-ports/"+Port, "")
	t.Setenv("PATH", g.bin+":"+os.Getenv("PATH"))
	return g
}

func (g *guest) script(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

func (g *guest) write(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(g.root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (g *guest) read(name string) string {
	text, _ := os.ReadFile(filepath.Join(g.root, name))
	return string(text)
}

func (g *guest) options() Options {
	return Options{Root: g.root, Console: &g.console, Wait: time.Minute, Poll: time.Millisecond, Each: time.Minute}
}

// prompter is a console on which somebody asks for a login whenever there is a pause.
type prompter struct{ to *bytes.Buffer }

func (p prompter) Write(text []byte) (int, error) {
	p.to.Write(text)
	p.to.WriteString("\nzap login: ")
	return len(text), nil
}

// TestOwnLines: what is said begins a line, whatever is on the console.
func TestOwnLines(t *testing.T) {
	g := newGuest(t)
	o := g.options()
	o.Console = prompter{&g.console}
	if verdict, _, err := g.attestWith(t, o, check("x", "cat state", "good")); err != nil || !verdict.OK {
		t.Fatalf("%+v, %v", verdict, err)
	}
	for _, line := range []string{"bake: trying 1 claims", "bake: every claim holds, opening", "-----BEGIN SSH HOST KEY KEYS-----"} {
		if !slices.Contains(strings.Split(g.console.String(), "\n"), line) {
			t.Errorf("%q is on no line of its own:\n%s", line, &g.console)
		}
	}
}

func (g *guest) attest(t *testing.T, checks ...claim.Check) (Verdict, Report, error) {
	t.Helper()
	return g.attestWith(t, g.options(), checks...)
}

func (g *guest) attestWith(t *testing.T, o Options, checks ...claim.Check) (Verdict, Report, error) {
	t.Helper()
	data, err := json.Marshal(NewPlan("zap", checks))
	if err != nil {
		t.Fatal(err)
	}
	g.write(t, "plan", string(data))
	err = Run(context.Background(), filepath.Join(g.root, "plan"), o)
	verdict, ok := LastVerdict(g.console.String())
	if !ok {
		t.Fatalf("no verdict on the console:\n%s", g.console.String())
	}
	sum := sha256.Sum256(data)
	if verdict.Plan != hex.EncodeToString(sum[:]) {
		t.Errorf("the verdict is about plan %s", verdict.Plan)
	}
	var report Report
	if text := g.read(ReportFile); text != "" {
		if err := json.Unmarshal([]byte(text), &report); err != nil {
			t.Fatal(err)
		}
		kept := sha256.Sum256([]byte(text))
		if verdict.Report != hex.EncodeToString(kept[:]) {
			t.Error("the verdict is about another report than the one that is kept")
		}
		if told := g.read("/dev/virtio-ports/" + Port); told != text || strings.Count(told, "\n") != 1 {
			t.Errorf("told on the port:\n%swant the report:\n%s", told, text)
		}
	}
	return verdict, report, err
}

func check(layer, run, is string) claim.Check {
	return claim.Check{Layer: layer, Claim: "It is " + is + ".", Falsify: "rm state", Inside: &claim.Inside{Run: run, Is: &is}}
}

func sealed(run, is string) claim.Check {
	c := check(Layer, run, is)
	c.Inside.Sealed = true
	return c
}

func TestOpens(t *testing.T) {
	g := newGuest(t)
	// The claim about the seal holds only when sealed, the layer's only before.
	verdict, report, err := g.attest(t, sealed("cut -c 1-4 calls", "seal"), check("x", "cat state; cat calls 2>/dev/null || :", "good"))
	if err != nil || !verdict.OK || verdict.Claims != 2 || verdict.Failed != 0 {
		t.Fatalf("%+v, %v", verdict, err)
	}
	if got := g.read("calls"); got != "seal \ngate open\n" {
		t.Errorf("calls:\n%s", got)
	}
	if !report.OK || len(report.Results) != 2 || report.Host != "zap" || report.Moments.Trying != 12340 ||
		len(report.HostKeys) != 1 || report.HostKeys[0] != "ssh-ed25519 AAAA" {
		t.Errorf("%+v", report)
	}
	info, err := os.Stat(filepath.Join(g.root, ReportFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("report: %v, %v", info.Mode(), err)
	}
	if !strings.Contains(g.console.String(), hostKeyList) {
		t.Errorf("console:\n%s", g.console.String())
	}
	if strings.Contains(g.read("plan"), "rm state") {
		t.Error("the guest was told how to break a claim")
	}
}

// Whatever goes wrong, the gate is not opened.
func TestStaysShut(t *testing.T) {
	good := check("x", "cat state", "good")
	for name, test := range map[string]struct {
		checks []claim.Check
		change func(t *testing.T, g *guest, o *Options)
		calls  string
		first  string
		failed int
	}{
		"a claim fails":       {[]claim.Check{check("x", "cat state", "bad"), good, sealed("true", "")}, nil, "gate failed\n", "x: It is bad.", 1},
		"the seal's claim":    {[]claim.Check{good, sealed("true", "sealed")}, nil, "seal \ngate failed\n", "attest: It is sealed.", 1},
		"the gate's claim":    {[]claim.Check{good, check(Layer, "true", "shut")}, nil, "gate failed\n", "attest: It is shut.", 1},
		"a command is stuck":  {[]claim.Check{check("x", "sleep 600", "good")}, func(_ *testing.T, _ *guest, o *Options) { o.Each = 100 * time.Millisecond }, "gate failed\n", "x: It is good.", 1},
		"a command is killed": {[]claim.Check{check("x", "kill -9 $$", "")}, nil, "gate failed\n", "x: It is .", 1},
		"no seal": {[]claim.Check{good}, func(t *testing.T, g *guest, _ *Options) {
			g.script(t, filepath.Join(g.root, Dir, "seal"), "echo why; exit 3")
		}, "gate failed\n", "seal: exit status 3: why", 0},
		"no gate": {[]claim.Check{good}, func(t *testing.T, g *guest, _ *Options) {
			g.script(t, filepath.Join(g.root, Dir, "gate"), `echo "gate $*" >> "`+g.root+`/calls"; [ "$1" = failed ]`)
		}, "seal \ngate open\ngate failed\n", "gate open: exit status 1: ", 0},
		"no place for a report": {[]claim.Check{good}, func(t *testing.T, g *guest, _ *Options) {
			g.write(t, "/var/lib/bake", "a file")
		}, "seal \ngate failed\n", "keeping the report", 0},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuest(t)
			o := g.options()
			if test.change != nil {
				test.change(t, g, &o)
			}
			verdict, report, err := g.attestWith(t, o, test.checks...)
			if err == nil || verdict.OK || verdict.Failed != test.failed || !strings.HasPrefix(verdict.First, test.first) || report.OK {
				t.Errorf("%+v, report ok: %v, error: %v", verdict, report.OK, err)
			}
			if got := g.read("calls"); got != test.calls {
				t.Errorf("calls:\n%swant:\n%s", got, test.calls)
			}
		})
	}
}

func TestBadPlan(t *testing.T) {
	for name, plan := range map[string]string{
		"no JSON": "x", "another schema": `{"schema": "bake.attest-plan/2", "checks": [{}]}`,
		"no claim": `{"schema": "bake.attest-plan/1", "host": "zap"}`,
	} {
		g := newGuest(t)
		g.write(t, "plan", plan)
		err := Run(context.Background(), filepath.Join(g.root, "plan"), g.options())
		verdict, ok := LastVerdict(g.console.String())
		if err == nil || !ok || verdict.Refused == "" || g.read("calls") != "gate failed\n" || !strings.Contains(g.console.String(), hostKeyList) {
			t.Errorf("%s: %+v, %v, calls %q, error %v", name, verdict, ok, g.read("calls"), err)
		}
	}
	g := newGuest(t)
	if err := Run(context.Background(), filepath.Join(g.root, "none"), g.options()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing plan: %v", err)
	}
}

// It waits for cloud-init and for the services, and for neither for ever.
func TestWaits(t *testing.T) {
	g := newGuest(t)
	if err := os.Remove(filepath.Join(g.root, "/etc/cloud/cloud-init.disabled")); err != nil {
		t.Fatal(err)
	}
	// At the third look cloud-init is done, at the third after it the services are up.
	g.script(t, filepath.Join(g.bin, "systemctl"), `n=$(cat "`+g.root+`/n" 2>/dev/null || echo 0); n=$((n + 1)); echo $n > "`+g.root+`/n"
[ $n != 3 ] || { mkdir -p "`+g.root+`/run/cloud-init"; touch "`+g.root+`/run/cloud-init/result.json"; }
case "$*" in *is-active*) [ $n -ge 6 ] ;; esac`)
	if verdict, _, err := g.attest(t, check("x", "cat n", "6")); !verdict.OK {
		t.Errorf("%+v, %v: tried before the boot was over, or after it", verdict, err)
	}

	// cloud-init has ended without a word, which systemd knows.
	g = newGuest(t)
	if err := os.Remove(filepath.Join(g.root, "/etc/cloud/cloud-init.disabled")); err != nil {
		t.Fatal(err)
	}
	g.script(t, filepath.Join(g.bin, "systemctl"), `case "$*" in *cloud-final*) echo failed ;; esac`)
	if verdict, report, err := g.attest(t, check("x", "cat state", "good")); !verdict.OK {
		t.Errorf("%+v, %v, %+v: a cloud-init that failed is waited for", verdict, err, report)
	}

	g = newGuest(t)
	g.script(t, filepath.Join(g.bin, "systemctl"), "exit 3")
	o := g.options()
	o.Wait = 50 * time.Millisecond
	if verdict, _, err := g.attestWith(t, o, check("x", "cat state", "good")); !verdict.OK {
		t.Errorf("a boot that does not end: %+v, %v: its claims were not tried", verdict, err)
	}
}

func TestOutputIsBounded(t *testing.T) {
	g := newGuest(t)
	// A command that leaves something behind ends when it does.
	_, report, _ := g.attest(t, check("x", "sleep 600 & head -c 100000 /dev/zero | tr '\\0' x; kill $!", ""))
	if got := len(report.Results[0].Got); got != maxOutput {
		t.Errorf("%d bytes are kept", got)
	}
}

// A port at which nobody listens holds nothing up. A FIFO without a reader is one.
func TestNobodyListens(t *testing.T) {
	g := newGuest(t)
	port := filepath.Join(g.root, "dev/virtio-ports", Port)
	if err := errors.Join(os.Remove(port), syscall.Mkfifo(port, 0o600)); err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(NewPlan("zap", []claim.Check{check("x", "cat state", "good")}))
	if err != nil {
		t.Fatal(err)
	}
	g.write(t, "plan", string(data))
	if err := Run(context.Background(), filepath.Join(g.root, "plan"), g.options()); err != nil {
		t.Fatal(err)
	}
	if verdict, ok := LastVerdict(g.console.String()); !ok || !verdict.OK {
		t.Errorf("%+v, %v", verdict, ok)
	}
}

// What the claims were tried on is away before the machine opens, and when it is
// not, the machine does not.
func TestTidy(t *testing.T) {
	tidy := func(g *guest, text string) {
		g.script(t, filepath.Join(g.root, Dir, "tidy.d/x"), `echo tidy >> "`+g.root+`/calls"; `+text)
	}
	g := newGuest(t)
	tidy(g, "exit 0")
	if verdict, _, err := g.attest(t, check("x", "cat state", "good")); err != nil || !verdict.OK {
		t.Errorf("%+v, %v", verdict, err)
	}
	if got := g.read("calls"); got != "tidy\nseal \ngate open\n" {
		t.Errorf("calls:\n%s", got)
	}
	g = newGuest(t)
	tidy(g, "echo in use; exit 1")
	verdict, _, err := g.attest(t, check("x", "cat state", "good"))
	if err == nil || verdict.OK || !strings.Contains(verdict.First, "in use") {
		t.Errorf("%+v, %v", verdict, err)
	}
	if got := g.read("calls"); got != "tidy\ngate failed\n" {
		t.Errorf("calls:\n%s", got)
	}
}

// Claims of layers that only look run side by side; others see none beside them.
func TestParallel(t *testing.T) {
	if runtime.NumCPU() < 2 {
		t.Skip("one processor runs one claim at a time")
	}
	// Each waits for the other to have begun.
	meet := func(layer, mine, other string) claim.Check {
		c := check(layer, "touch "+mine+"; until test -e "+other+"; do :; done; echo met", "met")
		c.Inside.Parallel = true
		return c
	}
	// This one would be seen by a neighbour, and sees none.
	alone := check("z", `touch alone; test -e a -a -e b -a ! -e after && sleep 0.1 && test ! -e after; rm alone; echo $?`, "0")
	after := check("w", "touch after; test ! -e alone; echo $?", "0")
	after.Inside.Parallel = true
	g := newGuest(t)
	verdict, report, err := g.attest(t, meet("x", "a", "b"), meet("y", "b", "a"), alone, after)
	if err != nil || !verdict.OK || verdict.Claims != 4 {
		t.Fatalf("%+v, %v: %+v", verdict, err, report.Results)
	}
	for i, layer := range []string{"x", "y", "z", "w"} {
		if report.Results[i].Layer != layer {
			t.Errorf("result %d is of %s, want %s", i, report.Results[i].Layer, layer)
		}
	}
}

// The verdict names the layer that is to blame.
func TestFirst(t *testing.T) {
	bad := func(layer string) claim.Result { return claim.Result{Layer: layer, Claim: "C."} }
	good := claim.Result{Layer: "ssh", Claim: "G.", OK: true}
	for want, results := range map[string][]claim.Result{
		"ufw: C.":    {bad(claim.BootLayer), good, bad("ufw"), bad("fail2ban"), bad(Layer)},
		"boot: C.":   {good, bad(claim.BootLayer), bad(Layer)},
		"attest: C.": {good, bad(Layer), bad(claim.BootLayer)},
		"":           {good},
	} {
		if _, first := (Report{Results: results}).Count(); first != want {
			t.Errorf("first is %q, want %q", first, want)
		}
	}
}
