package image

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
)

const testCluster = 1 << 16

// plain returns a version 3 image of 1 GiB without data: header, reference
// count table, one block of it, L1 table, in one cluster each.
func plain() []byte {
	image := make([]byte, 4*testCluster)
	h := Header{
		Magic: magic, Version: 3, ClusterBits: 16, Size: 1 << 30,
		L1Entries: 2, L1Offset: 3 * testCluster,
		RefTableOffset: testCluster, RefTableClusters: 1,
		RefcountOrder: 4, Length: headerBytesV3,
	}
	put(image, h)
	binary.BigEndian.PutUint64(image[testCluster:], 2*testCluster)
	for cluster := range 4 {
		binary.BigEndian.PutUint16(image[2*testCluster+2*cluster:], 1)
	}
	return image
}

func put(image []byte, h Header) {
	var out bytes.Buffer
	if err := binary.Write(&out, binary.BigEndian, h); err != nil {
		panic(err)
	}
	copy(image, out.Bytes())
}

// with returns plain() with its header changed.
func with(change func(*Header)) []byte {
	image := plain()
	var h Header
	if _, err := binary.Decode(image, binary.BigEndian, &h); err != nil {
		panic(err)
	}
	change(&h)
	put(image, h)
	return image
}

// extended returns plain() with a header extension.
func extended(kind uint32, data string) []byte {
	image := plain()
	at := image[headerBytesV3:]
	binary.BigEndian.PutUint32(at, kind)
	binary.BigEndian.PutUint32(at[4:], uint32(len(data)))
	copy(at[8:], data)
	return image
}

func at(offset int, text string) []byte {
	return append(make([]byte, offset), text...)
}

func TestReadHeaderAccepts(t *testing.T) {
	v2 := with(func(h *Header) {
		h.Version = 2
		h.Incompatible, h.RefcountOrder, h.Length = 0, 0, 0
	})
	tests := map[string][]byte{
		"version 3":   plain(),
		"version 2":   v2,
		"zstd":        with(func(h *Header) { h.Incompatible = bitCompression }),
		"extended L2": with(func(h *Header) { h.Incompatible = bitExtendedL2; h.L1Entries = 4 }),
		"largest": with(func(h *Header) {
			h.Size = maxVirtual
			h.L1Entries = 8192
			h.ClusterBits = 17
			h.L1Offset = 1 << 17
			h.RefTableOffset = 1 << 17
		}),
		"unknown extension": extended(0x12345678, "ignored by the format's rule"),
	}
	for name, image := range tests {
		t.Run(name, func(t *testing.T) {
			h, err := ReadHeader(bytes.NewReader(image), int64(len(image)))
			if err != nil {
				t.Fatal(err)
			}
			if want := uint64(1 << 30); name != "largest" && h.Size != want {
				t.Errorf("virtual size %d, want %d", h.Size, want)
			}
		})
	}
}

