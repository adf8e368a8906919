//go:build e2e

package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"bake/internal/archive"
)

// keeperLayer is a service that never rests: the writer of TestLiveWriter, as a user of
// its own, with its state on the disk that outlives the machine.
const keeperLayer = `layer: keeper
summary: Stand in for an agent that keeps something and never rests.
threat: none
state: [/var/lib/keeper: 783]
files:
  /usr/local/lib/keeper.py: {when: boot}
  /etc/systemd/system/keeper.service: {when: boot}
cloud-config:
  bootcmd:
    - |
      getent group keeper || groupadd --system --gid 783 keeper
      getent passwd keeper || useradd --system --uid 783 --gid 783 --no-create-home keeper
      mkdir -p /etc/systemd/system/bake-attested.target.wants
      ln -sfn ../keeper.service /etc/systemd/system/bake-attested.target.wants/keeper.service
      systemctl daemon-reload
checks:
  inside:
    - claim: Its user has the number that its state belongs to.
      run: id -u keeper
      is: 783
      falsify: sed -i '/^keeper/s/783/784/' /etc/passwd
`

const keeperService = `[Unit]
RequiresMountsFor=/var/lib/keeper
[Service]
User=keeper
UMask=0077
ExecStart=/usr/bin/python3 /usr/local/lib/keeper.py
`

// keeperProgram goes on where it was, and rests a moment: guests are slow.
var keeperProgram = strings.NewReplacer(`os.chdir(sys.argv[1] + "/state")`, `import time; os.makedirs("/var/lib/keeper/state", exist_ok=True); os.chdir("/var/lib/keeper/state")`,
	"CREATE TABLE", "CREATE TABLE IF NOT EXISTS", "n = 0\n", `n = db.execute("SELECT coalesce(max(n), 0) FROM t").fetchone()[0]`+"\n",
	"    n += 1\n", "    n += 1; time.sleep(0.05)\n").Replace(writer)

// patienceLayer is for an emulated machine. A thread of the gateway needs 0.4 s to come up,
// and six to ten where the processor is emulated; with more than five the gateway gives
// up, and has no setting for it.
const patienceLayer = `layer: patience
summary: Give the gateway a minute for what it gives itself five seconds.
threat: none
files:
  /usr/local/lib/patience.cjs: {when: boot}
  /etc/systemd/system/openclaw.service.d/patience.conf: {when: boot}
checks:
  inside:
    - claim: The gateway is to load it.
      run: systemctl show -P Environment openclaw.service
      has: patience
      falsify: rm /etc/systemd/system/openclaw.service.d/patience.conf; systemctl daemon-reload
`

const patienceUnit = `[Service]
Environment=NODE_OPTIONS=--require=/usr/local/lib/patience.cjs
`

const patienceProgram = `const after = globalThis.setTimeout;
globalThis.setTimeout = Object.assign((f, ms, ...more) => after(f, ms === 5000 ? 60000 : ms, ...more), after);
`

const backupLayers = `  - keeper
  - backup: {keys: ["KEY"], units: [keeper.service], exclude: []}
`

