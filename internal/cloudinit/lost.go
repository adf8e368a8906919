package cloudinit

import (
	"fmt"
	"slices"

	"bake/internal/diag"
	"bake/internal/doc"
	"bake/internal/pyyaml"
)

// Lost lists, in the order of the parts, what stands in the file and has no
// effect: parts that cloud-init drops, and values that its merge drops.
func (r Result) Lost() diag.List {
	var lost diag.List
	if r.Fatal != "" {
		lost.Add(diag.Problem{Pos: diag.Position{File: r.file}, Message: "nothing of the user-data is applied: " + r.Fatal, Width: 1})
		return lost
	}
	for _, part := range r.Parts {
		if part.Verdict == Lost {
			lost.Add(diag.Problem{Pos: part.Pos, Path: part.Name, Message: "the part is lost: " + part.Reason, Width: 1})
		}
		if part.Verdict == Merged && part.Config != nil && r.Config != nil {
			var l loss
			l.pairs("", part.Config, r.Config)
			lost.Add(l.problems...)
		}
	}
	return lost
}

const appendHint = "put merge_how: [{name: list, settings: [append]}, {name: dict, settings: [no_replace, recurse_list]}] " +
	"into every part, or make one document of them"

// loss collects what of a part is not in the final configuration.
type loss struct {
	problems diag.List
}

func (l *loss) add(path string, n, instead *doc.Node) {
	problem := n.Problem(path, appendHint, "the value is lost: a later part deletes it")
	if instead != nil {
		problem.Message = fmt.Sprintf("the value is lost: the one at %s is what counts", instead.Pos)
	}
	l.problems.Add(problem)
}

func (l *loss) pairs(path string, part, final *doc.Node) {
	places := placesOf(final)
	for _, pair := range part.Pairs {
		at := doc.Join(path, pair.Key.Text)
		i, is := places[pyyaml.Identity(pair.Key)]
		if !is {
			l.add(at, pair.Key, nil)
			continue
		}
		l.value(at, pair.Key, pair.Value, final.Pairs[i].Value)
	}
}

// value compares what a part says with what there is. A problem points at the
// key, or at the entry of a list of which others are kept.
func (l *loss) value(path string, key, part, final *doc.Node) {
	switch {
	case part == final || equal(part, final):
	case part.Kind == doc.Map && final.Kind == doc.Map:
		l.pairs(path, part, final)
	case part.Kind == doc.List && final.Kind == doc.List:
		var gone []int
		for i, item := range part.Items {
			if !slices.ContainsFunc(final.Items, func(n *doc.Node) bool { return equal(item, n) }) {
				gone = append(gone, i)
			}
		}
		if len(gone) == len(part.Items) && len(gone) > 0 {
			l.add(path, key, final)
			return
		}
		for _, i := range gone {
			l.add(fmt.Sprintf("%s[%d]", path, i), part.Items[i], final)
		}
	default:
		l.add(path, key, final)
	}
}
