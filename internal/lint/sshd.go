package lint

import (
	"slices"
	"strconv"
	"strings"

	"bake/internal/lazy"
)

// sshdKinds are sshd's keywords, in lower case, with the kind of value.
var sshdKinds = map[string]string{}

func init() {
	for kind, names := range map[string]string{
		"yes": `AllowAgentForwarding AllowStreamLocalForwarding:all,local,remote AllowTcpForwarding:all,local,remote ClientAliveTCP DisableForwarding ExposeAuthInfo GatewayPorts:clientspecified GSSAPIAuthentication
			GSSAPICleanupCredentials GSSAPIKeyExchange GSSAPIStoreCredentialsOnRekey GSSAPIStrictAcceptorCheck HostbasedAuthentication HostbasedUsesNameFromPacketOnly IgnoreRhosts:shosts-only
			IgnoreUserKnownHosts KbdInteractiveAuthentication ChallengeResponseAuthentication KerberosAuthentication KerberosGetAFSToken KerberosOrLocalPasswd KerberosTicketCleanup
			PasswordAuthentication PermitEmptyPasswords PermitRootLogin:prohibit-password,without-password,forced-commands-only PermitTTY PermitTunnel:point-to-point,ethernet
			PermitUserEnvironment:* PermitUserRC PrintLastLog PrintMotd PubkeyAuthentication StreamLocalBindUnlink StrictModes TCPKeepAlive UseDNS UsePAM X11Forwarding X11UseLocalhost
			Compression:delayed DebianBanner FingerprintHash:md5,sha256 UseLogin`,
		"number": "ClientAliveCountMax LoginGraceTime:time ClientAliveInterval:time MaxAuthTries MaxSessions RequiredRSASize X11DisplayOffset KeyRegenerationInterval ServerKeyBits Port",
		"text": `AcceptEnv AddressFamily AllowGroups AllowUsers AuthenticationMethods AuthorizedKeysCommand AuthorizedKeysCommandUser AuthorizedKeysFile AuthorizedPrincipalsCommand
			AuthorizedPrincipalsCommandUser AuthorizedPrincipalsFile Banner CASignatureAlgorithms ChannelTimeout ChrootDirectory Ciphers DenyGroups DenyUsers ForceCommand HostCertificate HostKey
			HostKeyAgent HostKeyAlgorithms HostbasedAcceptedAlgorithms HostbasedAcceptedKeyTypes Include IPQoS KexAlgorithms ListenAddress LogLevel LogVerbose MACs Match MaxStartups ModuliFile PAMServiceName PermitListen
			PermitOpen PerSourceMaxStartups PerSourceNetBlockSize PerSourcePenalties PerSourcePenaltyExemptList PidFile Protocol PubkeyAcceptedAlgorithms PubkeyAcceptedKeyTypes PubkeyAuthOptions RDomain RefuseConnection
			RekeyLimit RevokedKeys SecurityKeyProvider SetEnv SshdAuthPath SshdSessionPath StreamLocalBindMask Subsystem SyslogFacility TrustedUserCAKeys UnusedConnectionTimeout UsePrivilegeSeparation VersionAddendum
			XAuthLocation RSAAuthentication RhostsRSAAuthentication RhostsAuthentication DSAAuthentication GSSAPIKexAlgorithms AuthorizedKeysFile2 GSSAPIEnablek5users KerberosUseKuserok`,
	} {
		for _, name := range strings.Fields(names) {
			name, more, _ := strings.Cut(name, ":")
			sshdKinds[strings.ToLower(name)] = kind + ":" + more
		}
	}
}

var (
	sshdOld   = words("protocol useprivilegeseparation rsaauthentication rhostsrsaauthentication rhostsauthentication dsaauthentication keyregenerationinterval serverkeybits uselogin challengeresponseauthentication authorizedkeysfile2")
	matchable = words(`acceptenv allowagentforwarding allowgroups allowstreamlocalforwarding allowtcpforwarding allowusers authenticationmethods authorizedkeyscommand authorizedkeyscommanduser
		authorizedkeysfile authorizedprincipalscommand authorizedprincipalscommanduser authorizedprincipalsfile banner casignaturealgorithms channeltimeout chrootdirectory clientalivecountmax clientaliveinterval denygroups denyusers
		disableforwarding exposeauthinfo forcecommand gatewayports gssapiauthentication hostbasedacceptedalgorithms hostbasedacceptedkeytypes hostbasedauthentication hostbasedusesnamefrompacketonly ignorerhosts include
		ipqos kbdinteractiveauthentication kerberosauthentication loglevel maxauthtries maxsessions pamservicename passwordauthentication permitemptypasswords permitlisten permitopen permitrootlogin permittty permittunnel permituserrc
		pubkeyacceptedalgorithms pubkeyacceptedkeytypes pubkeyauthentication pubkeyauthoptions rdomain refuseconnection rekeylimit revokedkeys setenv streamlocalbindmask streamlocalbindunlink trustedusercakeys unusedconnectiontimeout
		x11displayoffset x11forwarding x11uselocalhost match`)
	sshdLevels = words("QUIET FATAL ERROR INFO VERBOSE DEBUG DEBUG1 DEBUG2 DEBUG3")
	matchWords = words("user group host address localaddress localport rdomain all exec version invalid-user tagged sessiontype command localnetwork originalhost final canonical")
)

