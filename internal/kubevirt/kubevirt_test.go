package kubevirt

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"bake/internal/claim"
	"bake/internal/diag"
	"bake/internal/host"
	"bake/internal/layer"
	"bake/layers"
)

const hostFile = `host: zap
base: debian:13
payload: none
admin: {name: ops, keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIC5fZc/o+6nL5wffhDwRKx2uFUYmLG4ZcnVAjhhwA3Wo ops@desk]}
`

// load reads a host file of these lines beside those that every one has, laid over what
// hosts share.
func load(t *testing.T, text string, shared ...string) (*host.Host, Generation, Options) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "hosts", "zap.yaml")
	text = hostFile + text
	if err := errors.Join(os.Mkdir(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, text := range shared {
		if text == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, "hosts", "_defaults.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir) // messages name the file from here
	h, err := host.Load(".", "zap", layer.Shelf{Builtin: layers.FS, ShowBuiltin: "layers"})
	if err != nil {
		t.Fatal(err)
	}
	return h, Generation{Name: "0123456789abcdef", BaseURL: "https://x/y.qcow2", BaseSHA256: "00",
		Words: map[string][]byte{"user-data": []byte("words-of-the-seed")}, Program: bytes.Repeat([]byte("p"), 2_500_000)}, Options{}
}

// documents reads a stream back as it is.
func documents(t *testing.T, stream []byte) (all []map[string]any) {
	t.Helper()
	for decoder := yaml.NewDecoder(bytes.NewReader(stream)); ; {
		var one map[string]any
		err := decoder.Decode(&one)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, one)
	}
}

// at follows keys and indices into what was read.
func at(v any, path ...any) any {
	for _, step := range path {
		switch s := step.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[s]
		case int:
			l, _ := v.([]any)
			if s >= len(l) {
				return nil
			}
			v = l[s]
		}
	}
	return v
}

// TestRefused: what KubeVirt cannot give is a problem at its line, and all of it at once.
func TestRefused(t *testing.T) {
	for text, want := range map[string]string{
		"machine: {disks: [{name: d, path: /srv/d, format: raw}]}\n": "hosts/zap.yaml:5:18: error: machine.disks: disks of a hypervisor",
		"machine: {devices: [{pci: \"0000:65:00.0\"}]}\n":            "hosts/zap.yaml:5:20: error: machine.devices: KubeVirt knows devices by",
		"machine: {agent: false}\n":                                  "hosts/zap.yaml:5:18: error: machine.agent: KubeVirt gives every machine",
		"machine: {watchdog: pause}\n":                               "hosts/zap.yaml:5:21: error: machine.watchdog: KubeVirt has no watchdog that pauses",
		"machine: {arch: arm64, watchdog: reset}\n":                  "hosts/zap.yaml:5:34: error: machine.watchdog: KubeVirt has no watchdog on arm64",
		"machine: {arch: arm64, firmware: uefi-secure}\n":            "hosts/zap.yaml:5:34: error: machine.firmware: KubeVirt has no secure boot on arm64",
		"network: {addresses: [192.0.2.9/24]}\n":                     "hosts/zap.yaml:5:22: error: network.addresses: the pod network gives",
		"network: {filter: clean-traffic}\n":                         "hosts/zap.yaml:5:19: error: network.filter: KubeVirt does not know libvirt's filter clean-traffic",
		"layers:\n  - ssh\n  - virtiofs: {share: /srv/x}\n":          "hosts/zap.yaml:6:3: error: layers: layer virtiofs shares /srv/x",
	} {
		if !strings.Contains(text, "layers:") {
			text += "layers: [ssh]\n"
		}
		h, g, o := load(t, text)
		_, err := Export(h, g, o)
		var list diag.List
		if !errors.As(err, &list) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s\nis refused with %v\nwant %s", text, err, want)
		}
	}
	h, g, o := load(t, "machine: {agent: false, watchdog: pause}\nlayers: [ssh]\n")
	g.BaseURL = ""
	if _, err := Export(h, g, o); strings.Count(err.Error(), "error: ") != 3 {
		t.Errorf("not all at once: %v", err)
	}
	h, g, o = load(t, "layers: [ssh]\n")
	if _, err := Export(h, g, o); err != nil {
		t.Errorf("what can be had is refused: %v", err)
	}
	g.Words["user-data"] = make([]byte, 1<<20+1)
	if _, err := Export(h, g, o); err == nil || !strings.Contains(err.Error(), "a Secret holds 1048576") {
		t.Errorf("a seed that no Secret holds: %v", err)
	}
}

