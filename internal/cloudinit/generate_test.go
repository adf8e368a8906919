package cloudinit

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"mime/quotedprintable"
	"slices"
	"strconv"
	"strings"
)

// A generator makes user-data: what people write, what tools make of it, and
// what goes wrong.
type generator struct{ *rand.Rand }

func (g generator) one(choices ...string) string { return choices[g.IntN(len(choices))] }

// in is true once in n times.
func (g generator) in(n int) bool { return g.IntN(n) == 0 }

func (g generator) userData() []byte {
	var data []byte
	switch g.IntN(10) {
	case 0, 1:
		data = []byte(g.leaf())
	case 2, 3:
		data = []byte(g.archive())
	default:
		data = []byte(g.multipart(0))
	}
	if g.in(6) {
		data = g.spoil(data)
	}
	if g.in(10) {
		data = g.gzip(data)
	}
	return data
}

func (g generator) gzip(data []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(data)
	w.Close()
	switch g.IntN(12) {
	case 0:
		out.Truncate(out.Len() / 2)
	case 1:
		out.Write(make([]byte, 5))
	case 2:
		out.WriteString("trailing")
	case 3:
		out.Write(bytes.Clone(out.Bytes()))
	}
	return out.Bytes()
}

// spoil changes some bytes.
func (g generator) spoil(data []byte) []byte {
	for range 1 + g.IntN(3) {
		if len(data) == 0 {
			break
		}
		at := g.IntN(len(data))
		switch g.IntN(4) {
		case 0:
			data = slices.Delete(data, at, at+1)
		case 1:
			data = slices.Insert(data, at, []byte(g.one("\n", "\n\n", ":", " ", "\t", "-", "é", "#", "\r", "\xff", "=", "\"", "--b1", "{", "\x00"))...)
		case 2:
			data[at] = byte(g.IntN(128))
		case 3:
			end := min(len(data), at+g.IntN(20))
			data = slices.Delete(data, at, end)
		}
	}
	return data
}

func (g generator) leaf() string {
	switch g.IntN(16) {
	case 0:
		return "#!/bin/sh\necho " + g.one("hi", "é", "$x") + "\n"
	case 1:
		return g.one("#cloud-boothook\n#!/bin/sh\ntrue\n", "#cloud-boothook\r\n#!/bin/sh\r\ntrue\r\n", "#cloud-boothook #!/bin/sh\n")
	case 2:
		return g.jsonPatch()
	case 3:
		return g.jinja()
	case 4:
		return g.one("", "\n", "hello world\n", "# cloud-config\na: 1\n", "\ufeff#cloud-config\na: 1\n", "#cloud-config", "#cloud-config\n# nothing\n",
			"#Cloud-Config\na: 2\n", "  \n#cloud-config\na: 3\n", "#cloud-configuration\na: 4\n", "MZ\x90", "\xff\xfe", "#!\n", "Hello\n#cloud-config\n", "mime-version: x\n")
	case 5:
		if g.in(3) {
			return g.one("#include\nhttp://lab.invalid/config\n", "#include http://lab.invalid/script\n", "#include-once\nhttp://lab.invalid/empty\n\n# no\n",
				"#include\n\n", "#include\nhttp://lab.invalid/again\n#include-once http://lab.invalid/config\nhttp://lab.invalid/config\n", "#include\nhttp://lab.invalid/nothing\n",
				"#INCLUDE http://lab.invalid/config\n")
		}
		return g.config()
	case 6:
		if g.in(4) {
			return "#part-handler\ndef list_types():\n    return ['text/x-lab']\ndef handle_part(data, ctype, filename, payload):\n    pass\n"
		}
		return g.config()
	case 7:
		if g.in(2) {
			return g.archive()
		}
		return g.config()
	}
	return g.config()
}

var keys = []string{"runcmd", "packages", "write_files", "users", "ssh_pwauth", "hostname", "a", "b", "mounts", "bootcmd", "timezone", "final_message", "launch-index"}

