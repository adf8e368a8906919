//go:build e2e

package vm

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"bake/internal/tool"
)

// baseImage names a qcow2 image with cloud-init and sshd that reports on its
// first serial port.
const baseImage = "BAKE_E2E_BASE"

const userData = `#cloud-config
users:
  - name: ops
    shell: /bin/bash
    sudo: ALL=(ALL) NOPASSWD:ALL
    lock_passwd: true
    ssh_authorized_keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f]
ssh_genkeytypes: [ed25519]
write_files:
  - path: /etc/ssh/sshd_config.d/00-bake.conf
    content: |
      AuthorizedKeysFile .ssh/authorized_keys
      PermitRootLogin no
`

const metaData = "instance-id: vm-e2e\nlocal-hostname: lab\ndsmode: local\n"

func newKey(t *testing.T) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

func digest(t *testing.T, path string) string {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		t.Fatal(err)
	}
	return string(hash.Sum(nil))
}

func newSeed(t *testing.T, networkConfig string) string {
	t.Helper()
	dir := t.TempDir()
	args := []string{}
	for name, text := range map[string]string{"user-data": userData, "meta-data": metaData, "network-config": networkConfig} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if networkConfig != "" {
		args = append(args, "--network-config="+filepath.Join(dir, "network-config"))
	}
	seed := filepath.Join(dir, "seed.img")
	args = append(args, seed, filepath.Join(dir, "user-data"), filepath.Join(dir, "meta-data"))
	if out, err := exec.Command("cloud-localds", args...).CombinedOutput(); err != nil {
		t.Fatalf("cloud-localds: %v: %s", err, out)
	}
	return seed
}

// guest is a booted machine and a root shell in it.
type guest struct {
	*Machine
	key    ssh.Signer
	keys   []ssh.PublicKey
	client *ssh.Client
}

func (g guest) run(t *testing.T, command string) string {
	t.Helper()
	session, err := g.client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	out, err := session.CombinedOutput(command)
	if err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
	return strings.TrimSpace(string(out))
}

func bootGuest(ctx context.Context, t *testing.T, change func(*Spec)) guest {
	t.Helper()
	base := os.Getenv(baseImage)
	if base == "" {
		t.Fatal(baseImage + " names no image")
	}
	key := newKey(t)
	credentials, err := LoginCredential(string(ssh.MarshalAuthorizedKey(key.PublicKey())), "ops", "root")
	if err != nil {
		t.Fatal(err)
	}
	spec := Spec{Disk: base, Accel: tcg, Firmware: uefi, VCPUs: 2, Memory: 1 << 30, Credentials: credentials}
	spec.Seed = newSeed(t, "")
	change(&spec)
	m, err := Start(ctx, tool.Box{}, spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(m.scratch.dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there", m.scratch.dir)
		}
	})
	begin := time.Now()
	g := guest{Machine: m, key: key}
	if g.keys, err = m.HostKeys(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("host keys after %v", time.Since(begin).Round(time.Second))
	if g.client, err = m.SSH(ctx, "ops", []ssh.AuthMethod{ssh.PublicKeys(key)}, g.keys); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.client.Close() })
	t.Logf("logged in after %v", time.Since(begin).Round(time.Second))
	return g
}

