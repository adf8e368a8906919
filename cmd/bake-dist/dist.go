package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"bake/internal/unit"
)

// nfpm is the version of the packager.
const nfpm = "github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2"

// arches are those that programs and packages are made for.
var arches = []string{"amd64", "arm64"}

// dist is one release.
type dist struct {
	out, key string
	dirty    bool

	stage   string // what packages are made of
	version string
	commit  time.Time
}

// make does all of it, beside the target, which appears complete or not at all.
func (d *dist) make() (err error) {
	target := d.out
	if d.stage, err = os.MkdirTemp("", "bake-dist-"); err != nil {
		return err
	}
	defer os.RemoveAll(d.stage)
	if d.out, err = os.MkdirTemp(filepath.Dir(filepath.Clean(target)), ".dist-"); err != nil {
		return err
	}
	defer os.RemoveAll(d.out)
	for _, step := range []func() error{d.identify, d.programs, d.documents, d.units, d.packages, d.sums, d.sign} {
		if err := step(); err != nil {
			return err
		}
	}
	if err := errors.Join(os.Chmod(d.out, 0o755), os.RemoveAll(target), os.Rename(d.out, target)); err != nil {
		return err
	}
	d.out = target
	return nil
}

// output runs a program in the clone and returns what it prints.
func output(program string, args ...string) (string, error) {
	cmd := exec.Command(program, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(stdout.String()), nil
}

// identify reads the version and the time from git: a tag's name without its v, or
// 0.0.0~DATE.COMMIT, which comes before every release.
func (d *dist) identify() error {
	changes, err := output("git", "status", "--porcelain", "--untracked-files=no")
	if err != nil {
		return err
	}
	if changes != "" && !d.dirty {
		return errors.New("there are changes that are not committed (--dirty takes them)")
	}
	stamp, err := output("git", "log", "-1", "--format=%ct")
	if err != nil {
		return err
	}
	var seconds int64
	if _, err := fmt.Sscan(stamp, &seconds); err != nil {
		return fmt.Errorf("git log: %q is no time", stamp)
	}
	d.commit = time.Unix(seconds, 0).UTC()
	if tag, err := output("git", "describe", "--tags", "--exact-match", "--match", "v[0-9]*"); err == nil {
		d.version = strings.TrimPrefix(tag, "v")
		return nil
	}
	commit, err := output("git", "rev-parse", "--short=12", "HEAD")
	d.version = "0.0.0~" + d.commit.Format("20060102") + "." + commit
	return err
}

// programs builds bake for each architecture. cli's generator of documents stays out:
// bake has its own.
func (d *dist) programs() error {
	for _, arch := range arches {
		cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-tags", "urfave_cli_no_docs",
			"-ldflags", "-s -w -buildid= -X main.release="+d.version+" -X main.released="+d.commit.Format(time.DateOnly),
			"-o", d.program(arch), "./cmd/bake")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
		if said, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("building bake for %s: %w: %s", arch, err, said)
		}
	}
	return nil
}

func (d *dist) program(arch string) string {
	return filepath.Join(d.out, "bake-"+d.version+"-linux-"+arch)
}

// documents has the program write its manual pages and completions.
func (d *dist) documents() error {
	here := os.Getenv("GOARCH")
	if here == "" {
		var err error
		if here, err = output("go", "env", "GOHOSTARCH"); err != nil {
			return err
		}
	}
	program, err := filepath.Abs(d.program(here))
	if err != nil {
		return err
	}
	man := filepath.Join(d.stage, "man")
	pages, err := output(program, "man", "--output", man)
	if err != nil {
		return err
	}
	for _, page := range strings.Fields(pages) {
		if err := compress(page); err != nil {
			return err
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		text, err := output(program, "completion", shell)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(d.stage, "completion."+shell), []byte(text+"\n"), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// compress replaces a file with one that gzip has compressed, without its name and time.
func compress(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return err
	}
	_, err = w.Write(data)
	return errors.Join(err, w.Close(), os.WriteFile(path+".gz", out.Bytes(), 0o644), os.Remove(path))
}

// units writes the nightly job of a machine that bakes for itself: by a user of its own,
// in the places that distributions give to services.
func (d *dist) units() error {
	job := unit.Job{
		Word: "nightly", About: "Bring hosts onto the newest base images and packages that prove themselves",
		Argv: []string{"/usr/bin/bake", "--config", "/etc/bake", "--out", "/var/lib/bake/out", "nightly"},
		Dir:  "/etc/bake", EnvFile: "/etc/bake/nightly.env", User: "bake", At: "03:00",
		Env:    []string{"HOME=/var/lib/bake", "XDG_CACHE_HOME=/var/cache", "XDG_STATE_HOME=/var/lib"},
		Writes: []string{"/etc/bake", "/var/lib/bake", "/var/cache/bake"},
	}
	service, err := job.Service()
	if err != nil {
		return err
	}
	timer, err := job.Timer()
	if err != nil {
		return err
	}
	for name, text := range map[string]string{"service": service, "timer": timer} {
		if err := os.WriteFile(filepath.Join(d.stage, job.Name()+"."+name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// sums writes the digests of all that was made, in the form of sha256sum.
func (d *dist) sums() error {
	entries, err := os.ReadDir(d.out) // sorted
	if err != nil {
		return err
	}
	var list strings.Builder
	for _, entry := range entries {
		file, err := os.Open(filepath.Join(d.out, entry.Name()))
		if err != nil {
			return err
		}
		digest := sha256.New()
		_, err = io.Copy(digest, file)
		if err := errors.Join(err, file.Close()); err != nil {
			return err
		}
		fmt.Fprintf(&list, "%x  %s\n", digest.Sum(nil), entry.Name())
	}
	return os.WriteFile(filepath.Join(d.out, "SHA256SUMS"), []byte(list.String()), 0o644)
}

// namespace is what a signature is for: one made for another purpose does not count.
const namespace = "bake-release"

func (d *dist) sign() error {
	if d.key == "" {
		fmt.Fprintln(os.Stderr, "bake-dist: SHA256SUMS is not signed: there is no key")
		return nil
	}
	_, err := output("ssh-keygen", "-Y", "sign", "-q", "-n", namespace, "-f", d.key, filepath.Join(d.out, "SHA256SUMS"))
	return err
}
