// Package vm boots a machine in a throwaway QEMU, looks at it and leaves
// nothing behind.
//
// It exists so that bake can prove what it built: the artifact's own disk and
// seed, unchanged, on virtual hardware like the real one's. QEMU is started
// directly and not through libvirt: no daemon, no privileges, no definitions
// that survive. The guest gets user-mode networking: it works for every user,
// and the only way in is a port on 127.0.0.1. What neighbours see is for more
// cards, on taps that the caller opened: see Spec.Cards.
//
// It promises that
//   - disk, seed and secrets are opened read-only: the guest writes to an overlay,
//     and to a state disk that is empty, unless the caller gives one;
//   - QEMU and its files go away with Close, with the context and, if this
//     process is killed, with the process (its directory with the next Start);
//   - all that a guest says is data: console, packets and keys are bounded,
//     checked and free of control characters before anything prints them;
//   - "nobody answered", "the server said no" and "another machine answered"
//     are different errors.
//
// It refuses to guess. KVM counts only after a guest has run under it; a
// silent port only after the guest was seen to get the question; a host key
// only from the guest's own console. It does not choose timeouts for a boot:
// contexts are the caller's.
//
// # The way in
//
// A systemd credential in the machine's SMBIOS tables gives named users one more
// key for one boot: see LoginCredential. systemd-tmpfiles-setup.service writes
// the key to /run and a drop-in of sshd to the throwaway overlay, half a minute
// (under emulation) before sshd starts; the artifact's own sshd files, their
// order and what sshd -T reports are untouched. Seen to work on first boots of
// Debian 12 (systemd 252) and 13 (257).
//
// # Snapshots
//
// Snapshot and Restore keep and bring back memory, devices, root disk, state disk
// and the firmware's variables. What is outside of the guest is not turned back: the
// console's text goes on, forwarded ports stay, and QEMU's user-mode network
// knows connections that the restored guest does not (and the other way round),
// so each login is made anew. A login works at once, half a second after.
//
// # Decisions
//
// 2026-11: monitor and console are socket pairs that QEMU inherits, not
// sockets with names: nobody else can connect and no path is too long. Would
// change for a QEMU that must be found again by another process.
//
// 2026-11: ports are forwarded at run time to port 0 and read back from "info
// usernet": QEMU binds, so no other program can take the port in between. If
// QEMU ever reports forwarded ports in QMP, read them there.
//
// 2026-11: what an outsider sees is read from captured packets. User-mode
// networking accepts a connection before the guest has seen it, so connect(2)
// says nothing. A tap in a network namespace would show the same and needs
// root.
//
// 2026-11: more cards are open files and not names of taps. QEMU then needs
// neither a privilege nor the namespace that a tap is in, and a tap goes away
// with the last process that has it open. Would change for a network that
// neighbours join by a path, such as a bridge helper's.
//
// 2026-11: the accelerator probe is a firmware image of our own and not a
// kernel: 0.1 s, no file to ship, and it exercises what broken KVMs break. If
// a KVM passes it and still cannot boot Linux, the missing instruction belongs
// into probe.lst.
//
// 2026-11: UEFI firmware is found by the JSON descriptors that every
// distribution installs for libvirt, not by a list of file names.
//
// 2026-11: snapshots are QMP jobs (QEMU 6.0), not savevm of the monitor for
// people: they name the disks, and errors are fields, not words. They lie in the
// throwaway overlay and go away with it. A device that cannot be saved (a
// vhost-user file system, say) would need a boot for each look instead.
//
// 2026-11: the accelerator's clear answers are remembered until a reboot, a
// probe that ran out of time is not: a busy machine looks the same.
package vm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"bake/internal/tool"
)

// A Spec is the machine to boot and what it boots from.
type Spec struct {
	Disk     string // root disk, qcow2, with any chain of backing files; never written to
	Seed     string // NoCloud image (iso or vfat), raw, attached read-only; "" for none
	Secrets  string // volume of secrets, raw, attached read-only; "" for none
	Payload  string // disk with packages, raw, attached read-only; "" for none
	State    int64  // bytes of an empty state disk that goes away with the machine; 0 for none
	Arch     string // "amd64" or "arm64"; "" is amd64
	Accel    string // "kvm" or "tcg", as Accelerator found
	Firmware string // "uefi", "uefi-secure" (Microsoft's keys enrolled), or "auto": that with KVM, where it is installed
	VCPUs    int    // at least 1
	Memory   int64  // bytes, at least 128 MiB; a fraction of a MiB is cut off
	MAC      string // of the first network card; "" leaves it to QEMU

	// StateDisk is a state disk that stays, qcow2, in place of an empty one. It is
	// the only file of the caller's that the guest writes to.
	StateDisk string

	// Address and Gateway are the guest's static IPv4 configuration, around
	// which the network is laid out. The zero values mean that the guest
	// uses DHCP.
	Address netip.Prefix
	Gateway netip.Addr

	// Offline cuts the guest off from this machine and the world. It can
	// still be reached by SSH and Knock.
	Offline bool

	// NoCard leaves the first card out, so that the guest has no network device
	// at all. Nobody can log in or knock: console and ports are the way to it.
	NoCard bool

	// Cards are more network cards, each an open tap (IFF_TAP, IFF_NO_PI and
	// IFF_VNET_HDR, attached to its device) that QEMU inherits. No address is
	// served there and QEMU chooses the MAC. The files stay the caller's.
	Cards []*os.File

	// Ports are the names of virtio-serial ports, /dev/virtio-ports/NAME in
	// the guest: see Machine.Port.
	Ports []string

	// Wire puts this process between the first network card and its network,
	// as a neighbour of the guest: see Machine.Wire.
	Wire bool

	// Credentials are systemd system credentials, name to content, 32 KiB
	// in all. They travel by SMBIOS, never on a command line.
	Credentials map[string]string

	// Console gets a live copy of what the guest writes on its first serial
	// port, as plain UTF-8 text: escape sequences and control characters are
	// removed, lines end in \n. It must not block. May be nil.
	Console io.Writer
}

