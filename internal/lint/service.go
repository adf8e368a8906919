package lint

import (
	"path"
	"slices"
	"strings"

	"bake/internal/lazy"
)

var (
	execPrefix = lazy.Regexp(`^[-@:+!|]+`)
	shellSigns = words("| || && ; > >> < 2>&1 & 2> &> 2>>")
	badPercent = lazy.Regexp(`%[^%aAbBcCdDEfgGhHiIjJlLmMnNopPqrRsStTuUvVwWyYB]`)
	timeFormat = lazy.Regexp(`\bdate\b[^;|]*\+[^%]*%[a-zA-Z]|%Y-?%m-?%d|%H:?%M`)
)

func (w *world) checkService(u *unit) {
	whole := w.whole(u.name)
	for _, d := range u.lines {
		if d.section == "Service" && strings.HasPrefix(d.key, "Exec") && d.value != "" && d.key != "ExecSearchPath" && d.key != "ExecPaths" {
			w.checkExec(u, d)
		}
	}
	w.checkExecCount(u)
	w.checkAccount(u)
	w.checkPaths(u)
	w.checkRuntime(u, whole)
	w.checkSandbox(u, whole)
	if kind, ok := whole.one("Service", "Type"); ok && kind.value == "oneshot" {
		if d, ok := u.one("Service", "Restart"); ok && (d.value == "always" || d.value == "on-success") {
			w.report("unit-restart", d.at, "systemd refuses Restart=%s in a unit with Type=oneshot", d.value)
		}
	}
}

// checkExec judges the program of a command line, which systemd finds without a shell.
func (w *world) checkExec(u *unit, d directive) {
	value := execPrefix.ReplaceAllString(d.value, "")
	fields := strings.Fields(value)
	if len(fields) == 0 {
		return
	}
	program := strings.Trim(fields[0], `"'`)
	switch {
	case strings.HasPrefix(program, "~") || strings.HasPrefix(program, "$HOME"):
		w.report("unit-exec-bare", d.at, "systemd is no shell: %q is not a home directory", program)
	case strings.HasPrefix(program, "/") || strings.HasPrefix(program, "%") || strings.HasPrefix(program, "$"):
	case strings.Contains(program, "/"):
		w.report("unit-exec-bare", d.at, "%s is relative: systemd does not load the unit", program)
	case slices.Contains(programs, program):
		w.hint("write /usr/bin/"+program).warn("unit-exec-bare", d.at, "%s is looked for in systemd's own path, whatever Environment=PATH says", program)
	default:
		w.report("unit-exec-bare", d.at, "%s is looked for in /usr/local/bin, /usr/bin and the like alone, whatever Environment=PATH says", program)
	}
	shell := slices.Contains(words("sh bash dash env zsh"), path.Base(program)) || w.jobShell(fields)
	if !shell && slices.ContainsFunc(fields[1:], func(f string) bool { return slices.Contains(shellSigns, f) }) {
		w.report("unit-exec-shell", d.at, "systemd is no shell: it hands |, > and && to %s as arguments", path.Base(program))
	}
	if badPercent.MatchString(strings.ReplaceAll(d.value, "%%", "")) || timeFormat.MatchString(strings.ReplaceAll(d.value, "%%", "")) {
		w.hint("write %% for %").report("unit-specifier", d.at, "systemd replaces %% and the letter after it by something of its own")
	}
	if f := w.file(program); f != nil && f.mode >= 0 && f.mode&0o111 == 0 && !f.hidden {
		w.report("unit-exec-mode", d.at, "%s is written with the mode %04o: systemd cannot run it", program, f.mode)
	}
	if f := w.file(program); f != nil && f.mode >= 0 && f.mode&0o022 != 0 {
		w.report("file-world-writable", d.at, "%s, which this unit runs, can be changed by others (%04o)", program, f.mode)
	}
	if what, _ := secretIn(d.value); what != "" {
		w.report("secret-readable", d.at, "%s in a command line, which every user sees", what)
	}
}

func (w *world) jobShell(fields []string) bool {
	return slices.ContainsFunc(fields, func(f string) bool { return f == "-c" || f == "-ec" || f == "-xc" || f == "-lc" })
}

