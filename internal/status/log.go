package status

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"syscall"
	"time"

	"bake/internal/console"
)

const (
	maxRead    = 4 << 20 // bytes of a log
	maxBackups = 32      // that virtlogd keeps, at most
)

// Log is the log of a console, read as it grows. libvirt begins a new file at each
// start. When a file is full virtlogd gives it the name PATH.0 and goes on in a new
// one: that is one log.
type Log struct {
	Path    string
	Name    string              // what people know it by, Path if that is ""
	Reached func(console.Stage) // is told the stages that Look finds; may be nil
	Pull    func() error        // brings the file up to date before a look; nil where it grows by itself

	// As of the last Look.
	IsThere bool
	IsCut   bool  // more than could be read came before
	Size    int64 // bytes of the file
	Grew    time.Time

	reader console.Reader
	file   *os.File // that was read last, open so that nobody else gets its inode's number
	info   fs.FileInfo
	offset int64
}

// Reading returns what the log has told so far.
func (l *Log) Reading() console.Reading { return l.reader.Reading() }

// Tail returns its last lines, for the end of a message.
func (l *Log) Tail() string { return l.reader.Tail() }

// Close lets go of the file.
func (l *Log) Close() error {
	if l.file == nil {
		return nil
	}
	return l.file.Close()
}

// Look reads what is new. A log that is not there is no error.
func (l *Log) Look() error {
	if l.Pull != nil {
		if err := l.Pull(); err != nil {
			return err
		}
	}
	file, info, err := open(l.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if l.file != nil && l.backup() < 0 { // not between two files
			l.forget()
			err := l.Close()
			l.file, l.IsThere = nil, false
			return err
		}
		return nil
	case err != nil:
		return fmt.Errorf("reading the console: %w", err)
	case l.file == nil:
		l.forget()
		err = l.start(file, info)
	case os.SameFile(l.info, info):
		err = errors.Join(file.Close(), l.goOn(info))
	default:
		err = l.change(file, info)
	}
	if err != nil {
		return fmt.Errorf("reading the console: %w", err)
	}
	l.IsThere, l.Size, l.Grew = true, info.Size(), info.ModTime()
	return nil
}

func open(path string) (*os.File, fs.FileInfo, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe without a writer must not hold us up
	if err != nil {
		return nil, nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	return file, info, nil
}

func (l *Log) forget() {
	l.reader = console.Reader{Reached: func(s console.Stage) {
		if l.Reached != nil {
			l.Reached(s)
		}
	}}
	l.IsCut, l.Size, l.Grew = false, 0, time.Time{}
}

// start reads a log for the first time. Files before the one at hand belong to it
// if that begins in the middle.
func (l *Log) start(file *os.File, info fs.FileInfo) error {
	l.file, l.info, l.offset = file, info, 0
	alone := console.Reader{}
	if err := feed(&alone, file, max(0, info.Size()-maxRead), info.Size(), false); err != nil {
		return err
	}
	var before []string
	if alone.Reading().Boots == 0 && alone.Tail() != "" {
		before = l.before(maxRead - info.Size())
	}
	for i := len(before) - 1; i >= 0; i-- {
		if err := l.feedBackup(before[i]); err != nil {
			return err
		}
	}
	return l.goOn(info)
}

// before returns the files that hold what came last before the one at hand, the
// newest first.
func (l *Log) before(room int64) []string {
	var paths []string
	for i := 0; i < maxBackups && room > 0; i++ {
		path := l.Path + "." + strconv.Itoa(i)
		info, err := os.Lstat(path)
		if err != nil || !info.Mode().IsRegular() {
			break
		}
		room -= info.Size()
		paths = append(paths, path)
	}
	l.IsCut = len(paths) > 0 // as far as anybody knows
	return paths
}

func (l *Log) feedBackup(path string) error {
	file, info, err := open(path)
	if err != nil {
		return err
	}
	return errors.Join(l.feed(file, 0, info.Size()), file.Close())
}

// goOn reads on in the same file.
func (l *Log) goOn(info fs.FileInfo) error {
	if info.Size() < l.offset { // somebody has emptied it
		l.forget()
		l.offset = 0
	}
	err := l.feed(l.file, l.offset, info.Size())
	l.info, l.offset = info, info.Size()
	return err
}

// change goes over to another file of that name: the next of this log, or a new
// one.
func (l *Log) change(file *os.File, info fs.FileInfo) error {
	at := l.backup()
	var err error
	if at >= 0 {
		if now, statErr := l.file.Stat(); statErr == nil {
			err = l.goOn(now)
		}
		for i := at - 1; i >= 0; i-- { // many at once
			err = errors.Join(err, l.feedBackup(l.Path+"."+strconv.Itoa(i)))
		}
	} else {
		l.forget()
	}
	if err := errors.Join(err, l.file.Close()); err != nil {
		return errors.Join(err, file.Close())
	}
	if at < 0 {
		return l.start(file, info)
	}
	l.file, l.info, l.offset = file, info, 0
	return l.goOn(info)
}

// backup is the number that the file at hand has been given since, -1 for none.
func (l *Log) backup() int {
	for i := range maxBackups {
		info, err := os.Stat(l.Path + "." + strconv.Itoa(i))
		if err != nil {
			break
		}
		if os.SameFile(info, l.info) {
			return i
		}
	}
	return -1
}

// feed reads a part of a file, of one that is too long the end.
func (l *Log) feed(file *os.File, from, to int64) error {
	isCut := to-from > maxRead
	if isCut {
		from = to - maxRead
		l.forget()
		l.IsCut = true
	}
	return feed(&l.reader, file, from, to, isCut)
}

// feed hands a part of a file to a reader; a cut one from the next line on.
func feed(to *console.Reader, file *os.File, from, end int64, isCut bool) error {
	part := bufio.NewReader(io.NewSectionReader(file, from, end-from))
	if isCut {
		if _, err := part.ReadString('\n'); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
	_, err := io.Copy(to, part)
	return err
}

// lookEvery is the time between two looks of Follow.
const lookEvery = 200 * time.Millisecond

// Follow looks at logs until all have come to a final state. The error is ctx's
// when that ends before.
func Follow(ctx context.Context, logs ...*Log) error {
	for {
		isOver := true
		for _, l := range logs {
			if err := l.Look(); err != nil {
				return err
			}
			state, _ := judge(l.Reading(), l)
			isOver = isOver && state.IsFinal()
		}
		if isOver {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(lookEvery):
		}
	}
}
