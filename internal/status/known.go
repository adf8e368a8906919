package status

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// KnownFile is the file beside a host's generations by which ssh knows it.
const KnownFile = "known_hosts"

// KnownHosts returns what ssh is to know of a machine: the keys that it has printed
// on its console, under its name and its addresses, and nothing else.
func KnownHosts(host string, addresses []string, keys []ssh.PublicKey) []byte {
	var lines []string
	for _, key := range keys {
		lines = append(lines, strings.Join(append([]string{host}, addresses...), ",")+" "+string(ssh.MarshalAuthorizedKey(key)))
	}
	slices.Sort(lines)
	return []byte("# The ssh host keys that " + host + " has printed on its console, by bake status.\n" +
		strings.Join(slices.Compact(lines), ""))
}

// Changes says in words how keys differ from those in an earlier file, nil for one
// that was not there: nothing when they do not.
func Changes(earlier []byte, keys []ssh.PublicKey) []string {
	if earlier == nil {
		return nil
	}
	var changes []string
	was, now := map[string][]string{}, map[string][]string{}
	var types []string
	note := func(where map[string][]string, key ssh.PublicKey) {
		where[key.Type()] = append(where[key.Type()], ssh.FingerprintSHA256(key))
		types = append(types, key.Type())
	}
	for rest := earlier; ; {
		_, _, key, _, next, err := ssh.ParseKnownHosts(rest)
		if err != nil {
			break
		}
		note(was, key)
		rest = next
	}
	for _, key := range keys {
		note(now, key)
	}
	slices.Sort(types)
	for _, kind := range slices.Compact(types) {
		before, after := set(was[kind]), set(now[kind])
		switch {
		case before == after:
		case before == "":
			changes = append(changes, fmt.Sprintf("%s %s is new", kind, after))
		case after == "":
			changes = append(changes, fmt.Sprintf("%s %s is gone", kind, before))
		default:
			changes = append(changes, fmt.Sprintf("%s was %s and is %s", kind, before, after))
		}
	}
	return changes
}

func set(words []string) string {
	slices.Sort(words)
	return strings.Join(slices.Compact(words), ", ")
}
