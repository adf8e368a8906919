package verify

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"bake/internal/attest"
	"bake/internal/claim"
)

const planDigest = "0000000000000000000000000000000000000000000000000000000000000001"

// attesting is a guest that has judged itself as the report says. The claims
// about its inside are those of layer taste.
func attesting(t *testing.T, report attest.Report, change func(*attest.Verdict)) *run {
	t.Helper()
	data, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	data = append(data, '\n')
	sum := sha256.Sum256(data)
	failed, first := report.Count()
	verdict := attest.Verdict{OK: report.OK, Plan: planDigest, Claims: len(report.Results), Failed: failed,
		Report: hex.EncodeToString(sum[:]), First: first}
	if change != nil {
		change(&verdict)
	}
	g := newGuest(t, whole())
	g.console = "[ 1.0] Linux\n" + verdict.String() + "\n"
	r := g.inspect(t)
	r.Falsify = false
	r.Plan.Attest = planDigest
	r.Plan.Layers = []Layer{{Name: "taste", Checks: []claim.Check{inside("echo bad > state"), ports("true"), login("ops", accepted, "true")}}}
	told := make(chan []byte, 1)
	told <- data
	r.told = told
	return r
}

// tasted is what a guest says of the one claim about its inside.
func tasted(ok bool) attest.Report {
	c := inside("")
	result := c.Try("good", 0)
	if !ok {
		result = c.Try("bad\x1b[2K", 0)
	}
	return attest.Report{OK: ok, Results: []claim.Result{result}, Guest: attest.Guest{OS: "Debian\x07\nok    ssh: forged"}, HostKeys: []string{"ssh-ed25519 AAAA"}}
}

func TestAttested(t *testing.T) {
	untold := func(r *run) { r.told = make(chan []byte) }
	for name, test := range map[string]struct {
		report  attest.Report
		verdict func(*attest.Verdict)
		change  func(*run)
		want    []bool // up, inside, ports, login
		got     string // of the claim about the inside
		err     string
	}{
		"it opened":              {report: tasted(true), want: []bool{true, true, true, true}, got: "good"},
		"it did not":             {report: tasted(false), want: []bool{true, false, true, false}, got: "bad\ufffd[2K", err: "stayed shut: 2 of 4 claims failed, first taste: The state is good."},
		"something else is off":  {report: attest.Report{Problem: "gate open: no", Results: tasted(true).Results}, want: []bool{true, true, true, false}, got: "good", err: "first gate open: no"},
		"it was refused":         {report: tasted(true), verdict: func(v *attest.Verdict) { *v = attest.Verdict{Refused: "another program"} }, want: []bool{true, false, true, false}, got: "stayed shut: another program", err: "first another program"},
		"other claims":           {report: tasted(true), verdict: func(v *attest.Verdict) { v.Plan = strings.Repeat("2", 64) }, want: []bool{true, false, true, false}, got: "it tried other claims", err: "it tried other claims"},
		"a claim was left out":   {report: attest.Report{OK: true, Results: []claim.Result{{Layer: "x", Claim: "y", OK: true}}}, want: []bool{true, false, true, true}, got: "did not try it", err: "The state is good."},
		"another command was":    {report: attest.Report{OK: true, Results: []claim.Result{{Layer: "taste", Claim: "The state is good.", Ran: "true", OK: true}}}, want: []bool{true, false, true, true}, got: "did not try it", err: "The state is good."},
		"another report is told": {report: tasted(true), verdict: func(v *attest.Verdict) { v.Report = strings.Repeat("3", 64) }, want: []bool{true, true, true, true}, got: "good"},
		"a report was not told":  {report: tasted(false), verdict: func(v *attest.Verdict) { v.OK, v.Failed, v.First = true, 0, "" }, want: []bool{true, true, true, true}, got: "good"},
		"no port":                {report: tasted(false), change: untold, want: []bool{true, false, true, false}, got: "stayed shut: taste: The state is good.", err: "stayed shut"},
	} {
		t.Run(name, func(t *testing.T) {
			r := attesting(t, test.report, test.verdict)
			r.patience = time.Millisecond
			if test.change != nil {
				test.change(r)
			} else {
				r.patience = time.Minute
			}
			if err := r.examine(context.Background()); err != nil {
				t.Fatal(err)
			}
			for i, want := range test.want {
				if got := r.report.Results[i]; got.OK != want {
					t.Errorf("%s: %v (%s), want %v", got.Claim, got.OK, got.Got, want)
				}
			}
			if got := r.report.Results[1].Got; !strings.Contains(got, test.got) {
				t.Errorf("got %q, want %q", got, test.got)
			}
			switch err := r.report.Err(); {
			case test.err == "" && err != nil, test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)):
				t.Errorf("Err = %v, want %q", err, test.err)
			}
			if strings.ContainsAny(r.report.Guest.OS, "\x07\n") {
				t.Error("a control character of the guest is in the report")
			}
		})
	}
}