func TestOptions(t *testing.T) {
	for want, o := range map[string]Options{
		"--namespace":     {Namespace: "a\n---\nkind: Pod"},
		"--network":       {Network: "a/b/c"},
		"--storage-class": {StorageClass: "-x"},
		"--image":         {Image: "docker://r.example/zap"},
		"--pull-secret":   {Image: "r/z", PullSecret: "A b"},
		"--import-secret": {Image: "r/z", ImportSecret: "x: y"},
		"go with --from":  {Ephemeral: true},
	} {
		if err := o.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if err := (Options{Image: "r.example:5000/a/b@sha256:" + strings.Repeat("0", 64), Namespace: "x", PullSecret: "p", Network: "n/x"}).Check(); err != nil {
		t.Error(err)
	}
}

// TestProbe: readiness is a port that answers after attestation and not before; without
// one there is no probe, and that is said.
func TestProbe(t *testing.T) {
	for _, c := range []struct {
		text    string
		shared  string // with other hosts
		network string
		want    any
		warning string
	}{
		{text: "layers: [ssh, ufw: {allow_tcp: [22, 443]}]\n", want: 22},
		{text: "layers: [ssh, ufw: {allow_tcp: [22, 443]}]\n", shared: "layers: [attest: {on_failure: ssh}]\n", want: 443},
		{text: "layers: [attest: {on_failure: ssh}, ssh, ufw: {allow_tcp: [22, 443]}]\n", want: 443},
		{text: "layers: [attest: {on_failure: ssh}, ssh]\n", warning: "no TCP port answers"},
		{text: "layers: [hostname-time]\n", warning: "no TCP port answers"},
		{text: "layers: [ssh]\n", network: "lan", warning: "nothing tells it when the machine has attested"},
	} {
		h, g, o := load(t, c.text, c.shared)
		o.Network = c.network
		f, err := Export(h, g, o)
		if err != nil {
			t.Fatal(err)
		}
		all := documents(t, f.Machine)
		if got := at(all[2], "spec", "template", "spec", "readinessProbe", "tcpSocket", "port"); got != c.want {
			t.Errorf("%s: the probe is on %v, want %v", c.text, got, c.want)
		}
		if !strings.Contains(f.Warnings.Error(), c.warning) {
			t.Errorf("%s: warnings:\n%s\nwant %s", c.text, f.Warnings.Error(), c.warning)
		}
	}
	h, g, o := load(t, "layers: [ssh]\n")
	for i := range h.Layers {
		if h.Layers[i].Name == "attest" {
			h.Layers[i].Checks = nil
		}
	}
	if f, err := Export(h, g, o); err != nil || bytes.Contains(f.Machine, []byte("readinessProbe")) {
		t.Errorf("a machine that does not attest has a probe on it: %v", err)
	}
}

// TestPolicy: what comes in is what the claims say, and without a claim nothing.
func TestPolicy(t *testing.T) {
	h, g, o := load(t, "layers: [ssh, ufw: {allow_tcp: [8443, 22]}]\n", "layers: [ufw: {allow_udp: [41641]}]\n")
	f, err := Export(h, g, o)
	if err != nil {
		t.Fatal(err)
	}
	want := []any{map[string]any{"protocol": "TCP", "port": 22}, map[string]any{"protocol": "TCP", "port": 8443}, map[string]any{"protocol": "UDP", "port": 41641}}
	all := documents(t, f.Machine)
	for what, got := range map[string]any{
		"policy": at(all[1], "spec", "ingress", 0, "ports"),
		"card":   at(all[2], "spec", "template", "spec", "domain", "devices", "interfaces", 0, "ports"),
	} {
		list, _ := got.([]any)
		if !slices.EqualFunc(list, want, func(a, b any) bool { return maps.Equal(a.(map[string]any), b.(map[string]any)) }) {
			t.Errorf("the %s lets in %v", what, got)
		}
	}
	if !maps.Equal(at(all[1], "spec", "podSelector", "matchLabels").(map[string]any), at(all[2], "spec", "template", "metadata", "labels").(map[string]any)) {
		t.Error("the policy is for another pod")
	}
	h.Layers = slices.DeleteFunc(h.Layers, func(l layer.Rendered) bool {
		return slices.ContainsFunc(l.Checks, func(c claim.Check) bool { return c.Outside != nil })
	})
	h.Merged = nil
	if f, err = Export(h, g, o); err != nil {
		t.Fatal(err)
	}
	policy := documents(t, f.Machine)[1]
	if at(policy, "spec", "ingress") != nil || at(policy, "spec", "policyTypes", 0) != "Ingress" {
		t.Errorf("without a claim there comes in: %v", policy)
	}
}

// TestAnyHost: of all kinds of hosts, the same gives the same; neither seed nor secrets
// are beside their own files; what the values hold is what comes back, whatever a reader of
// YAML could take it for.
func TestAnyHost(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 11))
	for i := range 200 {
		h, g, o := anyHost(r, i)
		f, err := Export(h, g, o)
		if err != nil {
			t.Fatalf("%s: %v", h.Name, err)
		}
		again, err := Export(h, g, o)
		if err != nil || !bytes.Equal(f.Machine, again.Machine) || !bytes.Equal(f.Secret, again.Secret) || !bytes.Equal(f.State, again.State) {
			t.Fatalf("%s: another time it is another: %v", h.Name, err)
		}
		for name, words := range g.Words {
			if bytes.Contains(f.Machine, words) && len(words) > 3 || bytes.Contains(f.Machine, []byte(base64.StdEncoding.EncodeToString(words))) {
				t.Errorf("%s: %s of the seed is beside its Secret", h.Name, name)
			}
		}
		if bytes.Contains(f.Machine, []byte("kind: Secret")) || bytes.Contains(f.State, []byte("kind: Secret")) {
			t.Errorf("%s: a Secret is in a file that may go into a repository", h.Name)
		}
		machine := documents(t, f.Machine)
		if vm := machine[len(machine)-1]; at(vm, "metadata", "name") != h.Name || at(vm, "spec", "template", "spec", "hostname") != h.Name ||
			at(vm, "spec", "template", "spec", "domain", "devices", "interfaces", 0, "macAddress") != h.Network.MAC {
			t.Errorf("%s comes back as %v", h.Name, vm)
		}
		if !o.Ephemeral && o.Image == "" && at(machine[0], "spec", "source", "http", "url") != g.BaseURL {
			t.Errorf("%s: the URL %q comes back as %v", h.Name, g.BaseURL, machine[0])
		}
	}
}

