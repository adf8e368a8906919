package payload

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"bake/internal/lazy"
	"bake/internal/origin"
)

// aptConfig is all that apt is told. It comes by APT_CONFIG, which is read
// before the machine's own configuration and leads away from it.
func aptConfig(dir, arch string, expired bool, own []string) string {
	check := "true"
	if expired {
		check = "false"
	}
	lines := []string{
		`Dir::Etc::main "/dev/null"`,
		`Dir::Etc::parts "/dev/null"`,
		`Dir::Etc::sourcelist "` + dir + `/bake.sources"`,
		`Dir::Etc::sourceparts "/dev/null"`,
		`Dir::Etc::trusted "` + dir + `/trusted.gpg"`,
		`Dir::Etc::trustedparts "` + dir + `/trusted.d"`,
		`Dir::Etc::preferences "/dev/null"`,
		`Dir::Etc::preferencesparts "` + dir + `/preferences.d"`,
		`Dir::Etc::netrc "/etc/apt/auth.conf"`,
		`Dir::Etc::netrcparts "/etc/apt/auth.conf.d"`,
		`Dir::State "` + dir + `"`,
		`Dir::State::lists "` + dir + `/lists"`,
		`Dir::State::status "` + dir + `/status"`,
		`Dir::Cache "` + dir + `/cache"`,
		`Dir::Log "` + dir + `"`,
		`APT::Architecture "` + arch + `"`,
		`APT::Architectures { "` + arch + `"; }`,
		`APT::Install-Recommends "false"`,
		`APT::Get::AllowUnauthenticated "false"`,
		`APT::Get::Never-Include-Phased-Updates "true"`, // the same for everybody
		`APT::Update::Error-Mode "any"`,
		`APT::Sandbox::User "root"`, // the directory is closed to others
		`Acquire::AllowInsecureRepositories "false"`,
		`Acquire::AllowWeakRepositories "false"`,
		`Acquire::AllowDowngradeToInsecureRepositories "false"`,
		`Acquire::Check-Valid-Until "` + check + `"`,
		`Acquire::Languages "none"`,
		`Acquire::ForceHash "SHA256"`,
		`Acquire::Retries "2"`,
	}
	var out strings.Builder
	for _, line := range lines {
		out.WriteString(line + ";\n")
	}
	for _, line := range own {
		out.WriteString(line + "\n")
	}
	return out.String()
}

// network are the lines of this machine's apt configuration that say how its
// network is to be used.
var network = lazy.Regexp(`^Acquire::(http|https|ForceIPv[46])\b`)

// apt is apt at work for one image.
type apt struct {
	b      Builder
	dir    string
	config string
}

// prepare makes a directory for apt in one that the caller removes.
func (b Builder) prepare(ctx context.Context, dir string, w Want) (apt, error) {
	if _, err := b.Tools.Find("apt-get"); err != nil {
		return apt{}, fmt.Errorf("%w; payload: none in the host file leaves packages to the machine's first boot", err)
	}
	b.stage("%s: reading the base image's packages", w.Name)
	s, err := read(ctx, w.Image)
	if err != nil {
		return apt{}, err
	}
	if s.arch != w.Arch {
		return apt{}, &IntegrityError{What: fmt.Sprintf("%s is an image for %s and not for %s", w.Image, cmp.Or(s.arch, "no known architecture"), w.Arch)}
	}
	for _, text := range s.skipped {
		b.say("%s: %s: not used", w.Name, text)
	}
	var own []string
	dump, err := b.Tools.Run(ctx, "apt-config", "dump")
	if err != nil {
		return apt{}, err
	}
	for line := range strings.Lines(string(dump)) {
		if line = strings.TrimSpace(line); network.MatchString(line) {
			own = append(own, line)
		}
	}
	a := apt{b: b, dir: dir}
	if a.config, err = s.write(dir, w, own); err != nil {
		return apt{}, err
	}
	b.stage("%s: reading the archives' lists", w.Name)
	_, err = a.run(ctx, nil, "apt-get", "update", "-q")
	if err == nil && w.SHA256 != "" {
		a.keepNames(w.SHA256)
	}
	return a, err
}

