package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"bake/internal/artifact"
	"bake/internal/provenance"
)

func attestCommand(a *app) *cli.Command {
	return &cli.Command{
		Name:      "attest",
		Usage:     "check who vouches for a generation, byte for byte",
		ArgsUsage: "verify | show",
		Description: `verify hashes every file of a generation, and its base image if its disk stands on that, and demands that somebody
whose signature counts has signed just these: that they were baked as the manifest
says and, of the current generation, that its claims held.

show prints what was signed about how it was made: a statement of in-toto with SLSA
provenance.`,
		Flags: append(hostFlags(),
			&cli.StringFlag{Name: "generation", Value: "current", Usage: "current, latest or a generation's name"},
			&cli.StringFlag{Name: "key", Usage: "file of the public key that must have signed (default: those in keys/, or the own one)"}),
		Action: func(c *cli.Context) error {
			names, err := a.hosts(c)
			word := c.Args().First()
			switch {
			case c.NArg() != 1 || word != "verify" && word != "show":
				return usageError{errors.New("want bake attest verify or bake attest show")}
			case err != nil:
				return err
			}
			ring, err := a.ringOf(c.String("key"))
			if err != nil {
				return err
			}
			var failed error
			for _, name := range names {
				failed = errors.Join(failed, runAttest(c.Context, a, word, name, c.String("generation"), ring))
			}
			return failed
		},
	}
}

// ringOf is that of a file, or else the one that counts here.
func (a *app) ringOf(file string) (provenance.Ring, error) {
	if file != "" {
		public, err := provenance.ReadPublic(file)
		return provenance.Ring{public}, err
	}
	ring, _, err := a.ring()
	if err == nil && len(ring) == 0 {
		err = lackError{fmt.Errorf("nobody's signature counts: there is no key in %s, and none of your own", filepath.Join(a.config, ringName))}
	}
	return ring, err
}

// attestView is what --json shows.
type attestView struct {
	Host       string `json:"host"`
	Generation string `json:"generation"`
	Files      int    `json:"files"`
	Signer     string `json:"signer"`            // id of the key that has signed how it was made
	Claims     int    `json:"claims,omitempty"`  // that held, as somebody has signed
	Prover     string `json:"verdict,omitempty"` // id of that key
}

func runAttest(ctx context.Context, a *app, word, name, which string, ring provenance.Ring) error {
	g, err := artifact.Open(a.out, name, which)
	if err != nil {
		return err
	}
	statement, by, err := checkGeneration(ring, g)
	if err != nil {
		return fmt.Errorf("generation %s of host %s: %w", g.Manifest.Generation, name, err)
	}
	if word == "show" {
		var text bytes.Buffer
		raw, err := json.Marshal(statement)
		if err == nil {
			err = json.Indent(&text, raw, "", "  ")
		}
		return errors.Join(err, a.printJSON(json.RawMessage(text.Bytes())))
	}
	if err := g.Verify(ctx); err != nil {
		return err
	}
	alone, err := standsAlone(g)
	if err != nil {
		return err
	}
	if _, err := a.store().Get(ctx, g.Manifest.Base.SHA256); err != nil && !(alone && errors.Is(err, fs.ErrNotExist)) {
		return err
	}
	view := attestView{Host: name, Generation: g.Manifest.Generation, Files: len(g.Manifest.Files), Signer: by.ID}
	line := fmt.Sprintf("%s: generation %s, %d files: baked and signed by %s", name, view.Generation, view.Files, by)
	verdict, prover, err := checkVerdict(ring, g)
	switch {
	case err == nil:
		view.Claims, view.Prover = len(verdict.Passed), prover.ID
		line += fmt.Sprintf("; %d claims held, signed by %s", view.Claims, prover)
	case which == "current":
		return fmt.Errorf("generation %s of host %s: %w", view.Generation, name, err)
	}
	if a.json {
		return a.printJSON(view)
	}
	return a.printLines([]string{line})
}
