package seed

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"bake/internal/doc"
)

// Modules are the modules that a cloud-init runs, in order, as cloud.cfg lists them
// under cloud_init_modules, cloud_config_modules and cloud_final_modules. Names are
// written with underscores; of names with a mode only the name counts.
type Modules struct {
	Init   []string `json:"init"`
	Config []string `json:"config"`
	Final  []string `json:"final"`
}

// UsualModules are those of the cloud.cfg that a distribution ships: "ubuntu", or
// another for Debian 12 and 13. They differ in where passwords are set.
func UsualModules(distro string) Modules {
	m := Modules{
		Init: strings.Fields(`seed_random bootcmd write_files growpart resizefs disk_setup mounts set_hostname update_hostname update_etc_hosts
			ca_certs rsyslog users_groups ssh`),
		Config: strings.Fields(`snap ssh_import_id keyboard locale set_passwords grub_dpkg apt_pipelining apt_configure ntp timezone disable_ec2_metadata
			runcmd byobu`),
		Final: strings.Fields(`package_update_upgrade_install fan landscape lxd write_files_deferred puppet chef mcollective salt_minion reset_rmc
			scripts_vendor scripts_per_once scripts_per_boot scripts_per_instance scripts_user ssh_authkey_fingerprints keys_to_console install_hotplug
			phone_home final_message power_state_change`),
	}
	if strings.HasPrefix(distro, "ubuntu") {
		m.Init = append(m.Init, "set_passwords")
		m.Config = strings.Fields(`wireguard snap ubuntu_autoinstall ssh_import_id keyboard locale grub_dpkg apt_pipelining apt_configure ubuntu_pro ntp
			timezone disable_ec2_metadata runcmd byobu`)
		m.Final = slices.Insert(m.Final, slices.Index(m.Final, "write_files_deferred"), "ubuntu_drivers")
		m.Final = slices.Insert(m.Final, slices.Index(m.Final, "mcollective"), "ansible")
	}
	return m
}

// A Stage is one run of cloud-init, with its modules in their order.
type Stage struct {
	Name    string `json:"name"` // "local", "config" or "final"
	Unit    string `json:"unit"` // of systemd, that it is
	When    string `json:"when"` // what is up then
	Modules []Step `json:"modules"`
}

// A Step is a module that has something to do.
type Step struct {
	Module string   `json:"module"`
	Parts  []string `json:"parts"`          // of the merged cloud-config that it applies
	Note   string   `json:"note,omitempty"` // what else is to be known of it
}

// readBy says which module applies a key. runcmd and write_files are special.
var readBy = sync.OnceValue(func() map[string]string {
	by := map[string]string{}
	for module, keys := range map[string]string{
		"seed_random": "random_seed", "bootcmd": "bootcmd", "growpart": "growpart", "resizefs": "resize_rootfs", "disk_setup": "disk_setup fs_setup device_aliases",
		"mounts": "mounts swap mount_default_fields", "set_hostname": "hostname fqdn prefer_fqdn_over_hostname preserve_hostname create_hostname_file",
		"update_etc_hosts": "manage_etc_hosts", "ca_certs": "ca_certs ca-certs", "rsyslog": "rsyslog", "users_groups": "users groups user",
		"ssh": "ssh ssh_keys ssh_deletekeys ssh_genkeytypes disable_root disable_root_opts ssh_authorized_keys allow_public_ssh_keys ssh_quiet_keygen " +
			"ssh_publish_hostkeys authkey_hash",
		"set_passwords": "ssh_pwauth chpasswd password", "wireguard": "wireguard", "snap": "snap", "ubuntu_autoinstall": "autoinstall",
		"ssh_import_id": "ssh_import_id", "keyboard": "keyboard", "locale": "locale locale_configfile", "grub_dpkg": "grub_dpkg grub-dpkg",
		"apt_pipelining": "apt_pipelining", "apt_configure": "apt", "ubuntu_pro": "ubuntu_pro ubuntu_advantage", "ntp": "ntp", "timezone": "timezone",
		"disable_ec2_metadata": "disable_ec2_metadata", "byobu": "byobu_by_default", "resolv_conf": "resolv_conf manage_resolv_conf",
		"package_update_upgrade_install": "packages package_update package_upgrade package_reboot_if_required apt_update apt_upgrade apt_reboot_if_required",
		"fan":                            "fan", "landscape": "landscape", "lxd": "lxd", "ubuntu_drivers": "drivers", "puppet": "puppet", "chef": "chef", "ansible": "ansible",
		"mcollective": "mcollective", "salt_minion": "salt_minion", "ssh_authkey_fingerprints": "no_ssh_fingerprints",
		"keys_to_console": "ssh_fp_console_blacklist ssh_key_console_blacklist", "install_hotplug": "updates", "phone_home": "phone_home",
		"final_message": "final_message", "power_state_change": "power_state",
	} {
		for _, key := range strings.Fields(keys) {
			by[key] = module
		}
	}
	return by
})

