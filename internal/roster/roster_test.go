package roster

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"bake/internal/doc"
)

func parse(t *testing.T, text string) (all []*doc.Node, err error) {
	t.Helper()
	err = read("fleet", strings.NewReader(text), func(n *doc.Node) error {
		all = append(all, n)
		return nil
	})
	return all, err
}

const want = `host: "a"
groups:
  - "web"
  - "edge"
machine:
  vcpus: 4
  tpm: true
  memory: "3GiB"
labels:
  "example.org/ring": "1"
`

func TestRead(t *testing.T) {
	for _, text := range []string{
		"host,groups[0],groups[1],machine.vcpus,machine.tpm,machine.memory,labels.example.org/ring\na,web,edge,4,true,3GiB,1\nb,,,,,,\n",
		"\n" + `[{"host": "a", "groups[0]": "web", "groups[1]": "edge", "machine.vcpus": 4, "machine.tpm": true, "machine.memory": "3GiB",
"labels.example.org/ring": "1", "base": null}, {"host": "b"}]`,
		`{"host": "a", "groups[0]": "web", "groups[1]": "edge", "machine.vcpus": "4", "machine.tpm": "true", "machine.memory": "3GiB", "labels.example.org/ring": 1}` + "\n" + `{"host": "b"}`,
	} {
		all, err := parse(t, text)
		if err != nil || len(all) != 2 {
			t.Fatalf("%d hosts of %s, %v", len(all), text, err)
		}
		got, err := doc.Emit(all[0])
		if err != nil || string(got) != want {
			t.Errorf("%s\nwant %s, %v", got, want, err)
		}
		if got := all[1].Get("host").Text; got != "b" || len(all[1].Pairs) != 1 {
			t.Errorf("the second is %q: %+v", got, all[1])
		}
	}
	all, err := parse(t, "[\n {\"host\": \"a\"},\n\n {\"host\":\n  \"b\", \"machine.memory\": 5}]")
	if err != nil || all[1].Pos.String() != "fleet:4:2" || all[1].Get("machine").Get("memory").Pos.String() != "fleet:5:8" || all[0].Get("host").Pos.String() != "fleet:2:3" {
		t.Errorf("places: %v %v %v", all[1].Pos, all[1].Get("machine").Get("memory").Pos, err)
	}
	all, err = parse(t, "host,base\na,x\nb,\"y\nz\"\nc,d\n")
	if err != nil || all[2].Get("base").Pos.String() != "fleet:5:3" {
		t.Errorf("places: %+v, %v", all, err)
	}
}

func TestReadRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                              "the list is empty",
		" \n":                           "the list is empty",
		"host,mashine.vcpus\n":          `fleet:1:6: error: mashine.vcpus: "mashine.vcpus" is no key`,
		"host,host\n":                   "fleet:1:6: error: host: the column is there twice",
		"host,groups\n":                 "groups is a list",
		"host,base[0]\n":                "base is no list",
		"host,groups[64]\n":             "up to 63",
		"host,machine.disks[0]\n":       "is no key of a host file that a list can have",
		"host,cloud-config.runcmd[0]\n": "is no key of a host file that a list can have",
		"host,secrets..file\n":          "is no key",
		"host,groups[1]\na,b\n":         "fleet:2:3: error: groups[1]: entry 1 of a list that has 0",
		"host,base\na\n":                "fleet:2:1: error: wrong number of fields",
		"host\n\"a\n":                   "fleet:",
		`{"host": "a", "host": "b"}`:    "fleet:1:15: error: host: the key is there twice",
		`{"host": ["a"]}`:               "fleet:1:10: error: host: here is a list or a map",
		`{"host": {"a": 1}}`:            "here is a list or a map",
		`{"host": "a"`:                  "in the midst of a host",
		`{"host": a}`:                   "this is no JSON",
		`[{"host": "a"}`:                "the list does not end",
		`[[{"host": "a"}]]`:             "fleet:1:2: error: here is a list, want a host",
		`[1]`:                           "want a host",
		`{"base": "` + strings.Repeat("x", longest+1) + `"}`: "bytes, at most",
	} {
		_, err := parse(t, text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, want %q", text, err, want)
		}
	}
	if err := Read("x", strings.NewReader("host\na\nb\n"), func(Entry) error { return errors.New("enough") }); err == nil || err.Error() != "enough" {
		t.Error(err)
	}
}

