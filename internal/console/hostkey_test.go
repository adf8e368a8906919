package console

import (
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

const (
	ed25519Key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
	beginLine  = keysBegin + "\n"
	endLine    = keysEnd + "\n"
)

func TestHostKeys(t *testing.T) {
	other := strings.Replace(ed25519Key, "gZGhscHR4f", "gZGhscHR4g", 1)
	for _, test := range []struct {
		name, text string
		want       []string // none: an error
	}{
		{"plain", beginLine + ed25519Key + " root@lab\n" + endLine, []string{ed25519Key}},
		{"no comment", beginLine + ed25519Key + "\n" + endLine, []string{ed25519Key}},
		{"two", beginLine + ed25519Key + "\n" + other + " root@lab\n" + endLine, []string{ed25519Key, other}},
		{"kernel time", "[   42.1] cloud-init[1]: " + beginLine + "[   42.2] cloud-init[1]: " + ed25519Key +
			" root@lab\n[   42.3] cloud-init[1]: " + endLine, []string{ed25519Key}},
		{"ci-info", "ci-info: " + beginLine + "ci-info: " + ed25519Key + "\nci-info: " + endLine, []string{ed25519Key}},
		{"reboot", beginLine + other + "\n" + endLine + "…\n" + beginLine + ed25519Key + "\n" + endLine, []string{ed25519Key}},
		{"broken line skipped", beginLine + "ssh-rsa AAAAB3[  43.0] eth0: up\n" + ed25519Key + "\n" + endLine, []string{ed25519Key}},
		{"wrong type skipped", beginLine + "ssh-rsa " + strings.Fields(ed25519Key)[1] + "\n" + ed25519Key + "\n" + endLine, []string{ed25519Key}},
		{"nothing", "login: ", nil},
		{"no end", beginLine + ed25519Key + "\n", nil},
		{"no begin", ed25519Key + "\n" + endLine, nil},
		{"no key", beginLine + endLine, nil},
		{"cut key", beginLine + ed25519Key[:60] + "\n" + endLine, nil},
		{"key outside", ed25519Key + "\n" + beginLine + endLine + ed25519Key + "\n", nil},
		{"too long", beginLine + strings.Repeat(ed25519Key+"\n", 1000) + endLine, nil},
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
	f.Add(beginLine + ed25519Key + "\n" + endLine)
	f.Add(beginLine + "ssh-rsa AAAA\n" + endLine)
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
