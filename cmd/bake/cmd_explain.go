package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"bake/internal/diag"
	"bake/internal/seed"
)

func explainCommand(a *app) *cli.Command {
	return &cli.Command{
		Name:      "explain",
		Usage:     "show where each part of a host's cloud-config comes from, when it is applied, and what is on which disk",
		ArgsUsage: "[PATH]",
		Description: `With a PATH, such as users[0] or ssh.emit_keys_to_console, it shows what is there, whole;
with one that starts with /, the file that the machine will have there.`,
		Flags: append(hostFlags(),
			&cli.BoolFlag{Name: "user-data", Usage: "print the merged user-data itself"}),
		Action: func(c *cli.Context) error {
			if c.NArg() > 1 {
				return usageError{fmt.Errorf("unexpected argument %q: want one path at most", c.Args().Get(1))}
			}
			names, err := a.hosts(c)
			if err != nil {
				return err
			}
			all, err := a.prepare(names)
			if err != nil {
				return err
			}
			for _, h := range all {
				if c.NArg() > 0 {
					err = runExplainPath(a, h, c.Args().First())
				} else {
					err = runExplain(a, h, c.Bool("user-data"))
				}
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func runExplain(a *app, h ready, whole bool) error {
	if h.Offline {
		a.say("%s: bake image adds which packages the payload has, and its digest", h.Name)
	}
	if whole {
		_, err := a.Stdout.Write(h.words.UserData)
		return err
	}
	view, err := a.explain(h)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(view)
	}
	_, err = fmt.Fprint(a.Stdout, view.text())
	return err
}

// runExplainPath shows one place of the words.
func runExplainPath(a *app, h ready, path string) error {
	parts, err := seed.At(h.Host, h.words.Program, path)
	if err != nil {
		return err
	}
	if len(parts) == 0 && strings.HasPrefix(path, "/") {
		return usageError{fmt.Errorf("the words of %s write no file %s", h.Name, diag.Printable(path))}
	}
	if len(parts) == 0 {
		all, err := seed.Explain(h.Host, h.words.Program)
		var names []string
		for _, part := range all {
			names = append(names, part.Path)
		}
		return errors.Join(err, usageError{fmt.Errorf("%s has nothing at %s: %s", h.Name, diag.Printable(path), diag.DidYouMean(path, names))})
	}
	if a.json {
		return a.printJSON(parts)
	}
	for _, part := range parts {
		if _, err := fmt.Fprintf(a.Stdout, "%s  %s\n", diag.Printable(part.Path), diag.Printable(part.From)); err != nil {
			return err
		}
		for _, line := range strings.Split(strings.TrimSuffix(part.Text, "\n"), "\n") {
			if _, err := fmt.Fprintf(a.Stdout, "  %s\n", diag.Printable(line)); err != nil {
				return err
			}
		}
	}
	return nil
}

// explainView is what --json shows.
type explainView struct {
	Host   string       `json:"host"`
	Parts  []seed.Part  `json:"parts"` // of the merged cloud-config
	Order  string       `json:"order"` // whose the order of the modules is
	Stages []seed.Stage `json:"stages"`
	Unread []string     `json:"unread"` // what no module reads
	Disks  []seed.Disk  `json:"disks"`
}

func (a *app) explain(h ready) (view explainView, err error) {
	view = explainView{Host: h.Name, Unread: []string{}}
	if view.Parts, err = seed.Explain(h.Host, h.words.Program); err != nil {
		return view, err
	}
	config, err := seed.Config(h.Host, h.words.Program)
	if err != nil {
		return view, err
	}
	modules, from := a.modules(h.Host)
	view.Order = from
	var unread []string
	view.Stages, unread = seed.Order(config, modules)
	view.Unread = append(view.Unread, unread...)
	view.Disks, err = h.words.Disks(h.Host)
	return view, err
}

func (v explainView) text() string {
	var out strings.Builder
	width := 0
	for _, part := range v.Parts {
		width = max(width, len(part.Path))
	}
	for _, part := range v.Parts {
		fmt.Fprintf(&out, "%-*s  %s\n", width, diag.Printable(part.Path), diag.Printable(part.From))
		if part.Text != "" {
			fmt.Fprintf(&out, "%-*s    %s\n", width, "", diag.Printable(part.Text))
		}
		for _, over := range part.Overrides {
			fmt.Fprintf(&out, "%-*s    instead of %s\n", width, "", diag.Printable(over))
		}
	}
	fmt.Fprintf(&out, "\nORDER (%s)\n", v.Order)
	for _, stage := range v.Stages {
		fmt.Fprintf(&out, "%s: %s\n", stage.Unit, stage.When)
		for _, step := range stage.Modules {
			fmt.Fprintf(&out, "  %-30s  %s\n", step.Module, diag.Printable(strings.Join(nonEmpty(ranges(step.Parts), step.Note), "; ")))
		}
	}
	if len(v.Unread) > 0 {
		fmt.Fprintf(&out, "read by none of these: %s\n", diag.Printable(ranges(v.Unread)))
	}
	out.WriteString("\nDISKS\n")
	for _, disk := range v.Disks {
		fmt.Fprintf(&out, "%s: %s\n", disk.Name, disk.Lasts)
		for _, content := range disk.Content {
			fmt.Fprintf(&out, "  %s\n", diag.Printable(content))
		}
	}
	return out.String()
}

func nonEmpty(texts ...string) (some []string) {
	for _, text := range texts {
		if text != "" {
			some = append(some, text)
		}
	}
	return some
}

// ranges writes a[0], a[1], a[2] as a[0-2].
func ranges(parts []string) string {
	var out []string
	for i := 0; i < len(parts); {
		name, rest, _ := strings.Cut(parts[i], "[")
		first, err := strconv.Atoi(strings.TrimSuffix(rest, "]"))
		j := i + 1
		for err == nil && j < len(parts) && parts[j] == fmt.Sprintf("%s[%d]", name, first+j-i) {
			j++
		}
		if j > i+1 {
			out = append(out, fmt.Sprintf("%s[%d-%d]", name, first, first+j-i-1))
		} else {
			out = append(out, parts[i])
		}
		i = j
	}
	return strings.Join(out, ", ")
}
