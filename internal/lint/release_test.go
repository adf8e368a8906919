package lint

import (
	"os"
	"slices"
	"strings"
	"testing"

	"bake/internal/doc"
	"bake/internal/host"
	"bake/internal/layer"
	"bake/internal/seed"
)

// loaded is host zap of a directory with these words.
func loaded(t *testing.T, words string) (*host.Host, *doc.Node) {
	t.Helper()
	dir := t.TempDir()
	text := "host: x\nbase: debian:13\nmachine: {vcpus: 2, memory: 2GiB, disk: 10GiB}\nlayers: [ssh, ufw, fail2ban]\n" +
		"admin: {name: ops, keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIC5fZc/o+6nL5wffhDwRKx2uFUYmLG4ZcnVAjhhwA3Wo ops@desk]}\n" + words
	if err := os.MkdirAll(dir+"/hosts", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/hosts/x.yaml", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	h, err := host.Load(dir, "x", layer.Shelf{Builtin: os.DirFS("../../layers"), ShowBuiltin: "layers"})
	if err != nil {
		t.Fatal(err)
	}
	config, err := seed.Config(h, []byte("program"))
	if err != nil {
		t.Fatal(err)
	}
	return h, config
}

// What a release does not have is said only where its lists have been read, and only of
// names that an archive would be asked for.
func TestPackageUnavailable(t *testing.T) {
	have := func(names ...string) func(string) bool {
		return func(name string) bool { return slices.Contains(names, name) }
	}
	for _, test := range []struct {
		words string
		has   func(string) bool
		want  string // messages, by ;
	}{
		{"", nil, ""},
		{"cloud-config: {packages: [nope]}\n", nil, ""},
		{"cloud-config: {packages: [htop, nope, \"htop:amd64\", htop/stable, \"lib*\", standard^, ./x.deb, [htop, \"1\"]]}\n", have("htop", "fail2ban", "python3-systemd", "ufw", "nftables"), "packages[1]"},
		{"cloud-config: {packages: [htop]}\n", have("htop"), "layers.fail2ban"},
		{"cloud-config: {packages: [nope], apt: {sources: {x: {source: \"deb http://x y z\", keyid: AB}}}}\n", have("htop"), ""},
	} {
		h, config := loaded(t, test.words)
		var got []string
		for _, f := range Host(h, config, Release{HasPackage: test.has}) {
			if f.Rule == "package-unavailable" && !slices.Contains(got, f.Problem.Path) {
				got = append(got, f.Problem.Path)
			}
		}
		if strings.Join(got, ";") != test.want {
			t.Errorf("%s: %q, want %q", test.words, got, test.want)
		}
	}
}

// An exception counts for a release that is known, and is not called unused for one
// that is not.
func TestSchemaAllowed(t *testing.T) {
	words := "cloud-config: {final_message: {a: b}}\nallow: {schema: so it is, package-unavailable: so it is}\n"
	for name, test := range map[string]struct {
		r    Release
		want string
	}{
		"nothing known": {Release{}, ""},
		"both known":    {Release{Schema: newest().Schema, HasPackage: func(string) bool { return true }}, "key-type allow-unused allow-unused"},
	} {
		h, config := loaded(t, words)
		var got []string
		for _, f := range Host(h, config, test.r) {
			if strings.HasPrefix(f.Rule, "allow-") || f.Problem.Path == "final_message" {
				got = append(got, f.Rule)
			}
		}
		if name == "nothing known" {
			got = slices.DeleteFunc(got, func(id string) bool { return id == "key-type" })
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}
