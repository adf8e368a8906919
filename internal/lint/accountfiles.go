package lint

import (
	"path"
	"slices"
	"strings"

	"bake/internal/lazy"
)

// checkAccountFiles looks at files that say who may log in, with what, and what they may do.
func checkAccountFiles(w *world) {
	for _, f := range w.files {
		if f.hidden || f.text == "" {
			continue
		}
		switch dir := path.Dir(f.path); {
		case dir == "/etc/pam.d":
			w.checkPAM(f)
		case f.path == "/etc/security/limits.conf" || dir == "/etc/security/limits.d":
			w.checkLimits(f)
		case f.path == "/etc/security/pwquality.conf" || dir == "/etc/security/pwquality.conf.d":
			w.checkKeysOf(f, "=", pwqualityKeys, "pam_pwquality")
		case f.path == "/etc/security/faillock.conf":
			w.checkKeysOf(f, "=", faillockKeys, "pam_faillock")
		case f.path == "/etc/login.defs":
			w.checkKeysOf(f, " ", loginKeys, "login.defs")
		case strings.HasPrefix(dir, "/etc/polkit-1/rules.d") || dir == "/usr/share/polkit-1/rules.d":
			w.checkPolkit(f)
		case f.path == "/etc/chrony/chrony.conf" || dir == "/etc/chrony/conf.d":
			w.checkChrony(f)
		case strings.HasSuffix(f.path, "/openclaw.json"):
			w.checkGateway(f)
		}
	}
}

var (
	pamTypes    = words("auth account password session")
	pamControls = words("required requisite sufficient optional include substack")
	pamModules  = words(`pam_access pam_apparmor pam_cap pam_cracklib pam_debug pam_deny pam_duo pam_echo pam_ecryptfs pam_env pam_exec pam_faildelay pam_faillock pam_filter pam_fprintd pam_ftp pam_gnome_keyring pam_google_authenticator pam_group pam_issue pam_keyinit
		pam_krb5 pam_lastlog pam_lastlog2 pam_ldap pam_limits pam_listfile pam_localuser pam_loginuid pam_mail pam_mkhomedir pam_motd pam_mysql pam_namespace pam_nologin pam_oslogin_admin pam_oslogin_login pam_permit pam_pwhistory pam_pwquality pam_radius_auth pam_rhosts pam_rootok
		pam_securetty pam_selinux pam_sepermit pam_setquota pam_shells pam_ssh_agent_auth pam_sss pam_stress pam_succeed_if pam_systemd pam_systemd_home pam_tally2 pam_time pam_timestamp pam_tmpdir pam_tty_audit pam_u2f pam_umask pam_unix pam_userdb pam_usertype pam_warn pam_wheel pam_winbind pam_xauth pam_yubico`)
	pamLine = lazy.Regexp(`^-?([A-Za-z]+)\s+(\[[^\]]*\]|\S+)\s+(\S+)`)
)

// checkPAM looks at the stack of a service: a line that cannot be read refuses everybody.
func (w *world) checkPAM(f *file) {
	for i, line := range f.lines() {
		text := strings.TrimSpace(line)
		at := f.at(i, 0, len(line))
		if text == "" || text[0] == '#' || strings.HasPrefix(text, "@include ") {
			continue
		}
		m := pamLine.FindStringSubmatch(text)
		if m == nil {
			w.report("pam-syntax", at, "want TYPE CONTROL MODULE: the service refuses everybody")
			continue
		}
		module := strings.TrimSuffix(path.Base(m[3]), ".so")
		switch {
		case !slices.Contains(pamTypes, strings.ToLower(m[1])):
			w.hint(near(m[1], pamTypes)).report("pam-syntax", at, "PAM knows no type %s: the service refuses everybody", m[1])
		case m[2][0] != '[' && !slices.Contains(pamControls, strings.ToLower(m[2])):
			w.hint(near(m[2], pamControls)).report("pam-syntax", at, "PAM knows no control %s: the service refuses everybody", m[2])
		case slices.Contains(words("include substack"), m[2]):
		case !slices.Contains(pamModules, module) && near(module, pamModules) != "":
			w.hint(near(module, pamModules)).report("pam-syntax", at, "there is hardly a module %s.so: the line fails, and with it the log-in", module)
		case module == "pam_permit" && m[1] == "auth" && m[2] == "sufficient":
			w.report("pam-open", at, "this lets everybody in, whatever follows")
		case module == "pam_unix" && m[1] == "auth" && lazy.Regexp(`\bnullok\b`).MatchString(text) && !strings.HasPrefix(path.Base(f.path), "common-"):
			w.warn("pam-open", at, "an account with an empty password is open")
		}
	}
}

var (
	limitItems = words("core data fsize memlock nofile rss stack cpu nproc as maxlogins maxsyslogins nonewprivs priority locks sigpending msgqueue nice rtprio chroot")
	numeric    = lazy.Regexp(`^-?[0-9]+$`)
)