func (w *world) checkExecCount(u *unit) {
	kind, _ := w.whole(u.name).one("Service", "Type")
	starts := u.all("Service", "ExecStart")
	switch {
	case u.dropIn && len(starts) > 0 && kind.value != "oneshot":
		reset := slices.ContainsFunc(u.lines, func(d directive) bool { return d.key == "ExecStart" && d.value == "" })
		if !reset {
			w.hint("write a line ExecStart= before it").report("unit-exec-count", starts[0].at, "the unit has an ExecStart= already, and this adds a second one: systemd refuses the unit")
		}
	case u.dropIn:
	case len(starts) > 1 && kind.value != "oneshot":
		w.report("unit-exec-count", starts[1].at, "a second ExecStart=, which only Type=oneshot may have: systemd refuses the unit")
	case len(starts) == 0 && !slices.Contains(words("oneshot"), kind.value) && len(w.whole(u.name).all("Service", "ExecStart")) == 0:
		at := u.file.key("path")
		for _, d := range u.lines {
			if d.section == "Service" {
				at = d.at
				break
			}
		}
		w.report("unit-exec-count", at, "the service has no ExecStart=: systemd refuses the unit")
	}
}

func (w *world) checkAccount(u *unit) {
	if u.user {
		return
	}
	dynamic := w.whole(u.name).yes("Service", "DynamicUser")
	if d, ok := u.one("Service", "User"); ok && !dynamic && !strings.Contains(d.value, "%") && !w.knowsUser(d.value) {
		w.hint(near(d.value, baseUsers)).report("unit-user-unknown", d.at, "nothing makes the user %s: the unit fails with 217/USER", d.value)
	}
	if d, ok := u.one("Service", "Group"); ok && !dynamic && !strings.Contains(d.value, "%") && !w.knowsGroup(d.value) && !w.knowsUser(d.value) {
		w.hint(near(d.value, baseGroups)).report("unit-user-unknown", d.at, "nothing makes the group %s: the unit fails with 216/GROUP", d.value)
	}
	for _, d := range u.all("Service", "SupplementaryGroups") {
		for _, g := range strings.Fields(d.value) {
			if asRoot[g] != "" {
				w.report("users-group-root", d.at, "the group %s makes the service root: %s", g, asRoot[g])
			}
		}
	}
}

func (w *world) checkPaths(u *unit) {
	for _, d := range u.lines {
		if d.section != "Service" {
			continue
		}
		switch d.key {
		case "ReadWritePaths", "ReadOnlyPaths", "InaccessiblePaths", "BindPaths", "BindReadOnlyPaths", "ExecPaths", "NoExecPaths", "TemporaryFileSystem":
			for _, p := range strings.Fields(d.value) {
				p, _, _ = strings.Cut(strings.TrimLeft(p, "-+"), ":")
				if p != "" && !strings.HasPrefix(p, "/") && !strings.HasPrefix(p, "%") && p != "~" {
					w.report("unit-path", d.at, "%q is no absolute path, and ~ is not expanded: the unit fails with 226/NAMESPACE", p)
				} else if d.key == "ReadWritePaths" && !strings.Contains(d.value, "-/") && strings.HasPrefix(p, "/home/") && !u.user {
					w.hint("write -"+p+", or make the directory first").warn("unit-path", d.at, "if %s is not there, the unit fails with 226/NAMESPACE", p)
				}
			}
		case "WorkingDirectory", "RootDirectory", "PIDFile":
			if p := strings.TrimLeft(d.value, "-"); p != "" && p != "~" && !strings.HasPrefix(p, "/") && !strings.HasPrefix(p, "%") && d.key != "PIDFile" {
				w.report("unit-path", d.at, "%q is no absolute path", d.value)
			}
		case "StateDirectory", "CacheDirectory", "LogsDirectory", "RuntimeDirectory", "ConfigurationDirectory":
			if strings.HasPrefix(d.value, "/") {
				w.report("unit-path", d.at, "%s= is a name below /var/lib, /var/cache, /var/log, /run or /etc, not an absolute path", d.key)
			}
		case "EnvironmentFile":
			if p := strings.TrimPrefix(d.value, "-"); !strings.HasPrefix(p, "/") && !strings.HasPrefix(p, "%") && p != "" {
				w.report("unit-path", d.at, "%q is no absolute path", d.value)
			}
		case "Environment":
			if m := secretAssign.FindStringSubmatch(" " + d.value); m != nil && !harmless(m[1], m[2]) {
				w.hint("use LoadCredential=, or EnvironmentFile= with mode 0600").report("secret-readable", d.at, "%s stands in a unit, which every user may read", m[1])
			} else if what, _ := secretIn(d.value); what != "" {
				w.report("secret-readable", d.at, "%s in a unit, which every user may read", what)
			}
		}
	}
}

// justInTime are programs that write the code they run.
var justInTime = words("node nodejs npm npx deno bun java chromium chromium-browser google-chrome pwsh dotnet luajit pypy3 openclaw pm2 yarn pnpm electron firefox")

