package vm

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"bake/internal/tool"
)

// needQEMU skips a test where there is no QEMU to run.
func needQEMU(t *testing.T) tool.Box { return needQEMUOf(t, amd64) }

func needQEMUOf(t *testing.T, arch string) tool.Box {
	t.Helper()
	if _, err := exec.LookPath(boards[arch].program); err != nil {
		t.Skip("no " + boards[arch].program)
	}
	t.Setenv("TMPDIR", t.TempDir())
	return tool.Box{}
}

// The payload is right: an accelerator that is known to work runs it.
func TestProbeSucceedsUnderEmulation(t *testing.T) {
	for arch := range boards {
		t.Run(arch, func(t *testing.T) {
			got, err := probe(context.Background(), needQEMUOf(t, arch), arch, tcg)
			if err != nil || !got.works || !got.sure {
				t.Errorf("probe under TCG = %+v, %v", got, err)
			}
		})
	}
}

// The payload tells: broken in one place, it fails, and the verdict says where.
func TestProbeFailsWithABrokenPayload(t *testing.T) {
	for _, test := range []struct {
		arch, name, old, new string
		sure                 bool
		reason               string
	}{
		{amd64, "wrong sum", "81fa000e0000", "81fa010e0000", true, "went wrong under KVM " + stages[amd64][3]},
		{amd64, "another exception", "\ncc  ", "\nf1  ", true, "went wrong under KVM " + stages[amd64][1]},
		{amd64, "hang", "\ncc  ", "\nebfe  ", false, "hung under KVM " + stages[amd64][1]},
		{amd64, "hang at once", "\nfa  ", "\nebfe  ", false, "hung under KVM " + stages[amd64][0]},
		{arm64, "wrong sum", "60e4004f", "40e4004f", true, "went wrong under KVM " + stages[arm64][3]},
		{arm64, "no exception", "010000d4", "1f2003d5", true, "went wrong under KVM " + stages[arm64][1]},
		{arm64, "a page that is not there", "650800f9", "1f2003d5", false, "hung under KVM " + stages[arm64][2]},
		{arm64, "hang at once", "0020a1d2", "00000014", false, "hung under KVM " + stages[arm64][0]},
		{arm64, "stays on", "020000d4", "1f2003d5", false, "hung under KVM " + stages[arm64][5]},
	} {
		t.Run(test.arch+" "+test.name, func(t *testing.T) {
			tools, text := needQEMUOf(t, test.arch), map[string]*string{amd64: &listing, arm64: &listingARM}[test.arch]
			whole := *text
			defer func() { *text = whole }()
			*text = strings.Replace(whole, test.old, test.new, 1)
			if *text == whole {
				t.Fatal("nothing was broken")
			}
			got, err := probe(context.Background(), tools, test.arch, tcg)
			if err != nil || got.works || got.sure != test.sure || !strings.Contains(got.reason, test.reason) {
				t.Errorf("probe = %+v, %v", got, err)
			}
		})
	}
}

