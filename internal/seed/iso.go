package seed

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/kdomanski/iso9660"
)

// iso9660Of is the codec of an ISO 9660 volume with a label. What Linux takes for
// the UUID of the volume is the date on it.
func iso9660Of(label string, date time.Time) codec {
	return codec{
		encode: func(files []file) ([]byte, error) { return encodeISO(label, date, files) },
		decode: func(image []byte) ([]file, error) { return decodeISO(label, image) },
	}
}

// encodeISO never shows the words to the library. Its writer stages every file
// under $TMPDIR, and neither the place nor the modes are ours to choose without
// changing the environment of the whole process. So it lays the disc out over
// blank files of the right lengths, and seal puts the words into their extents
// in memory.
func encodeISO(label string, date time.Time, files []file) ([]byte, error) {
	image, err := layOut(label, files)
	if err != nil {
		return nil, fmt.Errorf("laying out the ISO 9660 image: %w", err)
	}
	image, err = seal(image, date, files)
	if err != nil {
		return nil, fmt.Errorf("sealing the ISO 9660 image: %w", err)
	}
	return image, nil
}

func layOut(label string, files []file) (_ []byte, err error) {
	w, err := iso9660.NewWriter()
	if err != nil {
		return nil, err
	}
	// Deferred, so that a panic in the library does not leave the stage either.
	defer func() { err = errors.Join(err, w.Cleanup()) }()
	for _, f := range files {
		if err := w.AddFile(io.LimitReader(blank{}, int64(len(f.data))), f.name); err != nil {
			return nil, err
		}
	}
	reached("staged")
	image := bytes.NewBuffer(make([]byte, 0, isoOverhead+sizeOf(files)))
	if err := w.WriteTo(image, label); err != nil {
		return nil, err
	}
	return image.Bytes(), nil
}

// isoOverhead is more than what an image has beside the content of its files.
const isoOverhead = 256 << 10

func sizeOf(files []file) (all int) {
	for _, f := range files {
		all += len(f.data) + 2048 // the rest of a sector
	}
	return all
}

// blank reads as zeros without end.
type blank struct{}

func (blank) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// decodeISO reads an image that encodeISO made; it is not for foreign images.
func decodeISO(label string, image []byte) ([]file, error) {
	disc, err := iso9660.OpenImage(bytes.NewReader(image))
	if err != nil {
		return nil, fmt.Errorf("read back: %w", err)
	}
	if name, err := disc.Label(); err != nil || name != label {
		return nil, fmt.Errorf("read back: the volume is labelled %q, not %q", name, label)
	}
	root, err := disc.RootDir()
	if err != nil {
		return nil, fmt.Errorf("read back: %w", err)
	}
	children, err := root.GetChildren()
	if err != nil {
		return nil, fmt.Errorf("read back: %w", err)
	}
	var files []file
	for _, child := range children {
		if child.IsDir() {
			return nil, fmt.Errorf("read back: %q is a directory", child.Name())
		}
		data := make([]byte, min(max(child.Size(), 0), int64(len(image))))
		if _, err := io.ReadFull(child.Reader(), data); err != nil {
			return nil, fmt.Errorf("read back: %s: %w", child.Name(), err)
		}
		files = append(files, file{child.Name(), data})
	}
	return files, nil
}
