package lint

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"bake/internal/lazy"
)

var (
	ufwVerbs = words("allow deny reject limit enable disable reload reset status default logging delete insert prepend route app show version")
	ufwSpec  = lazy.Regexp(`^(?:[0-9]+(?::[0-9]+)?)(?:,[0-9]+(?::[0-9]+)?)*$`)
	ufwProto = words("tcp udp any ah esp gre ipv6 igmp")
	ufwApps  = lazy.Regexp(`^[A-Za-z][A-Za-z0-9 ._+-]*$`)
	services = words(`ssh http https smtp smtps submission imap imaps pop3 pop3s domain ntp ftp ftps telnet mysql postgresql redis ldap ldaps kerberos snmp
		syslog rsync nfs sunrpc git sip xmpp-client xmpp-server openvpn mdns bootps bootpc tftp isakmp ipsec-nat-t squid cvspserver svn irc ircs-u microsoft-ds netbios-ssn bacula-fd 5432 x11 gopher www printer ipp`)
)

func checkFirewall(w *world) {
	var ufw []command
	for _, c := range w.commands {
		in := *c.inner()
		switch in.name() {
		case "ufw":
			w.checkUFW(&in, c.guarded)
			ufw = append(ufw, in)
		case "iptables-restore", "ip6tables-restore":
			if in.has("--test", "-t") {
				w.warn("rules-syntax", c.at, "--test does not find a target or chain that does not exist: load it in a network namespace")
			}
		case "iptables", "ip6tables", "nft", "iptables-legacy":
			w.checkTables(&in)
		}
	}
	w.checkLockout(ufw)
	w.checkUFWFiles(len(ufw) > 0)
	w.checkDockerUser(len(ufw) > 0)
	if i := slices.IndexFunc(ufw, func(c command) bool { return c.has("enable") }); i >= 0 {
		c := ufw[i]
		if !c.boot && c.script == "" {
			w.report("firewall-late", c.at, "runcmd is the last thing of the first boot: sshd and all that packages start answer everybody until then")
		}
		for _, t := range w.commands {
			if t.inner().is("tailscale", "up") && !t.inner().has("--shields-up", "--shields-up=true", "--netfilter-mode=off", "--netfilter-mode=nodivert") {
				w.report("ufw-tailscale", t.at, "tailscaled accepts all that comes in by the tailnet before ufw sees it")
			}
		}
	}
}

func (w *world) checkUFW(c *command, guarded bool) {
	forced := c.has("--force", "-f") || slices.Contains(c.from, "yes") || slices.Contains(c.from, "echo")
	args := slices.DeleteFunc(slices.Clone(c.words[1:]), func(a string) bool { return a == "--force" || a == "--dry-run" || a == "-f" })
	if len(args) == 0 {
		return
	}
	verb := strings.ToLower(args[0])
	switch {
	case strings.HasPrefix(verb, "$"):
		return
	case !slices.Contains(ufwVerbs, verb):
		w.hint(near(verb, ufwVerbs)).report("ufw-syntax", c.at, "ufw does not know %q", args[0])
		return
	case (verb == "enable" || verb == "reset" || verb == "delete") && !forced:
		w.hint("write ufw --force "+verb).report("ufw-prompt", c.at, "ufw %s asks whether to go on; nobody answers, and it does not", verb)
	case verb == "enable" && guarded:
		w.report("cmd-status", c.at, "the firewall that does not come up is no error here")
	}
	switch verb {
	case "disable":
		w.report("firewall-open", c.at, "the firewall is taken down")
	case "reload":
		w.report("ufw-reload", c.at, "ufw reload opens everything for a moment")
	case "default":
		w.checkUFWDefault(c, args[1:])
	case "logging":
		if len(args) > 1 && !slices.Contains(words("on off low medium high full true false"), args[1]) {
			w.report("ufw-syntax", c.at, "ufw logging is on, off, low, medium, high or full, not %q", args[1])
		}
	case "allow", "deny", "reject", "limit", "insert", "prepend", "delete", "route":
		rest := strings.Join(args[1:], " ")
		switch {
		case len(args) == 1:
			w.report("ufw-syntax", c.at, "ufw %s needs a port, a service or from ADDRESS", verb)
		case verb == "allow" && (rest == "from any" || rest == "from any to any" || rest == "any" || rest == "in" || rest == "from 0.0.0.0/0"):
			w.report("firewall-open", c.at, "everything comes in")
		case verb == "allow" && dangerous.MatchString(rest) && !strings.Contains(rest, "from 1") && !strings.Contains(rest, "in on"):
			w.warn("firewall-open", c.at, "whoever reaches this port needs no password: Docker's API, a database")
		}
		w.checkUFWRule(c, args)
	}
}