func TestGuest(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	defer cancel()
	t.Setenv("TMPDIR", t.TempDir())
	before := digest(t, os.Getenv(baseImage))
	var spec Spec
	g := bootGuest(ctx, t, func(s *Spec) { spec = *s })
	seedBefore := digest(t, spec.Seed)

	t.Run("login", func(t *testing.T) {
		if got := g.run(t, "id -un; sudo id -un"); got != "ops\nroot" {
			t.Errorf("the throwaway key logs in as %q", got)
		}
		_, err := g.SSH(ctx, "ops", []ssh.AuthMethod{ssh.PublicKeys(newKey(t))}, g.keys)
		if !errors.Is(err, ErrRefused) {
			t.Errorf("a foreign key: %v", err)
		}
		_, err = g.SSH(ctx, "root", []ssh.AuthMethod{ssh.PublicKeys(g.key)}, g.keys)
		if !errors.Is(err, ErrRefused) {
			t.Errorf("root, whom the configuration bars, with the key: %v", err)
		}
		_, err = g.SSH(ctx, "ops", nil, []ssh.PublicKey{newKey(t).PublicKey()})
		if !errors.Is(err, ErrHostKey) {
			t.Errorf("a foreign host key: %v", err)
		}
	})
	t.Run("login credential", func(t *testing.T) {
		const files = "/run/bake-verify /run/bake-verify/keys/ops /etc/ssh/sshd_config.d/0-bake-verify.conf"
		want := "755 root:root\n644 root:root\n600 root:root"
		if got := g.run(t, "sudo stat -c '%a %U:%G' "+files); got != want {
			t.Errorf("modes and owners of %s:\n%s", files, got)
		}
		// Written before sshd starts for the first time, not in a race with it.
		if got := g.run(t, `test "$(stat -c %Y /run/bake-verify/keys/ops)" -le \
			"$(date -d "$(systemctl show -P ExecMainStartTimestamp ssh)" +%s)" && echo yes`); got != "yes" {
			t.Errorf("the key is younger than sshd: %q", got)
		}
		// The artifact's own configuration still is what sshd reports and obeys.
		if got := g.run(t, "sudo sshd -T | grep -i ^authorizedkeysfile"); got != "authorizedkeysfile .ssh/authorized_keys" {
			t.Errorf("sshd -T reports %q", got)
		}
		if got := g.run(t, "cat .ssh/authorized_keys | wc -l"); got != "1" {
			t.Errorf("%s keys in the user's own file", got)
		}
	})
	t.Run("knock", func(t *testing.T) {
		g.run(t, "sudo iptables -A INPUT -p tcp --dport 83 -j DROP")
		g.run(t, "sudo iptables -A INPUT -p tcp --dport 84 -j REJECT")
		g.run(t, "sudo iptables -A INPUT -p tcp --dport 85 -j REJECT --reject-with tcp-reset")
		for port, want := range map[int]Answer{22: Accepted, 82: Refused, 83: Silent, 84: Refused, 85: Refused} {
			begin := time.Now()
			got, err := g.Knock(ctx, port)
			if got != want || err != nil {
				t.Errorf("Knock(%d) = %v, %v; want %v", port, got, err, want)
			}
			t.Logf("Knock(%d) took %v", port, time.Since(begin).Round(time.Millisecond))
		}
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if _, err := g.Knock(short, 83); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a knock cut short: %v", err)
		}
	})
	t.Run("silent ssh", func(t *testing.T) {
		g.run(t, "sudo iptables -I INPUT -p tcp --dport 22 --syn -j DROP")
		defer g.run(t, "sudo iptables -D INPUT -p tcp --dport 22 --syn -j DROP")
		short, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		_, err := g.SSH(short, "ops", nil, g.keys)
		if !errors.Is(err, ErrUnreachable) {
			t.Errorf("ssh to a silent port: %v", err)
		}
	})
	t.Run("snapshot", g.testSnapshot)
	t.Run("power down", func(t *testing.T) {
		off, cancel := context.WithTimeout(ctx, 2*time.Minute)
		defer cancel()
		if err := g.PowerDown(off); err != nil {
			t.Error(err)
		}
		_, err := g.WaitConsole(ctx, regexp.MustCompile("never said"))
		if err == nil || !strings.Contains(err.Error(), "the machine is off") {
			t.Errorf("waiting for a machine that is off: %v", err)
		}
	})
	if digest(t, os.Getenv(baseImage)) != before || digest(t, spec.Seed) != seedBefore {
		t.Error("the boot has changed the disk or the seed")
	}
}

const staticNetwork = `version: 2
ethernets:
  lan:
    match: {macaddress: "52:54:00:77:00:02"}
    addresses: [10.77.0.2/30]
    routes: [{to: 0.0.0.0/0, via: 10.77.0.1}]
    dhcp4: false
    dhcp6: false
    accept-ra: false
`

// A guest with a static address in the smallest network, cut off from the
// world, is reached all the same and answers for itself.
func TestGuestStaticOffline(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	defer cancel()
	t.Setenv("TMPDIR", t.TempDir())
	var console strings.Builder
	g := bootGuest(ctx, t, func(s *Spec) {
		s.Seed = newSeed(t, staticNetwork)
		s.MAC = "52:54:00:77:00:02"
		s.Address, s.Gateway = prefix("10.77.0.2/30"), addr("10.77.0.1")
		s.Offline = true
		s.Console = &console
	})
	if got := g.run(t, "ip -4 -o addr show scope global"); !strings.Contains(got, "10.77.0.2/30") {
		t.Errorf("the guest has the address %s", got)
	}
	if got, err := g.Knock(ctx, 22); got != Accepted || err != nil {
		t.Errorf("Knock(22) = %v, %v", got, err)
	}
	if got, err := g.Knock(ctx, 23); got != Refused || err != nil {
		t.Errorf("Knock(23) = %v, %v", got, err)
	}
	was, err := g.Reset(ctx)
	if n := strings.Count(was, "RIP="); err != nil || n != 2 {
		t.Errorf("Reset names %d of 2 processors: %v\n%s", n, err, was)
	}
	if _, err := g.WaitConsole(ctx, regexp.MustCompile(`(?s)Linux version .*Linux version `)); err != nil {
		t.Errorf("no second boot: %v", err)
	}
	g.Close()
	if !strings.Contains(console.String(), "BEGIN SSH HOST KEY KEYS") {
		t.Error("the live copy of the console lacks the host keys")
	}
}
