package verify

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"bake/internal/claim"
)

const (
	booted = "booted"        // the snapshot's name
	looks  = 5               // at a claim that still holds after its falsify
	pause  = 3 * time.Second // between them; under emulation sshd needs one to reload
)

// falsify makes every claim that held wrong and demands that it fails. The
// error says that the machine could not be saved or restored.
func (r *run) falsify(ctx context.Context) error {
	if err := r.machine.Snapshot(ctx, booted); err != nil {
		return fmt.Errorf("falsifying: %w", err)
	}
	if r.serial != nil && r.serial.isLost {
		r.serial.isServed = false // and would be lost again after each Restore
	}
	barred, isChanged := r.noLogin, false
	for i, check := range r.checks {
		result := &r.report.Results[i]
		switch {
		case !result.OK:
			continue
		case result.Claim == claimUp:
			result.After = "no falsify: what the console has said cannot be taken back"
			continue
		case result.Claim == claimExposure:
			result.After = "no falsify: what was answered cannot be taken back"
			continue
		}
		if isChanged {
			if err := r.machine.Restore(ctx, booted); err != nil {
				return fmt.Errorf("falsifying: %w", err)
			}
			if r.serial != nil {
				r.serial.isLost = false
			}
		}
		r.Stage(fmt.Sprintf("%s: falsifying %s: %s", r.Plan.Host, check.Layer, check.Claim))
		started := time.Now()
		r.noLogin = barred
		ok := r.tryFalsified(ctx, check, result)
		r.leave()
		isChanged = true
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		result.Seconds = math.Round(time.Since(started).Seconds()*10) / 10
		result.Falsify, result.Falsified = check.Falsify, &ok
		if ok {
			r.report.Falsified++
		} else {
			r.report.Passed--
			r.report.Failed++
		}
	}
	return nil
}

// tryFalsified runs one falsify command and says whether the claim then was
// seen to fail.
func (r *run) tryFalsified(ctx context.Context, check claim.Check, result *Result) bool {
	if check.Falsify == "" {
		result.After = "this check names no falsify"
		return false
	}
	if err := r.enter(ctx); err != nil {
		result.After = fmt.Sprintf("its falsify was not run, nobody can log in: %v", err)
		return false
	}
	command := strings.TrimSpace(check.Falsify)
	out, exit, err := r.execute(ctx, command)
	if exit != 0 {
		result.After = fmt.Sprintf("its falsify failed: %s: exit status %d: %s", command, exit, out)
		return false
	}
	seen, against := r.look(ctx, check)
	switch {
	case seen.OK && err != nil:
		result.After = fmt.Sprintf("it still held, and its falsify was lost sight of: %s: %v", command, err)
	case seen.OK:
		result.After = "this check cannot fail: it still held after " + command
	case against == nothing:
		result.After = fmt.Sprintf("it could not be tried after %s: %s", command, seen.Got)
	default:
		result.After = seen.Got
		return true
	}
	return false
}

// look tries a falsified claim until there is proof against it, for a bounded
// time. Otherwise the last look decides.
func (r *run) look(ctx context.Context, check claim.Check) (Result, evidence) {
	for n := 1; ; n++ {
		seen, against := r.observe(ctx, check)
		if n == looks || !seen.OK && against == proof {
			return seen, against
		}
		select {
		case <-ctx.Done():
			return seen, nothing
		case <-time.After(r.pause):
		}
	}
}
