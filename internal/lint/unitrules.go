package lint

import (
	"path"
	"slices"
	"strings"

	"bake/internal/layer"
	"bake/internal/lazy"
)

type layerRendered = layer.Rendered

// sectionOf is the section that a kind of unit has of its own.
var sectionOf = map[string]string{".service": "Service", ".socket": "Socket", ".mount": "Mount", ".automount": "Automount", ".swap": "Swap",
	".path": "Path", ".timer": "Timer", ".slice": "Slice", ".scope": "Scope", ".target": ""}

func checkUnits(w *world) {
	w.checkUnitNames()
	for _, f := range w.files {
		u := w.units[f.path]
		if u == nil || sectionless(u.name) {
			continue
		}
		w.checkDirectives(u)
		w.checkUnitOrder(u)
		w.checkTogether(u, w.whole(u.name))
		w.checkInstall(u)
		switch path.Ext(u.name) {
		case ".service":
			w.checkService(u)
		case ".timer":
			w.checkTimer(u)
		case ".mount", ".automount":
			w.checkMountUnit(u)
		case ".socket", ".path":
			w.checkTrigger(u)
		}
		if f.mode >= 0 && f.mode&0o111 != 0 && f.layer == nil {
			w.warn("unit-file-name", f.key("permissions"), "a unit is no program, and needs no execute bit")
		}
	}
}

// sectionless reports a kind of file that is not a unit of the manager's.
func sectionless(name string) bool {
	return slices.Contains(words(".link .network .netdev .nspawn"), path.Ext(name))
}

func (w *world) checkUnitNames() {
	for _, f := range w.files {
		dir, name := path.Dir(f.path), path.Base(f.path)
		_, direct := unitDir(dir)
		_, below := unitDir(path.Dir(dir))
		switch {
		case direct && !hasUnitEnd(name):
			w.report("unit-file-name", f.key("path"), "the name of a unit ends in .service, .timer or the like: systemd does not load this")
		case below && strings.HasSuffix(dir, ".d") && !hasUnitEnd(strings.TrimSuffix(path.Base(dir), ".d")) && !slices.Contains(words("service socket mount timer target path swap slice"), strings.TrimSuffix(path.Base(dir), ".d")):
			w.hint("name the directory after the whole unit, such as nginx.service.d").report("unit-file-name", f.key("path"), "%s belongs to no unit", path.Base(dir))
		case dir == "/etc/systemd" && hasUnitEnd(name):
			w.report("unit-file-name", f.key("path"), "systemd looks for units in /etc/systemd/system")
		}
	}
}

func (w *world) checkDirectives(u *unit) {
	own := sectionOf[path.Ext(u.name)]
	known := []string{"Unit", "Install"}
	if own != "" {
		known = append(known, own)
	}
	for _, d := range u.lines {
		switch {
		case strings.HasPrefix(d.section, "X-"):
		case d.key == "":
			if !slices.Contains(known, d.section) {
				w.hint(near(d.section, known)).report("unit-section", d.at, "a %s has no section [%s]: systemd ignores it and what is in it", path.Ext(u.name)[1:], d.section)
			}
		case !slices.Contains(known, d.section), strings.HasPrefix(d.key, "X-"), strings.HasPrefix(d.key, "-"):
		case !slices.Contains(directives()[d.section], d.key):
			w.unknownDirective(u, d, known)
		default:
			w.checkValue(u, d)
			if d.value != "" && !strings.Contains(d.value, "%") {
				w.checkMore(u, d)
			}
		}
	}
}

func (w *world) unknownDirective(u *unit, d directive, known []string) {
	for _, other := range known {
		if other != d.section && slices.Contains(directives()[other], d.key) {
			w.hint("move it to ["+other+"]").report("unit-directive", d.at, "%s= belongs to [%s], in [%s] systemd ignores it", d.key, other, d.section)
			return
		}
	}
	for _, k := range directives()[d.section] {
		if strings.EqualFold(k, d.key) {
			w.hint("write "+k).report("unit-directive", d.at, "systemd tells capitals from small letters: it does not know %s=", d.key)
			return
		}
	}
	best, distance := "", len(d.key)/3+1
	for _, k := range directives()[d.section] {
		if n := distanceOf(strings.ToLower(d.key), strings.ToLower(k), distance); n < distance {
			best, distance = k, n
		}
	}
	if best != "" {
		w.hint("did you mean " + best + "=?")
	}
	w.report("unit-directive", d.at, "systemd does not know %s= in [%s] and ignores the line", d.key, d.section)
}

