package lint

import (
	"errors"
	"net/netip"
	"path"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"

	"bake/internal/diag"
	"bake/internal/doc"
	"bake/internal/lazy"
)

// checkConfigs looks at files whose readers say what is wrong only when they start.
func checkConfigs(w *world) {
	for _, f := range w.files {
		if f.hidden || f.text == "" || f.layer != nil {
			continue
		}
		dir := path.Dir(f.path)
		switch {
		case dir == "/etc/netplan":
			w.checkNetplan(f)
		case f.path == "/etc/nftables.conf" || dir == "/etc/nftables.d":
			w.checkNft(f)
		case dir == "/etc/nginx/conf.d" || dir == "/etc/nginx/sites-enabled" || dir == "/etc/nginx/sites-available" || f.path == "/etc/nginx/nginx.conf":
			w.checkNginx(f)
		case f.path == "/etc/default/grub" || dir == "/etc/default/grub.d" || dir == "/etc/default":
			w.checkDefaults(f)
		case f.path == "/etc/environment":
			w.checkEnvironment(f)
		case dir == "/etc/apt/preferences.d" || f.path == "/etc/apt/preferences":
			w.checkPreferences(f)
		case dir == "/etc/udev/rules.d":
			w.checkUdev(f)
		case dir == "/etc/systemd/network":
			w.checkNetworkd(f)
		case dir == "/etc/ufw/applications.d":
			w.checkApplication(f)
		case dir == "/etc/fail2ban/filter.d":
			w.checkFilter(f)
		case strings.HasPrefix(path.Base(f.path), "compose.") || strings.HasPrefix(path.Base(f.path), "docker-compose."):
			w.checkCompose(f)
		}
		w.checkShebang(f)
	}
}

// inside maps a place in a file's own text to where that stands.
func (f *file) inside(p diag.Problem) spot {
	return f.at(max(0, p.Pos.Line-1), max(0, p.Pos.Col-1), max(1, p.Width))
}

// parsed reads a file that is YAML; what is wrong with it is another rule's.
func parsed(f *file) *doc.Node {
	if strings.Contains(f.text, "{{") || strings.Contains(f.text, "{%") {
		return nil
	}
	root, _, err := doc.Foreign(f.path, []byte(f.text))
	if err != nil || root.Kind != doc.Map {
		return nil
	}
	return root
}

// checkNetplan holds a file of netplan's against the rules about network-config.
func (w *world) checkNetplan(f *file) {
	root := parsed(f)
	if root == nil {
		return
	}
	inner := root.Get("network")
	if inner == nil {
		w.report("network-key", f.at(0, 0, 1), "netplan wants the key network around everything")
		return
	}
	if inner.Kind != doc.Map {
		return
	}
	sub := &world{config: &doc.Node{Kind: doc.Map}}
	checkNetwork(sub, root)
	for _, x := range sub.found {
		w.hint(x.Problem.Hint).add(x.Rule, x.Severity, f.inside(x.Problem), "%s", x.Problem.Message)
	}
	if f.mode >= 0 && f.mode&0o077 != 0 && f.entry != nil {
		w.hint(`permissions: "0600"`).warn("file-mode", f.key("permissions"), "netplan complains of files that others can read: there may be keys in them")
	}
}

// braces reports a { that nobody closes, without quotes and comments.
func braces(text string) (line int, open bool) {
	var stack []int
	number, quote := 0, byte(0)
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\n':
			number++
			if quote != 0 && c == quote {
				quote = 0
			}
		case c == '\\':
			i++
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == '#':
			for i+1 < len(text) && text[i+1] != '\n' {
				i++
			}
		case c == '{':
			stack = append(stack, number)
		case c == '}':
			if len(stack) == 0 {
				return number, true
			}
			stack = stack[:len(stack)-1]
		}
	}
	if len(stack) > 0 {
		return stack[len(stack)-1], true
	}
	return 0, false
}

