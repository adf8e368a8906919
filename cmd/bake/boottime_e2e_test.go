//go:build e2e

package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"bake/internal/vm"
)

// bootRounds is how often each kind of machine is booted, in turns with the others, so that
// what else this machine does is borne by all.
const bootRounds = 3

// booted boots a host and returns after how many seconds of its own clock it was up: open,
// as its gate has noted, or if it does not attest, when cloud-init had finished.
func booted(t *testing.T, host string, attests bool) float64 {
	t.Helper()
	l := newLab(t, "debian-13")
	l.write(t, "hosts/zap.yaml", host)
	l.write(t, "layers/nothing/layer.yaml", nothing)
	up := `print(os.stat("/run/bake/attested").st_mtime - time.time() + now)`
	if !attests {
		l.write(t, "layers/attest/layer.yaml", unattested["the plain image"]+`checks: {outside: [{none: This one does not attest.}]}
`)
		// cloud-init 22.4 has the time of day there.
		up = `print(json.load(open("/var/lib/cloud/data/status.json"))["v1"]["modules-final"]["finished"])`
	}
	if code, _ := l.bake(t, "image", "--host", "zap", "--base", l.base); code != 0 {
		t.Fatalf("bake image: exit %d", code)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 45*time.Minute)
	defer cancel()
	h := begin(ctx, t, l, func(*vm.Spec) {})
	// What cloud-init prints on the console while getty starts there may be lost.
	for tries := 0; !attests && tries < 2; tries++ {
		err := h.printedKeys()
		if err == nil {
			break
		}
		t.Logf("once more: %v", err)
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		h = begin(ctx, t, l, func(*vm.Spec) {})
	}
	if attests {
		if verdict := h.verdicts(t, 1); !verdict.OK {
			t.Fatalf("the machine stayed shut: %+v", verdict)
		}
	}
	h.enter(t)
	h.run(t, "cloud-init status --wait || :") // it may be sealed
	var end, now float64
	out := h.run(t, `python3 -c '
import json, os, time
now = float(open("/proc/uptime").read().split()[0])
`+up+`
print(now)'`)
	if _, err := fmt.Sscan(out, &end, &now); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if attests {
		t.Log(h.run(t, `python3 -c '
import json
report = json.load(open("/var/lib/bake/report.json"))
print(report["moments"])
for result in report["results"]: print(result)'`))
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if end <= 0 || end > now {
		t.Fatalf("it was up after %f of %f s: that is not the guest's own clock", end, now)
	}
	return end
}

// printedKeys waits until the host keys have come over the console.
func (h *house) printedKeys() error {
	ctx, cancel := context.WithTimeout(h.ctx, 10*time.Minute)
	defer cancel()
	_, err := h.HostKeys(ctx)
	return err
}

func median(values []float64) float64 { return slices.Sorted(slices.Values(values))[len(values)/2] }

// zapLayers is the host of make demo, and the same with other layers, or none but
// nothing.
func zapLayers(t *testing.T, layers string) (own, other string) {
	t.Helper()
	zap, err := os.ReadFile("../../hosts/zap.yaml")
	if err != nil {
		t.Fatal(err)
	}
	head, _, _ := strings.Cut(string(zap), "\nlayers:\n")
	return string(zap), head + "\nlayers:\n" + layers
}

// TestFullAttestCost boots the same host with and without attestation, in turns,
// and compares how long the guest's own clock says it took: to the end of
// cloud-init, and to that of the gate.
func TestFullAttestCost(t *testing.T) {
	zap, _ := zapLayers(t, "")
	var with, without []float64
	for range bootRounds {
		with = append(with, booted(t, zap, true))
		without = append(without, booted(t, zap, false))
	}
	t.Logf("up after: attested %.1f s (%.1f), without %.1f s (%.1f); ratio of the medians %.3f",
		median(with), with, median(without), without, median(with)/median(without))
}

// TestBenchFirstBoot boots the layers that need most packages, with these in the payload
// and from the network, and the base image as it comes, in turns.
func TestBenchFirstBoot(t *testing.T) {
	const packages = "  - ssh\n  - ufw\n  - fail2ban\n  - docker\n  - docker-user\n"
	_, offline := zapLayers(t, packages)
	_, plain := zapLayers(t, "  - nothing\n")
	var payload, network, none []float64
	for range bootRounds {
		payload = append(payload, booted(t, offline, true))
		network = append(network, booted(t, offline+"payload: none\n", true))
		none = append(none, booted(t, plain, false))
	}
	t.Logf("first boot: %.1f s with a payload (%.1f), %.1f s from the network (%.1f), %.1f s of the plain image (%.1f)",
		median(payload), payload, median(network), network, median(none), none)
	t.Logf("a payload takes %.2f of the network's time and %.2f of the plain image's", median(payload)/median(network), median(payload)/median(none))
}
