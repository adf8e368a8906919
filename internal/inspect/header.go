package inspect

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// header is the fixed part of a qcow2 header, big endian. The fields from
// Incompatible on exist in version 3 only.
type header struct {
	Magic, Version   uint32
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
	Incompatible     uint64
	Compatible       uint64
	Autoclear        uint64
	RefcountOrder    uint32
	Length           uint32
}

// Incompatible features.
const (
	bitDirty = 1 << iota
	bitCorrupt
	bitDataFile
	bitCompression
	bitExtendedL2
	knownBits = bitExtendedL2<<1 - 1
)

const (
	maxDisk    = 16 << 40
	maxL1Bytes = 32 << 20
)

// vetHeader refuses a header that would make the library open another file, or
// allocate what the header says without having it.
func vetHeader(file io.ReaderAt, size int64) (header, error) {
	var h header
	raw := make([]byte, binary.Size(h))
	if _, err := file.ReadAt(raw, 0); err != nil {
		return h, fmt.Errorf("reading the header: %w", err)
	}
	if err := binary.Read(bytes.NewReader(raw), binary.BigEndian, &h); err != nil {
		return h, fmt.Errorf("decoding the header: %w", err)
	}
	if h.Version == 2 {
		h.Incompatible, h.Length = 0, 72
	}
	entry := int64(8)
	if h.Incompatible&bitExtendedL2 != 0 {
		entry = 16
	}
	switch bits := h.Incompatible; {
	case h.Version != 2 && h.Version != 3:
		return h, fmt.Errorf("version %d: only 2 and 3 are known", h.Version)
	case h.BackingOffset != 0 || h.BackingSize != 0:
		return h, errors.New("it has a backing file: a base image must stand alone")
	case bits&bitDataFile != 0:
		return h, errors.New("it keeps its data in an external data file: a base image must stand alone")
	case h.Encryption != 0:
		return h, errors.New("it is encrypted")
	case bits&(bitDirty|bitCorrupt) != 0:
		return h, errors.New("it is marked dirty or corrupt: qemu-img check -r all may repair it")
	case bits&^uint64(knownBits) != 0:
		return h, fmt.Errorf("it has incompatible features that are not known here: bits %#x", bits&^uint64(knownBits))
	case h.ClusterBits < 9 || h.ClusterBits > 21:
		return h, fmt.Errorf("malformed: clusters of 2^%d bytes", h.ClusterBits)
	case h.Size == 0 || h.Size > maxDisk || h.Size%sector != 0:
		return h, fmt.Errorf("malformed: a virtual size of %d bytes", h.Size)
	case h.Version == 3 && (h.Length < 104 || h.Length > 1<<h.ClusterBits):
		return h, fmt.Errorf("malformed: a header of %d bytes", h.Length)
	}
	cluster := int64(1) << h.ClusterBits
	mapped := cluster * (cluster / entry) // behind one entry of the L1 table
	l1 := int64(h.L1Entries) * 8
	switch {
	case l1 > maxL1Bytes, int64(h.L1Entries) < (int64(h.Size)+mapped-1)/mapped:
		return h, fmt.Errorf("malformed: an L1 table of %d entries for %d bytes", h.L1Entries, h.Size)
	case h.L1Offset == 0 || h.L1Offset > uint64(size) || l1 > size-int64(h.L1Offset):
		return h, fmt.Errorf("truncated: the file has %d bytes and its L1 table starts at byte %d", size, h.L1Offset)
	}
	return h, nil
}
