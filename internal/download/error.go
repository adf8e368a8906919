package download

import (
	"errors"
	"fmt"
	"time"
)

// An IntegrityError says that what came is not what was wanted, or came on a
// way that cannot be trusted. Nothing of it has the digest's name.
type IntegrityError struct {
	URL    string // as wanted, without credentials and query
	Got    string // a phrase
	Want   string // a phrase
	Advice string // what to do, a clause
}

func (e *IntegrityError) Error() string {
	return fmt.Sprintf("downloading %s: got %s, expected %s: %s", e.URL, e.Got, e.Want, e.Advice)
}

// Integrity marks the error as a failure of trust, not of the world.
func (e *IntegrityError) Integrity() bool { return true }

// A NetworkError says that the file did not come, and that asking again did not
// help or would not.
type NetworkError struct {
	URL    string // as wanted, without credentials and query
	Err    error  // what the server or the network said last
	Advice string // what to do, a clause
}

func (e *NetworkError) Error() string {
	return fmt.Sprintf("downloading %s: %v: %s", e.URL, e.Err, e.Advice)
}

// Unwrap returns what the server or the network said last.
func (e *NetworkError) Unwrap() error { return e.Err }

// Network marks the error as one of the network or of a server.
func (e *NetworkError) Network() bool { return true }

// locate adds the URL to an error, in the one place where it is known as it may
// be shown.
func locate(err error, at string) error {
	var wrong *IntegrityError
	var network *NetworkError
	switch {
	case errors.As(err, &wrong):
		wrong.URL = at
		return err
	case errors.As(err, &network):
		network.URL = at
		return err
	}
	return fmt.Errorf("downloading %s: %w", at, err)
}

// A transient error is a reason to ask again.
type transient struct {
	err   error
	after time.Duration // what Retry-After asks for, 0 if nothing
}

func (t *transient) Error() string { return t.err.Error() }
func (t *transient) Unwrap() error { return t.err }
