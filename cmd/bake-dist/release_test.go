//go:build dist

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestRelease makes a release in two clones at different paths, demands the same bytes
// and a signature that holds, and installs the package in a fresh Debian. It builds for
// minutes and wants root, for the chroot: make dist-test.
func TestRelease(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("a fresh root is made and entered as root")
	}
	key := filepath.Join(t.TempDir(), "key")
	do(t, "", "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "release", "-f", key)
	first, second := release(t, "one", key), release(t, "a/longer/path", key)
	for _, path := range glob(t, first) {
		other := filepath.Join(second, filepath.Base(path))
		if !bytes.Equal(read(t, path), read(t, other)) {
			t.Errorf("%s differs between two clones", filepath.Base(path))
		}
	}
	t.Run("signature", func(t *testing.T) { checkSignature(t, first, key) })
	t.Run("install", func(t *testing.T) { checkInstalled(t, first) })
}

// release clones this repository to a path of that name and makes a release there.
func release(t *testing.T, name, key string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	do(t, "", "git", "clone", "--quiet", "../..", dir)
	do(t, dir, "make", "guest")
	t.Setenv("BAKE_RELEASE_KEY", key)
	do(t, dir, "go", "run", "./cmd/bake-dist")
	return filepath.Join(dir, "dist")
}

func glob(t *testing.T, dir string) []string {
	t.Helper()
	found, _ := filepath.Glob(filepath.Join(dir, "*"))
	if len(found) != 8 { // two programs, four packages, sums, signature
		t.Fatalf("a release has %d files: %v", len(found), found)
	}
	return found
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func do(t *testing.T, dir, program string, args ...string) string {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir = dir
	said, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", program, args, err, said)
	}
	return string(said)
}

// checkSignature verifies as docs/release.md says, and then with one byte changed.
func checkSignature(t *testing.T, dir, key string) {
	public := strings.Fields(string(read(t, key+".pub")))
	signers := filepath.Join(t.TempDir(), "signers")
	if err := os.WriteFile(signers, []byte("bake "+public[0]+" "+public[1]+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	verify := func(list []byte) error {
		cmd := exec.Command("ssh-keygen", "-Y", "verify", "-f", signers, "-I", "bake", "-n", namespace, "-s", filepath.Join(dir, "SHA256SUMS.sig"))
		cmd.Stdin = bytes.NewReader(list)
		return cmd.Run()
	}
	sums := read(t, filepath.Join(dir, "SHA256SUMS"))
	if err := verify(sums); err != nil {
		t.Errorf("the signature does not hold: %v", err)
	}
	sums[0] ^= 1
	if verify(sums) == nil {
		t.Error("the signature holds for another list")
	}
	do(t, dir, "sha256sum", "--check", "--quiet", "SHA256SUMS")
}

// installed is run in the fresh root; each line must succeed.
const inRoot = `set -eux
dpkg -i /bake.deb
bake version
bake doctor seed layers
rc=0; bake doctor image >/doctor || rc=$?; test "$rc" = 4; grep '^missing  qemu-img .*' /doctor; grep '^sudo apt-get install .*qemu-utils' /doctor
. /usr/share/bash-completion/bash_completion; _comp_load bake 2>/dev/null || __load_completion bake; complete -p bake
COMP_WORDS=(bake layers uf); COMP_CWORD=2; _bake bake uf layers; test "${COMPREPLY[*]}" = ufw
man bake | tr -s ' \n' ' ' | grep -q 'The machine you specified'; man bake-deploy | tr -s ' \n' ' ' | grep -q 'bake deploy'
zcat /usr/share/man/man1/bake.1.gz >/bake.1; mandoc -T lint -W warning /bake.1
systemd-analyze verify /usr/lib/systemd/system/bake-nightly.timer /usr/lib/systemd/system/bake-nightly.service
id bake; test "$(stat -c %U:%a /etc/bake /var/lib/bake /var/cache/bake | uniq)" = bake:750
test ! -e /etc/systemd/system/timers.target.wants/bake-nightly.timer
HOME=/root bake --config /etc/bake init zap --key /key.pub && bake --config /etc/bake --out /var/lib/bake/out seed --host zap
dpkg -i /bake.deb
dpkg -r bake; test ! -e /usr/bin/bake; test -e /etc/bake/hosts/zap.yaml
`

func checkInstalled(t *testing.T, dir string) {
	root := filepath.Join(t.TempDir(), "root")
	do(t, "", "mmdebstrap", "--quiet", "--variant=minbase", "--include=systemd,man-db,mandoc,bash-completion",
		"--dpkgopt=path-include=/usr/share/man/*", "bookworm", root)
	packages, _ := filepath.Glob(filepath.Join(dir, "*_amd64.deb"))
	if len(packages) != 1 {
		t.Fatalf("packages: %v", packages)
	}
	for name, data := range map[string][]byte{"bake.deb": read(t, packages[0]),
		"key.pub": []byte("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIC5fZc/o+6nL5wffhDwRKx2uFUYmLG4ZcnVAjhhwA3Wo ops@example\n")} {
		if err := os.WriteFile(filepath.Join(root, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Log(do(t, "", "unshare", "--mount", "--pid", "--fork", "--kill-child", "chroot", root, "/bin/bash", "-c", "mount -t proc proc /proc; "+inRoot))
}
