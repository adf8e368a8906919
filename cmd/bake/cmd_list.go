package main

import (
	"context"
	"errors"

	"github.com/urfave/cli/v2"

	"bake/internal/hypervisor"
)

func listCommand(a *app) *cli.Command {
	return &cli.Command{
		Name:  "list",
		Usage: "list the machines of a hypervisor that bake has made, or the hosts that a selector picks",
		Description: `With --selector no hypervisor is asked: the hosts of hosts/ whose labels fit are listed,
with their current generation and where they run. An empty one picks all. Selectors are
written as for Kubernetes: role=web, role!=db, zone in (a,b), zone notin (a), edge, !edge,
with commas between what must hold together.`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "selector", Aliases: []string{"l"}, Usage: "list the hosts whose labels `FIT`"},
			&cli.StringFlag{Name: "connect", Aliases: []string{"c"}, Value: usualURI, Usage: "libvirt URI", EnvVars: []string{"LIBVIRT_DEFAULT_URI"}},
		},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			if c.IsSet("selector") {
				if c.IsSet("connect") {
					return usageError{errors.New("--selector lists host files, and --connect machines: want one of the two")}
				}
				return runListHosts(a, c.String("selector"))
			}
			if err := checkURI(c.String("connect")); err != nil {
				return err
			}
			return runList(c.Context, a, c.String("connect"))
		},
	}
}

// listView is a machine as it is listed.
type listView struct {
	Host       string   `json:"host"`
	State      string   `json:"state"` // "running", "paused", "off" or, with its memory in a file, "saved"
	Generation string   `json:"generation"`
	Previous   string   `json:"previous,omitempty"`
	Trying     bool     `json:"trying,omitempty"` // has not attested as this generation, as far as bake has seen
	Addresses  []string `json:"addresses"`
}

func viewOf(m hypervisor.Machine) listView {
	v := listView{Host: m.Host, State: "off", Generation: m.Generation, Previous: m.Previous, Trying: m.Trying, Addresses: []string{}}
	switch {
	case m.Paused:
		v.State = "paused"
	case m.Running:
		v.State = "running"
	case m.Saved:
		v.State = "saved"
	}
	return v
}

func addressesOf(at *hypervisor.Hypervisor, host string) ([]string, error) {
	addresses, err := at.Addresses(host)
	texts := []string{}
	for _, address := range addresses {
		texts = append(texts, address.String())
	}
	return texts, err
}

func runList(ctx context.Context, a *app, uri string) (err error) {
	at, err := hypervisor.Connect(ctx, uri, a.Tools)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, at.Close()) }()
	machines, err := at.Machines()
	if err != nil {
		return err
	}
	views := []listView{}
	for _, m := range machines {
		v := viewOf(m)
		if m.Running {
			if v.Addresses, err = addressesOf(at, m.Host); err != nil {
				return err
			}
		}
		views = append(views, v)
	}
	if a.json {
		return a.printJSON(views)
	}
	var rows [][]string
	for _, v := range views {
		generation := v.Generation
		if v.Trying {
			generation += " (has yet to attest)"
		}
		for _, address := range v.Addresses {
			generation += " " + address
		}
		rows = append(rows, []string{v.Host, v.State, generation})
	}
	return a.printLines(table(rows))
}