func (w *world) checkUFWDefault(c *command, args []string) {
	policies, directions := words("allow deny reject"), words("incoming outgoing routed")
	for i, arg := range args {
		if !slices.Contains(policies, arg) && !slices.Contains(directions, arg) && !strings.HasPrefix(arg, "$") {
			w.hint(near(arg, append(policies, directions...))).report("ufw-syntax", c.at, "ufw default does not know %q", arg)
		}
		_ = i
	}
	if slices.Contains(args, "allow") && (len(args) == 1 || slices.Contains(args, "incoming")) {
		w.report("firewall-open", c.at, "everything comes in that no rule forbids")
	}
	if slices.Contains(args, "allow") && slices.Contains(args, "routed") {
		w.warn("firewall-open", c.at, "everything is forwarded that no rule forbids")
	}
}

func (w *world) checkUFWRule(c *command, args []string) {
	i := 0
	for i < len(args) && (slices.Contains(words("route insert prepend delete allow deny reject limit in out log log-all"), args[i]) || i > 0 && slices.Contains(words("insert delete"), args[i-1]) && onlyDigits(args[i])) {
		i++
	}
	for ; i < len(args); i++ {
		next := ""
		if i+1 < len(args) {
			next = args[i+1]
		}
		switch arg := args[i]; {
		case strings.HasPrefix(arg, "$"):
			return
		case strings.HasPrefix(arg, "-"):
			w.hint("write: ufw allow proto tcp to any port 22, or ufw allow 22/tcp").report("ufw-syntax", c.at, "ufw has no option %s", arg)
			return
		case arg == "in" || arg == "out" || arg == "log" || arg == "log-all":
		case arg == "on", arg == "from", arg == "to", arg == "comment", arg == "app":
			_, notNet := netip.ParsePrefix(next)
			_, notAddr := netip.ParseAddr(next)
			if (arg == "from" || arg == "to") && next != "any" && notNet != nil && notAddr != nil && !strings.Contains(next, "$") {
				w.report("ufw-syntax", c.at, "%q is no address", next)
			}
			i++
		case arg == "port":
			w.ufwPort(c, next)
			i++
		case arg == "proto":
			if !slices.Contains(ufwProto, next) {
				w.hint(near(next, ufwProto)).report("ufw-syntax", c.at, "ufw does not know the protocol %q", next)
			}
			i++
		default:
			w.ufwPort(c, arg)
		}
	}
}

func onlyDigits(text string) bool { return text != "" && strings.Trim(text, "0123456789") == "" }

func (w *world) ufwPort(c *command, text string) {
	port, proto, has := strings.Cut(text, "/")
	switch {
	case text == "" || strings.Contains(text, "$"):
	case has && !slices.Contains(ufwProto, proto) && !onlyDigits(proto):
		w.hint(near(proto, words("tcp udp"))).report("ufw-syntax", c.at, "ufw does not know the protocol %q", proto)
	case ufwSpec.MatchString(port):
		for _, one := range strings.FieldsFunc(port, func(r rune) bool { return r == ',' || r == ':' }) {
			if n, err := strconv.Atoi(one); err != nil || n < 1 || n > 65535 {
				w.report("ufw-syntax", c.at, "%s is no port: they end at 65535", one)
			}
		}
		if strings.ContainsAny(port, ":,") && !has && !slices.Contains(c.words, "proto") {
			w.hint("write "+text+"/tcp").report("ufw-syntax", c.at, "ufw wants a protocol for several ports")
		}
	case strings.Contains(port, ".") || strings.Contains(port, "::"): // an address
	case !ufwApps.MatchString(port):
		w.report("ufw-syntax", c.at, "%q is neither a port nor the name of a service", text)
	case port != strings.ToLower(port): // the name of a profile
	case slices.Contains(words("incoming outgoing routed"), port):
		w.hint("write ufw default "+c.args()[0]+" "+port).report("ufw-syntax", c.at, "there is no service %q", port)
	default:
		if meant, is := typo(port, services); is {
			w.hint("did you mean "+meant+"?").report("ufw-syntax", c.at, "there is no service %q", port)
		}
	}
}

