package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"bake/internal/artifact"
	"bake/internal/host"
)

// hostView is a host as it is listed.
type hostView struct {
	Host    string            `json:"host"`
	Base    string            `json:"base"`
	URI     string            `json:"uri"`
	Current string            `json:"current,omitempty"` // generation
	Groups  []string          `json:"groups"`
	Labels  map[string]string `json:"labels"`
}

// runListHosts lists the hosts that a selector picks.
func runListHosts(a *app, selector string) error {
	names, err := a.selected("selector", selector)
	if err != nil {
		return err
	}
	views := []hostView{}
	for _, name := range names {
		h, err := host.Load(a.config, name, a.shelf())
		if err != nil {
			return err
		}
		v := hostView{Host: name, Base: h.Base, URI: cmp.Or(h.Domain.URI, usualURI), Groups: append([]string{}, h.Groups...), Labels: h.Labels}
		g, err := artifact.Open(a.out, name, "current")
		var damaged *artifact.IntegrityError
		switch {
		case err == nil:
			v.Current = g.Manifest.Generation
		case errors.As(err, &damaged), errors.Is(err, fs.ErrNotExist):
		default:
			return err
		}
		views = append(views, v)
	}
	if a.json {
		return a.printJSON(views)
	}
	var rows [][]string
	for _, v := range views {
		rows = append(rows, []string{v.Host, cmp.Or(v.Current, "-"), v.URI, labelText(v.Labels)})
	}
	return a.printLines(table(rows))
}

// labelText are labels in a line, but for the name, which stands before it.
func labelText(labels map[string]string) string {
	var words []string
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		if key != "bake/host" {
			words = append(words, fmt.Sprintf("%s=%s", key, labels[key]))
		}
	}
	return strings.Join(words, ",")
}
