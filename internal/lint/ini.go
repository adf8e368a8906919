package lint

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"bake/internal/lazy"
)

// setting is a line of a file of sections.
type setting struct {
	section, key, value string
	at                  spot
}

var fail2banKeys = words(`enabled filter backend maxretry maxmatches findtime bantime ignoreip ignoreself ignorecommand ignorecache logpath logencoding datepattern
	port protocol chain banaction banaction_allports action action_ action_mw action_mwl action_xarf action_cf_mwl action_blocklist_de action_abuseipdb action_badips mode usedns prefregex failregex ignoreregex
	journalmatch maxlines destemail sender mta mytime knocking_url before after bantime.increment bantime.rndtime bantime.maxtime bantime.factor bantime.formula
	bantime.multipliers bantime.overalljails skip_if_nologs fail2ban_agent blocklist_de_apikey syslog_mail_warn logtimezone tlevel jail.backend journalflags sshd_log sshd_backend dropbear_log syslog_daemon apache_error_log
	nginx_error_log nginx_access_log overwrite_mode_normal systemd_if_nologs auth_log ident ssl_enabled iptables banaction_blocktype blocktype returntype lockingopt name actname timeout`)

// fail2banFilters come with fail2ban.
var fail2banFilters = words(`3proxy apache-auth apache-badbots apache-botsearch apache-common apache-fakegooglebot apache-modsecurity apache-nohome apache-noscript apache-overflows
	apache-pass apache-shellshock assp asterisk bitwarden botsearch-common centreon common counter-strike courier-auth courier-smtp cyrus-imap dante directadmin domino-smtp
	dovecot dropbear drupal-auth ejabberd-auth exim exim-common exim-spam freeswitch froxlor-auth gitlab grafana groupoffice gssftpd guacamole haproxy-http-auth horde
	ignorecommands kerio lighttpd-auth mongodb-auth monit monitorix mssql-auth murmur mysqld-auth nagios named-refused nginx-bad-request nginx-botsearch nginx-error-common nginx-forbidden nginx-http-auth
	nginx-limit-req nsd openhab openwebmail oracleims pam-generic perdition phpmyadmin-syslog php-url-fopen portsentry postfix proftpd pure-ftpd qmail recidive roundcube-auth routeros-auth
	scanlogd screensharingd selinux-common selinux-ssh sendmail-auth sendmail-reject sieve slapd softethervpn sogo-auth solid-pop3d squid squirrelmail sshd stunnel suhosin
	tine20 traefik-auth uwimap-auth vsftpd webmin-auth wuftpd xinetd-fail xrdp znc-adminlog zoneminder vaultwarden dovecot-pop3imap proxmox proxmox-backup-server`)

// banActions come with fail2ban.
var banActions = words(`abuseipdb apf apprise blocklist_de bsd-ipfw cloudflare cloudflare-token complain dshield dummy firewallcmd-allports firewallcmd-ipset firewallcmd-multiport firewallcmd-new firewallcmd-rich-logging
	firewallcmd-rich-rules helpers-common hostsdeny ipfilter ipfw ipthreat iptables iptables-allports iptables-ipset iptables-ipset-proto4 iptables-ipset-proto6 iptables-ipset-proto6-allports iptables-multiport iptables-multiport-log iptables-new
	iptables-xt_recent-echo mail mail-whois mikrotik mynetwatchman netscaler nftables nftables-allports nftables-multiport nginx-block-map npf nsupdate osx-afctl osx-ipfw pf route sendmail shorewall shorewall-ipset-proto6 symbiosis-blacklist-allports ufw xarf-login-attack`)

var (
	looksLikeAddress = lazy.Regexp(`^[0-9.]+(?:/[0-9]+)?$`)
	banTime          = lazy.Regexp(`^-?[0-9.]+\s*(?:[smhdwy]|mo|sec(?:onds?)?|min(?:utes?)?|hours?|days?|weeks?|months?|years?|mon)?(?:\s*[0-9.]+\s*(?:[smhdwy]|mo|sec(?:onds?)?|min(?:utes?)?|hours?|days?|weeks?))*$`)
	backends         = words("auto systemd polling pyinotify gamin")
	iniReserved      = words("DEFAULT INCLUDES Definition Init KNOWN Thread")
)

