package provenance

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"bake/internal/diag"
)

func newKey(t *testing.T) Key {
	t.Helper()
	k, isNew, err := CreateKey(filepath.Join(t.TempDir(), "a/b/key"))
	if err != nil || !isNew {
		t.Fatal(isNew, err)
	}
	return k
}

// statements are one of a build, and of a verdict.
func statements(t *testing.T) []Statement {
	t.Helper()
	var b Build
	b.Definition.Type = "urn:bake:generation:1"
	b.Definition.External = map[string]any{"host": "zap <&>"}
	b.Definition.Dependencies = []Descriptor{{Name: "debian:13", URI: "https://example.org/x.qcow2", Digest: map[string]string{"sha256": strings.Repeat("cd", 32)},
		Annotations: map[string]string{"serial": "20261101"}}}
	b.Run.Builder.ID = "urn:bake:key:0"
	b.Run.Builder.Version = map[string]string{"bake": "devel"}
	b.Run.Metadata = map[string]string{"invocationId": "0123456789abcdef"}
	b.Run.Byproducts = []Descriptor{{Name: "sbom.json", MediaType: "application/vnd.cyclonedx+json", Digest: map[string]string{"sha256": strings.Repeat("ef", 32)}}}
	v := Verdict{Result: "PASSED", Configuration: []Descriptor{{Name: "claims.json", Digest: map[string]string{"sha256": strings.Repeat("12", 32)}}},
		Passed: []string{"ssh: Root is refused."}, Failed: []string{}}
	subject := Descriptor{Name: "manifest.json", Digest: map[string]string{"sha256": strings.Repeat("ab", 32)}}
	var all []Statement
	for _, p := range []predicate{&b, &v} {
		s, err := Of(p, subject)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

func seal(t *testing.T, k Key, s Statement) []byte {
	t.Helper()
	line, err := k.Sign(s)
	if err != nil {
		t.Fatal(err)
	}
	return line
}

func TestSignOpen(t *testing.T) {
	k := newKey(t)
	for _, s := range statements(t) {
		line := seal(t, k, s)
		if again := seal(t, k, s); !bytes.Equal(line, again) {
			t.Error("the same statement gives another envelope")
		}
		if bytes.Count(line, []byte("\n")) != 1 || line[len(line)-1] != '\n' {
			t.Errorf("it is not one line: %q", line)
		}
		got, by, err := Ring{newKey(t).Public, k.Public}.Open(line)
		if err != nil || by.ID != k.Public.ID || got.PredicateType != s.PredicateType || !bytes.Equal(got.Predicate, s.Predicate) || got.SHA256("manifest.json") != strings.Repeat("ab", 32) {
			t.Errorf("%v, %v, %+v", err, by, got)
		}
		if got.SHA256("other") != "" {
			t.Error("there is a digest of a subject that is not there")
		}
	}
}

// TestOneByte changes every byte of an envelope in turn.
func TestOneByte(t *testing.T) {
	k := newKey(t)
	ring := Ring{k.Public}
	line := seal(t, k, statements(t)[1])
	for i := range line {
		for _, bit := range []byte{1, 0x20} {
			changed := bytes.Clone(line)
			changed[i] ^= bit
			wantUntrusted(t, ring, changed, fmt.Sprintf("byte %d, bit %#x", i, bit))
		}
	}
	for name, changed := range map[string][]byte{
		"cut": line[:len(line)-1], "longer": append(bytes.Clone(line), '\n'), "twice": append(bytes.Clone(line), line...),
		"empty": nil, "null": []byte("null\n"), "none": []byte("{}\n"), "large": bytes.Repeat([]byte{' '}, maxEnvelope+1),
	} {
		wantUntrusted(t, ring, changed, name)
	}
}

func wantUntrusted(t *testing.T, ring Ring, line []byte, what string) {
	t.Helper()
	var refused *UntrustedError
	if s, _, err := ring.Open(line); !errors.As(err, &refused) || !refused.Integrity() || s.Type != "" {
		t.Errorf("%s: %v, %+v", what, err, s)
	}
}

// A signature counts for what it was given for: this kind of text, this key, this kind
// of statement.
func TestRefused(t *testing.T) {
	k, other := newKey(t), newKey(t)
	both := statements(t)
	wantUntrusted(t, nil, seal(t, k, both[0]), "an empty ring")
	wantUntrusted(t, Ring{other.Public}, seal(t, k, both[0]), "another's key")
	if err := both[1].Read(&Build{}); err == nil {
		t.Error("a verdict was read as a build")
	}
	if err := both[0].Read(&Build{}); err != nil {
		t.Error(err)
	}

	payload, err := compact(both[0])
	if err != nil {
		t.Fatal(err)
	}
	forge := func(kind string, payload, signed []byte, id string) []byte {
		line, err := compactLine(envelope{base64.StdEncoding.EncodeToString(payload), kind, []signature{{id, base64.StdEncoding.EncodeToString(k.sign(signed))}}})
		if err != nil {
			t.Fatal(err)
		}
		return line
	}
	ring := Ring{k.Public, other.Public}
	wantUntrusted(t, ring, forge(payloadType, payload, payload, k.Public.ID), "the payload alone was signed")
	wantUntrusted(t, ring, forge("text/plain", payload, preauth("text/plain", payload), k.Public.ID), "text of another type")
	wantUntrusted(t, ring, forge(payloadType, payload, preauth(payloadType, payload), other.Public.ID), "under another's name")
	wantUntrusted(t, ring, forge(payloadType, []byte(`{"a":1}`), preauth(payloadType, []byte(`{"a":1}`)), k.Public.ID), "no statement")
	if _, _, err := ring.Open(forge(payloadType, payload, preauth(payloadType, payload), k.Public.ID)); err != nil {
		t.Errorf("a forger with the key: %v", err) // or the four before are refused for another reason
	}

	// Of two who have signed one counts.
	var e envelope
	if err := json.Unmarshal(seal(t, k, both[0]), &e); err != nil {
		t.Fatal(err)
	}
	e.Signatures = append([]signature{{"SHA256:" + strings.Repeat("0", 43), e.Signatures[0].Sig}}, e.Signatures...)
	line, err := compactLine(e)
	if err != nil {
		t.Fatal(err)
	}
	if _, by, err := (Ring{k.Public}).Open(line); err != nil || by.ID != k.Public.ID {
		t.Errorf("%v, %v", by, err)
	}
}

func TestKeys(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "data/key")
	if _, err := ReadKey(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	var all sync.WaitGroup
	ids := make([]string, 8)
	for i := range ids {
		all.Go(func() {
			if k, _, err := CreateKey(path); err == nil {
				ids[i] = k.Public.ID
			}
		})
	}
	all.Wait()
	for _, id := range ids {
		if id == "" || id != ids[0] {
			t.Errorf("%q", ids)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "data/.new-*")); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
	for file, mode := range map[string]fs.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%v, %v", info.Mode(), err)
		}
	}
	var refused *UntrustedError
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadKey(path); !errors.As(err, &refused) {
		t.Errorf("a key that others may read: %v", err)
	}
	for name, content := range map[string]string{"empty": "", "text": "secret\n", "public": "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n"} {
		bad := filepath.Join(dir, name)
		if err := os.WriteFile(bad, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadKey(bad); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ReadKey(dir); err == nil {
		t.Error("a directory is a key")
	}
}

func TestRing(t *testing.T) {
	dir := t.TempDir()
	if ring, err := ReadRing(filepath.Join(dir, "absent")); err != nil || ring != nil {
		t.Errorf("%v, %v", ring, err)
	}
	k := newKey(t)
	text, err := k.Public.PEM()
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, content []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("desk.pub", text)
	write("README", []byte("not a key"))
	write(".hidden.pub", []byte("not a key"))
	ring, err := ReadRing(dir)
	if err != nil || len(ring) != 1 || ring[0].Name != "desk" || !ring.Has(k.Public.ID) || ring.Has("") {
		t.Errorf("%v, %v", ring, err)
	}
	write("bad.pub", []byte("not a key"))
	write("two.pub", append(bytes.Clone(text), text...))
	var list diag.List
	if _, err := ReadRing(dir); !errors.As(err, &list) || len(list) != 2 {
		t.Errorf("%v", err)
	}
}

// TestOpenSSL has openssl verify what was signed, with the key that is exported, from
// the encoding of DSSE's own description.
func TestOpenSSL(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	k := newKey(t)
	dir := t.TempDir()
	var e struct {
		Payload, PayloadType string
		Signatures           []struct{ Sig string }
	}
	if err := json.Unmarshal(seal(t, k, statements(t)[0]), &e); err != nil {
		t.Fatal(err)
	}
	payload, err := base64.StdEncoding.DecodeString(e.Payload)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := base64.StdEncoding.DecodeString(e.Signatures[0].Sig)
	if err != nil {
		t.Fatal(err)
	}
	public, err := k.Public.PEM()
	if err != nil {
		t.Fatal(err)
	}
	verify := func(payload []byte) error {
		text := "DSSEv1 " + fmt.Sprint(len(e.PayloadType)) + " " + e.PayloadType + " " + fmt.Sprint(len(payload)) + " " + string(payload)
		for name, content := range map[string][]byte{"text": []byte(text), "sig": sig, "pub": public} {
			if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command(openssl, "pkeyutl", "-verify", "-pubin", "-inkey", "pub", "-rawin", "-in", "text", "-sigfile", "sig")
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	if err := verify(payload); err != nil {
		t.Errorf("openssl refuses it: %v", err)
	}
	payload[len(payload)/2] ^= 1
	if err := verify(payload); err == nil {
		t.Error("openssl accepts what was changed")
	}
}

// TestJudge has the library of the Secure Systems Lab verify both kinds of statements,
// and in-toto's own definitions read them.
func TestJudge(t *testing.T) {
	judge := filepath.Join(t.TempDir(), "judge")
	cmd := exec.Command("go", "build", "-o", judge, ".")
	cmd.Dir = "testdata/judge"
	if out, err := cmd.CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%v\n%s", err, out)
		}
		t.Skipf("it needs modules that are not here: %v\n%s", err, out)
	}
	k, other := newKey(t), newKey(t)
	dir := t.TempDir()
	opinion := func(line []byte, key Key) (string, error) {
		public, err := key.Public.PEM()
		if err != nil {
			t.Fatal(err)
		}
		for name, content := range map[string][]byte{"line": line, "pub": public} {
			if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		out, err := exec.Command(judge, filepath.Join(dir, "line"), filepath.Join(dir, "pub")).CombinedOutput()
		return string(out), err
	}
	for _, s := range statements(t) {
		line := seal(t, k, s)
		if out, err := opinion(line, k); err != nil || out != strings.Repeat("ab", 32)+" manifest.json\n" {
			t.Errorf("%s: %v\n%s", s.PredicateType, err, out)
		}
		if out, err := opinion(line, other); err == nil {
			t.Errorf("%s with another's key: %s", s.PredicateType, out)
		}
		line[len(line)/3] ^= 1 // in the payload
		if out, err := opinion(line, k); err == nil {
			t.Errorf("%s with one byte changed: %s", s.PredicateType, out)
		}
	}
}

// FuzzOpen: whatever an envelope is, nothing is believed that was not signed.
func FuzzOpen(f *testing.F) {
	k, _, err := CreateKey(filepath.Join(f.TempDir(), "key"))
	if err != nil {
		f.Fatal(err)
	}
	s, err := Of(&Verdict{Result: "PASSED"})
	if err != nil {
		f.Fatal(err)
	}
	line, err := k.Sign(s)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(line)
	f.Add([]byte(`{"payload":"","payloadType":"","signatures":null}` + "\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		if _, _, err := (Ring{k.Public}).Open(content); err == nil && !bytes.Equal(content, line) {
			t.Errorf("%q is believed", content)
		}
	})
}
