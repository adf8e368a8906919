package lint

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"bake/internal/doc"
	"bake/internal/lazy"
)

// user is an account that the machine will have.
type user struct {
	name  string
	entry *doc.Node
	path  string
}

func (u user) at(key string) spot {
	if n := u.entry.Get(key); n != nil {
		return spot{node: n, path: u.path + "." + key}
	}
	return spot{node: u.entry, path: u.path}
}

// groups are the names in the entry's groups.
func (u user) groups() []string {
	n := u.entry.Get("groups")
	switch {
	case n == nil:
		return nil
	case n.Kind == doc.String:
		var out []string
		for _, g := range strings.Split(n.Text, ",") {
			out = append(out, strings.TrimSpace(g))
		}
		return out
	}
	var out []string
	for _, item := range n.Items {
		out = append(out, item.Text)
	}
	for _, pair := range n.Pairs {
		out = append(out, pair.Key.Text)
	}
	return out
}

func (w *world) readUsers() {
	list := w.config.Get("users")
	if list == nil {
		return
	}
	for i, item := range list.Items {
		path := fmt.Sprintf("users[%d]", i)
		name := item.Text
		if n := item.Get("name"); n != nil {
			name = n.Text
		}
		w.users = append(w.users, user{name: name, entry: item, path: path})
	}
}

// keepsDefault reports whether the image's own user is there.
func (w *world) keepsDefault() bool {
	list := w.config.Get("users")
	return list == nil || list.Text == "default" || slices.ContainsFunc(w.users, func(u user) bool { return u.entry.Kind != doc.Map && u.name == "default" })
}

// baseUsers and baseGroups are those of a cloud image of Debian and Ubuntu.
var (
	baseUsers = words(`root daemon bin sys sync games man lp mail news uucp proxy www-data backup list irc gnats _apt nobody
		systemd-network systemd-resolve systemd-timesync messagebus syslog sshd _ssh tss uuidd tcpdump landscape pollinate
		fwupd-refresh polkitd usbmux lxd dhcpcd _chrony chrony systemd-coredump systemd-oom ubuntu debian`)
	baseGroups = words(`root daemon bin sys adm tty disk lp mail news uucp man proxy kmem dialout fax voice cdrom floppy tape
		sudo audio dip www-data backup operator list irc src gnats shadow utmp video sasl plugdev staff games users nogroup
		systemd-journal systemd-network systemd-resolve systemd-timesync messagebus syslog sshd _ssh tss uuidd tcpdump
		landscape fwupd-refresh polkitd netdev lxd admin input kvm render sgx crontab ssl-cert rdma ubuntu debian wheel
		systemd-coredump systemd-oom dhcpcd _chrony chrony google-sudoers`)
	// packageUsers come with a package: its name has the user's in it, or is here.
	packageUsers = map[string][]string{"docker": words("docker.io docker-ce moby-engine"), "libvirt": words("libvirt-daemon-system"),
		"libvirt-qemu": words("libvirt-daemon-system"), "nginx": words("nginx nginx-core nginx-full nginx-light"), "postgres": words("postgresql"),
		"mysql": words("mysql-server mariadb-server default-mysql-server"), "redis": words("redis redis-server"), "caddy": words("caddy"),
		"grafana": words("grafana"), "prometheus": words("prometheus prometheus-node-exporter"), "jenkins": words("jenkins"),
		"wireshark": words("wireshark tshark wireshark-common"), "vboxsf": words("virtualbox-guest-utils"), "gitea": words("gitea"),
		"munin": words("munin munin-node"), "zabbix": words("zabbix-agent zabbix-server"), "ntp": words("ntp ntpsec"), "bind": words("bind9"),
		"postfix": words("postfix"), "dovecot": words("dovecot-core"), "tomcat": words("tomcat9 tomcat10"), "elasticsearch": words("elasticsearch"),
		"rabbitmq": words("rabbitmq-server"), "mongodb": words("mongodb-org"), "openvpn": words("openvpn"), "squid": words("squid"), "proxy": words("squid"),
		"haproxy": words("haproxy"), "unbound": words("unbound"), "dnsmasq": words("dnsmasq"), "tor": words("tor"), "debian-tor": words("tor"),
		"Debian-exim": words("exim4"), "memcache": words("memcached"), "consul": words("consul"), "vault": words("vault"), "nomad": words("nomad")}
)

func words(text string) []string { return strings.Fields(text) }

