package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/urfave/cli/v2"

	"bake/internal/artifact"
	"bake/internal/domain"
	"bake/internal/secret"
)

func diffCommand(a *app) *cli.Command {
	return &cli.Command{
		Name:      "diff",
		Usage:     "say what one generation of a host was made from that another was not",
		ArgsUsage: "[GENERATION [GENERATION]]",
		Description: `Compares what their manifests list: base image, packages, layers, secrets by name,
files. Without arguments the current generation is held against the latest one;
with one argument the current one against that. The word now stands for what the host
file and the layers say today: layers, words, claims and machine, without packages and
image, which only bake image looks up.

Exit status 0 says that there is no difference and 1 that there is, as diff has it.`,
		Flags: hostFlags(),
		Action: func(c *cli.Context) error {
			names, err := a.hosts(c)
			switch {
			case err != nil:
				return err
			case len(names) > 1:
				return usageError{fmt.Errorf("want one host, there are %d", len(names))}
			case c.Args().Len() > 2:
				return usageError{fmt.Errorf("unexpected argument %q: want two generations at most", c.Args().Get(2))}
			}
			pair := []string{"current", "latest"}
			switch words := c.Args().Slice(); len(words) {
			case 1:
				pair[1] = words[0]
			case 2:
				pair = words
			}
			return runDiff(a, names[0], pair[0], pair[1])
		},
	}
}

// diffView is what --json shows.
type diffView struct {
	Host    string   `json:"host"`
	From    string   `json:"from"` // generations
	To      string   `json:"to"`
	Changes []string `json:"changes"`
}

func runDiff(a *app, name, from, to string) error {
	was, err := artifact.Open(a.out, name, from)
	if err != nil {
		return err
	}
	var changes []string
	is := to
	if to == "now" {
		changes, err = a.changesNow(name, was.Manifest)
	} else {
		var other artifact.Generation
		if other, err = artifact.Open(a.out, name, to); err == nil {
			is, changes = other.Manifest.Generation, was.Manifest.Differences(other.Manifest)
		}
	}
	if err != nil {
		return err
	}
	view := diffView{name, was.Manifest.Generation, is, append([]string{}, changes...)}
	switch {
	case a.json:
		err = a.printJSON(view)
	case len(changes) == 0:
		a.say("%s: %s and %s were made from the same", name, view.From, view.To)
	default:
		err = a.printLines(view.Changes)
	}
	if err == nil && len(changes) > 0 {
		return differError{fmt.Sprintf("%s: %s and %s differ", name, view.From, view.To)}
	}
	return err
}

// differError says that there is a difference; which, is the product.
type differError struct{ summary string }

func (e differError) Error() string { return e.summary }

// changesNow compares a generation with what would be made of the host's files today.
func (a *app) changesNow(name string, was artifact.Manifest) ([]string, error) {
	all, err := a.prepare([]string{name})
	if err != nil {
		return nil, err
	}
	h := all[0]
	is := was // of the image and its packages nothing is known
	is.Layers, is.Secrets = nil, secret.Names(h.Secrets)
	for _, l := range h.Layers {
		digest, err := l.Digest()
		if err != nil {
			return nil, err
		}
		is.Layers = append(is.Layers, artifact.Layer{Name: l.Name, SHA256: digest})
	}
	lines := was.Differences(is)
	if was.Base.Reference != h.Base {
		lines = append(lines, fmt.Sprintf("base: %s -> %s", was.Base.Reference, h.Base))
	}
	machine, err := domain.XML(h.Host, was.Generation)
	if err != nil {
		return nil, err
	}
	claims, err := plan(h.Host, h.words)
	if err != nil {
		return nil, err
	}
	for _, file := range []struct {
		what, name string
		content    []byte
	}{{"machine", "domain.xml", machine}, {"claims", "claims.json", claims}} {
		if sum := sha256.Sum256(file.content); was.Files[file.name].SHA256 != hex.EncodeToString(sum[:]) {
			lines = append(lines, file.what+": changed")
		}
	}
	if !h.Offline && was.InstanceID != h.words.InstanceID(h.Host) { // else the packages are in the words
		lines = append(lines, "words: changed")
	}
	return lines, nil
}
