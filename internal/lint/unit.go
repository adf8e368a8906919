package lint

import (
	"path"
	"slices"
	"strings"

	"bake/internal/lazy"
)

// unit is a unit file or a drop-in.
type unit struct {
	file    *file
	name    string // nginx.service, also of its drop-ins
	dropIn  bool
	user    bool // of a user's own manager
	lines   []directive
	section []string
}

// directive is one line of a unit.
type directive struct {
	section, key, value string
	at                  spot
}

// unitEnds are the kinds of unit.
var unitEnds = words(".service .socket .mount .automount .swap .target .path .timer .slice .scope .device .link .network .netdev .nspawn")

// unitDirs are where units are looked for; true for those of users' managers.
var unitDirs = map[string]bool{"/etc/systemd/system": false, "/run/systemd/system": false, "/usr/lib/systemd/system": false, "/lib/systemd/system": false,
	"/usr/local/lib/systemd/system": false, "/etc/systemd/user": true, "/usr/lib/systemd/user": true, "/usr/local/lib/systemd/user": true}

// unitDir tells a directory of units.
func unitDir(dir string) (user, is bool) {
	user, is = unitDirs[dir]
	if strings.HasSuffix(dir, "/.config/systemd/user") {
		return true, true
	}
	return user, is
}

func hasUnitEnd(name string) bool {
	return slices.ContainsFunc(unitEnds, func(end string) bool { return strings.HasSuffix(name, end) && len(name) > len(end) })
}

func (w *world) readUnits() {
	for _, f := range w.files {
		dir, name := path.Dir(f.path), path.Base(f.path)
		user, is := unitDir(dir)
		u := &unit{file: f, name: name, user: user}
		if above := path.Dir(dir); !is && strings.HasSuffix(dir, ".d") {
			if user, is = unitDir(above); is {
				u.name, u.dropIn, u.user = strings.TrimSuffix(path.Base(dir), ".d"), true, user
			}
		}
		if !is || f.hidden || !hasUnitEnd(u.name) || u.dropIn && !strings.HasSuffix(name, ".conf") {
			continue
		}
		w.parseUnit(u)
		w.units[f.path] = u
	}
}

