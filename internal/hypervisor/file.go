package hypervisor

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path"
	"strconv"

	"github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"
)

const (
	wholeMark = ".whole"
	maxRead   = 4 << 20 // bytes of a file that Read returns
)

// volume finds a file; the error wraps fs.ErrNotExist when it is not there. The
// pool may have been taken away by another bake since, and is then made again.
func (h *Hypervisor) volume(name string) (libvirt.StorageVol, error) {
	for again := true; ; again = false {
		p, err := h.pool(path.Dir(name), false)
		var v libvirt.StorageVol
		if err == nil {
			v, err = h.virt.StorageVolLookupByName(p, path.Base(name))
		}
		if is(err, libvirt.ErrNoStorageVol) && again { // made since, by QEMU or virtlogd
			if err = h.virt.StoragePoolRefresh(p, 0); err == nil {
				continue
			}
		}
		switch {
		case err == nil:
			return v, nil
		case again && (is(err, libvirt.ErrNoStoragePool) || is(err, libvirt.ErrOperationInvalid)):
			h.lose(path.Dir(name))
		case is(err, libvirt.ErrNoStorageVol), isNoDir(err):
			return v, fmt.Errorf("%s on %s: %w", name, h.URI, fs.ErrNotExist)
		default:
			return v, fmt.Errorf("looking for %s on %s: %w", name, h.URI, err)
		}
	}
}

// Size returns how large a file is in bytes: for a disk that knows, what its
// guest sees. The error wraps fs.ErrNotExist when it is not there.
func (h *Hypervisor) Size(name string) (int64, error) {
	v, err := h.volume(name)
	if err != nil {
		return 0, err
	}
	_, capacity, _, err := h.virt.StorageVolGetInfo(v)
	if is(err, libvirt.ErrNoStorageVol) { // deleted behind libvirt's back
		return 0, fmt.Errorf("%s on %s: %w", name, h.URI, fs.ErrNotExist)
	}
	return int64(capacity), err
}

// Written returns how many bytes of a file are on a disk. The error wraps
// fs.ErrNotExist when it is not there.
func (h *Hypervisor) Written(name string) (int64, error) {
	v, err := h.volume(name)
	if err != nil {
		return 0, err
	}
	_, _, written, err := h.virt.StorageVolGetInfo(v)
	return int64(written), err
}

