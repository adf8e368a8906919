package seed

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"bake/internal/attest"
)

// A Format is the kind of medium that carries a seed. The three hold the same
// flat files, the three with a dash named as cloud-init's NoCloud data source
// wants them:
//
//	attest            left out when the seed has none
//	claims.json       likewise
//	meta-data
//	network-config    left out when the seed has none
//	user-data
//
// There is no vendor-data: NoCloud looks for it and says nothing when it is not
// there, and a machine that was specified has no vendor who adds to it.
type Format string

const (
	// ISO is an ISO 9660 image with the volume id "cidata". Linux shows its
	// lower case names without Rock Ridge or Joliet, and there are none.
	ISO Format = "iso"
	// VFAT is an unpartitioned FAT12 or FAT16 image with long file names and
	// the label "CIDATA": 1440 KiB, 7.875 or 31.5 MiB, whichever is enough.
	VFAT Format = "vfat"
	// Dir is a directory, for /var/lib/cloud/seed/nocloud of a mounted image
	// or for reading.
	Dir Format = "dir"
)

// label is what cloud-init looks for on a disk, in lower or upper case.
const label = "cidata"

// maxBytes bounds all files of a seed together. NoCloud itself has no limit,
// but cloud-init holds the words in memory several times over and keeps copies
// in the guest; what does not fit here is not words and belongs on the payload
// disk.
const maxBytes = 16 << 20

// epoch is the one date on a seed, so that the bytes depend on the contents
// alone. It is the first day that FAT can express.
var epoch = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

// A file is one file of a medium.
type file struct {
	name string
	data []byte
}

// A codec turns files into the bytes of a medium and back.
type codec struct {
	encode func([]file) ([]byte, error)
	decode func(image, room []byte) ([]file, error) // into room, as far as it suffices
}

var codecs = map[Format]codec{
	ISO:  iso9660Of(label, epoch),
	VFAT: {encodeVFAT, decodeVFAT},
}

// ParseFormat accepts "iso", "vfat" and "dir", in lower case only.
func ParseFormat(name string) (Format, error) {
	switch f := Format(name); f {
	case ISO, VFAT, Dir:
		return f, nil
	}
	return "", fmt.Errorf("unknown seed format %q: it is one of iso, vfat, dir", name)
}

// Write puts a seed at path, readable by its owner only whatever the umask: an
// image is 0600, a directory 0700 with files of 0600. The parent must exist.
// Equal seeds give equal bytes on every machine.
//
// The path holds either what was there before or the whole new seed, which has
// been read back and compared; a failed Write leaves nothing else behind. An
// earlier image is replaced, and so is a directory that holds nothing but an
// earlier seed. A symbolic link, another kind of file, a file that is not a
// seed's image (unless it is empty) and a directory with any other file in it
// are refused.
//
// The words reach no directory but the parent of path, not even $TMPDIR. A
// killed Write leaves no trace of an image, except in the instant in which it
// replaces an earlier one and on file systems without unnamed files; there, and
// for a directory, the leftover is beside path, as private as the seed, and
// named .NAME.*. A killed Write of an ISO can leave a directory of empty files
// in $TMPDIR.
//
// Write refuses a seed without user-data or meta-data, since cloud-init would
// boot an unhardened machine from it, one with claims and no program to try them,
// and one of more than 16 MiB.
func Write(path string, format Format, s Seed) error {
	if err := write(path, format, s); err != nil {
		return fmt.Errorf("writing seed %s: %w", path, err)
	}
	return nil
}

func write(path string, format Format, s Seed) error {
	if _, err := ParseFormat(string(format)); err != nil {
		return err
	}
	if path == "" {
		return errors.New("no path given")
	}
	files, err := contents(s)
	if err != nil {
		return err
	}
	if format == Dir {
		return writeDir(path, files)
	}
	return writeImage(path, label, codecs[format], files)
}

// rooms are for what is read back: an image of megabytes, twice, for each seed of a run.
var rooms = sync.Pool{New: func() any { return new([]byte) }}

// writeImage makes path an image of these files, in the place of nothing but an
// earlier image with the same label.
func writeImage(path, label string, c codec, files []file) error {
	if err := replaceableImage(path, label); err != nil {
		return err
	}
	image, err := c.encode(files)
	if err != nil {
		return err
	}
	room := rooms.Get().(*[]byte)
	defer rooms.Put(room)
	*room = slices.Grow((*room)[:0], 2*len(image)+1)
	back, rest := (*room)[:len(image)+1], (*room)[len(image)+1:2*len(image)+1] // one more shows in a file that is too long
	return publish(path, image, back, func(readBack []byte) error {
		if !bytes.Equal(readBack, image) {
			return errors.New("the image read back is not the image written")
		}
		seen, err := c.decode(readBack, rest)
		if err != nil {
			return err
		}
		return compare(files, seen)
	})
}

// contents lists the files of a seed in the order of their names, which is the
// order of an ISO 9660 directory.
func contents(s Seed) ([]file, error) {
	var files []file
	if len(s.Claims) > 0 { // and then the machine opens for nobody without the program
		files = append(files, file{attest.Program, s.Program}, file{attest.Claims, s.Claims})
	}
	files = append(files, file{"meta-data", s.MetaData})
	if len(s.NetworkConfig) > 0 {
		files = append(files, file{"network-config", s.NetworkConfig})
	}
	files = append(files, file{"user-data", s.UserData})
	total := 0
	for _, f := range files {
		if len(f.data) == 0 {
			return nil, fmt.Errorf("%s is empty", f.name)
		}
		total += len(f.data)
	}
	if total > maxBytes {
		return nil, fmt.Errorf("%d bytes of seed are more than %d MiB: large files belong on the payload disk",
			total, maxBytes>>20)
	}
	return files, nil
}

// Files returns the files of a seed by name, as [Format] lists them, for whoever makes the
// medium himself. The program that attests is one of them, unless there is none.
func (s Seed) Files() (map[string][]byte, error) {
	files, err := contents(s)
	return byName(files), err
}

func byName(files []file) map[string][]byte {
	all := map[string][]byte{}
	for _, f := range files {
		all[f.name] = f.data
	}
	return all
}

// compare says in which file what a reader saw differs from what was asked
// for. It never quotes contents, which may be secret.
func compare(asked, seen []file) error {
	seen = slices.Clone(seen)
	for _, a := range asked {
		i := slices.IndexFunc(seen, func(s file) bool { return s.name == a.name })
		if i < 0 {
			return fmt.Errorf("read back: %s is missing", a.name)
		}
		if !bytes.Equal(seen[i].data, a.data) {
			return fmt.Errorf("read back: %s differs from what was written", a.name)
		}
		seen = slices.Delete(seen, i, i+1)
	}
	if len(seen) > 0 {
		return fmt.Errorf("read back: %q was never written", seen[0].name)
	}
	return nil
}
