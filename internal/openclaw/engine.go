package openclaw

import (
	"fmt"

	"github.com/Masterminds/semver/v3"
)

// fits says why a version is not in a range as npm writes it.
func fits(version, engines string) error {
	if engines == "" {
		return nil
	}
	allowed, err := semver.NewConstraint(engines)
	if err != nil {
		return fmt.Errorf("its engines are %q: %w", engines, err)
	}
	v, err := semver.StrictNewVersion(version)
	if err != nil {
		return err
	}
	if !allowed.Check(v) {
		return fmt.Errorf("it wants %s", engines)
	}
	return nil
}
