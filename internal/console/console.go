// Package console reads what a machine prints on its serial console.
//
// The console is the one channel that is wired to the hypervisor and to nothing
// else: what comes there comes from this machine, whoever is on the network. It is
// also written by the machine, so it is foreign bytes: lines are bounded and clean
// of whatever drives a terminal before anything is read from them.
//
// A console is understood line by line, whole lines only:
//
//	BdsDxe: starting Boot0001 ...                 UEFI: a boot begins
//	[    0.000000] Linux version ...              the kernel: a boot begins, unless the firmware began it
//	[   12.345678] ...                            the guest's clock
//	Cloud-init v. 25.1.4 running 'init' at ... Up 9.53 seconds.
//	bake: trying 24 claims                        see package attest, as for what follows
//	-----BEGIN SSH HOST KEY KEYS----- ... -----END SSH HOST KEY KEYS-----
//	bake: failed: LAYER: CLAIM
//	BAKE-RESULT v1 ...
//	reboot: Power down; Kernel panic - not syncing: ...; You are in emergency mode
//
// It promises that a Reading is about one boot, the last that the console shows: a
// verdict, keys and failures of the boot before are forgotten as soon as another
// begins. It refuses half lines, and verdicts into which something else was
// printed.
//
// # Decisions
//
// 2026-11: a restart is known by what firmware and kernel print first. A guest
// that prints neither (quiet, no UEFI on the serial port) restarts unseen until it
// tries its claims again, which also ends the earlier verdict.
package console

import (
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"

	"bake/internal/attest"
	"bake/internal/lazy"
)

const (
	tailLines = 15      // kept for messages
	maxLine   = 4 << 10 // bytes that are read of a line
	maxFailed = 500     // claims that are listed
	maxSaid   = 20      // other lines of bake's programs
)

// Tail returns the last of some lines, each on a line of its own and marked, for
// the end of a message.
func Tail(lines []string) string {
	return "\n  | " + strings.Join(lines[max(0, len(lines)-tailLines):], "\n  | ")
}

// Reading is what a console has told of the boot that it shows last.
type Reading struct {
	Boots   int             // beginnings of a boot that the console shows; 0 when what is there begins in the middle
	Stages  []Stage         // that were reached, in order
	Uptime  float64         // seconds: the guest's clock when it last told it; 0 when it has not
	Trying  int             // claims that the guest has set out to try
	Verdict *attest.Verdict // nil without one
	IsTorn  bool            // there is a verdict, and nobody can read it
	Failed  []string        // "LAYER: CLAIM" of those that the guest says failed
	Said    []string        // what else bake's programs in the guest have printed
	Keys    []ssh.PublicKey // the ssh host keys of the last complete list
	End     string          // how it ended or where it hangs, "" as long as nothing says so
	IsOff   bool            // End is that it was switched off in good order

	isPanic bool // End is a panic of the kernel
}

// Read returns what a whole console has told.
func Read(text string) Reading {
	var r Reader
	_, _ = r.Write([]byte(text)) // never fails
	return r.now
}

// Reader makes a Reading of what is written to it. The zero value is ready.
type Reader struct {
	Reached func(Stage) // is told each stage as it is reached; may be nil

	now     Reading
	reached int // stages up to here, in the table
	plain   Plain
	line    []byte
	list    []byte // of host keys, as far as it has come; nil outside of one
	tail    []string
}

// Write takes what came next, cut anywhere. It never fails.
func (r *Reader) Write(p []byte) (int, error) {
	for _, b := range r.plain.Filter(p) {
		switch {
		case b == '\n':
			r.read(string(r.line))
			r.line = r.line[:0]
		case len(r.line) < maxLine:
			r.line = append(r.line, b)
		}
	}
	return len(p), nil
}

// Reading returns what has been told so far.
func (r *Reader) Reading() Reading { return r.now }

// Tail returns the last complete lines that are not empty, as the function of that
// name; "" before the first.
func (r *Reader) Tail() string {
	if len(r.tail) == 0 {
		return ""
	}
	return Tail(r.tail)
}

