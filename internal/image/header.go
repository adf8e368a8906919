package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Limits on what a header may claim. The table limits are QEMU's own.
const (
	maxVirtual    = 16 << 40
	maxL1Bytes    = 32 << 20
	maxRefBytes   = 8 << 20
	maxSnapshots  = 65536
	minCluster    = 9
	maxCluster    = 21
	sector        = 512
	magic         = 0x514649fb // "QFI\xfb"
	headerBytesV2 = 72
	headerBytesV3 = 104
)

// Incompatible feature bits of a version 3 header.
const (
	bitDirty = 1 << iota
	bitCorrupt
	bitDataFile
	bitCompression
	bitExtendedL2
	knownBits = bitExtendedL2<<1 - 1
)

// Header extensions that make an image depend on something else.
const (
	extensionEnd        = 0
	extensionEncryption = 0x0537be77
	extensionDataFile   = 0x44415441
)

// A Header is the fixed part of a qcow2 header as it lies on disk, big endian.
// The fields from Incompatible on exist in version 3 only.
type Header struct {
	Magic            uint32
	Version          uint32
	BackingOffset    uint64
	BackingSize      uint32
	ClusterBits      uint32
	Size             uint64 // of the virtual disk, in bytes
	Encryption       uint32
	L1Entries        uint32
	L1Offset         uint64
	RefTableOffset   uint64
	RefTableClusters uint32
	Snapshots        uint32
	SnapshotsOffset  uint64

	Incompatible  uint64
	Compatible    uint64
	Autoclear     uint64
	RefcountOrder uint32
	Length        uint32
}

// ReadHeader reads and vets the qcow2 header of a file of size bytes, for whoever
// wants to hand that file to a program or a library: after it none of them opens
// another file, or allocates what the header says without having it. The error
// is a *RefusedError that says what is wrong with the image, without its name, or
// what reading said.
func ReadHeader(file io.ReaderAt, size int64) (Header, error) {
	start, err := readStart(file, size)
	if err != nil {
		return Header{}, err
	}
	h, err := decode(start)
	if err != nil {
		return Header{}, refuse(err)
	}
	for _, vet := range []func() error{
		h.vetShape,
		func() error { return h.vetAlone(file, size) },
		h.vetFeatures,
		func() error { return h.vetTables(uint64(size)) },
		func() error { return h.vetExtensions(file, size) },
	} {
		if err := vet(); err != nil {
			return Header{}, refuse(err)
		}
	}
	return h, nil
}

// VirtualSize returns how large the disk in a qcow2 file is for its guest, in bytes, also of one
// that stands on another. It vets nothing: the file is one that was made here.
func VirtualSize(file io.ReaderAt, size int64) (int64, error) {
	start, err := readStart(file, size)
	if err != nil {
		return 0, err
	}
	h, err := decode(start)
	return int64(h.Size), err
}

// readStart returns as much of the file's beginning as is needed to decode the
// header or to say what the file is instead.
func readStart(file io.ReaderAt, size int64) ([]byte, error) {
	start := make([]byte, min(size, sniffBytes))
	if n, err := file.ReadAt(start, 0); err != nil && !(errors.Is(err, io.EOF) && n == len(start)) {
		return nil, fmt.Errorf("reading the header: %w", err)
	}
	return start, nil
}

func decode(start []byte) (Header, error) {
	if len(start) < 4 || binary.BigEndian.Uint32(start) != magic {
		return Header{}, fmt.Errorf("not a qcow2 image: %s", looksLike(start))
	}
	if len(start) < headerBytesV2 {
		return Header{}, fmt.Errorf("truncated: the file ends inside the qcow2 header, after %d bytes", len(start))
	}
	var fixed [headerBytesV3]byte
	copy(fixed[:], start)
	switch version := binary.BigEndian.Uint32(start[4:]); {
	case version == 2:
		clear(fixed[headerBytesV2:])
		binary.BigEndian.PutUint32(fixed[96:], 4) // 16-bit reference counts
		binary.BigEndian.PutUint32(fixed[100:], headerBytesV2)
	case version != 3:
		return Header{}, fmt.Errorf("qcow version %d: only 2 and 3 are known", version)
	case len(start) < headerBytesV3:
		return Header{}, fmt.Errorf("truncated: the file ends inside the qcow2 header, after %d bytes", len(start))
	}
	var h Header
	if err := binary.Read(bytes.NewReader(fixed[:]), binary.BigEndian, &h); err != nil {
		return Header{}, fmt.Errorf("decoding the header: %w", err)
	}
	return h, nil
}

func (h Header) cluster() uint64 { return 1 << h.ClusterBits }

