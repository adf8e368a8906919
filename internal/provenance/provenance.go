// Package provenance says who made something from what, in a form that others can
// check without bake: statements of in-toto, signed in envelopes of DSSE by a local
// ed25519 key.
//
// An envelope is one line of JSON and a newline, which is also a bundle of in-toto's:
//
//	{"payload": BASE64, "payloadType": "application/vnd.in-toto+json",
//	 "signatures": [{"keyid": ID, "sig": BASE64}]}
//
// What is signed is the pre-authentication encoding of DSSE 1:
//
//	"DSSEv1" SP LEN(payloadType) SP payloadType SP LEN(payload) SP payload
//
// The payload is a statement (https://in-toto.io/Statement/v1): subjects by name and
// SHA-256, and a predicate about them. There are three: how a generation was made (SLSA
// provenance, https://slsa.dev/provenance/v1), what trying its claims came to
// (https://in-toto.io/attestation/test-result/v0.1), and that a name points to a subject
// (urn:bake:tag:1).
//
// A private key is PKCS #8 in PEM, 0600; a public one is its SubjectPublicKeyInfo in
// PEM, as openssl pkey writes both. The id of a key is its fingerprint as ssh has it,
// SHA256:BASE64, which is what other readers of DSSE expect. Whose signatures count is a directory of public keys, NAME.pub.
//
// It promises:
//   - Who has a private key for a public one in the ring has signed what Open returns,
//     byte for byte. One changed byte of an envelope that bake wrote, be it one that
//     DSSE does not protect, is refused.
//   - The same statement and key give the same envelope: no clock, no randomness.
//   - A private key is there whole or not at all, and of two runs that make one the
//     second uses the first's. One that others may read is refused.
//
// It does not promise that what was signed is true, nor that nothing newer was signed
// since: a signature has no expiry and there is no log.
//
// # Decisions
//
// 2026-11: keys of our own and not Sigstore's keyless signing: a hypervisor without a
// way to the internet must be able to check, and there is nobody's identity to assert
// but this machine's. Would change if nights ran where a workload identity is at hand.
//
// 2026-11: the envelope must be in the form in which it was written, as manifests are.
// DSSE leaves the key's id and the spelling of the JSON open; what nobody needs to
// change is a place to hide something in.
//
// 2026-11: no time in a statement. It would make every signature another one, and the
// one who could lie about it is the one who signs. What must not go back, a tag, has a
// number instead, which the reader remembers.
package provenance

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
)

// What the parts of an envelope are called.
const (
	payloadType   = "application/vnd.in-toto+json"
	statementType = "https://in-toto.io/Statement/v1"
	buildType     = "https://slsa.dev/provenance/v1"
	verdictType   = "https://in-toto.io/attestation/test-result/v0.1"
	pointerType   = "urn:bake:tag:1"
	packedType    = "urn:bake:payload:1"
)

// maxEnvelope is far more than a machine of ten thousand packages needs.
const maxEnvelope = 16 << 20

// An UntrustedError says why something is not believed.
type UntrustedError struct{ Reason string }

func (e *UntrustedError) Error() string { return e.Reason }

// Integrity marks the error as a failure of trust, not of the world.
func (e *UntrustedError) Integrity() bool { return true }

func untrusted(format string, args ...any) error {
	return &UntrustedError{fmt.Sprintf(format, args...)}
}

// Statement says something, its predicate, about its subjects.
type Statement struct {
	Type          string          `json:"_type"`
	Subject       []Descriptor    `json:"subject"`
	PredicateType string          `json:"predicateType"`
	Predicate     json.RawMessage `json:"predicate"`
}

