package download

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	stateSchema   = "bake.part/1"
	writeBackStep = 8 << 20 // bytes
)

// step is called before each change to the disk; tests kill the process there.
var step = func(string) {}

// state is the content of .part.json: the version that the bytes are of.
type state struct {
	Schema       string `json:"schema"`
	URL          string `json:"url"`
	ETag         string `json:"etag,omitempty"`
	LastModified string `json:"last_modified,omitempty"`
	Total        int64  `json:"total,omitempty"`
}

// A partial is a download as far as it is. The writer's lock is held.
type partial struct {
	*claim
	want     Want
	file     *os.File
	sums     *digester
	state    state // zero while the file is empty
	offset   int64 // bytes that are written and hashed
	pushed   int64 // bytes whose write-back was started
	received int64 // bytes from the network
	ended    bool  // a body of unknown length came to its end
	mixed    bool  // not all bytes are of one answer to this run
	again    bool  // mixed bytes were wrong once
}

// openRegular does not follow a link, and does not hang on a FIFO.
func openRegular(path string, flags int) (*os.File, error) {
	file, err := os.OpenFile(path, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: path, Err: errors.New("not a regular file")}
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// openPartial opens what an earlier run left, or begins with nothing.
func openPartial(c *claim, want Want) (*partial, error) {
	step("open the partial")
	file, err := openRegular(c.part(), os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	p := &partial{claim: c, want: want, file: file, sums: newDigester(want.Algorithm)}
	info, err := file.Stat()
	if err == nil && !p.recall(info.Size()) {
		err = p.reset()
	}
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// recall takes over the state on disk, if it can be that of so many bytes of
// what is wanted.
func (p *partial) recall(size int64) bool {
	var s state
	data, err := os.ReadFile(p.claim.state())
	if size == 0 || err != nil || json.Unmarshal(data, &s) != nil || s.Schema != stateSchema {
		return false
	}
	if s.Total < 0 || s.Total > 0 && size > s.Total || p.want.Size > 0 && s.Total != p.want.Size {
		return false
	}
	p.state = s
	return true
}

// hashPresent hashes what an earlier run left.
func (p *partial) hashPresent(ctx context.Context) (err error) {
	p.offset, err = p.sums.readAll(ctx, io.NewSectionReader(p.file, 0, limit(p.state.Total)))
	p.pushed = p.offset
	p.mixed = p.offset > 0
	return err
}

// limit returns the size above which a file is refused.
func limit(total int64) int64 {
	if total > 0 {
		return total
	}
	return hardCap
}

func (p *partial) whole() bool {
	return p.ended || p.state.Total > 0 && p.offset == p.state.Total
}

// reset forgets everything but what was received. The state goes first: bytes
// without it are dropped, but it must never speak of other bytes.
func (p *partial) reset() error {
	step("remove the state")
	if err := os.Remove(p.claim.state()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	step("empty the partial")
	if err := p.file.Truncate(0); err != nil {
		return err
	}
	p.sums.reset()
	p.state, p.offset, p.pushed, p.ended, p.mixed = state{}, 0, 0, false, false
	return nil
}

// adopt makes a new answer the version that the bytes to come are of. From 0 it
// replaces what is there.
func (p *partial) adopt(s state, from int64) error {
	if from == 0 {
		if err := p.reset(); err != nil {
			return err
		}
		if err := p.reserve(); err != nil {
			return err
		}
	} else {
		p.mixed = true
	}
	if s == p.state {
		return nil
	}
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding %s: %w", p.claim.state(), err)
	}
	step("write the state")
	if err := os.WriteFile(p.draft(), append(data, '\n'), 0o600); err != nil {
		return err
	}
	step("rename the state")
	if err := os.Rename(p.draft(), p.claim.state()); err != nil {
		return err
	}
	p.state = s
	return nil
}

// reserve takes the room for the whole file, so that a disk which is too full
// is known before an hour of download and not after it. The length stays. A size
// that only the server claims takes no room.
func (p *partial) reserve() error {
	total := p.want.Size
	if total == 0 {
		return nil
	}
	err := unix.Fallocate(int(p.file.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, total)
	if err == nil || !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) {
		return nil // it is a courtesy: what is really wrong, writing will say
	}
	_ = p.file.Truncate(p.offset) // gives back what was taken
	return fmt.Errorf("making room for %d bytes in %s: %w", total, filepath.Dir(p.path), err)
}

// write appends the first n bytes of a block, which it consumes.
func (p *partial) write(b *block, n int) error {
	if n == 0 {
		p.sums.drop(b)
		return nil
	}
	step("write")
	if _, err := p.file.WriteAt(b.data[:n], p.offset); err != nil {
		p.sums.drop(b)
		return fmt.Errorf("%w (%s kept)", err, amount(p.offset, p.state.Total))
	}
	p.sums.add(b, n)
	p.offset += int64(n)
	if p.offset-p.pushed >= writeBackStep {
		// Only a hint: whether the bytes arrive, Sync will tell.
		_ = unix.SyncFileRange(int(p.file.Fd()), p.pushed, p.offset-p.pushed, unix.SYNC_FILE_RANGE_WRITE)
		p.pushed = p.offset
	}
	return nil
}

// finish gives a whole partial its name if it is what was wanted, and otherwise
// removes it: what is wrong must not be resumed.
func (p *partial) finish() (File, error) {
	if got := p.sums.sum(p.want.Algorithm); got != p.want.Digest {
		return File{}, p.discard(&IntegrityError{
			Got:    fmt.Sprintf("%d bytes with the %s %s", p.offset, p.want.Algorithm, got),
			Want:   p.want.Digest,
			Advice: "the bytes were thrown away; try another mirror, and if that sends the same, do not use the digest before you know where it is from",
		})
	}
	step("sync")
	if err := p.file.Sync(); err != nil {
		return File{}, err
	}
	step("rename the result")
	if err := os.Rename(p.part(), p.path); err != nil {
		return File{}, err
	}
	if err := p.tidy(p.file); err != nil {
		return File{}, err
	}
	if err := syncDir(filepath.Dir(p.path)); err != nil {
		return File{}, err
	}
	return File{Path: p.path, SHA256: p.sums.sum("sha256"), Size: p.offset, Received: p.received}, nil
}

// discard empties the partial because of err.
func (p *partial) discard(err error) error {
	if failed := p.reset(); failed != nil {
		return errors.Join(err, failed)
	}
	return err
}

// close keeps what can be resumed and leaves no empty file behind.
func (p *partial) close() {
	p.sums.close()
	if info, err := p.file.Stat(); err == nil && info.Size() == 0 {
		_ = os.Remove(p.claim.state())
		_ = os.Remove(p.part())
	}
	_ = p.file.Close()
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
