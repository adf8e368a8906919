package layer

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestStates(t *testing.T) {
	l := mustOpen(t, head+"state: [/var/lib/agent: 782, /srv/x]\n")
	got, err := l.Render(nil, "p", facts)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]StateDir{{"/var/lib/agent", 782}, {Dir: "/srv/x"}}, got.State); diff != "" {
		t.Error(diff)
	}
	if words := got.State[0].String() + " " + got.State[1].String(); words != "/var/lib/agent:782 /srv/x" {
		t.Error(words)
	}
	digest := func(yaml string) string {
		r, err := mustOpen(t, head+yaml).Render(nil, "p", facts)
		if err != nil {
			t.Fatal(err)
		}
		sum, err := r.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	if digest("") == digest("state: [/srv/x]\n") || digest("state: [/srv/x]\n") == digest("state: [/srv/x: 1]\n") {
		t.Error("another state has the same digest")
	}
}

// What a layer writes of all state: each with its owner.
func TestStateFacts(t *testing.T) {
	f := facts
	f.State = []string{"/srv/x", "/srv/y:782"}
	r, err := mustOpen(t, head, "usr/local/list.tmpl", "{{range .host.state}}{{.}}\n{{end}}").Render(nil, "p", f)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(r.Files[0].Content); got != "/srv/x\n/srv/y:782\n" {
		t.Errorf("%q", got)
	}
}

func TestStatesRefuse(t *testing.T) {
	for _, test := range []struct{ state, at, words string }{
		{"/srv/x", ":4:8", "want a list"},
		{"[]", ":4:8", "want a list"},
		{"[srv/x]", ":4:9", `"srv/x" is not allowed`},
		{"[/srv]", ":4:9", "want a directory in one of /home"},
		{"[/srv/]", ":4:9", "want a directory"},
		{"[/srv/../etc]", ":4:9", "want a directory"},
		{"[/srv/a b]", ":4:9", "want a directory"},
		{"[/etc/ssh]", ":4:9", "want a directory"},
		{"[/var/lib/bake/x]", ":4:9", "want a directory"},
		{"[/var/lib/systemd]", ":4:9", "want a directory"},
		{"[/srv/x: openclaw]", ":4:17", "want the number of a user"},
		{"[/srv/x: 0]", ":4:17", "want the number of a user"},
		{"[/srv/x: 65534]", ":4:17", "want the number of a user"},
		{"[/srv/x: 1, /srv/x/y]", ":4:20", "in one another"},
		{"[/srv/x/y, /srv/x]", ":4:19", "list the outer one"},
		{"[/srv/x, /srv/x: 5]", ":4:17", "in one another"},
		{"[((x))]", ":4:9", "want a directory"},
	} {
		_, err := open(head + "state: " + test.state + "\n")
		refused(t, err, "layers/x/layer.yaml"+test.at, test.words)
	}
	if _, err := open(head + "state: [/srv/x, /srv/xy, /srv/x.y: 5]\n"); err != nil {
		t.Error(err)
	}
	if _, err := open(head + "files: {}\nstate: [/srv/x]\n"); err == nil || !strings.Contains(err.Error(), "must come before files") {
		t.Error(err)
	}
}
