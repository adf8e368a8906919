package status

import (
	"crypto/ed25519"
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

func newKey(t *testing.T) ssh.PublicKey {
	t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

const rsaKey = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQDAo+EPPs4kSgHLSWGJzQSn6CJlQyRqMPmRCCEWz5cTQXYXyT3Nv8dSBqX3GJwQXJ5T/qzQ4OYV7WxlH2eUWJcRfQ4zFqsQ4mFv3h2FqL1WBrK3TtGwmUwLhGQ3Rr1nXk6sY0ZgC4Jw0w8JQkFq2yGq9bSgyqJkQH5cNnG7f8mQ1Q=="

func TestChanges(t *testing.T) {
	a, b := newKey(t), newKey(t)
	fa, fb := ssh.FingerprintSHA256(a), ssh.FingerprintSHA256(b)
	file := func(keys ...ssh.PublicKey) []byte { return KnownHosts("zap", []string{"192.0.2.5"}, keys) }
	sorted := func(x, y string) string {
		if x > y {
			x, y = y, x
		}
		return x + ", " + y
	}
	for name, test := range map[string]struct {
		earlier []byte
		now     []ssh.PublicKey
		want    string
	}{
		"no file":         {nil, []ssh.PublicKey{a}, ""},
		"the same":        {file(a), []ssh.PublicKey{a}, ""},
		"the same twice":  {file(a), []ssh.PublicKey{a, a}, ""},
		"another":         {file(a), []ssh.PublicKey{b}, "ssh-ed25519 was " + fa + " and is " + fb},
		"one more":        {file(a), []ssh.PublicKey{a, b}, "ssh-ed25519 was " + fa + " and is " + sorted(fa, fb)},
		"in other order":  {file(b, a), []ssh.PublicKey{a, b}, ""},
		"an empty file":   {[]byte{}, []ssh.PublicKey{a}, "ssh-ed25519 " + fa + " is new"},
		"a damaged file":  {[]byte("zap nonsense\n"), []ssh.PublicKey{a}, "ssh-ed25519 " + fa + " is new"},
		"none any more":   {file(a), nil, "ssh-ed25519 " + fa + " is gone"},
		"a hidden change": {append([]byte("# x\n\n"), file(a)...), []ssh.PublicKey{b}, "ssh-ed25519 was " + fa + " and is " + fb},
	} {
		t.Run(name, func(t *testing.T) {
			if got := strings.Join(Changes(test.earlier, test.now), "; "); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

// ssh-keygen finds the machine by its name and addresses, and nobody else.
func TestKnownHosts(t *testing.T) {
	key := newKey(t)
	path := filepath.Join(t.TempDir(), KnownFile)
	if err := os.WriteFile(path, KnownHosts("zap", []string{"192.0.2.5", "2001:db8::5"}, []ssh.PublicKey{key}), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("ssh-keygen"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	for name, want := range map[string]bool{"zap": true, "192.0.2.5": true, "2001:db8::5": true, "zip": false, "192.0.2.50": false} {
		out, err := exec.Command("ssh-keygen", "-F", name, "-l", "-f", path).Output()
		if found := err == nil && strings.Contains(string(out), ssh.FingerprintSHA256(key)); found != want {
			t.Errorf("%s: found %v, %s", name, found, out)
		}
	}
}

// What is in an earlier file is somebody's else until it is read.
func FuzzChanges(f *testing.F) {
	key := "zap ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
	f.Add([]byte(key + "\n"))
	f.Add([]byte("@revoked * " + rsaKey + "\n|1|x|y " + key[4:] + "\n"))
	f.Fuzz(func(t *testing.T, earlier []byte) {
		_, _, now, _, _, err := ssh.ParseKnownHosts([]byte(key + "\n"))
		if err != nil {
			t.Fatal(err)
		}
		for _, change := range Changes(earlier, []ssh.PublicKey{now}) {
			if strings.ContainsAny(change, "\x1b\n\r") {
				t.Errorf("%q", change)
			}
		}
		if len(Changes(KnownHosts("zap", nil, []ssh.PublicKey{now}), []ssh.PublicKey{now})) > 0 {
			t.Error("what was written is not what is read")
		}
	})
}
