// Package adopt makes a host file and layers of foreign user-data: what its
// author meant, in the form in which bake checks, merges and proves it.
//
// Each part becomes a layer: its files go into the layer's tree, its packages
// into the layer's list, everything else stays cloud-config. bake then merges
// the layers as it merges its own, so what cloud-init's merge of the parts
// drops (a list that a later part has too) has an effect again. Two parts that
// contradict each other keep the value that cloud-init would have used.
//
// It promises that a Plan renders: values that a layer cannot hold go to the
// host file's own cloud-config, and what cannot be carried at all is in Left,
// with its place. Nothing is written here.
//
// # Decisions
//
// 2026-11: scripts are files that runcmd or bootcmd runs, in the order of the
// parts. cloud-init sorts scripts by name and runs them beside runcmd's; an
// order that somebody relied on by naming files is the order of the parts too.
package adopt

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"bake/internal/cloudinit"
	"bake/internal/diag"
	"bake/internal/doc"
	"bake/internal/lazy"
)

// File is one that is to be written, below the configuration directory.
type File struct {
	Path    string
	Mode    fs.FileMode
	Content []byte
}

// A Plan is what foreign user-data becomes.
type Plan struct {
	Files []File    // the host file last
	Notes []string  // what is not quite as it was
	Left  diag.List // what has no place in it
}

// Host says what the host file is to say beside the layers.
type Host struct {
	Name string
	Key  string // of the admin; may be empty
}

type planner struct {
	Plan
	host   Host
	final  *doc.Node
	names  []string  // of the layers
	extra  *doc.Node // the host file's own cloud-config
	wins   []string  // its overrides
	taken  map[string]bool
	result cloudinit.Result
}

// Make plans the host file and layers.
func Make(result cloudinit.Result, host Host) (Plan, error) {
	if result.Fatal != "" {
		return Plan{Left: result.Lost()}, nil
	}
	p := planner{host: host, final: result.Config, extra: &doc.Node{Kind: doc.Map}, taken: map[string]bool{}, result: result}
	parts := result.Parts
	for _, part := range parts {
		if part.Type == "text/cloud-config-jsonp" && part.Verdict == cloudinit.Merged {
			parts = p.together(parts) // what a patch made has no part of its own
			break
		}
	}
	for _, part := range parts {
		if err := p.part(part); err != nil {
			return Plan{}, err
		}
	}
	for _, reason := range result.Uncertain {
		p.Left.Add(diag.Problem{Message: reason, Width: 1})
	}
	if len(p.names) == 0 && len(p.extra.Pairs) == 0 {
		p.Left.Add(diag.Problem{Message: "nothing in it could become a layer", Width: 1})
	}
	if err := p.hostFile(); err != nil {
		return Plan{}, err
	}
	return p.Plan, nil
}

// together replaces the parts of the configuration by one.
func (p *planner) together(parts []cloudinit.Part) []cloudinit.Part {
	p.Notes = append(p.Notes, "a JSON patch changes what other parts say: all of them are one layer, as cloud-init merges them")
	joined := []cloudinit.Part{{Name: "merged", Type: "text/cloud-config", Verdict: cloudinit.Merged, Config: p.final}}
	for _, part := range parts {
		if part.Verdict != cloudinit.Merged {
			joined = append(joined, part)
		}
	}
	return joined
}

func (p *planner) part(part cloudinit.Part) error {
	switch {
	case part.Verdict == cloudinit.Empty:
		return nil
	case part.Config != nil: // what is wrong with the merge type of a lost one is of no interest here
		return p.config(part)
	case part.Verdict == cloudinit.Script || part.Verdict == cloudinit.Boothook:
		return p.script(part)
	case part.Verdict == cloudinit.Lost && strings.HasPrefix(part.Text, "#!") && strings.HasPrefix(part.Type, "text/x-shellscript"):
		return p.script(part)
	case part.Verdict == cloudinit.Unknown || part.Verdict == cloudinit.Handler:
		return nil // result.Uncertain has it
	}
	p.Left.Add(diag.Problem{Pos: part.Pos, Path: part.Name, Message: fmt.Sprintf("this part is %s: %s", part.Verdict, part.Reason), Width: 1})
	return nil
}

