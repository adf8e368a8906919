package seed

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/kdomanski/iso9660"
)

func blankISO(t *testing.T) ([]byte, []file) {
	t.Helper()
	files, err := contents(sample())
	if err != nil {
		t.Fatal(err)
	}
	image, err := layOut(label, files)
	if err != nil {
		t.Fatal(err)
	}
	return image, files
}

// The library and its stage must never see a word of the seed.
func TestLayoutIsBlank(t *testing.T) {
	image, files := blankISO(t)
	for _, f := range files {
		if bytes.Contains(image, f.data) {
			t.Errorf("the words of %s are in the unsealed image", f.name)
		}
	}
	sealed, err := seal(image, epoch, files)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if bytes.Count(sealed, f.data) != 1 {
			t.Errorf("the words of %s are in the sealed image %d times", f.name, bytes.Count(sealed, f.data))
		}
	}
}

// TestLikeLibrary: the files are where the library itself would have put them, whatever
// their lengths.
func TestLikeLibrary(t *testing.T) {
	for _, sizes := range [][]int{{1}, {2048, 1}, {2047, 2048, 2049}, {100_000, 3, 5000, 4096, 7}} {
		var files []file
		for i, size := range sizes {
			files = append(files, file{fmt.Sprintf("f%d", i), bytes.Repeat([]byte{byte('a' + i)}, size)})
		}
		w, err := iso9660.NewWriter()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			err = errors.Join(err, w.AddFile(bytes.NewReader(f.data), f.name)) // what it fills sectors with is not looked at
		}
		var theirs bytes.Buffer
		if err = errors.Join(err, w.WriteTo(&theirs, label), w.Cleanup()); err != nil {
			t.Fatal(err)
		}
		want := theirs.Bytes()
		got, err := encodeISO(label, epoch, files)
		if err != nil {
			t.Fatal(err)
		}
		seen, err := decodeISO(label, got, nil)
		if err = errors.Join(err, compare(files, seen)); err != nil {
			t.Errorf("%v: %v", sizes, err)
		}
		for at := 18 * sector; got[at] != 0; at += int(got[at]) { // but for its date, each record is the library's
			copy(got[at+recordDate:at+recordDate+7], want[at+recordDate:])
		}
		if !bytes.Equal(got[17*sector:19*sector], want[17*sector:19*sector]) {
			t.Errorf("%v: the directory differs:\n% x\n% x", sizes, got[18*sector:18*sector+300], want[18*sector:18*sector+300])
		}
	}
}

func TestPathTables(t *testing.T) {
	blank, files := blankISO(t)
	image, err := seal(blank, epoch, files)
	if err != nil {
		t.Fatal(err)
	}
	pvd := image[16*sector:]
	for name, table := range map[string]struct {
		order binary.ByteOrder
		at    uint32
	}{
		"L": {binary.LittleEndian, binary.LittleEndian.Uint32(pvd[pvdTableL:])},
		"M": {binary.BigEndian, binary.BigEndian.Uint32(pvd[pvdTableM:])},
	} {
		entry, err := extent(image, table.at, binary.LittleEndian.Uint32(pvd[pvdTableSize:]))
		if err != nil || table.at == 0 {
			t.Fatalf("%s: sector %d: %v", name, table.at, err)
		}
		root := binary.LittleEndian.Uint32(pvd[pvdRoot+recordExtent:])
		if len(entry) != 10 || entry[0] != 1 || table.order.Uint32(entry[2:]) != root || table.order.Uint16(entry[6:]) != 1 {
			t.Errorf("%s: % x, want the root at sector %d", name, entry, root)
		}
	}
	if size := binary.LittleEndian.Uint32(pvd[pvdSpaceSize:]); int(size)*sector != len(image) {
		t.Errorf("the volume claims %d sectors, the image has %d bytes", size, len(image))
	}
}

// Should the library ever lay a disc out otherwise, it is an error and not a
// disc with words in the wrong place.
func TestSealRefusesUnknownLayout(t *testing.T) {
	const root = 18 * sector
	for name, change := range map[string]func([]byte) []byte{
		"not an image":       func(b []byte) []byte { return nil },
		"no descriptor":      func(b []byte) []byte { b[16*sector] = 2; return b },
		"half a sector":      func(b []byte) []byte { return append(b, 0) },
		"root outside":       func(b []byte) []byte { b[16*sector+pvdRoot+recordExtent] = 0xff; return b },
		"record too long":    func(b []byte) []byte { b[root+68] = 33; return b },
		"name beyond record": func(b []byte) []byte { b[root+68+recordName] = 0xff; return b },
		"other name":         func(b []byte) []byte { b[root+68+recordName+1] = 'x'; return b },
		"other length":       func(b []byte) []byte { b[root+68+recordLength]++; return b },
		"record missing":     func(b []byte) []byte { b[root+68] = 0; return b },
		"directory truncated": func(b []byte) []byte {
			b[16*sector+pvdRoot+recordLength] = 70
			b[16*sector+pvdRoot+recordLength+1] = 0
			return b
		},
	} {
		blank, files := blankISO(t)
		if _, err := seal(change(blank), epoch, files); !errors.Is(err, errLayout) {
			t.Errorf("%s: %v, want %v", name, err, errLayout)
		}
	}
}

// The check before publishing must notice.
func TestDecodeNotices(t *testing.T) {
	files, err := contents(sample())
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		format Format
		from   string
		to     string
		want   string
	}{
		{"label", ISO, "cidata ", "cidatb ", "labelled"},
		{"name", ISO, "user-data;1", "user-dats;1", "user-data is missing"},
		{"words", ISO, "#cloud-config", "#cloud-confog", "user-data differs"},
		{"not an image", ISO, "CD001", "CD002", "read back"},
		{"label", VFAT, "CIDATA ", "CIDATB ", "labelled"},
		{"words", VFAT, "#cloud-config", "#cloud-confog", "user-data differs"},
		{"long name", VFAT, "u\x00s\x00e\x00r", "u\x00s\x00e\x00s", "user-data is missing"},
		{"boot sector", VFAT, "\x55\xaa", "\x00\x00", "read back"},
	} {
		c := codecs[test.format]
		image, err := c.encode(files)
		if err != nil {
			t.Fatal(err)
		}
		changed := bytes.ReplaceAll(image, []byte(test.from), []byte(test.to))
		seen, err := c.decode(changed, nil)
		if err == nil {
			err = compare(files, seen)
		}
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s, %s: %v, want %q", test.format, test.name, err, test.want)
		}
	}
	if _, err := decodeVFAT(make([]byte, 512), nil); err == nil {
		t.Error("a FAT image of 512 bytes was accepted")
	}
}

func TestRAM(t *testing.T) {
	r := newRAM(make([]byte, 4))
	for _, test := range []struct {
		off  int64
		data string
		ok   bool
	}{{0, "abcd", true}, {3, "x", true}, {4, "", true}, {3, "xy", false}, {5, "", false}, {-1, "x", false}} {
		if _, err := r.WriteAt([]byte(test.data), test.off); (err == nil) != test.ok {
			t.Errorf("%q at %d: %v", test.data, test.off, err)
		}
	}
	if string(r.bytes) != "abcx" {
		t.Errorf("%q, want abcx", r.bytes)
	}
}
