package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"bake/internal/nightly"
	"bake/internal/origin"
	"bake/internal/verify"
)

// fortnight is two weeks of two hosts: zap, on the mirror's images, and pak, which has
// an image of its own and packages from a signed archive, by this machine's apt. Verdicts are written down, nothing is
// booted; all else is bake as it is.
type fortnight struct {
	*sleep
	packing
	day     int
	current map[string]string    // what was proven last, by our own account
	signer  *openpgp.Entity      // of the archive
	built   map[string][2]string // its packages: what they say of themselves, and their bytes
}

const keptAtNight = 2

func newFortnight(t *testing.T) *fortnight {
	f := &fortnight{packing: newPacking(t), sleep: newSleep(t), current: map[string]string{}, built: map[string][2]string{}}
	f.sleep.write(t, "hosts/pak.yaml", strings.NewReplacer("host: zap", "host: pak", "sysctl", "fail2ban",
		"../base.qcow2", filepath.Join(f.packing.dir, "base.qcow2")).Replace(hostFixture), 0o644)
	f.sleep.write(t, "nightly.yaml", fmt.Sprintf("keep: %d\n", keptAtNight), 0o644)
	f.openArchive()
	f.day = -300 // its key is a year old
	f.build("first")
	return f
}

// build publishes a build of the next day with something of its own in it.
func (f *fortnight) build(what string) {
	f.day++
	f.publish(changedImage(f.t, map[string]string{"etc/motd": what}), f.today())
}

func (f *fortnight) today() time.Time { return now.AddDate(0, 0, f.day) }

// down makes the mirror answer nothing but this.
func (f *fortnight) down(status int) (up func()) {
	paths := []string{newestDir + "SHA256SUMS", newestDir + "SHA256SUMS.gpg"}
	for _, path := range paths {
		f.hook(path, func(out http.ResponseWriter, _ *http.Request) { out.WriteHeader(status) })
	}
	return func() {
		for _, path := range paths {
			f.hook(path, nil)
		}
	}
}

// process is bake as a process with that verdict, for what cannot be done in this one.
func (f *fortnight) process(verdict string) *exec.Cmd {
	cmd := f.child("nightly", "--json")
	cmd.Env = append(cmd.Env, testVerdict+"="+verdict)
	return cmd
}

// onFullDisk runs a night with a directory of artifacts in which there is room for
// what it has, and so many KiB more.
func (f *fortnight) onFullDisk(kib int) outcome {
	demandRoot(f.t)
	demand(f.t, "unshare")
	const script = `cd "$1" && mv out saved && mkdir out || exit 99
mount -t tmpfs -o "size=$(($(du -sk saved | cut -f 1) + 4 * $(find saved | wc -l) + $2))k" none out && cp -a saved/. out || exit 99
shift 2; "$@"; code=$?
rm -rf saved && cp -a out saved && umount out && rmdir out && mv saved out || exit 99
exit $code`
	cmd := f.process("ok")
	cmd.Args = append([]string{"unshare", "-m", "sh", "-c", script, "sh", f.sleep.dir, fmt.Sprint(kib)}, cmd.Args...)
	path, err := exec.LookPath("unshare")
	if err != nil {
		f.sleep.t.Fatal(err)
	}
	cmd.Path = path
	return finish(f.t, cmd)
}

// check is what must be true after every night.
func (f *fortnight) check(n nightly.Night) {
	f.sleep.t.Helper()
	for _, o := range n.Hosts {
		if o.Verdict == nightly.Promoted {
			f.current[o.Host] = o.Generation
		}
	}
	out := filepath.Join(f.sleep.dir, "out")
	for host, want := range f.current {
		if got := f.sleep.current(host); got != want {
			f.sleep.t.Errorf("%s: current is %s, proven last was %s", host, got, want)
		}
		kept, err := filepath.Glob(filepath.Join(out, host, "????????????????"))
		if err != nil || len(kept) > keptAtNight+1 {
			f.sleep.t.Errorf("%s has the generations %q, %v", host, kept, err)
		}
	}
	checkClean(f.t, out)
	// The payloads that generations have, and the packages that bake.lock or the night pins.
	for files, most := range map[string]int{"disk/*.squashfs": keptAtNight + 3, "disk/*.json": keptAtNight + 3, "debs/*": 8} {
		if kept, _ := filepath.Glob(filepath.Join(f.sleep.dir, "cache/bake/payload", files)); len(kept) > most {
			f.sleep.t.Errorf("%d files in the cache: %q", len(kept), kept)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "bake-*")); len(left) > 0 && os.TempDir() != "/tmp" {
		f.sleep.t.Errorf("it has left %q", left)
	}
	// As many images as generations stand on and bake.lock pins, and none beside.
	for _, dir := range []string{filepath.Join(out, ".base"), filepath.Join(f.sleep.dir, "cache/bake/base")} {
		if images, _ := filepath.Glob(filepath.Join(dir, "*.qcow2")); len(images) > keptAtNight+3 {
			f.sleep.t.Errorf("%d images in %s", len(images), dir)
		}
	}
	lock, err := origin.ReadLock(filepath.Join(f.sleep.dir, "bake.lock"))
	if err != nil {
		f.sleep.t.Error(err)
	}
	for _, pinned := range lock.Pins() {
		image := filepath.Join(out, ".base", pinned.Digest+".qcow2")
		if _, err := os.Stat(image); err != nil {
			f.sleep.t.Errorf("bake.lock names %s, on which nothing stands: %v", pinned.Serial, err)
		}
	}
}

