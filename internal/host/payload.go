package host

import (
	"fmt"
	"net/url"

	"bake/internal/diag"
	"bake/internal/doc"
)

// payload reads none, offline, or {mode: offline, mirrors: {URL: URL}}.
func (r *resolver) payload(n *doc.Node) {
	if n == nil {
		return
	}
	const what = "write payload: offline, or payload: none"
	mode, path := n, "payload"
	if n.Kind == doc.Map {
		get := n.Fields("payload", &r.problems, "mode", "mirrors")
		if mode, path = get("mode"), "payload.mode"; mode == nil {
			r.problems.Add(n.Problem(path, what, "the key \"mode\" is missing"))
			return
		}
		r.archives(get("mirrors"))
	}
	switch {
	case mode.Kind == doc.String && mode.Text == "none":
	case mode.Kind == doc.String && mode.Text == "offline":
		r.host.Payload.Offline = true
	case mode.Scalar():
		hint := diag.DidYouMean(mode.Text, []string{"none", "offline"})
		if hint == "" {
			hint = what
		}
		r.problems.Add(mode.Problem(path, hint, "%q is not allowed, want none or offline", mode.Text))
	default:
		r.problems.Add(mode.Problem(path, what, "this is %s, want none or offline", mode.Kind))
	}
}

// archives reads which archive to ask instead of one that the image names.
func (r *resolver) archives(n *doc.Node) {
	const path = "payload.mirrors"
	if n == nil {
		return
	}
	if n.Kind != doc.Map {
		r.problems.Add(n.Problem(path, "write mirrors: {URL: URL}", "this is %s, want archives and what to ask instead", n.Kind))
		return
	}
	r.host.Payload.Mirrors = map[string]string{}
	for _, pair := range n.Pairs {
		at := doc.Join(path, pair.Key.Text)
		for _, end := range []*doc.Node{pair.Key, pair.Value} {
			if err := checkArchive(end.Text); end.Kind != doc.String || err != nil {
				r.problems.Add(end.Problem(at, "write it as http://archive.example.org/debian", "%q is not the URL of an archive", end.Text))
				return
			}
		}
		r.host.Payload.Mirrors[pair.Key.Text] = pair.Value.Text
	}
}

// checkArchive keeps what apt would take for options, or for another line, out of
// its sources.
func checkArchive(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Fragment != "" ||
		u.String() != text {
		return fmt.Errorf("%q is not the URL of an archive", text)
	}
	for _, c := range text {
		if c <= ' ' || c > '~' || c == '[' || c == ']' {
			return fmt.Errorf("%q has a character that no archive's URL has", text)
		}
	}
	return nil
}
