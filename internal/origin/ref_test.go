package origin

import (
	"errors"
	"strings"
	"testing"

	"bake/internal/diag"
)

var someDigest = strings.Repeat("ab", 32)

func TestParse(t *testing.T) {
	noble := Ref{Kind: Release, Arch: "arm64", Distro: "ubuntu", Version: "24.04", Codename: "noble"}
	with := func(change func(*Ref)) Ref {
		ref := noble
		change(&ref)
		return ref
	}
	link := Ref{Kind: Link, Arch: "arm64", URL: "https://host.example/a/x.img?y=1", Algorithm: "sha256", Digest: someDigest}
	for text, want := range map[string]Ref{
		"ubuntu:24.04":            noble,
		"ubuntu:noble":            noble,
		"ubuntu:24.04@20260722":   with(func(r *Ref) { r.Serial = "20260722" }),
		"ubuntu:noble@20260722.1": with(func(r *Ref) { r.Serial = "20260722.1" }),
		"ubuntu:jammy":            with(func(r *Ref) { r.Version, r.Codename = "22.04", "jammy" }),
		"ubuntu:26.04":            with(func(r *Ref) { r.Version, r.Codename = "26.04", "resolute" }),
		"ubuntu-minimal:24.04":    with(func(r *Ref) { r.Distro = "ubuntu-minimal" }),
		"debian:12":               {Kind: Release, Arch: "arm64", Distro: "debian", Version: "12", Codename: "bookworm"},
		"debian:trixie":           {Kind: Release, Arch: "arm64", Distro: "debian", Version: "13", Codename: "trixie"},
		"debian:13@20260101-1234": {Kind: Release, Arch: "arm64", Distro: "debian", Version: "13", Codename: "trixie", Serial: "20260101-1234"},
		"./x.qcow2":               {Kind: File, Arch: "arm64", Path: "./x.qcow2"},
		"../ubuntu:24.04":         {Kind: File, Arch: "arm64", Path: "../ubuntu:24.04"},
		"/srv/a b#c.img":          {Kind: File, Arch: "arm64", Path: "/srv/a b#c.img"},
		link.URL + "#sha256=" + strings.ToUpper(someDigest):                    link,
		"https://h.example:8443/x.img#sha512=" + strings.Repeat(someDigest, 2): {Kind: Link, Arch: "arm64", URL: "https://h.example:8443/x.img", Algorithm: "sha512", Digest: strings.Repeat(someDigest, 2)},
	} {
		got, err := Parse(text, "arm64")
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", text, got, err, want)
			continue
		}
		if again, err := Parse(got.String(), "arm64"); err != nil || again != got {
			t.Errorf("%s, written again: %+v, %v", text, again, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for text, test := range map[string]struct{ message, hint string }{
		"":                           {"is empty", "write ubuntu:24.04"},
		"ubunut:24.04":               {`unknown distribution "ubunut"`, `did you mean "ubuntu"?`},
		"fedora:44":                  {"known are ubuntu, ubuntu-minimal, debian", "known: "},
		"debian13":                   {`unknown distribution "debian13"`, `did you mean "debian"?`},
		"ubuntu":                     {"which release of ubuntu?", "write ubuntu:26.04"},
		"ubuntu:":                    {"22.04 (jammy), 24.04 (noble), 26.04 (resolute)", "write ubuntu:26.04"},
		"noble":                      {"lacks the distribution", `did you mean "ubuntu:noble"?`},
		"13":                         {"lacks the distribution", `did you mean "debian:13"?`},
		"ubuntu:24.4":                {`unknown release "24.4" of ubuntu, known are 22.04 (jammy), 24.04 (noble), 26.04 (resolute)`, `did you mean "24.04"?`},
		"ubuntu:25.10":               {"known are 22.04 (jammy), 24.04 (noble), 26.04 (resolute)", ""},
		"ubuntu:nobel":               {"unknown release", `did you mean "noble"?`},
		"ubuntu:bookworm":            {"unknown release", "known: 22.04, jammy"},
		"debian:11":                  {"known are 12 (bookworm), 13 (trixie)", ""},
		"ubuntu: 24.04":              {"unknown release", ""},
		"ubuntu:24.04@":              {"is no serial of ubuntu", "write ubuntu:24.04@20260722"},
		"ubuntu:24.04@latest":        {"is no serial of ubuntu", "leave the @ out"},
		"ubuntu:24.04@20261322":      {"is no serial of ubuntu", ""},
		"ubuntu:24.04@20260722-1":    {"is no serial of ubuntu", ""},
		"ubuntu:24.04@20260722/../x": {"is no serial of ubuntu", ""},
		"debian:13@20260101":         {"is no serial of debian: that is a day and a number", "write debian:13@20260101-1234"},
		"x.qcow2":                    {"begins with /, ./ or ../", `did you mean "./x.qcow2"?`},
		"images/x":                   {"begins with /, ./ or ../", `did you mean "./images/x"?`},
		"ubuntu:24.04\n":             {"control characters", ""},
		"ubuntu:24.04\x1b[2J":        {"control characters", ""},
		"\xff":                       {"control characters", ""},
		"http://h.example/x.img#sha256=" + someDigest: {`over "http"`, "write https://"},
		"file:///x.img": {`over "file"`, "./x.img"},
		"https://u:secret@h.example/x#sha256=" + someDigest:   {"credentials", "leave user and password out"},
		"https:///x.img#sha256=" + someDigest:                 {"no host", ""},
		"https://h.example/#sha256=" + someDigest:             {"name of a file", ""},
		"https://h.example/a/..#sha256=" + someDigest:         {"name of a file", ""},
		"https://h.example/x.img":                             {"needs the digest", "append #sha256=HEX"},
		"https://h.example/x.img#" + someDigest:               {"unknown digest", "#sha256=HEX"},
		"https://h.example/x.img#md5=" + someDigest:           {"unknown digest", ""},
		"https://h.example/x.img#sha256=" + someDigest[1:]:    {"is 64 hex digits", "copy it"},
		"https://h.example/x.img#sha256=" + someDigest + "&x": {"is 64 hex digits", ""},
		"https://h.example/%zz#sha256=" + someDigest:          {"not well formed", ""},
	} {
		_, err := Parse(text, "amd64")
		var list diag.List
		if !errors.As(err, &list) || len(list) != 1 {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if !strings.Contains(list[0].Message, test.message) || !strings.Contains(list[0].Hint, test.hint) {
			t.Errorf("%q: %q, %q, want %q, %q", text, list[0].Message, list[0].Hint, test.message, test.hint)
		}
		if strings.Contains(list[0].Message+list[0].Hint, "secret") {
			t.Errorf("%q: the message has the password", text)
		}
	}
	for _, arch := range []string{"", "x86_64", "AMD64"} {
		var list diag.List
		if _, err := Parse("ubuntu:24.04", arch); !errors.As(err, &list) || !strings.Contains(list[0].Message, "want amd64 or arm64") {
			t.Errorf("architecture %q: %v", arch, err)
		}
	}
}

// A reference that is read is read again from its own spelling, and leads
// nowhere but below the distribution's directories.
func FuzzParse(f *testing.F) {
	for _, text := range []string{"ubuntu:24.04@20260722.1", "debian:13@20260101-1234", "./x", "https://h.example/x?a=b#sha256=" + someDigest, "ubuntu:../x"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ref, err := Parse(text, "amd64")
		if err != nil {
			var list diag.List
			if !errors.As(err, &list) || list[0].Message == "" {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		if again, err := Parse(ref.String(), "amd64"); err != nil || again != ref {
			t.Errorf("%q is %+v, written again %+v, %v", text, ref, again, err)
		}
		if ref.Kind == Release {
			d := findDistro(ref.Distro)
			if path := d.dir(ref.Codename, ref.Serial) + d.file(ref.Version, ref.Arch, ref.Serial); strings.ContainsAny(path, "#?%\\ ") || strings.Contains(path, "..") {
				t.Errorf("%q leads to %q", text, path)
			}
		}
	})
}
