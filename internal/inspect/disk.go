package inspect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
	"github.com/lima-vm/go-qcow2reader/image/qcow2"
	"github.com/lima-vm/go-qcow2reader/log"

	"bake/internal/image"
)

const (
	// mostRead is what one image may make us read: bytes of the file and bytes
	// of the disk behind it, together. An honest image costs about 10 MiB.
	mostRead = 1 << 30
	// keptBytes of unpacked clusters stay in memory.
	keptBytes = 32 << 20
	// mostWindow of a zstd frame. QEMU's are as large as a cluster: 2 MiB at most.
	mostWindow = 8 << 20
)

func init() {
	qcow2.SetDecompressor(qcow2.CompressionTypeZlib, inflate)
	qcow2.SetDecompressor(qcow2.CompressionTypeZstd, unzstd)
	log.SetWarnFunc(nil) // it would write to standard error
}

// budget ends the reading of an image that asks for too much, and any reading
// once the context has ended. Every loop over foreign data reads through one.
type budget struct {
	ctx  context.Context
	left int64
}

func (b *budget) spend(n int) error {
	if b.ctx.Err() != nil {
		return context.Cause(b.ctx)
	}
	if b.left -= int64(n); b.left < 0 {
		return errors.New("it makes one read far more than a disk of its kind: malformed")
	}
	return nil
}

// source is the image file. It ends in zeros up to any length, as for QEMU: the
// last cluster may be cut short.
type source struct {
	file   io.ReaderAt
	size   int64
	budget *budget
}

func (s source) ReadAt(p []byte, off int64) (int, error) {
	if err := s.budget.spend(len(p)); err != nil {
		return 0, err
	}
	if off < 0 || off >= s.size {
		return 0, io.EOF
	}
	n, err := s.file.ReadAt(p[:min(int64(len(p)), s.size-off)], off)
	if err != nil && !errors.Is(err, io.EOF) {
		return n, err
	}
	clear(p[n:])
	return len(p), nil
}

// disk is what the machine would see.
type disk struct {
	content io.ReaderAt
	size    int64
	format  string // "qcow2" or "raw"
	budget  *budget
}

// ReadAt reads all of p or fails: there is no end to read up to.
func (d *disk) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > d.size || int64(len(p)) > d.size-off {
		return 0, fmt.Errorf("malformed: it points to byte %d of a disk of %d bytes", off, d.size)
	}
	if err := d.budget.spend(len(p)); err != nil {
		return 0, err
	}
	n, err := d.content.ReadAt(p, off)
	if n == len(p) {
		return n, nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, fmt.Errorf("reading byte %d of the disk: %w", off, err)
}

// openFile opens a regular file and says how long it is.
func openFile(path string) (*os.File, int64, error) {
	// A named pipe would block in open: ask before. The file is asked again.
	if info, err := os.Stat(path); err != nil {
		return nil, 0, err
	} else if !info.Mode().IsRegular() {
		return nil, 0, errors.New("not a regular file")
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	if err != nil {
		return nil, 0, errors.Join(err, file.Close())
	}
	return file, info.Size(), nil
}

// newDisk makes a disk of a file of size bytes.
func newDisk(ctx context.Context, file io.ReaderAt, size int64) (*disk, error) {
	b := &budget{ctx: ctx, left: mostRead}
	in := source{file, size, b}
	var start [4]byte
	if size < int64(len(start)) {
		return nil, fmt.Errorf("its %d bytes are no disk image", size)
	}
	if _, err := in.ReadAt(start[:], 0); err != nil {
		return nil, fmt.Errorf("reading its first bytes: %w", err)
	}
	if string(start[:]) != qcow2.Magic {
		return &disk{content: in, size: size, format: "raw", budget: b}, nil
	}
	h, err := image.ReadHeader(in, size)
	if err != nil {
		return nil, fmt.Errorf("refusing the qcow2 image: %w", err)
	}
	content, err := qcow2.Open(in, nil)
	if err == nil {
		err = content.Readable()
	}
	if err != nil {
		return nil, fmt.Errorf("opening the qcow2 image: %w", err)
	}
	kept := &clusters{image: content, disk: int64(h.Size), size: int64(1) << h.ClusterBits, kept: map[int64][]byte{}}
	return &disk{content: kept, size: int64(h.Size), format: "qcow2", budget: b}, nil
}

// clusters keeps the clusters read last: the library unpacks one for each read,
// and a file system is read in pieces of 256 bytes.
type clusters struct {
	image io.ReaderAt
	disk  int64 // bytes
	size  int64 // of a cluster
	kept  map[int64][]byte
	order []int64 // of arrival
}

func (c *clusters) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) {
		at := off + int64(n)
		cluster, err := c.get(at / c.size)
		if err != nil {
			return n, err
		}
		copied := copy(p[n:], cluster[min(at%c.size, int64(len(cluster))):])
		if copied == 0 {
			return n, io.EOF
		}
		n += copied
	}
	return n, nil
}

func (c *clusters) get(index int64) ([]byte, error) {
	if cluster, ok := c.kept[index]; ok {
		return cluster, nil
	}
	cluster := make([]byte, max(0, min(c.size, c.disk-index*c.size)))
	n, err := c.image.ReadAt(cluster, index*c.size)
	if n < len(cluster) {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("cluster %d: %w", index, err)
	}
	if int64(len(c.order)) >= keptBytes/c.size {
		delete(c.kept, c.order[0])
		c.order = c.order[1:]
	}
	c.kept[index], c.order = cluster, append(c.order, index)
	return cluster, nil
}

var inflaters = sync.Pool{New: func() any { return flate.NewReader(nil) }}

func inflate(r io.Reader) (io.ReadCloser, error) {
	reader := inflaters.Get().(io.Reader)
	if err := reader.(flate.Resetter).Reset(r, nil); err != nil {
		return nil, err
	}
	return &whole{reader, func() { inflaters.Put(reader) }}, nil
}

var zstdReaders = sync.Pool{New: func() any {
	reader, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(mostWindow))
	if err != nil {
		return err
	}
	return reader
}}

func unzstd(r io.Reader) (io.ReadCloser, error) {
	switch reader := zstdReaders.Get().(type) {
	case *zstd.Decoder:
		if err := reader.Reset(r); err != nil {
			return nil, err
		}
		return &whole{reader, func() { zstdReaders.Put(reader) }}, nil
	case error:
		return nil, reader
	}
	return nil, errors.New("no zstd decoder")
}

// whole fills the caller's buffer. The library asks once per cluster, and after
// a short answer it unpacks the cluster again from its beginning.
type whole struct {
	io.Reader
	free func()
}

func (w *whole) Read(p []byte) (int, error) {
	n, err := io.ReadFull(w.Reader, p)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	return n, err
}

func (w *whole) Close() error {
	w.free()
	return nil
}