// creates reports whether a command makes the account or the group.
func (w *world) creates(name string, programs ...string) bool {
	return slices.ContainsFunc(w.commands, func(c command) bool {
		in := c.inner()
		return slices.Contains(programs, in.name()) && in.has(name)
	})
}

// comesWith reports whether an installed package brings the name along.
func (w *world) comesWith(name string) bool {
	if w.installs(packageUsers[name]...) {
		return true
	}
	return slices.ContainsFunc(w.packages, func(p packageName) bool {
		return len(name) > 2 && (strings.Contains(p.name, strings.TrimPrefix(name, "_")) || len(p.name) > 2 && strings.Contains(name, p.name))
	}) || w.host != nil && slices.ContainsFunc(w.files, func(f *file) bool { // a layer's own script makes it
		return f.layer != nil && strings.Contains(f.text, name) && (strings.Contains(f.text, "useradd") || strings.Contains(f.text, "adduser") || strings.Contains(f.text, "groupadd") || strings.HasPrefix(f.path, "/usr/lib/sysusers.d/") || strings.HasPrefix(f.path, "/etc/sysusers.d/"))
	})
}

// early reports whether the account is in the image, so that it is there before
// cloud-init makes any.
func early(list []string, name string) bool {
	return slices.Contains(list, name) || name == "" || strings.Trim(name, "0123456789") == ""
}

// knowsUser reports whether the account is there at the end of the first boot.
func (w *world) knowsUser(name string) bool {
	if known, is := w.accounts[name]; is {
		return known
	}
	if w.accounts == nil {
		w.accounts = map[string]bool{}
	}
	w.accounts[name] = w.makesUser(name)
	return w.accounts[name]
}

func (w *world) makesUser(name string) bool {
	return early(baseUsers, name) && (name != "ubuntu" && name != "debian" || w.keepsDefault()) ||
		slices.ContainsFunc(w.users, func(u user) bool { return u.name == name }) ||
		w.config.Get("user").Get("name") != nil && w.config.Get("user").Get("name").Text == name ||
		w.creates(name, "useradd", "adduser") || w.comesWith(name) || w.sysuser(name)
}

// sysuser reports whether a file of sysusers.d makes it.
func (w *world) sysuser(name string) bool {
	return slices.ContainsFunc(w.files, func(f *file) bool {
		return strings.Contains(f.path, "/sysusers.d/") && slices.ContainsFunc(f.lines(), func(l string) bool {
			fields := strings.Fields(l)
			return len(fields) > 1 && fields[1] == name
		})
	})
}

// listedGroups are those that the words name: groups, primary groups, groups of the
// same name as a user.
func (w *world) listedGroups() []string {
	var out []string
	if n := w.config.Get("groups"); n != nil {
		for _, item := range n.Items {
			out = append(out, item.Text)
			for _, pair := range item.Pairs {
				out = append(out, pair.Key.Text)
			}
		}
		for _, pair := range n.Pairs {
			out = append(out, pair.Key.Text)
		}
		if n.Kind == doc.String {
			out = append(out, strings.Split(strings.ReplaceAll(n.Text, " ", ""), ",")...)
		}
	}
	for _, u := range w.users {
		out = append(out, u.name)
		if n := u.entry.Get("primary_group"); n != nil {
			out = append(out, n.Text)
		}
	}
	return out
}

func (w *world) knowsGroup(name string) bool {
	return early(baseGroups, name) || slices.Contains(w.listedGroups(), name) || w.creates(name, "groupadd", "addgroup", "useradd", "adduser") ||
		w.comesWith(name) || w.sysuser(name)
}

var loginName = lazy.Regexp(`^[a-z_][a-z0-9_-]*\$?$`)

