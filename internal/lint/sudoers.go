package lint

import (
	"path"
	"slices"
	"strings"

	"bake/internal/doc"
	"bake/internal/lazy"
)

// sudoLine is a rule of sudoers with its backslashes resolved.
type sudoLine struct {
	text string
	at   spot
	file *file // nil for the sudo: of a user
	user string
}

func checkSudoers(w *world) {
	for _, f := range append(w.under("/etc/sudoers.d"), w.under("/etc")...) {
		if path.Dir(f.path) == "/etc" && f.path != "/etc/sudoers" {
			continue
		}
		if name := path.Base(f.path); path.Dir(f.path) != "/etc" && (strings.Contains(name, ".") || strings.HasSuffix(name, "~")) && !w.moved(f) {
			w.report("sudoers-file-name", f.key("path"), "sudo reads no file with a dot or ~ in its name: these rules have no effect")
		}
		if f.mode >= 0 && f.mode&0o022 != 0 {
			w.report("sudoers-mode", f.key("permissions"), "sudo refuses a file that others than root may write to (%04o)", f.mode)
		} else if f.mode >= 0 && f.mode&0o004 != 0 {
			w.warn("sudoers-mode", f.key("permissions"), "everybody may read %s (%04o) and learn who may do what; write \"0440\"", f.path, f.mode)
		}
		w.checkSudoLines(sudoLines(f))
	}
	for _, u := range w.users {
		n := u.entry.Get("sudo")
		if n == nil || n.Kind == doc.Bool || n.Kind == doc.Null {
			continue
		}
		var lines []sudoLine
		if n.Text != "" {
			lines = append(lines, sudoLine{text: u.name + " " + n.Text, at: u.at("sudo"), user: u.name})
		}
		for _, item := range n.Items {
			lines = append(lines, sudoLine{text: u.name + " " + item.Text, at: spot{node: item, path: u.path + ".sudo"}, user: u.name})
		}
		w.checkSudoLines(lines)
	}
}

// moved reports whether a command gives the file its final name.
func (w *world) moved(f *file) bool {
	return slices.ContainsFunc(w.commands, func(c command) bool {
		return slices.Contains([]string{"mv", "install", "cp"}, c.name()) && (c.has(f.path) || c.has(path.Base(f.path)))
	})
}

func sudoLines(f *file) []sudoLine {
	var out []sudoLine
	var open *sudoLine
	for i, line := range f.lines() {
		text, more := strings.CutSuffix(strings.TrimRight(line, " \t"), `\`)
		if open == nil {
			indent := len(line) - len(strings.TrimLeft(line, " \t"))
			open = &sudoLine{at: f.at(i, indent, len(strings.TrimSpace(line))), file: f}
		}
		open.text += " " + text
		if more {
			continue
		}
		open.text = strings.TrimSpace(open.text)
		if !strings.HasPrefix(open.text, "#") || strings.HasPrefix(open.text, "#include") || lazy.Regexp(`^#[0-9]+\s`).MatchString(open.text) {
			if hash := strings.Index(open.text, " #"); hash > 0 {
				open.text = strings.TrimSpace(open.text[:hash])
			}
			if open.text != "" {
				out = append(out, *open)
			}
		}
		open = nil
	}
	if open != nil {
		out = append(out, *open)
	}
	return out
}

var (
	sudoAlias  = lazy.Regexp(`^(User|Runas|Host|Cmnd|Cmd)_Alias\s+(.*)$`)
	aliasName  = lazy.Regexp(`^[A-Z][A-Z0-9_]*$`)
	sudoTag    = lazy.Regexp(`^([A-Z_]+)\s*:\s*`)
	sudoOption = lazy.Regexp(`^(CWD|CHROOT|ROLE|TYPE|TIMEOUT|NOTBEFORE|NOTAFTER|APPARMOR_PROFILE)=\S+\s+`)
	sudoDigest = lazy.Regexp(`^(?:sha224|sha256|sha384|sha512):[A-Za-z0-9+/=]+\s*,?\s*`)
	sudoUsers  = lazy.Regexp(`^!?[%+:]*[A-Za-z0-9_.@#*\\-]+$|^ALL$`)
	sudoTags   = words("NOPASSWD PASSWD NOEXEC EXEC SETENV NOSETENV LOG_INPUT NOLOG_INPUT LOG_OUTPUT NOLOG_OUTPUT MAIL NOMAIL FOLLOW NOFOLLOW INTERCEPT NOINTERCEPT")
)

