package host

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"bake/internal/diag"
	"bake/layers"

	"bake/internal/layer"
)

// complete makes a host file of some of its keys.
func complete(some string) string {
	some = strings.ReplaceAll(some, "KEY", key) + "\n"
	for _, line := range []string{"host: zap", "base: debian:13", "admin: {name: ops, keys: [" + key + "]}", "layers: [ssh, ufw]"} {
		name, _, _ := strings.Cut(line, ":")
		if !strings.HasPrefix(some, name+":") {
			some += line + "\n"
		}
	}
	return some
}

func ours() layer.Shelf { return layer.Shelf{Builtin: layers.FS, ShowBuiltin: "layers"} }

// TestKeys asks the loader which keys it knows, by one that it cannot know, and
// demands that the description has these and no others.
func TestKeys(t *testing.T) {
	const odd = "qqqqqqqqqqqqqqqq"
	for parent, text := range map[string]string{
		"":               odd + ": 1",
		"mirrors":        "mirrors: {" + odd + ": 1}",
		"machine":        "machine: {" + odd + ": 1}",
		"network":        "network: {" + odd + ": 1}",
		"network.attach": "network: {attach: {network: default, " + odd + ": 1}}",
		"domain":         "domain: {" + odd + ": 1}",
		"admin":          "admin: {" + odd + ": 1}",
		"secrets.NAME":   "secrets: {NAME: {" + odd + ": 1}}",
	} {
		_, err := load(t, complete(strings.ToLower(text)), ours())
		var list diag.List
		if !errors.As(err, &list) {
			t.Fatalf("%s: %v", parent, err)
		}
		at := slices.IndexFunc(list, func(p diag.Problem) bool { return strings.HasSuffix(p.Path, odd) })
		if at < 0 {
			t.Fatalf("%s: the odd key is not reported: %v", parent, err)
		}
		known := strings.Split(strings.TrimPrefix(list[at].Hint, "known: "), ", ")
		var described []string
		for _, k := range Keys() {
			if name, ok := strings.CutPrefix(k.Path, parent+"."); ok && !strings.Contains(name, ".") {
				described = append(described, name)
			} else if parent == "" && !strings.Contains(k.Path, ".") {
				described = append(described, k.Path)
			}
		}
		slices.Sort(known)
		slices.Sort(described)
		if !slices.Equal(known, described) {
			t.Errorf("%q: the loader knows %v, described are %v", parent, known, described)
		}
	}
}

func TestKeyExamples(t *testing.T) {
	for _, k := range Keys() {
		hasChildren := slices.ContainsFunc(Keys(), func(o Key) bool { return strings.HasPrefix(o.Path, k.Path+".") })
		if (k.Example == "") != hasChildren {
			t.Errorf("%s: want an example, or keys below it", k.Path)
		}
		t.Chdir(t.TempDir())
		write(t, "hosts/zap.yaml", complete(k.Example))
		write(t, "hosts/_web.yaml", "labels: {role: web}\n")
		if _, err := Load(".", "zap", ours()); err != nil {
			t.Errorf("%s: %v", k.Path, err)
		}
	}
}

func TestKeyDefaults(t *testing.T) {
	h, err := load(t, complete("layers: [ssh, ufw, fail2ban]"), ours())
	if err != nil {
		t.Fatal(err)
	}
	m, n := h.Machine, h.Network
	size := func(bytes int64) string { return fmt.Sprintf("%dGiB", bytes/gib) }
	got := map[string]string{
		"machine.vcpus": fmt.Sprint(m.VCPUs), "machine.memory": size(m.Memory), "machine.disk": size(m.Disk),
		"machine.firmware": string(m.Firmware), "machine.tpm": string(m.TPM), "machine.images": m.ImagesPath,
		"network.attach.network": n.Attach.Network, "network.isolated": fmt.Sprint(n.Isolated),
		"machine.arch": m.Arch, "machine.vsock": fmt.Sprint(m.Vsock), "machine.agent": fmt.Sprint(m.Agent), "machine.balloon": fmt.Sprint(m.Balloon),
		"domain.autostart": fmt.Sprint(h.Domain.Autostart), "payload": map[bool]string{true: "offline", false: "none"}[h.Offline],
	}
	for _, k := range Keys() {
		if value, ok := got[k.Path]; ok && value != k.Default {
			t.Errorf("%s is %s by default, described is %s", k.Path, value, k.Default)
		}
		delete(got, k.Path)
	}
	if len(got) > 0 {
		t.Errorf("not described: %v", got)
	}
	if m.State != 0 || !n.DHCP || h.Domain.URI != "" {
		t.Errorf("defaults have changed: %+v", h)
	}
}

// TestKeyBounds tries both sides of each bound that is described.
func TestKeyBounds(t *testing.T) {
	bounds := regexp.MustCompile(`^(?:int|size) (?:from )?(\d+)(MiB|GiB)?(?: to (\d+))?$`)
	tried := 0
	for _, k := range Keys() {
		m := bounds.FindStringSubmatch(k.Form)
		if m == nil {
			continue
		}
		parent, name, _ := strings.Cut(k.Path, ".")
		try := func(number string, by int, want bool) {
			if number == "" {
				return
			}
			value := 0
			fmt.Sscan(number, &value)
			_, err := load(t, complete(fmt.Sprintf("%s: {%s: %d%s}", parent, name, value+by, m[2])), ours())
			if (err == nil) != want {
				t.Errorf("%s: %d%s: %v", k.Path, value+by, m[2], err)
			}
			tried++
		}
		try(m[1], 0, true)
		try(m[1], -1, false)
		try(m[3], 0, true)
		try(m[3], 1, false)
	}
	if tried < 6 {
		t.Errorf("only %d bounds were tried", tried)
	}
}
