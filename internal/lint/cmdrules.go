package lint

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"bake/internal/doc"
	"bake/internal/lazy"
)

// programs are commands that a first boot is likely to call, and those whose names
// are near to them.
var programs = words(`systemctl journalctl loginctl hostnamectl timedatectl localectl systemd-run systemd-tmpfiles systemd-analyze networkctl resolvectl apt apt-get apt-cache apt-mark apt-key
	aptitude dpkg dpkg-reconfigure snap curl wget git docker docker-compose podman kubectl ufw iptables ip6tables iptables-restore nft netfilter-persistent fail2ban-client sysctl mount umount
	mkdir rmdir chmod chown chgrp touch install cat echo printf sed awk grep egrep head tail sort uniq cut tr tee xargs find useradd usermod userdel groupadd groupmod adduser addgroup
	deluser passwd chpasswd visudo sudo su service reboot shutdown poweroff halt hostname date sleep sync ip ss netplan ping python3 python pip pip3 node npm npx pnpm yarn
	tar gzip gunzip unzip zip openssl ssh ssh-keygen ssh-keyscan scp rsync modprobe lsmod depmod update-grub update-initramfs update-alternatives update-ca-certificates swapon swapoff mkswap fallocate mkfs mkfs.ext4
	mkfs.xfs parted sfdisk resize2fs growpart lsblk blkid udevadm crontab tailscale tailscaled openclaw cloud-init cloud-init-per needrestart unattended-upgrade locale-gen
	add-apt-repository debconf-set-selections envsubst jq bash source export unset setfacl chattr truncate mktemp readlink realpath basename dirname logger chroot
	unshare nsenter runuser setpriv gpg make gcc go cargo certbot nginx psql mysql redis-cli restic borg aa-enforce aa-status aa-complain apparmor_parser augenrules auditctl`)

// systemctlVerbs are those of systemctl.
var systemctlVerbs = words(`list-units list-sockets list-timers list-automounts list-paths list-dependencies list-unit-files list-jobs list-machines is-active is-failed status show cat help reset-failed start stop reload restart
	try-restart reload-or-restart try-reload-or-restart isolate kill clean freeze thaw set-property bind mount-image service-log-level service-log-target enable disable reenable preset
	preset-all is-enabled mask unmask link revert add-wants add-requires edit get-default set-default cancel show-environment set-environment unset-environment import-environment
	log-level log-target service-watchdogs daemon-reload daemon-reexec default rescue emergency halt poweroff reboot kexec soft-reboot exit switch-root suspend hibernate
	hybrid-sleep suspend-then-hibernate is-system-running whoami condreload force-reload condrestart`)

var systemctlOptions = words(`--now --no-block --user --system --quiet --force --no-pager --no-reload --runtime --global --all --full --type --state --property --value --wait --root --no-legend
	--no-ask-password --no-wall --job-mode --signal --kill-whom --kill-who --lines --output --show-types --plain --failed --check-inhibitors --dry-run --preset-mode --firmware-setup --boot-loader-menu --boot-loader-entry --fail --machine --host
	--reverse --after --before --with-dependencies --recursive --image --read-only --mkdir --marked --what --message --timestamp --version --help --legend --drop-in --when --stdin --no-warn --show-transaction --kill-value --check-inhibitors --now`)

func checkCommands(w *world) {
	w.checkShapes()
	for i := range w.commands {
		c := &w.commands[i]
		in := c.inner()
		if len(in.words) == 0 {
			continue
		}
		w.checkProgram(c, in)
		w.checkApt(c, in)
		w.checkSystemctl(c, in)
		w.checkDownloads(c, in)
		w.checkPrompts(c, in)
		w.checkDanger(c, in)
		w.checkAccounts(c, in)
		w.checkCommandSecrets(c)
		if c.boot {
			w.checkBootcmd(c, in)
		} else if c.script == "" {
			w.checkRuncmd(c, in)
		}
	}
	w.checkBootFiles()
}

