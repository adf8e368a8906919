package lint

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"bake/internal/doc"
	"bake/internal/lazy"
)

func entryName(key string, i int) string { return fmt.Sprintf("%s[%d]", key, i) }

// checkValues looks at values of cloud-config's keys that the schema takes and whoever
// they are for does not.
func checkValues(w *world) {
	w.checkUserValues()
	w.checkGroupMembers()
	w.checkNameForms()
	w.checkStorage()
	w.checkAptValues()
	w.checkTrust()
	w.checkLogin()
	w.checkOpenRules()
	w.checkPlaces()
	for _, f := range w.files {
		if u := w.units[f.path]; u != nil && f.layer == nil {
			w.checkUnitForms(u)
		}
	}
}

// get walks down the merged configuration.
func (w *world) get(keys string) *doc.Node {
	n := w.config
	for _, key := range strings.Split(keys, ".") {
		n = n.Get(key)
	}
	return n
}

func (w *world) checkUserValues() {
	for _, u := range w.users {
		if n := u.entry.Get("uid"); n != nil && n.Text == "0" && u.name != "root" {
			w.report("users-value", u.at("uid"), "0 is root's: useradd refuses it")
		}
		if n := u.entry.Get("gecos"); n != nil && strings.Contains(n.Text, ":") {
			w.report("users-value", u.at("gecos"), "a colon ends a field of /etc/passwd: useradd refuses it, and there is no user")
		}
		if n := u.entry.Get("expiredate"); n != nil {
			if day, err := time.Parse(time.DateOnly, n.Text); err == nil && day.Before(time.Now()) {
				w.report("users-value", u.at("expiredate"), "the account has expired on %s: nobody can log in", n.Text)
			}
		}
		hash := u.entry.Get("passwd")
		if hash == nil {
			hash = u.entry.Get("hashed_passwd")
		}
		if lock := u.entry.Get("lock_passwd"); hash != nil && strings.HasPrefix(hash.Text, "$") && !isFalse(lock) {
			w.hint("write lock_passwd: false, or leave the password away").warn("users-password", spot{node: hash, path: u.path + ".passwd"}, "the password is locked, which it is unless lock_passwd is false: it lets nobody in")
		}
	}
}

// checkGroupMembers: groups are made first, and users who are not there yet left out.
func (w *world) checkGroupMembers() {
	list := w.config.Get("groups")
	if list == nil {
		return
	}
	check := func(path string, members *doc.Node) {
		names := itemTexts(members)
		if members.Kind == doc.String {
			names = strings.FieldsFunc(members.Text, func(r rune) bool { return r == ',' || r == ' ' })
		}
		for _, name := range names {
			made := slices.ContainsFunc(w.users, func(u user) bool { return u.name == name })
			if made && !early(baseUsers, name) {
				w.hint("write the group under the user's groups").warn("users-value", spot{node: members, path: path}, "groups are made before users: %s is not there yet and does not become a member", name)
			} else if !made && !w.knowsUser(name) {
				w.warn("users-value", spot{node: members, path: path}, "nothing makes the user %s, who does not become a member", name)
			}
		}
	}
	for i, item := range list.Items {
		for _, pair := range item.Pairs {
			check(entryName("groups", i), pair.Value)
		}
	}
	for _, pair := range list.Pairs {
		check("groups."+pair.Key.Text, pair.Value)
	}
}

