package layer

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"math/big"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"bake/internal/diag"
	"bake/internal/doc"
)

const goodKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIC5fZc/o+6nL5wffhDwRKx2uFUYmLG4ZcnVAjhhwA3Wo ops@example"

func bound(i int64) *int64 { return &i }

// Every type, with values as a host file has them: good ones and their
// canonical form, and bad ones.
var hex64 = strings.Repeat("0f", 32)

func TestParam(t *testing.T) {
	long := strings.Repeat("a", 63)
	for name, test := range map[string]struct {
		param Param
		good  map[string]string // YAML: elements, joined with a blank
		bad   []string
	}{
		"bool": {Param{Type: "bool"}, map[string]string{"true": "true", "false": "false"},
			[]string{`"true"`, "1", "x", "[]", "{}", "null"}},
		"int": {Param{Type: "int"}, map[string]string{"0": "0", "-5": "-5", "123456789012345678": "123456789012345678"},
			[]string{`"5"`, "5.0", "x", "true", "[1]", "null"}},
		"int with bounds": {Param{Type: "int", Min: bound(2), Max: bound(4)}, map[string]string{"2": "2", "4": "4"},
			[]string{"1", "5", "-3"}},
		"port": {Param{Type: "port"}, map[string]string{"1": "1", "65535": "65535"},
			[]string{"0", "65536", "-1", `"22"`, "ssh", "22.0", "[22]"}},
		"port with bounds": {Param{Type: "port", Min: bound(1024)}, map[string]string{"1024": "1024"}, []string{"1023"}},
		"ports": {Param{Type: "ports"}, map[string]string{"[]": "", "[22]": "22", "[22, 80]": "22 80"},
			[]string{"22", "[0]", "[22, 65536]", `["22"]`, "[[22]]", "[null]", "{a: 1}", `"22,80"`}},
		"names": {Param{Type: "names"}, map[string]string{"[]": "", "[a, b.c]": "a b.c"},
			[]string{"a", "[A]", "[a, a b]", "[5]", "[[a]]", "{a: 1}"}},
		"paths": {Param{Type: "paths"}, map[string]string{"[]": "", "[/, /srv/a]": "/ /srv/a"},
			[]string{"/srv", "[srv]", "[/srv, /a/../b]", `["/a b"]`, "[null]"}},
		"cidrs": {Param{Type: "cidrs"}, map[string]string{"[]": "", "[192.0.2.1, 2001:DB8::/32]": "192.0.2.1 2001:db8::/32"},
			[]string{"192.0.2.1", "[192.0.2.1/24]", "[192.0.2.1, x]", `["fe80::1%eth0"]`}},
		"user": {Param{Type: "user"}, map[string]string{"ops": "ops", "_apt": "_apt", "a-b_1": "a-b_1", long[:32]: long[:32]},
			[]string{"Ops", "1a", "-a", `""`, "a b", `"a\n"`, "a.b", "a:b", long[:33], "5", "é"}},
		"name": {Param{Type: "name"}, map[string]string{"a": "a", "a.b-c_1": "a.b-c_1", long: long},
			[]string{"1a", "A", ".a", "-a", `""`, "a/b", "a b", long + "a", `"a\n"`, "../a"}},
		"path": {Param{Type: "path"}, map[string]string{"/": "/", "/srv/a.b_c-d+e@f": "/srv/a.b_c-d+e@f"},
			[]string{"srv", "/a/", "//a", "/a/../b", "/a/./b", "/a b", "/a:b", "/a;b", `"/a\nb"`, "/a$b", `""`, "~/a", "/ä"}},
		"duration": {Param{Type: "duration"}, map[string]string{"0s": "0", "90s": "90", "10m": "600", "1h": "3600", "7d": "604800"},
			[]string{"90", "1w", "1 h", "-1s", "01s", "1.5h", `""`, "1h30m", "9999999999s", "h"}},
		"duration with bounds": {Param{Type: "duration", Min: bound(60), Max: bound(3600)}, map[string]string{"60s": "60", "60m": "3600"},
			[]string{"59s", "61m", "1d"}},
		"size": {Param{Type: "size"}, map[string]string{"512": "512", "1KiB": "1024", "2MiB": "2097152", "3GiB": "3221225472", "4TiB": "4398046511104", `"512"`: "512"},
			[]string{"0", "3GB", "3G", "3 GiB", "1.5GiB", "-1MiB", "9999999999TiB", `"999999999999999999999"`, `""`, "GiB", "03GiB"}},
		"size with bounds": {Param{Type: "size", Min: bound(1 << 20)}, map[string]string{"1MiB": "1048576", "1024KiB": "1048576"}, []string{"1023KiB"}},
		"enum": {Param{Type: "enum", Of: []string{"low", "off"}}, map[string]string{"low": "low", `"off"`: "off"},
			[]string{"high", "LOW", `""`, `"low "`, "true", "[low]"}},
		"ssh_keys": {Param{Type: "ssh_keys"}, map[string]string{"[]": "", "['" + goodKey + "']": goodKey},
			[]string{"'" + goodKey + "'", "[x]", "[5]", `["from=\"*\" ` + goodKey + `"]`, `["` + goodKey + `\n` + goodKey + `"]`}},
		"cidr": {Param{Type: "cidr"}, map[string]string{"192.0.2.1": "192.0.2.1", "192.0.2.0/24": "192.0.2.0/24", "2001:db8::1": "2001:db8::1", "2001:DB8::/32": "2001:db8::/32", "0.0.0.0/0": "0.0.0.0/0"},
			[]string{"192.0.2.1/24", "192.0.2", "192.0.2.0/33", "fe80::1%eth0", `"fe80::1%$(id)"`, "x", "5", `"192.0.2.1; id"`}},
		"word": {Param{Type: "word"}, map[string]string{"UTC": "UTC", "Europe/Berlin": "Europe/Berlin", `"origin=Docker,label=x:y.z_1+a-b"`: "origin=Docker,label=x:y.z_1+a-b"},
			[]string{`""`, "-a", "/a", ".a", "a b", "a;b", "a$b", "a%b", "a@b", `"a\nb"`, "é", "5", "true", "[a]", strings.Repeat("a", 129)}},
		"image": {Param{Type: "image"}, map[string]string{"sha256:" + hex64: "sha256:" + hex64, "registry.example:5000/a/b-c_d:1.2@sha256:" + hex64: "registry.example:5000/a/b-c_d:1.2@sha256:" + hex64},
			[]string{"a/b", "a/b:latest", "a@sha256:" + hex64[1:], "a@sha256:" + hex64 + "0", "'@sha256:" + hex64 + "'", "-a@sha256:" + hex64, "A@sha256:" + hex64, "'a b@sha256:" + hex64 + "'", "'a;id@sha256:" + hex64 + "'", "'a$(id)@sha256:" + hex64 + "'", "a@sha512:" + hex64, "5", `""`, "[a]"}},
		"words": {Param{Type: "words"}, map[string]string{"[]": "", "[a, B/c]": "a B/c"}, []string{"a", "[a b]", "[5]", "[[a]]", "[null]"}},
		"users": {Param{Type: "users"}, map[string]string{"[]": "", "[ops, _a]": "ops _a"}, []string{"ops", "[Ops]", "[a.b]", "[5]", "[null]"}},
		"user_keys": {Param{Type: "user_keys"}, map[string]string{"[]": "", "['ops " + goodKey + "']": "ops " + goodKey},
			[]string{"'ops " + goodKey + "'", "['" + goodKey + "']", "['Ops " + goodKey + "']", "[ops]", "['ops  x']", "[5]", "[[]]", "[null]",
				`['ops from="*" ` + goodKey + `']`, `["ops ` + goodKey + `\nops ` + goodKey + `"]`}},
		"string": {Param{Type: "string"}, map[string]string{`""`: "", "a b": "a b", "'$(id) `id` \"; #'": "$(id) `id` \"; #", "é 😀": "é 😀", `"- a"`: "- a"},
			[]string{`"a\nb"`, `"a\tb"`, `"a\0b"`, `"\e[2J"`, `"\u202eb"`, `"\u2028"`, `"\x85"`, `"\uFEFF"`, "5", "true", "[a]", "null", strings.Repeat("a", 4097)}},
		"string with bounds": {Param{Type: "string", Min: bound(1), Max: bound(3)}, map[string]string{"é": "é", "äöü": "äöü"}, []string{`""`, "abcd"}},
		"secret":             {Param{Type: "secret"}, map[string]string{"db": "db", "a.b-c_1": "a.b-c_1"}, []string{`""`, "Db", "5", "[a]", "a b", "/etc/x", "null", long + "a"}},
		"secret or none":     {Param{Type: "secret", Default: doc.Text("")}, map[string]string{`""`: "", "db": "db"}, []string{"5", "Db"}},
		"no type":            {Param{Type: "other"}, nil, []string{"a", "1"}},
	} {
		for text, want := range test.good {
			var problems diag.List
			got, ok := test.param.Read(parse(t, "v: "+text).Get("v"), "v", &problems)
			if !ok || strings.Join(got, " ") != want || len(problems) > 0 {
				t.Errorf("%s: %s: %q, %v, want %q", name, text, got, problems, want)
			}
		}
		for _, text := range test.bad {
			var problems diag.List
			if got, ok := test.param.Read(parse(t, "v: "+text).Get("v"), "v", &problems); ok || len(problems) == 0 || problems[0].Pos.Line != 1 {
				t.Errorf("%s: %.60s: %q, want a problem with a place, got %v", name, text, got, problems)
			}
		}
	}
}

