package seed

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/kdomanski/iso9660"
)

// iso9660Of is the codec of an ISO 9660 volume with a label. What Linux takes for
// the UUID of the volume is the date on it.
func iso9660Of(label string, date time.Time) codec {
	return codec{
		encode: func(files []file) ([]byte, error) { return encodeISO(label, date, files) },
		decode: func(image, room []byte) ([]file, error) { return decodeISO(label, image, room) },
	}
}

// encodeISO never shows the words to the library. Its writer stages every file
// under $TMPDIR, and neither the place nor the modes are ours to choose without
// changing the environment of the whole process. So it lays the disc out over
// empty files, and seal gives them their extents and the words in memory.
func encodeISO(label string, date time.Time, files []file) ([]byte, error) {
	blank, err := layOutOnce(label, files)
	if err != nil {
		return nil, fmt.Errorf("laying out the ISO 9660 image: %w", err)
	}
	image, err := seal(blank, date, files)
	if err != nil {
		return nil, fmt.Errorf("sealing the ISO 9660 image: %w", err)
	}
	return image, nil
}

// layouts are the discs that were laid out, by label and names: all seeds of a run have
// one or two. Nobody writes to one.
var layouts sync.Map

func layOutOnce(label string, files []file) ([]byte, error) {
	key := label
	for _, f := range files {
		key += "\x00" + f.name
	}
	if known, ok := layouts.Load(key); ok {
		return known.([]byte), nil
	}
	blank, err := layOut(label, files)
	if err == nil {
		layouts.Store(key, blank)
	}
	return blank, err
}

// layOut returns a disc with a file of no bytes under each name.
func layOut(label string, files []file) (_ []byte, err error) {
	w, err := iso9660.NewWriter()
	if err != nil {
		return nil, err
	}
	// Deferred, so that a panic in the library does not leave the stage either.
	defer func() { err = errors.Join(err, w.Cleanup()) }()
	for _, f := range files {
		if err := w.AddFile(bytes.NewReader(nil), f.name); err != nil {
			return nil, err
		}
	}
	reached("staged")
	var image bytes.Buffer
	if err := w.WriteTo(&image, label); err != nil {
		return nil, err
	}
	return image.Bytes(), nil
}

// decodeISO reads an image that encodeISO made; it is not for foreign images. What is
// in the files goes into room, as far as it suffices.
func decodeISO(label string, image, room []byte) ([]file, error) {
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
		size := min(max(child.Size(), 0), int64(len(image)))
		if size > int64(len(room)) {
			room = make([]byte, size)
		}
		data := room[:size:size]
		room = room[size:]
		if _, err := io.ReadFull(child.Reader(), data); err != nil {
			return nil, fmt.Errorf("read back: %s: %w", child.Name(), err)
		}
		files = append(files, file{child.Name(), data})
	}
	return files, nil
}