var (
	nftDrop  = lazy.Regexp(`(?s)hook input[^{}]*policy drop`)
	nftOpens = lazy.Regexp(`dport\s+(?:\{[^}]*\b(?:22|ssh)\b[^}]*\}|22\b|ssh\b|\d*-\d+|\$)|iif(?:name)?\s+(?:\{[^}]*\}|"(?:[^l"][^"]*|l[^o"][^"]*)"|[a-km-z][\w.*-]*|l[a-np-z][\w.*-]*)\s[^\n]*accept|ip6? saddr [^\n]*accept|tcp dport @|include `)
)

// nftForms are words of which nft knows a few.
var nftForms = []struct {
	as    lazy.Regexp
	known string
}{
	{`\bpolicy\s+([a-z]+)`, "accept drop"},
	{`\bhook\s+([a-z]+)`, "prerouting input forward output postrouting ingress egress"},
	{`(?:^|[\s;{])(?:tcp|udp)\s+([a-z]+)\b`, "dport sport flags sequence ackseq doff reserved window checksum urgptr option length accept drop reject counter log return jump goto limit ct meta ip ip6 th iif oif iifname oifname redirect dnat snat masquerade queue comment quota notrack dport counter"},
	{`\bct\s+([a-z]+)\b`, "state status mark expiration helper label direction l3proto protocol proto-src proto-dst original reply count bytes packets avgpkt zone timeout expectation id event"},
	{`\bct\s+state\s+\{?\s*([a-z]+)\b`, "new established related untracked invalid vmap set"},
	{`^\s*table\s+([a-z0-9]+)\s+[A-Za-z0-9_-]+\s*\{`, "ip ip6 inet arp bridge netdev"},
}

// checkNft looks at nftables' rules, of which one broken line unloads all.
func (w *world) checkNft(f *file) {
	if line, open := braces(f.text); open {
		w.report("rules-syntax", f.at(line, 0, 1), "a brace has no partner: nft loads nothing of the file")
		return
	}
	for i, line := range f.lines() {
		text, _, _ := strings.Cut(lazy.Regexp(`"[^"]*"`).ReplaceAllString(line, `""`), "#")
		for _, form := range nftForms {
			if m := form.as.FindStringSubmatch(text); m != nil && !slices.Contains(words(form.known), m[1]) {
				w.hint(near(m[1], words(form.known))).report("rules-syntax", f.at(i, max(0, strings.Index(line, m[0])), len(m[0])), "nft knows no %s: it loads nothing of the file", strings.TrimSpace(m[0]))
			}
		}
	}
	port, other := w.sshdValue("Port")
	if nftDrop.MatchString(f.text) && !nftOpens.MatchString(f.text) && !(other && strings.Contains(f.text, port.value)) {
		for i, line := range f.lines() {
			if strings.Contains(line, "policy drop") {
				w.report("rules-lockout", f.at(i, 0, len(line)), "everything is dropped and nothing lets ssh in")
				return
			}
		}
	}
}

// nginxWords begin a directive of nginx'.
var nginxWords = words(`listen server_name root index location proxy_pass return include ssl_certificate ssl_certificate_key ssl_protocols access_log error_log add_header try_files
	client_max_body_size proxy_set_header rewrite upstream server worker_processes user pid events http sendfile keepalive_timeout gzip fastcgi_pass expires allow deny auth_basic`)

// checkNginx looks for directives without their end.
func (w *world) checkNginx(f *file) {
	if strings.Contains(f.text, "_by_lua_block") || strings.Contains(f.text, "{{") {
		return
	}
	if line, open := braces(f.text); open {
		w.report("file-syntax", f.at(line, 0, 1), "a brace has no partner: nginx does not start")
		return
	}
	before := ""
	for i, line := range f.lines() {
		text, _, _ := strings.Cut(strings.TrimSpace(line), " #")
		text = strings.TrimSpace(text)
		if text == "" || text[0] == '#' {
			continue
		}
		first := strings.TrimRight(strings.Fields(text)[0], ";{")
		if before != "" && slices.Contains(nginxWords, first) {
			w.report("file-syntax", f.at(i-1, 0, 1), "a directive ends in ; : nginx takes the next line for more of %s and does not start", before)
			return
		}
		if before = first; strings.HasSuffix(text, ";") || strings.HasSuffix(text, "{") || strings.HasSuffix(text, "}") || !slices.Contains(nginxWords, first) {
			before = ""
		}
	}
}

