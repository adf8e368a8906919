package seed

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/diskfs/go-diskfs/backend"
	"github.com/diskfs/go-diskfs/filesystem"
	"github.com/diskfs/go-diskfs/filesystem/fat12"
	"github.com/diskfs/go-diskfs/filesystem/fat16"
)

// A volume is one size of FAT image. The sizes are whole tracks, or mtools
// refuses the image; they keep far from the limits of their FAT, and a capacity
// leaves room to spare, because the library hands out clusters up to the end of
// the table and not of the disk.
type volume struct {
	capacity int // bytes of contents
	size     int64
	bits     int // of a table entry
	create   func(backend.Storage, int64) (filesystem.FileSystem, error)
	open     func(backend.Storage, int64) (filesystem.FileSystem, error)
}

var volumes = []volume{
	{1 << 20, 2880 * 512, 12, createFAT12, openFAT12},
	{6 << 20, 63 * 256 * 512, 16, createFAT16, openFAT16},
	{maxBytes, 63 * 1024 * 512, 16, createFAT16, openFAT16},
}

func createFAT12(b backend.Storage, size int64) (filesystem.FileSystem, error) {
	return fat12.Create(b, size, 0, 512, strings.ToUpper(label), true)
}

func createFAT16(b backend.Storage, size int64) (filesystem.FileSystem, error) {
	return fat16.Create(b, size, 0, 512, strings.ToUpper(label), true)
}

func openFAT12(b backend.Storage, size int64) (filesystem.FileSystem, error) {
	return fat12.Read(b, size, 0, 512)
}

func openFAT16(b backend.Storage, size int64) (filesystem.FileSystem, error) {
	return fat16.Read(b, size, 0, 512)
}

// encodeVFAT writes the image in memory. The label is in upper case, the only
// one FAT has; cloud-init looks for both.
func encodeVFAT(files []file) ([]byte, error) {
	total := 0
	for _, f := range files {
		total += len(f.data)
	}
	i := 0
	for i < len(volumes)-1 && total > volumes[i].capacity {
		i++
	}
	image := make([]byte, volumes[i].size)
	if err := fillVFAT(image, volumes[i], files); err != nil {
		return nil, fmt.Errorf("making the FAT image: %w", err)
	}
	sealVFAT(image, volumes[i].bits)
	return image, nil
}

func fillVFAT(image []byte, v volume, files []file) error {
	disk, err := v.create(newRAM(image), v.size)
	if err != nil {
		return err
	}
	for _, f := range files {
		out, err := disk.OpenFile(f.name, os.O_CREATE|os.O_RDWR)
		if err != nil {
			return err
		}
		if _, err := out.Write(f.data); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		if err := out.Close(); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return nil
}

// sealVFAT replaces the dates in the root directory, which the library takes
// from the clock or the environment, and frees cluster 2, which it marks as
// used and gives to no file, so that fsck.vfat finds nothing to reclaim. The
// serial number is zero because the library was told to be reproducible.
func sealVFAT(image []byte, bits int) {
	le := binary.LittleEndian
	at, tables, length := 512*int(le.Uint16(image[14:])), int(image[16]), 512*int(le.Uint16(image[22:]))
	for range tables {
		table := image[at : at+length]
		if bits == 12 {
			table[3], table[4] = 0, table[4]&0xf0 // the next entry begins in the other half
		} else {
			clear(table[4:6])
		}
		at += length
	}
	entries := int(le.Uint16(image[17:]))
	sealDirectory(image[at : at+32*entries])
}

// sealDirectory sets the dates of all entries but the parts of long names,
// which have none.
func sealDirectory(dir []byte) {
	const longName = 0x0f
	year, month, day := epoch.Date()
	date := uint16((year-1980)<<9 | int(month)<<5 | day)
	for ; len(dir) >= 32 && dir[0] != 0; dir = dir[32:] {
		if dir[11] == longName {
			continue
		}
		clear(dir[13:16]) // time of creation
		binary.LittleEndian.PutUint16(dir[16:], date)
		binary.LittleEndian.PutUint16(dir[18:], date) // last access
		clear(dir[22:24])                             // time of change
		binary.LittleEndian.PutUint16(dir[24:], date)
	}
}

// decodeVFAT reads an image that encodeVFAT made; it is not for foreign images.
func decodeVFAT(image, _ []byte) ([]file, error) {
	for _, v := range volumes {
		if v.size != int64(len(image)) {
			continue
		}
		disk, err := v.open(newRAM(image), v.size)
		if err != nil {
			return nil, fmt.Errorf("read back: %w", err)
		}
		return readVFAT(disk)
	}
	return nil, fmt.Errorf("read back: no FAT volume has %d bytes", len(image))
}

func readVFAT(disk filesystem.FileSystem) ([]file, error) {
	if name := strings.TrimRight(disk.Label(), " "); name != strings.ToUpper(label) {
		return nil, fmt.Errorf("read back: the volume is labelled %q", name)
	}
	entries, err := disk.ReadDir(".")
	if err != nil {
		return nil, fmt.Errorf("read back: %w", err)
	}
	var files []file
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			return nil, fmt.Errorf("read back: %s: %w", entry.Name(), err)
		}
		in, err := disk.OpenFile(entry.Name(), os.O_RDONLY)
		if err != nil {
			return nil, fmt.Errorf("read back: %w", err)
		}
		// In one go: the library overruns the end of a file when a second read
		// starts inside a cluster.
		data := make([]byte, info.Size())
		if _, err := io.ReadFull(in, data); err != nil {
			return nil, fmt.Errorf("read back: %s: %w", entry.Name(), err)
		}
		files = append(files, file{entry.Name(), data})
	}
	return files, nil
}

// ram is a disk in memory, so that no unfinished image is ever on a real one.
type ram struct {
	*bytes.Reader // over the same bytes
	bytes         []byte
}

func newRAM(b []byte) *ram { return &ram{bytes.NewReader(b), b} }

func (r *ram) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off > int64(len(r.bytes)) || int64(len(p)) > int64(len(r.bytes))-off {
		return 0, errors.New("write past the end of the image")
	}
	return copy(r.bytes[off:], p), nil
}

func (r *ram) Writable() (backend.WritableFile, error) { return r, nil }
func (r *ram) Stat() (fs.FileInfo, error)              { return nil, errors.ErrUnsupported }
func (r *ram) Sys() (*os.File, error)                  { return nil, backend.ErrNotSuitable }
func (r *ram) Path() string                            { return "" }
func (r *ram) Close() error                            { return nil }
