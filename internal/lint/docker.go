package lint

import (
	"encoding/json"
	"errors"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"bake/internal/lazy"
)

// daemonKeys are those that dockerd of some release knows, with the kind of value.
var daemonKeys = map[string]string{}

func init() {
	for kind, names := range map[string]string{
		"bool": `bridge-accept-fwmark debug experimental icc ip-forward ip-forward-no-drop ip-masq ip6tables iptables ipv6 live-restore no-new-privileges raw-logs tls tlsverify
			userland-proxy allow-direct-routing selinux-enabled init rootless`,
		"text": `authorization bip bip6 bridge cgroup-parent containerd containerd-namespace containerd-plugins-namespace cpu-rt-period data-root default-cgroupns-mode default-gateway
			default-gateway-v6 default-ipc-mode default-runtime default-shm-size exec-root fixed-cidr fixed-cidr-v6 firewall-backend group host-gateway-ip http-proxy https-proxy no-proxy init-path ip log-driver log-format log-level
			metrics-addr oom-score pidfile seccomp-profile storage-driver swarm-default-advertise-addr tlscacert tlscert tlskey userland-proxy-path userns-remap api-cors-header`,
		"number": "max-concurrent-downloads max-concurrent-uploads max-download-attempts mtu network-control-plane-mtu network-diagnostic-port oom-score-adjust shutdown-timeout cpu-rt-runtime deprecated-key-path-max",
		"list": `allow-nondistributable-artifacts authorization-plugins cdi-spec-dirs default-address-pools dns dns-opts dns-search exec-opts hosts host-gateway-ips insecure-registries labels
			node-generic-resources registry-mirrors storage-opts`,
		"map": "builder containerd-options default-network-opts default-ulimits features log-opts proxies runtimes",
	} {
		for _, name := range strings.Fields(names) {
			daemonKeys[name] = kind
		}
	}
}

