// Command bake-dist makes what is published of a release: static programs, packages for
// Debian and for RPM, their checksums and a signature of these.
//
// It runs in the clone, with git, go and, for a signature, ssh-keygen. The packages are
// put together by nfpm (GoReleaser's, a program of its own release that go installs at a
// fixed version: its 60 modules are not among bake's). They hold the program, manual
// pages, completions for three shells, the units of the nightly job for a user of its
// own, and the manual.
//
// It promises that the same commit gives the same bytes: no clock but the commit's, no
// path of this machine. It refuses a tree with changes that are not committed, unless
// --dirty asks for a trial.
//
// # Decisions
//
// 2026-11: signatures by ssh-keygen -Y. Whoever fetches bake has OpenSSH already, and a
// key of the kind they know; a tool for signatures would have to be fetched and believed
// first.
//
// 2026-11: no dependency is hard. One program works for most of what it does, and bake
// doctor says what a machine lacks for the rest; packages recommend it.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	d := dist{}
	flag.StringVar(&d.out, "out", "dist", "directory to make, or to make anew")
	flag.StringVar(&d.key, "key", os.Getenv("BAKE_RELEASE_KEY"), "file of the ssh key to sign with ($BAKE_RELEASE_KEY)")
	flag.BoolVar(&d.dirty, "dirty", false, "take changes that are not committed")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "bake-dist: unexpected argument %q\n", flag.Arg(0))
		os.Exit(2)
	}
	if err := d.make(); err != nil {
		fmt.Fprintln(os.Stderr, "bake-dist:", err)
		os.Exit(1)
	}
	found, _ := filepath.Glob(filepath.Join(d.out, "*"))
	for _, path := range found {
		fmt.Println(path)
	}
}