func TestFortnight(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	f := newFortnight(t)
	claims := map[string]string{} // hosts whose claims fail
	f.boot = func(o verify.Options) (verify.Report, error) {
		return judged(claims[o.Plan.Host] == "")(o)
	}
	restore := func() {}
	nights := []struct {
		name string
		do   func()
		code int
		want string // verdicts
		says string
	}{
		{"the first", func() {}, 0, "pak promoted, zap promoted", ""},
		{"nothing new", func() {}, 0, "pak unchanged, zap unchanged", ""},
		{"a new build", func() { f.build("second") }, 0, "pak unchanged, zap promoted", ""},
		{"a new package", func() { f.offer(t, "2") }, 0, "pak promoted, zap unchanged", "fail2ban 1 -> 2"},
		{"a broken package", func() { f.offer(t, "3"); claims["pak"] = "x" }, 7, "pak failed, zap unchanged", `"package fail2ban: 2 -> 3"`},
		{"it is still broken, and there is a new build", func() { f.build("third") }, 7, "pak failed, zap promoted", ""},
		{"it was repaired", func() { f.offer(t, "4"); delete(claims, "pak") }, 0, "pak promoted, zap unchanged", "fail2ban 2 -> 4"},
		{"the list is unsigned", func() {
			f.build("fourth")
			f.hook(newestDir+"SHA256SUMS.gpg", http.NotFound)
		}, 6, "pak unchanged, zap could not", "404"},
		{"the list is signed by somebody else", func() {
			f.hook(newestDir+"SHA256SUMS.gpg", nil)
			f.list(listOf(imageName, []byte("evil"), serialOf(f.today())), f.today(), newSigningKey(t, 0))
		}, 5, "pak unchanged, zap could not", "SHA256SUMS.gpg"},
		{"a replay", func() {
			f.day -= 2
			f.list(listOf(imageName, []byte("old"), serialOf(f.today())), f.today(), f.key)
			f.day += 2
		}, 5, "pak unchanged, zap could not", "a replay"},
		{"the archive's list is signed by somebody else", func() { f.publishPackages("6", f.stranger(), "") }, 5, "pak could not, zap could not", "InRelease"},
		{"the archive's list is out of date", func() {
			f.publishPackages("6", f.signer, "Valid-Until: "+time.Now().Add(-time.Hour).UTC().Format(time.RFC1123)+"\n")
		}, 5, "pak could not, zap could not", "--allow-expired"},
		{"the archive has a package with other bytes", func() {
			f.offer(t, "6")
			f.put("/debian/pool/fail2ban.deb", []byte("evil"))
		}, 5, "pak could not, zap could not", ""},
		{"the archive is down, and the mirror is", func() {
			f.hook("/debian/dists/trixie/InRelease", func(out http.ResponseWriter, _ *http.Request) { out.WriteHeader(503) })
			restore = f.down(503)
		}, 6, "pak could not, zap could not", "503"},
		{"the archive is as it was", func() {
			f.hook("/debian/dists/trixie/InRelease", nil)
			restore()
			f.offer(t, "4")
		}, 5, "pak unchanged, zap could not", "a replay"},
		{"the mirror is down", func() { restore = f.down(503) }, 6, "pak unchanged, zap could not", "503"},
		{"the mirror is up, a build does not prove itself", func() { restore(); f.build("fifth"); claims["zap"] = "x" }, 7, "pak unchanged, zap failed", ""},
		{"there is another, and it is good", func() { f.build("sixth"); delete(claims, "zap") }, 0, "pak unchanged, zap promoted", ""},
		{"a clock that was put back", func() {
			f.build("seventh")
			list := listOf(imageName, []byte("x"), serialOf(f.today()))
			for _, dir := range []string{newestDir, datedDir(f.today())} {
				f.put(dir+"SHA256SUMS.gpg", signList(t, list, now.Add(48*time.Hour), f.key))
				f.put(dir+"SHA256SUMS", list)
			}
		}, 5, "pak unchanged, zap could not", ""},
		{"a clock was ahead when all was promoted", func() {
			manifests, _ := filepath.Glob(filepath.Join(f.sleep.dir, "out/*/????????????????/manifest.json"))
			for _, path := range manifests {
				if err := os.Chtimes(path, now.AddDate(10, 0, 0), now.AddDate(10, 0, 0)); err != nil {
					t.Fatal(err)
				}
			}
			f.build("of a right clock")
		}, 0, "pak unchanged, zap promoted", ""},
		{"all is well", func() { f.build("eighth"); f.offer(t, "5") }, 0, "pak promoted, zap promoted", ""},
		{"nothing new again", func() {}, 0, "pak unchanged, zap unchanged", ""},
	}
	for _, night := range nights {
		night.do()
		before := f.pinned()
		n := f.sleep.must(night.code, []string{night.says})
		if got := f.verdicts(n); got != night.want {
			t.Errorf("%s: %s, want %s", night.name, got, night.want)
		}
		moved := f.pinned() != before
		if moved != (len(n.Promoted()) > 0) || moved != (len(n.Moved) > 0) {
			t.Errorf("%s: promoted %q, and bake.lock has moved %v, %q", night.name, n.Promoted(), moved, n.Moved)
		}
		f.check(n)
		if t.Failed() {
			t.Fatalf("after %q", night.name)
		}
	}
	o := f.sleep.night("status", "--nights", "30")
	if got := strips(o.stdout); got["pak"] != "P==PFFP===xxxx======P=" || got["zap"] != "P=P==P=xxxxxxxxxFPxPP=" {
		t.Errorf("%q\n%s", got, o.stdout)
	}
}

