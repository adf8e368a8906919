package seed

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"bake/internal/doc"
	"bake/internal/layer"
)

// everyType uses a parameter of each type wherever its type may stand.
const everyType = `layer: x
summary: s
threat: none
params:
  user: {type: user, default: agent, help: h}
  name: {type: name, default: a.b, help: h}
  path: {type: path, default: /srv, help: h}
  wait: {type: duration, default: 10m, help: h}
  size: {type: size, default: 1KiB, help: h}
  word: {type: enum, of: [low, high], default: low, help: h}
  net: {type: cidr, default: 192.0.2.0/24, help: h}
  free: {type: string, default: harmless, help: h}
files:
  /boot: {when: boot}
cloud-config:
  timezone: ((name))
  mounts: [[((path)), ((user)), ((wait))]]
  runcmd:
    - a ((user)) ((name)) ((path)) ((wait)) ((size)) ((word)) ((net))
    - [b, --, ((free)), ((net))]
    - [sh, -c, 'echo "$1"', sh, --, ((free))]
  users:
    - {name: ((user)), gecos: ((free))}
`

const everyTemplate = "#!/bin/sh\nset -- {{shell .free}} {{.user}} {{.name}} {{.path}} {{.wait}} {{.size}} {{.word}} {{.net}}\n"

var textParams = []string{"user", "name", "path", "wait", "size", "word", "net", "free"}

// words renders the layer with one parameter given and merges it into
// user-data; ok is false when the value is refused.
func words(t *testing.T, param, text string) (*doc.Node, layer.Rendered, bool) {
	t.Helper()
	shelf := layer.Shelf{Builtin: fstest.MapFS{
		"x/layer.yaml":        {Data: []byte(everyType)},
		"x/files/early.tmpl":  {Data: []byte(everyTemplate)},
		"x/files/boot.tmpl":   {Data: []byte(everyTemplate)},
		"x/files/plain":       {Data: []byte("((free)) {{.free}}\n")},
		"x/files/etc/a.conf":  {Data: []byte("x")},
		"x/files/etc/b@.conf": {Data: []byte("y\n")},
	}}
	l, err := shelf.Open("x")
	if err != nil {
		t.Fatal(err)
	}
	given := (&doc.Node{Kind: doc.Map}).Set(param, doc.Text(text))
	r, err := l.Render(given, "layers[0].x", layer.Facts{Host: "zap", AdminName: "ops", AdminKeys: []string{"k"}})
	if err != nil {
		return nil, r, false
	}
	h := zap(t)
	h.Layers = []layer.Rendered{r}
	s, err := Build(h, []byte("program"), nil)
	if err != nil {
		t.Fatalf("%s: %q renders but does not build: %v", param, text, err)
	}
	body, found := bytes.CutPrefix(s.UserData, []byte("#cloud-config\n"))
	n, err := doc.Parse("user-data", body)
	if err != nil || !found {
		t.Fatalf("%s: %q: %v", param, text, err)
	}
	return n, r, true
}

// shape is every path of a tree, with the lengths of its lists.
func shape(n *doc.Node, path string) []string {
	paths := []string{fmt.Sprintf("%s %d", path, len(n.Items))}
	for i, item := range n.Items {
		paths = append(paths, shape(item, fmt.Sprintf("%s[%d]", path, i))...)
	}
	for _, pair := range n.Pairs {
		paths = append(paths, shape(pair.Value, fmt.Sprintf("%s.%q", path, pair.Key.Text))...)
	}
	return paths
}

