package seed

import (
	"path/filepath"
	"strings"
	"testing"
)

// With a payload cloud-init installs nothing itself, and the machine knows which
// disk it is to believe. From the network it is the other way round.
func TestPayload(t *testing.T) {
	h := loadGolden(t, filepath.Join(golden, "secret"), "secret")
	payload := Payload{SHA256: strings.Repeat("ab", 32), Packages: []string{"alpha 1:1.0~rc1", "beta 2"}, Trees: []string{"opt/agent"}}
	s, err := Build(h, []byte("program"), &payload)
	if err != nil {
		t.Fatal(err)
	}
	text := string(s.UserData)
	for _, want := range []string{
		"\n    " + payload.SHA256 + "  /dev/disk/by-id/virtio-bake-payload\n    END\n",
		"\n    alpha 1:1.0~rc1\n    beta 2\n    END\n", "\n    opt/agent\n    END\n",
		">/usr/local/lib/bake/payload.sha256.bake <<'END' && chmod 0600 ", ">/usr/local/lib/bake/payload.packages.bake ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in user-data", want)
		}
	}
	if strings.Contains(text, "\npackages:") || strings.Contains(text, "package_update") {
		t.Error("cloud-init would install packages")
	}
	if out, err := schema(t, s.UserData); err != nil {
		t.Errorf("%v\n%s", err, out)
	}

	unknown, err := Build(h, []byte("program"), nil)
	if err != nil || strings.Contains(string(unknown.UserData), "payload.sha256.bake") || string(unknown.Claims) != string(s.Claims) {
		t.Errorf("a payload that is not known yet: %v", err)
	}
	network, err := Build(h.FromNetwork(), []byte("program"), nil)
	if text := string(network.UserData); err != nil || !strings.Contains(text, "\npackages:\n") || strings.Contains(text, "payload") {
		t.Errorf("%v\n%s", err, text)
	}

	// No packages and no trees are empty files.
	s, err = Build(h, []byte("program"), &Payload{SHA256: payload.SHA256})
	if err != nil || strings.Count(string(s.UserData), "payload.trees") == 0 {
		t.Error(err)
	}
}
