package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// Limits of a conversion, which works on all of the image: zstd needs a minute
// of processor time for each 5 GiB or so.
const (
	limitConvertMemory = "--as=4294967296"
	limitConvertCPU    = "--cpu=7200"
)

// A Form is how a disk that stands alone is written.
type Form struct {
	Raw      bool // raw, sparse, instead of qcow2
	Compress bool // qcow2 with zstd, which QEMU reads since 5.1; what the guest writes stays uncompressed
}

// Flatten makes a disk of size bytes at path (0600, must not exist) with the
// content of blob, which needs no other file. Its partition table is that of the
// base: the guest grows it on its first boot (growpart), as it does on an
// overlay. The same blob, size and form give the same bytes with one version of
// qemu-img. Errors are those of Overlay.
func (s Store) Flatten(ctx context.Context, blob Blob, path string, size int64, form Form) error {
	if err := s.flatten(ctx, blob, path, size, form); err != nil {
		return fmt.Errorf("creating the disk %s: %w", path, err)
	}
	return nil
}

func (s Store) flatten(ctx context.Context, blob Blob, path string, size int64, form Form) error {
	if err := fits(blob, size); err != nil {
		return err
	}
	if form.Raw && form.Compress {
		return errors.New("a raw disk cannot be compressed")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	source, err := filepath.Abs(blob.Path)
	if err != nil {
		return err
	}
	if err := reserve(path); err != nil {
		return err
	}
	if err := s.convert(ctx, source, path, size, form); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// convert never uses -W: out of order writes would make the bytes a matter of
// luck.
func (s Store) convert(ctx context.Context, source, path string, size int64, form Form) error {
	format := "qcow2"
	args := []string{"convert", "-q", "-f", "qcow2"}
	switch {
	case form.Raw:
		format = "raw"
	case form.Compress:
		args = append(args, "-c", "-o", zstdOptions)
	default:
		args = append(args, "-o", overlayOptions)
	}
	most := limits{limitConvertMemory, limitConvertCPU, fmt.Sprintf("--fsize=%d", blobLimit(size))}
	if err := s.qemuImg(ctx, most, append(args, "-O", format, source, path)...); err != nil {
		return err
	}
	if form.Raw {
		return os.Truncate(path, size)
	}
	if err := s.qemuImg(ctx, most, "resize", "-q", "-f", "qcow2", path, strconv.FormatInt(size, 10)); err != nil {
		return err
	}
	return s.qemuCheck(ctx, path)
}

// blobLimit is the most that a disk of size bytes can take: all of it, and a
// little for the tables.
func blobLimit(size int64) int64 { return size + size/256 + 64<<20 }