// TestProgram: the pieces are the program, in an order that their names say, and each fits.
func TestProgram(t *testing.T) {
	for _, size := range []int{0, 1, pieceSize, pieceSize + 1} {
		want := anyBytes(rand.New(rand.NewPCG(1, 2)), size)
		name, err := ProgramName(want)
		if err != nil {
			t.Fatal(err)
		}
		stream, err := Program(want, "x")
		if err != nil {
			t.Fatal(err)
		}
		var got []byte
		for n, piece := range documents(t, stream) {
			data, err := base64.StdEncoding.DecodeString(at(piece, "binaryData", "attest."+string(rune('0'+n))).(string))
			if err != nil || len(data) > maxData || at(piece, "metadata", "name") != pieceName(name, n) || at(piece, "metadata", "namespace") != "x" {
				t.Fatalf("piece %d of %d bytes: %v, %v", n, len(data), err, at(piece, "metadata"))
			}
			got = append(got, data...)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("of %d bytes the pieces are not the program", size)
		}
	}
	if _, err := Program(make([]byte, maxPieces*pieceSize+1), ""); err == nil {
		t.Error("more pieces than the guest reads are no error")
	}
}

// TestPieces runs the part of the guest's gate that takes the program off its volumes.
func TestPieces(t *testing.T) {
	gate, err := os.ReadFile("../../layers/attest/files/usr/local/lib/bake/gate.tmpl")
	if err != nil {
		t.Fatal(err)
	}
	_, take, ok := strings.Cut(string(gate), "\ntake() {\n")
	take, _, closed := strings.Cut(take, "\n}\n")
	if !ok || !closed {
		t.Fatal("the gate takes nothing any more")
	}
	for name, volumes := range map[string][]map[string]string{
		"in one piece":              {{"attest": "012", "claims.json": "{}"}},
		"in pieces":                 {{"claims.json": "{}"}, {"attest.0": "0"}, {"attest.1": "1"}, {"attest.2": "2"}},
		"in pieces, the last first": {{"attest.2": "2"}, {"attest.1": "1"}, {"attest.0": "0"}, {"claims.json": "{}"}},
		"without a piece":           {{"claims.json": "{}"}, {"attest.0": "0"}, {"attest.2": "2"}},
	} {
		dir := t.TempDir()
		lib := filepath.Join(dir, "lib")
		if err := os.Mkdir(lib, 0o755); err != nil {
			t.Fatal(err)
		}
		script := "set -eu\nlib=" + lib + "\ntake() {\n" + take + "\n}\n"
		for n, files := range volumes {
			volume := filepath.Join(dir, string(rune('a'+n)))
			err := os.Mkdir(volume, 0o755)
			for file, text := range files {
				err = errors.Join(err, os.WriteFile(filepath.Join(volume, file), []byte(text), 0o444))
			}
			if err != nil {
				t.Fatal(err)
			}
			script += "take " + volume + "\n"
		}
		out, err := exec.Command("sh", "-c", script).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
		program, _ := os.ReadFile(filepath.Join(lib, "attest"))
		claims, _ := os.ReadFile(filepath.Join(lib, "claims.json"))
		if got := string(program) + string(claims); (got == "012{}") == (name == "without a piece") {
			t.Errorf("%s: taken is %q", name, got)
		}
	}
}