// strips are the strips of status, by host.
func strips(text string) map[string]string {
	found := map[string]string{}
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) == 2 {
			found[fields[0]] = fields[1]
		}
	}
	return found
}

// TestFullDiskAtNight: with too little room nothing is promoted and nothing is left;
// with enough the same night succeeds.
func TestFullDiskAtNight(t *testing.T) {
	f := newFortnight(t)
	f.check(f.sleep.must(0, nil))
	f.settle()
	f.check(f.sleep.must(0, nil))
	f.build("second")
	full := 0
	for _, kib := range []int{0, 64, 300, 600, 20000} {
		o := f.onFullDisk(kib)
		n := nightOf(t, o)
		switch got := f.verdicts(n); {
		case o.code == 0 && got == "pak unchanged, zap promoted":
			if kib < 20000 {
				t.Logf("%d KiB are enough", kib)
			}
		case o.code == 4 && got == "pak unchanged, zap could not" && strings.Contains(o.stdout, "no space left on device"):
			full++
		case o.code == 0 && got == "pak unchanged, zap unchanged" && full > 0:
		default:
			t.Errorf("%d KiB: exit status %d, %s\n%s%s", kib, o.code, got, o.stdout, o.stderr)
		}
		f.check(n)
		checkClean(t, filepath.Join(f.sleep.dir, "out"))
	}
	if full == 0 {
		t.Error("no disk was full: nothing was tried")
	}
	if n := f.sleep.must(0, nil); f.verdicts(n) != "pak unchanged, zap unchanged" {
		t.Errorf("%s", f.verdicts(n))
	}
}

// awaitChildren waits until what a killed night was just starting is a program of its
// own: until then it has all that was open, the lock too.
func (f *fortnight) awaitChildren() {
	f.sleep.t.Helper()
	dirs, err := filepath.Glob(filepath.Join(f.sleep.dir, "state/bake/nightly/*"))
	if err != nil || len(dirs) != 1 {
		f.sleep.t.Fatalf("%q, %v", dirs, err)
	}
	for range 500 {
		if !(nightly.Journal{Dir: dirs[0]}).IsBusy() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	f.sleep.t.Error("a killed night still has its lock")
}

// TestKillNight kills bake nightly before one change after another; the next night
// finds all in order and does what is left. Nothing but the current generation counts
// in between.
func TestKillNight(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	f := newFortnight(t)
	f.check(f.sleep.must(0, nil))
	for name, prepare := range map[string]func(i int){
		"zap": func(i int) { f.build(fmt.Sprint("build ", i)) },
		"pak": func(i int) { f.offer(t, fmt.Sprint(i+10)) },
	} {
		points, names := 0, map[string]int{}
		step := 9
		if *exhaustive {
			step = 1
		}
		for n := 1; ; n += step {
			prepare(n)
			before := map[string]string{"zap": f.sleep.current("zap"), "pak": f.sleep.current("pak")}
			killed, at := killBefore(t, f.process("ok"), n)
			if !killed {
				break
			}
			points++
			names[at]++
			after := map[string]string{"zap": f.sleep.current("zap"), "pak": f.sleep.current("pak")}
			f.awaitChildren()
			next := f.sleep.must(0, nil)
			for host, was := range before {
				if i := slices.IndexFunc(next.Hosts, func(o nightly.Outcome) bool { return o.Host == host }); after[host] != was && next.Hosts[i].Verdict != nightly.Unchanged {
					t.Errorf("killed at %d, %s: %s was proven already, and is %s the night after", n, at, host, next.Hosts[i].Verdict)
				}
				f.current[host] = f.sleep.current(host)
			}
			if f.current[name] == before[name] {
				t.Errorf("killed at %d, %s: the night after has not made up for it", n, at)
			}
			f.check(next)
			if t.Failed() {
				t.Fatalf("%s: killed before change %d, %s", name, n, at)
			}
		}
		t.Logf("%s: killed at %d points: %v", name, points, names)
		if points < 10 {
			t.Errorf("only %d points", points)
		}
	}
}