// readINI reads what Python's configparser reads, and reports what it refuses.
func (w *world) readINI(f *file) []setting {
	var out []setting
	section := ""
	sections := map[string]bool{}
	for i, line := range f.lines() {
		text := strings.TrimSpace(line)
		at := f.at(i, 0, len(line))
		switch {
		case text == "" || text[0] == '#' || text[0] == ';':
		case (line[0] == ' ' || line[0] == '\t') && len(out) > 0 && out[len(out)-1].section == section:
			out[len(out)-1].value += " " + text
		case text[0] == '[':
			name, rest, closed := strings.Cut(text[1:], "]")
			if !closed || strings.TrimSpace(rest) != "" && rest[0] != ' ' && rest[0] != '#' {
				w.report("fail2ban-syntax", at, "the name of a section ends in ]: fail2ban does not start")
				section = "?"
				continue
			}
			if sections[name] {
				w.report("fail2ban-syntax", at, "the section [%s] stands here twice: fail2ban does not start", name)
			}
			section, sections[name] = name, true
		default:
			cut := strings.IndexAny(text, "=:")
			switch {
			case cut < 0:
				w.report("fail2ban-syntax", at, "want key = value: fail2ban does not start")
			case section == "":
				w.report("fail2ban-syntax", at, "this is in no section: fail2ban does not start")
				section = "?"
			default:
				out = append(out, setting{section, strings.TrimSpace(text[:cut]), strings.TrimSpace(text[cut+1:]), at})
			}
		}
	}
	return out
}

func checkFail2ban(w *world) {
	var all []setting
	var first *file
	for _, f := range w.files {
		jail := f.path == "/etc/fail2ban/jail.local" || f.path == "/etc/fail2ban/jail.conf" || strings.HasPrefix(f.path, "/etc/fail2ban/jail.d/")
		if !jail || f.hidden {
			continue
		}
		if first == nil {
			first = f
		}
		if f.path == "/etc/fail2ban/jail.conf" {
			w.report("fail2ban-replaced", f.key("path"), "jail.conf is the package's: all that it sets is lost, and its next update asks about it")
		}
		settings := w.readINI(f)
		for _, s := range settings {
			w.checkJailSetting(s)
		}
		all = append(all, settings...)
	}
	if first == nil {
		return
	}
	if !w.installs("fail2ban") && w.host == nil {
		w.report("package-missing", first.key("path"), "no package here brings fail2ban, and no image has it")
	}
	w.checkJails(all, first)
}

func (w *world) checkJailSetting(s setting) {
	wrong := func(want string) {
		w.hint(want).report("fail2ban-value", s.at, "%s cannot be %q: fail2ban does not start, or without this jail", s.key, s.value)
	}
	if strings.Contains(s.value, "%(") || s.section == "INCLUDES" {
		return
	}
	switch {
	case !slices.Contains(fail2banKeys, strings.ToLower(s.key)) && !strings.Contains(s.key, "/"):
		hint := near(s.key, fail2banKeys)
		if plain := strings.ReplaceAll(s.key, "_", ""); slices.Contains(fail2banKeys, plain) {
			hint = fmt.Sprintf("did you mean %q?", plain)
		}
		w.hint(hint).report("fail2ban-key", s.at, "fail2ban does not know %s: it ignores the line", s.key)
	case s.key == "enabled" && !slices.Contains(words("true false 1 0 yes no on off"), strings.ToLower(s.value)):
		wrong("true or false")
	case slices.Contains(words("maxretry maxmatches maxlines"), s.key) && !onlyDigits(s.value):
		wrong("a whole number")
	case s.key == "maxretry" && s.value == "0":
		wrong("1 or more")
	case strings.HasPrefix(s.key, "banaction") && !strings.ContainsAny(s.value, " [\n") && !slices.Contains(banActions, s.value) && w.file("/etc/fail2ban/action.d/"+s.value+".conf") == nil && w.file("/etc/fail2ban/action.d/"+s.value+".local") == nil:
		wrong(cmpOr(near(s.value, banActions), "an action that comes with fail2ban, such as nftables or ufw"))
	case slices.Contains(words("bantime findtime bantime.maxtime bantime.rndtime"), s.key) && !banTime.MatchString(s.value):
		wrong("seconds, or a time such as 10m, 1h or 1d 12h")
	case s.key == "backend" && !slices.Contains(backends, strings.Split(s.value, "[")[0]):
		wrong(cmpOr(near(s.value, backends), "auto, systemd, polling or pyinotify"))
	case s.key == "mode" && s.section == "sshd" && !slices.Contains(words("normal ddos extra aggressive"), s.value):
		wrong("normal, ddos, extra or aggressive")
	case s.key == "filter" && !strings.Contains(s.value, " "):
		name := strings.Split(s.value, "[")[0]
		if !slices.Contains(fail2banFilters, name) && w.file("/etc/fail2ban/filter.d/"+name+".conf") == nil && w.file("/etc/fail2ban/filter.d/"+name+".local") == nil && name != "" {
			wrong(cmpOr(near(name, fail2banFilters), "a filter that comes with fail2ban, such as sshd, or one of your own in filter.d"))
		}
	case s.key == "ignoreip":
		for _, a := range strings.FieldsFunc(s.value, func(r rune) bool { return r == ' ' || r == ',' }) {
			_, notNet := netip.ParsePrefix(a)
			_, notAddr := netip.ParseAddr(a)
			if looksLikeAddress.MatchString(a) && notNet != nil && notAddr != nil {
				w.report("fail2ban-value", s.at, "%q is no address", a)
			}
			if strings.HasSuffix(a, "/0") {
				w.report("fail2ban-ignoreip", s.at, "%s is everybody: nobody is ever banned", a)
			}
		}
	}
}

