// Package claim is what bake says of a machine and how it is judged: a sentence,
// the observation that proves it and the verdict.
//
// It is a package of its own, without any other of bake's and with the standard
// library alone, because the guest judges itself with it before it opens: what
// runs there is the code that runs here.
//
// A claim that could not be tried has failed: what was not seen is not so. What a
// guest says is data; Clean makes it fit for a terminal and a report.
package claim

// A Check is one claim of a layer and the observation that proves it.
// Exactly one of Inside and Outside is set.
type Check struct {
	Layer   string
	Claim   string // an English sentence, parameters filled in
	Inside  *Inside
	Outside *Outside
	Falsify string // shell command, run as root in the guest, after which the claim must fail
}

// Inside is a command that runs as root in the guest. Exactly one matcher is
// set; all matchers but Exit demand exit status 0 as well.
type Inside struct {
	Run   string  // /bin/sh command line
	Is    *string // standard output, trailing newlines removed, equals this
	Has   *string // standard output has this as a substring
	Lacks *string // standard output lacks this substring
	Exit  *int    // exit status equals this
	// The command only looks, so it may run beside others of which this is said.
	Parallel bool `json:",omitempty"`
	// It holds only of a machine that is sealed: no copy of the seed is left in it, and
	// cloud-init never runs again.
	Sealed bool `json:",omitempty"`
}

// Outside is an observation from another machine on the guest's network.
// Exactly one of the fields is set.
type Outside struct {
	TCP  *Ports
	SSH  *Login
	None string // why nothing can be seen from outside
}

// Ports lists TCP ports that answer a connection attempt and ports that do not.
// Closed means filtered: neither accepted nor refused, no answer at all.
type Ports struct {
	Open   []int
	Closed []int
}

// Login is an attempt to log in over ssh.
type Login struct {
	User string
	With string // "key": a key that is in the user's authorized keys; "password"; "none"
	Want string // "accepted", "refused", or "confined": accepted, and then nothing that the user asks for is done
}
