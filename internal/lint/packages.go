package lint

import (
	"slices"
	"strings"

	"bake/internal/doc"
	"bake/internal/lazy"
)

// popular are packages whose names are often mistyped.
var popular = words(`acl age ansible apache2 apparmor apparmor-utils apt-transport-https apticron auditd autossh bash-completion bind9 build-essential bzip2 ca-certificates caddy
	certbot chrony clamav cloud-guest-utils cmake conntrack containerd cron curl debsums dnsmasq dnsutils docker-compose docker-compose-v2 docker.io e2fsprogs emacs fail2ban ffmpeg
	firewalld gdb git gnupg golang haproxy htop iftop iotop iperf3 ipset iptables iptables-persistent jq less libpam-pwquality logrotate lvm2 lynis lsof make mariadb-server memcached
	mosh mysql-server nano needrestart neovim netcat-openbsd net-tools nfs-common nfs-kernel-server nftables nginx nmap nodejs npm ntp openjdk-17-jdk openssh-client openssh-server openssl
	openvpn parted php-fpm podman postfix postgresql postgresql-client prometheus prometheus-node-exporter python3 python3-dev python3-pip python3-systemd python3-venv qemu-guest-agent
	rabbitmq-server redis-server restic rkhunter rsync rsyslog ruby samba screen shellcheck smartmontools snapd software-properties-common sqlite3 strace sudo sysstat
	systemd-container systemd-resolved systemd-timesyncd tcpdump telnet tmux tree tzdata ufw unattended-upgrades unzip uidmap vim virtiofsd wget whois wireguard wireguard-tools xfsprogs zfsutils-linux zip zsh
	slirp4netns fuse-overlayfs dbus-user-session libnss3 pipx gnupg2 dirmngr lsb-release bubblewrap apt-listchanges bat fd-find ripgrep fzf`)

// misnamed are names that no archive has, or that are something else.
var misnamed = map[string]string{
	"docker": "docker.io", "docker-engine": "docker.io", "python": "python3", "python-pip": "python3-pip", "pip": "python3-pip", "pip3": "python3-pip", "python-dev": "python3-dev",
	"node": "nodejs", "node.js": "nodejs", "openssh": "openssh-server", "ssh-server": "openssh-server", "sshd": "openssh-server", "httpd": "apache2", "apache": "apache2", "bind": "bind9",
	"dig": "dnsutils", "nslookup": "dnsutils", "ifconfig": "net-tools", "netstat": "net-tools", "nc": "netcat-openbsd", "netcat": "netcat-openbsd", "golang-go1": "golang", "go": "golang",
	"postgres": "postgresql", "redis-cli": "redis-tools", "mongo": "mongodb-org with its own archive", "unattended-upgrade": "unattended-upgrades", "wireguard-dkms": "wireguard",
	"docker-compose-v1": "docker-compose-v2", "vi": "vim", "gpg2": "gnupg", "fail2ban-server": "fail2ban", "firewall": "ufw", "java": "default-jre", "jdk": "default-jdk", "libssl1.1": "libssl3",
	"python3.8": "python3", "systemd-journald": "systemd", "nodejs-lts": "nodejs", "pwgen2": "pwgen", "python-yaml": "python3-yaml", "ntpdate2": "ntpdate", "apparmor-profiles-all": "apparmor-profiles", "iptables-services": "iptables-persistent", "epel-release": "nothing: it is Red Hat's", "policycoreutils-python": "policycoreutils-python-utils", "firewalld-cmd": "firewalld", "nfs-utils": "nfs-common", "bind-utils": "dnsutils", "vim-enhanced": "vim", "cronie": "cron", "chronyd": "chrony", "yum-utils": "nothing: it is Red Hat's", "dnf": "apt",
}

// elsewhere are packages that only an archive of their vendor has.
var elsewhere = words(`docker-ce docker-ce-cli containerd.io docker-compose-plugin docker-buildx-plugin docker-ce-rootless-extras tailscale mongodb-org gitlab-ce gitlab-ee gitlab-runner
	google-chrome-stable brave-browser code kubectl kubeadm kubelet terraform vault consul nomad packer cloudflared gh grafana jenkins elasticsearch kibana logstash filebeat
	nodesource-repo yarn helm signal-desktop slack-desktop nvidia-container-toolkit influxdb2 influxdb telegraf datadog-agent newrelic-infra crowdsec-firewall-bouncer-iptables
	google-cloud-cli google-cloud-sdk azure-cli awscli2 sublime-text dotnet-sdk-10.0 temurin-21-jdk cri-o clickhouse-server rabbitmq-server-latest syncthing-latest zerotier-one openclaw`)

var conflicts = [][]string{{"chrony", "systemd-timesyncd", "ntp", "ntpsec", "openntpd"}, {"ufw", "iptables-persistent"}, {"ufw", "firewalld"}, {"postfix", "exim4-daemon-light", "sendmail-bin"},
	{"docker.io", "docker-ce", "podman-docker"}, {"mysql-server", "mariadb-server"}, {"containerd", "containerd.io"}}

