package lint

import (
	"fmt"
	"slices"
	"strings"

	"bake/internal/doc"
	"bake/internal/lazy"
)

// topKeys are cloud-config's, of releases 22 to 26.
var topKeys = words(`allow_public_ssh_keys ansible apk_repos apt apt_pipelining apt_reboot_if_required apt_update apt_upgrade authkey_hash autoinstall bootcmd byobu_by_default ca-certs
	ca_certs chef chpasswd cloud_config_modules cloud_final_modules cloud_init_modules create_hostname_file device_aliases disable_ec2_metadata disable_root disable_root_opts disk_setup drivers fan
	final_message fqdn fs_setup groups growpart grub-dpkg grub_dpkg hostname keyboard landscape launch-index locale locale_configfile lxd manage_etc_hosts manage_resolv_conf mcollective merge_how
	merge_type mount_default_fields mounts no_ssh_fingerprints ntp output package_reboot_if_required package_update package_upgrade packages password phone_home power_state
	prefer_fqdn_over_hostname preserve_hostname puppet random_seed reporting resize_rootfs resolv_conf rh_subscription rpi rsyslog runcmd salt_minion snap spacewalk ssh ssh_authorized_keys
	ssh_deletekeys ssh_fp_console_blacklist ssh_genkeytypes ssh_import_id ssh_key_console_blacklist ssh_keys ssh_publish_hostkeys ssh_pwauth ssh_quiet_keygen swap system_info timezone
	ubuntu_advantage ubuntu_pro updates user users vendor_data wireguard write_files yum_repo_dir yum_repos zypper network datasource datasource_list cloud_init version manage-resolv-conf runcmd`)

// keysOf are the keys of maps within cloud-config.
var keysOf = map[string][]string{
	"users": words(`name doas expiredate gecos groups homedir hashed_passwd inactive lock_passwd lock-passwd no_create_home no_log_init no_user_group passwd plain_text_passwd primary_group
		selinux_user shell snapuser ssh_authorized_keys ssh-authorized-keys ssh_import_id ssh_redirect_user sudo system uid create_groups create_no_home primary-group no-create-home no-user-group no-log-init ssh-import-id selinux-user plain-text-passwd lock_password`),
	"write_files": words("path content owner permissions encoding append defer source"),
	"chpasswd":    words("expire users list"),
	"power_state": words("delay mode message timeout condition"),
	"ntp":         words("enabled ntp_client config pools servers peers allow"),
	"swap":        words("filename size maxsize"),
	"fs_setup":    words("label filesystem device partition overwrite replace_fs extra_opts cmd"),
	"phone_home":  words("url post tries"),
	"growpart":    words("mode devices ignore_growroot_disabled"),
	"ssh":         words("emit_keys_to_console"),
	"apt": words(`preserve_sources_list disable_suites primary security add_apt_repo_match debconf_selections sources_list conf https_proxy http_proxy proxy ftp_proxy sources fallback
		 geoip mirrors`),
	"snap": words("assertions commands"), "ca_certs": words("remove_defaults remove-defaults trusted"), "keyboard": words("layout model variant options"),
	"apt.sources": words("source keyid key keyserver filename append"), "disk_setup.": words("table_type layout overwrite"),
}

// oneOfWords are keys with few values.
var oneOfWords = map[string][]string{"manage_etc_hosts": words("true false localhost template"), "resize_rootfs": words("true false noblock"), "ssh_pwauth": words("true false yes no unchanged"),
	"ntp.ntp_client": words("auto chrony ntp ntpdate systemd-timesyncd openntpd timesyncd busybox"), "growpart.mode": words("auto growpart gpart off false"), "byobu_by_default": words("enable enable-system enable-user disable disable-system disable-user user system")}