func (w *world) checkNameForms() {
	host, fqdn := w.config.Get("hostname"), w.config.Get("fqdn")
	for key, n := range map[string]*doc.Node{"hostname": host, "fqdn": fqdn} {
		if n == nil {
			continue
		}
		if _, err := netip.ParseAddr(n.Text); err == nil {
			w.report("hostname", spot{node: n, path: key}, "%q is an address, and no name", n.Text)
		}
	}
	if fqdn != nil && fqdn.Kind == doc.String && !strings.Contains(fqdn.Text, ".") && !strings.Contains(fqdn.Text, "{{") {
		w.hint("NAME.DOMAIN").warn("hostname", spot{node: fqdn, path: "fqdn"}, "%q has no domain", fqdn.Text)
	}
	if host != nil && fqdn != nil && !strings.Contains(fqdn.Text+host.Text, "{{") && strings.Split(host.Text, ".")[0] != strings.Split(fqdn.Text, ".")[0] {
		w.hint("the first part of fqdn is the hostname").warn("hostname", spot{node: fqdn, path: "fqdn"}, "hostname is %q and fqdn %q: which counts depends on the release", host.Text, fqdn.Text)
	}
	for _, key := range []string{"servers", "pools", "peers"} {
		if list := w.get("ntp." + key); list != nil {
			for i, item := range list.Items {
				if strings.ContainsAny(item.Text, "/ @") {
					w.hint("a name or an address").report("ntp", spot{node: item, path: entryName("ntp."+key, i)}, "%q is no time server", item.Text)
				}
			}
		}
	}
}

// mkfsKinds are those that mkfs makes on Debian and Ubuntu.
var mkfsKinds = words("ext2 ext3 ext4 xfs btrfs vfat fat ntfs swap f2fs exfat zfs bcachefs minix jfs reiserfs")

var uuidForm = lazy.Regexp(`^(?:[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}|[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}|[0-9A-Fa-f]{16})$`)

func (w *world) checkStorage() {
	if list := w.config.Get("fs_setup"); list != nil {
		for i, item := range list.Items {
			if n := item.Get("filesystem"); n != nil && !slices.Contains(mkfsKinds, n.Text) && item.Get("cmd") == nil {
				w.hint(near(n.Text, mkfsKinds)).report("mounts-type", spot{node: n, path: entryName("fs_setup", i) + ".filesystem"}, "there is no file system %q", n.Text)
			}
		}
	}
	if disks := w.config.Get("disk_setup"); disks != nil {
		for _, pair := range disks.Pairs {
			total := 0
			layout := nodeOr(pair.Value.Get("layout"))
			for _, part := range layout.Items {
				if part.Kind == doc.List && len(part.Items) > 0 {
					part = part.Items[0]
				}
				share, _ := strconv.Atoi(part.Text)
				total += share
			}
			if total > 100 {
				w.report("key-type", spot{node: layout, path: "disk_setup." + pair.Key.Text + ".layout"}, "the partitions are %d percent of the disk", total)
			}
		}
	}
	if list := w.config.Get("mounts"); list != nil {
		for i, item := range list.Items {
			fields := itemTexts(item)
			if len(fields) == 0 {
				continue
			}
			at := spot{node: item.Items[0], path: entryName("mounts", i)}
			if id, ok := strings.CutPrefix(fields[0], "UUID="); ok && !uuidForm.MatchString(strings.Trim(id, `"'`)) && !strings.ContainsAny(id, "${") {
				w.hint("blkid shows it").add("mounts-device", Error, at, "%q is no UUID of a file system", id)
			}
			if len(fields) > 2 && w.host == nil {
				for kind, need := range map[string][]string{"nfs": {"nfs-common", "nfs-kernel-server"}, "nfs4": {"nfs-common", "nfs-kernel-server"}, "cifs": {"cifs-utils"}, "glusterfs": {"glusterfs-client"}} {
					if fields[2] == kind && !w.installs(need...) {
						w.hint("add "+need[0]+" to packages, and mount it later: packages come after mounts").warn("package-missing", at, "cloud images cannot mount %s: nothing installs %s", kind, need[0])
					}
				}
			}
		}
	}
	if n := w.get("swap.filename"); n != nil && n.Kind == doc.String && !strings.HasPrefix(n.Text, "/") {
		w.report("mounts-where", spot{node: n, path: "swap.filename"}, "%q is no absolute path", n.Text)
	}
}

