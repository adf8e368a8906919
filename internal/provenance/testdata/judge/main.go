// Command judge is somebody else's opinion of an envelope: judge ENVELOPE PUBLIC-KEY
// verifies it with the DSSE library of the Secure Systems Lab and holds the statement
// against in-toto's own definitions. It shares no code with bake; it is a module of its
// own, so that what it needs is nothing that bake needs.
package main

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	provenance "github.com/in-toto/attestation/go/predicates/provenance/v1"
	result "github.com/in-toto/attestation/go/predicates/test_result/v0"
	statement "github.com/in-toto/attestation/go/v1"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	"google.golang.org/protobuf/encoding/protojson"
)

func main() {
	if err := judge(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func judge(envelopePath, keyPath string) error {
	key, err := readKey(keyPath)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(envelopePath)
	if err != nil {
		return err
	}
	var envelope dsse.Envelope
	if err := json.Unmarshal(content, &envelope); err != nil {
		return err
	}
	verifier, err := dsse.NewEnvelopeVerifier(&ed25519Verifier{key})
	if err != nil {
		return err
	}
	if _, err := verifier.Verify(context.Background(), &envelope); err != nil {
		return err
	}
	payload, err := envelope.DecodeB64Payload()
	if err != nil {
		return err
	}
	var s statement.Statement
	if err := protojson.Unmarshal(payload, &s); err != nil { // refuses what the definition does not have
		return err
	}
	if err := s.Validate(); err != nil {
		return err
	}
	predicate, err := protojson.Marshal(s.GetPredicate())
	if err != nil {
		return err
	}
	switch s.GetPredicateType() {
	case "https://slsa.dev/provenance/v1":
		var p provenance.Provenance
		if err := protojson.Unmarshal(predicate, &p); err != nil {
			return err
		}
		if err := p.Validate(); err != nil {
			return err
		}
	case "https://in-toto.io/attestation/test-result/v0.1":
		var r result.TestResult // its definition has no more rules than its fields
		if err := protojson.Unmarshal(predicate, &r); err != nil {
			return err
		}
	default:
		return errors.New("unknown predicate " + s.GetPredicateType())
	}
	for _, subject := range s.GetSubject() {
		fmt.Println(subject.GetDigest()["sha256"], subject.GetName())
	}
	return nil
}

func readKey(path string) (ed25519.PublicKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("no PEM")
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(ed25519.PublicKey)
	if !ok {
		return nil, errors.New("no ed25519 key")
	}
	return key, nil
}

type ed25519Verifier struct{ key ed25519.PublicKey }

func (v *ed25519Verifier) Verify(_ context.Context, data, sig []byte) error {
	if !ed25519.Verify(v.key, data, sig) {
		return errors.New("the signature does not fit")
	}
	return nil
}

func (v *ed25519Verifier) KeyID() (string, error)   { return "", nil }
func (v *ed25519Verifier) Public() crypto.PublicKey { return v.key }
