package main

// Host files that are made of a list.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"bake/internal/diag"
	"bake/internal/layer"
	"bake/internal/roster"
)

const (
	rosterMark = "# Made by bake init --from: change the list, and run it again with --replace.\n"
	rosterMost = 100 // problems that are shown of one list
)

// recruits are host files in the making.
type recruits struct {
	config  string
	shelf   layer.Shelf
	staging string // directory in hosts/, so that each gets its name by one rename
	replace bool

	names    []string // to be written
	same     int
	problems diag.List
}

// runInitFrom makes the host files of a list: all, or none if one of them is wrong.
func runInitFrom(ctx context.Context, a *app, file string, replace, dry bool) (err error) {
	in, called := io.Reader(a.Stdin), "standard input"
	if file != "-" {
		list, err := os.Open(file)
		if err != nil {
			return err
		}
		defer list.Close()
		in, called = list, file
	}
	dir := filepath.Join(a.config, "hosts")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	r := recruits{config: a.config, shelf: a.shelf(), replace: replace}
	if r.staging, err = os.MkdirTemp(dir, ".init-*"); err != nil {
		return err
	}
	defer func() {
		if failed := os.RemoveAll(r.staging); failed != nil {
			err = errors.Join(err, failed)
		}
	}()
	err = roster.Read(called, in, func(e roster.Entry) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return r.recruit(e)
	})
	var list diag.List
	switch {
	case errors.As(err, &list):
		r.problems.Add(list...)
	case err != nil:
		return err
	}
	if err := r.problems.Err(); err != nil {
		return err
	}
	if !dry {
		for _, name := range r.names {
			if err := os.Rename(filepath.Join(r.staging, name), filepath.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	a.say("%s %s, %d were as they are", map[bool]string{true: "would write", false: "wrote"}[dry], hostFiles(len(r.names)), r.same)
	if a.json {
		return a.printJSON(map[string]any{"written": append([]string{}, r.names...), "same": r.same})
	}
	var lines []string
	for _, name := range r.names {
		lines = append(lines, filepath.Join(dir, name))
	}
	return a.printLines(lines)
}

func hostFiles(n int) string {
	if n == 1 {
		return "1 host file"
	}
	return fmt.Sprintf("%d host files", n)
}

// recruit checks a host, and writes its file where it is not yet anybody's.
func (r *recruits) recruit(e roster.Entry) error {
	_, err := e.Load(r.config, r.shelf)
	var text []byte
	if err == nil {
		text, err = e.Text()
	}
	var list diag.List
	switch {
	case errors.As(err, &list) && len(r.problems) < rosterMost:
		r.problems.Add(list...)
		return nil
	case err != nil: // or there are enough
		return err
	}
	name, content := e.Name+".yaml", append([]byte(rosterMark), text...)
	file, err := os.OpenFile(filepath.Join(r.staging, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		r.problems.Add(e.Problem("remove one of the two", "the host %q is there twice", e.Name))
		return nil
	}
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	return r.compare(e, name, content)
}

// compare decides what becomes of a file by what is there.
func (r *recruits) compare(e roster.Entry, name string, content []byte) error {
	path := filepath.Join(r.config, "hosts", name)
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		r.names = append(r.names, name)
		return nil
	}
	var old []byte
	if err == nil && info.Mode().IsRegular() {
		old, err = os.ReadFile(path)
	}
	switch {
	case err != nil:
		return err
	case bytes.Equal(old, content):
		r.same++
	case !strings.HasPrefix(string(old), rosterMark):
		r.problems.Add(e.Problem("remove the file, or the host from the list", "%s exists already, and no list has made it", path))
	case !r.replace:
		r.problems.Add(e.Problem("--replace writes it anew", "%s says something else", path))
	default:
		r.names = append(r.names, name)
	}
	return nil
}
