package console

import (
	"reflect"
	"strings"
	"testing"
	"unicode"

	"bake/internal/attest"
)

func TestTail(t *testing.T) {
	lines := strings.Split(strings.Repeat("old\n", 20)+"one\ntwo", "\n")
	if got := Tail(lines); strings.Count(got, "\n  | ") != tailLines || !strings.HasSuffix(got, "\n  | one\n  | two") {
		t.Errorf("%q", got)
	}
	var r Reader
	if r.Tail() != "" {
		t.Error("a tail of nothing")
	}
	for _, line := range append(lines, "", " ", "half") {
		if _, err := r.Write([]byte(line + map[bool]string{true: "", false: "\r\n"}[line == "half"])); err != nil {
			t.Fatal(err)
		}
	}
	if got := r.Tail(); strings.Count(got, "\n  | ") != tailLines || !strings.HasSuffix(got, "\n  | one\n  | two") {
		t.Errorf("%q", got)
	}
}

const (
	begins   = "BdsDxe: loading Boot0001 \"UEFI Misc Device\"\nBdsDxe: starting Boot0001 \"UEFI Misc Device\"\n[    0.000000] Linux version 6.12 (x)\n[    1.500000] virtio\n"
	provides = "[    9.6] cloud-init[301]: Cloud-init v. 25.1.4 running 'init-local' at Mon, 30 Nov 2026 10:00:00 +0000. Up 9.53 seconds.\n" +
		"Cloud-init v. 25.1.4 running 'init' at Mon. Up 12.00 seconds.\nCloud-init v. 25.1.4 running 'modules:config' at Mon. Up 20.10 seconds.\n" +
		"Cloud-init v. 25.1.4 running 'modules:final' at Mon. Up 30.00 seconds.\nCloud-init v. 25.1.4 finished at Mon. Datasource DataSourceNoCloud.  Up 57.25 seconds\n"
	tries = "\nbake: trying 24 claims\n"
)

var (
	digest = strings.Repeat("a", 64)
	good   = attest.Verdict{OK: true, Plan: digest, Claims: 24, Report: digest}
	bad    = attest.Verdict{Plan: digest, Claims: 24, Failed: 2, Report: digest, First: "ufw: UFW is active."}
	tells  = "\n" + beginLine + ed25519Key + "\n" + endLine
	fails  = "bake: failed: ufw: UFW is active.\nbake: failed: ssh: Root is refused.\n"
)

// digestOf is what matters of a reading, in a line.
func digestOf(r Reading) string {
	words := []string{}
	if n := len(r.Stages); n > 0 {
		words = append(words, r.Stages[n-1].Name)
	}
	switch {
	case r.Verdict == nil:
	case r.Verdict.Refused != "":
		words = append(words, "refused")
	default:
		words = append(words, map[bool]string{true: "ok", false: "fail"}[r.Verdict.OK])
	}
	for word, is := range map[string]bool{"torn": r.IsTorn, "off": r.IsOff} {
		if is {
			words = append(words, word)
		}
	}
	if r.End != "" {
		words = append(words, "end="+r.End)
	}
	if len(r.Keys) > 0 {
		words = append(words, "keys")
	}
	words = append(words, strings.Repeat("F", len(r.Failed))+strings.Repeat("S", len(r.Said))+strings.Repeat("B", r.Boots))
	return strings.TrimSpace(strings.Join(words, " "))
}

