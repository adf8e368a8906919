package openclaw

import "testing"

func TestAllows(t *testing.T) {
	for _, c := range []struct {
		list list
		want bool
	}{
		{nil, true}, {list{"linux"}, true}, {list{"darwin", "linux"}, true}, {list{"any"}, true}, {list{"!win32"}, true},
		{list{"darwin"}, false}, {list{"!linux"}, false}, {list{"linux", "!linux"}, false}, {list{"!win32", "darwin"}, false},
	} {
		if got := c.list.allows("linux"); got != c.want {
			t.Errorf("%q: %t", c.list, got)
		}
	}
}
