package lint

import (
	"slices"
	"strings"

	"bake/internal/lazy"
)

// checkDanger looks at commands that open or destroy.
func (w *world) checkDanger(c, in *command) {
	args := in.args()
	switch in.name() {
	case "chmod":
		w.checkChmod(c, args)
	case "chown", "chgrp":
		if slices.ContainsFunc(in.words, func(a string) bool { return strings.HasPrefix(a, "-") && strings.Contains(a, "R") }) && len(args) > 1 && !strings.HasPrefix(args[0], "root") && slices.ContainsFunc(args[1:], func(a string) bool {
			return lazy.Regexp(`^/(?:etc|usr|bin|sbin|lib|boot|root|var|var/lib|)(?:/|$)`).MatchString(a) && !lazy.Regexp(`^/(?:var/(?:www|lib|log|cache|spool)/.|usr/local/.)`).MatchString(a)
		}) {
			w.report("cmd-chmod", c.at, "what belongs to the system is %s's then: they can change what root runs", args[0])
		}
	case "rm":
		recursive := slices.ContainsFunc(in.words, func(a string) bool { return lazy.Regexp(`^-[a-zA-Z]*[rR]|^--recursive`).MatchString(a) })
		if recursive && slices.ContainsFunc(args, func(a string) bool {
			return lazy.Regexp(`^/(?:\*|\$[A-Za-z_]*/?\*?|bin|sbin|etc|usr|lib|boot|var|home|root|dev|proc|sys)?/?\*?$`).MatchString(a)
		}) {
			w.report("cmd-destroys", c.at, "this empties the machine, or does so if a variable is not set")
		}
	case "dd":
		if slices.ContainsFunc(in.words, func(a string) bool { return lazy.Regexp(`^of=/dev/(?:[svx]?v?d[a-z]|nvme)`).MatchString(a) }) {
			w.report("cmd-destroys", c.at, "this overwrites a disk")
		}
	case "setenforce":
		w.report("cmd-disables-security", c.at, "SELinux is Red Hat's; here it is AppArmor, and it should stay on")
	case "aa-teardown", "aa-disable", "aa-complain":
		w.report("cmd-disables-security", c.at, "AppArmor confines nothing any more")
	case "systemctl", "service":
		stops := in.is("systemctl", "stop", "disable", "mask") || in.name() == "service" && in.has("stop")
		if stops && in.has("ufw", "ufw.service", "nftables", "nftables.service", "netfilter-persistent", "firewalld") {
			w.report("firewall-open", c.at, "the firewall is taken down")
		} else if stops && in.has("apparmor", "apparmor.service", "fail2ban", "fail2ban.service", "auditd", "auditd.service") {
			w.report("cmd-disables-security", c.at, "what protects the machine is switched off")
		}
	case "sysctl":
		if slices.ContainsFunc(in.words[1:], func(a string) bool { return strings.Contains(a, "=") }) && !c.boot && c.script == "" {
			w.report("sysctl-volatile", c.at, "the setting is gone after a reboot")
		}
	case "openclaw":
		if in.has("--install-daemon") {
			w.report("cmd-onboard", c.at, "this makes a unit of a user's own manager, which is not there, and whose sandbox does nothing on Ubuntu 24.04")
		}
	case "tailscale":
		if in.is("tailscale", "up", "set") && in.has("--ssh", "--ssh=true") {
			w.report("cmd-tailscale-ssh", c.at, "a second ssh server, which knows neither sshd_config nor fail2ban")
		}
	case "loginctl":
		if in.is("loginctl", "enable-linger") && len(args) > 1 && !c.boot {
			w.checkLinger(c.at, args[1])
		}
	}
}

func (w *world) checkLinger(at spot, name string) {
	for _, u := range w.users {
		if u.name == name && isTrue(u.entry.Get("system")) && !slices.ContainsFunc(w.files, func(f *file) bool { return strings.Contains(f.path, "/systemd/user/") }) {
			w.report("cmd-linger", at, "%s is a system user and has no units of its own: a second manager runs for nothing, outside of every sandbox", name)
		}
	}
}

func (w *world) checkChmod(c *command, args []string) {
	if len(args) < 2 {
		return
	}
	mode, target := args[0], args[1]
	sticky := strings.HasPrefix(mode, "1") && len(mode) == 4 || strings.Contains(mode, "t")
	open := lazy.Regexp(`^[0-7]{0,1}[0-7][0-7][2367]$`).MatchString(mode) || lazy.Regexp(`^(?:a|o|go|ugo|)[+=][rx]*w`).MatchString(mode) && !strings.HasPrefix(mode, "+")
	if open && !sticky {
		w.report("cmd-chmod", c.at, "everybody may write to %s", target)
	}
	if lazy.Regexp(`^[4-7][0-7]{3}$`).MatchString(mode) || lazy.Regexp(`^u?\+s$`).MatchString(mode) {
		w.warn("file-setuid", c.at, "%s runs with the rights of its owner, whoever calls it", target)
	}
}
