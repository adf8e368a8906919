package verify

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"bake/internal/attest"
	"bake/internal/claim"
	"bake/internal/console"
)

const (
	maxTold  = 4 << 20          // bytes of a guest's report
	tellTime = 30 * time.Second // from the line on the console to the end of the report

	// mournTime is what a guest has to come back after its console said that it has
	// ended: a kernel told to panic=10 starts again.
	mournTime = 30 * time.Second
)

// shutError says that the guest did not open.
type shutError struct{ why string }

func (e *shutError) Error() string { return "the machine stayed shut: " + e.why }

// listen takes the guest's report off its port, while the guest boots: a port that
// nobody reads holds the guest up.
func listen(port net.Conn) <-chan []byte {
	told := make(chan []byte, 1)
	go func() {
		line, err := bufio.NewReader(io.LimitReader(port, maxTold)).ReadBytes('\n')
		if err == nil {
			told <- line
		}
		_, _ = io.Copy(io.Discard, port)
	}()
	return told
}

// hear waits until the guest has judged itself, and reads its report. The error is
// a *shutError when it did not open, or says why nothing was heard.
func (r *run) hear(ctx context.Context) error {
	verdict, err := r.verdict(ctx)
	if err != nil {
		return fmt.Errorf("no verdict of its own, the last that was seen is %q: %w", r.watch.last(), err)
	}
	r.report.Attestation = attested
	if verdict.Refused != "" {
		return r.shut(verdict.Refused)
	}
	if verdict.Plan != r.Plan.Attest {
		return r.shut("it tried other claims than this generation's")
	}
	r.read(ctx, verdict)
	if !verdict.OK {
		return r.shut(verdict.First)
	}
	return nil
}

func (r *run) verdict(ctx context.Context) (attest.Verdict, error) {
	for {
		if _, err := r.machine.WaitConsole(ctx, attest.Line.Compiled()); err != nil {
			return attest.Verdict{}, err
		}
		if verdict := console.Read(r.machine.Console()).Verdict; verdict != nil {
			return *verdict, nil
		}
		select { // another program wrote into that line: there is no other, or not yet
		case <-ctx.Done():
			return attest.Verdict{}, context.Cause(ctx)
		case <-time.After(time.Second):
		}
	}
}

// mourn gives a guest up that has ended without its QEMU having done so: whose
// kernel panicked, whose firmware found nothing to boot, which waits for somebody at
// its console. Nobody will come.
func mourn(ctx context.Context, watch *watcher, mourning time.Duration, giveUp context.CancelCauseFunc) {
	if watch == nil {
		return
	}
	look := time.NewTicker(max(mourning/30, time.Millisecond))
	defer look.Stop()
	for since := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		switch end := watch.end(); {
		case end == "":
			since = time.Now()
		case time.Since(since) >= mourning:
			giveUp(errors.New(end))
			return
		}
	}
}

func (r *run) shut(why string) error {
	r.report.Attestation = why
	return &shutError{why}
}

// read takes the whole report, if it is the one that the line speaks of. Without
// it the claims are tried from here.
func (r *run) read(ctx context.Context, verdict attest.Verdict) {
	ctx, cancel := context.WithTimeout(ctx, r.patience)
	defer cancel()
	var report attest.Report
	select {
	case <-ctx.Done():
		return
	case data := <-r.told:
		sum := sha256.Sum256(data)
		// A report that could not be kept has no digest.
		if verdict.Report != "" && verdict.Report != hex.EncodeToString(sum[:]) ||
			json.Unmarshal(bytes.TrimSpace(data), &report) != nil || report.OK != verdict.OK {
			return
		}
	}
	r.guest = &report
	r.report.Moments = report.Moments
	for to, from := range map[*string]string{&r.report.Guest.OS: report.Guest.OS, &r.report.Guest.Kernel: report.Guest.Kernel,
		&r.report.Guest.CloudInit: report.Guest.CloudInit, &r.report.Guest.Systemd: report.Guest.Systemd} {
		*to = claim.Line(from)
	}
	r.report.Guest.RebootDue = report.Guest.RebootDue
	for _, key := range report.HostKeys {
		r.report.HostKeys = append(r.report.HostKeys, claim.Line(key))
	}
}

// attested is what the guest found out about a claim.
func (r *run) attested(c claim.Check) Result {
	for _, result := range r.guest.Results {
		if result.Layer == c.Layer && result.Claim == c.Claim && result.Ran == c.Inside.Run {
			result.Where, result.Want, result.Got = "inside", claim.Clean(result.Want), claim.Clean(result.Got)
			return Result{Result: result}
		}
	}
	return Result{Result: claim.Result{Layer: c.Layer, Claim: c.Claim, Where: "inside", Ran: c.Inside.Run,
		Got: "the guest did not try it"}}
}

// watcher reads a console as it grows and says which stage the boot has reached.
type watcher struct {
	to      io.Writer // gets a copy; may be nil
	say     func(string)
	started time.Time

	mutex   sync.Mutex
	reader  console.Reader
	opening time.Time // when the guest said that it opens; zero before
}

func newWatcher(to io.Writer, say func(string)) *watcher {
	w := &watcher{to: to, say: say, started: time.Now()}
	w.reader.Reached = func(s console.Stage) {
		if s.Name == console.Opening {
			w.opening = time.Now()
		}
		w.say(fmt.Sprintf("%s after %d s", s.Words, int(time.Since(w.started).Seconds())))
	}
	return w
}

func (w *watcher) Write(p []byte) (int, error) {
	if w.to != nil {
		if _, err := w.to.Write(p); err != nil {
			w.to = nil
		}
	}
	w.mutex.Lock()
	defer w.mutex.Unlock()
	return w.reader.Write(p)
}

// opened is when the guest said that it opens, the zero time if it has not.
func (w *watcher) opened() time.Time {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	return w.opening
}

// end is how the boot has ended or where it hangs, "" while it goes on.
func (w *watcher) end() string {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	return w.reader.Reading().End
}

// panickedEarly is how the kernel panicked before anything of the seed's ran, or "".
func (w *watcher) panickedEarly() string {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	return w.reader.Reading().PanickedEarly()
}

// last names the stage that was reached, for a boot that ends there.
func (w *watcher) last() string {
	if w != nil {
		w.mutex.Lock()
		defer w.mutex.Unlock()
		if stages := w.reader.Reading().Stages; len(stages) > 0 {
			return stages[len(stages)-1].Words
		}
	}
	return "nothing"
}
