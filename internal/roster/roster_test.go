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