func checkUsers(w *world) {
	seen, ids := map[string]int{}, map[string]string{}
	for i, u := range w.users {
		if u.entry.Kind != doc.Map {
			if u.name == "default" && w.host == nil && len(w.users) > 1 || u.name == "default" && w.host != nil {
				w.report("users-default-kept", spot{node: u.entry, path: u.path}, "the image's own user stays, with sudo and no password, in the groups adm, cdrom, lxd and sudo")
			}
			continue
		}
		w.checkUserName(u)
		if before, twice := seen[u.name]; twice && u.name != "" {
			w.report("users-twice", spot{node: u.entry, path: u.path}, "the user %s is in the list twice, first as users[%d]", u.name, before)
		}
		seen[u.name] = i
		if n := u.entry.Get("uid"); n != nil {
			if other := ids[n.Text]; other != "" {
				w.report("users-twice", u.at("uid"), "the uid %s is %s's already", n.Text, other)
			}
			ids[n.Text] = u.name
		}
		w.checkUserGroups(u)
		w.checkPassword(u)
		w.checkHome(u)
		w.checkKeys(u.entry.Get("ssh_authorized_keys"), u.path+".ssh_authorized_keys")
		w.checkAccountForm(u)
		if n := u.entry.Get("sudo"); n != nil && isTrue(n) {
			w.report("users-sudo", u.at("sudo"), "sudo: true is no rule")
		}
	}
	w.checkKeys(w.config.Get("ssh_authorized_keys"), "ssh_authorized_keys")
	w.checkImports(w.config.Get("ssh_import_id"), "ssh_import_id")
	w.checkWayIn()
	w.checkChpasswd()
}

func (w *world) checkUserName(u user) {
	n := u.entry.Get("name")
	switch {
	case n == nil && (u.entry.Get("snapuser") != nil):
	case n == nil:
		w.report("users-name", spot{node: u.entry, path: u.path}, "the user has no name")
	case strings.ContainsAny(n.Text, " :/,") || n.Text == "" || strings.HasPrefix(n.Text, "-") || n.Kind != doc.String:
		w.report("users-name", u.at("name"), "%q cannot be the name of a user", n.Text)
	case !loginName.MatchString(n.Text) || len(n.Text) > 32:
		w.warn("users-name", u.at("name"), "useradd may refuse %q", n.Text)
	}
}

// asRoot are groups whose members are root, one command later.
var asRoot = map[string]string{"docker": "docker run -v /:/h is root on the host", "lxd": "a container can mount the host's disk",
	"disk": "it reads and writes every block device", "cdrom": "it reads the seed, with all that is in it", "shadow": "it reads the hashes of all passwords",
	"kmem": "it reads the kernel's memory", "libvirt": "its virtual machines can have any disk of the host", "root": "many files are writable for it"}

func (w *world) checkUserGroups(u user) {
	for _, g := range u.groups() {
		at := u.at("groups")
		if n := u.entry.Get("groups"); n != nil {
			for _, item := range n.Items {
				if item.Text == g {
					at.node = item
				}
			}
		}
		switch {
		case strings.Contains(g, " "):
			w.hint("separate groups by commas, or write a list").report("users-group-unknown", at, "%q is taken for the name of one group", g)
		case g == "wheel" && u.entry.Get("sudo") == nil:
			w.hint("write sudo").warn("users-group-unknown", at, "on Debian and Ubuntu the group wheel gives no right")
		case asRoot[g] != "":
			w.report("users-group-root", at, "the group %s makes %s root: %s", g, u.name, asRoot[g])
		case !w.knowsGroup(g) && isFalse(u.entry.Get("create_groups")):
			w.report("users-group-unknown", at, "nothing makes the group %s", g)
		case !w.knowsGroup(g):
			w.hint(near(g, baseGroups)).warn("users-group-unknown", at, "nothing makes the group %s: cloud-init creates it, empty, and it gives no right", g)
		}
	}
	if n := u.entry.Get("primary_group"); n != nil && asRoot[n.Text] != "" {
		w.report("users-group-root", u.at("primary_group"), "the group %s makes %s root: %s", n.Text, u.name, asRoot[n.Text])
	}
}

func (w *world) checkPassword(u user) {
	if n := u.entry.Get("plain_text_passwd"); n != nil {
		w.warn("secret-plain", u.at("plain_text_passwd"), "the password of %s stands here for everybody who reads the seed", u.name)
	}
	for _, key := range []string{"passwd", "hashed_passwd"} {
		n := u.entry.Get(key)
		switch {
		case n == nil || n.Text == "" || n.Text == "!" || n.Text == "*":
		case strings.HasPrefix(n.Text, "$1$"):
			w.warn("users-password", u.at(key), "an MD5 hash is guessed in no time, and newer releases refuse it")
		case !strings.HasPrefix(n.Text, "$") && !strings.HasPrefix(n.Text, "!$") && !strings.HasPrefix(n.Text, "*"):
			w.report("users-password", u.at(key), "this is no hash of a password: nobody can log in with it, and if it is the password itself, everybody can read it")
		}
	}
}

