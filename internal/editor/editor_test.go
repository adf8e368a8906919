package editor

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"bake/internal/doc"
	"bake/internal/layer"
	"bake/internal/schema"
	"bake/layers"
)

func parsed(t *testing.T, s Schema) *schema.Schema {
	t.Helper()
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	p, err := schema.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func builtin(t *testing.T) []*layer.Layer {
	t.Helper()
	shelf := layer.Shelf{Builtin: layers.FS, ShowBuiltin: "layers"}
	var all []*layer.Layer
	for _, name := range shelf.Names() {
		l, err := shelf.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, l)
	}
	return all
}

// Every host file and layer of the repository fits.
func TestOurOwnFit(t *testing.T) {
	hosts, layerFile := parsed(t, Host(builtin(t))), parsed(t, Layer())
	seen := 0
	paths, err := filepath.Glob("../../hosts/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		node, err := doc.Parse(path, data)
		if err != nil {
			t.Fatal(err)
		}
		seen++
		for _, f := range hosts.Check(node) {
			t.Errorf("%s: %s: %s", f.Pos, f.Path, f.Message)
		}
	}
	err = fs.WalkDir(layers.FS, ".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Base(path) != "layer.yaml" {
			return err
		}
		node, err := doc.Read(layers.FS, path, path)
		if err != nil {
			return err
		}
		seen++
		for _, f := range layerFile.Check(node) {
			t.Errorf("%s: %s: %s", f.Pos, f.Path, f.Message)
		}
		return nil
	})
	if err != nil || seen < 10 {
		t.Errorf("%d files, %v", seen, err)
	}
}

// Each fault is seen.
func TestFaults(t *testing.T) {
	hosts, layerFile := parsed(t, Host(builtin(t))), parsed(t, Layer())
	const good = "host: a\nbase: debian:13\nadmin: {name: ops, keys: [k]}\n"
	for text, s := range map[string]*schema.Schema{
		good + "labels: {ring: 1}\n":                                         hosts,
		good + "groups: web\n":                                               hosts,
		good + "machine: {vcpu: 2}\n":                                        hosts,
		good + "machine: {vcpus: two}\n":                                     hosts,
		good + "machine: {vcpus: 1000}\n":                                    hosts,
		good + "machine: {firmware: bios}\n":                                 hosts,
		good + "machine: {tpm: 1}\n":                                         hosts,
		good + "machine: {tpm: some}\n":                                      hosts,
		good + "layers: [ssh, no-such-layer]\n":                              hosts,
		good + "layers: [{ufw: {allow: [22]}}]\n":                            hosts,
		good + "layers: [{ufw: {allow_tcp: [ssh]}}]\n":                       hosts,
		good + "secrets: {a: {files: x}}\n":                                  hosts,
		good + "override: x\n":                                               hosts,
		"layer: a\nsummary: b\n":                                             layerFile,
		"layer: a\nsummary: b\nthreat: c\ncheck: {}\n":                       layerFile,
		"layer: a\nsummary: b\nthreat: c\npackages: x\n":                     layerFile,
		"layer: a\nsummary: b\nthreat: c\nparams: {a: {type: x, help: y}}\n": layerFile,
	} {
		node, err := doc.Parse("x", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Check(node)) == 0 {
			t.Errorf("nothing is wrong with\n%s", text)
		}
	}
	node, _ := doc.Parse("x", []byte(good+"cloud-config: {anything: [1]}\nsecrets: {a: {file: x}}\nallow: {no-firewall: the hypervisor filters}\n"+
		"groups: [web]\nlabels: {example.org/ring: \"1\"}\n"))
	if found := hosts.Check(node); len(found) > 0 {
		t.Error(found)
	}
}

// Every key has a form and a word about it.
func TestKeys(t *testing.T) {
	for _, key := range layer.Keys() {
		if key.Form == "" || key.About == "" {
			t.Errorf("the key %q is not described", key.Name)
		}
	}
}

// What is a bool or a word is both.
func TestBoolOrWord(t *testing.T) {
	hosts := parsed(t, Host(builtin(t)))
	for _, value := range []string{"auto", "true", "false"} {
		node, err := doc.Parse("x", []byte("host: a\nbase: debian:13\nadmin: {name: ops, keys: [k]}\nmachine: {tpm: "+value+"}\n"))
		if err != nil {
			t.Fatal(err)
		}
		if faults := hosts.Check(node); len(faults) > 0 {
			t.Errorf("%s: %v", value, faults)
		}
	}
}
