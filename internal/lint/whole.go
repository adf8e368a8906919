package lint

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"bake/internal/doc"
	"bake/internal/lazy"
)

// listeners are the ports that packages and layers listen on.
var listeners = map[string][]string{"22": {"ssh"}, "80": words("nginx apache2 caddy haproxy lighttpd traefik docker docker-user openclaw-container"), "443": words("nginx apache2 caddy haproxy lighttpd traefik docker docker-user openclaw-container"),
	"53": words("bind9 unbound dnsmasq pihole"), "41641": words("tailscale"), "51820": words("wireguard wireguard-tools"), "5432": words("postgresql"), "3306": words("mysql-server mariadb-server"), "6379": words("redis redis-server"),
	"9100": words("prometheus-node-exporter"), "25": words("postfix exim4"), "18789": words("openclaw openclaw-container"), "3000": words("grafana"), "8080": words("docker docker-user")}

// checkWhole looks at what is between layers.
func checkWhole(w *world) {
	if w.host == nil {
		return
	}
	w.checkPorts()
	w.checkOffline()
	w.checkLayers()
	w.checkBetween()
}

func (w *world) hasLayer(name string) bool {
	return slices.ContainsFunc(w.host.Layers, func(l layerRendered) bool { return l.Name == name })
}

// ufwPorts reads from the firewall's program which ports it opens.
var ufwPorts = lazy.Regexp(`(?m)^\s*ufw allow ([0-9]+)/(?:tcp|udp)$`)

func (w *world) checkPorts() {
	var opened []string
	for _, f := range w.files {
		for _, m := range ufwPorts.FindAllStringSubmatch(f.text, -1) {
			if f.layer != nil {
				opened = append(opened, m[1])
			}
		}
	}
	at, parameters := w.layerAt("ufw")
	for _, port := range opened {
		for _, key := range words("allow_tcp allow_udp") {
			for _, item := range nodeOr(parameters.Get(key)).Items {
				if item.Text == port {
					at = spot{node: item, path: "layers.ufw." + key}
				}
			}
		}
		known, listed := listeners[port]
		if port == "18789" && w.hasLayer("openclaw") {
			w.hint("reach it by ssh -L, or tailscale serve").report("port-unused", at, "the gateway listens on 127.0.0.1 alone: nobody reaches it by this port, until it listens elsewhere one day")
			continue
		}
		if port == "22" && w.hasLayer("ssh") {
			continue
		}
		if listed && (slices.ContainsFunc(known, w.hasLayer) || w.installs(known...)) {
			continue
		}
		if w.mentions(port) {
			continue
		}
		w.report("port-unused", at, "the firewall opens %s, on which nothing here listens: whatever does so one day is open", port)
	}
}

// mentions reports whether a unit, a setting or a command of the host's names a port.
func (w *world) mentions(port string) bool {
	word := lazy.Regexp(`(?:^|[^0-9])` + port + `(?:[^0-9]|$)`)
	for _, f := range w.files {
		if f.layer != nil && (strings.HasSuffix(f.layer.Origin, "firewall.tmpl") || strings.Contains(f.path, "/bake/gate")) {
			continue
		}
		if word.MatchString(f.text) && !strings.HasPrefix(f.path, "/etc/sysctl.d") && f.path != "/etc/passwd" {
			return true
		}
	}
	return slices.ContainsFunc(w.commands, func(c command) bool { return c.inner().name() != "ufw" && word.MatchString(strings.Join(c.words, " ")) })
}

// hostKey is a place in the host file.
func (w *world) hostKey(key string) spot {
	n := &doc.Node{Kind: doc.Map}
	n.Pos.File = w.host.File
	in := w.host.Merged
	for _, part := range strings.Split(key, ".") {
		if in.Get(part) == nil {
			break
		}
		for _, pair := range in.Pairs {
			if pair.Key.Text == part && pair.Key.Pos.Line > 0 {
				n, in = pair.Key, pair.Value
				break
			}
		}
	}
	return spot{node: n, path: key}
}

