package host

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The layer state is there when the disk is, before what may keep something there.
func TestKeeping(t *testing.T) {
	s := shelf("state", "cloud-config: {k: ((host.state))}\n", "payload", "", "secrets", "", "attest", "",
		"x", "packages: [jq]\nstate: [/var/lib/x: 782]\n", "y", "state: [/var/lib/x/y]\n")
	const disk = "machine: {state: 20GiB}"
	for _, test := range []struct {
		layers, more, want, list string
		losing                   []string
	}{
		{"[c, a]", "", "attest c a", "", nil},
		{"[c, a]", disk, "attest state c a", "", nil},
		{"[c, state, a]", disk, "attest state c a", "", nil},
		{"[c, x]", disk + "\nsecrets: {db: {file: absent}}", "attest secrets state payload c x", "/var/lib/x:782", nil},
		{"[c, x]", "", "attest payload c x", "", []string{"/var/lib/x"}},
	} {
		h, err := load(t, plain("layers: "+test.layers, test.more), s)
		if err != nil {
			t.Errorf("%s, %s: %v", test.layers, test.more, err)
			continue
		}
		if got := order(h); got != test.want {
			t.Errorf("%s, %s: %s", test.layers, test.more, got)
		}
		if diff := cmp.Diff(test.losing, h.Losing()); diff != "" {
			t.Errorf("%s, %s: %s", test.layers, test.more, diff)
		}
		for _, l := range h.Layers {
			if l.Name != "state" {
				continue
			}
			var list []string
			for _, item := range l.CloudConfig.Get("k").Items {
				list = append(list, item.Text)
			}
			if got := strings.Join(list, " "); got != test.list {
				t.Errorf("%s, %s: the layer knows of %s", test.layers, test.more, got)
			}
		}
	}
	for _, test := range []struct{ layers, more, at, words string }{
		{"[c, state]", "", "4:13", "no disk that the layer could mount"},
		{"[state]", "machine: {disk: 1GiB}", "4:10", "machine: {state: 20GiB}"},
		{"[x, y]", disk, "4:13", "the layers x and y keep their state in one another's"},
		{"[y, x]", "", "4:13", "the layers y and x keep their state in one another's"},
	} {
		_, err := load(t, plain("layers: "+test.layers, test.more), s)
		if err == nil || !strings.Contains(err.Error(), "hosts/zap.yaml:"+test.at+": error: ") || !strings.Contains(err.Error(), test.words) {
			t.Errorf("%s, %s: %v", test.layers, test.more, err)
		}
	}
	// A shelf without the layer has no machine with the disk.
	_, err := load(t, plain("machine: {state: 20GiB}"), shelf())
	if err == nil || !strings.Contains(err.Error(), `unknown layer "state"`) {
		t.Error(err)
	}
}