func (w *world) checkSudoLines(lines []sudoLine) {
	aliases := map[string][]string{}
	for _, l := range lines {
		if m := sudoAlias.FindStringSubmatch(l.text); m != nil {
			for _, one := range splitUnquoted(m[2], ':') {
				name, value, ok := strings.Cut(one, "=")
				name = strings.TrimSpace(name)
				if !ok || !aliasName.MatchString(name) {
					w.report("sudoers-syntax", l.at, "want %s_Alias NAME = list, in capitals", m[1])
					continue
				}
				aliases[name] = splitUnquoted(value, ',')
				if strings.HasPrefix(m[1], "Cm") {
					for _, command := range aliases[name] {
						w.checkSudoCommand(l, strings.TrimSpace(command), "", nil, aliases)
					}
				}
			}
		}
	}
	for _, l := range lines {
		switch {
		case sudoAlias.MatchString(l.text):
		case strings.HasPrefix(l.text, "@include") || strings.HasPrefix(l.text, "#include"):
			if fields := strings.Fields(l.text); len(fields) > 1 && lazy.Regexp(`^/(?:home|tmp|var/tmp|opt|srv)/`).MatchString(fields[1]) {
				w.report("sudoers-writable", l.at, "%s can be written by others than root", fields[1])
			}
		case strings.HasPrefix(l.text, "Defaults"):
			w.checkSudoDefaults(l)
		default:
			w.checkSudoRule(l, aliases)
		}
	}
}

// splitUnquoted splits at a character that no backslash, quote or parenthesis guards.
func splitUnquoted(text string, at byte) []string {
	var out []string
	start, depth, quoted := 0, 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case c == '(':
			depth++
		case c == ')':
			depth--
		case c == at && depth <= 0 && !quoted:
			out = append(out, text[start:i])
			start = i + 1
		}
	}
	return append(out, text[start:])
}

// sudoDefaults are names of settings.
var sudoDefaults = words(`always_query_group_plugin always_set_home authenticate case_insensitive_group case_insensitive_user closefrom_override compress_io env_editor env_reset exec_background fast_glob fqdn
	ignore_audit_errors ignore_dot ignore_iolog_errors ignore_local_sudoers ignore_logfile_errors ignore_unknown_defaults insults intercept log_allowed log_denied log_exit_status log_host log_input log_output log_year
	long_otp_prompt mail_all_cmnds mail_always mail_badpass mail_no_host mail_no_perms mail_no_user match_group_by_gid netgroup_tuple noexec pam_session pam_setcred passprompt_override path_info preserve_groups
	pwfeedback requiretty root_sudo rootpw runas_allow_unknown_id runas_check_shell runaspw selinux set_home set_logname set_utmp setenv shell_noargs stay_setuid sudoedit_checkdir sudoedit_follow targetpw tty_tickets
	umask_override use_loginclass use_netgroups use_pty user_command_timeouts utmp_runas visiblepw closefrom loglinelen maxseq passwd_timeout passwd_tries timestamp_timeout umask badpass_message editor iolog_dir iolog_file
	passprompt runas_default secure_path sudoers_locale syslog_badpri syslog_goodpri timestampdir timestampowner timestamp_type env_file exempt_group fdexec group_plugin lecture lecture_file listpw logfile mailerflags mailerpath
	mailfrom mailsub mailto syslog verifypw env_check env_delete env_keep role type privs limitprivs pam_service pam_login_service rlimit_core command_timeout iolog_group iolog_mode iolog_user iolog_flush sudo_command mail_all`)

