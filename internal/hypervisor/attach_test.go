package hypervisor

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"bake/internal/domain"
)

// parrot is a boot sector that says "bake!" on the serial port and from then on what it
// hears there. It counts between two looks, for each takes QEMU's lock, without which
// nobody can type.
var parrot = []byte{
	0xfa,             // cli
	0xbe, 0x2a, 0x7c, // mov si, text
	0xfc,       // cld
	0x2e, 0xac, // next: cs lodsb
	0x84, 0xc0, // test al, al
	0x74, 0x06, // jz hear
	0xba, 0xf8, 0x03, // mov dx, 0x3f8
	0xee,       // out dx, al
	0xeb, 0xf4, // jmp next
	0xb9, 0x00, 0x10, // hear: mov cx, 0x1000
	0xe2, 0xfe, // loop $
	0xba, 0xfd, 0x03, // mov dx, 0x3fd
	0xec,       // in al, dx
	0xa8, 0x01, // test al, 1
	0x74, 0xf3, // jz hear
	0xba, 0xf8, 0x03, // mov dx, 0x3f8
	0xec,       // in al, dx
	0xee,       // out dx, al
	0xeb, 0xec, // jmp hear
}

// startParrot defines and starts a machine that is a parrot.
func startParrot(t *testing.T, h *Hypervisor, name string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "bake-parrot-") // for QEMU, which is somebody else there
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	sector := make([]byte, 512)
	copy(sector, parrot)
	copy(sector[0x2a:], "bake!")
	sector[510], sector[511] = 0x55, 0xaa
	disk := filepath.Join(dir, "disk")
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(disk, append(sector, make([]byte, 1<<20)...), 0o644)); err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(small(name, domain.UUID(name), domain.Mark{Host: name, Generation: "one"}.String()), "<devices>",
		"<devices><disk type='file'><driver name='qemu' type='raw'/><source file='"+disk+"'/><target dev='vda' bus='virtio'/></disk><serial type='pty'/>", 1)
	if err := errors.Join(h.Define(text), h.Start(name, false)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(h.Kill(name), h.Undefine(name)) })
}

// heard is what has been written to it so far.
type heard struct {
	mutex sync.Mutex
	text  bytes.Buffer
	news  chan struct{}
	ended chan error // says how the conversation ended
}

func newHeard() *heard {
	return &heard{news: make(chan struct{}, 1), ended: make(chan error, 1)}
}

func (h *heard) Write(p []byte) (int, error) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	select {
	case h.news <- struct{}{}:
	default:
	}
	return h.text.Write(p)
}

func (h *heard) wait(t *testing.T, words string) {
	t.Helper()
	for late := time.After(time.Minute); ; {
		h.mutex.Lock()
		text := h.text.String()
		h.mutex.Unlock()
		if strings.Contains(text, words) {
			return
		}
		select {
		case <-h.news:
		case err := <-h.ended:
			t.Fatalf("it ended before anybody said %q: %q, %v", words, text, err)
		case <-late:
			t.Fatalf("nobody says %q: %q", words, text)
		}
	}
}

// TestAttach: somebody talks with a machine, until they have had enough, are thrown out or
// the machine is off.
func TestAttach(t *testing.T) {
	_, uri := daemon(t)
	admin := connect(t, uri)
	startParrot(t, admin, "parrot")
	attach := func(ctx context.Context, h *Hypervisor, force bool) (keys *io.PipeWriter, screen *heard) {
		in, keys := io.Pipe()
		screen = newHeard()
		go func() { screen.ended <- h.Attach(ctx, "parrot", in, screen, force) }()
		return keys, screen
	}
	talk := func(keys io.Writer, screen *heard, words string) {
		t.Helper()
		if _, err := io.WriteString(keys, words); err != nil {
			t.Fatal(err)
		}
		screen.wait(t, words)
	}
	end := func(what string, screen *heard) {
		t.Helper()
		select {
		case err := <-screen.ended:
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%s: it goes on", what)
		}
	}
	h := connect(t, uri)
	keys, screen := attach(t.Context(), h, false)
	talk(keys, screen, "hello")
	var lacks *LackError
	if err := admin.Attach(t.Context(), "parrot", strings.NewReader(""), io.Discard, false); !errors.As(err, &lacks) || !strings.Contains(err.Error(), "--force") {
		t.Errorf("two at one console: %v", err)
	}
	keys.Close()
	end("who types has had enough", screen)

	ctx, cancel := context.WithCancel(t.Context())
	keys, screen = attach(ctx, h, false) // the connection is as good as new
	talk(keys, screen, "again")
	cancel()
	end("the context ends", screen)

	keys, screen = attach(t.Context(), h, false)
	talk(keys, screen, "there") // before anybody comes to throw them out
	other := connect(t, uri)
	keys, others := attach(t.Context(), other, true)
	talk(keys, others, "mine")
	select {
	case err := <-screen.ended:
		if !IsRefused(err) {
			t.Errorf("thrown out: %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("two are at one console")
	}

	if err := admin.Kill("parrot"); err != nil {
		t.Fatal(err)
	}
	end("the machine is off", others)
	if err := h.Attach(t.Context(), "parrot", strings.NewReader(""), io.Discard, false); !IsRefused(err) {
		t.Errorf("the console of a machine that is off: %v", err)
	}
}

// TestOutlive: who looks at a console is told when it is of another start of the machine,
// and not before.
func TestOutlive(t *testing.T) {
	_, uri := daemon(t)
	h := connect(t, uri)
	startParrot(t, h, "twice")
	d, err := h.virt.DomainLookupByName("twice")
	if err != nil {
		t.Fatal(err)
	}
	if h.isAnother(d) {
		t.Error("the same machine is another")
	}
	ctx, told := context.WithTimeout(t.Context(), time.Minute)
	go h.outlive(ctx, d, told)
	if err := errors.Join(h.virt.DomainDestroy(d), h.Start("twice", false)); err != nil {
		t.Fatal(err)
	}
	if <-ctx.Done(); !errors.Is(ctx.Err(), context.Canceled) || !h.isAnother(d) {
		t.Errorf("nobody says that it is another: %v", ctx.Err())
	}
}
