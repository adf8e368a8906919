package lint

import (
	"path"
	"slices"
	"strings"

	"bake/internal/doc"
	"bake/internal/lazy"
)

// layerAt is the entry of a layer in the host file, and its parameters, nil for none.
func (w *world) layerAt(name string) (at spot, parameters *doc.Node) {
	at = w.hostKey("layers")
	if w.host.Merged == nil {
		return at, nil
	}
	for _, item := range nodeOr(w.host.Merged.Get("layers")).Items {
		if p := item.Get(name); p != nil || item.Text == name {
			return spot{node: item, path: "layers"}, p
		}
	}
	return at, nil
}

// checkBetween looks at what layers, and the host's own words, say against each other.
func (w *world) checkBetween() {
	w.checkUnitParameters()
	w.checkOpenPorts()
	w.checkLogins()
	w.checkServiceUser()
}

// checkUnitParameters reports layers that are told of a unit that nothing brings.
func (w *world) checkUnitParameters() {
	if !w.hasLayer("service-hardening") {
		return
	}
	at, parameters := w.layerAt("service-hardening")
	unit := "openclaw.service"
	if n := parameters.Get("unit"); n != nil {
		unit, at = n.Text, spot{node: n, path: "layers.service-hardening.unit"}
	}
	if !w.knowsUnit(unit) {
		w.warn("unit-needs-missing", at, "nothing brings %s, which the layer service-hardening is to confine", unit)
	}
}

// checkOpenPorts reports a firewall that lets sshd's own port out.
func (w *world) checkOpenPorts() {
	if !w.hasLayer("ufw") || !w.hasLayer("ssh") || w.hasLayer("tailscale") || w.host.Machine.Vsock {
		return
	}
	at, parameters := w.layerAt("ufw")
	port := "22"
	if l, ok := w.sshdValue("Port"); ok {
		port, at = l.value, l.at
	} else if n := parameters.Get("allow_tcp"); n != nil {
		at = spot{node: n, path: "layers.ufw.allow_tcp"}
	}
	if !slices.Contains(w.openPorts(), port) && len(w.openPorts()) > 0 {
		w.add("ufw-lockout", Warning, at, "sshd listens on %s, which the firewall does not let in: nobody can log in over the network", port)
	}
}

func (w *world) openPorts() []string {
	var out []string
	for _, f := range w.files {
		if f.layer != nil {
			for _, m := range ufwPorts.FindAllStringSubmatch(f.text, -1) {
				out = append(out, m[1])
			}
		}
	}
	return out
}

// checkLogins reports users with keys whom sshd does not let in.
func (w *world) checkLogins() {
	allowed, ok := w.sshdValue("AllowUsers")
	if !ok || allowed.file == nil || allowed.file.layer == nil {
		return
	}
	for _, u := range w.users {
		if u.entry.Pos.File != w.host.File || u.entry.Get("ssh_authorized_keys") == nil || u.name == "" {
			continue
		}
		if !slices.ContainsFunc(strings.Fields(allowed.value), func(name string) bool { return name == u.name || strings.ContainsAny(name, "*?") }) {
			w.hint("layers: [ssh: {users: ["+u.name+"]}], or the layer users").warn("sshd-lockout", u.at("name"), "%s has keys, and the layer ssh lets only %s in", u.name, allowed.value)
		}
	}
}

// checkServiceUser reports rights for an account whose processes cannot use them.
func (w *world) checkServiceUser() {
	if !w.hasLayer("sudoers") || !w.hasLayer("service-hardening") {
		return
	}
	at, parameters := w.layerAt("sudoers")
	n := parameters.Get("user")
	if n == nil {
		return
	}
	for _, u := range w.units {
		if d, ok := u.one("Service", "User"); ok && d.value == n.Text {
			at.node, at.path = n, "layers.sudoers.user"
			w.report("unit-nnp-sudo", at, "%s runs %s under NoNewPrivileges, where sudo refuses: the rights are for whoever takes the account over", n.Text, u.name)
			return
		}
	}
}

// checkSettingsTwice reports settings of systemd's daemons that two files set.
func (w *world) checkSettingsTwice() {
	type setting struct{ value, file string }
	set := map[string]setting{}
	files := slices.Clone(w.files)
	slices.SortStableFunc(files, func(a, b *file) int { return strings.Compare(path.Base(a.path), path.Base(b.path)) })
	for _, f := range files {
		dir := strings.TrimSuffix(path.Dir(f.path), ".d")
		if daemonConf[dir] == nil || f.hidden {
			continue
		}
		for i, line := range f.lines() {
			key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
			key, value = strings.TrimSpace(key), strings.TrimSpace(value)
			if !ok || key == "" || key[0] == '#' || key[0] == ';' || value == "" || slices.Contains(words("DNS FallbackDNS NTP FallbackNTP Domains"), key) {
				continue
			}
			if before, twice := set[dir+key]; twice && before.value != value && before.file != f.path {
				w.report("setting-twice", f.at(i, 0, len(line)), "%s= is %s in %s: what is read last counts, which is this", key, before.value, before.file)
			}
			set[dir+key] = setting{value, f.path}
		}
	}
}

// repeated are keywords of sshd that may stand more than once.
var repeated = words("acceptenv allowusers allowgroups denyusers denygroups port listenaddress hostkey hostcertificate subsystem setenv include match permitopen permitlisten logverbose persourcepenaltyexemptlist")

