package inspect

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOSRelease(t *testing.T) {
	got := osRelease("# ID=no\n ID=debian \nVERSION_ID=\"12\"\nNAME='a \\ b'\nPRETTY_NAME=\"a \\\"b\\\" \\x \x1b[31m\"\nBROKEN\nX=\"open\nY=1\r\n")
	want := map[string]string{
		"ID": "debian", "VERSION_ID": "12", "NAME": `a \ b`, "PRETTY_NAME": "a \"b\" \\x \uFFFD[31m", "X": "open", "Y": "1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestInstalled(t *testing.T) {
	tests := map[string]struct {
		status string
		want   []Package
	}{
		"empty":            {"", []Package{}},
		"installed":        {"Package: a\nStatus: install ok installed\nVersion: 1:2\n", []Package{{"a", "1:2", ""}}},
		"field case":       {"PACKAGE: a\nstatus:install ok installed\nversion:1\n\n\n", []Package{{"a", "1", ""}}},
		"removed":          {"Package: a\nStatus: deinstall ok config-files\nVersion: 1\n", []Package{}},
		"half configured":  {"Package: a\nStatus: install ok half-configured\nVersion: 1\n", []Package{}},
		"unpacked":         {"Package: a\nStatus: install ok unpacked\nVersion: 1\n", []Package{}},
		"no version":       {"Package: a\nStatus: install ok installed\n", []Package{}},
		"no status":        {"Package: a\nVersion: 1\n", []Package{}},
		"in a description": {"Package: a\nStatus: install ok installed\nDescription: x\n Version: 9\nVersion: 1\n", []Package{{"a", "1", ""}}},
		"sorted": {"Package: b\nStatus: install ok installed\nVersion: 1\n\nPackage: a\nStatus: install ok installed\nVersion: 2\n",
			[]Package{{"a", "2", ""}, {"b", "1", ""}}},
	}
	for name, test := range tests {
		if diff := cmp.Diff(test.want, installed(test.status)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestSourceLines(t *testing.T) {
	got, notes := sourceLines("f", `
# deb http://no.example/ x main
deb [ arch=amd64,arm64 signed-by=/k.gpg,ABCD trusted=yes ] http://a.example/debian	bookworm main contrib # more
deb-src http://a.example/debian ./
deb
rpm http://a.example x
deb [arch=amd64 http://a.example/debian
`)
	want := []Source{
		{"f", []string{"deb"}, []string{"http://a.example/debian"}, []string{"bookworm"}, []string{"main", "contrib"},
			[]string{"amd64", "arm64"}, []string{"/k.gpg", "ABCD"}, true},
		{"f", []string{"deb-src"}, []string{"http://a.example/debian"}, []string{"./"}, []string{}, []string{}, []string{}, false},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"f: line 5 is no apt source", "f: line 6 is no apt source", "f: line 7 is no apt source"}, notes); diff != "" {
		t.Error(diff)
	}
}

func TestSourceStanzas(t *testing.T) {
	got, notes := sourceStanzas("f", `X-Comment: hello

Types: deb deb-src
# in between
URIs: http://a.example
 http://b.example
Suites: trixie
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc
 -----END PGP PUBLIC KEY BLOCK-----

types: deb
uris: http://c.example
suites: x
enabled: false
`)
	want := []Source{{"f", []string{"deb", "deb-src"}, []string{"http://a.example", "http://b.example"}, []string{"trixie"},
		[]string{"main"}, []string{}, []string{"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nabc\n-----END PGP PUBLIC KEY BLOCK-----"}, false}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if len(notes) != 1 || !strings.Contains(notes[0], "stanza 1") {
		t.Errorf("notes %q", notes)
	}
}

func TestAptReads(t *testing.T) {
	for name, want := range map[string]bool{
		"a.list": true, "A-b_c.9.list": true, "a.list.save": false, "a b.list": false, ".a.list": false, "ä.list": false, "list": false,
	} {
		if got := aptReads(name, ".list"); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}

func TestConfigure(t *testing.T) {
	tests := map[string]struct {
		files []string
		want  CloudInit
		seed  bool
		note  string
	}{
		"nothing set":   {[]string{"", "# just a comment\n"}, CloudInit{}, true, ""},
		"in the list":   {[]string{"datasource_list: [ NoCloud, None ]"}, CloudInit{Datasources: []string{"NoCloud", "None"}}, true, ""},
		"last wins":     {[]string{"datasource_list: [NoCloud]", "datasource_list: [Ec2]"}, CloudInit{Datasources: []string{"Ec2"}}, false, ""},
		"last wins too": {[]string{"datasource_list: [Ec2]", "datasource_list:\n- NoCloud\n"}, CloudInit{Datasources: []string{"NoCloud"}}, true, ""},
		"empty":         {[]string{"datasource_list: []"}, CloudInit{Datasources: []string{}}, false, ""},
		"other case":    {[]string{"datasource_list: [nocloud]"}, CloudInit{Datasources: []string{"nocloud"}}, false, ""},
		"no YAML":       {[]string{"datasource_list: [NoCloud]", "a: [\n"}, CloudInit{Datasources: []string{"NoCloud"}}, true, "skip"},
		"no list":       {[]string{"datasource_list: {a: b}"}, CloudInit{}, true, "no list"},
		"users merge": {[]string{"system_info: {default_user: {name: debian, gecos: x}}", "system_info: {distro: debian}",
			"system_info: {default_user: {name: ops}}", "system_info: {default_user: {gecos: y}}"}, CloudInit{DefaultUser: "ops"}, true, ""},
		"user is a list": {[]string{"system_info: []"}, CloudInit{}, true, "form"},
		"escape":         {[]string{`system_info: {default_user: {name: "a\e[2J"}}`}, CloudInit{DefaultUser: "a\uFFFD[2J"}, true, ""},
	}
	for name, test := range tests {
		var got CloudInit
		note := ""
		for _, text := range test.files {
			note += got.configure("f", text)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if got.NoCloud() != test.seed {
			t.Errorf("%s: NoCloud is %v", name, got.NoCloud())
		}
		if test.note == "" && note != "" || !strings.Contains(note, test.note) {
			t.Errorf("%s: note %q", name, note)
		}
	}
}

func TestCloudInitVersion(t *testing.T) {
	for text, want := range map[string]string{
		"": "",
		"__VERSION__ = \"22.4.2\"\n_PACKAGED_VERSION = \"@@PACKAGED_VERSION@@\"\n":        "22.4.2",
		"__VERSION__ = \"26.1\"\n_PACKAGED_VERSION = '26.1-0ubuntu1~24.04.1'\nFEATURES=[": "26.1-0ubuntu1~24.04.1",
	} {
		if got := cloudInitVersion(text); got != want {
			t.Errorf("%q: %q, not %q", text, got, want)
		}
	}
}

func TestELF(t *testing.T) {
	program := func(order, machine0, machine1 byte) []byte {
		b := make([]byte, 64)
		copy(b, "\x7fELF\x02")
		b[5], b[18], b[19] = order, machine0, machine1
		return b
	}
	for want, b := range map[string][]byte{
		"amd64": program(1, 62, 0), "arm64": program(1, 183, 0), "s390x": program(2, 0, 22),
		"": program(1, 1, 1),
	} {
		if got := elfArchitecture(b); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
	if got := elfArchitecture([]byte("#!/bin/sh and so on for a while")); got != "" {
		t.Errorf("a script is for %q", got)
	}
}
