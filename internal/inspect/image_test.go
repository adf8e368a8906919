package inspect

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func open(t testing.TB, path string) *Image {
	t.Helper()
	image, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := image.Close(); err != nil {
			t.Error(err)
		}
	})
	return image
}

// checkTree reads every file of the tree out of the image.
func checkTree(t *testing.T, image *Image, below string, tree map[string]string) {
	t.Helper()
	for name, want := range tree {
		if strings.HasPrefix(want, "-> ") || strings.HasPrefix(name, "boot/") {
			continue
		}
		got, err := image.ReadFile(below + name)
		if err != nil {
			t.Error(err)
		} else if string(got) != want {
			t.Errorf("%s: %d bytes that are not its %d", name, len(got), len(want))
		}
	}
}

func TestFormats(t *testing.T) {
	raw := ubuntu(t)
	tree := guest()
	tests := map[string]func() string{
		"raw":          func() string { return raw },
		"plain qcow2":  func() string { return convert(t, raw) },
		"zlib":         func() string { return convert(t, raw, "-c") },
		"zstd":         func() string { return convert(t, raw, "-c", "-o", "compression_type=zstd") },
		"version 2":    func() string { return convert(t, raw, "-c", "-o", "compat=0.10") },
		"512 B":        func() string { return convert(t, raw, "-o", "cluster_size=512") },
		"2 MiB":        func() string { return convert(t, raw, "-c", "-o", "cluster_size=2M") },
		"2 MiB, zstd":  func() string { return convert(t, raw, "-c", "-o", "cluster_size=2M,compression_type=zstd") },
		"extended L2":  func() string { return convert(t, raw, "-o", "extended_l2=on,cluster_size=128k") },
		"preallocated": func() string { return convert(t, raw, "-o", "preallocation=metadata") },
	}
	for name, make := range tests {
		t.Run(name, func(t *testing.T) {
			image := open(t, make())
			checkTree(t, image, "/", tree)
			checkTree(t, image, "boot/", map[string]string{"vmlinuz-6.8.0-90-generic": "kernel"})
			t.Logf("%d KiB read", (mostRead-image.disk.budget.left)>>10)
		})
	}
}

