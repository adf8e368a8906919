package host

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"bake/internal/diag"
	"bake/internal/layer"
	"bake/internal/origin"
	"bake/layers"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIC5fZc/o+6nL5wffhDwRKx2uFUYmLG4ZcnVAjhhwA3Wo ops@example"

// layerYAML is a layer without effect; more are further keys.
func layerYAML(name, more string) string {
	return "layer: " + name + "\nsummary: s\nthreat: none\n" + more
}

// shelf has the layers a, b and c, which know nothing of each other, and those
// given as pairs of a name and further keys.
func shelf(more ...string) layer.Shelf {
	fsys := fstest.MapFS{}
	for _, name := range []string{"a", "b", "c"} {
		fsys[name+"/layer.yaml"] = &fstest.MapFile{Data: []byte(layerYAML(name, ""))}
	}
	for i := 0; i < len(more); i += 2 {
		fsys[more[i]+"/layer.yaml"] = &fstest.MapFile{Data: []byte(layerYAML(more[i], more[i+1]))}
	}
	return layer.Shelf{Builtin: fsys, ShowBuiltin: "layers"}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// load loads hosts/zap.yaml with this text.
func load(t *testing.T, text string, s layer.Shelf) (*Host, error) {
	t.Helper()
	t.Chdir(t.TempDir())
	write(t, "hosts/zap.yaml", text)
	return Load(".", "zap", s)
}

// plain is a host file that loads; keys given replace or add to its own.
func plain(keys ...string) string {
	lines := []string{"host: zap", "base: debian:13", "admin: {name: ops, keys: [" + key + "]}", "layers: [a]"}
	for _, given := range keys {
		name, _, _ := strings.Cut(given, ":")
		found := false
		for i, line := range lines {
			if strings.HasPrefix(line, name+":") {
				lines[i], found = given, true
			}
		}
		if !found {
			lines = append(lines, given)
		}
	}
	return strings.Join(lines, "\n") + "\n"
}

func TestDefaults(t *testing.T) {
	h, err := load(t, plain(), shelf())
	if err != nil {
		t.Fatal(err)
	}
	want := &Host{
		Name: "zap", Labels: map[string]string{"bake/host": "zap"}, Base: "debian:13", File: "hosts/zap.yaml",
		Ref:     origin.Ref{Kind: origin.Release, Arch: "amd64", Distro: "debian", Version: "13", Codename: "trixie"},
		Machine: Machine{Arch: AMD64, Agent: true, Balloon: true, VCPUs: 2, Memory: 2 << 30, Disk: 20 << 30, Firmware: FirmwareAuto, TPM: TPMAuto, ImagesPath: "/var/lib/libvirt/images/bake"},
		Network: Network{MAC: macFor("zap"), DHCP: true, Isolated: true, Attach: Attach{Network: "default"}},
		Admin:   Admin{Name: "ops", Keys: []string{key}},
		Layers:  []layer.Rendered{{Name: "a", Summary: "s"}},
		Merged:  h.Merged, // a tree with places, looked at below
	}
	if h.Merged.Get("base") == nil || h.Merged.Get("machine") != nil {
		t.Error("what was read is not at hand")
	}
	if !reflect.DeepEqual(h, want) {
		t.Errorf("%+v\nwant %+v", h, want)
	}
}

// The golden trees are shared with the seed's tests: here the resolved machine.
func TestGolden(t *testing.T) {
	trees, err := filepath.Glob("../../testdata/hosts/*")
	if err != nil || len(trees) == 0 {
		t.Fatalf("no golden trees: %v", err)
	}
	for _, tree := range trees {
		name := filepath.Base(tree)
		s := layer.Shelf{Builtin: layers.FS, ShowBuiltin: "layers", User: os.DirFS(filepath.Join(tree, "layers")), UserOrigin: "layers"}
		h, err := Load(tree, name, s)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var order []string
		for _, l := range h.Layers {
			order = append(order, l.Name)
		}
		got, err := json.MarshalIndent(map[string]any{"name": h.Name, "base": h.Base, "machine": h.Machine, "network": h.Network,
			"admin": h.Admin, "layers": order, "override": h.Winning}, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		golden := filepath.Join(tree, "host.json")
		if *update {
			if err := os.WriteFile(golden, append(got, '\n'), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)+"\n"); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
}

// Every refusal, with its place. Lines 1 to 4 are host, base, admin, layers.
func TestRefuses(t *testing.T) {
	for _, test := range []struct{ key, at, words string }{
		{"hots: zap", "5:1", `did you mean "host"?`},
		{"host: zip", "1:7", "differs from the file's"},
		{"host: 5", "1:7", "want text"},
		{"host: \"\"", "1:7", "want text"},
		{"host: \"zap\\n\"", "1:7", "control characters"},
		{"base: [a]", "2:7", "want text"},
		{"base: \"a\\e[2J\"", "2:7", "control characters"},
		{"base:", "2:6", "want text"},
		{"base: debain:13", "2:7", `did you mean "debian"?`},
		{"base: debian:31", "2:7", `unknown release "31" of debian`},
		{"base: noble", "2:7", `did you mean "ubuntu:noble"?`},
		{"base: base.qcow2", "2:7", `did you mean "./base.qcow2"?`},
		{"base: ubuntu:24.04@yesterday", "2:7", "is no serial of ubuntu"},
		{"base: https://example.org/x.img", "2:7", "a link needs the digest of the file"},
		{"base: http://example.org/x.img#sha256=00", "2:7", "only over https"},
		{"mirrors: [a]", "5:10", "want a map"},
		{"mirrors: {fedora: a}", "5:11", "unknown key"},
		{"mirrors: {ubuntu: 5}", "5:19", "want text"},
		{"mirrors: {ubuntu: ftp://example.org}", "5:19", "not the URL of a mirror"},
		{"mirrors: {debian: https://u:p@example.org}", "5:19", "credentials"},
		{"mirrors: {debian: \"https://example.org/?x=1\"}", "5:19", "? or #"},
		{"machine: 5", "5:10", "want a map"},
		{"machine: {cpus: 2}", "5:11", `did you mean "vcpus"?`},
		{"machine: {vcpus: 0}", "5:18", "from 1 to 512"},
		{"machine: {vcpus: 513}", "5:18", "from 1 to 512"},
		{"machine: {vcpus: two}", "5:18", "want a whole number"},
		{"machine: {memory: 511MiB}", "5:19", "512MiB"},
		{"machine: {memory: 13TiB}", "5:19", "12TiB"},
		{"machine: {memory: 3GB}", "5:19", "a size such as"},
		{"machine: {memory: 536870913}", "5:19", "whole number of MiB"},
		{"machine: {disk: 1023MiB}", "5:17", "from 1GiB"},
		{"machine: {disk: 65TiB}", "5:17", "a size such as"},
		{"machine: {disk: 1073741825}", "5:17", "whole number of MiB"},
		{"machine: {state: 63MiB}", "5:18", "from 64MiB"},
		{"machine: {state: 17TiB}", "5:18", "to 16TiB"},
		{"machine: {state: 67108865}", "5:18", "whole number of MiB"},
		{"machine: {state: true}", "5:18", "a size such as"},
		{"machine: {firmware: bios}", "5:21", "auto, uefi, uefi-secure"},
		{"machine: {arch: x86_64}", "5:17", "amd64, arm64"},
		{"machine: {hugepages: 4KiB}", "5:22", "2MiB, 1GiB"},
		{"machine: {memory: 1537MiB, hugepages: 2MiB}", "5:39", "not a whole number of pages"},
		{"machine: {watchdog: bite}", "5:21", "reset, poweroff, pause"},
		{"machine: {vsock: 1}", "5:18", "true or false"},
		{"machine: {agent: 1}", "5:18", "true or false"},
		{"machine: {balloon: 1}", "5:20", "true or false"},
		{"machine: {disks: /srv/x}", "5:18", "want a list"},
		{"machine: {disks: [/srv/x]}", "5:19", "want a map"},
		{"machine: {disks: [{path: /srv/x, format: raw}]}", "5:19", `the key "name" is missing`},
		{"machine: {disks: [{name: x, format: raw}]}", "5:19", `the key "path" is missing`},
		{"machine: {disks: [{name: x, path: /srv/x}]}", "5:19", `the key "format" is missing`},
		{"machine: {disks: [{name: bake-root, path: /srv/x, format: raw}]}", "5:26", "not bake-..."},
		{"machine: {disks: [{name: a/b, path: /srv/x, format: raw}]}", "5:26", "at most 20 of"},
		{"machine: {disks: [{name: x, path: srv/x, format: raw}]}", "5:35", "not a clean absolute path"},
		{"machine: {disks: [{name: x, path: /srv/../x, format: raw}]}", "5:35", "not a clean absolute path"},
		{"machine: {images: /i, disks: [{name: x, path: /i/zap/x, format: raw}]}", "5:47", "where bake has its own"},
		{"machine: {images: /i, disks: [{name: x, path: /i/.base/x, format: raw}]}", "5:47", "where bake has its own"},
		{"machine: {disks: [{name: x, path: /srv/x, format: vmdk}]}", "5:51", "raw, qcow2"},
		{"machine: {disks: [{name: x, path: /dev/sdb, format: qcow2}]}", "5:53", "a block device is raw"},
		{"machine: {disks: [{name: x, path: /srv/x, format: raw, size: 5}]}", "5:56", "unknown key"},
		{"machine: {disks: [{name: x, path: /a, format: raw}, {name: x, path: /b, format: raw}]}", "5:60", "two disks \"x\""},
		{"machine: {disks: [{name: x, path: /a, format: raw}, {name: y, path: /a, format: raw}]}", "5:69", "two disks /a"},
		{"machine: {devices: [{}]}", "5:21", "exactly one of pci and mdev"},
		{"machine: {devices: [{pci: \"65:00.0\"}]}", "5:27", "lspci -D"},
		{"machine: {devices: [{mdev: x}]}", "5:28", "a UUID"},
		{"machine: {devices: [{pci: \"0000:65:00.0\"}, {pci: \"0000:65:00.0\"}]}", "5:44", "listed twice"},
		{"network: {reserve: 10.0.0}", "5:20", "want an address"},
		{"network: {reserve: \"2001:db8::1\"}", "5:20", "want an address"},
		{"network: {reserve: 10.0.0.9, attach: {bridge: br0}}", "5:20", "a bridge keeps no address"},
		{"network: {reserve: 192.0.2.9, addresses: [192.0.2.9/24]}", "5:20", "asks for none"},
		{"network: {filter: \"a b\"}", "5:19", "is not allowed"},
		{"machine: {tpm: 1}", "5:16", "want auto, true or false"},
		{"machine: {tpm: \"true\"}", "5:16", "write it without quotes"},
		{"machine: {tpm: [auto]}", "5:16", "this is a list, want auto, true or false"},
		{"machine: {tpm: }", "5:16", "want auto, true or false"},
		{"machine: {images: images}", "5:19", "an absolute path"},
		{"machine: {images: /a b}", "5:19", "an absolute path"},
		{"network: [a]", "5:10", "want a map"},
		{"network: {macs: auto}", "5:11", `did you mean "mac"?`},
		{"network: {mac: x}", "5:16", "want auto or a MAC address"},
		{"network: {mac: \"52:54:00:12:34\"}", "5:16", "want auto or a MAC address"},
		{"network: {mac: \"52:54:00:12:34:56:78:9a\"}", "5:16", "want auto or a MAC address"},
		{"network: {mac: \"53:54:00:12:34:56\"}", "5:16", "multicast"},
		{"network: {mac: \"ff:ff:ff:ff:ff:ff\"}", "5:16", "multicast"},
		{"network: {mac: \"00:00:00:00:00:00\"}", "5:16", "no card's address"},
		{"network: {mac: 52:54:00:12:34:56}", "5:16", "base 60"},
		{"network: {dhcp: maybe}", "5:17", "true or false"},
		{"network: {dhcp: false}", "5:10", "neither"},
		{"network: {dhcp: true, addresses: [192.0.2.1/24]}", "5:10", "both"},
		{"network: {addresses: 192.0.2.1/24}", "5:22", "want a list"},
		{"network: {addresses: [192.0.2.1]}", "5:23", "with its prefix length"},
		{"network: {addresses: [192.0.2.1/33]}", "5:23", "with its prefix length"},
		{"network: {addresses: [192.0.2.0/24]}", "5:23", "with its prefix length"},
		{"network: {addresses: [\"2001:db8::/64\"]}", "5:23", "with its prefix length"},
		{"network: {addresses: [\"fe80::1%eth0/64\"]}", "5:23", "with its prefix length"},
		{"network: {addresses: [5]}", "5:23", "with its prefix length"},
		{"network: {addresses: [192.0.2.9/24, 192.0.2.9/24]}", "5:37", "twice"},
		{"network: {gateways: [192.0.2.1]}", "5:21", "not with dhcp"},
		{"network: {addresses: [192.0.2.9/24], gateways: [192.0.2.1, 192.0.2.2]}", "5:60", "second gateway"},
		{"network: {addresses: [192.0.2.9/24], gateways: [198.51.100.1]}", "5:49", "in the network of none"},
		{"network: {addresses: [192.0.2.9/24], gateways: [\"fe80::1%$(id)\"]}", "5:49", "an address such as"},
		{"network: {nameservers: [dns.example]}", "5:25", "an address such as"},
		{"network: {nameservers: [\"::1%lo\"]}", "5:25", "an address such as"},
		{"network: {attach: {}}", "5:19", "exactly one of network and bridge"},
		{"network: {attach: {network: a, bridge: b}}", "5:19", "exactly one of network and bridge"},
		{"network: {attach: br0}", "5:19", "want a map"},
		{"network: {attach: {bridge: \"br0; id\"}}", "5:28", "a name"},
		{"network: {attach: {network: /x}}", "5:29", "a name"},
		{"admin: ops", "3:8", "want a map"},
		{"admin: {nam: ops}", "3:9", `did you mean "name"?`},
		{"admin: {keys: [" + key + "]}", "3:8", `"name" is missing`},
		{"admin: {name: root, keys: [" + key + "]}", "3:15", "root does not log in"},
		{"admin: {name: Ops, keys: [" + key + "]}", "3:15", "a user name"},
		{"admin: {name: ops}", "3:8", ""},
		{"admin: {name: ops, keys: []}", "3:26", "nobody could log in"},
		{"admin: {name: ops, keys: " + key + "}", "3:26", "want a list of public keys"},
		{"admin: {name: ops, keys: [5]}", "3:27", "not a public key"},
		{"admin: {name: ops, keys: ['from=\"*\" " + key + "']}", "3:27", "options"},
		{"admin: {name: ops, keys: [\"" + key + "\\nx\"]}", "3:27", "one line"},
		{"layers: a", "4:9", "want a list"},
		{"layers: []", "4:9", "nothing would be hardened"},
		{"layers: [5]", "4:10", "want a layer's name"},
		{"layers: [[a]]", "4:10", "want a layer's name"},
		{"layers: [{a: {}, b: {}}]", "4:10", "want a layer's name"},
		{"layers: [{a: 5}]", "4:14", "want the layer's parameters"},
		{"layers: [d]", "4:10", `unknown layer "d"`},
		{"layers: [../a]", "4:10", "unknown layer"},
		{"layers: [a, b, a]", "4:16", "listed twice, first on line 4"},
		{"layers: [{a: {x: 1}}]", "4:15", `unknown key "x"`},
		{"secrets: hunter2", "5:10", "this is text, want a map"},
		{"secrets: {db: hunter2}", "5:15", "a secret is never written here"},
		{"secrets: {Db: {file: a}}", "5:11", "is no name for a secret"},
		{"secrets: {db: {file: a, env: B}}", "5:15", "exactly one of file, env, age, command"},
		{"secrets: {db: {flie: a}}", "5:16", `did you mean "file"?`},
		{"secrets: {db: {command: pass show db}}", "5:25", "want a list"},
		{"secrets: {db: {file: a}}", "5:1", `unknown layer "secrets"`}, // not on this shelf
		{"layers: [secrets]", "4:10", "unknown layer"},
		{"cloud-config: [a]", "5:15", "want cloud-init's own keys"},
		{"override: a", "5:11", "want a list"},
		{"override: [a]", "5:12", "has no key"},
	} {
		_, err := load(t, plain(test.key), shelf())
		var list diag.List
		found := errors.As(err, &list)
		at := false
		for _, p := range list {
			at = at || p.Pos.String() == "hosts/zap.yaml:"+test.at && strings.Contains(p.Message+"\n"+p.Hint, test.words)
		}
		if !found || !at {
			t.Errorf("%s: want it at %s: %s\n%v", test.key, test.at, test.words, err)
		}
	}
	for _, missing := range []string{"host", "base", "admin", "layers"} {
		var kept []string
		for line := range strings.Lines(plain()) {
			if !strings.HasPrefix(line, missing+":") {
				kept = append(kept, line)
			}
		}
		if _, err := load(t, strings.Join(kept, ""), shelf()); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("the key %q is missing", missing)) {
			t.Errorf("without %s: %v", missing, err)
		}
	}
}

// What looks near to a refusal but is good.
func TestAccepts(t *testing.T) {
	for _, key := range []string{
		"machine: {memory: 512MiB, disk: 1GiB, vcpus: 512, images: /}",
		"machine: {state: 64MiB}",
		"machine: {state: 16TiB}",
		"machine: {arch: arm64, hugepages: 1GiB, watchdog: pause, vsock: true, agent: false, balloon: false}",
		"machine: {disks: [{name: a, path: /srv/a, format: raw}, {name: b, path: /dev/sdb, readonly: true}], devices: [{pci: \"0000:65:00.0\"}, {mdev: 4b20d080-1b54-4048-85b3-a6a62d165c01}]}",
		"network: {reserve: 192.168.122.9, filter: clean-traffic}",
		"network: {mac: auto, dhcp: true, nameservers: [192.0.2.53]}",
		"network: {mac: \"52-54-00-AB-CD-EF\"}",
		"network: {addresses: [192.0.2.9/31]}",
		"network: {addresses: [192.0.2.0/31]}",
		"network: {addresses: [192.0.2.9/32, \"2001:db8::1/128\"]}",
		"network: {addresses: [\"2001:db8::1/64\"], gateways: [\"fe80::1\"]}",
		"network: {dhcp: false, addresses: [192.0.2.9/24], gateways: [192.0.2.1]}",
		"network: {addresses: []}",
		"layers: [{a: {}}]",
		"cloud-config: {a: {b: 1}}\noverride: [a.b, a]",
	} {
		if _, err := load(t, plain(key), shelf("state", "")); err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
}

// Problems of the host file, a layer's parameters and a layer come in one run.
func TestAllAtOnce(t *testing.T) {
	_, err := load(t, plain("machine: {vcpus: 0, memroy: 3GiB}", "layers: [broken, {a: {x: 1}}]"), shelf("broken", "cloud-config: {k: ((nobody))}\nfoo: 1\n"))
	var list diag.List
	if !errors.As(err, &list) {
		t.Fatal(err)
	}
	var places []string
	for _, p := range list {
		places = append(places, p.Pos.String())
	}
	want := []string{"hosts/zap.yaml:4:23", "hosts/zap.yaml:5:18", "hosts/zap.yaml:5:21", "layers/broken/layer.yaml:5:1"}
	if diff := cmp.Diff(want, places); diff != "" {
		t.Errorf("%s\n%v", diff, err)
	}
}

func TestUnknown(t *testing.T) {
	config := t.TempDir()
	unknown := func(name string) *UnknownError {
		_, err := Load(config, name, shelf())
		var u *UnknownError
		if !errors.As(err, &u) {
			t.Fatalf("%q: %v, want an *UnknownError", name, err)
		}
		return u
	}
	if got := unknown("zap").Error(); !strings.Contains(got, "bake init") {
		t.Errorf("with no host at all: %s", got)
	}
	for _, name := range []string{"web", "db"} {
		write(t, filepath.Join(config, "hosts", name+".yaml"), plain("host: "+name))
	}
	write(t, filepath.Join(config, "hosts", "_defaults.yaml"), "")
	write(t, filepath.Join(config, "hosts", "notes.txt"), "")
	if diff := cmp.Diff([]string{"db", "web"}, Names(config)); diff != "" {
		t.Error(diff)
	}
	if got := unknown("zap").Error(); !strings.Contains(got, "db, web") {
		t.Errorf("the known hosts are not in: %s", got)
	}
	for _, name := range []string{"", "../hosts/web", "Web", "web.yaml", "-web", "a_b", strings.Repeat("a", 64), "web\n"} {
		unknown(name)
	}
	if !IsName(strings.Repeat("a", 63)) || IsName(strings.Repeat("a", 64)) || IsName("a-") || IsName("1a") {
		t.Error("a name is a DNS label that starts with a letter")
	}
	odd := filepath.Join(config, "a[b")
	write(t, filepath.Join(odd, "hosts", "web.yaml"), "")
	if diff := cmp.Diff([]string{"web"}, Names(odd)); diff != "" {
		t.Errorf("a [ in the directory's name: %s", diff)
	}
}

// A host file is a file, and not a way to another one.
func TestNotRegular(t *testing.T) {
	config := t.TempDir()
	write(t, filepath.Join(config, "elsewhere"), plain())
	path := filepath.Join(config, "hosts", "zap.yaml")
	if err := errors.Join(os.Mkdir(filepath.Dir(path), 0o755), os.Symlink("../elsewhere", path)); err != nil {
		t.Fatal(err)
	}
	_, err := Load(config, "zap", shelf())
	var list diag.List
	if !errors.As(err, &list) || !strings.Contains(err.Error(), "symbolic link") || list[0].Pos.File != path {
		t.Errorf("%v, want a problem with the link", err)
	}
	if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o755)); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(config, "zap", shelf()); !errors.As(err, &list) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory: %v", err)
	}
}

func TestFirmwareAndTPM(t *testing.T) {
	for text, want := range map[string]Machine{
		"machine: {}":                                 {Firmware: FirmwareAuto, TPM: TPMAuto},
		"machine: {firmware: auto, tpm: auto}":        {Firmware: FirmwareAuto, TPM: TPMAuto},
		"machine: {firmware: uefi, tpm: false}":       {Firmware: UEFI, TPM: TPMOff},
		"machine: {firmware: uefi-secure, tpm: true}": {Firmware: UEFISecure, TPM: TPMOn},
	} {
		h, err := load(t, complete(text), ours())
		if err != nil || h.Machine.Firmware != want.Firmware || h.Machine.TPM != want.TPM {
			t.Errorf("%s: %+v, %v", text, h, err)
		}
	}
}
