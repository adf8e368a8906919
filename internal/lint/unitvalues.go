package lint

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"bake/internal/lazy"
)

var (
	signals    = lazy.Regexp(`^(?:SIG)?(?:HUP|INT|QUIT|ILL|TRAP|ABRT|BUS|FPE|KILL|USR1|SEGV|USR2|PIPE|ALRM|TERM|STKFLT|CHLD|CONT|STOP|TSTP|TTIN|TTOU|URG|XCPU|XFSZ|VTALRM|PROF|WINCH|IO|PWR|SYS|RTMIN(?:\+[0-9]+)?|RTMAX(?:-[0-9]+)?)$|^[0-9]+$`)
	limitValue = lazy.Regexp(`^(?:infinity|[0-9]+[KMGTPE]?)(?::(?:infinity|[0-9]+[KMGTPE]?))?$`)
	anyAddress = words("any localhost link-local multicast")
	// single are directives of which the last one counts.
	single = words("User Group Type Restart WorkingDirectory ProtectSystem ProtectHome NoNewPrivileges Description DynamicUser UMask KillMode")
)

// ranges are the numbers that a directive takes.
var ranges = map[string][2]int{"OOMScoreAdjust": {-1000, 1000}, "CPUWeight": {1, 10000}, "StartupCPUWeight": {1, 10000}, "IOWeight": {1, 10000}, "StartupIOWeight": {1, 10000}, "CPUSchedulingPriority": {1, 99}, "IOSchedulingPriority": {0, 7}}

// checkMore looks at values that are forms rather than words.
func (w *world) checkMore(u *unit, d directive) {
	wrong := func(want string) {
		w.hint(want).report("unit-value", d.at, "%s= cannot be %q: systemd ignores the line", d.key, d.value)
	}
	switch {
	case strings.HasPrefix(d.key, "Limit") && len(d.key) > 7 && !limitValue.MatchString(d.value) && !timeSpan.MatchString(d.value):
		wrong("a number, soft:hard, or infinity")
	case d.key == "UMask" && (strings.Trim(d.value, "01234567") != "" || len(d.value) > 4):
		wrong("an octal number such as 0077")
	case slices.Contains(words("KillSignal RestartKillSignal FinalKillSignal WatchdogSignal"), d.key) && !signals.MatchString(d.value):
		wrong("a signal such as SIGTERM")
	case d.key == "IPAddressDeny" || d.key == "IPAddressAllow":
		for _, a := range strings.Fields(d.value) {
			_, notNet := netip.ParsePrefix(a)
			_, notAddr := netip.ParseAddr(a)
			if notNet != nil && notAddr != nil && !slices.Contains(anyAddress, a) {
				wrong("an address, a network, any, localhost, link-local or multicast")
			}
		}
	case d.section == "Path" && strings.HasPrefix(d.key, "Path") && !strings.HasPrefix(d.value, "/"):
		w.report("unit-path", d.at, "%q is no absolute path", d.value)
	case d.key == "OOMScoreAdjust" || d.key == "CPUWeight" || d.key == "IOWeight" || d.key == "StartupCPUWeight" || d.key == "StartupIOWeight" || d.key == "CPUSchedulingPriority" || d.key == "IOSchedulingPriority":
		span := ranges[d.key]
		if n, err := strconv.Atoi(d.value); (err != nil || n < span[0] || n > span[1]) && d.value != "idle" {
			wrong(fmt.Sprintf("a number from %d to %d", span[0], span[1]))
		}
	case d.key == "TasksMax" && !lazy.Regexp(`^(?:infinity|[0-9]+[KMGT]?|[0-9]+%)$`).MatchString(d.value):
		wrong("a number, a percentage or infinity")
	case slices.Contains(words("WantedBy RequiredBy UpheldBy After Before Wants Requires BindsTo Requisite PartOf Conflicts OnFailure OnSuccess Also Alias Upholds"), d.key) && (d.section == "Unit" || d.section == "Install"):
		for _, name := range strings.Fields(d.value) {
			if !strings.Contains(name, ".") && !strings.ContainsAny(name, "$%") {
				w.hint("write "+name+".target or "+name+".service").report("unit-value", d.at, "%q is no name of a unit, which has a suffix: systemd ignores it", name)
			}
		}
	case d.key == "Environment" && lazy.Regexp(`\$\{?[A-Za-z_]`).MatchString(d.value):
		w.hint("write the value out").report("unit-value", d.at, "systemd expands no variable here: the value has the dollar sign in it")
	case d.key == "Environment":
		for _, word := range splitWords(d.value) {
			if !strings.Contains(word, "=") {
				w.hint(`write "NAME=value with blanks"`).report("unit-value", d.at, "a blank ends a value: systemd ignores %q", word)
				break
			}
		}
	}
	if strings.HasPrefix(d.key, "Exec") && strings.Count(strings.ReplaceAll(d.value, `\"`, ""), `"`)%2 == 1 && !strings.Contains(d.value, "'") {
		w.report("unit-syntax", d.at, "a quote is opened and not closed: systemd ignores the line")
	}
}