// dangerous are ports of services that trust everybody who reaches them.
var dangerous = lazy.Regexp(`^(?:.*\bport )?(?:2375|2376|6379|27017|11211|9200|5432|3306|2049|111|139|445|23)(?:/tcp)?$`)

func (w *world) checkTables(c *command) {
	flush := c.has("-F", "--flush") || c.name() == "nft" && c.has("flush")
	args := strings.Join(c.words[1:], " ")
	switch {
	case flush && !lazy.Regexp(`DOCKER|f2b|[A-Z]+-[A-Z]+|[a-z]`).MatchString(strings.ReplaceAll(strings.ReplaceAll(args, "--flush", ""), "-F", "")) || flush && c.name() == "nft" && c.has("ruleset"):
		w.report("firewall-open", c.at, "all rules are dropped, those of other programs too")
	case lazy.Regexp(`(?:^| )(?:-P|--policy) (?:INPUT|FORWARD) ACCEPT`).MatchString(args):
		w.report("firewall-open", c.at, "everything comes in that no rule forbids")
	case lazy.Regexp(`(?:^| )(?:-A|-I|--append|--insert) INPUT(?: [0-9]+)? -j ACCEPT$`).MatchString(args):
		w.report("firewall-open", c.at, "everything comes in")
	case !c.boot && c.script == "" && lazy.Regexp(`(?:^| )(?:-A|-I|-P) `).MatchString(args) && !w.installs("iptables-persistent", "netfilter-persistent"):
		w.warn("firewall-late", c.at, "the rule is there after everything else has started, and gone after a reboot")
	}
	if strings.HasPrefix(c.name(), "ip") && !strings.Contains(args, "$") {
		w.checkRuleWords(c)
	}
	if target := lazy.Regexp(`(?:-j|--jump) ([A-Z]+)`).FindStringSubmatch(args); target != nil {
		if meant, is := typo(target[1], targets); is {
			w.hint("did you mean "+meant+"?").report("rules-syntax", c.at, "there is no target %s", target[1])
		}
	}
}

// checkRuleWords reports a rule that iptables refuses.
func (w *world) checkRuleWords(c *command) {
	protocol, adds := false, c.has("-A", "-I", "--append", "--insert", "-D", "--delete", "-C", "--check")
	for i, word := range c.words {
		next := ""
		if i+1 < len(c.words) {
			next = c.words[i+1]
		}
		switch {
		case word == "-p" || word == "--protocol":
			protocol = true
		case adds && slices.Contains(words("--dport --sport --dports --sports --destination-port"), word) && !protocol:
			w.hint("write -p tcp before it").report("rules-syntax", c.at, "%s needs a protocol: iptables refuses the rule", word)
		case adds && (word == "-j" || word == "--jump") && next != "" && !slices.Contains(targets, next) && !w.makesChain(next):
			w.hint(near2(next, targets)).warn("rules-syntax", c.at, "there is neither a target nor, here, a chain %s", next)
		}
	}
}

// makesChain reports whether a command or another program makes a chain.
func (w *world) makesChain(name string) bool {
	return lazy.Regexp(`^(?:DOCKER|f2b|ufw|ts-|KUBE|CNI|FLANNEL|cali|LIBVIRT|PODMAN|NETAVARK)`).MatchString(name) || slices.ContainsFunc(w.commands, func(c command) bool {
		return c.has("-N", "--new-chain") && c.has(name)
	})
}

// opensSSH reports whether a rule lets the port of sshd in.
func opensSSH(c command, port string) bool {
	if !c.has("allow") && !c.has("limit") {
		return false
	}
	text := strings.Join(c.words, " ")
	return lazy.Regexp(`\b(?:OpenSSH|ssh|SSH)\b|\b`+port+`\b|\$`).MatchString(text) || !lazy.Regexp(`\bport\b|/tcp|/udp|\b[0-9]+$`).MatchString(text) && strings.Contains(text, "from") || lazy.Regexp(`allow in on `).MatchString(text)
}