func daemonNames() []string {
	var out []string
	for name := range daemonKeys {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

func checkDocker(w *world) {
	w.checkDockerCommands()
	f := w.file("/etc/docker/daemon.json")
	if f == nil || f.hidden {
		return
	}
	if w.host == nil && !w.installs("docker.io", "docker-ce", "moby-engine", "docker") && !slices.ContainsFunc(w.commands, func(c command) bool { return strings.Contains(strings.Join(c.words, " "), "docker") }) {
		w.warn("package-missing", f.key("path"), "no package here brings Docker")
	}
	if f.late && w.installs("docker.io", "docker-ce") {
		w.report("docker-late", f.key("defer"), "the package starts Docker before a deferred file is written: it runs without these settings")
	}
	var top map[string]json.RawMessage
	if err := json.Unmarshal([]byte(f.text), &top); err != nil {
		line, col := 0, 0
		var syn *json.SyntaxError
		if errors.As(err, &syn) {
			before := f.text[:min(int(syn.Offset), len(f.text))]
			line = strings.Count(before, "\n")
			if line > 0 && strings.TrimSpace(before[strings.LastIndexByte(before, '\n')+1:]) == "}" && strings.HasSuffix(strings.TrimSpace(before[:strings.LastIndexByte(before, '\n')]), ",") {
				line-- // the comma is what is wrong
			}
			col = max(0, len(strings.TrimRight(strings.Split(f.text, "\n")[line], " "))-1)
		}
		w.report("docker-json", f.at(line, col, 1), "Docker cannot read this and does not start: %v", err)
		return
	}
	seen := map[string]bool{}
	for i, line := range f.lines() {
		for _, m := range lazy.Regexp(`"([a-z0-9-]+)"\s*:`).FindAllStringSubmatch(line, -1) {
			if _, isTop := top[m[1]]; isTop && depthAt(f.text, i, line, m[0]) == 1 {
				if seen[m[1]] {
					w.report("docker-key", f.at(i, 0, len(line)), "the key %q stands here twice", m[1])
				}
				seen[m[1]] = true
			}
		}
	}
	for key, raw := range top {
		w.checkDaemonKey(f, key, raw)
	}
	if _, ip := top["ip"]; ip && top["default-network-opts"] == nil && f.layer == nil {
		w.report("docker-ip-default-bridge", keyIn(f, "ip"), `"ip" is for the default bridge alone: Compose makes networks of its own, which publish everywhere`)
	}
}

// depthAt counts the open braces before a key.
func depthAt(text string, line int, whole, key string) int {
	lines := strings.Split(text, "\n")
	before := strings.Join(lines[:line], "\n") + whole[:strings.Index(whole, key)]
	return strings.Count(before, "{") - strings.Count(before, "}") + strings.Count(before, "[") - strings.Count(before, "]")
}

// logOptions are those of the drivers that log to files.
var logOptions = words("max-size max-file max-buffer-size compress labels labels-regex env env-regex tag mode")

func (w *world) checkLogOptions(f *file, at spot, options map[string]any) {
	if m := lazy.Regexp(`"log-driver"\s*:\s*"([^"]*)"`).FindStringSubmatch(f.text); m != nil && m[1] != "json-file" && m[1] != "local" {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(options)) {
		if !slices.Contains(logOptions, name) {
			w.hint(near(name, logOptions)).report("docker-key", at, "the log driver has no option %q: no container starts", name)
		}
	}
}

// keyIn is the place of a key in a JSON file.
func keyIn(f *file, key string) spot {
	for i, line := range f.lines() {
		if col := strings.Index(line, `"`+key+`"`); col >= 0 {
			return f.at(i, col, len(key)+2)
		}
	}
	return f.key("path")
}

func (w *world) checkDaemonKey(f *file, key string, raw json.RawMessage) {
	at := keyIn(f, key)
	kind, known := daemonKeys[key]
	var value any
	if json.Unmarshal(raw, &value) != nil {
		return
	}
	if !known {
		w.hint(near(key, daemonNames())).report("docker-key", at, "Docker does not know %q and does not start", key)
		return
	}
	fits := map[string]bool{}
	switch value.(type) {
	case bool:
		fits["bool"] = true
	case string:
		fits["text"] = true
	case float64:
		fits["number"] = true
	case []any:
		fits["list"] = true
	case map[string]any:
		fits["map"] = true
	}
	if !fits[kind] && key != "oom-score" && key != "authorization" && key != "host-gateway-ip" {
		w.report("docker-value", at, "%q must be a %s: Docker does not start", key, kind)
		return
	}
	switch key {
	case "registry-mirrors":
		for _, one := range value.([]any) {
			if text, _ := one.(string); !strings.HasPrefix(text, "http://") && !strings.HasPrefix(text, "https://") {
				w.hint("https://...").report("docker-value", at, "%q is no URL: Docker does not start", text)
			}
		}
	case "exec-opts":
		for _, one := range value.([]any) {
			text, _ := one.(string)
			if driver, ok := strings.CutPrefix(text, "native.cgroupdriver="); ok && driver != "systemd" && driver != "cgroupfs" {
				w.hint("systemd or cgroupfs").report("docker-value", at, "there is no cgroup driver %q: Docker does not start", driver)
			}
		}
	case "log-opts":
		w.checkLogOptions(f, at, value.(map[string]any))
		for name, v := range value.(map[string]any) {
			if _, text := v.(string); !text {
				w.hint(`write numbers in quotes: "max-file": "3"`).report("docker-value", at, "the value of %q must be text: Docker does not start", name)
			}
		}
	case "default-address-pools":
		w.checkPools(at, value.([]any))
	case "ip6tables", "iptables", "userland-proxy", "icc":
		w.checkDockerTables(at, key, value.(bool))
	case "firewall-backend":
		switch {
		case value == "nftables":
			w.report("docker-firewall-backend", at, "with nftables there is no DOCKER-USER: rules there are never met")
		case w.installs("docker.io") || w.host == nil:
			w.warn("docker-firewall-backend", at, "before release 29 Docker does not know the key and does not start")
		}
	case "hosts":
		for _, h := range value.([]any) {
			if text, _ := h.(string); strings.HasPrefix(text, "tcp://") && !strings.HasPrefix(text, "tcp://127.") && !strings.HasPrefix(text, "tcp://localhost") {
				w.report("docker-hosts", at, "whoever reaches %s is root on this machine", text)
				return
			}
		}
		if !slices.ContainsFunc(w.files, func(f *file) bool {
			return strings.Contains(f.path, "/docker.service.d/") && strings.Contains(f.text, "ExecStart=")
		}) {
			w.report("docker-hosts", at, "the unit gives dockerd -H already: with both it does not start")
		}
	case "bip", "fixed-cidr":
		prefix, err := netip.ParsePrefix(value.(string))
		switch {
		case err != nil:
			w.hint("such as 10.201.0.1/24").report("docker-value", at, "%q is no network: Docker does not start", value)
		case key == "bip" && prefix.Addr() == prefix.Masked().Addr() && prefix.Bits() < 31:
			w.hint("such as "+prefix.Addr().Next().String()+"/"+strconv.Itoa(prefix.Bits())).report("docker-value", at, "%s is the network, and the bridge needs an address in it", value)
		}
	case "log-driver", "storage-driver":
		known := map[string][]string{"log-driver": words("none local json-file syslog journald gelf fluentd awslogs splunk etwlogs gcplogs"), "storage-driver": words("overlay2 fuse-overlayfs btrfs zfs vfs overlayfs stargz native windowsfilter")}[key]
		if text := value.(string); !slices.Contains(known, text) && !strings.Contains(text, "/") && !strings.Contains(text, ":") {
			w.hint(near(text, known)).report("docker-value", at, "there is no %s %q: Docker does not start", key, text)
		}
	case "live-restore":
		if value == true && slices.ContainsFunc(w.commands, func(c command) bool { return c.inner().is("docker", "swarm") }) {
			w.report("docker-value", at, "live-restore and swarm exclude each other")
		}
	case "insecure-registries":
		if len(value.([]any)) > 0 {
			w.warn("docker-value", at, "images from there are whatever the network says they are")
		}
	}
}

func (w *world) checkDockerTables(at spot, key string, on bool) {
	switch {
	case key == "ip6tables" && !on:
		w.report("docker-ip6tables", at, "over IPv6 containers answer everybody: Docker filters nothing there")
	case key == "iptables" && !on:
		w.report("docker-iptables", at, "Docker filters nothing: networks are not apart, and published ports are served by a proxy that sees no client")
	}
}

func (w *world) checkPools(at spot, pools []any) {
	var all []netip.Prefix
	for _, p := range pools {
		pool, _ := p.(map[string]any)
		base, _ := pool["base"].(string)
		size, _ := pool["size"].(float64)
		prefix, err := netip.ParsePrefix(base)
		switch {
		case err != nil:
			w.report("docker-pools", at, "%q is no network such as 10.201.0.0/16", base)
			continue
		case prefix.Masked() != prefix:
			w.hint("write "+prefix.Masked().String()).report("docker-pools", at, "%s is an address in the network %s", base, prefix.Masked())
		case int(size) < prefix.Bits() || int(size) > prefix.Addr().BitLen():
			w.report("docker-pools", at, "a network of size %d does not fit into %s", int(size), base)
		case prefix.Addr().Is4() && prefix.Bits() < 14:
			w.warn("docker-pools", at, "%s covers networks that a VPN or a neighbour may use", base)
		}
		for _, other := range all {
			if prefix.Overlaps(other) {
				w.report("docker-pools", at, "%s and %s overlap", prefix, other)
			}
		}
		all = append(all, prefix)
	}
}

var (
	publishFlag = lazy.Regexp(`^(?:-p|--publish)(?:=(.*))?$`)
	localPort   = lazy.Regexp(`^(?:127\.[0-9.]+|\[::1\]|localhost):`)
)

// published are the values of -p of a docker run.
func published(c *command) []string {
	var out []string
	for i, word := range c.words {
		if m := publishFlag.FindStringSubmatch(word); m != nil {
			value := m[1]
			if value == "" && i+1 < len(c.words) {
				value = c.words[i+1]
			}
			out = append(out, value)
		} else if strings.HasPrefix(word, "-p") && len(word) > 2 && word[2] >= '0' && word[2] <= '9' {
			out = append(out, word[2:])
		}
	}
	return out
}

// publishes reports whether a container answers on more than this machine.
func (w *world) publishes() bool {
	return slices.ContainsFunc(w.commands, func(c command) bool {
		in := c.inner()
		return in.is("docker", "run", "create") && (slices.ContainsFunc(published(in), func(p string) bool { return !localPort.MatchString(p) }) || in.has("-P", "--network=host")) || in.is("docker", "compose")
	})
}

func (w *world) checkDockerCommands() {
	for _, c := range w.commands {
		in := c.inner()
		if in.name() != "docker" && in.name() != "podman" || !in.is(in.name(), "run", "create") {
			continue
		}
		if in.name() == "docker" && in.has("--network=host") {
			w.warn("docker-publish", c.at, "the container listens on all addresses, as the host does")
		}
		for _, p := range published(in) {
			if !localPort.MatchString(p) && !strings.Contains(p, "$") {
				w.report("docker-publish", c.at, "-p %s answers on every address, past ufw", p)
			}
		}
		for i, word := range in.words {
			_, volume, _ := strings.Cut(word, "=")
			if word == "-v" || word == "--volume" || word == "--mount" {
				if i+1 < len(in.words) {
					volume = in.words[i+1]
				}
			}
			switch {
			case word == "--privileged" || word == "--privileged=true" || strings.HasPrefix(word, "--cap-add=ALL") || strings.HasPrefix(word, "--cap-add=SYS_ADMIN") || word == "--pid=host" || word == "--security-opt=seccomp=unconfined":
				w.report("docker-privileged", c.at, "with %s the container is as good as root on this machine", word)
			case strings.Contains(volume, "docker.sock") || strings.HasPrefix(volume, "/:"):
				w.report("docker-privileged", c.at, "with %s the container is root on this machine", strings.Split(volume, ":")[0])
			}
		}
	}
}

func base(p string) string { return path.Base(p) }
