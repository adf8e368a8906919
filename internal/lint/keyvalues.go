package lint

import (
	"path"
	"slices"
	"strings"

	"bake/internal/doc"
	"bake/internal/lazy"
)

// checkKeyValues looks at what keys of cloud-config say together, and at values that are
// looked at nowhere else.
func checkKeyValues(w *world) {
	w.checkFolded()
	w.checkJoined("", w.config)
	w.checkKeySecrets("", w.config)
	w.checkFileSystems()
	w.checkKeyboard()
	w.checkAptKeys()
	w.checkCertificates()
	w.checkFirewalls()
}

// folded reports whether a text is written as a block of >, whose line breaks are blanks,
// and has some: how many lines it has.
func folded(n *doc.Node) bool {
	if n == nil || n.Kind != doc.String || n.Pos.Line < 1 {
		return false
	}
	p := n.Problem("", "", "")
	runes := []rune(p.Source)
	return p.Pos.Col >= 1 && p.Pos.Col <= len(runes) && runes[p.Pos.Col-1] == '>'
}

// begins are words that begin a command, and seldom stand elsewhere at the head of a line.
var begins = words("cd ls export if for while until case echo printf touch mkdir rm cp mv ln sed chmod chown cat set source systemctl apt apt-get curl wget git docker npm ufw iptables useradd usermod mount sysctl tar sleep")

// goesOn is the end of a line, or the head of a command, after which a word is an argument.
var goesOn = lazy.Regexp(`(?:;|&&|\|\||\||\\|\bthen|\bdo|\belse|\{|\(|sudo|exec|env|xargs)$|^(?:docker|kubectl|sudo|su|ssh) `)

// checkFolded reports commands and files of several lines that become one.
func (w *world) checkFolded() {
	for key, items := range w.commandLists() {
		for i, item := range items {
			if !folded(item) {
				continue
			}
			lines := item.Block()
			for j := 1; j < len(lines); j++ {
				before, fields := strings.TrimSpace(lines[j-1]), strings.Fields(lines[j])
				if len(fields) < 2 || lazy.Regexp(`^\s*(?:apt|apt-get|pip3?|npm|snap|dnf|yum|env|sudo)\s`).MatchString(lines[0]) {
					continue // which takes words like these for arguments
				}
				if word := fields[0]; before != "" && slices.Contains(begins, word) && !goesOn.MatchString(before) {
					w.hint("write | for >").report("yaml-folded", spot{node: item, path: entryName(key, i)}, "> makes one line of these: the command %s is an argument of the one before", word)
					break
				}
			}
		}
	}
	for _, f := range w.files {
		if f.entry == nil || f.layer != nil || !folded(f.content) || !strings.Contains(strings.TrimSpace(f.text), " ") {
			continue
		}
		switch ext := path.Ext(f.path); {
		case strings.HasPrefix(f.text, "#!"), strings.HasPrefix(f.path, "/etc/") && f.path != "/etc/motd" && !strings.HasPrefix(f.path, "/etc/issue"), slices.Contains(words(".service .timer .conf .sh .yaml .yml .py .rules .cfg .ini .env"), ext):
			w.hint("write content: |").report("yaml-folded", f.key("content"), "> makes one line of the file's lines")
		}
	}
}

// checkJoined reports an entry of a list that is written too far to the right, so that it
// is more of the text above.
func (w *world) checkJoined(at string, n *doc.Node) {
	for i, item := range n.Items {
		w.checkJoined(entryName(at, i), item)
	}
	for _, pair := range n.Pairs {
		w.checkJoined(doc.Join(at, pair.Key.Text), pair.Value)
	}
	if n.Kind != doc.String || !strings.Contains(n.Text, " - ") {
		return
	}
	head := n.Problem("", "", "").Source
	depth := func(line string) int { return len(line) - len(strings.TrimLeft(line, " ")) }
	if next, plain := n.After(); plain && strings.HasPrefix(strings.TrimSpace(next), "- ") && depth(next) > depth(head) && strings.Count(head, `"`)%2 == 0 && strings.Count(head, "'")%2 == 0 {
		w.report("yaml-joined", spot{node: n, path: at}, "the line below is more of this text, and no entry of its own: it is indented too far")
	}
}

