package deploy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
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
	files     map[string]string
	machine   *hypervisor.Machine
	fails     string          // step that fails
	bad       map[string]bool // generations that do not attest
	used      map[string]int  // root disks and how often they were started
	variables string          // of the firmware
	unsafe    []string        // generations that were started with those of another firmware
	anew      int             // starts with variables that were made anew
	can       domain.Abilities
	refuses   []string // XML that has all of these cannot be run; none is for nothing
	asked     int      // how often it was asked what it can
	starts    int
	copies    int
	auto      bool
	leases    map[string]string // address that a network keeps, by the network
	grows     func(name string) // before somebody looks; may be nil
	pressed   func()            // when the power button is; may be nil
}

func TestMain(m *testing.M) {
	lull = time.Millisecond
	os.Exit(m.Run())
}

func newMemory() *memory {
	return &memory{files: map[string]string{}, leases: map[string]string{}, bad: map[string]bool{}, used: map[string]int{}}
}

var errBroken = errors.New("it is broken")

func (m *memory) fail(what string) error {
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

func (m *memory) Check(text string) error {
	lacks := func(word string) bool { return !strings.Contains(text, word) }
	if len(m.refuses) > 0 && !slices.ContainsFunc(m.refuses, lacks) {
		return &hypervisor.LackError{Text: "it has no " + strings.Join(m.refuses, " with ")}
	}
	return m.fail("check")
}

func (m *memory) Abilities(arch string) (domain.Abilities, error) {
	m.asked++
	if arch != "x86_64" {
		return domain.Abilities{}, errors.New("it has no " + arch)
	}
	return m.can, m.fail("abilities")
}

func (m *memory) Define(text string) error {
	if err := m.fail("define"); err != nil {
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

func (m *memory) Start(_ string, fresh bool) error {
	secure := fmt.Sprintf("secure boot: %v", strings.Contains(m.machine.XML, secureBoot))
	if fresh {
		m.anew++
	}
	if m.variables == "" || fresh { // libvirt keeps them otherwise
		m.variables = secure
	}
	if err := m.fail("start"); err != nil {
		return err
	}
	if m.variables != secure {
		m.unsafe = append(m.unsafe, m.machine.Generation)
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
	if err := m.fail("shutdown"); err != nil {
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
	if err := m.fail("autostart"); err != nil {
		return err
	}
	m.auto = on
	return nil
}

func (m *memory) CheckNetwork(string) error { return m.fail("network") }

func (m *memory) CheckFilter(string) error { return m.fail("filter") }

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
	if err := m.fail("put " + path.Base(name)); err != nil {
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
	if err := m.fail("copy"); err != nil {
		return err
	}
	m.copies++
	m.files[to], m.files[to+whole] = m.files[from], ""
	return nil
}

func (m *memory) Reserved(l hypervisor.Lease) (bool, error) {
	return m.leases[l.Network] == l.Address.String(), m.fail("reserved")
}

func (m *memory) Reserve(l hypervisor.Lease) error {
	m.leases[l.Network] = l.Address.String()
	return nil
}

func (m *memory) Release(l hypervisor.Lease) error {
	if l.MAC != mac || l.Host != "zap" {
		return fmt.Errorf("of %+v there is none", l)
	}
	delete(m.leases, l.Network)
	return m.fail("release")
}

const mac = "52:54:00:12:34:56"

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
	if err := m.fail("disk"); err != nil {
		return false, err
	}
	if m.machine != nil && m.machine.Running {
		return false, errors.New("the machine runs")
	}
	old, ok := m.files[name]
	m.files[name] = old + strings.Repeat("0", int(size)-len(old))
	return !ok, nil
}

// secureBoot is in the XML of a generation that has it.
const secureBoot = `<feature enabled="yes" name="secure-boot"></feature>`

// leaving is a generation that leaves secure boot and a TPM to its hypervisor.
func leaving(g Generation) Generation {
	mark := domain.Mark{Host: "zap", Generation: g.Name, Secure: domain.Auto, TPM: domain.Auto}
	return g.with(`<metadata>` + mark.String() + `</metadata><os firmware="efi"><type arch="x86_64">hvm</type></os>`)
}

// secured is a generation with secure boot.
func secured(g Generation) Generation {
	return g.with(`<os firmware="efi"><type>hvm</type><firmware>` + secureBoot + `</firmware></os>`)
}

// with is a generation with more in its XML.
func (g Generation) with(more string) Generation {
	uuid := `<uuid>` + domain.UUID("zap") + `</uuid>`
	g.XML = bytes.Replace(g.XML, []byte(uuid), []byte(uuid+more), 1)
	for _, f := range g.Files {
		if f.Name == "domain.xml" {
			if err := os.WriteFile(f.Path, g.XML, 0o600); err != nil {
				panic(err)
			}
		}
	}
	return g
}

const (
	one, two, three = "1111111111111111", "2222222222222222", "3333333333333333"
	home            = "/images/zap/"
	statePath       = home + stateDisk
)

func (m *memory) deployment() *Deployment {
	return &Deployment{Host: Host{Name: "zap", MAC: mac, Images: "/images", Network: "default", Filter: "clean-traffic", State: 8}, At: m, Patience: time.Second,
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
	if m.machine == nil || !m.machine.Running || m.machine.Mark != (domain.Mark{Host: "zap", Generation: generation, Previous: previous, Reserved: m.machine.Reserved}) {
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