func (h Header) vetShape() error {
	switch {
	case h.ClusterBits < minCluster || h.ClusterBits > maxCluster:
		return fmt.Errorf("malformed: clusters of 2^%d bytes, not 2^%d to 2^%d", h.ClusterBits, minCluster, maxCluster)
	case h.Size == 0:
		return errors.New("its virtual size is 0")
	case h.Size > maxVirtual:
		return fmt.Errorf("its virtual size is %d bytes: more than 16 TiB is refused", h.Size)
	case h.Size%sector != 0:
		return fmt.Errorf("malformed: a virtual size of %d bytes is no multiple of %d", h.Size, sector)
	case h.RefcountOrder > 6:
		return fmt.Errorf("malformed: reference counts of 2^%d bits", h.RefcountOrder)
	case h.Version == 3 && (h.Length < headerBytesV3 || h.Length%8 != 0 || uint64(h.Length) > h.cluster()):
		return fmt.Errorf("malformed: a header of %d bytes", h.Length)
	}
	return nil
}

// vetAlone refuses an image that needs another file or a key.
func (h Header) vetAlone(file io.ReaderAt, size int64) error {
	if h.BackingOffset != 0 || h.BackingSize != 0 {
		name := make([]byte, min(h.BackingSize, 1023))
		if h.BackingOffset < uint64(size) {
			n, _ := file.ReadAt(name, int64(h.BackingOffset)) // only for the message
			name = name[:n]
		}
		return fmt.Errorf("it has the backing file %q: a base image must stand alone", name)
	}
	if h.Encryption != 0 {
		return errors.New("it is encrypted: a base image must be readable without a key")
	}
	return nil
}

func (h Header) vetFeatures() error {
	switch bits := h.Incompatible; {
	case bits&bitDataFile != 0:
		return errors.New("it keeps its data in an external data file: a base image must stand alone")
	case bits&bitCorrupt != 0:
		return errors.New("it is marked corrupt: qemu-img check -r all may repair it")
	case bits&bitDirty != 0:
		return errors.New("it is marked dirty: a machine is using it, or crashed; qemu-img check -r all repairs it")
	case bits&^uint64(knownBits) != 0:
		return fmt.Errorf("it has incompatible features that are not known here: bits %#x", bits&^uint64(knownBits))
	}
	return nil
}

// vetTables refuses tables that are misplaced, too large, or too small for the
// disk they map.
func (h Header) vetTables(size uint64) error {
	entry := uint64(8)
	if h.Incompatible&bitExtendedL2 != 0 {
		entry = 16
	}
	mapped := h.cluster() * (h.cluster() / entry) // bytes of disk behind one L1 entry: at most 2^39
	l1 := uint64(h.L1Entries) * 8
	refs := uint64(h.RefTableClusters) * h.cluster()
	switch {
	case l1 > maxL1Bytes:
		return fmt.Errorf("malformed: an L1 table of %d bytes", l1)
	case uint64(h.L1Entries) < (h.Size+mapped-1)/mapped:
		return fmt.Errorf("malformed: an L1 table of %d entries is too small for %d bytes", h.L1Entries, h.Size)
	case refs == 0 || refs > maxRefBytes:
		return fmt.Errorf("malformed: a reference count table of %d bytes", refs)
	case h.Snapshots > maxSnapshots:
		return fmt.Errorf("malformed: %d snapshots", h.Snapshots)
	}
	tables := []struct {
		name           string
		offset, length uint64
	}{
		{"L1 table", h.L1Offset, l1},
		{"reference count table", h.RefTableOffset, refs},
		{"snapshot table", h.SnapshotsOffset, uint64(h.Snapshots) * 40},
	}
	for _, t := range tables {
		switch {
		case t.length == 0:
		case t.offset%h.cluster() != 0 || t.offset == 0:
			return fmt.Errorf("malformed: its %s is at byte %d", t.name, t.offset)
		case t.offset > size || t.length > size-t.offset:
			return fmt.Errorf("truncated: the file has %d bytes and its %s ends at byte %d", size, t.name, t.offset+t.length)
		}
	}
	return nil
}

// vetExtensions walks the header extensions, which end with the first cluster.
// Those it does not know are safe to ignore, by the format's own rule.
func (h Header) vetExtensions(file io.ReaderAt, size int64) error {
	end := min(int64(h.cluster()), size)
	var head [8]byte
	for at := int64(h.Length); at+int64(len(head)) <= end; {
		if _, err := file.ReadAt(head[:], at); err != nil {
			return fmt.Errorf("reading the header extensions: %w", err)
		}
		kind, length := binary.BigEndian.Uint32(head[:]), int64(binary.BigEndian.Uint32(head[4:]))
		at += int64(len(head))
		switch {
		case kind == extensionEnd:
			return nil
		case length > end-at:
			return fmt.Errorf("malformed: the header extension %#x of %d bytes leaves the first cluster", kind, length)
		case kind == extensionDataFile:
			return errors.New("it names an external data file: a base image must stand alone")
		case kind == extensionEncryption:
			return errors.New("it is encrypted: a base image must be readable without a key")
		}
		at += (length + 7) &^ 7
	}
	return nil
}