// checkShapes looks at how the entries of runcmd and bootcmd are written.
func (w *world) checkShapes() {
	for key, items := range w.commandLists() {
		for i, item := range items {
			at := spot{node: item, path: fmt.Sprintf("%s[%d]", key, i)}
			switch item.Kind {
			case doc.Map:
				w.hint("put the whole command in quotes").report("cmd-shape", at, "the colon and the blank make this a map, and not a command: cloud-init runs none of %s", key)
			case doc.List:
				w.checkList(item, at)
			case doc.Bool, doc.Int, doc.Float:
				w.report("cmd-shape", at, "this is %s, not a command", item.Kind)
			}
		}
	}
}

var plainVariable = lazy.Regexp(`^"?\$\{?[A-Za-z_]+\}?"?$`)

func (w *world) checkList(item *doc.Node, at spot) {
	for i, word := range item.Items {
		place := spot{node: word, path: fmt.Sprintf("%s[%d]", at.path, i)}
		switch {
		case !word.Scalar():
			w.report("cmd-shape", place, "this is %s inside of a command's words", word.Kind)
			return
		case word.Kind == doc.Bool:
			w.hint("put it in quotes").report("yaml-ambiguous", place, "the word is read as %s, and the command gets True or False", word.Text)
		case i > 0 && word.Kind == doc.String && (plainVariable.MatchString(word.Text) || strings.HasPrefix(word.Text, "/") && strings.ContainsAny(word.Text, "*?") && len(strings.Fields(word.Text)) == 1) && !slices.Contains(words("find chmod-x sudo-x rsync tar ufw"), item.Items[0].Text):
			w.hint("write the command as one text, which a shell reads").warn("cmd-shape", place, "no shell reads a list: the command gets %q as it stands here", word.Text)
		case slices.Contains(words("| > >> < && || ; 2>&1 &"), word.Text) && i > 0 && i+1 < len(item.Items):
			w.hint("write the command as one text, which a shell reads").report("cmd-shape", place, "no shell reads a list: the command gets %q as an argument", word.Text)
		}
	}
	if len(item.Items) == 1 && len(strings.Fields(item.Items[0].Text)) > 1 {
		w.hint("write - "+item.Items[0].Text+", or each word for itself").report("cmd-shape", at, "this is the name of one program with blanks in it")
	}
	if len(item.Items) > 3 && slices.Contains(words("sh bash"), item.Items[0].Text) && item.Items[1].Text == "-c" && len(strings.Fields(item.Items[2].Text)) == 1 && !strings.ContainsAny(item.Items[2].Text, "$/;|&(") {
		w.hint("write the command as one word after -c").report("cmd-shape", at, "sh -c takes the first word alone for the command")
	}
}

func (w *world) checkProgram(c, in *command) {
	name := in.words[0]
	if strings.ContainsAny(name, "$=*?(") || name == "" {
		return
	}
	if strings.HasPrefix(name, "/") {
		local := strings.HasPrefix(name, "/usr/local/") || strings.HasPrefix(name, "/opt/") || strings.HasPrefix(name, "/root/") || strings.HasPrefix(name, "/srv/")
		if local && w.file(name) == nil && w.host == nil && c.script == "" && !w.brings(name) {
			w.report("cmd-file-missing", c.at, "nothing here brings %s", name)
		}
		return
	}
	if name == "docker-compose" && w.installs("docker.io", "docker-ce") && !w.installs("docker-compose") && c.script == "" {
		w.hint("write docker compose, and install docker-compose-v2 or docker-compose-plugin").warn("cmd-file-missing", c.at, "nothing here brings docker-compose")
	}
	if meant, is := typo(name, programs); is && len(name) > 3 && !slices.Contains(programs, strings.TrimRight(name, "0123456789.")) && !w.installs(name) && !w.defines(name) && !slices.Contains(words("wcurl grep egrep fgrep zgrep pgrep touch couch paste taste test time type mail tree true trap lsof lscpu nmap node mode date data unzip gzip bzip2 bunzip2 zip zcat head read kill skill pkill wait unset reset host sort sour seal seq stat start stop printf printenv shift which watch groups pip3 pip2 makefs update uname"), name) {
		w.hint("did you mean "+meant+"?").report("cmd-unknown", c.at, "there is hardly a program %s", name)
	}
}

