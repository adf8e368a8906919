package lint

import (
	"strings"
	"testing"
)

// TestReveals: what should not be read by everybody, and what everybody may read.
func TestReveals(t *testing.T) {
	for line, want := range map[string]string{
		"content: ghp_" + strings.Repeat("a1B2", 10):                        "a GitHub token",
		"-----BEGIN OPENSSH PRIVATE KEY-----":                               "a private key",
		"    passwd: $6$rounds=4096$salt$" + strings.Repeat("x", 40):        "the hash of a password",
		"hashed_passwd: $y$j9T$abcdefghij$" + strings.Repeat("k", 43):       "the hash of a password",
		"    plain_text_passwd: hunter22":                                   "a value of plain_text_passwd",
		"export API_KEY=abcdef0123":                                         "a value of API_KEY",
		"url = https://ops:hunter22@example.org/":                           "a password in a URL",
		"api_token: {file: secrets/api}":                                    "",
		"PasswordAuthentication no":                                         "",
		"# password: hunter22":                                              "",
		"lock_passwd: true":                                                 "",
		"keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIC5fZc ops@example]":    "",
		"sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b": "",
	} {
		what, at := Reveals(line)
		if what != want || at < 0 || at > len(line) || what == "" && at != 0 {
			t.Errorf("%q: %q at %d, want %q", line, what, at, want)
		}
	}
}
