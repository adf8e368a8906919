package lint

import (
	"encoding/base64"
	"fmt"
	"path"
	"slices"
	"strings"

	"bake/internal/doc"
	"bake/internal/lazy"
)

// encodings are those that write_files knows.
var encodings = words("b64 base64 gz gzip gz+b64 gz+base64 gzip+b64 gzip+base64 text/plain")

func checkFiles(w *world) {
	written := map[string]string{}
	for _, f := range w.files {
		if f.entry != nil && f.layer == nil {
			w.checkPath(f)
			w.checkMode(f)
			w.checkEncoding(f)
			w.checkOwner(f)
			w.checkRefused(f)
			if first, twice := written[f.path]; twice && !f.append && f.path != "" {
				w.report("file-twice", f.key("path"), "%s is written by %s already: the first content is lost", f.path, first)
			}
			written[f.path] = f.name
		}
		if f.mode >= 0 && f.mode&0o002 != 0 {
			severity := Warning
			if sensitive.MatchString(f.path) {
				severity = Error
			}
			w.add("file-world-writable", severity, f.key("permissions"), "everybody may write to %s", f.path)
		}
		if f.mode >= 0 && f.mode&0o6000 != 0 {
			w.report("file-setuid", f.key("permissions"), "%s runs with the rights of its owner, whoever calls it", f.path)
		}
		w.checkRunnable(f)
	}
}

// sensitive are directories whose files root, or everybody, runs or believes.
var sensitive = lazy.Regexp(`^/(?:etc|usr|opt|lib|bin|sbin|boot|root|var/lib|var/spool/cron)/`)

func (w *world) checkPath(f *file) {
	at := f.key("path")
	switch {
	case f.entry.Get("path") == nil:
		w.report("file-path", at, "the file has no path")
	case strings.HasPrefix(f.path, "~") || strings.HasPrefix(f.path, "$"):
		w.report("file-path", at, "no shell reads this: the file would be named %q", f.path)
	case !strings.HasPrefix(f.path, "/"):
		w.report("file-path", at, "%q is relative to wherever cloud-init happens to run", f.path)
	case strings.Contains(f.path+"/", "/../"):
		w.report("file-path", at, "%q goes up and ends somewhere else than it seems", f.path)
	case strings.HasPrefix(f.path, "/tmp/"):
		w.warn("file-tmp", at, "/tmp may be emptied, or mounted over, after write_files has run")
	case systemFiles[f.path] != "" && !f.append:
		w.add("file-replaces-system", severityOf(f.path), at, "this replaces the whole of %s: %s", f.path, systemFiles[f.path])
	}
}

// systemFiles are files that a machine has and that are added to, not replaced.
var systemFiles = map[string]string{
	"/etc/fstab": "the root file system is in it", "/etc/passwd": "all accounts are in it", "/etc/group": "all groups are in it",
	"/etc/shadow":                               "all passwords are in it",
	"/etc/sudoers":                              "what the distribution has there is lost, and a mistake locks everybody out; write a file in /etc/sudoers.d",
	"/etc/ssh/sshd_config":                      "its Include of sshd_config.d goes too, and with it what cloud-init writes there",
	"/etc/ufw/after.rules":                      "ufw's own rules for what comes after the user's are in it",
	"/etc/ufw/before.rules":                     "ufw's own rules for loopback, ICMP and DHCP are in it",
	"/etc/ufw/after6.rules":                     "ufw's own rules are in it",
	"/etc/ufw/before6.rules":                    "ufw's own rules for neighbour discovery are in it",
	"/etc/fail2ban/fail2ban.conf":               "the next update of the package asks about it; write fail2ban.local",
	"/etc/apt/apt.conf.d/50unattended-upgrades": "it is the package's own, and unattended-upgrades does not upgrade itself over a changed one; write 52unattended-upgrades-local",
	"/etc/sysctl.conf":                          "write a file in /etc/sysctl.d",
	"/etc/pam.d/common-auth":                    "pam-auth-update writes it, and a mistake locks everybody out",
	"/etc/pam.d/sshd":                           "a mistake in it locks everybody out",
	"/etc/cloud/cloud.cfg":                      "write a file in /etc/cloud/cloud.cfg.d",
	"/etc/profile":                              "write a file in /etc/profile.d",
	"/etc/bash.bashrc":                          "the package's own content is lost",
	"/etc/nsswitch.conf":                        "names of hosts and users are looked up by it",
	"/etc/resolv.conf":                          "it is a link to what systemd-resolved keeps",
	"/etc/crontab":                              "it starts cron.daily and the like; write a file in /etc/cron.d",
	"/etc/apt/sources.list":                     "cloud-init's own apt module writes it after write_files",
}

