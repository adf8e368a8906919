package lint

import (
	"path"
	"slices"
	"strings"

	"bake/internal/doc"
	"bake/internal/lazy"
)

// snapVerbs are those of snap.
var snapVerbs = words(`abort ack alias aliases ack auto-import buy changes check-snapshot components connect connections create-cohort create-user debug disable disconnect download enable
	export-snapshot find forget get help import-snapshot info install interface interfaces known list login logout logs model okay pack prefer quota quotas reboot recovery refresh remodel remove
	remove-quota restart restore revert run save saved services set set-quota sign start stop switch tasks try unalias unset version wait warnings watch whoami validate`)

// checkCalls looks at commands that do something else than they seem to.
func checkCalls(w *world) {
	for i := range w.commands {
		c := &w.commands[i]
		in := c.inner()
		if len(in.words) == 0 || in.words[0] == "" {
			continue
		}
		w.checkOperands(c, in)
		w.checkRemoved(c, in)
		w.checkContainers(c, in)
		w.checkTailscale(c, in)
		w.checkTrusting(c, in)
		w.checkOtherSystems(c, in)
		w.checkDevices2(c, in)
		w.checkOpenClaw(c, in)
		w.checkClock(c, in)
		w.checkArgumentSecrets(c, in)
		w.checkNamedUser(c, in)
	}
	w.checkSnapCommands()
	w.checkTraced()
	w.checkReset()
	w.checkReloaded()
	for _, a := range w.assigned {
		what, _ := secretIn(a.value)
		m := secretAssign.FindStringSubmatch(" " + a.name + "=" + a.value)
		switch {
		case what != "":
			w.report("secret-plain", a.at, "%s stands here for everybody who reads the seed", what)
		case m != nil && !harmless(m[1], m[2]):
			w.warn("secret-plain", a.at, "%s stands here for everybody who reads the seed or cloud-init's logs", a.name)
		}
	}
}

// operand is the file that a program is given to run or to read, "" for none.
func (c *command) operand() string {
	args := c.args()
	last := func() string {
		if len(args) == 0 {
			return ""
		}
		return args[len(args)-1]
	}
	after := func(options ...string) string {
		for i, word := range c.words[:max(0, len(c.words)-1)] {
			if slices.Contains(options, word) {
				return c.words[i+1]
			}
		}
		return ""
	}
	switch c.name() {
	case "sh", "bash", "dash", "source", ".", "python3", "python", "perl":
		if len(args) > 0 && !c.has("-c", "-m", "-e", "-lc", "-ec", "-xc", "-s") {
			return args[0]
		}
	case "dpkg":
		if c.has("-i", "--install") {
			return last()
		}
	case "iptables-restore", "ip6tables-restore":
		return last()
	case "tar":
		if len(c.words) > 1 && lazy.Regexp(`^-?[a-zA-Z]*x[a-zA-Z]*f$`).MatchString(c.words[1]) && len(c.words) > 2 {
			return c.words[2]
		}
	case "unzip":
		if len(args) > 0 {
			return args[0]
		}
	case "nft", "docker", "docker-compose", "kubectl", "sysctl":
		return after("-f", "--file", "-p")
	}
	return ""
}

// local are directories that no package writes to.
var local = lazy.Regexp(`^/(?:usr/local|opt|root|srv|home|tmp|var/tmp)/`)

// checkOperands reports files that are read and that nothing brings.
func (w *world) checkOperands(c, in *command) {
	name := in.operand()
	if !local.MatchString(name) || strings.ContainsAny(name, "$*?{") || w.host != nil || c.script != "" || w.file(name) != nil || w.bringsOther(name, in.name()) {
		return
	}
	w.report("cmd-file-missing", c.at, "nothing here brings %s", name)
}

// calls are what all commands name together, so that each need not look at all others.
type calls struct {
	programs map[string]bool    // that run
	named    map[string]bool    // words and files that are no operand of their command
	accounts map[string]bool    // that are made or taken away
	fed      map[[2]string]bool // where a chpasswd stands, and the command whose output it reads
}

