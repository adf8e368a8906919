package main

// How much memory there is for machines and builds.

import (
	"bufio"
	"bytes"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// freeMemory is what can be had: what the kernel thinks or, in a container or service that may
// have less, what is left of that. It is 0 where nobody says.
func freeMemory(root fs.FS) int64 {
	free := number(field(root, "proc/meminfo", "MemAvailable:")) << 10
	for line := range bytes.Lines(read(root, "proc/self/cgroup")) {
		group, ok := strings.CutPrefix(strings.TrimSpace(string(line)), "0::")
		if !ok {
			continue // of cgroup 1
		}
		for at := path.Join("sys/fs/cgroup", group); strings.HasPrefix(at, "sys/fs/cgroup"); at = path.Dir(at) {
			limit := number(strings.TrimSpace(string(read(root, path.Join(at, "memory.max")))))
			if limit == 0 {
				continue // max, or the root
			}
			used := number(strings.TrimSpace(string(read(root, path.Join(at, "memory.current")))))
			cache := number(field(root, path.Join(at, "memory.stat"), "inactive_file")) // given back when asked for
			free = min(free, max(limit-max(used-cache, 0), 0))
		}
	}
	return free
}

func read(root fs.FS, name string) []byte {
	content, _ := fs.ReadFile(root, name) // what is not there says nothing
	return content
}

// field is the second word of the line that begins with a word.
func field(root fs.FS, name, word string) string {
	for lines := bufio.NewScanner(bytes.NewReader(read(root, name))); lines.Scan(); {
		if words := strings.Fields(lines.Text()); len(words) >= 2 && words[0] == word {
			return words[1]
		}
	}
	return ""
}

func number(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}
