package inspect

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"
)

// A Package is one that dpkg has installed.
type Package struct {
	Name         string `json:"name"`
	Version      string `json:"version"` // with epoch and revision, as dpkg compares it
	Architecture string `json:"architecture"`
}

// installed parses dpkg's status file into the installed packages, by name and
// architecture. A package that waits for a trigger is installed; one of which
// only the configuration is left, or that was half configured, is not.
func installed(text string) []Package {
	list := []Package{}
	stanzas(text, func(fields map[string]string) {
		status := strings.Fields(fields["status"])
		if len(status) != 3 || !slices.Contains([]string{"installed", "triggers-awaited", "triggers-pending"}, status[2]) {
			return
		}
		p := Package{line(fields["package"]), line(fields["version"]), line(fields["architecture"])}
		if p.Name != "" && p.Version != "" {
			list = append(list, p)
		}
	})
	slices.SortStableFunc(list, func(a, b Package) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Architecture, b.Architecture))
	})
	return list
}

// machines of an ELF file, in Debian's words.
var machines = map[uint16]string{
	3: "i386", 21: "ppc64el", 22: "s390x", 40: "armhf", 62: "amd64", 183: "arm64", 243: "riscv64",
}

// elfArchitecture returns the architecture of a program, or "" for one that is not known.
func elfArchitecture(program []byte) string {
	if len(program) < 20 || string(program[:4]) != "\x7fELF" {
		return ""
	}
	order := binary.ByteOrder(binary.LittleEndian)
	if program[5] == 2 {
		order = binary.BigEndian
	}
	return machines[order.Uint16(program[18:])]
}
