// Package kubedeploy brings a host's machine in a Kubernetes cluster with KubeVirt from the
// generation that is there to the one that is wanted, and back when that does not attest.
//
// What is known of a machine is in annotations of its VirtualMachine, so that a run which is
// killed at any point is finished by the next, from anywhere:
//
//	bake/generation   that its specification is of
//	bake/plan         digest of the claims that this generation attests
//	bake/trying       it has yet to attest
//	bake/failed       why it is to be taken back: it is being taken back
//	bake/before       the generation before, its specification and NetworkPolicy: what is gone back to
//	bake/driver       who has changed the machine last
//
// A generation takes the place of another so:
//
//	its Secret, DataVolume and the like are made     the machine runs on
//	its root disk is there, or will be when used     the machine runs on
//	the machine is shut down, and what it was noted  runStrategy: Halted
//	its NetworkPolicy, its specification             trying
//	ready, with a probe; or an ok on its console     attested
//
// It promises:
//   - What can be found out to stand in the way is found out before the machine that runs is
//     touched.
//   - A root disk that has been used is never used as if it were new: it is made anew. The one
//     before keeps its own, and goes back to it.
//   - The state disk is made once. Nothing here deletes it.
//   - A driver that another has followed changes the machine no more: each takes the object
//     first, and every write demands that it is still what was read.
//   - Secrets are in Secrets.
//
// It refuses a VirtualMachine that bake has not made, and objects of a generation's name that
// are not that generation's.
//
// # Decisions
//
// 2026-11: runStrategy Halted and back, and not the subresource restart: the specification must
// change while nothing runs, both are plain writes with a condition, and RerunOnFailure starts a
// machine when it takes the place of another strategy.
//
// 2026-11: ready is believed where the machine has a probe, which asks for a port that the layer
// attest opens after every claim has held. What the console says is asked for as well, where the
// cluster keeps it and we may read it: a failed claim is known at once, and which it was.
package kubedeploy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"bake/internal/deploy"
	"bake/internal/kube"
)

const (
	generationKey = "bake/generation"
	planKey       = "bake/plan"
	tryingKey     = "bake/trying"
	failedKey     = "bake/failed"
	beforeKey     = "bake/before"
	driverKey     = "bake/driver"
	usedKey       = "bake/used" // of a DataVolume

	managedKey = "app.kubernetes.io/managed-by" // a label of all that bake makes
	machine    = "VirtualMachine"
	instance   = "VirtualMachineInstance"
	policy     = "NetworkPolicy"

	maxTries   = 50 // of a write, while the cluster's own controllers write, too
	maxSnap    = 128 << 10
	runs       = "RerunOnFailure"
	halted     = "Halted"
	grace      = time.Minute // that a cluster takes to see that a machine is off
	lookEvery  = 2 * time.Second
	heardEvery = 5 * time.Second
)

// A Place is what is needed of a *kube.Client.
type Place interface {
	Get(ctx context.Context, kind, name string) (kube.Object, error)
	Create(ctx context.Context, o kube.Object) (kube.Object, error)
	Replace(ctx context.Context, o kube.Object) (kube.Object, error)
	Delete(ctx context.Context, o kube.Object) error
	Console(ctx context.Context, instance kube.Object) (string, error)
	String() string
}

// A Generation is what is to run: the objects of package kubevirt.
type Generation struct {
	Name    string
	Plan    string        // digest of the claims that it attests, "" where nobody does
	Objects []kube.Object // ConfigMaps, Secrets, the claim of the state disk, the DataVolume
	Policy  kube.Object
	Machine kube.Object
}

// A Deployment is one host's machine and how to change it.
type Deployment struct {
	Host     string
	At       Place
	Driver   string       // of this run alone
	Check    func() error // whether machines may be changed still
	Say      func(text string)
	Deadline time.Duration // for a boot, and for a root disk to be filled
	Patience time.Duration // for a machine to shut down
	Look     time.Duration // how often the cluster is asked, 0 for what is usual
}

// A Machine is what there is of one.
type Machine struct {
	Generation string
	Previous   string // that it can go back to, "" for none
	Trying     bool   // it has yet to attest
	Ready      bool   // it runs that generation and, where it has a probe, has attested
}

// A TakenError says that another driver has the machine by now.
type TakenError struct{ Host, Place string }

func (e *TakenError) Error() string {
	return fmt.Sprintf("%s in %s: somebody else changes the machine by now", e.Host, e.Place)
}

// Lack marks the error as none of the machine's.
func (e *TakenError) Lack() bool { return true }

// A ForeignError says that an object is not what bake would have made of it.
type ForeignError struct{ Place, What, Reason string }

