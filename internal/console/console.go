// Package console reads what a machine prints on its serial console.
//
// The console is the one channel that is wired to the hypervisor and to nothing
// else: what comes there comes from this machine, whoever is on the network. It is
// also written by the machine, so it is foreign bytes: text is bounded and clean
// of whatever drives a terminal before anything is read from it.
package console

import "strings"

const tailLines = 15

// Tail returns the last of some lines, each on a line of its own and marked, for
// the end of a message.
func Tail(lines []string) string {
	return "\n  | " + strings.Join(lines[max(0, len(lines)-tailLines):], "\n  | ")
}
