package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"bake/internal/artifact"
	"bake/internal/deploy"
	"bake/internal/rollout"
)

// testFleet has a bake that is this test binary work on simulated machines, in this
// directory.
const testFleet = "BAKE_TEST_FLEET"

const oldGeneration, newGeneration = "00000000000000aa", "00000000000000bb"

// simulator is machines of which each is a file with the generation that it runs. What it
// is to do otherwise stands in files, too:
//
//	log              a line for each thing that was done
//	runs-HOST        the generations that it has been given, a line each; it runs the last
//	fail-HOST        claims, down, world, trust; hang: nothing is done until somebody ends
//	                 it; late: all is done, and nothing is heard of it; with "after HOST"
//	                 it is not before that one has begun
type simulator struct {
	machines
	dir string
}

func (s simulator) path(kind, host string) string { return filepath.Join(s.dir, kind+"-"+host) }

func (s simulator) note(words ...string) {
	file, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = fmt.Fprintln(file, strings.Join(words, " "))
	}
	if err = errors.Join(err, file.Close()); err != nil {
		panic(err)
	}
}

func (s simulator) hasBegun(host string) bool {
	log, _ := os.ReadFile(filepath.Join(s.dir, "log")) // none was
	return strings.Contains(string(log), "begin "+host+"\n")
}

// given are the generations that a host has been given, nil for no machine.
func (s simulator) given(host string) []string {
	content, _ := os.ReadFile(s.path("runs", host)) // none runs
	return strings.Fields(string(content))
}

func (s simulator) runs(host string) string {
	all := s.given(host)
	if all == nil {
		return ""
	}
	return all[len(all)-1]
}

// give is done or not, whenever the process is killed.
func (s simulator) give(host, generation string) error {
	name := s.path("new", host)
	all := strings.Join(append(s.given(host), generation), "\n")
	return errors.Join(os.WriteFile(name, []byte(all), 0o600), os.Rename(name, s.path("runs", host)))
}

func (s simulator) isSimulated(host string) bool { return strings.HasPrefix(host, "sim") }

func (s simulator) Wanted(ctx context.Context, host string) (string, error) {
	if !s.isSimulated(host) {
		return s.machines.Wanted(ctx, host)
	}
	return newGeneration, nil
}

func (s simulator) Runs(ctx context.Context, host string) (string, error) {
	if !s.isSimulated(host) {
		return s.machines.Runs(ctx, host)
	}
	return s.runs(host), nil
}

func (s simulator) Deploy(ctx context.Context, host, generation string) (rollout.Result, error) {
	if !s.isSimulated(host) {
		s.note("begin", host)
		defer s.note("end", host)
		return s.machines.Deploy(ctx, host, generation)
	}
	return s.work(ctx, host, generation)
}

func (s simulator) Return(ctx context.Context, host, generation, before string) (rollout.Result, error) {
	if !s.isSimulated(host) {
		s.note("begin", host)
		defer s.note("end", host)
		return s.machines.Return(ctx, host, generation, before)
	}
	return s.work(ctx, host, generation)
}

func (s simulator) work(ctx context.Context, host, generation string) (rollout.Result, error) {
	s.note("begin", host)
	defer s.note("end", host)
	text, _ := os.ReadFile(s.path("fail", host))
	how, other, _ := strings.Cut(string(text), " after ")
	for other != "" && ctx.Err() == nil && !s.hasBegun(other) {
		time.Sleep(20 * time.Millisecond)
	}
	if how == "hang" {
		s.note("hangs", host)
		<-ctx.Done()
	}
	if err := s.Check(); err != nil { // as it is asked before each change of a hypervisor
		s.note("refused", host)
		return rollout.Result{Down: true}, err
	}
	switch how {
	case "claims":
		s.note("failed", host)
		return rollout.Result{}, &deploy.FailedError{Host: host, Generation: generation, Reason: "a claim does not hold", Back: s.runs(host)}
	case "down":
		s.note("failed", host)
		return rollout.Result{Down: true}, &deploy.FailedError{Host: host, Generation: generation, Reason: "it panics"}
	case "world":
		return rollout.Result{}, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.EHOSTUNREACH}
	case "trust":
		return rollout.Result{}, &artifact.IntegrityError{File: "disk.qcow2"}
	}
	if s.runs(host) == generation {
		s.note("settled", host)
		return rollout.Result{}, nil
	}
	if err := s.give(host, generation); err != nil {
		return rollout.Result{Down: true}, err
	}
	if how == "late" {
		s.note("hangs", host)
		<-ctx.Done()
		return rollout.Result{Down: true}, context.Cause(ctx)
	}
	return rollout.Result{Changed: true}, nil
}

