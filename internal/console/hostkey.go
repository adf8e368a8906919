package console

import (
	"encoding/base64"
	"errors"
	"fmt"

	"golang.org/x/crypto/ssh"

	"bake/internal/lazy"
)

// hostKeyLimit bounds the text between the markers, in bytes.
const hostKeyLimit = 32 << 10

// What stands around a list.
const (
	keysBegin = "-----BEGIN SSH HOST KEY KEYS-----"
	keysEnd   = "-----END SSH HOST KEY KEYS-----"
)

var (
	// HostKeyBlock finds lists of host keys, as cloud-init and the guest's own
	// attestation print them, complete ones only.
	HostKeyBlock = lazy.Regexp(`(?s)` + keysBegin + `(.*?)` + keysEnd)
	hostKeyLine  = lazy.Regexp(
		`\b(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(?:256|384|521)) ([A-Za-z0-9+/]+={0,2})(?:[ \n]|$)`)
)

// HostKeys finds the keys of the last complete list in a console's text. Lines may
// have a prefix
// (a time, ci-info:); a line into which another program wrote is skipped.
func HostKeys(text string) ([]ssh.PublicKey, error) {
	blocks := HostKeyBlock.FindAllStringSubmatch(text, -1)
	if len(blocks) == 0 {
		return nil, errors.New("no complete list on the console")
	}
	block := blocks[len(blocks)-1][1]
	if len(block) > hostKeyLimit {
		return nil, fmt.Errorf("the list on the console has %d bytes, more than %d", len(block), hostKeyLimit)
	}
	var keys []ssh.PublicKey
	for _, line := range hostKeyLine.FindAllStringSubmatch(block, -1) {
		wire, err := base64.StdEncoding.DecodeString(line[2])
		if err != nil {
			continue
		}
		key, err := ssh.ParsePublicKey(wire)
		if err != nil || key.Type() != line[1] {
			continue
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errors.New("the list on the console has no readable key")
	}
	return keys, nil
}