var (
	secretKey   = lazy.Regexp(`(?i)(?:^|[_-])(?:password|passwd|passphrase|secret|token|api_?key|auth_?key|access_?key|private_?key|registration_key|activation[-_]key|consumer_secret|validation_key)$`)
	placeholder = lazy.Regexp(`^(?:[A-Z][A-Z0-9_]*_[A-Z0-9_]*|[xX*.]+|<.*>|.*(?:\$|\{\{|%\().*|RANDOM|R|/.*|true|false|null|[0-9]{1,4})$`)
)

// checkKeySecrets looks for secrets in keys that have no rule of their own.
func (w *world) checkKeySecrets(at string, n *doc.Node) {
	for _, pair := range n.Pairs {
		key := doc.Join(at, pair.Key.Text)
		v := pair.Value
		if at == "" && slices.Contains(words("write_files runcmd bootcmd users user chpasswd password ssh_keys wireguard ubuntu_pro ubuntu_advantage packages ssh_authorized_keys"), pair.Key.Text) {
			continue
		}
		w.checkSecretValue(key, pair.Key.Text, v)
	}
}

func (w *world) checkSecretValue(at, name string, v *doc.Node) {
	switch {
	case v.Kind == doc.Map:
		w.checkKeySecrets(at, v)
	case v.Kind == doc.List:
		for i, item := range v.Items {
			w.checkSecretValue(entryName(at, i), "", item)
		}
	case v.Kind == doc.String:
		if what, _ := secretIn(v.Text); what != "" {
			w.report("secret-plain", spot{node: v, path: at}, "%s stands here for everybody who reads the seed", what)
		} else if secretKey.MatchString(name) && len(v.Text) > 3 && !placeholder.MatchString(v.Text) {
			w.warn("secret-plain", spot{node: v, path: at}, "a secret stands here for everybody who reads the seed")
		}
	}
}

var partSuffix = lazy.Regexp(`^(/dev/(?:nvme[0-9]+n[0-9]+|mmcblk[0-9]+)p[0-9]+|/dev/[a-z]+[0-9]+)$`)

// checkFileSystems looks at what is made on disks, and mounted from them.
func (w *world) checkFileSystems() {
	disks, labels := w.config.Get("disk_setup"), map[string]*doc.Node{}
	for i, item := range nodeOr(w.config.Get("fs_setup")).Items {
		name := entryName("fs_setup", i)
		device, kind := item.Get("device"), item.Get("filesystem")
		if item.Kind == doc.Map && kind == nil && item.Get("cmd") == nil {
			w.report("key-type", spot{node: item, path: name}, "the file system has no type: nothing is made")
		}
		if label := item.Get("label"); label != nil && kind != nil {
			labels[label.Text] = kind
		}
		if device == nil || disks == nil || !strings.HasPrefix(device.Text, "/dev/") {
			continue
		}
		if !slices.ContainsFunc(disks.Pairs, func(p doc.Pair) bool {
			return strings.HasPrefix(device.Text, p.Key.Text) || !strings.HasPrefix(p.Key.Text, "/dev/")
		}) && !partSuffix.MatchString(device.Text) && nodeOr(item.Get("partition")).Text != "none" {
			w.warn("disk-device", spot{node: device, path: name + ".device"}, "disk_setup makes no partitions on %s", device.Text)
		}
	}
	for i, item := range nodeOr(w.config.Get("mounts")).Items {
		fields := itemTexts(item)
		if len(fields) < 2 {
			continue
		}
		label, ok := strings.CutPrefix(fields[0], "LABEL=")
		at := spot{node: item.Items[0], path: entryName("mounts", i)}
		if !ok || len(labels) == 0 {
			continue
		}
		kind := labels[label]
		for known := range labels {
			if kind == nil && oneOff(label, known) {
				w.hint("did you mean "+known+"?").report("disk-device", at, "no file system of fs_setup has the label %s", label)
			}
		}
		if kind != nil && len(fields) > 2 && fields[2] != "auto" && fields[2] != kind.Text && fields[2] != "" {
			w.hint("write "+kind.Text).report("disk-device", at, "fs_setup makes %s with this label, and not %s: the mount fails", kind.Text, fields[2])
		}
	}
}

