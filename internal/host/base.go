package host

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"bake/internal/diag"
	"bake/internal/doc"
	"bake/internal/origin"
)

// mirrored are the distributions whose images can come from a mirror, and the
// archives that packages come from.
var mirrored = []string{"debian", "packages", "ubuntu"}

// base reads the reference of the base image.
func (r *resolver) base(n *doc.Node) {
	r.host.Base = r.text(r.node, n, "base", "name the image to start from, such as ./base.qcow2 or debian:13")
	if r.host.Base == "" {
		return
	}
	ref, err := origin.Parse(r.host.Base, r.host.Machine.Arch)
	var list diag.List
	if errors.As(err, &list) { // it knows what is wrong, the node where
		for _, p := range list {
			r.problems.Add(n.Problem("base", p.Hint, "%s", p.Message))
		}
	}
	r.host.Ref = ref
}

func (r *resolver) mirrors(n *doc.Node) {
	if n == nil {
		return
	}
	get := n.Fields("mirrors", &r.problems, mirrored...)
	for _, name := range mirrored {
		at := get(name)
		if at == nil {
			continue
		}
		path := doc.Join("mirrors", name)
		text := r.text(n, at, path, "write the URL of a mirror")
		if text == "" {
			continue
		}
		if err := CheckMirror(name, text); err != nil {
			r.problems.Add(at.Problem(path, "write it as https://mirror.example.org/path", "%v", err))
			continue
		}
		if r.host.Mirrors == nil {
			r.host.Mirrors = map[string]string{}
		}
		r.host.Mirrors[name] = text
	}
}

// CheckMirror says why a URL cannot be the mirror of a distribution's images (debian or
// ubuntu) or of packages. It is for options and the environment; a host file's mirrors
// have passed it.
func CheckMirror(distribution, text string) error {
	if !slices.Contains(mirrored, distribution) {
		return fmt.Errorf("unknown distribution %q: %s", distribution, diag.DidYouMean(distribution, mirrored))
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http":
		return errors.New("this is not the URL of a mirror")
	case u.User != nil:
		return errors.New("the URL has credentials in it")
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(text, "#"):
		return errors.New("the URL has a ? or # in it")
	}
	return nil
}
