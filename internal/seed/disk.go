package seed

import (
	"fmt"
	"slices"
	"strings"

	"bake/internal/host"
)

// A Disk is one that the machine has, and what is on it.
type Disk struct {
	Name    string   `json:"name"` // the serial: /dev/disk/by-id/virtio-NAME
	Lasts   string   `json:"lasts"`
	Content []string `json:"content"`
}

// Disks says what is on which disk of a machine.
func (s Seed) Disks(h *host.Host) ([]Disk, error) {
	all := []Disk{{"bake-root", "begins anew with each generation", []string{fmt.Sprintf("%s, %s", h.Base, sizeOf(h.Machine.Disk)), "what cloud-init writes and installs"}}}
	files, err := contents(s)
	if err != nil {
		return nil, err
	}
	words := Disk{"bake-seed", "read at the first boot, read-only", nil}
	for _, f := range files {
		words.Content = append(words.Content, fmt.Sprintf("%s, %d bytes", f.name, len(f.data)))
	}
	all = append(all, words)
	if len(h.Secrets) > 0 {
		d := Disk{"bake-secrets", "read at the first boot, read-only", nil}
		for _, secret := range h.Secrets {
			d.Content = append(d.Content, "the secret "+secret.Name)
		}
		all = append(all, d)
	}
	if h.Offline {
		d := Disk{"bake-payload", "read at the first boot, read-only", nil}
		for _, l := range h.Layers {
			if parts := append(slices.Clone(l.Packages), l.Payload...); len(parts) > 0 {
				d.Content = append(d.Content, fmt.Sprintf("for %s: %s, and what they need", l.Name, strings.Join(parts, ", ")))
			}
		}
		all = append(all, d)
	}
	if h.Machine.State > 0 {
		d := Disk{"bake-state", "outlives generations", []string{sizeOf(h.Machine.State), "ssh host keys"}}
		for _, l := range h.Layers {
			for _, dir := range l.State {
				d.Content = append(d.Content, fmt.Sprintf("%s, of %s", dir.Dir, l.Name))
			}
		}
		all = append(all, d)
	}
	for _, disk := range h.Machine.Disks {
		all = append(all, Disk{disk.Name, "not bake's", []string{disk.Path}})
	}
	for _, l := range h.Layers {
		for _, share := range l.Shares {
			all = append(all, Disk{share.Tag, "a directory of the hypervisor, by virtiofs", []string{fmt.Sprintf("%s, of %s", share.Dir, l.Name)}})
		}
	}
	return all, nil
}

// sizeOf is a size in whole MiB as a host file would have it.
func sizeOf(bytes int64) string {
	if bytes%(1<<30) == 0 {
		return fmt.Sprintf("%d GiB", bytes>>30)
	}
	return fmt.Sprintf("%d MiB", bytes>>20)
}
