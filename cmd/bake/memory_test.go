package main

import (
	"os"
	"testing"
	"testing/fstest"
)

func TestFreeMemory(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	const meminfo = "MemTotal:       16000000 kB\nMemAvailable:    8000000 kB\n"
	const all = int64(8000000) << 10
	for name, test := range map[string]struct {
		root fstest.MapFS
		want int64
	}{
		"nothing is said": {fstest.MapFS{}, 0},
		"no group":        {fstest.MapFS{"proc/meminfo": file(meminfo)}, all},
		"cgroup 1":        {fstest.MapFS{"proc/meminfo": file(meminfo), "proc/self/cgroup": file("5:memory:/x\n")}, all},
		"no limit": {fstest.MapFS{"proc/meminfo": file(meminfo), "proc/self/cgroup": file("0::/a\n"),
			"sys/fs/cgroup/a/memory.max": file("max\n"), "sys/fs/cgroup/a/memory.current": file("100\n")}, all},
		"a container": {fstest.MapFS{"proc/meminfo": file(meminfo), "proc/self/cgroup": file("0::/\n"), "sys/fs/cgroup/memory.max": file("3000\n"),
			"sys/fs/cgroup/memory.current": file("2000\n"), "sys/fs/cgroup/memory.stat": file("anon 500\ninactive_file 1500\n")}, 2500},
		"the slice has less": {fstest.MapFS{"proc/meminfo": file(meminfo), "proc/self/cgroup": file("0::/a/b\n"), "sys/fs/cgroup/a/memory.max": file("1000\n"),
			"sys/fs/cgroup/a/memory.current": file("900\n"), "sys/fs/cgroup/a/b/memory.max": file("3000\n")}, 100},
		"it is used up": {fstest.MapFS{"proc/meminfo": file(meminfo), "proc/self/cgroup": file("0::/a\n"), "sys/fs/cgroup/a/memory.max": file("1000\n"),
			"sys/fs/cgroup/a/memory.current": file("2000\n")}, 0},
		"a large limit": {fstest.MapFS{"proc/meminfo": file(meminfo), "proc/self/cgroup": file("0::/a\n"), "sys/fs/cgroup/a/memory.max": file("99999999999999\n")}, all},
	} {
		if got := freeMemory(test.root); got != test.want {
			t.Errorf("%s: %d, want %d", name, got, test.want)
		}
	}
	if got := freeMemory(os.DirFS("/")); got <= 0 {
		t.Errorf("here: %d", got)
	}
}