func (u *unit) runs(programs []string) bool {
	for _, d := range u.all("Service", "ExecStart") {
		for _, f := range strings.Fields(execPrefix.ReplaceAllString(d.value, "")) {
			if slices.Contains(programs, path.Base(strings.Trim(f, `"'`))) {
				return true
			}
		}
	}
	return false
}

func (w *world) checkRuntime(u, whole *unit) {
	if d, ok := u.one("Service", "MemoryDenyWriteExecute"); ok && whole.yes("Service", "MemoryDenyWriteExecute") && whole.runs(justInTime) {
		w.report("unit-mdwe-jit", d.at, "the program writes the code that it runs, as Node does: it is killed at its start")
	}
	if d, ok := u.one("Service", "ProcSubset"); ok && d.value == "pid" && whole.runs(words("node nodejs openclaw")) {
		w.warn("unit-node", d.at, "Node's os.cpus() is empty then, and divisions by the number of processors fail")
	}
	if d, ok := u.one("Service", "RestrictSUIDSGID"); ok && whole.yes("Service", "RestrictSUIDSGID") && slices.ContainsFunc(whole.all("Service", "ExecStart"), func(d directive) bool { return strings.Contains(d.value, "openclaw") }) {
		w.hint("leave RestrictSUIDSGID away").warn("unit-node", d.at, "systemd answers openat2 with ENOSYS then, and OpenClaw's gateway does not get its lock")
	}
	if d, ok := u.one("Service", "RestrictAddressFamilies"); ok && whole.runs(words("node nodejs openclaw")) && !strings.HasPrefix(d.value, "~") {
		var all []string
		for _, d := range whole.all("Service", "RestrictAddressFamilies") {
			all = append(all, strings.Fields(d.value)...)
		}
		if !slices.Contains(all, "AF_NETLINK") && !slices.Contains(all, "none") {
			w.warn("unit-node", d.at, "Node's os.networkInterfaces() fails without AF_NETLINK")
		}
	}
	nnp, ok := u.one("Service", "NoNewPrivileges")
	if !ok || !whole.yes("Service", "NoNewPrivileges") {
		return
	}
	if whole.runs(words("sudo su pkexec doas")) {
		w.report("unit-nnp-sudo", nnp.at, "sudo cannot become root under NoNewPrivileges")
		return
	}
	if d, ok := whole.one("Service", "User"); ok && d.value != "root" && w.maySudo(d.value) {
		w.report("unit-nnp-sudo", nnp.at, "%s has sudo rules, which are dead under NoNewPrivileges: sudo refuses to run there", d.value)
	}
}

// maySudo reports whether a rule of sudo is for the user.
func (w *world) maySudo(name string) bool {
	for _, f := range w.under("/etc/sudoers.d") {
		for _, l := range sudoLines(f) {
			if fields := strings.Fields(l.text); len(fields) > 0 && fields[0] == name {
				return true
			}
		}
	}
	return false
}

// confinement are directives that take rights away from a service.
var confinement = words(`NoNewPrivileges ProtectSystem ProtectHome PrivateTmp PrivateDevices PrivateUsers PrivateNetwork ProtectKernelTunables ProtectKernelModules
	ProtectKernelLogs ProtectControlGroups ProtectClock ProtectHostname ProtectProc RestrictAddressFamilies RestrictNamespaces RestrictRealtime RestrictSUIDSGID
	LockPersonality MemoryDenyWriteExecute SystemCallFilter SystemCallArchitectures CapabilityBoundingSet DynamicUser User IPAddressDeny UMask RemoveIPC`)

func (w *world) checkSandbox(u, whole *unit) {
	if u.user {
		for _, d := range u.lines {
			if d.section == "Service" && slices.Contains(words("ProtectSystem ProtectHome ReadWritePaths PrivateTmp PrivateDevices ProtectKernelModules ProtectKernelTunables ProtectControlGroups InaccessiblePaths ReadOnlyPaths PrivateUsers PrivateMounts BindPaths TemporaryFileSystem"), d.key) {
				w.report("unit-user-sandbox", d.at, "in a unit of a user's own manager %s= does nothing where AppArmor restricts user namespaces, as on Ubuntu 24.04, and nothing says so", d.key)
				return
			}
		}
		return
	}
	kind, _ := whole.one("Service", "Type")
	start, ok := u.one("Service", "ExecStart")
	if !ok || u.dropIn || kind.value == "oneshot" {
		return
	}
	score := 0
	for _, key := range confinement {
		if len(whole.all("Service", key)) > 0 || slices.ContainsFunc(whole.lines, func(d directive) bool { return d.key == key }) {
			score++
		}
	}
	if score == 0 {
		w.report("unit-exposure", start.at, "the service runs as root with all that root may do: systemd-analyze security would say 9.6 UNSAFE")
	}
}