// sshdForms are values of some keywords; they are what sshd -t takes.
var sshdForms = map[string]struct {
	as   lazy.Regexp
	want string
}{
	"maxstartups":           {`^[0-9]+(?::[0-9]+:[0-9]+)?$`, "a number, or start:rate:full such as 10:30:100"},
	"rekeylimit":            {`(?i)^(?:default|none|[0-9]+[KMG]?)(?:\s+(?:none|[0-9]+[smhdw]?(?:[0-9]+[smhdw])*))?$`, "an amount such as 1G and a time such as 1h"},
	"ipqos":                 {`(?i)^(?:af[1-4][1-3]|cs[0-7]|ef|le|lowdelay|throughput|reliability|none|[0-9]+|0x[0-9a-f]+)(?:\s+(?:af[1-4][1-3]|cs[0-7]|ef|le|lowdelay|throughput|reliability|none|[0-9]+|0x[0-9a-f]+))?$`, "such as af21 cs1, or none"},
	"authorizedkeyscommand": {`^(?:none$|"?/)`, "an absolute path, or none"},
	"authenticationmethods": {`^(?:any|(?:(?:publickey|password|keyboard-interactive|gssapi-with-mic|hostbased|none)(?::[a-z-]+)?)(?:[,\s]+(?:publickey|password|keyboard-interactive|gssapi-with-mic|hostbased|none)(?::[a-z-]+)?)*)$`, "publickey, password, keyboard-interactive, hostbased or any"},
	"permitlisten":          {`^(?:any|none|(?:(?:\S+:)?(?:[0-9]+|\*))(?:\s+(?:\S+:)?(?:[0-9]+|\*))*)$`, "a port, or HOST:PORT"},
	"permitopen":            {`^(?:any|none|\S+:(?:[0-9]+|\*)(?:\s+\S+:(?:[0-9]+|\*))*)$`, "HOST:PORT"},
	"syslogfacility":        {`(?i)^(?:DAEMON|USER|AUTH|AUTHPRIV|LOCAL[0-7])$`, "AUTH, AUTHPRIV, DAEMON, USER or LOCAL0 to LOCAL7"},
	"listenaddress":         {`^(?:[0-9]{1,2}|1[0-9]{2}|2[0-4][0-9]|25[0-5])(?:\.(?:[0-9]{1,2}|1[0-9]{2}|2[0-4][0-9]|25[0-5])){3}(?::[0-9]+)?(?:\s+rdomain\s+\S+)?$|^[0-9.]*[A-Za-z:\[*$]`, "an address"},
	"addressfamily":         {`^(?:any|inet|inet6)$`, "any, inet or inet6"},
	"persourcemaxstartups":  {`^(?:none|[0-9]+)$`, "a number, or none"},
}