// kindsOf are keys with values of one kind.
var kindsOf = map[string][]doc.Kind{
	"packages": {doc.List}, "runcmd": {doc.List}, "bootcmd": {doc.List}, "write_files": {doc.List}, "mounts": {doc.List}, "fs_setup": {doc.List}, "ssh_authorized_keys": {doc.List},
	"users": {doc.List, doc.Map, doc.String}, "groups": {doc.List, doc.Map, doc.String}, "apt": {doc.Map}, "ntp": {doc.Map, doc.Null}, "swap": {doc.Map}, "power_state": {doc.Map}, "chpasswd": {doc.Map},
	"disk_setup": {doc.Map}, "growpart": {doc.Map}, "phone_home": {doc.Map}, "hostname": {doc.String}, "fqdn": {doc.String}, "timezone": {doc.String}, "final_message": {doc.String}, "locale": {doc.String, doc.Bool},
	"package_update": {doc.Bool}, "package_upgrade": {doc.Bool}, "package_reboot_if_required": {doc.Bool}, "disable_root": {doc.Bool}, "preserve_hostname": {doc.Bool}, "ssh_deletekeys": {doc.Bool},
	"no_ssh_fingerprints": {doc.Bool}, "ca_certs": {doc.Map}, "snap": {doc.Map}, "ssh_keys": {doc.Map}, "ssh_import_id": {doc.List}, "write_file": {doc.List}, "rsyslog": {doc.Map}, "resolv_conf": {doc.Map}, "ssh": {doc.Map},
	"users.ssh_authorized_keys": {doc.List}, "users.ssh_import_id": {doc.List}, "users.name": {doc.String}, "users.lock_passwd": {doc.Bool}, "users.groups": {doc.String, doc.List, doc.Map}, "users.system": {doc.Bool}, "users.shell": {doc.String},
	"users.passwd": {doc.String}, "users.gecos": {doc.String}, "users.homedir": {doc.String}, "users.no_create_home": {doc.Bool}, "users.primary_group": {doc.String},
	"write_files.path": {doc.String}, "write_files.owner": {doc.String}, "write_files.append": {doc.Bool}, "write_files.defer": {doc.Bool}, "write_files.encoding": {doc.String}, "write_files.content": {doc.String},
	"chpasswd.expire": {doc.Bool}, "chpasswd.users": {doc.List}, "ntp.servers": {doc.List}, "ntp.pools": {doc.List}, "ntp.enabled": {doc.Bool}, "power_state.mode": {doc.String}, "swap.filename": {doc.String},
}

// oldKeys are spelt otherwise today.
var oldKeys = map[string]string{"apt_update": "package_update", "apt_upgrade": "package_upgrade", "apt_reboot_if_required": "package_reboot_if_required", "ca-certs": "ca_certs", "grub-dpkg": "grub_dpkg",
	"ubuntu_advantage": "ubuntu_pro", "users.ssh-authorized-keys": "ssh_authorized_keys", "users.lock-passwd": "lock_passwd", "users.primary-group": "primary_group", "users.ssh-import-id": "ssh_import_id",
	"users.no-create-home": "no_create_home", "users.selinux-user": "selinux_user", "chpasswd.list": "chpasswd.users", "merge_type": "merge_how", "ntp.ntp-client": "ntp_client"}

func checkKeys(w *world) {
	if w.config.Kind != doc.Map {
		return
	}
	w.keys("", w.config, topKeys)
	for _, pair := range w.config.Pairs {
		key, n := pair.Key.Text, pair.Value
		known, ok := keysOf[key]
		switch {
		case !ok:
		case n.Kind == doc.Map:
			w.keys(key, n, known)
		case n.Kind == doc.List:
			for _, item := range n.Items {
				if item.Kind == doc.Map {
					w.keys(key, item, known)
				} else if key == "write_files" {
					w.report("key-type", spot{node: item, path: key}, "this is %s, want a map with path and content", item.Kind)
				}
			}
		}
	}
	if sources := w.config.Get("apt").Get("sources"); sources != nil {
		for _, pair := range sources.Pairs {
			w.keys("apt.sources", pair.Value, keysOf["apt.sources"])
		}
	}
	if disks := w.config.Get("disk_setup"); disks != nil {
		for _, pair := range disks.Pairs {
			w.keys("disk_setup."+pair.Key.Text, pair.Value, keysOf["disk_setup."])
		}
	}
	for key, known := range oneOfWords {
		n := w.config
		for _, k := range strings.Split(key, ".") {
			n = n.Get(k)
		}
		if n != nil && n.Scalar() && n.Kind != doc.Null && !slices.Contains(known, strings.ToLower(n.Text)) && !(key == "ntp.ntp_client" && w.config.Get("ntp").Get("config") != nil) {
			w.hint(cmpOr(near(n.Text, known), "one of: "+strings.Join(known, " "))).report("key-type", spot{node: n, path: key}, "%s cannot be %q", key, n.Text)
		}
	}
	for key, need := range map[string]string{"phone_home": "url", "keyboard": "layout"} {
		if n := w.config.Get(key); n != nil && n.Kind == doc.Map && n.Get(need) == nil {
			w.report("key-type", spot{node: keyNode(w.config, key), path: key}, "%s has no %s", key, need)
		}
	}
	w.checkShapesOf()
	if n := w.config.Get("users"); n != nil && n.Kind == doc.Map && n.Get("name") != nil {
		w.hint("write a list: - name: ...").report("key-type", spot{node: n, path: "users"}, "this is one user's keys, want a list of users")
	}
	w.checkMergeHow()
}

