package lint

import (
	"slices"
	"strings"
)

// checkBootcmd looks at a command that runs at every boot, before the network.
func (w *world) checkBootcmd(c, in *command) {
	once := c.name() == "cloud-init-per" || c.condition
	args := in.args()
	switch {
	case in.is("systemctl", "start", "restart", "reload", "reload-or-restart", "try-restart", "isolate", "stop") && !in.has("--no-block") || in.is("systemctl", "enable") && in.has("--now") && !in.has("--no-block"):
		w.hint("add --no-block, or enable the unit and let the boot start it").report("bootcmd-blocks", c.at, "bootcmd runs before sysinit.target, for which most units wait, and this waits for the unit: the boot stops here")
	case in.is("cloud-init", "status") && in.has("--wait", "-w"):
		w.report("cmd-waits-for-itself", c.at, "cloud-init waits for its own end")
	case slices.Contains(words("apt apt-get curl wget pip pip3 npm snap git docker add-apt-repository"), in.name()) && !once:
		w.report("bootcmd-network", c.at, "in bootcmd there may be no network yet, and with dsmode: local there is none")
	case slices.Contains(words("hostnamectl timedatectl localectl loginctl busctl resolvectl networkctl"), in.name()):
		w.report("bootcmd-dbus", c.at, "%s talks to a service by D-Bus, which is not there so early", in.name())
	case slices.Contains(words("reboot shutdown poweroff halt"), in.name()) && !once || in.is("systemctl", "reboot", "poweroff") && !once && !c.guarded && !in.has("--force"):
		w.report("bootcmd-every-boot", c.at, "bootcmd runs at every boot: the machine never comes up")
	case strings.HasPrefix(in.name(), "mkfs") && !once, in.name() == "parted" && in.has("mklabel") && !once, in.name() == "wipefs" && in.has("-a") && !once:
		w.report("bootcmd-every-boot", c.at, "bootcmd runs at every boot: the disk is emptied each time")
	case len(c.appends) > 0 && !once && !c.nested && !strings.HasPrefix(c.appends[0], "/dev/") && !strings.HasPrefix(c.appends[0], "/run/") && !strings.HasPrefix(c.appends[0], "/var/log/"):
		w.warn("bootcmd-every-boot", c.at, "bootcmd runs at every boot: %s gets the line each time", c.appends[0])
	}
	_ = args
}

// checkBootFiles reports what bootcmd runs before write_files has written it.
func (w *world) checkBootFiles() {
	for _, c := range w.commands {
		if !c.boot {
			continue
		}
		for _, word := range c.inner().words {
			f := w.file(word)
			if f != nil && !f.boot && !slices.Contains(c.writes, word) && (word == c.inner().words[0] || slices.Contains(words("sh bash source . cat cp iptables-restore ip6tables-restore nft sysctl netplan python3 perl chmod chown mount visudo install"), c.inner().name())) {
				w.report("bootcmd-before-files", c.at, "bootcmd runs before write_files: %s is not there at the first boot", word)
			}
		}
	}
}
