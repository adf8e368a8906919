package lint

import (
	"slices"
	"strconv"
	"strings"

	"bake/internal/lazy"
)

// sysctlLine is one kernel setting.
type sysctlLine struct {
	key, value string
	at         spot
	file       *file
}

func (w *world) sysctlLines() []sysctlLine {
	var out []sysctlLine
	for _, f := range w.files {
		if f.hidden || f.path != "/etc/sysctl.conf" && !(strings.Contains(f.path, "/sysctl.d/") && strings.HasSuffix(f.path, ".conf")) {
			continue
		}
		for i, line := range f.lines() {
			text := strings.TrimSpace(line)
			if text == "" || text[0] == '#' || text[0] == ';' {
				continue
			}
			at := f.at(i, len(line)-len(strings.TrimLeft(line, " \t")), len(text))
			key, value, ok := strings.Cut(text, "=")
			if !ok {
				if !strings.HasPrefix(text, "-") {
					w.report("sysctl-syntax", at, "want key = value: the line is ignored")
				}
				continue
			}
			out = append(out, sysctlLine{strings.TrimPrefix(strings.TrimSpace(key), "-"), strings.TrimSpace(value), at, f})
		}
	}
	return out
}

var (
	cardName = lazy.Regexp(`^(net\.ipv[46]\.(?:conf|neigh))\.[^.]+(?:\.[0-9]+)?\.([a-z0-9_]+)$`)
	// limits are the values of settings with few of them.
	limits = map[string][2]int64{"vm.swappiness": {0, 200}, "kernel.dmesg_restrict": {0, 1}, "kernel.kptr_restrict": {0, 2}, "kernel.yama.ptrace_scope": {0, 3}, "kernel.randomize_va_space": {0, 2},
		"kernel.unprivileged_bpf_disabled": {0, 2}, "net.core.bpf_jit_harden": {0, 2}, "fs.protected_hardlinks": {0, 1}, "fs.protected_symlinks": {0, 1}, "fs.protected_fifos": {0, 2}, "fs.protected_regular": {0, 2},
		"fs.suid_dumpable": {0, 2}, "net.ipv4.ip_forward": {0, 1}, "net.ipv4.tcp_syncookies": {0, 2}, "net.ipv4.tcp_rfc1337": {0, 1}, "net.ipv4.icmp_echo_ignore_broadcasts": {0, 1},
		"net.ipv4.conf.*.rp_filter": {0, 2}, "net.ipv4.conf.*.accept_redirects": {0, 1}, "net.ipv4.conf.*.send_redirects": {0, 1}, "net.ipv4.conf.*.accept_source_route": {0, 1}, "net.ipv4.conf.*.log_martians": {0, 1},
		"net.ipv6.conf.*.accept_redirects": {0, 1}, "net.ipv6.conf.*.accept_ra": {0, 2}, "net.ipv6.conf.*.disable_ipv6": {0, 1}, "kernel.sysrq": {0, 511}, "kernel.perf_event_paranoid": {-1, 4}, "vm.overcommit_memory": {0, 2},
		"vm.dirty_ratio": {0, 100}, "vm.dirty_background_ratio": {0, 100}, "kernel.modules_disabled": {0, 1}, "kernel.kexec_load_disabled": {0, 1}, "dev.tty.ldisc_autoload": {0, 1}, "kernel.unprivileged_userns_clone": {0, 1},
		"kernel.apparmor_restrict_unprivileged_userns": {0, 1}, "net.ipv4.tcp_timestamps": {0, 2}, "vm.vfs_cache_pressure": {0, 10000}}
	// weak are values that give protection away.
	weak = map[string]string{"kernel.randomize_va_space=0": "programs are where an exploit expects them", "kernel.randomize_va_space=1": "the heap is where an exploit expects it",
		"net.ipv4.conf.*.accept_redirects=1": "a neighbour may change the routes", "net.ipv6.conf.*.accept_redirects=1": "a neighbour may change the routes",
		"net.ipv4.conf.*.accept_source_route=1": "the sender decides on the way of a packet", "net.ipv4.tcp_syncookies=0": "a flood of half-open connections shuts a service",
		"kernel.unprivileged_bpf_disabled=0": "every user may load programs into the kernel", "fs.protected_symlinks=0": "links in /tmp are followed", "fs.protected_hardlinks=0": "links to other users' files can be made",
		"fs.suid_dumpable=1": "the memory of set-id programs may be written to a file", "kernel.yama.ptrace_scope=0": "every process may read the memory of the user's other processes",
		"kernel.apparmor_restrict_unprivileged_userns=0": "every user is root in a namespace, with the kernel's whole surface before them", "kernel.kptr_restrict=0": "the kernel's addresses are shown", "net.ipv4.conf.*.rp_filter=0": "packets with a false source are taken",
		"net.ipv4.conf.*.route_localnet=1": "what listens on 127.0.0.1 can be reached from outside"}
)

