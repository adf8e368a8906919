package deploy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bake/internal/domain"
	"bake/internal/hypervisor"
)

// memory is a hypervisor in memory. The real one is tried where machines boot; here
// it dies between any two steps, and fails at any of them.
type memory struct {
	files   map[string]string
	machine *hypervisor.Machine
	fails   string          // step that fails
	bad     map[string]bool // generations that do not attest
	used    map[string]int  // root disks and how often they were started
	starts  int
	copies  int
	auto    bool
	lease   string
	grows   func(name string) // before somebody looks; may be nil
	pressed func()            // when the power button is; may be nil
}

func TestMain(m *testing.M) {
	lull = time.Millisecond
	os.Exit(m.Run())
}

func newMemory() *memory {
	return &memory{files: map[string]string{}, bad: map[string]bool{}, used: map[string]int{}}
}

var errBroken = errors.New("it is broken")

func (m *memory) can(what string) error {
	if m.fails == what {
		return errBroken
	}
	return nil
}

func (m *memory) Find(string) (*hypervisor.Machine, error) {
	if m.machine == nil {
		return nil, nil
	}
	found := *m.machine
	found.Autostart = m.auto
	return &found, nil
}

func (m *memory) Define(text string) error {
	if err := m.can("define"); err != nil {
		return err
	}
	mark, ok, err := domain.ReadMark(text)
	if err != nil || !ok {
		return fmt.Errorf("%v, %v in %s", ok, err, text)
	}
	if m.machine == nil {
		m.machine = &hypervisor.Machine{}
	}
	m.machine.Mark, m.machine.XML = mark, text
	return nil
}

func (m *memory) Start(string) error {
	if err := m.can("start"); err != nil {
		return err
	}
	if m.machine.Running {
		return errors.New("it runs")
	}
	needs, err := domain.ReadNeeds([]byte(m.machine.XML))
	if err != nil {
		return err
	}
	for _, file := range []string{needs.Disk, needs.State} {
		if _, ok := m.files[file]; !ok && file != "" {
			return fmt.Errorf("%s is not there", file)
		}
	}
	m.used[m.machine.Generation]++
	m.starts++
	m.files[needs.Disk] = "used"
	m.machine.Running = true
	return nil
}

func (m *memory) Kill(string) error { m.machine.Running = false; return nil }

func (m *memory) Shutdown(ctx context.Context, _ string) error {
	if err := m.can("shutdown"); err != nil {
		return err
	}
	if m.pressed != nil {
		m.pressed()
	}
	m.machine.Running = false
	return nil
}

func (m *memory) Undefine(string) error {
	if m.machine.Running {
		return errors.New("it runs")
	}
	m.machine = nil
	return nil
}

func (m *memory) SetMark(_ string, mark domain.Mark) error { m.machine.Mark = mark; return nil }

func (m *memory) SetAutostart(_ string, on bool) error {
	if err := m.can("autostart"); err != nil {
		return err
	}
	m.auto = on
	return nil
}

func (m *memory) CheckNetwork(string) error { return m.can("network") }

func (m *memory) CheckFilter(string) error { return m.can("filter") }

func (m *memory) Has(name string) (bool, error) {
	_, ok := m.files[name+whole]
	return ok, nil
}

func (m *memory) Size(name string) (int64, error) {
	text, ok := m.files[name]
	if !ok {
		return 0, fs.ErrNotExist
	}
	return int64(len(text)), nil
}

func (m *memory) Written(name string) (int64, error) {
	if m.grows != nil {
		m.grows(name)
	}
	return m.Size(name)
}

func (m *memory) Put(_ context.Context, name string, from io.Reader, size int64, _ func(int64)) error {
	if err := m.can("put " + path.Base(name)); err != nil {
		return err
	}
	data, err := io.ReadAll(from)
	if err == nil && int64(len(data)) != size {
		err = errors.New("other size")
	}
	m.files[name], m.files[name+whole] = string(data), ""
	return err
}

