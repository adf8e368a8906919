package main

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"bake/internal/artifact"
	"bake/internal/claim"
	"bake/internal/tool"
	"bake/internal/verify"
	"bake/layers"
)

// booted runs bake in this process with a machine that is what boot says.
func (w workshop) booted(t *testing.T, boot func(verify.Options) (verify.Report, error), args ...string) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	e := systemEnv()
	e.Stdout, e.Stderr, e.Terminal, e.Layers = &stdout, &stderr, false, layers.FS
	e.Boot = func(_ context.Context, o verify.Options) (verify.Report, error) {
		o.Say(o.Plan.Host + ": cloud-init is done after 57 s")
		return boot(o)
	}
	args = append([]string{"bake", "--config", w.dir, "--out", filepath.Join(w.dir, "out")}, args...)
	code := run(context.Background(), e, args)
	return outcome{code, stdout.String(), stderr.String()}
}

// judged is a machine of which one claim is tried.
func judged(ok bool) func(verify.Options) (verify.Report, error) {
	return func(o verify.Options) (verify.Report, error) {
		result := verify.Result{Result: claim.Result{Layer: "ufw", Claim: "UFW is active.", OK: ok}}
		report := verify.Report{Host: o.Plan.Host, Generation: o.Generation, Results: []verify.Result{result}}
		if !ok {
			report.Failed = 1
		}
		return report, nil
	}
}

func TestImageBoots(t *testing.T) {
	w := newWorkshop(t)
	w.write(t, "hosts/zip.yaml", strings.Replace(hostFixture, "host: zap", "host: zip", 1), 0o644)
	out := filepath.Join(w.dir, "out")
	current := func() string {
		g, _ := artifact.Open(out, "zap", "current")
		return g.Dir
	}

	bad := w.booted(t, judged(false), "image", "--host", "zap", "--host", "zip", "--boot")
	latest, err := artifact.Open(out, "zap", "latest")
	if err != nil {
		t.Fatal(err)
	}
	other, _ := artifact.Open(out, "zip", "latest")
	if want := latest.Dir + "\n" + other.Dir + "\n"; bad.code != 7 || bad.stdout != want || current() != "" {
		t.Errorf("exit status %d, stdout %q, current %q", bad.code, bad.stdout, current())
	}
	for _, words := range []string{
		"bake: zap: generation " + latest.Manifest.Generation + ", not verified yet\n",
		"bake: zap: cloud-init is done after 57 s\n", "bake: zip: cloud-init is done after 57 s\n",
		"bake: zap is not what was specified: 1 of 1 claims failed, first ufw: UFW is active.\n",
		"bake: zip: the report is " + other.Path("report.txt") + "\n",
	} {
		if !strings.Contains(bad.stderr, words) {
			t.Errorf("does not say %q:\n%s", words, bad.stderr)
		}
	}

	good := w.booted(t, judged(true), "image", "--host", "zap", "--boot", "--accel", "tcg", "--deadline", "1m")
	if want := "bake: zap: 1 claims, all hold: " + latest.Path("report.txt") + "\n"; good.code != 0 ||
		good.stdout != latest.Dir+"\n" || !strings.HasSuffix(good.stderr, want) || current() != latest.Dir {
		t.Errorf("exit status %d, stdout %q, stderr %q, current %q", good.code, good.stdout, good.stderr, current())
	}

	var asked verify.Options
	broken := w.booted(t, func(o verify.Options) (verify.Report, error) {
		asked = o
		return verify.Report{}, &tool.MissingError{Name: "qemu-system-x86_64"}
	}, "image", "--host", "zap", "--host", "zip", "--boot", "--quiet", "--console", "--accel", "kvm", "--deadline", "3m")
	if broken.code != 4 || broken.stderr != "bake: qemu-system-x86_64 is not installed\n" {
		t.Errorf("exit status %d, stderr %q", broken.code, broken.stderr)
	}
	if asked.Accel != "kvm" || asked.Deadline.Minutes() != 3 || asked.Console == nil || asked.Generation != latest.Manifest.Generation || asked.Falsify {
		t.Errorf("asked for %+v", asked)
	}
	if o := w.booted(t, nil, "image", "--host", "zap"); o.code != 0 || !strings.Contains(o.stderr, "verified before") {
		t.Errorf("exit status %d, stderr %q", o.code, o.stderr)
	}
}

// verify shares the boot, and prints the report as its product.
func TestVerifyBoots(t *testing.T) {
	w := newWorkshop(t)
	w.expect(t, w.command("image", "--host", "zap"), 0)
	for name, test := range map[string]struct {
		boot func(verify.Options) (verify.Report, error)
		code int
		want string // on standard output
	}{
		"it holds":         {judged(true), 0, "1 claims: "},
		"it does not":      {judged(false), 7, "FAIL  ufw: UFW is active."},
		"nothing to try":   {func(verify.Options) (verify.Report, error) { return verify.Report{Host: "zap"}, nil }, 7, "0 claims: "},
		"it cannot be had": {func(verify.Options) (verify.Report, error) { return verify.Report{}, errors.New("no") }, 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			o := w.booted(t, test.boot, "verify", "--host", "zap", "--boot")
			if o.code != test.code || !strings.Contains(o.stdout, test.want) || test.want == "" && o.stdout != "" ||
				!strings.HasPrefix(o.stderr, "bake: zap: cloud-init is done after 57 s\n") {
				t.Errorf("exit status %d, stdout %q, stderr %q", o.code, o.stdout, o.stderr)
			}
			if o := w.booted(t, test.boot, "verify", "--host", "zap", "--boot", "-q"); strings.Contains(o.stderr, "57 s") {
				t.Errorf("quiet, yet: %q", o.stderr)
			}
		})
	}
}
