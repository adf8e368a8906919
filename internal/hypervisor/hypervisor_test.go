package hypervisor

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/digitalocean/go-libvirt"

	"bake/internal/domain"
	"bake/internal/host"
	"bake/internal/tool"
)

func TestNobodyThere(t *testing.T) {
	uri := "qemu:///system?socket=" + filepath.Join(t.TempDir(), "sock")
	_, err := Connect(t.Context(), uri, tool.Box{})
	var nobody *ConnectError
	if !errors.As(err, &nobody) || nobody.Network() || !strings.Contains(err.Error(), "is libvirtd running") {
		t.Errorf("%v", err)
	}
	// ssh that cannot: its own words are in the error.
	ssh := filepath.Join(t.TempDir(), "ssh")
	if err := os.WriteFile(ssh, []byte("#!/bin/sh\necho Host key verification failed. >&2\nexit 255\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	box := tool.Box{Getenv: func(key string) string { return map[string]string{"PATH": filepath.Dir(ssh)}[key] }}
	_, err = Connect(t.Context(), "qemu+ssh://hv/system", box)
	if !errors.As(err, &nobody) || !nobody.Network() || !strings.Contains(err.Error(), "Host key verification failed.") {
		t.Errorf("%v", err)
	}
}

// TestStubbornSSH: what an ssh has started and left behind keeps nobody.
func TestStubbornSSH(t *testing.T) {
	dir := t.TempDir()
	pid := filepath.Join(dir, "pid")
	if err := os.WriteFile(filepath.Join(dir, "ssh"), []byte("#!/bin/sh\nsleep 300 < /dev/null > /dev/null &\necho $! > "+pid+"\necho no >&2\nexit 255\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	defer func() {
		number, _ := os.ReadFile(pid)
		_ = exec.Command("kill", strings.TrimSpace(string(number))).Run()
	}()
	box := tool.Box{Getenv: func(key string) string { return map[string]string{"PATH": dir + ":/usr/bin:/bin"}[key] }}
	done := make(chan error)
	go func() {
		_, err := Connect(context.Background(), "qemu+ssh://hv/system", box)
		done <- err
	}()
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), "ssh: no") {
			t.Errorf("%v", err)
		}
	case <-time.After(time.Minute):
		t.Error("it waits")
	}
}

