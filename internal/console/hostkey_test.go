package console

import (
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

const (
	ed25519Key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
	keysBegin  = "-----BEGIN SSH HOST KEY KEYS-----\n"
	keysEnd    = "-----END SSH HOST KEY KEYS-----\n"
)

func TestHostKeys(t *testing.T) {
	other := strings.Replace(ed25519Key, "gZGhscHR4f", "gZGhscHR4g", 1)
	for _, test := range []struct {
		name, text string
		want       []string // none: an error
	}{
		{"plain", keysBegin + ed25519Key + " root@lab\n" + keysEnd, []string{ed25519Key}},
		{"no comment", keysBegin + ed25519Key + "\n" + keysEnd, []string{ed25519Key}},
		{"two", keysBegin + ed25519Key + "\n" + other + " root@lab\n" + keysEnd, []string{ed25519Key, other}},
		{"kernel time", "[   42.1] cloud-init[1]: " + keysBegin + "[   42.2] cloud-init[1]: " + ed25519Key +
			" root@lab\n[   42.3] cloud-init[1]: " + keysEnd, []string{ed25519Key}},
		{"ci-info", "ci-info: " + keysBegin + "ci-info: " + ed25519Key + "\nci-info: " + keysEnd, []string{ed25519Key}},
		{"reboot", keysBegin + other + "\n" + keysEnd + "…\n" + keysBegin + ed25519Key + "\n" + keysEnd, []string{ed25519Key}},
		{"broken line skipped", keysBegin + "ssh-rsa AAAAB3[  43.0] eth0: up\n" + ed25519Key + "\n" + keysEnd, []string{ed25519Key}},
		{"wrong type skipped", keysBegin + "ssh-rsa " + strings.Fields(ed25519Key)[1] + "\n" + ed25519Key + "\n" + keysEnd, []string{ed25519Key}},
		{"nothing", "login: ", nil},
		{"no end", keysBegin + ed25519Key + "\n", nil},
		{"no begin", ed25519Key + "\n" + keysEnd, nil},
		{"no key", keysBegin + keysEnd, nil},
		{"cut key", keysBegin + ed25519Key[:60] + "\n" + keysEnd, nil},
		{"key outside", ed25519Key + "\n" + keysBegin + keysEnd + ed25519Key + "\n", nil},
		{"too long", keysBegin + strings.Repeat(ed25519Key+"\n", 1000) + keysEnd, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			keys, err := HostKeys(test.text)
			var got []string
			for _, key := range keys {
				got = append(got, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))))
			}
			if strings.Join(got, "\n") != strings.Join(test.want, "\n") || (err == nil) != (test.want != nil) {
				t.Errorf("HostKeys = %q, %v; want %q", got, err, test.want)
			}
		})
	}
}

func FuzzHostKeys(f *testing.F) {
	f.Add(keysBegin + ed25519Key + "\n" + keysEnd)
	f.Add(keysBegin + "ssh-rsa AAAA\n" + keysEnd)
	f.Fuzz(func(t *testing.T, text string) {
		keys, err := HostKeys(text)
		if (err == nil) != (len(keys) > 0) {
			t.Errorf("%d keys and %v", len(keys), err)
		}
		for _, key := range keys {
			if _, err := ssh.ParsePublicKey(key.Marshal()); err != nil {
				t.Errorf("a key that does not parse: %v", err)
			}
		}
	})
}
