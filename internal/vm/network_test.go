package vm

import (
	"net/netip"
	"testing"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func TestLAN(t *testing.T) {
	for _, test := range []struct {
		name string
		spec Spec
		want lan // zero: an error
	}{
		{"dhcp", Spec{}, lan{addr("10.0.2.15"), ",restrict=off"}},
		{"dhcp offline", Spec{Offline: true}, lan{addr("10.0.2.15"), ",restrict=on"}},
		{"static", Spec{Address: prefix("192.0.2.7/24"), Gateway: addr("192.0.2.1")},
			lan{addr("192.0.2.7"), ",restrict=off,net=192.0.2.0/24,host=192.0.2.1,dhcpstart=192.0.2.7,dns=192.0.2.2"}},
		{"no gateway", Spec{Address: prefix("192.0.2.1/24")},
			lan{addr("192.0.2.1"), ",restrict=off,net=192.0.2.0/24,host=192.0.2.2,dhcpstart=192.0.2.1,dns=192.0.2.3"}},
		{"smallest", Spec{Address: prefix("10.77.0.2/30"), Gateway: addr("10.77.0.1")},
			lan{addr("10.77.0.2"), ",restrict=off,net=10.77.0.0/30,host=10.77.0.1,dhcpstart=10.77.0.2,dns=10.77.0.3"}},
		{"IPv6", Spec{Address: prefix("2001:db8::2/64")}, lan{}},
		{"too small", Spec{Address: prefix("192.0.2.7/31")}, lan{}},
		{"too large", Spec{Address: prefix("192.0.2.7/3")}, lan{}},
		{"foreign gateway", Spec{Address: prefix("192.0.2.7/24"), Gateway: addr("198.51.100.1")}, lan{}},
		{"own gateway", Spec{Address: prefix("192.0.2.7/24"), Gateway: addr("192.0.2.7")}, lan{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := newLAN(test.spec)
			if got != test.want || (err == nil) != (test.want != lan{}) {
				t.Errorf("newLAN = %+v, %v; want %+v", got, err, test.want)
			}
		})
	}
}

func TestParseForwards(t *testing.T) {
	const text = `Hub -1 (net0):
  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ
  TCP[HOST_FORWARD]  12       127.0.0.1 39417       10.77.0.2    22     0     0
  TCP[ESTABLISHED]   14       127.0.0.1 39418       10.77.0.2    22     0     0
  TCP[HOST_FORWARD]  15         0.0.0.0 39419       10.77.0.2    23     0     0
  TCP[HOST_FORWARD]  16       127.0.0.1 99999       10.77.0.2    24     0     0
  UDP[HOST_FORWARD]  17       127.0.0.1 39420       10.77.0.2    25     0     0
`
	got := parseForwards(text)
	if len(got) != 1 || !got[39417] {
		t.Errorf("parseForwards = %v, want 39417 alone", got)
	}
}