// TestFirmware: what a host file leaves open a cluster has, a TPM that persists if somebody
// asks for it, secure boot not on arm64.
func TestFirmware(t *testing.T) {
	for text, want := range map[string]struct{ secure, smm, tpm, persistent any }{
		"machine: {arch: amd64}\n":                                   {true, true, true, false},
		"machine: {firmware: auto, tpm: auto}\n":                     {true, true, true, false},
		"machine: {firmware: uefi, tpm: false}\n":                    {false, nil, false, nil},
		"machine: {firmware: uefi-secure, tpm: true}\n":              {true, true, true, true},
		"machine: {arch: arm64}\n":                                   {false, nil, true, false},
		"machine: {arch: arm64, firmware: uefi, tpm: false}\n":       {false, nil, false, nil},
		"machine: {arch: amd64, firmware: uefi-secure, tpm: auto}\n": {true, true, true, false},
	} {
		h, g, o := load(t, text+"layers: [ssh]\n")
		out, err := Export(h, g, o)
		if err != nil {
			t.Fatal(err)
		}
		var domain any
		for _, one := range documents(t, out.Machine) {
			if one["kind"] == "VirtualMachine" {
				domain = at(one, "spec", "template", "spec", "domain")
			}
		}
		has := at(domain, "devices", "tpm") != nil
		if secure := at(domain, "firmware", "bootloader", "efi", "secureBoot"); secure != want.secure ||
			at(domain, "features", "smm", "enabled") != want.smm || has != want.tpm || at(domain, "devices", "tpm", "persistent") != want.persistent {
			t.Errorf("%s: %v, %v", text, secure, domain)
		}
	}
}