// armada is a configuration of simulated hosts and what runs rollouts on them.
type armada struct {
	t        *testing.T
	dir, out string
	sim      string
	env      []string
}

func newArmada(t *testing.T, hosts int) *armada {
	t.Helper()
	dir := t.TempDir()
	a := &armada{t: t, dir: dir, out: filepath.Join(dir, "out"), sim: t.TempDir(), env: []string{keyVariable + "=" + filepath.Join(dir, "key"), "HOME=" + dir}}
	a.write("hosts/_defaults.yaml", "base: debian:13\nadmin: {name: ops, keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIC5fZc/o+6nL5wffhDwRKx2uFUYmLG4ZcnVAjhhwA3Wo ops@desk]}\nlayers: [ssh]\nlabels: {role: web}\n")
	a.write("hosts/other.yaml", "host: other\nlabels: {role: db}\n")
	for i := range hosts {
		name := fmt.Sprintf("sim%02d", i)
		a.write("hosts/"+name+".yaml", "host: "+name+"\n")
		a.runs(name, oldGeneration)
	}
	return a
}

func (a *armada) write(name, text string) {
	a.t.Helper()
	path := filepath.Join(a.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		a.t.Fatal(err)
	}
}

func (a *armada) runs(host, generation string) {
	a.t.Helper()
	if err := os.WriteFile(filepath.Join(a.sim, "runs-"+host), []byte(generation), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// fail has a host fail, "" for no more.
func (a *armada) fail(host, how string) {
	a.t.Helper()
	if err := os.WriteFile(filepath.Join(a.sim, "fail-"+host), []byte(how), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// bake prepares bake as a process.
func (a *armada) bake(args ...string) *exec.Cmd {
	a.t.Helper()
	self, err := os.Executable()
	if err != nil {
		a.t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Args = append([]string{"bake", "--config", a.dir, "--out", a.out, "rollout"}, args...)
	cmd.Env = append(append(os.Environ(), testFleet+"="+a.sim), a.env...)
	return cmd
}

// must runs bake, which must exit with a status and say some words.
func (a *armada) must(code int, words string, args ...string) string {
	a.t.Helper()
	cmd := a.bake(args...)
	out, _ := cmd.CombinedOutput() // the exit status says more than its error
	if got := cmd.ProcessState.ExitCode(); got != code || !strings.Contains(string(out), words) {
		a.t.Errorf("bake rollout %q: exit status %d, want %d and %q\n%s", args, got, code, words, out)
	}
	return string(out)
}

// log are the lines of the simulator's, from one on.
func (a *armada) log(from int) []string {
	content, err := os.ReadFile(filepath.Join(a.sim, "log"))
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(content), "\n"), "\n")[from:]
}

// await waits for lines of the log.
func (a *armada) await(lines ...string) {
	a.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		all := a.log(0)
		if !slices.ContainsFunc(lines, func(line string) bool { return !slices.Contains(all, line) }) {
			return
		}
		if time.Now().After(deadline) {
			a.t.Fatalf("the log never had all of %q: %q", lines, all)
		}
	}
}

// awaitDone waits for as many hosts to be done.
func (a *armada) awaitDone(hosts int) {
	a.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; {
		r := a.record()
		if r.Count("done") == hosts {
			return
		}
		if time.Now().After(deadline) {
			a.t.Fatalf("there are never %d hosts done: %s", hosts, &r)
		}
	}
}

// installed counts how often each host was given a generation, after what it had first.
func (a *armada) installed(generation string) map[string]int {
	a.t.Helper()
	all := map[string]int{}
	files, err := filepath.Glob(filepath.Join(a.sim, "runs-*"))
	if err != nil {
		a.t.Fatal(err)
	}
	for _, file := range files {
		_, host, _ := strings.Cut(filepath.Base(file), "-")
		for i, given := range (simulator{dir: a.sim}).given(host) {
			if given == generation && i > 0 {
				all[host]++
			}
		}
	}
	return all
}

// begun are the hosts that were begun with, in that order.
func begun(log []string) (all []string) {
	for _, line := range log {
		if host, ok := strings.CutPrefix(line, "begin "); ok {
			all = append(all, host)
		}
	}
	return all
}

// atOnce is how many were worked on at once; what a killed process has left counts until
// it is ended.
func atOnce(log []string) (most int) {
	at := map[string]bool{}
	for _, line := range log {
		switch verb, host, _ := strings.Cut(line, " "); verb {
		case "begin":
			at[host] = true
		case "end":
			delete(at, host)
		}
		most = max(most, len(at))
	}
	return most
}

func (a *armada) record() (r rollout.Record) {
	a.t.Helper()
	cmd := a.bake("status", "--json")
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &r)
	}
	if err != nil {
		a.t.Fatalf("%v: %s", err, out)
	}
	return r
}