// called is read once.
func (w *world) called() *calls {
	if w.calls != nil {
		return w.calls
	}
	out := &calls{map[string]bool{}, map[string]bool{}, map[string]bool{}, map[[2]string]bool{}}
	for i := range w.commands {
		c := &w.commands[i]
		in := c.inner()
		out.programs[in.name()] = true
		account := slices.Contains(words("adduser useradd newusers userdel deluser"), in.name())
		read := in.operand()
		if in.name() == "chpasswd" {
			for _, from := range c.from {
				out.fed[[2]string{c.at.path, from}] = true
			}
		}
		for _, word := range in.words[min(1, len(in.words)):] {
			out.accounts[word] = out.accounts[word] || account
			out.named[word] = out.named[word] || word != read
		}
		for _, name := range append(slices.Clone(c.writes), c.appends...) {
			out.named[name] = true
		}
	}
	w.calls = out
	return out
}

// runs reports whether one of the programs is called.
func (c *calls) runs(programs ...string) bool {
	return slices.ContainsFunc(programs, func(p string) bool { return c.programs[p] })
}

// bringsOther reports whether something makes a file that a program reads: names it, or
// fetches and unpacks whatever.
func (w *world) bringsOther(name, reader string) bool {
	return w.called().named[name] || w.called().runs(slices.DeleteFunc(words("tar unzip git npm make snap curl wget install cp mv ln rsync apt apt-get cargo go pip pip3 pipx gpg openssl"), func(p string) bool { return p == reader })...)
}

// guards are packages that a machine is looked after with.
var guards = map[string]string{"openssh-server": "sshd-lockout", "ufw": "firewall-open", "nftables": "firewall-open", "unattended-upgrades": "upgrades-off", "fail2ban": "cmd-disables-security", "apparmor": "cmd-disables-security",
	"auditd": "cmd-disables-security", "sudo": "cmd-disables-security", "cloud-init": "cmd-disables-security"}

// checkRemoved reports packages that are taken away and needed.
func (w *world) checkRemoved(c, in *command) {
	if !slices.Contains(words("apt apt-get aptitude dpkg"), in.name()) || !(in.has("remove", "purge", "-r", "-P", "--purge") && !in.has("install")) {
		return
	}
	for _, name := range in.args() {
		name = strings.TrimRight(name, "*")
		rule, guard := guards[name]
		switch {
		case slices.ContainsFunc(w.packages, func(p packageName) bool { return p.name == name }):
			w.report("packages-conflict", c.at, "%s is installed by these words, and taken away here", name)
		case guard && rule == "sshd-lockout":
			w.report(rule, c.at, "nobody can log in without %s", name)
		case guard && rule == "upgrades-off":
			w.report(rule, c.at, "security updates are not installed any more")
		case guard:
			w.warn(rule, c.at, "what protects the machine is taken away: %s", name)
		}
	}
}

// servers are images of what runs until it is stopped.
var servers = lazy.Regexp(`(?:^|/)(?:nginx|httpd|caddy|traefik|redis|valkey|postgres|mysql|mariadb|mongo|rabbitmq|memcached|registry|grafana|prometheus|portainer-ce|portainer|node-exporter|cadvisor|vaultwarden|gitea|jenkins|n8n|ollama|watchtower|uptime-kuma|minio|haproxy)(?::|@|$)`)

var imageName = lazy.Regexp(`^[a-z0-9][a-z0-9._-]*(?::[0-9]+)?(?:/[a-z0-9._-]+)*(?::[A-Za-z0-9._-]+)?(?:@sha256:[a-f0-9]+)?$`)

// valued are options of docker run that take a word.
var valued = words(`-p --publish -v --volume -e --env --env-file --name --network --net -w --workdir -u --user --restart --mount --memory -m --cpus --hostname -h --entrypoint --label -l --log-driver --log-opt --add-host
	--dns --cap-add --cap-drop --device --security-opt --tmpfs --ulimit --pid --ipc --platform --pull --shm-size --expose --link --group-add --gpus --runtime --health-cmd --ip --mac-address --stop-signal --sysctl --userns --volumes-from --cidfile --cgroupns --pids-limit`)

// image is the image of a docker run or pull.
func (c *command) image() string {
	for i := 2; i < len(c.words); i++ {
		switch word := c.words[i]; {
		case slices.Contains(valued, word):
			i++
		case strings.HasPrefix(word, "-"):
		default:
			return word
		}
	}
	return ""
}

