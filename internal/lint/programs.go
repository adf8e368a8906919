package lint

import (
	"slices"
	"strings"

	"bake/internal/doc"
	"bake/internal/lazy"
)

// classic are snaps that are refused without --classic.
var classic = words("aws-cli certbot code codium go google-cloud-sdk google-cloud-cli helm kubectl kubelet kubeadm microk8s node powershell slack terraform juju rustup nvim emacs ruby flutter charmcraft snapcraft dotnet-sdk sublime-text pycharm-community")

// modules are kernel modules that people load.
var modules = words("br_netfilter overlay nf_conntrack ip_vs wireguard tun virtiofs vhost_vsock dm_crypt nbd zram kvm kvm_intel kvm_amd ip_tables ip6_tables iptable_nat xt_conntrack nfs 8021q bonding veth fuse loop msr softdog")

// checkUsage looks at programs that are called with what they do not take.
func checkUsage(w *world) {
	for i := range w.commands {
		c := &w.commands[i]
		in := c.inner()
		if len(in.words) == 0 || in.words[0] == "" {
			continue
		}
		w.checkArguments(c, in)
		w.checkUnattended(c, in)
		w.checkForever(c, in)
		w.checkUsersTooSoon(c, in)
	}
	w.checkLoops()
}

var sedScript = lazy.Regexp(`^s([/|#,:@!])`)