// checkDefaults reads what a shell reads.
func (w *world) checkDefaults(f *file) {
	tree, err := syntax.NewParser(syntax.Variant(syntax.LangPOSIX)).Parse(strings.NewReader(f.text), "")
	var syn syntax.ParseError
	if errors.As(err, &syn) {
		w.report("file-syntax", f.at(int(syn.Pos.Line())-1, int(syn.Pos.Col())-1, 1), "a shell reads this file, and cannot: %s", syn.Text)
	}
	if err != nil {
		return
	}
	for _, stmt := range tree.Stmts {
		call, ok := stmt.Cmd.(*syntax.CallExpr)
		if ok && len(call.Args) > 1 && strings.HasPrefix(call.Args[1].Lit(), "=") {
			at := f.at(int(stmt.Pos().Line())-1, int(stmt.Pos().Col())-1, 1)
			w.hint("write NAME=value, without blanks").report("file-syntax", at, "a shell reads this file, and takes %s for a command", call.Args[0].Lit())
		}
	}
}

var environmentLine = lazy.Regexp(`^(?:export\s+)?[A-Za-z_][A-Za-z0-9_]*=`)

func (w *world) checkEnvironment(f *file) {
	for i, line := range f.lines() {
		text := strings.TrimSpace(line)
		switch {
		case text == "" || text[0] == '#':
		case !environmentLine.MatchString(text):
			w.report("file-syntax", f.at(i, 0, len(line)), "want NAME=value")
		case lazy.Regexp(`\$\{?[A-Za-z_]`).MatchString(text):
			w.report("file-syntax", f.at(i, 0, len(line)), "no shell reads /etc/environment: the value has the dollar sign in it, and with it a PATH finds nothing")
		}
	}
}

// checkPreferences looks for pins without one of their three lines.
func (w *world) checkPreferences(f *file) {
	lines, start := append(f.lines(), ""), -1
	has := map[string]bool{}
	for i, line := range lines {
		if text := strings.TrimSpace(line); text != "" {
			key, _, ok := strings.Cut(text, ":")
			if value, is := strings.CutPrefix(strings.ToLower(text), "pin-priority:"); is && !numeric.MatchString(strings.TrimSpace(value)) {
				w.report("file-syntax", f.at(i, 0, len(line)), "%q is no number: apt refuses to work", strings.TrimSpace(value))
			} else if value, is := strings.CutPrefix(strings.ToLower(text), "pin:"); is && !lazy.Regexp(`^(?:release|origin|version)\s`).MatchString(strings.TrimSpace(value)) {
				w.hint("such as Pin: origin HOST").report("file-syntax", f.at(i, 0, len(line)), "a pin is for a release, an origin or a version: apt refuses to work")
			}
			if ok && text[0] != '#' {
				if start < 0 {
					start = i
				}
				has[strings.ToLower(key)] = true
			}
			continue
		}
		if start >= 0 {
			for _, key := range words("package pin pin-priority") {
				if !has[key] {
					w.report("file-syntax", f.at(start, 0, 1), "the pin has no %s: apt refuses to work", key)
					break
				}
			}
		}
		start, has = -1, map[string]bool{}
	}
}

var udevAssigns = lazy.Regexp(`(?:^|,\s*)(KERNEL|KERNELS|SUBSYSTEM|SUBSYSTEMS|DRIVER|DRIVERS|ACTION|DEVPATH|ATTRS\{[^}]*\}|TEST|CONST\{[^}]*\})\s*=\s*"`)

