// Package tool runs external programs and says what is missing.
//
// bake orchestrates QEMU, qemu-img and their like instead of re-implementing
// them. Every such program is found and started here, so that a missing one is
// always the same error: its name, the Debian/Ubuntu package that has it and
// the command that installs it.
//
// It promises that a program is started directly, never through a shell, with
// LC_ALL=C and TZ=UTC so that its output does not depend on the user, and that
// the end of its standard error is part of the error it failed with. It
// refuses relative entries in PATH, as os/exec does.
//
// # Decisions
//
// 2026-11: a fixed table from program to package instead of asking apt-file or
// command-not-found: those are rarely installed and need an index. A program
// that the table does not know is reported without a package.
package tool

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// packages maps a program to the Debian/Ubuntu package that ships it.
var packages = map[string]string{
	"npm":                 "npm",
	"node":                "nodejs",
	"qemu-img":            "qemu-utils",
	"qemu-system-x86_64":  "qemu-system-x86",
	"qemu-system-aarch64": "qemu-system-arm",
	"virt-xml-validate":   "libvirt-clients",
	"virsh":               "libvirt-clients",
	"ssh":                 "openssh-client",
	"prlimit":             "util-linux",
	"apt-get":             "apt",
	"apt-cache":           "apt",
	"apt-config":          "apt",
	"dpkg":                "dpkg",
	"dpkg-deb":            "dpkg",
	"mksquashfs":          "squashfs-tools",
	"restic":              "restic",
	"rsync":               "rsync",
	"swtpm":               "swtpm",
}

// A MissingError says that this machine lacks a program or a file.
type MissingError struct {
	Name    string // program, or a sentence part such as "UEFI firmware"
	Package string // Debian/Ubuntu package, "" when unknown
}

func (e *MissingError) Error() string {
	if e.Package == "" {
		return e.Name + " is not installed"
	}
	return fmt.Sprintf("%s is not installed: it is in the package %s (apt-get install %s)",
		e.Name, e.Package, e.Package)
}

// A Box finds programs on one search path and runs them in one environment.
// The zero value uses the environment of this process.
type Box struct {
	Getenv func(string) string // os.Getenv when nil
}

func (b Box) getenv(key string) string {
	if b.Getenv != nil {
		return b.Getenv(key)
	}
	return os.Getenv(key)
}

// Find returns the absolute path of a program, or a *MissingError.
func (b Box) Find(program string) (string, error) {
	for _, dir := range filepath.SplitList(b.getenv("PATH")) {
		if !filepath.IsAbs(dir) {
			continue
		}
		path := filepath.Join(dir, program)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", &MissingError{Name: program, Package: packages[program]}
}

// Command prepares a program without starting it; the error is a
// *MissingError. When ctx ends the program is killed.
func (b Box) Command(ctx context.Context, program string, args ...string) (*exec.Cmd, error) {
	path, err := b.Find(program)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = []string{"LC_ALL=C", "TZ=UTC"}
	for _, key := range []string{"PATH", "HOME", "TMPDIR"} {
		if value := b.getenv(key); value != "" {
			cmd.Env = append(cmd.Env, key+"="+value)
		}
	}
	return cmd, nil
}

// Proxies are the variables that say how to reach the network.
var Proxies = []string{"http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"}

// Pass lets a program see more variables of the environment than all are given.
func (b Box) Pass(cmd *exec.Cmd, keys ...string) {
	for _, key := range keys {
		if value := b.getenv(key); value != "" {
			cmd.Env = append(cmd.Env, key+"="+value)
		}
	}
}

// Run runs a program to its end and returns its standard output. The error is
// a *MissingError, the context's error, or names the program and carries the
// last lines it wrote to standard error.
func (b Box) Run(ctx context.Context, program string, args ...string) ([]byte, error) {
	cmd, err := b.Command(ctx, program, args...)
	if err != nil {
		return nil, err
	}
	var stdout bytes.Buffer
	var stderr Ending
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = time.Second // a killed program's child may hold its output open for ever
	if err := cmd.Run(); err != nil {
		return nil, runError(ctx, program, stderr.Lines(3), err)
	}
	return stdout.Bytes(), nil
}

func runError(ctx context.Context, program, said string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", program, context.Cause(ctx))
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && said != "" {
		return fmt.Errorf("%s: %s (%w)", program, said, err)
	}
	return fmt.Errorf("%s: %w", program, err)
}

// usualEnding is how much an Ending keeps that does not say.
const usualEnding = 16 << 10

// An Ending keeps the end of what is written to it, for those who run a program
// themselves: one that is fed with a hostile file can complain without end. It may be
// written to and read at the same time.
type Ending struct {
	Most int // bytes that are kept, 0 for 16 KiB

	mutex sync.Mutex
	kept  []byte
}

func (e *Ending) Write(p []byte) (int, error) {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	most := cmp.Or(e.Most, usualEnding)
	e.kept = append(e.kept, p[max(0, len(p)-most):]...)
	e.kept = append(e.kept[:0], e.kept[max(0, len(e.kept)-most):]...)
	return len(p), nil
}

// String is all that is kept.
func (e *Ending) String() string {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	return string(e.kept)
}

// Lines returns the last n lines that say something, joined by "; ".
func (e *Ending) Lines(n int) string {
	var lines []string
	for line := range strings.Lines(e.String()) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-n):], "; ")
}
