// Package attest is what runs in the guest: it tries the claims that are made
// about the inside of the machine, at every boot and before anything outside gets
// an answer, and says on the console what came of it.
//
// The host cannot do this for a machine that answers nobody, and a machine that
// answers before it was looked at has been reachable unlooked at. So the judge
// comes along, and what it judges with is package claim, as in bake verify.
//
//	wait     for cloud-init, if it runs in this boot, and for the services of the boot
//	try      the claims of all layers, in order, but for those about the seal
//	tidy     /usr/local/lib/bake/tidy.d/*: what was started to try them on goes away
//	seal     /usr/local/lib/bake/seal: cloud-init never runs again, no copy of the seed is left
//	try      the claims about that, which say sealed: true
//	report   /var/lib/bake/report.json, 0600
//	open     /usr/local/lib/bake/gate open: the packet filter's gate goes away
//	tell     one line on the console, the whole report on the virtio-serial port bake.attest
//
// The line is
//
//	BAKE-RESULT v1 ok plan=HEX claims=N failed=0 report=HEX end
//	BAKE-RESULT v1 fail plan=HEX claims=N failed=N report=HEX first="LAYER: CLAIM" end
//	BAKE-RESULT v1 refused reason="WHY" end
//
// where plan and report are SHA-256 of the files that were tried and written. The
// last form comes from the script that starts this program, when the program or
// the claims are not those that were baked.
//
// It promises that a machine of which one claim fails is not opened, whatever
// else goes wrong: a command that does not end, a report that cannot be written, a
// gate that does not go away. It does not try again: a claim that needs time waits
// by itself.
//
// The report holds what commands printed, which no claim makes a secret; it is for
// root all the same.
//
// # Decisions
//
// 2026-11: the claims of layers are tried while the gate is shut, one after the
// other, because a claim that restarts a service is seen by its neighbours. Those
// of layers that only look (checks.parallel) run side by side, one per processor.
//
// 2026-11: there is no attempt to resist root in the guest, who can print any
// line. The line says what this boot found out; whoever must not be believed is
// verified from outside.
package attest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"bake/internal/claim"
)

const (
	planSchema   = "bake.attest-plan/1"
	reportSchema = "bake.attest-report/1"

	// Layer is the layer that the machine attests with.
	Layer = "attest"
	// Port is the virtio-serial port that gets the whole report.
	Port = "bake.attest"
	// Program and Claims are files of the seed, and of Dir in the guest; Sums holds
	// their digests, in the form of sha256sum.
	Program = "attest"
	Claims  = "claims.json"
	Sums    = "attest.sha256"
	// Dir is where bake's programs are in the guest.
	Dir = "/usr/local/lib/bake"
	// ReportFile is where the guest keeps its last report.
	ReportFile = "/var/lib/bake/report.json"
)

// Plan is what the guest tries: the inside checks, in order.
type Plan struct {
	Schema string        `json:"schema"`
	Host   string        `json:"host"`
	Checks []claim.Check `json:"checks"`
}

// NewPlan keeps of all checks what is for the guest. It does not need to know how
// to break a claim.
func NewPlan(host string, checks []claim.Check) Plan {
	p := Plan{Schema: planSchema, Host: host}
	for _, c := range checks {
		if c.Inside != nil {
			c.Falsify = ""
			p.Checks = append(p.Checks, c)
		}
	}
	return p
}

// Report is what came of it.
type Report struct {
	Schema   string         `json:"schema"`
	Host     string         `json:"host"`
	Plan     string         `json:"plan"` // SHA-256 of the plan, in hex
	BootID   string         `json:"boot_id"`
	OK       bool           `json:"ok"`
	Problem  string         `json:"problem,omitempty"` // what went wrong beside the claims
	Guest    Guest          `json:"guest"`
	HostKeys []string       `json:"ssh_host_keys"` // in authorized_keys form
	Moments  Moments        `json:"moments"`
	Results  []claim.Result `json:"results"`
}

// Guest is what the guest says it is.
type Guest struct {
	OS        string `json:"os"`
	Kernel    string `json:"kernel"`
	CloudInit string `json:"cloud_init"`
	Systemd   string `json:"systemd"`
	RebootDue bool   `json:"reboot_due"` // an update waits for it: /run/reboot-required
}

