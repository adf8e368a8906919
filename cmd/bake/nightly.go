package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"bake/internal/backup"
	"bake/internal/diag"
	"bake/internal/nightly"
	"bake/internal/notify"
)

// keptNights is how many reports there are at most: two months of nights.
const keptNights = 60

var nightWords = map[string][]string{ // and the options that go with each alone
	"":        {"shard", "to", "night", "plain-http", "with-secrets"},
	"install": {"user", "at", "run-as", "on-failure", "unit-dir"},
	"status":  {"nights", "to", "plain-http"},
	"logs":    {"user", "follow"},
}

// checkWords refuses words and options of a command that do not go together, and returns
// the word.
func checkWords(c *cli.Context, words map[string][]string) (string, error) {
	command, word := "bake "+c.Command.Name, c.Args().First()
	mine, ok := words[word]
	if !ok || c.Args().Len() > 1 {
		what := word
		if ok {
			what = c.Args().Get(1)
		}
		known := slices.Sorted(maps.Keys(words))[1:] // the first is none
		return word, usageError{fmt.Errorf("unexpected argument %q: want %s or nothing (%s --help shows the options)", what, strings.Join(known, ", "), command)}
	}
	with := map[string][]string{} // the words with which an option goes
	for _, other := range slices.Sorted(maps.Keys(words)) {
		for _, flag := range words[other] {
			with[flag] = append(with[flag], strings.TrimSpace(command+" "+other))
		}
	}
	for _, flag := range slices.Sorted(maps.Keys(with)) {
		if c.IsSet(flag) && !slices.Contains(mine, flag) {
			return word, usageError{fmt.Errorf("--%s goes with %s", flag, strings.Join(with[flag], " and "))}
		}
	}
	return word, nil
}

func checkNightWords(c *cli.Context) error {
	word, err := checkWords(c, nightWords)
	if err != nil {
		return err
	}
	for _, flag := range []string{"jobs", "boots", "keep", "deadline", "console", "mirror", "allow-older"} {
		if word != "" && c.IsSet(flag) {
			return usageError{fmt.Errorf("--%s does not go with bake nightly %s (nightly.yaml has numbers for every night)", flag, word)}
		}
	}
	if (word == "status" || word == "logs") && c.Bool("dry-run") {
		return usageError{fmt.Errorf("--dry-run does not go with bake nightly %s, which changes nothing", word)}
	}
	return nil
}

// readNight returns what a command line and nightly.yaml say, and defaults for what
// neither does.
func (a *app) readNight(c *cli.Context) (o nightOptions, err error) {
	if err := checkNightWords(c); err != nil {
		return o, err
	}
	if o.from, err = readBaseFlags(c); err != nil {
		return o, err
	}
	if o.from.Locked {
		return o, usageError{errors.New("--locked and a night exclude each other: it is there to move pins")}
	}
	if o.boot, err = readBootFlags(c); err != nil {
		return o, err
	}
	if o.shard, err = a.readShard(c); err != nil {
		return o, err
	}
	if o.hosts, err = a.nightHosts(c); err != nil {
		return o, err
	}
	o.dry, o.nights, o.follow, o.isUserUnit = c.Bool("dry-run"), c.Int("nights"), c.Bool("follow"), c.Bool("user")
	if o.config, err = notify.Read(a.config); err != nil {
		return o, err
	}
	o.unit = unitOptions{word: notify.Nightly, about: "Bring hosts onto the newest base images and packages that prove themselves",
		hosts: c.StringSlice("host"), selector: c.String("selector"), at: c.String("at"), user: c.String("run-as"), onFailure: c.String("on-failure"), dir: c.String("unit-dir"),
		metrics: o.config.Dirs(notify.Nightly)}
	if err := o.readNumbers(c); err != nil {
		return o, err
	}
	// What is wrong from here on a night is told of.
	o.backups, o.wrong = backup.Read(a.config)
	o.stray = a.strayDeploys(o.config)
	if c.Args().First() == "install" || o.dry {
		return o, both(o.wrong, o.stray)
	}
	return o, nil
}

