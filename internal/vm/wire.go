package vm

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
)

const (
	maxFrame = 64 << 10 // bytes
	waiting  = 512      // frames of a neighbour that wait for one side or the other
)

// A Wire is a place on the guest's Ethernet: a switch of three ports, of which
// one is the guest's card, one the user-mode network and one the caller's.
//
// It promises that what the caller sends reaches the guest and nobody else. The
// user-mode network would take any frame for the guest's own and open, on this
// machine, the connection that it asks for. What the guest sends reaches both, but
// for frames to an address that the caller has sent from.
//
// What the caller cannot take, or the guest not yet, is dropped, as on any network.
type Wire struct {
	toGuest  chan []byte
	toCaller chan []byte
	network  net.Conn
	ended    chan struct{}
	once     sync.Once

	mutex sync.Mutex
	ours  map[[6]byte]bool
}

// ErrWireClosed says that the guest, or the wire to it, is gone.
var ErrWireClosed = errors.New("the wire to the guest is closed")

// newWire starts to switch between a card and its network until one of them ends.
func newWire(card, network net.Conn) *Wire {
	w := &Wire{toGuest: make(chan []byte, waiting), toCaller: make(chan []byte, waiting),
		network: network, ended: make(chan struct{}), ours: map[[6]byte]bool{}}
	fromNetwork := make(chan []byte)
	var all sync.WaitGroup
	all.Go(func() { w.end(w.fromCard(card, network)) })
	all.Go(func() {
		in := bufio.NewReader(network)
		for {
			frame, err := readFrame(in)
			if err != nil {
				w.end(err)
				return
			}
			select {
			case fromNetwork <- frame:
			case <-w.ended:
				return
			}
		}
	})
	all.Go(func() { w.end(w.toCard(card, fromNetwork)) })
	go func() {
		<-w.ended
		card.Close()
		network.Close()
		all.Wait()
	}()
	return w
}

func (w *Wire) end(error) { w.once.Do(func() { close(w.ended) }) }

// fromCard hands the guest's frames on.
func (w *Wire) fromCard(card io.Reader, network io.Writer) error {
	in := bufio.NewReader(card)
	for {
		frame, err := readFrame(in)
		if err != nil {
			return err
		}
		select {
		case w.toCaller <- frame:
		default:
		}
		if w.isOurs(frame) {
			continue
		}
		if err := writeFrame(network, frame); err != nil {
			return err
		}
	}
}

// toCard is the one that writes to the guest.
func (w *Wire) toCard(card io.Writer, fromNetwork <-chan []byte) error {
	for {
		var frame []byte
		select {
		case frame = <-fromNetwork:
		case frame = <-w.toGuest:
		case <-w.ended:
			return nil
		}
		if err := writeFrame(card, frame); err != nil {
			return err
		}
	}
}

func (w *Wire) isOurs(frame []byte) bool {
	if len(frame) < 6 {
		return true // and nobody's: no network takes it
	}
	w.mutex.Lock()
	defer w.mutex.Unlock()
	return w.ours[[6]byte(frame)]
}

// Send gives the guest an Ethernet frame, or drops it if too many wait. The error
// is ErrWireClosed.
func (w *Wire) Send(frame []byte) error {
	if len(frame) >= 12 {
		w.mutex.Lock()
		w.ours[[6]byte(frame[6:])] = true
		w.mutex.Unlock()
	}
	select {
	case <-w.ended:
		return ErrWireClosed
	default:
	}
	select {
	case w.toGuest <- frame:
	default:
	}
	return nil
}

// Receive waits for the next frame of the guest's, whoever it is for. The error is
// ErrWireClosed.
func (w *Wire) Receive() ([]byte, error) {
	select {
	case frame := <-w.toCaller:
		return frame, nil
	case <-w.ended:
		return nil, ErrWireClosed
	}
}

func readFrame(in io.Reader) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(in, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n > maxFrame {
		return nil, errors.New("a frame is too long")
	}
	frame := make([]byte, n)
	_, err := io.ReadFull(in, frame)
	return frame, err
}

func writeFrame(out io.Writer, frame []byte) error {
	_, err := out.Write(append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(frame)), uint32(len(frame))), frame...))
	return err
}