func (w *world) checkSudoDefaults(l sudoLine) {
	_, setting, _ := strings.Cut(l.text, " ")
	for _, one := range splitUnquoted(setting, ',') {
		one = strings.TrimSpace(one)
		name := strings.Trim(strings.FieldsFunc(one+" ", func(r rune) bool { return strings.ContainsRune("=+- \t", r) })[0], " ")
		if meant, is := typo(strings.TrimPrefix(name, "!"), sudoDefaults); is {
			w.hint("did you mean "+meant+"?").report("sudoers-syntax", l.at, "sudo has no setting %s", strings.TrimPrefix(name, "!"))
			continue
		}
		switch {
		case !slices.Contains(sudoDefaults, strings.TrimPrefix(name, "!")) && name != "" && !strings.ContainsAny(name, ":@>!%"):
			w.hint(near(name, sudoDefaults)).warn("sudoers-syntax", l.at, "sudo has no setting %s", name)
		case name == "!authenticate" || name == "!env_reset" || name == "setenv" || name == "!requiretty" && false:
			w.report("sudoers-environment", l.at, "%s gives away what makes sudo safe", name)
		case (name == "env_keep" || name == "env_check") && strings.Contains(one, "=") && lazy.Regexp(`LD_|PAGER|EDITOR|VISUAL|PYTHON|PERL|NODE_|BASH_ENV|\bENV\b|PATH\b|SHELLOPTS|\*`).MatchString(one):
			w.report("sudoers-environment", l.at, "a variable that is kept runs the caller's code as root")
		case name == "secure_path" && lazy.Regexp(`/home/|/tmp|/opt/|(?:^|[=:])\.(?:[:"]|$)`).MatchString(one):
			w.report("sudoers-environment", l.at, "whoever may write to a directory of secure_path decides what root runs")
		case name == "timestamp_timeout" && strings.Contains(one, "-1"):
			w.warn("sudoers-environment", l.at, "a password once given counts until the machine is shut down")
		case name == "exempt_group" || name == "!use_pty":
			w.warn("sudoers-environment", l.at, "%s gives away what makes sudo safe", name)
		case slices.Contains(words("logfile requiretty log_input log_output iolog_dir iolog_file mailto mail_badpass mail_always lecture_file badpass_message insults passprompt log_host log_year syslog loglinelen mail_no_user timestamp_type fqdn umask pwfeedback"), strings.TrimPrefix(name, "!")) && !slices.Contains(words("mail_badpass"), name):
			w.warn("sudoers-sudo-rs", l.at, "sudo-rs, the sudo of Ubuntu 26.04, may not know %s", name)
		}
	}
}

func (w *world) checkSudoRule(l sudoLine, aliases map[string][]string) {
	left, right, ok := strings.Cut(l.text, "=")
	who := strings.Fields(strings.ReplaceAll(left, ", ", ","))
	if !ok || len(who) != 2 {
		w.hint("write: USER ALL=(root) NOPASSWD: /absolute/command").report("sudoers-syntax", l.at, "a rule is USER HOST=(RUNAS) COMMANDS")
		return
	}
	for _, name := range strings.Split(who[0], ",") {
		if !sudoUsers.MatchString(name) {
			w.report("sudoers-syntax", l.at, "%q is no user", name)
			return
		}
		if plain := strings.TrimPrefix(name, "!"); l.file != nil && w.host != nil && !strings.ContainsAny(plain, "%+#:\\") && plain != "ALL" && aliases[plain] == nil && !w.knowsUser(plain) {
			w.warn("sudoers-unit", l.at, "nothing makes the user %s", plain)
		}
	}
	runas, options := "", []string{}
	commands := splitUnquoted(right, ',')
	for i := 0; i < len(commands); i++ {
		command := strings.TrimSpace(commands[i])
		if strings.HasPrefix(command, "(") {
			end := strings.IndexByte(command, ')')
			if end < 0 {
				w.report("sudoers-syntax", l.at, "the parenthesis is not closed")
				return
			}
			runas, command = command[1:end], strings.TrimSpace(command[end+1:])
		}
		for {
			if m := sudoTag.FindStringSubmatch(command); m != nil {
				if !slices.Contains(sudoTags, m[1]) {
					w.hint(near(m[1], sudoTags)).report("sudoers-syntax", l.at, "sudo does not know the tag %s", m[1])
					return
				}
				options, command = append(options, m[1]), command[len(m[0]):]
			} else if m := sudoOption.FindString(command); m != "" {
				command = command[len(m):]
			} else {
				break
			}
		}
		if command == "" {
			w.report("sudoers-syntax", l.at, "a command is missing")
			return
		}
		w.checkSudoCommand(l, command, runas, options, aliases)
	}
	if strings.Contains(right, "ALL") && len(commands) > 1 && strings.Contains(right, "!") {
		w.report("sudoers-negation", l.at, "what follows ! can be run under another name: everything but is everything")
	}
}

