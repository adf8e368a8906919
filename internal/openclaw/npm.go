package openclaw

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"bake/internal/lazy"
	"bake/internal/tool"
)

// npmArch is what npm calls an architecture.
var npmArch = map[string]string{"amd64": "x64", "arm64": "arm64"}

// install has npm fetch and unpack what the lock names, and run nothing of it.
func (d Depot) install(ctx context.Context, scratch string, p Pair, arch string) error {
	tree := filepath.Join(scratch, "home", "openclaw")
	if err := os.MkdirAll(tree, 0o700); err != nil {
		return err
	}
	lock, err := anyNode(p.lock)
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{"package.json": p.manifest, "package-lock.json": lock} {
		if err := os.WriteFile(filepath.Join(tree, name), content, 0o600); err != nil {
			return err
		}
	}
	if d.Stage != nil {
		d.Stage(fmt.Sprintf("fetching OpenClaw %s and Node %s", p.OpenClaw, p.Node))
	}
	_, err = d.npm(ctx, tree, "ci", "--os=linux", "--cpu="+npmArch[arch], "--libc=glibc")
	return err
}

// options of npm that decide what is installed, whatever this machine's npm is set to.
var options = []string{"--ignore-scripts", "--omit=dev", "--include=optional", "--install-strategy=hoisted", "--global=false",
	"--workspaces=false", "--package-lock=true", "--engine-strict=false", "--legacy-peer-deps=false", "--dry-run=false",
	"--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"}

// npm runs npm in a directory and returns what it printed. No script of any package runs.
func (d Depot) npm(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd, err := d.Tools.Command(ctx, "npm", append(args, options...)...)
	if err != nil {
		return nil, err
	}
	d.Tools.Pass(cmd, tool.Proxies...)
	d.Tools.Pass(cmd, "npm_config_registry", "npm_config_cache", "npm_config_userconfig", "npm_config_cafile", "npm_config_fetch_retries", "NODE_EXTRA_CA_CERTS")
	cmd.Dir = dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	var failed *exec.ExitError
	switch {
	case err == nil:
		return stdout.Bytes(), nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case !errors.As(err, &failed):
		return nil, err
	case strings.Contains(stderr.String(), "EINTEGRITY"):
		return nil, &IntegrityError{"npm: " + words(stderr.String())}
	case networkTrouble.MatchString(stderr.String()):
		return nil, &NetworkError{"npm: " + words(stderr.String())}
	}
	return nil, errors.New("npm: " + words(stderr.String()))
}

var networkTrouble = lazy.Regexp(`E(NOTFOUND|CONNREFUSED|CONNRESET|TIMEDOUT|AI_AGAIN|HOSTUNREACH|NETUNREACH|404|401|403|5\d\d)|ERR_SOCKET|network`)

// words makes one line of the first that a program complained of.
func words(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		line = strings.TrimPrefix(strings.TrimPrefix(strings.TrimSpace(line), "npm error"), "npm ERR!") // since npm 10, before
		if line = strings.TrimSpace(line); line != "" && len(lines) < 4 {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; ")
}