// severityOf says how bad it is to replace a file of the system.
func severityOf(path string) Severity {
	switch path {
	case "/etc/fstab", "/etc/passwd", "/etc/group", "/etc/shadow", "/etc/ufw/after.rules", "/etc/ufw/before.rules", "/etc/ufw/after6.rules", "/etc/ufw/before6.rules":
		return Error
	}
	return Warning
}

func (w *world) checkMode(f *file) {
	n := f.entry.Get("permissions")
	if n == nil {
		return
	}
	at := f.key("permissions")
	switch {
	case n.Kind == doc.Int && strings.HasPrefix(n.Text, "0"):
		w.hint(fmt.Sprintf("write %q, in quotes", n.Text)).warn("file-mode", at, "without quotes this is a number, in octal to some readers of YAML and not to others")
	case n.Kind == doc.Int:
		decimal := int64(0)
		fmt.Sscan(n.Text, &decimal)
		w.hint(fmt.Sprintf("write %q", "0"+n.Text)).report("file-mode", at, "without quotes this is the decimal number %s, which is the mode %04o", n.Text, decimal)
	case n.Kind != doc.String:
		w.report("file-mode", at, "this is %s, want text such as \"0644\"", n.Kind)
	case strings.Trim(strings.TrimPrefix(n.Text, "0o"), "01234567") != "" || len(n.Text) < 3 || len(n.Text) > 6:
		w.report("file-mode", at, "%q is no octal number: cloud-init takes 0644 instead, and says so in its log only", n.Text)
	}
}

func (w *world) checkEncoding(f *file) {
	n, content := f.entry.Get("encoding"), f.entry.Get("content")
	if n == nil || content == nil {
		return
	}
	encoding := strings.ToLower(n.Text)
	data := []byte(content.Text)
	if strings.Contains(encoding, "64") && slices.Contains(encodings, encoding) {
		text := strings.Join(strings.Fields(content.Text), "")
		if strings.Contains(text, "...") { // an example
			return
		}
		var err error
		if data, err = base64.StdEncoding.DecodeString(text); err != nil {
			w.report("file-encoding", f.key("content"), "this is not base64")
			return
		}
	}
	switch {
	case !slices.Contains(encodings, encoding):
		w.hint(near(encoding, encodings)).report("file-encoding", f.key("encoding"), "cloud-init does not know the encoding %q and takes the content for plain text", n.Text)
	case strings.Contains(encoding, "gz") && !strings.Contains(encoding, "64") && !compressed(content.Text):
		w.hint("write encoding: gz+b64, or !!binary before the content").report("file-encoding", f.key("content"), "this is not compressed by gzip")
	case strings.Contains(encoding, "gz") && strings.Contains(encoding, "64") && (len(data) < 2 || data[0] != 0x1f || data[1] != 0x8b):
		w.report("file-encoding", f.key("content"), "what this decodes to is not compressed by gzip")
	}
}

// compressed reports whether a text is what gzip makes, itself or in the base64 of !!binary.
func compressed(text string) bool {
	data, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
	return strings.HasPrefix(text, "\x1f\x8b") || err == nil && len(data) > 1 && data[0] == 0x1f && data[1] == 0x8b || strings.Contains(text, "...")
}

