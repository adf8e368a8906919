//go:build e2e

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bake/internal/artifact"
	"bake/internal/kubelab"
	"bake/internal/rollout"
)

// TestFleetRollout: a rollout over machines of a cluster and simulated ones of libvirt's, with a
// real kube-apiserver and the real CRDs. What KubeVirt's and CDI's controllers do of it an
// Operator of the test does. It halts at a machine that does not attest, which goes back to its
// own disk; it is killed and resumed, and goes all the way back. Every machine is started as often
// as it must be, and no more.
func TestFleetRollout(t *testing.T) {
	s := newSleep(t)
	d := newDepot(t)
	const namespace = "machines"
	hosts := []string{"k00", "k01", "k02", "k03"}
	describe := func(words string) {
		for _, name := range hosts {
			text := strings.Replace(strings.Replace(hostFixture, "host: zap", "host: "+name, 1), "../base.qcow2", "ubuntu:24.04", 1)
			s.write(t, "hosts/"+name+".yaml", text+"domain: {uri: \"kubevirt://"+namespace+"\"}\nlabels: {run: k}\n"+words, 0o644)
		}
	}
	s.tool(t, "rm", "hosts/zap.yaml")
	night := func(words string) map[string]string {
		t.Helper()
		describe(words)
		s.must(0, nil)
		if o := s.run("publish", "--selector", "run=k", "--to", d.address); o.code != 0 {
			t.Fatalf("%+v", o)
		}
		all := map[string]string{}
		for _, name := range hosts {
			g, err := artifact.Open(filepath.Join(s.dir, "out"), name, "current")
			if err != nil {
				t.Fatal(err)
			}
			all[name] = g.Manifest.Generation
		}
		return all
	}
	one := night("")

	c := kubelab.Start(t)
	c.Install(t)
	c.MustAsk(t, http.MethodPost, "/api/v1/namespaces", fmt.Appendf(nil, `{"metadata": {"name": %q}}`, namespace))
	var mutex sync.Mutex
	silent := map[string]bool{} // hosts whose next generation does not attest
	op := &kubelab.Operator{Cluster: c, Namespace: namespace, Attests: func(host, generation string) bool {
		mutex.Lock()
		defer mutex.Unlock()
		return !silent[host] || generation == one[host]
	}}
	mute := func(host string, is bool) {
		mutex.Lock()
		defer mutex.Unlock()
		silent[host] = is
	}
	ctx, stop := context.WithCancel(t.Context())
	var working sync.WaitGroup
	working.Go(func() { op.Run(ctx, t) })
	t.Cleanup(func() { stop(); working.Wait() })

	sim := t.TempDir()
	a := &armada{t: t, dir: s.dir, out: s.dir + "/out", sim: sim}
	for i := range 2 {
		name := fmt.Sprintf("sim%02d", i)
		a.write("hosts/"+name+".yaml", strings.Replace(strings.Replace(hostFixture, "host: zap", "host: "+name, 1), "../base.qcow2", "ubuntu:24.04", 1)+"labels: {run: k}\n")
		a.runs(name, oldGeneration)
	}
	kubeconfig := c.Kubeconfig(t)
	bake := func(args ...string) *exec.Cmd {
		cmd := exec.Command(s.workshop.bake, append([]string{"rollout", "--lease", lease}, args...)...)
		if slices.Contains(args, "status") {
			cmd = exec.Command(s.workshop.bake, append([]string{"rollout"}, args...)...)
		}
		cmd.Dir = s.dir
		cmd.Env = append(os.Environ(), testFleet+"="+sim, "KUBECONFIG="+kubeconfig)
		for name, value := range s.env {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
		return cmd
	}
	must := func(code int, words string, args ...string) {
		t.Helper()
		cmd := bake(args...)
		out, _ := cmd.CombinedOutput() // the exit status says more
		if got := cmd.ProcessState.ExitCode(); got != code || !strings.Contains(string(out), words) {
			t.Errorf("bake rollout %q: exit status %d, want %d and %q\n%s", args, got, code, words, out)
		}
	}
	started := func(generations map[string]string, times int) {
		t.Helper()
		all := op.Started()
		for _, name := range hosts {
			if n := all[name+" "+generations[name]]; n != times {
				t.Errorf("%s was started %d times with %s, want %d", name, n, generations[name], times)
			}
		}
	}
	long := []string{"--from", d.address, "--deadline", "10m"}
	whole := append([]string{"--selector", "run=k", "--max-unavailable", "2"}, long...)
	must(0, "done: 6 of 6 done", whole...)
	started(one, 1)
	must(0, "done: 6 of 6 done", whole...)
	started(one, 1)

	two := night("cloud-config: {timezone: Europe/Berlin}\n")
	if two["k00"] == one["k00"] {
		t.Fatal("there is no other generation")
	}
	mute("k01", true)
	must(7, "generation "+one["k01"]+" is back and has attested", append(append([]string{}, whole[:4]...), "--from", d.address, "--deadline", "1m")...)
	if all := op.Started(); all["k00 "+two["k00"]] != 1 || all["k01 "+two["k01"]] != 1 || all["k01 "+one["k01"]] != 2 || all["k03 "+two["k03"]] != 0 {
		t.Errorf("after it has halted: %v", all)
	}

	// Killed while a machine boots, and resumed by another, which finds what is done.
	cmd := bake(append([]string{"--resume"}, long...)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(5 * time.Minute); op.Started()["k01 "+two["k01"]] < 2; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("k01 is not tried again: %v", op.Started())
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	mute("k01", false)
	must(0, "done: 6 of 6 done", append([]string{"--resume"}, long...)...)
	if all := op.Started(); all["k01 "+two["k01"]] != 2 || all["k00 "+two["k00"]] != 1 || all["k02 "+two["k02"]] != 1 || all["k03 "+two["k03"]] != 1 {
		t.Errorf("after it was resumed: %v", all)
	}
	if got := (simulator{dir: sim}).runs("sim00"); got != newGeneration {
		t.Errorf("the simulated one runs %s", got)
	}

	must(0, "rolled back", append([]string{"--rollback"}, long...)...)
	for _, name := range hosts {
		var vm struct {
			Metadata struct{ Annotations map[string]string }
		}
		text := c.MustAsk(t, http.MethodGet, "/apis/kubevirt.io/v1/namespaces/"+namespace+"/virtualmachines/"+name, nil)
		if err := json.Unmarshal([]byte(text), &vm); err != nil || vm.Metadata.Annotations["bake/generation"] != one[name] || vm.Metadata.Annotations["bake/trying"] != "" {
			t.Errorf("%s: %v, %v", name, vm.Metadata.Annotations, err)
		}
		if strings.Contains(text, "user-data") || strings.Contains(text, "AAAAC3NzaC1lZDI1NTE5") {
			t.Errorf("%s: the words of the machine are in its object", name)
		}
	}
	var r rollout.Record
	out, err := bake("status", "--json").Output()
	if err == nil {
		err = json.Unmarshal(out, &r)
	}
	if err != nil || r.Phase != rollout.RolledBack {
		t.Errorf("%+v, %v", r, err)
	}
}