// lease is long enough for a machine that is busy: one that is missed there is no finding, and
// what it costs is a wait for it after each kill.
const lease = "5s"

// TestRollout: thirty hosts in waves, with failures; a driver that is killed, one that
// halts, one that comes to the end; and all the way back. No host twice, none forgotten.
func TestRollout(t *testing.T) {
	a := newArmada(t, 30)
	start := []string{"--hosts", "role=web", "--max-unavailable", "5", "--canary", "2", "--failure-budget", "1", "--lease", lease}
	plan := a.must(0, "", append(start, "--dry-run")...)
	if !strings.Contains(plan, "canary  2  sim00 sim01\n1       5  sim02 sim03 sim04 sim05 sim06\n") || !strings.Contains(plan, "\n6       3  sim27 sim28 sim29\n") {
		t.Errorf("the waves are\n%s", plan)
	}
	if a.log(0) != nil {
		t.Error("a dry run has done something")
	}
	a.must(4, "there has been no rollout", "status")
	a.must(4, "there has been no rollout", "--resume")

	// Killed in the third wave, with one host untouched by what was begun, one installed and
	// not written down.
	a.fail("sim07", "claims")
	a.fail("sim14", "hang")
	a.fail("sim15", "late")
	cmd := a.bake(start...)
	cmd.Stderr = io.Discard
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	a.await("hangs sim14", "hangs sim15")
	a.awaitDone(14) // the other three of the wave are written down, too; sim07 is not done
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	r := a.record()
	if r.Phase != rollout.Running || r.Driver == nil || !strings.Contains(r.Driver.Name, fmt.Sprintf("process %d", cmd.Process.Pid)) {
		t.Errorf("killed: %s by %+v", &r, r.Driver)
	}
	if got := begun(a.log(0)); len(got) != 17 || len(a.installed(newGeneration)) != 15 {
		t.Errorf("before the kill: %v", a.log(0))
	}
	a.must(2, "--resume goes on with it", start...)

	// Halted above the budget: sim07, and one of the fourth wave.
	for _, host := range []string{"sim14", "sim15"} {
		a.fail(host, "")
	}
	a.fail("sim20", "claims after sim21") // the last of its wave: none of that begins after a halt
	seen := len(a.log(0))
	out := a.must(7, "halted: 2 hosts failed, and 1 may; the first is sim07", "--resume", "--lease", lease)
	again := begun(a.log(seen))
	if len(again) != 7 || !slices.Contains(again, "sim14") || !slices.Contains(again, "sim15") || slices.Contains(again, "sim07") || slices.Contains(again, "sim22") {
		t.Errorf("after the kill it began with %v\n%s", again, out)
	}
	if !slices.Contains(a.log(seen), "settled sim15") {
		t.Errorf("what was done already was not found: %v", a.log(seen))
	}

	// To its end: those that failed first.
	a.fail("sim07", "")
	a.fail("sim20", "")
	seen = len(a.log(0))
	a.must(0, "done: 30 of 30 done", "--resume", "--lease", lease)
	if got := begun(a.log(seen)); len(got) != 10 || got[0] != "sim07" || got[1] != "sim20" {
		t.Errorf("the last part began with %v", got)
	}
	all := a.installed(newGeneration)
	for i := range 30 {
		host := fmt.Sprintf("sim%02d", i)
		if all[host] != 1 || (simulator{dir: a.sim}).runs(host) != newGeneration {
			t.Errorf("%s was installed %d times", host, all[host])
		}
	}
	if most := atOnce(a.log(0)); len(all) != 30 || most > 5 || most < 2 { // two at least: they hung
		t.Errorf("%d hosts, %d at once", len(all), most)
	}
	seen = len(a.log(0))
	a.must(0, "done: 30 of 30 done", "--resume")
	if len(a.log(seen)) > 0 {
		t.Errorf("resuming what is done has done %v", a.log(seen))
	}

	// Back, with a kill in the midst of that.
	a.fail("sim11", "hang")
	cmd = a.bake("--rollback", "--lease", lease)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	a.await("hangs sim11")
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	a.fail("sim11", "")
	a.must(0, "rolled back", "--resume", "--lease", lease)
	all = a.installed(oldGeneration)
	for i := range 30 {
		host := fmt.Sprintf("sim%02d", i)
		if all[host] != 1 || (simulator{dir: a.sim}).runs(host) != oldGeneration {
			t.Errorf("%s was rolled back %d times", host, all[host])
		}
	}
	a.must(0, "rollout 2, done: 30 of 30", start...)
}