func (w *world) checkOwner(f *file) {
	name, group, _ := strings.Cut(f.owner, ":")
	at := f.key("owner")
	made := func(list []string, name string) bool {
		return slices.ContainsFunc(w.users, func(u user) bool { return u.name == name && u.entry.Kind == doc.Map }) || slices.Contains(list, name)
	}
	switch {
	case f.late && !w.knowsUser(name):
		w.hint(near(name, baseUsers)).warn("file-owner-unknown", at, "nothing makes the user %s", name)
	case f.late && !w.knowsGroup(group):
		w.hint(near(group, baseGroups)).warn("file-owner-unknown", at, "nothing makes the group %s", group)
	case f.late:
	case !early(baseUsers, name) && w.knowsUser(name), name == "ubuntu" || name == "debian":
		w.report("file-owner-early", at, "write_files runs before the user %s is made: it fails, and all files after this one are not written", name)
	case !early(baseUsers, name):
		w.hint(near(name, baseUsers)).report("file-owner-unknown", at, "nothing makes the user %s", name)
	case !early(baseGroups, group) && made(w.listedGroups(), group), !early(baseGroups, group) && w.knowsGroup(group):
		w.report("file-owner-early", at, "write_files runs before the group %s is made: it fails, and all files after this one are not written", group)
	case !early(baseGroups, group):
		w.hint(near(group, baseGroups)).report("file-owner-unknown", at, "nothing makes the group %s", group)
	}
	if dir, ok := strings.CutPrefix(f.path, "/home/"); ok && !f.late && early(baseUsers, name) {
		home, _, _ := strings.Cut(dir, "/")
		if made(nil, home) {
			w.report("file-in-home-early", f.key("path"), "write_files runs before the user %s is made and leaves /home/%s to root, without what is in /etc/skel", home, home)
		}
	}
}

// picky are directories whose readers skip a file that is not root's, or that a group may write to.
var picky = map[string]string{"/etc/sudoers.d": "sudo", "/etc/cron.d": "cron", "/etc/logrotate.d": "logrotate", "/etc/cron.daily": "cron", "/etc/cron.hourly": "cron", "/etc/cron.weekly": "cron", "/root/.ssh": "sshd"}

// checkRefused reports files that their reader refuses because of whose they are, and
// private ones that others may read.
func (w *world) checkRefused(f *file) {
	reader := picky[path.Dir(f.path)]
	owner, _, _ := strings.Cut(f.owner, ":")
	switch {
	case reader != "" && owner != "root" && owner != "" && owner != "0":
		w.report("file-refused", f.key("owner"), "%s skips a file that is %s's and not root's", reader, owner)
	case (reader == "cron" && path.Dir(f.path) == "/etc/cron.d" || reader == "logrotate") && f.mode >= 0 && f.mode&0o020 != 0 && f.mode&0o002 == 0:
		w.report("file-refused", f.key("permissions"), "%s skips a file that a group may write to (%04o)", reader, f.mode)
	case privateFile.MatchString(f.path) && !strings.HasSuffix(f.path, ".pub") && !strings.HasSuffix(f.path, "authorized_keys") && f.mode >= 0 && f.mode&0o044 != 0 && f.owner != "root:ssl-cert" && !strings.Contains(f.text, "BEGIN CERTIFICATE"):
		w.hint(`permissions: "0600"`).warn("secret-readable", f.key("permissions"), "others may read %s (%04o)", f.path, f.mode)
	case path.Dir(f.path) == "/etc/logrotate.d" && lazy.Regexp(`\.(?:bak|disabled|orig|old|swp|dpkg-[a-z]+|ucf-[a-z]+|rpm[a-z]+|cfsaved|rhn-cfg-tmp-[^/]*)$|,v$|~$`).MatchString(f.path):
		w.report("file-name-ignored", f.key("path"), "logrotate skips a name that ends like this")
	case path.Dir(f.path) == "/etc/polkit-1/localauthority/50-local.d" || strings.HasSuffix(f.path, ".pkla"):
		w.hint("write a .rules file in /etc/polkit-1/rules.d").warn("file-name-ignored", f.key("path"), "polkit 121 and later, of Debian 12 and Ubuntu 24.04 on, read no .pkla files")
	case strings.HasPrefix(f.path, "/etc/systemd/") && strings.HasSuffix(path.Dir(f.path), ".conf.d") && !strings.HasSuffix(f.path, ".conf"):
		if _, listed := suffixes[path.Dir(f.path)]; !listed {
			w.report("file-name-ignored", f.key("path"), "in %s only names that end in .conf are read", path.Dir(f.path))
		}
	}
}

