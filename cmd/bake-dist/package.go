package main

import (
	_ "embed" // for the description of the packages and what runs when they are installed
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/template"
	"time"
)

//go:embed nfpm.yaml.tmpl
var packageText string

//go:embed postinst.sh
var installed string

//go:embed prerm.sh
var removed string

//go:embed sysusers.conf
var users string

//go:embed tmpfiles.conf
var places string

// packages has nfpm make a package of each kind for each architecture.
func (d *dist) packages() error {
	for name, text := range map[string]string{"postinst": installed, "prerm": removed, "sysusers": users, "tmpfiles": places} {
		if err := os.WriteFile(filepath.Join(d.stage, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	packager, err := d.packager()
	if err != nil {
		return err
	}
	clone, err := os.Getwd()
	if err != nil {
		return err
	}
	out, err := filepath.Abs(d.out)
	if err != nil {
		return err
	}
	description := template.Must(template.New("nfpm").Parse(packageText))
	for _, arch := range arches {
		program, err := filepath.Abs(d.program(arch))
		if err != nil {
			return err
		}
		path := filepath.Join(d.stage, "nfpm.yaml")
		file, err := os.Create(path)
		if err != nil {
			return err
		}
		err = description.Execute(file, map[string]string{"Arch": arch, "Version": d.version, "Time": d.commit.Format(time.RFC3339),
			"Program": program, "Stage": d.stage, "Clone": clone})
		if err := errors.Join(err, file.Close()); err != nil {
			return err
		}
		for _, kind := range []string{"deb", "rpm"} {
			if _, err := output(packager, "package", "--config", path, "--packager", kind, "--target", out); err != nil {
				return err
			}
		}
	}
	return nil
}

// packager installs nfpm where it is forgotten again; Go's own cache keeps it.
func (d *dist) packager() (string, error) {
	bin := filepath.Join(d.stage, "bin")
	cmd := exec.Command("go", "install", nfpm)
	cmd.Dir = d.stage // outside the module
	cmd.Env = append(os.Environ(), "GOBIN="+bin, "GOFLAGS=-trimpath", "CGO_ENABLED=0", "GOOS=", "GOARCH=")
	if said, err := cmd.CombinedOutput(); err != nil {
		return "", errors.New("installing nfpm: " + strings.TrimSpace(string(said)))
	}
	return filepath.Join(bin, "nfpm"), nil
}