// Moments are milliseconds since the kernel started, 0 for what has not happened.
type Moments struct {
	Closed   int64 `json:"gate_closed"`
	Network  int64 `json:"network"` // network-pre.target
	SSH      int64 `json:"sshd"`
	Trying   int64 `json:"trying"` // the boot was over, the first claim was tried
	Attested int64 `json:"attested"`
}

// Count returns how many claims failed, and the first of them: a layer's own if there is
// one, as that cloud-init or a unit failed is what follows from it.
func (r Report) Count() (failed int, first string) {
	isLayers := false
	for _, result := range r.Results {
		if result.OK {
			continue
		}
		failed++
		if own := result.Layer != claim.BootLayer && result.Layer != Layer; first == "" || own && !isLayers {
			first, isLayers = result.Layer+": "+result.Claim, own
		}
	}
	if first == "" {
		first = r.Problem
	}
	return failed, first
}

// Options say where things are, for tests; the zero value of a path is the real
// place.
type Options struct {
	Root    string        // of the guest's file system, "" for /
	Console io.Writer     // gets the line
	Wait    time.Duration // at most for cloud-init and the boot
	Poll    time.Duration // between two looks
	Each    time.Duration // at most for one command
}

// Run attests and reports whether the machine was opened. The error says that it
// was not, and why; it has been told on the console already.
func Run(ctx context.Context, planFile string, o Options) error {
	a := attestation{Options: o}
	data, err := os.ReadFile(planFile)
	if err == nil {
		err = json.Unmarshal(data, &a.plan)
	}
	switch {
	case err != nil:
	case a.plan.Schema != planSchema:
		err = fmt.Errorf("the plan has schema %q, want %q", a.plan.Schema, planSchema)
	case len(a.plan.Checks) == 0:
		err = errors.New("the plan has no claim")
	}
	if err != nil {
		return errors.Join(err, a.refuse(ctx, err))
	}
	sum := sha256.Sum256(data)
	a.report = Report{Schema: reportSchema, Host: a.plan.Host, Plan: hex.EncodeToString(sum[:])}
	return a.run(ctx)
}

type attestation struct {
	Options
	plan   Plan
	report Report
}

func (a *attestation) path(name string) string { return filepath.Join(a.Root, name) }

func (a *attestation) run(ctx context.Context) error {
	a.wait(ctx)
	a.report.Moments.Trying = a.uptime()
	fmt.Fprintf(a.Console, "\nbake: trying %d claims\n", len(a.plan.Checks))
	a.try(ctx, func(c claim.Check) bool { return !c.Inside.Sealed })
	a.tidy(ctx)
	var looking sync.WaitGroup
	looking.Go(func() { a.look(ctx) })
	failed, _ := a.report.Count()
	if failed == 0 && a.report.Problem == "" {
		// A machine that is to be looked at keeps what it was made from.
		a.script(ctx, "seal")
	}
	a.try(ctx, func(c claim.Check) bool { return c.Inside.Sealed })
	looking.Wait()
	a.report.Moments.Attested = a.uptime()
	failed, _ = a.report.Count()
	a.report.OK = failed == 0 && a.report.Problem == ""
	sum, err := a.keep()
	if err != nil {
		a.problem("keeping the report", err)
	}
	if a.report.OK {
		fmt.Fprintf(a.Console, "\nbake: every claim holds, opening\n")
		a.script(ctx, "gate", "open")
	}
	if !a.report.OK {
		a.script(ctx, "gate", "failed")
		sum, _ = a.keep() // with what went wrong since; if that cannot be kept, it is told
	}
	return a.tell(sum)
}

// problem notes what keeps the machine shut beside a claim.
func (a *attestation) problem(doing string, err error) {
	a.report.OK = false
	if a.report.Problem == "" {
		a.report.Problem = claim.Clean(doing + ": " + err.Error())
	}
}

// script runs one of the layer's scripts.
func (a *attestation) script(ctx context.Context, name string, args ...string) {
	command := a.path(filepath.Join(Dir, name))
	for _, arg := range args {
		command += " " + arg
	}
	out, exit, err := a.execute(ctx, command)
	if err == nil && exit != 0 {
		err = fmt.Errorf("exit status %d: %s", exit, out)
	}
	if err != nil {
		a.problem(strings.Join(append([]string{name}, args...), " "), err)
	}
}