// checkLimits looks at limits.conf(5).
func (w *world) checkLimits(f *file) {
	for i, line := range f.lines() {
		text, _, _ := strings.Cut(line, "#")
		fields := strings.Fields(text)
		if len(fields) == 0 {
			continue
		}
		at := f.at(i, 0, len(line))
		listed := path.Dir(f.path) == "/etc/security/limits.d" // whose lines checkLines has looked at
		switch {
		case len(fields) == 2 && fields[1] == "-":
		case len(fields) < 4:
			if !listed {
				w.report("file-syntax", at, "want DOMAIN TYPE ITEM VALUE: the line is ignored")
			}
		case !slices.Contains(words("soft hard -"), fields[1]) && !listed:
			w.report("file-syntax", at, "the type is soft, hard or -, not %q: the line is ignored", fields[1])
		case !slices.Contains(limitItems, fields[2]) && !listed:
			w.hint(near(fields[2], limitItems)).report("file-syntax", at, "there is no limit %q: the line is ignored", fields[2])
		case fields[2] == "nofile" && slices.Contains(words("unlimited infinity -1"), fields[3]):
			w.hint("a number, such as 1048576").report("file-syntax", at, "the kernel refuses an unlimited number of open files, and PAM then the log-in")
		case !numeric.MatchString(fields[3]) && !slices.Contains(words("unlimited infinity"), fields[3]) && fields[2] != "chroot":
			w.report("file-syntax", at, "%q is no number: the line is ignored", fields[3])
		}
	}
}

var (
	pwqualityKeys = words(`difok minlen dcredit ucredit lcredit ocredit minclass maxrepeat maxsequence maxclassrepeat gecoscheck dictcheck usercheck usersubstr enforcing badwords dictpath retry enforce_for_root local_users_only`)
	faillockKeys  = words("dir audit silent no_log_info local_users_only nodelay deny fail_interval unlock_time even_deny_root root_unlock_time admin_group")
	loginKeys     = words(`MAIL_DIR MAIL_FILE FAILLOG_ENAB LOG_UNKFAIL_ENAB LOG_OK_LOGINS SYSLOG_SU_ENAB SYSLOG_SG_ENAB SULOG_FILE TTYTYPE_FILE FTMP_FILE SU_NAME HUSHLOGIN_FILE ENV_SUPATH ENV_PATH TTYGROUP TTYPERM ERASECHAR KILLCHAR UMASK HOME_MODE PASS_MAX_DAYS PASS_MIN_DAYS PASS_WARN_AGE PASS_MIN_LEN PASS_MAX_LEN
		UID_MIN UID_MAX SYS_UID_MIN SYS_UID_MAX SUB_UID_MIN SUB_UID_MAX SUB_UID_COUNT GID_MIN GID_MAX SYS_GID_MIN SYS_GID_MAX SUB_GID_MIN SUB_GID_MAX SUB_GID_COUNT LOGIN_RETRIES LOGIN_TIMEOUT CHFN_RESTRICT DEFAULT_HOME USERDEL_CMD USERGROUPS_ENAB FAKE_SHELL CONSOLE CONSOLE_GROUPS MD5_CRYPT_ENAB ENCRYPT_METHOD
		SHA_CRYPT_MIN_ROUNDS SHA_CRYPT_MAX_ROUNDS YESCRYPT_COST_FACTOR BCRYPT_MIN_ROUNDS BCRYPT_MAX_ROUNDS NONEXISTENT PREVENT_NO_AUTH CREATE_HOME FORCE_SHADOW GRANT_AUX_GROUP_SUBIDS MAX_MEMBERS_PER_GROUP LASTLOG_UID_MAX QUOTAS_ENAB PORTTIME_CHECKS_ENAB OBSCURE_CHECKS_ENAB PASS_CHANGE_TRIES PASS_ALWAYS_WARN ENVIRON_FILE ENV_HZ ENV_TZ
		ISSUE_FILE LASTLOG_ENAB MAIL_CHECK_ENAB NOLOGINS_FILE MOTD_FILE ULIMIT DIALUPS_CHECK_ENAB SU_WHEEL_ONLY CRACKLIB_DICTPATH`)
)

