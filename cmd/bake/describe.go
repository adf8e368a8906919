package main

import (
	"fmt"
	"strings"

	"bake/internal/inspect"
)

// describe is what people are shown, a line each.
func describe(f inspect.Findings) []string {
	var lines []string
	add := func(key, format string, args ...any) {
		lines = append(lines, strings.TrimRight(fmt.Sprintf("%-14s ", key)+fmt.Sprintf(format, args...), " "))
	}
	add("system", "%s", f.PrettyName)
	add("release", "%s %s (%s), %s", f.Distribution, f.Release, f.Codename, f.Architecture)
	add("disk", "%s, %s", f.Format, amount(f.Size))
	for _, p := range f.Partitions {
		add(fmt.Sprintf("partition %d", p.Number), "%s %s %s %s", amount(p.Size), p.TypeName, p.FileSystem, p.Label)
	}
	add("kernel", "%s", strings.Join(f.Kernels, ", "))
	add("cloud-init", "%s, NoCloud %s, default user %s", f.CloudInit.Version, map[bool]string{true: "yes", false: "no"}[f.CloudInit.NoCloud()], f.CloudInit.DefaultUser)
	add("systemd", "%s", f.Systemd)
	for _, s := range f.Sources {
		add("apt source", "%s %s %s %s", strings.Join(s.Types, " "), strings.Join(s.URIs, " "), strings.Join(s.Suites, " "), strings.Join(s.Components, " "))
	}
	add("keyrings", "%d (--json lists them)", len(f.Keyrings))
	add("packages", "%d (--json and --sbom list them)", len(f.Packages))
	for _, text := range f.Notes {
		add("note", "%s", text)
	}
	for _, text := range f.Problems(inspect.Requirement{}) {
		add("problem", "%s", text)
	}
	return lines
}
