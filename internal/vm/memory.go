package vm

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// memory is what Accelerator keeps between runs: an answer, and the identity
// of everything that it depends on.
type memory struct {
	Boot   string // the running kernel's boot id
	QEMU   string // the program's path, inode, size and modification time
	Device string // /dev/kvm's number, owner and mode, and who asks
	Accel  string
	Reason string
}

const memoryFile = "accelerator.json"

// recall returns the remembered answer, or a memory without one.
func recall(dir, program string) memory {
	now := memory{QEMU: identity(program), Device: identity("/dev/kvm")}
	now.Device += fmt.Sprintf(" for %d:%d", os.Geteuid(), os.Getegid())
	if boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		now.Boot = strings.TrimSpace(string(boot))
	}
	if dir == "" {
		return now
	}
	var old memory
	text, err := os.ReadFile(filepath.Join(dir, memoryFile))
	if err != nil || json.Unmarshal(text, &old) != nil {
		return now
	}
	known := old.Accel == kvm || old.Accel == tcg
	if known && old.Boot == now.Boot && old.QEMU == now.QEMU && old.Device == now.Device {
		return old
	}
	return now
}

// store remembers an answer. It is a saving of time only, so a directory that
// cannot be written is no failure.
func (m memory) store(dir string) {
	if dir == "" || m.Boot == "" || os.MkdirAll(dir, 0o700) != nil {
		return
	}
	text, err := json.Marshal(m)
	if err != nil {
		return
	}
	file, err := os.CreateTemp(dir, memoryFile+".*") // mode 0600
	if err != nil {
		return
	}
	defer os.Remove(file.Name())
	_, err = file.Write(text)
	if file.Close() != nil || err != nil {
		return
	}
	_ = os.Rename(file.Name(), filepath.Join(dir, memoryFile))
}

// identity describes a file so that another file, or a changed one, differs.
func identity(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	if info.Mode()&os.ModeDevice != 0 {
		return fmt.Sprintf("%s %x %d:%d %v", path, stat.Rdev, stat.Uid, stat.Gid, info.Mode())
	}
	return fmt.Sprintf("%s %d %d %d", path, stat.Ino, info.Size(), info.ModTime().UnixNano())
}