func TestReading(t *testing.T) {
	ok, fail := good.String()+"\n", bad.String()+"\n"
	for name, test := range map[string]struct{ console, want string }{
		"nothing":                      {"", ""},
		"half a line":                  {"[    1.0] Linux", ""},
		"firmware":                     {"\x1b[2J\x1b[01;01HBdsDxe: loading Boot0001\r\n", "firmware B"},
		"kernel":                       {begins, "kernel B"},
		"kernel without firmware":      {"[    0.000000] Linux version 6.1\n", "kernel B"},
		"kernel that names its thread": {"[    0.000000][    T0] Linux version 6.1\n[    0.1] x\n", "kernel B"},
		"from the middle":              {"[   99.5] x\n", "kernel"},
		"provisioned":                  {begins + provides, "cloud-init-done B"},
		"tries":                        {begins + provides + tries, "trying B"},
		"opens":                        {begins + provides + tries + "\nbake: every claim holds, opening\n", "opening SB"},
		"opens behind a prompt":        {begins + provides + tries + "zap login: bake: every claim holds, opening\n", "opening B"},
		"attested":                     {begins + provides + tries + tells + ok, "verdict ok keys B"},
		"failed":                       {begins + provides + tries + tells + fails + fail, "verdict fail keys FFB"},
		"refused":                      {begins + attest.Verdict{Refused: "x"}.String() + "\n", "verdict refused B"},
		"without cloud-init":           {begins + tries + ok, "verdict ok B"},
		"a verdict that is torn":       {begins + tries + strings.Replace(ok, "claims", "[ 3.1] x\nclaims", 1), "verdict torn B"},
		"a verdict with words in it":   {begins + tries + strings.Replace(ok, "claims", "[ 3.1] x claims", 1), "verdict torn B"},
		"a verdict without its end":    {begins + tries + strings.TrimSuffix(ok, "\n"), "trying B"},
		"torn, then told again":        {begins + "BAKE-RESULT v1 ok pl\n" + ok, "verdict ok B"},
		"told, then torn":              {begins + ok + "BAKE-RESULT v1 ok pl\n", "verdict ok B"},
		"tried again":                  {begins + tries + fails + fail + tries, "verdict B"},
		"tried again, better":          {begins + tries + fails + fail + tries + ok, "verdict ok B"},
		"restarts":                     {begins + tries + tells + ok + "[ 99.1] reboot: Restarting system\n", "B"},
		"restarted":                    {begins + tries + tells + ok + "[ 99.1] reboot: Restarting system\n" + begins, "kernel BB"},
		"reset by the firmware":        {begins + tries + tells + fails + fail + begins, "kernel BB"},
		"reset, a quiet kernel":        {begins + tries + tells + ok + "BdsDxe: loading Boot0001\n", "firmware BB"},
		"reset, no firmware":           {begins + tries + tells + ok + "[    0.000000] Linux version 6.1\n", "kernel BB"},
		"reset in the kernel":          {begins + begins, "kernel BB"},
		"switched off":                 {begins + tries + ok + "[   99.1] reboot: Power down\n", "verdict ok off end=it was switched off B"},
		"switched off behind a word":   {begins + "[  OK  ] Reach[   99.1] reboot: Power down\n", "kernel off end=it was switched off B"},
		"halted":                       {begins + "[   99.1] reboot: System halted\n", "kernel off end=it was switched off B"},
		"panic":                        {begins + "[    2.1] Kernel panic - not syncing: VFS: Unable to mount root fs\n[ 2.2] ---[ end\n", "kernel end=the kernel panicked: VFS: Unable to mount root fs B"},
		"panic, and on":                {begins + "[    2.1] Kernel panic - not syncing\n" + begins, "kernel BB"},
		"not a panic":                  {begins + "the word reboot: Power down, and Kernel panic - not syncing, by a user\n", "kernel B"},
		"emergency":                    {begins + "You are in emergency mode. After logging in, type\n", "kernel end=it is in emergency mode and waits for somebody B"},
		"emergency, helped on":         {begins + "You are in emergency mode\n" + tries + ok, "verdict ok B"},
		"initramfs":                    {begins + "ALERT!  UUID=1 does not exist.  Dropping to a shell!\n", "kernel end=the initramfs gave up: UUID=1 does not exist. B"},
		"systemd":                      {begins + "[    9.1] systemd[1]: Freezing execution.\n", "kernel end=systemd froze B"},
		"nothing to boot":              {"BdsDxe: No bootable option or device was found.\n", "end=the firmware found nothing to boot"},
		"keys of the boot before":      {begins + tells + begins + tries + ok, "verdict ok BB"},
		"keys in half a list":          {begins + beginLine + ed25519Key + "\n" + ok, "verdict ok B"},
		"two lists":                    {begins + tells + beginLine + endLine, "kernel keys B"},
		"what bake's gate says":        {begins + "bake: nothing here can filter packets, so there will be no network\n", "kernel SB"},
		"a failure in a sentence":      {begins + "they say bake: failed: x\n", "kernel B"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := digestOf(Read(test.console)); got != test.want {
				t.Errorf("read %q, want %q", got, test.want)
			}
		})
	}
}