func TestFindings(t *testing.T) {
	got, err := Look(t.Context(), convert(t, ubuntu(t), "-c"))
	if err != nil {
		t.Fatal(err)
	}
	sum, _, _ := strings.Cut(feed(t, "not really keys", "sha256sum"), " ")
	want := Findings{
		Distribution: "ubuntu", Release: "24.04", Codename: "noble", PrettyName: "Ubuntu 24.04.3 LTS",
		Architecture: "amd64", Format: "qcow2", Size: 56 * mib, Root: 1,
		Partitions: []Partition{
			{1, typeLinux, "Linux file system", "", "ext4", labelRoot, 20 * mib, 24 * mib},
			{14, typeBIOS, "BIOS boot", "", "", "", mib, 4 * mib},
			{15, typeESP, "EFI system", "", "", "", 5 * mib, 6 * mib},
			{16, typeBoot, "Linux extended boot", "", "ext4", labelBoot, 11 * mib, 8 * mib},
		},
		Kernels: []string{"6.8.0-90-generic"},
		CloudInit: CloudInit{
			Version: "26.1-0ubuntu1~24.04.1", DefaultUser: "ubuntu", Datasources: []string{"NoCloud", "ConfigDrive", "None"},
		},
		Systemd: "255.4-1ubuntu8.10",
		Packages: []Package{
			{"cloud-init", "26.1-0ubuntu1~24.04.1", "all"}, {"dpkg", "1.22.6ubuntu6.1", "amd64"},
			{"libc6", "2.39-0ubuntu8", "amd64"}, {"libc6", "2.39-0ubuntu8", "i386"},
			{"systemd", "255.4-1ubuntu8.10", "amd64"}, {"ufw", "0.36.2-6", "all"},
		},
		Sources: []Source{{
			File: "/etc/apt/sources.list.d/ubuntu.sources", Types: []string{"deb"},
			URIs: []string{"http://archive.ubuntu.com/ubuntu/"}, Suites: []string{"noble", "noble-updates"},
			Components: []string{"main", "universe"}, Architectures: []string{},
			SignedBy: []string{"/usr/share/keyrings/ubuntu-archive-keyring.gpg"},
		}},
		Keyrings: []Keyring{
			{"/usr/share/keyrings/real.gpg", sum}, {"/usr/share/keyrings/ubuntu-archive-keyring.gpg", sum},
		},
		Notes: []string{},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	text, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	var again Findings
	if err := json.Unmarshal(text, &again); err != nil || !reflect.DeepEqual(again, got) {
		t.Errorf("JSON loses something: %v %s", err, cmp.Diff(got, again))
	}
}

func TestSchemas(t *testing.T) {
	got, err := open(t, ubuntu(t)).Schemas()
	want := map[string][]byte{
		"schema-cloud-config-v1.json": []byte("{}"), "schema-network-config-v2.json": []byte("{\"type\": \"object\"}"),
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	bare := fileSystem(t, map[string]string{"etc/x": ""}, 4*mib, "-t", "ext4")
	got, err = open(t, rawDisk(t, 8, part{1, 1, 4, typeRoot, bare})).Schemas()
	if err != nil || len(got) != 0 {
		t.Errorf("without cloud-init: %q, %v", got, err)
	}
}

func TestPaths(t *testing.T) {
	image := open(t, ubuntu(t))
	tests := []struct{ path, want, problem string }{
		{"/bin/sh", guest()["usr/bin/dash"], ""},
		{"etc//./hostname", "ubuntu\n", ""},
		{"/../../etc/hostname", "ubuntu\n", ""},
		{"/opt/up", "ubuntu\n", ""},
		{"/opt/long", guest()["opt/exact"], ""},
		{"/boot/vmlinuz", "kernel", ""},
		{"/boot/../etc/hostname", "ubuntu\n", ""},
		{"/boot/hidden", "", "file does not exist"},
		{"/opt/none", "", "file does not exist"},
		{"/etc/hostname/x", "", "file does not exist"},
		{"/opt/loop", "", "too many symbolic links"},
		{"/opt", "", "not a regular file"},
		{"/" + strings.Repeat("opt/../", 3000), "", "too long"},
		{"/etc/\x1b[2J", "", "file does not exist"},
	}
	for _, test := range tests {
		got, err := image.ReadFile(test.path)
		if test.problem == "" {
			if err != nil || string(got) != test.want {
				t.Errorf("%s: %d bytes, %v", test.path, len(got), err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), test.problem) || !strings.Contains(err.Error(), image.name) {
			t.Errorf("%s: %v, not %q and the image's name", test.path, err, test.problem)
		}
		if err != nil && strings.Contains(err.Error(), "\x1b") {
			t.Errorf("an escape sequence went through: %q", err)
		}
		if missing := test.problem == "file does not exist"; errors.Is(err, fs.ErrNotExist) != missing {
			t.Errorf("%s: ErrNotExist is %v", test.path, !missing)
		}
	}
	names, err := image.ReadDir("/opt/many")
	if err != nil || len(names) != 700 || names[7] != "a-file-with-a-long-name-0007" || !slices.IsSorted(names) {
		t.Errorf("%d names, %v", len(names), err)
	}
	if _, err := image.ReadDir("/etc/hostname"); err == nil {
		t.Error("a file was listed")
	}
}

func TestRoot(t *testing.T) {
	ext := func(label string) []byte {
		return fileSystem(t, map[string]string{"etc/os-release": "ID=x\n"}, 4*mib, "-t", "ext4", "-L", label)
	}
	xfs := append([]byte("XFSB"), make([]byte, 4*mib)...)
	tests := map[string]struct {
		parts   []part
		root    int
		problem string
	}{
		"label before type": {[]part{{1, 1, 5, typeRoot, ext("")}, {2, 6, 4, typeLinux, ext(labelRoot)}}, 2, ""},
		"type before size":  {[]part{{1, 1, 8, typeLinux, ext("")}, {2, 9, 4, typeRoot, ext("")}}, 2, ""},
		"the largest":       {[]part{{1, 1, 4, typeLinux, ext("")}, {2, 5, 6, typeLinux, ext("")}}, 2, ""},
		"not /boot":         {[]part{{1, 1, 4, typeLinux, ext("")}, {2, 5, 6, typeLinux, ext(labelBoot)}}, 1, ""},
		"xfs root":          {[]part{{1, 1, 8, typeRoot, xfs}, {2, 9, 4, typeLinux, ext("")}}, 0, "partition 1, is xfs"},
		"no root":           {[]part{{1, 1, 4, typeESP, ext("")}}, 0, "none of its partitions"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			image, err := Open(t.Context(), rawDisk(t, 16, test.parts...))
			if test.problem != "" {
				if err == nil || !strings.Contains(err.Error(), test.problem) {
					t.Fatalf("%v, not %q", err, test.problem)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if image.rootAt.Number != test.root {
				t.Errorf("root is partition %d, not %d", image.rootAt.Number, test.root)
			}
			if err := image.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	mbr := make([]byte, mib)
	mbr[510], mbr[511] = 0x55, 0xaa
	tests := map[string]struct{ path, problem string }{
		"missing":   {filepath.Join(dir, "none"), "no such file"},
		"directory": {dir, "not a regular file"},
		"pipe":      {pipe, "not a regular file"},
		"empty":     {write("empty", nil), "0 bytes"},
		"text":      {write("text", []byte("hello, this is no image")), "no room"},
		"zeros":     {write("zeros", make([]byte, mib)), "no GPT"},
		"MBR":       {write("mbr", mbr), "it has an MBR"},
		"bare ext4": {write("ext4", fileSystem(t, nil, 4*mib, "-t", "ext4")), "bare ext file system"},
		"no system": {rawDisk(t, 8, part{1, 1, 4, typeRoot, fileSystem(t, nil, 4*mib, "-t", "ext4")}), "no os-release"},
	}
	for name, test := range tests {
		_, err := Look(t.Context(), test.path)
		if err == nil || !strings.Contains(err.Error(), test.problem) || strings.Count(err.Error(), test.path) == 0 {
			t.Errorf("%s: %v, not %q and the path", name, err, test.problem)
		}
	}
}

func TestDeadline(t *testing.T) {
	path := ubuntu(t)
	ctx, cancel := context.WithCancel(t.Context())
	image, err := Open(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := image.Findings(); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of the context: %v", err)
	}
	if err := image.Close(); err != nil {
		t.Error(err)
	}
	image = open(t, path)
	image.disk.budget.left = 100 << 10
	if _, err := image.Findings(); err == nil || !strings.Contains(err.Error(), "far more") {
		t.Errorf("after the end of the budget: %v", err)
	}
}
