package main

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What the world can do to bake backup: it is killed, its restic is, a disk is full.

// vault is a configuration with a repository that was begun, a store with links, a
// machine that sends a stream and a restic that can be held up.
type vault struct{ workshop }

const vaultSSH = `#!/bin/sh
cat "$WORK/stream"
touch "$WORK/sent"
while [ -e "$WORK/hang" ]; do sleep 0.05; done
`

// A restic that is held up has its lock and has read nothing yet: its input is a limit of
// a few bytes a second away.
const vaultRestic = `#!/bin/sh
real=$(PATH=${PATH#*:} command -v restic)
[ -e "$WORK/slow" ] || exec "$real" "$@"
case " $* " in *" backup "*) echo $$ >"$WORK/restic.pid.new"; mv "$WORK/restic.pid.new" "$WORK/restic.pid"; exec "$real" --limit-upload 1 "$@" ;; esac
exec "$real" "$@"
`

func newVault(t *testing.T, size int) vault {
	t.Helper()
	demand(t, "restic")
	demand(t, "rsync")
	w := vault{newWorkshop(t)}
	w.write(t, "hosts/zap.yaml", hostFixture+"network: {dhcp: false, addresses: [192.0.2.5/24], gateways: [192.0.2.1]}\n", 0o644)
	w.write(t, "backup.yaml", fmt.Sprintf("default: {repository: %s/repo, tree: %s/tree, password: {file: word}}\n", w.dir, w.dir), 0o644)
	w.write(t, "word", "correct horse battery\n", 0o600)
	w.write(t, "out/zap/known_hosts", "zap ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB8eHRwbGhkYFxYVFBMSERAPDg0MCwoJCAcGBQQDAgEA\n", 0o600)
	w.write(t, "bin/ssh", vaultSSH, 0o755)
	w.write(t, "bin/restic", strings.ReplaceAll(vaultRestic, "$WORK", w.dir), 0o755) // it has bake's environment no more
	w.send(t, size)
	w.expect(t, w.backup("init"), 0)
	return w
}

// send has the machine send a state of so many random bytes from now on.
func (w vault) send(t *testing.T, size int) {
	t.Helper()
	content := make([]byte, size)
	_, _ = rand.Read(content)
	stream, err := stateOf("zap", time.Now(), map[string][]byte{"x": content})
	if err != nil {
		t.Fatal(err)
	}
	w.write(t, "stream", string(stream), 0o644)
}

// backup is bake backup in the vault's world.
func (w vault) backup(args ...string) *exec.Cmd {
	cmd := w.command(append(append([]string{"backup"}, args...), "--host", "zap")...)
	cmd.Env = append(os.Environ(), "WORK="+w.dir, "PATH="+filepath.Join(w.dir, "bin")+":"+os.Getenv("PATH"), "HOME="+w.dir,
		"XDG_STATE_HOME="+filepath.Join(w.dir, "state"), "XDG_CACHE_HOME="+filepath.Join(w.dir, "cache"))
	return cmd
}

// wait waits for a file.
func (w vault) wait(t *testing.T, name string) string {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if content, err := os.ReadFile(filepath.Join(w.dir, name)); err == nil {
			return strings.TrimSpace(string(content))
		}
	}
	t.Fatalf("there is no %s", name)
	return ""
}

// works demands that the next backup works, that it finds what was saved before, and
// that nothing is left of the one that did not.
func (w vault) works(t *testing.T, before int) {
	t.Helper()
	for _, name := range []string{"hang", "slow", "sent", "restic.pid"} {
		_ = os.Remove(filepath.Join(w.dir, name)) // may not be there
	}
	w.send(t, 1<<20)
	o := finish(t, w.backup())
	for deadline := time.Now().Add(time.Minute); o.code == 4 && strings.Contains(o.stderr, "another bake works on its backups") && time.Now().Before(deadline); {
		time.Sleep(50 * time.Millisecond) // what was killed is not gone yet: that it is waited for is the point
		o = finish(t, w.backup())
	}
	if o.code != 0 {
		t.Fatalf("the next backup: exit status %d\n%s", o.code, o.stderr)
	}
	w.expect(t, w.backup("check", "--subset", "100%"), 0, fmt.Sprintf("repo is sound: %d backups", before+1))
	for _, pattern := range []string{"state/bake/backup/zap/stage", "tree/zap/.*"} {
		if left, err := filepath.Glob(filepath.Join(w.dir, pattern)); err != nil || len(left) > 0 {
			t.Errorf("there is still %v, %v", left, err)
		}
	}
}

