package main

import (
	"embed"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"
)

//go:embed completion/bake.*
var completionFiles embed.FS

func completionCommand(a *app) *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "print what makes a shell complete bake's commands, options, hosts, layers and generations",
		ArgsUsage: "bash | zsh | fish",
		Description: `For this session: source <(bake completion bash), and the same with zsh;
bake completion fish | source. For good: into ~/.local/share/bash-completion/completions/bake,
a file _bake in zsh's $fpath, or ~/.config/fish/completions/bake.fish. The packages of bake
have them in place.`,
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usageError{fmt.Errorf("name the shell: bake completion bash, zsh or fish")}
			}
			script, err := completionFiles.ReadFile("completion/bake." + c.Args().First())
			if err != nil {
				return usageError{fmt.Errorf("unknown shell %q: want bash, zsh or fish", c.Args().First())}
			}
			_, err = a.Stdout.Write(script)
			return err
		},
	}
}

// completeCommand is what those scripts call: it prints what can stand in the place of
// the last word.
func completeCommand(a *app) *cli.Command {
	return &cli.Command{
		Name:      "complete",
		Hidden:    true,
		ArgsUsage: "-- WORD...",
		Action: func(c *cli.Context) error {
			for _, word := range a.candidates(c.App, c.Args().Slice()) {
				if _, err := io.WriteString(a.Stdout, word+"\n"); err != nil {
					return err
				}
			}
			return nil
		},
	}
}