// checkKeysOf reports keys that a file's reader does not know.
func (w *world) checkKeysOf(f *file, cut string, known []string, reader string) {
	for i, line := range f.lines() {
		text, _, _ := strings.Cut(strings.ReplaceAll(line, "\t", " "), "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		key, _, _ := strings.Cut(text, cut)
		if key = strings.TrimSpace(key); !slices.Contains(known, key) {
			w.hint(near2(key, known)).report("file-syntax", f.at(i, 0, len(line)), "%s knows no %s, and ignores it", reader, key)
		}
	}
}

var (
	polkitResult = lazy.Regexp(`polkit\.Result\.([A-Za-z_]+)`)
	polkitIf     = lazy.Regexp(`\bif\s*\(|\?|\bswitch\s*\(`)
	polkitUnits  = lazy.Regexp(`org\.freedesktop\.systemd1\.(?:manage-units|manage-unit-files|reload-daemon)`)
)

// checkPolkit looks at polkit's rules, which are programs.
func (w *world) checkPolkit(f *file) {
	if line, open := parentheses(f.text); open {
		w.report("file-syntax", f.at(line, 0, 1), "a bracket has no partner: polkit reads none of the file")
		return
	}
	says := func(pattern lazy.Regexp) int {
		return slices.IndexFunc(f.lines(), func(l string) bool { return pattern.MatchString(l) && !strings.HasPrefix(strings.TrimSpace(l), "//") })
	}
	for i, line := range f.lines() {
		m := polkitResult.FindStringSubmatch(line)
		if known := words("YES NO AUTH_SELF AUTH_SELF_KEEP AUTH_ADMIN AUTH_ADMIN_KEEP NOT_HANDLED"); m != nil && !slices.Contains(known, m[1]) {
			w.hint(near2(m[1], known)).report("file-syntax", f.at(i, 0, len(line)), "polkit has no result %s: the rule decides nothing", m[1])
		}
	}
	yes := says(lazy.Regexp(`polkit\.Result\.YES\b`))
	switch {
	case yes < 0:
	case says(polkitIf) < 0:
		w.add("polkit-open", Error, f.at(yes, 0, len(f.lines()[yes])), "everybody may do everything, without a password")
	case says(polkitUnits) >= 0 && !strings.Contains(f.text, `lookup("unit")`) && !strings.Contains(f.text, `lookup('unit')`):
		i := says(polkitUnits)
		w.report("polkit-open", f.at(i, 0, len(f.lines()[i])), `without action.lookup("unit") this is every unit, and with it root`)
	case says(lazy.Regexp(`systemd1\.manage-unit-files`)) >= 0:
		i := says(lazy.Regexp(`systemd1\.manage-unit-files`))
		w.report("polkit-open", f.at(i, 0, len(f.lines()[i])), "whoever may enable and link unit files is root")
	}
}

// parentheses finds a bracket of a program without its partner, outside of texts and comments.
func parentheses(text string) (line int, open bool) {
	type bracket struct {
		is   byte
		line int
	}
	var stack []bracket
	partner := map[byte]byte{')': '(', ']': '[', '}': '{'}
	quote := byte(0)
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\n':
			line++
			if quote != '`' {
				quote = 0
			}
		case c == '\\':
			i++
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'' || c == '`':
			quote = c
		case strings.HasPrefix(text[i:], "//"):
			for i+1 < len(text) && text[i+1] != '\n' {
				i++
			}
		case strings.HasPrefix(text[i:], "/*"):
			end := strings.Index(text[i:], "*/")
			if end < 0 {
				return line, true
			}
			line += strings.Count(text[i:i+end], "\n")
			i += end + 1
		case c == '(' || c == '[' || c == '{':
			stack = append(stack, bracket{c, line})
		case partner[c] != 0:
			if len(stack) == 0 || stack[len(stack)-1].is != partner[c] {
				return line, true
			}
			stack = stack[:len(stack)-1]
		}
	}
	if len(stack) > 0 {
		return stack[len(stack)-1].line, true
	}
	return 0, false
}

// checkGateway looks at OpenClaw's configuration.
func (w *world) checkGateway(f *file) {
	root := parsed(f)
	if root == nil || f.layer != nil {
		return
	}
	gateway := root.Get("gateway")
	at := func(key string) spot {
		if n := gateway.Get(key); n != nil {
			return f.inside(n.Problem("", "", ""))
		}
		return f.at(0, 0, 1)
	}
	mode, bind, auth := nodeOr(gateway.Get("mode")), nodeOr(gateway.Get("bind")), gateway.Get("auth")
	token := nodeOr(auth.Get("token")).Text
	switch {
	case mode.Text != "local" && mode.Text != "remote":
		w.hint(`"mode": "local"`).report("openclaw-config", at("mode"), "without gateway.mode the gateway does not start (exit 78)")
	case bind.Text != "" && !slices.Contains(words("loopback tailnet 127.0.0.1 ::1"), bind.Text):
		w.warn("openclaw-config", at("bind"), "the gateway listens on every network: keep it on loopback, behind a tunnel or tailscale serve")
	case nodeOr(auth.Get("mode")).Text == "none":
		w.report("openclaw-config", at("auth"), "whoever reaches the port may do all that the agent may")
	case token != "" && len(token) < 24 && !strings.ContainsAny(token, "${"):
		w.warn("openclaw-config", at("auth"), "the token has %d characters, OpenClaw wants 24", len(token))
	}
}