func (w *world) checkAptValues() {
	apt := w.config.Get("apt")
	for _, key := range words("proxy http_proxy https_proxy ftp_proxy") {
		if n := apt.Get(key); n != nil && n.Text != "" && !strings.Contains(n.Text, "://") && !strings.EqualFold(n.Text, "direct") {
			w.hint("http://HOST:PORT").report("key-type", spot{node: n, path: "apt." + key}, "%q is no URL: apt reaches no archive", n.Text)
		}
	}
	if n := apt.Get("conf"); n != nil && n.Kind == doc.String {
		f := &file{path: "/etc/apt/apt.conf.d/94cloud-init-config", text: n.Text, mode: -1, content: n, entry: n}
		w.aptLines(f)
	}
	if sources := apt.Get("sources"); sources != nil {
		for _, pair := range sources.Pairs {
			if n := pair.Value.Get("key"); n != nil && n.Text != "" && !strings.Contains(n.Text, "BEGIN PGP PUBLIC KEY") && !strings.Contains(n.Text, "{{") {
				w.hint("the whole block, or keyid").report("apt-sources", spot{node: n, path: "apt.sources." + pair.Key.Text + ".key"}, "this is no public key of OpenPGP's: apt refuses the archive")
			}
			if n := pair.Value.Get("keyid"); n != nil && len(strings.TrimPrefix(strings.ReplaceAll(n.Text, " ", ""), "0x")) == 8 {
				w.hint("write the whole fingerprint").warn("apt-unsigned", spot{node: n, path: "apt.sources." + pair.Key.Text + ".keyid"}, "anybody can make a key with the same last eight digits")
			}
		}
	}
}

func (w *world) checkTrust() {
	for _, key := range []string{"ca_certs", "ca-certs"} {
		certs := w.config.Get(key)
		trusted := certs.Get("trusted")
		if trusted != nil {
			for i, item := range trusted.Items {
				if item.Kind == doc.String && !strings.Contains(item.Text, "BEGIN CERTIFICATE") && !strings.Contains(item.Text, "BEGIN TRUSTED CERTIFICATE") {
					severity := Error
					if len(item.Text) < 24 { // it stands for one
						severity = Warning
					}
					w.hint("the whole block from -----BEGIN CERTIFICATE----- on").add("key-type", severity, spot{node: item, path: entryName(key+".trusted", i)}, "this is no certificate in PEM's form")
				}
			}
		}
		if n := certs.Get("remove_defaults"); isTrue(n) && (trusted == nil || len(trusted.Items) == 0) {
			w.warn("key-type", spot{node: n, path: key + ".remove_defaults"}, "no certificate is left: nothing that speaks https works, apt's archives among it")
		}
	}
	if n := w.get("phone_home.url"); n != nil && n.Kind == doc.String && !strings.Contains(n.Text, "://") {
		w.hint("https://...").add("phone-home", Error, spot{node: n, path: "phone_home.url"}, "%q is no URL: nothing is sent", n.Text)
	}
	if n := w.get("snap.commands"); n != nil {
		all := n.Items
		for _, pair := range n.Pairs {
			all = append(slices.Clone(all), pair.Value)
		}
		for _, item := range all {
			verb := strings.Fields(item.Text + " x")[0]
			if item.Kind == doc.String && (slices.Contains(snapVerbs, verb) || near(verb, words("snap")) != "") && verb != "snap" {
				w.hint("write snap "+item.Text).warn("cmd-shape", spot{node: item, path: "snap.commands"}, "a shell reads the text, and there is no program %s", verb)
			}
		}
	}
	for _, key := range []string{"ubuntu_pro", "ubuntu_advantage"} {
		if n := w.config.Get(key).Get("token"); n != nil && len(n.Text) > 8 && !strings.ContainsAny(n.Text, "<${ ") {
			w.warn("secret-plain", spot{node: n, path: key + ".token"}, "the token stands here for everybody who reads the seed")
		}
	}
	if list := w.get("wireguard.interfaces"); list != nil {
		for i, item := range list.Items {
			if n := item.Get("content"); n != nil && lazy.Regexp(`(?m)^\s*PrivateKey\s*=\s*[A-Za-z0-9+/]{10,}`).MatchString(n.Text) {
				w.warn("secret-plain", spot{node: n, path: entryName("wireguard.interfaces", i)}, "the private key stands here for everybody who reads the seed")
			}
		}
	}
}