// readNumbers are those of a command line, or else of nightly.yaml, or else natural.
func (o *nightOptions) readNumbers(c *cli.Context) error {
	for _, number := range []struct {
		flag            string
		to              *int
		config, natural int
	}{{"jobs", &o.jobs, o.config.Jobs, howMany(buildMemory)}, {"boots", &o.boots, o.config.Boots, 0}, {"keep", &o.keep, o.config.Keep, 3}} {
		*number.to = number.natural
		if number.config > 0 {
			*number.to = number.config
		}
		if c.IsSet(number.flag) {
			if *number.to = c.Int(number.flag); *number.to < 1 {
				return usageError{fmt.Errorf("--%s %d: want at least 1", number.flag, *number.to)}
			}
		}
	}
	if o.config.Deadline > 0 && !c.IsSet("deadline") {
		o.boot.deadline = o.config.Deadline
	}
	return nil
}

// dryNight says what a night would do.
func (a *app) dryNight(ctx context.Context, o nightOptions) error {
	dir, err := os.MkdirTemp("", "bake-nightly-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	n, err := a.newNight(dir, o)
	if err != nil {
		return err
	}
	job := nightly.Job{Hosts: o.hosts, Builds: o.jobs, Boots: 1, Dry: true, Steps: n.steps(), Now: clock}
	tonight, err := job.Run(ctx, nightly.Night{Began: time.Now()})
	err = errors.Join(nightError(tonight), err, n.release())
	tonight.Exit, tonight.Ended = exitCode(err), time.Now()
	return errors.Join(a.printNight(tonight), err)
}

// wholeNight does a night under its lock, with whoever is to know told.
func (a *app) wholeNight(ctx context.Context, o nightOptions) (err error) {
	dir, err := a.nightDir()
	journal, number := nightly.Journal{Dir: dir, Keep: keptNights}, 0
	sender := a.sender(o, func() []nightly.Night { return a.pastNights(journal, number) })
	if err = both(both(err, sender.Prepare(ctx)), o.wrong); err != nil {
		return unbegun(ctx, sender, err)
	}
	entry, held, err := a.beginNight(journal)
	if err != nil {
		return unbegun(ctx, sender, err)
	}
	defer func() { err = errors.Join(err, entry.Close(), held.Close()) }()
	tonight := entry.Night(time.Now())
	number = tonight.Number
	if err := entry.Write(tonight); err != nil {
		return unbegun(ctx, sender, err)
	}
	unheard := sender.Start(ctx, notify.Nightly)
	tonight, err = a.doNight(ctx, dir, o, tonight, entry)
	if o.stray != nil {
		tonight.Notes = append(tonight.Notes, o.stray.Error())
	}
	err = a.endNight(ctx, sender, entry, tonight, err, o.stray, unheard)
	return errors.Join(err, a.writeIndex(journal))
}

// doNight is the night itself.
func (a *app) doNight(ctx context.Context, dir string, o nightOptions, tonight nightly.Night, entry *nightly.Entry) (nightly.Night, error) {
	n, err := a.newNight(dir, o)
	if err != nil {
		return tonight, err
	}
	job := nightly.Job{Hosts: o.hosts, Builds: o.jobs, Boots: cmp.Or(o.boots, n.boots()), Steps: n.steps(), Now: clock,
		Untidy: entry.IsAfterBreak(), Report: entry.Write}
	tonight, err = job.Run(ctx, tonight)
	if err := n.seen.Write(filepath.Join(dir, seenName)); err != nil {
		n.say("what was hashed is forgotten: %v", err)
	}
	return tonight, errors.Join(nightError(tonight), err, n.release())
}

// endNight tells what a night came to, and puts it down. What could not be told is
// part of it, and changes no verdict.
func (a *app) endNight(ctx context.Context, sender *notify.Sender, entry *nightly.Entry, tonight nightly.Night, err, stray, unheard error) error {
	if err != nil && ctx.Err() != nil {
		err = errors.Join(errInterrupted, err)
	}
	if err != nil && nightError(tonight) == nil {
		tonight.Notes = append(tonight.Notes, err.Error())
	}
	err = errors.Join(err, stray)
	tonight.Ended, tonight.Exit = time.Now().UTC().Truncate(time.Second), exitCode(err)
	heard := context.WithoutCancel(ctx) // that it was interrupted is worth a word, too
	unheard = errors.Join(unheard, sender.Send(heard, tonight))
	if unheard != nil {
		tonight.Notes = append(tonight.Notes, strings.Split(unheard.Error(), "\n")...)
		tonight.Exit = exitCode(errors.Join(err, unheard))
	}
	return errors.Join(entry.Write(tonight), a.printNight(tonight), err, unheard)
}

// nightError joins what went wrong with the hosts of a night.
func nightError(n nightly.Night) error {
	var all error
	for _, o := range n.Hosts {
		var list diag.List
		switch err := o.Err(); {
		case err == nil && !o.Verdict.IsGood() && o.Verdict != nightly.Would:
			all = errors.Join(all, fmt.Errorf("%s: %s: %w", o.Host, o.Stage, errInterrupted))
		case errors.As(err, &list): // has its own places
			all = errors.Join(all, err)
		case err != nil && strings.HasPrefix(err.Error(), o.Host):
			all = errors.Join(all, err)
		case err != nil:
			all = errors.Join(all, fmt.Errorf("%s: %w", o.Host, err))
		}
	}
	return all
}

func (a *app) sender(o nightOptions, history func() []nightly.Night) *notify.Sender {
	return &notify.Sender{Config: o.config, Dir: a.config, Getenv: a.Getenv, Tools: a.Tools, History: history,
		Table: func(n nightly.Night) string {
			text := ""
			for _, line := range nightLines(n) {
				text += diag.Printable(line) + "\n"
			}
			return text
		}}
}

// buildMemory is what the programs that make a disk and a payload take, amply.
const buildMemory = 1 << 30

// machineOverhead is what QEMU and its firmware take beside a guest's memory.
const machineOverhead = 512 << 20

// boots is how many machines fit into the memory that is free now, the largest of
// tonight's taken for all.
func (n *night) boots() int {
	largest := int64(1 << 30)
	for _, s := range n.hosts {
		if h, err := s.read(); err == nil {
			largest = max(largest, h.Machine.Memory)
		}
	}
	return howMany(largest + machineOverhead)
}

// howMany is how many of something fit into three quarters of the memory that is free now, one a
// processor at most.
func howMany(each int64) int {
	fit := freeMemory(os.DirFS("/")) * 3 / 4 / each
	return int(min(max(fit, 1), int64(runtime.NumCPU())))
}

// printNight shows a night, as a table or as JSON.
func (a *app) printNight(n nightly.Night) error {
	a.stage("")
	if a.json {
		return a.printJSON(n)
	}
	return a.printLines(nightLines(n))
}

// nightLines is a night for people.
func nightLines(n nightly.Night) []string {
	rows := [][]string{{"HOST", "VERDICT", "GENERATION", "BASE", "CLAIMS", "TIME"}}
	for _, o := range n.Hosts {
		claims := "-"
		if o.Claims > 0 {
			claims = fmt.Sprintf("%d/%d", o.Claims-o.Failed, o.Claims)
		}
		why := ""
		if o.Stage != "" {
			why = o.Stage + ": " + firstLine(o.Reason)
		} else if len(o.Pruned) > 0 {
			why = fmt.Sprintf("%d pruned", len(o.Pruned))
		}
		took := time.Duration(o.Seconds * float64(time.Second)).Round(100 * time.Millisecond)
		rows = append(rows, []string{o.Host, string(o.Verdict), cmp.Or(o.Generation, o.Current, "-"), shortBase(o.Base), claims, took.String(), why})
	}
	laid := table(rows, 4, 5)
	lines := laid[:1:1]
	for i, o := range n.Hosts {
		lines = append(append(lines, laid[i+1]), changeLines(o)...)
		lines = append(lines, drillLines(o.Drill)...)
		for _, note := range o.Notes {
			lines = append(lines, "    note: "+firstLine(note))
		}
	}
	lines = append(lines, n.String())
	for _, note := range n.Notes {
		lines = append(lines, "note: "+firstLine(note))
	}
	return lines
}

// changeLines are what a red host was made from that the last good generation was not.
func changeLines(o nightly.Outcome) (lines []string) {
	const most = 12
	for i, change := range o.Changes {
		if i == most {
			return append(lines, fmt.Sprintf("    and %d more: bake diff --host %s", len(o.Changes)-most, o.Host))
		}
		lines = append(lines, "    "+change)
	}
	return lines
}

// shortBase is a base image in a column: its serial says the most.
func shortBase(b nightly.Base) string {
	name, _, _ := strings.Cut(b.Reference, "#")
	if b.Serial != "" {
		return name + "@" + b.Serial
	}
	if name = filepath.Base(name); len(name) > 22 {
		name = name[:22]
	}
	return cmp.Or(name, "-")
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}