func (g generator) config() string {
	var text strings.Builder
	text.WriteString(g.one("#cloud-config\n", "#cloud-config\n", "#cloud-config\n", "#cloud-config\n\n# a comment\n", "#cloud-config\r\n", "#cloud-config \n---\n"))
	for range g.IntN(7) {
		key := keys[g.IntN(len(keys))]
		fmt.Fprintf(&text, "%s: %s\n", key, g.value(0))
	}
	if g.in(3) {
		fmt.Fprintf(&text, "%s: %s\n", g.one("merge_how", "merge_how", "merge_type"), g.mergeHow())
	}
	if g.in(12) {
		text.WriteString(g.one("runcmd: [\n", "a: b: c\n", "\tx: 1\n", "- list\n", "x: *nobody\n", "x: !!bool 7\n", "x: 2026-99-99\n", "x: !foo y\n", "k: &a [1]\nl: *a\n",
			"<<: {q: 1}\n", "1: one\ntrue: two\n", "? [a]\n: b\n", "x: =\n", "m: !!set {u, v}\n", "o: !!omap [a: 1]\n", "x: !!python/unicode text\n", "d: 2026-11-28\n", "b: !!binary aGk=\n", "x: \"\\ud800\"\n"))
	}
	if g.in(10) {
		return strings.ReplaceAll(text.String(), "\n", "\r\n")
	}
	return text.String()
}

func (g generator) value(depth int) string {
	if depth < 3 {
		switch g.IntN(5) {
		case 0, 1:
			var items []string
			for range g.IntN(4) {
				items = append(items, g.value(depth+1))
			}
			return "[" + strings.Join(items, ", ") + "]"
		case 2:
			var items []string
			for range g.IntN(4) {
				items = append(items, g.one("a", "b", "name", "path", "content", "x")+": "+g.value(depth+1))
			}
			return "{" + strings.Join(items, ", ") + "}"
		}
	}
	return g.one("x", "y", "'two words'", "\"q\"", "1", "2", "0644", "'0644'", "true", "no", "null", "~", "1.5", "22:22", "''", "é", "a-long-word", "0", "1e3", "'ü'")
}

func (g generator) mergeHow() string {
	if g.in(3) {
		return "'" + g.mergeString() + "'"
	}
	rules := func() string {
		return fmt.Sprintf("{name: %s, settings: %s}", g.one("dict", "list", "str", "dict", "list", "str", "dict", "list", "str", "m_list", g.one("Dict", "foo", " list ", "5")), g.settings())
	}
	switch g.IntN(14) {
	case 0:
		return g.one("null", "5", "true", "[]", "{}", "''", "[[]]", "[null]", "[5]", "['']", "{name: list, settings: [append]}", "[{name: list}]", "[{settings: []}]", "1.5", "[x]", "[!!binary aGk=]")
	case 1, 2:
		var lists []string
		for range 1 + g.IntN(3) {
			lists = append(lists, "["+g.one("dict", "list", "str", "dict", "list", g.one("bar", "5", "''"))+", "+g.one("append", "replace", "no_replace, recurse_list", "recurse_str", "prepend")+"]")
		}
		return "[" + strings.Join(lists, ", ") + "]"
	}
	var all []string
	for range 1 + g.IntN(3) {
		all = append(all, rules())
	}
	return "[" + strings.Join(all, ", ") + "]"
}

func (g generator) settings() string {
	return g.one("[append]", "[prepend]", "[replace]", "[no_replace]", "[no_replace, recurse_list]", "[recurse_array, recurse_str]", "[recurse_dict, recurse_list]", "[append, recurse_dict]",
		"[no_replace, recurse_list, recurse_str, allow_delete]", "[allow_delete, replace]", "[]", "append", "no_replace", "null", "5", "{append: 1}", "[APPEND]", "[recurse_dict]", "[recurse_str, append]")
}

func (g generator) mergeString() string {
	var rules []string
	for range 1 + g.IntN(3) {
		rules = append(rules, g.one("dict", "list", "str", "dict", "list", "dict", "list", "DICT", "m_dict", g.one("foo", "bar", "dict"))+"("+
			g.one("", "append", "prepend", "replace", "no_replace", "no_replace,recurse_list", "recurse_array,recurse_str", "recurse_dict", "recurse_list, allow_delete", "recurse_dict,recurse_list,recurse_str,no_replace", "append,")+")")
	}
	return strings.Join(rules, "+") + g.one("", "", "", "", "", "", "", "", "", "", "+", g.one(" + ", "+bad", "(", "+list"))
}

