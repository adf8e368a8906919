// Package layer loads a layer, binds its parameters and renders it.
//
// A layer is a folder that an auditor reads in one screen: what it defends
// against, the cloud-config and files that do it, and the claims that prove
// it, each with the command that must break it.
//
//	layers/ufw/layer.yaml             the whole story, keys in a fixed order
//	layers/ufw/files/etc/...          guest files; NAME.tmpl is a text/template
//
//	layer         equals the folder's name
//	replaces      the same name, when a user's layer takes a built-in one's place
//	summary       what it does, one line
//	threat        what it defends against, or "none" for mere convenience
//	refs          man pages, benchmark sections
//	requires      layers that must be present; they come first
//	after         layers that come first if they are present
//	params        name: {type, default, min, max, of, help}; no default: required
//	packages      Debian packages it needs, and what these only recommend; a|b: the first
//	              that the image's archives have
//	payload       what the payload must have beside them: openclaw
//	state         directories that must outlive the root disk: a list of PATH, or PATH: the
//	              number of the user whose alone it is, the same after every rebuild
//	logins        accounts that it makes for others to log in by a key, confined by its
//	              own rules for sshd
//	files         guest path: {mode, owner, when} where it is not 0644 root:root early
//	cloud-config  cloud-init's own keys
//	domain        what the machine must have: share: {dir, tag, readonly}
//	checks        inside and outside, see claim.Check; parallel: true if the commands
//	              inside only look, and may run beside those of other such layers;
//	              sealed: true beside a claim that holds only when no copy of the seed
//	              is left and cloud-init never runs again
//
// Parameters enter a layer in two ways only. ((name)) in a scalar of the parsed
// YAML is replaced after parsing, so a value can never become YAML structure; a
// scalar that is nothing but ((name)) takes the value's own type, and a list
// spliced into a list. {{.name}} in a template is the typed value. A free text
// (type string) has no place in a shell command, in part of a scalar or bare in
// a template: there it must go through a quoting function, as in
// {{shell .motd}}. Parameters of the host itself: host.name, host.secrets (names),
// host.state (PATH or PATH:OWNER of all its layers), host.logins (accounts of all its
// layers), admin.name, admin.keys.
//
// A parameter of the type secret is given the name of one of the host's secrets
// and is, in the layer, the path of the file that has it in the guest,
// /etc/credstore/NAME, or "" for none: no layer can see what a secret is.
//
// When a file is written: "boot", before the first command of bootcmd and again
// at every boot, for what bootcmd itself runs; "early", by write_files before
// the network is up; "late", at the end of the first boot, for files whose owner
// does not exist earlier.
//
// It promises that a layer which loads has a claim for every check and a
// falsify for every claim. It refuses control flow, unknown keys and
// parameters, keys out of order, a file without a place in the tree, a file
// mode that others may write to.
//
// # Decisions
//
// 2026-11: three times instead of the two (early, late) first planned. cloud-init
// runs bootcmd before write_files, so a script that closes the firewall before
// the network exists cannot come from write_files.
//
// 2026-11: free text is handed to templates as a value that text/template can
// not print. Forgetting the quoting function is then an error at build time,
// not an injection at first boot.
package layer

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"sync"

	"bake/internal/claim"
	"bake/internal/doc"
)

// A Layer is a loaded layer before its parameters are bound.
type Layer struct {
	Name     string
	Summary  string
	Threat   string // "" when the layer says none
	Refs     []string
	Requires []string
	After    []string
	Params   []Param
	Packages []string
	Payload  []string
	State    []StateDir
	Logins   []string
	Builtin  bool
	Origin   string // folder as messages call it, e.g. "layers/ufw"

	cloudConfig *doc.Node
	domain      *doc.Node
	checks      *doc.Node
	files       []template
	node        *doc.Node
}

// OpenClaw is what a layer's payload can have: the directory of that name with
// OpenClaw and its Node.
const OpenClaw = "openclaw"

// When says at which moment of a boot a file is written.
type When string

// The moments, see the package comment.
const (
	Boot  When = "boot"
	Early When = "early"
	Late  When = "late"
)

// A File is a file in the guest.
type File struct {
	Path    string // absolute
	Mode    fs.FileMode
	Owner   string // user:group
	When    When
	Content []byte
	Origin  string `json:"-"` // the layer's file, for messages
	Source  []byte `json:"-"` // what that file has: Content before it was filled in
}

// Rendered is a layer with its parameters bound: plain data, nothing left to
// decide.
type Rendered struct {
	Name        string
	Summary     string
	Threat      string
	Refs        []string  `json:",omitempty"`
	CloudConfig *doc.Node // a Map, or nil
	Files       []File    // sorted by path
	Packages    []string
	Payload     []string   // what else the payload must have
	State       []StateDir `json:",omitempty"` // what outlives the root disk
	Shares      []Share    // what it needs from the machine
	Checks      []claim.Check

	emitted *emitted // CloudConfig, nil for one that was made by hand
}

// emitted is a tree as text, once there is need of it: the digest of a layer is asked for
// several times, and most of it is this.
type emitted struct {
	node *doc.Node
	once sync.Once
	text []byte
	err  error
}

func (r Rendered) emit() (string, error) {
	e := r.emitted
	if e == nil || e.node != r.CloudConfig { // it was made by hand
		text, err := doc.Emit(r.CloudConfig)
		return string(text), err
	}
	e.once.Do(func() { e.text, e.err = doc.Emit(e.node) })
	return string(e.text), e.err
}

// Digest returns the SHA-256, in hex, of all that the layer puts into the
// guest, needs from the machine or claims about it. It does not depend on where the layer
// was loaded from.
func (r Rendered) Digest() (string, error) {
	config := ""
	if r.CloudConfig != nil {
		text, err := r.emit()
		if err != nil {
			return "", err
		}
		config = text
	}
	parts := []any{r.Name, config, r.Files, r.Packages, r.Checks}
	if len(r.Shares) > 0 {
		parts = append(parts, r.Shares)
	}
	if len(r.Payload) > 0 {
		parts = append(parts, r.Payload)
	}
	if len(r.State) > 0 {
		parts = append(parts, r.State)
	}
	content, err := json.Marshal(parts)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:]), nil
}
