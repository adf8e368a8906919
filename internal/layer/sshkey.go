package layer

import (
	"crypto"
	"crypto/rsa"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

// KeyHint says where an acceptable public key is found.
const KeyHint = "put the line here that `cat ~/.ssh/id_ed25519.pub` prints; `ssh-keygen -t ed25519` makes one"

// CheckKey says why a line is not an acceptable public key: not in
// authorized_keys form, with options, DSA, or RSA under 3072 bits
// (NIST SP 800-57: 128-bit strength from 2030 on).
func CheckKey(line string) error {
	if !oneLine(line) {
		return fmt.Errorf("a key is one line of printable text")
	}
	if strings.Contains(line, "PRIVATE KEY") {
		return fmt.Errorf("this is of a private key, which must stay where it is")
	}
	key, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(line))
	switch {
	case err != nil:
		return fmt.Errorf("not a public key in authorized_keys form")
	case len(options) > 0 || len(rest) > 0:
		return fmt.Errorf("options before the key are not accepted")
	}
	switch key.Type() {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
		ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256:
		return nil
	case ssh.KeyAlgoRSA:
		plain, ok := key.(ssh.CryptoPublicKey)
		if !ok {
			return fmt.Errorf("not a usable RSA key")
		}
		if bits := rsaBits(plain.CryptoPublicKey()); bits < 3072 {
			return fmt.Errorf("an RSA key of %d bits is too short, want 3072 or an ed25519 key", bits)
		}
		return nil
	}
	return fmt.Errorf("keys of type %s are not accepted, want ed25519, ecdsa or rsa", key.Type())
}

// rsaBits returns the length of an RSA key's modulus, 0 for another key.
func rsaBits(key crypto.PublicKey) int {
	if key, ok := key.(*rsa.PublicKey); ok {
		return key.N.BitLen()
	}
	return 0
}