func (w *world) checkContainers(c, in *command) {
	if in.name() != "docker" && in.name() != "podman" || len(in.words) < 3 || !slices.Contains(words("run create pull"), in.words[1]) {
		return
	}
	image := in.image()
	if imageName.MatchString(image) && !strings.Contains(image, "@sha256:") && (strings.HasSuffix(image, ":latest") || !strings.Contains(path.Base(image), ":")) {
		w.hint("name a version, or a digest").warn("cmd-unpinned", c.at, "%s is another image at every build", image)
	}
	detached := slices.ContainsFunc(in.words[2:], func(a string) bool {
		return a == "--detach" || a == "--detach=true" || lazy.Regexp(`^-[a-zA-Z]*d[a-zA-Z]*$`).MatchString(a)
	})
	if in.words[1] == "run" && !detached && !c.background && c.script == "" && (servers.MatchString(image) || slices.ContainsFunc(in.words, func(a string) bool { return strings.HasPrefix(a, "--restart") }) || len(published(in)) > 0) {
		w.hint("add -d").warn("cmd-never-ends", c.at, "without -d this goes on as long as the container: the first boot never ends")
	}
}

var tailscaleFlags = words(`--accept-dns --accept-risk --accept-routes --advertise-connector --advertise-exit-node --advertise-routes --advertise-tags --auth-key --authkey --exit-node --exit-node-allow-lan-access
	--force-reauth --host-routes --hostname --json --login-server --netfilter-mode --nickname --operator --qr --qr-format --reset --shields-up --snat-subnet-routes --ssh --stateful-filtering --timeout --unattended --webclient --auto-update --update-check --advertise-tags
	--client-id --client-secret --id-token --audience --relay-server-port --report-posture`)

func (w *world) checkTailscale(c, in *command) {
	if in.name() != "tailscale" {
		return
	}
	key, leaks := false, false
	for i, word := range in.words[1:] {
		flag, value, set := strings.Cut(word, "=")
		if !set && i+2 < len(in.words) {
			value = in.words[i+2]
		}
		if strings.HasPrefix(flag, "-") && !strings.HasPrefix(flag, "--") {
			flag = "-" + flag
		}
		switch {
		case flag == "--auth-key" || flag == "--authkey":
			key = true
			leaks = !strings.HasPrefix(value, "file:")
		case in.is("tailscale", "up", "set", "login") && strings.HasPrefix(word, "--") && !slices.Contains(tailscaleFlags, flag):
			w.hint(near(flag, tailscaleFlags)).report("cmd-usage", c.at, "tailscale has no option %s, and does nothing", flag)
		case (flag == "--advertise-exit-node" || flag == "--advertise-routes") && !w.forwards():
			w.hint("net.ipv4.ip_forward = 1 and net.ipv6.conf.all.forwarding = 1 in /etc/sysctl.d").warn("cmd-usage", c.at, "%s needs forwarding, which nothing here switches on", flag)
		}
	}
	switch {
	case in.is("tailscale", "funnel"):
		w.warn("firewall-open", c.at, "funnel publishes the port to the whole internet")
	case !in.is("tailscale", "up", "login"):
	case leaks:
		w.hint("write --auth-key=file:/PATH").report("cmd-secret-argument", c.at, "the key is in the process list, for every user")
	case !key && c.script == "" && w.host == nil && !slices.ContainsFunc(in.words, func(a string) bool { return strings.HasPrefix(a, "--timeout") || strings.HasPrefix(a, "--client-") }):
		w.hint("add --auth-key=file:/PATH, or --timeout").report("cmd-never-ends", c.at, "without a key tailscale waits until somebody logs in with a browser")
	}
}

// forwards reports whether the machine forwards packets.
func (w *world) forwards() bool {
	return slices.ContainsFunc(w.files, func(f *file) bool {
		return strings.Contains(f.text, "ip_forward") || strings.Contains(f.text, ".forwarding")
	}) ||
		slices.ContainsFunc(w.commands, func(c command) bool {
			return strings.Contains(strings.Join(c.words, " "), "forward") && c.inner().name() != "tailscale"
		}) || w.installs("docker.io", "docker-ce")
}

// checkTrusting is about programs that are told to believe everybody.
func (w *world) checkTrusting(c, in *command) {
	all := strings.Join(append(slices.Clone(c.text), c.words...), " ")
	switch {
	case strings.Contains(all, "StrictHostKeyChecking=no") || strings.Contains(all, "StrictHostKeyChecking no") && in.name() != "grep":
		w.hint("write the server's key into known_hosts").warn("cmd-insecure-download", c.at, "ssh talks to whoever answers")
	case strings.Contains(all, "GIT_SSL_NO_VERIFY=") || strings.Contains(all, "http.sslVerify=false") || strings.Contains(all, "http.sslVerify false"),
		strings.Contains(all, "NODE_TLS_REJECT_UNAUTHORIZED=0") || strings.Contains(all, "strict-ssl false") || strings.Contains(all, "strict-ssl=false"),
		strings.HasPrefix(in.name(), "pip") && in.has("--trusted-host"), strings.Contains(all, "Verify-Peer=false"):
		w.report("cmd-insecure-download", c.at, "any certificate is taken: anybody on the way can send something else")
	}
}