var debianName = lazy.Regexp(`^[a-z0-9][a-z0-9.+-]*(?::[a-z0-9]+)?(?:/[a-z0-9.-]+)?[-+^*]?$`)

func checkPackages(w *world) {
	seen := map[string]bool{}
	for _, p := range w.packages {
		if p.at.node == nil {
			continue
		}
		w.checkPackage(p)
		if seen[p.name] {
			w.report("packages-twice", p.at, "%s is in the list already", p.name)
		}
		seen[p.name] = true
	}
	for _, set := range conflicts {
		var have []packageName
		for _, p := range w.packages {
			if slices.Contains(set, p.name) && p.at.node != nil && !slices.ContainsFunc(have, func(h packageName) bool { return h.name == p.name }) {
				have = append(have, p)
			}
		}
		if len(have) > 1 {
			w.report("packages-conflict", have[1].at, "%s and %s cannot both be installed", have[0].name, have[1].name)
		}
	}
	if n := w.config.Get("package_update"); isFalse(n) && len(w.packages) > 0 {
		w.report("package-update-off", spot{node: n, path: "package_update"}, "the image has no list of packages, or an old one: they are not found")
	}
	if w.host == nil {
		w.checkSources()
	}
}

// severityOfName says whether a package by that name may be meant for Red Hat's or
// Alpine's machines.
func severityOfName(name string) Severity {
	if slices.Contains(words("docker docker-engine python python-pip pip pip3 python-dev dig nslookup ifconfig netstat firewall fail2ban-server openssh ssh-server postgres python-yaml docker-compose-v1"), name) {
		return Error
	}
	return Warning
}

func (w *world) hasSources() bool {
	return w.config.Get("apt").Get("sources") != nil || w.config.Get("apt").Get("sources_list") != nil || w.config.Get("yum_repos") != nil || w.config.Get("zypper") != nil ||
		slices.ContainsFunc(w.files, func(f *file) bool { return strings.HasPrefix(f.path, "/etc/apt/sources.list") }) ||
		slices.ContainsFunc(w.commands, func(c command) bool {
			return c.name() == "add-apt-repository" || strings.Contains(strings.Join(append(append(slices.Clone(c.words), c.writes...), c.appends...), " "), "/etc/apt/")
		})
}

func (w *world) checkPackage(p packageName) {
	switch meant, near := typo(p.name, popular); {
	case p.at.node.Kind == doc.Map, p.name == "":
	case strings.ContainsAny(p.name, ", ") || p.name != strings.ToLower(p.name) && !slices.Contains(words("R"), p.name) || !debianName.MatchString(p.name):
		w.hint("one package an entry, in small letters").report("package-name", p.at, "%q cannot be the name of a package", p.name)
	case misnamed[p.name] != "" && !w.hasSources():
		w.hint("write "+misnamed[p.name]).add("package-name", severityOfName(p.name), p.at, "no archive of Debian or Ubuntu has the package %s, or it is something else", p.name)
	case slices.Contains(elsewhere, p.name) && !w.hasSources():
		severity := Error
		if w.host != nil && p.at.node.Pos.Line == 0 { // a layer's, which says so itself
			severity, p.at = Warning, w.hostKey("layers")
		}
		w.add("package-source", severity, p.at, "only an archive of its vendor has %s, and none is set up here", p.name)
	case near && len(p.name) > 5 && !w.hasSources() && strings.TrimRight(p.name, "0123456789.-") != strings.TrimRight(meant, "0123456789.-") && strings.TrimPrefix(p.name, "lib") == p.name:
		w.hint("did you mean "+meant+"?").report("package-name", p.at, "there is hardly a package %s", p.name)
	}
}

func (w *world) checkSources() {
	sources := w.config.Get("apt").Get("sources")
	if sources != nil {
		for _, pair := range sources.Pairs {
			source := pair.Value.Get("source")
			if source == nil || !strings.HasPrefix(source.Text, "deb") || strings.Contains(source.Text, "signed-by") {
				continue
			}
			if pair.Value.Get("key") == nil && pair.Value.Get("keyid") == nil && !strings.Contains(source.Text, "$MIRROR") {
				w.warn("apt-unsigned", spot{node: pair.Key, path: "apt.sources." + pair.Key.Text}, "the archive has no key: apt refuses it, or believes whoever answers")
			}
			if strings.Contains(source.Text, "trusted=yes") {
				w.report("apt-unsigned", spot{node: source, path: "apt.sources." + pair.Key.Text}, "packages are installed whoever has made them")
			}
		}
	}
	for _, f := range w.files {
		if !strings.HasPrefix(f.path, "/etc/apt/sources.list") {
			continue
		}
		for i, line := range f.lines() {
			if strings.Contains(line, "trusted=yes") || strings.HasPrefix(strings.ToLower(line), "trusted: yes") {
				w.report("apt-unsigned", f.at(i, 0, len(line)), "packages are installed whoever has made them")
			}
		}
	}
}