// run runs a program of apt's in the directory for downloads.
func (a apt) run(ctx context.Context, status io.Writer, program string, args ...string) (string, error) {
	cmd, err := a.b.Tools.Command(ctx, program, args...)
	if err != nil {
		return "", err
	}
	cmd.Dir = filepath.Join(a.dir, "debs")
	cmd.Env = append(cmd.Env, "APT_CONFIG="+a.config)
	for _, name := range []string{"http_proxy", "https_proxy", "no_proxy"} {
		if value := a.b.getenv(name); value != "" {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = time.Second
	var wait func()
	if status != nil {
		if wait, err = pipe(cmd, status); err != nil {
			return "", err
		}
	}
	err = cmd.Run()
	if wait != nil {
		wait()
	}
	if err != nil {
		return "", aptError(ctx, program, stderr.String(), err)
	}
	return stdout.String(), nil
}

// pipe gives a program descriptor 3, and what it writes there to status. It
// returns what is to be called when the program has ended.
func pipe(cmd *exec.Cmd, status io.Writer) (func(), error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.ExtraFiles = []*os.File{write}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(status, read)
	}()
	return func() {
		_ = write.Close()
		// A method that outlives apt may have it open.
		_ = read.SetReadDeadline(time.Now().Add(time.Second))
		<-done
		_ = read.Close()
	}, nil
}

func (b Builder) getenv(name string) string {
	if b.Tools.Getenv != nil {
		return b.Tools.Getenv(name)
	}
	return os.Getenv(name)
}

// What apt says when something is not what it must be, when something does not
// come, and when there is no such set of packages. The order counts.
var (
	saysIntegrity = lazy.Regexp(`(?i)hash sum mismatch|is not signed|GPG error|signatures? (couldn't be verified|were invalid)|` +
		`is expired|is not valid yet|not valid for|unexpected size|clearsigned file isn't valid|unauthenticated|weak security information|insufficient.*(security|information)|` +
		`OpenPGP signature verification failed|conflicting distribution`)
	saysNetwork = lazy.Regexp(`(?i)failed to fetch|could not (connect|resolve)|temporary failure|connection (failed|timed out|refused)|` +
		`unable to connect|does not have a release file|no longer has a release file|some index files failed|was not found`)
	saysSet = lazy.Regexp(`(?i)unable to locate package|no installation candidate|unmet dependencies|held broken packages|` +
		`packages need to be removed|unable to correct problems|couldn't find any package`)
)

// saysDown is a server that says of itself that it is in trouble. apt goes on to look
// for an older kind of signature then, and calls the archive unsigned when that does not
// come either.
var saysDown = lazy.Regexp(`(?i)failed to fetch \S*Release(\.gpg)?\s+5[0-9][0-9]\s`)

const unsigned = "is not signed"

// isIntegrity says whether what apt said is about trust.
func isIntegrity(said string) bool {
	if saysDown.MatchString(said) {
		said = strings.ReplaceAll(said, unsigned, "")
	}
	return saysIntegrity.MatchString(said)
}

// aptError sorts what apt said.
func aptError(ctx context.Context, program, said string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", program, context.Cause(ctx))
	}
	var lines []string
	for line := range strings.Lines(said) {
		line = strings.TrimSpace(line)
		text, isError := strings.CutPrefix(line, "E: ")
		warning, isWarning := strings.CutPrefix(line, "W: ")
		switch {
		case isError:
			lines = append(lines, text)
		case isWarning && saysIntegrity.MatchString(warning):
			lines = append(lines, warning)
		}
	}
	if len(lines) > 4 {
		lines = lines[:4]
	}
	text := strings.Join(slices.Compact(lines), "; ")
	var exit *exec.ExitError
	switch {
	case text == "" || !errors.As(err, &exit):
		return fmt.Errorf("%s: %w", program, err)
	case isIntegrity(said):
		hint := "another mirror may be whole"
		if strings.Contains(said, "is expired") {
			hint = "use a mirror that is up to date, or --allow-expired for one that is frozen on purpose"
		}
		return &IntegrityError{What: "apt refuses an archive: " + text, Hint: hint}
	case saysSet.MatchString(said):
		return &SetError{Reason: text}
	case saysNetwork.MatchString(said):
		return &NetworkError{What: "an archive does not deliver: " + text}
	}
	return fmt.Errorf("%s: %s", program, text)
}

// among returns of each a|b the first that the archives have, or else the last.
func (a apt) among(ctx context.Context, names []string) ([]string, error) {
	var chosen []string
	for _, name := range names {
		for first, rest, more := strings.Cut(name, "|"); more; first, rest, more = strings.Cut(name, "|") {
			out, err := a.run(ctx, nil, "apt-cache", "policy", "--", first)
			if err != nil {
				return nil, err
			}
			if name = rest; candidate.MatchString(out) {
				name = first
			}
		}
		chosen = append(chosen, name)
	}
	slices.Sort(chosen)
	return slices.Compact(chosen), nil
}