// checkLogin looks at what sshd reads, as far as it says who may come in.
func (w *world) checkLogin() {
	password, pw := w.sshdValue("PasswordAuthentication")
	for _, l := range w.sshdLines() {
		if !l.match && l.key == "denyusers" && slices.Contains(strings.Fields(l.value), "*") {
			w.report("sshd-lockout", l.at, "nobody may log in")
		}
		if !l.match && l.key == "authorizedkeysfile" && (l.value == "none" || l.value == "/dev/null") && pw && password.value == "no" {
			w.report("sshd-lockout", l.at, "no key is ever accepted, and passwords are not taken: nobody can log in")
		}
	}
}

var opensInput = lazy.Regexp(`-j (?:ACCEPT|ufw|[A-Za-z0-9_-]*(?:ssh|SSH|in|IN)[A-Za-z0-9_-]*)`)

// checkOpenRules reports a packet filter that drops everything and lets no ssh in.
func (w *world) checkOpenRules() {
	for _, f := range w.files {
		if f.hidden || f.layer != nil || f.path != "/etc/iptables/rules.v4" {
			continue
		}
		drop, opens := -1, false
		for i, line := range f.lines() {
			text := strings.TrimSpace(line)
			switch {
			case strings.HasPrefix(text, ":INPUT DROP"):
				drop = i
			case strings.HasPrefix(text, "-A INPUT") && opensInput.MatchString(text) && !strings.Contains(text, "-i lo ") && !lazy.Regexp(`(?i)(?:RELATED|ESTABLISHED)`).MatchString(text) && !strings.Contains(text, "icmp") &&
				!(strings.Contains(text, "--dport") && !lazy.Regexp(`--dports? (?:22|ssh|[0-9,:]*\b22\b)`).MatchString(text) && !w.otherPort(text)):
				opens = true
			case strings.HasPrefix(text, "-A") && !strings.HasPrefix(text, "-A INPUT"):
				opens = opens || lazy.Regexp(`--dports? .*\b(?:22|ssh)\b`).MatchString(text)
			}
		}
		if drop >= 0 && !opens {
			w.report("rules-lockout", f.at(drop, 0, 1), "everything is dropped and nothing lets ssh in")
		}
	}
}

// otherPort reports a rule for the port that sshd has instead of 22.
func (w *world) otherPort(rule string) bool {
	l, ok := w.sshdValue("Port")
	return ok && strings.Contains(rule, "--dport "+l.value)
}

// checkPlaces looks at where files are written.
func (w *world) checkPlaces() {
	run := words("/etc/update-motd.d /etc/kernel/postinst.d /etc/initramfs-tools/hooks /etc/network/if-up.d /etc/network/if-down.d /etc/network/if-pre-up.d /etc/NetworkManager/dispatcher.d /etc/networkd-dispatcher/routable.d /var/lib/cloud/scripts/per-boot /var/lib/cloud/scripts/per-instance /var/lib/cloud/scripts/per-once")
	for _, f := range w.files {
		if f.entry == nil || f.layer != nil {
			continue
		}
		made := slices.ContainsFunc(w.commands, func(c command) bool { return c.name() == "chmod" && (c.has(f.path) || c.has(path.Dir(f.path)+"/*")) })
		switch {
		case strings.HasSuffix(f.path, "/"):
			w.report("file-path", f.key("path"), "%q is a directory, want a file", f.path)
		case (strings.HasPrefix(f.path, "/run/") || strings.HasPrefix(f.path, "/var/run/")) && !strings.HasPrefix(f.path, "/run/bake") && !strings.HasPrefix(f.path, "/run/cloud-init"):
			w.hint("write it with tmpfiles.d, or below /etc or /var/lib").warn("file-tmp", f.key("path"), "/run is empty after every boot: the file is there at the first one only")
		case (f.path == "/etc/rc.local" || slices.Contains(run, path.Dir(f.path))) && f.mode >= 0 && f.mode&0o111 == 0 && !made:
			w.report("file-not-executable", f.key("path"), "%s has the mode %04o: it is never run", f.path, f.mode)
		}
	}
}

