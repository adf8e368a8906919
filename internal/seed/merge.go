package seed

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"
	"unicode/utf8"

	"bake/internal/attest"
	"bake/internal/claim"
	"bake/internal/diag"
	"bake/internal/doc"
	"bake/internal/host"
	"bake/internal/layer"
)

// merger folds trees into one and keeps what contradicts.
type merger struct {
	problems diag.List
	host     bool     // the tree being merged is the host file's own
	winning  []string // dotted keys that it may overwrite
}

// merge returns the one cloud-config of a host.
func merge(h *host.Host, s Seed, payload *Payload) (*doc.Node, error) {
	m := merger{}
	config := machine(h)
	own, err := ownFiles(h, s, payload)
	if err != nil {
		return nil, err
	}
	m.files(config, h, own)
	var packages []string
	for _, rendered := range h.Layers {
		for _, name := range rendered.Packages {
			// cloud-init knows no alternatives; the last is the one that every release has.
			packages = append(packages, name[strings.LastIndexByte(name, '|')+1:])
		}
		if rendered.CloudConfig != nil {
			config = m.fold("", config, rendered.CloudConfig)
		}
	}
	if slices.Sort(packages); len(packages) > 0 && !h.Offline {
		config = m.fold("", config, (&doc.Node{Kind: doc.Map}).
			Set("package_update", &doc.Node{Kind: doc.Bool, Text: "true"}).
			Set("packages", doc.Words(slices.Compact(packages)...)))
	}
	if h.Config != nil {
		m.host, m.winning = true, h.Winning
		config = m.fold("", config, h.Config)
	}
	sortKeys(config)
	return config, m.problems.Err()
}

// machine is what the host file itself says, as cloud-config: the name and the
// one admin. Listing users without "default" leaves the image's own default
// user out.
func machine(h *host.Host) *doc.Node {
	yes := from(h.File, &doc.Node{Kind: doc.Bool, Text: "true"})
	admin := from(h.File, &doc.Node{Kind: doc.Map}).
		Set("name", doc.Text(h.Admin.Name)).
		Set("gecos", doc.Text("Administrator of "+h.Name)).
		Set("shell", doc.Text("/bin/bash")).
		Set("lock_passwd", yes).
		Set("sudo", doc.Text("ALL=(ALL) NOPASSWD:ALL")). // not a list: 22.4's schema has none
		Set("ssh_authorized_keys", doc.Words(h.Admin.Keys...))
	return (&doc.Node{Kind: doc.Map}).
		Set("manage_etc_hosts", yes).
		Set("users", &doc.Node{Kind: doc.List, Items: []*doc.Node{admin}})
}

// fold merges b into a copy of a.
func (m *merger) fold(path string, a, b *doc.Node) *doc.Node {
	switch {
	case slices.Contains(m.winning, path):
		return b
	case a.Kind == doc.Map && b.Kind == doc.Map:
		out := *a
		out.Pairs = slices.Clone(a.Pairs)
		for _, pair := range b.Pairs {
			if have := out.Get(pair.Key.Text); have != nil {
				out.Set(pair.Key.Text, m.fold(doc.Join(path, pair.Key.Text), have, pair.Value))
			} else {
				out.Pairs = append(out.Pairs, pair)
			}
		}
		return &out
	case a.Kind == doc.List && b.Kind == doc.List:
		out := *a
		out.Items = slices.Concat(a.Items, b.Items)
		return &out
	case a.Equal(b):
		return a
	}
	hint := "leave one of the two layers out, or replace it with one of your own"
	if m.host {
		hint = "remove this line, or add `override: [" + path + "]` to make it win"
	}
	m.problems.Add(b.Problem(path, hint, "this is %s, but %s has %s", show(b), place(a), show(a)))
	return a
}

func show(n *doc.Node) string {
	if n.Scalar() && n.Kind != doc.Null {
		return fmt.Sprintf("%q", n.Text)
	}
	return string(n.Kind)
}

func place(n *doc.Node) string {
	if n.Pos.File == "" {
		return "bake itself"
	}
	return n.Pos.String()
}

// files adds the layers' files: those for bootcmd as here-documents at its
// start, the others as write_files.
func (m *merger) files(config *doc.Node, h *host.Host, own []layer.File) {
	type origin struct{ layer, file string }
	owner := map[string]origin{}
	boot, write := &doc.Node{Kind: doc.List}, &doc.Node{Kind: doc.List}
	for _, rendered := range slices.Concat(h.Layers, []layer.Rendered{{Name: "bake itself", Files: own}}) {
		for _, file := range rendered.Files {
			if other, twice := owner[file.Path]; twice {
				m.problems.Add(diag.Problem{Pos: diag.Position{File: file.Origin}, Path: file.Path,
					Message: fmt.Sprintf("the layer %s writes this file too, from %s", other.layer, other.file),
					Hint:    "leave one of the two out"})
				continue
			}
			owner[file.Path] = origin{rendered.Name, file.Origin}
			if file.When == layer.Boot {
				boot.Items = append(boot.Items, from(file.Origin, doc.Text(hereDocument(file))))
			} else {
				write.Items = append(write.Items, from(file.Origin, writeFile(file)))
			}
		}
	}
	if len(boot.Items) > 0 {
		config.Set("bootcmd", from(boot.Items[0].Pos.File, boot))
	}
	if len(write.Items) > 0 {
		config.Set("write_files", from(write.Items[0].Pos.File, write))
	}
}

