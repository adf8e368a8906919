package host

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"bake/internal/diag"
	"bake/internal/doc"
	"bake/internal/layer"
)

const defaults = `base: debian:13
machine: {vcpus: 4, memory: 4GiB}
network: {attach: {bridge: br0}}
admin: {name: ops, keys: [` + key + `]}
labels: {ring: "2", owner: ops}
layers: [a, b]
allow: {no-firewall: the hypervisor filters}
secrets: {token: {env: TOKEN}}
`

func names(layers []layer.Rendered) (all []string) {
	for _, l := range layers {
		all = append(all, l.Name)
	}
	return all
}

func TestGroups(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "hosts/_defaults.yaml", defaults)
	write(t, "hosts/_web.yaml", "machine: {memory: 8GiB}\nlabels: {role: web}\nlayers: [{p: {n: 3, m: 5}}]\n")
	write(t, "hosts/_edge.yaml", "machine: {memory: 2GiB}\nlabels: {ring: \"1\"}\n")
	write(t, "hosts/zap.yaml", "host: zap\ngroups: [web, edge]\nmachine: {vcpus: 8}\nnetwork: {attach: {network: lan}}\nlayers: [c, {p: {n: 4}}, a]\nsecrets: {token: {file: t}}\n")
	s := shelf("p", "params: {n: {type: int, default: 1, help: h}, m: {type: int, default: 1, help: h}}\ncloud-config: {locale: \"((n))-((m))\"}\n", "secrets", "")
	h, err := Load(".", "zap", s)
	if err != nil {
		t.Fatal(err)
	}
	if h.Machine.VCPUs != 8 || h.Machine.Memory != 2<<30 || h.Network.Attach != (Attach{Network: "lan"}) || h.Admin.Name != "ops" || len(h.Allow) != 1 {
		t.Errorf("%+v", h)
	}
	if got := names(h.Layers); !slices.Equal(got, []string{"secrets", "a", "b", "p", "c"}) {
		t.Errorf("layers %v", got)
	}
	if got := h.Layers[3].CloudConfig.Get("locale").Text; got != "4-5" {
		t.Errorf("the parameters are %q", got)
	}
	if want := map[string]string{"bake/host": "zap", "ring": "1", "owner": "ops", "role": "web"}; !maps.Equal(h.Labels, want) {
		t.Errorf("labels %v", h.Labels)
	}
	if !slices.Equal(h.Groups, []string{"web", "edge"}) || !slices.Equal(h.Shared, []string{"_defaults.yaml", "_web.yaml", "_edge.yaml"}) {
		t.Errorf("groups %v, files %v", h.Groups, h.Shared)
	}
	if got, err := Labels(".", "zap"); err != nil || !maps.Equal(got, h.Labels) {
		t.Errorf("Labels says %v, %v", got, err)
	}
	if got := Groups("."); !slices.Equal(got, []string{"edge", "web"}) {
		t.Errorf("groups %v", got)
	}
	if got := Names("."); !slices.Equal(got, []string{"zap"}) {
		t.Errorf("hosts %v", got)
	}
}

// A host without a group's file or defaults is what it was.
func TestNoGroups(t *testing.T) {
	alone, err := load(t, plain(), shelf())
	if err != nil {
		t.Fatal(err)
	}
	write(t, "hosts/_web.yaml", "machine: {vcpus: 8}\n")
	again, err := Load(".", "zap", shelf())
	if err != nil || again.Machine.VCPUs != alone.Machine.VCPUs || again.Shared != nil {
		t.Errorf("%+v, %v", again, err)
	}
}

// Every refusal, at the place where the value is written.
func TestGroupsRefuse(t *testing.T) {
	for _, test := range []struct{ defaults, web, zap, at, words string }{
		{"machine: {vcpus: 0}\n", "", "", "hosts/_defaults.yaml:1:18", "0"},
		{"", "host: web\n", "groups: [web]\n", "hosts/_web.yaml:1:1", "a group is no host"},
		{"", "groups: [edge]\n", "groups: [web]\n", "hosts/_web.yaml:1:1", "a group is in no group"},
		{"", "mashine: {}\n", "groups: [web]\n", "hosts/_web.yaml:1:1", `did you mean "machine"?`},
		{"", "a: [\n", "groups: [web]\n", "hosts/_web.yaml", ""},
		{"", "[a]\n", "groups: [web]\n", "hosts/_web.yaml:1:1", "want keys of a host file"},
		{"", "labels: {ring: 1}\n", "groups: [web]\n", "hosts/_web.yaml:1:16", "put it in quotes"},
		{"", "labels: {-x: y}\n", "groups: [web]\n", "hosts/_web.yaml:1:10", "no key of a label"},
		{"", "labels: {x: y/z}\n", "groups: [web]\n", "hosts/_web.yaml:1:13", "no value of a label"},
		{"", "labels: {bake/host: x}\n", "groups: [web]\n", "hosts/_web.yaml:1:10", "are bake's own"},
		{"", "labels: [x]\n", "groups: [web]\n", "hosts/_web.yaml:1:9", "want keys and values"},
		{"", "labels: {}\n", "groups: [wep]\n", "hosts/zap.yaml:5:10", `did you mean "web"?`},
		{"", "", "groups: [web]\n", "hosts/zap.yaml:5:10", "there is no hosts/_web.yaml"},
		{"", "labels: {}\n", "groups: web\n", "hosts/zap.yaml:5:9", "want a list of groups"},
		{"", "labels: {}\n", "groups: [web, web]\n", "hosts/zap.yaml:5:15", "listed twice"},
		{"", "labels: {}\n", "groups: [defaults]\n", "hosts/zap.yaml:5:10", "every host is in the group"},
		{"", "labels: {}\n", "groups: [../x]\n", "hosts/zap.yaml:5:10", "is no name of a group"},
	} {
		t.Chdir(t.TempDir())
		write(t, "hosts/zap.yaml", plain()+test.zap)
		for name, text := range map[string]string{"hosts/_defaults.yaml": test.defaults, "hosts/_web.yaml": test.web} {
			if text != "" {
				write(t, name, text)
			}
		}
		_, err := Load(".", "zap", shelf())
		var list diag.List
		if !errors.As(err, &list) || !strings.HasPrefix(list[0].Pos.String(), test.at) || !strings.Contains(err.Error(), test.words) {
			t.Errorf("%+v: %v", test, err)
		}
	}
}

// FuzzGroups: whatever two files hold, what one says is not lost below the other, and
// neither is changed.
func FuzzGroups(f *testing.F) {
	f.Add("machine: {vcpus: 4}\n", "machine: {vcpus: 3}\nlayers: [a]\n")
	f.Add("layers: [{p: {n: 1}}, a, a]\n", "layers: [[], {}, {p: 1, q: 2}]\n")
	f.Fuzz(func(t *testing.T, shared, own string) {
		under, err := doc.Parse("under", []byte(shared))
		if err != nil {
			return
		}
		over, err := doc.Parse("over", []byte(own))
		if err != nil || over.Kind != doc.Map {
			return
		}
		merged := lay(under, over, "")
		for _, pair := range over.Pairs {
			got := merged.Get(pair.Key.Text)
			if got == nil || got.Kind != pair.Value.Kind || got.Text != pair.Value.Text || len(got.Items) < len(pair.Value.Items) {
				t.Errorf("%s is lost", pair.Key.Text)
			}
		}
		if again, _ := doc.Parse("over", []byte(own)); !again.Equal(over) {
			t.Error("it was changed")
		}
	})
}