func (e *ForeignError) Error() string { return fmt.Sprintf("%s: %s %s", e.Place, e.What, e.Reason) }

// Integrity marks the error as a failure of trust.
func (e *ForeignError) Integrity() bool { return true }

// snapshot is what a machine was.
type snapshot struct {
	Generation string `json:"generation"`
	Plan       string `json:"plan,omitempty"`
	Spec       any    `json:"spec"`
	Policy     any    `json:"policy,omitempty"` // its specification
}

func note(o kube.Object, key string) string { return o.Text("metadata", "annotations", key) }

func setNote(o kube.Object, key, value string) {
	if value == "" {
		o.Set(nil, "metadata", "annotations", key)
		return
	}
	o.Set(value, "metadata", "annotations", key)
}

func (d *Deployment) foreign(what, format string, args ...any) error {
	return &ForeignError{d.At.String(), what, fmt.Sprintf(format, args...)}
}

func isOurs(o kube.Object) bool { return o.Text("metadata", "labels", managedKey) == "bake" }

// find reads the machine's object, nil when there is none.
func (d *Deployment) find(ctx context.Context) (kube.Object, error) {
	vm, err := d.At.Get(ctx, machine, d.Host)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case !isOurs(vm):
		return nil, d.foreign(machine+" "+d.Host, "was not made by bake")
	}
	return vm, nil
}

// Find says what there is of the machine, nil for nothing.
func (d *Deployment) Find(ctx context.Context) (*Machine, error) {
	vm, err := d.find(ctx)
	if vm == nil || err != nil {
		return nil, err
	}
	m := &Machine{Generation: note(vm, generationKey), Trying: note(vm, tryingKey) != ""}
	if before := readSnapshot(vm); before.Generation != m.Generation {
		m.Previous = before.Generation
	}
	is, err := d.instance(ctx)
	m.Ready = is != nil && note(is, generationKey) == m.Generation && isReady(is)
	return m, err
}

// instance is what runs, nil for nothing.
func (d *Deployment) instance(ctx context.Context) (kube.Object, error) {
	is, err := d.At.Get(ctx, instance, d.Host)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return is, err
}

func isReady(is kube.Object) bool {
	conditions, _ := is.Get("status", "conditions").([]any)
	for _, c := range conditions {
		condition, _ := c.(map[string]any)
		if condition["type"] == "Ready" {
			return condition["status"] == "True" && is.Text("metadata", "deletionTimestamp") == ""
		}
	}
	return false
}

func readSnapshot(vm kube.Object) (s snapshot) {
	o, err := kube.DecodeJSON([]byte(note(vm, beforeKey)))
	if err != nil { // there is none
		return s
	}
	return snapshot{o.Text("generation"), o.Text("plan"), o.Get("spec"), o.Get("policy")}
}

// take makes the machine's object ours: what a driver before us still wants to write of it is
// refused from then on. Nil without a machine.
func (d *Deployment) take(ctx context.Context) (kube.Object, error) {
	return d.write(ctx, true, func(vm kube.Object) { setNote(vm, driverKey, d.Driver) })
}

// change writes the machine's object, unless another driver has taken it.
func (d *Deployment) change(ctx context.Context, do func(vm kube.Object)) error {
	vm, err := d.write(ctx, false, do)
	if err == nil && vm == nil {
		err = fmt.Errorf("%s in %s: the machine's object is gone", d.Host, d.At)
	}
	return err
}

func (d *Deployment) write(ctx context.Context, taking bool, do func(vm kube.Object)) (kube.Object, error) {
	for range maxTries {
		vm, err := d.find(ctx)
		switch {
		case vm == nil || err != nil:
			return nil, err
		case note(vm, driverKey) == d.Driver && taking:
			return vm, nil
		case note(vm, driverKey) != d.Driver && !taking:
			return nil, &TakenError{d.Host, d.At.String()}
		}
		do(vm)
		if err := d.Check(); err != nil {
			return nil, err
		}
		vm, err = d.At.Replace(ctx, vm)
		if !errors.Is(err, kube.ErrMoved) { // the controllers write the state of the machine into it
			return vm, err
		}
	}
	return nil, fmt.Errorf("%s in %s: others change the machine's object all the time", d.Host, d.At)
}