func (g generator) jsonPatch() string {
	var operations []string
	place := func() string {
		return g.one("/a", "/b", "/runcmd", "/runcmd/-", "/runcmd/0", "/packages/1", "/a/a", "/a/name", "", "/", "/hostname/0", "/users/0/name", "/a~1b", "/a~", "x", "/runcmd/01", "/runcmd/0x", "/runcmd/9", "/b/b/x")
	}
	for range g.IntN(4) {
		operations = append(operations, fmt.Sprintf(`{"op": "%s", "path": "%s"%s}`, g.one("add", "add", "add", "replace", "remove", "move", "copy", "test", "foo"), place(),
			g.one("", `, "value": 1`, `, "value": ["x", {"a": 1}]`, `, "value": {"a": null, "a": 2}`, `, "from": "`+place()+`"`, `, "value": "\u00e9\ud83d\ude00"`, `, "value": 1.5e3`, `, "value": NaN`)))
	}
	text := "[" + strings.Join(operations, ",\n ") + "]"
	switch g.IntN(12) {
	case 0:
		text = g.one("{}", "null", "5", "\"\"", "\"x\"", "[5]", "{\"a\": 1}", "[", "[1,]", "[{\"path\": \"/a\"}]", "{'a': 1}", "[{\"op\": 5, \"path\": \"/a\"}]", "01")
	case 1:
		text += g.one(" ", "x", "\n\n", "]")
	}
	return g.one("#cloud-config-jsonp\n", "#cloud-config-jsonp\n", "#cloud-config-jsonp ", "\n#cloud-config-jsonp\n", "#Cloud-config-jsonp\n") + text + "\n"
}

func (g generator) jinja() string {
	return g.one("## template: jinja\n", "## template: jinja\n", "##template:jinja\n", "## template: jinja2\n", "\n## template: jinja\n", "## Template: Jinja \r\n", "## template: jinja") +
		g.one(g.config(), g.config(), "#!/bin/sh\necho\n", "", "\n", "\n\n", "hello\n", "#cloud-config\nhostname: {{ ds.x }}\n", "#cloud-config\n{% if 1 %}\na: 1\n{% endif %}\n", g.jsonPatch(), "#cloud-boothook\n", "#cloud-config\na: 1\r\nb: 2\r")
}

func (g generator) archive() string {
	var text strings.Builder
	text.WriteString(g.one("#cloud-config-archive\n", "#cloud-config-archive\n", "#cloud-config-archive\n---\n"))
	if g.in(15) {
		return text.String() + g.one("a: 1\n", "", "- [\n", "hello\n", "- 5\n- [x]\n", "- content: 5\n", "- type: text\n  content: x\n", "- content: null\n", "- type: 5\n  content: x\n", "- merge-type: 5\n  content: x\n",
			"- {content: x, 5: y}\n", "- content: !!bool 7\n", "- type: application/x\n  content: !!binary aGk=\n", "- content: !!binary I2Nsb3VkLWNvbmZpZwphOiAxCg==\n", "- {type: application/x, content: null}\n", "- \"a\\ud800\"\n", "- {type: text/cloud-config, content: 5}\n")
	}
	for range 1 + g.IntN(4) {
		if g.in(5) {
			fmt.Fprintf(&text, "- |\n%s", indented(g.leaf(), "  "))
			continue
		}
		fmt.Fprintf(&text, "- content: |\n%s", indented(g.leaf(), "    "))
		for _, line := range []string{
			"type: " + g.one("text/cloud-config", "text/x-shellscript", "text/plain", "text/jinja2", "text/cloud-config; charset=x", "text/cloud-config-jsonp", "text/cloud-boothook",
				"application/x-foo", "multipart/mixed", "text/a/b", "text/x-shellscript-per-once", "''", "TEXT/Cloud-Config", "text/cloud-config-archive"),
			"filename: " + g.one("a.yaml", "b.sh", "'with space'", "'é.yaml'", "\"a\\\"b;c\"", "5", "null", "../x", "b.sh", "true", "'100%'", "''"),
			g.one("Merge-Type: ", "X-Merge-Type: ", "merge-type: ", "merge_type: ") + "'" + g.mergeString() + "'",
			"launch-index: " + g.one("0", "1", "x", "null"),
			g.one("x-header: value", "X-Other: null", "Content-Transfer-Encoding: base64", "Number-Attachments: '7'"),
		} {
			if g.in(4) {
				fmt.Fprintf(&text, "  %s\n", line)
			}
		}
	}
	return text.String()
}

