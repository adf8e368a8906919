package lint

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"bake/internal/diag"
	"bake/internal/doc"
	"bake/internal/host"
	"bake/internal/lazy"
	"bake/internal/tool"
)

// JudgeHost asks the programs that will read a host's files, as far as they are
// installed here, what they think of them. What they refuse is an error under the
// rule judge.
func JudgeHost(ctx context.Context, box tool.Box, h *host.Host) []Finding {
	w := &world{config: &doc.Node{Kind: doc.Map}, host: h, units: map[string]*unit{}}
	for i := range h.Layers {
		for j := range h.Layers[i].Files {
			f := &h.Layers[i].Files[j]
			w.files = append(w.files, &file{path: f.Path, mode: int64(f.Mode.Perm()), owner: f.Owner, text: string(f.Content), layer: f})
		}
	}
	if n := h.Config.Get("write_files"); n != nil {
		for i, entry := range n.Items {
			w.files = append(w.files, readFile(entry, fmt.Sprintf("cloud-config.write_files[%d]", i)))
		}
	}
	return w.judge(ctx, box)
}

// JudgeFile does the same with the files in a foreign cloud-config.
func JudgeFile(ctx context.Context, box tool.Box, name string, data []byte) []Finding {
	w, ok := readWorld(name, data)
	if !ok {
		return nil // said by File
	}
	return w.judge(ctx, box)
}

// readWorld reads the files of a foreign cloud-config.
func readWorld(name string, data []byte) (w *world, ok bool) {
	root, _, err := doc.Foreign(name, data)
	if err != nil || root.Kind != doc.Map {
		return nil, false
	}
	w = &world{config: root, units: map[string]*unit{}}
	w.readFiles()
	return w, true
}

// judges are programs that read a guest's file and say whether it is right; FILE is
// a copy of it.
var judges = []struct {
	of      func(path string) bool
	name    string // of the copy, "" for the file's own
	program string
	args    []string
	line    lazy.Regexp // where in what it says the line is
	beside  lazy.Regexp // what it says of this machine, which is not the guest: no fault
}{
	{func(p string) bool {
		return p == "/etc/sudoers" || path.Dir(p) == "/etc/sudoers.d" && !strings.Contains(path.Base(p), ".")
	}, "", "visudo", words("-cf FILE"), lazy.Regexp(`:(\d+):\d+: `), ""},
	{func(p string) bool {
		return p == "/etc/ssh/sshd_config" || path.Dir(p) == "/etc/ssh/sshd_config.d" && strings.HasSuffix(p, ".conf")
	}, "", "sshd", words("-t -f FILE"), lazy.Regexp(`line (\d+)`),
		lazy.Regexp(`no hostkeys available|privilege separation (?:user|directory)|Privilege separation user|Unable to load host key|Permission denied`)},
	{func(p string) bool { return p == "/etc/docker/daemon.json" }, "", "dockerd", words("--validate --config-file FILE"), "", ""},
	{func(p string) bool {
		user, is := unitDir(path.Dir(p))
		return is && !user && hasUnitEnd(p)
	}, "", "systemd-analyze", words("verify --man=no FILE"), lazy.Regexp(`:(\d+): `),
		lazy.Regexp(`Command \S+ is not executable|Unit \S+ not found|Failed to initialize path lookup|Failed to (?:connect to|open) .*bus`)},
	{func(p string) bool { return p == "/etc/iptables/rules.v4" || p == "/etc/iptables/rules.v6" }, "", "unshare", words("-rn iptables-restore FILE"), lazy.Regexp(`line:? (\d+)`), lazy.Regexp(`unshare failed`)},
}

func (w *world) judge(ctx context.Context, box tool.Box) []Finding {
	dir, err := os.MkdirTemp("", "bake-lint-")
	if err != nil {
		return nil
	}
	defer os.RemoveAll(dir)
	for _, f := range w.files {
		for _, j := range judges {
			if f.hidden || f.append || f.text == "" || !j.of(f.path) {
				continue
			}
			copied := filepath.Join(dir, path.Base(f.path))
			if err := os.WriteFile(copied, []byte(f.text), 0o600); err != nil {
				continue
			}
			args := append([]string(nil), j.args...)
			for i := range args {
				args[i] = strings.ReplaceAll(args[i], "FILE", copied)
			}
			out, err := box.Run(ctx, j.program, args...)
			var missing *tool.MissingError
			if err == nil || errors.As(err, &missing) {
				continue
			}
			if said := faults(string(out)+"\n"+err.Error(), j.beside); said != "" {
				w.condemn(f, j.program, j.line, strings.ReplaceAll(said, copied, f.path))
			}
		}
	}
	return w.sorted()
}

// faults leaves out of what a judge has said what is about this machine.
func faults(said string, beside lazy.Regexp) string {
	var left []string
	for line := range strings.SplitSeq(strings.ReplaceAll(said, "; ", "\n"), "\n") {
		if line = strings.TrimSpace(line); line != "" && (beside == "" || !beside.MatchString(line)) {
			left = append(left, line)
		}
	}
	return strings.Join(left, "; ")
}

// condemn reports what a judge has said, on the line that it names.
func (w *world) condemn(f *file, program string, line lazy.Regexp, said string) {
	at := f.at(0, 0, 1)
	if line != "" {
		if m := line.FindStringSubmatch(said); m != nil {
			n, _ := strconv.Atoi(m[1])
			at = f.at(max(0, n-1), 0, 1)
		}
	}
	said = strings.Join(strings.Fields(said), " ")
	w.report("judge", at, "%s refuses %s: %s", program, f.path, diag.Printable(said))
}
