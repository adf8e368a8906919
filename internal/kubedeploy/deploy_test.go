package kubedeploy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bake/internal/deploy"
	"bake/internal/kube"
)

const old, fresh = "00000000000000aa", "00000000000000bb"

// pond is as much of a cluster as a machine needs. What KubeVirt's and CDI's controllers do is
// done after every write, and of each start it is counted on which disk it was.
type pond struct {
	mutex   sync.Mutex
	objects map[string]kube.Object
	version int
	writes  int
	starts  []string          // GENERATION disk N: the Nth disk of that name
	disks   map[string]int    // how often each was made
	verdict map[string]string // by generation: ok, never, off; else what is on the console
	mute    bool              // no console is to be had
	log     []string

	dies  int    // after so many writes nothing is done any more, 0 for never
	lost  bool   // the last write is done before that
	jolts int    // writes of controllers that come in between
	fill  string // phase of a root disk, "" for Succeeded
}

func newPond() *pond {
	return &pond{objects: map[string]kube.Object{}, disks: map[string]int{}, verdict: map[string]string{old: "ok", fresh: "ok"}}
}

var errDead = errors.New("killed")

func key(kind, name string) string { return kind + "/" + name }

func (p *pond) String() string { return "the pond" }

func (p *pond) Get(ctx context.Context, kind, name string) (kube.Object, error) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if p.dies < 0 {
		return nil, errDead
	}
	o := p.objects[key(kind, name)]
	if o == nil {
		return nil, fs.ErrNotExist
	}
	return o.Clone(), nil
}

// step counts a write: whether it is done, and whether anybody hears of it.
func (p *pond) step() (do, heard bool) {
	if p.dies < 0 {
		return false, false
	}
	p.writes++
	if p.dies > 0 {
		if p.dies--; p.dies == 0 {
			p.dies = -1
			return p.lost, false
		}
	}
	return true, true
}

func (p *pond) put(o kube.Object) kube.Object {
	p.version++
	o = o.Clone()
	o.Set(fmt.Sprint(p.version), "metadata", "resourceVersion")
	if o.Text("metadata", "uid") == "" {
		o.Set(fmt.Sprint("uid-", p.version), "metadata", "uid")
	}
	p.objects[key(o.Kind(), o.Name())] = o
	return o.Clone()
}

func (p *pond) Create(ctx context.Context, o kube.Object) (kube.Object, error) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	do, heard := p.step()
	if do {
		if p.objects[key(o.Kind(), o.Name())] != nil {
			return nil, kube.ErrMoved
		}
		p.log = append(p.log, "create "+key(o.Kind(), o.Name()))
		o = p.put(o)
		if o.Kind() == "DataVolume" {
			p.disks[o.Name()]++
		}
		p.reconcile()
	}
	if !heard {
		return nil, errDead
	}
	return o, nil
}

func (p *pond) Replace(ctx context.Context, o kube.Object) (kube.Object, error) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	do, heard := p.step()
	if do {
		is := p.objects[key(o.Kind(), o.Name())]
		if p.jolts > 0 && is != nil {
			p.jolts--
			is = p.put(is)
		}
		if is == nil || is.Text("metadata", "resourceVersion") != o.Text("metadata", "resourceVersion") {
			return nil, kube.ErrMoved
		}
		p.log = append(p.log, "replace "+key(o.Kind(), o.Name()))
		o = p.put(o)
		p.reconcile()
	}
	if !heard {
		return nil, errDead
	}
	return o, nil
}

func (p *pond) Delete(ctx context.Context, o kube.Object) error {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	do, heard := p.step()
	if do {
		p.log = append(p.log, "delete "+key(o.Kind(), o.Name()))
		delete(p.objects, key(o.Kind(), o.Name()))
	}
	if !heard {
		return errDead
	}
	return nil
}

func (p *pond) Console(ctx context.Context, is kube.Object) (string, error) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if p.mute {
		return "", errors.New("it is not allowed")
	}
	switch said := p.verdict[note(is, generationKey)]; said {
	case "ok":
		return "BAKE-RESULT v1 ok plan=" + planOf(note(is, generationKey)) + " claims=3 failed=0 report= end\n", nil
	case "never", "off":
		return "booting\n", nil
	default:
		return said, nil
	}
}