// brings reports whether a command makes the file: unpacks, copies, downloads.
func (w *world) brings(name string) bool {
	return slices.ContainsFunc(w.commands, func(c command) bool {
		if slices.Contains(append(slices.Clone(c.writes), c.appends...), name) {
			return true
		}
		in := c.inner()
		if len(in.words) > 0 && in.words[0] == name {
			return false
		}
		if slices.Contains(words("tar unzip git npm pip pip3 make dpkg snap curl wget install cp mv ln rsync apt apt-get pipx cargo go bash sh"), in.name()) {
			return true
		}
		return in.has(name)
	})
}

func (w *world) defines(name string) bool {
	return slices.ContainsFunc(w.files, func(f *file) bool { return path.Base(f.path) == name || strings.Contains(f.text, name+"()") }) ||
		slices.ContainsFunc(w.commands, func(c command) bool { return c.at.node != nil && strings.Contains(c.at.node.Text, name+"()") })
}

func (w *world) checkApt(c, in *command) {
	if !slices.Contains(words("apt apt-get aptitude"), in.name()) {
		if in.name() == "add-apt-repository" && !in.has("-y", "--yes", "--assume-yes") {
			w.hint("add -y").report("apt-prompt", c.at, "add-apt-repository waits for Enter")
		}
		if in.name() == "apt-key" && in.has("add", "adv") {
			w.hint("put the key in /etc/apt/keyrings and name it with signed-by").report("apt-unsigned", c.at, "apt-key trusts the key for every archive, and newer releases do not have it")
		}
		return
	}
	joined := strings.Join(in.words, " ")
	changes := in.has("install", "upgrade", "dist-upgrade", "full-upgrade", "remove", "purge", "autoremove")
	yes := slices.ContainsFunc(in.words, func(a string) bool {
		return a == "--yes" || a == "--assume-yes" || lazy.Regexp(`^-[a-z]*y[a-z]*$|^-qq+`).MatchString(a)
	}) || strings.Contains(joined, "Assume-Yes=true") || slices.Contains(c.from, "yes")
	switch {
	case changes && !yes:
		w.hint("add -y").report("apt-prompt", c.at, "%s asks whether to go on, nobody answers, and it does not", in.name())
	case changes && !strings.Contains(joined, "Lock::Timeout") && !c.boot && w.host == nil:
		w.report("apt-lock", c.at, "if another apt has the lock, as at a first boot, this fails at once")
	}
	if in.has("--allow-unauthenticated", "--force-yes", "--allow-insecure-repositories") || strings.Contains(joined, "AllowUnauthenticated=true") {
		w.report("apt-unsigned", c.at, "packages are installed whoever has made them")
	}
	if i := slices.Index(in.args(), "install"); i >= 0 {
		for _, a := range in.args()[i+1:] {
			if !strings.ContainsAny(a, "/$=") {
				w.checkPackage(packageName{name: a, at: c.at})
			}
		}
	}
}

