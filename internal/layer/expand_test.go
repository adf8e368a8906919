package layer

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bake/internal/doc"
)

var facts = Facts{Host: "zap", AdminName: "ops", AdminKeys: []string{goodKey, goodKey + "2"}, Secrets: []string{"api-key", "db.main"}}

const params = `params:
  flag: {type: bool, default: true, help: h}
  count: {type: int, default: 5, help: h}
  port: {type: port, default: 22, help: h}
  ports: {type: ports, default: [22, 80], help: h}
  user: {type: user, default: agent, help: h}
  name: {type: name, default: a.b, help: h}
  path: {type: path, default: /srv, help: h}
  wait: {type: duration, default: 10m, help: h}
  size: {type: size, default: 1KiB, help: h}
  word: {type: enum, of: [low, high], default: low, help: h}
  keys: {type: ssh_keys, default: [], help: h}
  net: {type: cidr, default: 192.0.2.0/24, help: h}
  free: {type: string, default: "hunter2 $(id)", help: h}
`

// rendered renders a layer with the parameters above; given is the flow map a
// host file gives.
func rendered(t *testing.T, body, given string, files ...string) (Rendered, error) {
	t.Helper()
	l := mustOpen(t, head+params+body, files...)
	return l.Render(parse(t, "p: "+given).Get("p"), "layers[0].x", facts)
}

