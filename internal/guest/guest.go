// Package guest holds the program that attests in the guest, built for each
// architecture: see package attest.
//
// It is built by `make build` before bake is, from cmd/bake-attest, without
// anything that differs from machine to machine. It is not in the repository: a
// bake that was built without it says so when it bakes.
package guest

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"sync"
)

//go:embed all:bin
var bin embed.FS

// ErrNotBuilt says that this bake has no program for a guest.
var ErrNotBuilt = errors.New("this bake was built without the program that runs in the guest: build it with make build")

var programs sync.Map // what was read, by file: many hosts need the same 3 MB

// Program returns the static program for an architecture by Go's name, such as
// amd64, which nobody may change. The error wraps ErrNotBuilt.
func Program(arch string) ([]byte, error) {
	file := "bin/attest-" + arch
	if known, ok := programs.Load(file); ok {
		return known.([]byte), nil
	}
	program, err := bin.ReadFile(file)
	if err == nil {
		programs.Store(file, program)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the guest's architecture is %s: %w", arch, ErrNotBuilt)
	}
	return program, err
}