func parse(t *testing.T, text string) *doc.Node {
	t.Helper()
	n, err := doc.Parse("hosts/h.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestDocumented(t *testing.T) {
	l := mustOpen(t, head+`params:
  a: {type: ports, default: [22, 80], help: h}
  b: {type: ports, default: [], help: h}
  c: {type: duration, default: 10m, help: h}
  d: {type: string, help: h}
`)
	var got []string
	for _, p := range l.Params {
		got = append(got, p.Documented())
	}
	if diff := cmp.Diff([]string{"[22, 80]", "[]", "10m", ""}, got); diff != "" {
		t.Error(diff)
	}
}

// authorized writes a key as a line of authorized_keys.
func authorized(t *testing.T, key any) string {
	t.Helper()
	public, ok := key.(ssh.PublicKey)
	if !ok {
		var err error
		if public, err = ssh.NewPublicKey(key); err != nil {
			t.Fatal(err)
		}
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public)))
}

// rsaKey is no secret's half: only its length is looked at.
func rsaKey(bits uint) *rsa.PublicKey {
	n := new(big.Int).Lsh(big.NewInt(1), bits-1)
	return &rsa.PublicKey{N: n.SetBit(n, 0, 1), E: 65537}
}

func wire(t *testing.T, blob any) ssh.PublicKey {
	t.Helper()
	key, err := ssh.ParsePublicKey(ssh.Marshal(blob))
	if err != nil {
		t.Skip(err)
	}
	return key
}