// tidy lets layers take away what their claims were tried on.
func (a *attestation) tidy(ctx context.Context) {
	scripts, _ := filepath.Glob(a.path(filepath.Join(Dir, "tidy.d", "*")))
	for _, script := range scripts {
		a.script(ctx, filepath.Join("tidy.d", filepath.Base(script)))
	}
}

// try tries the claims that are wanted now and adds their results in order.
func (a *attestation) try(ctx context.Context, wanted func(claim.Check) bool) {
	var checks []claim.Check
	for _, c := range a.plan.Checks {
		if wanted(c) {
			checks = append(checks, c)
		}
	}
	results := make([]claim.Result, len(checks))
	slots := make(chan struct{}, runtime.NumCPU())
	for i := 0; i < len(checks); {
		end := i + 1 // those that run side by side
		for checks[i].Inside.Parallel && end < len(checks) && checks[end].Inside.Parallel {
			end++
		}
		var group sync.WaitGroup
		for n := i; n < end; n++ {
			slots <- struct{}{}
			group.Go(func() {
				results[n] = a.tryOne(ctx, checks[n])
				<-slots
			})
		}
		group.Wait()
		i = end
	}
	a.report.Results = append(a.report.Results, results...)
}

func (a *attestation) tryOne(ctx context.Context, c claim.Check) claim.Result {
	started := time.Now()
	out, exit, err := a.execute(ctx, c.Inside.Run)
	result := c.Try(out, exit)
	result.Took = time.Since(started).Milliseconds()
	if err != nil {
		result.OK, result.Got = false, claim.Clean(err.Error())
	}
	return result
}

// keep writes the report whole or not at all and returns its digest.
func (a *attestation) keep() (string, error) {
	data, err := a.encode()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	path := a.path(ReportFile)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", err
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".report.*") // 0600
	if err != nil {
		return "", err
	}
	defer os.Remove(file.Name())
	_, err = file.Write(data)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum[:]), os.Rename(file.Name(), path)
}

// encode writes the report on one line: a line ends it on the port.
func (a *attestation) encode() ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(a.report)
	return out.Bytes(), err
}

// tell prints the verdict, and the whole report where somebody takes it.
func (a *attestation) tell(sum string) error {
	failed, first := a.report.Count()
	verdict := Verdict{OK: a.report.OK, Plan: a.report.Plan, Claims: len(a.report.Results), Failed: failed,
		Report: sum, First: first}
	var text strings.Builder
	text.WriteString(listOf(a.report.HostKeys))
	for _, result := range a.report.Results {
		if !result.OK {
			fmt.Fprintf(&text, "bake: failed: %s: %s\n", result.Layer, result.Claim)
		}
	}
	text.WriteString(verdict.String() + "\n")
	_, err := io.WriteString(a.Console, text.String())
	a.hand()
	if !a.report.OK {
		return errors.Join(fmt.Errorf("%d of %d claims failed, first %s", failed, len(a.report.Results), first), err)
	}
	return err
}

// handTime bounds how long the other side may take to read a report.
const handTime = time.Minute

// hand gives the report to whoever is at the other end of the port. It may be
// nobody, and then a write would never end: that is no reason to wait, or to keep
// the machine shut.
func (a *attestation) hand() {
	port, err := os.OpenFile(a.path("/dev/virtio-ports/"+Port), os.O_WRONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer port.Close()
	_ = port.SetWriteDeadline(time.Now().Add(handTime)) // a file of a test has none
	if data, err := a.encode(); err == nil {
		_, _ = port.Write(data)
	}
}

// refuse leaves a machine shut about which nothing is known, but for the way in that may
// have been asked for.
func (a *attestation) refuse(ctx context.Context, why error) error {
	a.script(ctx, "gate", "failed")
	_, err := fmt.Fprintf(a.Console, "%s%s\n", listOf(a.hostKeys()), Verdict{Refused: why.Error()})
	return err
}

// listOf is a list of host keys as cloud-init prints one, which this list stands for. It
// begins on a line of its own, whatever somebody has begun to print on the console.
func listOf(keys []string) string {
	if len(keys) == 0 {
		return "\n"
	}
	return "\n-----BEGIN SSH HOST KEY KEYS-----\n" + strings.Join(keys, "\n") + "\n-----END SSH HOST KEY KEYS-----\n"
}