// foreground are programs that do not go into the background by themselves.
var foreground = words("node python3 python java sleep npm ruby deno bun uvicorn caddy")

// checkUnitForms looks at forms of values.
func (w *world) checkUnitForms(u *unit) {
	for _, d := range u.lines {
		wrong := func(want string) {
			w.hint(want).report("unit-value", d.at, "%s= cannot be %q: systemd ignores the line", d.key, d.value)
		}
		switch {
		case d.key == "CPUQuota" && d.value != "" && !strings.HasSuffix(d.value, "%"):
			wrong("a percentage such as 50%")
		case d.key == "Nice":
			if n, err := strconv.Atoi(d.value); err == nil && (n < -20 || n > 19) {
				wrong("-20 to 19")
			}
		case (d.key == "StandardOutput" || d.key == "StandardError") && lazy.Regexp(`^(?:file|append|truncate):[^/%]`).MatchString(d.value):
			wrong("an absolute path after the colon")
		case strings.HasPrefix(d.key, "Exec") && d.section == "Service" && lazy.Regexp(`\s#\s`).MatchString(d.value) && !strings.ContainsAny(d.value, `"'`):
			w.hint("put the comment on a line of its own").report("unit-exec-shell", d.at, "systemd hands # and what follows on as arguments")
		case d.key == "OnCalendar" && lazy.Regexp(`(?:^|[\sT])(?:2[4-9]|[3-9][0-9]):|:[6-9][0-9](?:$|:|\s)`).MatchString(d.value):
			w.report("unit-timer", d.at, "%q has no such time of day", d.value)
		case d.key == "Alias" && !hasUnitEnd(d.value):
			wrong("a name with the same ending, such as " + d.value + path.Ext(u.name))
		case d.key == "EnvironmentFile" && strings.HasPrefix(d.value, "/") && w.host == nil && !strings.ContainsAny(d.value, "%*$") && w.file(d.value) == nil && !strings.HasPrefix(d.value, "/etc/default/") && !w.brings(d.value):
			w.hint("- before the path if it may be missing").warn("unit-path", d.at, "nothing here writes %s, and without it the unit does not start", d.value)
		}
	}
	for i, line := range u.file.lines() {
		if trimmed := strings.TrimRight(line, " \t"); trimmed != line && strings.HasSuffix(trimmed, `\`) && !strings.HasPrefix(strings.TrimSpace(line), "#") {
			w.report("unit-syntax", u.file.at(i, len(trimmed)-1, 1), "a blank follows the \\: the next line is not its continuation")
		}
	}
	if u.dropIn || path.Ext(u.name) != ".service" {
		return
	}
	kind, ok := u.one("Service", "Type")
	if !ok {
		return
	}
	_, bus := w.whole(u.name).one("Service", "BusName")
	start, has := u.one("Service", "ExecStart")
	switch {
	case kind.value == "dbus" && !bus:
		w.report("unit-value", kind.at, "Type=dbus needs BusName=: systemd refuses the unit")
	case kind.value == "forking" && has && slices.Contains(foreground, base(strings.Fields(execPrefix.ReplaceAllString(start.value, "") + " x")[0])):
		w.hint("Type=simple").warn("unit-value", kind.at, "the program stays in the foreground: systemd waits for it to fork and gives up")
	}
}