func emit(t *testing.T, n *doc.Node) string {
	t.Helper()
	out, err := doc.Emit(n)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestExpand(t *testing.T) {
	for in, want := range map[string]string{
		// a whole scalar has the value's own type
		"{k: ((flag))}": "k: true\n", "{k: ((port))}": "k: 22\n", "{k: ((user))}": "k: \"agent\"\n", "{k: ((wait))}": "k: 600\n", "{k: ((size))}": "k: 1024\n",
		"{k: ((word))}": "k: \"low\"\n", "{k: ((net))}": "k: \"192.0.2.0/24\"\n", "{k: ((  count ))}": "k: 5\n", "{k: \"((port))\"}": "k: 22\n",
		// a list is the value, or is spliced into a list
		"{k: ((ports))}": "k:\n  - 22\n  - 80\n", "{users: [{ssh_authorized_keys: ((keys))}]}": "users:\n  - ssh_authorized_keys: []\n",
		"{k: [1, ((ports)), 2]}": "k:\n  - 1\n  - 22\n  - 80\n  - 2\n", "{runcmd: [[a, ((keys)), b, ((keys))]]}": "runcmd:\n  - - \"a\"\n    - \"b\"\n",
		"{k: [[((ports))]]}": "k:\n  - - 22\n    - 80\n",
		// in a longer text it is text
		"{k: a ((port)) b}": "k: \"a 22 b\"\n", "{k: ((flag))((user))}": "k: \"trueagent\"\n", "{k: ((ports))/tcp}": "k: \"22 80/tcp\"\n", "{k: \"((port)) \"}": "k: \"22 \"\n",
		// the host's own
		"{k: ((host.name)), l: x-((admin.name))}": "k: \"zap\"\nl: \"x-ops\"\n",
		"{users: [{name: a, ssh_authorized_keys: ((admin.keys))}]}": "users:\n  - name: \"a\"\n    ssh_authorized_keys:\n      - \"" + goodKey + "\"\n      - \"" +
			goodKey + "2\"\n",
		// shell arithmetic and what is no placeholder
		"{k: $((port))}": "k: \"$((port))\"\n", "{k: echo $((port)) ((port))}": "k: \"echo $((port)) 22\"\n", "{k: $(( 1 + ((port)) ))}": "k: \"$(( 1 + 22 ))\"\n",
		"{k: ((1)) ((a b)) (port) ((A))}": "k: \"((1)) ((a b)) (port) ((A))\"\n", "{k: \"{{.port}}\"}": "k: \"{{.port}}\"\n",
		// free text, where it is a value
		"{runcmd: [[logger, ((free))]]}": "runcmd:\n  - - \"logger\"\n    - \"hunter2 $(id)\"\n", "{bootcmd: [[a, ((free)), ((ports))]]}": "bootcmd:\n  - - \"a\"\n    - \"hunter2 $(id)\"\n    - 22\n    - 80\n",
		"{runcmd: [[sh, -c, 'echo \"$1\"', sh, ((free))]]}": "runcmd:\n  - - \"sh\"\n    - \"-c\"\n    - \"echo \\\"$1\\\"\"\n    - \"sh\"\n    - \"hunter2 $(id)\"\n",
		"{users: [{name: a, gecos: ((free))}]}":             "users:\n  - name: \"a\"\n    gecos: \"hunter2 $(id)\"\n",
	} {
		got, err := rendered(t, "cloud-config: "+in+"\n", "{}")
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if diff := cmp.Diff(want, emit(t, got.CloudConfig)); diff != "" {
			t.Errorf("%s:\n%s", in, diff)
		}
	}
}

// Where a value could become structure, a command or an option it is refused.
func TestExpandRefuses(t *testing.T) {
	for in, words := range map[string]string{
		"{k: ((prot))}":                      `did you mean "port"?`,
		"{k: a ((prot)) b}":                  `unknown parameter "prot"`,
		"{k: ((host.nmae))}":                 `did you mean "host.name"?`,
		"{((user)): k}":                      "a parameter cannot be a key",
		"{a: [{\"x((port))\": k}]}":          "a parameter cannot be a key",
		"{k: ((free))}":                      "is free text, which could mean something here",
		"{k: a ((free))}":                    "is free text and cannot stand inside a longer text",
		"{runcmd: [((free))]}":               "is free text, which could mean something here",
		"{runcmd: [echo ((free))]}":          "cannot stand inside a longer text",
		"{runcmd: [[((free))]]}":             "is free text, which could mean something here",
		"{runcmd: [[echo, \"a((free))\"]]}":  "cannot stand inside a longer text",
		"{runcmd: [[sh, -c, ((free))]]}":     "cannot be a script",
		"{runcmd: [[bash, -lc, ((free))]]}":  "cannot be a script",
		"{runcmd: [[sh, -cx, ((free))]]}":    "cannot be a script",
		"{runcmd: [[sh, -c, --, ((free))]]}": "cannot be a script",
		"{runcmd: [[sh, -c, -e, ((free))]]}": "cannot be a script",
		"{runcmd: [[a, [((free))]]]}":        "is free text, which could mean something here",
		"{users: [{name: ((free))}]}":        "is free text, which could mean something here",
		"{users: [{sudo: ((free))}]}":        "is free text, which could mean something here",
		"{runcmd: ((admin.keys))}":           "is free text, which could mean something here",
		"{k: ((admin.keys))}":                "is free text, which could mean something here",
		"{k: a ((admin.keys))}":              "cannot stand inside a longer text",
	} {
		_, err := rendered(t, "cloud-config: "+in+"\n", "{}")
		if err == nil || !strings.Contains(err.Error(), words) || !strings.Contains(err.Error(), "layers/x/layer.yaml:18:") {
			t.Errorf("%s: %v, want %s on line 18", in, err, words)
		}
	}
	for given, good := range map[string]bool{"-rf": false, "--help": false, "-": false, "a-b": true, "": true} {
		for in, ended := range map[string]bool{"[rm, ((free))]": false, "[rm, --, ((free))]": true} {
			_, err := rendered(t, "cloud-config: {runcmd: ["+in+"]}\n", fmt.Sprintf("{free: %q}", given))
			if (err == nil) != (good || ended) {
				t.Errorf("%s with %q: %v", in, given, err)
			}
		}
	}
}

func TestBind(t *testing.T) {
	required := "params:\n  a: {type: int, min: 1, help: How many.}\n"
	l := mustOpen(t, head+required+"cloud-config: {k: ((a))}\n")
	for given, want := range map[string]struct{ at, words string }{
		"{a: 5}":       {},
		"{}":           {"hosts/h.yaml:1:4", `needs the parameter "a", a whole number, at least 1`},
		"{a: 0}":       {"hosts/h.yaml:1:8", "at least 1"},
		"{a: x}":       {"hosts/h.yaml:1:8", "want a whole number"},
		"{a: 5, b: 1}": {"hosts/h.yaml:1:11", `unknown key "b"`},
		"[a]":          {"hosts/h.yaml:1:4", "want a map"},
	} {
		_, err := l.Render(parse(t, "p: "+given).Get("p"), "layers[0].x", facts)
		if want.at == "" && err == nil {
			continue
		}
		refused(t, err, want.at, want.words)
	}
	_, err := l.Render(nil, "layers[0].x", facts)
	refused(t, err, "layers/x/layer.yaml", `needs the parameter "a"`)
}

// The name of a secret is the path of its file; a layer never has more of it.
func TestSecret(t *testing.T) {
	l := mustOpen(t, head+`params:
  need: {type: secret, help: h}
  may: {type: secret, default: "", help: h}
cloud-config: {k: ((need)), l: "x=((may))", m: ((host.secrets)), n: [echo, ((need))]}
`, "etc/a.tmpl", `{{.need}} {{if .may}}{{.may}}{{else}}none{{end}}{{range .host.secrets}} {{.}}{{end}}`)
	render := func(given string) (Rendered, error) {
		return l.Render(parse(t, "p: "+given).Get("p"), "layers[0].x", facts)
	}
	for given, want := range map[string]string{
		"{need: db.main}":                   "/etc/credstore/db.main none api-key db.main",
		"{need: db.main, may: \"\"}":        "/etc/credstore/db.main none api-key db.main",
		"{need: db.main, may: api-key}":     "/etc/credstore/db.main /etc/credstore/api-key api-key db.main",
		"{need: api-key, may: \"api-key\"}": "/etc/credstore/api-key /etc/credstore/api-key api-key db.main",
	} {
		got, err := render(given)
		if err != nil || string(got.Files[0].Content) != want {
			t.Errorf("%s: %v, %v, want %s", given, got.Files, err, want)
			continue
		}
		need, may, _ := strings.Cut(strings.Join(strings.Fields(want)[:2], " "), " ")
		config := fmt.Sprintf("k: %q\nl: %q\nm:\n  - \"api-key\"\n  - \"db.main\"\nn:\n  - \"echo\"\n  - %q\n", need, "x="+strings.TrimPrefix(may, "none"), need)
		if diff := cmp.Diff(config, emit(t, got.CloudConfig)); diff != "" {
			t.Errorf("%s: %s", given, diff)
		}
	}
	for given, want := range map[string]struct{ at, words string }{
		"{}":                               {"hosts/h.yaml:1:4", "needs the parameter \"need\", the name of one of the host's secrets"},
		"{need: api_key}":                  {"hosts/h.yaml:1:11", "no secret of this name\ndid you mean \"api-key\"?"},
		"{need: hunter2}":                  {"hosts/h.yaml:1:11", "no secret of this name\nknown: api-key, db.main"},
		"{need: \"\"}":                     {"hosts/h.yaml:1:11", "want the name of one of the host's secrets"},
		"{need: hunter2-ABC}":              {"hosts/h.yaml:1:11", "want the name of one"},
		"{need: 2}":                        {"hosts/h.yaml:1:11", "want the name of one"},
		"{need: [hunter2]}":                {"hosts/h.yaml:1:11", "want the name of one"},
		"{need: /etc/credstore/db.main}":   {"hosts/h.yaml:1:11", "want the name of one"},
		"{need: db.main, may: hunter2}":    {"hosts/h.yaml:1:25", "no secret of this name"},
		"{need: db.main, my: 1, may: hun}": {"hosts/h.yaml:1:20", `unknown key "my"`},
	} {
		_, err := render(given)
		refused(t, err, want.at, want.words)
		if err != nil && (strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), " | ") && given != "{}") {
			t.Errorf("%s: the line is shown: %v", given, err)
		}
	}
	_, err := l.Render(parse(t, "p: {need: a}").Get("p"), "layers[0].x", Facts{})
	refused(t, err, "hosts/h.yaml:1:11", "add it to the host file")
}

