package base

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"bake/internal/download"
	"bake/internal/image"
	"bake/internal/inspect"
	"bake/internal/origin"
)

// cache is the directory of fetched base images that the package comment
// describes.
type cache struct{ store image.Store }

// lookSchema changes whenever inspect finds more or other things, so that what
// an older bake has found is looked for again.
const lookSchema = "bake.look/1"

// note is what <sha256>.json has.
type note struct {
	Schema   string           `json:"schema"`
	Findings inspect.Findings `json:"findings"`
}

const (
	notePrefix  = ".note-" // of notes that are not finished
	downloadDir = "download"
)

var errNotCached = errors.New("not in the cache")

// cache returns the cache, which is there afterwards.
func (d Depot) cache() (cache, error) {
	if d.Cache == "" {
		return cache{}, &DirError{errors.New("there is no directory to keep base images in: set HOME or XDG_CACHE_HOME")}
	}
	c := cache{image.Store{Dir: d.Cache, Tools: d.Tools}}
	if err := ownDir(c.store.Dir); !errors.Is(err, fs.ErrNotExist) {
		return c, err
	}
	return c, os.MkdirAll(c.store.Dir, 0o700)
}

// ownDir closes a directory to others. It refuses one that others could open
// again, to exchange what was verified, and a link, because bake would change
// the mode of a directory, and remove files in it, that may be anybody's.
func ownDir(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	switch owner := info.Sys().(*syscall.Stat_t).Uid; {
	case info.Mode().Type() == fs.ModeSymlink:
		return &DirError{fmt.Errorf("%s is a symbolic link: remove it, and set XDG_CACHE_HOME to have the cache elsewhere", dir)}
	case !info.IsDir():
		return &DirError{fmt.Errorf("%s is not a directory", dir)}
	case int(owner) != os.Geteuid():
		return &DirError{fmt.Errorf("%s belongs to the user %d, who could exchange the images in it: set XDG_CACHE_HOME to a directory of your own", dir, owner)}
	case info.Mode().Perm() == 0o700:
		return nil
	}
	return os.Chmod(dir, 0o700)
}

func (c cache) downloads() string           { return filepath.Join(c.store.Dir, downloadDir) }
func (c cache) noteFile(sum string) string  { return filepath.Join(c.store.Dir, sum+".json") }
func (c cache) blobFile(sum string) string  { return filepath.Join(c.store.Dir, sum+".qcow2") }
func (c cache) aliasFile(sum string) string { return filepath.Join(c.store.Dir, "sha512-"+sum) }

// sum returns the SHA-256 of a target's image, "" when it is not known here.
func (c cache) sum(t origin.Target) string {
	if t.Algorithm == "sha256" {
		return t.Digest
	}
	content, err := os.ReadFile(c.aliasFile(t.Digest))
	sum := strings.TrimSpace(string(content))
	if raw, bad := hex.DecodeString(sum); err != nil || bad != nil || len(raw) != 32 {
		return ""
	}
	return sum
}

// has reports whether an image is there, whole or not.
func (c cache) has(t origin.Target) bool {
	sum := c.sum(t)
	if sum == "" {
		return false
	}
	_, err := os.Lstat(c.blobFile(sum))
	return err == nil
}

// cached returns an image of the cache, hashed again unless it is known not to
// have changed, or errNotCached.
func (d Depot) cached(ctx context.Context, c cache, ref origin.Ref, target origin.Target) (Image, error) {
	if !c.has(target) {
		return Image{}, errNotCached
	}
	d.stage("%s: checking the cached image", ref)
	blob, err := c.store.Get(ctx, c.sum(target))
	if errors.Is(err, fs.ErrNotExist) {
		return Image{}, errNotCached
	}
	if err != nil {
		return Image{}, fmt.Errorf("%s: %w", ref, err)
	}
	if target.Size != 0 && target.Size != blob.Size {
		return Image{}, &origin.IntegrityError{URL: target.URL, Err: fmt.Errorf("bake.lock has %d bytes for an image of %d", target.Size, blob.Size),
			Advice: "restore bake.lock, or pin anew with bake pull --update"}
	}
	findings, err := c.look(ctx, blob)
	if err == nil {
		err = judge(ref, findings)
	}
	return Image{Blob: blob, Findings: findings, Cached: true}, refusal(ctx, ref, err)
}

// take vets a file that has the right digest and moves it into the store.
func (c cache) take(ctx context.Context, ref origin.Ref, target origin.Target, file download.File) (Image, error) {
	findings, err := inspect.Look(ctx, file.Path)
	if err == nil {
		err = judge(ref, findings)
	}
	if err != nil {
		return Image{}, refusal(ctx, ref, err)
	}
	blob, err := c.store.Add(ctx, file.Path)
	if err != nil {
		return Image{}, fmt.Errorf("%s: %w", ref, err)
	}
	if blob.SHA256 != file.SHA256 {
		return Image{}, &image.IntegrityError{Path: file.Path, Want: file.SHA256, Got: blob.SHA256}
	}
	if err := c.write(c.noteFile(blob.SHA256), note{lookSchema, findings}.encode()); err != nil {
		return Image{}, err
	}
	if target.Algorithm == "sha512" {
		err = c.write(c.aliasFile(target.Digest), []byte(blob.SHA256+"\n"))
	}
	return Image{Blob: blob, Findings: findings, Cached: file.Received == 0}, err
}

// look returns what is inside a stored image, from the note about it if there
// is one of this version.
func (c cache) look(ctx context.Context, blob image.Blob) (inspect.Findings, error) {
	var known note
	content, err := os.ReadFile(c.noteFile(blob.SHA256))
	if err == nil && json.Unmarshal(content, &known) == nil && bytes.Equal(known.encode(), content) && known.Schema == lookSchema {
		return known.Findings, nil
	}
	findings, err := inspect.Look(ctx, blob.Path)
	if err != nil {
		return inspect.Findings{}, err
	}
	return findings, c.write(c.noteFile(blob.SHA256), note{lookSchema, findings}.encode())
}

func (n note) encode() []byte {
	content, _ := json.Marshal(n) // texts, numbers and lists of them always marshal
	return append(content, '\n')
}

// write puts a file in place in one step. It is not synced: losing it costs a
// look.
func (c cache) write(path string, content []byte) error {
	temporary, err := os.CreateTemp(c.store.Dir, notePrefix+"*")
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name()) // gone by then unless something failed
	_, err = temporary.Write(content)
	if err := errors.Join(err, temporary.Close()); err != nil {
		return err
	}
	return os.Rename(temporary.Name(), path)
}

// Known returns the SHA-256 of the image that bake.lock pins for a reference, "" where
// there is no pin or the image has not been here. It looks at no image.
func (d Depot) Known(ref origin.Ref) string {
	lock, err := origin.ReadLock(d.lockFile())
	if err != nil {
		return ""
	}
	target, ok := lock.Pin(ref)
	if !ok {
		return ""
	}
	return cache{store: image.Store{Dir: d.Cache}}.sum(target)
}