// shells are the login shells of the image; others come with the package in the value.
var shells = map[string]string{"/bin/sh": "", "/bin/bash": "", "/usr/bin/bash": "", "/usr/bin/sh": "", "/bin/dash": "", "/usr/bin/dash": "", "/bin/rbash": "", "/bin/false": "",
	"/usr/bin/false": "", "/bin/true": "", "/usr/bin/true": "", "/usr/sbin/nologin": "", "/sbin/nologin": "", "/bin/nologin": "", "/bin/sync": "",
	"/usr/bin/zsh": "zsh", "/bin/zsh": "zsh", "/usr/bin/fish": "fish", "/bin/fish": "fish", "/bin/ksh": "ksh", "/usr/bin/ksh": "ksh",
	"/usr/bin/tmux": "", "/usr/bin/screen": "", "/usr/bin/git-shell": "git", "/bin/tcsh": "tcsh", "/bin/csh": "csh", "/usr/bin/nu": "nushell"}

func (w *world) checkHome(u user) {
	if n := u.entry.Get("shell"); n != nil && n.Text != "" {
		need, known := shells[n.Text]
		switch {
		case !strings.HasPrefix(n.Text, "/"):
			w.report("users-shell", u.at("shell"), "%q is no absolute path: nobody can log in with it", n.Text)
		case need != "" && !w.installs(need, need+"-static"):
			w.report("users-shell", u.at("shell"), "%s is in no image, and no package here brings it", n.Text)
		case !known && w.file(n.Text) == nil:
			w.warn("users-shell", u.at("shell"), "nothing here brings %s", n.Text)
		}
	}
	if n := u.entry.Get("shell"); n != nil && slices.Contains(words("nologin false"), base(n.Text)) && !strings.Contains(flatText(u.entry), "sftp") && !strings.Contains(flatText(u.entry), "restrict") && u.entry.Get("ssh_authorized_keys") != nil && !slices.ContainsFunc(w.files, func(f *file) bool {
		return strings.Contains(f.text, "internal-sftp") || strings.Contains(f.text, "ForceCommand")
	}) {
		w.warn("users-shell", u.at("shell"), "%s has keys and no shell: a login ends at once", u.name)
	}
	keys := u.entry.Get("ssh_authorized_keys") != nil || u.entry.Get("ssh_import_id") != nil
	if keys && (isTrue(u.entry.Get("no_create_home")) || isTrue(u.entry.Get("system")) && !isFalse(u.entry.Get("no_create_home")) && u.entry.Get("homedir") == nil) {
		w.report("users-home", spot{node: u.entry, path: u.path}, "%s has ssh keys and no home directory to keep them in", u.name)
	}
	if n := u.entry.Get("homedir"); n != nil && !strings.HasPrefix(n.Text, "/") {
		w.report("users-home", u.at("homedir"), "%q is no absolute path", n.Text)
	}
}

// checkWayIn reports a machine in which nobody can log in.
func (w *world) checkWayIn() {
	list := w.config.Get("users")
	if list == nil || w.host != nil || w.keepsDefault() || len(list.Items) == 0 {
		return
	}
	for _, key := range []string{"chpasswd", "password", "user", "autoinstall"} {
		if w.config.Get(key) != nil {
			return
		}
	}
	for _, u := range w.users {
		for _, key := range []string{"ssh_authorized_keys", "ssh_import_id", "passwd", "hashed_passwd", "plain_text_passwd", "snapuser", "ssh_redirect_user", "ssh-authorized-keys"} {
			if u.entry.Get(key) != nil {
				return
			}
		}
	}
	if slices.ContainsFunc(w.files, func(f *file) bool {
		return strings.Contains(f.path, "authorized_keys") || strings.Contains(f.path, "sshd_config") && strings.Contains(f.text, "AuthorizedKeys")
	}) {
		return
	}
	w.warn("users-lockout", spot{node: list, path: "users"}, "nobody can log in: no user has a key or a password, and the image's own user is left out")
}

var keyTypes = words(`ssh-ed25519 ssh-rsa ecdsa-sha2-nistp256 ecdsa-sha2-nistp384 ecdsa-sha2-nistp521 sk-ssh-ed25519@openssh.com
	sk-ecdsa-sha2-nistp256@openssh.com ssh-dss ssh-rsa-cert-v01@openssh.com ssh-ed25519-cert-v01@openssh.com`)

