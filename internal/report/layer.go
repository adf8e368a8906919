package report

import (
	"fmt"
	"strings"

	"bake/internal/claim"
	"bake/internal/verify"
)

// layerView is a layer and its claims.
type layerView struct {
	Name, ID        string
	Summary, Threat string
	Refs            []string
	Unseen          []string // why nothing can be seen from outside
	Claims          []claimView
	Held            int
}

func (l layerView) OK() bool { return l.Held == len(l.Claims) }

// claimView is a claim with the evidence for it.
type claimView struct {
	ID, Layer, LayerID string
	Claim, Where       string
	OK                 bool
	Took               string
	Evidence           []evidence
}

// evidence is a name and what a machine said or was told; a remark is in our words.
type evidence struct {
	Name, Text string
	IsRemark   bool
}

// layersOf are the layers of which something was tried, in the order of the report.
func layersOf(s Subject) (all []layerView) {
	about, checks := map[string]verify.Layer{}, map[[2]string]claim.Check{}
	for _, l := range s.Plan.Layers {
		about[l.Name] = l
		for _, c := range l.Checks {
			checks[[2]string{c.Layer, c.Claim}] = c
		}
	}
	index := map[string]int{}
	for n, result := range s.Report.Results {
		i, known := index[result.Layer]
		if !known {
			i = len(all)
			index[result.Layer] = i
			all = append(all, newLayer(result.Layer, fmt.Sprintf("layer-%d", i+1), about[result.Layer]))
		}
		c := newClaim(result, checks[[2]string{result.Layer, result.Claim}])
		c.ID, c.LayerID = fmt.Sprintf("claim-%d", n+1), all[i].ID
		all[i].Claims = append(all[i].Claims, c)
		if c.OK {
			all[i].Held++
		}
	}
	return all
}

func newLayer(name, id string, about verify.Layer) layerView {
	l := layerView{Name: name, ID: id, Summary: about.Summary, Threat: about.Threat, Refs: about.Refs}
	if isBoot(name) {
		l.Name, l.Summary = claim.BootLayer, "What is claimed of every machine, whatever its layers."
	}
	for _, c := range about.Checks {
		if c.Outside != nil && c.Outside.None != "" {
			l.Unseen = append(l.Unseen, c.Outside.None)
		}
	}
	return l
}

func newClaim(r verify.Result, check claim.Check) claimView {
	c := claimView{Layer: r.Layer, Claim: r.Claim, Where: r.Where, OK: holds(r)}
	if r.Took > 0 {
		c.Took = fmt.Sprintf("%.1f s", float64(r.Took)/1000)
	}
	said := func(name, text string) { c.Evidence = append(c.Evidence, evidence{Name: name, Text: shorten(text)}) }
	remark := func(name, text string) { c.Evidence = append(c.Evidence, evidence{name, shorten(text), true}) }
	orNothing := func(name, text string) {
		if text == "" {
			remark(name, "nothing")
			return
		}
		said(name, text)
	}
	if ran := strings.TrimSpace(r.Ran); ran != "" {
		said("ran", ran)
	}
	switch {
	case r.Where == "console" && r.OK:
		remark("got", "a console with the keys of its sshd")
	case r.Where == "console":
		said("got", r.Got)
	default:
		orNothing("wanted", r.Want)
		orNothing("got", r.Got)
	}
	broken := strings.TrimSpace(check.Falsify)
	switch {
	case r.Falsified != nil && *r.Falsified:
		said("broken by", strings.TrimSpace(r.Falsify))
		orNothing("then got", r.After)
		remark("verdict", "it failed then, as it must: this check can fail")
	case r.Falsified != nil:
		said("broken by", strings.TrimSpace(r.Falsify))
		remark("verdict", r.After)
	case r.After != "":
		remark("breaking it", r.After)
	case broken != "" && r.OK:
		said("breaks it", broken)
	}
	return c
}

// What a guest said is shown up to here: a page is for reading.
const (
	mostBytes = 6 << 10
	mostLines = 80
)

func shorten(text string) string {
	lines := strings.Split(text, "\n")
	whole := len(text)
	if len(lines) > mostLines {
		text = strings.Join(lines[:mostLines], "\n")
	}
	if len(text) > mostBytes {
		text = strings.ToValidUTF8(text[:mostBytes], "")
	}
	if len(text) < whole {
		text += fmt.Sprintf("\n... %d bytes in all: report.json has them", whole)
	}
	return text
}
