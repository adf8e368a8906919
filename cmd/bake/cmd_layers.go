package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"bake/internal/diag"
	"bake/internal/layer"
)

func layersCommand(a *app) *cli.Command {
	return &cli.Command{
		Name:      "layers",
		Usage:     "list the layers, or show one with its threat, parameters and claims",
		ArgsUsage: "[LAYER]",
		Action: func(c *cli.Context) error {
			if c.NArg() > 1 {
				return usageError{fmt.Errorf("want at most one layer, there are %d words", c.NArg())}
			}
			return runLayers(a, c.Args().First())
		},
	}
}

// layerView is what --json shows of a layer.
type layerView struct {
	Layer    string      `json:"layer"`
	Summary  string      `json:"summary"`
	Threat   string      `json:"threat,omitempty"`
	Builtin  bool        `json:"builtin"`
	Refs     []string    `json:"refs,omitempty"`
	Requires []string    `json:"requires,omitempty"`
	After    []string    `json:"after,omitempty"`
	Packages []string    `json:"packages,omitempty"`
	State    []string    `json:"state,omitempty"`
	Params   []paramView `json:"params,omitempty"`
	Claims   []string    `json:"claims,omitempty"`
}

type paramView struct {
	Name    string   `json:"name"`
	Type    string   `json:"type"`
	Default string   `json:"default,omitempty"`
	Of      []string `json:"of,omitempty"`
	Min     *int64   `json:"min,omitempty"`
	Max     *int64   `json:"max,omitempty"`
	Help    string   `json:"help"`
}

func runLayers(a *app, only string) error {
	shelf := a.shelf()
	names := shelf.Names()
	if only != "" {
		names = []string{only}
	}
	var views []layerView
	for _, name := range names {
		l, err := shelf.Open(name)
		if err != nil {
			if _, invalid := err.(diag.List); invalid {
				return err
			}
			return usageError{fmt.Errorf("unknown layer %q: %s", name, diag.DidYouMean(name, shelf.Names()))}
		}
		views = append(views, viewLayer(l))
	}
	switch {
	case a.json:
		return a.printJSON(views)
	case only != "":
		return a.showLayer(views[0])
	}
	width := 0
	for _, view := range views {
		width = max(width, len(view.Layer))
	}
	for _, view := range views {
		if _, err := fmt.Fprintf(a.Stdout, "%-*s  %s\n", width, view.Layer, view.Summary); err != nil {
			return err
		}
	}
	return nil
}

func viewLayer(l *layer.Layer) layerView {
	view := layerView{Layer: l.Name, Summary: l.Summary, Threat: l.Threat, Builtin: l.Builtin,
		Refs: l.Refs, Requires: l.Requires, After: l.After, Packages: l.Packages, Claims: l.Claims()}
	for _, dir := range l.State {
		view.State = append(view.State, dir.String())
	}
	for _, p := range l.Params {
		view.Params = append(view.Params, paramView{p.Name, p.Type, p.Documented(), p.Of, p.Min, p.Max, p.Help})
	}
	return view
}

func (a *app) showLayer(view layerView) error {
	var out strings.Builder
	line := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&out, "%-10s %s\n", key, value)
		}
	}
	line("layer", view.Layer)
	line("summary", view.Summary)
	line("threat", view.Threat)
	line("refs", strings.Join(view.Refs, "; "))
	line("requires", strings.Join(view.Requires, ", "))
	line("after", strings.Join(view.After, ", "))
	line("packages", strings.Join(view.Packages, ", "))
	line("state", strings.Join(view.State, ", "))
	for _, p := range view.Params {
		about := p.about()
		if p.Default != "" {
			about += ", default " + p.Default
		}
		line("param", fmt.Sprintf("%s (%s): %s", p.Name, about, p.Help))
	}
	for _, claim := range view.Claims {
		line("claim", claim)
	}
	_, err := fmt.Fprint(a.Stdout, out.String())
	return err
}

// about is what a parameter may be.
func (p paramView) about() string {
	switch {
	case len(p.Of) > 0:
		return strings.Join(p.Of, " or ")
	case p.Min != nil && p.Max != nil:
		return fmt.Sprintf("%s %d to %d", p.Type, *p.Min, *p.Max)
	case p.Min != nil:
		return fmt.Sprintf("%s from %d", p.Type, *p.Min)
	case p.Max != nil:
		return fmt.Sprintf("%s to %d", p.Type, *p.Max)
	}
	return p.Type
}