func (w *world) checkSystemctl(c, in *command) {
	if in.name() != "systemctl" {
		return
	}
	args := in.args()
	if len(args) == 0 || strings.Contains(args[0], "$") {
		return
	}
	if !slices.Contains(systemctlVerbs, args[0]) {
		w.hint(near(args[0], systemctlVerbs)).report("cmd-systemctl", c.at, "systemctl does not know %q", args[0])
		return
	}
	for _, word := range in.words[1:] {
		if name, _, _ := strings.Cut(word, "="); strings.HasPrefix(word, "--") && !slices.Contains(systemctlOptions, name) && len(word) > 2 {
			w.hint(near(name, systemctlOptions)).report("cmd-systemctl", c.at, "systemctl has no option %s", name)
		}
	}
	if in.has("--user") && !slices.ContainsFunc(append(slices.Clone(c.text), c.words...), func(t string) bool { return strings.HasPrefix(t, "XDG_RUNTIME_DIR=") }) && !in.has("--machine", "-M") && !in.has("--global") && !slices.ContainsFunc(in.words, func(s string) bool { return strings.HasPrefix(s, "--machine=") }) {
		w.report("cmd-user-manager", c.at, "there is no user's manager to talk to: cloud-init runs as root, without a session")
	}
	if in.has("--user") || in.has("--global") {
		return
	}
	if !slices.Contains(words("start stop restart reload try-restart reload-or-restart enable disable reenable mask unmask status is-active is-enabled kill"), args[0]) {
		return
	}
	for _, unit := range args[1:] {
		if dot := strings.LastIndexByte(unit, '.'); dot > 0 && !hasUnitEnd(unit) && !strings.ContainsAny(unit, "$*/()") {
			if hint := near(unit[dot:], unitEnds); hint != "" {
				w.hint(hint).report("cmd-systemctl", c.at, "%s is no kind of unit", unit[dot:])
				continue
			}
		}
		if strings.ContainsAny(unit, "$*/()") || w.knowsUnit(unit) || slices.Contains(words("disable mask stop"), args[0]) {
			continue
		}
		full := unit
		if !hasUnitEnd(full) {
			full += ".service"
		}
		meant, is := typo(full, imageUnits)
		if !is {
			for _, u := range w.units {
				if oneOff(full, u.name) {
					meant, is = u.name, true
				}
			}
			for _, p := range w.packages {
				if oneOff(strings.TrimSuffix(full, ".service"), p.name) {
					meant, is = p.name+".service", true
				}
			}
		}
		if is {
			w.hint("did you mean "+meant+"?").report("cmd-unit-missing", c.at, "nothing brings the unit %s", unit)
		} else {
			w.warn("cmd-unit-missing", c.at, "nothing here brings the unit %s", unit)
		}
	}
}

func (w *world) checkDownloads(c, in *command) {
	shell := slices.Contains(words("sh bash dash zsh python3 python perl node ruby"), in.name())
	if shell && slices.ContainsFunc(c.from, func(f string) bool { return f == "curl" || f == "wget" }) || c.fetched && (shell || in.name() == "eval") {
		w.report("cmd-pipe-to-shell", c.at, "root runs whatever the server, or half a download, says")
	}
	switch in.name() {
	case "git":
		if in.has("clone") && slices.ContainsFunc(in.args(), func(a string) bool { return strings.HasPrefix(a, "http://") || strings.HasPrefix(a, "git://") }) {
			w.warn("cmd-insecure-download", c.at, "anybody on the way can send something else")
		}
	case "curl":
		if slices.ContainsFunc(in.words, func(a string) bool {
			return a == "--insecure" || lazy.Regexp(`^-[a-zA-Z]*k[a-zA-Z]*$`).MatchString(a)
		}) {
			w.report("cmd-insecure-download", c.at, "curl takes any certificate: anybody on the way can send something else")
		}
	case "wget":
		if in.has("--no-check-certificate") {
			w.report("cmd-insecure-download", c.at, "wget takes any certificate: anybody on the way can send something else")
		}
	case "npm", "pnpm", "yarn":
		args := in.args()
		if len(args) > 1 && slices.Contains(words("install i add global"), args[0]) && in.has("-g", "--global", "global") && slices.ContainsFunc(args[1:], func(a string) bool {
			return strings.HasSuffix(a, "@latest") || !strings.Contains(strings.TrimPrefix(a, "@"), "@")
		}) {
			w.report("cmd-unpinned", c.at, "the newest version of the day, with its scripts, runs as root: another one at every build")
		}
	case "pip", "pip3":
		if in.is(in.name(), "install") && !in.has("--break-system-packages", "-r", "--requirement", "--user", "--target") && !strings.Contains(in.words[0], "/") {
			w.hint("use pipx or a venv, or a package").report("cmd-unpinned", c.at, "from Debian 12 and Ubuntu 23.04 on pip refuses to install into the system")
		}
	}
}

