package host

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOrder(t *testing.T) {
	for name, test := range map[string]struct {
		layers string
		more   []string
		want   string // the order, or a part of the problem behind its place
	}{
		"as listed":                      {"[c, a, b]", nil, "c a b"},
		"after moves":                    {"[x, a, b]", []string{"x", "after: [a]\n"}, "a x b"},
		"after, but absent":              {"[x, b]", []string{"x", "after: [a]\n"}, "x b"},
		"after, already":                 {"[a, b, x]", []string{"x", "after: [a]\n"}, "a b x"},
		"requires moves":                 {"[x, b, a]", []string{"x", "requires: [a]\n"}, "b a x"},
		"a chain":                        {"[x, y, a, b]", []string{"x", "after: [y]\n", "y", "requires: [b]\n"}, "a b y x"},
		"only as far as needed":          {"[b, x, a, c]", []string{"x", "after: [a]\n"}, "b a x c"},
		"requires, but absent":           {"[b, x]", []string{"x", "requires: [a]\n"}, "4:13: the layer x requires the layer a"},
		"two in a circle":                {"[a, x, y]", []string{"x", "after: [y]\n", "y", "after: [x]\n"}, "4:13: the layers x, y"},
		"one after itself":               {"[x]", []string{"x", "after: [x]\n"}, "4:10: the layers x"},
		"a circle of requires and after": {"[x, y, z]", []string{"x", "after: [z]\n", "y", "requires: [x]\n", "z", "after: [y]\n"}, "4:10: the layers x, y, z"},
	} {
		h, err := load(t, plain("layers: "+test.layers), shelf(test.more...))
		if err != nil {
			place, words, _ := strings.Cut(test.want, ": ")
			if !strings.Contains(err.Error(), ":"+place+": error: ") || !strings.Contains(err.Error(), words) {
				t.Errorf("%s: %v, want %s", name, err, test.want)
			}
			continue
		}
		var got []string
		for _, l := range h.Layers {
			got = append(got, l.Name)
		}
		if diff := cmp.Diff(test.want, strings.Join(got, " ")); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// The layer secrets is there when there are secrets, and always first.
func TestDelivery(t *testing.T) {
	const secrets = "secrets: {db: {file: absent}, api: {env: ABSENT}}"
	s := shelf("secrets", "cloud-config: {k: ((host.secrets))}\n", "x", "params: {key: {type: secret, help: h}}\ncloud-config: {l: ((key))}\n")
	for layers, want := range map[string]string{
		"[c, a]":                     "secrets c a",
		"[c, secrets, a]":            "secrets c a",
		"[secrets]":                  "secrets",
		"[c, secrets: {}]":           "secrets c",
		"[{x: {key: db}}, a]":        "secrets x a",
		"[secrets, {x: {key: api}}]": "secrets x",
	} {
		h, err := load(t, plain("layers: "+layers, secrets), s)
		if err != nil {
			t.Errorf("%s: %v", layers, err)
			continue
		}
		var got []string
		for _, l := range h.Layers {
			got = append(got, l.Name)
		}
		if diff := cmp.Diff(want, strings.Join(got, " ")); diff != "" {
			t.Errorf("%s: %s", layers, diff)
		}
		if k := h.Layers[0].CloudConfig.Get("k"); len(k.Items) != 2 || k.Items[0].Text != "api" || k.Items[1].Text != "db" {
			t.Errorf("%s: the layer knows of %+v", layers, k)
		}
	}
	for _, test := range []struct{ layers, secrets, at, words string }{
		{"[a, secrets]", "", "4:13", "has no secrets that the layer could deliver"},
		{"[secrets]", "secrets: {}", "4:10", "has no secrets that the layer could deliver"},
		{"[{x: {key: bd}}]", secrets, "4:20", "no secret of this name"},
		{"[{x: {key: db}}]", "", "4:20", "add it to the host file"},
		{"[secrets]", "secrets: {db: hunter2}", "5:15", "never written here"},
	} {
		_, err := load(t, plain(strings.TrimSpace("layers: "+test.layers), test.secrets), s)
		if err == nil || !strings.Contains(err.Error(), "hosts/zap.yaml:"+test.at+": error: ") || !strings.Contains(err.Error(), test.words) {
			t.Errorf("%s, %s: %v", test.layers, test.secrets, err)
		}
	}
	// A secret with a problem is no unknown name, and its line is not shown, whatever else is wrong on it.
	_, err := load(t, plain("layers: [{x: {key: db}}]", "secrets: {db: hunter2, Db: {file: a}}\nmachine: {vcpus: 0}"), s)
	if err == nil || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "of this name") || !strings.Contains(err.Error(), "machine: {vcpus: 0}") {
		t.Error(err)
	}
}

// The layer payload is there when packages are, behind those that shut the door and
// deliver, unless the host file wants none.
func TestPayload(t *testing.T) {
	s := shelf("payload", "", "secrets", "", "attest", "", "x", "packages: [jq]\n")
	for _, test := range []struct {
		layers, more, want string
		offline            bool
	}{
		{"[c, a]", "", "attest c a", false},
		{"[c, x]", "", "attest payload c x", true},
		{"[c, x]", "payload: offline", "attest payload c x", true},
		{"[c, payload, x]", "", "attest payload c x", true},
		{"[c, x]", "secrets: {db: {file: absent}}", "attest secrets payload c x", true},
		{"[c, x]", "payload: none", "attest c x", false},
	} {
		h, err := load(t, plain("layers: "+test.layers, test.more), s)
		if err != nil {
			t.Errorf("%s: %v", test.layers, err)
			continue
		}
		if got := order(h); got != test.want || h.Offline != test.offline {
			t.Errorf("%s, %s: %s, offline %v", test.layers, test.more, got, h.Offline)
		}
		other := h.FromNetwork()
		if got := order(other); got != strings.Replace(test.want, "payload ", "", 1) || other.Offline || order(h) != test.want {
			t.Errorf("%s from the network: %s", test.layers, got)
		}
	}
	for _, test := range []struct{ layers, more, at, words string }{
		{"[c, payload]", "", "4:13", "no packages that the layer could install"},
		{"[payload, x]", "payload: none", "4:10", "no packages that the layer could install"},
		{"[x]", "payload: online", "5:10", "want one of offline, none"},
	} {
		_, err := load(t, plain("layers: "+test.layers, test.more), s)
		if err == nil || !strings.Contains(err.Error(), "hosts/zap.yaml:"+test.at+": error: ") || !strings.Contains(err.Error(), test.words) {
			t.Errorf("%s, %s: %v", test.layers, test.more, err)
		}
	}
}

func order(h *Host) string {
	var names []string
	for _, l := range h.Layers {
		names = append(names, l.Name)
	}
	return strings.Join(names, " ")
}

// The address is the name's, local, no multicast, and stays what it is: a
// machine that is baked again keeps its DHCP lease.
func TestMAC(t *testing.T) {
	form := regexp.MustCompile(`^52:54:00(:[0-9a-f]{2}){3}$`)
	seen := map[string]string{}
	for _, name := range []string{"zap", "zip", "a", "b", "web-1", "web-2"} {
		mac := macFor(name)
		if !form.MatchString(mac) || seen[mac] != "" || macFor(name) != mac {
			t.Errorf("%s: %s, also of %q", name, mac, seen[mac])
		}
		seen[mac] = name
	}
	const zap = "52:54:00:37:28:09"
	if got := macFor("zap"); got != zap {
		t.Errorf("zap's address has changed to %s: every machine would get a new lease", got)
	}
	h, err := load(t, plain("network: {mac: \"52-54-00-AB-CD-EF\"}"), shelf())
	if err != nil || h.Network.MAC != "52:54:00:ab:cd:ef" {
		t.Errorf("%v, %v", h, err)
	}
}

// Layers see the host they are part of.
func TestFacts(t *testing.T) {
	h, err := load(t, plain("layers: [x]"), shelf("x", "cloud-config: {users: [{name: ((host.name))-((admin.name)), ssh_authorized_keys: ((admin.keys))}]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	user := h.Layers[0].CloudConfig.Get("users").Items[0]
	if user.Get("name").Text != "zap-ops" || user.Get("ssh_authorized_keys").Items[0].Text != key {
		t.Errorf("%+v", user)
	}
	h, err = load(t, plain("layers: [{x: {n: 5}}]"), shelf("x", "params: {n: {type: int, help: h}}\ncloud-config: {k: ((n))}\n"))
	if err != nil || h.Layers[0].CloudConfig.Get("k").Text != "5" {
		t.Errorf("%v", err)
	}
}
