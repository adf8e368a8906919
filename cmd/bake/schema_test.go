package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// imageSchema is a schema in the shape of cloud-init's, written for this test.
const imageSchema = `{"$defs": {"cc_door": {"type": "object", "properties": {
  "final_message": {"type": "string", "pattern": "^[a-z]+$"}, "locale": {"type": "string", "deprecated": true, "deprecated_version": "23.1"}}}},
  "allOf": [{"$ref": "#/$defs/cc_door"}]}`

// The cloud-init of the image itself says what is right, with the line of the
// host file; the second time without the image being opened.
func TestSchemaOfTheImage(t *testing.T) {
	w := newWorkshop(t)
	const name = "usr/lib/python3/dist-packages/cloudinit/config/schemas/schema-cloud-config-v1.json"
	base := changedImage(t, map[string]string{name: imageSchema})
	if err := os.WriteFile(filepath.Join(w.dir, "base.qcow2"), base, 0o644); err != nil {
		t.Fatal(err)
	}
	cache := filepath.Join(w.dir, "cache")
	image := func(config string, code int, words ...string) {
		t.Helper()
		w.write(t, "hosts/zap.yaml", hostFixture+"cloud-config:\n"+config, 0o644)
		cmd := w.command("image", "--host", "zap")
		cmd.Env = append(os.Environ(), "XDG_CACHE_HOME="+cache)
		w.expect(t, cmd, code, words...)
	}
	image("  final_message: done\n", 0)
	kept, err := filepath.Glob(filepath.Join(cache, "bake/schema/*.json"))
	if err != nil || len(kept) != 1 {
		t.Fatalf("%q is kept, %v", kept, err)
	}
	data, err := os.ReadFile(kept[0])
	if err != nil || !strings.Contains(string(data), `"cloud_init":"25.1-0ubuntu1"`) {
		t.Errorf("%s, %v", data, err)
	}
	place := func(col int) string {
		return fmt.Sprintf("hosts/zap.yaml:%d:%d", strings.Count(hostFixture, "\n")+2, col)
	}
	image("  final_message: Done\n", 3, place(18)+`: error: final_message: "Done" is not of the form ^[a-z]+$ (the schema of the image's cloud-init 25.1-0ubuntu1)`)
	image("  locale: C.UTF-8\n", 0, place(3)+": warning: locale: deprecated since cloud-init 23.1")

	// What is kept is what counts, until somebody spoils it.
	if err := os.WriteFile(kept[0], []byte(strings.Replace(string(data), `"^[a-z]+$"`, `"^D"`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	image("  final_message: Done\n", 0)
	if err := os.WriteFile(kept[0], []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	image("  final_message: Done\n", 3, "is not of the form ^[a-z]+$")
}
