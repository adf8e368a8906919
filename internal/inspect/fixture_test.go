package inspect

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// find finds a program that makes or judges an image. A missing one skips the
// test, but not where CI=true.
func find(t testing.TB, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil { // a user's path may lack it
		path, err = exec.LookPath(filepath.Join("/usr/sbin", program))
	}
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return path
}

func run(t testing.TB, program string, args ...string) string {
	t.Helper()
	return feed(t, "", program, args...)
}

func feed(t testing.TB, input, program string, args ...string) string {
	t.Helper()
	cmd := exec.Command(find(t, program), args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", program, strings.Join(args, " "), err, out)
	}
	return string(out)
}

const status = `Package: dpkg
Status: install ok installed
Architecture: amd64
Version: 1.22.6ubuntu6.1

Package: systemd
Status: install ok installed
Architecture: amd64
Version: 255.4-1ubuntu8.10
Conffiles:
 /etc/systemd/system.conf 1234
 Version: none

Package: ufw
Status: hold ok installed
Architecture: all
Version: 0.36.2-6

Package: cloud-init
Status: install ok triggers-pending
Architecture: all
Version: 26.1-0ubuntu1~24.04.1

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1:2.3+dfsg~rc1-4

Package: libc6
Status: install ok installed
Architecture: i386
Version: 2.39-0ubuntu8

Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.39-0ubuntu8
`

const sources822 = `# See http://help.ubuntu.com/
Types: deb
URIs: http://archive.ubuntu.com/ubuntu/
Suites: noble noble-updates
Components: main universe
Signed-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg

Types: deb
URIs: http://off.example/
Suites: noble
Components: main
Enabled: no
`

// guest is a tree as an image of Ubuntu 24.04 has it: path to content, and to
// target for a link ("-> ").
func guest() map[string]string {
	noise := make([]byte, 1<<20)
	source := rand.NewChaCha8([32]byte{1})
	_, _ = source.Read(noise)
	tree := map[string]string{
		"bin":                                   "-> usr/bin",
		"lib":                                   "-> usr/lib",
		"usr/bin/sh":                            "-> dash",
		"usr/bin/dash":                          "\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 9) + "\x03\x00\x3e\x00",
		"etc/os-release":                        "-> ../usr/lib/os-release",
		"usr/lib/os-release":                    "PRETTY_NAME=\"Ubuntu 24.04.3 LTS\"\nVERSION_ID=\"24.04\"\nVERSION_CODENAME=noble\nID=ubuntu\n",
		"var/lib/dpkg/status":                   status,
		"etc/cloud/cloud.cfg":                   "users: [default]\nsystem_info:\n  distro: ubuntu\n  default_user:\n    name: ubuntu\n",
		"etc/cloud/cloud.cfg.d/05_logging.cfg":  "## template:jinja\n#cloud-config\n_log: []\n",
		"etc/cloud/cloud.cfg.d/90_dpkg.cfg":     "datasource_list: [ NoCloud, ConfigDrive, None ]\n",
		"etc/cloud/cloud.cfg.d/99_not.txt":      "datasource_list: [ Ec2 ]\n",
		"etc/apt/sources.list":                  "# Ubuntu sources have moved\n",
		"etc/apt/sources.list.d/ubuntu.sources": sources822,
		"usr/share/keyrings/ubuntu-archive-keyring.gpg":                        "-> /usr/share/keyrings/real.gpg",
		"usr/share/keyrings/real.gpg":                                          "not really keys",
		cloudInitDir[1:] + "/version.py":                                       "__VERSION__ = \"26.1\"\n_PACKAGED_VERSION = \"26.1-0ubuntu1~24.04.1\"\n",
		cloudInitDir[1:] + "/config/schemas/schema-cloud-config-v1.json":       "{}",
		cloudInitDir[1:] + "/config/schemas/schema-network-config-v2.json":     "{\"type\": \"object\"}",
		cloudInitDir[1:] + "/config/schemas/versions.schema.cloud-config.json": "{}",
		"opt/noise":    string(noise),
		"opt/empty":    "",
		"opt/exact":    strings.Repeat("x", 8192),
		"opt/loop":     "-> loop",
		"opt/up":       "-> ../../../../etc/hostname",
		"opt/long":     "-> " + strings.Repeat("./", 40) + "exact",
		"opt/none":     "-> /nowhere",
		"etc/hostname": "ubuntu\n",
		"boot/hidden":  "below the mount point",
	}
	tree["etc/apt/sources.list.d/old.list.save"] = "deb http://saved.example x y\n" // apt ignores it
	for i := range 700 {
		tree[fmt.Sprintf("opt/many/a-file-with-a-long-name-%04d", i)] = fmt.Sprint(i)
	}
	return tree
}

