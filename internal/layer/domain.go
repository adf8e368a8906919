package layer

import (
	"bake/internal/diag"
	"bake/internal/doc"
)

// maxTag is what the virtio specification leaves for a file system's tag, in
// bytes.
const maxTag = 36

// A Share is a directory of the hypervisor that the guest can mount by
// virtiofs. Whoever is root in the guest writes to it as whoever runs
// virtiofsd, unless ReadOnly.
type Share struct {
	Dir      string // on the hypervisor, absolute
	Tag      string // by which the guest mounts it, at most 36 bytes
	ReadOnly bool   // enforced by the hypervisor, not by the guest
}

// domainShape demands, before any parameter is known, that the key domain asks
// for something.
func (l *loader) domainShape() {
	if l.domain == nil {
		return
	}
	get := l.domain.Fields("domain", &l.problems, "share")
	share := get("share")
	if share == nil {
		l.problems.Add(l.domain.Problem("domain", "", "the key %q is missing: nothing is asked of the machine", "share"))
		return
	}
	field := share.Fields("domain.share", &l.problems, "dir", "tag", "readonly")
	for _, key := range []string{"dir", "tag", "readonly"} {
		if share.Kind == doc.Map && field(key) == nil {
			l.problems.Add(share.Problem("domain.share", "", "the key %q is missing", key))
		}
	}
}

// readShares fills in the parameters and checks what comes out.
func (l *Layer) readShares(s *scope) []Share {
	if l.domain == nil {
		return nil
	}
	n := s.expand(l.domain.Get("share"), "domain.share")
	read := func(key, kind string) string {
		return readOne(n.Get(key), "domain.share."+key, Param{Type: kind}, s.problems)
	}
	share := Share{Dir: read("dir", "path"), Tag: read("tag", "name"), ReadOnly: read("readonly", "bool") == "true"}
	if len(share.Tag) > maxTag {
		s.problems.Add(n.Get("tag").Problem("domain.share.tag", "", "%q has %d bytes, virtiofs has room for %d",
			share.Tag, len(share.Tag), maxTag))
	}
	return []Share{share}
}

func readOne(n *doc.Node, path string, p Param, problems *diag.List) string {
	elements, ok := p.Read(n, path, problems)
	if !ok {
		return ""
	}
	return elements[0]
}