// checkEnds reports a command that goes on for ever.
func (w *world) checkEnds(c, in *command) {
	detached := in.has("-d", "--detach", "-itd", "-dit", "--detach=true") || slices.ContainsFunc(in.words, func(a string) bool {
		return lazy.Regexp(`^-[a-z]*d[a-z]*$`).MatchString(a)
	})
	switch {
	case c.background || c.script != "":
	case in.name() == "tail" && in.has("-f", "-F", "--follow"), in.name() == "journalctl" && in.has("-f", "--follow"), in.is("sleep", "infinity"), in.name() == "watch":
		w.report("cmd-never-ends", c.at, "%s goes on for ever: the first boot never ends", in.name())
	case in.is("docker", "compose") && in.has("up") && !detached, in.name() == "docker-compose" && in.has("up") && !detached:
		w.hint("add -d").report("cmd-never-ends", c.at, "without -d this goes on as long as the containers: the first boot never ends")
	case in.is("docker", "run") && in.has("-it", "-ti", "-i", "--interactive") && !detached:
		w.hint("add -d, or leave -it away").report("cmd-prompt", c.at, "there is no terminal for -it")
	case in.name() == "crontab" && in.has("-e"), in.name() == "do-release-upgrade" && !in.has("-f"):
		w.report("cmd-prompt", c.at, "%s wants a person at a terminal", in.name())
	}
}

func (w *world) checkPrompts(c, in *command) {
	w.checkEnds(c, in)
	switch {
	case in.name() == "passwd" && !in.has("-l", "-d", "-e", "--lock", "--expire", "-S", "--stdin", "-u", "-x", "-n") && len(c.from) == 0 && c.inputAt == nil:
		w.report("cmd-prompt", c.at, "passwd asks for a password, and nobody answers")
	case in.name() == "dpkg-reconfigure" && !slices.ContainsFunc(in.words, func(a string) bool {
		return strings.HasPrefix(a, "-f") || strings.HasPrefix(a, "--frontend") || a == "-plow"
	}) && !slices.ContainsFunc(append(c.text, c.words...), func(a string) bool { return strings.Contains(a, "DEBIAN_FRONTEND=noninteractive") }):
		w.hint("add -f noninteractive").report("cmd-prompt", c.at, "dpkg-reconfigure asks, and nobody answers")
	case in.name() == "ssh-keygen" && !in.has("-N", "-A", "-R", "-l", "-y", "-lf", "-F", "-H", "-s", "-q") && len(c.from) == 0:
		w.hint("add -N '' and -f FILE").report("cmd-prompt", c.at, "ssh-keygen asks for a file and a passphrase, and nobody answers")
	case in.name() == "mysql_secure_installation", in.name() == "visudo" && !slices.ContainsFunc(in.words, func(a string) bool { return strings.HasPrefix(a, "-c") || a == "--check" || a == "-f" }), slices.Contains(words("vim vi nano less more top htop"), in.name()):
		w.report("cmd-prompt", c.at, "%s wants a person at a terminal", in.name())
	case in.name() == "adduser" && !in.has("--disabled-password", "--system", "--gecos") && len(in.args()) == 1:
		w.hint("use the key users, or add --disabled-password --gecos ''").report("cmd-prompt", c.at, "adduser asks for a password, and nobody answers")
	case in.name() == "su" && !slices.ContainsFunc(in.words, func(a string) bool {
		return strings.HasPrefix(a, "-c") || strings.HasPrefix(a, "--command")
	}) && len(c.from) == 0 && c.inputAt == nil:
		w.hint("write su - USER -c 'COMMAND'").report("cmd-login-shell", c.at, "su alone starts a shell that ends at once: what follows runs as root")
	}
}

