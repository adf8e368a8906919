package deploy

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"bake/internal/domain"
)

// TestAuto: what a generation leaves to its hypervisor it has where that lists it and can run
// it, and what became of it is said, once.
func TestAuto(t *testing.T) {
	all := domain.Abilities{SecureBoot: true, TPM: true}
	for name, test := range map[string]struct {
		can         domain.Abilities
		emulated    bool
		refuses     []string
		secure, tpm domain.Choice
		said        string
	}{
		"both":                {can: all, secure: domain.Chosen, tpm: domain.Chosen, said: "secure boot and a TPM 2.0, as the hypervisor has them"},
		"secure boot":         {can: domain.Abilities{SecureBoot: true}, secure: domain.Chosen, said: "secure boot, as the hypervisor has it; no TPM: the hypervisor has none"},
		"a TPM":               {can: domain.Abilities{TPM: true}, tpm: domain.Chosen, said: "a TPM 2.0, as the hypervisor has it; no secure boot: the hypervisor has none"},
		"none":                {said: "no secure boot and no TPM: the hypervisor has none"},
		"emulated":            {can: all, emulated: true, said: "no secure boot and no TPM: the machine is emulated"},
		"firmware, no keys":   {can: all, refuses: []string{secureBoot}, tpm: domain.Chosen, said: "a TPM 2.0, as the hypervisor has it; no secure boot: the hypervisor has none"},
		"a TPM, but no swtpm": {can: all, refuses: []string{"<tpm "}, secure: domain.Chosen, said: "secure boot, as the hypervisor has it; no TPM: the hypervisor has none"},
		"not both at once":    {can: all, refuses: []string{secureBoot, "<tpm "}, secure: domain.Chosen, said: "secure boot, as the hypervisor has it; no TPM: the hypervisor has none"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMemory()
			m.can, m.refuses = test.can, test.refuses
			d := m.deployment()
			d.Host.Emulated = test.emulated
			var said []string
			d.Say = func(text string) { said = append(said, text) }
			must(t)(d.Up(t.Context(), leaving(baked(t, one))))
			want := domain.Mark{Host: "zap", Generation: one, Secure: test.secure, TPM: test.tpm}
			if m.machine.Mark != want || strings.Contains(m.machine.XML, secureBoot) != (test.secure != "") || strings.Contains(m.machine.XML, "<tpm ") != (test.tpm != "") {
				t.Errorf("%+v: %s", m.machine.Mark, m.machine.XML)
			}
			choices := slices.DeleteFunc(said, func(text string) bool { return !strings.Contains(text, "TPM") })
			if !slices.Equal(choices, []string{test.said}) {
				t.Errorf("%q", choices)
			}
			if test.emulated && m.asked > 0 {
				t.Error("it was asked what an emulated machine does not get")
			}
		})
	}
}

// TestAutoOfOthers: a generation that leaves nothing to its hypervisor has nothing asked or
// said; one whose hypervisor does not answer goes nowhere.
func TestAutoOfOthers(t *testing.T) {
	m := newMemory()
	m.can = domain.Abilities{SecureBoot: true, TPM: true}
	d := m.deployment()
	d.Say = func(text string) {
		if strings.Contains(text, "secure boot") || strings.Contains(text, "TPM") {
			t.Error(text)
		}
	}
	must(t)(d.Up(t.Context(), baked(t, one)))
	must(t)(d.Deploy(t.Context(), secured(baked(t, two))))
	if m.asked > 0 {
		t.Errorf("%d questions", m.asked)
	}
	m.fails = "abilities"
	if _, err := d.Deploy(t.Context(), leaving(baked(t, three))); !errors.Is(err, errBroken) {
		t.Error(err)
	}
	m.runs(t, two, one)
}

