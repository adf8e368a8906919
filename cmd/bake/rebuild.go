package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"bake/internal/artifact"
)

// rebuildDir is where generations are made again, beside those of the hosts.
const rebuildDir = ".rebuild"

// strayed says why the same inputs gave another generation: this bake is another than
// the one that baked, or a program that it calls is.
func strayed(was, is artifact.Manifest) error {
	if was.Tool != "bake "+version() {
		return goneError{fmt.Errorf("%s, which baked it, is gone: this is bake %s, and makes something else of the same", was.Tool, version())}
	}
	if payload := was.Files[payloadName]; payload != is.Files[payloadName] {
		return goneError{fmt.Errorf("the programs that wrote %s are gone: those of this machine make other bytes of the same packages", payloadName)}
	}
	lines := was.Differences(is)
	return &artifact.IntegrityError{File: "manifest.json", Want: was.Generation, Got: is.Generation + ": " + strings.Join(lines, "; ")}
}

// removeEmpty removes a directory if there is nothing in it.
func removeEmpty(dir string) error {
	err := os.Remove(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTEMPTY) {
		return nil
	}
	return err
}