func TestFiles(t *testing.T) {
	root, uri := daemon(t)
	h := connect(t, uri)
	dir := filepath.Join(root, "images", "zap", "0123")
	name := filepath.Join(dir, "a & b.bin")
	content := make([]byte, 3<<20+17)
	rand.Read(content)

	if has, err := h.Has(name); has || err != nil {
		t.Errorf("%v, %v before there is a directory", has, err)
	}
	if _, err := h.List(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("listing: %v", err)
	}
	put := func(ctx context.Context, from io.Reader) error {
		return h.Put(ctx, name, from, int64(len(content)), nil)
	}
	if err := put(t.Context(), bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	got, err := h.Read(name)
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes come back, %v", len(got), err)
	}
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if has, err := h.Has(name); !has || err != nil {
		t.Errorf("%v, %v when it is there", has, err)
	}

	other := filepath.Join(root, "images", "zap", "4567", "copy")
	sum := fmt.Sprintf("%x", sha256.Sum256(content))
	if err := h.Copy(name, other, sum); err != nil {
		t.Fatal(err)
	}
	if got, err := h.Read(other); err != nil || !bytes.Equal(got, content) {
		t.Errorf("a copy has %d bytes, %v", len(got), err)
	}
	if has, err := h.Has(other); !has || err != nil {
		t.Errorf("%v, %v of a copy", has, err)
	}
	// One that is not what it should be is none, nor is what was there before.
	if err := os.WriteFile(name, content[1:], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := h.Copy(name, other, sum); err == nil || !strings.Contains(err.Error(), sum) {
		t.Errorf("a copy of something else: %v", err)
	}
	if has, err := h.Has(other); has || err != nil {
		t.Errorf("%v, %v of a copy of something else", has, err)
	}
	if _, err := h.Size(other); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is there: %v", err)
	}
	if err := h.Put(t.Context(), other, bytes.NewReader(content), int64(len(content)), nil); err != nil {
		t.Fatal(err)
	}

	for what, from := range map[string]io.Reader{
		"too short": bytes.NewReader(content[:1<<20]),
		"broken":    io.MultiReader(bytes.NewReader(content[:1<<20]), failing{}),
	} {
		if err := put(t.Context(), from); err == nil {
			t.Errorf("%s: no error", what)
		}
		if has, err := h.Has(name); has || err != nil {
			t.Errorf("%s: %v, %v", what, has, err)
		}
		if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: it is there: %v", what, err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := put(ended, bytes.NewReader(content)); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}

	if err := h.Put(t.Context(), name, strings.NewReader("x"), 1, nil); err != nil {
		t.Fatal(err)
	}
	if names, err := h.List(dir); err != nil || len(names) != 2 {
		t.Errorf("%v, %v", names, err)
	}
	if err := h.RemoveDir(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory is there: %v", err)
	}
	if err := errors.Join(h.RemoveDir(dir), h.Remove(name)); err != nil {
		t.Errorf("once more: %v", err)
	}
}

// TestNotKept: a file of which libvirt has lost something is not taken for whole, one
// that has holes is.
func TestNotKept(t *testing.T) {
	root, uri := daemon(t)
	h := connect(t, uri)
	content := make([]byte, 1<<20)
	copy(content[1<<19:], "and the rest")
	for what, test := range map[string]struct {
		kept  int
		fails bool
	}{"all": {1 << 20, false}, "half": {1 << 19, true}} {
		name := filepath.Join(root, what)
		file, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if err == nil && test.kept > 1<<19 {
			_, err = file.WriteAt(content[1<<19:1<<19+12], 1<<19)
		}
		if err := errors.Join(err, file.Truncate(1<<20), file.Close()); err != nil {
			t.Fatal(err)
		}
		var lacks *LackError
		if err := h.check(name, 1<<20, crc32.Checksum(content, castagnoli)); errors.As(err, &lacks) != test.fails || (err != nil) != test.fails {
			t.Errorf("%s: %v", what, err)
		}
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("the disk is broken") }

// TestPoolsGo: what was made to get at files is gone with the connection, and what
// somebody else has taken away in between is made again.
func TestPoolsGo(t *testing.T) {
	root, uri := daemon(t)
	dir := filepath.Join(root, "images")
	one := connect(t, uri)
	two, err := Connect(t.Context(), uri, tool.Box{})
	if err != nil {
		t.Fatal(err)
	}
	if err := two.Put(t.Context(), dir+"/x", strings.NewReader("x"), 1, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := one.Read(dir + "/x"); err != nil {
		t.Fatal(err)
	}
	if err := two.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := one.Read(dir + "/x"); err != nil || string(got) != "x" {
		t.Errorf("%q, %v", got, err)
	}
	if err := os.WriteFile(dir+"/y", []byte("y"), 0o600); err != nil { // as QEMU does
		t.Fatal(err)
	}
	if got, err := one.Read(dir + "/y"); err != nil || string(got) != "y" {
		t.Errorf("%q, %v", got, err)
	}
	one.leave(dir)
	pools, _, err := one.virt.ConnectListAllStoragePools(1, 0)
	if err != nil || len(pools) > 0 {
		t.Errorf("%v, %v", pools, err)
	}
}

func TestDisk(t *testing.T) {
	root, uri := daemon(t)
	h := connect(t, uri)
	name := filepath.Join(root, "images", "zap", "state.qcow2")
	steps := []struct {
		size  int64
		isNew bool
		fails bool
	}{{8 << 20, true, false}, {8 << 20, false, false}, {16 << 20, false, false}, {8 << 20, false, true}}
	for _, step := range steps {
		isNew, err := h.MakeDisk(name, step.size)
		if isNew != step.isNew || (err != nil) != step.fails {
			t.Errorf("%d: %v, %v", step.size, isNew, err)
		}
		if step.isNew { // what is in it stays
			if out, err := exec.Command("qemu-io", "-c", "write -P 7 0 4096", name).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
	}
	out, err := exec.Command("qemu-io", "-c", "read -P 7 0 4096", name).CombinedOutput()
	if err != nil || strings.Contains(string(out), "failed") {
		t.Errorf("%v: %s", err, out)
	}
	if size, err := h.Size(name); err != nil || size != 16<<20 {
		t.Errorf("%d, %v", size, err)
	}
}

// small is a machine without a disk, whose firmware finds nothing to boot.
func small(name, uuid string, mark string) string {
	return "<domain type='qemu'><name>" + name + "</name><uuid>" + uuid + "</uuid><metadata>" + mark + "</metadata>" +
		"<memory unit='MiB'>64</memory><vcpu>1</vcpu><os><type arch='x86_64' machine='q35'>hvm</type></os>" +
		"<devices><memballoon model='none'/></devices></domain>"
}

func TestMachine(t *testing.T) {
	_, uri := daemon(t)
	h := connect(t, uri)
	if m, err := h.Find("zap"); m != nil || err != nil {
		t.Fatalf("%v, %v", m, err)
	}
	mark := domain.Mark{Host: "zap", Generation: "one", Trying: true}
	if err := h.Define(small("zap", domain.UUID("zap"), mark.String())); err != nil {
		t.Fatal(err)
	}
	see := func(running bool, want domain.Mark) {
		t.Helper()
		m, err := h.Find("zap")
		if err != nil || m == nil || m.Mark != want || m.Running != running {
			t.Fatalf("%+v, %v", m, err)
		}
	}
	see(false, mark)
	if err := errors.Join(h.Start("zap", false), h.SetAutostart("zap", true)); err != nil {
		t.Fatal(err)
	}
	see(true, mark)
	mark = domain.Mark{Host: "zap", Generation: "one", Previous: "none"}
	if err := h.SetMark("zap", mark); err != nil {
		t.Fatal(err)
	}
	see(true, mark)
	late, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond) // nobody there hears the button
	defer cancel()
	if err := h.Shutdown(late, "zap"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if err := errors.Join(h.Kill("zap"), h.Kill("zap"), h.Shutdown(t.Context(), "zap")); err != nil {
		t.Error(err)
	}
	see(false, mark)
	if err := h.SetMark("zap", domain.Mark{Host: "zap", Generation: "two"}); err != nil {
		t.Error(err)
	}
	see(false, domain.Mark{Host: "zap", Generation: "two"})
	if err := h.Undefine("zap"); err != nil {
		t.Error(err)
	}
	if m, err := h.Find("zap"); m != nil || err != nil {
		t.Errorf("%v, %v", m, err)
	}
}

// TestForeign: nobody's machine is taken for bake's.
func TestForeign(t *testing.T) {
	_, uri := daemon(t)
	h := connect(t, uri)
	other := "11111111-2222-4333-8444-555555555555"
	for name, text := range map[string]string{
		"plain":    small("plain", other, ""),
		"uuid":     small("uuid", other, domain.Mark{Host: "uuid", Generation: "x"}.String()),
		"unmarked": small("unmarked", domain.UUID("unmarked"), ""),
		"misread":  small("misread", domain.UUID("misread"), domain.Mark{Host: "zap", Generation: "x"}.String()),
		"space":    small("space", domain.UUID("space"), `<x:machine xmlns:x="urn:other" host="space" generation="x"/>`),
	} {
		if err := h.Define(text); err != nil {
			t.Fatal(name, err)
		}
		var foreign *LackError
		if m, err := h.Find(name); m != nil || !errors.As(err, &foreign) {
			t.Errorf("%s: %v, %v", name, m, err)
		}
		if all, err := h.Machines(); err != nil || len(all) > 0 {
			t.Errorf("%s: %v, %v", name, all, err)
		}
		if err := h.Undefine(name); err != nil {
			t.Fatal(name, err)
		}
	}
	if err := h.Define(strings.Replace(small("zap", other, ""), "<vcpu>", "<vcpux>", 1)); err == nil {
		t.Error("XML that is none was defined")
	}
}

// TestUndefined: a machine that somebody has undefined while it runs is told from others.
func TestUndefined(t *testing.T) {
	_, uri := daemon(t)
	h := connect(t, uri)
	text := small("zap", domain.UUID("zap"), domain.Mark{Host: "zap", Generation: "one"}.String())
	if err := errors.Join(h.Define(text), h.Start("zap", false)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []bool{false, true} {
		m, err := h.Find("zap")
		if err != nil || m == nil || !m.Running || m.Undefined != want {
			t.Fatalf("%+v, %v, want %v", m, err, want)
		}
		if !want {
			if err := h.Undefine("zap"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := h.Define(text); err != nil { // as it is advised
		t.Fatal(err)
	}
	if m, err := h.Find("zap"); err != nil || m == nil || !m.Running || m.Undefined {
		t.Errorf("%+v, %v", m, err)
	}
	if err := errors.Join(h.Kill("zap"), h.Undefine("zap")); err != nil {
		t.Error(err)
	}
}

// TestCheck: what this hypervisor cannot run is found out without a domain, and changes
// nothing.
func TestCheck(t *testing.T) {
	_, uri := daemon(t)
	h := connect(t, uri)
	wanted := full(t, h)
	wanted.Machine.Devices = []host.Device{{PCI: "00ff:ff:1f.7"}} // nor is there any of its disks
	text, err := domain.XML(wanted, "0123456789abcdef")
	if err != nil {
		t.Fatal(err)
	}
	fit, _, err := domain.Fit(text, domain.Mark{Host: "full", Generation: "0123456789abcdef"}, domain.Abilities{Emulated: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Check(fit); err != nil {
		t.Errorf("%v", err)
	}
	for _, test := range []struct{ from, to, want string }{
		{`firmware="efi"`, `firmware="bios"`, "the package ovmf"},
		{`model="tpm-crb"`, `model="tpm-spapr"`, "does not support TPM model"},
		{`arch="x86_64" machine="q35"`, `arch="x86_64" machine="q36"`, "cannot run such a domain"},
		{`<driver type="virtiofs"></driver>`, `<driver type="virtiofs"></driver><readonly/>`, "share a read-only bind mount"},
	} {
		bad := strings.Replace(fit, test.from, test.to, 1)
		if bad == fit {
			t.Fatalf("no %s in %s", test.from, fit)
		}
		var lacks *LackError
		err := h.Check(bad)
		if test.to[len(test.to)-2:] == "/>" && err == nil { // libvirt 11.0 and later
			continue
		}
		if !errors.As(err, &lacks) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", test.to, err)
		}
	}
	if all, err := h.Machines(); err != nil || len(all) > 0 {
		t.Errorf("%v, %v", all, err)
	}
}

// TestRenamed: a machine that somebody has given another name is not taken for none.
func TestRenamed(t *testing.T) {
	_, uri := daemon(t)
	h := connect(t, uri)
	if err := h.Define(small("zap", domain.UUID("zap"), domain.Mark{Host: "zap", Generation: "one"}.String())); err != nil {
		t.Fatal(err)
	}
	rename := func(from, to string) {
		t.Helper()
		d, err := h.virt.DomainLookupByName(from)
		if err == nil {
			_, err = h.virt.DomainRename(d, libvirt.OptString{to}, 0)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	rename("zap", "old")
	var lacks *LackError
	if m, err := h.Find("zap"); !errors.As(err, &lacks) || !strings.Contains(err.Error(), "virsh domrename old zap") {
		t.Errorf("%+v, %v", m, err)
	}
	rename("old", "zap")
	if m, err := h.Find("zap"); m == nil || err != nil {
		t.Errorf("%+v, %v", m, err)
	}
	if err := h.Undefine("zap"); err != nil {
		t.Error(err)
	}
}

// TestFirmware: libvirt keeps the variables of another firmware, unless it is told not to.
func TestFirmware(t *testing.T) {
	_, uri := daemon(t)
	h := connect(t, uri)
	wanted := full(t, h)
	wanted.Machine.TPM, wanted.Machine.Watchdog, wanted.Layers = host.TPMOff, "", nil // sooner started
	kept := func() string {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(shared.dir, "lib/qemu/nvram/full_VARS.fd"))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	var seen []string
	for _, step := range []struct {
		firmware host.Firmware
		fresh    bool
	}{{host.UEFI, false}, {host.UEFISecure, false}, {host.UEFISecure, true}} {
		wanted.Machine.Firmware = step.firmware
		if _, err := define(h, wanted, domain.Mark{Host: "full", Generation: "0123456789abcdef"}); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(h.Start("full", step.fresh), h.Kill("full")); err != nil {
			t.Fatal(err)
		}
		seen = append(seen, kept())
	}
	if err := h.Undefine("full"); err != nil {
		t.Error(err)
	}
	if seen[0] != seen[1] || seen[1] == seen[2] {
		t.Errorf("secure boot has the variables of the firmware before: %v; fresh ones are others: %v", seen[0] == seen[1], seen[1] != seen[2])
	}
}

// TestSaved: a machine whose memory is in a file is told from one that is off.
func TestSaved(t *testing.T) {
	_, uri := daemon(t)
	h := connect(t, uri)
	err := h.Define(small("zap", domain.UUID("zap"), domain.Mark{Host: "zap", Generation: "one"}.String()))
	if err == nil {
		err = h.Start("zap", false)
	}
	if err != nil {
		t.Fatal(err)
	}
	see := func(running, saved, restored bool) {
		t.Helper()
		if m, err := h.Find("zap"); err != nil || m == nil || m.Running != running || m.Saved != saved || m.Restored != restored || m.Stuck {
			t.Fatalf("%+v, %v", m, err)
		}
	}
	see(true, false, false)
	d, err := h.virt.DomainLookupByName("zap")
	if err == nil {
		err = h.virt.DomainManagedSave(d, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	see(false, true, false)
	if err := h.Start("zap", false); err != nil {
		t.Fatal(err)
	}
	see(true, false, true)
	if err := h.virt.DomainSuspend(d); err != nil {
		t.Fatal(err)
	}
	see(true, false, false)
	if err := errors.Join(h.Kill("zap"), h.Undefine("zap")); err != nil {
		t.Error(err)
	}
}

func TestNetwork(t *testing.T) {
	_, uri := daemon(t)
	h := connect(t, uri)
	if err := h.CheckNetwork("default"); err != nil {
		t.Error(err)
	}
	if err := h.CheckNetwork("nowhere"); err == nil || !strings.Contains(err.Error(), `has no network "nowhere"`) {
		t.Error(err)
	}
	n, err := h.virt.NetworkLookupByName("default")
	if err == nil {
		err = h.virt.NetworkDestroy(n)
		defer func() { _ = h.virt.NetworkCreate(n) }() // others use it
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := h.CheckNetwork("default"); err == nil || !strings.Contains(err.Error(), "virsh net-start default") {
		t.Error(err)
	}
}

func TestFilter(t *testing.T) {
	_, uri := daemon(t)
	h := connect(t, uri)
	if err := h.CheckFilter("clean-traffic"); err != nil {
		t.Error(err)
	}
	var lacks *LackError
	if err := h.CheckFilter("nowhere"); !errors.As(err, &lacks) || !strings.Contains(err.Error(), `has no filter "nowhere"`) {
		t.Error(err)
	}
}

// TestConsole: the copy is what the log has been, over a new file of virtlogd's and
// over a start.
func TestConsole(t *testing.T) {
	root, uri := daemon(t)
	h := connect(t, uri)
	log := filepath.Join(root, "images", "zap", "console.log")
	c := &Console{From: h, Log: log, To: filepath.Join(t.TempDir(), "console.log")}
	see := func(want ...string) {
		t.Helper()
		if err := c.Pull(); err != nil {
			t.Fatal(err)
		}
		for i, path := range []string{c.To, c.To + ".0"} {
			got, err := os.ReadFile(path)
			if i < len(want) && string(got) != want[i] || i >= len(want) && !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("%s has %q, %v, want %q", path, got, err, want)
			}
		}
	}
	write := func(text string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(log), 0o700), os.WriteFile(log, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	see()
	write("a")
	see("a")
	c = &Console{From: h, Log: log, To: c.To} // who begins anew does so with nothing
	see("a")
	write("abc")
	see("abc")
	write("abcd")
	if err := os.Rename(log, log+".0"); err != nil {
		t.Fatal(err)
	}
	write("e")
	see("e", "abcd")
	if err := errors.Join(os.Remove(log+".0"), os.Remove(c.To+".0")); err != nil {
		t.Fatal(err)
	}
	write("")
	see("")
	write("f")
	see("f")
	for i, text := range []string{"before", "and before that"} { // it was full before anybody looked
		if err := os.WriteFile(fmt.Sprintf("%s.%d", log, i), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c = &Console{From: h, Log: log, To: c.To}
	see("f", "before")
	if got, err := os.ReadFile(c.To + ".1"); err != nil || string(got) != "and before that" {
		t.Errorf("%q, %v", got, err)
	}
	if err := errors.Join(os.Remove(log+".0"), os.Remove(log+".1")); err != nil {
		t.Fatal(err)
	}
	c = &Console{From: h, Log: log, To: c.To}
	see("f")
	if err := os.Remove(log); err != nil {
		t.Fatal(err)
	}
	see()
}

// TestLongConsole: a guest that prints for ever fills no disk here.
func TestLongConsole(t *testing.T) {
	root, uri := daemon(t)
	h := connect(t, uri)
	log := filepath.Join(root, "images", "zap", "console.log")
	c := &Console{From: h, Log: log, To: filepath.Join(t.TempDir(), "console.log")}
	end := int64(0)
	for _, text := range []string{"one", "two", "three"} {
		end += 1 << 30
		if err := os.MkdirAll(filepath.Dir(log), 0o700); err != nil {
			t.Fatal(err)
		}
		file, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY, 0o600)
		if err == nil {
			_, err = file.WriteAt([]byte(text), end)
		}
		if err := errors.Join(err, file.Close(), c.Pull()); err != nil {
			t.Fatal(err)
		}
		end += int64(len(text))
		info, err := os.Stat(c.To)
		if err != nil || info.Size() != end || info.Sys().(*syscall.Stat_t).Blocks > 4*maxCopy/512 {
			t.Fatalf("%+v, %v", info.Sys(), err)
		}
		last := make([]byte, len(text))
		copied, err := os.Open(c.To)
		if err == nil {
			_, err = copied.ReadAt(last, end-int64(len(text)))
		}
		if err := errors.Join(err, copied.Close()); err != nil || string(last) != text {
			t.Errorf("%q, %v", last, err)
		}
	}
}

// daemonsOf are the processes of the libvirtd of a directory. The number that it has
// written is that of its own namespace.
func daemonsOf(t *testing.T, root string) (numbers []string) {
	t.Helper()
	out, err := exec.Command("pgrep", "-f", "libvirtd -p "+root).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, number := range strings.Fields(string(out)) {
		if comm, err := os.ReadFile("/proc/" + number + "/comm"); err == nil && string(comm) == "libvirtd\n" {
			numbers = append(numbers, number)
		}
	}
	return numbers
}

// TestKilledDaemon: a libvirtd that is killed takes no connection with it for longer
// than it takes to ask again.
func TestKilledDaemon(t *testing.T) {
	root, uri := ownDaemon(t)
	h, err := Connect(t.Context(), uri, tool.Box{})
	if err != nil {
		t.Fatal(err)
	}
	for _, number := range daemonsOf(t, root) {
		if err := exec.Command("kill", "-KILL", number).Run(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.Find("zap"); err == nil {
		t.Error("a dead daemon answers")
	}
	var libvirtError libvirt.Error
	if _, err := h.Machines(); err == nil || errors.As(err, &libvirtError) {
		t.Errorf("%v", err)
	}
	var nobody *ConnectError // whatever else was said, that is why
	if err := h.Close(); !errors.As(err, &nobody) || !strings.Contains(err.Error(), "it has hung up") {
		t.Errorf("%v", err)
	}
	if !slices.ContainsFunc(make([]struct{}, 100), func(struct{}) bool {
		again, err := Connect(t.Context(), uri, tool.Box{})
		if err != nil {
			time.Sleep(100 * time.Millisecond)
			return false
		}
		return again.Close() == nil
	}) {
		t.Error("it does not come back")
	}
}