// elsewherePrograms are other systems' package managers.
var elsewherePrograms = words("yum dnf zypper apk pacman microdnf rpm-ostree emerge brew")

func (w *world) checkOtherSystems(c, in *command) {
	if slices.Contains(elsewherePrograms, in.name()) && !c.condition && c.script == "" && w.config.Get("yum_repos") == nil && w.config.Get("zypper") == nil && w.config.Get("apk_repos") == nil && !w.installs(in.name()) {
		w.hint("use the key packages").warn("cmd-unknown", c.at, "Debian and Ubuntu have no %s", in.name())
	}
}

var rootDisk = lazy.Regexp(`^/dev/(?:[sxv]da|nvme0n1|mmcblk0)$`)

// checkDevices2 reports what empties the disk that the machine runs from.
func (w *world) checkDevices2(c, in *command) {
	empties := strings.HasPrefix(in.name(), "mkfs") || slices.Contains(words("wipefs mkswap shred blkdiscard pvcreate zpool sgdisk sfdisk parted"), in.name()) && !in.has("-l", "-p", "--list", "--print", "print", "-d", "--dump", "resizepart", "-N")
	if empties && slices.ContainsFunc(in.args(), rootDisk.MatchString) && !c.condition {
		w.report("cmd-destroys", c.at, "this is the disk that the machine runs from")
	}
	for _, target := range append(slices.Clone(c.writes), c.appends...) {
		if strings.HasPrefix(target, "/proc/sys/") && !c.boot && c.script == "" {
			w.report("sysctl-volatile", c.at, "the setting is gone after a reboot")
		}
	}
	if args := in.args(); in.name() == "chmod" && len(args) > 1 && lazy.Regexp(`^0?[0-7][0-7][4-7]$|^0?[0-7][4-7][0-7]$`).MatchString(args[0]) {
		for _, target := range args[1:] {
			if privateFile.MatchString(target) && !strings.HasSuffix(target, ".pub") {
				w.hint("chmod 0600").report("cmd-chmod", c.at, "others may read %s: sshd and the like refuse it then", target)
			}
		}
	}
}

// privateFile is one that is for its owner alone.
var privateFile = lazy.Regexp(`(?:^|/)(?:ssh_host_[a-z0-9]+_key|id_(?:rsa|ed25519|ecdsa)|\.netrc|\.pgpass|\.my\.cnf|authorized_keys|[^/]*[._-]key\.pem|privkey\.pem)$|^/etc/ssl/private/|^/etc/wireguard/[^/]*\.conf$|^/etc/(?:g?shadow|credstore/.*)$|\.openclaw(?:/openclaw\.json|/\.env|/?)$|^/var/lib/openclaw/?$`)

// checkOpenClaw is about OpenClaw's state and what it runs on.
func (w *world) checkOpenClaw(c, in *command) {
	all := strings.Join(in.words, " ")
	switch {
	case slices.Contains(words("rsync cp scp tar"), in.name()) && lazy.Regexp(`/\.openclaw(?:/| |$)|/var/lib/openclaw(?:/| |$)`).MatchString(all) && !strings.HasPrefix(in.args0(), "/srv") && !in.has("-x", "-xf", "-xzf"):
		w.report("openclaw-state", c.at, "a copy of a database that is open lacks what is in its journal: openclaw backup create makes a whole one")
	case (in.name() == "npm" || in.name() == "pnpm") && lazy.Regexp(`(?:^| )openclaw(?:@|$| )`).MatchString(all) && in.has("install", "i", "add") && w.installs("nodejs") && !w.hasSources() && !w.installsNode():
		w.hint("Node 24.16 or newer, from an archive of its own or as a package of npm").report("openclaw-node", c.at, "the nodejs of Debian and Ubuntu is too old for OpenClaw, whose installation refuses it")
	case in.name() == "install" && in.has("-d") && privateFile.MatchString(last(in.args())):
		if mode := in.option("-m", "--mode"); mode == "" || strings.TrimLeft(mode, "0") != "700" {
			w.hint("install -d -m 0700").report("openclaw-state", c.at, "OpenClaw's state, with its tokens, is for its user alone: mode 0700")
		}
	}
}