// TestAutoStays: a machine that is up keeps what it has, whatever its hypervisor can by now;
// the next generation, and the one before, have what there is then.
func TestAutoStays(t *testing.T) {
	m := newMemory()
	d := m.deployment()
	see := func(what string, generation string, secure, tpm domain.Choice, anew int) {
		t.Helper()
		if m.machine.Generation != generation || m.machine.Secure != secure || m.machine.TPM != tpm || m.machine.Trying || m.machine.Fresh || m.anew != anew || len(m.unsafe) > 0 {
			t.Fatalf("%s: %+v, %d times anew, unsafe %q", what, m.machine.Mark, m.anew, m.unsafe)
		}
	}
	up := func(changed bool, starts int) {
		t.Helper()
		if out := must(t)(d.Up(t.Context(), leaving(baked(t, one)))); out.Changed != changed || m.starts != starts {
			t.Errorf("changed %v, %d starts", out.Changed, m.starts)
		}
	}
	up(true, 1)
	see("a poor hypervisor", one, "", "", 0)
	m.can = domain.Abilities{SecureBoot: true, TPM: true}
	up(false, 1)
	see("one that has become rich", one, "", "", 0)
	must(t)(d.Deploy(t.Context(), leaving(baked(t, two))))
	see("the next generation", two, domain.Chosen, domain.Chosen, 1)
	must(t)(d.Deploy(t.Context(), leaving(baked(t, three))))
	see("another with the same firmware", three, domain.Chosen, domain.Chosen, 1)
	must(t)(d.Deploy(t.Context(), secured(baked(t, one))))
	see("one that demands it", one, "", "", 1)
	must(t)(d.Rollback(t.Context()))
	see("back again", three, domain.Chosen, domain.Chosen, 1)
	m.can = domain.Abilities{}
	up(false, m.starts)
	must(t)(d.Down(t.Context(), false))
	up(true, m.starts+1)
	see("one that has become poor", three, domain.Chosen, domain.Chosen, 1)
	must(t)(d.Deploy(t.Context(), leaving(baked(t, two))))
	see("and the next generation there", two, "", "", 2)
	m.can = domain.Abilities{SecureBoot: true}
	must(t)(d.Rollback(t.Context()))
	see("the one before, decided anew", three, domain.Chosen, "", 3)
}

// TestAutoKilled: wherever a run dies, no machine whose hypervisor has got or lost secure boot
// is started with the variables of the firmware before.
func TestAutoKilled(t *testing.T) {
	for name, test := range map[string]struct{ before, after, bad bool }{
		"got":                  {false, true, false},
		"lost":                 {true, false, false},
		"got, does not attest": {false, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			for at, total := -1, 1; at < total; at++ {
				m := newMemory()
				d := m.deployment()
				m.can.SecureBoot = test.before
				must(t)(d.Up(t.Context(), leaving(baked(t, one))))
				m.can.SecureBoot, m.bad[two] = test.after, test.bad
				total = max(total, dieAt(at, func() { _, _ = d.Deploy(t.Context(), leaving(baked(t, two))) }))
				_, err := d.Up(t.Context(), leaving(baked(t, two)))
				var failed *FailedError
				if err != nil && !(test.bad && errors.As(err, &failed)) {
					t.Fatalf("killed at step %d: %v", at, err)
				}
				if len(m.unsafe) > 0 || m.machine.Fresh {
					t.Errorf("killed at step %d: %q, %+v", at, m.unsafe, m.machine.Mark)
				}
			}
		})
	}
}

// TestAutoDryRun: what would become of the domain is told of the XML as it would be defined.
func TestAutoDryRun(t *testing.T) {
	m := newMemory()
	d := m.deployment()
	must(t)(d.Up(t.Context(), leaving(baked(t, one))))
	m.can = domain.Abilities{SecureBoot: true, TPM: true}
	d.DryRun = true
	var said []string
	d.Say = func(text string) { said = append(said, text) }
	must(t)(d.Deploy(t.Context(), leaving(baked(t, two))))
	for _, want := range []string{"secure boot and a TPM 2.0, as the hypervisor has them", "    devices/tpm: present instead of absent"} {
		if !slices.Contains(said, want) {
			t.Errorf("no %q in %q", want, said)
		}
	}
	if !slices.ContainsFunc(said, func(text string) bool { return strings.Contains(text, "os/firmware") }) || m.machine.Secure != "" {
		t.Errorf("%q, %+v", said, m.machine.Mark)
	}
}
