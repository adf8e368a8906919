package seed

import (
	"bytes"
	"errors"
	"flag"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bake/internal/claim"
	"bake/internal/diag"
	"bake/internal/doc"
	"bake/internal/host"
	"bake/internal/layer"
	"bake/layers"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const golden = "../../testdata/hosts"

// loadGolden loads a host of the golden trees; each is a configuration of its
// own, with hosts/ and perhaps layers/.
func loadGolden(t *testing.T, config, name string) *host.Host {
	t.Helper()
	h, err := host.Load(config, name, layer.Shelf{Builtin: layers.FS, ShowBuiltin: "layers",
		User: os.DirFS(filepath.Join(config, "layers")), UserOrigin: filepath.Join(config, "layers")})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func goldenNames(t *testing.T) []string {
	t.Helper()
	var names []string
	found, err := os.ReadDir(golden)
	for _, entry := range found {
		names = append(names, entry.Name())
	}
	if err != nil || len(names) < 4 {
		t.Fatalf("golden trees: %v, %v", names, err)
	}
	return names
}

func build(t *testing.T, h *host.Host) Seed {
	t.Helper()
	s, err := Build(h, []byte("program"), nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The words of each golden host; -update rewrites them and the diff is the
// review.
func TestGoldenHosts(t *testing.T) {
	for _, name := range goldenNames(t) {
		s := build(t, loadGolden(t, filepath.Join(golden, name), name))
		for file, got := range map[string][]byte{"user-data": s.UserData, "meta-data": s.MetaData, "network-config": s.NetworkConfig} {
			path := filepath.Join(golden, name, file)
			if *update {
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("%s of %s, rewritten by make golden:\n%s", file, name, diff)
			}
		}
	}
}

// The same host gives the same bytes from any directory, any number of times.
func TestReproducible(t *testing.T) {
	for _, name := range goldenNames(t) {
		h := loadGolden(t, filepath.Join(golden, name), name)
		first := build(t, h)
		elsewhere := t.TempDir()
		if err := os.CopyFS(elsewhere, os.DirFS(filepath.Join(golden, name))); err != nil {
			t.Fatal(err)
		}
		for _, again := range []Seed{build(t, h), build(t, loadGolden(t, elsewhere, name))} {
			if diff := cmp.Diff(first, again); diff != "" {
				t.Errorf("%s:\n%s", name, diff)
			}
		}
		if id := []byte("instance-id: \"" + first.InstanceID(h) + "\"\n"); !bytes.HasPrefix(first.MetaData, id) {
			t.Errorf("%s: meta-data does not start with %s", name, id)
		}
	}
}

// schema has cloud-init judge user-data. Without it the test is skipped, but
// not where CI=true.
func schema(t *testing.T, userData []byte) (string, error) {
	t.Helper()
	judge, err := filepath.Abs("../../testdata/lab/cloud-init-schema")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(judge); err != nil {
		t.Skip(err)
	}
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		cache = filepath.Join(os.Getenv("HOME"), ".cache")
	}
	ready, _ := filepath.Glob(filepath.Join(cache, "bake/lab/cloud-init-schema-*"))
	if len(ready) == 0 && os.Getenv("CI") != "true" {
		t.Skip("testdata/lab/cloud-init-schema --fetch has not been run")
	}
	path := filepath.Join(t.TempDir(), "user-data")
	if err := os.WriteFile(path, userData, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), judge, path).CombinedOutput()
	return string(out), err
}

func TestJudgeSchema(t *testing.T) {
	for _, name := range goldenNames(t) {
		s := build(t, loadGolden(t, filepath.Join(golden, name), name))
		if out, err := schema(t, s.UserData); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	for _, bad := range []string{"#cloud-config\nruncmd: 5\n", "#cloud-config\nwrite_files:\n  - path: 5\n", "#cloud-config\na: [\n", "runcmd: [a]\n"} {
		if out, err := schema(t, []byte(bad)); err == nil {
			t.Errorf("%q is good: %s", bad, out)
		}
	}
}

// The id changes with every byte of the words and with nothing else.
func TestInstance(t *testing.T) {
	form := regexp.MustCompile(`^bake-zap-[0-9a-f]{16}$`)
	s := sample()
	seen := map[string]bool{s.instance("zap"): true}
	if !form.MatchString(s.instance("zap")) {
		t.Errorf("%s", s.instance("zap"))
	}
	for _, part := range []*[]byte{&s.UserData, &s.NetworkConfig} {
		whole := bytes.Clone(*part)
		for i := range whole {
			*part = bytes.Clone(whole)
			(*part)[i] ^= 1
			if id := s.instance("zap"); seen[id] {
				t.Errorf("byte %d does not matter", i)
			} else {
				seen[id] = true
			}
		}
		*part = whole
	}
	moved := Seed{UserData: append(bytes.Clone(s.UserData), s.NetworkConfig[0]), NetworkConfig: s.NetworkConfig[1:]}
	if seen[moved.instance("zap")] {
		t.Error("where one part ends does not matter")
	}
	s.MetaData = []byte("other")
	if !seen[s.instance("zap")] {
		t.Error("meta-data, which holds the id, changes it")
	}
}

// The same of a host: what reaches the guest's words changes the id, what does
// not does not.
func TestInstanceOfHost(t *testing.T) {
	first := build(t, zap(t, "runcmd: [a]")).MetaData
	for name, test := range map[string]struct {
		change func(h *host.Host)
		same   bool
	}{
		"disk":       {func(h *host.Host) { h.Machine.Disk = 5 << 30 }, true},
		"base":       {func(h *host.Host) { h.Base = "other" }, true},
		"host file":  {func(h *host.Host) { h.File = "/elsewhere/zap.yaml" }, true},
		"claims":     {func(h *host.Host) { h.Layers[0].Checks = []claim.Check{{Claim: "c"}} }, true},
		"attachment": {func(h *host.Host) { h.Network.Attach.Bridge = "br0" }, true},
		"command":    {func(h *host.Host) { h.Config = tree(t, "f", "runcmd: [b]") }, false},
		"file":       {func(h *host.Host) { h.Layers[0].Files = []layer.File{{Path: "/a", When: layer.Early}} }, false},
		"key":        {func(h *host.Host) { h.Admin.Keys = []string{"other"} }, false},
		"card":       {func(h *host.Host) { h.Network.MAC = "52:54:00:12:34:57" }, false},
		"name":       {func(h *host.Host) { h.Name = "zip" }, false},
	} {
		h := zap(t, "runcmd: [a]")
		test.change(h)
		if same := bytes.Equal(build(t, h).MetaData, first); same != test.same {
			t.Errorf("another %s: the same id: %t", name, same)
		}
	}
}

func TestNetwork(t *testing.T) {
	prefixes := func(texts ...string) (out []netip.Prefix) {
		for _, text := range texts {
			out = append(out, netip.MustParsePrefix(text))
		}
		return out
	}
	addresses := func(texts ...string) (out []netip.Addr) {
		for _, text := range texts {
			out = append(out, netip.MustParseAddr(text))
		}
		return out
	}
	const start = "version: 2\nethernets:\n  nic0:\n    match:\n      macaddress: \"52:54:00:12:34:56\"\n"
	const static = start + "    dhcp4: false\n    dhcp6: false\n    accept-ra: false\n"
	for name, test := range map[string]struct {
		network host.Network
		want    string
	}{
		"dhcp": {host.Network{DHCP: true}, start + "    dhcp4: true\n"},
		"dhcp and nameservers": {host.Network{DHCP: true, Nameservers: addresses("192.0.2.53")},
			start + "    dhcp4: true\n    nameservers:\n      addresses:\n        - \"192.0.2.53\"\n"},
		"IPv4": {host.Network{Addresses: prefixes("192.0.2.10/24"), Gateways: addresses("192.0.2.1")},
			static + "    addresses:\n      - \"192.0.2.10/24\"\n    routes:\n      - to: \"0.0.0.0/0\"\n        via: \"192.0.2.1\"\n"},
		"IPv6": {host.Network{Addresses: prefixes("2001:db8::10/64"), Gateways: addresses("fe80::1")},
			static + "    addresses:\n      - \"2001:db8::10/64\"\n    routes:\n      - to: \"::/0\"\n        via: \"fe80::1\"\n"},
		"no gateway": {host.Network{Addresses: prefixes("192.0.2.10/24", "192.0.2.11/32")},
			static + "    addresses:\n      - \"192.0.2.10/24\"\n      - \"192.0.2.11/32\"\n"},
		"both": {host.Network{Addresses: prefixes("192.0.2.10/24", "2001:db8::10/64"), Gateways: addresses("192.0.2.1", "2001:db8::1"), Nameservers: addresses("2001:db8::53")},
			static + "    addresses:\n      - \"192.0.2.10/24\"\n      - \"2001:db8::10/64\"\n    routes:\n      - to: \"0.0.0.0/0\"\n        via: \"192.0.2.1\"\n" +
				"      - to: \"::/0\"\n        via: \"2001:db8::1\"\n    nameservers:\n      addresses:\n        - \"2001:db8::53\"\n"},
	} {
		h := zap(t)
		h.Network = test.network
		h.Network.MAC = "52:54:00:12:34:56"
		if diff := cmp.Diff(test.want, string(build(t, h).NetworkConfig)); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
}

// What YAML cannot carry is an error that says in which file.
func TestBuildRefuses(t *testing.T) {
	for want, change := range map[string]func(h *host.Host){
		"writing user-data: ":      func(h *host.Host) { h.Admin.Keys = []string{"\xff"} },
		"writing network-config: ": func(h *host.Host) { h.Network.MAC = "\xff" },
	} {
		h := zap(t)
		change(h)
		s, err := Build(h, []byte("program"), nil)
		var list diag.List
		if err == nil || !strings.HasPrefix(err.Error(), want) || errors.As(err, &list) && len(list) == 0 || s.UserData != nil {
			t.Errorf("%v, want %s...", err, want)
		}
	}
}

func TestExplain(t *testing.T) {
	h := zap(t, "bootcmd: [[a, \"b\\nc\"]]\nntp: {enabled: true}", "runcmd: [x, "+strings.Repeat("é", 80)+"]")
	h.Layers[0].Files = []layer.File{{Path: "/f", Mode: 0o755, When: layer.Boot, Content: []byte("x\n"), Origin: "l0/files/f"}}
	parts, err := Explain(h, []byte("program"))
	if err != nil {
		t.Fatal(err)
	}
	want := []Part{
		{Path: "bootcmd[0]", From: "l0/files/f", Text: "[ -d / ] || mkdir -p / && cat >/f.bake <<'END' && chmod 0755 /f.bake && m..."},
		{Path: "bootcmd[1]", From: "l0:1:11", Text: "[a, b ..."},
		{Path: "manage_etc_hosts", From: "hosts/zap.yaml", Text: "true"},
		{Path: "users[0]", From: "hosts/zap.yaml", Text: "{name: ops, gecos: Administrator of zap, shell: /bin/bash, lock_passwd: t..."},
		{Path: "ntp", From: "l0:2:6", Text: "{enabled: true}"},
		{Path: "runcmd[0]", From: "l1:1:10", Text: "x"},
		{Path: "runcmd[1]", From: "l1:1:13", Text: strings.Repeat("é", 73) + "..."},
	}
	if diff := cmp.Diff(want, parts); diff != "" {
		t.Error(diff)
	}
}

// What a host's own words win over is told, and only that.
func TestExplainOverride(t *testing.T) {
	h := zap(t, "timezone: Etc/UTC\nlocale: C.UTF-8", "runcmd: [x]")
	own, err := doc.Parse("own", []byte("timezone: Europe/Berlin\n"))
	if err != nil {
		t.Fatal(err)
	}
	h.Config, h.Winning = own, []string{"timezone"}
	parts, err := Explain(h, []byte("program"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range parts {
		want := map[string][]string{"timezone": {"l0:1:11: Etc/UTC"}}[p.Path]
		if diff := cmp.Diff(want, p.Overrides); diff != "" {
			t.Errorf("%s: %s", p.Path, diff)
		}
	}
}

func TestAt(t *testing.T) {
	h := zap(t, "ntp: {enabled: true, pools: [a, b]}", "runcmd: [x, \"y\\nz\"]")
	h.Layers[0].Files = []layer.File{{Path: "/f", Mode: 0o644, Content: []byte("x\ny\n"), Origin: "l0/files/f"}}
	for path, want := range map[string][]Part{
		"ntp":          {{Path: "ntp.enabled", From: "l0:1:16", Text: "true"}, {Path: "ntp.pools", From: "l0:1:29", Text: "[a, b]"}},
		"ntp.pools[1]": {{Path: "ntp.pools[1]", From: "l0:1:33", Text: "b"}},
		"runcmd[1]":    {{Path: "runcmd[1]", From: "l1:1:13", Text: "y\nz"}},
		"/f":           {{Path: "/f", From: "l0/files/f", Text: "x\ny\n"}},
		"/g":           nil, "runcmd[2]": nil, "runcmd[-1]": nil, "ntp.pool": nil, "ntp.enabled.x": nil, "users[0].name[0]": nil,
	} {
		got, err := At(h, []byte("program"), path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", path, diff)
		}
	}
}

// TestManyWords: files of layers that are too large for a seed are the host file's problem, and
// not a document's that nobody knows.
func TestManyWords(t *testing.T) {
	h := zap(t, "runcmd: [x]")
	h.Layers[0].Files = []layer.File{{Path: "/f", Mode: 0o644, When: layer.Early, Content: bytes.Repeat([]byte("x\n"), 1<<19), Origin: "l0/files/f"}}
	_, err := Build(h, []byte("program"), nil)
	var list diag.List
	if !errors.As(err, &list) || len(list) != 1 || list[0].Pos.File != h.File || !strings.Contains(list[0].Message, "at most 1048576 are read") {
		t.Errorf("%v", err)
	}
}