// Deploy has the machine run a generation. If it does not attest, the one before is put back,
// and the error is a *deploy.FailedError.
func (d *Deployment) Deploy(ctx context.Context, g Generation) (changed bool, err error) {
	vm, err := d.take(ctx)
	if err != nil {
		return false, err
	}
	if vm == nil {
		return true, d.first(ctx, g)
	}
	is, before := note(vm, generationKey), readSnapshot(vm)
	switch {
	case note(vm, failedKey) != "": // whoever was about to take it back was killed
		failed := d.back(ctx, vm, note(vm, failedKey))
		var expected *deploy.FailedError
		if is == g.Name || !errors.As(failed, &expected) || expected.BackReason != "" || expected.Back == "" {
			return true, failed
		}
		d.Say(failed.Error())
		return d.Deploy(ctx, g)
	case is == g.Name && note(vm, tryingKey) != "":
		return true, d.finish(ctx, g.Name)
	case is == g.Name:
		return d.settle(ctx, vm)
	case before.Generation == g.Name: // it has its own disk
		return true, d.swap(ctx, before)
	}
	if err := d.prepare(ctx, g); err != nil {
		return false, err
	}
	return true, d.swap(ctx, snapshot{g.Name, g.Plan, g.Machine.Get("spec"), g.Policy.Get("spec")})
}

// Return has the machine run the generation that it ran before another, from the disk that it had
// then. fresh makes that of nothing, where the cluster does not have it any more.
func (d *Deployment) Return(ctx context.Context, generation, before string, fresh func() (Generation, error)) (changed bool, err error) {
	vm, err := d.take(ctx)
	if err != nil {
		return false, err
	}
	switch {
	case vm == nil:
		return false, &goneError{d.Host, d.At.String()}
	case note(vm, generationKey) == generation && note(vm, tryingKey) == "":
		return d.settle(ctx, vm)
	case note(vm, generationKey) != generation && note(vm, generationKey) != before:
		return false, &strayError{d.Host, d.At.String(), note(vm, generationKey)}
	}
	if was := readSnapshot(vm); was.Generation == generation {
		return true, d.swap(ctx, was)
	}
	g, err := fresh()
	if err != nil {
		return false, err
	}
	return d.Deploy(ctx, g)
}

type goneError struct{ host, place string }

func (e *goneError) Error() string { return e.host + " is not in " + e.place }
func (e *goneError) Lack() bool    { return true }

type strayError struct{ host, place, generation string }

func (e *strayError) Error() string {
	return fmt.Sprintf("%s in %s runs generation %s, which the rollout has not put there: it is left as it is", e.host, e.place, e.generation)
}
func (e *strayError) Lack() bool { return true }

// first makes a machine where there is none.
func (d *Deployment) first(ctx context.Context, g Generation) error {
	if err := d.prepare(ctx, g); err != nil {
		return err
	}
	if err := d.apply(ctx, g.Policy.Get("spec"), g.Policy); err != nil {
		return err
	}
	if err := d.use(ctx, g.Machine.Get("spec")); err != nil {
		return err
	}
	vm := g.Machine.Clone()
	for key, value := range map[string]string{generationKey: g.Name, planKey: g.Plan, tryingKey: "true", driverKey: d.Driver} {
		setNote(vm, key, value)
	}
	d.Say("making generation " + g.Name)
	if err := d.Check(); err != nil {
		return err
	}
	if _, err := d.At.Create(ctx, vm); errors.Is(err, kube.ErrMoved) {
		return &TakenError{d.Host, d.At.String()}
	} else if err != nil {
		return err
	}
	return d.finish(ctx, g.Name)
}

// swap shuts the machine down and has it be something else.
func (d *Deployment) swap(ctx context.Context, to snapshot) error {
	if to.Spec == nil {
		return fmt.Errorf("%s in %s: nothing is known of how generation %s was specified", d.Host, d.At, to.Generation)
	}
	if err := d.halt(ctx, "", true); err != nil {
		return err
	}
	if err := d.become(ctx, to, true); err != nil {
		return err
	}
	return d.finish(ctx, to.Generation)
}

// become has a machine that is off be something else, and start.
func (d *Deployment) become(ctx context.Context, to snapshot, trying bool) error {
	if err := d.apply(ctx, to.Policy, nil); err != nil {
		return err
	}
	if err := d.use(ctx, to.Spec); err != nil {
		return err
	}
	d.Say("starting generation " + to.Generation)
	return d.change(ctx, func(vm kube.Object) {
		vm["spec"] = to.Spec
		vm.Set(runs, "spec", "runStrategy")
		setNote(vm, generationKey, to.Generation)
		setNote(vm, planKey, to.Plan)
		setNote(vm, failedKey, "")
		setNote(vm, tryingKey, map[bool]string{true: "true"}[trying])
	})
}