func planOf(generation string) string { return strings.Repeat(generation, 4) }

// reconcile is what the controllers do.
func (p *pond) reconcile() {
	for _, o := range p.objects {
		if o.Kind() == "DataVolume" && o.Text("status", "phase") == "" {
			o.Set(cmpOr(p.fill, "Succeeded"), "status", "phase")
		}
		if o.Kind() != machine {
			continue
		}
		is := p.objects[key(instance, o.Name())]
		switch strategy := o.Text("spec", "runStrategy"); {
		case strategy == halted:
			delete(p.objects, key(instance, o.Name()))
		case strategy == runs && is == nil && o.Text("status", "runStrategy") != runs:
			generation := o.Text("spec", "template", "metadata", "annotations", generationKey)
			disk := "h-root-" + generation
			p.starts = append(p.starts, fmt.Sprintf("%s disk %d", generation, p.disks[disk]))
			is = kube.Object{"kind": instance, "metadata": map[string]any{"name": o.Name(), "annotations": map[string]any{generationKey: generation}},
				"spec": o.Get("spec", "template", "spec"), "status": map[string]any{"phase": "Running"}}
			if p.verdict[generation] == "ok" {
				is.Set([]any{map[string]any{"type": "Ready", "status": "True"}}, "status", "conditions")
			}
			if p.verdict[generation] == "off" {
				is.Set("Succeeded", "status", "phase")
			}
			p.put(is)
		}
		o.Set(o.Text("spec", "runStrategy"), "status", "runStrategy")
	}
}