// The GNU assembler agrees with every byte of the listing.
func TestListingIsWhatTheAssemblerMakes(t *testing.T) {
	for _, judge := range []string{"as", "ld"} {
		if _, err := exec.LookPath(judge); err != nil {
			t.Skip("no " + judge)
		}
	}
	dir := t.TempDir()
	source, object, binary := filepath.Join(dir, "p.s"), filepath.Join(dir, "p.o"), filepath.Join(dir, "p")
	if err := os.WriteFile(source, []byte(assembler(listing)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, cmd := range [][]string{
		{"as", "--64", "-o", object, source},
		{"ld", "-m", "elf_x86_64", "-e", "0", "-Ttext=0", "--oformat", "binary", "-o", binary, object},
	} {
		if out, err := exec.Command(cmd[0], cmd[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %s", cmd, out)
		}
	}
	want, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	image, err := payload(amd64)
	if err != nil {
		t.Fatal(err)
	}
	if got := image[:len(want)]; string(got) != string(want) {
		t.Errorf("the listing has\n%x\nthe assembler makes\n%x", got, want)
	}
}

// The same of that for arm64, with the cross assembler.
func TestListingForARM(t *testing.T) {
	const as, objcopy = "aarch64-linux-gnu-as", "aarch64-linux-gnu-objcopy"
	for _, judge := range []string{as, objcopy} {
		if _, err := exec.LookPath(judge); err != nil {
			t.Skip("no " + judge)
		}
	}
	var text strings.Builder
	for line := range strings.Lines(listingARM) {
		words, _, _ := strings.Cut(strings.TrimSpace(line), " # ")
		first, rest, _ := strings.Cut(words, " ")
		rest = strings.TrimSpace(rest)
		switch name, isLabel := strings.CutSuffix(first, ":"); {
		case first == "" || first == "#":
		case isLabel && rest != "":
			text.WriteString(".org 0x" + rest[1:] + "\n" + name + ":\n")
		case isLabel:
			text.WriteString(name + ":\n")
		default:
			text.WriteString(rest + "\n")
		}
	}
	dir := t.TempDir()
	source, object, binary := filepath.Join(dir, "p.s"), filepath.Join(dir, "p.o"), filepath.Join(dir, "p")
	if err := os.WriteFile(source, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, cmd := range [][]string{{as, "-o", object, source}, {objcopy, "-O", "binary", "-j", ".text", object, binary}} {
		if out, err := exec.Command(cmd[0], cmd[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %s", cmd, out)
		}
	}
	want, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	image, err := payload(arm64)
	if err != nil {
		t.Fatal(err)
	}
	if got := image[:len(want)]; string(got) != string(want) {
		t.Errorf("the listing has\n%x\nthe assembler makes\n%x", got, want)
	}
}

// assembler turns the listing into what GNU as reads.
func assembler(listing string) string {
	text := ".code16\n"
	for line := range strings.Lines(listing) {
		first, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		rest = strings.TrimSpace(rest)
		name, isLabel := strings.CutSuffix(first, ":")
		switch {
		case first == "" || first == "#":
		case isLabel && strings.HasPrefix(rest, "@"):
			text += ".org 0x" + rest[1:] + "\n" + name + ":\n"
		case isLabel && rest != "":
			text += ".code" + rest + "\n" + name + ":\n"
		case isLabel:
			text += name + ":\n"
		default:
			text += rest + "\n"
		}
	}
	return text
}

func TestAssembleRefuses(t *testing.T) {
	for _, text := range []string{
		"xyz nop",
		"a: @200\nb: @100",
		"a: @zzz",
		"a: @9ff\n" + "9090 nop",
	} {
		if _, err := assemble(make([]byte, idtAt), text); err == nil {
			t.Errorf("assemble(%q) succeeded", text)
		}
	}
}

func TestAcceleratorForced(t *testing.T) {
	for force, want := range map[string]string{"kvm": "kvm", "tcg": "tcg", "hvf": ""} {
		got, _, err := Accelerator(context.Background(), tool.Box{}, "", amd64, force)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("Accelerator(%q) = %q, %v", force, got, err)
		}
	}
}

func TestAcceleratorWithoutQEMU(t *testing.T) {
	box := tool.Box{Getenv: func(string) string { return "" }}
	_, _, err := Accelerator(context.Background(), box, "", amd64, "")
	var missing *tool.MissingError
	if !errors.As(err, &missing) || missing.Name != boards[amd64].program {
		t.Errorf("Accelerator without QEMU: %v", err)
	}
}

func TestProbeStopsWithItsContext(t *testing.T) {
	tools := needQEMU(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if got, err := probe(ctx, tools, amd64, tcg); !errors.Is(err, context.Canceled) {
		t.Errorf("probe = %+v, %v; want the context's error", got, err)
	}
}

// Whatever this machine has, the answer comes with a reason, and the second
// one is the first one's without another probe.
func TestAcceleratorRemembers(t *testing.T) {
	tools := needQEMU(t)
	dir := filepath.Join(t.TempDir(), "cache")
	accel, reason, err := Accelerator(context.Background(), tools, dir, amd64, "auto")
	if err != nil || reason == "" {
		t.Fatalf("Accelerator = %q, %q, %v", accel, reason, err)
	}
	t.Logf("%s, because %s", accel, reason)
	file := filepath.Join(dir, memoryFile)
	info, err := os.Stat(file)
	if err != nil {
		t.Skip("the answer was not worth a probe: ", err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("%s has mode %v", file, info.Mode())
	}
	program, err := tools.Find(boards[amd64].program)
	if err != nil {
		t.Fatal(err)
	}
	if m := recall(dir, program); m.Accel != accel || m.Reason != reason {
		t.Errorf("recall = %+v, want %s, %s", m, accel, reason)
	}
}

func TestRecallForgets(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*memory){
		"nothing":          func(*memory) {},
		"a reboot":         func(m *memory) { m.Boot = "another" },
		"another QEMU":     func(m *memory) { m.QEMU += "1" },
		"other rights":     func(m *memory) { m.Device += "1" },
		"a foreign answer": func(m *memory) { m.Accel = "whpx" },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			m := recall(dir, program)
			if m.Accel != "" {
				t.Fatalf("recall from nothing = %+v", m)
			}
			m.Accel, m.Reason = tcg, "because"
			change(&m)
			m.store(dir)
			want := ""
			if name == "nothing" {
				want = tcg
			}
			if got := recall(dir, program); got.Accel != want {
				t.Errorf("recall = %+v, want %q", got, want)
			}
		})
	}
}
