package verify

import (
	"slices"
	"strings"
	"testing"
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