// algorithms that sshd knows; true for those that nobody should use.
var algorithms = map[string]map[string]bool{
	"ciphers": list(`aes128-ctr aes192-ctr aes256-ctr aes128-gcm@openssh.com aes256-gcm@openssh.com chacha20-poly1305@openssh.com`, `3des-cbc aes128-cbc aes192-cbc aes256-cbc rijndael-cbc@lysator.liu.se arcfour arcfour128 arcfour256 blowfish-cbc cast128-cbc`),
	"macs": list(`hmac-sha2-256 hmac-sha2-512 hmac-sha2-256-etm@openssh.com hmac-sha2-512-etm@openssh.com umac-128@openssh.com umac-128-etm@openssh.com umac-64@openssh.com umac-64-etm@openssh.com`,
		`hmac-sha1 hmac-sha1-96 hmac-md5 hmac-md5-96 hmac-sha1-etm@openssh.com hmac-sha1-96-etm@openssh.com hmac-md5-etm@openssh.com hmac-md5-96-etm@openssh.com hmac-ripemd160`),
	"kexalgorithms": list(`mlkem768x25519-sha256 sntrup761x25519-sha512 sntrup761x25519-sha512@openssh.com curve25519-sha256 curve25519-sha256@libssh.org ecdh-sha2-nistp256 ecdh-sha2-nistp384 ecdh-sha2-nistp521 diffie-hellman-group-exchange-sha256 diffie-hellman-group16-sha512 diffie-hellman-group18-sha512 diffie-hellman-group14-sha256`,
		`diffie-hellman-group1-sha1 diffie-hellman-group14-sha1 diffie-hellman-group-exchange-sha1`),
	"hostkeyalgorithms": list(strings.Join(keyTypes, " ")+" rsa-sha2-256 rsa-sha2-512 rsa-sha2-256-cert-v01@openssh.com rsa-sha2-512-cert-v01@openssh.com sk-ssh-ed25519-cert-v01@openssh.com sk-ecdsa-sha2-nistp256-cert-v01@openssh.com ecdsa-sha2-nistp256-cert-v01@openssh.com ecdsa-sha2-nistp384-cert-v01@openssh.com ecdsa-sha2-nistp521-cert-v01@openssh.com", "ssh-dss ssh-rsa"),
}

func list(good, weak string) map[string]bool {
	out := map[string]bool{}
	for _, name := range words(good) {
		out[name] = false
	}
	for _, name := range words(weak) {
		out[name] = true
	}
	return out
}

// sshdLine is one setting of sshd.
type sshdLine struct {
	key, value, word string
	match            bool
	at               spot
	file             *file
}

func (w *world) sshdLines() []sshdLine {
	var out []sshdLine
	for _, f := range w.files {
		if f.hidden || f.path != "/etc/ssh/sshd_config" && !(strings.HasPrefix(f.path, "/etc/ssh/sshd_config.d/") && strings.HasSuffix(f.path, ".conf")) {
			continue
		}
		match := false
		for i, line := range f.lines() {
			text := strings.TrimSpace(line)
			if text == "" || text[0] == '#' {
				continue
			}
			cut := strings.IndexAny(text, " \t=")
			word, value := text, ""
			if cut > 0 {
				word, value = text[:cut], strings.TrimSpace(strings.TrimLeft(text[cut:], " \t="))
			}
			indent := len(line) - len(strings.TrimLeft(line, " \t"))
			l := sshdLine{key: strings.ToLower(word), value: value, word: word, at: f.at(i, indent, len(text)), file: f}
			if l.key == "match" {
				match = true
			}
			l.match = match
			out = append(out, l)
		}
	}
	return out
}

// sshdValue is the first global value of a keyword.
func (w *world) sshdValue(key string) (sshdLine, bool) {
	for _, l := range w.sshdLines() {
		if l.key == strings.ToLower(key) && !l.match {
			return l, true
		}
	}
	return sshdLine{}, false
}

func checkSSHD(w *world) {
	for _, l := range w.sshdLines() {
		w.checkSSHDLine(l)
	}
	w.checkSSHSettings()
	w.checkSSHLockout()
	w.checkSSHDTogether()
}

