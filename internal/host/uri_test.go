package host

import (
	"strings"
	"testing"
)

func TestURIs(t *testing.T) {
	for uri, want := range map[string]string{
		"qemu:///system":                             "system",
		"qemu+unix:///session":                       "session",
		"qemu:///system?socket=/x/y":                 "system",
		"qemu+ssh://ops@hv:2222/system":              "system",
		"qemu+ssh://root@[::1]:2222/system":          "system",
		"qemu+ssh://[fe80::1%25eth0]/system":         "system",
		"qemu+ssh://EXAMPLE%5Cops@hv/system":         "!characters that ssh could take",
		"qemu+ssh://ops%40example.org@hv/system":     "system",
		"qemu+ssh://hv/system?keyfile=/root/.ssh/hv": "system",
		"qemu+ssh://hv/system?keyfile=-x":            "!the keyfile is ssh's",
		"qemu:///system?keyfile=/x":                  "!the keyfile is ssh's",
		"qemu+ssh://hv/system?keyfile=/x&keyfile=/y": "!once each",
		"qemu+ssh://hv:0/system":                     "!the port is none",
		"qemu+ssh://hv:65536/system":                 "!the port is none",
		"qemu+ssh://[::1%25-x]/system":               "!characters that ssh could take",
		"xen:///system":                              "!the scheme \"xen\" is not known",
		"qemu:///":                                   "!it ends in neither",
		"qemu://hv/system":                           "!a host goes with qemu+ssh",
		"qemu+ssh:///system":                         "!a host goes with qemu+ssh",
		"qemu+tcp://hv/system":                       "!the scheme \"qemu+tcp\" is not known",
		"qemu+ssh://a:b@hv/system":                   "!a password has no place",
		"qemu:///system?no_verify=1":                 "!of parameters there are socket",
		"qemu:///system?socket=y":                    "!no absolute path",
		"qemu:///system?socket=/a%20b":               "!no absolute path",
		"qemu+ssh://-oProxyCommand=x/system":         "!characters that ssh could take",
		"qemu+ssh://-l@hv/system":                    "!characters that ssh could take",
		"kubevirt://machines":                        "!is a cluster and no libvirt",
		"%":                                          "!invalid URL escape",
	} {
		p, err := ParseURI(uri)
		if bad, isBad := strings.CutPrefix(want, "!"); isBad {
			if err == nil || !strings.Contains(err.Error(), bad) {
				t.Errorf("%s: error %v, want one with %q", uri, err, bad)
			}
		} else if err != nil || p.Instance != want {
			t.Errorf("%s: %+v, %v", uri, p, err)
		}
	}
}

func TestClusters(t *testing.T) {
	for uri, want := range map[string]Cluster{
		"kubevirt://machines":                        {"machines", ""},
		"kubevirt://a-1/":                            {"a-1", ""},
		"kubevirt://a?context=x%3Ay%2Fz%40eu%20west": {"a", "x:y/z@eu west"},
	} {
		if got, err := ParseCluster(uri); err != nil || got != want || !IsCluster(uri) {
			t.Errorf("%s: %+v, %v", uri, got, err)
		}
	}
	for _, uri := range []string{"kubevirt:machines", "kubevirt://", "kubevirt:///a", "kubevirt://A", "kubevirt://a.b", "kubevirt://a/b", "kubevirt://x@a", "kubevirt://a:1",
		"kubevirt://a?context=", "kubevirt://a?context=x&context=y", "kubevirt://a?ctx=x", "kubevirt://a?%zz", "kubevirt://a#b", "kubevirt://-", "kubevirt://..", "qemu:///system", "%"} {
		if got, err := ParseCluster(uri); err == nil {
			t.Errorf("%s is %+v", uri, got)
		}
	}
}