var (
	bootLoader = lazy.Regexp(`^BdsDxe: (?:loading|starting) `)
	linux      = lazy.Regexp(`^\[ *0\.0+\](?:\[[^\]]*\])? Linux version |^Linux version `)
	restart    = lazy.Regexp(`(?:^|\] ?)reboot: Restarting system`)
	clocks     = []lazy.Regexp{lazy.Regexp(`^\[ *(\d{1,9}\.\d{1,6})\]`), lazy.Regexp(` Up (\d{1,9}\.\d{1,6}) seconds`)}
	trying     = lazy.Regexp(`^bake: trying (\d{1,6}) claims`)
)

func (r *Reader) read(line string) {
	if strings.TrimSpace(line) != "" {
		r.tail = append(r.tail[max(0, len(r.tail)-tailLines+1):], line)
	}
	if strings.Contains(line, "reboot: ") && restart.MatchString(line) {
		r.forget()
		return
	}
	r.begin(line)
	uptime := 0.0
	for _, clock := range clocks {
		if m := clock.FindStringSubmatch(line); m != nil {
			uptime, _ = strconv.ParseFloat(m[1], 64) // the pattern has checked it
			r.now.Uptime = uptime
			break
		}
	}
	r.keys(line)
	r.bake(line)
	for _, end := range ends {
		if !strings.Contains(line, end.has) {
			continue
		}
		if m := end.pattern.FindStringSubmatch(line); m != nil {
			words := strings.Fields(end.words + strings.Join(m[1:], ""))
			r.now.End, r.now.IsOff, r.now.isPanic = strings.Join(words, " "), end.is == off, end.is == panicked
		}
	}
	r.stage(line, uptime)
}

// forget what was told of the boot before.
func (r *Reader) forget() {
	r.now, r.reached, r.list = Reading{Boots: r.now.Boots}, 0, nil
}

// begin notices that a boot begins.
func (r *Reader) begin(line string) {
	isLoader, isLinux := bootLoader.MatchString(line), strings.Contains(line, "Linux version ") && linux.MatchString(line)
	if isLoader && (r.reached > byFirmware || r.now.End != "") || isLinux && (r.reached >= byKernel || r.now.End != "") {
		r.forget()
	}
	if (isLoader || isLinux) && r.reached == 0 {
		r.now.Boots++
	}
}

// keys collects a list of host keys.
func (r *Reader) keys(line string) {
	if strings.Contains(line, keysBegin) {
		r.list = []byte{}
	}
	if r.list == nil || len(r.list) > hostKeyLimit {
		return
	}
	r.list = append(append(r.list, line...), '\n')
	if strings.Contains(line, keysEnd) {
		if keys, err := HostKeys(string(r.list)); err == nil {
			r.now.Keys = keys
		}
		r.list = nil
	}
}

// bake reads what programs of bake's print.
func (r *Reader) bake(line string) {
	if strings.Contains(line, "BAKE-RESULT v1 ") {
		if verdict, ok := attest.LastVerdict(line); ok {
			r.now.Verdict, r.now.IsTorn = &verdict, false
			r.now.End, r.now.IsOff, r.now.isPanic = "", false, false // somebody has helped it on
		} else {
			r.now.IsTorn = r.now.Verdict == nil
		}
		return
	}
	words, ok := strings.CutPrefix(line, "bake: ")
	if !ok {
		return
	}
	if m := trying.FindStringSubmatch(line); m != nil {
		r.now.Trying, _ = strconv.Atoi(m[1])
		r.now.Verdict, r.now.IsTorn, r.now.Failed = nil, false, nil
		return
	}
	if failed, ok := strings.CutPrefix(words, "failed: "); ok {
		if len(r.now.Failed) < maxFailed {
			r.now.Failed = append(r.now.Failed, failed)
		}
	} else if len(r.now.Said) < maxSaid {
		r.now.Said = append(r.now.Said, words)
	}
}

// stage notes how far the boot has come: it never goes back.
func (r *Reader) stage(line string, uptime float64) {
	for i := r.reached; i < len(stages); i++ {
		if !stages[i].pattern.MatchString(line) {
			continue
		}
		r.reached = i + 1
		reached := Stage{Name: stages[i].name, Words: stages[i].words, Uptime: uptime}
		r.now.Stages = append(r.now.Stages, reached)
		if r.Reached != nil {
			r.Reached(reached)
		}
		return
	}
}