// weakSSHD are settings that give protection away.
var weakSSHD = map[string]string{"x11forwarding=yes": "a server can then read what is typed in the windows of whoever logs in", "strictmodes=no": "keys in files that others may write to are taken", "ignorerhosts=no": "addresses are taken for persons",
	"hostbasedauthentication=yes": "another machine says who somebody is", "permituserenvironment=yes": "a user sets LD_PRELOAD and the like for his own session, past ForceCommand", "gatewayports=yes": "forwarded ports are open to the network", "permittunnel=yes": "whoever logs in has a tunnel into the network",
	"usepam=no": "accounts that are locked or have expired can log in, and limits do not hold", "loglevel=quiet": "nothing is logged, and fail2ban sees nothing"}

// checkSSHDTogether looks at what lines of sshd's files say together.
func (w *world) checkSSHDTogether() {
	lines := w.sshdLines()
	slices.SortStableFunc(lines, func(a, b sshdLine) int { return strings.Compare(sshdOrder(a.file), sshdOrder(b.file)) })
	first := map[string]sshdLine{}
	indented := false
	for i, l := range lines {
		if l.key == "match" {
			indented = false
			continue
		}
		if l.match {
			deep := strings.HasPrefix(l.at.source, " ") && l.at.pos != nil && i > 0 && lines[i-1].at.pos != nil && l.at.pos.Col > matchColumn(lines, i)
			if indented && !deep && l.at.pos != nil && l.at.pos.Col <= matchColumn(lines, i) {
				w.warn("sshd-match", l.at, "a Match block goes on to the end of the file: %s counts for it alone", l.word)
			}
			indented = indented || deep
			continue
		}
		if why := weakSSHD[l.key+"="+strings.ToLower(l.value)]; why != "" && l.file.layer == nil {
			w.report("sshd-weak", l.at, "%s", why)
		}
		if before, twice := first[l.key]; twice && before.value != l.value && !slices.Contains(repeated, l.key) && before.file != l.file {
			w.warn("sshd-order", l.at, "%s has set %s to %s, and the first value counts", before.file.path, l.word, before.value)
		}
		if _, twice := first[l.key]; !twice {
			first[l.key] = l
		}
	}
	if key, ok := w.sshdValue("PubkeyAuthentication"); ok && key.value == "no" && w.host == nil {
		if password, set := w.sshdValue("PasswordAuthentication"); !set && !isTrue(w.config.Get("ssh_pwauth")) || set && password.value == "no" {
			if set {
				return // which is said already
			}
			w.warn("sshd-lockout", key.at, "keys are not taken, and on a cloud image passwords neither: nobody can log in")
		}
	}
}

// matchColumn is the column of the Match that a line belongs to.
func matchColumn(lines []sshdLine, i int) int {
	for ; i >= 0; i-- {
		if lines[i].key == "match" && lines[i].at.pos != nil {
			return lines[i].at.pos.Col
		}
	}
	return 0
}

// sshdOrder is what files are read by: those of sshd_config.d by name, at the head of sshd_config.
func sshdOrder(f *file) string {
	if f.path == "/etc/ssh/sshd_config" {
		return "~"
	}
	return path.Base(f.path)
}

var lessRegexp = lazy.Regexp(`^\.\*$|^\*$|^\.$`)

// checkUpgradeLists looks at what unattended-upgrades leaves out, and whether it learns of updates.
func (w *world) checkUpgradeLists(f *file, lines []aptLine) {
	lists := slices.ContainsFunc(lines, func(l aptLine) bool { return l.key == "APT::Periodic::Update-Package-Lists" })
	for _, l := range lines {
		key := strings.Trim(l.key, ":")
		switch {
		case strings.HasPrefix(key, "Unattended-Upgrade::Package-Blacklist") && lessRegexp.MatchString(l.value):
			w.warn("upgrades-off", l.at, "%q fits every package: nothing is updated", l.value)
		case key == "APT::Periodic::Unattended-Upgrade" && l.value != "0" && !lists && !slices.ContainsFunc(w.files, func(o *file) bool { return o != f && strings.Contains(o.text, "Update-Package-Lists") }) && path.Base(f.path) == "20auto-upgrades":
			w.hint(`APT::Periodic::Update-Package-Lists "1";`).warn("upgrades-off", l.at, "the lists of packages are not downloaded: it learns of no update")
		case key == "Unattended-Upgrade::Automatic-Reboot-Time" && l.value != "now" && !lazy.Regexp(`^(?:[01]?[0-9]|2[0-3]):[0-5][0-9]$`).MatchString(l.value):
			w.report("upgrades-reboot", l.at, "there is no such time: %q", l.value)
		case strings.HasPrefix(key, "Acquire::") && (strings.HasSuffix(key, "::Verify-Peer") || strings.HasSuffix(key, "::Verify-Host")) && l.value == "false",
			slices.Contains(words("Acquire::AllowInsecureRepositories Acquire::AllowDowngradeToInsecureRepositories Acquire::AllowWeakRepositories"), key) && slices.Contains(words("true 1 yes"), l.value):
			w.report("apt-unsigned", l.at, "apt believes whoever answers")
		}
	}
}