var bootTree = map[string]string{"vmlinuz-6.8.0-90-generic": "kernel", "vmlinuz": "-> vmlinuz-6.8.0-90-generic"}

func plant(t testing.TB, tree map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range tree {
		path := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if target, ok := strings.CutPrefix(content, "-> "); ok && err == nil {
			err = os.Symlink(target, path)
		} else if err == nil {
			err = os.WriteFile(path, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// noble are the features of Ubuntu 24.04's root file system.
var noble = []string{"-t", "ext4", "-b", "4096", "-O", "64bit,metadata_csum,metadata_csum_seed,orphan_file", "-L", labelRoot}

// fileSystem makes one of size bytes with a tree in it.
func fileSystem(t testing.TB, tree map[string]string, size int64, options ...string) []byte {
	t.Helper()
	return pack(t, plant(t, tree), size, options...)
}

func pack(t testing.TB, dir string, size int64, options ...string) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fs")
	args := append([]string{"-q", "-F", "-d", dir}, options...)
	run(t, "mke2fs", append(args, path, fmt.Sprintf("%dk", size>>10))...)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

const mib = 1 << 20

// part is an entry of a partition table to be made.
type part struct {
	number      int
	start, size int64 // MiB
	kind        string
	content     []byte
}

// rawDisk makes a GPT disk and returns its path.
func rawDisk(t testing.TB, size int64, parts ...part) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.raw")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	script := "label: gpt\n"
	for _, p := range parts {
		if _, err := file.WriteAt(p.content, p.start*mib); err != nil {
			t.Fatal(err)
		}
		script += fmt.Sprintf("%s%d : start=%dMiB, size=%dMiB, type=%s\n", path, p.number, p.start, p.size, p.kind)
	}
	if err := file.Truncate(size * mib); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	feed(t, script, "sfdisk", "--quiet", path)
	return path
}

const (
	typeLinux = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
	typeRoot  = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"
	typeESP   = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
	typeBIOS  = "21686148-6449-6E6F-744E-656564454649"
)

var ubuntuDisk []byte // made once

// ubuntu returns a disk laid out as that of Ubuntu 24.04, in small.
func ubuntu(t testing.TB) string {
	t.Helper()
	if ubuntuDisk == nil {
		made, err := os.ReadFile(makeUbuntu(t))
		if err != nil {
			t.Fatal(err)
		}
		ubuntuDisk = made
	}
	path := filepath.Join(t.TempDir(), "ubuntu.raw")
	if err := os.WriteFile(path, ubuntuDisk, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func makeUbuntu(t testing.TB) string {
	t.Helper()
	root := fileSystem(t, guest(), 24*mib, noble...)
	boot := fileSystem(t, bootTree, 8*mib, "-t", "ext4", "-L", labelBoot)
	return rawDisk(t, 56,
		part{1, 20, 24, typeLinux, root}, part{14, 1, 4, typeBIOS, nil},
		part{15, 5, 6, typeESP, nil}, part{16, 11, 8, typeBoot, boot})
}

func convert(t testing.TB, raw string, options ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.qcow2")
	run(t, "qemu-img", append(append([]string{"convert", "-f", "raw", "-O", "qcow2"}, options...), raw, path)...)
	return path
}

// memory opens an image from bytes with a budget of its own.
func memory(ctx context.Context, content []byte, left int64) (*Image, error) {
	i := &Image{name: "memory"}
	d, err := newDisk(ctx, bytes.NewReader(content), int64(len(content)))
	if err != nil {
		return nil, err
	}
	d.budget.left = left
	return i, i.load(d)
}
