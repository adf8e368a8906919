package payload

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"bake/internal/inspect"
)

// system is what a base image says of itself that apt needs to know.
type system struct {
	arch    string
	status  []byte            // of dpkg
	sources []inspect.Source  // without those that cannot be used
	keys    map[string][]byte // keyrings by their path in the image
	pins    map[string][]byte // preferences, by file name
	skipped []string          // sources that cannot be used, and why
}

// read looks into a base image.
func read(ctx context.Context, file string) (s system, err error) {
	i, err := inspect.Open(ctx, file)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, i.Close()) }()
	findings, err := i.Findings()
	if err != nil {
		return s, err
	}
	s = system{arch: findings.Architecture, keys: map[string][]byte{}, pins: map[string][]byte{}}
	if s.status, err = i.ReadFile("/var/lib/dpkg/status"); err != nil {
		return s, err
	}
	for _, keyring := range findings.Keyrings {
		if s.keys[keyring.Path], err = i.ReadFile(keyring.Path); err != nil {
			return s, err
		}
	}
	if err := s.preferences(i); err != nil {
		return s, err
	}
	for _, source := range findings.Sources {
		if !slices.Contains(source.Types, "deb") || len(source.Architectures) > 0 && !slices.Contains(source.Architectures, s.arch) {
			continue
		}
		if err := s.source(i, source); err != nil {
			return s, err
		}
	}
	if len(s.sources) == 0 {
		return s, fmt.Errorf("%s names no archive that packages could come from%s", file, strings.Join(append([]string{""}, s.skipped...), "; "))
	}
	return s, nil
}

func (s *system) preferences(i *inspect.Image) error {
	const main, dir = "/etc/apt/preferences", "/etc/apt/preferences.d"
	files := []string{main}
	names, err := i.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, name := range names {
		if !strings.HasPrefix(name, ".") && (!strings.Contains(name, ".") || strings.HasSuffix(name, ".pref")) {
			files = append(files, path.Join(dir, name))
		}
	}
	for n, file := range files {
		content, err := i.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		s.pins[fmt.Sprintf("%03d", n)] = content
	}
	return nil
}

// source keeps a source with those of its URIs that can be used. A list of
// mirrors in the image, which Debian's cloud images have, is read here.
func (s *system) source(i *inspect.Image, source inspect.Source) error {
	var uris []string
	for _, uri := range source.URIs {
		list, isList := strings.CutPrefix(uri, "mirror+file:")
		if !isList {
			uris = append(uris, uri)
			continue
		}
		content, err := i.ReadFile(path.Clean("/" + list))
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(content)) {
			if fields := strings.Fields(line); len(fields) > 0 && !strings.HasPrefix(fields[0], "#") {
				uris = append(uris, fields[0])
			}
		}
	}
	for _, key := range source.SignedBy { // this machine may have one of that name
		if _, ok := s.keys[path.Clean(key)]; path.IsAbs(key) && !ok {
			return &IntegrityError{What: fmt.Sprintf("the image's source %s is signed by the keyring %s, which the image does not have", source.File, key)}
		}
	}
	source.URIs = nil
	for _, uri := range uris {
		u, err := url.Parse(uri)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || strings.ContainsAny(uri, " \n\t") {
			s.skipped = append(s.skipped, uri+" is no archive on the web")
			continue
		}
		source.URIs = append(source.URIs, uri)
	}
	if len(source.URIs) > 0 {
		s.sources = append(s.sources, source)
	}
	return nil
}

// moved returns a URI at a mirror: scheme, host and the beginning of the path
// are the mirror's, the rest the archive's own.
func moved(uri, mirror string) string {
	u, err := url.Parse(uri)
	if err != nil || mirror == "" {
		return uri
	}
	return strings.TrimRight(mirror, "/") + u.EscapedPath()
}

// write puts everything into a directory in which apt can work, and returns the
// configuration file that makes it do so.
func (s system) write(dir string, w Want, own []string) (config string, err error) {
	for _, sub := range []string{"keys", "trusted.d", "preferences.d", "lists/partial", "cache/archives/partial", "debs"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return "", err
		}
	}
	files := map[string][]byte{"status": s.status}
	place := map[string]string{} // of a keyring in the image: its file here
	for n, name := range sortedKeys(s.keys) {
		file := fmt.Sprintf("keys/%03d%s", n, path.Ext(name))
		if path.Dir(name) == "/etc/apt/trusted.gpg.d" {
			file = fmt.Sprintf("trusted.d/%03d%s", n, path.Ext(name))
		} else if name == "/etc/apt/trusted.gpg" {
			file = "trusted.gpg"
		}
		files[file], place[name] = s.keys[name], filepath.Join(dir, file)
	}
	for name, content := range s.pins {
		files["preferences.d/"+name] = content
	}
	files["bake.sources"] = []byte(s.deb822(w.Mirror, place))
	files["apt.conf"] = []byte(aptConfig(dir, s.arch, w.Expired, own))
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return "", err
		}
	}
	return filepath.Join(dir, "apt.conf"), nil
}

// deb822 writes the sources. They are never called trusted, whatever the image
// says: what is not signed by its own keys is not taken.
func (s system) deb822(mirror string, place map[string]string) string {
	var out strings.Builder
	for _, source := range s.sources {
		var uris []string
		for _, uri := range source.URIs {
			uris = append(uris, moved(uri, mirror))
		}
		slices.Sort(uris)
		fmt.Fprintf(&out, "Types: deb\nURIs: %s\nSuites: %s\n", strings.Join(slices.Compact(uris), " "), strings.Join(source.Suites, " "))
		if len(source.Components) > 0 {
			fmt.Fprintf(&out, "Components: %s\n", strings.Join(source.Components, " "))
		}
		var by []string
		for _, key := range source.SignedBy {
			if strings.HasPrefix(key, "-----BEGIN PGP") {
				by = append(by, "\n "+strings.ReplaceAll(strings.ReplaceAll(key, "\n\n", "\n.\n"), "\n", "\n "))
			} else if path.IsAbs(key) { // read has seen that it is there
				by = append(by, place[path.Clean(key)])
			} else {
				by = append(by, key)
			}
		}
		if len(by) > 0 {
			fmt.Fprintf(&out, "Signed-By: %s\n", strings.Join(by, " "))
		}
		out.WriteString("\n")
	}
	return out.String()
}
