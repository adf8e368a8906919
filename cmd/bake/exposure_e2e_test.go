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

	"bake/internal/exposure"
	"bake/internal/verify"
	"bake/internal/vm"
)

// unattested are machines without a gate, to compare with: as the image comes,
// and with a firewall that is set up where most people do it.
var unattested = map[string]string{
	"the plain image": `layer: attest
replaces: attest
summary: Leave everything as the image has it.
threat: none
`,
	"ufw by runcmd": `layer: attest
replaces: attest
summary: A firewall, set up when everything else has been.
threat: none
cloud-config:
  runcmd:
    - ufw default deny incoming
    - ufw allow 22/tcp
    - ufw --force enable
`,
}

// demandUnexposed wants the report's neighbours to have asked, often, and to have
// got nothing before the guest opened, then port 22 alone.
func demandUnexposed(t *testing.T, report verify.Report) {
	t.Helper()
	if report.Exposure == nil {
		t.Fatal("nobody asked")
	}
	var timeline strings.Builder
	if err := report.Exposure.Timeline(&timeline, report.Exposure.Moments); err != nil {
		t.Fatal(err)
	}
	t.Logf("generation %s:\n%s", report.Generation, timeline.String())
	if result := find(t, report, "boot", "Nobody got an answer"); !result.OK {
		t.Errorf("answers: %s", result.Got)
	}
	for _, family := range []int{4, 6} {
		if !slices.ContainsFunc(report.Exposure.First, func(a exposure.Answer) bool {
			return a.Kind == exposure.Accepted && a.Family == family && a.Port == 22
		}) {
			t.Errorf("port 22 never answered over IPv%d: nothing was measured", family)
		}
	}
	if report.Exposure.Rate < 15 { // 20, less what a busy machine loses
		t.Errorf("port 22 was asked %.1f times a second", report.Exposure.Rate)
	}
}

// TestFullExposure measures five boots, and two machines that are not shut.
func TestFullExposure(t *testing.T) {
	for name, layer := range unattested {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, "debian-13")
			l.write(t, "layers/attest/layer.yaml", layer)
			l.write(t, "layers/nothing/layer.yaml", nothing)
			zap, err := os.ReadFile("../../hosts/zap.yaml")
			if err != nil {
				t.Fatal(err)
			}
			head, _, _ := strings.Cut(string(zap), "\nlayers:\n")
			l.write(t, "hosts/zap.yaml", head+"\nlayers: [nothing]\n")
			_, report := l.verified(t, "zap", "--exposure")
			early := report.Exposure.Answers(1<<62, nil)
			if len(early) < 2 {
				t.Errorf("a machine that is not shut gave %d answers: nothing was measured", len(early))
			}
		})
	}
	for n, release := range []string{"debian-13", "debian-12", "debian-13", "debian-12", "debian-13"} {
		t.Run(fmt.Sprintf("boot %d, %s", n+1, release), func(t *testing.T) {
			code, report := newLab(t, release).verified(t, "zap", "--exposure")
			if code != 0 {
				t.Errorf("verify: exit %d", code)
			}
			demandUnexposed(t, report)
		})
	}
}

// TestFullAttestCost boots the same host with and without attestation, in turns,
// and compares how long the guest's own clock says it took: to the end of
// cloud-init, and to the gate's.
func TestFullAttestCost(t *testing.T) {
	const rounds = 3
	var with, without []float64
	for range rounds {
		l := newLab(t, "debian-13")
		_, report := l.verified(t, "zap")
		if report.Moments.Attested == 0 {
			t.Fatal("the machine has not attested")
		}
		with = append(with, float64(report.Moments.Attested)/1000)
		for _, result := range report.Results {
			t.Logf("%6d ms  %s: %s", result.Took, result.Layer, result.Claim)
		}

		l = newLab(t, "debian-13")
		l.write(t, "layers/attest/layer.yaml", unattested["the plain image"]+`checks: {outside: [{none: This one does not attest.}]}
`)
		if code, _ := l.bake(t, "image", "--host", "zap", "--base", l.base); code != 0 {
			t.Fatalf("bake image: exit %d", code)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
		h := begin(ctx, t, l, func(*vm.Spec) {})
		if _, err := h.HostKeys(ctx); err != nil {
			t.Fatal(err)
		}
		h.enter(t)
		h.run(t, "cloud-init status --wait")
		var end float64
		if _, err := fmt.Sscan(h.run(t, `python3 -c '
import json
stages = json.load(open("/var/lib/cloud/data/status.json"))["v1"]
booted = [float(l.split()[1]) for l in open("/proc/stat") if l.startswith("btime")][0]
print(stages["modules-final"]["finished"] - booted)'`), &end); err != nil {
			t.Fatal(err)
		}
		without = append(without, end)
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		cancel()
	}
	slices.Sort(with)
	slices.Sort(without)
	t.Logf("up after: attested %.1f s (%.1f), without %.1f s (%.1f); ratio of the medians %.3f",
		with[rounds/2], with, without[rounds/2], without, with[rounds/2]/without[rounds/2])
}
