package download

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"sync/atomic"
)

const blocks = 8

// A block is one buffer on its way through the hashes.
type block struct {
	data [blockSize]byte
	used int
	left atomic.Int32 // hashes that have not seen it
}

// A digester hashes in the background, with one goroutine for each algorithm, so
// that hashing and whatever fills the blocks overlap.
type digester struct {
	free   chan *block // all of them when nothing is being hashed
	lanes  []chan *block
	hashes map[string]hash.Hash
}

// newDigester hashes with SHA-256 and with the algorithm, sha256 or sha512.
func newDigester(algorithm string) *digester {
	d := &digester{free: make(chan *block, blocks), hashes: map[string]hash.Hash{"sha256": sha256.New()}}
	if algorithm == "sha512" {
		d.hashes[algorithm] = sha512.New()
	}
	for range blocks {
		d.free <- new(block)
	}
	for _, h := range d.hashes {
		lane := make(chan *block, blocks)
		d.lanes = append(d.lanes, lane)
		go func() {
			for b := range lane {
				h.Write(b.data[:b.used])
				if b.left.Add(-1) == 0 {
					d.free <- b
				}
			}
		}()
	}
	return d
}

// block returns a free block, for add or drop.
func (d *digester) block() *block { return <-d.free }

func (d *digester) drop(b *block) { d.free <- b }

// add hashes the first n bytes of a block after those of the ones before it.
func (d *digester) add(b *block, n int) {
	b.used = n
	b.left.Store(int32(len(d.lanes)))
	for _, lane := range d.lanes {
		lane <- b
	}
}

// settle waits until everything added is hashed.
func (d *digester) settle() {
	var all [blocks]*block
	for i := range all {
		all[i] = <-d.free
	}
	for _, b := range all {
		d.free <- b
	}
}

func (d *digester) reset() {
	d.settle()
	for _, h := range d.hashes {
		h.Reset()
	}
}

// sum returns the digest of everything added so far.
func (d *digester) sum(algorithm string) string {
	d.settle()
	return hex.EncodeToString(d.hashes[algorithm].Sum(nil))
}

func (d *digester) close() {
	for _, lane := range d.lanes {
		close(lane)
	}
}

// readAll hashes a reader to its end and returns how many bytes that were.
func (d *digester) readAll(ctx context.Context, from io.Reader) (int64, error) {
	for total := int64(0); ; {
		if ctx.Err() != nil {
			return total, context.Cause(ctx)
		}
		b := d.block()
		n, err := from.Read(b.data[:])
		d.add(b, n)
		total += int64(n)
		if errors.Is(err, io.EOF) {
			return total, nil
		} else if err != nil {
			return total, err
		}
	}
}
