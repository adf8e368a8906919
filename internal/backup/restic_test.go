package backup

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"bake/internal/secret"
)

const word = "correct horse battery"

// needs skips a test where a program is missing; on CI it fails.
func needs(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("CI must not skip: %v", err)
		}
		t.Skip(err)
	}
}

// state makes a backup of so many random bytes.
func state(t *testing.T, size int) Job {
	t.Helper()
	content := make([]byte, size)
	_, _ = rand.Read(content)
	return stateOf(t, content)
}

func stateOf(t *testing.T, content []byte) Job {
	t.Helper()
	dir := t.TempDir()
	put(t, filepath.Join(dir, stateFile), content)
	put(t, filepath.Join(dir, manifestFile), []byte(`{"host": "zap"}`+"\n"))
	return Job{Dir: dir, Host: "zap", Generation: "0123456789abcdef", Time: time.Date(2026, 11, 28, 3, 0, 0, 0, time.UTC)}
}

func put(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// repository is a restic repository in a directory.
func repository(t *testing.T) *restic {
	t.Helper()
	needs(t, "restic")
	r := &restic{Repository: filepath.Join(t.TempDir(), "repo"), Password: secret.New("password", []byte(word))}
	if _, err := r.Init(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

func save(t *testing.T, s Store, j Job) Snapshot {
	t.Helper()
	saved, err := s.Save(t.Context(), j)
	if err != nil {
		t.Fatal(err)
	}
	return saved
}

// isWhole demands that a snapshot comes back as it was.
func isWhole(t *testing.T, s Store, snapshot Snapshot, j Job) {
	t.Helper()
	dir := t.TempDir()
	if err := s.Fetch(t.Context(), snapshot, dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{stateFile, manifestFile} {
		want, err := os.ReadFile(filepath.Join(j.Dir, name))
		got, errGot := os.ReadFile(filepath.Join(dir, name))
		if err = errors.Join(err, errGot); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s came back with %d bytes that are not the %d there were", name, len(got), len(want))
		}
	}
}

// caused demands a fault of one cause, and returns it.
func caused(t *testing.T, err error, want cause) *fault {
	t.Helper()
	var f *fault
	if !errors.As(err, &f) || f.Cause != want {
		t.Fatalf("error %v, want %q", err, want)
	}
	return f
}

func TestRestic(t *testing.T) {
	t.Parallel()
	r := repository(t)
	var told int64
	r.Progress = func(done, _ int64) { told = done }
	j := state(t, 3<<20)
	saved := save(t, r, j)
	if saved.Bytes < 3<<20 || saved.Added < 3<<20 || saved.Generation != j.Generation || told == 0 {
		t.Errorf("saved %+v, told of %d bytes", saved, told)
	}
	again := save(t, r, Job{Dir: j.Dir, Host: j.Host, Time: j.Time.Add(time.Hour)})
	if again.Added > 100<<10 {
		t.Errorf("the same once more added %d bytes", again.Added)
	}
	other := save(t, r, Job{Dir: j.Dir, Host: "zip", Time: j.Time})
	list, err := r.List(t.Context(), "zap")
	if err != nil || len(list) != 2 || list[0].ID != saved.ID || list[1].ID != again.ID {
		t.Fatalf("list %+v, %v", list, err)
	}
	if !list[0].Time.Equal(j.Time) || list[0].Generation != j.Generation || list[0].Store != r.Repository {
		t.Errorf("listed %+v", list[0])
	}
	for _, s := range []Snapshot{saved, other} {
		isWhole(t, r, s, j)
	}
	if err := r.Check(t.Context(), "100%"); err != nil {
		t.Error(err)
	}
}

// TestBegunTwice: a repository that is there stays what it is, and whoever begins it again
// hears whether the password is its own.
func TestBegunTwice(t *testing.T) {
	t.Parallel()
	r := repository(t)
	j := state(t, 1<<10)
	saved := save(t, r, j)
	if isNew, err := r.Init(t.Context()); isNew || err != nil {
		t.Errorf("%v, %v", isNew, err)
	}
	isWhole(t, r, saved, j)
	r.Password = secret.New("password", []byte("tr0ub4dor"))
	_, err := r.Init(t.Context())
	caused(t, err, causePassword)
}

// TestPruneWithin: restic counts in whole hours; what is younger than a part of one stays.
func TestPruneWithin(t *testing.T) {
	t.Parallel()
	r := repository(t)
	j := state(t, 1<<10)
	for n := range 4 {
		j.Time = time.Date(2026, 11, 1, 3, 30*n, 0, 0, time.UTC)
		save(t, r, j)
	}
	for _, test := range []struct {
		within time.Duration
		gone   int
	}{{90 * time.Minute, 0}, {40 * time.Minute, 2}} {
		if removed, err := r.Prune(t.Context(), j.Host, keep{Within: test.within}, true); err != nil || len(removed) > test.gone {
			t.Errorf("%v: %d would be removed, want at most %d, %v", test.within, len(removed), test.gone, err)
		}
	}
}

func TestPrune(t *testing.T) {
	t.Parallel()
	r := repository(t)
	j := state(t, 1<<10)
	for day := range 12 { // the older half twice a day
		j.Time = time.Date(2026, 11, 1+day, 3, 0, 0, 0, time.UTC)
		save(t, r, j)
	}
	save(t, r, Job{Dir: j.Dir, Host: "zip", Time: j.Time})
	for _, dry := range []bool{true, false} {
		removed, err := r.Prune(t.Context(), "zap", keep{Daily: 3}, dry)
		if err != nil || len(removed) != 9 {
			t.Fatalf("dry %v: removed %v, %v", dry, removed, err)
		}
	}
	for host, want := range map[string]int{"zap": 3, "zip": 1, "zop": 0} {
		if list, err := r.List(t.Context(), host); err != nil || len(list) != want {
			t.Errorf("%s has %v, %v", host, list, err)
		}
	}
	if removed, err := r.Prune(t.Context(), "zap", keep{}, false); err != nil || len(removed) != 2 {
		t.Errorf("removed %v, %v: the newest stays without any rule", removed, err)
	}
	if removed, err := r.Prune(t.Context(), "zop", keep{Daily: 1}, false); err != nil || len(removed) != 0 {
		t.Errorf("a host without backups: removed %v, %v", removed, err)
	}
}

// TestFaults is what can be wrong with a repository that is near. Each is followed by a
// run that works.
func TestFaults(t *testing.T) {
	t.Parallel()
	t.Run("password", func(t *testing.T) {
		t.Parallel()
		r := repository(t)
		wrong := *r
		wrong.Password = secret.New("password", []byte("tr0ub4dor"))
		j := state(t, 1<<10)
		_, err := wrong.Save(t.Context(), j)
		if f := caused(t, err, causePassword); !f.Lack() || f.Network() || f.Integrity() || strings.Contains(err.Error(), "tr0ub4dor") {
			t.Errorf("it is %q", err)
		}
		isWhole(t, r, save(t, r, j), j)
	})
	t.Run("absent", func(t *testing.T) {
		t.Parallel()
		r := repository(t)
		away := r.Repository + ".away"
		if err := os.Rename(r.Repository, away); err != nil {
			t.Fatal(err)
		}
		j := state(t, 1<<10)
		_, err := r.Save(t.Context(), j)
		caused(t, err, causeAbsent)
		if _, err := os.Stat(r.Repository); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("there is a new one: %v", err)
		}
		if err := os.Rename(away, r.Repository); err != nil {
			t.Fatal(err)
		}
		isWhole(t, r, save(t, r, j), j)
	})
	t.Run("damaged", func(t *testing.T) {
		t.Parallel()
		r := repository(t)
		j := state(t, 3<<20)
		saved := save(t, r, j)
		spoil(t, r.Repository)
		f := caused(t, r.Check(t.Context(), "100%"), causeDamaged)
		if !f.Integrity() {
			t.Errorf("%v is not called so", f)
		}
		caused(t, r.Fetch(t.Context(), saved, t.TempDir()), causeDamaged)
	})
	t.Run("unreadable", func(t *testing.T) {
		t.Parallel()
		r := repository(t)
		j := state(t, 1<<10)
		if err := os.Remove(filepath.Join(j.Dir, manifestFile)); err != nil {
			t.Fatal(err)
		}
		_, err := r.Save(t.Context(), j)
		caused(t, err, causePartial)
		if list, err := r.List(t.Context(), j.Host); err != nil || len(list) > 0 {
			t.Errorf("half a backup is kept: %v, %v", list, err)
		}
	})
	t.Run("no restic", func(t *testing.T) {
		t.Parallel()
		r := &restic{Repository: t.TempDir()}
		r.Tools.Getenv = func(string) string { return "" }
		if _, err := r.List(t.Context(), "zap"); err == nil || !strings.Contains(err.Error(), "apt-get install restic") {
			t.Error(err)
		}
	})
}

// spoil changes a byte in the middle of each pack.
func spoil(t *testing.T, repository string) {
	t.Helper()
	packs, err := filepath.Glob(filepath.Join(repository, "data", "*", "*"))
	if err != nil || len(packs) == 0 {
		t.Fatalf("packs: %v, %v", packs, err)
	}
	for _, pack := range packs {
		content, err := os.ReadFile(pack)
		if err != nil {
			t.Fatal(err)
		}
		content[len(content)/3] ^= 1
		if err := errors.Join(os.Chmod(pack, 0o600), os.WriteFile(pack, content, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLocked: a lock of a process that is dead is removed, that of one that lives is
// not.
func TestLocked(t *testing.T) {
	t.Parallel()
	r := repository(t)
	j := state(t, 1<<10)
	holder := lockedBy(t, r)
	_, err := r.Save(t.Context(), j)
	if f := caused(t, err, causeLocked); !f.Network() || !strings.Contains(f.Said, "PID") {
		t.Errorf("it is %q", err)
	}
	_ = holder.Process.Kill() // SIGKILL: its lock stays
	_ = holder.Wait()
	isWhole(t, r, save(t, r, j), j)

	lockedBy(t, r)
	if err := r.Unlock(t.Context()); err != nil {
		t.Fatal(err)
	}
	save(t, r, j)
}

// lockedBy starts a restic that holds an exclusive lock for as long as it lives.
func lockedBy(t *testing.T, r *restic) *exec.Cmd {
	t.Helper()
	big := *r
	big.Limits = limits{Download: 1 << 10} // which makes a check of a pack take for ever
	save(t, r, state(t, 2<<20))
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	cmd, err := big.command(ctx, call{args: []string{"check", "--read-data"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Signal(syscall.SIGKILL) })
	await(t, "a lock", func() bool {
		locks, _ := filepath.Glob(filepath.Join(r.Repository, "locks", "*"))
		return len(locks) > 0
	})
	return cmd
}

// await waits for something that comes.
func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("there is no %s", what)
		}
	}
}
