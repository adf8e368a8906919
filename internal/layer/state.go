package layer

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"bake/internal/doc"
)

// maxOwner bounds a number of a user in a layer: containers' users come after it.
const maxOwner = 65533

// A StateDir is a directory of the guest that outlives the root disk, where the
// host has a disk for that.
type StateDir struct {
	Dir   string // absolute
	Owner int    // number of the user and the group whose alone it is; 0 for root or whoever takes it
}

// String is the directory with its owner, as the guest's list has it.
func (d StateDir) String() string {
	if d.Owner == 0 {
		return d.Dir
	}
	return fmt.Sprintf("%s:%d", d.Dir, d.Owner)
}

// Holds reports whether the other directory is this one or in it.
func (d StateDir) Holds(other StateDir) bool {
	return other.Dir == d.Dir || strings.HasPrefix(other.Dir, d.Dir+"/")
}

// states reads the key state: a list of directories, each alone or with its owner.
func (l *loader) states(n *doc.Node) {
	if n == nil {
		return
	}
	if n.Kind != doc.List || len(n.Items) == 0 {
		l.problems.Add(n.Problem("state", "state: [/var/lib/agent: 782]", "want a list of directories"))
		return
	}
	for i, item := range n.Items {
		at := fmt.Sprintf("state[%d]", i)
		dir, ok := l.state(item, at)
		if !ok {
			continue
		}
		for _, other := range l.State {
			if other.Holds(dir) || dir.Holds(other) {
				l.problems.Add(item.Problem(at, "list the outer one", "%s and %s are in one another", other.Dir, dir.Dir))
			}
		}
		l.State = append(l.State, dir)
	}
}

func (l *loader) state(item *doc.Node, at string) (StateDir, bool) {
	name, dir := item, StateDir{}
	if item.Kind == doc.Map && len(item.Pairs) == 1 {
		pair := item.Pairs[0]
		name = pair.Key
		owner, err := strconv.Atoi(pair.Value.Text)
		if pair.Value.Kind != doc.Int || err != nil || owner < 1 || owner > maxOwner {
			l.problems.Add(pair.Value.Problem(at, "a name could be another number after a rebuild",
				"%q is not allowed, want the number of a user, 1 to %d", pair.Value.Text, maxOwner))
			return dir, false
		}
		dir.Owner = owner
	}
	if name.Kind != doc.String || !guest.MatchString(name.Text) || path.Clean(name.Text) != name.Text || !mayOutlive(name.Text) {
		l.problems.Add(item.Problem(at, "", "%q is not allowed, want a directory in one of %s", name.Text, strings.Join(stateful, ", ")))
		return dir, false
	}
	dir.Dir = name.Text
	return dir, true
}

// stateful are the places where state is. What is elsewhere is the root disk's: its
// programs, its configuration, what bake and cloud-init have written.
var stateful = []string{"/home", "/opt", "/srv", "/var/cache", "/var/lib", "/var/log", "/var/spool"}

func mayOutlive(dir string) bool {
	for _, own := range []string{"/var/lib/bake", "/var/lib/cloud", "/var/lib/dpkg", "/var/lib/systemd", "/var/lib/apt"} {
		if (StateDir{Dir: own}).Holds(StateDir{Dir: dir}) {
			return false
		}
	}
	for _, place := range stateful {
		if strings.HasPrefix(dir, place+"/") {
			return true
		}
	}
	return false
}
