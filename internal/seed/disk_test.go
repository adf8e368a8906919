package seed

import (
	"strings"
	"testing"
)

// TestDiskSizes: what is said of a disk is as large as the host file has it.
func TestDiskSizes(t *testing.T) {
	for mib, want := range map[int64]string{10 << 10: "10 GiB", 1536: "1536 MiB", 64: "64 MiB"} {
		h := zap(t)
		h.Base, h.Machine.Disk, h.Machine.State = "debian:13", mib<<20, mib<<20
		disks, err := sample().Disks(h)
		if err != nil {
			t.Fatal(err)
		}
		last := disks[len(disks)-1]
		if got := disks[0].Content[0]; got != "debian:13, "+want || last.Name != "bake-state" || last.Content[0] != want {
			t.Errorf("%q and %s, want %s", got, strings.Join(last.Content, ", "), want)
		}
	}
}
