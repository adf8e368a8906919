package cloudinit

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"bake/internal/doc"
	"bake/internal/oracle"
	"bake/internal/pyyaml"
)

// answer is what testdata/oracle.py says of a user-data.
type answer struct {
	Fatal  string            `json:"fatal"`
	Config string            `json:"config"` // in the canonical form
	Marked []string          `json:"marked"`
	Parts  [][3]string       `json:"parts"` // name in hex, type, outcome
	Files  map[string]string `json:"files"` // contents in hex
}

// canonical writes a value as canonical.py of internal/oracle does.
func canonical(n *doc.Node) string {
	list := func(nodes []*doc.Node) []string {
		var texts []string
		for _, node := range nodes {
			texts = append(texts, canonical(node))
		}
		return texts
	}
	switch n.Kind {
	case doc.Null:
		return "n"
	case doc.Bool:
		return map[string]string{"true": "b1", "false": "b0"}[n.Text]
	case doc.Int:
		return "i" + n.Text
	case doc.Float:
		if n.Text == ".nan" {
			return "fnan"
		}
		f, err := strconv.ParseFloat(strings.Replace(n.Text, ".inf", "inf", 1), 64)
		if err != nil {
			panic(err)
		}
		return fmt.Sprintf("f%016x", math.Float64bits(f))
	case doc.String:
		return "s" + hex.EncodeToString([]byte(n.Text))
	case pyyaml.Bytes:
		return "y" + hex.EncodeToString([]byte(n.Text))
	case pyyaml.Date:
		return "d" + n.Text
	case doc.List:
		return "[" + strings.Join(list(n.Items), ",") + "]"
	case pyyaml.Set:
		texts := list(n.Items)
		slices.Sort(texts)
		return "(" + strings.Join(texts, ",") + ")"
	}
	var texts []string
	for _, pair := range n.Pairs {
		texts = append(texts, canonical(pair.Key)+"="+canonical(pair.Value))
	}
	slices.Sort(texts)
	return "{" + strings.Join(texts, ",") + "}"
}

// startCloudInit starts cloud-init of a Debian release.
func startCloudInit(t testing.TB, release string) func(data []byte) answer {
	t.Helper()
	ask := oracle.Start(t, oracle.CloudInit(t, release))
	return func(data []byte) (a answer) {
		t.Helper()
		if err := json.Unmarshal([]byte(ask(string(data))), &a); err != nil {
			t.Fatalf("what cloud-init says of %q: %v", data, err)
		}
		return a
	}
}

var pages = map[string]string{
	"http://lab.invalid/config": "#cloud-config\nfrom_the_net: true\nruncmd: [fetched]\n",
	"http://lab.invalid/script": "#!/bin/sh\necho fetched\n",
	"http://lab.invalid/empty":  "",
	"http://lab.invalid/again":  "#include\nhttp://lab.invalid/config\n",
}

func fetch(url string) ([]byte, error) {
	page, ok := pages[url]
	if !ok {
		return nil, errors.New("not in the lab")
	}
	return []byte(page), nil
}

// disagree compares a result with what cloud-init says; "" is agreement.
func disagree(r Result, want answer, old bool) string {
	if (r.Fatal != "") != (want.Fatal != "") {
		return fmt.Sprintf("fatal: %q, want %q", r.Fatal, want.Fatal)
	}
	if r.Fatal != "" {
		return ""
	}
	exact := true
	config := "{}"
	if r.Config != nil {
		config = canonical(r.Config)
	}
	r.Parts = slices.DeleteFunc(r.Parts, func(p Part) bool { return p.file == "" && p.raw == "" && p.Verdict == Lost }) // never became parts
	var parts [][3]string
	var marked []string
	files := map[string]string{}
	for _, p := range r.Parts {
		outcome := "kept"
		switch {
		case p.Verdict == Lost && !p.counted && !p.replaced:
			outcome = "lost"
		case p.Verdict == Unknown:
			exact = exact && p.Type == "text/x-lab" // the lab's part handler does nothing
			outcome = "template"
		case p.Text == "" && p.Type != "text/cloud-config" && p.Type != "text/cloud-config-jsonp":
			outcome = "empty"
		}
		parts = append(parts, [3]string{hex.EncodeToString([]byte(p.raw)), p.Type, outcome})
		if p.Marked && !old {
			marked = append(marked, strings.TrimSpace(strings.NewReplacer("\n", " ", "\r", " ", "\t", " ").Replace(p.raw)))
		}
		if p.file != "" {
			files[p.file] = hex.EncodeToString([]byte(p.Text))
		}
	}
	if len(parts) != len(want.Parts) {
		return fmt.Sprintf("parts: %v, want %v", parts, want.Parts)
	}
	for i, p := range parts {
		w := want.Parts[i]
		unknown := p[2] == "template" || r.Parts[i].Verdict == Handler
		if p[0] != w[0] || p[1] != w[1] || !unknown && (p[2] == "lost") != (w[2] == "lost") {
			return fmt.Sprintf("part %d: %v, want %v", i, p, w)
		}
	}
	if !exact {
		return ""
	}
	if config != want.Config {
		return fmt.Sprintf("config:\n got %s\nwant %s", config, want.Config)
	}
	if !slices.Equal(marked, want.Marked) {
		return fmt.Sprintf("marked: %q, want %q", marked, want.Marked)
	}
	if !maps.Equal(files, want.Files) {
		return fmt.Sprintf("files: %v, want %v", files, want.Files)
	}
	return ""
}

// What this package makes of generated user-data is what the cloud-init of two
// releases makes of it.
func TestLikeCloudInit(t *testing.T) {
	count := 200
	if n, err := strconv.Atoi(os.Getenv("BAKE_DIFFERENTIAL")); err == nil {
		count = n
	}
	seed := uint64(1)
	if n, err := strconv.ParseUint(os.Getenv("BAKE_DIFFERENTIAL_SEED"), 10, 64); err == nil {
		seed = n
	}
	for release, version := range map[string]string{"bookworm": "22.4.2", "trixie": "25.1.4"} {
		t.Run(release, func(t *testing.T) {
			t.Parallel()
			ask := startCloudInit(t, release)
			g := generator{rand.New(rand.NewPCG(seed, 0))}
			said := map[string]int{}
			different := 0
			for i := range count {
				data := g.userData()
				result, err := Merge("user-data", data, Options{Version: version, Fetch: fetch})
				if err != nil {
					t.Fatal(err)
				}
				if said["sets"]++; result.Fatal != "" {
					said["fatal"]++
				}
				for _, p := range result.Parts {
					said[string(p.Verdict)]++
				}
				if diff := disagree(result, ask(data), version < "23"); diff != "" {
					if different++; different <= 20 {
						t.Errorf("set %d of seed %d: %s\n%q", i, seed, diff, data)
					}
				}
			}
			t.Logf("cloud-init %s, generator generate_test.go, seed %d: %d differences; %v", version, seed, different, said)
			if said["merged"] < count/2 || said["lost"] < count/10 || said["fatal"] > count/4 {
				t.Error("the sets are too much alike")
			}
		})
	}
}