// escapes are programs that run what their user wants, as whoever runs them.
var escapes = map[string]string{}

func init() {
	for what, names := range map[string]string{
		"a shell":                      "sh bash dash zsh fish ksh csh tcsh busybox su sudo screen tmux script env xargs nice nohup timeout time setsid strace gdb ltrace watch flock ionice stdbuf expect systemd-run runuser setpriv chroot unshare nsenter",
		"any program":                  "python python2 python3 perl ruby lua node nodejs php awk gawk mawk nawk sed ed make gcc cc npm npx pip pip3 gem cargo go java jrunscript docker podman lxc lxd kubectl ansible ansible-playbook crontab at batch run-parts find git ssh scp sftp rsync tar zip unzip 7z cpio apt apt-get dpkg aptitude snap yum dnf rpm tcpdump nmap mysql psql sqlite3 openssl socat nc ncat wget curl mount umount modprobe insmod kexec ld.so visudo cloud-init loginctl machinectl",
		"an editor, which has a shell": "vi vim vim.basic vim.tiny nvim nano pico emacs joe mcedit view rvim ex rnano micro ne",
		"a pager, which has a shell":   "less more most man pg",
		"writing any file":             "cp mv tee dd install ln chmod chown chgrp truncate sponge patch touch useradd usermod adduser passwd chpasswd setcap setfacl sysctl rm mkfs shred",
	} {
		for _, name := range strings.Fields(names) {
			escapes[name] = what
		}
	}
}

func (w *world) checkSudoCommand(l sudoLine, command, runas string, options []string, aliases map[string][]string) {
	command = strings.TrimSpace(command)
	if digest := sudoDigest.FindString(command); digest != "" {
		w.warn("sudoers-sudo-rs", l.at, "sudo-rs, the sudo of Ubuntu 26.04, knows no digests and drops the rule")
		command = command[len(digest):]
	}
	plain := strings.TrimSpace(strings.TrimPrefix(command, "!"))
	if command != plain {
		return // what is forbidden
	}
	fields := strings.Fields(plain)
	if len(fields) == 0 {
		return
	}
	name := path.Base(fields[0])
	switch {
	case plain == "ALL":
		w.checkSudoAll(l, options)
		return
	case aliasName.MatchString(plain):
		if _, known := aliases[plain]; !known {
			w.report("sudoers-syntax", l.at, "nothing defines the alias %s", plain)
		}
		if strings.Contains(runas, "ALL") {
			w.warn("sudoers-runas-all", l.at, "as anybody, with -u, and not as root alone")
		}
		return
	case plain == "sudoedit" || fields[0] == "sudoedit":
		if strings.Contains(plain, "*") {
			w.report("sudoers-wildcard", l.at, "the * of a path goes through links and ..")
		}
		return
	case strings.HasPrefix(plain, "list") || strings.HasPrefix(plain, "^"):
		w.warn("sudoers-sudo-rs", l.at, "sudo-rs, the sudo of Ubuntu 26.04, knows no patterns and drops the rule")
		return
	case !strings.HasPrefix(fields[0], "/"):
		w.hint("write the whole path, such as /usr/bin/"+name).report("sudoers-syntax", l.at, "sudo wants the whole path of a command, %q is none", fields[0])
		return
	}
	if strings.HasSuffix(fields[0], "/") {
		w.report("sudoers-wildcard", l.at, "a directory stands for all programs in it, with any arguments")
		return
	}
	if slices.Contains(options, "SETENV") {
		w.report("sudoers-environment", l.at, "SETENV lets the caller set PATH, LD_PRELOAD and the pager of a root command")
	}
	if slices.ContainsFunc([]string{"INTERCEPT", "LOG_INPUT", "LOG_OUTPUT", "MAIL", "FOLLOW"}, func(tag string) bool { return slices.Contains(options, tag) }) {
		w.warn("sudoers-sudo-rs", l.at, "sudo-rs, the sudo of Ubuntu 26.04, does not know the tag and drops the rule")
	}
	if strings.Contains(runas, "ALL") {
		w.hint("write (root)").warn("sudoers-runas-all", l.at, "(%s) lets the command run as anybody, with -u, and not as root alone", runas)
	}
	w.checkSudoArguments(l, fields, name, options)
}

