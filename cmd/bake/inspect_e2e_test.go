//go:build e2e

package main

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"bake/internal/inspect"
)

// agrees demands that the guest says of itself what inspect says of the base
// image that it stands on. The guest may have more packages: layers install
// some.
func (h *house) agrees(t *testing.T, base string) {
	t.Helper()
	found, err := inspect.Look(h.ctx, base)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "inspect and the guest", map[string]string{
		"system":       found.PrettyName,
		"release":      found.Distribution + " " + found.Release + " " + found.Codename,
		"architecture": found.Architecture,
		"cloud-init":   found.CloudInit.Version,
		"systemd":      found.Systemd,
	}, map[string]string{
		"system":       h.run(t, `. /etc/os-release; echo "$PRETTY_NAME"`),
		"release":      h.run(t, `. /etc/os-release; echo "$ID $VERSION_ID $VERSION_CODENAME"`),
		"architecture": h.run(t, "dpkg --print-architecture"),
		"cloud-init":   h.run(t, "cloud-init --version 2>&1 | awk '{ print $NF }'"),           // older ones print it on stderr
		"systemd":      h.run(t, "systemctl --version | sed -n '1s/.*(\\([^)]*\\)).*/\\1/p'"), // systemd 252 (252.39-1~deb12u1)
	})
	if running := h.run(t, "uname -r"); !slices.Contains(found.Kernels, running) {
		t.Errorf("the guest runs the kernel %s, inspect found %q", running, found.Kernels)
	}
	boot := strings.Fields(h.run(t, "ls /boot"))
	for _, kernel := range found.Kernels {
		if !slices.Contains(boot, "vmlinuz-"+kernel) {
			t.Errorf("inspect found the kernel %s, the guest's /boot has %q", kernel, boot)
		}
	}
	h.agreesOnPackages(t, found.Packages)
}

func (h *house) agreesOnPackages(t *testing.T, found []inspect.Package) {
	t.Helper()
	const query = `dpkg-query -W -f '${Package} ${Version} ${Architecture} ${db:Status-Abbrev}\n'`
	versions := map[[2]string]string{} // by name and architecture
	for line := range strings.Lines(h.run(t, query)) {
		if words := strings.Fields(line); len(words) == 4 && words[3] == "ii" {
			versions[[2]string{words[0], words[2]}] = words[1]
		}
	}
	wrong := 0
	for _, p := range found {
		if got := versions[[2]string{p.Name, p.Architecture}]; got != p.Version {
			t.Errorf("inspect found %s %s %s, the guest has %q", p.Name, p.Version, p.Architecture, got)
			wrong++
		}
	}
	t.Logf("%d of %d packages agree; the guest has %d", len(found)-wrong, len(found), len(versions))
	if len(found) < 100 {
		t.Errorf("inspect found %d packages: nothing was compared", len(found))
	}
}

// TestFullInspect compares on Debian 12, on a machine to which nothing was
// added: there inspect has found every package, too.
func TestFullInspect(t *testing.T) {
	l := newLab(t, "debian-12")
	head, _, _ := strings.Cut(streetHost, "layers:\n")
	l.write(t, "layers/nothing/layer.yaml", nothing)
	l.write(t, "hosts/zap.yaml", head+"layers: [nothing]\n")
	if code, _ := l.bake(t, "image", "--host", "zap", "--base", l.base); code != 0 {
		t.Fatalf("bake image: exit %d", code)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
	defer cancel()
	h := settle(ctx, t, l, newStreet(t))
	h.agrees(t, l.base)
	found, err := inspect.Look(ctx, l.base)
	if err != nil {
		t.Fatal(err)
	}
	if has := strings.Count(h.run(t, "dpkg-query -W -f '${db:Status-Abbrev}\n'"), "ii"); has != len(found.Packages) {
		t.Errorf("the guest has %d packages, inspect found %d", has, len(found.Packages))
	}
}