// ownFiles are files of the machine that are no layer's: the list of the layers,
// after whose files it is written, the digests of what else is on the seed, and
// what the payload must be.
func ownFiles(h *host.Host, s Seed, p *Payload) ([]layer.File, error) {
	if !h.Attests() {
		return nil, nil
	}
	list, _, err := h.Applied()
	if err != nil {
		return nil, err
	}
	sums := fmt.Appendf(nil, "%x  %s\n%x  %s\n", digestOf(s.Program), attest.Program,
		sha256.Sum256(s.Claims), attest.Claims)
	files := []layer.File{
		{Path: claim.LayersFile, Mode: 0o600, Owner: "root:root", When: layer.Early, Content: []byte(list), Origin: h.File},
		{Path: attest.Dir + "/" + attest.Sums, Mode: 0o600, Owner: "root:root", When: layer.Boot, Content: sums, Origin: h.File},
	}
	if p != nil {
		for name, content := range map[string]string{
			"payload.sha256":   p.SHA256 + "  " + payloadDisk + "\n",
			"payload.packages": lines(p.Packages),
			"payload.trees":    lines(p.Trees),
		} {
			files = append(files, layer.File{Path: attest.Dir + "/" + name, Mode: 0o600, Owner: "root:root", When: layer.Boot,
				Content: []byte(content), Origin: h.File})
		}
		slices.SortFunc(files, func(a, b layer.File) int { return strings.Compare(a.Path, b.Path) })
	}
	return files, nil
}

// digests are those of the programs that were on a seed, by where they are in memory:
// all hosts of a run share one, and hashing it costs more than all else of a seed. A
// key keeps its program where it is, so that no other can come to be there.
var digests sync.Map

func digestOf(program []byte) [sha256.Size]byte {
	if len(program) == 0 {
		return sha256.Sum256(nil)
	}
	type place struct {
		start *byte
		size  int
	}
	at := place{&program[0], len(program)}
	if known, ok := digests.Load(at); ok {
		return known.([sha256.Size]byte)
	}
	sum := sha256.Sum256(program)
	digests.Store(at, sum)
	return sum
}

// payloadDisk is where the guest sees the disk with the serial bake-payload.
const payloadDisk = "/dev/disk/by-id/virtio-bake-payload"

func lines(words []string) string {
	if len(words) == 0 {
		return ""
	}
	return strings.Join(words, "\n") + "\n"
}

// from notes which file a value that bake made up comes from.
func from(file string, n *doc.Node) *doc.Node {
	n.Pos.File = file
	return n
}

func writeFile(file layer.File) *doc.Node {
	n := (&doc.Node{Kind: doc.Map}).
		Set("path", doc.Text(file.Path)).
		Set("permissions", doc.Text(fmt.Sprintf("%04o", file.Mode.Perm()))).
		Set("owner", doc.Text(file.Owner))
	if file.When == layer.Late {
		n.Set("defer", &doc.Node{Kind: doc.Bool, Text: "true"})
	}
	if isText(file.Content) {
		return n.Set("content", doc.Text(string(file.Content)))
	}
	return n.Set("encoding", doc.Text("b64")).
		Set("content", doc.Text(base64.StdEncoding.EncodeToString(file.Content)))
}

func isText(content []byte) bool {
	return utf8.Valid(content) && !slices.ContainsFunc(content, func(b byte) bool {
		return b < ' ' && b != '\n' && b != '\t' || b == 0x7f
	})
}

// hereDocument returns shell text that writes a file whole or not at all. Programs are
// started for what the shell cannot do alone: the machine waits for each.
func hereDocument(file layer.File) string {
	content, decode := string(file.Content), "cat "
	if !isText(file.Content) || !strings.HasSuffix(content, "\n") {
		content, decode = base64.StdEncoding.EncodeToString(file.Content)+"\n", "base64 -d "
	}
	end := "END"
	for strings.Contains("\n"+content, "\n"+end+"\n") {
		end += "_"
	}
	temporary := file.Path + ".bake"
	dir := file.Path[:strings.LastIndexByte(file.Path, '/')+1]
	return fmt.Sprintf("[ -d %[1]s ] || mkdir -p %[1]s && %[2]s>%[3]s <<'%[4]s' && chmod %04[5]o %[3]s && mv -f %[3]s %[6]s\n%[7]s%[4]s\n",
		dir, decode, temporary, end, file.Mode.Perm(), file.Path, content)
}

// keyOrder is roughly the order in which cloud-init acts; other keys follow
// in alphabetical order.
var keyOrder = []string{"bootcmd", "write_files", "growpart", "resize_rootfs", "disk_setup", "fs_setup",
	"mounts", "swap", "manage_etc_hosts", "users", "ssh_pwauth", "disable_root", "ssh", "locale", "timezone",
	"ntp", "apt", "package_update", "package_upgrade", "packages", "runcmd", "final_message", "power_state"}

func sortKeys(n *doc.Node) {
	rank := func(key string) int {
		if i := slices.Index(keyOrder, key); i >= 0 {
			return i
		}
		return len(keyOrder)
	}
	sort.SliceStable(n.Pairs, func(i, j int) bool {
		a, b := n.Pairs[i].Key.Text, n.Pairs[j].Key.Text
		if rank(a) != rank(b) {
			return rank(a) < rank(b)
		}
		return a < b
	})
}