// TestRolloutExits: what ends a rollout, with its exit status.
func TestRolloutExits(t *testing.T) {
	for _, test := range []struct {
		how, host string // after the other of its wave has begun
		code      int
		words     string
		begun     int
	}{
		{"claims after sim00", "sim01", 7, "halted: 1 canary of 2 failed; the first is sim01", 2},
		{"world after sim00", "sim01", 6, "no route to host", 2},
		{"trust after sim02", "sim03", 5, "cannot be trusted", 4},
		{"down after sim03", "sim02", 7, "it panics", 4},
		{"", "sim02", 0, "done: 6 of 6 done", 6},
	} {
		a := newArmada(t, 6)
		a.fail(test.host, test.how)
		a.must(test.code, test.words, "--hosts", "role=web", "--max-unavailable", "2", "--canary", "34%")
		if got := begun(a.log(0)); len(got) != test.begun {
			t.Errorf("%s: began with %v", test.how, got)
		}
	}
}

// TestRolloutTwoDrivers: one that is stopped for longer than its lease has lost it, and
// does nothing when it wakes.
func TestRolloutTwoDrivers(t *testing.T) {
	a := newArmada(t, 4)
	a.fail("sim01", "hang")
	first := a.bake("--selector", "role=web", "--lease", lease)
	var said strings.Builder
	first.Stderr = &said
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	a.await("hangs sim01")
	a.must(4, "the rollout is driven by", "--resume", "--lease", lease)
	if err := first.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	a.fail("sim01", "")
	a.must(0, "done: 4 of 4 done", "--resume", "--lease", lease)
	if err := first.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait()
	if code := first.ProcessState.ExitCode(); code != 4 || !strings.Contains(said.String(), "not ours to drive any more") {
		t.Errorf("the first exits with %d and says\n%s", code, said.String())
	}
	if log := a.log(0); !slices.Contains(log, "refused sim01") || a.installed(newGeneration)["sim01"] != 1 || len(a.installed(newGeneration)) != 4 {
		t.Errorf("%v", log)
	}
}
