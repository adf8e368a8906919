package main

// What a night does about restores: backup.yaml says how often one is rehearsed, and
// drill.json when one was proven last, by whomever.

import (
	"context"
	"errors"
	"fmt"
	"time"

	"bake/internal/backup"
	"bake/internal/nightly"
)

// rehearsal is a drill; tests replace it.
var rehearsal = (*app).drill

// drills says when the restore of a host is rehearsed, and when one was proven.
func (n *night) drills(name string) (p nightly.DrillPolicy, d nightly.Drill, err error) {
	p.Every, p.Alarm = n.o.backups.Drill(name)
	if p == (nightly.DrillPolicy{}) {
		return p, d, nil
	}
	last, err := n.readDrill(name)
	if err == nil {
		d = drillOf(last)
	}
	return p, d, err
}

// drillOf is what a drill has proven. One that failed says of the proof before it no more
// than when that was.
func drillOf(d drill) nightly.Drill {
	proof := nightly.Drill{Proven: d.Proven}
	if d.OK {
		proof.RPO, proof.RTO = d.RPO, d.RTO
	}
	return proof
}

// rehearseRestore rehearses the restore of a host's newest backup into its current generation.
func (n *night) rehearseRestore(ctx context.Context, name string) (nightly.Drill, error) {
	o := drillOptions{generation: "current", boot: n.o.boot, config: n.o.backups}
	d, err := rehearsal(n.app, ctx, name, o)
	var busy *backup.BusyError
	if errors.As(err, &busy) { // a backup is under way, which is no reason to get up at night
		n.say("%v", err)
		return nightly.Drill{Postponed: firstLine(busy.Error())}, nil
	}
	if err == nil {
		for _, line := range d.lines()[:1] {
			n.say("%s", line)
		}
	}
	return drillOf(d), err
}

// drillLines are what a night says of a host's restores below its line: nothing when all
// is well and none was rehearsed.
func drillLines(d *nightly.Drill) (lines []string) {
	const indent = 4
	if d == nil {
		return nil
	}
	say := func(format string, args ...any) {
		lines = append(lines, fmt.Sprintf("%*s", indent, "")+fmt.Sprintf(format, args...))
	}
	proven := "never"
	if !d.Proven.IsZero() {
		proven = d.Proven.Local().Format(time.DateTime)
	}
	switch {
	case d.Reason != "":
		say("restore: not proven: %s; proven last: %s", firstLine(d.Reason), proven)
	case d.Tried:
		say("restore: proven, RPO %s, RTO %s", seconds(d.RPO), seconds(d.RTO))
	}
	if d.Postponed != "" {
		say("restore: not rehearsed tonight: %s", d.Postponed)
	}
	return lines
}