func cmpOr(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

// generation is one with a probe, or without.
func generation(name string, probe bool) Generation {
	labels := map[string]any{managedKey: "bake"}
	meta := func(of string) map[string]any {
		return map[string]any{"name": of, "labels": labels, "annotations": map[string]any{generationKey: name}}
	}
	spec := map[string]any{"volumes": []any{map[string]any{"name": "root", "dataVolume": map[string]any{"name": "h-root-" + name}}}}
	if probe {
		spec["readinessProbe"] = map[string]any{"tcpSocket": map[string]any{"port": 22}}
	}
	g := Generation{Name: name, Plan: planOf(name),
		Objects: []kube.Object{
			{"kind": "Secret", "immutable": true, "metadata": meta("h-seed-" + name), "data": map[string]any{"user-data": name}},
			{"kind": "Secret", "metadata": meta("h-secrets"), "data": map[string]any{"index": name}},
			{"kind": "PersistentVolumeClaim", "metadata": meta("h-state")},
			{"kind": "DataVolume", "metadata": meta("h-root-" + name), "spec": map[string]any{"source": "image-" + name}}},
		Policy: kube.Object{"kind": policy, "metadata": meta("h"), "spec": map[string]any{"ports": name}},
		Machine: kube.Object{"kind": machine, "metadata": meta("h"), "spec": map[string]any{"runStrategy": runs, "template": map[string]any{
			"metadata": map[string]any{"annotations": map[string]any{generationKey: name}}, "spec": spec}}}}
	return clean(g)
}

// clean makes numbers and maps what they are after JSON.
func clean(g Generation) Generation {
	for i := range g.Objects {
		g.Objects[i] = g.Objects[i].Clone()
	}
	g.Policy, g.Machine = g.Policy.Clone(), g.Machine.Clone()
	return g
}

func (p *pond) deployment(driver string) *Deployment {
	return &Deployment{Host: "h", At: p, Driver: driver, Check: func() error { return nil }, Say: func(text string) { p.log = append(p.log, text) },
		Deadline: 50 * time.Millisecond, Patience: time.Second, Look: time.Millisecond}
}

// is checks what the machine is.
func (p *pond) is(t *testing.T, name string, starts ...string) {
	t.Helper()
	m, err := p.deployment("x").Find(t.Context())
	if err != nil || m == nil || m.Generation != name || m.Trying || !m.Ready {
		t.Errorf("the machine is %+v, %v, want %s\n%s", m, err, name, strings.Join(p.log, "\n"))
	}
	if got := p.objects[key(policy, "h")].Text("spec", "ports"); got != name {
		t.Errorf("the policy is of %s", got)
	}
	if starts != nil && !slices.Equal(p.starts, starts) {
		t.Errorf("started were %q, want %q", p.starts, starts)
	}
	for _, disk := range []string{"h-state"} {
		if p.objects[key("PersistentVolumeClaim", disk)] == nil {
			t.Errorf("%s is gone", disk)
		}
	}
}

// TestDeploy: from nothing to a generation, to another and back, each on its own disk.
func TestDeploy(t *testing.T) {
	for _, probe := range []bool{true, false} {
		p := newPond()
		p.jolts = 3
		d := p.deployment("one")
		step := func(want bool, changed bool, err error) {
			t.Helper()
			if changed != want || err != nil {
				t.Fatalf("changed %v, %v\n%s", changed, err, strings.Join(p.log, "\n"))
			}
		}
		changed, err := d.Deploy(t.Context(), generation(old, probe))
		step(true, changed, err)
		changed, err = d.Deploy(t.Context(), generation(old, probe))
		if probe { // without, an instance that is ready is all there is to see
			step(false, changed, err)
		}
		p.is(t, old, old+" disk 1")
		changed, err = d.Deploy(t.Context(), generation(fresh, probe))
		step(true, changed, err)
		p.is(t, fresh, old+" disk 1", fresh+" disk 1")
		nothing := func() (Generation, error) { return Generation{}, errors.New("it was there") }
		changed, err = d.Return(t.Context(), old, fresh, nothing)
		step(true, changed, err)
		p.is(t, old, old+" disk 1", fresh+" disk 1", old+" disk 1")
		changed, err = d.Return(t.Context(), old, fresh, nothing)
		step(false, changed, err)
		changed, err = d.Deploy(t.Context(), generation(fresh, probe)) // it has attested on its disk
		step(true, changed, err)
		p.is(t, fresh, old+" disk 1", fresh+" disk 1", old+" disk 1", fresh+" disk 1")
		if got := p.objects["Secret/h-secrets"].Text("data", "index"); got != fresh && got != old {
			t.Errorf("the secrets are %q", got)
		}
	}
}

// TestFails: a generation that does not attest is taken back, and its disk is not used again.
func TestFails(t *testing.T) {
	for how, words := range map[string]string{
		"never": "no verdict within",
		"off":   "it has switched itself off",
		"bake: failed: ssh: Nobody logs in.\nBAKE-RESULT v1 fail plan=" + planOf(fresh) + ` claims=3 failed=1 report= first="x" end` + "\n": "ssh: Nobody logs in.",
		"BAKE-RESULT v1 ok plan=" + planOf(old) + " claims=3 failed=0 report= end\n":                                                        "it has attested other claims",
		"BAKE-RESULT v1 refused reason=\"no plan\" end\n":                                                                                   "no plan",
	} {
		p := newPond()
		d := p.deployment("one")
		if _, err := d.Deploy(t.Context(), generation(old, true)); err != nil {
			t.Fatal(err)
		}
		p.verdict[fresh] = how
		_, err := d.Deploy(t.Context(), generation(fresh, true))
		var failed *deploy.FailedError
		if !errors.As(err, &failed) || !strings.Contains(failed.Reason, words) || failed.Back != old || failed.BackReason != "" {
			t.Errorf("%.20q: %v", how, err)
		}
		p.is(t, old, old+" disk 1", fresh+" disk 1", old+" disk 1")
		p.verdict[fresh] = "ok"
		if _, err := d.Deploy(t.Context(), generation(fresh, true)); err != nil {
			t.Errorf("%.20q, again: %v", how, err)
		}
		p.is(t, fresh, old+" disk 1", fresh+" disk 1", old+" disk 1", fresh+" disk 2")
	}

	p := newPond()
	p.verdict[old] = "never"
	_, err := p.deployment("one").Deploy(t.Context(), generation(old, true))
	var failed *deploy.FailedError
	if !errors.As(err, &failed) || failed.Back != "" {
		t.Errorf("a first one: %v", err)
	}
	if m, err := p.deployment("one").Find(t.Context()); err != nil || !m.Trying || m.Previous != "" {
		t.Errorf("%+v, %v", m, err)
	}
	p = newPond()
	p.mute = true
	if _, err := p.deployment("one").Deploy(t.Context(), generation(old, false)); err == nil || !strings.Contains(err.Error(), "nothing says whether it has attested") {
		t.Errorf("without probe and console: %v", err)
	}
	if _, err := p.deployment("one").Deploy(t.Context(), generation(fresh, true)); err != nil {
		t.Errorf("with a probe and no console: %v", err)
	}
}

// TestKilled: whatever write of a deployment is the last of a driver, done or not, the next
// brings it to its end; the machine that ran goes on until there is a disk for the next, and none
// is started twice on a new disk.
func TestKilled(t *testing.T) {
	for _, verdict := range []string{"ok", "never"} {
		for _, lost := range []bool{false, true} {
			for dies := 1; ; dies++ {
				p := newPond()
				if _, err := p.deployment("one").Deploy(t.Context(), generation(old, true)); err != nil {
					t.Fatal(err)
				}
				p.verdict[fresh] = verdict
				p.dies, p.lost = dies, lost
				_, err := p.deployment("one").Deploy(t.Context(), generation(fresh, true))
				ended := p.dies > 0
				p.dies = 0
				if !ended && !errors.Is(err, errDead) {
					var failed *deploy.FailedError
					if !errors.As(err, &failed) || failed.BackReason == "" {
						t.Errorf("write %d: %v", dies, err)
					}
				}
				_, err = p.deployment("two").Deploy(t.Context(), generation(fresh, true))
				var failed *deploy.FailedError
				switch {
				case verdict == "ok" && err != nil:
					t.Errorf("killed at write %d (done: %v): %v", dies, lost, err)
				case verdict != "ok" && (!errors.As(err, &failed) || failed.Back != old || failed.BackReason != ""):
					t.Errorf("killed at write %d (done: %v): %v", dies, lost, err)
				}
				p.is(t, map[string]string{"ok": fresh}[verdict]+map[string]string{"never": old}[verdict])
				times := 0
				for _, start := range p.starts {
					if start == fresh+" disk 1" {
						times++
					}
				}
				if times > 1 {
					t.Errorf("killed at write %d (done: %v): a disk that was used is used again: %q", dies, lost, p.starts)
				}
				if ended {
					if dies < 6 {
						t.Errorf("a deployment has %d writes", dies)
					}
					break
				}
				// And all the way back, wherever it was.
				if _, err := p.deployment("three").Return(t.Context(), old, fresh, func() (Generation, error) { return Generation{}, errors.New("it was there") }); err != nil {
					t.Errorf("killed at write %d (done: %v), and back: %v", dies, lost, err)
				}
				p.is(t, old)
			}
		}
	}
}

// TestGivenUp: one that was given up by a driver that was killed then is taken back for the same
// reason, without another boot.
func TestGivenUp(t *testing.T) {
	for dies := 1; ; dies++ {
		p := newPond()
		if _, err := p.deployment("one").Deploy(t.Context(), generation(old, true)); err != nil {
			t.Fatal(err)
		}
		p.verdict[fresh] = "BAKE-RESULT v1 refused reason=\"no plan\" end\n"
		p.dies = dies
		_, _ = p.deployment("one").Deploy(t.Context(), generation(fresh, true)) // dies
		if p.dies > 0 {
			t.Fatal("no write gives it up")
		}
		p.dies = 0
		if note(p.objects[key(machine, "h")], failedKey) == "" {
			continue
		}
		two := p.deployment("two")
		two.Deadline = time.Hour
		_, err := two.Deploy(t.Context(), generation(fresh, true))
		if err == nil || !strings.Contains(err.Error(), "no plan") {
			t.Error(err)
		}
		p.is(t, old, old+" disk 1", fresh+" disk 1", old+" disk 1")
		return
	}
}

// TestStale: a driver that another has followed changes nothing any more, not even with a write
// that it had begun with.
func TestStale(t *testing.T) {
	p := newPond()
	if _, err := p.deployment("one").Deploy(t.Context(), generation(old, true)); err != nil {
		t.Fatal(err)
	}
	first := p.deployment("first")
	if _, err := first.take(t.Context()); err != nil {
		t.Fatal(err)
	}
	read, err := p.Get(t.Context(), machine, "h") // it sleeps between this and its write
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.deployment("second").Deploy(t.Context(), generation(fresh, true)); err != nil {
		t.Fatal(err)
	}
	read.Set(halted, "spec", "runStrategy")
	if _, err := p.Replace(t.Context(), read); !errors.Is(err, kube.ErrMoved) {
		t.Errorf("its write: %v", err)
	}
	var taken *TakenError
	if err := first.halt(t.Context(), "", true); !errors.As(err, &taken) {
		t.Errorf("its next: %v", err)
	}
	p.is(t, fresh)

	lease := errors.New("the lease is gone")
	late := p.deployment("late")
	late.Check = func() error { return lease }
	writes := p.writes
	if _, err := late.Deploy(t.Context(), generation(old, true)); !errors.Is(err, lease) || p.writes != writes {
		t.Errorf("without a lease: %v, %d writes", err, p.writes-writes)
	}
}

// TestRefuses: what bake has not made, and what is not what it says, is left alone; the machine
// that runs is not touched.
func TestRefuses(t *testing.T) {
	for what, break_ := range map[string]func(p *pond){
		"was not made by bake": func(p *pond) { p.objects[key(machine, "h")].Set(nil, "metadata", "labels", managedKey) },
		"Secret h-seed-" + fresh + " has another content": func(p *pond) {
			p.put(kube.Object{"kind": "Secret", "metadata": map[string]any{"name": "h-seed-" + fresh}, "data": map[string]any{"user-data": "evil"}})
		},
		"DataVolume h-root-" + fresh + " is filled from elsewhere": func(p *pond) {
			o := generation(fresh, true).Objects[3]
			o.Set("evil", "spec", "source")
			p.put(o)
		},
		"DataVolume h-root-" + fresh + ": it has failed": func(p *pond) { p.fill = "Failed" },
	} {
		p := newPond()
		if _, err := p.deployment("one").Deploy(t.Context(), generation(old, true)); err != nil {
			t.Fatal(err)
		}
		break_(p)
		_, err := p.deployment("two").Deploy(t.Context(), generation(fresh, true))
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
		if got := p.objects[key(machine, "h")]; got.Text("spec", "runStrategy") != runs || len(p.starts) != 1 {
			t.Errorf("%s: the machine was touched: %q", what, p.starts)
		}
	}
	p := newPond()
	d := p.deployment("one")
	if _, err := d.Return(t.Context(), old, fresh, nil); err == nil || !strings.Contains(err.Error(), "is not in the pond") {
		t.Error(err)
	}
	if _, err := d.Deploy(t.Context(), generation("00000000000000cc", true)); err == nil {
		t.Error("what never attests has attested")
	}
	if _, err := d.Return(t.Context(), old, fresh, nil); err == nil || !strings.Contains(err.Error(), "which the rollout has not put there") {
		t.Error(err)
	}
}

// TestOff: a machine that has attested and is off is started on the disk that it has.
func TestOff(t *testing.T) {
	p := newPond()
	d := p.deployment("one")
	for _, name := range []string{old, fresh} {
		if _, err := d.Deploy(t.Context(), generation(name, true)); err != nil {
			t.Fatal(err)
		}
	}
	p.mutex.Lock()
	p.objects[key(instance, "h")].Set("Succeeded", "status", "phase") // somebody has shut it down from inside
	p.objects[key(instance, "h")].Set(nil, "status", "conditions")
	p.mutex.Unlock()
	if changed, err := d.Deploy(t.Context(), generation(fresh, true)); err != nil || !changed {
		t.Errorf("%v, %v", changed, err)
	}
	p.is(t, fresh, old+" disk 1", fresh+" disk 1", fresh+" disk 1")
	if m, err := d.Find(t.Context()); err != nil || m.Previous != old {
		t.Errorf("what it can go back to is forgotten: %+v, %v", m, err)
	}
}
