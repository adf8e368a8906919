package hypervisor

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// silence is how long libvirt may say nothing, not even that it is there, before it
// is taken for dead. A call may take longer.
var silence = 2 * time.Minute

const (
	keepAlive = 0x6b656570 // the program, by libvirt's virkeepaliveprotocol.x
	ping      = 1
	message   = 2
)

// alive asks the other end every now and then whether it is there, and closes when it
// no longer is: one that is stopped, or gone with its network, ends no connection,
// and who waits for its answer would do so for ever.
type alive struct {
	net.Conn
	silence time.Duration
	writing sync.Mutex
	head    []byte // of the length of a packet that is being written
	left    int    // bytes of that packet to come
	heard   atomic.Int64
	answers atomic.Bool // it has answered once: not all daemons are told to
	silent  atomic.Bool // it was closed for that
	ended   atomic.Bool // nothing comes or goes any more; the library may not have noticed yet
	done    chan struct{}
	once    sync.Once
}

func keptAlive(conn net.Conn) *alive {
	a := &alive{Conn: conn, silence: silence, done: make(chan struct{})}
	a.heard.Store(time.Now().UnixNano())
	go func() {
		every := time.NewTicker(a.silence / 8)
		defer every.Stop()
		for {
			select {
			case <-a.done:
				return
			case now := <-every.C:
				if !a.beat(now) {
					return
				}
			}
		}
	}()
	return a
}

// beat asks, and reports whether it is worth going on.
func (a *alive) beat(now time.Time) bool {
	if a.answers.Load() && now.Sub(time.Unix(0, a.heard.Load())) > a.silence {
		a.silent.Store(true)
		_ = a.Close()
		return false
	}
	if !a.writing.TryLock() { // it is being told something, which is as good
		return true
	}
	defer a.writing.Unlock()
	if a.left > 0 || len(a.head) > 0 { // in the middle of a packet
		return true
	}
	var packet []byte
	for _, word := range []uint32{headSize, keepAlive, 1, ping, message, 0, 0} {
		packet = binary.BigEndian.AppendUint32(packet, word)
	}
	_ = a.SetWriteDeadline(now.Add(a.silence / 8)) // it may not listen
	n, err := a.Conn.Write(packet)
	_ = a.SetWriteDeadline(time.Time{})
	if err != nil && (n > 0 || !errors.Is(err, os.ErrDeadlineExceeded)) {
		_ = a.Close() // half a packet helps nobody
		return false
	}
	return true
}

func (a *alive) Read(p []byte) (int, error) {
	n, err := a.Conn.Read(p)
	if n > 0 {
		a.heard.Store(time.Now().UnixNano())
	}
	if err != nil {
		a.ended.Store(true)
	}
	return n, err
}

// Write writes in pieces: each that goes is a sign of life.
func (a *alive) Write(p []byte) (done int, err error) {
	const piece = 64 << 10
	a.writing.Lock()
	defer a.writing.Unlock()
	for len(p) > 0 && err == nil {
		var n int
		n, err = a.Conn.Write(p[:min(piece, len(p))])
		a.count(p[:n])
		p, done = p[n:], done+n
		if n > 0 {
			a.heard.Store(time.Now().UnixNano())
		}
	}
	if err != nil {
		a.ended.Store(true)
	}
	return done, err
}

// count keeps account of where packets end.
func (a *alive) count(p []byte) {
	for len(p) > 0 {
		if a.left == 0 {
			a.head, p = append(a.head, p[0]), p[1:]
			if len(a.head) == 4 {
				a.left, a.head = int(binary.BigEndian.Uint32(a.head))-4, nil
			}
			continue
		}
		n := min(a.left, len(p))
		a.left, p = a.left-n, p[n:]
	}
}

func (a *alive) Close() error {
	a.once.Do(func() { close(a.done) })
	return a.Conn.Close()
}
