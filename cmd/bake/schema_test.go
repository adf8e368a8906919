package main

import (
	"fmt"
	"os"
	"os/exec"
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
	base := changedImage(t, map[string]string{name: imageSchema,
		"etc/cloud/cloud.cfg":          "datasource_list: [NoCloud]\ncloud_init_modules: [[bootcmd, always], write-files, users-groups]\ncloud_config_modules: [runcmd]\ncloud_final_modules: [nothing]\n",
		"etc/cloud/cloud.cfg.d/90.cfg": "cloud_final_modules: [scripts-user]\n"})
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

	// lint opens no image, and knows what the last image knew.
	lint := func(code int, words ...string) {
		t.Helper()
		cmd := w.command("lint", "--host", "zap")
		cmd.Env = append(os.Environ(), "XDG_CACHE_HOME="+cache)
		prints(t, cmd, code, words...)
	}
	lint(3, place(18)+`: error: final_message: "Done" is not of the form ^[a-z]+$ (the schema of cloud-init 25.1-0ubuntu1) [schema]`,
		"zap: held against the schema of the image's cloud-init 25.1-0ubuntu1")
	w.write(t, "hosts/zap.yaml", hostFixture+"cloud-config:\n  final_message: Done\nallow: {schema: we know}\n", 0o644)
	lint(0, "allowed: we know")
	w.write(t, "hosts/zap.yaml", hostFixture+"cloud-config:\n  packages: [htop, htopp]\n", 0o644)
	lint(0)
	names := filepath.Join(cache, "bake/payload/names", filepath.Base(strings.TrimSuffix(kept[0], ".json")+".txt"))
	if err := os.MkdirAll(filepath.Dir(names), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(names, []byte("htop\nufw\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := w.command("explain", "--host", "zap")
	cmd.Env = append(os.Environ(), "XDG_CACHE_HOME="+cache)
	prints(t, cmd, 0, "ORDER (the image's cloud-init 25.1-0ubuntu1)", "read by none of these: disable_root, manage_etc_hosts, no_ssh_fingerprints, packages[0-1], ssh, ssh_pwauth", "  users_groups ")
	lint(3, place(20)+`: error: packages[1]: the archives of the base image have no package "htopp" [package-unavailable]`, "1 error")
}

// Without an image the newest schema that is known counts, in layers as well.
func TestSchemaWithoutImage(t *testing.T) {
	w := newWorkshop(t)
	lint := func(code int, words ...string) {
		t.Helper()
		cmd := w.command("lint", "--host", "zap")
		cmd.Env = append(os.Environ(), "XDG_CACHE_HOME="+filepath.Join(w.dir, "cache"))
		prints(t, cmd, code, words...)
	}
	w.write(t, "hosts/zap.yaml", hostFixture, 0o644)
	lint(0, "zap: held against the schema of cloud-init 26.2, the newest known: bake image reads that of the base image")
	w.write(t, "hosts/zap.yaml", hostFixture+"cloud-config:\n  phone_home: {url: http://x/, tries: many}\n", 0o644)
	at := fmt.Sprintf("hosts/zap.yaml:%d:39", strings.Count(hostFixture, "\n")+2)
	lint(3, at+": error: phone_home.tries: this is text, want a whole number (the schema of cloud-init 26.2) [schema]")
}

// prints runs a command and holds all that it writes against what it must have said.
func prints(t *testing.T, cmd *exec.Cmd, code int, words ...string) {
	t.Helper()
	out, _ := cmd.CombinedOutput()
	if got := cmd.ProcessState.ExitCode(); got != code {
		t.Errorf("%q: exit status %d, want %d\n%s", cmd.Args[1:], got, code, out)
	}
	for _, word := range words {
		if !strings.Contains(string(out), word) {
			t.Errorf("%q does not say %q:\n%s", cmd.Args[1:], word, out)
		}
	}
}
