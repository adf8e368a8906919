package origin

import (
	"bytes"
	"crypto"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// ubuntuKeyring has the public keys of the Debian package ubuntu-keyring
// 2023.11.28.1, file ubuntu-cloudimage-keyring.gpg.
//
//go:embed keyring/keyring.gpg
var ubuntuKeyring []byte

// ubuntuKeys are the fingerprints that count, whatever the keyring has.
var ubuntuKeys = []string{
	"D2EB44626FDDC30B513D5BB71A5D6C4C7DB87C81", // UEC Image Automatic Signing Key
	"4A3CE3CD565D7EB5C810E2B97FF3F408476CF100", // Ubuntu Cloud Image Builder
}

const (
	clockSkew     = time.Hour // that this machine's clock may be behind the signer's
	maxSignatures = 8         // each costs a public key operation
)

// strongDigests are those that a list may be signed with.
var strongDigests = []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512, crypto.SHA3_256, crypto.SHA3_512}

// trust is the keys that may vouch for a list.
type trust struct{ keys openpgp.EntityList }

// errOtherBytes is a signature that does not fit the list: the only refusal that
// may go away, when a mirror has taken one of two files of a new build.
var errOtherBytes = errors.New("it is not over these bytes: one of the two files was changed or is of another build")

// A voucher is a good signature of a trusted key.
type voucher struct {
	signer string // fingerprint of the primary key
	made   time.Time
}

// trustIn reads the pinned keys from a keyring. All of them must be there.
func trustIn(keyring []byte, fingerprints []string) (trust, error) {
	all, err := openpgp.ReadKeyRing(bytes.NewReader(keyring))
	if err != nil {
		return trust{}, fmt.Errorf("reading the keyring: %w", err)
	}
	var t trust
	for _, want := range fingerprints {
		i := slices.IndexFunc(all, func(e *openpgp.Entity) bool { return fingerprint(e.PrimaryKey) == want })
		if i < 0 {
			return trust{}, fmt.Errorf("reading the keyring: the key %s is not in it", want)
		}
		t.keys = append(t.keys, all[i])
	}
	return t, nil
}

// trustAll reads a keyring of which every key counts.
func trustAll(keyring []byte) (trust, error) {
	all, err := openpgp.ReadKeyRing(bytes.NewReader(keyring))
	if err == nil && len(all) == 0 {
		err = errors.New("there is no key in it")
	}
	if err != nil {
		return trust{}, fmt.Errorf("reading the keyring: %w", err)
	}
	return trust{all}, nil
}

func fingerprint(key *packet.PublicKey) string { return fmt.Sprintf("%X", key.Fingerprint) }

// verify returns the newest good signature by a trusted key, under the policy in
// the package comment.
func (t trust) verify(list, signature []byte, now time.Time) (best voucher, err error) {
	defer func() { // the parser is not ours, and the bytes are anybody's
		if cause := recover(); cause != nil {
			best, err = voucher{}, fmt.Errorf("the signature cannot be read: %v", cause)
		}
	}()
	packets, err := dearmor(signature)
	if err != nil {
		return voucher{}, err
	}
	var others []string
	reader := packet.NewOpaqueReader(bytes.NewReader(packets))
	for n := 0; ; n++ {
		raw, err := reader.Next()
		switch {
		case err == io.EOF && best.signer != "":
			return best, nil
		case err == io.EOF:
			return voucher{}, t.nobody(others)
		case err != nil:
			return voucher{}, errors.New("the signature is cut off or damaged")
		case n == maxSignatures:
			return voucher{}, fmt.Errorf("there are more than %d signatures", maxSignatures)
		}
		v, other, err := t.one(raw, list, now)
		if err != nil {
			return voucher{}, err
		}
		if v.signer == "" {
			others = append(others, other)
		} else if v.made.After(best.made) {
			best = v
		}
	}
}

// nobody says why a list is not believed that no trusted key has signed.
func (t trust) nobody(others []string) error {
	var want []string
	for _, key := range t.keys {
		want = append(want, fingerprint(key.PrimaryKey))
	}
	found := "there is no signature"
	if len(others) > 0 {
		found = "the signature is " + strings.Join(others, " and ")
	}
	return fmt.Errorf("%s, want one by %s", found, strings.Join(want, " or "))
}

// one judges one signature. It returns a voucher when it is good, in other what
// it is when it is not by a trusted key, and an error when a trusted key is named
// and the signature is not good.
func (t trust) one(raw *packet.OpaquePacket, list []byte, now time.Time) (v voucher, other string, err error) {
	const signatureTag = 2
	if raw.Tag != signatureTag {
		return voucher{}, "", fmt.Errorf("the signature file has an OpenPGP packet of type %d in it", raw.Tag)
	}
	parsed, err := raw.Parse()
	sig, ok := parsed.(*packet.Signature)
	if err != nil || !ok {
		return voucher{}, unreadable(raw.Contents), nil
	}
	entity, key := t.find(sig)
	if entity == nil {
		return voucher{}, "by the unknown key " + issuer(sig), nil
	}
	signer := fingerprint(entity.PrimaryKey)
	if err := check(sig, entity, key, raw, list, now); err != nil {
		who := "key " + signer
		if key != entity.PrimaryKey {
			who = fmt.Sprintf("subkey %s of %s", fingerprint(key), signer)
		}
		return voucher{}, "", fmt.Errorf("the signature by the %s is refused: %w", who, err)
	}
	return voucher{signer, sig.CreationTime.UTC()}, "", nil
}

