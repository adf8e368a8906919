package rollout

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A BusyError says that somebody drives.
type BusyError struct{ Name, Place string }

func (e *BusyError) Error() string {
	return fmt.Sprintf("%s: the rollout is driven by %s", e.Place, e.Name)
}

// A LostError says that the lease is gone, and with it the right to change anything.
type LostError struct{ Err error }

func (e *LostError) Error() string {
	return fmt.Sprintf("the rollout is not ours to drive any more, and what is under way is left to who takes over: %v", e.Err)
}

// Unwrap returns why.
func (e *LostError) Unwrap() error { return e.Err }

// sinceBoot is a clock that goes on while the machine sleeps.
func sinceBoot() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		return 0 // every Linux has it
	}
	return time.Duration(t.Nano())
}

// A Wheel is a rollout that is ours to drive until it is let go of.
type Wheel struct {
	ledger Ledger
	lease  time.Duration
	lost   context.CancelCauseFunc

	mutex   sync.Mutex
	record  Record
	version string
	until   time.Duration // since boot
	ended   error
}

// Read returns the record of a ledger, ErrNone when there is none.
func Read(ctx context.Context, l Ledger) (*Record, error) {
	content, _, err := l.Read(ctx)
	switch {
	case err != nil:
		return nil, err
	case content == nil:
		return nil, ErrNone
	}
	return decode(content)
}

// take takes the wheel: at once if nobody drives, and if somebody does when they have not
// written for as long as their lease lasts. change makes the record that is ours of the
// one that is there, nil for none. The context that is returned ends when the wheel is
// lost.
func take(ctx context.Context, l Ledger, name string, lease time.Duration, say func(string), change func(*Record) (*Record, error)) (*Wheel, context.Context, error) {
	content, version, err := l.Read(ctx)
	if err != nil {
		return nil, nil, err
	}
	var is *Record
	if content != nil {
		if is, err = decode(content); err != nil {
			return nil, nil, err
		}
	}
	if is != nil && is.Driver != nil {
		say(fmt.Sprintf("%s drives, or did: waiting for %s whether they go on", is.Driver.Name, is.Driver.Lease))
		if err := watch(ctx, l, *is.Driver, version); err != nil {
			return nil, nil, err
		}
	}
	fence, beat := int64(0), int64(0)
	if is != nil {
		fence, beat = is.Fence, is.Beat
	}
	ours, err := change(is)
	if err != nil {
		return nil, nil, err
	}
	token := make([]byte, 8)
	_, _ = rand.Read(token) // never fails
	ours.Fence, ours.Beat = fence+1, beat
	ours.Driver = &Driver{Name: name, Token: hex.EncodeToString(token), Lease: lease}
	driving, lost := context.WithCancelCause(ctx)
	w := &Wheel{ledger: l, lease: lease, lost: lost, record: *ours, version: version, until: sinceBoot() + lease}
	if err := w.update(driving, func(*Record) {}); err != nil {
		lost(err)
		var gone *LostError
		if errors.As(err, &gone) && errors.Is(err, ErrMoved) { // who was quicker has it
			return nil, nil, &BusyError{"somebody else, who was quicker", l.String()}
		}
		return nil, nil, err
	}
	go w.renew(driving)
	return w, driving, nil
}

// watch returns when a driver has not written for the time of its lease.
func watch(ctx context.Context, l Ledger, d Driver, version string) error {
	for end := sinceBoot() + d.Lease; sinceBoot() < end; {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(max(d.Lease/10, 10*time.Millisecond)):
		}
		_, now, err := l.Read(ctx)
		if err != nil {
			return err
		}
		if now != version {
			return &BusyError{d.Name, l.String()}
		}
	}
	return nil
}

// renew writes before the lease ends, until the context does.
func (w *Wheel) renew(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(w.lease / 3):
		}
		_ = w.update(ctx, func(*Record) {}) // which ends what must end
	}
}

// Check says whether the wheel is still ours. Ask before each change of a machine.
func (w *Wheel) Check() error {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	return w.check()
}

func (w *Wheel) check() error {
	switch {
	case w.ended != nil:
	case w.record.Driver == nil: // a renewal that waited for that would write into the next driver's record
		w.end(errors.New("it was let go of"))
	case sinceBoot() >= w.until:
		w.end(errors.New("the lease could not be renewed in time"))
	}
	return w.ended
}

func (w *Wheel) end(err error) {
	w.ended = &LostError{err}
	w.lost(w.ended)
}

// Record is a copy of what is known.
func (w *Wheel) Record() Record {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	return w.copied()
}

func (w *Wheel) copied() Record {
	r := w.record
	r.Hosts = append([]Host(nil), r.Hosts...)
	return r
}

// update changes the record, and returns when that is written. A ledger that cannot be
// reached is asked again for as long as the lease lasts.
func (w *Wheel) update(ctx context.Context, change func(*Record)) error {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	next := w.copied()
	change(&next)
	next.Beat++
	content, err := json.MarshalIndent(next, "", " ")
	if err != nil {
		return err
	}
	content = append(content, '\n')
	for {
		if err := w.check(); err != nil {
			return err
		}
		begun := sinceBoot() // the lease lasts from before the write, which others see after it
		version, err := w.write(ctx, content)
		switch {
		case err == nil:
			w.record, w.version, w.until = next, version, begun+w.lease
			return nil
		case errors.Is(err, ErrMoved):
			w.end(err)
			return w.ended
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		select {
		case <-ctx.Done():
		case <-time.After(w.lease / 20):
		}
		if w.check() != nil {
			return errors.Join(w.ended, err)
		}
	}
}

// write is the ledger's, for which one that was written and not heard of is none.
func (w *Wheel) write(ctx context.Context, content []byte) (string, error) {
	version, err := w.ledger.Write(ctx, content, w.version)
	if err == nil {
		return version, nil
	}
	is, now, unread := w.ledger.Read(ctx)
	if unread == nil && bytes.Equal(is, content) { // it has our token, and a beat that was never before
		return now, nil
	}
	return "", err
}

// letGo has the next who comes not wait.
func (w *Wheel) letGo(ctx context.Context) error {
	err := w.update(context.WithoutCancel(ctx), func(r *Record) { r.Driver = nil })
	w.lost(nil)
	var gone *LostError
	if errors.As(err, &gone) {
		return nil // that was said already
	}
	return err
}