// Descriptor is a file, an image, a package: in-toto's ResourceDescriptor.
type Descriptor struct {
	Name        string            `json:"name,omitempty"`
	URI         string            `json:"uri,omitempty"`
	Digest      map[string]string `json:"digest,omitempty"` // by algorithm, in hex
	MediaType   string            `json:"mediaType,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Build is the predicate of how something was made.
type Build struct {
	Definition struct {
		Type         string         `json:"buildType"`
		External     map[string]any `json:"externalParameters"` // what a user has chosen
		Internal     map[string]any `json:"internalParameters,omitempty"`
		Dependencies []Descriptor   `json:"resolvedDependencies"`
	} `json:"buildDefinition"`
	Run struct {
		Builder struct {
			ID      string            `json:"id"`
			Version map[string]string `json:"version,omitempty"`
		} `json:"builder"`
		Metadata   map[string]string `json:"metadata,omitempty"`
		Byproducts []Descriptor      `json:"byproducts,omitempty"`
	} `json:"runDetails"`
}

// Verdict is the predicate of what trying something came to.
type Verdict struct {
	Result        string       `json:"result"` // PASSED or FAILED
	Configuration []Descriptor `json:"configuration"`
	Passed        []string     `json:"passedTests"`
	Failed        []string     `json:"failedTests"`
}

// Pointer is the predicate of what a tag points to. Of two statements about one tag the
// one with the greater number is the newer.
type Pointer struct {
	Tag    string `json:"tag"`
	Number int64  `json:"number"` // from 1 on
}

// Packed is the predicate of what was made of packages and trees: the subject is the disk.
type Packed struct {
	Key  string `json:"key"`  // digest of what it was made of
	Size int64  `json:"size"` // of the disk, in bytes
}

// predicate is what a statement can say.
type predicate interface{ kind() string }

func (*Build) kind() string   { return buildType }
func (*Verdict) kind() string { return verdictType }
func (*Pointer) kind() string { return pointerType }
func (*Packed) kind() string  { return packedType }

// Of makes a statement of a predicate: a Build, a Verdict, a Pointer or a Packed.
func Of(p predicate, subject ...Descriptor) (Statement, error) {
	text, err := compact(p)
	if err != nil {
		return Statement{}, fmt.Errorf("writing a statement: %w", err)
	}
	return Statement{Type: statementType, Subject: subject, PredicateType: p.kind(), Predicate: text}, nil
}

// Read returns what a statement says. That it says something else is an
// *UntrustedError: what was signed for one purpose is not taken for another.
func (s Statement) Read(into predicate) error {
	if s.PredicateType != into.kind() {
		return untrusted("it says %q, want %s", s.PredicateType, into.kind())
	}
	if err := json.Unmarshal(s.Predicate, into); err != nil {
		return untrusted("what it says cannot be read: %v", err)
	}
	return nil
}

// SHA256 returns the digest of the subject of a name, "" when there is none.
func (s Statement) SHA256(name string) string {
	for _, d := range s.Subject {
		if d.Name == name {
			return d.Digest["sha256"]
		}
	}
	return ""
}

type envelope struct {
	Payload    string      `json:"payload"`
	Type       string      `json:"payloadType"`
	Signatures []signature `json:"signatures"`
}

type signature struct {
	KeyID string `json:"keyid"`
	Sig   string `json:"sig"`
}

// preauth is what is signed: DSSE's PAE.
func preauth(kind string, payload []byte) []byte {
	return fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(kind), kind, len(payload), payload)
}

// Sign returns the envelope of a statement.
func (k Key) Sign(s Statement) ([]byte, error) {
	payload, err := compact(s)
	if err != nil {
		return nil, fmt.Errorf("writing a statement: %w", err)
	}
	return compactLine(envelope{base64.StdEncoding.EncodeToString(payload), payloadType,
		[]signature{{k.Public.ID, base64.StdEncoding.EncodeToString(k.sign(preauth(payloadType, payload)))}}})
}

// Open returns the statement in an envelope and who has signed it: somebody in the
// ring, or the error is an *UntrustedError.
func (r Ring) Open(content []byte) (Statement, Public, error) {
	var e envelope
	if err := strictly(content, &e); err != nil {
		return Statement{}, Public{}, untrusted("it is no envelope that bake has written: %v", err)
	}
	payload, err := base64.StdEncoding.Strict().DecodeString(e.Payload)
	if err != nil || e.Type != payloadType {
		return Statement{}, Public{}, untrusted("its payload is no statement of in-toto")
	}
	var others []string
	for _, s := range e.Signatures {
		sig, err := base64.StdEncoding.Strict().DecodeString(s.Sig)
		if err != nil {
			return Statement{}, Public{}, untrusted("its signature is damaged")
		}
		by, known := r.find(s.KeyID)
		if !known {
			others = append(others, short(s.KeyID))
			continue
		}
		if !by.verifies(preauth(e.Type, payload), sig) {
			return Statement{}, Public{}, untrusted("its signature is not %s's, or what it says was changed", by)
		}
		var statement Statement
		if err := json.Unmarshal(payload, &statement); err != nil || statement.Type != statementType {
			return Statement{}, Public{}, untrusted("what %s has signed is no statement of in-toto", by)
		}
		return statement, by, nil
	}
	if len(others) == 0 {
		return Statement{}, Public{}, untrusted("it is not signed")
	}
	return Statement{}, Public{}, untrusted("it is signed by the key %s, which is not among those that are trusted: %s", others[0], r)
}

// strictly reads nothing but what compactLine writes.
func strictly(content []byte, e *envelope) error {
	if len(content) > maxEnvelope {
		return errors.New("it is too large")
	}
	if err := json.Unmarshal(content, e); err != nil {
		return err
	}
	again, err := compactLine(e)
	if err == nil && !bytes.Equal(again, content) {
		return errors.New("it is spelled otherwise")
	}
	return err
}

// compact writes JSON in one form.
func compact(value any) ([]byte, error) {
	line, err := compactLine(value)
	return bytes.TrimSuffix(line, []byte("\n")), err
}

func compactLine(value any) ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(value)
	return out.Bytes(), err
}