// checkRunnable reports a script that is run and may not be.
func (w *world) checkRunnable(f *file) {
	if f.mode < 0 || f.mode&0o111 != 0 || f.entry == nil || f.hidden && f.text == "" {
		return
	}
	for _, c := range w.commands {
		in := c.inner()
		if len(in.words) > 0 && in.words[0] == f.path && !slices.ContainsFunc(w.commands, func(c command) bool { return c.name() == "chmod" && c.has(f.path) }) {
			w.report("file-not-executable", f.key("path"), "%s is run by %s and has the mode %04o", f.path, c.at.path, f.mode)
			return
		}
	}
	if strings.HasPrefix(f.text, "#!") && slices.Contains([]string{"/usr/local/bin", "/usr/local/sbin", "/usr/bin", "/usr/sbin", "/etc/cron.daily", "/etc/cron.hourly", "/etc/cron.weekly", "/etc/cron.monthly"}, path.Dir(f.path)) &&
		!slices.ContainsFunc(w.commands, func(c command) bool { return c.name() == "chmod" && c.has(f.path, path.Dir(f.path)+"/*") }) {
		w.warn("file-not-executable", f.key("path"), "this script has the mode %04o: nobody can run it", f.mode)
	}
}

// suffixes are what the names of files in a directory end in; others are not read.
var suffixes = map[string][]string{
	"/etc/sysctl.d": {".conf"}, "/usr/lib/sysctl.d": {".conf"}, "/etc/ssh/sshd_config.d": {".conf"}, "/etc/modprobe.d": {".conf"},
	"/etc/modules-load.d": {".conf"}, "/etc/tmpfiles.d": {".conf"}, "/etc/sysusers.d": {".conf"}, "/etc/apt/sources.list.d": {".list", ".sources"},
	"/etc/apt/preferences.d": {".pref", ""}, "/etc/udev/rules.d": {".rules"}, "/etc/audit/rules.d": {".rules"}, "/etc/fail2ban/jail.d": {".conf", ".local"},
	"/etc/fail2ban/filter.d": {".conf", ".local"}, "/etc/fail2ban/action.d": {".conf", ".local"}, "/etc/netplan": {".yaml"}, "/etc/cloud/cloud.cfg.d": {".cfg"},
	"/etc/profile.d": {".sh", ".csh"}, "/etc/systemd/journald.conf.d": {".conf"}, "/etc/systemd/resolved.conf.d": {".conf"},
	"/etc/systemd/timesyncd.conf.d": {".conf"}, "/etc/systemd/logind.conf.d": {".conf"}, "/etc/systemd/system.conf.d": {".conf"},
	"/etc/systemd/network": {".network", ".netdev", ".link"}, "/etc/rsyslog.d": {".conf"}, "/etc/security/limits.d": {".conf"},
	"/etc/needrestart/conf.d": {".conf"}, "/etc/polkit-1/rules.d": {".rules"}, "/etc/dnsmasq.d": {"*"}, "/etc/ld.so.conf.d": {".conf"}, "/etc/chrony/conf.d": {".conf"},
	"/etc/nginx/conf.d": {".conf"}, "/usr/local/share/ca-certificates": {".crt"}, "/etc/systemd/coredump.conf.d": {".conf"}, "/etc/systemd/networkd.conf.d": {".conf"}, "/etc/security/pwquality.conf.d": {".conf"}, "/etc/default/grub.d": {".cfg"}, "/etc/apt/apt.conf.d": {".conf", ""}, "/etc/apt/trusted.gpg.d": {".gpg", ".asc"}, "/etc/binfmt.d": {".conf"}, "/etc/environment.d": {".conf"},
}

var plainName = lazy.Regexp(`^[A-Za-z0-9_-]+$`)

func checkNames(w *world) {
	for _, f := range w.files {
		if f.entry == nil && f.layer == nil && f.made == nil {
			continue
		}
		dir, name := path.Dir(f.path), path.Base(f.path)
		ends, listed := suffixes[dir]
		if strings.HasSuffix(dir, ".d") && strings.HasPrefix(dir, "/etc/systemd/") && strings.Contains(path.Base(strings.TrimSuffix(dir, ".d")), ".") {
			ends, listed = []string{".conf"}, true
		}
		if listed && !slices.ContainsFunc(ends, func(end string) bool {
			return end == "*" || end == "" && !strings.Contains(name, ".") || end != "" && strings.HasSuffix(name, end)
		}) {
			w.report("file-name-ignored", f.key("path"), "in %s only names that end in %s are read", dir, strings.Trim(strings.Join(ends, " or "), " or"))
		}
		switch {
		case slices.Contains([]string{"/etc/cron.d", "/etc/cron.daily", "/etc/cron.hourly", "/etc/cron.weekly", "/etc/cron.monthly", "/etc/update-motd.d"}, dir) && !plainName.MatchString(name):
			w.report("file-name-ignored", f.key("path"), "a name with a dot in it is not run from %s", dir)
		case dir == "/etc/profile.d" && strings.HasSuffix(name, ".sh") && f.layer == nil:
			r := shellReader{w: &world{}, script: f.path}
			r.read(f.text, f.path, f.at)
			for _, found := range r.w.found {
				found.Rule, found.Problem.Rule = "profile-shell", "profile-shell"
				found.Severity, found.Problem.Warning = Warning, true
				w.found = append(w.found, found)
			}
		}
	}
}

