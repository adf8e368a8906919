package status

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"bake/internal/attest"
)

const (
	begins   = "BdsDxe: starting Boot0001 \"UEFI Misc Device\"\r\n[    0.000000] Linux version 6.12\r\n"
	installs = "Cloud-init v. 25.1.4 running 'modules:final' at Mon. Up 30.00 seconds.\r\n"
	tries    = "\r\nbake: trying 24 claims\r\n"
	fails    = "bake: failed: ufw: UFW is active.\r\nbake: failed: ssh: Root is refused.\r\n"
	powers   = "[   99.1] reboot: Power down\r\n"
)

var (
	plan = strings.Repeat("a", 64)
	ok   = attest.Verdict{OK: true, Plan: plan, Claims: 24, Report: plan}.String() + "\r\n"
	fail = attest.Verdict{Plan: plan, Claims: 24, Failed: 2, Report: plan, First: "ufw: UFW is active."}.String() + "\r\n"
)

// logOf returns a log with that text, looked at once.
func logOf(t testing.TB, text string) *Log {
	t.Helper()
	l := &Log{Path: filepath.Join(t.TempDir(), "console.log")}
	t.Cleanup(func() { _ = l.Close() })
	put(t, l.Path, text)
	look(t, l)
	return l
}

// put makes a new file, as libvirt does at a start.
func put(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func grow(t testing.TB, path, text string) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
}

func look(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Look(); err != nil {
		t.Fatal(err)
	}
}

