package host

import (
	"slices"

	"bake/internal/doc"
	"bake/internal/layer"
)

// stateLayer finds and mounts the disk that outlives the root disk.
const stateLayer = "state"

// keeping puts the layer that mounts the state disk before all others if there is
// such a disk.
func (r *resolver) keeping(all []chosen, shelf layer.Shelf) []chosen {
	listed := slices.IndexFunc(all, func(c chosen) bool { return c.name.Text == stateLayer })
	machine := r.node.Get("machine")
	wanted := machine != nil && machine.Get(stateLayer) != nil
	switch {
	case listed >= 0 && !wanted:
		r.problems.Add(all[listed].name.Problem(all[listed].path, "remove it, or write machine: {state: 20GiB}, which brings the layer along",
			"the machine has no disk that the layer could mount"))
		return all
	case listed >= 0:
		c := all[listed]
		return slices.Insert(slices.Delete(all, listed, listed+1), 0, c)
	case !wanted || r.host.Machine.State == 0: // of no size: reported already
		return all
	}
	at := slices.IndexFunc(machine.Pairs, func(p doc.Pair) bool { return p.Key.Text == stateLayer })
	c, ok := r.choose(machine.Pairs[at].Key, "machine."+stateLayer, shelf)
	if !ok {
		return all
	}
	return slices.Insert(all, 0, c)
}

// outliving lists what the layers want to keep, and reports two layers of which one
// has its directory in the other's.
func (r *resolver) outliving(all []chosen) []string {
	var list []string
	var dirs []layer.StateDir
	var owners []chosen
	for _, c := range all {
		for _, dir := range c.layer.State {
			for i, other := range dirs {
				if owners[i].name != c.name && (other.Holds(dir) || dir.Holds(other)) {
					r.problems.Add(c.name.Problem(c.path, "", "the layers %s and %s keep their state in one another's: %s, %s",
						owners[i].name.Text, c.name.Text, other.Dir, dir.Dir))
				}
			}
			dirs, owners, list = append(dirs, dir), append(owners, c), append(list, dir.String())
		}
	}
	return list
}
