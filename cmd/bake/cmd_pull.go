package main

import (
	"context"
	"errors"

	"github.com/urfave/cli/v2"

	"bake/internal/layer"
	"bake/internal/origin"
)

func pullCommand(a *app) *cli.Command {
	return &cli.Command{
		Name:      "pull",
		Usage:     "fetch, verify and pin base images: those named, or those of the hosts, and what these need of packages",
		ArgsUsage: "[REF...] | --update openclaw",
		Flags: append(append(hostFlags(), baseFlags()...), archFlag(),
			&cli.BoolFlag{Name: "update", Usage: "move the pins in bake.lock to what is newest, and show what moved"}),
		Action: func(c *cli.Context) error {
			o, err := readBaseFlags(c)
			if err != nil {
				return err
			}
			if c.Args().Len() == 1 && c.Args().First() == layer.OpenClaw {
				return runPullOpenClaw(c.Context, a, o)
			}
			all, hosts, err := a.wanted(c)
			if err != nil {
				return err
			}
			return runPull(c.Context, a, all, hosts, o)
		},
	}
}

func runPullOpenClaw(ctx context.Context, a *app, o fetchOptions) error {
	if !o.Update {
		return usageError{errors.New("openclaw goes with --update; it is fetched when a host needs it")}
	}
	changes, err := a.pullOpenClaw(ctx)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(pullView{[]pulledView{}, append([]string{}, changes...)})
	}
	return a.printLines(changes)
}

func archFlag() cli.Flag {
	return &cli.StringFlag{Name: "arch", Value: "amd64", Usage: "architecture of a REF: amd64 or arm64"}
}

// pullView is what --json shows.
type pullView struct {
	Images  []pulledView `json:"images"`
	Changes []string     `json:"changes"` // in bake.lock
}

type pulledView struct {
	origin.Target
	SHA256  string `json:"sha256"`
	Path    string `json:"path"`
	Fetched bool   `json:"fetched"` // from the network, just now
}

func runPull(ctx context.Context, a *app, all []wanted, hosts []ready, o fetchOptions) error {
	view := pullView{[]pulledView{}, []string{}}
	for _, w := range all {
		found, err := a.obtain(ctx, w, o.Options)
		if err != nil {
			return err
		}
		if err := found.Close(); err != nil {
			return err
		}
		a.tell(w.ref, found)
		view.Images = append(view.Images, pulledView{found.Target, found.Blob.SHA256, found.Blob.Path, !found.Cached})
		view.Changes = append(view.Changes, found.Changes...)
	}
	changes, err := a.pullPackages(ctx, hosts, o)
	if err != nil {
		return err
	}
	view.Changes = append(view.Changes, changes...)
	if len(all) == 0 {
		a.say("no host has a base image that is fetched")
	}
	if a.json {
		return a.printJSON(view)
	}
	return a.printLines(view.Changes)
}
