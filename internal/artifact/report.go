package artifact

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// WriteReport puts a report beside the files of a generation, in one step. Its
// name starts with "report."; it may be written again. The caller holds the
// host's lock.
func (g Generation) WriteReport(name string, content []byte) error {
	if err := vetName("report", strings.TrimPrefix(name, reportPrefix)); err != nil || !isReport(name) {
		return fmt.Errorf("writing report %q: %w", name, errors.Join(err, errors.New("want report.NAME")))
	}
	return g.replace(name, content)
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
