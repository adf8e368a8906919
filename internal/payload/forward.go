package payload

import (
	"context"
	"errors"
	"fmt"
	"os/exec"

	"bake/internal/origin"
)

// forward refuses packages that are older than those before. Their list may be signed and
// count for ever, and still be one of last year, with last year's holes.
func (b Builder) forward(ctx context.Context, w Want, debs []origin.Deb) error {
	before := map[string]origin.Deb{}
	for _, deb := range w.Before {
		before[deb.Name] = deb
	}
	for _, deb := range debs {
		was, ok := before[deb.Name]
		if !ok || was.Version == deb.Version {
			continue
		}
		isOlder, err := b.isOlder(ctx, deb.Version, was.Version)
		if err != nil {
			return err
		}
		if isOlder {
			return &IntegrityError{What: fmt.Sprintf("a replay: bake.lock pins %s, and the archives have the older %s", label(was), deb.Version),
				Hint: "use a mirror that is up to date, or allow the older one on purpose (--allow-older)"}
		}
	}
	return nil
}

// isOlder asks dpkg, which knows how versions are compared.
func (b Builder) isOlder(ctx context.Context, version, than string) (bool, error) {
	cmd, err := b.Tools.Command(ctx, "dpkg", "--compare-versions", version, "lt", than)
	if err != nil {
		return false, err
	}
	err = cmd.Run()
	var exit *exec.ExitError
	if ctx.Err() == nil && errors.As(err, &exit) && exit.ExitCode() == 1 {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("dpkg: comparing %q with %q: %w", version, than, err)
	}
	return true, nil
}