// wantInert wants a text in any parameter to be refused or to be data: no path,
// list item, command or line of a file comes or goes.
func wantInert(t *testing.T, text string) {
	t.Helper()
	for _, param := range textParams {
		got, rendered, ok := words(t, param, text)
		if !ok {
			continue
		}
		harmless, _, ok := words(t, param, map[string]string{"path": "/x", "wait": "1s", "size": "1", "word": "low", "net": "::"}[param]+
			strings.Repeat("x", map[string]int{"user": 1, "name": 1, "free": 1}[param]))
		if !ok {
			t.Fatalf("%s: the harmless value is refused", param)
		}
		if diff := cmp.Diff(shape(harmless, ""), shape(got, "")); diff != "" {
			t.Errorf("%s: %q changes the structure:\n%s", param, text, diff)
		}
		run := got.Get("runcmd").Items
		if strings.Count(run[0].Text, " ") != 7 || run[1].Items[0].Text != "b" || run[2].Items[2].Text != `echo "$1"` {
			t.Errorf("%s: %q changes a command: %s", param, text, flat(got.Get("runcmd")))
		}
		for _, file := range rendered.Files {
			if strings.HasPrefix(file.Path, "/etc") || file.Path == "/plain" {
				continue
			}
			if n := bytes.Count(file.Content, []byte("\n")); n != 2 {
				t.Errorf("%s: %q makes %d lines in %s", param, text, n, file.Path)
			}
		}
		if param == "free" && run[1].Items[2].Text != text {
			t.Errorf("%q became %q", text, run[1].Items[2].Text)
		}
	}
}

var hostileTexts = []string{"a\nb: c", "a\n- b", "\nruncmd:\n- id\n", "'", `"`, `\`, "$(id)", "`id`", ": ", "- ", "#", "a #b", "{{.free}}", "((user))", "((free))", "$((1))", "---", "...",
	"\x00", "\x1b[2J", "\u202eabc", "\u2028", "\u0085", "\ufeff", "é", "", " ", "-rf", "yes", "null", "0644", "1e3", "22:22", "2026-11-22", "/a/../b", "END", "END\nid", "\r", "\xff", "a", "/srv", "10m", "3GiB",
	"high", "192.0.2.1", "2001:db8::/32", "fe80::1%$(id)", "'; id; '", "<<", "=", "!x", "&a", "*a", "[a]", "{a: b}", "%", "@", "|", ">", "a\tb", strings.Repeat("x", 5000)}

func TestHostileTexts(t *testing.T) {
	refused := 0
	for _, text := range hostileTexts {
		wantInert(t, text)
		if _, _, ok := words(t, "free", text); !ok {
			refused++
		}
	}
	if refused == 0 || refused == len(hostileTexts) {
		t.Errorf("%d of %d free texts are refused", refused, len(hostileTexts))
	}
}

func FuzzParameters(f *testing.F) {
	for _, text := range hostileTexts {
		f.Add(text)
	}
	f.Fuzz(wantInert)
}

// The same for the host file's own words: whatever text stands in a place, it
// is that text in user-data.
func FuzzOwnWords(f *testing.F) {
	for _, text := range hostileTexts {
		f.Add(text, text)
	}
	f.Fuzz(func(t *testing.T, key, text string) {
		h := zap(t, "runcmd: [a]")
		h.Config = (&doc.Node{Kind: doc.Map}).Set("x-"+key, (&doc.Node{Kind: doc.Map}).Set(key, doc.Text(text))).Set("runcmd", doc.Words(text))
		s, err := Build(h, []byte("program"), nil)
		if err != nil {
			return
		}
		got, err := doc.Parse("user-data", bytes.TrimPrefix(s.UserData, []byte("#cloud-config\n")))
		if err != nil || got.Get("x-"+key).Get(key).Text != text || !got.Get("runcmd").Equal(doc.Words("a", text)) || len(got.Pairs) != 4 {
			t.Fatalf("%q, %q: %v\n%s", key, text, err, s.UserData)
		}
	})
}

// A host of layers and their orders merges as if one part were folded in after
// the other: nothing is lost, which is what cloud-init's own merge does.
func TestNothingIsLost(t *testing.T) {
	parts := []string{"runcmd: [a0, a1]\nx: {l: [a]}", "runcmd: [b0]\nx: {l: [b, c]}", "bootcmd: [c0]", "runcmd: [d0]\nx: {l: []}"}
	for i := range parts {
		rotated := slices.Concat(parts[i:], parts[:i])
		n, err := merge(zap(t, rotated...), Seed{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for _, part := range rotated {
			if own := tree(t, "f", part).Get("runcmd"); own != nil {
				for _, item := range own.Items {
					want = append(want, item.Text)
				}
			}
		}
		if diff := cmp.Diff("["+strings.Join(want, ", ")+"]", flat(n.Get("runcmd"))); diff != "" || len(n.Get("x").Get("l").Items) != 3 {
			t.Errorf("%v:\n%s", rotated, diff)
		}
	}
}