func (m *memory) Copy(from, to, _ string) error {
	if err := m.can("copy"); err != nil {
		return err
	}
	m.copies++
	m.files[to], m.files[to+whole] = m.files[from], ""
	return nil
}

func (m *memory) Reserved(l hypervisor.Lease) (bool, error) {
	return m.lease == l.Address.String(), m.can("reserved")
}

func (m *memory) Reserve(l hypervisor.Lease) error {
	m.lease = l.Address.String()
	return nil
}

func (m *memory) Release(hypervisor.Lease) error { m.lease = ""; return nil }

func (m *memory) Read(name string) ([]byte, error) {
	text, ok := m.files[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return []byte(text), nil
}

func (m *memory) List(dir string) ([]string, error) {
	names := map[string]bool{}
	for file := range m.files {
		if rest, ok := strings.CutPrefix(file, dir+"/"); ok {
			name, _, _ := strings.Cut(rest, "/")
			names[name] = true
		}
	}
	if len(names) == 0 {
		return nil, fs.ErrNotExist
	}
	return slices.Sorted(maps.Keys(names)), nil
}

func (m *memory) Remove(name string) error { delete(m.files, name); return nil }

func (m *memory) RemoveDir(dir string) error {
	maps.DeleteFunc(m.files, func(file, _ string) bool { return path.Dir(file) == path.Clean(dir) })
	return nil
}

func (m *memory) MakeDisk(name string, size int64) (bool, error) {
	if err := m.can("disk"); err != nil {
		return false, err
	}
	if m.machine != nil && m.machine.Running {
		return false, errors.New("the machine runs")
	}
	old, ok := m.files[name]
	m.files[name] = old + strings.Repeat("0", int(size)-len(old))
	return !ok, nil
}

const (
	one, two, three = "1111111111111111", "2222222222222222", "3333333333333333"
	home            = "/images/zap/"
	statePath       = home + stateDisk
)

func (m *memory) deployment() *Deployment {
	return &Deployment{Host: Host{Name: "zap", Images: "/images", Network: "default", Filter: "clean-traffic", State: 8}, At: m, Patience: time.Second,
		Say: func(string) {},
		Wait: func(_ context.Context, generation string) (Verdict, error) {
			switch {
			case m.machine == nil || !m.machine.Running:
				return Verdict{Reason: "it is off"}, nil
			case generation != m.machine.Generation:
				return Verdict{}, fmt.Errorf("waiting for %s while %s runs", generation, m.machine.Generation)
			case m.bad[generation]:
				return Verdict{Reason: "ufw: UFW is active."}, nil
			}
			return Verdict{OK: true}, nil
		}}
}

// baked is a generation in a directory of the test's.
func baked(t testing.TB, name string) Generation {
	t.Helper()
	dir := t.TempDir()
	text := `<domain type="kvm"><name>zap</name><uuid>` + domain.UUID("zap") + `</uuid><devices>
<disk type="file" device="disk"><source file="` + home + name + `/disk.qcow2"></source><target dev="vda"></target><serial>bake-root</serial></disk>
<disk type="file" device="disk"><source file="` + statePath + `"></source><target dev="vde"></target><serial>bake-state</serial></disk>
<interface type="network"><source network="default"></source></interface></devices></domain>`
	file := func(name, content string) File {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return File{Path: filepath.Join(dir, name), Name: name}
	}
	base := file("base.qcow2", "base")
	return Generation{Name: name, XML: []byte(text), Base: &base, Secrets: file("secrets.iso", "secret").Path,
		Files: []File{file("disk.qcow2", "new"), file("domain.xml", text)}}
}

// must demands that there is no error.
func must(t *testing.T) func(Outcome, error) Outcome {
	return func(out Outcome, err error) Outcome {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
}

// runs demands what is there now.
func (m *memory) runs(t *testing.T, generation, previous string) {
	t.Helper()
	if m.machine == nil || !m.machine.Running || m.machine.Mark != (domain.Mark{Host: "zap", Generation: generation, Previous: previous}) {
		t.Fatalf("%+v", m.machine)
	}
	for file := range m.files {
		rest := strings.TrimPrefix(file, home)
		if name, _, isIn := strings.Cut(rest, "/"); isIn && rest != file && name != generation && name != previous {
			t.Errorf("%s is left", file)
		}
		if path.Base(file) == secrets {
			t.Errorf("%s is left", file)
		}
	}
	if m.files[statePath][:8] != "00000000" && m.files[statePath][:4] != "mine" {
		t.Errorf("the state is %q", m.files[statePath])
	}
}

func TestUpAndDeploy(t *testing.T) {
	m := newMemory()
	d := m.deployment()
	out := must(t)(d.Up(t.Context(), baked(t, one)))
	if !out.Changed || out.Generation != one {
		t.Errorf("%+v", out)
	}
	m.runs(t, one, "")
	m.files[statePath] = "mine0000"
	if out := must(t)(d.Up(t.Context(), baked(t, one))); out.Changed || m.starts != 1 {
		t.Errorf("up once more: %+v, %d starts", out, m.starts)
	}
	if out := must(t)(d.Up(t.Context(), baked(t, two))); out.Changed || out.Generation != one || out.Wanted != two {
		t.Errorf("up with another generation: %+v", out)
	}
	m.runs(t, one, "")
	d.Host.State = 16
	must(t)(d.Deploy(t.Context(), baked(t, two)))
	m.runs(t, two, one)
	if m.files[statePath] != "mine000000000000" {
		t.Errorf("the state is %q", m.files[statePath])
	}
	must(t)(d.Deploy(t.Context(), baked(t, three)))
	m.runs(t, three, two)
	must(t)(d.Rollback(t.Context()))
	m.runs(t, two, three)
	if m.used[two] != 2 || m.files[home+two+"/disk.qcow2"] != "used" {
		t.Errorf("it did not go back to its own disk: %d starts", m.used[two])
	}
	if out := must(t)(d.Down(t.Context(), false)); !out.Changed || m.machine.Running {
		t.Errorf("%+v", out)
	}
	if out := must(t)(d.Down(t.Context(), false)); out.Changed {
		t.Errorf("%+v", out)
	}
	must(t)(d.Up(t.Context(), baked(t, two)))
	m.runs(t, two, three)
	if err := d.Destroy(t.Context(), false); err != nil || m.machine != nil {
		t.Fatal(err)
	}
	if rest := slices.Sorted(maps.Keys(m.files)); len(rest) != 3 || !slices.Contains(rest, statePath) {
		t.Errorf("left: %v", rest)
	}
	must(t)(d.Up(t.Context(), baked(t, one)))
	if m.files[statePath] != "mine000000000000" {
		t.Errorf("the state is %q", m.files[statePath])
	}
	if err := d.Destroy(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if _, ok := m.files[statePath]; ok {
		t.Error("the state disk is left")
	}
	if _, err := d.Rollback(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// TestSharedPayload: what the generation before has is not sent again, what it has
// otherwise or not at all is.
func TestSharedPayload(t *testing.T) {
	m := newMemory()
	d := m.deployment()
	with := func(name, payload, sum string) Generation {
		g := baked(t, name)
		dir := t.TempDir()
		for file, text := range map[string]string{"payload.squashfs": payload, "manifest.json": `{"files": {"payload.squashfs": {"sha256": "` + sum + `"}}}`} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		g.Files = append(g.Files, File{Path: filepath.Join(dir, "payload.squashfs"), Name: "payload.squashfs", SHA256: sum},
			File{Path: filepath.Join(dir, "manifest.json"), Name: "manifest.json"})
		return g
	}
	must(t)(d.Up(t.Context(), with(one, "first", "aa")))
	for i, step := range []struct {
		g      Generation
		want   string
		copies int
	}{{with(two, "not sent", "aa"), "first", 1}, {with(three, "third", "bb"), "third", 1}} {
		must(t)(d.Deploy(t.Context(), step.g))
		if got := m.files[home+step.g.Name+"/payload.squashfs"]; got != step.want || m.copies != step.copies {
			t.Errorf("%d: %q, %d copies", i, got, m.copies)
		}
	}
}

func TestFailedGenerationGoesBack(t *testing.T) {
	m := newMemory()
	d := m.deployment()
	m.bad[two] = true
	must(t)(d.Up(t.Context(), baked(t, one)))
	_, err := d.Deploy(t.Context(), baked(t, two))
	var failed *FailedError
	if !errors.As(err, &failed) || failed.Back != one || failed.BackReason != "" || !strings.Contains(err.Error(), "UFW is active") {
		t.Fatal(err)
	}
	m.runs(t, one, "")
	m.bad[one] = true // and now nothing attests any more
	if _, err = d.Deploy(t.Context(), baked(t, two)); !errors.As(err, &failed) || failed.Back != one || failed.BackReason == "" {
		t.Fatal(err)
	}
	if m.machine.Generation != one || !m.machine.Running {
		t.Errorf("%+v", m.machine)
	}
	if _, isLeft := m.files[home+secrets]; isLeft {
		t.Error("the secrets are left")
	}
}

// TestFirstFails: it stays to be looked at, and the next one takes its place.
func TestFirstFails(t *testing.T) {
	m := newMemory()
	d := m.deployment()
	m.bad[one] = true
	var failed *FailedError
	for range 2 {
		if _, err := d.Up(t.Context(), baked(t, one)); !errors.As(err, &failed) || failed.Back != "" {
			t.Fatal(err)
		}
	}
	if !m.machine.Running || !m.machine.Trying {
		t.Errorf("%+v", m.machine)
	}
	must(t)(d.Up(t.Context(), baked(t, two)))
	m.runs(t, two, "")
	m.bad[two] = true // a machine that has attested before and does not now is told of, and left
	if _, err := d.Up(t.Context(), baked(t, three)); !errors.As(err, &failed) || failed.Generation != two || !m.machine.Running {
		t.Error(err)
	}
}

// TestWhatFails: whatever the hypervisor refuses, the machine that ran runs again.
func TestWhatFails(t *testing.T) {
	for _, fails := range []string{"network", "filter", "reserved", "put base.qcow2", "put disk.qcow2", "put domain.xml", "put secrets.iso", "disk", "define", "start", "shutdown"} {
		t.Run(fails, func(t *testing.T) {
			m := newMemory()
			d := m.deployment()
			d.Host.Lease = &hypervisor.Lease{Network: "default", Address: netip.MustParseAddr("192.168.122.7")}
			if fails != "shutdown" {
				m.fails = fails
				if _, err := d.Up(t.Context(), baked(t, one)); !errors.Is(err, errBroken) || m.machine != nil {
					t.Errorf("up: %v, %+v", err, m.machine)
				}
				if _, isLeft := m.files[home+secrets]; isLeft {
					t.Error("the secrets are left")
				}
				m.fails = ""
			}
			must(t)(d.Up(t.Context(), baked(t, one)))
			m.files[statePath], d.Host.State = "mine0000", 16
			delete(m.files, "/images/.base/base.qcow2"+whole)
			m.fails = fails
			if _, err := d.Deploy(t.Context(), baked(t, two)); !errors.Is(err, errBroken) {
				t.Errorf("deploy: %v", err)
			}
			if _, isLeft := m.files[home+secrets]; isLeft {
				t.Error("the secrets are left")
			}
			m.fails = "" // the one who refused once does so again when the old one is to start
			must(t)(d.Up(t.Context(), baked(t, one)))
			m.runs(t, one, "")
			must(t)(d.Deploy(t.Context(), baked(t, two)))
			m.runs(t, two, one)
			if m.files[statePath] != "mine000000000000" {
				t.Errorf("the state is %q", m.files[statePath])
			}
		})
	}
}

// TestDeployWhatWasBefore: a trial that was left and fails ends with the generation
// before, and where that is what is wanted nothing touches its disk.
func TestDeployWhatWasBefore(t *testing.T) {
	for name, bad := range map[string]bool{"the trial attests": false, "the trial fails": true} {
		t.Run(name, func(t *testing.T) {
			m := newMemory()
			d := m.deployment()
			must(t)(d.Up(t.Context(), baked(t, one)))
			m.files[home+one+"/disk.qcow2"] = "used, with all that is on it"
			m.bad[two] = bad
			for at := 0; m.machine.Generation != two || !m.machine.Running; at++ { // until it is left running
				dieAt(at, func() { _, _ = d.Deploy(t.Context(), baked(t, two)) })
			}
			var written []string
			d.Say = func(text string) { written = append(written, text) }
			out := must(t)(d.Deploy(t.Context(), baked(t, one)))
			if out.Generation != one || !out.Changed {
				t.Errorf("%+v", out)
			}
			m.runs(t, one, map[bool]string{false: two}[bad])
			if m.used[one] != 2 || strings.Contains(strings.Join(written, "\n"), "making room for generation "+one) {
				t.Errorf("the disk that has attested is gone: %q", written)
			}
		})
	}
}

// TestImagesMoved: another machine.images is no way to a second state disk.
func TestImagesMoved(t *testing.T) {
	m := newMemory()
	d := m.deployment()
	must(t)(d.Up(t.Context(), baked(t, one)))
	must(t)(d.Deploy(t.Context(), baked(t, two)))
	files := len(m.files)
	d.Host.Images = "/elsewhere"
	for name, do := range map[string]func() error{
		"up":       func() error { _, err := d.Up(t.Context(), baked(t, two)); return err },
		"deploy":   func() error { _, err := d.Deploy(t.Context(), baked(t, three)); return err },
		"rollback": func() error { _, err := d.Rollback(t.Context()); return err },
		"destroy":  func() error { return d.Destroy(t.Context(), true) },
	} {
		var lacks *hypervisor.LackError
		if err := do(); !errors.As(err, &lacks) || !strings.Contains(err.Error(), "/images/zap") {
			t.Errorf("%s: %v", name, err)
		}
		if m.runs(t, two, one); len(m.files) != files {
			t.Errorf("%s: %v", name, slices.Sorted(maps.Keys(m.files)))
		}
	}
}

func TestStateDoesNotShrink(t *testing.T) {
	m := newMemory()
	d := m.deployment()
	must(t)(d.Up(t.Context(), baked(t, one)))
	d.Host.State = 4
	var lacks *hypervisor.LackError
	if _, err := d.Deploy(t.Context(), baked(t, two)); !errors.As(err, &lacks) {
		t.Error(err)
	}
	m.runs(t, one, "")
	d.Host.State = 8
	must(t)(d.Deploy(t.Context(), baked(t, two)))
	d.Host.State = 4
	if _, err := d.Rollback(t.Context()); !errors.As(err, &lacks) || m.starts != 2 {
		t.Errorf("%v, %d starts", err, m.starts)
	}
	d.Host.State, d.Host.Network, m.fails = 8, "", "network"
	if _, err := d.Rollback(t.Context()); !errors.Is(err, errBroken) || m.starts != 2 {
		t.Errorf("%v, %d starts", err, m.starts)
	}
	m.runs(t, two, one)
}

// TestAutostart: a machine that has attested starts with its hypervisor, even if
// that could not be said at once.
func TestAutostart(t *testing.T) {
	m := newMemory()
	d := m.deployment()
	d.Host.Autostart, m.fails = true, "autostart"
	if _, err := d.Up(t.Context(), baked(t, one)); !errors.Is(err, errBroken) || m.auto {
		t.Errorf("%v, %v", err, m.auto)
	}
	m.fails = ""
	must(t)(d.Up(t.Context(), baked(t, one)))
	if m.runs(t, one, ""); !m.auto {
		t.Error("it does not start with its hypervisor")
	}
}

// TestAgree: what the host file says of a machine, and no generation does, is so after
// bake up, and said only if it was not.
func TestAgree(t *testing.T) {
	m := newMemory()
	d := m.deployment()
	must(t)(d.Up(t.Context(), baked(t, one)))
	lease := &hypervisor.Lease{Network: "default", Address: netip.MustParseAddr("192.168.122.7")}
	other := &hypervisor.Lease{Network: "default", Address: netip.MustParseAddr("192.168.122.8")}
	for _, step := range []struct {
		auto    bool
		lease   *hypervisor.Lease
		changed bool
	}{{false, nil, false}, {true, nil, true}, {true, nil, false}, {true, lease, true}, {true, lease, false}, {false, other, true}, {false, other, false}} {
		d.Host.Autostart, d.Host.Lease = step.auto, step.lease
		auto, reserved := m.auto, m.lease
		d.DryRun = true
		if out := must(t)(d.Up(t.Context(), baked(t, one))); out.Changed != step.changed || m.auto != auto || m.lease != reserved {
			t.Errorf("dry run of %+v: %+v, autostart %v, %q", step, out, m.auto, m.lease)
		}
		d.DryRun = false
		if out := must(t)(d.Up(t.Context(), baked(t, one))); out.Changed != step.changed || m.auto != step.auto || step.lease != nil && m.lease != step.lease.Address.String() {
			t.Errorf("%+v: %+v, autostart %v, %q", step, out, m.auto, m.lease)
		}
	}
	if m.runs(t, one, ""); m.starts != 1 {
		t.Errorf("%d starts", m.starts)
	}
	if err := d.Destroy(t.Context(), false); err != nil || m.lease != "" {
		t.Errorf("%v, %q", err, m.lease)
	}
	must(t)(d.Up(t.Context(), baked(t, two))) // and with the first start
	if m.runs(t, two, ""); m.lease != other.Address.String() {
		t.Errorf("%q", m.lease)
	}
}

// TestPressed: a machine whose power button a killed run has pressed has not attested for
// good, whatever its console says.
func TestPressed(t *testing.T) {
	for name, test := range map[string]struct {
		do    func(*Deployment) error
		isOff bool // by the time somebody looks
	}{
		"by a deploy":              {func(d *Deployment) error { _, err := d.Deploy(t.Context(), baked(t, two)); return err }, false},
		"by a deploy, and it went": {func(d *Deployment) error { _, err := d.Deploy(t.Context(), baked(t, two)); return err }, true},
		"by down":                  {func(d *Deployment) error { _, err := d.Down(t.Context(), false); return err }, false},
		"by a rollback":            {func(d *Deployment) error { _, err := d.Rollback(t.Context()); return err }, false},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMemory()
			d := m.deployment()
			must(t)(d.Up(t.Context(), baked(t, three)))
			must(t)(d.Deploy(t.Context(), baked(t, one)))
			m.pressed = func() { panic(killed{}) }
			dieAt(-1, func() { _ = test.do(d) })
			if !m.machine.Leaving {
				t.Error("nobody would know")
			}
			m.machine.Running, m.pressed = !test.isOff, nil
			if out := must(t)(d.Up(t.Context(), baked(t, one))); !out.Changed || m.starts != 3 {
				t.Errorf("%+v, %d starts", out, m.starts)
			}
			m.runs(t, one, three)
			if out := must(t)(d.Up(t.Context(), baked(t, one))); out.Changed {
				t.Errorf("%+v", out)
			}
		})
	}
}

// TestBadCopy: what cannot be copied over there is sent.
func TestBadCopy(t *testing.T) {
	m := newMemory()
	d := m.deployment()
	with := func(name string) Generation {
		g := baked(t, name)
		manifest := filepath.Join(t.TempDir(), "manifest.json")
		if err := os.WriteFile(manifest, []byte(`{"files": {"disk.qcow2": {"sha256": "aa"}}}`), 0o600); err != nil {
			t.Fatal(err)
		}
		g.Files[0].SHA256 = "aa"
		g.Files = append(g.Files, File{Path: manifest, Name: "manifest.json"})
		return g
	}
	must(t)(d.Up(t.Context(), with(one)))
	m.fails = "copy"
	must(t)(d.Deploy(t.Context(), with(two)))
	m.runs(t, two, one)
}

// TestPaused: who is paused hears no button.
func TestPaused(t *testing.T) {
	m := newMemory()
	d := m.deployment()
	must(t)(d.Up(t.Context(), baked(t, one)))
	must(t)(d.Deploy(t.Context(), baked(t, two)))
	m.machine.Paused, m.fails = true, "shutdown"
	for name, do := range map[string]func() (Outcome, error){
		"up":       func() (Outcome, error) { return d.Up(t.Context(), baked(t, two)) },
		"deploy":   func() (Outcome, error) { return d.Deploy(t.Context(), baked(t, three)) },
		"rollback": func() (Outcome, error) { return d.Rollback(t.Context()) },
	} {
		if _, err := do(); err == nil || !strings.Contains(err.Error(), "virsh resume zap") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTwoAtOnce: a run that waits for a verdict while another, from another out
// directory, changes the machine leaves it to that one.
func TestTwoAtOnce(t *testing.T) {
	for name, verdict := range map[string]Verdict{"it attests": {OK: true}, "it does not": {Reason: "it is off"}} {
		t.Run(name, func(t *testing.T) {
			m := newMemory()
			d, other := m.deployment(), m.deployment()
			must(t)(d.Up(t.Context(), baked(t, one)))
			d.Wait = func(context.Context, string) (Verdict, error) {
				must(t)(other.Deploy(t.Context(), baked(t, three)))
				return verdict, nil
			}
			var failed *FailedError
			if _, err := d.Deploy(t.Context(), baked(t, two)); err == nil || errors.As(err, &failed) {
				t.Errorf("%v", err)
			}
			m.runs(t, three, two)
		})
	}
}

// TestGoneAtOnce: a machine that has attested and is off has not come up.
func TestGoneAtOnce(t *testing.T) {
	m := newMemory()
	d := m.deployment()
	must(t)(d.Up(t.Context(), baked(t, one)))
	d.Wait = func(_ context.Context, generation string) (Verdict, error) {
		m.machine.Running = generation != two
		return Verdict{OK: true}, nil
	}
	var failed *FailedError
	if _, err := d.Deploy(t.Context(), baked(t, two)); !errors.As(err, &failed) || failed.Back != one {
		t.Errorf("%v", err)
	}
	m.runs(t, one, "")
}

// killed is what a run dies of at a step.
type killed struct{}

// TestKilled: a run that dies at any step is finished by bake up, on the state that
// was there.
func TestKilled(t *testing.T) {
	for name, bad := range map[string]bool{"good": false, "bad": true} {
		t.Run(name, func(t *testing.T) {
			total := 1
			for at := -1; at < total; at++ { // the first one lives

				m := newMemory()
				d := m.deployment()
				must(t)(d.Up(t.Context(), baked(t, one)))
				m.files[statePath] = "mine0000"
				m.bad[two] = bad
				steps := dieAt(at, func() { _, _ = d.Deploy(t.Context(), baked(t, two)) })
				total = max(total, steps)
				out, err := d.Up(t.Context(), baked(t, one))
				var failed *FailedError
				if err != nil && !(bad && errors.As(err, &failed) && failed.Back == one) {
					t.Fatalf("killed at step %d: %v", at, err)
				}
				if !m.machine.Running || m.machine.Trying || m.files[statePath] != "mine0000" {
					t.Fatalf("killed at step %d: %+v, state %q", at, m.machine, m.files[statePath])
				}
				if bad && m.machine.Generation != one {
					t.Errorf("killed at step %d: %s runs", at, m.machine.Generation)
				}
				previous := out.Previous
				if err != nil {
					previous = ""
				}
				m.runs(t, m.machine.Generation, previous)
			}
			if total < 10 {
				t.Errorf("there are only %d steps", total)
			}
		})
	}
}

// dieAt runs until a step and returns how many there were.
func dieAt(at int, run func()) (steps int) {
	defer func() {
		reached = func(string) {}
		if r := recover(); r != nil && r != (killed{}) {
			panic(r)
		}
	}()
	reached = func(string) {
		if steps++; steps-1 == at {
			panic(killed{})
		}
	}
	run()
	return steps
}

func TestDryRun(t *testing.T) {
	m := newMemory()
	d := m.deployment()
	d.DryRun = true
	var said []string
	d.Say = func(text string) { said = append(said, text) }
	must(t)(d.Up(t.Context(), baked(t, one)))
	if m.machine != nil || len(m.files) > 0 || !slices.Contains(said, "    the domain is new") || !slices.Contains(said, "starting generation "+one) {
		t.Errorf("%+v, %v, %q", m.machine, m.files, said)
	}
	must(t)(m.deployment().Up(t.Context(), baked(t, one)))
	said = nil
	must(t)(d.Deploy(t.Context(), baked(t, two)))
	m.runs(t, one, "")
	want := "    devices/disk[vda]/source@file: " + home + two + "/disk.qcow2 instead of " + home + one + "/disk.qcow2"
	if !slices.Contains(said, want) || slices.ContainsFunc(said, func(text string) bool { return strings.Contains(text, "state.qcow2 instead") }) {
		t.Errorf("%q", said)
	}
}

// TestRollbackOfTrial: the one before a trial that was left has none before it.
func TestRollbackOfTrial(t *testing.T) {
	m := newMemory()
	d := m.deployment()
	must(t)(d.Up(t.Context(), baked(t, one)))
	for at := 0; m.machine.Generation != two || !m.machine.Running; at++ {
		dieAt(at, func() { _, _ = d.Deploy(t.Context(), baked(t, two)) })
	}
	must(t)(d.Rollback(t.Context()))
	m.runs(t, one, "")
}

// TestDeployOverNone: one that never attested may not hear the button either, and is
// cut off as a trial is.
func TestDeployOverNone(t *testing.T) {
	m := newMemory()
	d := m.deployment()
	m.bad[one] = true
	var failed *FailedError
	if _, err := d.Up(t.Context(), baked(t, one)); !errors.As(err, &failed) {
		t.Fatal(err)
	}
	m.fails = "shutdown"
	must(t)(d.Deploy(t.Context(), baked(t, two)))
	m.runs(t, two, "")
}

// TestSharedBase: the image under the disks of all hosts is waited for when another
// bake is at it, and written anew when one was killed.
func TestSharedBase(t *testing.T) {
	const base = "/images/.base/base.qcow2"
	for name, left := range map[string]int{"another is at it": 5, "it was left": 0} {
		t.Run(name, func(t *testing.T) {
			m := newMemory()
			m.files[base] = "t"
			m.grows = func(name string) {
				left--
				if m.files[base] += "h"; left == 0 {
					m.files[base+whole] = ""
				}
			}
			want := "thhhhh"
			if left == 0 {
				m.grows, want = nil, "base"
			}
			must(t)(m.deployment().Up(t.Context(), baked(t, one)))
			if m.runs(t, one, ""); m.files[base] != want {
				t.Errorf("%q", m.files[base])
			}
		})
	}
}