func (w *world) checkOffline() {
	if !w.host.Offline || w.host.Config == nil {
		return
	}
	if n := w.host.Config.Get("packages"); n != nil && len(n.Items) > 0 {
		w.report("offline-network", spot{node: n, path: "cloud-config.packages"}, "these packages come from the network at the first boot: the payload has those of the layers alone")
	}
	for _, c := range w.commands {
		if in := c.inner(); c.at.node != nil && c.at.node.Pos.File == w.host.File && slices.Contains(words("curl wget apt apt-get npm pip pip3 snap git"), in.name()) {
			w.report("offline-network", c.at, "%s needs the network at the first boot, which a host with a payload can do without", in.name())
		}
	}
}

func (w *world) checkLayers() {
	if !w.hasLayer("ufw") {
		w.report("no-firewall", w.hostKey("layers"), "no layer closes the ports that nobody should reach")
	}
	for _, s := range w.host.Secrets {
		used := false
		for _, f := range w.files {
			used = used || strings.Contains(f.text, s.Name) && (f.layer == nil || !strings.Contains(f.layer.Origin, "layers/secrets/") && !strings.Contains(f.layer.Origin, "layers/attest/"))
		}
		used = used || slices.ContainsFunc(w.commands, func(c command) bool { return strings.Contains(strings.Join(c.words, " "), s.Name) })
		if !used {
			w.report("secret-unused", w.hostKey("secrets."+s.Name), "nothing uses the secret %s", s.Name)
		}
	}
	w.checkFail2banLayer()
	for _, name := range w.lingering() {
		if !slices.ContainsFunc(w.files, func(f *file) bool { return strings.Contains(f.path, "/systemd/user/") }) && w.systemUser(name) {
			at, _ := w.layerAt("linger")
			w.report("cmd-linger", at, "%s lingers and has no units of its own: a second manager runs for nothing, outside of every sandbox", name)
		}
	}
}

// checkFail2banLayer reports a ban that can shut out whoever manages the machine.
func (w *world) checkFail2banLayer() {
	for _, f := range w.files {
		if f.layer == nil || !strings.HasPrefix(f.path, "/etc/fail2ban/jail.d/") {
			continue
		}
		for i, line := range f.lines() {
			rest, ok := strings.CutPrefix(line, "ignoreip =")
			if !ok {
				continue
			}
			others := slices.DeleteFunc(strings.Fields(rest), func(a string) bool { return strings.HasPrefix(a, "127.") || a == "::1" || strings.HasPrefix(a, "::1/") })
			if len(others) == 0 {
				w.hint("set the layer's parameter ignore, or allow this rule").report("fail2ban-ignoreip", f.at(i, 0, len(line)), "no address but the machine's own is spared: whoever manages it, or the NAT gateway they come by, can be banned")
			}
		}
	}
}

func (w *world) lingering() []string {
	var out []string
	for _, f := range w.files {
		if name, ok := strings.CutPrefix(f.path, "/var/lib/systemd/linger/"); ok {
			out = append(out, name)
		}
	}
	for _, c := range w.commands {
		if in := c.inner(); in.is("loginctl", "enable-linger") {
			for _, name := range in.args()[1:] {
				if !slices.ContainsFunc(w.users, func(u user) bool { return u.name == name }) { // whom checkLinger has looked at
					out = append(out, name)
				}
			}
		}
		for _, word := range c.inner().words {
			if name, ok := strings.CutPrefix(word, "/var/lib/systemd/linger/"); ok {
				out = append(out, name)
			}
		}
	}
	return out
}

func (w *world) systemUser(name string) bool {
	return slices.ContainsFunc(w.users, func(u user) bool { return u.name == name && isTrue(u.entry.Get("system")) }) ||
		slices.ContainsFunc(w.files, func(f *file) bool {
			return lazy.Regexp(fmt.Sprintf(`(?m)(?:^u!?\s+|useradd .*--system.* )%s\b`, regexp.QuoteMeta(name))).MatchString(f.text)
		})
}
