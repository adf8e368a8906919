package lint

import (
	"slices"
	"strings"

	"bake/internal/lazy"
)

// aptLine is one setting of apt's configuration.
type aptLine struct {
	key, value string
	clear      bool
	at         spot
}

var upgradeKeys = words(`Allowed-Origins Origins-Pattern Package-Blacklist Package-Whitelist Package-Whitelist-Strict AutoFixInterruptedDpkg MinimalSteps
	InstallOnShutdown Mail MailReport MailOnlyOnError Remove-Unused-Kernel-Packages Remove-New-Unused-Dependencies Remove-Unused-Dependencies
	Automatic-Reboot Automatic-Reboot-WithUsers Automatic-Reboot-Time SyslogEnable SyslogFacility OnlyOnACPower Skip-Updates-On-Metered-Connections
	Verbose Debug Allow-downgrade Allow-APT-Mark-Fallback Sender DevRelease Update-Days Postpone-For-Days Postpone-Wait-Time Keep-Debs-After-Install Unattended-Upgrades::Mail Lock-Timeout`)

// aptLines reads apt.conf: words, quotes, braces and semicolons.
func (w *world) aptLines(f *file) []aptLine {
	var out []aptLine
	var scope []string
	var open []spot
	key, value, quoted, hasValue := "", "", false, false
	comment := false
	var startAt spot
	text := []rune(f.text)
	line, col := 0, 0
	end := func() {
		if key != "" || hasValue {
			out = append(out, aptLine{key: strings.Join(append(slices.Clone(scope), key), "::"), value: value, at: startAt})
		}
		key, value, hasValue = "", "", false
	}
	for i := 0; i < len(text); i++ {
		r := text[i]
		if r == '\n' {
			if quoted {
				w.report("apt-conf-syntax", f.at(line, 0, 1), "the quote is not closed on its line: apt stops with an error, unattended-upgrades too")
				return out
			}
			line, col, comment = line+1, 0, false
			continue
		}
		col++
		switch {
		case comment:
		case quoted && r == '"':
			quoted = false
		case quoted:
			value += string(r)
		case r == '"':
			if hasValue {
				w.report("apt-conf-syntax", startAt, "a ; is missing before the next line: apt stops with an error, unattended-upgrades too")
				return out
			}
			quoted, hasValue = true, true
			if key == "" {
				startAt = f.at(line, col-1, 1)
			}
		case r == '/' && i+1 < len(text) && text[i+1] == '/', r == '#':
			if rest := strings.Split(string(text[i:]), "\n")[0]; strings.HasPrefix(rest, "#clear") {
				fields := strings.Fields(strings.Trim(strings.TrimPrefix(rest, "#clear"), " ;"))
				if len(fields) > 0 {
					out = append(out, aptLine{key: strings.Trim(fields[0], ";"), clear: true, at: f.at(line, col-1, len(rest))})
				}
			}
			comment = true
		case r == '{':
			scope, open = append(scope, key), append(open, startAt)
			key = ""
		case r == '}':
			if len(scope) == 0 {
				w.report("apt-conf-syntax", f.at(line, col-1, 1), "a } without a {")
				return out
			}
			end()
			scope, open = scope[:len(scope)-1], open[:len(open)-1]
		case r == ';':
			end()
		case r == ' ' || r == '\t':
		default:
			if hasValue {
				w.report("apt-conf-syntax", startAt, "a ; is missing at the end: apt stops with an error, unattended-upgrades too")
				return out
			}
			if key == "" {
				startAt = f.at(line, col-1, 1)
			}
			key += string(r)
		}
	}
	switch {
	case quoted:
		w.report("apt-conf-syntax", f.at(max(0, len(f.lines())-1), 0, 1), "the quote is not closed: apt stops with an error, unattended-upgrades too")
	case len(scope) > 0:
		at := f.at(0, 0, 1)
		for i, l := range f.lines() {
			if strings.HasSuffix(strings.TrimSpace(l), "{") {
				at = f.at(i, 0, len(l))
			}
		}
		w.report("apt-conf-syntax", cmpSpot(f, at), "a { is not closed: apt stops with an error, unattended-upgrades too")
	case key != "" || hasValue:
		w.report("apt-conf-syntax", startAt, "a ; is missing at the end: apt stops with an error, unattended-upgrades too")
	}
	return out
}

