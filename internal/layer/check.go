package layer

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
	Want string // "accepted" or "refused"
}