var (
	cronAt    = words("@reboot @yearly @annually @monthly @weekly @daily @midnight @hourly")
	cronField = lazy.Regexp(`^[0-9a-zA-Z*/,-]+$`)
	cronSpan  = lazy.Regexp(`^(?:\*|([0-9]+|[a-z]{3})(?:-([0-9]+|[a-z]{3}))?)(?:/([0-9]+))?$`)
	cronEnv   = lazy.Regexp(`^[A-Za-z_][A-Za-z0-9_]*\s*=`)
)

var (
	cronMonths = words("jan feb mar apr may jun jul aug sep oct nov dec")
	cronDays   = words("sun mon tue wed thu fri sat")
)

func checkCron(w *world) {
	for _, f := range append(w.under("/etc/cron.d"), w.under("/etc")...) {
		if path.Dir(f.path) == "/etc" && f.path != "/etc/crontab" {
			continue
		}
		for i, line := range f.lines() {
			text := strings.TrimSpace(line)
			if text == "" || strings.HasPrefix(text, "#") || cronEnv.MatchString(text) {
				continue
			}
			w.checkCronLine(f.at(i, 0, len(line)), strings.Fields(text))
			if lazy.Regexp(`(?:^|[^\\])%`).MatchString(text) && strings.Contains(text, "date") {
				w.hint(`write \%`).report("cron-syntax", f.at(i, strings.IndexByte(line, '%'), 1), "cron ends the command at %%")
			}
		}
		if f.text != "" && !strings.HasSuffix(f.text, "\n") {
			w.report("cron-syntax", f.at(len(f.lines())-1, 0, 1), "cron ignores the last line, because no line break follows")
		}
	}
}

func (w *world) checkCronLine(at spot, fields []string) {
	if strings.HasPrefix(fields[0], "@") {
		switch {
		case !slices.Contains(cronAt, fields[0]):
			w.hint(near(fields[0], cronAt)).report("cron-syntax", at, "cron does not know %s", fields[0])
		case len(fields) < 3:
			w.report("cron-syntax", at, "want @time, a user and a command")
		}
		return
	}
	limits := [][2]int{{0, 59}, {0, 23}, {1, 31}, {1, 12}, {0, 7}}
	for i, limit := range limits {
		if i >= len(fields) || !cronField.MatchString(fields[i]) || !cronFits(strings.ToLower(fields[i]), limit) {
			bad := ""
			if i < len(fields) {
				bad = fields[i]
			}
			w.report("cron-syntax", at, "the %s field, %q, is not a time: want minute, hour, day, month, weekday", []string{"first", "second", "third", "fourth", "fifth"}[i], bad)
			return
		}
	}
	switch {
	case len(fields) < 7:
		w.report("cron-syntax", at, "a user is missing before the command, or the command")
	case strings.HasPrefix(fields[5], "/"):
		w.report("cron-syntax", at, "a user is missing: cron takes %q for one", fields[5])
	case !w.knowsUser(fields[5]):
		w.warn("cron-syntax", at, "nothing makes the user %s, as whom cron shall run it", fields[5])
	}
}

func cronFits(field string, limit [2]int) bool {
	for _, part := range strings.Split(field, ",") {
		m := cronSpan.FindStringSubmatch(part)
		if m == nil {
			return false
		}
		for _, text := range m[1:3] {
			if text != "" && strings.Trim(text, "0123456789") != "" && !(limit[1] == 12 && slices.Contains(cronMonths, text) || limit[1] == 7 && slices.Contains(cronDays, text)) {
				return false
			}
			n := 0
			if _, err := fmt.Sscanf(text, "%d", &n); err == nil && (n < limit[0] || n > limit[1]) {
				return false
			}
		}
	}
	return true
}