func TestReadHeaderRefuses(t *testing.T) {
	backed := with(func(h *Header) { h.BackingOffset, h.BackingSize = 512, 11 })
	copy(backed[512:], "/etc/passwd")
	long := extended(7, "")
	binary.BigEndian.PutUint32(long[headerBytesV3+4:], 1<<32-1)
	tests := []struct {
		name  string
		image []byte
		want  string
	}{
		{"empty", nil, "it is empty"},
		{"html", []byte("\n<!DOCTYPE html><p>404"), "HTML"},
		{"gzip", []byte("\x1f\x8b\x08\x00"), "gzip"},
		{"xz", []byte("\xfd7zXZ\x00"), "xz"},
		{"vmdk", []byte("KDMV\x01\x00\x00\x00"), "VMDK"},
		{"iso", at(32769, "CD001"), "ISO 9660"},
		{"mbr", at(510, "\x55\xaa"), "raw disk"},
		{"gpt", at(512, "EFI PART"), "raw disk"},
		{"tar", at(257, "ustar"), "tar"},
		{"zeros", make([]byte, 4096), "zeros"},
		{"text", []byte("hello"), "none that are known"},
		{"three bytes", []byte("QFI"), "none that are known"},
		{"cut in v2 header", plain()[:50], "truncated"},
		{"cut in v3 header", plain()[:90], "truncated"},
		{"cut before L1", plain()[:3*testCluster], "truncated: the file has 196608 bytes and its L1 table"},
		{"cut in refcounts", with(func(h *Header) { h.RefTableOffset = 4 * testCluster }), "reference count table ends"},
		{"version 1", with(func(h *Header) { h.Version = 1 }), "qcow version 1"},
		{"version 4", with(func(h *Header) { h.Version = 4 }), "qcow version 4"},
		{"backing file", backed, `backing file "/etc/passwd"`},
		{"backing file elsewhere", with(func(h *Header) { h.BackingOffset, h.BackingSize = 1<<63, 1<<31 }), "backing file"},
		{"backing size alone", with(func(h *Header) { h.BackingSize = 1 }), "backing file"},
		{"data file bit", with(func(h *Header) { h.Incompatible = bitDataFile }), "external data file"},
		{"data file name", extended(extensionDataFile, "/etc/shadow"), "external data file"},
		{"AES", with(func(h *Header) { h.Encryption = 1 }), "encrypted"},
		{"LUKS", extended(extensionEncryption, strings.Repeat("x", 16)), "encrypted"},
		{"dirty", with(func(h *Header) { h.Incompatible = bitDirty }), "dirty"},
		{"corrupt", with(func(h *Header) { h.Incompatible = bitCorrupt }), "corrupt"},
		{"unknown feature", with(func(h *Header) { h.Incompatible = 1 << 5 }), "bits 0x20"},
		{"highest feature", with(func(h *Header) { h.Incompatible = 1 << 63 }), "bits 0x8000000000000000"},
		{"no size", with(func(h *Header) { h.Size = 0 }), "virtual size is 0"},
		{"4 EiB", with(func(h *Header) { h.Size = 1 << 62 }), "more than 16 TiB"},
		{"16 EiB", with(func(h *Header) { h.Size = 1<<64 - 512 }), "more than 16 TiB"},
		{"odd size", with(func(h *Header) { h.Size++ }), "no multiple"},
		{"small cluster", with(func(h *Header) { h.ClusterBits = 8 }), "clusters"},
		{"huge cluster", with(func(h *Header) { h.ClusterBits = 64 }), "clusters"},
		{"refcount width", with(func(h *Header) { h.RefcountOrder = 7 }), "reference counts"},
		{"short header", with(func(h *Header) { h.Length = 72 }), "a header of 72"},
		{"long header", with(func(h *Header) { h.Length = 1 << 31 }), "a header of"},
		{"huge L1", with(func(h *Header) { h.L1Entries = 1<<32 - 1 }), "L1 table of"},
		{"small L1", with(func(h *Header) { h.L1Entries = 1 }), "too small"},
		{"L1 at 0", with(func(h *Header) { h.L1Offset = 0 }), "L1 table is at byte 0"},
		{"L1 wraps", with(func(h *Header) { h.L1Offset = 1<<64 - testCluster }), "truncated"},
		{"L1 unaligned", with(func(h *Header) { h.L1Offset++ }), "L1 table is at"},
		{"no refcounts", with(func(h *Header) { h.RefTableClusters = 0 }), "reference count table of 0"},
		{"huge refcounts", with(func(h *Header) { h.RefTableClusters = 1<<32 - 1 }), "reference count table of"},
		{"many snapshots", with(func(h *Header) { h.Snapshots = 1<<32 - 1 }), "snapshots"},
		{"lost snapshots", with(func(h *Header) { h.Snapshots, h.SnapshotsOffset = 1, 1<<40 }), "snapshot table"},
		{"long extension", long, "leaves the first cluster"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := ReadHeader(bytes.NewReader(test.image), int64(len(test.image)))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
}

// FuzzReadHeader: whatever is accepted stands alone, has a sane size and tables
// inside the file.
func FuzzReadHeader(f *testing.F) {
	f.Add(plain()[:4096])
	f.Add(plain())
	f.Add(extended(extensionDataFile, "x")[:1024])
	f.Add(with(func(h *Header) { h.Version = 2 }))
	f.Add([]byte("QFI\xfb\x00\x00\x00\x03"))
	f.Fuzz(func(t *testing.T, image []byte) {
		size := int64(len(image))
		h, err := ReadHeader(bytes.NewReader(image), size)
		if err != nil {
			return
		}
		if h.BackingOffset != 0 || h.BackingSize != 0 || h.Encryption != 0 {
			t.Error("accepted an image that needs something else")
		}
		if h.Incompatible&(bitDataFile|bitDirty|bitCorrupt|^uint64(knownBits)) != 0 {
			t.Errorf("accepted incompatible features %#x", h.Incompatible)
		}
		if h.Size == 0 || h.Size > maxVirtual {
			t.Errorf("accepted a virtual size of %d", h.Size)
		}
		if h.L1Offset+8*uint64(h.L1Entries) > uint64(size) {
			t.Error("accepted an L1 table outside the file")
		}
	})
}
