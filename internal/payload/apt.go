package payload

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"bake/internal/inspect"
	"bake/internal/tool"
)

// image is what is asked of a base image.
type image interface {
	Findings() (inspect.Findings, error)
	ReadFile(name string) ([]byte, error)
	ReadDir(name string) ([]string, error)
	Close() error
}

func (d Depot) open(ctx context.Context, path string) (image, error) {
	if d.look != nil {
		return d.look(path)
	}
	return inspect.Open(ctx, path)
}

// world is the apt of a base image on this machine's disk.
type world struct {
	root string // absolute
	arch string
	name string // of the image, for messages
}

// Resolve asks apt what it would install. The result's Reference is for the caller to
// fill in.
func (d Depot) Resolve(ctx context.Context, w Want) (Set, error) {
	a, err := d.world(ctx, w)
	if err != nil {
		return Set{}, err
	}
	d.stage("asking the package archives for %s", strings.Join(w.Packages, " "))
	if err := d.update(ctx, a); err != nil {
		return Set{}, err
	}
	debs, err := d.plan(ctx, a, w.Packages)
	if err != nil {
		return Set{}, err
	}
	return Set{Arch: a.arch, Want: w.Packages, Base: w.SHA256, Debs: debs}, nil
}

// world lays out what apt needs to think it is in the image. It is made anew each
// time but for apt's lists: reading the image takes no longer than comparing.
func (d Depot) world(ctx context.Context, w Want) (world, error) {
	image, err := d.open(ctx, w.Image)
	if err != nil {
		return world{}, err
	}
	defer image.Close()
	found, err := image.Findings()
	if err != nil {
		return world{}, err
	}
	key := sha256.Sum256([]byte(w.SHA256 + " " + fmt.Sprint(w.Mirrors))) // maps print sorted
	root, err := filepath.Abs(filepath.Join(d.Dir, "apt", hex.EncodeToString(key[:8])))
	if err != nil {
		return world{}, err
	}
	a := world{root: root, arch: found.Architecture, name: filepath.Base(w.Image)}
	for _, dir := range []string{"etc/apt/apt.conf.d", "etc/apt/preferences.d", "etc/apt/trusted.gpg.d", "keys", "var/lib/dpkg",
		"var/lib/apt/lists/partial", "var/cache/apt/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o700); err != nil {
			return world{}, err
		}
	}
	files := map[string][]byte{}
	if files["var/lib/dpkg/status"], err = image.ReadFile("/var/lib/dpkg/status"); err != nil {
		return world{}, err
	}
	for _, k := range found.Keyrings {
		content, err := image.ReadFile(k.Path)
		if err != nil {
			return world{}, err
		}
		files[keyFile(k.Path)] = content
		if strings.HasPrefix(k.Path, "/etc/apt/trusted.gpg") {
			files[k.Path[1:]] = content
		}
	}
	if err := preferences(image, files); err != nil {
		return world{}, err
	}
	sources, err := a.sources(found, w.Mirrors)
	if err != nil {
		return world{}, err
	}
	files["etc/apt/base.sources"] = []byte(sources)
	network, err := d.reach(ctx)
	if err != nil {
		return world{}, err
	}
	files["apt.conf"] = []byte(a.config() + network)
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(root, name), content, 0o600); err != nil {
			return world{}, err
		}
	}
	return a, nil
}

// keyFile is where a keyring of the image is put.
func keyFile(path string) string {
	return "keys/" + strings.ReplaceAll(strings.TrimPrefix(path, "/"), "/", "+")
}

// preferences adds the image's pins, which say what apt prefers.
func preferences(image image, files map[string][]byte) error {
	names, err := image.ReadDir("/etc/apt/preferences.d")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, name := range names {
		content, err := image.ReadFile("/etc/apt/preferences.d/" + name)
		if err != nil {
			return err
		}
		files["etc/apt/preferences.d/"+filepath.Base(name)] = content
	}
	return nil
}

