package image

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestList(t *testing.T) {
	s := newStore(t)
	if all, err := s.List(); err != nil || all != nil {
		t.Errorf("a store that does not exist: %v, %v", all, err)
	}
	blob := mustAdd(t, s, write(t, plain()))
	for _, name := range []string{"x.qcow2", blob.SHA256 + ".json", ".new-1"} {
		if err := os.WriteFile(filepath.Join(s.Dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if all, err := s.List(); err != nil || len(all) != 1 || all[0] != blob {
		t.Errorf("%+v, %v, want %+v", all, err, blob)
	}
	spoil(t, blob.Path, 0) // no qcow2 any more
	if all, err := s.List(); err != nil || len(all) != 1 || all[0].VirtualSize != 0 || all[0].Size != blob.Size {
		t.Errorf("%+v, %v", all, err)
	}
}

// Verify believes nothing that is remembered.
func TestVerify(t *testing.T) {
	s := newStore(t)
	blob := mustAdd(t, s, write(t, plain()))
	if err := s.Verify(t.Context(), blob.SHA256); err != nil {
		t.Error(err)
	}
	spoil(t, blob.Path, 100)
	wantIntegrity(t, s.Verify(t.Context(), blob.SHA256), blob.Path)
	if err := s.Verify(t.Context(), sum(nil)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestRemove(t *testing.T) {
	s := newStore(t)
	source := write(t, plain())
	blob := mustAdd(t, s, source)
	for range 2 {
		if err := s.Remove(t.Context(), blob.SHA256); err != nil {
			t.Error(err)
		}
		if _, err := s.Get(t.Context(), blob.SHA256); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%v", err)
		}
	}
	if again := mustAdd(t, s, source); again != blob { // and not believed to be there
		t.Errorf("%+v, want %+v", again, blob)
	}
}

// A source that is not in the state in which it was opened, in any of the five
// numbers, has changed while it was copied.
func TestChangedWhileCopied(t *testing.T) {
	s := newStore(t)
	path := write(t, plain())
	mustAdd(t, s, path) // makes the directory
	source, seen, err := open(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	for name, change := range map[string]func(*identity){
		"device": func(i *identity) { i.Device++ }, "inode": func(i *identity) { i.Inode++ }, "size": func(i *identity) { i.Size++ },
		"mtime": func(i *identity) { i.Mtime++ }, "ctime": func(i *identity) { i.Ctime++ }, "": func(*identity) {},
	} {
		before := seen
		change(&before)
		_, err := s.take(t.Context(), source, before)
		if refused := err != nil && strings.Contains(err.Error(), "changed while it was read"); refused != (name != "") {
			t.Errorf("another %q: %v", name, err)
		}
	}
}

func TestFlatten(t *testing.T) {
	s := newStore(t)
	dir := t.TempDir()
	raw := filepath.Join(dir, "raw")
	content := append(bytes.Repeat([]byte("content "), 1<<17), make([]byte, 7<<20)...)
	if err := os.WriteFile(raw, content, 0o600); err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(dir, "source.qcow2")
	if _, err := s.Tools.Run(t.Context(), "qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, source); err != nil {
		t.Fatal(err)
	}
	blob := mustAdd(t, s, source)
	if err := os.Truncate(raw, 1*gib); err != nil {
		t.Fatal(err)
	}
	sizes := map[Form]int64{}
	for _, test := range []struct {
		form   Form
		format string
	}{{Form{}, "qcow2"}, {Form{Compress: true}, "qcow2"}, {Form{Raw: true}, "raw"}} {
		var first []byte
		for _, name := range []string{"a", "b"} {
			disk := filepath.Join(t.TempDir(), name)
			if err := s.Flatten(t.Context(), blob, disk, 1*gib, test.form); err != nil {
				t.Fatal(err)
			}
			if info, err := os.Stat(disk); err != nil || info.Mode() != 0o600 || test.form.Raw && info.Size() != 1*gib {
				t.Errorf("mode %v, %d bytes, %v", info.Mode(), info.Size(), err)
			}
			if _, err := s.Tools.Run(t.Context(), "qemu-img", "compare", "-q", "-f", "raw", "-F", test.format, raw, disk); err != nil {
				t.Errorf("%+v: %v", test.form, err)
			}
			if test.form.Raw {
				continue // a GiB of zeros says nothing more
			}
			now := read(t, disk)
			if first != nil && !bytes.Equal(first, now) {
				t.Errorf("%+v: different bytes", test.form)
			}
			if h, err := ReadHeader(bytes.NewReader(now), int64(len(now))); err != nil || h.Size != 1*gib {
				t.Errorf("%+v does not stand alone: %v, or has not the size: %d", test.form, err, h.Size)
			}
			first, sizes[test.form] = now, int64(len(now))
		}
	}
	if sizes[Form{Compress: true}] >= sizes[Form{}] {
		t.Errorf("compressed %d, plain %d bytes", sizes[Form{Compress: true}], sizes[Form{}])
	}
}

func TestFlattenRefuses(t *testing.T) {
	s := newStore(t)
	blob := mustAdd(t, s, write(t, plain()))
	there := filepath.Join(t.TempDir(), "there")
	if err := os.WriteFile(there, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	gone := blob
	gone.Path = filepath.Join(s.Dir, "gone")
	for name, test := range map[string]struct {
		blob Blob
		path string
		size int64
		form Form
	}{
		"too small":      {blob, "new", blob.VirtualSize - 512, Form{}},
		"too large":      {blob, "new", 17 << 40, Form{}},
		"compressed":     {blob, "new", blob.VirtualSize, Form{Raw: true, Compress: true}},
		"in the way":     {blob, there, blob.VirtualSize, Form{}},
		"without a base": {gone, "new", blob.VirtualSize, Form{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			if err := s.Flatten(t.Context(), test.blob, test.path, test.size, test.form); err == nil {
				t.Error("no error")
			}
			if _, err := os.Lstat("new"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a disk is left behind: %v", err)
			}
		})
	}
}

// TestReceive: what came as a part of another file is stored if it is what was wanted and
// a base image, and else not at all.
func TestReceive(t *testing.T) {
	s := newStore(t)
	good := plain()
	around := append(append([]byte("before"), good...), "behind"...)
	part := func() *io.SectionReader {
		return io.NewSectionReader(bytes.NewReader(around), 6, int64(len(good)))
	}
	_, err := s.Receive(t.Context(), part(), strings.Repeat("0", 64))
	var wrong *IntegrityError
	if !errors.As(err, &wrong) || wrong.Got != sum(good) {
		t.Errorf("with another digest: %v", err)
	}
	page := []byte("<!DOCTYPE html>")
	var refused *RefusedError
	if _, err := s.Receive(t.Context(), io.NewSectionReader(bytes.NewReader(page), 0, int64(len(page))), sum(page)); !errors.As(err, &refused) {
		t.Errorf("what is no image: %v", err)
	}
	if all, err := s.List(); err != nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}
	blob, err := s.Receive(t.Context(), part(), sum(good))
	if err != nil || blob.SHA256 != sum(good) || blob.Size != int64(len(good)) {
		t.Fatalf("%+v, %v", blob, err)
	}
	if stored, err := os.ReadFile(blob.Path); err != nil || !bytes.Equal(stored, good) {
		t.Errorf("other bytes were stored: %v", err)
	}
	if again, err := s.Receive(t.Context(), io.NewSectionReader(bytes.NewReader(nil), 0, 0), sum(good)); err != nil || again.Path != blob.Path {
		t.Errorf("one that is there: %+v, %v", again, err)
	}
}