// A Machine is a running guest. Its methods may be used concurrently.
type Machine struct {
	child    *process
	console  *consoleText
	heard    chan struct{} // closed when the console has ended
	monitor  *monitor
	lan      lan
	scratch  *scratch
	ports    []net.Conn
	wire     *Wire              // nil unless Spec.Wire
	writable []string           // disks that a snapshot holds
	confined bool               // QEMU is, by seccomp
	stop     context.CancelFunc // kills QEMU
	isClose  atomic.Bool
	once     sync.Once
	closing  error

	forwards sync.Mutex // held while forwarded ports change
	sshPort  int        // forwarded to port 22, 0 before the first use
	jobs     int        // snapshots taken and restored, for names
}

// Confined says whether QEMU runs under a seccomp filter, with no new programs and no
// privileges. It does not where it was built without one, or where bake itself runs in a
// sandbox that allows none.
func (m *Machine) Confined() bool { return m.confined }

// startTime bounds what QEMU needs before it takes commands, on a busy machine.
const startTime = 60 * time.Second

// Start boots a machine and returns while its firmware runs. The machine ends
// with Close or with ctx, whichever is first; Close must be called in any case.
// The error is or wraps a *tool.MissingError when QEMU or firmware is missing,
// and otherwise carries what QEMU complained about.
func Start(ctx context.Context, tools tool.Box, spec Spec) (*Machine, error) {
	m, err := start(ctx, tools, spec)
	if err != nil {
		return nil, fmt.Errorf("starting the machine: %w", err)
	}
	return m, nil
}

func start(ctx context.Context, tools tool.Box, spec Spec) (*Machine, error) {
	if err := spec.check(); err != nil {
		return nil, err
	}
	lan, err := newLAN(spec)
	if err != nil {
		return nil, err
	}
	board, err := boardOf(spec.Arch)
	if err != nil {
		return nil, err
	}
	firm, err := spec.findFirmware(board, firmwareDirs)
	if err != nil {
		return nil, err
	}
	scratch, err := newScratch(tools)
	if err != nil {
		return nil, err
	}
	m := &Machine{lan: lan, scratch: scratch, console: newConsole(spec.Console), heard: make(chan struct{}), writable: spec.writable()}
	ctx, m.stop = context.WithCancel(ctx)
	if err := m.boot(ctx, tools, board.program, spec, firm); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	context.AfterFunc(ctx, func() { m.Close() })
	return m, nil
}

// boot starts QEMU and waits until it takes commands.
func (m *Machine) boot(ctx context.Context, tools tool.Box, program string, spec Spec, firm firmware) error {
	disks, err := spec.prepare(ctx, tools, firm, m.scratch)
	if err != nil {
		return err
	}
	credentials, err := m.scratch.credentials(spec.Credentials)
	if err != nil {
		return err
	}
	args := spec.command(firm, disks, credentials, m.lan)
	// A build without seccomp does not know the option.
	if _, err := tools.Run(ctx, program, "-sandbox", "on", "-version"); err == nil {
		args = append(args, "-sandbox", sandbox)
		m.confined = true
	}
	if err := m.launch(ctx, tools, program, args, spec); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	if _, err := m.monitor.do(ctx, "qmp_capabilities", nil); err != nil {
		select {
		case <-m.monitor.done:
			<-m.child.done
			return m.child.ended()
		default:
			return err
		}
	}
	return m.scratch.forget(credentials)
}

