//go:build e2e

package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bake/internal/rollout"
)

// TestE2ERolloutBucket: the record of a rollout in a bucket of a real server, a driver that
// is killed, and the next who takes over.
func TestE2ERolloutBucket(t *testing.T) {
	a := newArmada(t, 6)
	s := &sleep{mirror: &mirror{env: map[string]string{}}}
	newWarehouse(t, s)
	for name, value := range s.env {
		a.env = append(a.env, name+"="+value)
	}
	a.env = append(a.env, "BAKE_ROLLOUT=s3://"+warehouseBucket+"/ops")
	a.fail("sim03", "hang")
	first := a.bake("--hosts", "role=web", "--max-unavailable", "2", "--lease", lease)
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	a.await("hangs sim03")
	a.must(4, "the rollout is driven by", "--resume")
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait()
	a.fail("sim03", "")
	a.must(0, "done: 6 of 6 done", "--resume")
	if all := a.installed(newGeneration); len(all) != 6 || all["sim03"] != 1 || all["sim00"] != 1 {
		t.Errorf("%v", a.log(0))
	}
	if r := a.record(); r.Phase != rollout.Done || r.Fence != 2 || r.Driver != nil {
		t.Errorf("%+v", r)
	}
	a.must(2, "cannot write under a condition", "status", "--state", "oci://127.0.0.1:1/fleet")
}

// TestFullRollout: a machine under libvirt among twenty-nine simulated ones. A rollout that
// halts leaves it alone; one that is killed while it is deployed is resumed; all go back.
func TestFullRollout(t *testing.T) {
	h := newRack(t)
	h.configure(t, 10, "")
	one := h.image(t)
	up := h.do(t, 0, "up", "--generation", one)
	if len(up.Addresses) == 0 {
		t.Fatalf("%+v", up)
	}
	h.ssh(t, up.Addresses[0], "echo mine | sudo tee /var/lib/bake/state/mine && sudo sync")
	h.configure(t, 20, "")
	two := h.image(t)
	if code, _ := h.bake(t, "verify", "--host", "zap", "--boot", "--deadline", "45m"); code != 0 {
		t.Fatalf("bake verify --boot: exit %d", code)
	}
	at := func(swappiness string) {
		t.Helper()
		if got := h.ssh(t, up.Addresses[0], "cat /proc/sys/vm/swappiness; sudo cat /var/lib/bake/state/mine"); got != swappiness+"\nmine" {
			t.Errorf("the machine at work has %q", got)
		}
	}

	a := &armada{t: t, dir: h.config, out: h.out, sim: t.TempDir()}
	for i := range 29 {
		name := fmt.Sprintf("sim%02d", i)
		a.write("hosts/"+name+".yaml", "host: "+name+"\nbase: debian:13\nadmin: {name: ops, keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIC5fZc/o+6nL5wffhDwRKx2uFUYmLG4ZcnVAjhhwA3Wo ops@desk]}\nlayers: [ssh]\n")
		a.runs(name, oldGeneration)
	}
	start := []string{"--all", "--max-unavailable", "6", "--canary", "2", "--lease", lease, "--deadline", "45m"}
	a.fail("sim09", "claims")
	a.must(7, "1 host failed, and 0 may", start...)
	if slices.Contains(a.log(0), "begin zap") {
		t.Error("a rollout that has halted has touched what comes later")
	}
	at("10")

	a.fail("sim09", "")
	cmd := a.bake("--resume", "--lease", lease, "--deadline", "45m")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	a.await("begin zap")
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	a.must(0, "done: 30 of 30 done", "--resume", "--lease", lease, "--deadline", "45m")
	at("20")
	r := a.record()
	zap := r.Hosts[slices.IndexFunc(r.Hosts, func(h rollout.Host) bool { return h.Name == "zap" })]
	if zap.From != one || zap.To != two || zap.Down {
		t.Errorf("%+v, want from %s to %s", zap, one, two)
	}
	all := a.installed(newGeneration)
	for i := range 29 {
		if host := fmt.Sprintf("sim%02d", i); all[host] != 1 {
			t.Errorf("%s was installed %d times", host, all[host])
		}
	}

	a.must(0, "rolled back", "--rollback", "--deadline", "45m")
	at("10")
	if code, out := h.bake(t, "status", "--host", "zap", "--json"); code != 0 || !strings.Contains(out, one) {
		t.Errorf("exit %d: %s", code, out)
	}
	if names, _ := filepath.Glob(filepath.Join(h.out, rolloutDir, ".new-*")); len(names) > 1 {
		t.Errorf("left behind: %v", names) // by the killed one, at most
	}
}
