package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"bake/internal/diag"
	"bake/internal/host"
	"bake/internal/lazy"
)

// line is a command line of which the last word is not finished.
type line struct {
	command *cli.Command // nil before there is one
	flags   []cli.Flag   // that may be used now
	words   []string     // after the command that are no options
	hosts   []string     // named so far
	used    []string     // options
	value   string       // option that the last word is the value of, "" for none
	isOver  bool         // after --: another program's words
}

// candidates returns what the last of the words can become. There is nothing to say
// where files are meant: the shell knows those. It never fails and never asks the
// network: whoever presses a key waits.
func (a *app) candidates(root *cli.App, words []string) []string {
	if len(words) == 0 {
		return nil
	}
	last := words[len(words)-1]
	l := a.read(root, words[:len(words)-1])
	var all []string
	prefix := ""
	name, value, hasValue := strings.Cut(last, "=")
	switch {
	case l.isOver:
		return nil
	case l.value != "":
		all = a.values(l, l.value)
	case strings.HasPrefix(last, "-") && hasValue:
		prefix, last = name+"=", value
		all = a.values(l, strings.TrimLeft(name, "-"))
	case strings.HasPrefix(last, "-"):
		all = l.options()
	case l.command == nil:
		for _, command := range root.VisibleCommands() {
			all = append(all, command.Name)
		}
	default:
		all = a.arguments(root, l)
	}
	var fit []string
	for _, word := range all {
		// A host's file may have any name; one that drives a terminal is offered to none.
		if strings.HasPrefix(word, last) && diag.Printable(word) == word {
			fit = append(fit, prefix+word)
		}
	}
	return fit
}

// read takes the finished words as bake will: see reorder.
func (a *app) read(root *cli.App, words []string) line {
	l := line{flags: root.Flags}
	for i := 0; i < len(words); i++ {
		word := words[i]
		name, value, hasValue := strings.Cut(strings.TrimLeft(word, "-"), "=")
		switch {
		case word == "--":
			l.isOver = true
			return l
		case !strings.HasPrefix(word, "-") && l.command == nil:
			if l.command = root.Command(word); l.command == nil {
				l.isOver = true
				return l
			}
			l.flags = slices.Concat(l.command.Flags, root.Flags)
			continue
		case !strings.HasPrefix(word, "-"):
			l.words = append(l.words, word)
			continue
		}
		flag := flagNamed(l.flags, name)
		if flag == nil {
			continue
		}
		l.used = append(l.used, flag.Names()[0])
		if _, isSwitch := flag.(*cli.BoolFlag); isSwitch {
			continue
		}
		if !hasValue {
			if i++; i == len(words) {
				l.value = flag.Names()[0]
				return l
			}
			value = words[i]
		}
		a.heed(&l, flag.Names()[0], value)
	}
	return l
}

// heed keeps the values that others depend on.
func (a *app) heed(l *line, name, value string) {
	switch name {
	case "config":
		a.config = value
	case "out":
		a.out = value
	case "layers":
		a.layers = value
	case "host":
		l.hosts = append(l.hosts, value)
	}
}

func flagNamed(flags []cli.Flag, name string) cli.Flag {
	for _, flag := range flags {
		if slices.Contains(flag.Names(), name) {
			return flag
		}
	}
	return nil
}

// options are those that can be given, or given again.
func (l line) options() []string {
	var all []string
	for _, flag := range l.flags {
		_, isRepeatable := flag.(*cli.StringSliceFlag)
		name := flag.Names()[0]
		if isRepeatable || !slices.Contains(l.used, name) {
			all = append(all, "--"+name)
		}
	}
	return append(all, "--help")
}

// values are what an option can be set to.
func (a *app) values(l line, option string) []string {
	switch option {
	case "host":
		return slices.DeleteFunc(host.Names(a.config), func(name string) bool { return slices.Contains(l.hosts, name) })
	case "generation":
		if l.command != nil && l.command.Name == "fetch" { // what is baked here is not what a place has
			return []string{"current"}
		}
		return append([]string{"latest", "current"}, a.baked(l.hosts)...)
	case "snapshot":
		return a.listedSnapshots(l.hosts)
	case "yes", "destroy-state":
		return l.hosts
	case "accel":
		return []string{"kvm", "tcg"}
	case "arch":
		return []string{"amd64", "arm64"}
	case "connect":
		return []string{"qemu:///system", "qemu:///session", "qemu+ssh://"}
	case "mirror":
		return []string{"ubuntu=", "debian=", "packages="}
	case "format":
		if l.command == nil {
			return nil
		}
		return map[string][]string{"seed": {"iso", "vfat", "dir"}, "image": {"qcow2", "raw"}, "report": reportFormats}[l.command.Name]
	}
	return nil
}

// arguments are the words that can follow a command.
func (a *app) arguments(root *cli.App, l line) []string {
	if l.command.Name == "diff" {
		return append([]string{"latest", "current"}, a.baked(l.hosts)...)
	}
	if l.command.Name != "doctor" && len(l.words) > 0 {
		return nil
	}
	var commands []string
	for _, command := range root.VisibleCommands() {
		commands = append(commands, command.Name)
	}
	switch l.command.Name {
	case "layers":
		return a.shelf().Names()
	case "help":
		for _, t := range topics {
			commands = append(commands, t.name)
		}
		return commands
	case "doctor", "man":
		return commands
	case "inspect", "pull":
		return []string{"debian:12", "debian:13", "ubuntu:22.04", "ubuntu:24.04", "ubuntu:26.04"}
	}
	var words []string
	for _, m := range choices.FindAllStringSubmatch(l.command.ArgsUsage, -1) {
		words = append(words, m[1])
	}
	return words
}

// choices are the words that a command's help offers: [install | status | logs], or
// [host|layer].
var choices = lazy.Regexp(`(?:^|[ \[|])([a-z]+)\b`)

// baked are the generations of the hosts named, or of all.
func (a *app) baked(hosts []string) []string {
	if len(hosts) == 0 {
		hosts = host.Names(a.config)
	}
	var all []string
	for _, name := range hosts {
		entries, _ := os.ReadDir(filepath.Join(a.out, name)) // none is no candidate
		for _, entry := range entries {
			if isGeneration(entry.Name()) {
				all = append(all, entry.Name())
			}
		}
	}
	return all
}
