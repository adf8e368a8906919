package main

import (
	"fmt"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// Manual pages are made from the same commands and options that parse the command
// line, in the plain macros of man(7), which every formatter knows. cli's own ToMan
// was not taken: it makes Markdown first and knows neither our topics nor which options
// have a value.

// roff is a manual page that is being written.
type roff struct{ strings.Builder }

// escape keeps text from being markup: a backslash, a dash that is to be copied, a dot
// or quote at the beginning of a line.
func escape(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}

func (r *roff) title(name, day string) {
	fmt.Fprintf(r, ".TH %s 1 %q %q %q\n", strings.ToUpper(escape(name)), day, "bake", "bake")
}

func (r *roff) section(name string) { fmt.Fprintf(r, ".SH %s\n", name) }

// item is a term and what is said of it.
func (r *roff) item(term, text string) {
	fmt.Fprintf(r, ".TP\n\\fB%s\\fR\n%s\n", escape(term), escape(text))
}

// prose is text as help pages have it: paragraphs, and indented blocks as they are.
func (r *roff) prose(text string) {
	isBlock, isApart := false, false
	for line := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
		indented := strings.HasPrefix(line, "   ")
		switch {
		case line == "":
			isApart = true
			continue
		case isBlock && !indented:
			r.WriteString(".EE\n.PP\n")
		case !isBlock && indented:
			r.WriteString(".PP\n.EX\n")
		case isApart && isBlock:
			r.WriteString("\n")
		case isApart:
			r.WriteString(".PP\n")
		}
		isBlock, isApart = indented, false
		r.WriteString(escape(line) + "\n")
	}
	if isBlock {
		r.WriteString(".EE\n")
	}
}

// options lists flags in the order of the help.
func (r *roff) options(flags []cli.Flag) {
	for _, flag := range flags {
		f, ok := flag.(cli.DocGenerationFlag)
		if !ok {
			continue
		}
		var names []string
		for _, name := range flag.Names() {
			dashes := "--"
			if len(name) == 1 {
				dashes = "-"
			}
			names = append(names, dashes+name)
		}
		term := strings.Join(names, ", ")
		if f.TakesValue() {
			term += " VALUE"
		}
		text := f.GetUsage()
		if value := f.GetDefaultText(); f.TakesValue() && value != "" && !strings.Contains(text, "(default: ") {
			text += " (default: " + value + ")"
		}
		if variables := f.GetEnvVars(); len(variables) > 0 {
			text += "; also " + strings.Join(variables, ", ")
		}
		r.item(term, text)
	}
}

// statuses is the section that ends every page but for SEE ALSO.
func (r *roff) statuses() {
	r.section("EXIT STATUS")
	for _, line := range strings.Split(strings.TrimSpace(exitStatus), "\n")[1:] {
		number, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		r.item(number, strings.TrimSpace(text))
	}
}

// variables and files are what bake heeds and keeps besides its options.
var (
	variables = [][2]string{
		{"AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, AWS_DEFAULT_REGION, AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL", "who bake publish, bake fetch and bake nightly --shard are in a bucket, and where that is"},
		{"BAKE_ACCEL", "kvm or tcg: how guests run, as --accel"},
		{"BAKE_AGE_IDENTITY", "file of the identity that opens secrets encrypted with age"},
		{"BAKE_ALLOW_EXPIRED", "accept lists of packages that are out of date, as --allow-expired"},
		{"BAKE_KEY", "file of the private key that signs generations"},
		{"BAKE_ROLLOUT", "where the record of rollouts is, as bake rollout --state"},
		{"BAKE_MIRROR_UBUNTU, BAKE_MIRROR_DEBIAN, BAKE_MIRROR_PACKAGES", "mirrors, over those of the host file and under --mirror"},
		{"BAKE_NIGHT", "name of the night of which bake nightly does a shard, as --night"},
		{"DOCKER_CONFIG, REGISTRY_AUTH_FILE", "where docker login and podman login have written down who bake publish, bake fetch and bake export are"},
		{"HOME, XDG_CACHE_HOME, XDG_STATE_HOME, XDG_CONFIG_HOME, XDG_DATA_HOME", "where caches, what was seen, units of one's own, and the key that signs are"},
		{"HOSTNAME, JOB_COMPLETION_INDEX", "who bake nightly --shard is, and which shard it does"},
		{"KUBECONFIG", "the clusters that bake rollout knows, and who it is there; ~/.kube/config without it"},
		{"LIBVIRT_DEFAULT_URI", "the libvirt that bake list asks, without --connect"},
		{"NO_COLOR", "unless empty, verdicts have no colour on a terminal; TERM=dumb: nothing moves either"},
		{"NO_PROXY, HTTPS_PROXY, HTTP_PROXY", "how to reach the network"},
		{"SUDO_USER", "whom bake nightly install takes for who bakes, under sudo"},
		{"TMPDIR", "where throwaway machines have their files"},
	}
	files = [][2]string{
		{"hosts/NAME.yaml", "a host file; see HOSTS"},
		{"layers/NAME/", "layers of one's own; see LAYERS"},
		{"bake.lock", "what base images and packages meant when they were first fetched: commit it"},
		{"openclaw-lock.json", "the OpenClaw and Node that machines get, once bake pull --update openclaw has moved them: commit it"},
		{"keys/NAME.pub", "the public keys whose signatures count; without such a directory your own alone does"},
		{"nightly.yaml", "numbers for bake nightly, and who is told"},
		{"backup.yaml", "where the state of machines is stored, and how often a restore is rehearsed"},
		{"out/NAME/", "generations; latest and current are links to one of them"},
		{"out/NAME/places.json", "the newest that registries and buckets have shown"},
		{"out/.transfer/", "what bake fetch had not finished"},
		{"~/.cache/bake", "base images and packages, by their digest"},
		{"~/.local/state/bake", "lists of images that were seen, and reports of nights"},
		{"~/.local/share/bake/signing.key", "your private key, with which generations are signed"},
	}
)

