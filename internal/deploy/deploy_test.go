package deploy

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bake/internal/hypervisor"
)

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
	for _, fails := range []string{"check", "network", "filter", "reserved", "put base.qcow2", "put disk.qcow2", "put domain.xml", "put secrets.iso", "disk", "define", "start", "shutdown"} {
		t.Run(fails, func(t *testing.T) {
			m := newMemory()
			d := m.deployment()
			d.Host.Lease = &hypervisor.Lease{Network: "default", Address: netip.MustParseAddr("192.168.122.7")}
			if fails != "shutdown" {
				m.fails = fails
				if _, err := d.Up(t.Context(), baked(t, one)); !errors.Is(err, errBroken) || m.machine != nil {
					t.Errorf("up: %v, %+v", err, m.machine)
				}
				for file := range m.files { // but the base, which others may use, and a disk that is empty
					if strings.HasPrefix(file, home) && file != statePath {
						t.Errorf("up: %s is left", file)
					}
				}
				m.fails = ""
			}
			must(t)(d.Up(t.Context(), baked(t, one)))
			m.files[statePath], d.Host.State = "mine0000", 16
			delete(m.files, "/images/.base/base.qcow2"+whole)
			m.fails = fails
			before := m.starts
			if _, err := d.Deploy(t.Context(), baked(t, two)); !errors.Is(err, errBroken) {
				t.Errorf("deploy: %v", err)
			}
			if found := slices.Contains([]string{"check", "network", "filter", "reserved"}, fails); found && (m.starts != before || !m.machine.Running) {
				t.Error("the machine was touched")
			}
			for file := range m.files {
				if file == home+secrets || strings.HasPrefix(file, home+two) {
					t.Errorf("deploy: %s is left", file)
				}
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
	lease := &hypervisor.Lease{Network: "default", MAC: mac, Host: "zap", Address: netip.MustParseAddr("192.168.122.7")}
	other := &hypervisor.Lease{Network: "default", MAC: mac, Host: "zap", Address: netip.MustParseAddr("192.168.122.8")}
	for _, step := range []struct {
		auto    bool
		lease   *hypervisor.Lease
		changed bool
	}{{false, nil, false}, {true, nil, true}, {true, nil, false}, {true, lease, true}, {true, lease, false}, {false, other, true}, {false, other, false},
		{false, nil, true}, {false, nil, false}, {false, other, true}} {
		d.Host.Autostart, d.Host.Lease = step.auto, step.lease
		auto, reserved, mark := m.auto, m.leases["default"], m.machine.Mark
		d.DryRun = true
		if out := must(t)(d.Up(t.Context(), baked(t, one))); out.Changed != step.changed || m.auto != auto || m.leases["default"] != reserved || m.machine.Mark != mark {
			t.Errorf("dry run of %+v: %+v, autostart %v, %q", step, out, m.auto, m.leases)
		}
		d.DryRun = false
		want := map[string]string{}
		if step.lease != nil {
			want["default"] = step.lease.Address.String()
		}
		if out := must(t)(d.Up(t.Context(), baked(t, one))); out.Changed != step.changed || m.auto != step.auto || !maps.Equal(m.leases, want) {
			t.Errorf("%+v: %+v, autostart %v, %q", step, out, m.auto, m.leases)
		}
	}
	if m.runs(t, one, ""); m.starts != 1 {
		t.Errorf("%d starts", m.starts)
	}
	if err := d.Destroy(t.Context(), false); err != nil || len(m.leases) > 0 {
		t.Errorf("%v, %q", err, m.leases)
	}
	must(t)(d.Up(t.Context(), baked(t, two))) // and with the first start
	if m.runs(t, two, ""); m.leases["default"] != other.Address.String() {
		t.Errorf("%q", m.leases)
	}
}

// TestLeases: an address that the host file does not ask for any more is given back once the
// machine has attested, wherever a run dies; never one that bake has not reserved.
func TestLeases(t *testing.T) {
	at := func(network, address string) *hypervisor.Lease {
		return &hypervisor.Lease{Network: network, MAC: mac, Host: "zap", Address: netip.MustParseAddr(address)}
	}
	const seven, nine = "192.168.122.7", "10.0.0.9"
	t.Run("by hand", func(t *testing.T) {
		m := newMemory()
		d := m.deployment()
		m.leases["default"] = seven
		must(t)(d.Up(t.Context(), baked(t, one)))
		must(t)(d.Deploy(t.Context(), baked(t, two)))
		if must(t)(d.Up(t.Context(), baked(t, two))); m.leases["default"] != seven {
			t.Error("it was taken away")
		}
		d.Host.Lease = at("default", seven) // now it is bake's
		for _, changed := range []bool{true, false} {
			if out := must(t)(d.Up(t.Context(), baked(t, two))); out.Changed != changed || m.leases["default"] != seven {
				t.Errorf("%+v, %q", out, m.leases)
			}
		}
		d.Host.Lease = nil
		if err := d.Destroy(t.Context(), false); err != nil || len(m.leases) > 0 {
			t.Errorf("%v, %q", err, m.leases)
		}
	})
	for name, test := range map[string]struct {
		to   *hypervisor.Lease
		bad  bool
		want map[string]string
	}{
		"none any more":                 {nil, false, map[string]string{}},
		"another network":               {at("lab", nine), false, map[string]string{"lab": nine}},
		"another, and it is not proven": {at("lab", nine), true, map[string]string{"lab": nine, "default": seven}},
		"none, and it is not proven":    {nil, true, map[string]string{"default": seven}},
	} {
		t.Run(name, func(t *testing.T) {
			for step, total := -1, 1; step < total; step++ {
				m := newMemory()
				d := m.deployment()
				d.Host.Lease = at("default", seven)
				must(t)(d.Up(t.Context(), baked(t, one)))
				d.Host.Lease, m.bad[two] = test.to, test.bad
				said := 0
				d.Say = func(text string) { said += strings.Count(text, "releasing its address on the network default") }
				total = max(total, dieAt(step, func() { _, _ = d.Deploy(t.Context(), baked(t, two)) }))
				if step < 0 && !maps.Equal(m.leases, test.want) || step < 0 && said != map[bool]int{true: 0, false: 1}[test.bad] {
					t.Errorf("%q, said %d times", m.leases, said)
				}
				for range 2 { // the first may find that it has not attested
					_, _ = d.Up(t.Context(), baked(t, two))
				}
				want := maps.Clone(test.want)
				delete(want, "default")
				if !maps.Equal(m.leases, want) || m.machine.Reserved != strings.Join(slices.Sorted(maps.Keys(want)), " ") {
					t.Errorf("killed at step %d: %q, %+v", step, m.leases, m.machine.Mark)
				}
			}
		})
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
	refuse := func(want string) {
		t.Helper()
		for name, do := range map[string]func() (Outcome, error){
			"up":       func() (Outcome, error) { return d.Up(t.Context(), baked(t, two)) },
			"deploy":   func() (Outcome, error) { return d.Deploy(t.Context(), baked(t, three)) },
			"rollback": func() (Outcome, error) { return d.Rollback(t.Context()) },
			"down":     func() (Outcome, error) { return d.Down(t.Context(), false) },
		} {
			if name == "down" && !m.machine.Running {
				continue // it is off
			}
			var lacks *hypervisor.LackError
			if _, err := do(); !errors.As(err, &lacks) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	m.machine.Undefined = true
	refuse("virsh dumpxml --inactive zap")
	m.machine.Undefined = false
	refuse("zap is paused: virsh resume zap")
	m.machine.Stuck = true
	refuse("make room, and virsh resume zap")
	m.machine.Stuck = false
	// Nor does one boot that is suspended to a file: it would go on with the disks of then.
	m.machine.Paused, m.machine.Running, m.machine.Saved = false, false, true
	refuse("virsh managedsave-remove zap")
	if m.machine.Generation != two || m.starts != 2 {
		t.Errorf("%+v, %d starts", m.machine, m.starts)
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

// TestOvertaken: a run that is slower than another, from another out directory, with the same
// new machine neither takes its disk away nor undefines it.
func TestOvertaken(t *testing.T) {
	for _, at := range []string{"making room", "starting"} {
		t.Run(at, func(t *testing.T) {
			m := newMemory()
			d, other := m.deployment(), m.deployment()
			overtaken := false
			d.At = overtaking{m, func(what string) {
				if what == at && !overtaken {
					overtaken = true
					m.machine = nil // it has not come as far, but it will
					must(t)(other.Up(t.Context(), baked(t, one)))
				}
			}}
			if _, err := d.Up(t.Context(), baked(t, one)); err == nil || !overtaken {
				t.Errorf("%v, overtaken %v", err, overtaken)
			}
			if m.runs(t, one, ""); m.starts != 1 || m.files[home+one+"/disk.qcow2"] != "used" {
				t.Errorf("%d starts, %q", m.starts, m.files)
			}
		})
	}
}

// overtaking is a hypervisor on which somebody else does something first.
type overtaking struct {
	*memory
	before func(what string)
}

func (o overtaking) CheckNetwork(name string) error {
	o.before("making room")
	return o.memory.CheckNetwork(name)
}

func (o overtaking) Start(host string, fresh bool) error {
	o.before("starting")
	return o.memory.Start(host, fresh)
}

// TestStateElsewhere: the state that a snapshot has taken elsewhere is not left behind, nor
// that of a host whose file does not say any more that it has one.
func TestStateElsewhere(t *testing.T) {
	m := newMemory()
	d := m.deployment()
	must(t)(d.Up(t.Context(), baked(t, one)))
	must(t)(d.Deploy(t.Context(), baked(t, two)))
	refuse := func(what, want string) {
		t.Helper()
		for name, do := range map[string]func() error{
			"deploy":   func() error { _, err := d.Deploy(t.Context(), baked(t, three)); return err },
			"rollback": func() error { _, err := d.Rollback(t.Context()); return err },
		} {
			var lacks *hypervisor.LackError
			if err := do(); !errors.As(err, &lacks) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %s: %v", what, name, err)
			}
		}
		m.runs(t, two, one)
	}
	text := m.machine.XML
	m.machine.XML = strings.ReplaceAll(text, stateDisk, "state.before-upgrade")
	refuse("a snapshot", "virsh blockcommit zap vde --pivot")
	m.machine.XML, d.Host.State = text, 0
	refuse("no machine.state", "machine.state is not in its host file any more")
	d.Host.State = 8
	must(t)(d.Deploy(t.Context(), baked(t, three)))
	m.runs(t, three, two)
	if err := d.Destroy(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	d.Host.State = 0
	if _, err := d.Up(t.Context(), baked(t, one)); err == nil || !strings.Contains(err.Error(), "--destroy-state zap") || m.machine != nil {
		t.Errorf("a state that is left: %v", err)
	}
	if err := d.Destroy(t.Context(), true); err != nil || m.files[statePath] != "" {
		t.Errorf("%v, %q", err, m.files)
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

// TestFirmware: where the firmware changes from one generation to the next, none is started
// with what the other has kept in its variables, wherever a run dies: secure boot without its
// keys is none.
func TestFirmware(t *testing.T) {
	for name, bad := range map[string]bool{"it attests": false, "it does not": true} {
		t.Run(name, func(t *testing.T) {
			for at, total := -1, 1; at < total; at++ { // the first one lives
				m := newMemory()
				d := m.deployment()
				must(t)(d.Up(t.Context(), baked(t, one)))
				must(t)(d.Deploy(t.Context(), secured(baked(t, two))))
				m.fails = "start" // of another, and then of this one
				if _, err := d.Deploy(t.Context(), baked(t, three)); !errors.Is(err, errBroken) {
					t.Fatal(err)
				}
				m.fails = ""
				must(t)(d.Up(t.Context(), baked(t, three)))
				must(t)(d.Rollback(t.Context()))
				must(t)(d.Deploy(t.Context(), secured(baked(t, two))))
				if m.bad[three] = bad; len(m.unsafe) > 0 || m.variables != "secure boot: true" {
					t.Fatalf("unsafe: %q, %s", m.unsafe, m.variables)
				}
				total = max(total, dieAt(at, func() { _, _ = d.Deploy(t.Context(), baked(t, three)) }))
				_, err := d.Up(t.Context(), baked(t, three))
				var failed *FailedError
				if err != nil && !(bad && errors.As(err, &failed)) {
					t.Fatalf("killed at step %d: %v", at, err)
				}
				if len(m.unsafe) > 0 || m.machine.Fresh {
					t.Errorf("killed at step %d: %q, %+v", at, m.unsafe, m.machine.Mark)
				}
			}
		})
	}
}
