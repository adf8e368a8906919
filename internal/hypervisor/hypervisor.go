// Package hypervisor does on a libvirt host what bake needs there: files in their
// places, one domain, its console, its addresses.
//
// It speaks libvirt's own protocol, over the daemon's socket or over ssh, and
// starts no virsh. Where files go is the business of the XML: a file is put at its
// path there by way of a storage pool that bake makes over its directory and takes
// away again. So a hypervisor needs no pool of bake's, and one that is far away
// is no other than one that is near.
//
//	qemu:///system                      this machine; ?socket=PATH for another socket
//	qemu:///session                     this user's own daemon
//	qemu+ssh://[user@]host[:port]/system  by the ssh of this machine, which must know
//	                                    the host's key: nothing is asked; ?keyfile=PATH for
//	                                    the key that is shown
//
// It promises:
//   - A file is put whole: what is there under a name and its mark ".whole" is all
//     of it, on the hypervisor's disk. A run that is killed leaves at most a file
//     without its mark and a pool of the name bake-..., which the next run uses.
//   - A disk is never overwritten. MakeDisk makes one where there is none, and
//     makes it larger.
//   - A domain that has no mark of bake's, or the name but not the UUID of a host,
//     is somebody else's: it is seen, and not touched.
//   - A call that hangs ends with its context: the connection is then cut. It is, too,
//     when libvirt is silent for two minutes, whatever it is at.
//
// It refuses URIs of other drivers and of transports that do not say who is at
// the other end.
//
// # Decisions
//
// 2026-11: digitalocean/go-libvirt, which is Go alone. The C library's binding
// would need cgo and libvirt's headers wherever bake is built.
//
// 2026-11: the ssh of this machine instead of an ssh in Go: its configuration, its
// agent, its jump hosts and its known_hosts are the person's own. The other end is
// virt-ssh-helper (libvirt 6.8 and later), or nc where that is missing.
//
// 2026-11: a pool for as long as it is needed, not one that stays: a directory
// pool has no subdirectories, and a generation has one. Would change for storage
// that is no directory (LVM, ZFS, Ceph).
//
// 2026-11: what a libvirt, its QEMU and its firmware can run it is asked by having it make
// QEMU's command line of the XML, which changes nothing there. Its domain capabilities say
// less: nothing of io= and discard=, nor that virtiofs cannot be read-only; and what they do
// say, of iothreads or a TPM, the command line finds out, too. They are asked for what a
// machine is to have where it can be had, see Abilities, and the command line whether it can.
//
// 2026-11: the console is read where libvirt logs it, by way of the same pool: it
// holds what was said before anybody looked, and looking takes the console from
// nobody.
package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket/dialers"

	"bake/internal/host"
	"bake/internal/tool"
)

// grace is the time between the end of a context and that of the connection: for
// taking away what was made.
const grace = 10 * time.Second

// parting is how long hanging up may take.
const parting = 2 * time.Second

// Hypervisor is a connection to a libvirt daemon.
type Hypervisor struct {
	URI string

	virt  *libvirt.Libvirt
	conn  *alive
	stop  func() bool
	pools map[string]libvirt.StoragePool // by directory
	made  map[string]bool                // of them those that are ours to take away

	watchers watchers
}

// A ConnectError says that there is nobody to talk to.
type ConnectError struct {
	URI    string
	Remote bool
	Err    error
}

func (e *ConnectError) Error() string {
	hint := "is libvirtd running, and may you use its socket (the group libvirt)?"
	if e.Remote {
		hint = "try ssh to that host, and virsh -c " + e.URI + " version"
	}
	return fmt.Sprintf("connecting to %s: %v: %s", e.URI, e.Err, hint)
}

func (e *ConnectError) Unwrap() error { return e.Err }

// Network says whether it is another machine that cannot be reached.
func (e *ConnectError) Network() bool { return e.Remote }

// Connect opens a connection, which ends soon after ctx does. The error is a
// *ConnectError, or says what is wrong with the URI.
func Connect(ctx context.Context, uri string, tools tool.Box) (*Hypervisor, error) {
	read, err := host.ParseURI(uri)
	if err != nil {
		return nil, err
	}
	place := place{read}
	fail := func(err error) (*Hypervisor, error) {
		return nil, &ConnectError{URI: uri, Remote: place.Host != "", Err: err}
	}
	dialed, err := place.dial(ctx, tools)
	if err != nil {
		return fail(err)
	}
	conn := keptAlive(dialed)
	conn.beat(time.Now()) // before the first call, whose answer comes after this one's: from then on silence is one
	h := &Hypervisor{URI: uri, conn: conn, pools: map[string]libvirt.StoragePool{}, made: map[string]bool{},
		virt: libvirt.NewWithDialer(dialers.NewAlreadyConnected(inOrder(conn)))}
	// What hangs must not outlive the one who waits for it.
	h.stop = context.AfterFunc(ctx, func() { time.AfterFunc(grace, func() { conn.Close() }) })
	late := time.AfterFunc(silence, func() { conn.silent.Store(true); conn.Close() })
	err = h.virt.ConnectToURI(libvirt.ConnectURI("qemu:///" + place.Instance))
	late.Stop()
	if err != nil {
		h.stop()
		said := conn.Close()
		switch {
		case conn.silent.Load():
			err = errSilent
		case said != nil && !errors.Is(said, net.ErrClosed): // by ssh: that is the cause
			err = said
		}
		return fail(err)
	}
	return h, nil
}

// IsRemote says whether it is another machine.
func (h *Hypervisor) IsRemote() bool {
	place, err := host.ParseURI(h.URI)
	return err == nil && place.Host != ""
}

var errSilent = errors.New("it does not answer")

// Close takes away what was made to get at files, and hangs up. The error is a
// *ConnectError when the other end has done so before, or is silent.
func (h *Hypervisor) Close() error {
	lost := h.stop() && (h.conn.ended.Load() || !h.virt.IsConnected())
	if lost {
		err := errors.New("it has hung up")
		if h.conn.silent.Load() {
			err = errSilent
		}
		_ = h.conn.Close()
		return &ConnectError{URI: h.URI, Remote: h.IsRemote(), Err: err}
	}
	for dir := range h.made {
		h.leave(dir)
	}
	// A helper at the other end of an ssh may be gone before it has handed the answer on.
	cut := time.AfterFunc(parting, func() { h.conn.Close() })
	defer cut.Stop()
	_ = h.virt.Disconnect() // nothing depends on it
	_ = h.conn.Close()
	return nil
}

// place is where a URI leads.
type place struct{ host.URI }

// sockets are where a daemon listens, the most likely first: libvirtd, then the
// one for QEMU alone of newer installations.
func (p place) sockets(getenv func(string) string) []string {
	if p.Socket != "" {
		return []string{p.Socket}
	}
	dir := "/run/libvirt"
	if p.Instance == "session" {
		runtime := getenv("XDG_RUNTIME_DIR")
		if runtime == "" {
			runtime = fmt.Sprintf("/run/user/%d", os.Geteuid())
		}
		dir = filepath.Join(runtime, "libvirt")
	}
	return []string{filepath.Join(dir, "libvirt-sock"), filepath.Join(dir, "virtqemud-sock")}
}