func (w *world) parseUnit(u *unit) {
	section, open, start := "", "", 0
	for i, line := range u.file.lines() {
		text := strings.TrimSpace(line)
		if open == "" && (text == "" || text[0] == '#' || text[0] == ';') {
			continue
		}
		if open != "" && (strings.HasPrefix(text, "#") || strings.HasPrefix(text, ";")) {
			continue
		}
		if open == "" {
			start = i
		}
		if more, ok := strings.CutSuffix(text, `\`); ok {
			open += more + " "
			continue
		}
		text, open = strings.TrimSpace(open+text), ""
		at := u.file.at(start, 0, len(strings.TrimSpace(u.file.lines()[start])))
		switch key, value, ok := strings.Cut(text, "="); {
		case strings.HasPrefix(text, "["):
			section = strings.Trim(text, "[]")
			u.section = append(u.section, section)
			u.lines = append(u.lines, directive{section: section, at: at})
			if !strings.HasSuffix(text, "]") {
				w.report("unit-syntax", at, "the name of a section ends in ]")
			}
		case !ok:
			w.report("unit-syntax", at, "this line has no =: systemd ignores it")
		case section == "":
			w.report("unit-syntax", at, "this line is before the first [Section]: systemd ignores it")
		default:
			u.lines = append(u.lines, directive{section, strings.TrimSpace(key), strings.TrimSpace(value), at})
		}
	}
}

// all returns the values of a directive after its last reset.
func (u *unit) all(section, key string) []directive {
	var out []directive
	for _, d := range u.lines {
		if d.section != section || d.key != key {
			continue
		}
		if d.value == "" {
			out = nil
			continue
		}
		out = append(out, d)
	}
	return out
}

// one returns the value that counts.
func (u *unit) one(section, key string) (directive, bool) {
	all := u.all(section, key)
	if len(all) == 0 {
		return directive{}, false
	}
	return all[len(all)-1], true
}

// names are the words of a directive's values.
func (u *unit) names(key string) []string {
	var out []string
	for _, d := range u.all("Unit", key) {
		out = append(out, strings.Fields(d.value)...)
	}
	return out
}

func (u *unit) yes(section, key string) bool {
	d, ok := u.one(section, key)
	return ok && slices.Contains(words("yes true on 1 y t"), strings.ToLower(d.value))
}

// parts returns the unit and the drop-ins for it, for what they say together.
func (w *world) whole(name string) *unit {
	out := &unit{name: name}
	for _, dropIn := range []bool{false, true} {
		for _, f := range w.files {
			if u := w.units[f.path]; u != nil && u.name == name && u.dropIn == dropIn {
				out.lines = append(out.lines, u.lines...)
				out.user = u.user
			}
		}
	}
	return out
}

// imageUnits are units that every cloud image has, or that a package of another
// name brings.
var imageUnits = words(`ssh.service ssh.socket sshd.service cron.service rsyslog.service ufw.service apparmor.service docker.service docker.socket
	containerd.service systemd-journald.service systemd-resolved.service systemd-networkd.service systemd-timesyncd.service systemd-logind.service
	systemd-udevd.service systemd-sysctl.service systemd-modules-load.service systemd-tmpfiles-setup.service systemd-networkd-wait-online.service
	networking.service NetworkManager.service NetworkManager-wait-online.service dbus.service dbus.socket snapd.service snapd.socket
	unattended-upgrades.service apt-daily.service apt-daily.timer apt-daily-upgrade.service apt-daily-upgrade.timer cloud-init.service
	cloud-init-local.service cloud-init-main.service cloud-init-network.service cloud-config.service cloud-final.service cloud-init.target cloud-config.target
	network.target network-pre.target network-online.target multi-user.target graphical.target basic.target sysinit.target local-fs.target local-fs-pre.target
	remote-fs.target remote-fs-pre.target timers.target sockets.target paths.target shutdown.target reboot.target poweroff.target rescue.target emergency.target
	default.target time-sync.target time-set.target nss-lookup.target nss-user-lookup.target swap.target umount.target final.target getty.target slices.target
	user.slice system.slice machine.slice init.scope serial-getty@ttyS0.service getty@tty1.service polkit.service multipathd.service ModemManager.service
	udisks2.service fwupd.service motd-news.timer fstrim.timer fstrim.service logrotate.timer logrotate.service man-db.timer e2scrub_all.timer
	tmp.mount dev-hugepages.mount proc-sys-fs-binfmt_misc.automount open-vm-tools.service qemu-guest-agent.service chrony.service chronyd.service
	ntp.service ntpsec.service fail2ban.service nftables.service netfilter-persistent.service iptables.service firewalld.service tailscaled.service
	nginx.service apache2.service httpd.service caddy.service haproxy.service postgresql.service mysql.service mysqld.service mariadb.service redis.service redis-server.service
	mongod.service rabbitmq-server.service memcached.service elasticsearch.service postfix.service dovecot.service bind9.service named.service unbound.service
	dnsmasq.service squid.service openvpn.service wg-quick@wg0.service strongswan.service smbd.service nmbd.service nfs-server.service nfs-kernel-server.service rpcbind.service
	libvirtd.service virtqemud.socket podman.service podman.socket k3s.service kubelet.service lxd.service incus.service auditd.service osqueryd.service prometheus.service
	prometheus-node-exporter.service node_exporter.service grafana-server.service grafana.service loki.service promtail.service alertmanager.service
	jenkins.service gitlab-runner.service php-fpm.service supervisor.service acpid.service atd.service cockpit.socket cockpit.service
	console-setup.service keyboard-setup.service plymouth-quit.service systemd-remount-fs.service systemd-fsck-root.service systemd-random-seed.service
	systemd-user-sessions.service systemd-update-utmp.service systemd-oomd.service systemd-homed.service cups.service avahi-daemon.service bluetooth.service
	sysstat.service smartd.service irqbalance.service thermald.service lvm2-monitor.service iscsid.service open-iscsi.service zfs.target ctrl-alt-del.target
	pollinate.service hibinit-agent.service amazon-ssm-agent.service google-guest-agent.service walinuxagent.service vault.service consul.service nomad.service
	apt-news.service esm-cache.service ubuntu-advantage.service ua-timer.timer snapd.seeded.service certbot.timer certbot.service crowdsec.service coredns.service traefik.service
	debug-shell.service suspend.target sleep.target hibernate.target hybrid-sleep.target rpc-statd.service blk-availability.service dbus-broker.service whoopsie.service apport.service kdump-tools.service
	bake-attest.service bake-attested.target bake-gate.service bake-payload.service bake-state.service bake-tailnet.service bake-tailnet.path`)

// told are files of layers that are given the name of a unit, and do not bring it.
var told = lazy.Regexp(`layers/(?:sudoers|service-hardening|unattended-upgrades)/`)

// knowsUnit reports whether something brings a unit: the image, a file, a package
// with a name like it.
func (w *world) knowsUnit(name string) bool {
	if strings.ContainsAny(name, "$()%/*") || name == "" {
		return true
	}
	full := name
	if !hasUnitEnd(name) {
		full += ".service"
	}
	if slices.Contains(imageUnits, full) || slices.ContainsFunc([]string{".device", ".scope", ".slice", ".swap", ".mount"}, func(end string) bool { return strings.HasSuffix(full, end) }) {
		return true
	}
	template := full
	if at := strings.IndexByte(full, '@'); at >= 0 {
		template = full[:at+1] + full[strings.LastIndexByte(full, '.'):]
	}
	for _, kind := range []string{"container", "pod", "kube", "network", "volume", "image", "build"} { // of which podman's generator makes services
		if w.file("/etc/containers/systemd/"+strings.TrimSuffix(full, ".service")+"."+kind) != nil {
			return true
		}
	}
	for _, u := range w.units {
		if !u.dropIn && (u.name == full || u.name == template) {
			return true
		}
	}
	stem := strings.TrimRight(strings.ToLower(full[:strings.LastIndexByte(full, '.')]), "0123456789.@-")
	if at := strings.IndexByte(stem, '@'); at >= 0 {
		stem = stem[:at]
	}
	for _, p := range w.packages {
		if p.name == "" {
			continue
		}
		if strings.Contains(p.name, stem) || strings.Contains(stem, strings.Split(p.name, "-")[0]) && len(strings.Split(p.name, "-")[0]) > 2 {
			return !oneOff(stem, p.name) || stem == p.name
		}
	}
	for _, c := range w.commands { // a command that installs it, or writes it
		in := c.inner()
		for i, word := range in.words {
			if i > 0 && in.name() != "systemctl" && in.name() != "service" && strings.Contains(word, stem) {
				return true
			}
		}
		if slices.ContainsFunc(append(slices.Clone(c.writes), c.appends...), func(to string) bool { return strings.HasSuffix(to, "/"+full) }) {
			return true
		}
	}
	if w.host != nil { // a layer's own program makes it
		return slices.ContainsFunc(w.files, func(f *file) bool {
			return f.layer != nil && strings.Contains(f.text, "/"+full) && !told.MatchString(f.layer.Origin)
		}) ||
			slices.ContainsFunc(w.host.Layers, func(l layerRendered) bool { return strings.Contains(l.Name, stem) })
	}
	return false
}