// A guest that never says anything is told from one that failed, with the last
// stage that was seen.
func TestNoVerdict(t *testing.T) {
	r := attesting(t, tasted(true), nil)
	r.machine.(*guest).console = "BAKE-RESULT v1 ok plan=x end\n" // torn
	r.watch = newWatcher(nil, func(string) {})
	if _, err := r.watch.Write([]byte("[    1.2] Linux\n[ 9.1] cloud-init[1]: Cloud-init v. 25.1 running 'init-local' at\nBAKE")); err != nil {
		t.Fatal(err)
	}
	r.Deadline = 10 * time.Millisecond
	if err := r.examine(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := r.report.Err(); err == nil || !strings.Contains(r.report.Results[1].Got, `the last that was seen is "cloud-init has begun"`) {
		t.Errorf("Err = %v, got %q", err, r.report.Results[1].Got)
	}
}

// A guest that has ended while its QEMU runs is not waited for, unless it comes back.
func TestEnded(t *testing.T) {
	const kernel, panics = "[    0.0] Linux version 6\n", "[    2.7] Kernel panic - not syncing: Fatal exception in interrupt\n"
	for name, test := range map[string]struct{ console, want string }{
		"panicked":           {kernel + panics, `"the kernel runs": the kernel panicked: Fatal exception in interrupt`},
		"nothing to boot":    {"BdsDxe: No bootable option or device was found\n", "the firmware found nothing to boot"},
		"started once again": {kernel + panics + kernel, "not within"},
	} {
		t.Run(name, func(t *testing.T) {
			r := attesting(t, tasted(true), nil)
			r.machine.(*guest).console, r.machine.(*guest).noKeys = "", errors.New("no keys")
			r.watch, r.mourning = newWatcher(nil, func(string) {}), time.Millisecond
			if test.want == "not within" {
				r.Deadline = 100 * time.Millisecond
			}
			if _, err := r.watch.Write([]byte(test.console)); err != nil {
				t.Fatal(err)
			}
			if err := r.examine(context.Background()); err != nil {
				t.Fatal(err)
			}
			if got := r.report.Results[0].Got; r.report.Err() == nil || !strings.Contains(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// A machine whose kernel panics before cloud-init has begun is started once more where that
// may be the emulator's fault, and the report says so; whoever panics later, or twice, or
// where nothing is emulated, is not what was specified.
func TestOnceMore(t *testing.T) {
	const kernel, panics = "[    0.0] Linux version 6\n", "[    2.7] Kernel panic - not syncing: Fatal exception in interrupt\n"
	const begun = "[ 9.1] cloud-init[1]: Cloud-init v. 25.1 running 'init-local' at\n"
	for name, test := range map[string]struct {
		first, second string
		isReal        bool
		starts        int
		ok            bool
	}{
		"panicked, then well": {kernel + panics, kernel + begun, false, 1, true},
		"panicked twice":      {kernel + panics, kernel + panics, false, 1, false},
		"panicked later":      {kernel + begun + panics, kernel + begun, false, 0, false},
		"not emulated":        {kernel + panics, kernel + begun, true, 0, false},
		"otherwise":           {"BdsDxe: No bootable option or device was found\n", kernel + begun, false, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			well := attesting(t, tasted(true), nil)
			r := attesting(t, tasted(true), nil)
			r.machine.(*guest).console, r.machine.(*guest).noKeys = "", errors.New("no keys")
			show := func(console string) {
				r.watch = newWatcher(nil, func(string) {})
				if _, err := r.watch.Write([]byte(console)); err != nil {
					t.Fatal(err)
				}
			}
			var said []string
			r.Say, r.mourning = func(text string) { said = append(said, text) }, time.Millisecond
			show(test.first)
			starts := 0
			r.anew = func() error {
				starts++
				if show(test.second); test.ok {
					r.machine, r.told = well.machine, well.told
				}
				return nil
			}
			if test.isReal {
				r.anew = nil
			}
			if err := r.examine(context.Background()); err != nil {
				t.Fatal(err)
			}
			if err := r.report.Err(); starts != test.starts || (err == nil) != test.ok {
				t.Errorf("started %d times more, Err = %v", starts, err)
			}
			var text strings.Builder
			if err := r.report.WriteText(&text); err != nil {
				t.Fatal(err)
			}
			words := "the kernel panicked: Fatal exception in interrupt"
			if tells := strings.Contains(text.String(), "started once more: before anything of the seed ran, "+words); tells != (test.starts > 0) ||
				tells != (r.report.Again == words) || tells != strings.Contains(strings.Join(said, "\n"), "once more") {
				t.Errorf("said %q; the report:\n%s", said, text.String())
			}
		})
	}
}

// A machine that cannot be started once more is no report.
func TestOnceMoreFails(t *testing.T) {
	r := attesting(t, tasted(true), nil)
	r.machine.(*guest).console = ""
	r.watch, r.mourning = newWatcher(nil, func(string) {}), time.Millisecond
	if _, err := r.watch.Write([]byte("[    2.7] Kernel panic - not syncing: x\n")); err != nil {
		t.Fatal(err)
	}
	gone := errors.New("no QEMU")
	r.anew = func() error { return gone }
	if err := r.examine(context.Background()); !errors.Is(err, gone) {
		t.Errorf("the error is %v", err)
	}
}

// Stages are said as they are reached, and a reader of the console who goes away
// does not stop the guest.
func TestStages(t *testing.T) {
	var said []string
	w := newWatcher(gone{}, func(text string) { said = append(said, text) })
	w.started = time.Now().Add(-57 * time.Second)
	if got := w.last(); got != "nothing" {
		t.Errorf("the last stage is %q", got)
	}
	for _, part := range []string{"[    0.0", "00000] Linux version\n", "Cloud-init v. 1 finished\n"} {
		if n, err := w.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatal(n, err)
		}
	}
	if got := strings.Join(said, ", "); got != "the kernel runs after 57 s, cloud-init is done after 57 s" || w.last() != "cloud-init is done" {
		t.Errorf("said %q, the last stage is %q", got, w.last())
	}
}

type gone struct{}

func (gone) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestListen(t *testing.T) {
	ours, theirs := net.Pipe()
	told := listen(ours)
	go func() {
		_, _ = theirs.Write([]byte("{}\nmore that nobody reads\n"))
		theirs.Close()
	}()
	if got := string(<-told); got != "{}\n" {
		t.Errorf("told %q", got)
	}
}
