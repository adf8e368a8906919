package host

import "bake/internal/layer"

// stateLayer finds and mounts the disk that outlives the root disk; the key of machine
// has the same name.
const stateLayer = "state"

// keeping puts the layer that mounts the state disk before all others if there is
// such a disk.
func (r *resolver) keeping(all []chosen, shelf layer.Shelf) []chosen {
	listed := find(all, stateLayer)
	machine := r.node.Get("machine")
	wanted := machine != nil && machine.Get(stateLayer) != nil
	switch {
	case listed >= 0 && !wanted:
		r.problems.Add(all[listed].name.Problem(all[listed].path, "remove it, or write machine: {state: 20GiB}, which brings the layer along",
			"the machine has no disk that the layer could mount"))
		return all
	case listed < 0 && (!wanted || r.host.Machine.State == 0): // of no size: reported already
		return all
	}
	return r.first(all, keyOf(machine, stateLayer), "machine."+stateLayer, shelf)
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
