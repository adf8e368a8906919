package backup

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// A tar whose files are in a tree anyway is kept without their contents.

const (
	restName = "rest.tar"
	cutsName = "cuts.json"
)

// cuts say what was taken out of a tar.
type cuts struct {
	SHA256 string // of all of it
	Bytes  int64
	Cuts   []oneCut
}

// oneCut is the content of a file. Its path is bytes, which JSON would not keep.
type oneCut struct {
	At, Size int64
	Path     []byte
}

// cut writes the rest of a tar and where its files go in to a directory, and returns the
// size of the tar.
func cut(ctx context.Context, path, to string) (size int64, err error) {
	source, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer source.Close()
	rest, err := os.OpenFile(filepath.Join(to, restName), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, err
	}
	in := &knife{ctx: ctx, source: source, sum: sha256.New(), rest: rest}
	found, err := in.members()
	if err == nil {
		_, err = io.Copy(io.Discard, in) // what is behind the last member
	}
	if err == nil {
		err = rest.Sync()
	}
	if err = errors.Join(err, rest.Close()); err != nil {
		return 0, err
	}
	content, err := json.Marshal(cuts{SHA256: hex.EncodeToString(in.sum.Sum(nil)), Bytes: in.at, Cuts: found})
	if err != nil {
		return 0, err
	}
	return in.at, replace(filepath.Join(to, cutsName), content)
}

// knife reads a tar and passes on what is not within a cut. It is no Seeker: package tar
// reads all there is, and nothing ahead.
type knife struct {
	ctx    context.Context
	source io.Reader
	sum    hash.Hash
	rest   io.Writer
	at     int64
	until  int64 // the end of a cut
}

func (k *knife) Read(p []byte) (int, error) {
	if err := k.ctx.Err(); err != nil {
		return 0, err
	}
	if k.at < k.until {
		p = p[:min(int64(len(p)), k.until-k.at)]
	}
	n, err := k.source.Read(p)
	k.sum.Write(p[:n])
	if k.at >= k.until {
		if _, err := k.rest.Write(p[:n]); err != nil {
			return 0, err
		}
	}
	k.at += int64(n)
	return n, err
}

// members finds what can be taken out: the contents of files, but for those with holes,
// of which the tar has something else than what is read from the tree.
func (k *knife) members() (found []oneCut, err error) {
	in := tar.NewReader(k)
	for {
		h, err := in.Next()
		if err == io.EOF {
			return found, nil
		}
		if err != nil {
			return nil, err
		}
		if h.Typeflag != tar.TypeReg || h.Size == 0 || isSparse(h) || !filepath.IsLocal(h.Name) || strings.HasPrefix(h.Name, ".bake/") {
			continue
		}
		found = append(found, oneCut{k.at, h.Size, []byte(h.Name)})
		k.until = k.at + h.Size
	}
}

func isSparse(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return h.Typeflag == tar.TypeGNUSparse
}

// damaged says that the backup in a directory is not what was stored.
func damaged(dir, format string, args ...any) error {
	return &fault{Store: dir, Cause: causeDamaged, Said: fmt.Sprintf(format, args...)}
}

// lost is damage where it is a file of a backup that is not there.
func lost(dir string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return damaged(dir, "%v", err)
	}
	return err
}

// judge says whether the backup in a directory is what was stored: what was put down of it,
// its tar, and its manifest, which is in the tar, too, and without which no restore takes it.
func judge(ctx context.Context, dir string) error {
	if _, err := readAbout(dir); err != nil {
		return err
	}
	beside, err := os.ReadFile(filepath.Join(dir, manifestFile))
	if err != nil {
		return lost(dir, err)
	}
	read, write := io.Pipe()
	go func() { write.CloseWithError(join(ctx, dir, write)) }()
	inside, err := manifestOf(read)
	if _, failed := io.Copy(io.Discard, read); failed != nil { // it is why, if it is
		return failed
	}
	if err != nil || !bytes.Equal(inside, beside) {
		return damaged(dir, "%s is not the manifest in %s", manifestFile, stateFile)
	}
	return nil
}

// manifestOf is the manifest in a tar, without which there is an error.
func manifestOf(r io.Reader) ([]byte, error) {
	for in := tar.NewReader(r); ; {
		h, err := in.Next()
		if err != nil {
			return nil, err
		}
		if h.Name == ".bake/"+manifestFile {
			return io.ReadAll(in)
		}
	}
}

// join puts a tar together from the backup in a directory, and says whether it is what
// it was.
func join(ctx context.Context, dir string, out io.Writer) (err error) {
	content, err := os.ReadFile(filepath.Join(dir, cutsName))
	if err != nil {
		return lost(dir, err)
	}
	var all cuts
	if err := json.Unmarshal(content, &all); err != nil {
		return damaged(dir, "%s: %v", cutsName, err)
	}
	rest, err := os.Open(filepath.Join(dir, restName))
	if err != nil {
		return lost(dir, err)
	}
	defer rest.Close()
	root, err := os.OpenRoot(filepath.Join(dir, treeName))
	if err != nil {
		return lost(dir, err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	sum := sha256.New()
	to := io.MultiWriter(sum, out)
	var at int64
	for _, c := range all.Cuts {
		if err := ctx.Err(); err != nil {
			return err
		}
		if n, err := io.CopyN(to, rest, c.At-at); err != nil {
			return damaged(dir, "%s ends %d bytes too early: %v", restName, c.At-at-n, err)
		}
		if err := insert(to, root, c); err != nil {
			return damaged(dir, "%v", err)
		}
		at = c.At + c.Size
	}
	if _, err := io.Copy(to, rest); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != all.SHA256 {
		return damaged(dir, "its files are not those that were stored")
	}
	return nil
}

// insert copies a file of the tree, whose size must be what it was.
func insert(to io.Writer, root *os.Root, c oneCut) error {
	file, err := root.Open(string(c.Path))
	if err != nil {
		return err
	}
	defer file.Close()
	n, err := io.Copy(to, io.LimitReader(file, c.Size+1))
	if err == nil && n != c.Size {
		err = fmt.Errorf("%q has %d bytes and not %d", c.Path, n, c.Size)
	}
	return err
}