func (w *world) checkLockout(ufw []command) {
	enable := slices.IndexFunc(ufw, func(c command) bool { return c.has("enable") })
	if enable < 0 {
		return
	}
	port := "22"
	if d, ok := w.sshdValue("Port"); ok {
		port = d.value
	}
	allow := slices.IndexFunc(ufw, func(c command) bool { return opensSSH(c, port) })
	switch {
	case allow < 0 && w.host == nil && !slices.ContainsFunc(ufw, func(c command) bool {
		return c.is("ufw", "default") && c.has("allow") && (c.has("incoming") || len(c.args()) == 2)
	}) && w.file("/etc/ufw/user.rules") == nil && port == "22":
		w.report("ufw-lockout", ufw[enable].at, "nothing lets ssh in: after this nobody can log in over the network")
	case allow > enable && ufw[allow].boot == ufw[enable].boot:
		w.report("ufw-lockout", ufw[enable].at, "the firewall comes up before the rule that lets ssh in: if anything between fails, nobody can log in")
	}
}

var ufwDefault = lazy.Regexp(`^\s*(DEFAULT_(?:INPUT|FORWARD|OUTPUT)_POLICY|IPV6)\s*=\s*"?([A-Za-z]+)"?`)

func (w *world) checkUFWFiles(commands bool) {
	if f := w.file("/etc/ufw/ufw.conf"); f != nil && strings.Contains(strings.ToLower(f.text), "enabled=yes") && !commands &&
		!slices.ContainsFunc(w.commands, func(c command) bool {
			return c.inner().is("systemctl", "restart") && c.inner().has("ufw", "ufw.service")
		}) && w.host == nil {
		w.report("ufw-conf-only", f.key("path"), "ufw.service has run by now, with what was in the image: no rule is loaded before the next boot, and its state says active")
	}
	f := w.file("/etc/default/ufw")
	if f == nil {
		return
	}
	for i, line := range f.lines() {
		m := ufwDefault.FindStringSubmatch(line)
		switch {
		case m == nil:
		case m[1] == "IPV6" && strings.EqualFold(m[2], "no"):
			w.report("ufw-no-ipv6", f.at(i, 0, len(line)), "ufw leaves IPv6 alone: there everything comes in")
		case m[1] == "DEFAULT_INPUT_POLICY" && strings.EqualFold(m[2], "ACCEPT"):
			w.report("firewall-open", f.at(i, 0, len(line)), "everything comes in that no rule forbids")
		case m[1] == "DEFAULT_FORWARD_POLICY" && strings.EqualFold(m[2], "ACCEPT"):
			w.warn("firewall-open", f.at(i, 0, len(line)), "everything is forwarded that no rule forbids")
		}
	}
}

func (w *world) checkDockerUser(ufw bool) {
	v4, v6 := w.file("/etc/ufw/after.rules"), w.file("/etc/ufw/after6.rules")
	if v4 != nil && v4.layer == nil && strings.Contains(v4.text, "DOCKER-USER") {
		if v6 == nil || !strings.Contains(v6.text, "DOCKER-USER") {
			w.report("docker-user-ipv6", v4.key("path"), "over IPv6 containers answer everybody: after6.rules has no such block")
		}
		for i, line := range v4.lines() {
			if m := lazy.Regexp(`-A DOCKER-USER.*-i (\S+).*-j (?:DROP|REJECT)`).FindStringSubmatch(line); m != nil && !strings.Contains(line, "!") && m[1] != "docker0" {
				w.report("docker-user-denylist", v4.at(i, 0, len(line)), "only what comes by %s is dropped: another card, a tunnel or a card of another name is open", m[1])
			}
		}
	}
	publishes := slices.IndexFunc(w.commands, func(c command) bool { return c.inner().is("docker", "run", "compose") })
	dockerUser := v4 != nil && strings.Contains(v4.text, "DOCKER-USER") || slices.ContainsFunc(w.commands, func(c command) bool {
		return strings.Contains(strings.Join(c.words, " ")+c.input, "DOCKER-USER")
	}) || slices.ContainsFunc(w.files, func(f *file) bool { return strings.Contains(f.text, "DOCKER-USER") })
	if ufw && publishes >= 0 && !dockerUser && w.publishes() {
		w.report("docker-bypasses-ufw", w.commands[publishes].at, "what Docker publishes passes by ufw: there is no rule in DOCKER-USER")
	}
}

