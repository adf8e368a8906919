package inspect

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"os"
	"runtime"
	"strings"
	"testing"

	"bake/internal/image"
)

// headerOf changes the qcow2 header of an image.
func headerOf(disk []byte, change func(*image.Header)) []byte {
	disk = bytes.Clone(disk)
	var h image.Header
	if _, err := binary.Decode(disk, binary.BigEndian, &h); err != nil {
		panic(err)
	}
	change(&h)
	if _, err := binary.Encode(disk, binary.BigEndian, h); err != nil {
		panic(err)
	}
	return disk
}

func TestHeaderRefused(t *testing.T) {
	good, err := os.ReadFile(convert(t, ubuntu(t), "-c"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := memory(t.Context(), good, mostRead); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		change  func(*image.Header)
		problem string
	}{
		"version 1":       {func(h *image.Header) { h.Version = 1 }, "version 1"},
		"version 4":       {func(h *image.Header) { h.Version = 4 }, "version 4"},
		"backing file":    {func(h *image.Header) { h.BackingOffset, h.BackingSize = 600, 11 }, "backing file"},
		"backing size":    {func(h *image.Header) { h.BackingSize = 11 }, "backing file"},
		"data file":       {func(h *image.Header) { h.Incompatible = 1 << 2 }, "external data file"},
		"encrypted":       {func(h *image.Header) { h.Encryption = 1 }, "encrypted"},
		"dirty":           {func(h *image.Header) { h.Incompatible = 1 << 0 }, "dirty"},
		"corrupt":         {func(h *image.Header) { h.Incompatible = 1 << 1 }, "corrupt"},
		"unknown feature": {func(h *image.Header) { h.Incompatible = 1 << 40 }, "not known"},
		"tiny clusters":   {func(h *image.Header) { h.ClusterBits = 8 }, "clusters of 2^8"},
		"huge clusters":   {func(h *image.Header) { h.ClusterBits = 40 }, "clusters of 2^40"},
		"size 0":          {func(h *image.Header) { h.Size = 0 }, "virtual size"},
		"size 2^63":       {func(h *image.Header) { h.Size = 1 << 63 }, "virtual size"},
		"odd size":        {func(h *image.Header) { h.Size-- }, "virtual size"},
		"short header":    {func(h *image.Header) { h.Length = 80 }, "header of 80"},
		"long header":     {func(h *image.Header) { h.Length = 1 << 30 }, "header of"},
		"L1 of 32 GiB":    {func(h *image.Header) { h.L1Entries = 1<<32 - 1 }, "L1 table"},
		"L1 too small":    {func(h *image.Header) { h.L1Entries = 0 }, "L1 table"},
		"L1 at 0":         {func(h *image.Header) { h.L1Offset = 0 }, "L1 table"},
		"L1 outside":      {func(h *image.Header) { h.L1Offset = 1 << 62 }, "L1 table"},
		"L1 negative":     {func(h *image.Header) { h.L1Offset = 1<<64 - 512 }, "L1 table"},
		"L1 at the end":   {func(h *image.Header) { h.L1Offset = uint64(len(good)) - 4 }, "L1 table"},
	}
	for name, test := range tests {
		_, err := memory(t.Context(), headerOf(good, test.change), mostRead)
		if err == nil || !strings.Contains(err.Error(), test.problem) {
			t.Errorf("%s: %v, not %q", name, err, test.problem)
		}
	}
	for _, n := range []int{4, 71, 103, 60000} {
		if _, err := memory(t.Context(), good[:n], mostRead); err == nil {
			t.Errorf("the first %d bytes were accepted", n)
		}
	}
}

// TestBackingUnopened: a backing file is not even opened, though it would be
// found under the absolute path.
func TestBackingUnopened(t *testing.T) {
	raw := ubuntu(t)
	overlay := t.TempDir() + "/overlay.qcow2"
	run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", raw, overlay)
	if _, err := Look(t.Context(), overlay); err == nil || !strings.Contains(err.Error(), "backing file") {
		t.Errorf("an image with a backing file: %v", err)
	}
}

// table changes the GPT header at sector 1 and seals it with a right checksum.
func table(disk []byte, at int, change func([]byte)) []byte {
	disk = bytes.Clone(disk)
	head := disk[at : at+92]
	change(head)
	clear(head[16:20])
	le.PutUint32(head[16:], crc32.ChecksumIEEE(head))
	return disk
}

func TestTableRefused(t *testing.T) {
	good, err := os.ReadFile(ubuntu(t))
	if err != nil {
		t.Fatal(err)
	}
	last := len(good) - sector
	count := func(n uint32) func([]byte) { return func(b []byte) { le.PutUint32(b[80:], n) } }
	width := func(n uint32) func([]byte) { return func(b []byte) { le.PutUint32(b[84:], n) } }
	entry := func(offset int, value uint64) []byte {
		disk := bytes.Clone(good)
		le.PutUint64(disk[2*sector+offset:], value)
		sum := crc32.ChecksumIEEE(disk[2*sector : 2*sector+128*128])
		return table(disk, sector, func(b []byte) { le.PutUint32(b[88:], sum) })
	}
	spoil := func(offsets ...int) []byte { // checksums no longer hold
		disk := bytes.Clone(good)
		for _, at := range offsets {
			disk[at]++
		}
		return disk
	}
	const backup = "note" // good, with a note that the backup was read
	tests := map[string]struct {
		disk    []byte
		problem string
	}{
		"good":              {good, ""},
		"first header":      {spoil(sector + 16), backup},
		"first entries":     {spoil(2*sector + 40), backup},
		"backup header":     {spoil(last + 16), ""},
		"both headers":      {spoil(sector+16, last+16), "reading the partition table"},
		"2^32 entries":      {table(good, sector, count(1<<32-1)), "entries"},
		"entries of 0":      {table(good, sector, width(0)), "entries of 0 bytes"},
		"entries of 2^31":   {table(good, sector, width(1<<31)), "entries of"},
		"backup of 2^32":    {table(good, last, count(1<<32-1)), "entries"},
		"array outside":     {table(good, sector, func(b []byte) { le.PutUint64(b[72:], 1<<40) }), "reading the partition table"},
		"array overflows":   {table(good, sector, func(b []byte) { le.PutUint64(b[72:], 1<<60) }), backup},
		"starts at 0":       {entry(32, 0), "spans"},
		"ends before start": {entry(40, 5), "spans"},
		"ends outside":      {entry(40, 1<<40), "spans"},
		"cut":               {good[:30*mib], "spans"},
	}
	for name, test := range tests {
		image, err := memory(t.Context(), test.disk, mostRead)
		switch {
		case test.problem == "" || test.problem == backup:
			if err != nil {
				t.Errorf("%s: %v", name, err)
			} else if image.recovered != (test.problem == backup) {
				t.Errorf("%s: from the backup is %v", name, image.recovered)
			} else if f, err := image.Findings(); err != nil || (len(f.Notes) == 1) != image.recovered {
				t.Errorf("%s: notes %q, %v", name, f.Notes, err)
			}
		case err == nil || !strings.Contains(err.Error(), test.problem):
			t.Errorf("%s: %v, not %q", name, err, test.problem)
		}
	}
}

// TestFileSizes: sizes that an inode or a directory only claims.
func TestFileSizes(t *testing.T) {
	plain := fileSystem(t, map[string]string{"x": "small"}, 4*mib, "-t", "ext4", "-b", "1024", "-O", "^metadata_csum,^64bit")
	image, err := volumeImage(t, plain)
	if err != nil {
		t.Fatal(err)
	}
	table := int(le.Uint32(plain[2048+8:])) * 1024
	inode := func(number, offset int, value uint32) []byte {
		content := bytes.Clone(plain)
		le.PutUint32(content[table+(number-1)*int(image.root.inodeSize)+offset:], value)
		return content
	}
	const x = 12 // the first inode after lost+found's
	tests := map[string]struct {
		content []byte
		problem string
	}{
		"as it is":           {plain, ""},
		"2^63 bytes":         {inode(x, 0x6c, 1<<31-1), "at most"},
		"directory":          {inode(rootInode, 4, 1<<30), "at most"},
		"extent depth":       {inode(x, 0x28+6, 6), "level 6"},
		"extent magic":       {inode(x, 0x28, 0), "extent tree"},
		"extent count":       {inode(x, 0x28, 0xfffff30a), "extent tree"},
		"extent outside":     {inode(x, 0x28+12+8, 1<<31), "block 2147483648"},
		"no extents":         {inode(x, 0x20, 0), "block map"},
		"encrypted":          {inode(x, 0x20, flagEncrypted|flagExtents), "encrypted"},
		"casefold":           {inode(rootInode, 0x20, flagCasefold|flagExtents), "regard to case"},
		"inode table beyond": {append(append(bytes.Clone(plain[:2048+8]), 0xff, 0xff, 0xff, 0x7f), plain[2048+12:]...), "block"},
	}
	for name, test := range tests {
		image, err := volumeImage(t, test.content)
		if err == nil {
			_, err = image.ReadFile("x")
		}
		if test.problem == "" && err != nil || test.problem != "" && (err == nil || !strings.Contains(err.Error(), test.problem)) {
			t.Errorf("%s: %v, not %q", name, err, test.problem)
		}
	}
}

// TestEndlessTree: an extent tree whose nodes all point to one block ends.
func TestEndlessTree(t *testing.T) {
	node := func(depth uint16) []byte {
		n := make([]byte, 1024)
		le.PutUint16(n, 0xf30a)
		le.PutUint16(n[2:], 84)
		le.PutUint16(n[6:], depth)
		for at := 12; at < 12+84*12; at += 12 {
			le.PutUint32(n[at+4:], 8-uint32(depth)+1)
		}
		return n
	}
	content := make([]byte, 64<<10)
	for depth := range uint16(6) {
		copy(content[(8-int(depth))*1024:], node(depth))
	}
	v := &volume{disk: bytes.NewReader(content), block: 1024, blocks: 64}
	file := inode{mode: kindRegular, flags: flagExtents, size: maxFile}
	copy(file.map60[:], node(5))
	le.PutUint16(file.map60[2:], 4)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := v.content(file, maxFile)
	runtime.ReadMemStats(&after)
	if err == nil || !strings.Contains(err.Error(), "extents") {
		t.Errorf("an endless tree: %v", err)
	}
	if spent := after.TotalAlloc - before.TotalAlloc; spent > 256<<20 {
		t.Errorf("it cost %d MiB of memory", spent>>20)
	}
}

// TestTreeLevels: a node that points to itself is not one level below itself.
func TestTreeLevels(t *testing.T) {
	node := make([]byte, 1024)
	for at, value := range map[int]uint16{0: 0xf30a, 2: 1, 6: 1, 12 + 4: 3} {
		le.PutUint16(node[at:], value)
	}
	content := make([]byte, 8<<10)
	copy(content[3<<10:], node)
	v := &volume{disk: bytes.NewReader(content), block: 1024, blocks: 8}
	file := inode{mode: kindRegular, flags: flagExtents, size: 1024}
	copy(file.map60[:], node)
	if _, err := v.content(file, maxFile); err == nil || !strings.Contains(err.Error(), "level 1") {
		t.Errorf("a node below itself: %v", err)
	}
}

// TestVolumeEnd: nothing behind a file system is read, though the disk goes on.
func TestVolumeEnd(t *testing.T) {
	v := &volume{disk: bytes.NewReader(make([]byte, 8<<10)), block: 1024, blocks: 4}
	for _, test := range []struct {
		length        int
		block, offset int64
		ok            bool
	}{{1024, 3, 0, true}, {4096, 0, 0, true}, {1024, 0, 3072, true}, {1025, 3, 0, false}, {1, 4, 0, false}, {1, 0, 4096, false}, {1, -1, 1024, false}} {
		if err := v.read(make([]byte, test.length), test.block, test.offset); (err == nil) != test.ok {
			t.Errorf("%+v: %v", test, err)
		}
	}
}

// TestKept: the cache does not grow with what is read.
func TestKept(t *testing.T) {
	const size = 2 << 20
	c := &clusters{image: bytes.NewReader(make([]byte, 64<<20)), disk: 64 << 20, size: size, kept: map[int64][]byte{}}
	for round := range 2 {
		for at := int64(round); at < c.disk; at += size {
			if _, err := c.ReadAt(make([]byte, 1), at); err != nil {
				t.Fatal(err)
			}
		}
		if len(c.kept) != keptBytes/size || len(c.order) != len(c.kept) {
			t.Errorf("%d clusters are kept, %d in order", len(c.kept), len(c.order))
		}
	}
	if _, err := c.ReadAt(make([]byte, 2), c.disk-1); err == nil {
		t.Error("it read behind the end")
	}
}

// TestClusterCopies: a disk that is one compressed cluster over and over is no
// disk, and ends as an error.
func TestClusterCopies(t *testing.T) {
	for _, kind := range []string{"zlib", "zstd"} {
		path := convert(t, ubuntu(t), "-c", "-o", "compression_type="+kind)
		disk, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var h image.Header
		if _, err := binary.Decode(disk, binary.BigEndian, &h); err != nil {
			t.Fatal(err)
		}
		l2 := binary.BigEndian.Uint64(disk[h.L1Offset:]) & 0x00fffffffffffe00
		first := binary.BigEndian.Uint64(disk[l2:])
		for at := l2; at < l2+1<<h.ClusterBits; at += 8 {
			binary.BigEndian.PutUint64(disk[at:], first)
		}
		disk = headerOf(disk, func(h *image.Header) { h.Size = 512 << 20 })
		if _, err := memory(t.Context(), disk, mostRead); err == nil {
			t.Errorf("%s: accepted", kind)
		}
	}
}
