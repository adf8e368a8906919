package deploy

import (
	"errors"
	"strings"

	"bake/internal/domain"
	"bake/internal/hypervisor"
)

// fit makes a generation's XML fit the hypervisor, and returns the mark that is in it.
func (d *Deployment) fit(text []byte, mark domain.Mark) (string, domain.Mark, error) {
	can, err := d.abilities(text, mark)
	if err != nil {
		return "", mark, err
	}
	return domain.Fit(text, mark, can)
}

// abilities are what the hypervisor can give a generation of what that leaves to it. What
// libvirt lists is tried, as much as can be had at once: it lists secure boot for firmware
// without keys, too, and a machine must not be refused for what it can do without.
func (d *Deployment) abilities(text []byte, mark domain.Mark) (domain.Abilities, error) {
	none := domain.Abilities{Emulated: d.Host.Emulated}
	wants, _, err := domain.ReadMark(string(text))
	if err != nil || none.Emulated || wants.Secure != domain.Auto && wants.TPM != domain.Auto {
		return none, err
	}
	needs, err := domain.ReadNeeds(text)
	if err != nil {
		return none, err
	}
	all, err := d.At.Abilities(needs.Arch)
	if err != nil {
		return none, err
	}
	for _, some := range []domain.Abilities{all, {SecureBoot: all.SecureBoot}, {TPM: all.TPM}} {
		if some == none {
			continue
		}
		if ok, err := d.try(text, mark, some); ok || err != nil {
			return some, err
		}
	}
	return none, nil
}

// try says whether libvirt would run a generation with that.
func (d *Deployment) try(text []byte, mark domain.Mark, can domain.Abilities) (bool, error) {
	fit, _, err := domain.Fit(text, mark, can)
	if err == nil {
		err = d.At.Check(fit)
	}
	var lacks *hypervisor.LackError
	if errors.As(err, &lacks) {
		return false, nil
	}
	return err == nil, err
}

// sayChoice says what became of that which a generation leaves to the hypervisor.
func (d *Deployment) sayChoice(text []byte, mark domain.Mark) error {
	wants, _, err := domain.ReadMark(string(text))
	if err != nil {
		return err
	}
	var got, not []string
	for _, c := range []struct {
		wanted, chosen domain.Choice
		got, not       string
	}{{wants.Secure, mark.Secure, "secure boot", "no secure boot"}, {wants.TPM, mark.TPM, "a TPM 2.0", "no TPM"}} {
		switch {
		case c.chosen == domain.Chosen:
			got = append(got, c.got)
		case c.wanted == domain.Auto:
			not = append(not, c.not)
		}
	}
	var said []string
	if len(got) > 0 {
		said = append(said, strings.Join(got, " and ")+", as the hypervisor has "+map[bool]string{true: "it", false: "them"}[len(got) == 1])
	}
	if len(not) > 0 {
		why := map[bool]string{true: "the machine is emulated", false: "the hypervisor has none"}[d.Host.Emulated]
		said = append(said, strings.Join(not, " and ")+": "+why)
	}
	if len(said) > 0 {
		d.Say(strings.Join(said, "; "))
	}
	return nil
}