func last(all []string) string {
	if len(all) == 0 {
		return ""
	}
	return all[len(all)-1]
}

func (c *command) args0() string { return strings.Join(c.args()[:min(1, len(c.args()))], "") }

// option is the word behind an option.
func (c *command) option(names ...string) string {
	for i, word := range c.words {
		name, value, set := strings.Cut(word, "=")
		if slices.Contains(names, name) && set {
			return value
		}
		if slices.Contains(names, word) && i+1 < len(c.words) {
			return c.words[i+1]
		}
	}
	return ""
}

// installsNode reports whether a Node comes that is not the distribution's.
func (w *world) installsNode() bool {
	return slices.ContainsFunc(w.commands, func(c command) bool {
		all := strings.Join(c.words, " ")
		return strings.Contains(all, "nodesource") || strings.Contains(all, "nodejs.org") || lazy.Regexp(`\bnode(?:-linux-x64|-linux-arm64)?@2[4-9]|\bnvm\b|\bfnm\b|\bn 2[4-9]`).MatchString(all)
	})
}

// checkClock is about programs that keep the time.
func (w *world) checkClock(c, in *command) {
	others := words("chrony ntpsec ntp openntpd")
	switch {
	case in.is("timedatectl", "set-ntp") && in.has("false", "no", "0", "off") && !w.installs(others...):
		w.hint("leave it on").warn("ntp", c.at, "nothing keeps the time any more: certificates and logs depend on it")
	case in.is("systemctl", "enable", "start", "restart", "unmask") && in.has("systemd-timesyncd", "systemd-timesyncd.service"):
		for _, name := range others {
			if w.installs(name) {
				w.warn("packages-conflict", c.at, "%s keeps the time, and takes systemd-timesyncd away when it is installed", name)
				return
			}
		}
	}
}

// checkNamedUser reports a command for a user whom nothing makes.
func (w *world) checkNamedUser(c, in *command) {
	name := ""
	switch in.name() {
	case "chage", "usermod", "passwd", "gpasswd", "su":
		if args := in.args(); len(args) > 0 {
			name = last(args)
		}
		if in.name() == "su" && len(in.args()) > 1 || in.name() == "gpasswd" {
			name = in.args()[0]
		}
		if in.name() == "gpasswd" {
			name = in.option("-a", "--add")
		}
	case "chown":
		if args := in.args(); len(args) > 1 {
			name, _, _ = strings.Cut(args[0], ":")
		}
	case "install":
		name = in.option("-o", "--owner")
	case "runuser":
		name = in.option("-u", "--user")
	}
	if c.name() == "sudo" {
		name = c.option("-u", "--user")
	}
	if loginName.MatchString(name) && c.script == "" && !c.nested && w.host == nil && !w.knowsUser(name) && name != "ubuntu" && name != "debian" && !w.called().accounts[name] && !w.called().runs("newusers", "sh", "bash", "curl", "wget", "tar", "npm", "dpkg", "snap", "make") {
		w.hint(near(name, baseUsers)).report("cmd-user-missing", c.at, "nothing makes the user %s", name)
	}
}

var (
	userPass   = lazy.Regexp(`^[^:/\s$]*:[^\s$]{3,}$`)
	secretName = lazy.Regexp(`\$\{?[A-Z_]*(?:TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|AUTH_?KEY|PASSPHRASE)`)
)