// secrets are the shapes of keys that give access.
var secrets = []struct{ what, has string }{
	{"an Anthropic API key", `sk-ant-[A-Za-z0-9_-]{20,}`}, {"an OpenAI API key", `sk-(?:proj-)?[A-Za-z0-9_-]{32,}`}, {"an AWS access key", `\bAKIA[0-9A-Z]{16}\b`},
	{"a GitHub token", `\bgh[pousr]_[A-Za-z0-9]{30,}`}, {"a GitHub token", `\bgithub_pat_[A-Za-z0-9_]{30,}`}, {"a GitLab token", `\bglpat-[A-Za-z0-9_-]{18,}`},
	{"a Slack token", `\bxox[abposr]-[A-Za-z0-9-]{10,}`}, {"a Tailscale key", `\btskey-[a-z]+-[A-Za-z0-9-]{20,}`}, {"a Google API key", `\bAIza[0-9A-Za-z_-]{35}`},
	{"a Telegram bot's token", `\b[0-9]{8,10}:AA[A-Za-z0-9_-]{32,}`}, {"an npm token", `\bnpm_[A-Za-z0-9]{36}`}, {"a Stripe key", `\b[sr]k_live_[A-Za-z0-9]{20,}`},
	{"a Hugging Face token", `\bhf_[A-Za-z0-9]{30,}`}, {"a Discord bot's token", `\b[MN][A-Za-z0-9]{23}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,}`},
	{"a private key", `-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----`}, {"a password in a URL", `\b[a-z][a-z0-9+.-]*://[A-Za-z0-9._-]+:[^@/\s$<{]{4,}@`},
	{"a key of age", `AGE-SECRET-KEY-1[A-Z0-9]{50,}`}, {"a JSON web token", `\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}`},
	{"a SendGrid key", `\bSG\.[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{20,}`}, {"a DigitalOcean token", `\bdo[opr]_v1_[a-f0-9]{40,}`}, {"a GitLab runner's token", `\bgl(?:rt|soat|ptt)-[A-Za-z0-9_-]{18,}`},
	{"a PyPI token", `\bpypi-[A-Za-z0-9_-]{50,}`}, {"a Vault token", `\bhv[sb]\.[A-Za-z0-9_-]{20,}`}, {"a Slack hook", `https://hooks\.slack\.com/services/T[A-Z0-9]+/B[A-Z0-9]+/[A-Za-z0-9]{12,}`},
	{"a Discord hook", `https://discord(?:app)?\.com/api/webhooks/[0-9]{10,}/[A-Za-z0-9_-]{20,}`}, {"a Docker Hub token", `\bdckr_pat_[A-Za-z0-9_-]{20,}`}, {"a Grafana token", `\bgl(?:sa|c)_[A-Za-z0-9_=-]{28,}`},
	{"a key of Groq", `\bgsk_[A-Za-z0-9]{30,}`}, {"a key of xAI", `\bxai-[A-Za-z0-9]{40,}`}, {"an Azure storage key", `AccountKey=[A-Za-z0-9+/]{60,}`}, {"a Databricks token", `\bdapi[a-f0-9]{32}`}, {"a Linear key", `\blin_api_[A-Za-z0-9]{30,}`},
	{"a token of k3s", `\bK10[a-f0-9]{64}::`}, {"a WireGuard key", `\bPrivateKey\s*=\s*[A-Za-z0-9+/]{42}[A-Za-z0-9+/=]{2}`}, {"a Mailgun key", `\bkey-[0-9a-f]{32}\b`},
}

var (
	secretShape  = lazy.Regexp(joined())
	secretAssign = lazy.Regexp(`(?i)(?:^|[\s"'])(?:export\s+)?([A-Z0-9_.-]*(?:password|passwd|secret|api[_-]?key|token|private[_-]?key|access[_-]?key)[A-Z0-9_]*)["']?\s*[=:]\s*["']?([^\s"'$<{%][^\s"']{5,})`)
)

func joined() string {
	var all []string
	for _, s := range secrets {
		all = append(all, "("+s.has+")")
	}
	return strings.Join(all, "|")
}

