package kubedeploy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"bake/internal/console"
	"bake/internal/kube"
)

// wait waits until a generation has attested; reason is why it has not.
func (d *Deployment) wait(ctx context.Context, name string) (reason string, err error) {
	vm, err := d.find(ctx)
	if err != nil || vm == nil {
		return "", errors.Join(err, &goneError{d.Host, d.At.String()})
	}
	plan := note(vm, planKey)
	var heard time.Time
	deaf := false
	for end := time.Now().Add(d.Deadline); ; {
		is, err := d.instance(ctx)
		if err != nil {
			return "", err
		}
		late := time.Now().After(end)
		if is != nil && note(is, generationKey) == name {
			ready := isReady(is)
			var verdict string
			if (ready || late || time.Since(heard) >= heardEvery) && !deaf {
				heard = time.Now()
				verdict, reason, err = d.hear(ctx, is, plan)
				if err != nil {
					if ctx.Err() != nil {
						return "", context.Cause(ctx)
					}
					deaf = true
					d.Say(fmt.Sprintf("what the machine says is not heard: %v", err))
				}
			}
			hasProbe := is.Get("spec", "readinessProbe") != nil
			phase := is.Text("status", "phase")
			switch {
			case verdict == "failed":
				return reason, nil
			case ready && hasProbe, verdict == "ok" && !hasProbe:
				return "", nil
			case phase == "Succeeded":
				return "it has switched itself off", nil
			case phase == "Failed":
				return "its instance has failed" + conditionOf(is), nil
			case deaf && !hasProbe:
				return "", &deafError{d.Host, d.At.String()}
			}
		}
		if late {
			return fmt.Sprintf("no verdict within %s: %s", d.Deadline, d.why(ctx, is)), nil
		}
		if err := d.pause(ctx); err != nil {
			return "", err
		}
	}
}

type deafError struct{ host, place string }

func (e *deafError) Error() string {
	return fmt.Sprintf("%s in %s: nothing says whether it has attested: the machine has no readiness probe, and its console cannot be read", e.host, e.place)
}
func (e *deafError) Lack() bool { return true }

// hear reads what the machine has said of itself: ok, failed with a reason, or "" for nothing yet.
func (d *Deployment) hear(ctx context.Context, is kube.Object, plan string) (verdict, reason string, err error) {
	text, err := d.At.Console(ctx, is)
	if err != nil || text == "" {
		return "", "", err
	}
	r := console.Read(text + "\n")
	switch v := r.Verdict; {
	case v == nil:
		return "", "", nil
	case v.Refused != "":
		return "failed", v.Refused, nil
	case !v.OK && len(r.Failed) > 0:
		return "failed", strings.Join(r.Failed, "; "), nil
	case !v.OK:
		return "failed", v.First, nil
	case plan != "" && v.Plan != plan:
		return "failed", "it has attested other claims than those of the generation: " + v.Plan, nil
	}
	return "ok", "", nil
}

// why says as much as the cluster does of a machine that is late.
func (d *Deployment) why(ctx context.Context, is kube.Object) string {
	vm, err := d.find(ctx)
	if err != nil || vm == nil {
		return "its object cannot be read"
	}
	text := vm.Text("status", "printableStatus")
	if text == "" {
		text = "the cluster says nothing of it"
	}
	if is != nil {
		text += conditionOf(is)
	}
	return text + conditionOf(vm)
}

// conditionOf is the first condition that is not as it should be, with its message.
func conditionOf(o kube.Object) string {
	conditions, _ := o.Get("status", "conditions").([]any)
	for _, c := range conditions {
		condition, _ := c.(map[string]any)
		message, _ := condition["message"].(string)
		if message != "" && (condition["status"] == "False" || condition["type"] == "Failure") {
			return fmt.Sprintf("; %v: %s", condition["type"], message)
		}
	}
	return ""
}

// prepare makes what a generation needs that no other has, and leaves the machine alone.
func (d *Deployment) prepare(ctx context.Context, g Generation) error {
	for _, o := range g.Objects {
		if err := d.Check(); err != nil {
			return err
		}
		var err error
		switch o.Kind() {
		case "DataVolume":
			err = d.volume(ctx, o)
		case "PersistentVolumeClaim":
			_, err = d.At.Get(ctx, o.Kind(), o.Name()) // the state disk, which is made once
			if errors.Is(err, fs.ErrNotExist) {
				_, err = d.At.Create(ctx, o)
			}
		default:
			err = d.content(ctx, o)
		}
		if err != nil {
			return err
		}
	}
	for _, o := range g.Objects {
		if o.Kind() != "DataVolume" {
			continue
		}
		if err := d.filled(ctx, o.Name()); err != nil {
			return err
		}
	}
	return nil
}

// content makes a Secret or ConfigMap. One that never changes must be what it is to be; another
// is changed.
func (d *Deployment) content(ctx context.Context, o kube.Object) error {
	what := o.Kind() + " " + o.Name()
	for range maxTries {
		_, err := d.At.Create(ctx, o)
		if !errors.Is(err, kube.ErrMoved) {
			return err
		}
		is, err := d.At.Get(ctx, o.Kind(), o.Name())
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return err
		case kube.Same(is.Get("data"), o.Get("data")) && kube.Same(is.Get("binaryData"), o.Get("binaryData")):
			return nil
		case o.Get("immutable") == true:
			return d.foreign(what, "has another content than bake gives it: remove it")
		case !isOurs(is):
			return d.foreign(what, "was not made by bake")
		}
		is.Set(o.Get("data"), "data")
		if _, err = d.At.Replace(ctx, is); !errors.Is(err, kube.ErrMoved) {
			return err
		}
	}
	return fmt.Errorf("%s: others change %s all the time", d.At, what)
}

