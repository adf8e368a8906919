//go:build e2e

package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"bake/internal/exposure"
	"bake/internal/verify"
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