// launch starts QEMU with its wires and the taps, and the goroutines that
// listen. Our ends are closed by Close.
func (m *Machine) launch(ctx context.Context, tools tool.Box, program string, args []string, spec Spec) error {
	wires := make([]net.Conn, 2+len(spec.Ports)) // monitor, console, ports
	if spec.Wire {
		wires = append(wires, nil, nil) // card, network
	}
	ends := make([]*os.File, len(wires))
	for i := range wires {
		var err error
		if wires[i], ends[i], err = wire(); err != nil {
			closeAll(wires[:i])
			closeAll(ends[:i])
			return err
		}
	}
	inherited := slices.Concat(ends[:2], spec.Cards, ends[2:])
	child, err := launch(ctx, tools, program, inherited, args...)
	closeAll(ends) // QEMU has its own
	if err != nil {
		closeAll(wires)
		return err
	}
	m.child, m.monitor, m.ports = child, newMonitor(wires[0]), wires[2:2+len(spec.Ports)]
	if spec.Wire {
		m.wire = newWire(wires[len(wires)-2], wires[len(wires)-1])
	}
	go func() {
		defer close(m.heard)
		defer wires[1].Close()
		io.Copy(m.console, wires[1])
	}()
	return nil
}

func closeAll[C io.Closer](all []C) {
	for _, one := range all {
		one.Close()
	}
}

// Guest is the IPv4 address that the guest has, or will get by DHCP.
func (m *Machine) Guest() netip.Addr { return m.lan.guest }

// Wire is a place on the guest's Ethernet, nil without Spec.Wire.
func (m *Machine) Wire() *Wire { return m.wire }

// Port is this end of the i-th of Spec.Ports. What is written before the guest
// has opened its end is kept or lost at QEMU's discretion. The connection
// outlives a Restore and ends with the machine.
func (m *Machine) Port(i int) net.Conn { return m.ports[i] }

// wire returns the two ends of a socket pair, the second for a child.
func wire() (net.Conn, *os.File, error) {
	ends, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(ends[0]), "wire"), os.NewFile(uintptr(ends[1]), "wire")
	defer ours.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		theirs.Close()
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	return conn, theirs, nil
}

func (s Spec) check() error {
	const least = 128 << 20
	switch {
	case s.Accel == kvm && cmp.Or(s.Arch, amd64) != runtime.GOARCH:
		return fmt.Errorf("KVM runs no machine for %s on this one, which is %s", cmp.Or(s.Arch, amd64), runtime.GOARCH)
	case s.Accel != kvm && s.Accel != tcg:
		return fmt.Errorf("the accelerator %q is neither %s nor %s", s.Accel, kvm, tcg)
	case s.VCPUs < 1:
		return fmt.Errorf("%d virtual processors", s.VCPUs)
	case s.Memory < least:
		return fmt.Errorf("%d bytes of memory are less than 128 MiB", s.Memory)
	}
	if s.NoCard && (s.Wire || len(s.Cards) > 0) {
		return errors.New("a machine without a network card has neither a wire to it nor more of them")
	}
	if s.MAC != "" {
		if address, err := net.ParseMAC(s.MAC); err != nil || len(address) != 6 || address[0]&1 != 0 {
			return fmt.Errorf("%q is no MAC address of a network card", s.MAC)
		}
	}
	for i, card := range s.Cards {
		// QEMU would take what it has opened itself under that number.
		if card == nil || card.Fd() == ^uintptr(0) {
			return fmt.Errorf("the extra network card %d has no open tap", i)
		}
	}
	return nil
}

// PowerDown presses the power button and waits until the guest has shut down.
// A guest that does not listen yet misses it, so that ctx ends the wait.
func (m *Machine) PowerDown(ctx context.Context) error {
	if _, err := m.monitor.do(ctx, "system_powerdown", nil); err != nil {
		return fmt.Errorf("shutting down: %w", err)
	}
	select {
	case <-m.child.done:
		if m.child.err != nil {
			return fmt.Errorf("shutting down: %w", m.child.ended())
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("shutting down: %w", context.Cause(ctx))
	}
}

// Reset presses the reset button. Memory is lost, disks are not. It returns where the
// processors were before, as QEMU's "info registers" prints it, for whoever must know
// why nothing else would help.
func (m *Machine) Reset(ctx context.Context) (string, error) {
	was, err := m.monitor.human(ctx, "info registers -a")
	if err == nil {
		_, err = m.monitor.do(ctx, "system_reset", nil)
	}
	if err != nil {
		return was, fmt.Errorf("resetting: %w", m.orDead(err))
	}
	return was, nil
}

// Close kills QEMU if it still runs, waits for its end and removes its files.
// Further calls return what the first did.
func (m *Machine) Close() error {
	m.once.Do(func() {
		m.isClose.Store(true)
		m.stop()
		if m.child != nil {
			<-m.child.done
			<-m.heard
			m.monitor.wire.Close()
			closeAll(m.ports)
			if m.wire != nil {
				m.wire.end(nil)
			}
		}
		if err := m.scratch.remove(); err != nil {
			m.closing = fmt.Errorf("closing the machine: %w", err)
		}
	})
	return m.closing
}

func (m *Machine) closed() bool { return m.isClose.Load() }