// ownKeys are those that no module reads but cloud-init itself.
var ownKeys = strings.Fields("output reporting merge_how merge_type vendor_data launch-index system_info datasource datasource_list")

// unasked are the modules that do something without being told.
var unasked = map[string]string{
	"growpart": "the root partition to the end of the disk", "resizefs": "the root file system to the end of its partition",
	"set_hostname": "local-hostname of meta-data", "keys_to_console": "the public host keys on the console",
	"runcmd": "writes the script that scripts_user runs", "final_message": "says that it is over",
}

// Order says in which order cloud-init applies a merged cloud-config. What comes of a
// key that none of these modules reads is the last value: nothing.
func Order(config *doc.Node, m Modules) (stages []Stage, unread []string) {
	work := map[string][]string{} // of a module
	for _, pair := range config.Pairs {
		key := pair.Key.Text
		switch {
		case key == "runcmd":
			work["scripts_user"] = append(work["scripts_user"], entries(key, pair.Value, nil)...)
		case key == "write_files":
			work["write_files"] = entries(key, pair.Value, func(n *doc.Node) bool { return !deferred(n) })
			work["write_files_deferred"] = entries(key, pair.Value, deferred)
		case !slices.Contains(ownKeys, key):
			module := readBy()[key]
			work[module] = append(work[module], entries(key, pair.Value, nil)...)
		}
	}
	unread = work[""]
	for _, s := range []struct {
		name, unit, when string
		modules          []string
	}{
		{"local", "cloud-init-local.service", "before the network, and before anything with default dependencies: meta-data has dsmode: local", m.Init},
		{"config", "cloud-config.service", "with the network; sshd and other services start beside it", m.Config},
		{"final", "cloud-final.service", "at the end of the boot, when the services are up", m.Final},
	} {
		stage := Stage{Name: s.name, Unit: s.unit, When: s.when, Modules: []Step{}}
		for _, module := range s.modules {
			note := unasked[module]
			if module == "runcmd" && len(work["scripts_user"]) == 0 {
				note = ""
			}
			if len(work[module]) > 0 || note != "" {
				stage.Modules = append(stage.Modules, Step{module, append([]string{}, work[module]...), note})
			}
			delete(work, module)
		}
		stages = append(stages, stage)
	}
	delete(work, "")
	for _, parts := range work { // their module is not in the list
		unread = append(unread, parts...)
	}
	slices.Sort(unread)
	return stages, unread
}

func deferred(n *doc.Node) bool {
	late := n.Get("defer")
	return late != nil && late.Kind == doc.Bool && late.Text == "true"
}

// entries names a value, or the items of a list of which want holds, as Explain does.
func entries(key string, n *doc.Node, want func(*doc.Node) bool) (names []string) {
	if n.Kind != doc.List {
		return []string{key}
	}
	for i, item := range n.Items {
		if want == nil || want(item) {
			names = append(names, fmt.Sprintf("%s[%d]", key, i))
		}
	}
	return names
}
