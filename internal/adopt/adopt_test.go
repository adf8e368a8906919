package adopt

import (
	"slices"
	"strings"
	"testing"

	"bake/internal/cloudinit"
)

func plan(t *testing.T, text string) (map[string]string, Plan) {
	t.Helper()
	result, err := cloudinit.Merge("user-data", []byte(text), cloudinit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := Make(result, Host{Name: "web"})
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, f := range p.Files {
		files[f.Path] = string(f.Content)
	}
	return files, p
}

// Each kind of content has its place.
func TestPlaces(t *testing.T) {
	files, p := plan(t, `#cloud-config-archive
- filename: one.yaml
  content: |
    #cloud-config
    packages: [ufw, [nginx, '1.0']]
    ssh_pwauth: false
    write_files:
      - {path: /etc/a, content: aGk=, encoding: b64, permissions: 0640}
      - {path: /etc/b, content: x, append: true}
- filename: two.yaml
  content: |
    #cloud-config
    packages: [curl]
    ssh_pwauth: true
    runcmd: ['echo ((x))']
- filename: hook
  content: |
    #cloud-boothook
    #!/bin/sh
`)
	for path, words := range map[string][]string{
		"layers/web-one/layer.yaml":                             {`- "ufw"`, `mode: "0640"`},
		"layers/web-one/files/etc/a":                            {"hi"},
		"layers/web-two/layer.yaml":                             {`- "curl"`, "ssh_pwauth: true"},
		"layers/web-hook/layer.yaml":                            {"bootcmd:", `when: "boot"`},
		"layers/web-hook/files/usr/local/lib/imported/web-hook": {"#!/bin/sh"},
		"hosts/web.yaml":                                        {"- web-one\n  - web-two\n  - web-hook", `- "nginx"`, "append: true", "echo ((x))"},
	} {
		for _, word := range words {
			if !strings.Contains(files[path], word) {
				t.Errorf("%s has no %q:\n%s", path, word, files[path])
			}
		}
	}
	if strings.Contains(files["layers/web-one/layer.yaml"], "ssh_pwauth") || !slices.ContainsFunc(p.Notes, func(n string) bool { return strings.Contains(n, "ssh_pwauth") }) {
		t.Errorf("two parts contradict each other: %q", p.Notes)
	}
	if len(p.Left) > 0 {
		t.Error(p.Left)
	}
}

// What cannot be carried is said.
func TestLeft(t *testing.T) {
	for _, text := range []string{"#cloud-config\na: [\n", "words", "#include\nhttp://example.invalid/\n", "#part-handler\n",
		"#cloud-config\n5: x\nb: 1\n", "#cloud-config-archive\n- type: text\n", "## template: jinja\n#cloud-config\na: {{ b }}\n", "#cloud-config\na: 1.0e+99\n"} {
		if _, p := plan(t, text); len(p.Left) == 0 {
			t.Errorf("%q is carried whole", text)
		}
	}
}
