package hypervisor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// maxCopy is as much of a log as is copied at once: who reads it takes less.
const maxCopy = 8 << 20

// Console copies a domain's log of its console to a file here, as it grows, for
// those who read files. As virtlogd does, it begins a new file when the log does. Of
// what is too long the copy has the end, and a hole before.
type Console struct {
	From *Hypervisor
	Log  string // its path there
	To   string // the copy's path here, in a directory that is nobody else's

	begun  bool
	offset int64
}

// maxBefore is how much of the files before the log at hand is copied, too: who reads them
// takes no more.
const maxBefore = 4 << 20

// Pull copies what is new. A log that is not there is no error, and has no copy.
func (c *Console) Pull() error {
	if err := c.pull(); err != nil {
		return fmt.Errorf("copying the console: %w", err)
	}
	return nil
}

func (c *Console) pull() error {
	if !c.begun { // another copy may be of another boot
		if err := c.begin(); err != nil {
			return err
		}
		c.begun = true
	}
	size, err := c.From.Size(c.Log)
	if errors.Is(err, fs.ErrNotExist) {
		c.offset = 0
		return ignore(os.Remove(c.To), fs.ErrNotExist)
	}
	if err != nil {
		return err
	}
	if size < c.offset { // full, and renamed by virtlogd, or emptied by a start
		if err := c.turn(); err != nil {
			return err
		}
	}
	if size == c.offset && c.offset > 0 {
		return nil
	}
	return c.append(c.Log, size)
}

// begin copies what virtlogd has moved out of the way before anybody looked: the verdict of
// a machine that has printed much since is in there.
func (c *Console) begin() error {
	before := func(path string, i int) string { return fmt.Sprintf("%s.%d", path, i) }
	err := ignore(os.Remove(c.To), fs.ErrNotExist)
	for i := 0; err == nil; i++ {
		err = os.Remove(before(c.To, i))
	}
	if err := ignore(err, fs.ErrNotExist); err != nil {
		return err
	}
	copied, err := c.From.Size(c.Log)
	for i := 0; err == nil && copied < maxBefore; i++ {
		var size int64
		if size, err = c.From.Size(before(c.Log, i)); err == nil {
			copied += size
			err = c.write(before(c.To, i), before(c.Log, i), max(0, size-maxBefore), size)
		}
	}
	return ignore(err, fs.ErrNotExist)
}

// write copies a file from over there.
func (c *Console) write(to, log string, from, size int64) error {
	file, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = c.From.copy(file, log, from, size)
	return errors.Join(err, file.Close())
}

// turn follows a log that begins again: what the file of that name before has more
// is copied, too.
func (c *Console) turn() error {
	if size, err := c.From.Size(c.Log + ".0"); err == nil && size >= c.offset {
		if err := c.append(c.Log+".0", size); err != nil {
			return err
		}
		c.offset = 0
		return os.Rename(c.To, c.To+".0")
	}
	c.offset = 0
	return ignore(os.Remove(c.To), fs.ErrNotExist)
}

func (c *Console) append(log string, size int64) error {
	file, err := os.OpenFile(c.To, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if size-c.offset > maxCopy {
		c.offset = size - maxCopy
		if err := file.Truncate(c.offset); err != nil {
			return errors.Join(err, file.Close())
		}
	}
	n, err := c.From.copy(file, log, c.offset, size)
	c.offset += n
	return errors.Join(err, file.Close())
}

func ignore(err, what error) error {
	if errors.Is(err, what) {
		return nil
	}
	return err
}