func (w *world) checkSSHDLine(l sshdLine) {
	kind, known := sshdKinds[l.key]
	if !known {
		var names []string
		for name := range sshdKinds {
			names = append(names, name)
		}
		slices.Sort(names)
		w.hint(near(l.key, names)).report("sshd-keyword", l.at, "sshd does not know %s and does not start", l.word)
		return
	}
	kind, more, _ := strings.Cut(kind, ":")
	wrong := func(want string) {
		w.hint(want).report("sshd-value", l.at, "%s cannot be %q: sshd does not start", l.word, l.value)
	}
	value := strings.Trim(strings.SplitN(l.value+" #", " #", 2)[0], `" `)
	switch {
	case value == "" && l.key != "versionaddendum":
		w.report("sshd-value", l.at, "%s has no value: sshd does not start", l.word)
		return
	case l.match && l.key != "match" && !slices.Contains(matchable, l.key):
		w.report("sshd-match", l.at, "%s cannot stand in a Match block, which goes on to the end of the file: sshd does not start", l.word)
		return
	case slices.Contains(sshdOld, l.key):
		w.report("sshd-deprecated", l.at, "%s is from the past", l.word)
		return
	case kind == "yes" && more != "*":
		allowed := append(words("yes no"), strings.Split(more, ",")...)
		if !slices.Contains(allowed, strings.ToLower(value)) {
			wrong(cmpOr(near(strings.ToLower(value), allowed), strings.Trim(strings.Join(allowed, ", "), ", ")))
			return
		}
	case kind == "number" && !onlyDigits(value) && !(more == "time" && timeSpan.MatchString(value)):
		wrong("a number")
		return
	}
	if form := sshdForms[l.key]; form.as != "" && !form.as.MatchString(value) {
		wrong(form.want)
		return
	}
	switch l.key {
	case "subsystem":
		if len(strings.Fields(value)) < 2 {
			wrong("a name and a command, such as sftp internal-sftp")
		}
	case "authenticationmethods":
		if pw, ok := w.sshdValue("PasswordAuthentication"); ok && pw.value == "no" && lazy.Regexp(`(?:^|[ ,])password`).MatchString(value) && !strings.Contains(value, " ") {
			w.report("sshd-lockout", l.at, "a password is demanded, and passwords are not taken: nobody can log in")
		}
	case "denyusers":
		for _, u := range w.users {
			if len(w.users) == 1 && slices.Contains(strings.Fields(value), u.name) {
				w.report("sshd-lockout", l.at, "%s is the only user, and may not log in", u.name)
			}
		}
	case "port":
		if n, err := strconv.Atoi(value); err != nil || n < 1 || n > 65535 {
			wrong("a port, from 1 to 65535")
		}
	case "loglevel":
		if !slices.Contains(sshdLevels, strings.ToUpper(value)) {
			wrong(cmpOr(near2(value, sshdLevels), "QUIET, FATAL, ERROR, INFO, VERBOSE or DEBUG"))
		}
	case "match":
		if fields := strings.Fields(strings.ReplaceAll(value, "=", " ")); !slices.Contains(matchWords, strings.ToLower(fields[0])) {
			wrong(cmpOr(near(strings.ToLower(fields[0]), matchWords), "Match User, Group, Host, Address or all"))
		}
	case "ciphers", "macs", "kexalgorithms", "hostkeyalgorithms", "pubkeyacceptedalgorithms":
		w.checkAlgorithms(l, value)
	case "permitemptypasswords":
		if value == "yes" {
			w.report("sshd-empty-passwords", l.at, "an account without a password is open to everybody")
		}
	case "permitrootlogin":
		if value == "yes" {
			w.report("sshd-root-login", l.at, "root can log in, by password too")
		}
	case "passwordauthentication":
		if value == "yes" && !l.match {
			w.report("ssh-passwords", l.at, "passwords can be guessed; keys cannot")
		}
	}
}

func (w *world) checkAlgorithms(l sshdLine, value string) {
	known := algorithms[l.key]
	if l.key == "pubkeyacceptedalgorithms" {
		known = algorithms["hostkeyalgorithms"]
	}
	removes := strings.HasPrefix(value, "-")
	for _, name := range strings.Split(strings.TrimLeft(value, "+-^"), ",") {
		name = strings.TrimSpace(name)
		weak, is := known[name]
		var names []string
		for k := range known {
			names = append(names, k)
		}
		slices.Sort(names)
		switch {
		case strings.ContainsAny(name, "*?!"):
		case !is && !removes:
			w.hint(near(name, names)).report("sshd-crypto", l.at, "sshd does not know %s and does not start", name)
		case weak && !removes:
			w.warn("sshd-crypto", l.at, "%s is weak", name)
		}
	}
}

// sedOpens finds what sed writes into sshd's configuration.
var sedOpens = lazy.Regexp(`/\s*#?(PermitRootLogin|PasswordAuthentication|PermitEmptyPasswords)[ \t]+(yes)\b[^/]*/[gi]*$`)