var notLayer = lazy.Regexp(`[^a-z0-9]+`)

// layerName finds a name for a part's layer that is not taken.
func (p *planner) layerName(part string) string {
	base := strings.Trim(notLayer.ReplaceAllString(strings.ToLower(strings.TrimSuffix(part, path.Ext(part))), "-"), "-")
	if base == "" {
		base = "part"
	}
	base = p.host.Name + "-" + base
	base = base[:min(len(base), 55)]
	name := base
	for i := 2; p.taken[name]; i++ {
		name = fmt.Sprintf("%s-%d", base, i)
	}
	p.taken[name] = true
	return name
}

// scripts are kept where nobody but root writes.
const scripts = "/usr/local/lib/imported"

func (p *planner) script(part cloudinit.Part) error {
	l := newLayer(p.layerName(part.Name), part)
	target, key, when := scripts+"/"+l.name, "runcmd", "early"
	switch {
	case part.Verdict == cloudinit.Boothook:
		key, when = "bootcmd", "boot"
	case strings.HasPrefix(part.Type, "text/x-shellscript-per-"):
		target, key = "/var/lib/cloud/scripts/"+strings.TrimPrefix(part.Type, "text/x-shellscript-")+"/"+l.name, ""
	}
	l.file(target, "0755", "", when, []byte(part.Text))
	if key != "" {
		l.config.Set(key, &doc.Node{Kind: doc.List, Items: []*doc.Node{doc.Words(target)}})
	}
	if part.Reason != "" {
		p.Notes = append(p.Notes, fmt.Sprintf("%s: %s", part.Pos, part.Reason))
	}
	return p.add(l)
}

func (p *planner) add(l *layer) error {
	files, err := l.files()
	if err != nil {
		return err
	}
	p.Files = append(p.Files, files...)
	p.names = append(p.names, l.name)
	return nil
}

// hostFile writes the host file.
func (p *planner) hostFile() error {
	var text strings.Builder
	fmt.Fprintf(&text, `# The machine %[1]s, imported from foreign user-data. Each part of it is a layer; bake layers
# shows those that bake brings along: ssh and ufw, for example, are worth having.
host: %[1]s

# The image to start from: fetched, verified and pinned in bake.lock by the first bake image.
base: ubuntu:24.04       # or debian:13, or a local qcow2 file: ./base.qcow2

machine:
  vcpus: 2
  memory: 3GiB
  disk: 60GiB

# The one person who can log in, with a key and in no other way.
admin:
  name: ops
`, p.host.Name)
	if p.host.Key != "" {
		fmt.Fprintf(&text, "  keys:\n    - %s\n", p.host.Key)
	} else {
		text.WriteString("  keys: []             # put your public key here: a line of ~/.ssh/id_ed25519.pub\n")
	}
	if len(p.names) > 0 {
		text.WriteString("\nlayers:\n")
		for _, name := range p.names {
			fmt.Fprintf(&text, "  - %s\n", name)
		}
	}
	if len(p.extra.Pairs) > 0 {
		own, err := doc.Emit((&doc.Node{Kind: doc.Map}).Set("cloud-config", p.extra))
		if err != nil {
			return errors.Join(errors.New("writing the host file's cloud-config"), err)
		}
		text.WriteString("\n# What no layer can hold.\n" + string(own))
	}
	if len(p.wins) > 0 {
		fmt.Fprintf(&text, "override: [%s]\n", strings.Join(p.wins, ", "))
	}
	p.Files = append(p.Files, File{"hosts/" + p.host.Name + ".yaml", 0o644, []byte(text.String())})
	return nil
}
