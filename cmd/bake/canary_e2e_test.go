//go:build e2e

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bake/internal/vm"
)

// TestFullCanary gives a machine thirty secrets of all shapes and looks for them,
// when it has attested, wherever they were not sent: in the guest as everybody who
// could look there, on its disk from outside, and on this side.
func TestFullCanary(t *testing.T) {
	l := newLab(t, "debian-13")
	t.Setenv("TMPDIR", t.TempDir()) // where the guest's disk will be
	vault := t.TempDir()
	var canaries []canary
	references, patterns, want := "secrets:\n", "", ""
	for i, around := range oddities {
		c := newCanary(fmt.Sprintf("c%02d", i), fmt.Sprintf("canary-%02d-%02d-sings", i, i*i%97), around[0], around[1])
		canaries = append(canaries, c)
		path := filepath.Join(vault, c.name)
		if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		references += "  " + c.name + ": {file: " + path + "}\n"
		want += "1 " + c.mark + "\n"
		for form, mark := range c.forms {
			if form == "text" || form == "hex" || strings.HasPrefix(form, "base64") {
				patterns += string(mark) + "\n"
			}
		}
	}
	zap, err := os.ReadFile("../../hosts/zap.yaml")
	if err != nil {
		t.Fatal(err)
	}
	l.write(t, "hosts/zap.yaml", string(zap)+references)
	if code, _ := l.bake(t, "image", "--host", "zap", "--base", l.base); code != 0 {
		t.Fatalf("bake image: exit %d", code)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
	defer cancel()
	h := begin(ctx, t, l, func(*vm.Spec) {})
	if verdict := h.verdicts(t, 1); !verdict.OK {
		t.Fatalf("the machine stayed shut: %+v", verdict)
	}
	h.enter(t)

	// What is looked for comes on standard input: it is in no file and no argument.
	look := func(who, where string) string {
		got, err := h.feed("sudo -n runuser -u "+who+" -- sh -c '"+where+"'", strings.NewReader(patterns))
		if err != nil {
			t.Errorf("%s: %v", who, err)
		}
		return got
	}
	const places = `cd /; p=$(cat); seek() { printf "%s\n" "$p" | grep "$@" 2>/dev/null || :; }
seek -rlaF -D skip -f - /dev /var /run /etc /tmp /home /root /srv /opt /usr/local
seek -laF -f - /proc/[0-9]*/environ /proc/[0-9]*/cmdline /proc/cmdline /sys/firmware/qemu_fw_cfg/by_name/*/*/raw /sys/firmware/dmi/tables/DMI
journalctl --quiet --all --output=export 2>/dev/null | grep -c "canary[-]"
dmesg 2>/dev/null | grep -c "canary[-]"
for d in /sys/class/block/*; do d=/dev/${d##*/}; case $d in /dev/vda*) ;; *) test ! -r $d || seek -laF -f - $d ;; esac; done`
	for _, who := range []string{"nobody", "ops", "root"} {
		found := ""
		for line := range strings.Lines(look(who, places)) {
			if strings.TrimSpace(line) != "0" && !(who == "root" && strings.HasPrefix(line, "/etc/credstore/c")) {
				found += line
			}
		}
		if found != "" {
			t.Errorf("%s finds canaries in\n%s", who, found)
		}
	}
	// The search sees what is there to be seen.
	h.run(t, "echo "+canaries[0].mark+" > /var/tmp/seen; chmod 644 /var/tmp/seen")
	if got := look("nobody", places); !strings.Contains(got, "/var/tmp/seen") {
		t.Errorf("a search that finds nothing: %q", got)
	}
	h.run(t, "shred -u /var/tmp/seen")
	if got := h.run(t, "ls /etc/credstore | wc -l; stat -c '%a %U %G' /etc/credstore"); got != "30\n700 root root" {
		t.Errorf("/etc/credstore: %s", got)
	}

	if seen := see(canaries, []byte(h.Console())); seen != nil {
		t.Errorf("the console has %q", seen)
	}
	if found := search(t, canaries, l.config, filepath.Join(l.out, "zap", "latest")+"/"); len(found) != 0 {
		t.Errorf("the artifact has %v", found)
	}
	disks, err := filepath.Glob(filepath.Join(os.Getenv("TMPDIR"), "*", "root.qcow2"))
	if err != nil || len(disks) != 1 {
		t.Fatalf("the guest's disk: %v, %v", disks, err)
	}
	h.run(t, "sync")
	marks := ""
	for _, c := range canaries {
		marks += c.mark + "\n"
	}
	cmd := exec.CommandContext(ctx, "sh", "-c", `grep -aoF -f - "$1" | sort | uniq -c | sed 's/^ *//'`, "sh", disks[0])
	cmd.Stdin = strings.NewReader(marks)
	got, err := cmd.Output()
	if err != nil || !bytes.Equal(got, []byte(want)) {
		t.Errorf("on the disk are, %v,\n%swant each in its one place", err, got)
	}
}