// layouts are xkeyboard-config's.
var layouts = words(`af al am ara at au az ba bd be bg br brai bt bw by ca cd ch cm cn cz de dk dz ee eg epo es et eu fi fo fr gb ge gh gn gr hr hu id ie il in iq ir is it jp jv ke kg kh kr kz la latam lk lt lv ma mao md me mk ml mm mn mt mv my nec_vndr ng nl no np nz
	ph pk pl pt ro rs ru se si sk sn sy tg th tj tm tr trans tw tz ua us uz vn za custom ancient apl bqn`)

var charsets = words("utf-8 utf8 iso-8859-1 iso8859-1 iso-8859-15 iso885915 iso-8859-2 iso88592 iso-8859-5 iso-8859-7 iso-8859-9 koi8-r koi8-u euc-jp euc-kr gb18030 gbk gb2312 big5 cp1251 cp1252 tis-620 ansi_x3.4-1968")

func (w *world) checkKeyboard() {
	if n := w.get("keyboard.layout"); n != nil && n.Kind == doc.String {
		for _, layout := range strings.Split(n.Text, ",") {
			if !slices.Contains(layouts, strings.TrimSpace(layout)) {
				w.hint("such as us, gb, de or fr").warn("locale", spot{node: n, path: "keyboard.layout"}, "there is no keyboard layout %q", layout)
			}
		}
	}
	if n := w.config.Get("locale"); n != nil && n.Kind == doc.String {
		if _, charset, ok := strings.Cut(n.Text, "."); ok {
			charset, _, _ = strings.Cut(charset, "@")
			if !slices.Contains(charsets, strings.ToLower(charset)) {
				w.hint("write .UTF-8").report("locale", spot{node: n, path: "locale"}, "there is no character set %q", charset)
			}
		}
	}
}

// oldSuites are releases whose archives have been moved away.
var oldSuites = lazy.Regexp(`\s(precise|quantal|raring|saucy|utopic|vivid|wily|yakkety|zesty|artful|cosmic|disco|eoan|groovy|hirsute|impish|kinetic|lunar|mantic|oracular|squeeze|wheezy|jessie|stretch|buster)(?:-[a-z]+|/[a-z]+)?\s`)

var signedBy = lazy.Regexp(`signed-by=([^\s\]]+)`)

func (w *world) checkAptKeys() {
	apt := w.config.Get("apt")
	if sets := apt.Get("debconf_selections"); sets != nil {
		for _, pair := range sets.Pairs {
			for _, line := range strings.Split(pair.Value.Text, "\n") {
				if fields := strings.Fields(line); len(fields) > 0 && fields[0][0] != '#' && len(fields) < 3 {
					w.hint("PACKAGE QUESTION TYPE VALUE").report("key-type", spot{node: pair.Value, path: "apt.debconf_selections." + pair.Key.Text}, "this is no answer to debconf: it stops with an error")
				}
			}
		}
	}
	for _, pair := range nodeOr(apt.Get("sources")).Pairs {
		source := pair.Value.Get("source")
		if source == nil {
			continue
		}
		at := spot{node: source, path: "apt.sources." + pair.Key.Text}
		key := pair.Value.Get("key") != nil || pair.Value.Get("keyid") != nil
		w.checkSuite(at, source.Text, key)
		if m := signedBy.FindStringSubmatch(source.Text); m != nil && strings.HasPrefix(m[1], "/") && !w.bringsKey(m[1], false) {
			w.report("apt-unsigned", at, "nothing writes %s before apt runs: it refuses the archive", m[1])
		}
		if strings.HasPrefix(source.Text, "ppa:") && w.isDebian() {
			w.report("apt-sources", at, "a PPA is built for Ubuntu, and this is Debian")
		}
	}
	for _, f := range w.files {
		if f.layer != nil || f.path != "/etc/apt/sources.list" && path.Dir(f.path) != "/etc/apt/sources.list.d" {
			continue
		}
		for i, line := range f.lines() {
			w.checkSuite(f.at(i, 0, len(line)), line, true)
			m := signedBy.FindStringSubmatch(line)
			if m == nil {
				m = lazy.Regexp(`(?i)^Signed-By:\s+(/\S+)$`).FindStringSubmatch(line)
			}
			if m != nil && strings.HasPrefix(m[1], "/") && !w.bringsKey(m[1], true) {
				w.report("apt-unsigned", f.at(i, 0, len(line)), "nothing here brings %s: apt refuses the archive", m[1])
			}
		}
		if strings.HasSuffix(f.path, ".sources") && f.text != "" {
			w.checkStanzas(f)
		}
	}
	if !w.isDebian() {
		return
	}
	for _, c := range w.commands {
		if in := c.inner(); in.name() == "add-apt-repository" && strings.HasPrefix(last(in.args()), "ppa:") {
			w.report("apt-sources", c.at, "a PPA is built for Ubuntu, and this is Debian")
		} else if in.name() == "snap" && !w.installs("snapd") {
			w.report("cmd-file-missing", c.at, "Debian's images have no snap: install snapd")
		}
	}
	if n := w.config.Get("snap"); n != nil && !w.installs("snapd") {
		w.warn("cmd-file-missing", spot{node: keyNode(w.config, "snap"), path: "snap"}, "Debian's images have no snap: install snapd")
	}
}

