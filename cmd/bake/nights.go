package main

// What bake nightly status and bake nightly logs show.

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"bake/internal/cluster"
	"bake/internal/nightly"
	"bake/internal/notify"
	"bake/internal/unit"
)

// runNights shows the last nights, a line each, and how each host fared, a letter a
// night.
func runNights(ctx context.Context, a *app, o nightOptions) error {
	if o.nights < 1 {
		return usageError{fmt.Errorf("--nights %d: want at least 1", o.nights)}
	}
	if o.shard.place != nil {
		return a.sharedNights(ctx, o)
	}
	dir, err := a.nightDir()
	if err != nil {
		return err
	}
	journal := nightly.Journal{Dir: dir}
	nights, err := journal.Nights(o.nights)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(append([]nightly.Night{}, nights...))
	}
	if len(nights) == 0 {
		a.say("there was no night yet")
		return nil
	}
	if page := journal.Page(); page != "" {
		a.say("the same as a page: %s", page)
	}
	var names []string
	for _, n := range nights {
		names = append(names, fmt.Sprintf("%6d", n.Number))
	}
	return a.printLines(nightStrips(names, nights, journal.IsBusy()))
}

// sharedNights shows the nights whose shards have all told what they came to. One that is
// under way has no report yet.
func (a *app) sharedNights(ctx context.Context, o nightOptions) error {
	place := o.shard.place
	reported, err := cluster.Nights(ctx, records{place}, place.Records, o.nights)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(append([]cluster.Reported{}, reported...))
	}
	if len(reported) == 0 {
		a.say("no night there is over yet")
		return nil
	}
	var names []string
	var nights []nightly.Night
	for _, n := range reported {
		names = append(names, fmt.Sprintf("%-20s", n.Name))
		nights = append(nights, n.Night)
	}
	return a.printLines(nightStrips(names, nights, false))
}

var letters = map[nightly.Verdict]string{nightly.Unchanged: "=", nightly.Promoted: "P", nightly.Failed: "F", nightly.Undeployed: "u", nightly.CouldNot: "x"}

func nightStrips(names []string, nights []nightly.Night, busy bool) []string {
	var lines, hosts []string
	strips := map[string]string{}
	for i, n := range nights {
		state := fmt.Sprintf("exit %d, %s", n.Exit, n)
		switch {
		case len(n.Hosts) == 0 && len(n.Notes) > 0:
			state = firstLine(n.Notes[0])
		case !n.Ended.IsZero():
		case busy && i == len(nights)-1:
			state = "under way"
		default:
			state = "was cut off"
		}
		lines = append(lines, fmt.Sprintf("%s  %s  %s", names[i], n.Began.Local().Format("2006-01-02 15:04"), state))
		for _, o := range n.Hosts {
			if _, ok := strips[o.Host]; !ok {
				hosts = append(hosts, o.Host)
				strips[o.Host] = strings.Repeat(".", i)
			}
			letter := cmp.Or(letters[o.Verdict], "?")
			if o.Verdict.IsGood() && !o.IsGood() {
				letter = "r"
			}
			strips[o.Host] += letter
		}
		for host, strip := range strips {
			strips[host] = strip + strings.Repeat(".", i+1-len(strip))
		}
	}
	lines = append(lines, "")
	for _, host := range hosts {
		lines = append(lines, fmt.Sprintf("%-20s %s", host, strips[host]))
	}
	return append(lines, "", "P promoted, = unchanged, F a claim failed, u not deployed, r no restore proven, x could not, . not asked for")
}

// runNightLogs shows what nights said, by way of journalctl.
func runNightLogs(a *app, o nightOptions) error {
	program, err := a.Tools.Find("journalctl")
	if err != nil {
		return err
	}
	argv := []string{"journalctl", "--unit", unit.Job{Word: notify.Nightly}.Name() + ".service"}
	if o.isUserUnit {
		argv[1] = "--user-unit"
	}
	if o.follow {
		argv = append(argv, "--follow")
	}
	if err := a.Exec(program, argv); err != nil {
		return fmt.Errorf("starting %s: %w", program, err)
	}
	return nil
}