func TestStates(t *testing.T) {
	for name, test := range map[string]struct {
		console string
		want    string
		isFinal bool
		failed  bool
	}{
		"empty":                  {"", "not yet: nothing is on the console", false, false},
		"kernel":                 {begins, "not yet: the kernel runs", false, false},
		"provisioning":           {begins + installs, "not yet: cloud-init installs after 30.0 s of its uptime", false, false},
		"trying":                 {begins + installs + tries, "not yet: the guest tries its claims", false, false},
		"attested":               {begins + installs + tries + ok, "attested: 24 claims hold", true, false},
		"attested, then the log": {begins + tries + ok + "login: \r\n[  500.1] x\r\n", "attested: 24 claims hold", true, false},
		"half a verdict":         {begins + tries + strings.TrimSuffix(ok, " end\r\n"), "not yet: the guest tries its claims", false, false},
		"failed":                 {begins + tries + fails + fail, "stayed shut: 2 of 24 claims failed, first ufw: UFW is active.", true, true},
		"failed and off":         {begins + tries + fails + fail + powers, "stayed shut: 2 of 24 claims failed, first ufw: UFW is active.", true, true},
		"something else":         {begins + tries + attest.Verdict{Plan: plan, Claims: 24, First: "gate open: no"}.String() + "\n", "stayed shut: gate open: no", true, true},
		"refused":                {begins + attest.Verdict{Refused: "another program"}.String() + "\n", "refused: another program", true, true},
		"off":                    {begins + tries + ok + powers, "off: it had attested, then it was switched off", false, false},
		"off too early":          {begins + installs + powers, "died: it was switched off; the last stage was: cloud-init installs after 30.0 s of its uptime", true, true},
		"panic":                  {begins + "[ 1.0] Kernel panic - not syncing: x\n", "died: the kernel panicked: x; the last stage was: the kernel runs", true, true},
		"panic after attesting":  {begins + tries + ok + "[ 99.0] Kernel panic - not syncing: x\n", "died: the kernel panicked: x; the last stage was: the guest has its verdict", true, true},
		"emergency":              {begins + "You are in emergency mode.\n", "died: it is in emergency mode and waits for somebody; the last stage was: the kernel runs", true, true},
		"torn":                   {begins + tries + "BAKE-RESULT v1 ok [ 3.0] x\n", "unknown: its verdict is on the console, but something else was printed into it", false, false},
		"restarted":              {begins + tries + ok + begins, "not yet: the kernel runs", false, false},
		"restarts":               {begins + tries + ok + "[ 9.0] reboot: Restarting system\n", "not yet: nothing is on the console", false, false},
		"from the middle":        {"[   50.0] x\n", "not yet: the kernel runs after 50.0 s of its uptime", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := Of("zap", logOf(t, test.console))
			if s.String() != test.want || s.State.IsFinal() != test.isFinal || s.State.IsFailed() != test.failed {
				t.Errorf("%q, final %v, failed %v", s, s.State.IsFinal(), s.State.IsFailed())
			}
			if s.Bytes != int64(len(test.console)) || s.Grew.IsZero() || s.Host != "zap" {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestNoteOff: what libvirt has switched off has not said so.
func TestNoteOff(t *testing.T) {
	for name, test := range map[string]struct{ console, want string }{
		"attested": {begins + tries + ok, "off: it had attested, then it was switched off, libvirt says"},
		"booting":  {begins + installs, "died: it was switched off, libvirt says; the last stage was: cloud-init installs after 30.0 s of its uptime"},
		"failed":   {begins + tries + fails + fail, "stayed shut: 2 of 24 claims failed, first ufw: UFW is active."},
		"off":      {begins + tries + ok + powers, "off: it had attested, then it was switched off"},
	} {
		s := Of("zap", logOf(t, test.console))
		if s.NoteOff(); s.String() != test.want {
			t.Errorf("%s: %q", name, s)
		}
	}
}

// TestNoteReport: where the log has grown past the verdict the guest's report has it, that of
// its last boot; what the log says itself it is not asked about.
func TestNoteReport(t *testing.T) {
	const (
		good  = `{"ok": true, "plan": "aa", "results": [{"ok": true}, {"ok": true}]}` + "\n"
		bad   = `{"ok": false, "plan": "bb", "results": [{"ok": true}, {"ok": false, "layer": "ufw", "claim": "UFW is active."}]}` + "\n"
		noisy = "[  500.0] x\n"
	)
	long := strings.Repeat(noisy, maxRead/10)
	for name, test := range map[string]struct{ log, port, want string }{
		"it is lost":          {long, good, "attested: 2 claims hold"},
		"of the last boot":    {long, good + bad, "stayed shut: 1 of 2 claims failed, first ufw: UFW is active."},
		"it is good again":    {long, bad + good, "attested: 2 claims hold"},
		"half a report":       {long, good + bad[:20], "unknown: " + lost},
		"no report":           {long, "", "unknown: " + lost},
		"something else":      {long, "[1, 2]", "unknown: " + lost},
		"a boot has begun":    {long + begins, good, "not yet: the kernel runs"},
		"the log has a later": {long + begins + tries + fail, good, "stayed shut: 2 of 24 claims failed, first ufw: UFW is active."},
		"it is all there":     {begins, good, "not yet: the kernel runs"},
	} {
		s := Of("zap", logOf(t, test.log))
		if s.NoteReport([]byte(test.port)); s.String() != test.want {
			t.Errorf("%s: %s", name, s)
		}
	}
}

func TestOf(t *testing.T) {
	s := Of("zap", logOf(t, begins+tries+fails+"bake: nothing here can filter packets\r\n"+fail))
	if got := strings.Join(s.Failures, "|"); got != "ufw: UFW is active.|ssh: Root is refused." || s.Failed != 2 || s.Claims != 24 ||
		s.Plan != plan || s.Report != plan || s.Boots != 1 || len(s.Stages) != 4 || len(s.Said) != 1 {
		t.Errorf("%+v", s)
	}
	if s := Of("zap", logOf(t, begins+tries)); s.Claims != 24 || s.Plan != "" || s.Failures == nil {
		t.Errorf("%+v", s)
	}
}

// Whatever is in a log, it is read, and said in a line that drives no terminal.
func FuzzLog(f *testing.F) {
	f.Add([]byte(begins+tries+fails+fail), []byte(begins+tries+ok))
	f.Add([]byte("\x1b]0;x\x07bake: \xff\n[ 1.0] Kernel panic - not syncing: \x9b31m\u202e\n"), []byte("BAKE-RESULT v1 refused reason=\"\\x1b[2J\" end\n"))
	f.Add([]byte("BAKE-RESULT v1 fail plan="+plan+" claims=2 failed=1 report= first=\"a\\nb\" end\n"), []byte{})
	f.Fuzz(func(t *testing.T, first, more []byte) {
		l := logOf(t, string(first))
		grow(t, l.Path, string(more))
		look(t, l)
		s := Of("zap", l)
		for _, char := range strings.Join(append(append([]string{s.String()}, s.Failures...), s.Said...), "") {
			if !unicode.IsGraphic(char) && char != '\t' && char != '\n' && char != unicode.ReplacementChar {
				t.Errorf("%q holds %U", s, char)
			}
		}
		if s.State == Attested && (s.Failed > 0 || s.Claims == 0 || len(s.Plan) != 64) {
			t.Errorf("%+v", s)
		}
		if whole := Of("zap", logOf(t, string(first)+string(more))); whole.String() != s.String() {
			t.Errorf("read at once %q, in two parts %q", whole, s)
		}
	})
}
