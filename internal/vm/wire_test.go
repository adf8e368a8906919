package vm

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// With a hub the first card is on it, and the descriptor is the last of all.
func TestWireOnTheCommandLine(t *testing.T) {
	spec := Spec{Accel: tcg, VCPUs: 1, Memory: 1 << 30, Cards: make([]*os.File, 2), Ports: []string{"a", "b", "c"}}
	plain := spec.command(firmware{}, nil, nil, lan{})
	if slices.ContainsFunc(plain, func(arg string) bool { return strings.Contains(arg, "hub") || strings.Contains(arg, "wire") }) {
		t.Errorf("a hub that nobody asked for: %q", plain)
	}
	spec.Wire = true
	wired := spec.command(firmware{}, nil, nil, lan{})
	for _, want := range []string{fmt.Sprintf("socket,id=wire,fd=%d", tapFD+2+3), "hubport,id=hub0,hubid=0",
		"hubport,id=hub1,hubid=0,netdev=net0", "hubport,id=hub2,hubid=0,netdev=wire", "virtio-net-pci,romfile=,netdev=hub0"} {
		if !slices.Contains(wired, want) {
			t.Errorf("%q is missing in %q", want, wired)
		}
	}
	if slices.Contains(wired, "virtio-net-pci,romfile=,netdev=net0") {
		t.Error("the card is not on the hub")
	}
}