// sources writes the image's sources as one deb822 file, with the keyrings where they
// are here: apt takes a path in Signed-By as it stands.
func (a world) sources(found inspect.Findings, mirrors map[string]string) (string, error) {
	var text strings.Builder
	for _, s := range found.Sources {
		if !slices.Contains(s.Types, "deb") {
			continue
		}
		if s.Trusted {
			return "", &IntegrityError{fmt.Sprintf("%s: a source in %s is marked trusted: nobody's signature would be checked", a.name, s.File)}
		}
		fmt.Fprintf(&text, "Types: deb\nArchitectures: %s\nSuites: %s\n", a.arch, strings.Join(s.Suites, " "))
		var uris []string
		for _, uri := range s.URIs {
			uris = append(uris, mirrored(uri, mirrors))
		}
		fmt.Fprintf(&text, "URIs: %s\n", strings.Join(uris, " "))
		if len(s.Components) > 0 {
			fmt.Fprintf(&text, "Components: %s\n", strings.Join(s.Components, " "))
		}
		var by []string
		for _, key := range s.SignedBy {
			switch {
			case strings.HasPrefix(key, "/"):
				by = append(by, filepath.Join(a.root, keyFile(key)))
			case strings.Contains(key, "\n"): // an armored key, each line indented, empty ones as dots
				armor := "\n"
				for line := range strings.Lines(key) {
					if line = strings.TrimSpace(line); line == "" {
						line = "."
					}
					armor += " " + line + "\n"
				}
				by = append(by, strings.TrimSuffix(armor, "\n"))
			default:
				by = append(by, key)
			}
		}
		if len(by) > 0 {
			fmt.Fprintf(&text, "Signed-By: %s\n", strings.Join(by, " "))
		}
		text.WriteString("\n")
	}
	if text.Len() == 0 {
		return "", &NetworkError{a.name + " has no apt source that packages could come from"}
	}
	return text.String(), nil
}

// mirrored replaces the longest archive of the mirrors that a URL begins with.
func mirrored(uri string, mirrors map[string]string) string {
	best := ""
	for archive := range mirrors {
		if whole := strings.TrimSuffix(archive, "/"); (uri == whole || strings.HasPrefix(uri, whole+"/")) && len(archive) > len(best) {
			best = archive
		}
	}
	if best == "" {
		return uri
	}
	return strings.TrimSuffix(mirrors[best], "/") + strings.TrimPrefix(uri, strings.TrimSuffix(best, "/"))
}

// config is all that apt is to know. Dir moves what apt reads from /etc, too: this
// file is read first, and the others are then looked for below the root.
func (a world) config() string {
	return fmt.Sprintf(`Dir %q;
Dir::State "var/lib/apt";
Dir::State::status %q;
Dir::Cache "var/cache/apt";
Dir::Etc "etc/apt";
Dir::Etc::sourcelist "base.sources";
Dir::Etc::sourceparts "none";
APT::Architecture %q;
APT::Architectures { %q; };
APT::Install-Recommends "false";
APT::Sandbox::User "";
APT::Update::Error-Mode "any";
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::Languages "none";
Acquire::Retries "2";
Debug::NoLocking "true";
`, a.root, filepath.Join(a.root, "var/lib/dpkg/status"), a.arch, a.arch)
}

// reach is how this machine's apt gets to the network: what it is told of proxies and
// where passwords are, nothing else.
func (d Depot) reach(ctx context.Context) (string, error) {
	out, err := d.Tools.Run(ctx, "apt-config", "dump")
	if err != nil {
		return "", err
	}
	text := "Dir::Etc::netrc \"/etc/apt/auth.conf\";\nDir::Etc::netrcparts \"/etc/apt/auth.conf.d\";\n"
	for line := range strings.Lines(string(out)) {
		name, _, _ := strings.Cut(strings.ToLower(line), " ")
		if proxyOption.MatchString(name) {
			text += line
		}
	}
	return text, nil
}

var proxyOption = regexp.MustCompile(`^acquire::(http|https)::(proxy(::.*)?|no-proxy|cainfo|capath)$`)

// apt runs apt-get in the image's world and returns what it printed.
func (d Depot) apt(ctx context.Context, a world, args ...string) (string, error) {
	cmd, err := d.aptCommand(ctx, a, args...)
	if err != nil {
		return "", err
	}
	return a.run(ctx, cmd)
}

func (d Depot) aptCommand(ctx context.Context, a world, args ...string) (*exec.Cmd, error) {
	return d.command(ctx, a, "apt-get", append([]string{"-q", "-y"}, args...)...)
}

// command prepares a program of apt's that sees the image's world.
func (d Depot) command(ctx context.Context, a world, program string, args ...string) (*exec.Cmd, error) {
	cmd, err := d.Tools.Command(ctx, program, args...)
	if err != nil {
		return nil, err
	}
	d.Tools.Pass(cmd, tool.Proxies...)
	cmd.Env = append(cmd.Env, "APT_CONFIG="+filepath.Join(a.root, "apt.conf"), "DEBIAN_FRONTEND=noninteractive")
	cmd.Dir = a.root
	return cmd, nil
}

// run runs apt-get to its end; what it complains of becomes one of our errors.
func (a world) run(ctx context.Context, cmd *exec.Cmd) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var failed *exec.ExitError
	switch {
	case err == nil:
		return stdout.String(), nil
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case errors.As(err, &failed):
		return "", a.explain(stderr.String())
	}
	return "", err
}