func TestBackupKilled(t *testing.T) {
	w := newVault(t, 1<<20)
	w.expect(t, w.backup(), 0)
	t.Run("while it fetches", func(t *testing.T) {
		w.write(t, "hang", "", 0o644)
		w.tool(t, "rm", "sent")
		cmd := w.backup()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		w.wait(t, "sent")
		if o := finish(t, w.backup()); o.code != 4 || !strings.Contains(o.stderr, "another bake works on its backups, process "+strconv.Itoa(cmd.Process.Pid)) {
			t.Errorf("a second backup beside it: exit status %d, %s", o.code, o.stderr)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		w.works(t, 1)
	})
	t.Run("while it stores", func(t *testing.T) {
		w.send(t, 1<<20)
		w.write(t, "slow", "", 0o644)
		cmd := w.backup()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		w.wait(t, "restic.pid")
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		w.works(t, 2)
	})
	t.Run("its restic", func(t *testing.T) {
		w.send(t, 1<<20)
		w.write(t, "slow", "", 0o644)
		cmd := w.backup()
		var said strings.Builder
		cmd.Stderr = &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		pid, err := strconv.Atoi(w.wait(t, "restic.pid"))
		if err == nil {
			err = syscall.Kill(pid, syscall.SIGKILL)
		}
		if err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 6 || !strings.Contains(said.String(), "signal: killed") {
			t.Errorf("exit status %d: %s", code, said.String())
		}
		w.works(t, 3)
	})
}

// TestBackupWaits: with --wait a backup, as that of the timer, goes on when the other is done,
// and has its time.
func TestBackupWaits(t *testing.T) {
	w := newVault(t, 1<<20)
	w.write(t, "hang", "", 0o644)
	one, two := w.backup(), w.backup("--wait", "1h")
	if err := one.Start(); err != nil {
		t.Fatal(err)
	}
	w.wait(t, "sent")
	if o := finish(t, w.backup("--wait", "1s")); o.code != 4 || strings.Count(o.stderr, "another bake works on its backups") != 2 {
		t.Errorf("exit status %d: %s", o.code, o.stderr)
	}
	said, err := two.StderrPipe()
	if err == nil {
		err = two.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(said)
	for lines.Scan() && !strings.HasSuffix(lines.Text(), ": waiting for it") {
	}
	w.tool(t, "rm", "hang")
	for lines.Scan() {
		t.Log(lines.Text())
	}
	if err := errors.Join(one.Wait(), two.Wait()); err != nil {
		t.Error(err)
	}
	w.works(t, 2)
}

// TestBackupStalled: a machine that never ends is given up, before it sends anything and
// afterwards, and the next backup works.
func TestBackupStalled(t *testing.T) {
	w := newVault(t, 1<<20)
	stores := fmt.Sprintf("default: {repository: %s/repo, tree: %s/tree, password: {file: word}, limits: ", w.dir, w.dir)
	w.write(t, "hang", "", 0o644)
	w.write(t, "backup.yaml", stores+"{stall: 1s}}\n", 0o644)
	o := finish(t, w.backup())
	if o.code != 6 || !strings.Contains(o.stderr, "zap: the machine has sent nothing any more for 1s") {
		t.Errorf("exit status %d: %s", o.code, o.stderr)
	}
	w.write(t, "bin/ssh", "#!/bin/sh\nexec sleep 600\n", 0o755)
	w.write(t, "backup.yaml", fmt.Sprintf("default: {tree: %s/tree, limits: {time: 1s}}\n", w.dir), 0o644) // no restic is asked
	o = finish(t, w.backup())
	if o.code != 6 || !strings.Contains(o.stderr, "zap: the machine had not sent its state within 1s") {
		t.Errorf("exit status %d: %s", o.code, o.stderr)
	}
	w.write(t, "bin/ssh", vaultSSH, 0o755)
	w.write(t, "backup.yaml", stores+"{stall: 10m}}\n", 0o644)
	w.works(t, 0)
}

// TestRestoreFromAnyStore: the newest backup of all stores is taken, and what one store
// cannot give the other does.
func TestRestoreFromAnyStore(t *testing.T) {
	w := newVault(t, 1<<20)
	w.expect(t, w.backup(), 0)
	look := func(want int, words ...string) string {
		t.Helper()
		cmd := w.backup()
		cmd.Args = append(cmd.Args[:1], "restore", "--host", "zap", "--to", "look")
		w.tool(t, "rm", "-rf", "look")
		w.expect(t, cmd, want, words...)
		content, err := os.ReadFile(filepath.Join(w.dir, "look/var/lib/openclaw/x"))
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	}
	first := look(0)
	if err := os.Rename(filepath.Join(w.dir, "repo"), filepath.Join(w.dir, "away")); err != nil {
		t.Fatal(err)
	}
	w.send(t, 1<<20)
	if o := finish(t, w.backup()); o.code != 6 {
		t.Errorf("exit status %d: %s", o.code, o.stderr)
	}
	o := finish(t, w.backup("list"))
	if n := strings.Count(o.stdout, "/tree\n"); o.code != 6 || n != 2 || !strings.Contains(o.stderr, "there is no repository") {
		t.Errorf("exit status %d, %d backups are listed\n%s", o.code, n, o.stderr)
	}
	second := look(0, "is taken from "+filepath.Join(w.dir, "tree")+", as ", "there is no repository")
	if err := os.Rename(filepath.Join(w.dir, "away"), filepath.Join(w.dir, "repo")); err != nil {
		t.Fatal(err)
	}
	if third := look(0); second == first || third != second {
		t.Error("the newest is not what was restored")
	}
	w.send(t, 1<<20)
	w.expect(t, w.backup(), 0)
	w.tool(t, "sh", "-c", "chmod -R u+w repo; for f in repo/data/*/*; do printf x | dd of=$f bs=1 seek=500 conv=notrunc status=none; done")
	if fourth := look(0, "is taken from "+filepath.Join(w.dir, "tree")+", as ", "what is stored is damaged"); fourth == second {
		t.Error("another than the newest was restored")
	}
}

// TestBackupFullDisk: no room where it is made ready, then none where it is stored.
func TestBackupFullDisk(t *testing.T) {
	demandRoot(t)
	demand(t, "unshare")
	w := newVault(t, 1<<20)
	w.expect(t, w.backup(), 0)
	on := func(dir string, kib int) outcome {
		t.Helper()
		const script = `dir=$1 kib=$2; shift 2
cp -a "$dir" "$dir.real" && mount -t tmpfs -o "size=${kib}k" none "$dir" && cp -a "$dir.real/." "$dir" || exit 99
"$@"
code=$?
find "$dir" -name 'state.tar*' -o -name '.new-*'
exit $code`
		cmd := w.backup()
		path, err := exec.LookPath("unshare")
		if err != nil {
			t.Fatal(err)
		}
		cmd.Args = append([]string{"unshare", "-m", "sh", "-c", script, "sh", dir, fmt.Sprint(kib)}, append([]string{w.bake}, cmd.Args[1:]...)...)
		cmd.Path = path
		defer w.tool(t, "rm", "-rf", dir+".real")
		return finish(t, cmd)
	}
	for _, test := range []struct {
		dir string
		kib int
	}{{"state", 2 << 10}, {"tree", 3 << 10}, {"repo", 7 << 10}} { // each with less room than there is to come
		w.send(t, 4<<20)
		o := on(filepath.Join(w.dir, test.dir), test.kib)
		if o.code != 4 || !strings.Contains(o.stderr, "no space left on device") && !strings.Contains(o.stderr, "there is no room left") {
			t.Errorf("%s is full: exit status %d\n%s", test.dir, o.code, o.stderr)
		}
		for line := range strings.Lines(o.stdout) {
			if strings.HasPrefix(line, "/") {
				t.Errorf("%s is full: there is still %s", test.dir, line)
			}
		}
	}
	o := finish(t, w.backup("list", "--json"))
	w.works(t, strings.Count(o.stdout, `"store": "`+filepath.Join(w.dir, "repo")))
}