// What a boot ended with before cloud-init, and what ended otherwise or later.
func TestPanickedEarly(t *testing.T) {
	const panics, words = "[    2.1] Kernel panic - not syncing: Fatal exception\n", "the kernel panicked: Fatal exception"
	for name, test := range map[string]struct{ console, want string }{
		"panicked":               {begins + panics, words},
		"before it said a word":  {panics, words},
		"under cloud-init":       {begins + "Cloud-init v. 1 running 'init-local'\n" + panics, ""},
		"after it was done":      {begins + provides + panics, ""},
		"switched off":           {begins + "[   99.1] reboot: Power down\n", ""},
		"froze":                  {begins + "[    9.1] systemd[1]: Freezing execution.\n", ""},
		"panicked, and on":       {begins + panics + begins, ""},
		"panicked in the second": {begins + provides + begins + panics, words},
	} {
		if got := Read(test.console).PanickedEarly(); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

func TestStages(t *testing.T) {
	var said []string
	r := Reader{Reached: func(s Stage) { said = append(said, s.Name) }}
	for _, part := range []string{"UEFI\n[    0.0", "00] Linux version\n[ 1.1] more\n", strings.Repeat("x", 9000) + "\n",
		"Cloud-init v. 1 running 'modules:final'\n", "Cloud-init v. 1 running 'init'\n", "\nbake: trying 3 claims\nBAKE-RESULT v1 ok"} {
		if n, err := r.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatal(n, err)
		}
	}
	if got := strings.Join(said, ", "); got != "kernel, cloud-init-final, trying" || len(r.line) > maxLine {
		t.Errorf("said %q", got)
	}
}

func TestTimes(t *testing.T) {
	var r Reader
	_, _ = r.Write([]byte(begins + provides + tries))
	var times []float64
	for _, stage := range r.Reading().Stages {
		times = append(times, stage.Uptime)
	}
	if want := []float64{0, 0, 9.6, 12, 20.1, 30, 57.25, 0}; !reflect.DeepEqual(times, want) {
		t.Errorf("times %v, want %v", times, want)
	}
	if got := r.Reading(); got.Uptime != 57.25 || got.Trying != 24 {
		t.Errorf("%+v", got)
	}
}

func TestReadingIsBounded(t *testing.T) {
	var r Reader
	_, _ = r.Write([]byte(strings.Repeat("bake: failed: x\nbake: y\n", 5000) + beginLine + strings.Repeat(ed25519Key+"\n", 5000) + strings.Repeat("z", 1<<20)))
	if got := r.Reading(); len(got.Failed) != maxFailed || len(got.Said) != maxSaid || len(r.list) > hostKeyLimit+maxLine || len(r.line) > maxLine {
		t.Errorf("%d failed, %d said, %d bytes of a list, %d of a line", len(got.Failed), len(got.Said), len(r.list), len(r.line))
	}
}

// However a console is cut the reading is the same, what is kept of it drives no
// terminal, and nobody who contradicts himself is believed.
func FuzzReader(f *testing.F) {
	f.Add([]byte(begins+provides+tries+tells+fails+bad.String()+"\n"), 40)
	f.Add([]byte(begins+tries+good.String()+"\n[ 9.9] reboot: Power down\n"+begins), 99)
	f.Add([]byte("[    2.1] Kernel panic - not syncing: \x1b[31mVFS\xff\n"+beginLine+"\x9b\n"), 3)
	f.Add([]byte("[ 999999999.999999] x\n Up 1.0 seconds\nbake: trying 999999 claims\nbake: \u202e\n"), 7)
	f.Fuzz(func(t *testing.T, console []byte, cut int) {
		var whole, parts Reader
		_, _ = whole.Write(console)
		cut = max(0, min(cut, len(console)))
		_, _ = parts.Write(console[:cut])
		_, _ = parts.Write(console[cut:])
		got := whole.Reading()
		if other := parts.Reading(); !reflect.DeepEqual(got, other) || whole.Tail() != parts.Tail() {
			t.Errorf("cut at %d: %+v, whole: %+v", cut, other, got)
		}
		words := append(append([]string{got.End}, got.Failed...), got.Said...)
		if v := got.Verdict; v != nil {
			words = append(words, v.First, v.Refused)
			if v.OK && (v.Failed != 0 || v.Claims == 0 || v.First != "") {
				t.Errorf("a contradiction is believed: %+v", v)
			}
		}
		for _, char := range strings.Join(words, "") + strings.ReplaceAll(whole.Tail(), "\n", "") {
			if char != '\t' && char != '\n' && !unicode.IsGraphic(char) && char != unicode.ReplacementChar {
				t.Errorf("%q holds %U", words, char)
			}
		}
		if got.IsOff && got.End == "" || len(got.Stages) > len(stages) || got.Uptime < 0 || got.Uptime > 1e9 {
			t.Errorf("%+v", got)
		}
	})
}