func (w *world) checkSSHSettings() {
	for _, c := range w.commands {
		in := c.inner()
		if in.name() != "sed" && in.name() != "echo" || !strings.Contains(strings.Join(append(append(slices.Clone(in.words), c.appends...), c.writes...), " "), "sshd_config") {
			continue
		}
		for _, word := range in.words[1:] {
			m := sedOpens.FindStringSubmatch(word)
			if m == nil && in.name() == "echo" {
				m = lazy.Regexp(`^(PermitRootLogin|PasswordAuthentication|PermitEmptyPasswords) (yes)$`).FindStringSubmatch(word)
			}
			switch {
			case m == nil:
			case m[1] == "PermitRootLogin":
				w.report("sshd-root-login", c.at, "root can log in, by password too")
			default:
				w.report("ssh-passwords", c.at, "passwords can be guessed; keys cannot")
			}
		}
	}
	if n := w.config.Get("ssh_genkeytypes"); n != nil {
		for i, item := range n.Items {
			if !slices.Contains(words("rsa ecdsa ed25519 ecdsa-sk ed25519-sk"), item.Text) {
				w.report("sshd-crypto", spot{node: item, path: "ssh_genkeytypes[" + strconv.Itoa(i) + "]"}, "there are no host keys of the type %s any more", item.Text)
			}
		}
	}
	if n := w.config.Get("ssh_pwauth"); isTrue(n) || n != nil && n.Text == "yes" {
		w.warn("ssh-passwords", spot{node: n, path: "ssh_pwauth"}, "passwords can be guessed; keys cannot")
	}
	if n := w.config.Get("disable_root"); isFalse(n) {
		w.warn("sshd-root-login", spot{node: n, path: "disable_root"}, "root can log in with the keys of the default user")
	}
	for _, l := range w.sshdLines() {
		name := base(l.file.path)
		if l.key == "passwordauthentication" && !l.match && name > "50-cloud-init.conf" && strings.HasPrefix(l.file.path, "/etc/ssh/sshd_config.d/") {
			n := w.config.Get("ssh_pwauth")
			contradicts := isTrue(n) && l.value == "no" || isFalse(n) && l.value == "yes"
			switch {
			case contradicts:
				w.report("sshd-order", l.at, "ssh_pwauth puts the opposite into 50-cloud-init.conf, which sshd reads first, and the first value counts")
			case n == nil || n.Kind == "nothing":
				w.warn("sshd-order", l.at, "sshd takes the first value it reads: 50-cloud-init.conf and 60-cloudimg-settings.conf come before %s", name)
			}
		}
	}
}

func (w *world) checkSSHLockout() {
	password, pw := w.sshdValue("PasswordAuthentication")
	key, pk := w.sshdValue("PubkeyAuthentication")
	if pw && pk && password.value == "no" && key.value == "no" {
		w.report("sshd-lockout", key.at, "neither keys nor passwords are taken: nobody can log in")
	}
	for _, l := range w.sshdLines() {
		if l.match {
			continue
		}
		switch l.key {
		case "allowusers":
			if !slices.ContainsFunc(strings.Fields(l.value), func(name string) bool {
				name, _, _ = strings.Cut(name, "@")
				return strings.ContainsAny(name, "*?$") || w.knowsUser(name) || w.host != nil && name == w.host.Admin.Name
			}) {
				w.report("sshd-lockout", l.at, "nobody who may log in exists: nothing makes %s", strings.Join(strings.Fields(l.value), ", "))
			}
		case "allowgroups":
			if !slices.ContainsFunc(strings.Fields(l.value), func(name string) bool { return strings.ContainsAny(name, "*?") || w.knowsGroup(name) }) {
				w.report("sshd-lockout", l.at, "nobody who may log in exists: nothing makes the group %s", l.value)
			}
		case "port", "listenaddress":
			w.checkSSHPort(l)
		}
	}
}

var localAddress = lazy.Regexp(`^(?:0\.0\.0\.0|::|\[::\])`)

func (w *world) checkSSHPort(l sshdLine) {
	restarts := slices.ContainsFunc(w.commands, func(c command) bool {
		in := c.inner()
		return in.is("systemctl", "restart", "disable", "stop", "mask", "reload-or-restart") && in.has("ssh.socket")
	})
	if w.host == nil && !restarts && !(l.key == "listenaddress" && localAddress.MatchString(l.value)) && !(l.key == "port" && l.value == "22") {
		w.report("sshd-port-socket", l.at, "from Ubuntu 22.10 on ssh.socket listens: it takes over %s only after systemctl daemon-reload and restart ssh.socket", l.word)
	}
	if l.key != "port" || l.value == "22" {
		return
	}
	var ufw []command
	for _, c := range w.commands {
		if c.inner().name() == "ufw" {
			ufw = append(ufw, *c.inner())
		}
	}
	if slices.ContainsFunc(ufw, func(c command) bool { return c.has("enable") }) && !slices.ContainsFunc(ufw, func(c command) bool {
		return (c.has("allow") || c.has("limit")) && strings.Contains(strings.Join(c.words, " "), l.value)
	}) {
		w.report("sshd-lockout", l.at, "sshd listens on %s, which the firewall does not let in", l.value)
	}
}
