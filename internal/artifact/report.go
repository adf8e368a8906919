package artifact

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// maxReport is far more than a thousand claims with all that they saw.
const maxReport = 64 << 20

// WriteReport puts a report beside the files of a generation, in one step. Its
// name starts with "report."; it may be written again. The caller holds the
// host's lock.
func (g Generation) WriteReport(name string, content []byte) error {
	if err := vetName("report", strings.TrimPrefix(name, reportPrefix)); err != nil || !isReport(name) {
		return fmt.Errorf("writing report %q: %w", name, errors.Join(err, errors.New("want report.NAME")))
	}
	return g.replace(name, content)
}

// ReadReport returns what WriteReport has put there. Whatever else has taken its place, a
// link, a pipe, a file without an end, is not read. The error wraps fs.ErrNotExist when there is
// none.
func (g Generation) ReadReport(name string) ([]byte, error) {
	file, err := os.OpenFile(g.Path(name), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, &IntegrityError{File: g.Path(name), Want: "a regular file", Got: "a link"}
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular() || info.Size() > maxReport:
		return nil, &IntegrityError{File: g.Path(name), Want: "a report", Got: "no regular file, or a large one"}
	}
	return io.ReadAll(io.LimitReader(file, maxReport))
}

// replace puts a file that is not part of the generation in place of the one before.
func (g Generation) replace(name string, content []byte) error {
	if err := g.write(name, content); err != nil {
		return fmt.Errorf("writing %s: %w", g.Path(name), err)
	}
	return nil
}

func (g Generation) write(name string, content []byte) (err error) {
	// A name that Verify takes for a report too, should the run be killed now.
	temporary, err := os.CreateTemp(g.Dir, reportPrefix+"*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(temporary.Name()))
		}
	}()
	_, err = temporary.Write(content)
	if err == nil {
		err = temporary.Sync()
	}
	if err = errors.Join(err, temporary.Close()); err != nil {
		return err
	}
	return os.Rename(temporary.Name(), g.Path(name))
}