// secretIn says what secret a text holds and where it starts.
func secretIn(text string) (what string, at int) {
	m := secretShape.FindStringSubmatchIndex(text)
	if m == nil {
		return "", 0
	}
	for i, s := range secrets {
		if m[2*i+2] >= 0 {
			return s.what, m[0]
		}
	}
	return "", 0
}

// hashedPassword is what crypt(3) makes of one: it can be guessed at, day and night.
var hashedPassword = lazy.Regexp(`\$(?:1|2[abxy]|5|6|y|gy|7|argon2id?)\$[./A-Za-z0-9$=,]{8,}`)

// Reveals says what secret a line holds that should not be read by everybody, and where
// it starts, in bytes; "" is none. It knows the shapes of keys and tokens, hashes of
// passwords, and names that sound like a secret's with a value behind them.
func Reveals(line string) (what string, at int) {
	if what, at = secretIn(line); what != "" {
		return what, at
	}
	if m := hashedPassword.FindStringIndex(line); m != nil {
		return "the hash of a password", m[0]
	}
	m := secretAssign.FindStringSubmatchIndex(line)
	if m != nil && !strings.HasPrefix(strings.TrimSpace(line), "#") && !harmless(line[m[2]:m[3]], line[m[4]:m[5]]) {
		return "a value of " + line[m[2]:m[3]], m[2]
	}
	return "", 0
}

func checkSecrets(w *world) {
	for _, f := range w.files {
		if f.layer != nil || f.made != nil || strings.HasSuffix(f.path, ".pub") {
			continue
		}
		w.checkPasswordFile(f)
		for i, line := range f.lines() {
			what, col := secretIn(line)
			assigned := secretAssign.FindStringSubmatchIndex(line)
			isSet := assigned != nil && !strings.HasPrefix(strings.TrimSpace(line), "#") && !harmless(line[assigned[2]:assigned[3]], line[assigned[4]:assigned[5]])
			open := f.mode < 0 || f.mode&0o077 != 0
			at := f.at(i, col, 1)
			switch {
			case what == "" && !isSet:
				continue
			case what == "":
				w.warn("secret-readable", f.at(i, assigned[2], 1), "a secret, %s, stands here for everybody who reads the seed", line[assigned[2]:assigned[3]])
			case open:
				w.report("secret-readable", at, "%s, in a file that every user may read", what)
			default:
				w.warn("secret-readable", at, "%s stands here for everybody who reads the seed", what)
			}
			break
		}
	}
}

// looksLikePath is a relative path or a link, and no base64 with a slash in it.
var looksLikePath = lazy.Regexp(`^[a-z0-9._~-]*/[a-z0-9._~/-]*$|^\.{1,2}/|://`)

var (
	passwordLine = lazy.Regexp(`(?i)^\s*(?:requirepass|masterauth|bindpw|rootpw|rpcpassword|sasl_passwd|auth_pass)\s+"?([^\s"$<{]{4,})`)
	pgpassLine   = lazy.Regexp(`^[^:#]+:[0-9*]+:[^:]*:[^:]*:[^\s$<{]{4,}$`)
	netrcLine    = lazy.Regexp(`\bpassword\s+[^\s$<{]{4,}`)
)

// checkPasswordFile looks at files with passwords that are no assignments.
func (w *world) checkPasswordFile(f *file) {
	for i, line := range f.lines() {
		what, _ := secretIn(line)
		if what == "" && (passwordLine.MatchString(line) || strings.HasSuffix(f.path, "/.pgpass") && pgpassLine.MatchString(line) || strings.HasSuffix(f.path, "/.netrc") && netrcLine.MatchString(line)) {
			w.warn("secret-readable", f.at(i, 0, len(line)), "a password stands here for everybody who reads the seed")
		}
	}
}

// harmless reports whether a name that sounds like a secret's has a value that is none.
func harmless(name, value string) bool {
	lower := strings.ToLower(value)
	return strings.HasPrefix(value, "/") || strings.HasPrefix(lower, "true") || strings.HasPrefix(lower, "false") || strings.HasPrefix(lower, "prohibit") ||
		strings.Contains(strings.ToLower(name), "authentication") || strings.Contains(strings.ToLower(name), "file") ||
		strings.Contains(strings.ToLower(name), "path") || strings.Contains(strings.ToLower(name), "nopasswd") || looksLikePath.MatchString(value) || strings.HasPrefix(lower, "required") || strings.HasPrefix(lower, "without")
}
