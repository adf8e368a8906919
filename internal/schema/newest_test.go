package schema

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"bake/internal/doc"
)

var from = flag.String("from", "", "directory of cloud-init's schemas to take for the newest known")

// TestNewest takes schemas without their prose, and sees that those here are.
func TestNewest(t *testing.T) {
	if *from != "" {
		for _, name := range []string{"schema-cloud-config-v1.json", "schema-network-config-v1.json", "schema-network-config-v2.json"} {
			data, err := os.ReadFile(filepath.Join(*from, name))
			if err == nil {
				data, err = Compact(data)
			}
			if err == nil {
				err = os.WriteFile(filepath.Join("newest", name), append(data, '\n'), 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	paths, err := filepath.Glob("newest/*.json")
	if err != nil || len(paths) != 3 {
		t.Fatalf("%q, %v", paths, err)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if small, err := Compact(data); err != nil || !bytes.Equal(append(small, '\n'), data) {
			t.Errorf("%s has prose, or is none: %v", path, err)
		}
	}
	for text, wrong := range map[string]int{"packages: [a]\n": 0, "packages: a\n": 1, "runcmd: {a: b}\n": 1} {
		root, err := doc.Parse("x", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if found := Newest().CloudConfig(root); len(found) != wrong {
			t.Errorf("%q: %v", text, found)
		}
	}
	for text, wrong := range map[string]int{"version: 2\nethernets: {a: {dhcp4: true}}\n": 0, "version: 2\nethernets: {a: {dhcp6-overrides: {use-mtu: 3}}}\n": 1} {
		if found, err := Newest().NetworkConfig("x", []byte(text)); err != nil || len(found) != wrong {
			t.Errorf("%q: %v, %v", text, found, err)
		}
	}
}

// TestShared: hosts are checked side by side with one schema.
func TestShared(t *testing.T) {
	root, err := doc.Parse("user-data", []byte("users: [{name: x}]\nwrite_files: [{path: /x, content: y}]\nruncmd: [[a]]\n"))
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile("newest/schema-cloud-config-v1.json")
	if err != nil {
		t.Fatal(err)
	}
	for range 20 { // each with one that knows nothing yet
		fresh, err := Parse(data)
		if err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if found := fresh.Check(root); len(found) != 0 {
					t.Errorf("%v", found)
				}
			})
		}
		all.Wait()
	}
}
