package main

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSums(t *testing.T) {
	d := dist{out: t.TempDir()}
	if err := os.WriteFile(filepath.Join(d.out, "a"), []byte("abc"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.sums(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(d.out, "SHA256SUMS"))
	if want := "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  a\n"; err != nil || string(got) != want {
		t.Errorf("%v %q", err, got)
	}
}

// TestCompress twice gives the same bytes, without the file's name and time.
func TestCompress(t *testing.T) {
	var first []byte
	for _, name := range []string{"one", "two"} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(".TH X 1\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := compress(path); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Error("the file is still there")
		}
		data, err := os.ReadFile(path + ".gz")
		if err != nil {
			t.Fatal(err)
		}
		r, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(r); err != nil || string(text) != ".TH X 1\n" {
			t.Errorf("%v %q", err, text)
		}
		if first != nil && !bytes.Equal(first, data) {
			t.Error("another name gives other bytes")
		}
		first = data
	}
}

// TestUnits has places of a service, and no home of somebody's.
func TestUnits(t *testing.T) {
	d := dist{stage: t.TempDir()}
	if err := d.units(); err != nil {
		t.Fatal(err)
	}
	service, err := os.ReadFile(filepath.Join(d.stage, "bake-nightly.service"))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"User=bake", "WorkingDirectory=/etc/bake", `ReadWritePaths="-/var/lib/bake"`, "NoNewPrivileges=yes"} {
		if !strings.Contains(string(service), "\n"+line+"\n") {
			t.Errorf("the service lacks %s", line)
		}
	}
	if strings.Contains(string(service), "/home") || strings.Contains(string(service), "/root") {
		t.Errorf("the service has a home in it:\n%s", service)
	}
}

// TestFailureLeavesNothing: the old release stays as it was, and nothing is beside it.
func TestFailureLeavesNothing(t *testing.T) {
	t.Chdir(t.TempDir()) // no clone
	if err := os.MkdirAll("dist", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("dist/old", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d := dist{out: "dist"}
	if err := d.make(); err == nil || !strings.Contains(err.Error(), "git status") {
		t.Errorf("error %v", err)
	}
	found, _ := filepath.Glob("*")
	hidden, _ := filepath.Glob(".dist-*")
	if len(found) != 1 || len(hidden) > 0 {
		t.Errorf("%v %v", found, hidden)
	}
	if _, err := os.Stat("dist/old"); err != nil {
		t.Error(err)
	}
}
