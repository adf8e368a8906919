package inspect

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
)

const (
	maxStatus   = 32 << 20 // bytes of dpkg's status: ten thousand packages are 10 MiB
	maxConfig   = 1 << 20  // bytes of a file of configuration, a schema or a keyring
	maxSchemas  = 16
	maxRead     = 256 // files of one directory
	lookingTime = 30 * time.Second
)

// Findings is what an image says about itself. It goes through JSON without
// loss, so that a caller can keep it by the image's digest. Words of the image
// are valid UTF-8 without control characters, but for the lines of an armored key.
type Findings struct {
	Distribution string      `json:"distribution"` // ID of os-release
	Release      string      `json:"release"`      // VERSION_ID: "" for Debian testing and unstable
	Codename     string      `json:"codename"`
	PrettyName   string      `json:"pretty_name"`
	Architecture string      `json:"architecture"` // as dpkg calls it
	Format       string      `json:"format"`       // qcow2 or raw
	Size         int64       `json:"size"`         // of the virtual disk, in bytes
	Root         int         `json:"root"`         // number of the partition with the root file system
	Partitions   []Partition `json:"partitions"`
	Kernels      []string    `json:"kernels"` // versions, from the names in /boot
	CloudInit    CloudInit   `json:"cloud_init"`
	Systemd      string      `json:"systemd"`  // version of the package
	Packages     []Package   `json:"packages"` // by name
	Sources      []Source    `json:"sources"`  // in apt's order
	Keyrings     []Keyring   `json:"keyrings"` // by path
	Notes        []string    `json:"notes"`    // what is odd, but does not stop a build
}

// Look opens an image, collects what it says about itself and closes it. It
// takes 30 seconds at most, and less when ctx says so.
func Look(ctx context.Context, path string) (Findings, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, lookingTime, fmt.Errorf("not done after %v", lookingTime))
	defer cancel()
	image, err := Open(ctx, path)
	if err != nil {
		return Findings{}, err
	}
	findings, err := image.Findings()
	return findings, errors.Join(err, image.Close())
}

// Findings collects what the image says about itself.
func (i *Image) Findings() (f Findings, err error) {
	defer i.explain(&err, "")
	f = Findings{
		Format: i.disk.format, Size: i.disk.size, Root: i.rootAt.Number, Partitions: i.partitions,
		Kernels: []string{}, Packages: []Package{}, Sources: []Source{}, Keyrings: []Keyring{}, Notes: []string{},
	}
	if i.recovered {
		f.note("the partition table is damaged: its backup at the end of the disk was read")
	}
	if i.root.dirty {
		f.note("the root file system was not unmounted: changes that are only in its journal are not seen here")
	}
	for _, collect := range []func(*Findings) error{
		i.collectRelease, i.collectPackages, i.collectArchitecture, i.collectKernels,
		i.collectCloudInit, i.collectSources, i.collectKeyrings,
	} {
		if err := collect(&f); err != nil {
			return Findings{}, err
		}
	}
	return f, nil
}

func (f *Findings) note(text string) {
	if text != "" && len(f.Notes) < maxRead {
		f.Notes = append(f.Notes, text)
	}
}

// version returns the version of an installed package, or "".
func (f *Findings) version(name string) string {
	for _, p := range f.Packages {
		if p.Name == name {
			return p.Version
		}
	}
	return ""
}

// noFile is the error of a path without a regular file.
func noFile(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotRegular)
}

// text reads a file as text. One that is not there is empty.
func (i *Image) text(name string, limit int64) (string, error) {
	content, err := i.readFile(name, limit)
	if noFile(err) {
		return "", nil
	}
	return clean(strings.ReplaceAll(string(content), "\r\n", "\n")), err
}