// distanceOf is the number of letters to change, limit for that many or more.
func distanceOf(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			diagonal, row[j] = row[j], min(row[j]+1, row[j-1]+1, diagonal+cost)
		}
	}
	return min(row[len(b)], limit)
}

// choices are directives with few values.
var choices = map[string]string{
	"Type": "simple exec forking oneshot dbus notify notify-reload idle", "Restart": "no on-success on-failure on-abnormal on-watchdog on-abort always",
	"KillMode": "control-group mixed process none", "ProtectHome": "BOOL read-only tmpfs", "ProtectSystem": "BOOL full strict",
	"ProtectProc": "noaccess invisible ptraceable default", "ProcSubset": "all pid", "DevicePolicy": "auto closed strict",
	"NotifyAccess": "none main exec all", "OOMPolicy": "continue stop kill", "KeyringMode": "inherit private shared",
	"StandardInput": "null tty tty-force tty-fail data socket file: fd:", "StandardOutput": "inherit null tty journal kmsg journal+console kmsg+console syslog syslog+console file: append: truncate: socket fd:",
	"StandardError":        "inherit null tty journal kmsg journal+console kmsg+console syslog syslog+console file: append: truncate: socket fd:",
	"ProtectControlGroups": "BOOL private strict", "PrivateTmp": "BOOL disconnected", "PrivateUsers": "BOOL self identity full", "ProtectHostname": "BOOL private", "PrivatePIDs": "BOOL",
	"RuntimeDirectoryPreserve": "BOOL restart", "RemainAfterExit": "BOOL", "ExitType": "main cgroup", "TimeoutStartFailureMode": "terminate abort kill", "MemoryPressureWatch": "BOOL auto skip",
	"ManagedOOMSwap": "auto kill", "ManagedOOMMemoryPressure": "auto kill",
}

