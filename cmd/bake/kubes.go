package main

// The machines of a rollout, in clusters.

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"bake/internal/artifact"
	"bake/internal/host"
	"bake/internal/kube"
	"bake/internal/kubedeploy"
	"bake/internal/kubevirt"
	"bake/internal/publish"
	"bake/internal/rollout"
)

// everywhere are the machines of hosts, each where its host file says.
type everywhere struct {
	*libvirts
	kubes *kubes
}

// inCluster returns a host that a cluster runs, nil for another.
func (e *everywhere) inCluster(name string) (*host.Host, error) {
	h, err := host.Load(e.config, name, e.shelf())
	if err != nil || !host.IsCluster(h.Domain.URI) {
		return nil, err
	}
	return h, nil
}

// Runs returns the generation that a machine has proven last.
func (e *everywhere) Runs(ctx context.Context, name string) (string, error) {
	h, err := e.inCluster(name)
	if err != nil {
		return "", err
	}
	if h == nil {
		return e.libvirts.Runs(ctx, name)
	}
	return e.kubes.runs(ctx, h)
}

// Deploy has a machine run a generation and attest.
func (e *everywhere) Deploy(ctx context.Context, name, generation string) (rollout.Result, error) {
	h, err := e.inCluster(name)
	if err != nil {
		return rollout.Result{}, err
	}
	if h == nil {
		return e.libvirts.Deploy(ctx, name, generation)
	}
	return e.kubes.deploy(ctx, h, generation)
}

// Return has a machine run what it ran before.
func (e *everywhere) Return(ctx context.Context, name, generation, before string) (rollout.Result, error) {
	h, err := e.inCluster(name)
	if err != nil {
		return rollout.Result{}, err
	}
	if h == nil {
		return e.libvirts.Return(ctx, name, generation, before)
	}
	return e.kubes.back(ctx, h, generation, before)
}

// kubes are those in clusters.
type kubes struct {
	*libvirts
	driver string

	mutex sync.Mutex
	place *publish.Place // whose images are named; opened once, so that a base image is hashed once
}

func newKubes(l *libvirts) *kubes { return &kubes{libvirts: l, driver: rand.Text()} }

// in is a host's machine.
func (k *kubes) in(h *host.Host) (*kubedeploy.Deployment, error) {
	to, err := host.ParseCluster(h.Domain.URI)
	if err != nil {
		return nil, err
	}
	client, err := kube.Open(kube.Options{Getenv: k.Getenv, Context: to.Context, Namespace: to.Namespace, Agent: "bake/" + version()})
	if err != nil {
		return nil, err
	}
	return &kubedeploy.Deployment{Host: h.Name, At: client, Driver: k.driver, Check: k.check,
		Say:      func(text string) { k.say("%s: %s", h.Name, text) },
		Deadline: k.o.machine.deadline, Patience: k.o.machine.patience}, nil
}

func (k *kubes) runs(ctx context.Context, h *host.Host) (string, error) {
	d, err := k.in(h)
	if err != nil {
		return "", err
	}
	m, err := d.Find(ctx)
	switch {
	case err != nil || m == nil:
		return "", err
	case m.Trying:
		return m.Previous, nil
	}
	return m.Generation, nil
}

// change has a machine run a generation, and finds out what is left of it if that fails.
func (k *kubes) change(ctx context.Context, h *host.Host, do func(*kubedeploy.Deployment) (bool, error)) (r rollout.Result, err error) {
	lock, err := artifact.Lock(ctx, k.out, h.Name)
	if err != nil {
		return rollout.Result{Down: true}, lackError{err}
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	d, err := k.in(h)
	if err != nil {
		return rollout.Result{Down: true}, err // nobody knows
	}
	if r.Changed, err = do(d); err == nil {
		return r, nil
	}
	m, unknown := d.Find(ctx)
	r.Down = unknown != nil || m == nil || m.Trying || !m.Ready
	return r, err
}

func (k *kubes) deploy(ctx context.Context, h *host.Host, generation string) (rollout.Result, error) {
	return k.change(ctx, h, func(d *kubedeploy.Deployment) (bool, error) {
		g, err := k.objectsOf(ctx, h, generation)
		if err != nil {
			return false, err
		}
		return d.Deploy(ctx, g)
	})
}

func (k *kubes) back(ctx context.Context, h *host.Host, generation, before string) (rollout.Result, error) {
	return k.change(ctx, h, func(d *kubedeploy.Deployment) (bool, error) {
		return d.Return(ctx, generation, before, func() (kubedeploy.Generation, error) { return k.objectsOf(ctx, h, generation) })
	})
}

// images returns the place whose images the objects name, nil for none.
func (k *kubes) images() (*publish.Place, error) {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	if k.place != nil || !strings.HasPrefix(k.o.from, "oci://") {
		return k.place, nil
	}
	var err error
	if k.place, err = publish.Open(k.o.from, k.publishWays(k.o.plain)); err != nil {
		return nil, usageError{fmt.Errorf("--from: %w", err)}
	}
	return k.place, nil
}

// objectsOf makes the objects of a host's generation, as bake export kubevirt does.
func (k *kubes) objectsOf(ctx context.Context, h *host.Host, generation string) (g kubedeploy.Generation, err error) {
	if err := k.have(ctx, h.Name, generation); err != nil {
		return g, err
	}
	o := exportOptions{hosts: []string{h.Name}, generation: generation, secrets: "include", kube: k.o.kube}
	to, err := host.ParseCluster(h.Domain.URI)
	if err != nil {
		return g, err
	}
	o.kube.Namespace = to.Namespace
	if o.place, err = k.images(); err != nil {
		return g, err
	}
	list, err := k.toExport(ctx, o)
	if err != nil {
		return g, err
	}
	if o.place != nil {
		if o.kube.Image, err = k.published(ctx, o, list[0]); err != nil {
			return g, err
		}
	}
	programs := map[string][]byte{}
	files, err := k.objects(list[0], o, programs)
	if err != nil {
		return g, err
	}
	for _, p := range files.Warnings {
		k.say("%s: warning: %s", p.Pos, p.Message)
	}
	g = kubedeploy.Generation{Name: list[0].generation.Manifest.Generation}
	if g.Plan, err = planOf(ctx, list[0].generation); err != nil {
		return g, err
	}
	for _, program := range programs {
		all, err := kube.Decode(program)
		if err != nil {
			return g, err
		}
		g.Objects = append(g.Objects, all...)
	}
	return g, sortObjects(&g, files)
}

// sortObjects puts the objects of an export where a deployment wants them.
func sortObjects(g *kubedeploy.Generation, files kubevirt.Files) error {
	for _, stream := range [][]byte{files.Secret, files.State, files.Machine} {
		all, err := kube.Decode(stream)
		if err != nil {
			return err
		}
		for _, o := range all {
			switch o.Kind() {
			case "NetworkPolicy":
				g.Policy = o
			case "VirtualMachine":
				g.Machine = o
			default:
				g.Objects = append(g.Objects, o)
			}
		}
	}
	return nil
}

// planOf is the digest of the claims that a generation makes of its machine.
func planOf(ctx context.Context, g artifact.Generation) (string, error) {
	text, err := g.Read(ctx, "claims.json")
	if err != nil {
		return "", err
	}
	var claims struct {
		Attest string `json:"attest"`
	}
	if err := json.Unmarshal(text, &claims); err != nil {
		return "", fmt.Errorf("reading the claims of generation %s: %w", g.Manifest.Generation, err)
	}
	return claims.Attest, nil
}
