//go:build bench

package main

import (
	"debug/buildinfo"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// startBudget is how long bake may take to begin, in milliseconds: less than anybody
// notices when a shell completes a word.
const startBudget = 10

// TestBenchStart: the start alone, beside a program of the same compiler that prints a
// line and nothing else, and one that does nothing at all. What counts is the fastest
// start: a busy machine makes the others slower.
func TestBenchStart(t *testing.T) {
	dir := t.TempDir()
	source, least := filepath.Join(dir, "least.go"), filepath.Join(dir, "least")
	if err := os.WriteFile(source, []byte("package main\n\nfunc main() { println() }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if output, err := exec.Command("go", "build", "-o", least, source).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	ours := "bake version"
	result := contest(t, func() {}, map[string]func() *exec.Cmd{
		ours:                      func() *exec.Cmd { return exec.Command("../../bin/bake", "version") },
		"the least program of Go": func() *exec.Cmd { return exec.Command(least) },
		"true":                    func() *exec.Cmd { return exec.Command("true") },
	})
	show(t, "a start", result, ours)
	if best := result[ours][1]; best > startBudget {
		t.Errorf("bake version takes %.1f ms, the budget is %d", best, startBudget)
	}
	cmd := exec.Command("../../bin/bake", "version")
	cmd.Env = append(os.Environ(), "GODEBUG=gctrace=1")
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(said.String(), "gc 1 ") {
		t.Errorf("so much is made at the start that the garbage collector runs, which takes as long as a start: %s", said.String())
	}
}

// TestBenchSize prints what the program's bytes are for. docs/release.md says of the
// five largest modules why they are worth it.
func TestBenchSize(t *testing.T) {
	const program = "../../bin/bake"
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	symbols, err := exec.Command("go", "tool", "nm", "-size", program).Output()
	if err != nil {
		t.Fatal(err)
	}
	isInFile := inFile(t, program)
	sizes := map[string]int{}
	for line := range strings.Lines(string(symbols)) {
		fields := strings.Fields(line)
		if len(fields) < 4 { // one that is not defined has neither address nor size
			continue
		}
		address, _ := strconv.ParseUint(fields[0], 16, 64)
		if !isInFile(address) {
			continue
		}
		size, _ := strconv.Atoi(fields[1])
		for _, module := range info.Deps {
			if name := strings.Join(fields[3:], " "); strings.Contains(name, module.Path+".") || strings.Contains(name, module.Path+"/") {
				sizes[module.Path] += size
				break
			}
		}
	}
	var modules []string
	for module := range sizes {
		modules = append(modules, module)
	}
	slices.SortFunc(modules, func(a, b string) int { return sizes[b] - sizes[a] })
	t.Logf("as it is installed bake has %.1f MiB, %d modules; the largest:", float64(stripped(t))/(1<<20), len(info.Deps))
	reasons := readPage(t, "docs/release.md")
	for _, module := range modules[:5] {
		t.Logf("%8.0f KiB  %s", float64(sizes[module])/1024, module)
		if !strings.Contains(reasons, module) {
			t.Errorf("docs/release.md does not say why %s is worth it", module)
		}
	}
}

// inFile says of an address whether a byte of the program's file is behind it: what is
// empty at the start has none.
func inFile(t *testing.T, program string) func(address uint64) bool {
	t.Helper()
	file, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var empty []elf.SectionHeader
	for _, section := range file.Sections {
		if section.Type == elf.SHT_NOBITS {
			empty = append(empty, section.SectionHeader)
		}
	}
	return func(address uint64) bool {
		return !slices.ContainsFunc(empty, func(s elf.SectionHeader) bool { return address >= s.Addr && address < s.Addr+s.Size })
	}
}

// stripped is the size of the program in bytes, without what only a debugger reads, as
// make dist builds it.
func stripped(t *testing.T) int64 {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bake")
	if output, err := exec.Command("go", "build", "-trimpath", "-tags", "urfave_cli_no_docs", "-ldflags", "-s -w", "-o", path, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	file, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return file.Size()
}

// fleetParts are what only fleets need. Nothing of them runs on one machine, but they are in the
// program.
var fleetParts = []string{"cluster", "kube", "kubedeploy", "kubevirt", "publish", "rollout", "roster"}

// fleetBudget is what they may cost before they are put behind a program of their own.
const fleetBudget = 15 << 20 // bytes

// TestBenchFleetCost prints what bake would be without them: how much smaller, and how much of a
// start it would not have. What is theirs is every package that nothing else reaches.
func TestBenchFleetCost(t *testing.T) {
	const program = "../../bin/bake"
	theirs := onlyBy(t, fleetParts)
	symbols, err := exec.Command("go", "tool", "nm", "-size", program).Output()
	if err != nil {
		t.Fatal(err)
	}
	isInFile := inFile(t, program)
	sizes, all := map[string]int{}, 0
	for line := range strings.Lines(string(symbols)) {
		fields := strings.Fields(line)
		if len(fields) < 4 {
			continue
		}
		address, _ := strconv.ParseUint(fields[0], 16, 64)
		if !isInFile(address) {
			continue
		}
		size, _ := strconv.Atoi(fields[1])
		all += size
		name := strings.ReplaceAll(strings.Join(fields[3:], " "), "%2e", ".")
		for _, path := range theirs {
			if strings.Contains(name, path+".") {
				sizes[path] += size
				break
			}
		}
	}
	cmd := exec.Command(program, "version")
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	begun, whole := 0.0, 0.0 // milliseconds
	for line := range strings.Lines(said.String()) {
		fields := strings.Fields(line) // init PACKAGE @0.1 ms, 0.02 ms clock, ...
		if len(fields) < 6 || fields[0] != "init" {
			continue
		}
		took, err := strconv.ParseFloat(fields[4], 64)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		whole += took
		if slices.Contains(theirs, fields[1]) {
			begun += took
		}
	}
	grown := 0
	slices.SortFunc(theirs, func(a, b string) int { return sizes[b] - sizes[a] })
	for _, size := range sizes {
		grown += size
	}
	t.Logf("of %.1f MiB of code and data %.1f MiB are what only fleets need, %d packages; the largest:", float64(all)/(1<<20), float64(grown)/(1<<20), len(theirs))
	for _, path := range theirs[:min(6, len(theirs))] {
		t.Logf("%8.0f KiB  %s", float64(sizes[path])/1024, path)
	}
	t.Logf("of %.2f ms in which packages begin at a start %.2f ms are theirs", whole, begun)
	if grown == 0 || whole == 0 || grown > fleetBudget || begun > startBudget {
		t.Errorf("the budget is %d bytes and %d ms", fleetBudget, startBudget)
	}
}

// onlyBy are the packages that bake would not have without some of its own.
func onlyBy(t *testing.T, parts []string) (only []string) {
	t.Helper()
	output, err := exec.Command("go", "list", "-deps", "-f", `{{.ImportPath}} {{join .Imports " "}}`, ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	imports := map[string][]string{}
	for line := range strings.Lines(string(output)) {
		fields := strings.Fields(line)
		imports[fields[0]] = fields[1:]
	}
	reached := map[string]bool{}
	var reach func(path string)
	reach = func(path string) {
		if reached[path] {
			return
		}
		reached[path] = true
		for _, next := range imports[path] {
			if name, ours := strings.CutPrefix(next, module+"internal/"); path != module+"cmd/bake" || !ours || !slices.Contains(parts, name) {
				reach(next)
			}
		}
	}
	reach(module + "cmd/bake")
	for path := range imports {
		if !reached[path] {
			only = append(only, path)
		}
	}
	for _, part := range parts {
		if !slices.Contains(only, module+"internal/"+part) {
			t.Errorf("internal/%s is reached otherwise, too", part)
		}
	}
	return only
}
