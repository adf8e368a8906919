package provenance

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"bake/internal/diag"
)

// A Key signs.
type Key struct {
	Public  Public
	private ed25519.PrivateKey
}

// Public is the half of a key that everybody may have.
type Public struct {
	ID   string // SHA256: and its fingerprint, as ssh has it
	Name string // of its file, without .pub; "" for one that was derived from a private key
	key  ed25519.PublicKey
}

// Ring are the keys whose signatures count.
type Ring []Public

const (
	privateBlock = "PRIVATE KEY"
	publicBlock  = "PUBLIC KEY"
	maxKey       = 16 << 10
)

// CreateKey makes a key and its directory. If there is a key by then, that is it:
// isNew is false.
func CreateKey(path string) (k Key, isNew bool, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("making a signing key: %w", err)
		}
	}()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return k, false, err
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return k, false, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return k, false, err
	}
	isNew, err = place(path, pem.EncodeToMemory(&pem.Block{Type: privateBlock, Bytes: der}))
	if err != nil {
		return k, false, err
	}
	k, err = ReadKey(path)
	return k, isNew, err
}

// place writes a file that nobody else has written yet, whole or not at all.
func place(path string, content []byte) (isNew bool, err error) {
	temporary, err := os.CreateTemp(filepath.Dir(path), ".new-*") // 0600
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, os.Remove(temporary.Name())) }()
	_, err = temporary.Write(content)
	if err == nil {
		err = temporary.Sync()
	}
	if err = errors.Join(err, temporary.Close()); err != nil {
		return false, err
	}
	err = os.Link(temporary.Name(), path)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	return err == nil, err
}

// ReadKey reads a private key. The error wraps fs.ErrNotExist when there is none.
func ReadKey(path string) (Key, error) {
	k, err := readKey(path)
	if err != nil {
		return Key{}, fmt.Errorf("reading the signing key: %w", err)
	}
	return k, nil
}

func readKey(path string) (Key, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return Key{}, err
	}
	defer file.Close()
	info, err := file.Stat()
	switch {
	case err != nil:
		return Key{}, err
	case !info.Mode().IsRegular() || info.Size() > maxKey:
		return Key{}, fmt.Errorf("%s is not a regular file, or a large one", path)
	case info.Mode().Perm()&0o077 != 0:
		return Key{}, untrusted("%s has the mode %04o: others may have read it (chmod 600, if you know that nobody has)", path, info.Mode().Perm())
	}
	content := make([]byte, info.Size())
	if n, err := file.Read(content); err != nil || n != len(content) {
		return Key{}, errors.Join(err, fmt.Errorf("%s is empty or changes", path))
	}
	der, err := only(content, privateBlock)
	if err != nil {
		return Key{}, fmt.Errorf("%s: %w", path, err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	private, ok := parsed.(ed25519.PrivateKey)
	if err != nil || !ok {
		return Key{}, fmt.Errorf("%s is no ed25519 key in PKCS #8", path)
	}
	public, err := publicOf(private.Public().(ed25519.PublicKey))
	return Key{public, private}, err
}

func (k Key) sign(text []byte) []byte { return ed25519.Sign(k.private, text) }

func publicOf(key ed25519.PublicKey) (Public, error) {
	fingerprinted, err := ssh.NewPublicKey(key)
	if err != nil {
		return Public{}, err
	}
	return Public{ID: ssh.FingerprintSHA256(fingerprinted), key: key}, nil
}

func (p Public) verifies(text, sig []byte) bool { return ed25519.Verify(p.key, text, sig) }

// String names the key for people.
func (p Public) String() string {
	if p.Name == "" {
		return short(p.ID)
	}
	return p.Name + " (" + short(p.ID) + ")"
}

// short bounds what a foreign file has for an id.
func short(id string) string { return strings.ToValidUTF8(id[:min(len(id), 19)], "?") }

// FileName is what the key's file in a directory of keys may be called.
func (p Public) FileName() string {
	return "key-" + strings.NewReplacer("/", "_", "+", "-").Replace(strings.TrimPrefix(p.ID, "SHA256:")[:12])
}

// PEM is the form in which openssl and cosign read the key.
func (p Public) PEM() ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(p.key)
	return pem.EncodeToMemory(&pem.Block{Type: publicBlock, Bytes: der}), err
}

// ReadPublic reads a public key. What is wrong with the file is a diag.List.
func ReadPublic(path string) (Public, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Public{}, err
	}
	wrong := func(reason string) error {
		return diag.List{{Pos: diag.Position{File: path}, Message: reason, Hint: "bake key export writes one, openssl pkey -pubout another"}}
	}
	if !info.Mode().IsRegular() || info.Size() > maxKey {
		return Public{}, wrong("this is not a regular file, or a large one")
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return Public{}, err
	}
	der, err := only(content, publicBlock)
	if err != nil {
		return Public{}, wrong(err.Error())
	}
	parsed, err := x509.ParsePKIXPublicKey(der)
	key, ok := parsed.(ed25519.PublicKey)
	if err != nil || !ok {
		return Public{}, wrong("this is no public ed25519 key")
	}
	p, err := publicOf(key)
	p.Name = strings.TrimSuffix(filepath.Base(path), ".pub")
	return p, err
}

// only returns what is in a file with one block of PEM.
func only(content []byte, kind string) ([]byte, error) {
	block, rest := pem.Decode(content)
	switch {
	case block == nil || block.Type != kind:
		return nil, fmt.Errorf("there is no block %s", kind)
	case len(bytes.TrimSpace(rest)) > 0:
		return nil, errors.New("there is more than one key")
	}
	return block.Bytes, nil
}

// ReadRing reads all NAME.pub of a directory. One that is absent has none.
func ReadRing(dir string) (Ring, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var ring Ring
	var problems diag.List
	for _, entry := range entries {
		if filepath.Ext(entry.Name()) != ".pub" || strings.HasPrefix(entry.Name(), ".") {
			continue
		}
		p, err := ReadPublic(filepath.Join(dir, entry.Name()))
		var list diag.List
		switch {
		case errors.As(err, &list):
			problems.Add(list...)
		case err != nil:
			return nil, err
		default:
			ring = append(ring, p)
		}
	}
	return ring, problems.Err()
}

// Has says whether a key is one of the ring.
func (r Ring) Has(id string) bool {
	_, ok := r.find(id)
	return ok
}

func (r Ring) find(id string) (Public, bool) {
	at := slices.IndexFunc(r, func(p Public) bool { return p.ID == id })
	if at < 0 {
		return Public{}, false
	}
	return r[at], true
}

// String names the keys for people.
func (r Ring) String() string {
	var names []string
	for _, p := range r {
		names = append(names, p.String())
	}
	return strings.Join(names, ", ")
}
