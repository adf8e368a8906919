//go:build e2e

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bake/internal/verify"
)

// The boots that guard the main job. Each bakes a host through the command
// line and verifies it in a real machine; but for TestFullMain they run one after
// another, because two machines at once on two cores blur the timing.

// bases are the lab's base images, by the variable that `make e2e` sets.
var bases = map[string]string{
	"debian-12": os.Getenv("BAKE_E2E_DEBIAN_12"),
	"debian-13": os.Getenv("BAKE_E2E_DEBIAN_13"),
	"arm64":     os.Getenv("BAKE_E2E_ARM64"), // `make e2e-arm64`
}

// isFull says whether `make e2e-full` runs this.
func isFull() bool { return os.Getenv("BAKE_E2E_FULL") != "" }

// lab is a configuration, an output directory and a signing key of one test.
type lab struct {
	config, out, key, base string
}

func newLab(t *testing.T, release string) lab {
	t.Helper()
	if bases[release] == "" {
		t.Fatalf("no base image for %s: run this by `make e2e`", release)
	}
	l := lab{config: t.TempDir(), out: t.TempDir(), key: filepath.Join(t.TempDir(), "signing.key"), base: bases[release]}
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

// stderr is what the last command line printed there.
func (l lab) stderr() string { return filepath.Join(l.config, "stderr") }

// line is bake's command line in the lab, without the program.
func (l lab) line(args ...string) []string {
	return append([]string{"--config", l.config, "--out", l.out, "--signing-key", l.key}, args...)
}

// bake runs one command line and returns its exit status and standard output.
func (l lab) bake(t *testing.T, args ...string) (int, string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	e := systemEnv()
	e.Stdout, e.Stderr, e.Terminal = &stdout, &stderr, false
	code := run(context.Background(), e, append([]string{"bake"}, l.line(args...)...))
	if !slices.Contains(args, "--console") {
		t.Logf("%s: exit %d\n%s", strings.Join(args, " "), code, stderr.String())
	}
	if err := os.WriteFile(l.stderr(), stderr.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return code, stdout.String()
}

// verified bakes and boots a host and returns verify's exit status and report.
func (l lab) verified(t *testing.T, host string, options ...string) (int, verify.Report) {
	t.Helper()
	if code, _ := l.bake(t, "image", "--host", host, "--base", l.base); code != 0 {
		t.Fatalf("bake image: exit %d", code)
	}
	code, report := l.verify(t, host, options...)
	for _, result := range report.Results {
		if took := float64(result.Took) / 1000; took > 2 || result.Seconds > 5 {
			t.Logf("%.0f s to try, %.0f s to falsify %s: %s", took, result.Seconds, result.Layer, result.Claim)
		}
	}
	return code, report
}

func (l lab) verify(t *testing.T, host string, options ...string) (int, verify.Report) {
	t.Helper()
	code, text := l.bake(t, append([]string{"verify", "--host", host, "--boot", "--deadline", "45m"}, options...)...)
	t.Log("\n" + text)
	var report verify.Report
	data, err := os.ReadFile(filepath.Join(l.out, host, "latest", "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &report); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(l.out, host, "latest", "report.html"))
	if n := bytes.Count(page, []byte(`<details class="claim `)); err != nil || n != len(report.Results) {
		t.Errorf("the page has %d claims, the report %d: %v", n, len(report.Results), err)
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

// inMain are layers beside the built-in ones: the naive trap, two layers that
// both have runcmd and packages, of which cloud-init's own merge of parts would
// keep the second one's only; and the manual's example of a user's own layer.
func inMain(t *testing.T) map[string]string {
	t.Helper()
	naive := func(name, program, output string) string {
		return "layer: " + name + `
summary: One of two layers with the same keys.
threat: none
packages: [` + program + `]
cloud-config:
  runcmd:
    - [touch, /run/` + name + `]
checks:
  inside:
    - claim: The package of layer ` + name + ` is installed and its command has run.
      run: ` + output + ` && ls /run/` + name + `
      is: "` + name + `\n/run/` + name + `"
      falsify: rm /run/` + name + `
`
	}
	return map[string]string{
		"layers/first/layer.yaml":         naive("first", "hello", "hello -g first"),
		"layers/second/layer.yaml":        naive("second", "tree", "tree --version > /run/v && echo second"),
		"layers/sent/layer.yaml":          sent,
		"layers/motd/layer.yaml":          shown(t, "docs/writing-a-layer.md", "layers/motd/layer.yaml"),
		"layers/motd/files/etc/motd.tmpl": shown(t, "docs/writing-a-layer.md", "layers/motd/files/etc/motd.tmpl"),
	}
}

// shown is the file of that path as a page of the manual shows it.
func shown(t *testing.T, page, path string) string {
	t.Helper()
	all, _ := fences(page, readPage(t, page))
	for _, f := range all {
		if f.path == path {
			return f.text
		}
	}
	t.Fatalf("%s does not show %s", page, path)
	return ""
}

// sent knows what the secrets of the host all are.
const sent = `layer: sent
summary: The secrets arrive as they were sent.
threat: none
requires: [secrets]
checks:
  inside:
    - claim: What has arrived is what was sent, byte by byte.
      run: cat /etc/credstore/api-token /etc/credstore/db.password | cksum
      is: "1921699929 65"
      falsify: echo >>/etc/credstore/api-token
`

// vain has a claim that holds on every machine, and one whose falsify fails
// before it breaks anything.
const vain = `layer: vain
summary: Checks that look like checks.
threat: none
checks:
  inside:
    - claim: Something is so.
      run: "true"
      exit: 0
      falsify: touch /run/x
    - claim: Something else is so.
      run: test ! -e /run/x
      exit: 0
      falsify: cp /nonexistent /run/x
`

// TestFullMain bakes a host with every layer and demands every claim. For `make
// e2e-full` that is done on both releases, side by side, and each claim is falsified as
// well, with the layer vain among them: its checks are named, all others are seen to fail.
func TestFullMain(t *testing.T) {
	releases := []string{"debian-13"}
	if isFull() {
		releases = append(releases, "debian-12")
	}
	labs := make([]lab, len(releases))
	for i, release := range releases {
		labs[i] = newMainLab(t, release)
	}
	for i, release := range releases {
		t.Run(release, func(t *testing.T) {
			t.Parallel() // most claims keep one processor busy
			if isFull() {
				demandLayers(t, labs[i].demandFalsified(t, "all"))
			} else {
				labs[i].demandClaims(t)
			}
		})
	}
}

// newMainLab has the host all, with the layers of inMain and, for `make e2e-full`, vain.
func newMainLab(t *testing.T, release string) lab {
	t.Helper()
	l := newLab(t, release)
	own := inMain(t)
	host, err := os.ReadFile("../../testdata/e2e/hosts/all.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text := string(host) + "  - first\n  - second\n  - motd\n  - sent\n"
	if isFull() {
		own["layers/vain/layer.yaml"] = vain
		text += "  - vain\n"
	}
	if release == "debian-13" {
		text += "cloud-config: {packages: [sudo-rs]}\n" // the layer sudoers asks every sudo there is
	}
	own["hosts/all.yaml"] = text
	for name, content := range own {
		l.write(t, name, content)
	}
	return l
}

// demandClaims wants every claim of the host all to hold and its generation to
// be promoted.
func (l lab) demandClaims(t *testing.T) {
	t.Helper()
	code, report := l.verified(t, "all")
	if code != 0 || report.Failed != 0 {
		t.Errorf("verify: exit %d, %d claims failed", code, report.Failed)
	}
	demandLayers(t, report)
	current, err := os.Readlink(filepath.Join(l.out, "all", "current"))
	if err != nil || current != report.Generation {
		t.Errorf("current is %q (%v), want %s", current, err, report.Generation)
	}
}

// TestE2EZap tries the host of `make demo` on the older release.
func TestE2EZap(t *testing.T) {
	if code, report := newLab(t, "debian-12").verified(t, "zap"); code != 0 || report.Failed != 0 || report.Attestation != "ok" {
		t.Errorf("verify: exit %d, %d claims failed, attestation %q", code, report.Failed, report.Attestation)
	}
}

// TestE2EFalsify falsifies every claim of a small host, and of the layer vain.
func TestE2EFalsify(t *testing.T) {
	l := newLab(t, "debian-13")
	zap, err := os.ReadFile(filepath.Join(l.config, "hosts/zap.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	l.write(t, "hosts/zap.yaml", string(zap)+"  - vain\n")
	l.write(t, "layers/vain/layer.yaml", vain)
	l.demandFalsified(t, "zap")
}

// demandFalsified wants every claim of a host with the layer vain to hold and to be
// seen to fail, but for those of that layer, which keep it from promotion.
func (l lab) demandFalsified(t *testing.T, host string) verify.Report {
	t.Helper()
	code, report := l.verified(t, host, "--falsify")
	if code != 7 || report.Failed != 2 {
		t.Errorf("verify: exit %d, %d claims failed; want exit 7 for the two of vain", code, report.Failed)
	}
	for _, result := range report.Results {
		switch {
		case !result.OK:
			t.Errorf("%s: %s: does not hold: %s", result.Layer, result.Claim, result.Got)
		case result.Where == "console", strings.HasPrefix(result.Claim, "Nobody got an answer"): // what has been cannot be taken back
		case result.Falsified == nil:
			t.Errorf("%s: %s: was not falsified", result.Layer, result.Claim)
		case *result.Falsified == (result.Layer == "vain"):
			t.Errorf("%s: %s: falsified is %v: %s", result.Layer, result.Claim, *result.Falsified, result.After)
		}
	}
	if got := find(t, report, "vain", "Something is").After; got != "this check cannot fail: it still held after touch /run/x" {
		t.Errorf("a check that cannot fail: %q", got)
	}
	if got := find(t, report, "vain", "Something else").After; !strings.HasPrefix(got, "its falsify failed: ") {
		t.Errorf("a falsify that fails: %q", got)
	}
	if _, err := os.Lstat(filepath.Join(l.out, host, "current")); err == nil {
		t.Error("a generation with a check that cannot fail was promoted to current")
	}
	return report
}

// demandLayers wants each layer there is, built in or the test's own, to have
// made a claim: a layer that is missing from the host would pass unseen.
func demandLayers(t *testing.T, report verify.Report) {
	t.Helper()
	seen := map[string]bool{}
	for _, result := range report.Results {
		seen[result.Layer] = true
	}
	folders, err := os.ReadDir("../../layers")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"boot", "first", "second", "motd", "sent"}
	for _, folder := range folders {
		switch folder.Name() {
		case "tailscale": // no Debian archive has its package
		case "payload", "openclaw", "openclaw-container": // in TestFullOpenClaw
		case "state": // in TestFullState
		case "backup": // in TestFullBackupClaims
		case "guest-agent": // in TestFullAgent
		default:
			if folder.IsDir() {
				want = append(want, folder.Name())
			}
		}
	}
	for _, name := range want {
		if !seen[name] {
			t.Errorf("no claim of %s was tried", name)
		}
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

// TestFullBroken replaces the ufw layer by one whose commands are wrong and
// whose claims are the built-in layer's. cloud-init says done; verify must not.
func TestFullBroken(t *testing.T) {
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
			code, report := l.verified(t, "zap")
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
