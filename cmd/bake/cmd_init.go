package main

import (
	"bytes"
	_ "embed" // for the host file that init writes
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/urfave/cli/v2"

	"bake/internal/host"
	"bake/internal/layer"
)

func initCommand(a *app) *cli.Command {
	return &cli.Command{
		Name:      "init",
		Usage:     "write a commented host file",
		ArgsUsage: "HOST",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "key", Usage: "public key of the admin (default: ~/.ssh/id_ed25519.pub)"}},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usageError{errors.New("name the host: bake init HOST")}
			}
			return runInit(a, c.Args().First(), c.String("key"))
		},
	}
}

//go:embed host.yaml.tmpl
var hostFileText string

var hostFile = template.Must(template.New("host").Parse(hostFileText))

func runInit(a *app, name, keyFile string) error {
	path := filepath.Join(a.config, "hosts", name+".yaml")
	if !host.IsName(name) {
		return usageError{fmt.Errorf("%q is no name for a host: want a-z, 0-9 and -, starting with a letter, at most 63", name)}
	}
	key, err := a.adminKey(keyFile)
	if err != nil {
		return err
	}
	var content bytes.Buffer
	if err := hostFile.Execute(&content, struct{ Name, Key string }{name, key}); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return usageError{fmt.Errorf("%s exists already; it was left as it is", path)}
	}
	if err != nil {
		return err
	}
	_, err = file.Write(content.Bytes())
	if err := errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	if key == "" {
		a.say("%s has no key yet: put your public key under admin.keys", path)
	}
	return a.printPath(name, path)
}

// adminKey reads a public key from a file, or from the usual place if there is
// one.
func (a *app) adminKey(path string) (string, error) {
	usual := path == ""
	if usual {
		path = filepath.Join(a.Getenv("HOME"), ".ssh", "id_ed25519.pub")
	}
	data, err := os.ReadFile(path)
	if usual && err != nil {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	key := strings.TrimSpace(string(data))
	if err := layer.CheckKey(key); err != nil {
		return "", usageError{fmt.Errorf("--key %s: %w", path, err)}
	}
	return key, nil
}