// manPages are all pages by their file's name.
func manPages(root *cli.App) map[string]string {
	day := buildDay()
	pages := map[string]string{"bake.1": mainPage(root, day)}
	for _, command := range root.VisibleCommands() {
		pages["bake-"+command.Name+".1"] = commandPage(command, day)
	}
	return pages
}

func mainPage(root *cli.App, day string) string {
	var r roff
	r.title("bake", day)
	r.section("NAME")
	fmt.Fprintf(&r, "bake \\- %s\n", escape(root.Usage))
	r.section("SYNOPSIS")
	r.WriteString(".B bake\n[\\fIOPTION\\fR]... \\fICOMMAND\\fR [\\fIOPTION\\fR]... [\\fIWORD\\fR]...\n")
	r.section("DESCRIPTION")
	r.prose("The machine you specified or no machine at all: what a host file asks for is checked in the booted machine, claim by claim, and until all claims hold the machine answers nobody.")
	r.section("COMMANDS")
	for _, command := range root.VisibleCommands() {
		r.item("bake-"+command.Name+"(1)", command.Usage)
	}
	r.section("OPTIONS")
	r.options(root.Flags)
	for _, t := range topics {
		if t.name == "exit-status" {
			continue
		}
		r.section(strings.ToUpper(t.name))
		r.prose(topic(t.name))
	}
	r.section("ENVIRONMENT")
	for _, v := range variables {
		r.item(v[0], v[1])
	}
	r.section("FILES")
	for _, f := range files {
		r.item(f[0], f[1])
	}
	r.statuses()
	return r.String()
}

func commandPage(command *cli.Command, day string) string {
	var r roff
	r.title("bake-"+command.Name, day)
	r.section("NAME")
	fmt.Fprintf(&r, "bake\\-%s \\- %s\n", escape(command.Name), escape(command.Usage))
	r.section("SYNOPSIS")
	fmt.Fprintf(&r, ".B bake %s\n", escape(command.Name))
	if len(command.Flags) > 0 {
		r.WriteString("[\\fIOPTION\\fR]...\n")
	}
	if command.ArgsUsage != "" {
		r.WriteString(escape(command.ArgsUsage) + "\n")
	}
	if command.Description != "" {
		r.section("DESCRIPTION")
		r.prose(command.Description)
	}
	r.section("OPTIONS")
	r.options(command.Flags)
	if !slices.ContainsFunc(command.Flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), "help") }) {
		r.item("--help, -h", "show help")
	}
	r.WriteString(".PP\nThose of every command are in\n.BR bake (1).\n")
	r.statuses()
	r.section("SEE ALSO")
	r.WriteString(".BR bake (1)\n")
	return r.String()
}

// buildDay is the day of the commit that this bake was built from: the same for the
// same source, whenever it is built.
func buildDay() string {
	if released != "" {
		return released
	}
	info, _ := debug.ReadBuildInfo()
	if info != nil {
		for _, s := range info.Settings {
			if s.Key == "vcs.time" && len(s.Value) >= 10 {
				return s.Value[:10]
			}
		}
	}
	return "1970-01-01"
}