func general(key string) string {
	key = strings.ReplaceAll(key, "/", ".")
	if m := cardName.FindStringSubmatch(key); m != nil {
		return m[1] + ".*." + m[2]
	}
	return key
}

func checkSysctl(w *world) {
	lines := w.sysctlLines()
	first := map[string]sysctlLine{}
	for _, l := range lines {
		w.checkSetting(l)
		if before, twice := first[l.key]; twice && before.value != l.value && before.file == l.file {
			w.report("sysctl-twice", l.at, "%s is %s above: the last one counts", l.key, before.value)
		} else if twice && before.value != l.value && (before.file.layer == nil || l.file.layer == nil) {
			w.report("sysctl-twice", l.at, "%s is %s in %s: the file whose name comes last counts", l.key, before.value, before.file.path)
		}
		first[l.key] = l
	}
	if len(lines) == 0 || w.host != nil {
		return
	}
	applied := slices.ContainsFunc(w.commands, func(c command) bool {
		in := c.inner()
		return in.name() == "sysctl" && slices.ContainsFunc(in.words, func(a string) bool {
			return a == "--system" || strings.HasPrefix(a, "-p") || strings.HasPrefix(a, "--load") || a == "-w"
		}) ||
			strings.HasSuffix(in.name(), "systemd-sysctl") || in.is("systemctl", "restart", "start") && in.has("systemd-sysctl", "systemd-sysctl.service", "procps", "procps.service") ||
			slices.Contains(words("reboot shutdown"), in.name())
	}) || w.config.Get("power_state").Get("mode") != nil && w.config.Get("power_state").Get("mode").Text == "reboot"
	if !applied {
		w.report("sysctl-not-applied", lines[0].file.key("path"), "systemd-sysctl has run before cloud-init writes the file: nothing of it counts before the next boot")
	}
}

func (w *world) checkSetting(l sysctlLine) {
	key := general(l.key)
	all := settings()
	_, known := slices.BinarySearch(all, key)
	switch {
	case strings.ContainsAny(l.value, "#") && !strings.HasPrefix(l.value, "|"):
		w.report("sysctl-syntax", l.at, "a comment after a value is part of it: the kernel refuses %q", l.value)
		return
	case !known && !strings.Contains(key, "*"):
		w.unknownSetting(l, key, all)
		return
	case !known:
		w.unknownSetting(l, key, all)
		return
	}
	limit, bounded := limits[key]
	n, err := strconv.ParseInt(l.value, 10, 64)
	switch {
	case bounded && err != nil:
		w.report("sysctl-value", l.at, "%s is a number from %d to %d: the kernel refuses %q", l.key, limit[0], limit[1], l.value)
	case bounded && (n < limit[0] || n > limit[1]):
		w.report("sysctl-value", l.at, "%s goes from %d to %d: the kernel refuses %s", l.key, limit[0], limit[1], l.value)
	case weak[key+"="+l.value] != "":
		w.report("sysctl-weak", l.at, "%s", weak[key+"="+l.value])
	case (key == "net.ipv4.ip_forward" || key == "net.ipv4.conf.*.forwarding") && l.value == "0" && w.installs("docker.io", "docker-ce"):
		w.report("sysctl-forward", l.at, "Docker's containers reach nothing without forwarding")
	}
}

func (w *world) unknownSetting(l sysctlLine, key string, all []string) {
	for _, k := range all {
		if oneOff(key, k) {
			w.hint("did you mean "+k+"?").report("sysctl-key", l.at, "the kernel has no %s: the line is ignored", l.key)
			return
		}
	}
	dir := key[:max(0, strings.LastIndexByte(key, '.'))]
	if slices.ContainsFunc(all, func(k string) bool { return strings.HasPrefix(k, dir+".") }) {
		w.warn("sysctl-key", l.at, "the kernels of Debian 12 and 13 have no %s", l.key)
	}
}
