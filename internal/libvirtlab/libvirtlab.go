// Package libvirtlab starts a libvirtd in namespaces of its own, for the tests that talk
// to one. Only tests import it.
package libvirtlab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// script is what starts it, from the directory of any package two levels down.
const script = "../../testdata/lab/libvirt"

// patience bounds the start; a busy machine needs some seconds.
const patience = 2 * time.Minute

// Start starts one with its files in dir, whose path must be short, for a socket's is, and
// returns the number of a process in its namespaces. end ends it and its guests, also when
// there is an error; so does the end of this process, however it comes.
func Start(dir string) (pid int, end func(), err error) {
	cmd := exec.Command(script, dir)
	cmd.Stderr = os.Stderr
	input, err := cmd.StdinPipe() // whose end is its end
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return 0, func() {}, err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // and all in its namespaces with it
		close(ended)
	}()
	end = func() {
		_ = input.Close()
		<-ended
	}
	for deadline := time.After(patience); ; {
		if _, err := os.Stat(filepath.Join(dir, "ready")); err == nil {
			break
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ended:
			return 0, end, errors.New("there is no libvirtd: the lab has ended, see above")
		case <-deadline:
			log, _ := os.ReadFile(filepath.Join(dir, "libvirtd.log"))
			return 0, end, fmt.Errorf("libvirtd does not start: %s", log)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "pid"))
	if err == nil {
		pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
	}
	return pid, end, err
}
