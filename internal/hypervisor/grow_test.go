package hypervisor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestConsoleGrows: nothing is lost or waits of a log that is written all the while.
func TestConsoleGrows(t *testing.T) {
	root, uri := daemon(t)
	h := connect(t, uri)
	log := filepath.Join(root, "console.log")
	file, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	done := make(chan error)
	line := strings.Repeat("x", 99) + "\n"
	go func() {
		var err error
		for i := 0; i < 3000 && err == nil; i++ {
			_, err = file.WriteString(line)
			time.Sleep(300 * time.Microsecond)
		}
		done <- err
	}()
	c := &Console{From: h, Log: log, To: filepath.Join(t.TempDir(), "console.log")}
	for isOver := false; !isOver; {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			isOver = true
		default:
		}
		if err := c.Pull(); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(c.To)
	if err != nil || string(got) != strings.Repeat(line, 3000) {
		t.Errorf("%d bytes of %d, %v", len(got), 3000*len(line), err)
	}
}
