package backup

import (
	"errors"
	"strings"
	"syscall"

	"github.com/minio/minio-go/v7"

	"bake/internal/lazy"
)

// fault is why a store could not do what it was asked to.
type fault struct {
	Store string // where
	Cause cause
	Said  string // what the program or the server said, "" for nothing
	Hint  string // what to do, "" for nothing that is known
	Err   error  // nil if there is none beside
}

// cause is whose fault it is.
type cause string

// The causes, each as the words of a message.
const (
	causeUnreachable cause = "the store cannot be reached"
	causeRefused     cause = "the store refuses these credentials"
	causeAbsent      cause = "there is no repository"
	causeNoBucket    cause = "there is no such bucket"
	causeLocked      cause = "another process has locked the repository"
	causePassword    cause = "the password is not the repository's"
	causeDamaged     cause = "what is stored is damaged"
	causeFull        cause = "there is no room left"
	causeStalled     cause = "nothing moved any more"
	causePartial     cause = "not all of the backup could be read"
	causeFailed      cause = "the store failed"
)

func (f *fault) Error() string {
	text := f.Store + ": " + string(f.Cause)
	if f.Said != "" {
		text += ": " + f.Said
	}
	if f.Hint != "" {
		text += " (" + f.Hint + ")"
	}
	return text
}

// Unwrap returns the error beside, and for a full disk the one that says so.
func (f *fault) Unwrap() error {
	if f.Err == nil && f.Cause == causeFull {
		return syscall.ENOSPC
	}
	return f.Err
}

// Integrity is true when the store has not got what it was given.
func (f *fault) Integrity() bool { return f.Cause == causeDamaged }

// Network is true when the store is at fault, or the way to it.
func (f *fault) Network() bool {
	switch f.Cause {
	case causeUnreachable, causeRefused, causeAbsent, causeNoBucket, causeLocked, causeStalled, causeFailed:
		return true
	}
	return false
}

// Lack is true when this machine lacks what it would need.
func (f *fault) Lack() bool {
	return f.Cause == causePassword || f.Cause == causeFull || f.Cause == causePartial
}

// sign is by what words of restic or of a server a cause is known.
type sign struct {
	words lazy.Regexp
	cause cause
	hint  string
}

// signs are in order: the first that fits counts. A repository that is absent and one
// that cannot be reached both end in the question whether it is there.
var signs = []sign{
	{lazy.Regexp(`wrong password or no key found`), causePassword, "the secret named by password: in backup.yaml is not the one it was begun with"},
	{lazy.Regexp(`(?i)no space left on device|disk quota exceeded|XMinioStorageFull|QuotaExceeded`), causeFull, ""},
	{lazy.Regexp(`repository is already locked`), causeLocked, "a lock counts as dead after 30 minutes, at once if its process was on this machine; if you know that it is: bake backup unlock"},
	{lazy.Regexp(`(?i)ciphertext verification failed|does not match id|hash mismatch|hash does not match|invalid data returned|repository contains errors|` +
		`contains errors|pack file .* (is )?(truncated|damaged|corrupt)|load.*unexpected EOF.*pack|not found in (the )?index|blob .* not found|ReadFull\(<data|file header .*(too short|invalid)|size.*(does not match|mismatch)`),
		causeDamaged, "bake backup check says what; restic(1) under repair what can be saved"},
	{lazy.Regexp(`(?i)NoSuchBucket|bucket does not exist`), causeNoBucket, "bake backup bucket --create makes it as it should be"},
	{lazy.Regexp(`(?i)InvalidAccessKeyId|access key id you provided does not exist|SignatureDoesNotMatch|request signature we calculated|Access ?Denied|status code 403|\b403 Forbidden|Permission denied \(`),
		causeRefused, "the key is wrong, or may not do this: bake backup bucket tries what it may"},
	{lazy.Regexp(`(?i)RequestTimeTooSkewed|difference between the request time and`), causeRefused, "this machine's clock is wrong"},
	{lazy.Regexp(`(?i)dial tcp|connection refused|connection reset|broken pipe|no such host|i/o timeout|TLS handshake|unexpected EOF|: EOF|EOF$|SlowDown|Service ?Unavailable|reduce your request rate|` +
		`InternalError|internal error|Bad ?Gateway|status code 5\d\d|50[0-9] [A-Z]|subprocess ssh|server unexpectedly closed|server is down|Connection closed by|Connection timed out|Could not resolve hostname|network is unreachable|server misbehaving|x509:`),
		causeUnreachable, ""},
	{lazy.Regexp(`(?i)Is there a repository at the following location|unable to open config file|repository does not exist`), causeAbsent,
		"if there never was one: bake backup init; if there was, find out where it went"},
}

// diagnose makes a fault of what a program said, and of its exit status.
func diagnose(store, said string, status int) *fault {
	f := &fault{Store: store, Cause: causeFailed, Said: essence(said)}
	for _, s := range signs {
		if s.words.MatchString(said) {
			f.Cause, f.Hint = s.cause, s.hint
			return f
		}
	}
	for code, cause := range map[int]cause{3: causePartial, 10: causeAbsent, 11: causeLocked, 12: causePassword} { // from restic 0.17 on
		if status == code {
			f.Cause = cause
		}
	}
	return f
}

var (
	noise   = lazy.Regexp(`(?i)^(is there a repository at|s3:|sftp:|rest:|/|the .unlock. command|Load\(<key|repository [0-9a-f]{8} opened|using parent|created new cache|\s*$)`)
	retries = lazy.Regexp(`^(Save|Load|List|Stat|Remove|Test)\(.*\) returned error, retrying after [^:]*: `)
)

// essence is what is worth repeating of what a program said: its last lines, without
// those that every error has and without what it repeats.
func essence(said string) string {
	var lines []string
	for line := range strings.Lines(said) {
		line = strings.TrimSpace(line)
		if noise.MatchString(line) {
			continue
		}
		line = retries.ReplaceAllString(strings.TrimPrefix(line, "Fatal: "), "")
		if len(lines) == 0 || lines[len(lines)-1] != line {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-3):], "; ")
}

// answered makes a fault of what an S3 server answered. Its code is what counts; what
// else it says is for people.
func answered(store string, err error) error {
	if err == nil {
		return nil
	}
	said := minio.ToErrorResponse(err)
	text := err.Error()
	if said.Code != "" {
		text = said.Code + ": " + text
	}
	f := diagnose(store, text, 0)
	f.Err = err
	var refused syscall.Errno
	if f.Cause == causeFailed && errors.As(err, &refused) {
		f.Cause = causeUnreachable
	}
	return f
}