// keys looks at the keys of one map.
func (w *world) keys(path string, n *doc.Node, known []string) {
	for _, pair := range n.Pairs {
		key := doc.Join(path, pair.Key.Text)
		at := spot{node: pair.Key, path: key}
		kinds := kindsOf[key]
		switch {
		case oldKeys[key] != "":
			w.hint("write "+oldKeys[key]).report("key-deprecated", at, "%s is from the past: newer releases complain of it, or have it no more", pair.Key.Text)
		case !slices.Contains(known, pair.Key.Text) && path == "":
			w.hint(near(pair.Key.Text, known)).report("key-unknown", at, "cloud-init has no key %s: it is ignored, and the boot is called degraded", pair.Key.Text)
		case !slices.Contains(known, pair.Key.Text):
			w.hint(near(pair.Key.Text, known)).report("key-unknown", at, "%s has no key %s", path, pair.Key.Text)
		case kinds != nil && !slices.Contains(kinds, pair.Value.Kind) && pair.Value.Kind != doc.Null:
			w.typeOf(key, pair.Value, kinds)
		}
	}
}

func (w *world) typeOf(key string, n *doc.Node, kinds []doc.Kind) {
	at := spot{node: n, path: key}
	if key == "ntp.servers" || key == "ntp.pools" {
		w.report("ntp", at, "this is %s, want a list of servers", n.Kind)
		return
	}
	w.report("key-type", at, "this is %s, want %s", n.Kind, kinds[0])
}

// checkShapesOf looks at entries of lists, and at values that are not there.
func (w *world) checkShapesOf() {
	if list := w.config.Get("mounts"); list != nil {
		for i, item := range list.Items {
			if item.Kind != doc.List {
				w.hint(`write [device, place, type, options, "0", "0"]`).report("key-type", spot{node: item, path: fmt.Sprintf("mounts[%d]", i)}, "this is %s, want a list of fields", item.Kind)
			}
		}
	}
	if list := w.config.Get("fs_setup"); list != nil {
		for i, item := range list.Items {
			if item.Kind == doc.Map && item.Get("device") == nil {
				w.report("key-type", spot{node: item, path: fmt.Sprintf("fs_setup[%d]", i)}, "the file system has no device")
			}
		}
	}
	if n := w.config.Get("users"); n != nil && n.Kind == doc.String && n.Text != "default" && !strings.Contains(n.Text, ",") {
		w.warn("key-type", spot{node: n, path: "users"}, "this is text, want a list of users")
	}
	for _, key := range words("runcmd bootcmd packages write_files users") {
		if n := w.config.Get(key); n != nil && n.Kind == doc.Null {
			w.warn("key-type", spot{node: keyNode(w.config, key), path: key}, "%s is empty", key)
		}
	}
	if n := w.config.Get("snap").Get("commands"); n != nil && n.Scalar() {
		w.report("key-type", spot{node: n, path: "snap.commands"}, "this is %s, want a list or map of commands", n.Kind)
	}
	if n := w.config.Get("ca_certs").Get("trusted"); n != nil && n.Kind == doc.String {
		w.report("key-type", spot{node: n, path: "ca_certs.trusted"}, "this is text, want a list of certificates")
	}
	if n := w.config.Get("power_state").Get("timeout"); n != nil && n.Kind != doc.Int {
		w.report("power-state", spot{node: n, path: "power_state.timeout"}, "%q is no number of seconds", n.Text)
	}
	for _, f := range w.files {
		source := f.entry.Get("source")
		if uri := source.Get("uri"); uri != nil && strings.HasPrefix(uri.Text, "http://") {
			w.warn("cmd-insecure-download", spot{node: uri, path: f.name + ".source.uri"}, "anybody on the way can send something else")
		}
		if headers := source.Get("headers"); headers != nil {
			for _, pair := range headers.Pairs {
				if what, _ := secretIn(pair.Value.Text); what != "" {
					w.report("secret-plain", spot{node: pair.Value, path: f.name + ".source.headers"}, "%s stands here for everybody who reads the seed", what)
				}
			}
		}
	}
}

