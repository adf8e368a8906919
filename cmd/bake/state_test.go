package main

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"bake/internal/verify"
	"bake/layers"
)

// A layer with state says what a rebuild loses; the machine's disk for it is in the
// domain and in what verify boots.
func TestStateOfHost(t *testing.T) {
	w := newWorkshop(t)
	w.write(t, "layers/agent/layer.yaml", "layer: agent\nsummary: s\nthreat: none\nstate: [/var/lib/agent: 782, /srv/x]\n", 0o644)
	const warning = "bake: zap: a rebuild will lose /var/lib/agent, /srv/x: machine: {state: 20GiB} keeps it on a disk of its own\n"
	for _, test := range []struct {
		from, to string
		losing   bool
		state    int64
	}{
		{"sysctl", "sysctl", false, 0},
		{"sysctl", "agent", true, 0},
		{"sysctl", "state", false, -1},
		{"{disk: 1GiB}", "{disk: 1GiB, state: 3GiB}", false, 3 << 30},
	} {
		text := strings.Replace(hostFixture, test.from, test.to, 1)
		if test.state > 0 {
			text = strings.Replace(text, "sysctl", "agent", 1)
		}
		w.write(t, "hosts/zap.yaml", text, 0o644)
		o := finish(t, w.command("image", "--host", "zap"))
		if test.state < 0 {
			if o.code != 3 || !strings.Contains(o.stderr, "the machine has no disk that the layer could mount") {
				t.Errorf("%s: exit %d: %s", test.to, o.code, o.stderr)
			}
			continue
		}
		if o.code != 0 || strings.Contains(o.stderr, warning) != test.losing || strings.Contains(o.stderr, "will lose") != test.losing {
			t.Errorf("%s: exit %d: %s", test.to, o.code, o.stderr)
		}
		var plan verify.Plan
		latest := filepath.Join(w.dir, "out/zap/latest")
		claims, err := os.ReadFile(filepath.Join(latest, "claims.json"))
		if err == nil {
			err = json.Unmarshal(claims, &plan)
		}
		machine, _ := os.ReadFile(filepath.Join(latest, "domain.xml"))
		if err != nil || plan.State != test.state || strings.Contains(string(machine), "/zap/state.qcow2") != (test.state > 0) {
			t.Errorf("%s: %v, %d\n%s", test.to, err, plan.State, machine)
		}
	}
}

// stateDisk is the guest's script on a file in place of its disk.
type stateDisk struct{ dir, script string }

func newStateDisk(t *testing.T) stateDisk {
	t.Helper()
	for _, program := range []string{"mke2fs", "blkid", "wipefs", "debugfs", "mkfs.vfat"} {
		t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin")
		demand(t, program)
	}
	text, err := fs.ReadFile(layers.FS, "state/files/usr/local/lib/bake/state.tmpl")
	if err != nil {
		t.Fatal(err)
	}
	functions, commands, cut := strings.Cut(string(text), "\ncommand=${1:-}\n")
	if !cut || !strings.Contains(commands, "esac") {
		t.Fatal("the script has another form")
	}
	d := stateDisk{dir: t.TempDir()}
	d.script = strings.NewReplacer("{{.host.name}}", "zap", "/run/bake/", d.dir+"/").Replace(functions) +
		"\nfail() { echo \"refused: $1\"; exit 0; }\ndisk=" + d.dir + "/disk end=63\n"
	return d
}

// do runs shell commands, in which the script's functions are known.
func (d stateDisk) do(t *testing.T, commands string) string {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", d.script+commands)
	cmd.Dir = d.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", commands, err, out)
	}
	return strings.ReplaceAll(strings.TrimSpace(string(out)), d.dir, "")
}

// What the guest makes of a disk: it formats what is all empty, or what it was formatting
// when the power went; it uses its own; it writes to nothing else.
func TestStateDisk(t *testing.T) {
	const (
		empty   = "rm -rf disk tree; truncate -s 64M disk; "
		own     = empty + "create; "
		begin   = "! is_empty || create; vet; echo used"
		foreign = " where ext4 labelled 'bakestate' is wanted: it was not touched"
		unknown = "refused: /disk is not empty, and what is on it is unknown: it was not touched"
	)
	d := newStateDisk(t)
	for name, test := range map[string]struct{ make, want string }{
		"empty":                    {empty, "used"},
		"its own":                  {own, "used"},
		"its own, from another":    {empty + "host=zip create; ", "refused: /disk is the state of the host zip: it was not touched"},
		"cut off, no super block":  {own + "dd if=/dev/zero of=disk bs=1024 count=4 conv=notrunc status=none; printf 'bake state zap' | put; ", "used"},
		"cut off, of another":      {own + "dd if=/dev/zero of=disk bs=1024 count=4 conv=notrunc status=none; printf 'bake state zip' | put; ", unknown},
		"cut off before anything":  {empty + "printf 'bake state zap' | put; ", "used"},
		"its super block is lost":  {own + "dd if=/dev/zero of=disk bs=1024 count=4 conv=notrunc status=none; head -c 128 /dev/zero | put; ", unknown},
		"ext4 of somebody's":       {empty + "mke2fs -q -t ext4 -L thesis disk; ", "refused: /disk has ext4 labelled 'thesis'," + foreign},
		"ext4 without a label":     {empty + "mke2fs -q -t ext4 disk; ", "refused: /disk has ext4 labelled ''," + foreign},
		"vfat of the same label":   {empty + "mkfs.vfat -n bakestate disk > /dev/null 2>&1; ", "refused: /disk has vfat labelled 'bakestate'," + foreign},
		"the label, no name":       {empty + "mke2fs -q -t ext4 -L bakestate disk; ", "refused: /disk does not say whose state it is, its file system may be broken: it was not touched"},
		"its own, broken":          {own + "printf 'bake state zap' | put; head -c 60000 /dev/urandom | dd of=disk bs=4096 seek=1 conv=notrunc status=none; ", "refused: /disk does not say whose state it is, its file system may be broken: it was not touched"},
		"one byte":                 {empty + "printf x | dd of=disk bs=1 seek=1048575 conv=notrunc status=none; ", unknown},
		"a partition table":        {empty + "echo 2048,, | sfdisk --quiet disk; ", unknown},
		"somebody's words, begun":  {empty + "mke2fs -q -t ext4 -L thesis disk; printf 'bake state zap' | put; ", "refused: /disk has ext4 labelled 'thesis'," + foreign},
		"a label with odd letters": {empty + "mke2fs -q -t ext4 -L \"a\x1b[2J\" disk; ", "refused: /disk has ext4 labelled 'a2J'," + foreign},
	} {
		t.Run(name, func(t *testing.T) {
			d.do(t, test.make)
			before := d.do(t, "sha256sum < disk")
			if got := d.do(t, begin); got != test.want {
				t.Errorf("%s\nwant %s", got, test.want)
			}
			switch after := d.do(t, "sha256sum < disk"); {
			case test.want != "used" && after != before:
				t.Error("it was written to")
			case test.want == "used" && d.do(t, "debugfs -R 'cat /host' disk 2> /dev/null; e2fsck -fn disk > /dev/null 2>&1 && echo clean") != "zap\nclean":
				t.Error("what is used is not whole")
			}
		})
	}
}