// booleans are directives that are true or false, times and sizes those that are one.
var (
	booleans = words(`NoNewPrivileges PrivateDevices PrivateNetwork PrivateIPC PrivateMounts ProtectKernelTunables ProtectKernelModules ProtectKernelLogs ProtectClock
		MemoryDenyWriteExecute RestrictRealtime RestrictSUIDSGID RemoveIPC LockPersonality DynamicUser DefaultDependencies StopWhenUnneeded RefuseManualStart
		RefuseManualStop IgnoreOnIsolate Persistent WakeSystem Accept IPAccounting CPUAccounting MemoryAccounting TasksAccounting IOAccounting Delegate SendSIGKILL
		SendSIGHUP GuessMainPID RootDirectoryStartOnly NonBlocking IgnoreSIGPIPE MountAPIVFS ReadOnly LazyUnmount ForceUnmount RandomizedDelaySecFixed FixedRandomDelay OnSuccessJobMode MakeDirectory`)
	times = words(`RestartSec TimeoutSec TimeoutStartSec TimeoutStopSec TimeoutAbortSec RuntimeMaxSec WatchdogSec StartLimitIntervalSec OnBootSec OnActiveSec
		OnUnitActiveSec OnUnitInactiveSec OnStartupSec AccuracySec RandomizedDelaySec JobTimeoutSec TimeoutIdleSec RestartMaxDelaySec`)
	sizes    = words("MemoryMax MemoryHigh MemoryMin MemoryLow MemorySwapMax MemoryZSwapMax")
	timeSpan = lazy.Regexp(`^(?:infinity|(?:\s*[0-9]+(?:\.[0-9]+)?\s*(?:usec|us|µs|msec|ms|seconds?|sec|s|minutes?|min|m|hours?|hr|h|days?|d|weeks?|w|months?|M|years?|y)?)+)$`)
	sizeText = lazy.Regexp(`^(?:infinity|[0-9]+(?:\.[0-9]+)?[KMGTPE]?|[0-9]+(?:\.[0-9]+)?%)$`)
	syscalls = words(`@default @aio @basic-io @chown @clock @cpu-emulation @debug @file-system @io-event @ipc @keyring @memlock @module @mount @network-io
		@obsolete @pkey @privileged @process @raw-io @reboot @resources @sandbox @setuid @signal @swap @sync @system-service @timer @known`)
	capabilities = words(`CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID CAP_SETUID CAP_SETPCAP CAP_LINUX_IMMUTABLE
		CAP_NET_BIND_SERVICE CAP_NET_BROADCAST CAP_NET_ADMIN CAP_NET_RAW CAP_IPC_LOCK CAP_IPC_OWNER CAP_SYS_MODULE CAP_SYS_RAWIO CAP_SYS_CHROOT CAP_SYS_PTRACE
		CAP_SYS_PACCT CAP_SYS_ADMIN CAP_SYS_BOOT CAP_SYS_NICE CAP_SYS_RESOURCE CAP_SYS_TIME CAP_SYS_TTY_CONFIG CAP_MKNOD CAP_LEASE CAP_AUDIT_WRITE CAP_AUDIT_CONTROL
		CAP_SETFCAP CAP_MAC_OVERRIDE CAP_MAC_ADMIN CAP_SYSLOG CAP_WAKE_ALARM CAP_BLOCK_SUSPEND CAP_AUDIT_READ CAP_PERFMON CAP_BPF CAP_CHECKPOINT_RESTORE`)
	families   = words("none AF_UNIX AF_LOCAL AF_INET AF_INET6 AF_NETLINK AF_PACKET AF_VSOCK AF_BLUETOOTH AF_CAN AF_ALG AF_KEY AF_X25 AF_AX25 AF_IPX AF_APPLETALK AF_TIPC AF_XDP AF_QIPCRTR")
	namespaces = words("yes no true false 0 1 on off cgroup ipc net mnt pid user uts time")
	deprecated = map[string]string{"MemoryLimit": "MemoryMax", "CPUShares": "CPUWeight", "StartupCPUShares": "StartupCPUWeight", "BlockIOWeight": "IOWeight", "BlockIOAccounting": "IOAccounting",
		"PermissionsStartOnly": "+ before the command", "SystemCallArchitecturesFilter": "SystemCallArchitectures", "BindTo": "BindsTo", "InaccessibleDirectories": "InaccessiblePaths",
		"ReadOnlyDirectories": "ReadOnlyPaths", "ReadWriteDirectories": "ReadWritePaths", "RequiresOverridable": "Requires", "RequisiteOverridable": "Requisite", "PropagateReloadTo": "PropagatesReloadTo", "CapabilityBoundingSets": "CapabilityBoundingSet", "SyslogFacilityOld": "SyslogFacility"}
)

