package origin

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// whole tells a list from what a broken server or connection leaves of one. It
// looks before any signature does, to give the reason its proper name.
func whole(list []byte) error {
	switch {
	case len(bytes.TrimSpace(list)) == 0:
		return errors.New("the list of checksums is empty")
	case list[len(list)-1] != '\n':
		return errors.New("the list of checksums is cut off: its last line has no end")
	}
	return nil
}

// parseSums reads a list as sha256sum writes it: digest, blank, * or blank,
// name. Strict, because there is one writer: anything else in it means that
// this is not its list.
func parseSums(list []byte, algorithm string) (map[string]string, error) {
	if err := whole(list); err != nil {
		return nil, err
	}
	digests := map[string]string{}
	for i, line := range strings.Split(strings.TrimSuffix(string(list), "\n"), "\n") {
		n := hexLength[algorithm]
		if len(line) < n+3 || !isDigest(algorithm, line[:n]) || line[n] != ' ' || line[n+1] != '*' && line[n+1] != ' ' {
			return nil, fmt.Errorf("line %d of the list, %s, is not a %s and a name", i+1, quote(line), algorithm)
		}
		name := line[n+2:]
		if !fileName.MatchString(name) {
			return nil, fmt.Errorf("line %d of the list has %s, which is not the plain name of a file", i+1, quote(name))
		}
		if _, twice := digests[name]; twice {
			return nil, fmt.Errorf("line %d of the list has %s a second time", i+1, name)
		}
		digests[name] = line[:n]
	}
	return digests, nil
}

// quote returns the beginning of foreign text so that it stays in its line.
func quote(text string) string {
	if len(text) > 80 {
		return fmt.Sprintf("%q...", text[:80])
	}
	return fmt.Sprintf("%q", text)
}