func (w *world) checkKeys(list *doc.Node, path string) {
	if list == nil {
		return
	}
	for i, item := range list.Items {
		at := spot{node: item, path: fmt.Sprintf("%s[%d]", path, i)}
		line := strings.TrimSpace(item.Text)
		fields := strings.Fields(line)
		start := slices.IndexFunc(fields, func(f string) bool { return slices.Contains(keyTypes, f) })
		switch {
		case strings.Contains(line, "PRIVATE KEY"):
			w.report("users-key", at, "this is a private key")
		case strings.ContainsAny(line, "<$") || strings.Contains(line, "..."): // a form to be filled in
			w.warn("users-key", at, "this is not yet a key")
		case start < 0:
			w.report("users-key", at, "this is no public key: it has no type such as ssh-ed25519")
		case fields[start] == "ssh-dss":
			w.report("users-key", at, "sshd takes no DSA keys since 2015")
		case start+1 >= len(fields) || !wholeKey(fields[start], fields[start+1]):
			w.report("users-key", at, "the key is cut off or damaged")
		}
	}
}

// wholeKey reports whether the base64 of a key is as long as it says, and of the
// type in front of it.
func wholeKey(kind, text string) bool {
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return false
	}
	for first := true; len(data) > 0; first = false {
		if len(data) < 4 || uint64(binary.BigEndian.Uint32(data)) > uint64(len(data)-4) {
			return false
		}
		n := binary.BigEndian.Uint32(data)
		if first && string(data[4:4+n]) != kind {
			return false
		}
		data = data[4+n:]
	}
	return true
}

var (
	dateForm   = lazy.Regexp(`^[0-9]{4}-[0-9]{2}-[0-9]{2}$`)
	importForm = lazy.Regexp(`^(?:(?:lp|gh):)?[A-Za-z0-9._+-]+$`)
)

func (w *world) checkImports(list *doc.Node, path string) {
	for i, item := range nodeOr(list).Items {
		if !importForm.MatchString(item.Text) {
			w.hint("write gh:NAME or lp:NAME").report("users-key", spot{node: item, path: entryName(path, i)}, "%q is no name at GitHub or Launchpad", item.Text)
		}
	}
}

// checkAccountForm looks at values of a user that useradd would refuse.
func (w *world) checkAccountForm(u user) {
	if n := u.entry.Get("expiredate"); n != nil && !dateForm.MatchString(n.Text) {
		w.report("users-value", u.at("expiredate"), "%q is no date such as 2027-12-31", n.Text)
	}
	if n := u.entry.Get("uid"); n != nil && !onlyDigits(n.Text) {
		w.report("users-value", u.at("uid"), "%q is no number", n.Text)
	}
	w.checkImports(u.entry.Get("ssh_import_id"), u.path+".ssh_import_id")
	hash := u.entry.Get("passwd")
	switch {
	case u.name == "root":
		w.warn("sshd-root-login", u.at("name"), "root is there already; log in as somebody who has a name")
	case isFalse(u.entry.Get("lock_passwd")) && hash != nil && hash.Text == "" && hash.Kind == doc.String:
		w.report("users-password", u.at("passwd"), "the password is empty: anybody is let in at the console")
	case isFalse(u.entry.Get("lock_passwd")) && hash == nil && u.entry.Get("hashed_passwd") == nil && u.entry.Get("plain_text_passwd") == nil && w.config.Get("chpasswd") == nil:
		w.warn("users-password", u.at("lock_passwd"), "the account is unlocked and has no password")
	}
	for _, g := range u.groups() {
		if slices.Contains(words("sudo admin wheel"), g) && (isTrue(u.entry.Get("system")) || slices.Contains(words("openclaw agent app www-data"), u.name)) {
			w.report("sudoers-all", u.at("groups"), "the group %s gives a service's account all of root's rights", g)
		}
	}
	if n := u.entry.Get("primary_group"); n != nil && isFalse(u.entry.Get("create_groups")) && !early(baseGroups, n.Text) {
		w.report("users-group-unknown", u.at("primary_group"), "nothing makes the group %s", n.Text)
	}
}

// checkChpasswd reports passwords for users whom nothing makes.
func (w *world) checkChpasswd() {
	list := w.config.Get("chpasswd").Get("users")
	if list == nil {
		return
	}
	for i, item := range list.Items {
		if n := item.Get("name"); n != nil && w.config.Get("users") != nil && !w.knowsUser(n.Text) {
			w.warn("users-value", spot{node: n, path: fmt.Sprintf("chpasswd.users[%d].name", i)}, "nothing makes the user %s", n.Text)
		}
	}
}