func indented(text, indent string) string {
	var out strings.Builder
	for line := range strings.SplitAfterSeq(text, "\n") {
		if line != "" {
			out.WriteString(indent + line)
		}
	}
	if !strings.HasSuffix(text, "\n") {
		out.WriteString("\n")
	}
	return out.String()
}

// multipart writes a message as tools do it, and as those that get it wrong.
func (g generator) multipart(depth int) string {
	boundary := g.one("b1", "==b2==", "b 3", "b'4", "MIMEBOUNDARY") + strconv.Itoa(depth)
	var text strings.Builder
	parameter := g.one(`boundary="`+boundary+`"`, `boundary="`+boundary+`"`, `boundary="`+boundary+`"`, `BOUNDARY="`+boundary+`"`, "boundary*=utf-8''"+strings.ReplaceAll(boundary, " ", "%20"), "boundary="+boundary,
		`boundary*0="`+boundary[:1]+`"; boundary*1="`+boundary[1:]+`"`)
	kind := g.one("multipart/mixed", "multipart/mixed", "multipart/mixed", "Multipart/Mixed", "multipart/alternative", "multipart/digest")
	if g.in(20) {
		parameter = g.one("", "boundary", "x=y", "boundary*=a; boundary*0=b")
	}
	head := []string{"Content-Type: " + kind + ";" + g.one(" ", "\n ", "\n\t") + parameter}
	if depth == 0 || g.in(2) {
		head = append(head, g.one("MIME-Version: 1.0", "MIME-Version: 1.0", "mime-version: 1.0", "Mime-Version:1.0"))
	}
	if g.in(8) {
		head = append(head, g.one("Merge-Type: list(append)+dict(recurse_list)", "Number-Attachments: 2", "Subject: é", "X: folded\n more", "From: me", "Content-Transfer-Encoding: base64"))
	}
	g.Shuffle(len(head), func(i, j int) { head[i], head[j] = head[j], head[i] })
	if g.in(20) {
		text.WriteString("From nobody Sat Jan  1 00:00:00 2000\n")
	}
	text.WriteString(strings.Join(head, "\n") + "\n")
	text.WriteString(g.one("\n", "\n", "\n", "\n", "\n", "\npreamble\n", "", "\nFrom x\n", "garbage\n\n"))
	for range 1 + g.IntN(4) {
		text.WriteString("--" + boundary + g.one("\n", "\n", "\n", "\n", "\n", " \n", "\t \n"))
		if depth < 2 && g.in(10) {
			text.WriteString(g.multipart(depth + 1))
		} else {
			text.WriteString(g.part(depth))
		}
		text.WriteString(g.one("\n", "\n", "\n", "\n", ""))
	}
	text.WriteString(g.one("--"+boundary+"--\n", "--"+boundary+"--\n", "--"+boundary+"--\n", "--"+boundary+"--", "", "--"+boundary+"--\nepilogue\n", "--"+boundary+"\n"))
	if g.in(12) {
		return strings.ReplaceAll(text.String(), "\n", "\r\n")
	}
	return text.String()
}

