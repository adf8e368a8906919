package hypervisor_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bake/internal/deploy"
	"bake/internal/hypervisor"
)

// TestLostVerdict: a verdict that its log has grown past is taken from the file before, or from
// the guest's report; and where there is none nobody makes one up.
func TestLostVerdict(t *testing.T) {
	_, uri := hypervisor.DaemonForTest(t)
	at := again(t, uri)
	t.Cleanup(func() { _ = at.Close() })
	const (
		generation = "0123456789abcdef"
		noisy      = "[  500.0] x\n"
		begins     = "[    0.000000] Linux version 6.12\n"
	)
	plan := strings.Repeat("a", 64)
	verdict := "BAKE-RESULT v1 ok plan=" + plan + " claims=24 failed=0 report=" + plan + " end\n"
	long := strings.Repeat(noisy, 6<<20/len(noisy))
	report := `{"ok": true, "plan": "` + plan + `", "results": [{"ok": true}]}` + "\n"
	for name, test := range map[string]struct {
		log, before, report string
		ok                  bool
		reason              string
	}{
		"in the file before":     {log: noisy, before: begins + verdict, ok: true},
		"in the report":          {log: long, report: report, ok: true},
		"another plan's":         {log: long, report: strings.Replace(report, plan, "b", 1), reason: "other claims"},
		"it has stayed shut":     {log: long, report: `{"plan": "` + plan + `", "results": [{"layer": "ufw", "claim": "x"}]}`, reason: "stayed shut: 1 of 1 claims failed, first ufw: x"},
		"nowhere":                {log: long, reason: "no verdict within"},
		"nowhere, and not later": {log: begins + noisy, report: report, reason: "no verdict within"},
	} {
		t.Run(name, func(t *testing.T) {
			images := filepath.Join(t.TempDir(), "images")
			for file, text := range map[string]string{"console.log": test.log, "console.log.0": test.before, "report.json": test.report, generation + "/claims.json": `{"attest": "` + plan + `"}`} {
				path := filepath.Join(images, "zap", file)
				if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil {
					t.Fatal(err)
				}
				if text == "" {
					continue
				}
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			console := &deploy.Console{At: at, Host: deploy.Host{Name: "zap", Images: images}, Dir: t.TempDir(), Deadline: 3 * time.Second}
			got, err := console.Wait(context.Background(), generation)
			if err != nil || got.OK != test.ok || !strings.Contains(got.Reason, test.reason) {
				t.Errorf("%+v, %v", got, err)
			}
			if err := console.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