// Has says whether a file was put there whole.
func (h *Hypervisor) Has(name string) (bool, error) {
	_, err := h.volume(name + wholeMark)
	if err == nil {
		_, err = h.volume(name)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Put writes a file of size bytes, 0600, in the place of one that is not whole or
// not the same any more. Progress is told how many bytes are there; it may be nil.
func (h *Hypervisor) Put(ctx context.Context, name string, from io.Reader, size int64, progress func(done int64)) error {
	if err := h.put(ctx, name, from, size, progress); err != nil {
		return fmt.Errorf("writing %s on %s: %w", name, h.URI, err)
	}
	return nil
}

func (h *Hypervisor) put(ctx context.Context, name string, from io.Reader, size int64, progress func(done int64)) error {
	if err := errors.Join(h.Remove(name+wholeMark), h.Remove(name)); err != nil {
		return err
	}
	v, err := h.create(name, "raw", size)
	if err != nil {
		return err
	}
	counted := &source{ctx: ctx, Reader: from, progress: progress}
	err = h.virt.StorageVolUpload(v, counted, 0, uint64(size), 0)
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case err == nil && counted.done != size:
		err = fmt.Errorf("%d bytes where %d were expected", counted.done, size)
	}
	if err == nil {
		err = h.check(name, size, counted.sum)
	}
	if err == nil {
		_, err = h.create(name+wholeMark, "raw", 0)
	}
	if err == nil || IsBusy(err) { // what is there is theirs, then
		return err
	}
	return errors.Join(err, h.Remove(name))
}

// Copy puts a file that is there whole once more, by the hypervisor's own hands, and
// reads the copy: it must have that SHA-256, in hexadecimal digits.
func (h *Hypervisor) Copy(from, to, sum string) error {
	err := errors.Join(h.Remove(to+wholeMark), h.Remove(to))
	if err == nil {
		err = h.copyHere(from, to, sum)
		if err != nil {
			err = errors.Join(err, h.Remove(to))
		}
	}
	if err != nil {
		return fmt.Errorf("copying %s to %s on %s: %w", from, to, h.URI, err)
	}
	return nil
}

func (h *Hypervisor) copyHere(from, to, sum string) error {
	source, err := h.volume(from)
	if err != nil {
		return err
	}
	_, capacity, _, err := h.virt.StorageVolGetInfo(source)
	if err != nil {
		return err
	}
	text, err := volumeOf(to, "raw", int64(capacity)).Marshal()
	if err == nil {
		err = h.in(path.Dir(to), true, func(p libvirt.StoragePool) error {
			_, err := h.virt.StorageVolCreateXMLFrom(p, text, source, 0)
			return err
		})
	}
	if err != nil {
		return err
	}
	is := sha256.New()
	if _, err := h.copy(is, to, 0, int64(capacity)); err != nil {
		return err
	}
	if got := hex.EncodeToString(is.Sum(nil)); got != sum {
		return &LackError{fmt.Sprintf("the copy has the digest %s, not %s", got, sum)}
	}
	_, err = h.create(to+wholeMark, "raw", 0)
	return err
}

// check sees to it that a file is what was sent, with that sum. When a disk is full or
// breaks at the end of an upload libvirt may say that all is well (seen with 9.0). A
// file that has all its blocks has been written; one of which a file system keeps
// less, be it that it compresses, is read.
func (h *Hypervisor) check(name string, size int64, sum uint32) error {
	v, err := h.volume(name)
	if err != nil {
		return err
	}
	_, _, kept, err := h.virt.StorageVolGetInfo(v)
	if err != nil || int64(kept) >= size {
		return err
	}
	is := crc32.New(castagnoli)
	n, err := h.copy(is, name, 0, size)
	if err == nil && (n != size || is.Sum32() != sum) {
		err = &LackError{fmt.Sprintf("libvirt has not kept all of its %s MiB: is there room?", mib(size))}
	}
	return err
}

// castagnoli is for what breaks by itself, and costs nothing.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// create makes an empty file; a disk of a format of its own has the size inside.
func (h *Hypervisor) create(name, format string, size int64) (v libvirt.StorageVol, err error) {
	text, err := volumeOf(name, format, size).Marshal()
	if err != nil {
		return v, err
	}
	err = h.in(path.Dir(name), true, func(p libvirt.StoragePool) error {
		v, err = h.virt.StorageVolCreateXML(p, text, 0)
		return err
	})
	return v, err
}

func volumeOf(name, format string, size int64) *libvirtxml.StorageVolume {
	return &libvirtxml.StorageVolume{Name: path.Base(name),
		Capacity:   &libvirtxml.StorageVolumeSize{Unit: "bytes", Value: uint64(size)},
		Allocation: &libvirtxml.StorageVolumeSize{Unit: "bytes", Value: 0},
		Target: &libvirtxml.StorageVolumeTarget{
			Format:      &libvirtxml.StorageVolumeTargetFormat{Type: format},
			Permissions: &libvirtxml.StorageVolumeTargetPermissions{Mode: "0600"}}}
}

// Remove deletes a file; one that is not there is no error.
func (h *Hypervisor) Remove(name string) error {
	v, err := h.volume(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = h.virt.StorageVolDelete(v, 0)
	}
	if err != nil {
		return fmt.Errorf("removing %s on %s: %w", name, h.URI, err)
	}
	return nil
}

// Read returns a file of at most 4 MiB. The error wraps fs.ErrNotExist when it is
// not there.
func (h *Hypervisor) Read(name string) ([]byte, error) {
	size, err := h.Size(name)
	if err == nil && size > maxRead {
		err = fmt.Errorf("%s on %s has %d bytes, which is more than anybody would read", name, h.URI, size)
	}
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	_, err = h.copy(&out, name, 0, size)
	return out.Bytes(), err
}

// copy writes a part of a file and returns how many bytes: as many as there were
// when somebody looked, so that a file that grows has an end.
func (h *Hypervisor) copy(to io.Writer, name string, from, end int64) (int64, error) {
	if from >= end {
		return 0, nil
	}
	v, err := h.volume(name)
	if err != nil {
		return 0, err
	}
	counted := &sink{Writer: to}
	if err := h.virt.StorageVolDownload(v, counted, uint64(from), uint64(end-from), 0); err != nil {
		return counted.done, fmt.Errorf("reading %s on %s: %w", name, h.URI, err)
	}
	return counted.done, nil
}

// MakeDisk makes an empty qcow2 disk of size bytes where there is none, and makes
// one that is smaller larger. It reports whether it has made one. One that is larger
// is an error: nothing here takes room away from a file system.
func (h *Hypervisor) MakeDisk(name string, size int64) (isNew bool, err error) {
	v, err := h.volume(name)
	if errors.Is(err, fs.ErrNotExist) {
		_, err = h.create(name, "qcow2", size)
		isNew = true
	} else if err == nil {
		var capacity uint64
		_, capacity, _, err = h.virt.StorageVolGetInfo(v)
		switch {
		case err != nil:
		case int64(capacity) > size:
			err = fmt.Errorf("it has %s MiB, which is more than %s", mib(int64(capacity)), mib(size))
		case int64(capacity) < size:
			err = h.virt.StorageVolResize(v, uint64(size), 0)
		}
	}
	if err != nil {
		return false, fmt.Errorf("making the disk %s on %s: %w", name, h.URI, err)
	}
	return isNew, nil
}

func mib(bytes int64) string { return strconv.FormatInt(bytes>>20, 10) }

// packet is what is sent at once: the most of virsh's, too. The library would take
// 4 MiB, copy them once more, and have the daemon wait for all of them before it
// writes any.
const packet = 262120

// source counts and sums what is read, and stops with its context.
type source struct {
	ctx context.Context
	io.Reader
	done     int64
	sum      uint32
	progress func(int64)
}

func (s *source) Read(p []byte) (int, error) {
	if s.ctx.Err() != nil {
		return 0, context.Cause(s.ctx)
	}
	n, err := s.Reader.Read(p[:min(len(p), packet)])
	s.done += int64(n)
	s.sum = crc32.Update(s.sum, castagnoli, p[:n])
	if s.progress != nil {
		s.progress(s.done)
	}
	return n, err
}

// sink counts what is written.
type sink struct {
	io.Writer
	done int64
}

func (s *sink) Write(p []byte) (int, error) {
	n, err := s.Writer.Write(p)
	s.done += int64(n)
	return n, err
}