// checkArguments is about programs that fail at once.
func (w *world) checkArguments(c, in *command) {
	args := in.args()
	usage := func(hint, format string, more ...any) {
		w.hint(hint).report("cmd-usage", c.at, format, more...)
	}
	switch in.name() {
	case "dpkg":
		if slices.ContainsFunc(args, func(a string) bool { return strings.Contains(a, "://") }) {
			usage("download it first", "dpkg takes files, and no links")
		}
	case "service":
		if len(args) > 1 && !slices.Contains(words("start stop restart reload status force-reload try-restart --full-restart"), args[1]) && near(args[1], words("start stop restart reload status force-reload")) != "" {
			w.hint(near(args[1], words("start stop restart reload status force-reload"))).report("cmd-systemctl", c.at, "service does not know %q", args[1])
		}
	case "sed":
		for j, word := range in.words[1:] {
			isScript := j == 0 || strings.HasPrefix(in.words[j], "-")
			if m := sedScript.FindStringSubmatch(word); isScript && m != nil && !strings.ContainsAny(word, "\n;{$") && strings.Count(strings.ReplaceAll(word, `\`+m[1], ""), m[1]) < 3 {
				usage("close it: s/OLD/NEW/", "sed cannot read %q: the s command has three separators", word)
			}
		}
	case "snap":
		if len(args) > 0 && !slices.Contains(snapVerbs, args[0]) && !strings.Contains(args[0], "$") {
			usage(near(args[0], snapVerbs), "snap does not know %q", args[0])
		}
		if in.has("--dangerous", "--devmode") {
			w.hint("install it from the store, without the option").warn("apt-unsigned", c.at, "a snap that nobody has signed, or that nothing confines, is installed")
		}
		if in.is("snap", "install") && !in.has("--classic") {
			for _, a := range args[1:] {
				if slices.Contains(classic, a) {
					usage("add --classic", "the snap %s is refused without --classic", a)
				}
			}
		}
	case "modprobe":
		for _, a := range args {
			if meant, is := typo(a, modules); is && len(a) > 4 && !strings.Contains(a, "=") {
				usage("did you mean "+meant+"?", "there is hardly a kernel module %s", a)
			}
		}
	case "swapon":
		for _, a := range args {
			if strings.HasPrefix(a, "/") && !strings.HasPrefix(a, "/dev/") && !slices.ContainsFunc(w.commands, func(o command) bool { return o.inner().name() == "mkswap" }) {
				usage("call mkswap first", "%s has no swap signature: nothing calls mkswap", a)
			}
		}
	case "set":
		if in.has("pipefail") && !c.nested && c.script == "" {
			w.hint("run a script of bash's").report("cmd-bashism", c.at, "dash knows no pipefail, and ends the whole script at this line")
		}
	case "ufw":
		w.checkProfile(c, args)
	case "iptables", "ip6tables":
		w.checkTablesUsage(c, in)
	case "rm":
		w.checkUnset(c, in)
	case "cloud-init":
		if in.is("cloud-init", "clean") && !c.boot && c.script == "" {
			w.hint("leave it to whoever makes an image of the machine").warn("cmd-usage", c.at, "at the next boot everything is done again, with new host keys")
		}
	case "mysql", "mysqldump", "mysqladmin", "mariadb":
		if slices.ContainsFunc(in.words[1:], func(a string) bool { return lazy.Regexp(`^-p[^$\s]{4,}$`).MatchString(a) && a != "-port" }) {
			w.report("secret-plain", c.at, "a password in a command: it is in the seed, in the process list and in cloud-init's logs")
		}
	}
}

// checkTablesUsage is about options that iptables does not have, and about the policy
// that shuts everybody out.
func (w *world) checkTablesUsage(c, in *command) {
	if in.has("--port", "-port", "--destination", "--dports", "--sports") && !in.has("-m", "--match") && in.has("--port", "-port", "--dports", "--sports") {
		w.hint("write --dport, or -m multiport --dports").report("rules-syntax", c.at, "iptables has no such option without -m multiport")
	}
	if in.name() != "iptables" || !in.has("-P", "--policy") || !in.has("INPUT") || !in.has("DROP", "REJECT") || c.script != "" || w.host != nil {
		return
	}
	if !slices.ContainsFunc(w.commands, func(o command) bool {
		other := o.inner()
		all := strings.Join(other.words, " ")
		return other.name() == "iptables" && strings.Contains(all, "INPUT") && strings.Contains(all, "ACCEPT") && !other.has("lo") && !lazy.Regexp(`(?i)established`).MatchString(all) ||
			strings.HasSuffix(other.name(), "tables-restore") || other.name() == "ufw"
	}) {
		w.report("rules-lockout", c.at, "everything is dropped and nothing lets ssh in")
	}
}

// profiles are ufw's own names of services.
var profiles = words("OpenSSH Apache Postfix CUPS Samba Squid Dovecot Bind9")

func (w *world) checkProfile(c *command, args []string) {
	if len(args) < 2 || !slices.Contains(words("allow limit"), args[0]) {
		if len(args) == 2 && slices.Contains(words("deny reject"), args[0]) && slices.Contains(words("22 22/tcp ssh OpenSSH"), args[1]) && w.host == nil {
			w.report("ufw-lockout", c.at, "nobody can log in by ssh any more")
		}
		return
	}
	if meant, is := typo(args[1], profiles); is && len(args) == 2 {
		w.hint("did you mean "+meant+"?").report("ufw-syntax", c.at, "ufw knows no service %s", args[1])
	}
}

var variableFirst = lazy.Regexp(`^\$([A-Za-z_][A-Za-z0-9_]*)(?:/|$)`)

// checkUnset reports rm -r of what begins with a variable that nothing sets.
func (w *world) checkUnset(c, in *command) {
	if !slices.ContainsFunc(in.words, func(a string) bool { return lazy.Regexp(`^-[a-zA-Z]*[rR]|^--recursive`).MatchString(a) }) || c.at.node == nil {
		return
	}
	for _, a := range in.args() {
		m := variableFirst.FindStringSubmatch(a)
		if m == nil || m[1] == "HOME" || m[1] == "TMPDIR" {
			continue
		}
		all := ""
		for _, key := range []string{"runcmd", "bootcmd"} {
			if n := w.config.Get(key); n != nil {
				all += flatText(n)
			}
		}
		for _, f := range w.files {
			if f.path == c.script {
				all = f.text
			}
		}
		if !strings.Contains(all, m[1]+"=") && !strings.Contains(all, "${"+m[1]+":") && !strings.Contains(all, "for "+m[1]+" ") && !strings.Contains(all, "read") {
			w.hint("write ${"+m[1]+":?}").report("cmd-destroys", c.at, "nothing sets %s: this removes from the root directory on", m[1])
		}
	}
}

// checkUnattended is about programs that ask.
func (w *world) checkUnattended(c, in *command) {
	ask := func(hint, format string, more ...any) {
		w.hint(hint).report("cmd-prompt", c.at, format, more...)
	}
	piped := len(c.from) > 0 || c.inputAt != nil
	switch {
	case in.name() == "read" && !piped && c.script == "" && in.has("-p"):
		ask("", "read asks, and nobody answers")
	case in.is("netplan", "try"):
		ask("write netplan apply", "netplan try takes everything back unless somebody presses Enter")
	case in.name() == "visudo" && in.has("-f") && !in.has("-c", "--check") && !slices.ContainsFunc(in.words, func(a string) bool { return strings.HasPrefix(a, "-c") }):
		ask("write the file with write_files, and try it with visudo -cf", "visudo opens an editor")
	case in.name() == "gpg" && in.has("--gen-key", "--full-generate-key", "--full-gen-key") && !in.has("--batch"):
		ask("add --batch and a file", "gpg asks for names and a passphrase")
	case in.name() == "certbot" && !in.has("-n", "--non-interactive", "--noninteractive") && !in.is("certbot", "renew", "certificates", "--version"):
		ask("add --non-interactive --agree-tos -m ADDRESS", "certbot asks for an address and a yes")
	case c.name() == "sudo" && (in.name() == "sudo") && slices.ContainsFunc(c.words, func(a string) bool { return a == "-i" || a == "-s" || a == "-iu" }) && !piped,
		in.name() == "su" && slices.Contains(c.words, "sudo") && !piped && !slices.ContainsFunc(in.words, func(a string) bool { return strings.HasPrefix(a, "-c") }):
		w.hint("write sudo -u USER COMMAND").report("cmd-login-shell", c.at, "this starts a shell that ends at once: what follows runs as root")
	case in.is("git", "clone") && slices.ContainsFunc(in.args(), func(a string) bool { return lazy.Regexp(`^(?:ssh://|git@)`).MatchString(a) }):
		if !w.trustsHosts() {
			w.hint("write the server's key into known_hosts first").warn("cmd-prompt", c.at, "ssh asks whether the server is the right one, and nobody answers")
		}
	}
}

// trustsHosts reports whether something says which ssh servers are believed.
func (w *world) trustsHosts() bool {
	return slices.ContainsFunc(w.files, func(f *file) bool {
		return strings.Contains(f.path, "known_hosts") || strings.Contains(f.text, "StrictHostKeyChecking")
	}) || slices.ContainsFunc(w.commands, func(c command) bool {
		all := strings.Join(append(append(slices.Clone(c.text), c.appends...), c.writes...), " ")
		return strings.Contains(all, "ssh-keyscan") || strings.Contains(all, "known_hosts") || strings.Contains(all, "StrictHostKeyChecking")
	})
}

// checkForever is about programs that end only when they are told to.
func (w *world) checkForever(c, in *command) {
	if c.background || c.script != "" || c.name() == "timeout" || slices.Contains(c.words, "timeout") || slices.Contains(c.words, "nohup") || slices.Contains(c.words, "systemd-run") {
		return
	}
	short := func(letter string) bool {
		return slices.ContainsFunc(in.words[1:], func(a string) bool { return lazy.Regexp(`^-[a-zA-Z]*` + letter).MatchString(a) })
	}
	switch {
	case in.name() == "ping" && !short("c") && !short("w"):
		w.hint("add -c 1").report("cmd-never-ends", c.at, "ping without -c goes on for ever")
	case in.name() == "journalctl" && short("f") && !in.has("-f", "--follow"):
		w.report("cmd-never-ends", c.at, "journalctl -f goes on for ever: the first boot never ends")
	case (in.name() == "python3" || in.name() == "python") && in.has("-m") && in.has("http.server"):
		w.hint("write a unit").report("cmd-never-ends", c.at, "the server goes on for ever: the first boot never ends")
	case in.is("docker", "logs") && (short("f") || in.has("--follow")), in.is("kubectl", "logs") && in.has("-f"), in.is("kubectl", "port-forward"), in.is("npm", "start"), in.name() == "npm" && in.has("run") && in.has("start", "dev", "serve"),
		in.is("dockerd"), in.is("nginx") && in.has("daemon off;"), in.is("tcpdump") && !short("c"), in.name() == "uvicorn", in.name() == "gunicorn" && !in.has("-D", "--daemon"), in.is("flask", "run"):
		w.hint("write a unit").report("cmd-never-ends", c.at, "%s goes on until somebody stops it: the first boot never ends", in.name())
	case in.name() == "node" && len(in.args()) > 0 && lazy.Regexp(`(?:server|app|index|main)\.[cm]?js$`).MatchString(in.args()[0]):
		w.hint("write a unit").warn("cmd-never-ends", c.at, "a server goes on until somebody stops it: the first boot never ends")
	}
}

var endless = lazy.Regexp(`(?m)(?:^|[;&|]\s*|\bthen\s+)(?:while\s+(?:true|:|\[\s*1\s*\]|1)|until\s+false)\s*;?\s*(?:\n\s*)?do\b`)

// checkLoops reports a loop of runcmd that nothing leaves.
func (w *world) checkLoops() {
	n := w.config.Get("runcmd")
	if n == nil {
		return
	}
	for i, item := range n.Items {
		text := item.Text
		if item.Kind == doc.List && len(item.Items) > 2 && item.Items[1].Text == "-c" {
			text = item.Items[2].Text
		}
		if endless.MatchString(text) && !lazy.Regexp(`\b(?:break|exit|return)\b|done\s*(?:[<>][^&\n]*)?(?:2>&1\s*)?&`).MatchString(text) {
			w.hint("write a unit").report("cmd-never-ends", spot{node: item, path: entryName("runcmd", i)}, "nothing ends the loop: the first boot never ends")
		}
	}
}

// checkUsersTooSoon reports a bootcmd that needs a user whom cloud-init makes later.
func (w *world) checkUsersTooSoon(c, in *command) {
	if !c.boot || w.host != nil {
		return
	}
	for _, u := range w.users {
		if u.name == "" || slices.Contains(baseUsers, u.name) {
			continue
		}
		uses := in.name() == "chown" && len(in.args()) > 0 && strings.Split(in.args()[0], ":")[0] == u.name ||
			slices.Contains(words("install su runuser usermod passwd chage setfacl"), in.name()) && in.has(u.name) ||
			c.name() == "sudo" && slices.Contains(c.words, u.name)
		if uses {
			w.report("bootcmd-before-users", c.at, "%s does not exist yet: users are made after bootcmd", u.name)
		}
	}
}