func (w *world) checkValue(u *unit, d directive) {
	if instead := deprecated[d.key]; instead != "" {
		w.hint("write "+instead).report("unit-deprecated", d.at, "%s= is from the past: newer systemd ignores it", d.key)
		return
	}
	if d.key == "KillMode" && d.value == "none" {
		w.report("unit-deprecated", d.at, "KillMode=none leaves processes behind that nobody knows")
	}
	if d.value == "" || strings.Contains(d.value, "%") {
		return
	}
	if i := strings.Index(d.value, " #"); i >= 0 && !strings.HasPrefix(d.key, "Exec") && d.key != "Description" {
		w.report("unit-syntax", d.at, "systemd knows no comment after a value: it reads %q", d.value)
		return
	}
	wrong := func(want string) {
		w.hint(want).report("unit-value", d.at, "%s= cannot be %q: systemd ignores the line", d.key, d.value)
	}
	isBool := slices.Contains(words("yes no true false on off 1 0 y n t f"), strings.ToLower(d.value))
	switch {
	case choices[d.key] != "" && (d.section == "Service" || d.key != "Type"):
		list := words(choices[d.key])
		bools := slices.Contains(list, "BOOL") || d.key == "RemainAfterExit"
		if !(bools && isBool) && !slices.ContainsFunc(list, func(c string) bool { return c == d.value || strings.HasSuffix(c, ":") && strings.HasPrefix(d.value, c) }) {
			wrong(cmpOr(near(d.value, list), "one of: "+strings.Replace(choices[d.key], "BOOL", "yes no", 1)))
		}
	case slices.Contains(booleans, d.key) && d.key != "Delegate" && !isBool:
		wrong("yes or no")
	case slices.Contains(times, d.key) && !timeSpan.MatchString(d.value):
		wrong("a time such as 5s, 2min or infinity")
	case slices.Contains(sizes, d.key) && !sizeText.MatchString(d.value):
		wrong("a size such as 512M or 2G")
	case d.key == "SystemCallFilter":
		w.checkWords(d, strings.Fields(strings.TrimPrefix(d.value, "~")), syscalls, func(word string) bool { return strings.HasPrefix(word, "@") })
	case d.key == "CapabilityBoundingSet" || d.key == "AmbientCapabilities":
		w.checkWords(d, strings.Fields(strings.ToUpper(strings.TrimPrefix(d.value, "~"))), capabilities, nil)
	case d.key == "RestrictAddressFamilies":
		w.checkWords(d, strings.Fields(strings.TrimPrefix(d.value, "~")), families, nil)
	case d.key == "RestrictNamespaces":
		w.checkWords(d, strings.Fields(strings.TrimPrefix(d.value, "~")), namespaces, nil)
	}
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// checkWords reports words of a value that are not known.
func (w *world) checkWords(d directive, given, known []string, only func(string) bool) {
	for _, word := range given {
		word, _, _ = strings.Cut(word, ":")
		if (only == nil || only(word)) && !slices.Contains(known, word) {
			w.hint(near2(word, known)).report("unit-value", d.at, "%s= does not know %s", d.key, word)
		}
	}
}

// near2 is near for words in capitals.
func near2(word string, known []string) string {
	var lower []string
	for _, k := range known {
		lower = append(lower, strings.ToLower(k))
	}
	return near(strings.ToLower(word), lower)
}

func (w *world) checkUnitOrder(u *unit) {
	whole := w.whole(u.name)
	before := append(whole.names("Before"), whole.names("Wants")...)
	at := func(key, name string) spot {
		for _, d := range u.all("Unit", key) {
			if slices.Contains(strings.Fields(d.value), name) {
				return d.at
			}
		}
		return u.file.key("path")
	}
	if no, ok := whole.one("Unit", "DefaultDependencies"); slices.Contains(whole.names("Before"), "network-pre.target") && !(ok && slices.Contains(words("no false off 0"), no.value)) {
		w.report("unit-network-pre", at("Before", "network-pre.target"), "a unit before network-pre.target must not wait for sysinit.target: it, or the network, is not started, or the boot hangs")
	}
	_ = before
	after := whole.names("After")
	for _, name := range whole.names("Before") {
		if slices.Contains(words("cloud-init.service cloud-init-local.service cloud-init-main.service cloud-init-network.service sysinit.target basic.target local-fs.target local-fs-pre.target"), name) && !w.noDefaults(whole) && slices.Contains(words(".service .socket .path .timer"), path.Ext(u.name)) {
			w.hint("DefaultDependencies=no").report("unit-cycle", at("Before", name), "a unit waits for sysinit.target by default, which waits for %s: systemd breaks the circle by dropping one of them", name)
		}
	}
	for _, name := range after {
		if name > u.name && !u.dropIn && slices.Contains(w.whole(name).names("After"), u.name) {
			w.report("unit-cycle", at("After", name), "%s waits for this unit, and this for it: systemd drops one of them", name)
		}
	}
	for _, final := range words("cloud-final.service cloud-init.target") {
		if slices.Contains(after, final) && slices.Contains(installs(whole), "multi-user.target") && !w.noDefaults(whole) {
			w.report("unit-cloud-init-order", at("After", final), "%s comes after multi-user.target, which wants this unit: systemd breaks the circle by dropping one of them", final)
		}
	}
	if u.dropIn {
		return
	}
	if slices.Contains(after, "network-online.target") && !slices.Contains(append(whole.names("Wants"), whole.names("Requires")...), "network-online.target") {
		w.hint("add Wants=network-online.target").report("unit-online-without-wants", at("After", "network-online.target"), "nobody starts network-online.target: the order alone waits for nothing")
	}
	for _, key := range []string{"Requires", "BindsTo", "Requisite"} {
		for _, need := range whole.names(key) {
			switch {
			case !w.knowsUnit(need) && !u.user:
				w.report("unit-needs-missing", at(key, need), "nothing brings %s, without which this unit does not start", need)
			case need == "docker.service" && key != "Requisite":
				w.hint("write Wants=docker.service and After=docker.service").report("unit-requires-docker", at(key, need), "whenever docker is restarted, by an upgrade too, this unit is stopped")
				w.needsDocker(at(key, need))
			case !slices.Contains(after, need) && strings.HasSuffix(need, ".service") && !slices.Contains(whole.names("Before"), need):
				w.hint("add After="+need).report("unit-requires-without-after", at(key, need), "without After= both are started at the same time")
			}
		}
	}
}

func (w *world) needsDocker(at spot) {
	if !w.installs("docker.io", "docker-ce", "moby-engine", "docker") && !w.comesWith("docker") {
		w.report("unit-needs-missing", at, "no package here brings docker")
	}
}

func (w *world) noDefaults(u *unit) bool {
	d, ok := u.one("Unit", "DefaultDependencies")
	return ok && slices.Contains(words("no false off 0"), d.value)
}

// installs are the targets that want the unit when it is enabled.
func installs(u *unit) []string {
	var out []string
	for _, key := range []string{"WantedBy", "RequiredBy", "UpheldBy"} {
		for _, d := range u.all("Install", key) {
			out = append(out, strings.Fields(d.value)...)
		}
	}
	return out
}

// starts reports whether something enables or starts a unit.
func (w *world) starts(name string, verbs ...string) bool {
	short := strings.TrimSuffix(name, ".service")
	for _, c := range w.commands {
		in := c.inner()
		args := in.args()
		if in.name() == "systemctl" && len(args) > 1 && slices.Contains(verbs, args[0]) {
			for _, a := range args[1:] {
				if a == name || a == short || strings.Contains(a, "$") || strings.Contains(name, "@.") && strings.HasPrefix(a, strings.Split(name, "@")[0]+"@") {
					return true
				}
			}
		}
		if in.name() == "deb-systemd-helper" || in.name() == "service" && len(args) > 0 && args[0] == short || in.name() == "ln" && in.has(name) {
			return true
		}
	}
	return slices.ContainsFunc(w.files, func(f *file) bool {
		return f.layer != nil && f.mode&0o111 != 0 && (strings.Contains(f.text, name) || strings.Contains(f.text, strings.TrimSuffix(name, path.Ext(name))))
	})
}

func (w *world) checkInstall(u *unit) {
	whole := w.whole(u.name)
	targets := installs(whole)
	for _, d := range u.all("Install", "WantedBy") {
		for _, target := range strings.Fields(d.value) {
			if meant, is := typo(target, imageUnits); is && !w.knowsUnit(target) {
				w.hint("did you mean "+meant+"?").report("unit-install-target", d.at, "there is no %s: the unit is enabled and never started", target)
			} else if strings.HasSuffix(target, ".target") && !slices.Contains(imageUnits, target) && !w.knowsUnit(target) && !u.user {
				w.hint(near(target, imageUnits)).report("unit-install-target", d.at, "there is no %s: the unit is enabled and never started", target)
			}
		}
	}
	if u.dropIn || u.user {
		return
	}
	enabled := slices.ContainsFunc(w.commands, func(c command) bool {
		in := c.inner()
		return in.is("systemctl", "enable") && (in.has(u.name) || in.has(strings.TrimSuffix(u.name, ".service")))
	})
	also := slices.ContainsFunc(u.all("Install", "Alias"), func(directive) bool { return true }) || len(u.all("Install", "Also")) > 0
	switch {
	case enabled && len(targets) == 0 && !also:
		w.report("unit-no-install", u.file.key("path"), "%s is to be enabled and has no [Install]: it is not started at the next boot", u.name)
	case len(targets) > 0 && !w.starts(u.name, "enable", "start", "restart", "reenable", "preset", "reload-or-restart") && !w.wanted(u.name) && !slices.Contains(imageUnits, u.name):
		w.report("unit-not-started", u.file.key("path"), "nothing enables or starts %s", u.name)
	}
}

// wanted reports whether another unit of ours starts it.
func (w *world) wanted(name string) bool {
	for _, u := range w.units {
		for _, key := range []string{"Wants", "Requires", "BindsTo", "Upholds", "OnFailure", "OnSuccess"} {
			if u.name != name && slices.Contains(u.names(key), name) {
				return true
			}
		}
		if d, ok := u.one(sectionOf[path.Ext(u.name)], "Unit"); ok && d.value == name {
			return true
		}
		if u.name != name && strings.TrimSuffix(u.name, path.Ext(u.name)) == strings.TrimSuffix(name, path.Ext(name)) && slices.Contains(words(".timer .path .socket .automount"), path.Ext(u.name)) {
			return true
		}
	}
	return false
}