var merger = lazy.Regexp(`^(dict|list|str)\(([a-z_, ]*)\)$`)

// checkMergeHow looks at the instructions for merging this part onto those before.
func (w *world) checkMergeHow() {
	n := w.config.Get("merge_how")
	if n == nil {
		n = w.config.Get("merge_type")
	}
	if n == nil {
		return
	}
	at := spot{node: n, path: "merge_how"}
	options := map[string][]string{}
	if n.Kind == doc.String {
		for _, part := range strings.Split(n.Text, "+") {
			m := merger.FindStringSubmatch(strings.TrimSpace(part))
			if m == nil {
				w.report("merge-how", at, "%q is no merger: cloud-init drops the whole part", strings.TrimSpace(part))
				return
			}
			options[m[1]] = strings.FieldsFunc(m[2], func(r rune) bool { return r == ',' || r == ' ' })
			w.checkMergeOptions(at, m[1], options[m[1]])
		}
	}
	for _, item := range n.Items {
		name := item.Get("name")
		if name == nil || !slices.Contains(words("dict list str"), name.Text) {
			w.report("merge-how", spot{node: item, path: "merge_how"}, "there is no such merger: cloud-init drops the whole part")
			return
		}
		options[name.Text] = []string{}
		if settings := item.Get("settings"); settings != nil {
			for _, s := range settings.Items {
				options[name.Text] = append(options[name.Text], s.Text)
			}
		}
	}
	for _, item := range n.Items {
		w.checkMergeOptions(spot{node: item, path: "merge_how"}, item.Get("name").Text, options[item.Get("name").Text])
	}
	dict, list := options["dict"], options["list"]
	recurses := slices.ContainsFunc(dict, func(o string) bool { return o == "recurse_list" || o == "recurse_array" })
	switch {
	case slices.ContainsFunc(list, func(o string) bool { return o == "append" || o == "prepend" }) && !recurses && !slices.Contains(dict, "replace"):
		w.report("merge-how", at, "without recurse_list in dict() the lists of this part are dropped, and not appended")
	case !slices.Contains(dict, "replace") && !recurses && len(list) == 0:
		w.report("merge-how", at, "this drops what earlier parts have set already: only list(append)+dict(no_replace,recurse_list), in every part, appends")
	}
}

// mergeOptions are those of cloud-init's mergers.
var mergeOptions = map[string][]string{"list": words("append prepend replace no_replace recurse_dict recurse_list recurse_array recurse_str"), "dict": words("allow_delete replace no_replace recurse_dict recurse_list recurse_array recurse_str"), "str": words("append")}

// checkMergeOptions reports an option that a merger ignores.
func (w *world) checkMergeOptions(at spot, merger string, options []string) {
	for _, option := range options {
		if !slices.Contains(mergeOptions[merger], option) {
			w.hint(near(option, mergeOptions[merger])).report("merge-how", at, "%s() has no option %s, and ignores it: what is there already is replaced", merger, option)
		}
	}
}

var (
	hostLabel  = lazy.Regexp(`^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$`)
	localeForm = lazy.Regexp(`^(?:C|POSIX|[a-z]{2,3}(?:_[A-Z]{2})?)(?:\.[A-Za-z0-9-]+)?(?:@[a-z]+)?$`)
	delayForm  = lazy.Regexp(`^(?:now|\+?[0-9]+|[0-2][0-9]:[0-5][0-9])$`)
)

