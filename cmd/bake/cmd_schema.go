package main

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"bake/internal/editor"
	"bake/internal/layer"
)

func schemaCommand(a *app) *cli.Command {
	return &cli.Command{
		Name:      "schema",
		Usage:     "print the JSON Schema of a host file or a layer.yaml, for editors",
		ArgsUsage: "[host|layer]",
		Action: func(c *cli.Context) error {
			if c.NArg() > 1 {
				return usageError{errors.New("want host or layer")}
			}
			return runSchema(a, c.Args().First())
		},
	}
}

func runSchema(a *app, what string) error {
	var s editor.Schema
	switch what {
	case "", "host":
		shelf := a.shelf()
		var layers []*layer.Layer
		for _, name := range shelf.Names() {
			l, err := shelf.Open(name)
			if err != nil {
				return err
			}
			layers = append(layers, l)
		}
		s = editor.Host(layers)
	case "layer":
		s = editor.Layer()
	default:
		return usageError{fmt.Errorf("%q has no schema: want host or layer", what)}
	}
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.Stdout, "%s\n", text)
	return err
}