// cmpSpot keeps a place at the first line of the file's content.
func cmpSpot(f *file, _ spot) spot { return f.at(0, 0, 1) }

var clockTime = lazy.Regexp(`^(?:now|[0-2]?[0-9]:[0-5][0-9])$`)

func checkUpgrades(w *world) {
	for _, f := range w.under("/etc/apt/apt.conf.d") {
		lines := w.aptLines(f)
		w.checkOrigins(f, lines)
		w.checkUpgradeLists(f, lines)
		for _, l := range lines {
			w.checkAptLine(l)
		}
	}
	for _, c := range w.commands {
		in := c.inner()
		if in.is("systemctl", "disable", "stop", "mask") && in.has("unattended-upgrades", "unattended-upgrades.service", "apt-daily-upgrade.timer", "apt-daily.timer") && !slices.ContainsFunc(w.commands, func(c command) bool { return c.inner().is("systemctl", "unmask", "enable", "start") }) {
			w.report("upgrades-off", c.at, "security updates are not installed any more")
		}
		if slices.Contains(words("apt apt-get"), in.name()) && in.has("remove", "purge") && in.has("unattended-upgrades") {
			w.report("upgrades-off", c.at, "security updates are not installed any more")
		}
	}
}

func (w *world) checkAptLine(l aptLine) {
	parts := strings.Split(l.key, "::")
	if l.clear || len(parts) < 2 {
		return
	}
	switch {
	case parts[0] != "Unattended-Upgrade" && near2(parts[0], []string{"Unattended-Upgrade"}) != "":
		w.hint("write Unattended-Upgrade::").report("upgrades-key", l.at, "unattended-upgrades reads no %s::", parts[0])
	case parts[0] == "Unattended-Upgrade" && !slices.Contains(upgradeKeys, parts[1]):
		w.hint(near2(parts[1], upgradeKeys)).report("upgrades-key", l.at, "unattended-upgrades knows no %s", parts[1])
	case strings.EqualFold(l.key, "APT::Periodic::Unattended-Upgrade") && l.value == "0", strings.EqualFold(l.key, "APT::Periodic::Enable") && l.value == "0":
		w.report("upgrades-off", l.at, "security updates are not installed any more")
	case l.key == "Unattended-Upgrade::Automatic-Reboot-Time" && !clockTime.MatchString(l.value):
		w.report("upgrades-reboot", l.at, "%q is no time such as 03:00", l.value)
	case strings.EqualFold(l.key, "APT::Get::AllowUnauthenticated") && l.value != "false" && l.value != "0", strings.HasPrefix(l.key, "Acquire::AllowInsecureRepositories") && l.value != "false" && l.value != "0":
		w.report("apt-unsigned", l.at, "packages are installed whoever has made them")
	}
}

func (w *world) checkOrigins(f *file, lines []aptLine) {
	var first, reboot *aptLine
	security, cleared, timed := false, false, false
	for i, l := range lines {
		switch {
		case l.clear && (strings.HasSuffix(l.key, "Allowed-Origins") || strings.HasSuffix(l.key, "Origins-Pattern")):
			cleared = true
		case strings.HasPrefix(l.key, "Unattended-Upgrade::Allowed-Origins") || strings.HasPrefix(l.key, "Unattended-Upgrade::Origins-Pattern"):
			if first == nil {
				first = &lines[i]
			}
			security = security || strings.Contains(strings.ToLower(l.value), "security") || strings.Contains(l.value, "*")
		case l.key == "Unattended-Upgrade::Automatic-Reboot" && l.value == "true":
			reboot = &lines[i]
		case l.key == "Unattended-Upgrade::Automatic-Reboot-Time":
			timed = true
		}
	}
	if first != nil {
		at := first.at
		for i, l := range f.lines() {
			if strings.Contains(l, "Origins") && !strings.HasPrefix(strings.TrimSpace(l), "#") {
				at = f.at(i, 0, len(l))
				break
			}
		}
		switch {
		case !security:
			w.report("upgrades-origins", at, "no security archive is among the origins")
		case !cleared && !strings.HasSuffix(f.path, "/50unattended-upgrades"):
			w.warn("upgrades-origins", at, "the list is added to the package's own, which stays: write #clear Unattended-Upgrade::Allowed-Origins; first to replace it")
		}
	}
	if reboot != nil && !timed {
		w.warn("upgrades-reboot", reboot.at, "the machine reboots as soon as an update wants it, at any time")
	}
}