// checkArgumentSecrets reports secrets as arguments, which every user sees.
func (w *world) checkArgumentSecrets(c, in *command) {
	for i, word := range in.words[1:] {
		next := ""
		if i+2 < len(in.words) {
			next = in.words[i+2]
		}
		switch {
		case in.name() == "curl" && (word == "-u" || word == "--user") && userPass.MatchString(next), in.name() == "wget" && lazy.Regexp(`^--(?:http-|ftp-)?password=[^$]{3,}`).MatchString(word),
			in.name() == "sshpass" && (word == "-p" && next != "" && !strings.HasPrefix(next, "$") || lazy.Regexp(`^-p[^$]{3,}`).MatchString(word)), in.name() == "smbclient" && (word == "-U" && strings.Contains(next, "%")):
			w.report("secret-plain", c.at, "a password in a command: it is in the seed, in the process list and in cloud-init's logs")
			return
		case in.name() == "htpasswd" && lazy.Regexp(`^-[a-zA-Z]*b`).MatchString(word) && len(in.args()) > 2 && !strings.HasPrefix(last(in.args()), "$"),
			in.is("openssl", "passwd") && len(in.args()) > 1 && i > 0 && !strings.ContainsAny(last(in.args()), "$/") && word == last(in.args()):
			w.report("secret-plain", c.at, "a password in a command: it is in the seed, in the process list and in cloud-init's logs")
			return
		case (word == "-u" || word == "--user" || word == "--password" || word == "-p") && secretName.MatchString(next) && slices.Contains(words("curl docker mysql podman redis-cli sshpass wget"), in.name()):
			w.report("cmd-secret-argument", c.at, "%s is in the process list, for every user", next)
			return
		}
	}
}

// checkTraced reports set -x before a command with a secret.
func (w *world) checkTraced() {
	for i, c := range w.commands {
		if c.name() != "set" || c.boot || c.script != "" || !slices.ContainsFunc(c.words[1:], func(a string) bool { return lazy.Regexp(`^-[a-z]*x[a-z]*$`).MatchString(a) }) {
			continue
		}
		for _, later := range w.commands[i+1:] {
			if later.script == "" && secretName.MatchString(strings.Join(later.words, " ")) {
				w.hint("leave set -x away").report("cmd-secret-argument", c.at, "set -x writes every command with its values into cloud-init-output.log and onto the console, secrets too")
				return
			}
		}
	}
}

// checkReset reports a firewall that is up and then taken down by ufw reset.
func (w *world) checkReset() {
	up := false
	var reset *command
	for i := range w.commands {
		switch in := w.commands[i].inner(); {
		case in.name() != "ufw":
		case in.has("enable"):
			up, reset = true, nil
		case in.has("reset") && up:
			reset = &w.commands[i]
		}
	}
	if reset != nil {
		w.report("firewall-open", reset.at, "reset takes the firewall down, with all its rules")
	}
}

// checkReloaded reports a change of sshd's configuration that the running sshd does not see.
func (w *world) checkReloaded() {
	var change *command
	for i := range w.commands {
		c := &w.commands[i]
		in := c.inner()
		edits := slices.ContainsFunc(append(slices.Clone(c.writes), c.appends...), func(p string) bool { return strings.HasPrefix(p, "/etc/ssh/sshd_config") }) ||
			in.name() == "sed" && slices.ContainsFunc(in.words, func(a string) bool { return strings.HasPrefix(a, "-i") || a == "--in-place" }) && slices.ContainsFunc(in.words, func(a string) bool { return strings.HasPrefix(a, "/etc/ssh/sshd_config") })
		reloads := (in.is("systemctl", "restart", "reload", "reload-or-restart", "try-restart") || in.name() == "service") && in.has("ssh", "sshd", "ssh.service", "sshd.service", "ssh.socket") || slices.Contains(words("reboot shutdown"), in.name()) ||
			slices.Contains(words("pkill killall kill"), in.name()) && in.has("sshd")
		switch {
		case c.boot || c.script != "":
		case edits:
			change = c
		case reloads:
			change = nil
		}
	}
	if change != nil && w.config.Get("power_state") == nil && w.host == nil {
		w.hint("systemctl restart ssh behind it").warn("sshd-not-reloaded", change.at, "sshd runs already, and nothing makes it read this before the next boot")
	}
}

// checkSnapCommands looks at what snap is told by its own key.
func (w *world) checkSnapCommands() {
	n := w.get("snap.commands")
	if n == nil {
		return
	}
	all := slices.Clone(n.Items)
	for _, pair := range n.Pairs {
		all = append(all, pair.Value)
	}
	for _, item := range all {
		c := command{at: spot{node: item, path: "snap.commands"}, nested: true}
		c.words = strings.Fields(item.Text)
		for _, word := range item.Items {
			c.words = append(c.words, word.Text)
		}
		if item.Kind == doc.List && len(c.words) > 0 && c.words[0] != "snap" {
			c.words = append([]string{"snap"}, c.words...)
		}
		if len(c.words) < 2 || c.name() != "snap" {
			continue
		}
		c.text = c.words
		w.checkArguments(&c, &c)
	}
}