func (w *world) checkSudoAll(l sudoLine, options []string) {
	user, _, _ := strings.Cut(l.text, " ")
	if w.host != nil && user == w.host.Admin.Name {
		return // what the host file says of the admin
	}
	if slices.Contains(options, "NOPASSWD") && user != "%sudo" && user != "%admin" && user != "root" {
		w.report("sudoers-all", l.at, "%s is root, without a password: whoever has the account or a process of it has the machine", user)
	}
}

func (w *world) checkSudoArguments(l sudoLine, fields []string, name string, options []string) {
	args := fields[1:]
	noexec := slices.Contains(options, "NOEXEC")
	pager := name == "journalctl" || name == "systemctl" && slices.ContainsFunc(args, func(a string) bool { return a == "status" || a == "show" || a == "cat" || a == "list-units" })
	switch {
	case len(args) > 0 && strings.HasPrefix(args[0], "^"):
		w.warn("sudoers-sudo-rs", l.at, "sudo-rs, the sudo of Ubuntu 26.04, knows no patterns and drops the rule")
	case strings.ContainsAny(strings.Join(fields, " "), "*?["):
		w.report("sudoers-wildcard", l.at, "the * matches blanks, and with them any further argument and option")
	case escapes[name] != "":
		w.report("sudoers-escape", l.at, "%s is %s: whoever may run it as root is root", name, escapes[name])
	case name == "systemctl" && slices.ContainsFunc(args, func(a string) bool {
		return slices.Contains(words("edit link set-environment import-environment daemon-reexec isolate set-property enable-linger revert"), a)
	}):
		w.report("sudoers-systemctl", l.at, "with this verb the caller decides what runs as root")
	case name == "systemctl" && slices.Contains(args, "daemon-reload"):
		w.report("sudoers-systemctl", l.at, "daemon-reload makes root take over whatever unit files the caller can write")
	case len(args) == 0 && slices.Contains(words("systemctl journalctl tailscale service ufw iptables nft ip reboot-me virsh fail2ban-client cloud-init netplan update-alternatives"), name):
		w.report("sudoers-any-argument", l.at, "without arguments in the rule, %s may be given any: write the exact ones, or \"\" for none", name)
	case pager && !slices.Contains(args, "--no-pager") && !noexec:
		w.report("sudoers-pager", l.at, "%s shows its output in a pager of root's, which can run a shell", name)
	}
	w.checkSudoTarget(l, fields[0])
	if name == "systemctl" {
		w.checkSudoUnits(l, args)
	}
}

// checkSudoTarget reports a program that somebody else than root can change.
func (w *world) checkSudoTarget(l sudoLine, program string) {
	f := w.file(program)
	switch {
	case strings.HasPrefix(program, "/home/") || strings.HasPrefix(program, "/tmp/") || strings.HasPrefix(program, "/var/tmp/"):
		w.report("sudoers-writable", l.at, "%s can be replaced by others than root", program)
	case f != nil && f.mode >= 0 && (f.mode&0o022 != 0 || !strings.HasPrefix(f.owner, "root") && f.owner != ""):
		w.report("sudoers-writable", l.at, "%s is %s's, mode %04o: it can be replaced by others than root", program, f.owner, f.mode)
	}
}

func (w *world) checkSudoUnits(l sudoLine, args []string) {
	verbs := words("start stop restart reload status enable disable try-restart reload-or-restart kill is-active show cat is-enabled")
	i := slices.IndexFunc(args, func(a string) bool { return slices.Contains(verbs, a) })
	if i < 0 {
		return
	}
	for _, name := range args[i+1:] {
		if !strings.HasPrefix(name, "-") && !strings.ContainsAny(name, "*?[^$") && !w.knowsUnit(name) {
			w.report("sudoers-unit", l.at, "nothing brings the unit %s", name)
		}
	}
}