// checkStanzas looks for fields that an entry of a .sources file must have.
func (w *world) checkStanzas(f *file) {
	for _, field := range words("Types URIs Suites") {
		if !lazy.Regexp(`(?mi)^` + field + `:`).MatchString(f.text) {
			w.report("apt-sources", f.at(0, 0, 1), "the field %s is missing: apt reads none of the file", field)
			return
		}
	}
}

func (w *world) checkSuite(at spot, line string, signed bool) {
	if m := oldSuites.FindStringSubmatch(line + " "); m != nil && (strings.Contains(line, "ubuntu.com") || strings.Contains(line, "debian.org")) {
		w.warn("apt-sources", at, "%s is no release that is looked after, and its archive has been moved: apt update fails", m[1])
	}
}

// bringsKey reports whether the key of an archive is there when apt runs.
func (w *world) bringsKey(name string, late bool) bool {
	if w.file(name) != nil || lazy.Regexp(`^/usr/share/keyrings/(?:ubuntu|debian)`).MatchString(name) || strings.HasPrefix(name, "/usr/share/keyrings/") && w.host != nil {
		return true
	}
	return slices.ContainsFunc(w.commands, func(c command) bool {
		return (late || c.boot) && (strings.Contains(strings.Join(append(append(slices.Clone(c.words), c.writes...), c.appends...), " "), name))
	})
}

// isDebian reports whether the host's image is known to be Debian's.
func (w *world) isDebian() bool { return w.host != nil && strings.HasPrefix(w.host.Base, "debian:") }

func (w *world) checkCertificates() {
	for _, key := range []string{"ca_certs", "ca-certs"} {
		for i, item := range nodeOr(w.config.Get(key).Get("trusted")).Items {
			at := spot{node: item, path: entryName(key+".trusted", i)}
			begin, end := strings.Count(item.Text, "-----BEGIN "), strings.Count(item.Text, "-----END ")
			switch {
			case strings.Contains(item.Text, "PRIVATE KEY"):
				w.report("secret-plain", at, "this is a private key, and everybody reads it")
			case begin != end:
				w.report("key-type", at, "the certificate is cut off: it has %d beginnings and %d ends", begin, end)
			}
		}
	}
}

// checkFirewalls reports two programs that set the packet filter.
func (w *world) checkFirewalls() {
	ufw := w.host != nil && w.hasLayer("ufw") || slices.ContainsFunc(w.commands, func(c command) bool {
		return c.inner().is("ufw", "enable") || c.inner().name() == "ufw" && c.inner().has("enable")
	})
	if !ufw {
		return
	}
	for _, c := range w.commands {
		in := c.inner()
		if in.is("systemctl", "enable", "start", "restart") && in.has("nftables", "nftables.service", "firewalld", "firewalld.service", "netfilter-persistent", "netfilter-persistent.service") {
			w.report("firewall-twice", c.at, "ufw sets the packet filter, and this replaces it")
		}
	}
	for _, p := range w.packages {
		if w.host != nil && p.at.node != nil && slices.Contains(words("firewalld iptables-persistent netfilter-persistent"), p.name) {
			w.report("firewall-twice", p.at, "ufw sets the packet filter, and %s replaces it", p.name)
		}
	}
}
