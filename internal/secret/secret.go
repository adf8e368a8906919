// Package secret finds the secrets that a host file names.
//
// A host file is read by many and kept in git, so it says where a secret is and
// never what it is:
//
//	secrets:
//	  tailscale: {file: secrets/tailscale}          relative to the host file, for its owner's eyes
//	  registry:  {env: REGISTRY_TOKEN}              a variable of bake's environment
//	  db:        {age: db.age, identity: key.txt}   encrypted with age; identity is optional
//	  model:     {command: [sops, decrypt, m.yaml]} what a program prints, run without a shell
//
// Without identity it is the file that $BAKE_AGE_IDENTITY names, or
// ~/.config/bake/age.txt. A command runs in the host file's directory with
// bake's own environment and nothing on its standard input; one newline at the
// end of what it prints is not part of the secret, everything else is. Files and
// variables are taken as they are.
//
// It promises that a Value shows its content to whoever calls Reveal and to
// nobody else: not to fmt with any verb, not to JSON, XML or text/template, not
// inside another type, not in an error. References are resolved when asked, so
// that what only looks at a host file needs none of its secrets. What can be
// known without running a program is a diag.List with the place in the host
// file, and all of it comes before the first program runs; a program that fails
// is a *CommandError, one that is missing a *tool.MissingError.
//
// It refuses a secret that is written into the host file, that is empty or larger than
// 64 KiB, and a file or identity that others than its owner can read or write. It
// does not show the line of the host file on which somebody wrote a secret, nor
// what a program that failed has printed: only its complaints.
//
// # Decisions
//
// 2026-11: commands instead of clients for sops, pass, 1Password and Vault: each
// has a program which its user has configured already, and sops alone would bring
// 120 modules. age is built in, because it is small and needs no agent.
//
// 2026-11: a link to a file is followed, as secret stores link to where they
// decrypted to; what counts is the file that is opened.
//
// 2026-11: a Value keeps its content in a function and not in a field. Package
// fmt reads the unexported fields of a type that it is asked to print without
// asking the methods of what it finds there; it cannot call a function.
//
// 2026-11: memory is not wiped. Go moves and copies as it likes, and a promise
// that holds for one of the copies would be none. Would change with runtime/secret.
package secret

import (
	"fmt"
	"io"
)

// maxSize bounds a secret, in bytes. Larger things are no secrets but data.
const maxSize = 64 << 10

// A Value is a secret. It cannot be printed or encoded: see Reveal.
type Value struct {
	Name    string
	content func() []byte
}

// New makes a value. It is for tests and for who got a secret elsewhere.
func New(name string, content []byte) Value {
	return Value{Name: name, content: func() []byte { return content }}
}

// Reveal returns the content. Whoever calls it answers for where it goes.
func (v Value) Reveal() []byte {
	if v.content == nil {
		return nil
	}
	return v.content()
}

// String says which secret it is.
func (v Value) String() string { return "secret " + v.Name }

// Format prints what String says, whatever the verb and its flags.
func (v Value) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, v.String()) }

// GoString is what String says.
func (v Value) GoString() string { return v.String() }

// MarshalText makes JSON, XML and the like say what String says.
func (v Value) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// MarshalJSON says what String says.
func (v Value) MarshalJSON() ([]byte, error) { return fmt.Appendf(nil, "%q", v.String()), nil }
