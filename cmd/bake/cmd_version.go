package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"
)

func versionCommand(a *app) *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "print the version from the build's own records",
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			return runVersion(a)
		},
	}
}

func runVersion(a *app) error {
	if a.json {
		return a.printJSON(map[string]string{"version": version(), "go": runtime.Version(),
			"platform": runtime.GOOS + "/" + runtime.GOARCH})
	}
	_, err := fmt.Fprintf(a.Stdout, "bake %s %s %s/%s\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}

// release and released, the day, are set by the linker in what cmd/bake-dist makes.
var release, released string

// version is a release's, or the module's version, or the commit a development build was made
// from; "devel" when the build recorded neither.
func version() string {
	if release != "" {
		return release
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	setting := map[string]string{}
	for _, s := range info.Settings {
		setting[s.Key] = s.Value
	}
	switch revision := setting["vcs.revision"]; {
	case info.Main.Version != "" && info.Main.Version != "(devel)":
		return info.Main.Version
	case len(revision) >= 12:
		if setting["vcs.modified"] == "true" {
			return revision[:12] + "+changed"
		}
		return revision[:12]
	}
	return "devel"
}