var candidate = lazy.Regexp(`(?m)^  Candidate: [^(]`)

// plan asks which packages a machine would get if it installed these.
func (a apt) plan(ctx context.Context, names []string) ([]origin.Deb, error) {
	names, err := a.among(ctx, names)
	if err != nil {
		return nil, err
	}
	args := append([]string{"install", "-qq", "--print-uris", "--yes", "--no-install-recommends", "--no-remove", "--"}, names...)
	out, err := a.run(ctx, nil, "apt-get", args...)
	var set *SetError
	if errors.As(err, &set) {
		set.Packages = names
	}
	if err != nil {
		return nil, err
	}
	var debs []origin.Deb
	for line := range strings.Lines(out) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		deb, err := parseURI(line)
		if err != nil {
			return nil, err
		}
		debs = append(debs, deb)
	}
	slices.SortFunc(debs, func(x, y origin.Deb) int { return strings.Compare(x.Name, y.Name) })
	return debs, nil
}

var uriLine = lazy.Regexp(`^'[^']+' ([a-z0-9][a-z0-9+.-]*)_([^_ ]+)_([a-z0-9-]+)\.deb ([0-9]+) SHA256:([0-9a-f]{64})$`)

// parseURI reads a line of --print-uris: 'URL' name_version_arch.deb size digest.
func parseURI(line string) (origin.Deb, error) {
	m := uriLine.FindStringSubmatch(line)
	if m == nil {
		return origin.Deb{}, fmt.Errorf("apt-get: this is no package with a SHA-256: %q", line)
	}
	version, err := url.PathUnescape(m[2])
	if err != nil {
		return origin.Deb{}, fmt.Errorf("apt-get: %q: %w", line, err)
	}
	size, err := strconv.ParseInt(m[4], 10, 64)
	return origin.Deb{Name: m[1], Version: version, Arch: m[3], Size: size, SHA256: m[5]}, err
}

// prefer makes apt take these versions as long as the archives have them.
func (a apt) prefer(keep []origin.Deb) error {
	var out strings.Builder
	for _, deb := range keep {
		fmt.Fprintf(&out, "Package: %s\nPin: version %s\nPin-Priority: 995\n\n", deb.Name, deb.Version)
	}
	return os.WriteFile(filepath.Join(a.dir, "preferences.d", "999"), []byte(out.String()), 0o600)
}

// download fetches packages at their versions into the directory for downloads.
func (a apt) download(ctx context.Context, debs []origin.Deb) error {
	total := int64(0)
	args := []string{"download", "-q", "-o", "APT::Status-Fd=3", "--"}
	for _, deb := range debs {
		total += deb.Size
		args = append(args, deb.Name+"="+deb.Version)
	}
	tell, end := func(int64, int64) {}, func(int64) {}
	if a.b.Progress != nil {
		tell, end = a.b.Progress(fmt.Sprintf("%d packages", len(debs)))
	}
	tell(0, total)
	_, err := a.run(ctx, &meter{tell: tell, total: total}, "apt-get", args...)
	var gone *NetworkError
	var set *SetError
	if errors.As(err, &set) {
		gone = &NetworkError{What: set.Reason}
		err = gone
	}
	if errors.As(err, &gone) {
		gone.Hint = "bake.lock has versions that the archive may no longer have: bake pull --update moves them, a mirror of that day has them"
	}
	if err == nil {
		end(total)
	}
	return err
}

// meter reads apt's status lines: dlstatus:FILE:PERCENT:TEXT.
type meter struct {
	tell  func(done, total int64)
	total int64
	rest  string
}

func (m *meter) Write(p []byte) (int, error) {
	m.rest += string(p)
	for {
		line, rest, found := strings.Cut(m.rest, "\n")
		if !found {
			m.rest = line[max(0, len(line)-4096):]
			return len(p), nil
		}
		m.rest = rest
		if fields := strings.SplitN(line, ":", 4); len(fields) == 4 && fields[0] == "dlstatus" {
			if percent, err := strconv.ParseFloat(fields[2], 64); err == nil && percent >= 0 && percent <= 100 {
				m.tell(int64(percent/100*float64(m.total)), m.total)
			}
		}
	}
}
