package seed

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bake/internal/diag"
	"bake/internal/doc"
	"bake/internal/host"
	"bake/internal/layer"
)

func tree(t *testing.T, file, text string) *doc.Node {
	t.Helper()
	n, err := doc.Parse(file, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// zap is a host with layers l0, l1, ... that have these cloud-configs.
func zap(t *testing.T, configs ...string) *host.Host {
	t.Helper()
	h := &host.Host{Name: "zap", File: "hosts/zap.yaml", Network: host.Network{MAC: "52:54:00:12:34:56", DHCP: true},
		Admin: host.Admin{Name: "ops", Keys: []string{"ssh-ed25519 AAAA ops"}}}
	for i, config := range configs {
		name := fmt.Sprintf("l%d", i)
		h.Layers = append(h.Layers, layer.Rendered{Name: name, CloudConfig: tree(t, name, config)})
	}
	return h
}

// The golden vectors of the merge: what cloud-init's own merging gets wrong.
func TestMerge(t *testing.T) {
	for name, test := range map[string]struct {
		layers   []string
		own      string
		override []string
		want     string // without users and manage_etc_hosts, which every host has
	}{
		"lists append in order": {
			layers: []string{"runcmd: [a, b]\npower: {x: [1]}", "runcmd: [c]\npower: {x: [2, 1]}", "runcmd: [a]"},
			want:   "runcmd: [a, b, c, a]\npower: {x: [1, 2, 1]}",
		},
		"maps recurse": {
			layers: []string{"ntp: {enabled: true, conf: {a: 1}}", "ntp: {conf: {b: 2}, servers: [x]}"},
			want:   "ntp: {enabled: true, conf: {a: 1, b: 2}, servers: [x]}",
		},
		"equal scalars agree":    {layers: []string{"ssh_pwauth: false", "ssh_pwauth: false"}, own: "ssh_pwauth: false", want: "ssh_pwauth: false"},
		"the host adds":          {layers: []string{"runcmd: [a]"}, own: "runcmd: [b]\ntimezone: UTC", want: "timezone: UTC\nruncmd: [a, b]"},
		"the host overrides":     {layers: []string{"a: 1\nb: {c: 2, d: [x]}"}, own: "a: 3\nb: {c: 4}", override: []string{"a", "b.c"}, want: "a: 3\nb: {c: 4, d: [x]}"},
		"a whole list":           {layers: []string{"runcmd: [a]", "runcmd: [b]"}, own: "runcmd: [c]", override: []string{"runcmd"}, want: "runcmd: [c]"},
		"a whole map":            {layers: []string{"b: {c: 2, d: 3}"}, own: "b: {e: 5}", override: []string{"b"}, want: "b: {e: 5}"},
		"another kind":           {layers: []string{"b: {c: 2}"}, own: "b: none", override: []string{"b"}, want: "b: none"},
		"what no layer has":      {own: "b: 1", override: []string{"b"}, want: "b: 1"},
		"null equals null":       {layers: []string{"a: null", "a: ~"}, want: "a: null"},
		"no layer, no own words": {want: "{}"},
		"the order of the keys": {
			layers: []string{"zebra: 1\nruncmd: [a]\nbootcmd: [b]\napple: 2\ntimezone: UTC"},
			want:   "bootcmd: [b]\ntimezone: UTC\nruncmd: [a]\napple: 2\nzebra: 1",
		},
	} {
		h := zap(t, test.layers...)
		if h.Winning = test.override; test.own != "" {
			h.Config = tree(t, "hosts/zap.yaml", test.own)
		}
		got, err := merge(h, Seed{}, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := tree(t, "want", test.want)
		if len(want.Pairs)+2 != len(got.Pairs) || got.Get("users") == nil || got.Get("manage_etc_hosts") == nil {
			t.Errorf("%s: other keys: %s", name, flat(got))
		}
		rest := &doc.Node{Kind: doc.Map}
		for _, pair := range got.Pairs {
			if pair.Key.Text != "users" && pair.Key.Text != "manage_etc_hosts" {
				rest.Pairs = append(rest.Pairs, pair)
			}
		}
		if diff := cmp.Diff(flat(want), flat(rest)); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
}

// A contradiction names both places.
func TestMergeConflicts(t *testing.T) {
	for name, test := range map[string]struct {
		layers    []string
		own       string
		override  []string
		at, other string
	}{
		"scalars":                     {layers: []string{"a: 1", "\nb: 2\na: 3"}, at: "l1:3:4", other: "l0:1:4"},
		"deep":                        {layers: []string{"a: {b: {c: x}}", "a: {b: {c: y}}"}, at: "l1:1:12", other: "l0:1:12"},
		"text and number":             {layers: []string{"a: 1", "a: \"1\""}, at: "l1:1:4", other: "l0:1:4"},
		"map and list":                {layers: []string{"a: {b: 1}", "a: [b]"}, at: "l1:1:4", other: "l0:1:4"},
		"list and scalar":             {layers: []string{"a: [b]", "a: b"}, at: "l1:1:4", other: "l0:1:4"},
		"something and nothing":       {layers: []string{"a: b", "a: null"}, at: "l1:1:4", other: "l0:1:4"},
		"the host, without override":  {layers: []string{"a: 1"}, own: "a: 2", at: "hosts/zap.yaml:1:4", other: "l0:1:4"},
		"the host, another override":  {layers: []string{"a: {b: 1, c: 1}"}, own: "a: {b: 2, c: 2}", override: []string{"a.c"}, at: "hosts/zap.yaml:1:8", other: "l0:1:8"},
		"override is not for layers":  {layers: []string{"a: 1", "a: 2"}, own: "a: 3", override: []string{"a"}, at: "l1:1:4", other: "l0:1:4"},
		"what the host file says":     {layers: []string{"manage_etc_hosts: false"}, at: "l0:1:19", other: "hosts/zap.yaml"},
		"users: default for the list": {layers: []string{"users: default"}, at: "l0:1:8", other: ""},
	} {
		h := zap(t, test.layers...)
		if h.Winning = test.override; test.own != "" {
			h.Config = tree(t, "hosts/zap.yaml", test.own)
		}
		s, err := Build(h, []byte("program"), nil)
		var list diag.List
		if !errors.As(err, &list) || s.UserData != nil {
			t.Errorf("%s: %v, want a conflict", name, err)
			continue
		}
		if list[0].Pos.String() != test.at || !strings.Contains(list[0].Message, test.other) {
			t.Errorf("%s: %v\nwant %s against %s", name, err, test.at, test.other)
		}
		if _, err := Explain(h, []byte("program")); err == nil {
			t.Errorf("%s: it can be explained", name)
		}
	}
	// All of them, not the first.
	_, err := Build(zap(t, "a: 1\nb: 1", "a: 2\nb: 2"), []byte("program"), nil)
	var list diag.List
	if !errors.As(err, &list) || len(list) != 2 {
		t.Errorf("%v, want two problems", err)
	}
}

func TestPackages(t *testing.T) {
	h := zap(t, "{}", "{}")
	h.Layers[0].CloudConfig = nil
	h.Layers[0].Packages, h.Layers[1].Packages = []string{"ufw", "jq"}, []string{"curl", "jq"}
	h.Config = tree(t, "hosts/zap.yaml", "packages: [vim]")
	got, err := merge(h, Seed{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := "[curl, jq, ufw, vim]"; flat(got.Get("packages")) != want || got.Get("package_update").Text != "true" {
		t.Errorf("%s, want %s with package_update", flat(got.Get("packages")), want)
	}
	if got, err := merge(zap(t), Seed{}, nil); err != nil || got.Get("packages") != nil || got.Get("package_update") != nil {
		t.Errorf("without packages: %s, %v", flat(got), err)
	}
}

// The image's own default user is left out, the admin has no password and
// layers add users behind.
func TestUsers(t *testing.T) {
	got, err := merge(zap(t, "users: [{name: agent}]"), Seed{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	users := got.Get("users").Items
	if len(users) != 2 || users[0].Get("name").Text != "ops" || users[1].Get("name").Text != "agent" {
		t.Fatalf("%s", flat(got.Get("users")))
	}
	if users[0].Get("lock_passwd").Text != "true" || flat(users[0].Get("ssh_authorized_keys")) != "[ssh-ed25519 AAAA ops]" {
		t.Errorf("%s", flat(users[0]))
	}
}

func TestFiles(t *testing.T) {
	h := zap(t, "bootcmd: [later]", "{}")
	h.Layers[1].CloudConfig = nil
	h.Layers[0].Files = []layer.File{
		{Path: "/b", Mode: 0o755, Owner: "root:root", When: layer.Boot, Content: []byte("x\n"), Origin: "l0/files/b"},
		{Path: "/e", Mode: 0o600, Owner: "root:root", When: layer.Early, Content: []byte("text\tand é\n"), Origin: "l0/files/e"},
	}
	h.Layers[1].Files = []layer.File{
		{Path: "/l", Mode: 0o640, Owner: "a:b", When: layer.Late, Content: []byte("\x00\xff"), Origin: "l1/files/l"},
		{Path: "/c", Mode: 0o644, Owner: "root:root", When: layer.Early, Content: []byte("a\r\nb\r\n"), Origin: "l1/files/c"},
	}
	got, err := merge(h, Seed{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	boot := got.Get("bootcmd").Items
	if len(boot) != 2 || !strings.Contains(boot[0].Text, "/b") || boot[1].Text != "later" {
		t.Errorf("files come before the commands that need them: %s", flat(got.Get("bootcmd")))
	}
	want := `[{path: /e, permissions: 0600, owner: root:root, content: text	and é
}, {path: /l, permissions: 0640, owner: a:b, defer: true, encoding: b64, content: AP8=}, {path: /c, permissions: 0644, owner: root:root, encoding: b64, content: YQ0KYg0K}]`
	if diff := cmp.Diff(want, flat(got.Get("write_files"))); diff != "" {
		t.Error(diff)
	}
	h.Layers[1].Files[1].Path = "/b"
	_, err = Build(h, []byte("program"), nil)
	if err == nil || !strings.Contains(err.Error(), "/b") || !strings.Contains(err.Error(), "l0") || !strings.Contains(err.Error(), "this file") {
		t.Errorf("two layers write one file: %v", err)
	}
}
