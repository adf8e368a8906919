//go:build e2e

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bake/internal/verify"
)

// The boots that guard the main job. Each bakes a host through the command
// line and verifies it in a real machine; they run one after another, because
// two machines at once on two cores take as long and blur the timing.

// bases are the lab's base images, by the variable that `make e2e` sets.
var bases = map[string]string{
	"debian-12": os.Getenv("BAKE_E2E_DEBIAN_12"),
	"debian-13": os.Getenv("BAKE_E2E_DEBIAN_13"),
}

// lab is a configuration and an output directory of one test.
type lab struct {
	config, out, base string
}

func newLab(t *testing.T, release string) lab {
	t.Helper()
	if bases[release] == "" {
		t.Fatalf("no base image for %s: run this by `make e2e`", release)
	}
	l := lab{config: t.TempDir(), out: t.TempDir(), base: bases[release]}
	zap, err := os.ReadFile("../../hosts/zap.yaml")
	if err != nil {
		t.Fatal(err)
	}
	l.write(t, "hosts/zap.yaml", string(zap))
	return l
}

func (l lab) write(t *testing.T, name, content string) {
	t.Helper()
	path := filepath.Join(l.config, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// bake runs one command line and returns its exit status and standard output.
func (l lab) bake(t *testing.T, args ...string) (int, string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	e := systemEnv()
	e.Stdout, e.Stderr, e.Terminal = &stdout, &stderr, false
	line := append([]string{"bake", "--config", l.config, "--out", l.out}, args...)
	code := run(context.Background(), e, line)
	t.Logf("%s: exit %d\n%s", strings.Join(args, " "), code, stderr.String())
	return code, stdout.String()
}

// verified bakes and boots host zap and returns verify's exit status and report.
func (l lab) verified(t *testing.T) (int, verify.Report) {
	t.Helper()
	if code, _ := l.bake(t, "image", "--host", "zap", "--base", l.base); code != 0 {
		t.Fatalf("bake image: exit %d", code)
	}
	code, text := l.bake(t, "verify", "--host", "zap", "--boot")
	t.Log("\n" + text)
	var report verify.Report
	data, err := os.ReadFile(filepath.Join(l.out, "zap", "latest", "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &report); err != nil {
		t.Fatal(err)
	}
	return code, report
}

// find returns the result of a claim, known by its first words.
func find(t *testing.T, report verify.Report, layer, start string) verify.Result {
	t.Helper()
	for _, result := range report.Results {
		if result.Layer == layer && strings.HasPrefix(result.Claim, start) {
			return result
		}
	}
	t.Fatalf("the report has no claim %s: %s...", layer, start)
	return verify.Result{}
}

// The naive trap: two layers that both have runcmd and packages. cloud-init's
// own merge of parts would keep the second one's only.
var naive = map[string]string{
	"layers/first/layer.yaml": `layer: first
summary: One of two layers with the same keys.
threat: none
packages: [hello]
cloud-config:
  runcmd:
    - [touch, /run/first]
checks:
  inside:
    - claim: The first layer's package is installed and its command has run.
      run: hello -g first && ls /run/first
      is: "first\n/run/first"
      falsify: rm /run/first
`,
	"layers/second/layer.yaml": `layer: second
summary: The other of two layers with the same keys.
threat: none
packages: [tree]
cloud-config:
  runcmd:
    - [touch, /run/second]
checks:
  inside:
    - claim: The second layer's package is installed and its command has run.
      run: tree --version | grep -c . && ls /run/second
      is: "1\n/run/second"
      falsify: rm /run/second
`,
}

// TestE2EMain bakes zap with the naive trap in it and demands every claim, on
// both releases.
func TestE2EMain(t *testing.T) {
	for _, release := range []string{"debian-13", "debian-12"} {
		t.Run(release, func(t *testing.T) {
			l := newLab(t, release)
			for name, content := range naive {
				l.write(t, name, content)
			}
			zap, err := os.ReadFile(filepath.Join(l.config, "hosts/zap.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			l.write(t, "hosts/zap.yaml", string(zap)+"  - first\n  - second\n")
			code, report := l.verified(t)
			if code != 0 || report.Failed != 0 {
				t.Errorf("verify: exit %d, %d claims failed", code, report.Failed)
			}
			for _, name := range []string{"first", "second"} {
				if !find(t, report, name, "The "+name).OK {
					t.Errorf("the layer %s did not take effect", name)
				}
			}
			// The three stamps, in the guest's own words.
			t.Logf("%s: %s", release, find(t, report, "ufw", "The firewall was closed before").Got)
			current, err := os.Readlink(filepath.Join(l.out, "zap", "current"))
			if err != nil || current != report.Generation {
				t.Errorf("current is %q (%v), want %s", current, err, report.Generation)
			}
		})
	}
}

// broken are ways to get the ufw layer wrong that cloud-init is content with.
var broken = map[string]struct {
	bootcmd string
	fails   []string
}{
	"enable removed": {
		bootcmd: "    - ufw default deny incoming && ufw allow 22/tcp\n",
		fails:   []string{"UFW is active", "The kernel drops", "The listed TCP ports"},
	},
	// ufw closes the machine, finds the rule bad and notes that it shall not be
	// enabled: the firewall is there until the next boot, and then no more.
	"a bad rule": {
		bootcmd: `    - ufw default deny incoming && ufw allow 22/tcp
    - printf '*filter\n-A ufw-after-input -j NOSUCHCHAIN\nCOMMIT\n' >> /etc/ufw/after.rules
    - ufw --force enable
    - touch /run/firewall-configured
`,
		fails: []string{"UFW loads the same rules at the next boot"},
	},
}

// TestE2EBroken replaces the ufw layer by one whose commands are wrong and
// whose claims are the built-in layer's. cloud-init says done; verify must not.
func TestE2EBroken(t *testing.T) {
	builtin, err := os.ReadFile("../../layers/ufw/layer.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, checks, ok := strings.Cut(string(builtin), "\nchecks:\n")
	if !ok {
		t.Fatal("the layer ufw has no checks")
	}
	for name, b := range broken {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, "debian-13")
			l.write(t, "layers/ufw/layer.yaml", `layer: ufw
replaces: ufw
summary: The ufw layer, gone wrong.
threat: A firewall that everybody believes in.
params:
  allow_tcp: {type: ports, default: [22], help: TCP ports that answer.}
cloud-config:
  bootcmd:
`+b.bootcmd+"checks:\n"+checks)
			code, report := l.verified(t)
			if code != 7 {
				t.Errorf("verify: exit %d, want 7", code)
			}
			if status := find(t, report, "boot", "cloud-init finished"); !status.OK {
				t.Errorf("cloud-init should be content with this machine, but: %s", status.Got)
			}
			for _, claim := range b.fails {
				if find(t, report, "ufw", claim).OK {
					t.Errorf("the claim %q held on a machine without its firewall", claim)
				}
			}
			if _, err := os.Lstat(filepath.Join(l.out, "zap", "current")); err == nil {
				t.Error("a generation that failed was promoted to current")
			}
		})
	}
}
