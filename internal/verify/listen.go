package verify

import (
	"context"
	"strconv"
	"strings"

	"bake/internal/lazy"
)

// A Socket is where a program in the guest takes what comes.
type Socket struct {
	Proto   string `json:"proto"` // tcp or udp
	Address string `json:"address"`
	Port    int    `json:"port"`
	Program string `json:"program,omitempty"`
}

const (
	listSockets = "ss -Hlntup"
	maxSockets  = 256 // that a guest can make a report of
)

// noteSockets notes what listens in the guest, where somebody has a shell in it. It is no
// claim: what may be reached is decided by what answers outside.
func (r *run) noteSockets(ctx context.Context) {
	if r.root == nil {
		return
	}
	if out, exit, err := r.execute(ctx, listSockets); err == nil && exit == 0 {
		r.report.Listening = readSockets(out)
	}
}

var firstProgram = lazy.Regexp(`^users:\(\("([^"]{1,64})"`)

// readSockets reads what ss prints. A line that is another is left out.
func readSockets(out string) (all []Socket) {
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if len(fields) < 6 || fields[0] != "tcp" && fields[0] != "udp" || len(all) == maxSockets {
			continue
		}
		colon := strings.LastIndexByte(fields[4], ':')
		port, err := strconv.ParseUint(fields[4][colon+1:], 10, 16)
		if err != nil || colon < 1 {
			continue
		}
		s := Socket{Proto: fields[0], Address: strings.Trim(fields[4][:colon], "[]"), Port: int(port)}
		if m := firstProgram.FindStringSubmatch(strings.Join(fields[6:], " ")); m != nil {
			s.Program = m[1]
		}
		all = append(all, s)
	}
	return all
}