// targets of iptables.
var targets = words(`ACCEPT DROP REJECT RETURN LOG NFLOG MASQUERADE SNAT DNAT REDIRECT MARK CONNMARK CT TCPMSS TOS TTL HL NOTRACK NETMAP QUEUE NFQUEUE AUDIT
	CHECKSUM CLASSIFY CONNSECMARK SECMARK DSCP ECN HMARK IDLETIMER LED RATEEST SET SYNPROXY TEE TPROXY TRACE TCPOPTSTRIP DNPT SNPT AUDIT`)

// ruleOptions are options of iptables and of the matches that are in use.
var ruleOptions = words(`-A -I -D -N -P -F -X -p -s -d -j -g -i -o -m -t -f -c -4 -6 -R --append --insert --delete --new-chain --policy --flush --protocol --source --destination
	--jump --goto --in-interface --out-interface --match --table --fragment --dport --dports --sport --sports --ports --destination-port --source-port --tcp-flags --syn
	--icmp-type --icmpv6-type --state --ctstate --ctproto --ctorigsrc --ctorigdst --ctorigdstport --ctorigsrcport --ctreplsrc --ctrepldst --ctdir --ctstatus --ctexpire --limit --limit-burst --hashlimit --hashlimit-upto --hashlimit-above
	--hashlimit-burst --hashlimit-mode --hashlimit-name --hashlimit-htable-expire --hashlimit-srcmask --hashlimit-dstmask --hashlimit-htable-size --hashlimit-htable-max --hashlimit-htable-gcinterval --hashlimit-rate-match --comment --log-prefix --log-level --log-ip-options --log-tcp-options --log-uid --log-tcp-sequence
	--reject-with --to-destination --to-source --to-ports --to --random --random-fully --persistent --set --rcheck --update --remove --seconds --hitcount --name --rsource --rdest --rttl --mask --reap
	--uid-owner --gid-owner --socket-exists --mac-source --set-mark --set-xmark --mark --save-mark --restore-mark --nfmask --ctmask --or-mark --and-mark --addrtype --src-type --dst-type --limit-iface-in --limit-iface-out
	--match-set --return-nomatch --add-set --del-set --exist --timeout --length --ttl --ttl-eq --ttl-lt --ttl-gt --ttl-set --hl-eq --hl-lt --hl-gt --string --algo --hex-string --from --icase --probability --mode --every --packet
	--clamp-mss-to-pmtu --set-mss --mss --nflog-group --nflog-prefix --nflog-range --nflog-size --nflog-threshold --queue-num --queue-bypass --queue-balance --notrack --helper --zone --connlimit-above --connlimit-upto --connlimit-mask --connlimit-saddr --connlimit-daddr
	--physdev-in --physdev-out --physdev-is-bridged --physdev-is-in --physdev-is-out --pkt-type --src-range --dst-range --datestart --datestop --timestart --timestop --weekdays --monthdays --kerneltz --contiguous --dscp --dscp-class --set-dscp --set-dscp-class --tos --set-tos --ahspi --espspi
	--header --soft --rt-type --rt-segsleft --fragid --fragfirst --fragmore --fraglast --genre --connbytes --connbytes-dir --connbytes-mode --path --cgroup --cpu --realm --loose --validmark --accept-local --invert --rpfilter --u32 --bytecode --dccp-types --chunk-types --strict --reqid --spi --proto --tunnel-src --tunnel-dst --next --pol --dir --sack-perm --timestamp --wscale --on-port --on-ip --tproxy-mark --gateway --label --nodst --queue-cpu-fanout --transparent --restore-skmark --tcp-option -x`)

func checkRules(w *world) {
	for _, f := range w.files {
		if f.hidden || f.layer != nil {
			continue
		}
		if strings.HasPrefix(f.path, "/etc/iptables/") || strings.HasPrefix(f.path, "/etc/ufw/") && strings.HasSuffix(f.path, ".rules") || strings.HasSuffix(f.path, "/iptables.rules") || strings.HasSuffix(f.path, ".iptables") {
			w.checkRuleset(f.lines(), f.at)
		}
	}
	for _, c := range w.commands {
		in := c.inner()
		restores := in.name() == "iptables-restore" || in.name() == "ip6tables-restore" || slices.ContainsFunc(append(c.writes, c.appends...), func(p string) bool {
			return strings.HasSuffix(p, ".rules") && strings.HasPrefix(p, "/etc/ufw/") || strings.HasPrefix(p, "/etc/iptables/")
		})
		if restores && c.inputAt != nil {
			w.checkRuleset(strings.Split(strings.TrimSuffix(c.input, "\n"), "\n"), func(line, _, _ int) spot { return c.inputAt(line) })
		}
	}
}

