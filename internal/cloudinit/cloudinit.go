// Package cloudinit says what cloud-init makes of a foreign user-data file:
// which parts it finds, what becomes of each, and the one configuration that
// it merges of them.
//
// bake's own seeds need none of this: they are one #cloud-config, merged by
// package seed, where a conflict is an error. A file from elsewhere is plain,
// MIME multipart, an archive, compressed, a template; its parts replace one
// another's lists, and a part that is malformed is dropped while cloud-init
// reports success. This package follows cloud-init's user_data.py, handlers and
// mergers, bug for bug, so that what is lost is said before a machine boots.
//
// It promises
//
//   - that Config equals what cloud-init writes to its cloud-config.txt, as
//     far as this can be known here, and that Uncertain says where it cannot:
//     an #include, whose content only the guest will fetch, a template with
//     expressions, which depend on the machine, a part handler, which is a
//     program;
//   - a verdict for every part, in cloud-init's order, with its place;
//   - that Lost names every part that has no effect and every key whose value
//     the merge has dropped, with its place and the reason.
//
// Nothing is fetched, run or written.
//
// # Decisions
//
// 2026-11: exceptions of Python are errors here, and those that nothing in
// cloud-init catches are Fatal: they cost all of the user-data. The two
// releases that Debian ships (22.4 and 25.1) merge alike; they differ in the
// marker for a dropped part, in one YAML tag, and in whether a template may be
// a boothook.
package cloudinit

import (
	"fmt"

	"bake/internal/diag"
	"bake/internal/doc"
)

// Verdict is what becomes of a part. The values are the words used in messages.
type Verdict string

// The verdicts.
const (
	Merged   Verdict = "merged"            // into the configuration
	Script   Verdict = "run as a script"   // at the end of the first boot, or as often as its type says
	Boothook Verdict = "run as a boothook" // early, at every boot
	Handler  Verdict = "a part handler"    // a program that decides about parts
	Include  Verdict = "included"          // the guest fetches what it names
	Unknown  Verdict = "unknown"           // an expression of a template, or a part handler, decides in the guest
	Empty    Verdict = "empty"             // nothing is in it
	Lost     Verdict = "lost"              // cloud-init drops it
)

// A Part is one piece of the user-data, as the handlers get it.
type Part struct {
	Name    string        `json:"name"` // of the file it says it is, or cloud-init's own part-001
	Type    string        `json:"type"`
	Pos     diag.Position `json:"-"`
	Verdict Verdict       `json:"verdict"`
	Reason  string        `json:"reason,omitempty"` // of Lost; a remark on the others
	Text    string        `json:"-"`                // what the handler gets
	Config  *doc.Node     `json:"-"`                // of a part that is cloud-config, merged or not, without its merge type

	// Marked says that cloud-init from 23.1 on notes the loss in its cloud-config.txt.
	Marked bool `json:"-"`

	raw      string // the name before it became that of a file
	file     string // the file that a script becomes, below cloud-init's folders
	counted  bool   // cloud-init takes it for merged
	replaced bool   // a later script has its name
}

// A Result is what cloud-init makes of a file.
type Result struct {
	Config    *doc.Node // the merged configuration; nil when no part was merged
	Parts     []Part
	Fatal     string   // why cloud-init gives up and applies nothing at all; "" if it does not
	Uncertain []string // what cannot be known here

	file string
}

// Options say whose behaviour is wanted.
type Options struct {
	// Version is cloud-init's; the newest that is known here when empty.
	Version string
	// Fetch, if not nil, stands for what the guest would fetch for an #include.
	Fetch func(url string) ([]byte, error)
}

// old reports whether the version is one before 23.1.
func (o Options) old() bool {
	var major int
	fmt.Sscanf(o.Version, "%d", &major)
	return major > 0 && major < 23
}

// Merge reads a user-data file. The name is what messages call it. An error is
// a file of which nothing can be said; what cloud-init cannot use is no error.
func Merge(name string, data []byte, options Options) (Result, error) {
	p := processor{name: name, options: options}
	if err := p.process(data); err != nil {
		return Result{Fatal: err.Error(), Uncertain: p.uncertain, file: name}, nil
	}
	h := handlers{processor: &p, scripts: map[string]int{}}
	h.result.Parts, h.result.Uncertain = p.dropped, p.uncertain
	for _, attached := range p.attached {
		for m := range attached.Walk() {
			if err := h.part(m); err != nil {
				return Result{Fatal: err.Error(), Uncertain: h.result.Uncertain, file: name}, nil
			}
		}
	}
	h.write()
	h.result.Config = h.config
	return h.result, nil
}