// TestEncodings: the mark that spreadsheets put at the beginning is none of the first key; what is
// no UTF-8 is refused where it stands, for it would become something else.
func TestEncodings(t *testing.T) {
	for _, text := range []string{"\ufeffhost,base\na,x\n", "\ufeff{\"host\": \"a\", \"base\": \"x\"}", "\ufeff\r\n[{\"host\": \"a\", \"base\": \"x\"}]"} {
		all, err := parse(t, text)
		if err != nil || len(all) != 1 || all[0].Get("host").Text != "a" || all[0].Get("base").Text != "x" {
			t.Errorf("%q: %v", text, err)
		}
	}
	raw := strings.Repeat("\xff", 40)
	for text, want := range map[string]string{
		`{"labels.` + raw + `": "a"}`:                           "fleet:1:10: error: this is not UTF-8",
		"{\"host\": \"a\"}\n{\"labels." + raw + `": "a"}`:       "fleet:2:10: error: this is not UTF-8",
		"[\"" + strings.Repeat("ä", 5000) + "\xc3\"]":           "fleet:1:10003: error: this is not UTF-8",
		"{\"host\": \"a\", \"base\": \"K\xf6ln\"}":              "fleet:1:25: error: this is not UTF-8",
		"host,labels." + raw + "\n":                             "fleet:1:6: error: labels.",
		"host,base\na,K\xf6ln\n":                                "fleet:2:3: error: base: the value is not UTF-8",
		"\xff\xfeh\x00o\x00s\x00t\x00,\x00b\x00a\x00s\x00e\x00": "fleet:1:1: error: this is UTF-16",
		"\xfe\xff\x00h\x00o":                                    "fleet:1:1: error: this is UTF-16",
		"host;base\na;x\n":                                      "between columns stand commas",
		"host\tbase\na\tx\n":                                    "between columns stand commas",
	} {
		_, err := parse(t, text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, want %q", text, err, want)
		}
	}
	if all, err := parse(t, `{"host": "a", "base": "K\ufffdln"}`); err != nil || all[0].Get("base").Text != "K\ufffdln" {
		t.Errorf("U+FFFD is a character: %v", err)
	}
	long := strings.Repeat("ä", 9999) // however the reads cut it
	if all, err := parse(t, `{"host": "a", "base": "`+long+`"}`); err != nil || all[0].Get("base").Text != long {
		t.Errorf("%v", err)
	}
}

// FuzzPlaces: no list makes the reader lose where it is.
func FuzzPlaces(f *testing.F) {
	for _, seed := range []string{"host,base\na,x\n", `[{"host": "a"}, {"host": "b", "labels.x": "y"}]`, "{\"labels.\xff\xff\xff\xff\xff\": 1}", "\ufeff[{\"\\ud800\": null}]", "\xff\xfeh\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		all, err := parse(t, text)
		if err != nil {
			_ = err.Error()
		}
		for _, n := range all {
			if n.Pos.Line < 1 || n.Pos.Col < 1 {
				t.Errorf("a host at %v", n.Pos)
			}
		}
	})
}

// FuzzValue: whatever a field holds, the file has the keys of the columns and the very
// text, in CSV and in JSON.
func FuzzValue(f *testing.F) {
	for _, seed := range []string{"a", "a: b", "]\nlayers: [x]", "\"", "- x", "{}", "!!int 3", "\\u0022", "yes", "0644", "#", "|\n x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		quoted := `"` + strings.ReplaceAll(value, `"`, `""`) + `"`
		all, err := parse(t, "host,base,machine.vcpus,labels.x\nzap,"+quoted+","+quoted+","+quoted+"\n")
		if err != nil {
			return
		}
		text, err := doc.Emit(all[0])
		if err != nil {
			return // characters that no YAML may have
		}
		back, err := doc.Parse("x", text)
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		if !back.Equal(all[0]) {
			t.Errorf("%q became\n%s", value, text)
		}
		var keys []string
		for _, pair := range back.Pairs {
			keys = append(keys, pair.Key.Text)
		}
		if got := fmt.Sprint(keys); value != "" && got != "[host base machine labels]" || value == "" && got != "[host]" {
			t.Errorf("%q made the keys %s", value, got)
		}
	})
}