func checkSettings(w *world) {
	text := func(key string) (string, spot, bool) {
		n := w.config
		for _, k := range strings.Split(key, ".") {
			n = n.Get(k)
		}
		if n == nil || n.Kind == doc.Null {
			return "", spot{}, false
		}
		return n.Text, spot{node: n, path: key}, true
	}
	if zone, at, ok := text("timezone"); ok && !slices.Contains(zones(), zone) {
		w.hint(cmpOr(nearZone(zone), "such as Europe/Berlin or UTC")).report("timezone", at, "there is no time zone %q", zone)
	}
	if locale, at, ok := text("locale"); ok && locale != "false" && !localeForm.MatchString(locale) {
		w.report("locale", at, "%q is no locale such as de_DE.UTF-8", locale)
	}
	w.checkHostNames(text)
	if mode, at, ok := text("power_state.mode"); ok && !slices.Contains(words("poweroff reboot halt"), mode) {
		w.report("power-state", at, "mode is poweroff, reboot or halt, not %q: nothing happens", mode)
	}
	if delay, at, ok := text("power_state.delay"); ok && !delayForm.MatchString(delay) {
		w.report("power-state", at, "%q is no delay such as now, 5 or +5 (minutes)", delay)
	}
	if url, at, ok := text("phone_home.url"); ok && strings.HasPrefix(url, "http://") {
		w.report("phone-home", at, "anybody on the way can read it and answer")
	}
	if n := w.config.Get("ssh_deletekeys"); isFalse(n) && !(w.host != nil && w.hasLayer("state")) { // that layer keeps them itself
		w.report("ssh-host-keys", spot{node: n, path: "ssh_deletekeys"}, "all machines of one image have the same host keys")
	}
	for _, key := range []string{"network", "datasource_list", "datasource", "system_info"} {
		if n := w.config.Get(key); n != nil {
			w.warn("system-info-ignored", spot{node: keyNode(w.config, key), path: key}, "cloud-init does not read %s from user-data", key)
		}
	}
	if n := w.config.Get("output"); n != nil && strings.Contains(flatText(n), "/dev/null") {
		w.report("output-hidden", spot{node: n, path: "output"}, "nobody sees what goes wrong at the first boot")
	}
	w.checkPasswords()
}

// keyNode is the node of a key.
func keyNode(n *doc.Node, key string) *doc.Node {
	for _, pair := range n.Pairs {
		if pair.Key.Text == key {
			return pair.Key
		}
	}
	return n
}

func flatText(n *doc.Node) string {
	out := n.Text
	for _, item := range n.Items {
		out += " " + flatText(item)
	}
	for _, pair := range n.Pairs {
		out += " " + flatText(pair.Value)
	}
	return out
}

func nearZone(zone string) string {
	for _, z := range zones() {
		if oneOff(zone, z) || strings.HasSuffix(z, "/"+zone) {
			return fmt.Sprintf("did you mean %q?", z)
		}
	}
	return ""
}

func (w *world) checkHostNames(text func(string) (string, spot, bool)) {
	for _, key := range []string{"hostname", "fqdn"} {
		name, at, ok := text(key)
		if !ok || strings.Contains(name, "{{") {
			continue
		}
		for _, label := range strings.Split(name, ".") {
			if !hostLabel.MatchString(strings.ToLower(label)) {
				w.report("hostname", at, "%q cannot be the name of a machine: letters, digits and -", name)
				break
			}
		}
	}
	managed := w.config.Get("manage_etc_hosts")
	if f := w.file("/etc/hosts"); f != nil && f.entry != nil && managed != nil && !isFalse(managed) {
		w.report("hosts-file", f.key("path"), "manage_etc_hosts writes /etc/hosts anew at every boot: write /etc/cloud/templates/hosts.debian.tmpl instead")
	}
}

func (w *world) checkPasswords() {
	if n := w.config.Get("password"); n != nil && n.Text != "" && !strings.HasPrefix(n.Text, "$") && n.Text != "RANDOM" {
		w.warn("secret-plain", spot{node: n, path: "password"}, "the password stands here for everybody who reads the seed")
	}
	users := w.config.Get("chpasswd").Get("users")
	if users != nil {
		for i, u := range users.Items {
			n, kind := u.Get("password"), u.Get("type")
			if n != nil && !strings.HasPrefix(n.Text, "$") && n.Text != "RANDOM" && n.Text != "R" && (kind == nil || kind.Text != "RANDOM") {
				w.warn("secret-plain", spot{node: n, path: fmt.Sprintf("chpasswd.users[%d].password", i)}, "the password stands here for everybody who reads the seed")
			}
		}
	}
	if n := w.config.Get("chpasswd").Get("list"); n != nil {
		for _, line := range append(strings.Split(n.Text, "\n"), itemTexts(n)...) {
			_, password, ok := strings.Cut(line, ":")
			if ok && password != "" && !strings.HasPrefix(password, "$") && password != "RANDOM" && password != "R" {
				w.warn("secret-plain", spot{node: n, path: "chpasswd.list"}, "a password stands here for everybody who reads the seed")
				break
			}
		}
	}
	for _, key := range []string{"ssh_keys"} {
		if n := w.config.Get(key); n != nil && strings.Contains(flatText(n), "PRIVATE KEY") {
			w.warn("secret-plain", spot{node: keyNode(w.config, key), path: key}, "the host's private key stands here for everybody who reads the seed")
		}
	}
}

func itemTexts(n *doc.Node) []string {
	var out []string
	for _, item := range n.Items {
		out = append(out, item.Text)
	}
	return out
}