// checkTogether looks at what directives say together.
func (w *world) checkTogether(u, whole *unit) {
	seen := map[string]string{}
	for _, d := range u.lines {
		key := d.section + "." + d.key
		if before, twice := seen[key]; twice && slices.Contains(single, d.key) && before != d.value && d.value != "" {
			w.warn("unit-value", d.at, "%s= is %s above: the last one counts", d.key, before)
		}
		seen[key] = d.value
	}
	for _, key := range []string{"After", "Before", "Wants", "PartOf", "Conflicts", "OnFailure"} {
		for _, d := range u.all("Unit", key) {
			for _, name := range strings.Fields(d.value) {
				if meant, is := typo(name, imageUnits); is && !w.knowsUnit(name) {
					w.hint("did you mean "+meant+"?").warn("unit-needs-missing", d.at, "nothing brings %s", name)
				}
			}
		}
	}
	if path.Ext(u.name) != ".service" {
		return
	}
	if d, ok := u.one("Service", "AmbientCapabilities"); ok {
		w.checkAmbient(d, whole)
	}
	for _, d := range u.all("Service", "ExecStart") {
		program := strings.Fields(execPrefix.ReplaceAllString(d.value, "") + " x")[0]
		home, _ := whole.one("Service", "ProtectHome")
		hides := slices.Contains(words("yes true on 1 tmpfs"), home.value) && len(whole.all("Service", "BindPaths"))+len(whole.all("Service", "BindReadOnlyPaths")) == 0
		switch {
		case hides && (strings.HasPrefix(program, "/home/") || strings.HasPrefix(program, "/root/")):
			w.report("unit-path", d.at, "ProtectHome=%s hides %s from the service", home.value, program)
		case strings.HasPrefix(program, "/tmp/") || strings.HasPrefix(program, "/var/tmp/"):
			w.report("unit-path", d.at, "everybody may put a program into /tmp, which is emptied at boot")
		}
	}
	account, ok := whole.one("Service", "User")
	if d, set := u.one("Service", "WorkingDirectory"); set && ok && account.value != "root" && strings.HasPrefix(d.value, "/root") {
		w.report("unit-path", d.at, "%s may not enter %s: the unit fails with 200/CHDIR", account.value, d.value)
	}
}

func (w *world) checkAmbient(d directive, whole *unit) {
	bound, ok := "", false
	for _, line := range whole.lines {
		if line.key == "CapabilityBoundingSet" {
			bound, ok = bound+" "+line.value, true
		}
	}
	for _, capability := range strings.Fields(d.value) {
		if ok && !strings.Contains(bound, capability) && !strings.Contains(bound, "~") {
			w.warn("unit-value", d.at, "%s is not in CapabilityBoundingSet=, which takes it away again", capability)
		}
	}
}