func (w *world) checkUdev(f *file) {
	for i, line := range f.lines() {
		if m := udevAssigns.FindStringSubmatch(line); m != nil && !strings.HasPrefix(strings.TrimSpace(line), "#") {
			w.hint("write "+m[1]+`=="..."`).report("file-syntax", f.at(i, 0, len(line)), "udev can compare %s, and not set it: it ignores the rule", m[1])
		}
	}
}

var networkdDHCP = words("yes no true false 1 0 on off ipv4 ipv6")

func (w *world) checkNetworkd(f *file) {
	section := ""
	for i, line := range f.lines() {
		text := strings.TrimSpace(line)
		key, value, ok := strings.Cut(text, "=")
		key = strings.TrimSpace(key)
		at := f.at(i, 0, len(line))
		switch {
		case text == "" || text[0] == '#' || text[0] == ';':
		case text[0] == '[':
			section = strings.Trim(text, "[]")
		case !ok:
			w.report("file-syntax", at, "this line has no =: it is ignored")
		case section == "":
			w.report("file-syntax", at, "this line is before the first [Section]: it is ignored")
		case section == "Network" && key == "DHCP" && !slices.Contains(networkdDHCP, strings.TrimSpace(value)):
			w.hint("yes, no, ipv4 or ipv6").report("file-syntax", at, "DHCP= cannot be %q: it is ignored", strings.TrimSpace(value))
		case networkdKeys[section] != nil && !slices.Contains(networkdKeys[section], key):
			w.checkNetworkdKey(at, section, key)
		case section == "Network" && (key == "Address" || key == "Gateway" || key == "DNS"):
			w.checkNetworkdAddress(at, key, strings.TrimSpace(value))
		}
	}
}

func (w *world) checkNetworkdAddress(at spot, key, value string) {
	for _, text := range strings.Fields(value) {
		plain, _, _ := strings.Cut(text, "#")
		_, noPrefix := netip.ParsePrefix(plain)
		_, noAddress := netip.ParseAddr(plain)
		if noPrefix != nil && noAddress != nil && !strings.HasPrefix(plain, "_") && !strings.Contains(plain, "]:") {
			w.report("network-address", at, "%s= cannot be %q", key, text)
		}
	}
}

func (w *world) checkApplication(f *file) {
	for _, key := range words("title description ports") {
		if !lazy.Regexp(`(?m)^` + key + `\s*=\s*\S`).MatchString(f.text) {
			w.report("file-syntax", f.at(0, 0, 1), "the profile has no %s: ufw skips it", key)
			return
		}
	}
}

// checkFilter looks for expressions that say not who.
func (w *world) checkFilter(f *file) {
	for i, line := range f.lines() {
		value, ok := strings.CutPrefix(strings.ReplaceAll(line, " ", ""), "failregex=")
		if ok && value != "" && !lazy.Regexp(`<(?:HOST|ADDR|IP[46]|DNS|SUBNET|F-|_)|%\(|\(\?P<`).MatchString(value) {
			w.report("fail2ban-value", f.at(i, 0, len(line)), "the expression has no <HOST>: fail2ban does not start")
		}
	}
}

// composeKeys are those of a service.
var composeKeys = words(`annotations attach build blkio_config cap_add cap_drop cgroup cgroup_parent command configs container_name cpu_count cpu_percent cpu_period cpu_quota cpu_rt_period cpu_rt_runtime cpu_shares cpus cpuset
	credential_spec depends_on deploy develop device_cgroup_rules devices dns dns_opt dns_search domainname driver_opts entrypoint env_file environment expose extends external_links extra_hosts gpus group_add healthcheck hostname image init ipc
	isolation label_file labels links logging mac_address mem_limit mem_reservation mem_swappiness memswap_limit models network_mode networks oom_kill_disable oom_score_adj pid pids_limit platform ports post_start pre_stop privileged profiles provider pull_policy
	read_only restart runtime scale secrets security_opt shm_size stdin_open stop_grace_period stop_signal storage_opt sysctls tmpfs tty ulimits use_api_socket user userns_mode uts volumes volumes_from working_dir`)