// keepSomething writes the layer keeper, and returns the layers of its host.
func (l lab) keepSomething(t *testing.T, key string) string {
	t.Helper()
	l.write(t, "layers/keeper/layer.yaml", keeperLayer)
	l.write(t, "layers/keeper/files/etc/systemd/system/keeper.service", keeperService)
	l.write(t, "layers/keeper/files/usr/local/lib/keeper.py", keeperProgram)
	command(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "backup's", "-f", key)
	public, err := os.ReadFile(key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Replace(backupLayers, "KEY", strings.TrimSpace(string(public)), 1)
}

// TestFullBackupClaims has every claim of the layer hold, and fail when it is made wrong.
func TestFullBackupClaims(t *testing.T) {
	l := newLab(t, "debian-13")
	layers := l.keepSomething(t, filepath.Join(t.TempDir(), "backup"))
	head, _, _ := strings.Cut(keptHost, "  - service-hardening")
	l.write(t, "hosts/zap.yaml", head+layers)
	code, report := l.verified(t, "zap", "--falsify")
	n := 0
	for _, result := range report.Results {
		if !result.OK {
			t.Errorf("%s: %s: %s", result.Layer, result.Claim, result.Got)
		}
		if result.Layer != "backup" {
			continue
		}
		if n++; result.Falsified == nil || !*result.Falsified {
			t.Errorf("%s: was not falsified: %s", result.Claim, result.After)
		}
	}
	if code != 0 || n != 5 {
		t.Errorf("exit %d, %d claims of the layer backup", code, n)
	}
}

// circle is a machine on a hypervisor of its own, with a store beside it.
type circle struct {
	*rack
	backupKey string
	home      string // of the bake that is run
}

func newCircle(t *testing.T) *circle {
	t.Helper()
	patience := ""
	if isEmulated(t) {
		patience = "  - patience\n"
	}
	c := &circle{rack: newRack(t), backupKey: filepath.Join(t.TempDir(), "backup"), home: t.TempDir()}
	kept := c.keepSomething(t, c.backupKey)
	public, err := os.ReadFile(c.login + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	c.write(t, "hosts/zap.yaml", `host: zap
base: debian:13
machine: {vcpus: 2, memory: 4GiB, disk: 10GiB, state: 512MiB, images: `+c.images+`}
network: {isolated: false}
domain: {uri: "qemu:///system?socket=`+c.dir+`/run/libvirt-sock"}
admin: {name: ops, keys: ["`+strings.TrimSpace(string(public))+`"]}
layers:
  - ssh
  - ufw: {allow_tcp: [22]}
  - service-hardening
  - openclaw
`+patience+strings.Replace(kept, "[keeper.service]", "[keeper.service, openclaw.service]", 1))
	c.write(t, "layers/patience/layer.yaml", patienceLayer)
	c.write(t, "layers/patience/files/etc/systemd/system/openclaw.service.d/patience.conf", patienceUnit)
	c.write(t, "layers/patience/files/usr/local/lib/patience.cjs", patienceProgram)
	c.write(t, "backup.yaml", "default: {repository: "+c.home+"/repository, password: {file: password}, login: {identity: "+c.backupKey+"}}\n")
	c.write(t, "password", "correct horse")
	if err := os.Chmod(filepath.Join(c.config, "password"), 0o600); err != nil {
		t.Fatal(err)
	}
	return c
}

// in runs bake within the network of the hypervisor.
func (c *circle) in(t *testing.T, want int, args ...string) string {
	t.Helper()
	cmd := exec.Command("nsenter", append([]string{"--net", "--target", strconv.Itoa(c.pid), "../../bin/bake"}, c.line(args...)...)...)
	cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+c.home)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	t.Logf("%s\n%s%s", strings.Join(args, " "), said.String(), out)
	if code := cmd.ProcessState.ExitCode(); code != want {
		t.Fatalf("exit %d, want %d: %v", code, want, err)
	}
	return string(out)
}

// receive takes a snapshot with nothing but ssh and the key.
func (c *circle) receive(t *testing.T, address string) archive.Manifest {
	t.Helper()
	cmd := c.asBackup(t, address, "anything")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	m, err := archive.Receive(t.Context(), out, t.TempDir(), archive.Limits{})
	if err := errors.Join(err, cmd.Wait()); err != nil {
		t.Fatal(err)
	}
	return m
}

func (c *circle) asBackup(t *testing.T, address string, command ...string) *exec.Cmd {
	t.Helper()
	options, err := trust("zap", filepath.Join(c.out, "zap", "known_hosts"))
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{"--net", "--target", strconv.Itoa(c.pid), "ssh", "-F", "none", "-i", c.backupKey, "-o", "BatchMode=yes"}, options...)
	cmd := exec.Command("nsenter", append(append(args, "-l", "bake-backup", "--", address), command...)...)
	cmd.Stderr = os.Stderr
	return cmd
}

// TestE2EBackup: state out, hypervisor wiped, machine from scratch with that state, the
// gateway's and that of a stand-in that never rests.
func TestE2EBackup(t *testing.T) {
	const dir, user = "/var/lib/openclaw", "openclaw"
	c, address := gatewayCircle(t)
	asked, before := c.save(t, address, dir, user)
	known, err := os.ReadFile(filepath.Join(c.out, "zap", "known_hosts"))
	if err != nil {
		t.Fatal(err)
	}

	// The hypervisor is empty: no domain, no state, no generation, nobody's host keys.
	c.do(t, 0, "down", "--force")
	c.in(t, 0, "destroy", "--host", "zap", "--yes", "zap", "--destroy-state", "zap")
	for _, gone := range []string{c.out, c.images} {
		if err := os.RemoveAll(gone); err != nil {
			t.Fatal(err)
		}
	}
	var view restoreView
	out := c.in(t, 0, "restore", "--host", "zap", "--yes", "zap", "--host-keys", "--base", c.base, "--identity", c.login, "--json")
	if err := json.Unmarshal([]byte(out), &view); err != nil {
		t.Fatal(err)
	}
	t.Logf("RPO %s, RTO %s", seconds(view.RPO), seconds(view.RTO))
	if !view.Attested || view.Gateway != "ready" || len(view.Databases) < 3 {
		t.Errorf("%+v", view)
	}
	address = c.do(t, 0, "up", "--generation", "latest").Addresses[0]
	after := c.receive(t, address)
	ours := strings.TrimPrefix(dir, "/") + "/ours/workspace/"
	if !slices.ContainsFunc(before.Entries, func(e archive.Entry) bool { return string(e.Path) == ours+"sparse" }) {
		t.Errorf("nothing to compare in %s", ours)
	}
	if diff := differences(before, after, ours); diff != "" {
		t.Error(diff)
	}
	const rows = `sudo -u keeper python3 -c 'import sqlite3; print(sqlite3.connect("/var/lib/keeper/state/openclaw.sqlite").execute("SELECT max(n) FROM t").fetchone()[0])'`
	if n := asNumber(t, c.ssh(t, address, rows)); n < asked {
		t.Errorf("%d rows were acknowledged, %d are there", asked, n)
	}
	if again, err := os.ReadFile(filepath.Join(c.out, "zap", "known_hosts")); err != nil || keysOf(again) != keysOf(known) {
		t.Errorf("other host keys: %v\n%s\n%s", err, known, again)
	}
	if got := c.ssh(t, address, "sudo stat -c '%U %a' "+dir+"; sudo find "+dir+" -name '*-wal' -o -name '*-shm' | grep -v keeper | wc -l"); !strings.HasPrefix(got, user+" 700") {
		t.Error(got)
	}
}