func (w *world) checkAccounts(c, in *command) {
	if args := in.args(); len(args) > 1 {
		switch {
		case in.name() == "timedatectl" && args[0] == "set-timezone" && !strings.Contains(args[1], "$") && !slices.Contains(zones(), args[1]):
			w.hint(cmpOr(nearZone(args[1]), "such as Europe/Berlin or UTC")).report("timezone", c.at, "there is no time zone %q", args[1])
		case in.name() == "hostnamectl" && strings.HasSuffix(args[0], "hostname") && !strings.Contains(args[1], "$") && !hostLabel.MatchString(strings.Split(strings.ToLower(args[1]), ".")[0]):
			w.report("hostname", c.at, "%q cannot be the name of a machine: letters, digits and -", args[1])
		}
	}
	switch in.name() {
	case "sysctl":
		for _, a := range in.args() {
			if key, value, ok := strings.Cut(a, "="); ok && !strings.Contains(a, "$") {
				w.checkSetting(sysctlLine{key: key, value: strings.Trim(value, `"`), at: c.at})
			}
		}
	case "useradd", "chpasswd-x":
		for i, a := range in.words {
			if (a == "-p" || a == "--password") && i+1 < len(in.words) && !strings.HasPrefix(in.words[i+1], "$") && in.words[i+1] != "*" && !strings.HasPrefix(in.words[i+1], "!") {
				w.report("secret-plain", c.at, "useradd -p wants a hash; this is taken for one, and stands here for everybody")
			}
		}
	case "echo":
		if in.has("-e", "-ne", "-en") && !in.list && !c.nested && c.script == "" && (len(c.writes)+len(c.appends) > 0) {
			w.hint("write printf '...\\n'").warn("cmd-bashism", c.at, "dash's echo knows no -e: the file begins with -e")
		}
	case "usermod":
		adds := slices.ContainsFunc(in.words, func(a string) bool {
			return lazy.Regexp(`^-[a-zA-Z]*a`).MatchString(a) || a == "--append"
		})
		i := slices.IndexFunc(in.words, func(a string) bool {
			return lazy.Regexp(`^-[a-zA-Z]*G$`).MatchString(a) || a == "--groups"
		})
		if i < 0 || i+1 >= len(in.words) {
			return
		}
		if !adds {
			w.hint("write usermod -aG").report("cmd-usermod", c.at, "without -a the user is taken out of all other groups, sudo too")
		}
		w.rootGroups(c, strings.Split(in.words[i+1], ","))
	case "gpasswd", "adduser", "addgroup":
		if args := in.args(); len(args) > 1 {
			w.rootGroups(c, args[1:])
		}
	}
}

func (w *world) rootGroups(c *command, groups []string) {
	for _, g := range groups {
		if asRoot[g] != "" {
			w.report("users-group-root", c.at, "the group %s makes its members root: %s", g, asRoot[g])
		}
	}
}

var (
	passwordPipe  = lazy.Regexp(`^['"]?[a-z_][a-z0-9_-]*:[^$\s*!]+`)
	secretOptions = lazy.Regexp(`^--?(?:auth-?key|password|token|secret|api-?key|passphrase)(?:=(.+))?$`)
)