// unreadable describes a signature that the library does not know, mostly for
// its age.
func unreadable(contents []byte) string {
	weak := map[byte]string{1: "MD5", 3: "RIPEMD-160"}
	if len(contents) > 3 && contents[0] == 4 && weak[contents[3]] != "" {
		return "made with the broken digest " + weak[contents[3]]
	}
	if len(contents) > 0 && contents[0] < 4 {
		return fmt.Sprintf("of the outdated version %d", contents[0])
	}
	return "of an unknown kind"
}

func issuer(sig *packet.Signature) string {
	switch {
	case len(sig.IssuerFingerprint) > 0:
		return fmt.Sprintf("%X", sig.IssuerFingerprint)
	case sig.IssuerKeyId != nil:
		return fmt.Sprintf("%016X", *sig.IssuerKeyId)
	}
	return "that it does not name"
}

// find returns the trusted key that a signature names. The name is only a hint
// where to look: the key's material decides.
func (t trust) find(sig *packet.Signature) (*openpgp.Entity, *packet.PublicKey) {
	for _, entity := range t.keys {
		keys := []*packet.PublicKey{entity.PrimaryKey}
		for _, sub := range entity.Subkeys {
			keys = append(keys, sub.PublicKey)
		}
		for _, key := range keys {
			if sig.CheckKeyIdOrFingerprint(key) {
				return entity, key
			}
		}
	}
	return nil, nil
}

// check says why a signature by a trusted key is not good.
func check(sig *packet.Signature, entity *openpgp.Entity, key *packet.PublicKey, raw *packet.OpaquePacket, list []byte, now time.Time) error {
	made := sig.CreationTime
	switch {
	case !slices.Contains(strongDigests, sig.Hash):
		return fmt.Errorf("it is made with the broken digest %v", sig.Hash)
	case sig.SigType != packet.SigTypeBinary:
		return fmt.Errorf("it is of type 0x%02x, not over the bytes of the file", byte(sig.SigType))
	case made.After(now.Add(clockSkew)):
		return fmt.Errorf("it was made at %s, which is in the future (is this machine's clock right?)", stamp(made))
	case sig.SigLifetimeSecs != nil && *sig.SigLifetimeSecs > 0 && now.After(made.Add(time.Duration(*sig.SigLifetimeSecs)*time.Second)):
		return errors.New("it has expired")
	}
	config := &packet.Config{Time: func() time.Time { return later(now, made) }}
	for _, at := range []time.Time{made, later(now, made)} {
		if err := usable(entity, key, at, config); err != nil {
			return err
		}
	}
	var packets bytes.Buffer
	if err := raw.Serialize(&packets); err != nil {
		return err
	}
	_, _, err := openpgp.VerifyDetachedSignature(openpgp.EntityList{entity}, bytes.NewReader(list), &packets, config)
	if err != nil {
		return fmt.Errorf("%w (%w)", errOtherBytes, err)
	}
	return nil
}

// later keeps a clock that is a little behind from taking a key for not yet
// valid.
func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// usable says why a key could not sign at a time.
func usable(entity *openpgp.Entity, key *packet.PublicKey, at time.Time, config *packet.Config) error {
	reason := func(err error) error {
		switch {
		case errors.Is(err, pgperrors.ErrKeyRevoked):
			return errors.New("the key is revoked")
		case errors.Is(err, pgperrors.ErrKeyExpired):
			return errors.New("the key has expired")
		}
		return fmt.Errorf("the key was not valid at %s: %w", stamp(at), err)
	}
	if _, err := entity.VerifyPrimaryKey(at, config); err != nil {
		return reason(err)
	}
	for _, sub := range entity.Subkeys {
		if sub.PublicKey == key {
			if _, err := sub.Verify(at, config); err != nil {
				return reason(err)
			}
		}
	}
	if found, ok := entity.SigningKeyById(at, key.KeyId, config); !ok || found.PublicKey != key {
		return errors.New("the key is not meant, or not strong enough, for signing")
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// dearmor returns the packets of a detached signature, binary or armored. There
// is one block, whole, and nothing around it.
func dearmor(signature []byte) ([]byte, error) {
	text := bytes.TrimSpace(signature)
	switch {
	case len(text) == 0:
		return nil, errors.New("the signature is empty")
	case !bytes.HasPrefix(text, []byte("-----BEGIN")):
		return signature, nil
	case !bytes.HasSuffix(text, []byte("-----END PGP SIGNATURE-----")):
		return nil, errors.New("the signature is cut off, or no signature")
	case bytes.Count(text, []byte("-----BEGIN")) > 1:
		return nil, errors.New("the signature has more than one block")
	}
	block, err := armor.Decode(bytes.NewReader(text))
	if err != nil || block.Type != openpgp.SignatureType {
		return nil, errors.New("the signature's armor is damaged")
	}
	packets, err := io.ReadAll(block.Body)
	if err != nil {
		return nil, fmt.Errorf("the signature's armor is damaged: %w", err)
	}
	return packets, nil
}