// gatewayCircle has a gateway that is ready.
func gatewayCircle(t *testing.T) (c *circle, address string) {
	t.Helper()
	c = newCircle(t)
	c.image(t)
	address = c.do(t, 0, "up", "--generation", "latest").Addresses[0]
	c.ready(t, address)
	return c, address
}

// ready waits until the gateway says that it is.
func (c *circle) ready(t *testing.T, address string) {
	t.Helper()
	c.ssh(t, address, "sudo /usr/local/lib/bake/restore ready 1500 || { sudo journalctl --no-pager -n 80 -u openclaw.service; cat /proc/loadavg; exit 1; }")
}

// TestFullBackup moves the real gateway to another generation, and with its newest backup
// into a machine that is thrown away.
func TestFullBackup(t *testing.T) {
	c, address := gatewayCircle(t)
	c.save(t, address, "/var/lib/openclaw", "openclaw")
	file := filepath.Join(c.config, "hosts/zap.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	c.write(t, "hosts/zap.yaml", string(text)+"  - sysctl: {swappiness: 20}\n")
	const kept = "sudo sh -c 'cat /etc/ssh/ssh_host_ed25519_key.pub; cd /var/lib/openclaw/ours && find . -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum'"
	before := c.ssh(t, address, kept)
	next := c.do(t, 0, "deploy", "--generation", c.image(t))
	address = next.Addresses[0]
	c.ready(t, address)
	if after := c.ssh(t, address, "cat /proc/sys/vm/swappiness; "+kept); !next.Attested || after != "20\n"+before {
		t.Errorf("%+v, before\n%s\nafter\n%s", next, before, after)
	}
	c.in(t, 0, "drill", "--host", "zap", "--generation", "latest", "--deadline", "45m")
	c.in(t, 0, "drill", "--host", "zap", "--max-age", "8d")
}

// save writes state of every kind, makes a backup of it, and returns how many rows the
// stand-in had acknowledged before, and what there was in the end.
func (c *circle) save(t *testing.T, address, dir, user string) (asked int, kept archive.Manifest) {
	t.Helper()
	c.in(t, 0, "backup", "init", "--host", "zap")
	program := base64.StdEncoding.EncodeToString([]byte(fullState))
	c.ssh(t, address, "sudo install -d -o "+user+" -g "+user+" -m 0700 "+dir+"/ours && echo "+program+" | base64 -d | sudo -u "+user+" python3 - "+dir+"/ours && sudo rm "+dir+"/ours/state/only-looks.sqlite "+dir+"/ours/state/only-looks.sqlite-wal") // which would be exit status 7
	asked = asNumber(t, c.ssh(t, address, "until sudo test -s /var/lib/keeper/state/second; do sleep 1; done; sudo cat /var/lib/keeper/state/second"))
	c.in(t, 0, "backup", "--host", "zap")
	kept = c.receive(t, address)
	if asked == 0 || kept.Method != "frozen" {
		t.Errorf("%d rows, %s", asked, kept.Method)
	}
	t.Logf("the services stood still for %s", kept.Thawed.Sub(kept.Frozen))
	if got := c.ssh(t, address, "systemctl show -P FreezerState keeper.service; sudo ls -A /var/lib/bake/state | xargs"); got != "running\ndirs host lost+found ssh" {
		t.Errorf("it has left %s", got)
	}
	return asked, kept
}

func asNumber(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// keysOf are the keys of a known_hosts, without names.
func keysOf(known []byte) string {
	var keys []string
	for line := range strings.Lines(string(known)) {
		if words := strings.Fields(line); len(words) == 3 {
			keys = append(keys, words[1]+" "+words[2])
		}
	}
	slices.Sort(keys)
	return strings.Join(keys, "\n")
}
