package inspect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
)

// An Image is a base image opened for looking. It is not for concurrent use.
type Image struct {
	name       string
	closer     io.Closer
	disk       *disk
	partitions []Partition
	recovered  bool // the partition table, from its backup
	rootAt     Partition
	root       *volume
	boot       *volume // nil when /boot is part of root
}

// Open opens a qcow2 or raw image with a GPT and an ext4 root file system. The
// context bounds everything that is read from the image later, too. Errors of
// this package begin with "looking inside PATH".
func Open(ctx context.Context, path string) (image *Image, err error) {
	i := &Image{name: path}
	defer i.explain(&err, "")
	file, size, err := openFile(path)
	if err != nil {
		return nil, err
	}
	i.closer = file
	if err := i.open(ctx, file, size); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return i, nil
}

// open is Open for a file of size bytes; a panic becomes an error.
func (i *Image) open(ctx context.Context, file io.ReaderAt, size int64) (err error) {
	defer recovered(&err)
	d, err := newDisk(ctx, file, size)
	if err != nil {
		return err
	}
	return i.load(d)
}

// load finds the file systems of a disk.
func (i *Image) load(d *disk) (err error) {
	i.disk = d
	if i.partitions, i.recovered, err = partitions(i.disk); err != nil {
		return err
	}
	if i.rootAt, err = rootOf(i.partitions); err != nil {
		return err
	}
	if i.root, err = mount(i.disk, i.rootAt.Start, i.rootAt.Size); err != nil {
		return fmt.Errorf("the root file system, partition %d: %w", i.rootAt.Number, err)
	}
	at, separate := bootOf(i.partitions, i.rootAt)
	if !separate {
		return nil
	}
	if i.boot, err = mount(i.disk, at.Start, at.Size); err != nil {
		return fmt.Errorf("the file system of /boot, partition %d: %w", at.Number, err)
	}
	return nil
}

// Close closes the image file.
func (i *Image) Close() error {
	if i.closer == nil {
		return nil
	}
	return i.closer.Close()
}

// Schemas returns the JSON schemas of the image's own cloud-init by file name:
// schema-cloud-config-v1.json and, since cloud-init 23, schema-network-config-v1.json
// and -v2.json. There are none before cloud-init 22.2, nor without cloud-init.
func (i *Image) Schemas() (map[string][]byte, error) {
	const dir = cloudInitDir + "/config/schemas"
	names, err := i.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return map[string][]byte{}, nil
	}
	if err != nil {
		return nil, err
	}
	schemas := map[string][]byte{}
	for _, name := range names {
		if !strings.HasPrefix(name, "schema-") || !strings.HasSuffix(name, ".json") || len(schemas) == maxSchemas {
			continue
		}
		if schemas[name], err = i.readFile(path.Join(dir, name), maxConfig); err != nil {
			return nil, err
		}
	}
	return schemas, nil
}

// explain says which image an error is about and what was being done; a panic
// over foreign bytes, in a library or here, becomes such an error.
func (i *Image) explain(err *error, doing string) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("malformed: %v", p)
	}
	var already *imageError
	if *err == nil || errors.As(*err, &already) {
		return
	}
	if doing != "" {
		*err = fmt.Errorf("%s: %w", doing, *err)
	}
	*err = &imageError{i.name, *err}
}

// recovered turns a panic into an error.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("malformed: %v", p)
	}
}

// imageError names the image, once.
type imageError struct {
	name string
	err  error
}

func (e *imageError) Error() string { return "looking inside " + e.name + ": " + e.err.Error() }
func (e *imageError) Unwrap() error { return e.err }
