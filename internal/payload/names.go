package payload

import (
	"bufio"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// Names are the packages that an image's archives had when apt last read their
// lists, with what those packages provide and what the image has itself.
type Names struct{ text []byte } // sorted, a line each

// Has reports whether there is a package of that name.
func (n Names) Has(name string) bool {
	line := []byte(name + "\n")
	begin := func(i int) int { return bytes.LastIndexByte(n.text[:i], '\n') + 1 }
	at := begin(sort.Search(len(n.text), func(i int) bool {
		start := begin(i)
		end := start + bytes.IndexByte(n.text[start:], '\n')
		return string(n.text[start:end]) >= name
	}))
	return bytes.HasPrefix(n.text[at:], line)
}

func (b Builder) namesFile(image string) string { return filepath.Join(b.Dir, "names", image+".txt") }

// Names returns those of the base image with that SHA-256; ok is false where no
// lists have been read for it.
func (b Builder) Names(image string) (n Names, ok bool) {
	if b.Dir == "" || image == "" {
		return n, false
	}
	n.text, _ = os.ReadFile(b.namesFile(image))
	return n, bytes.HasSuffix(n.text, []byte("\n"))
}

// DropNames forgets those of an image that is gone.
func (b Builder) DropNames(image string) error {
	if err := os.Remove(b.namesFile(image)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// keepNames writes which packages there are. Failing only costs later runs what
// they could have known.
func (a apt) keepNames(image string) {
	paths, err := filepath.Glob(filepath.Join(a.dir, "lists", "*_Packages"))
	if err != nil || len(paths) == 0 {
		return // none, or in a form that apt alone reads
	}
	all := map[string]bool{}
	for _, path := range append(paths, filepath.Join(a.dir, "status")) {
		if err := readNames(path, all); err != nil {
			return
		}
	}
	var text bytes.Buffer
	for _, name := range sortedKeys(all) {
		text.WriteString(name + "\n")
	}
	file := a.b.namesFile(image)
	draft := filepath.Join(a.dir, "names")
	if os.MkdirAll(filepath.Dir(file), 0o700) == nil && os.WriteFile(draft, text.Bytes(), 0o600) == nil {
		_ = os.Rename(draft, file)
	}
}

// readNames collects the names in a list of packages.
func readNames(path string, all map[string]bool) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	scanner := bufio.NewScanner(file)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		key, value, _ := strings.Cut(scanner.Text(), ": ")
		if key != "Package" && key != "Provides" {
			continue
		}
		for name := range strings.SplitSeq(value, ",") {
			name, _, _ = strings.Cut(strings.TrimSpace(name), " ")
			if name, _, _ = strings.Cut(name, ":"); name != "" {
				all[name] = true
			}
		}
	}
	return scanner.Err()
}
