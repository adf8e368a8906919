package origin

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

func testdata(t testing.TB, name string) (list, signature []byte) {
	t.Helper()
	list, err := os.ReadFile(filepath.Join("testdata", name+".SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	signature, err = os.ReadFile(filepath.Join("testdata", name+".SHA256SUMS.gpg"))
	if err != nil {
		t.Fatal(err)
	}
	return list, signature
}

func ubuntuTrust(t testing.TB) trust {
	t.Helper()
	keys, err := trustIn(ubuntuKeyring, ubuntuKeys)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// What Ubuntu has signed in 2026 is good, with the keys and the code of the
// product.
func TestUbuntu2026(t *testing.T) {
	list, signature := testdata(t, "jammy-release-20260722")
	by, err := ubuntuTrust(t).verify(list, signature, today)
	if err != nil {
		t.Fatal(err)
	}
	if want := (voucher{ubuntuKeys[0], at("2026-07-22T19:16:08Z")}); by != want {
		t.Errorf("%+v, want %+v", by, want)
	}
	list[100] ^= 1
	if _, err = ubuntuTrust(t).verify(list, signature, today); err == nil {
		t.Error("one bit of the list is another, and the signature is good")
	}
}

// The list of 2022 is by the same key, but with SHA-1.
func TestUbuntu2022(t *testing.T) {
	list, signature := testdata(t, "jammy-core-2022-sha1")
	for _, now := range []time.Time{today, at("2022-06-01T00:00:00Z")} {
		_, err := ubuntuTrust(t).verify(list, signature, now)
		if err == nil {
			t.Fatal("SHA-1 is accepted")
		}
		for _, want := range []string{"broken digest SHA-1", ubuntuKeys[0]} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q is not in: %v", want, err)
			}
		}
	}
}

// A clock that is years behind gets told so, and not that a key has expired.
func TestClock(t *testing.T) {
	list, signature := testdata(t, "jammy-release-20260722")
	_, err := ubuntuTrust(t).verify(list, signature, at("1970-01-01T00:00:00Z"))
	if err == nil || !strings.Contains(err.Error(), "is this machine's clock right?") {
		t.Errorf("in 1970: %v", err)
	}
}

// The pinned fingerprints count, not what a keyring happens to have.
func TestTrustIn(t *testing.T) {
	pinned, other := newKey(t, 0), newKey(t, 0)
	keys, err := trustIn(keyring(t, pinned, other), []string{fingerprint(pinned.PrimaryKey)})
	if err != nil {
		t.Fatal(err)
	}
	list := sums("24.04", "20260722")
	if _, err := keys.verify(list, sign(t, list, signed, pinned), today); err != nil {
		t.Error(err)
	}
	if _, err := keys.verify(list, sign(t, list, signed, other), today); err == nil || !strings.Contains(err.Error(), "unknown key "+fingerprint(other.PrimaryKey)) {
		t.Errorf("a key of the keyring that is not pinned: %v", err)
	}
	if _, err := trustIn(keyring(t, other), []string{fingerprint(pinned.PrimaryKey)}); err == nil {
		t.Error("a pinned key is missing, and nobody says so")
	}
	if _, err := trustIn([]byte("no keyring"), ubuntuKeys); err == nil {
		t.Error("a keyring that is none is read")
	}
}

// A keyring of a test's own counts as a whole, and one with nothing in it is no
// way to the built-in keys.
func TestTrustAll(t *testing.T) {
	one, two, other := newKey(t, 0), newKey(t, 0), newKey(t, 0)
	keys, err := trustAll(keyring(t, one, two))
	if err != nil {
		t.Fatal(err)
	}
	list := sums("24.04", "20260722")
	for key, good := range map[*openpgp.Entity]bool{one: true, two: true, other: false} {
		if _, err := keys.verify(list, sign(t, list, signed, key), today); (err == nil) != good {
			t.Errorf("%s: %v", fingerprint(key.PrimaryKey), err)
		}
	}
	real, signature := testdata(t, "jammy-release-20260722")
	if _, err := keys.verify(real, signature, today); err == nil {
		t.Error("the built-in keys count, too")
	}
	noble, _ := Parse("ubuntu:24.04", "amd64")
	for _, ring := range [][]byte{{}, []byte("no keyring"), keyring(t, one)[:40]} {
		if _, err := (Resolver{Keyring: ring}).question(noble); err == nil {
			t.Errorf("a keyring of %d bytes is read", len(ring))
		}
	}
}

// Of two good signatures the newer one counts.
func TestNewest(t *testing.T) {
	key := newKey(t, 0)
	keys, err := trustIn(keyring(t, key), []string{fingerprint(key.PrimaryKey)})
	if err != nil {
		t.Fatal(err)
	}
	list, later := sums("24.04", "20260722"), signed.Add(time.Hour)
	first, second := sign(t, list, signed, key), sign(t, list, later, key)
	for _, both := range [][]byte{append(append([]byte{}, first...), second...), append(append([]byte{}, second...), first...)} {
		if by, err := keys.verify(list, both, today); err != nil || !by.made.Equal(later) {
			t.Errorf("%v, %v, want %v", by.made, err, later)
		}
	}
}

// Whatever a signature file has in it: no panic, and never a good signature.
func FuzzSignature(f *testing.F) {
	_, real := testdata(f, "jammy-release-20260722")
	_, weak := testdata(f, "jammy-core-2022-sha1")
	binary, err := dearmor(real)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range [][]byte{nil, real, weak, binary, ubuntuKeyring, []byte("<html>")} {
		f.Add(seed)
	}
	keys, list := ubuntuTrust(f), []byte("not what was signed\n")
	f.Fuzz(func(t *testing.T, signature []byte) {
		if by, err := keys.verify(list, signature, today); err == nil {
			t.Errorf("signed by %+v", by)
		}
	})
}