var (
	unknownPackage = regexp.MustCompile(`(?m)^E: (?:Unable to locate package (\S+)|Package '([^']+)' has no installation candidate|Couldn't find any package by .* '([^']+)'|Version '[^']*' for '([^']+)' was not found)`)
	badSignature   = regexp.MustCompile(`(?i)is not signed|GPG error|NO_PUBKEY|BADSIG|EXPKEYSIG|EXPSIG|REVKEYSIG|Hash Sum mismatch|unexpected size|expired|is not valid yet|clearsigned|weak|unauthenticated|hashes of expected`)
)

// explain makes one of our errors of apt's words.
func (a world) explain(words string) error {
	var said []string
	for text := range strings.Lines(words) {
		if kind, problem, ok := strings.Cut(text, ":"); ok && (kind == "E" || kind == "W") && len(said) < 3 {
			said = append(said, line(problem))
		}
	}
	text := "apt for " + a.name + ": " + strings.Join(said, "; ")
	if m := unknownPackage.FindStringSubmatch(words); m != nil {
		return &UnknownError{Package: m[1] + m[2] + m[3] + m[4], Image: a.name}
	}
	if badSignature.MatchString(words) {
		return &IntegrityError{text}
	}
	if strings.Contains(words, "unmet dependencies") || strings.Contains(words, "held broken packages") {
		return errors.New(text)
	}
	return &NetworkError{text}
}

// update brings apt's lists up to date, with every signature checked.
func (d Depot) update(ctx context.Context, a world) error {
	_, err := d.apt(ctx, a, "update")
	return err
}

// fileToGet is a line of apt-get --print-uris. The digest that follows is MD5 if there
// is one.
var fileToGet = regexp.MustCompile(`(?m)^'[^']+' (\S+\.deb) (\d+)(?: \S*)?$`)

// plan returns what apt would fetch to install names, or NAME=VERSION.
func (d Depot) plan(ctx context.Context, a world, names []string) ([]Deb, error) {
	out, err := d.apt(ctx, a, append([]string{"--print-uris", "--allow-downgrades", "install", "--"}, names...)...)
	if err != nil {
		return nil, err
	}
	var debs []Deb
	for _, m := range fileToGet.FindAllStringSubmatch(out, -1) {
		deb, err := debOf(m[1])
		if err != nil {
			return nil, err
		}
		if deb.Size, err = strconv.ParseInt(m[2], 10, 64); err != nil {
			return nil, err
		}
		debs = append(debs, deb)
	}
	slices.SortFunc(debs, func(x, y Deb) int { return strings.Compare(x.Name+" "+x.Arch, y.Name+" "+y.Arch) })
	return debs, d.digests(ctx, a, debs)
}

// full is how apt is told of exactly one package: one for all has the machine's own
// architecture.
func (a world) full(deb Deb) string {
	arch := deb.Arch
	if arch == "all" {
		arch = a.arch
	}
	return deb.Name + ":" + arch + "=" + deb.Version
}

// digests adds what the signed indexes say of the files.
func (d Depot) digests(ctx context.Context, a world, debs []Deb) error {
	if len(debs) == 0 {
		return nil
	}
	args := []string{"show", "--no-all-versions", "--"}
	for _, deb := range debs {
		args = append(args, a.full(deb))
	}
	cmd, err := d.command(ctx, a, "apt-cache", args...)
	if err != nil {
		return err
	}
	out, err := a.run(ctx, cmd)
	if err != nil {
		return err
	}
	for stanza := range strings.SplitSeq(out, "\n\n") {
		field := func(name string) string {
			_, after, _ := strings.Cut("\n"+stanza, "\n"+name+": ")
			value, _, _ := strings.Cut(after, "\n")
			return value
		}
		at := slices.IndexFunc(debs, func(deb Deb) bool {
			return deb.Name == field("Package") && deb.Version == field("Version") && deb.Arch == field("Architecture") &&
				strconv.FormatInt(deb.Size, 10) == field("Size")
		})
		if at >= 0 {
			debs[at].SHA256 = field("SHA256")
		}
	}
	for _, deb := range debs {
		if err := deb.Sound(); err != nil {
			return &IntegrityError{fmt.Sprintf("%s: apt's index: %v", a.name, err)}
		}
	}
	return nil
}

// debOf reads apt's name of a file: NAME_VERSION_ARCH.deb, with %3a for a colon.
func debOf(file string) (Deb, error) {
	parts := strings.Split(strings.TrimSuffix(file, ".deb"), "_")
	if len(parts) != 3 || !strings.HasSuffix(file, ".deb") {
		return Deb{}, fmt.Errorf("apt names a file %q", file)
	}
	return Deb{Name: parts[0], Version: strings.ReplaceAll(parts[1], "%3a", ":"), Arch: parts[2]}, nil
}
