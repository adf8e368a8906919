package artifact

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// A Notary vouches for generations.
type Notary interface {
	// Sign returns what is kept beside a manifest, nil when there is nobody to sign.
	// SHA256 is the digest of manifest.json.
	Sign(m Manifest, sha256 string) ([]byte, error)
	// Check says why a generation is not vouched for by anybody who counts. It need
	// not look at the files: they are what the manifest says.
	Check(g Generation) error
}

// VouchedBy has what the draft becomes signed.
func (d *Draft) VouchedBy(n Notary) { d.notary = n }

// sign puts the notary's word into the draft.
func (d *Draft) sign(m Manifest, manifest []byte) error {
	if d.notary == nil {
		return nil
	}
	sum := sha256.Sum256(manifest)
	content, err := d.notary.Sign(m, hex.EncodeToString(sum[:]))
	if err != nil || content == nil {
		return err
	}
	step("sign")
	if err := os.WriteFile(d.Path(sealName), content, 0o600); err != nil {
		return err
	}
	_, err = sealFile(d.Path(sealName))
	return err
}

// vouch says whether a generation that is there and whole may stay in the draft's
// place: somebody who counts vouches for it, or it is the same and the draft's
// signature was put beside it.
func (d *Draft) vouch(old Generation, m Manifest) (stays bool, err error) {
	if d.notary == nil {
		return true, nil
	}
	refused := d.notary.Check(old)
	if refused == nil {
		return true, nil
	}
	content, err := os.ReadFile(d.Path(sealName))
	switch {
	case errors.Is(err, fs.ErrNotExist): // there is nobody to sign, and nothing better to be had
		return true, nil
	case err != nil:
		return false, err
	case !old.same(m):
		return false, nil
	}
	step("sign again")
	return true, old.replace(sealName, content)
}

// Provenance returns what is kept beside the manifest about who vouches for it, and
// the digest of manifest.json. There is nothing when the former is nil.
func (g Generation) Provenance() (content []byte, manifest string, err error) {
	file, err := hashFile(context.Background(), g.Path(manifestName))
	if err != nil {
		return nil, "", err
	}
	info, err := os.Lstat(g.Path(sealName))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, file.SHA256, nil
	case err != nil:
		return nil, "", err
	case !info.Mode().IsRegular():
		return nil, "", &IntegrityError{File: g.Path(sealName), Want: "a regular file", Got: "none"}
	}
	if content, err = os.ReadFile(g.Path(sealName)); err != nil {
		return nil, "", fmt.Errorf("reading who vouches for generation %s: %w", g.Manifest.Generation, err)
	}
	return append([]byte{}, content...), file.SHA256, nil
}