// checkRuleset looks at what iptables-restore reads.
func (w *world) checkRuleset(lines []string, at func(line, col, width int) spot) {
	table, start := "", 0
	chains := map[string]bool{}
	for i, line := range lines {
		text := strings.TrimSpace(line)
		place := at(i, 0, len(line))
		switch {
		case text == "" || text[0] == '#':
		case text[0] == '*':
			if table != "" {
				w.report("rules-syntax", place, "the table before this one has no COMMIT")
			}
			table, start, chains = text[1:], i, map[string]bool{"INPUT": true, "OUTPUT": true, "FORWARD": true, "PREROUTING": true, "POSTROUTING": true}
			if known := words("filter nat mangle raw security"); !slices.Contains(known, table) {
				w.hint(near(table, known)).report("rules-syntax", place, "there is no table %q", table)
			}
		case text == "COMMIT":
			if table == "" {
				w.report("rules-syntax", place, "COMMIT without a table before it")
			}
			table = ""
		case table == "":
			w.report("rules-syntax", place, "this is in no table: a line such as *filter is missing before it")
			table = "filter"
			chains = nil
		case text[0] == ':':
			name := strings.Fields(text[1:] + " ")
			if len(name) < 2 || !slices.Contains(words("ACCEPT DROP - QUEUE RETURN"), name[1]) {
				w.report("rules-syntax", place, "want :CHAIN POLICY [0:0]")
			}
			if len(name) > 0 && chains != nil {
				chains[name[0]] = true
			}
		case text[0] == '-':
			w.checkRuleLine(text, place, chains)
		default:
			w.report("rules-syntax", place, "%q is nothing that iptables-restore reads", strings.Fields(text)[0])
		}
	}
	if table != "" && chains != nil {
		w.report("rules-syntax", at(start, 0, 1), "the table %s has no COMMIT: none of its rules is loaded", table)
	}
}

func (w *world) checkRuleLine(text string, at spot, chains map[string]bool) {
	fields := splitWords(text)
	ours := func(name string) bool {
		return chains == nil || chains[name] || strings.HasPrefix(name, "ufw") || strings.HasPrefix(name, "f2b-")
	}
	protocol := false
	for i, f := range fields {
		next := ""
		if i+1 < len(fields) {
			next = fields[i+1]
		}
		switch {
		case f == "-p" || f == "--protocol":
			protocol = true
		case (f == "-A" || f == "-I" || f == "--append") && !ours(next):
			w.hint("write :"+next+" - [0:0] at the top of the table").report("rules-syntax", at, "the chain %s is not declared in this table: if it does not exist, the whole table is not loaded", next)
		case (f == "-j" || f == "--jump") && !slices.Contains(targets, next) && !ours(next):
			w.hint(near2(next, targets)).report("rules-syntax", at, "there is neither a target nor a chain %s: the whole table is not loaded", next)
		case (f == "--dport" || f == "--sport" || f == "--dports" || f == "--sports") && !protocol:
			w.hint("write -p tcp before it").report("rules-syntax", at, "%s needs a protocol: the whole table is not loaded", f)
		case (f == "--dport" || f == "--sport") && onlyDigits(next) && len(next) > 5:
			w.report("rules-syntax", at, "%s is no port", next)
		case strings.HasPrefix(f, "-") && len(f) > 1 && !onlyDigits(f[1:]) && !slices.Contains(ruleOptions, f) && (i == 0 || !strings.HasPrefix(fields[i-1], "--") || strings.HasPrefix(f, "--")):
			w.hint(near(f, ruleOptions)).report("rules-syntax", at, "iptables has no option %s: the whole table is not loaded", f)
		}
	}
}

// splitWords splits at blanks outside quotes.
func splitWords(text string) []string {
	var out []string
	quoted, open := false, false
	for _, r := range text {
		switch {
		case r == '"':
			quoted = !quoted
			if !open {
				out, open = append(out, ""), true
			}
		case (r == ' ' || r == '\t') && !quoted:
			open = false
		default:
			if !open {
				out, open = append(out, ""), true
			}
			out[len(out)-1] += string(r)
		}
	}
	return out
}