// value returns what counts for a jail: its own setting, or the default.
func jailValue(all []setting, jail, key string) (setting, bool) {
	for _, section := range []string{jail, "DEFAULT"} {
		for i := len(all) - 1; i >= 0; i-- {
			if all[i].section == section && all[i].key == key {
				return all[i], true
			}
		}
	}
	return setting{}, false
}

func (w *world) checkJails(all []setting, first *file) {
	head := first.at(0, 0, 1)
	for i, line := range first.lines() {
		if strings.HasPrefix(strings.TrimSpace(line), "[sshd") {
			head = first.at(i, 0, len(line))
		}
	}
	for _, s := range all {
		if s.key == "backend" && strings.HasPrefix(s.value, "systemd") {
			if !w.installs("python3-systemd") {
				w.report("fail2ban-python3-systemd", s.at, "fail2ban 1.0 only recommends python3-systemd, without which the whole server ends")
			}
			if s.section == "DEFAULT" {
				w.report("fail2ban-default-backend", s.at, "every jail that reads a log file finds nothing now")
			}
		}
		if s.key == "journalmatch" && s.section == "sshd" && !strings.Contains(s.value, "sshd-session") {
			w.report("fail2ban-journalmatch", s.at, "from OpenSSH 9.8 on failures come from sshd-session, which this does not match")
		}
	}
	for _, s := range all {
		if s.key == "enabled" && !slices.Contains(iniReserved, s.section) && slices.Contains(words("true 1 yes on"), strings.ToLower(s.value)) {
			_, filter := jailValue(all, s.section, "filter")
			if !filter && !slices.Contains(fail2banFilters, s.section) && !slices.Contains(words("pam-generic selinux-ssh mysqld-auth sendmail-auth"), s.section) && w.file("/etc/fail2ban/filter.d/"+s.section+".conf") == nil {
				w.hint(cmpOr(near(s.section, fail2banFilters), "name a filter, or call the jail sshd")).report("fail2ban-value", s.at, "there is no filter %s for the jail [%s]: fail2ban does not start", s.section, s.section)
			}
		}
		if port, ok := w.sshdValue("Port"); ok && s.section == "sshd" && s.key == "port" && port.value != "22" && !strings.Contains(s.value, port.value) && !strings.Contains(s.value, "0:65535") {
			w.report("fail2ban-value", s.at, "sshd listens on %s: a ban of port %s shuts nobody out", port.value, s.value)
		}
	}
	sshd := slices.ContainsFunc(all, func(s setting) bool { return s.section == "sshd" })
	if !sshd {
		return
	}
	if enabled, ok := jailValue(all, "sshd", "enabled"); ok && slices.Contains(words("false 0 no off"), strings.ToLower(enabled.value)) {
		w.warn("fail2ban-no-log", enabled.at, "the jail of sshd is off")
		return
	}
	backend, ok := jailValue(all, "sshd", "backend")
	if (!ok || backend.value == "auto") && !w.installs("rsyslog") {
		w.report("fail2ban-no-log", head, "without backend = systemd the jail reads /var/log/auth.log, which Debian 12 and newer do not have: fail2ban does not start")
	}
	if mode, ok := jailValue(all, "sshd", "mode"); isFalse(w.config.Get("ssh_pwauth")) && (!ok || mode.value == "normal") {
		if filter, ok := jailValue(all, "sshd", "filter"); !ok || !strings.Contains(filter.value, "aggressive") {
			w.report("fail2ban-mode", head, "where only keys are taken, an attempt ends before authentication, and mode normal does not count that")
		}
	}
	if _, ok := jailValue(all, "sshd", "ignoreip"); !ok {
		w.report("fail2ban-ignoreip", head, "no address is spared: whoever manages the machine, or the NAT gateway they come by, can be banned")
	}
}
