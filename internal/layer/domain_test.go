package layer

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const shared = `params:
  dir: {type: path, default: /srv/zap, help: h}
  tag: {type: name, default: workspace, help: h}
  ro: {type: bool, default: true, help: h}
domain:
  share: {dir: ((dir)), tag: ((tag)), readonly: ((ro))}
`

func TestShares(t *testing.T) {
	l := mustOpen(t, head+shared)
	for given, want := range map[string]Share{
		"{}":                                 {Dir: "/srv/zap", Tag: "workspace", ReadOnly: true},
		"{dir: /srv/a, tag: a.b, ro: false}": {Dir: "/srv/a", Tag: "a.b"},
	} {
		got, err := l.Render(parse(t, "p: "+given).Get("p"), "p", facts)
		if err != nil {
			t.Errorf("%s: %v", given, err)
		}
		if diff := cmp.Diff([]Share{want}, got.Shares); diff != "" {
			t.Errorf("%s: -want +got\n%s", given, diff)
		}
	}
	_, err := l.Render(parse(t, "p: {tag: "+strings.Repeat("a", maxTag+1)+"}").Get("p"), "p", facts)
	if err == nil || !strings.Contains(err.Error(), "virtiofs has room for 36") {
		t.Errorf("a tag of %d bytes: %v", maxTag+1, err)
	}
}

// Another share is another generation; a layer without one keeps its digest.
func TestSharesInDigest(t *testing.T) {
	digest := func(yaml, given string) string {
		r, err := mustOpen(t, head+yaml).Render(parse(t, "p: "+given).Get("p"), "p", facts)
		if err != nil {
			t.Fatal(err)
		}
		sum, err := r.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	if digest(shared, "{}") == digest(shared, "{ro: false}") {
		t.Error("a share that can be written to has the digest of one that cannot")
	}
	params, _, _ := strings.Cut(shared, "domain:")
	if digest(params, "{}") != digest(params, "{ro: false}") {
		t.Error("an unused parameter changes the digest")
	}
}

func TestSharesRefuse(t *testing.T) {
	for _, test := range []struct{ yaml, at, words string }{
		{"domain: {}\n", ":4:9", `the key "share" is missing`},
		{"domain: [a]\n", ":4:9", "list"},
		{"domain:\n  disk: a\n", ":5:3", "disk"},
		{"domain:\n  share: /srv\n", ":5:10", "want a map"},
		{"domain:\n  share: {dir: /srv, tag: a}\n", ":5:10", `the key "readonly" is missing`},
		{"domain:\n  share: {dir: /srv, tag: a, readonly: true, mode: x}\n", ":5:46", "mode"},
		{"checks:\n  outside: [{none: n}]\ndomain:\n  share: {dir: /srv, tag: a, readonly: true}\n", ":6:1", "before checks"},
	} {
		_, err := open(head + test.yaml)
		refused(t, err, "layers/x/layer.yaml"+test.at, test.words)
	}
	for _, test := range []struct{ yaml, at, words string }{
		{"domain:\n  share: {dir: srv, tag: a, readonly: true}\n", ":5:16", "absolute path"},
		{"domain:\n  share: {dir: /srv, tag: A, readonly: true}\n", ":5:27", "a name"},
		{"domain:\n  share: {dir: /srv, tag: a, readonly: \"yes\"}\n", ":5:40", "true or false"},
		{"domain:\n  share: {dir: ((x)), tag: a, readonly: true}\n", ":5:16", "unknown parameter"},
	} {
		l := mustOpen(t, head+test.yaml)
		_, err := l.Render(nil, "p", facts)
		refused(t, err, "layers/x/layer.yaml"+test.at, test.words)
	}
}