func TestCheckKey(t *testing.T) {
	private := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	certificate := &ssh.Certificate{Key: signer.PublicKey(), CertType: ssh.UserCert, ValidBefore: ssh.CertTimeInfinity}
	if err := certificate.SignCert(rand.Reader, signer); err != nil {
		t.Fatal(err)
	}
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	security := wire(t, struct {
		Type string
		Key  []byte
		App  string
	}{ssh.KeyAlgoSKED25519, private.Public().(ed25519.PublicKey), "ssh:"})
	for name, test := range map[string]struct{ line, words string }{
		"ed25519":         {goodKey, ""},
		"no comment":      {authorized(t, private.Public()), ""},
		"ecdsa":           {authorized(t, curve.Public()), ""},
		"security key":    {authorized(t, security), ""},
		"rsa 3072":        {authorized(t, rsaKey(3072)), ""},
		"rsa 3071":        {authorized(t, rsaKey(3071)), "3071 bits is too short"},
		"rsa 2048":        {authorized(t, rsaKey(2048)), "2048 bits is too short"},
		"certificate":     {authorized(t, certificate), "not accepted"},
		"dsa":             {dsaKey(t), ""},
		"options":         {`command="id" ` + goodKey, "options"},
		"other option":    {"no-pty " + goodKey, "options"},
		"two lines":       {goodKey + "\n" + goodKey, "one line"},
		"escape":          {goodKey + "\x1b[2J", "one line"},
		"too long":        {goodKey + strings.Repeat("x", 5000), "one line"},
		"empty":           {"", "not a public key"},
		"comment":         {"# " + goodKey, "not a public key"},
		"cut off":         {goodKey[:40], "not a public key"},
		"other type":      {"ssh-rsa" + strings.TrimPrefix(goodKey, "ssh-ed25519"), "not a public key"},
		"a private one":   {"-----BEGIN OPENSSH PRIVATE KEY-----", ""},
		"the name of one": {"~/.ssh/id_ed25519.pub", "not a public key"},
	} {
		good := map[string]bool{"ed25519": true, "no comment": true, "ecdsa": true, "security key": true, "rsa 3072": true}[name]
		if err := CheckKey(test.line); (err == nil) != good || err != nil && !strings.Contains(err.Error(), test.words) {
			t.Errorf("%s: %v, want %q", name, err, test.words)
		}
	}
}

func dsaKey(t *testing.T) string {
	t.Helper()
	p := new(big.Int).Lsh(big.NewInt(1), 1023)
	p.SetBit(p, 0, 1)
	q := new(big.Int).Lsh(big.NewInt(1), 159)
	blob := ssh.Marshal(struct {
		Type       string
		P, Q, G, Y *big.Int
	}{"ssh-dss", p, q, big.NewInt(2), big.NewInt(4)})
	if key, err := ssh.ParsePublicKey(blob); err == nil {
		return authorized(t, key)
	}
	return "ssh-dss AAAAB3NzaC1kc3M= old" // the library knows no DSA any more
}