// volume makes the root disk of a generation that no machine has, anew if it was used.
func (d *Deployment) volume(ctx context.Context, o kube.Object) error {
	what := o.Kind() + " " + o.Name()
	for end := time.Now().Add(d.Deadline); ; {
		is, err := d.At.Get(ctx, o.Kind(), o.Name())
		var claim kube.Object
		if errors.Is(err, fs.ErrNotExist) { // there are CDIs that remove it when it is filled
			claim, err = d.At.Get(ctx, "PersistentVolumeClaim", o.Name())
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if _, err = d.At.Create(ctx, o); !errors.Is(err, kube.ErrMoved) {
				return err
			}
		case err != nil:
			return err
		case claim != nil:
			if err := d.remove(ctx, claim); err != nil {
				return err
			}
		case !isOurs(is):
			return d.foreign(what, "was not made by bake")
		case note(is, usedKey) != "" || is.Text("metadata", "deletionTimestamp") != "":
			if err := d.remove(ctx, is); err != nil {
				return err
			}
		case !kube.Same(is.Get("spec", "source"), o.Get("spec", "source")):
			return d.foreign(what, "is filled from elsewhere: remove it")
		default:
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s: %s is there still", d.At, what)
		}
		if err := d.pause(ctx); err != nil {
			return err
		}
	}
}

// remove has a root disk deleted that was used.
func (d *Deployment) remove(ctx context.Context, o kube.Object) error {
	if o.Text("metadata", "deletionTimestamp") != "" {
		return nil
	}
	d.Say("removing " + o.Kind() + " " + o.Name() + ", which was used")
	if err := d.At.Delete(ctx, o); !errors.Is(err, kube.ErrMoved) {
		return err
	}
	return nil
}

// filled waits until a root disk is there, or will be when a machine wants it.
func (d *Deployment) filled(ctx context.Context, name string) error {
	told := ""
	for end := time.Now().Add(d.Deadline); ; {
		is, err := d.At.Get(ctx, "DataVolume", name)
		if errors.Is(err, fs.ErrNotExist) {
			if _, gone := d.At.Get(ctx, "PersistentVolumeClaim", name); gone == nil {
				return nil
			}
		} else if err != nil {
			return err
		}
		phase := is.Text("status", "phase")
		switch phase {
		case "Succeeded", "WaitForFirstConsumer", "PendingPopulation":
			return nil
		case "Failed":
			return &fillError{d.At.String(), name, "it has failed" + conditionOf(is)}
		}
		if time.Now().After(end) {
			return &fillError{d.At.String(), name, fmt.Sprintf("it is not there within %s: %s%s", d.Deadline, phase, conditionOf(is))}
		}
		if phase != told {
			d.Say("root disk " + name + ": " + phase)
			told = phase
		}
		if err := d.pause(ctx); err != nil {
			return err
		}
	}
}

type fillError struct{ place, name, reason string }

func (e *fillError) Error() string {
	return fmt.Sprintf("%s: DataVolume %s: %s", e.place, e.name, e.reason)
}
func (e *fillError) Network() bool { return true }

// use notes of a machine's root disk that it is used from now on.
func (d *Deployment) use(ctx context.Context, spec any) error {
	volumes, _ := kube.Object{"spec": spec}.Get("spec", "template", "spec", "volumes").([]any)
	for _, v := range volumes {
		volume, _ := v.(map[string]any)
		name := kube.Object(volume).Text("dataVolume", "name")
		if name == "" {
			continue
		}
		for range maxTries {
			is, err := d.At.Get(ctx, "DataVolume", name)
			if errors.Is(err, fs.ErrNotExist) {
				break
			}
			if err != nil {
				return err
			}
			if note(is, usedKey) != "" {
				break
			}
			setNote(is, usedKey, "true")
			if err := d.Check(); err != nil {
				return err
			}
			if _, err = d.At.Replace(ctx, is); err == nil {
				break
			} else if !errors.Is(err, kube.ErrMoved) {
				return err
			}
		}
	}
	return nil
}

// apply has the machine's NetworkPolicy say something; whole is what to make where there is none.
func (d *Deployment) apply(ctx context.Context, spec any, whole kube.Object) error {
	if spec == nil {
		return nil
	}
	for range maxTries {
		is, err := d.At.Get(ctx, policy, d.Host)
		if errors.Is(err, fs.ErrNotExist) {
			if whole == nil {
				whole = kube.Object{"apiVersion": "networking.k8s.io/v1", "kind": policy, "metadata": map[string]any{
					"name": d.Host, "labels": map[string]any{managedKey: "bake", "app.kubernetes.io/instance": d.Host}}, "spec": spec}
			}
			if _, err = d.At.Create(ctx, whole); !errors.Is(err, kube.ErrMoved) {
				return err
			}
			continue
		}
		switch {
		case err != nil:
			return err
		case !isOurs(is):
			return d.foreign(policy+" "+d.Host, "was not made by bake")
		case kube.Same(is.Get("spec"), spec):
			return nil
		}
		is["spec"] = spec
		if err := d.Check(); err != nil {
			return err
		}
		if _, err = d.At.Replace(ctx, is); !errors.Is(err, kube.ErrMoved) {
			return err
		}
	}
	return fmt.Errorf("%s: others change %s %s all the time", d.At, policy, d.Host)
}