func (w *world) checkCommandSecrets(c *command) {
	for i, text := range c.text {
		if what, _ := secretIn(text); what != "" {
			w.report("secret-plain", c.at, "%s in a command: it is in the seed, in the process list and in cloud-init's logs", what)
			return
		}
		m := secretAssign.FindStringSubmatch(" " + text)
		if m != nil && !harmless(m[1], m[2]) && c.name() != "sed" && c.name() != "grep" && c.name() != "test" && c.name() != "[" {
			w.warn("secret-plain", c.at, "%s stands here for everybody who reads the seed or cloud-init's logs", m[1])
			return
		}
		if m := secretOptions.FindStringSubmatch(text); m != nil {
			value := m[1]
			if value == "" && i+1 < len(c.text) {
				value = c.text[i+1]
			}
			if value != "" && !strings.ContainsAny(value, "$<") && !strings.HasPrefix(value, "file:") && !strings.HasPrefix(value, "/") && !strings.HasPrefix(value, "-") && len(value) > 5 {
				w.warn("secret-plain", c.at, "a secret in a command: it is in the seed, in the process list and in cloud-init's logs")
				return
			}
		}
	}
	if in := c.inner(); in.is("docker", "login") && in.has("-p") {
		w.report("secret-plain", c.at, "a password in a command: it is in the seed, in the process list and in cloud-init's logs")
	}
	if w.speaksPassword(c) {
		w.report("secret-plain", c.at, "a password stands here for everybody who reads the seed")
		return
	}
	if c.inner().name() == "chpasswd" && passwordPipe.MatchString(c.input) && !c.inner().has("-e") {
		w.report("secret-plain", c.at, "a password stands here for everybody who reads the seed")
	}
}

// speaksPassword says whether a command prints a password into a chpasswd beside it.
func (w *world) speaksPassword(c *command) bool {
	return (c.name() == "echo" || c.name() == "printf") && slices.ContainsFunc(c.words[1:], passwordPipe.MatchString) &&
		w.called().fed[[2]string{c.at.path, c.name()}]
}

func (w *world) checkRuncmd(c, in *command) {
	switch {
	case in.is("cloud-init", "status") && in.has("--wait", "-w"):
		w.report("cmd-waits-for-itself", c.at, "cloud-init waits for its own end")
	case in.is("systemctl", "start", "restart") && in.has("cloud-final.service", "cloud-init.target", "cloud-init.service", "cloud-final"):
		w.report("cmd-waits-for-itself", c.at, "cloud-init waits for its own end")
	case in.name() == "exit" && !c.nested && !c.list && c.item >= 0 && w.plainExit(c):
		w.report("cmd-exit", c.at, "all of runcmd is one script: what stands after this is not run")
	case slices.Contains(words("reboot shutdown poweroff halt init"), in.name()) && !(in.name() == "shutdown" && in.has("-c")) && !(in.name() == "init" && !in.has("0", "6")) || in.is("systemctl", "reboot", "poweroff"):
		w.hint("use power_state, which acts when cloud-init is done").report("cmd-reboot", c.at, "the machine goes down while cloud-init still works: what is left to do is not done")
	case c.name() == "sudo" && !c.has("-u", "-i", "-H", "--user", "-iu", "-Hu") && !slices.ContainsFunc(c.words, func(a string) bool { return strings.HasPrefix(a, "-u") || strings.HasPrefix(a, "--user") }):
		w.report("cmd-sudo", c.at, "runcmd is root already")
	case slices.ContainsFunc(c.words, func(a string) bool {
		return strings.HasPrefix(a, "~/") || a == "~" || strings.HasPrefix(a, "$HOME/") || a == "$HOME"
	}) && !c.nested && !slices.ContainsFunc(w.assigned, func(a assignment) bool { return a.name == "HOME" }):
		w.report("cmd-path", c.at, "cloud-init sets no HOME: ~ is not root's directory on every release, and never the user's")
	}
	for _, target := range c.appends {
		if target == "/etc/fstab" && len(c.words) > 1 {
			for _, line := range strings.Split(strings.Join(c.words[1:], " ")+"\n"+c.input, "\n") {
				w.checkFstabLine(c.at, strings.TrimSpace(strings.ReplaceAll(line, `\n`, "")))
			}
		}
	}
}

// plainExit reports whether an exit stands for itself, in no condition, and something
// follows it.
func (w *world) plainExit(c *command) bool {
	if c.at.node == nil {
		return false
	}
	text := strings.TrimSpace(c.at.node.Text)
	list := w.config.Get("runcmd")
	last := list != nil && c.item == len(list.Items)-1
	return strings.HasPrefix(text, "exit") && !last
}