// halt shuts the machine down. failed is why it is to be taken back, "" where it is not. With keep
// it is noted what the machine was, if that has attested, and if it was not noted by somebody who
// did not come further than this.
func (d *Deployment) halt(ctx context.Context, failed string, keep bool) error {
	rules, err := d.At.Get(ctx, policy, d.Host)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var tooLarge bool
	err = d.change(ctx, func(vm kube.Object) {
		if keep && note(vm, tryingKey) == "" && readSnapshot(vm).Generation != note(vm, generationKey) {
			was := snapshot{note(vm, generationKey), note(vm, planKey), vm.Clone().Get("spec"), rules.Get("spec")}
			text, err := json.Marshal(was)
			tooLarge = err != nil || len(text) > maxSnap
			setNote(vm, beforeKey, string(text))
		}
		if failed != "" {
			setNote(vm, failedKey, failed)
		}
		vm.Set(halted, "spec", "runStrategy")
		vm.Set(nil, "spec", "running")
	})
	if tooLarge {
		err = errors.Join(fmt.Errorf("%s in %s: its specification has more than %d bytes", d.Host, d.At, maxSnap), err)
	}
	if err != nil {
		return err
	}
	return d.isOff(ctx)
}

// isOff waits until nothing runs any more.
func (d *Deployment) isOff(ctx context.Context) error {
	told := false
	for end := time.Now().Add(d.Patience + grace); ; {
		is, err := d.instance(ctx)
		switch {
		case err != nil:
			return err
		case is == nil:
			return nil
		case time.Now().After(end):
			return &offError{d.Host, d.At.String(), d.Patience + grace}
		case !told:
			d.Say("shutting down generation " + note(is, generationKey))
			told = true
		}
		if err := d.pause(ctx); err != nil {
			return err
		}
	}
}

type offError struct {
	host, place string
	patience    time.Duration
}

func (e *offError) Error() string {
	return fmt.Sprintf("%s in %s has not shut down within %s", e.host, e.place, e.patience)
}
func (e *offError) Network() bool { return true }

// pause is the time between two questions.
func (d *Deployment) pause(ctx context.Context) error {
	often := d.Look
	if often == 0 {
		often = lookEvery
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(often):
	}
	return d.Check()
}

// settle has a machine run that has attested before.
func (d *Deployment) settle(ctx context.Context, vm kube.Object) (changed bool, err error) {
	is, err := d.instance(ctx)
	if err != nil {
		return false, err
	}
	name := note(vm, generationKey)
	if is != nil && note(is, generationKey) == name && isReady(is) && vm.Text("spec", "runStrategy") != halted {
		return false, nil
	}
	gone := is == nil || is.Text("status", "phase") == "Succeeded" || is.Text("status", "phase") == "Failed" || note(is, generationKey) != name
	if gone || vm.Text("spec", "runStrategy") == halted {
		changed = true
		was := snapshot{name, note(vm, planKey), vm.Get("spec"), nil}
		if before := readSnapshot(vm); before.Generation == name { // somebody was about to put another in its place
			was.Spec, was.Policy = before.Spec, before.Policy
		}
		if err := d.halt(ctx, "", false); err != nil { // what was before it stays what can be gone back to
			return true, err
		}
		if err := d.become(ctx, was, false); err != nil {
			return true, err
		}
	}
	reason, err := d.wait(ctx, name)
	if err == nil && reason != "" {
		err = &deploy.FailedError{Host: d.Host, Generation: name, Reason: reason}
	}
	return changed, err
}

// finish waits for the verdict about a generation that is tried, and does what follows from it.
func (d *Deployment) finish(ctx context.Context, name string) error {
	reason, err := d.wait(ctx, name)
	if err != nil {
		return err
	}
	if reason == "" {
		return d.change(ctx, func(vm kube.Object) { setNote(vm, tryingKey, "") })
	}
	vm, err := d.find(ctx)
	if err != nil || vm == nil {
		return errors.Join(err, &goneError{d.Host, d.At.String()})
	}
	return d.back(ctx, vm, reason)
}

// back puts the generation before in the place of one that does not attest. A first one stays,
// shut, to be looked at.
func (d *Deployment) back(ctx context.Context, vm kube.Object, reason string) error {
	name, before := note(vm, generationKey), readSnapshot(vm)
	failed := &deploy.FailedError{Host: d.Host, Generation: name, Reason: reason}
	if before.Generation == "" || before.Generation == name {
		return failed
	}
	d.Say(failed.Error())
	if err := d.halt(ctx, reason, false); err != nil {
		return errors.Join(failed, err)
	}
	if err := d.become(ctx, before, false); err != nil {
		return errors.Join(failed, err)
	}
	failed.Back = before.Generation
	again, err := d.wait(ctx, before.Generation)
	failed.BackReason = again
	if err != nil {
		failed.BackReason = err.Error()
	}
	return failed
}
