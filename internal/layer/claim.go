package layer

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"bake/internal/claim"
	"bake/internal/diag"
	"bake/internal/doc"
)

var matchers = []string{"is", "has", "lacks", "exit"}
var observations = []string{"tcp", "ssh", "none"}

// checkShapes demands of every check, before any parameter is known, that it
// can fail: a claim, one observation and a command that falsifies it.
func (l *loader) checkShapes() {
	if l.checks == nil {
		return
	}
	isBool := func(at *doc.Node, path string) {
		if at != nil && at.Kind != doc.Bool {
			l.problems.Add(at.Problem(path, "", "this is %s, want true or false", at.Kind))
		}
	}
	get := l.checks.Fields("checks", &l.problems, "parallel", "inside", "outside")
	isBool(get("parallel"), "checks.parallel")
	l.eachCheck(get("inside"), "checks.inside", func(n *doc.Node, path string) {
		field := n.Fields(path, &l.problems, append([]string{"claim", "run", "falsify", "sealed"}, matchers...)...)
		isBool(field("sealed"), path+".sealed")
		l.demand(n, path, field, "claim", "run", "falsify")
		l.exactlyOne(n, path, field, matchers)
	})
	l.eachCheck(get("outside"), "checks.outside", func(n *doc.Node, path string) {
		field := n.Fields(path, &l.problems, append([]string{"claim", "falsify"}, observations...)...)
		l.exactlyOne(n, path, field, observations)
		if field("none") == nil {
			l.demand(n, path, field, "claim", "falsify")
		}
	})
}

func (l *loader) eachCheck(list *doc.Node, path string, visit func(n *doc.Node, path string)) {
	if list == nil {
		return
	}
	if list.Kind != doc.List {
		l.problems.Add(list.Problem(path, "", "this is %s, want a list of checks", list.Kind))
	} else if len(list.Items) == 0 {
		l.problems.Add(list.Problem(path, "write a check, or remove the key", "the list of checks is empty"))
	}
	for i, item := range list.Items {
		visit(item, fmt.Sprintf("%s[%d]", path, i))
	}
}

func (l *loader) demand(n *doc.Node, path string, field func(string) *doc.Node, keys ...string) {
	for _, key := range keys {
		switch at := field(key); {
		case at == nil && key == "falsify":
			l.problems.Add(n.Problem(path, "add `falsify:` with a command, run as root in the guest, after which the check must fail",
				"the claim has no falsify: a check that cannot fail proves nothing"))
		case at == nil:
			l.problems.Add(n.Problem(path, "", "the key %q is missing", key))
		case at.Kind != doc.String || at.Text == "":
			l.problems.Add(at.Problem(path+"."+key, "", "this is %s, want text", at.Kind))
		}
	}
}

func (l *loader) exactlyOne(n *doc.Node, path string, field func(string) *doc.Node, keys []string) {
	var given []string
	for _, key := range keys {
		if field(key) != nil {
			given = append(given, key)
		}
	}
	if len(given) != 1 {
		found := "none of them"
		if len(given) > 1 {
			found = strings.Join(given, " and ")
		}
		l.problems.Add(n.Problem(path, "", "want exactly one of %s, there is %s", strings.Join(keys, ", "), found))
	}
}

// Claims returns the sentences of the layer's checks, inside ones first, with
// the parameters' names where their values will stand.
func (l *Layer) Claims() []string {
	var claims []string
	for _, key := range []string{"inside", "outside"} {
		if list := l.checks.Get(key); list != nil {
			for _, item := range list.Items {
				if claim := item.Get("claim"); claim != nil {
					claims = append(claims, claim.Text)
				}
			}
		}
	}
	return claims
}