// list lists a directory. One that is not there is empty.
func (i *Image) list(name string) ([]string, error) {
	names, err := i.ReadDir(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return names, err
}

func (i *Image) collectRelease(f *Findings) error {
	text, err := i.text("/etc/os-release", maxConfig)
	if text == "" && err == nil {
		text, err = i.text("/usr/lib/os-release", maxConfig)
	}
	if err != nil {
		return err
	}
	if text == "" {
		return fmt.Errorf("partition %d has no os-release: it is not the root file system of a distribution", f.Root)
	}
	values := osRelease(text)
	f.Distribution, f.Release = values["ID"], values["VERSION_ID"]
	f.Codename, f.PrettyName = values["VERSION_CODENAME"], values["PRETTY_NAME"]
	return nil
}

func (i *Image) collectPackages(f *Findings) error {
	text, err := i.text("/var/lib/dpkg/status", maxStatus)
	if err != nil {
		return err
	}
	f.Packages = installed(text)
	f.Systemd = f.version("systemd")
	return nil
}

// collectArchitecture asks dpkg itself, which is never of a foreign
// architecture, then its list of architectures, then a program.
func (i *Image) collectArchitecture(f *Findings) error {
	for _, p := range f.Packages {
		if p.Name == "dpkg" {
			f.Architecture = p.Architecture
			return nil
		}
	}
	text, err := i.text("/var/lib/dpkg/arch", maxConfig)
	if err != nil {
		return err
	}
	if fields := strings.Fields(text); len(fields) > 0 {
		f.Architecture = fields[0]
		return nil
	}
	program, err := i.readFile("/bin/sh", maxFile)
	if noFile(err) {
		return nil
	}
	f.Architecture = elfArchitecture(program)
	return err
}

func (i *Image) collectKernels(f *Findings) error {
	names, err := i.list("/boot")
	for _, name := range names {
		if version, found := strings.CutPrefix(name, "vmlinuz-"); found {
			f.Kernels = append(f.Kernels, line(version))
		}
	}
	return err
}

func (i *Image) collectCloudInit(f *Findings) error {
	text, err := i.text(cloudInitDir+"/version.py", maxConfig)
	if err != nil {
		return err
	}
	c := CloudInit{Version: cloudInitVersion(text)}
	if text == "" {
		c.Version = f.version("cloud-init")
	}
	files, err := i.cloudFiles()
	if err != nil {
		return err
	}
	for _, file := range files {
		text, err := i.text(file, maxConfig)
		if err != nil {
			return err
		}
		f.note(c.configure(line(file), text))
	}
	switch _, err := i.find("/etc/cloud/cloud-init.disabled"); {
	case err == nil:
		c.Disabled = true
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	f.CloudInit = c
	return nil
}

// cloudFiles are cloud-init's own configuration, in the order in which they are read.
func (i *Image) cloudFiles() ([]string, error) {
	const dir = "/etc/cloud/cloud.cfg.d"
	files := []string{"/etc/cloud/cloud.cfg"}
	dropIns, err := i.list(dir)
	for _, name := range dropIns {
		if strings.HasSuffix(name, ".cfg") && len(files) < maxRead {
			files = append(files, path.Join(dir, name))
		}
	}
	return files, err
}

func (i *Image) collectSources(f *Findings) error {
	names, err := i.list("/etc/apt/sources.list.d")
	if err != nil {
		return err
	}
	files := []string{"/etc/apt/sources.list"}
	for _, name := range names {
		if aptReads(name, ".list", ".sources") && len(files) < maxRead {
			files = append(files, path.Join("/etc/apt/sources.list.d", name))
		}
	}
	for _, file := range files {
		text, err := i.text(file, maxConfig)
		if err != nil {
			return err
		}
		parse := sourceLines
		if strings.HasSuffix(file, ".sources") {
			parse = sourceStanzas
		}
		sources, notes := parse(file, text)
		f.Sources = append(f.Sources, sources...)
		for _, note := range notes {
			f.note(note)
		}
	}
	return nil
}

// collectKeyrings takes apt's own keyrings, those a source names, and those
// that lie where packages put theirs.
func (i *Image) collectKeyrings(f *Findings) error {
	paths := []string{"/etc/apt/trusted.gpg"}
	for _, dir := range []string{"/etc/apt/trusted.gpg.d", "/etc/apt/keyrings", "/usr/share/keyrings"} {
		names, err := i.list(dir)
		if err != nil {
			return err
		}
		for _, name := range names {
			if aptReads(name, ".gpg", ".asc", ".pgp") && len(paths) < maxRead {
				paths = append(paths, path.Join(dir, name))
			}
		}
	}
	for _, s := range f.Sources {
		for _, by := range s.SignedBy {
			if path.IsAbs(by) && len(paths) < 2*maxRead {
				paths = append(paths, path.Clean(by))
			}
		}
	}
	slices.Sort(paths)
	for _, file := range slices.Compact(paths) {
		content, err := i.readFile(file, maxConfig)
		if noFile(err) {
			continue
		}
		if err != nil {
			return err
		}
		sum := sha256.Sum256(content)
		f.Keyrings = append(f.Keyrings, Keyring{file, hex.EncodeToString(sum[:])})
	}
	return nil
}