func (g generator) part(depth int) string {
	body := g.leaf()
	kind := typeOf(body)
	if kind == "" || g.in(5) {
		kind = g.one("text/plain", "text/cloud-config", "text/x-shellscript", "text/x-not-multipart", "application/octet-stream", "text/x-shellscript-per-boot", "text/x-shellscript-per-instance",
			"text/jinja2", "text/html", "nonsense", "TEXT/CLOUD-CONFIG", "text/cloud-config-jsonp", "text/cloud-boothook", "application/json", "message/rfc822", "text/x-lab", "a/b/c", "message/delivery-status")
	}
	if g.in(12) {
		kind, body = g.one("application/gzip", "application/x-gzip", "application/x-gunzip"), string(g.gzip([]byte(body)))
		if !g.in(8) {
			return g.head(kind, "base64") + "\n" + encode64(body)
		}
	}
	encoding := g.one("", "", "7bit", "8bit", "base64", "base64", "quoted-printable", "Base64", "base64 ", "x-uuencode", "nonsense", "binary")
	switch strings.ToLower(encoding) {
	case "base64":
		body = encode64(body)
		switch g.IntN(12) {
		case 0:
			body = strings.TrimRight(body, "=\n")
		case 1:
			body = strings.Replace(body, "\n", "*\n", 1)
		case 2:
			body = "!!" + body
		}
	case "base64 ":
		body = encode64(body)
	case "quoted-printable":
		var out bytes.Buffer
		w := quotedprintable.NewWriter(&out)
		w.Write([]byte(body))
		w.Close()
		body = strings.ReplaceAll(out.String(), "\r\n", "\n")
	case "x-uuencode":
		body = uuencode(body)
	}
	return g.head(kind, encoding) + g.one("\n", "\n", "\n", "\n", "\n", "\n", "\n", "\n", "\n", "\n", "") + body
}

func (g generator) head(kind, encoding string) string {
	name := g.one("a.yaml", "b.yaml", "script.sh", "with space.sh", "é.yaml", "a;b", `q"uote`, "x/y.sh", "..", "")
	lines := []string{g.one("Content-Type: ", "Content-Type: ", "content-type: ", "CONTENT-TYPE:") + kind +
		g.one("", "", `; charset="us-ascii"`, `; charset="utf-8"`, "; charset=utf-8; name=\""+strings.ReplaceAll(name, `"`, `\"`)+"\"", ";", " ")}
	if encoding != "" {
		lines = append(lines, "Content-Transfer-Encoding: "+encoding)
	}
	if g.in(2) {
		lines = append(lines, "MIME-Version: 1.0")
	}
	if g.in(2) {
		lines = append(lines, "Content-Disposition: attachment; "+g.one(`filename="`+strings.ReplaceAll(name, `"`, `\"`)+`"`, "filename="+name, "filename*=utf-8''na%C3%AFve.sh", "filename*=iso-8859-1'en'%E9.sh", "filename*=bad.sh",
			`filename*0="a"; filename*1=".sh"`, `filename*1*=%20b; filename*0*=utf-8''a`, "filename", `FILENAME="up.sh"`, `x=y; filename="<angle.sh>"`, `filename="c.yaml"`, `filename*=weird''x%20y`))
	}
	if g.in(3) {
		lines = append(lines, g.one("Merge-Type: ", "X-Merge-Type: ", "merge-type: ", "Merge-Type:\n ")+g.mergeString())
	}
	if g.in(10) {
		lines = append(lines, g.one("Launch-Index: 0", "Launch-Index: x", "X-Merge-Type: list(append)+dict(recurse_list)", "merge-type: dict(replace)", "Merge-Type:", ": empty", "X: y"))
	}
	if g.in(100) {
		lines = append(lines, "Content-Disposition: attachment; filename*=a; filename*0=b")
	}
	if g.in(15) {
		lines = lines[1:]
	}
	if len(lines) == 0 {
		return ""
	}
	return strings.Join(lines, "\n") + "\n"
}

func encode64(text string) string {
	encoded := base64.StdEncoding.EncodeToString([]byte(text))
	var out strings.Builder
	for chunk := range slices.Chunk([]byte(encoded), 60) {
		out.Write(chunk)
		out.WriteByte('\n')
	}
	return out.String()
}

func uuencode(text string) string {
	var out strings.Builder
	out.WriteString("begin 644 x\n")
	for chunk := range slices.Chunk([]byte(text), 45) {
		out.WriteByte(byte(' ' + len(chunk)))
		for three := range slices.Chunk(chunk, 3) {
			three = append(slices.Clone(three), 0, 0)[:3]
			for _, digit := range []byte{three[0] >> 2, three[0]<<4&0x3f | three[1]>>4, three[1]<<2&0x3f | three[2]>>6, three[2] & 0x3f} {
				out.WriteByte(' ' + digit)
			}
		}
		out.WriteByte('\n')
	}
	out.WriteString(" \nend\n")
	return out.String()
}