// readChecks fills in the parameters and turns the tree, whose shape is known
// to be right, into checks.
func (l *Layer) readChecks(s *scope) []claim.Check {
	if l.checks == nil {
		return nil
	}
	var checks []claim.Check
	each := func(key string, read func(n *doc.Node, path string, c *claim.Check)) {
		list := l.checks.Get(key)
		if list == nil {
			return
		}
		for i, item := range list.Items {
			path := fmt.Sprintf("checks.%s[%d]", key, i)
			n := s.expand(item, path)
			for _, key := range []string{"claim", "run", "falsify"} {
				if at := n.Get(key); at != nil && !at.Scalar() { // a list parameter
					s.problems.Add(at.Problem(path+"."+key, "", "this is %s, want text", at.Kind))
				}
			}
			c := claim.Check{Layer: l.Name, Claim: textOf(n.Get("claim")), Falsify: textOf(n.Get("falsify"))}
			read(n, path, &c)
			checks = append(checks, c)
		}
	}
	parallel := textOf(l.checks.Get("parallel")) == "true"
	each("inside", func(n *doc.Node, path string, c *claim.Check) {
		c.Inside = readInside(n, path, s.problems)
		c.Inside.Parallel, c.Inside.Sealed = parallel, textOf(n.Get("sealed")) == "true"
	})
	each("outside", func(n *doc.Node, path string, c *claim.Check) { c.Outside = readOutside(n, path, s.problems) })
	return checks
}

func textOf(n *doc.Node) string {
	if n == nil {
		return ""
	}
	return n.Text
}

func readInside(n *doc.Node, path string, problems *diag.List) *claim.Inside {
	in := &claim.Inside{Run: n.Get("run").Text}
	for _, key := range matchers {
		at := n.Get(key)
		if at == nil {
			continue
		}
		if !at.Scalar() || at.Kind == doc.Null {
			problems.Add(at.Problem(path+"."+key, "", "this is %s, want text", at.Kind))
			continue
		}
		text := at.Text
		switch key {
		case "is":
			in.Is = &text
		case "has":
			in.Has = &text
		case "lacks":
			in.Lacks = &text
		case "exit":
			code, err := strconv.Atoi(text)
			if err != nil || code < 0 || code > 255 {
				problems.Add(at.Problem(path+".exit", "", "%q is not allowed, want an exit status from 0 to 255", text))
			}
			in.Exit = &code
		}
	}
	return in
}

func readOutside(n *doc.Node, path string, problems *diag.List) *claim.Outside {
	out := &claim.Outside{}
	if at := n.Get("none"); at != nil {
		if out.None = at.Text; out.None == "" {
			problems.Add(at.Problem(path+".none", "", "say why nothing can be seen from outside"))
		}
	}
	if at := n.Get("tcp"); at != nil {
		before := len(*problems)
		get := at.Fields(path+".tcp", problems, "open", "closed")
		out.TCP = &claim.Ports{Open: readPorts(get("open"), path+".tcp.open", problems),
			Closed: readPorts(get("closed"), path+".tcp.closed", problems)}
		if len(out.TCP.Open)+len(out.TCP.Closed) == 0 && len(*problems) == before {
			problems.Add(at.Problem(path+".tcp", "", "no port is named, the check cannot fail"))
		}
	}
	if at := n.Get("ssh"); at != nil {
		out.SSH = readLogin(at, path+".ssh", problems)
	}
	return out
}

func readPorts(n *doc.Node, path string, problems *diag.List) []int {
	if n == nil {
		return nil
	}
	v, ok := Param{Type: "ports"}.bind(n, path, problems)
	if !ok {
		return nil
	}
	var ports []int
	for _, text := range v.text {
		port, _ := strconv.Atoi(text) // bind has checked it
		ports = append(ports, port)
	}
	return ports
}

func readLogin(n *doc.Node, path string, problems *diag.List) *claim.Login {
	get := n.Fields(path, problems, "user", "with", "want")
	word := func(key string, allowed ...string) string {
		at := get(key)
		switch {
		case at == nil:
			problems.Add(n.Problem(path, "", "the key %q is missing", key))
			return ""
		case len(allowed) > 0 && !slices.Contains(allowed, at.Text):
			problems.Add(at.Problem(path+"."+key, "", "%q is not allowed, want %s", at.Text, strings.Join(allowed, ", ")))
		case !userName.MatchString(at.Text):
			problems.Add(at.Problem(path+"."+key, "", "%q is not a user name", at.Text))
		}
		return at.Text
	}
	return &claim.Login{User: word("user"), With: word("with", "key", "password", "none"),
		Want: word("want", "accepted", "refused", "confined")}
}