// shape is every path of a tree, with the lengths of its lists.
func shape(n *doc.Node, path string) []string {
	paths := []string{fmt.Sprintf("%s %d", path, len(n.Items))}
	for i, item := range n.Items {
		paths = append(paths, shape(item, fmt.Sprintf("%s[%d]", path, i))...)
	}
	for _, pair := range n.Pairs {
		paths = append(paths, shape(pair.Value, fmt.Sprintf("%s.%q", path, pair.Key.Text))...)
	}
	return paths
}

var hostile = []string{
	"a\nb: c", "a\n- b", "\nruncmd: [id]\n", "'", `"`, `\`, "$(id)", "`id`", "; id", "&& id", "| id", "> /etc/passwd", "a: b", "- a", "#", " #x", "{{.free}}", "{{shell .free}}", "((user))", "((free))",
	"$((1))", "---", "...", "--- a", "\x00", "a\x00b", "\x1b[2J", "\u202eabc", "\u2028", "\u0085", "\ufeff", "é", "😀", "", " ", "-rf", "--", "%", "%n", "*", "~", "!", "!!str", "&a", "*a", "[a]", "{a: b}",
	"yes", "null", "0644", "1e3", "22:22", "/etc/../root", "/a b", "-1", "22 80", "22,80", "root:root", strings.Repeat("x", 4096), "a'; touch /tmp/x; '", `"; id; "`, "END\nid\n", "\r", "a\rb", "<<", "=",
}

const everywhere = `cloud-config:
  plain: ((%[1]s))
  inside: before ((%[1]s)) after
  list: [a, ((%[1]s)), b]
  runcmd:
    - echo ((%[1]s))
    - [echo, ((%[1]s))]
checks:
  inside:
    - {claim: c ((%[1]s)), run: printf ((%[1]s)), is: "x((%[1]s))", falsify: f ((%[1]s))}
`

// For every type, a hostile value is refused or leaves the structure as it is,
// and in a shell it is one word.
func TestHostileValues(t *testing.T) {
	for _, param := range []string{"flag", "count", "port", "user", "name", "path", "wait", "size", "word", "net"} {
		l := mustOpen(t, head+params+fmt.Sprintf(everywhere, param))
		harmless, err := l.Render(nil, "p", facts)
		if err != nil {
			t.Fatal(err)
		}
		accepted := 0
		for _, value := range slices.Concat(hostile, []string{"a", "5", "/srv", "10m", "3GiB", "high", "192.0.2.1", "true"}) {
			got, err := l.Render((&doc.Node{Kind: doc.Map}).Set(param, doc.Text(value)), "p", facts)
			if err != nil {
				continue
			}
			accepted++
			if diff := cmp.Diff(shape(harmless.CloudConfig, ""), shape(got.CloudConfig, "")); diff != "" {
				t.Errorf("%s: %q changes the structure:\n%s", param, value, diff)
			}
			if len(got.Checks) != len(harmless.Checks) {
				t.Errorf("%s: %q changes the checks", param, value)
			}
			bound := strings.TrimPrefix(got.CloudConfig.Get("runcmd").Items[0].Text, "echo ")
			words, err := exec.CommandContext(t.Context(), "sh", "-c", `printf '<%s>' `+bound).Output()
			if err != nil || string(words) != "<"+bound+">" {
				t.Errorf("%s: %q is not one word to a shell: %s, %v", param, value, words, err)
			}
		}
		if text := !slices.Contains([]string{"flag", "count", "port"}, param); text != (accepted > 0) {
			t.Errorf("%s: %d texts were accepted", param, accepted)
		}
	}
	l := mustOpen(t, head+params+"cloud-config: {runcmd: [[printf, ((free))], [a, --, ((free)), b]], users: [{gecos: ((free))}]}\n")
	harmless, err := l.Render(nil, "p", facts)
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range hostile {
		got, err := l.Render((&doc.Node{Kind: doc.Map}).Set("free", doc.Text(value)), "p", facts)
		if err != nil {
			continue
		}
		if diff := cmp.Diff(shape(harmless.CloudConfig, ""), shape(got.CloudConfig, "")); diff != "" {
			t.Errorf("%q changes the structure:\n%s", value, diff)
		}
		if text := got.CloudConfig.Get("runcmd").Items[1].Items[2].Text; text != value {
			t.Errorf("%q became %q", value, text)
		}
	}
}
