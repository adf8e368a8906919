package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"bake/internal/tool"
)

// newTap makes a tap in a network namespace of its own, which ends with it.
func newTap(t *testing.T) *os.File {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can make a network namespace")
	}
	var tap *os.File
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			made <- err
			return
		}
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			made <- err
			return
		}
		tap = os.NewFile(uintptr(fd), "tap")
		request, err := unix.NewIfreq("tap0")
		if err == nil {
			request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
			err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
		}
		made <- err
	}()
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tap.Close() })
	return tap
}

// Cards come after the user-mode one, each on its own descriptor, and their
// number changes nothing else.
func TestCardsOnTheCommandLine(t *testing.T) {
	spec := Spec{Accel: tcg, VCPUs: 1, Memory: 1 << 30}
	plain := spec.command(firmware{}, nil, nil, lan{})
	for n := range 3 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			spec.Cards = make([]*os.File, n)
			args := spec.command(firmware{}, nil, nil, lan{})
			if got, want := len(args), len(plain)+4*n; got != want {
				t.Errorf("%d arguments, want %d: %q", got, want, args)
			}
			first := slices.IndexFunc(args, func(a string) bool { return strings.HasPrefix(a, "user,id=net0") })
			for i := range n {
				at := slices.Index(args, fmt.Sprintf("tap,id=card%d,vhost=off,fd=%d", i, 5+i))
				if at < first || first < 0 || args[at+2] != fmt.Sprintf("virtio-net-pci,romfile=,netdev=card%d", i) {
					t.Errorf("the card %d is wrong or comes first: %q", i, args)
				}
			}
		})
	}
}

// Without its card a machine has no network device, and who asks for the network is
// told so.
func TestNoCard(t *testing.T) {
	spec := bare(emptyImage(t))
	spec.NoCard = true
	m, err := Start(context.Background(), tool.Box{}, spec)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if text, err := m.monitor.human(context.Background(), "info network"); err != nil || text != "" {
		t.Errorf("QEMU has a network: %q, %v", text, err)
	}
	if _, err := m.Knock(context.Background(), 22); !errors.Is(err, ErrUnreachable) {
		t.Errorf("Knock: %v", err)
	}
	if _, err := m.sshForward(context.Background()); !errors.Is(err, ErrUnreachable) {
		t.Errorf("a login: %v", err)
	}
	for _, change := range []func(*Spec){func(s *Spec) { s.Wire = true }, func(s *Spec) { s.Cards = []*os.File{nil} }} {
		both := spec
		change(&both)
		if err := both.check(); err == nil || !strings.Contains(err.Error(), "without a network card") {
			t.Errorf("a card after all: %v", err)
		}
	}
}

// QEMU has the taps, in their order, and the caller still does after Close.
func TestCards(t *testing.T) {
	spec := bare(emptyImage(t))
	spec.Cards = []*os.File{newTap(t), newTap(t)}
	m, err := Start(context.Background(), tool.Box{}, spec)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	text, err := m.monitor.human(context.Background(), "info network")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`card0: index=0,type=tap,fd=5`, `card1: index=0,type=tap,fd=6`, `net0: index=0,type=user`} {
		if !strings.Contains(text, want) {
			t.Errorf("QEMU lacks %q:\n%s", want, text)
		}
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	for i, tap := range spec.Cards {
		if request, err := unix.NewIfreq(""); err != nil || unix.IoctlIfreq(int(tap.Fd()), unix.TUNGETIFF, request) != nil {
			t.Errorf("the tap %d is gone with the machine: %v", i, err)
		}
	}
}

// A machine never comes up with fewer cards than it was to have.
func TestCardsFail(t *testing.T) {
	image := emptyImage(t)
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	closed, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for _, test := range []struct {
		name string
		card *os.File
		want string
	}{
		{"none", nil, "the extra network card 0 has no open tap"},
		{"no tap", null, "QEMU died"},
		{"closed", closed, "the extra network card 0 has no open tap"},
	} {
		t.Run(test.name, func(t *testing.T) {
			spec := bare(image)
			spec.Cards = []*os.File{test.card}
			demandNoStart(t, spec, test.want)
		})
	}
}

// QEMU can be somebody who may not touch a network: all it needs is open.
func TestCardsNeedNoPrivilege(t *testing.T) {
	tap := newTap(t)
	needQEMU(t)
	if _, err := exec.LookPath("setpriv"); err != nil {
		t.Skip(err)
	}
	args := append([]string{"--reuid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all", boards[amd64].program,
		"-accel", tcg, "-nodefaults", "-display", "none", "-S", "-monitor", "stdio"},
		strings.Fields(strings.ReplaceAll(strings.Join(Spec{Cards: []*os.File{tap}}.cards(), " "), "fd=5", "fd=3"))...)
	cmd := exec.Command("setpriv", args...)
	cmd.Stdin = strings.NewReader("info network\nquit\n")
	cmd.ExtraFiles = []*os.File{tap}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "type=tap,fd=3") {
		t.Errorf("QEMU without privileges: %v: %s", err, out)
	}
}
