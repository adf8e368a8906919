// Command bake-image makes a container image of bake, for the pods of bake export nightly. It
// needs no Docker daemon and no root: mmdebstrap makes the tree with what bake runs, and
// go-containerregistry the image.
//
// The image has two layers: Debian with those programs, and bake. It is written as an archive
// that skopeo, crane, podman load and docker load take; --push sends it to a registry.
//
// It promises that the same tree and the same bake have the same digest: no clock but that of
// --epoch, no owner's name, no logs and no caches.
//
// # Decisions
//
// 2026-11: Debian's packages and not a distroless tree: bake runs QEMU, apt, mksquashfs and
// qemu-img, which have to come from somewhere that fixes their holes. The price is an image of
// some hundred MB, and that it must be made again when Debian has something new: the same
// commit gives the same image only while the archive is the same.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// packages are those of the programs that bake nightly runs: see bake doctor.
const packages = "apt,ca-certificates,coreutils,gpgv,openssh-client,ovmf,qemu-system-x86,qemu-utils,squashfs-tools,xz-utils,zstd"

func main() {
	bake := flag.String("bake", "bin/bake", "the program")
	root := flag.String("root", "", "tar of a root tree (default: mmdebstrap makes one of Debian 13)")
	out := flag.String("out", "dist/bake-image.tar", "archive to write")
	tag := flag.String("tag", "bake.invalid/bake:latest", "name in the archive, and that of --push")
	push := flag.Bool("push", false, "send it to the registry of --tag")
	epoch := flag.Int64("epoch", 0, "no file is newer than that, in seconds since 1970 (default: the last commit)")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "bake-image: unexpected argument %q\n", flag.Arg(0))
		os.Exit(2)
	}
	if err := run(*bake, *root, *out, *tag, *push, *epoch); err != nil {
		fmt.Fprintln(os.Stderr, "bake-image:", err)
		os.Exit(1)
	}
}

func run(bake, root, out, tag string, push bool, epoch int64) (err error) {
	ref, err := name.NewTag(tag)
	if err != nil {
		return err
	}
	if epoch == 0 {
		text, err := exec.Command("git", "log", "-1", "--format=%ct").Output()
		if err == nil {
			_, err = fmt.Sscan(strings.TrimSpace(string(text)), &epoch)
		}
		if err != nil {
			return fmt.Errorf("when was the last commit? git log: %w", err)
		}
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	scratch, err := os.MkdirTemp(filepath.Dir(out), ".image-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	if root == "" {
		root = filepath.Join(scratch, "root.tar")
		cmd := exec.Command("mmdebstrap", "--quiet", "--variant=minbase", "--format=tar", "--include="+packages,
			"--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/locale/*", "trixie", root)
		cmd.Env = append(os.Environ(), fmt.Sprintf("SOURCE_DATE_EPOCH=%d", epoch))
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("mmdebstrap: %w", err)
		}
	}
	im, err := build(root, bake, scratch, time.Unix(epoch, 0).UTC())
	if err != nil {
		return err
	}
	made := filepath.Join(scratch, "image.tar")
	if err := tarball.WriteToFile(made, ref, im); err != nil {
		return err
	}
	if err := os.Rename(made, out); err != nil {
		return err
	}
	digest, err := im.Digest()
	if err != nil {
		return err
	}
	fmt.Println(out, digest)
	if push {
		return remote.Write(ref, im, remote.WithAuthFromKeychain(authn.DefaultKeychain))
	}
	return nil
}
