package inspect

import (
	"fmt"
	"slices"
	"strings"
)

// A Requirement is what a host wants of its base image. An empty field wants
// nothing.
type Requirement struct {
	Distribution string   // as in os-release: ubuntu, debian
	Release      string   // VERSION_ID or codename: 24.04, noble
	Architecture string   // amd64, arm64
	Packages     []string // that must be installed already, as nothing can install them later
}

// Problems says why a machine built on this image could not work: one sentence
// each, with the cause and what to do, in a fixed order. None means it can.
func (f Findings) Problems(want Requirement) []string {
	var problems []string
	add := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }

	is := strings.TrimSpace(orWord(f.Distribution, "no known distribution") + " " + orWord(f.Release, f.Codename))
	wrongRelease := want.Release != "" && want.Release != f.Release && want.Release != f.Codename
	if want.Distribution != "" && want.Distribution != f.Distribution || wrongRelease {
		add("the image is %s, not %s: correct the base of the host, or take the image that it names",
			is, strings.TrimSpace(orWord(want.Distribution, f.Distribution)+" "+want.Release))
	}
	if want.Architecture != "" && want.Architecture != f.Architecture {
		add("the image is for %s, not for %s: take the image of the same release for %[2]s",
			orWord(f.Architecture, "an unknown architecture"), want.Architecture)
	}
	if len(f.Kernels) == 0 {
		add("the image has no kernel in /boot, so it cannot boot: " +
			"take a cloud or virtual machine image, not one for containers")
	}
	problems = append(problems, f.CloudInit.problems()...)
	var missing []string
	for _, name := range want.Packages {
		if f.version(name) == "" && !slices.Contains(missing, name) {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		add("the image does not have %s and nothing would install that on the first boot: "+
			"take the standard image instead of a minimal one, or give the host a payload", strings.Join(missing, ", "))
	}
	return problems
}

// problems says why cloud-init would not apply a NoCloud seed.
func (c CloudInit) problems() []string {
	switch {
	case c.Version == "":
		return []string{"the image has no cloud-init, so nothing would read the seed: " +
			"take a cloud image (Debian's is called generic or genericcloud, its nocloud has no cloud-init)"}
	case c.Disabled:
		return []string{"cloud-init is disabled in the image by /etc/cloud/cloud-init.disabled, " +
			"so nothing would read the seed: take an image that was never provisioned"}
	case !c.NoCloud():
		return []string{fmt.Sprintf("NoCloud is not in the image's datasource_list [%s], so cloud-init would not look "+
			"at the seed: take the generic image, not one for a single cloud", strings.Join(c.Datasources, ", "))}
	}
	return nil
}