var composeRestart = lazy.Regexp(`^(?:no|always|unless-stopped|on-failure(?::[0-9]+)?|\$\{.*)$`)

// checkCompose looks at a file of docker compose's.
func (w *world) checkCompose(f *file) {
	root := parsed(f)
	if root == nil {
		return
	}
	at := func(n *doc.Node) spot { return f.inside(n.Problem("", "", "")) }
	for _, pair := range root.Pairs {
		key := pair.Key.Text
		if !slices.Contains(words("version name services networks volumes configs secrets include models"), key) && !strings.HasPrefix(key, "x-") {
			w.hint(near(key, words("services networks volumes configs secrets"))).report("compose", at(pair.Key), "compose knows no %s and refuses the file", key)
		}
	}
	services := root.Get("services")
	if services == nil {
		return
	}
	for _, service := range services.Pairs {
		for _, pair := range service.Value.Pairs {
			switch key := pair.Key.Text; {
			case !slices.Contains(composeKeys, key) && !strings.HasPrefix(key, "x-") && key != "<<":
				w.hint(near(key, composeKeys)).report("compose", at(pair.Key), "a service has no key %s: compose refuses the file", key)
			case key == "restart" && pair.Value.Kind == doc.String && !composeRestart.MatchString(pair.Value.Text):
				w.hint("no, always, unless-stopped or on-failure").report("compose", at(pair.Value), "restart cannot be %q", pair.Value.Text)
			case key == "privileged" && isTrue(pair.Value):
				w.warn("docker-privileged", at(pair.Value), "the container has all rights of root on the machine")
			case key == "volumes":
				for _, item := range pair.Value.Items {
					if strings.HasPrefix(item.Text, "/var/run/docker.sock:") || strings.HasPrefix(item.Text, "/run/docker.sock:") || strings.HasPrefix(item.Text, "/:/") {
						w.warn("docker-privileged", at(item), "with %s the container is root on the machine", strings.Split(item.Text, ":")[0])
					}
				}
			}
		}
		if service.Value.Kind == doc.Map && service.Value.Get("image") == nil && service.Value.Get("build") == nil && service.Value.Get("extends") == nil && service.Value.Get("<<") == nil && service.Value.Get("provider") == nil {
			w.report("compose", at(service.Key), "the service %s has neither image nor build", service.Key.Text)
		}
	}
}

// checkShebang looks at the first line of what is to be run.
func (w *world) checkShebang(f *file) {
	first, _, _ := strings.Cut(f.text, "\n")
	run := f.mode >= 0 && f.mode&0o111 != 0
	at := f.at(0, 0, max(1, len(first)))
	switch {
	case lazy.Regexp(`^(?:# +!|#/(?:usr/)?bin/|!#/| +#!|\s*#\s+!/)`).MatchString(first):
		w.hint("the first two characters are #!").report("script-shebang", at, "%q names no program: whoever runs the file takes it for sh's, or refuses it", first)
	case !strings.HasPrefix(first, "#!"):
		if run && !strings.HasPrefix(f.text, "\x7f") && (strings.HasPrefix(f.path, "/usr/local/bin/") || strings.HasPrefix(f.path, "/usr/local/sbin/") || strings.HasPrefix(f.path, "/opt/") && strings.HasSuffix(f.path, ".sh")) {
			w.warn("script-shebang", at, "the program has no #! line: systemd and cron refuse it (Exec format error)")
		}
	case lazy.Regexp(`^#!\s*(?:/usr/bin/python|/usr/bin/env python)\s*$`).MatchString(first) && !w.installs("python-is-python3"):
		w.hint("write python3").report("script-shebang", at, "Debian and Ubuntu have no python without a 3")
	case strings.HasSuffix(first, "\r"):
		w.report("script-shebang", at, "the line ends in a carriage return: no program has that name")
	case lazy.Regexp(`^#!\s*(?:bash|sh|python3?|perl|node)\b`).MatchString(first):
		w.report("script-shebang", at, "the program after #! needs its whole path")
	}
}
