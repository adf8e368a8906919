// Package origin says where a base image comes from and why we believe it.
//
// A reference in a host file becomes a Target: one URL and one digest, with the
// key that vouches for them. The image itself is fetched by somebody else; here
// only the small lists of checksums and their signatures are.
//
//	ubuntu:24.04                        the newest release build; ubuntu:noble is the same
//	ubuntu:24.04@20260722               the build of that day, which does not move
//	ubuntu-minimal:24.04                the small image
//	debian:13, debian:13@20260101-1234  Debian's genericcloud image
//	https://host/x.img#sha256=HEX       a file with the digest it must have (or #sha512=)
//	./x.qcow2, ../x.qcow2, /srv/x.img   a local file: recognised here, read elsewhere
//
// The digest of a link is written as the URL's fragment because the two belong
// together: one line in a host file, nothing to forget, no quotes (in YAML a #
// starts a comment only after a blank), and a fragment is never sent to a
// server.
//
// # Why an image is believed
//
// Ubuntu signs its SHA256SUMS. The list is believed when a key whose full
// fingerprint is pinned here has signed exactly these bytes:
//
//   - The keys are embedded (the Debian package ubuntu-keyring has the same); no
//     key server, no keyring of the user, no key IDs.
//   - At least one signature is good and by a pinned key. A signature by any
//     other key is ignored: it adds nothing and takes nothing away, and a
//     publisher who changes keys signs with the old and the new one for a while.
//   - Every signature that names a pinned key must be good. A list which one of
//     its own signers disowns is damaged or worse, whatever the other one says.
//   - Good means: made over the bytes as they are (not as text) with SHA-256 or
//     better, not expired, not from the future, and by a key that was valid when
//     it signed and is valid now. Judging by the time of the signature alone
//     would let the thief of an expired key date back. A signing subkey speaks
//     for its primary key, as long as neither is expired or revoked.
//
// Debian does not sign its SHA512SUMS. The list is taken over https, so it is
// as good as the certificate of the server that sent it, and an old list cannot
// be told from a new one. This is weaker, and a Target says so in Trust. From
// the second time on the digest in bake.lock is what holds.
//
// A link is as good as the digest that was written.
//
// A mirror is only a place. For Ubuntu it may be plain http, as the signature
// is the trust; for Debian it must be https, or on this machine.
//
// # Replay
//
// An old list has a good signature for ever. The newest signature time seen of
// each series (ubuntu:24.04 is one, whatever the architecture and the mirror)
// is kept in seen.json, and an older list is refused unless AllowOlder. The same
// list signed anew, or seen with its earlier signature, is no replay. What was
// seen never moves back: allowing an older list once does not allow it next
// time. A list of a dated reference is exempt and leaves no trace: the user has
// named an old build on purpose. It must still be that build: a list that says
// it is of another day, or was signed before the day, is refused. The first list
// of a series is believed whatever its age; Target.Signed tells it.
//
// # Serials
//
// A serial is the publisher's name of a build: the day, with .1 for a second one
// (Ubuntu), or day and number (Debian). The newest build is published under a
// name that moves, so its serial has to be found. A candidate may come from
// anywhere: from the names of change logs in Ubuntu's signed list, from the
// time of its signature, from Debian's record of the build. It is believed when
// the list in the directory of that serial, under the same rules of trust, has
// the same digest for the image; the Target then has the URL which does not
// move. A mirror without dated directories leaves the URL that moves, and the
// serial only if the signed list states it.
//
// # Asking again
//
// What the servers said is kept in answers/, and the next time they are asked only
// whether the newest list and its signature have changed: two requests, without an
// answer's body, when there is no new build. A list that has not changed is verified
// again all the same, by today's clock, and seen.json counts. A server that always
// says that nothing has changed can keep back what is new, as one can that sends the
// same list for ever; Target.Signed tells how old it is.
//
// # What is refused
//
// Lists: longer than 1 MiB, empty, cut off, an HTML page, any line that is not
// digest and name, a name with a slash or twice, the name of another release.
// Only the exact name counts. Redirects: from https to http, more than five,
// with credentials in them. URLs with credentials, as they would end up in
// bake.lock. The error is an *IntegrityError when what came is not what it must
// be, and a *NetworkError when nothing came; both say what to do.
//
// # Decisions
//
// 2026-11: simplestreams is not used. Its signed index would tell sizes and
// serials, at the price of a second format and 5 MiB for each question. Would
// change if Ubuntu stopped signing SHA256SUMS.
//
// 2026-11: a missing signature is a network failure, not one of integrity: a 404
// is a fact about the server. Nothing is used without it either way.
//
// 2026-11: no retries. Two small files are asked for; whoever resolves can do it
// again, and a signature that does not fit because a mirror is being updated
// must be seen by the user once, not be polled for.
//
// 2026-11: bake.lock is JSON. It is read by people in diffs and written by bake
// only; YAML would add nothing but ways to write it differently.
//
// 2026-11: a dated list is not asked for again when the list that led to it has not
// changed: builds do not. Would change for a publisher who rewrites them.
//
// 2026-11: the state of replays is refused when it is damaged, not begun anew:
// otherwise truncating a file would be all that it takes.
package origin

// IntegrityError says that something signed, pinned or remembered is not what
// it must be. Nothing of it may be used; trying again helps only if Advice says
// so.
type IntegrityError struct {
	URL    string // what was looked at: a URL or a file
	Err    error  // the reason, with the fingerprint when a key is to blame
	Advice string // what to do
}

func (e *IntegrityError) Error() string { return e.URL + ": " + e.Err.Error() + "; " + e.Advice }

func (e *IntegrityError) Unwrap() error { return e.Err }

// Integrity returns true: the class of errors that ends with exit status 5.
func (e *IntegrityError) Integrity() bool { return true }

// NetworkError says that a file could not be had: no connection, no answer in
// time, or a status other than 200.
type NetworkError struct {
	URL    string
	Status int // of HTTP, 0 when no whole answer came
	Err    error
	Advice string // what to do
}

func (e *NetworkError) Error() string { return e.URL + ": " + e.Err.Error() + "; " + e.Advice }

func (e *NetworkError) Unwrap() error { return e.Err }

// Network returns true: the class of errors that ends with exit status 6.
func (e *NetworkError) Network() bool { return true }

// absent reports whether the server says that it does not have the file.
func (e *NetworkError) absent() bool {
	return e.Status >= 400 && e.Status < 500 && e.Status != 408 && e.Status != 429
}
