package verify

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestReadSockets(t *testing.T) {
	out := `udp   UNCONN 0      0      127.0.0.53%lo:53         0.0.0.0:*    users:(("systemd-resolve",pid=301,fd=16))
tcp   LISTEN 0      128          0.0.0.0:22         0.0.0.0:*    users:(("sshd",pid=700,fd=3),("systemd",pid=1,fd=99))
tcp   LISTEN 0      128             [::]:22            [::]:*
tcp   LISTEN 0      4096               *:9100             *:*    users:(("node exporter",pid=9,fd=3))
tcp   LISTEN 0      128          0.0.0.0:99999       0.0.0.0:*
tcp   LISTEN 0      128          22                  0.0.0.0:*
tcp   LISTEN 0      128          :22                 0.0.0.0:*
unix  LISTEN 0      128          /run/x:22           0.0.0.0:*
tcp
`
	want := []Socket{{"udp", "127.0.0.53%lo", 53, "systemd-resolve"}, {"tcp", "0.0.0.0", 22, "sshd"}, {"tcp", "::", 22, ""},
		{"tcp", "*", 9100, "node exporter"}}
	if got := readSockets(out); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	if many := readSockets(strings.Repeat("tcp LISTEN 0 0 [::]:1 [::]:*\n", 1000)); len(many) != maxSockets {
		t.Errorf("a guest made %d", len(many))
	}
}

func FuzzReadSockets(f *testing.F) {
	f.Add("tcp LISTEN 0 128 [::]:22 [::]:* users:((\"sshd\",pid=1,fd=3))")
	f.Fuzz(func(t *testing.T, out string) {
		for _, s := range readSockets(out) {
			if s.Port < 0 || s.Port > 65535 || s.Proto != "tcp" && s.Proto != "udp" || strings.ContainsAny(s.Address, " \n") {
				t.Errorf("%q gave %+v", out, s)
			}
		}
	})
}

// What listens is noted where there is a root shell, and its absence is no failure.
func TestNoteSockets(t *testing.T) {
	tools := t.TempDir()
	t.Setenv("PATH", tools+":"+os.Getenv("PATH"))
	for name, test := range map[string]struct {
		ss    string
		login string
		want  int
	}{
		"it is listed":    {"echo 'tcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:*'", accepted, 1},
		"ss fails":        {"echo 'tcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:*'; exit 1", accepted, 0},
		"nobody gets in":  {"echo 'tcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:*'", refused, 0},
		"nothing listens": {"true", accepted, 0},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(filepath.Join(tools, "ss"), []byte("#!/bin/sh\n"+test.ss+"\n"), 0o700); err != nil {
				t.Fatal(err)
			}
			r := newGuest(t, map[string]string{"login-ops": test.login}).inspect(t)
			_ = r.enter(t.Context()) // may be refused
			r.noteSockets(t.Context())
			if got := len(r.report.Listening); got != test.want || r.report.Failed != 0 {
				t.Errorf("%d sockets, want %d; %d failed", got, test.want, r.report.Failed)
			}
		})
	}
	t.Run("of a boot", func(t *testing.T) {
		if err := os.WriteFile(filepath.Join(tools, "ss"), []byte("#!/bin/sh\necho 'tcp LISTEN 0 128 [::]:22 [::]:*'\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		r := attesting(t, tasted(true), nil)
		r.patience = time.Minute
		if err := r.examine(t.Context()); err != nil || !slices.Equal(r.report.Listening, []Socket{{"tcp", "::", 22, ""}}) {
			t.Errorf("%v, %v", r.report.Listening, err)
		}
	})
}
