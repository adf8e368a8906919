package lint

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"bake/internal/doc"
	"bake/internal/lazy"
)

var (
	fileSystems = words(`auto ext2 ext3 ext4 xfs btrfs vfat msdos exfat ntfs ntfs3 iso9660 udf swap tmpfs none bind nfs nfs4 cifs smb3 virtiofs 9p overlay fuse fuse.sshfs fuse.s3fs fuse.rclone
		sshfs glusterfs ceph zfs f2fs squashfs proc sysfs devtmpfs devpts hugetlbfs efivarfs bpf tracefs debugfs securityfs cgroup2 configfs autofs davfs lustre jfs reiserfs ecryptfs efs rclone erofs gcsfuse fuse.gcsfuse hostfs drvfs`)
	networked  = words("nfs nfs4 cifs smb3 glusterfs ceph fuse.sshfs sshfs davfs lustre efs")
	systemDirs = words("/ /bin /boot /dev /etc /lib /lib64 /proc /run /sbin /sys /usr /usr/bin /usr/lib /usr/sbin /var /var/lib /var/log /root")
	driftName  = lazy.Regexp(`^(?:/dev/)?(?:[svx]v?d[b-z]|vd[b-z]|sd[a-z]|nvme[1-9]n[0-9])[0-9p]*$`)
)

func checkMounts(w *world) {
	w.checkMountList()
	w.checkFstabFiles()
	w.checkDisks()
	if n := w.config.Get("swap").Get("size"); n != nil && n.Kind == doc.Int && strings.HasPrefix(n.Text, "-") {
		w.report("swap-size", spot{node: n, path: "swap.size"}, "%s is no size such as 2G: no swap is made", n.Text)
	} else if n != nil && n.Kind == doc.String && !lazy.Regexp(`^(?:auto|[0-9]+(?:\.[0-9]+)?[BKMGT]?)$`).MatchString(n.Text) {
		w.report("swap-size", spot{node: n, path: "swap.size"}, "%q is no size such as 2G: no swap is made", n.Text)
	}
}

func (w *world) checkMountList() {
	list := w.config.Get("mounts")
	if list == nil || list.Kind != doc.List {
		return
	}
	defaults := w.config.Get("mount_default_fields")
	places := map[string]bool{}
	for i, item := range list.Items {
		at := spot{node: item, path: fmt.Sprintf("mounts[%d]", i)}
		if item.Kind != doc.List || len(item.Items) == 0 {
			continue
		}
		var fields []string
		for j, n := range item.Items {
			fields = append(fields, n.Text)
			if n.Kind == doc.Int && j > 1 {
				w.hint(fmt.Sprintf("write %q", n.Text)).report("mounts-number", spot{node: n, path: fmt.Sprintf("%s[%d]", at.path, j)}, "a number without quotes makes cloud-init before 25 fail: no mount is made at all")
				break
			}
		}
		if len(fields) < 2 || fields[1] == "" || fields[1] == "None" {
			continue
		}
		if places[fields[1]] && fields[1] != "none" {
			w.warn("mounts-twice", at, "something is mounted on %s already", fields[1])
		}
		places[fields[1]] = true
		w.checkMountEntry(at, fields, defaults)
	}
}

func (w *world) checkMountEntry(at spot, fields []string, defaults *doc.Node) {
	device, where := fields[0], fields[1]
	kind, options, pass := "auto", "", "0"
	for i, field := range fields[2:] {
		switch i {
		case 0:
			kind = field
		case 1:
			options = field
		case 3:
			pass = field
		}
	}
	w.checkMountPlace(at, where, kind)
	w.checkMountForms(at, device, where, kind, options, pass)
	switch {
	case len(fields) < 6 && defaults == nil:
		w.report("mounts-short", at, "what is left out becomes nofail, _netdev and a check at each boot, with an order that older releases got wrong: give all six fields")
	case kind == "virtiofs" && w.host == nil:
		w.report("mounts-virtiofs", at, "if the share is not there, the module mounts fails, nofail or not: write a mount unit with an automount")
	}
	if strings.ContainsAny(where, " \t") || strings.ContainsAny(device, " \t") {
		w.hint(`write \040 for a blank, or do without`).report("mounts-space", at, "before release 25 cloud-init writes the blank into fstab as it is, and the line has one field too many")
	}
	w.checkMountWords(at, device, where, kind, options, pass, len(fields) >= 4)
	if kind == "virtiofs" {
		w.checkShare(at, device, where, options)
	}
}

// checkMountForms looks at what fields say together.
func (w *world) checkMountForms(at spot, device, where, kind, options, pass string) {
	all := strings.Split(options, ",")
	size := lazy.Regexp(`(?:^|,)size=([^,]*)`).FindStringSubmatch(options)
	mode := lazy.Regexp(`(?:^|,)mode=([^,]*)`).FindStringSubmatch(options)
	bind := slices.Contains(all, "bind") || slices.Contains(all, "rbind")
	for _, option := range all {
		name, _, _ := strings.Cut(option, "=")
		if meant, is := typo(name, mountOptions); is && len(name) > 3 {
			w.hint("did you mean "+meant+"?").report("mounts-options", at, "there is no option %s: the mount fails", name)
		}
	}
	switch {
	case kind == "overlay" && strings.Contains(options, "upperdir=") && !strings.Contains(options, "workdir="):
		w.report("mounts-options", at, "an overlay that is written to needs workdir=: the mount fails")
	case kind == "bind":
		w.hint("write none, and the option bind").report("mounts-type", at, "there is no file system bind")
	case kind == "none" && !bind && where != "none" && where != "swap" && strings.HasPrefix(where, "/"):
		w.report("mounts-type", at, "the type none is for bind mounts, with the option bind")
	case kind == "tmpfs" && size != nil && !lazy.Regexp(`^[0-9]+[kKmMgG%]?$`).MatchString(size[1]):
		w.report("mounts-options", at, "%q is no size such as 512m or 50%%: the mount fails", size[1])
	case kind == "tmpfs" && mode != nil && strings.Trim(mode[1], "01234567") != "":
		w.report("mounts-options", at, "%q is no octal mode: the mount fails", mode[1])
	case pass == "1" && where != "/" && where != "none":
		w.hint("write 2, or 0").warn("mounts-options", at, "the first pass is for the root file system")
	case (kind == "swap" || where == "swap") && strings.HasPrefix(device, "/") && !strings.HasPrefix(device, "/dev/") && !w.makesSwap(device):
		w.hint("the key swap makes the file and the line").warn("mounts-device", at, "nothing here makes the swap file %s", device)
	}
	if m := lazy.Regexp(`(?:^|,)(?:password|pass)=([^,$]+)`).FindStringSubmatch(options); m != nil {
		w.hint("write credentials=FILE, with mode 0600").report("secret-plain", at, "the password stands here, and in /etc/fstab, which every user reads")
	}
}

// mountOptions are in use, and long enough to be mistyped.
var mountOptions = words(`defaults nofail noauto auto user users nouser owner group exec noexec suid nosuid nodev sync async atime noatime relatime norelatime strictatime nodiratime lazytime bind rbind remount private rprivate shared slave discard nodiscard
	_netdev x-systemd.automount x-systemd.idle-timeout x-systemd.device-timeout x-systemd.mount-timeout x-systemd.requires x-systemd.after x-systemd.before x-systemd.makefs x-systemd.growfs x-systemd.requires-mounts-for x-initrd.mount comment errors commit barrier nobarrier journal_checksum
	usrquota grpquota usrjquota prjquota uquota gquota pquota quota noquota inode64 nouuid logbufs logbsize compress compress-force subvol subvolid space_cache autodefrag credentials username domain file_mode dir_mode iocharset vers nfsvers soft hard intr timeo retrans rsize wsize proto sec nolock
	lowerdir upperdir workdir size mode uid gid umask fmask dmask context fscontext defcontext rootcontext seclabel allow_other default_permissions pri data stripe noload acl noacl user_xattr iversion`)

// makesSwap reports whether something makes a swap file.
func (w *world) makesSwap(name string) bool {
	n := w.get("swap.filename")
	return n != nil && n.Text == name || n == nil && w.config.Get("swap") != nil && name == "/swap.img" || slices.ContainsFunc(w.commands, func(c command) bool { return c.inner().name() == "mkswap" })
}

func (w *world) checkMountPlace(at spot, where, kind string) {
	if where == "none" || where == "swap" {
		return
	}
	switch {
	case !strings.HasPrefix(where, "/"):
		w.report("mounts-where", at, "%q is no absolute path", where)
	case slices.Contains(systemDirs, path.Clean(where)) && kind != "tmpfs":
		w.report("mounts-where", at, "a mount on %s hides what the system needs there", where)
	}
}

func (w *world) checkMountWords(at spot, device, where, kind, options, pass string, given bool) {
	if meant, is := typo(kind, fileSystems); !slices.Contains(fileSystems, kind) && !strings.HasPrefix(kind, "fuse.") {
		_ = meant
		hint := near(kind, fileSystems)
		if is || hint != "" {
			w.hint(hint).report("mounts-type", at, "there is no file system %s", kind)
		} else {
			w.warn("mounts-type", at, "the file system %s is unusual", kind)
		}
	}
	if strings.ContainsAny(options, " \t") {
		w.report("mounts-options", at, "a blank ends the options: write them with commas alone")
	}
	if slices.Contains(append(networked, "virtiofs", "9p", "tmpfs", "overlay"), kind) && pass != "0" && pass != "" {
		w.report("mounts-options", at, "there is nothing that could check a %s", kind)
	}
	all := strings.Split(strings.ReplaceAll(options, " ", ""), ",")
	if given && kind != "swap" && where != "/" && where != "none" && !slices.Contains(all, "nofail") && !slices.Contains(all, "noauto") && kind != "tmpfs" && kind != "proc" && !slices.ContainsFunc(all, func(o string) bool { return o == "x-systemd.automount" || o == "bind" }) {
		w.report("mounts-nofail", at, "without nofail a boot without %s ends in emergency mode, where nobody can log in", device)
	}
	if driftName.MatchString(device) && strings.HasPrefix(device, "/dev/") {
		w.report("mounts-device", at, "%s is another disk when one is added or the order changes", device)
	}
}

// checkShare looks at a mount of a directory of the hypervisor.
func (w *world) checkShare(at spot, tag, where, options string) {
	stated := false
	if w.host != nil {
		shared := false
		for _, l := range w.host.Layers {
			for _, s := range l.Shares {
				shared = shared || s.Tag == tag
			}
			for _, d := range l.State {
				if where != "" && (d.Dir == where || strings.HasPrefix(d.Dir, where+"/") || strings.HasPrefix(where, d.Dir+"/")) {
					stated = true
					w.report("mounts-state", at, "%s is state of the layer %s: SQLite loses data on virtiofs", d.Dir, l.Name)
				}
			}
		}
		if !shared {
			w.report("mounts-no-share", at, "no layer asks the machine for a share %q", tag)
		}
	}
	if !stated && strings.Contains(where, "openclaw") && !strings.Contains(where, "workspace") {
		w.warn("mounts-state", at, "if this is where OpenClaw keeps its state: SQLite loses data on virtiofs")
	}
	all := strings.Split(options, ",")
	if !slices.Contains(all, "nosuid") || !slices.Contains(all, "nodev") {
		w.warn("mounts-options", at, "without nosuid and nodev whoever writes to the share on the other side may become root here")
	}
}

func (w *world) checkFstabFiles() {
	for _, f := range w.files {
		if f.path != "/etc/fstab" || f.hidden {
			continue
		}
		for i, line := range f.lines() {
			w.checkFstabLine(f.at(i, 0, len(line)), strings.TrimSpace(line))
		}
	}
}

func (w *world) checkFstabLine(at spot, line string) {
	if line == "" || line[0] == '#' || strings.Contains(line, "$") {
		return
	}
	fields := strings.Fields(line)
	for i, f := range fields {
		if strings.HasPrefix(f, "#") {
			fields = fields[:i]
			break
		}
	}
	switch {
	case len(fields) < 4:
		w.report("fstab-syntax", at, "the line has %d fields, and needs device, place, type, options", len(fields))
		return
	case len(fields) > 6 || len(fields) > 4 && !onlyDigits(fields[4]) || len(fields) > 5 && !onlyDigits(fields[5]):
		w.hint(`write \040 for a blank in a path`).report("fstab-syntax", at, "the line has %d fields, or no numbers at its end: a blank in a path ends it", len(fields))
		return
	}
	pass := "0"
	if len(fields) > 5 {
		pass = fields[5]
	}
	w.checkMountPlace(at, fields[1], fields[2])
	w.checkMountForms(at, fields[0], fields[1], fields[2], fields[3], pass)
	w.checkMountWords(at, fields[0], fields[1], fields[2], fields[3], pass, true)
}

func (w *world) checkDisks() {
	setup := w.config.Get("disk_setup")
	if setup != nil {
		for _, pair := range setup.Pairs {
			if n := pair.Value.Get("overwrite"); isTrue(n) {
				w.report("disk-overwrite", spot{node: n, path: "disk_setup." + pair.Key.Text + ".overwrite"}, "what is on %s is lost whenever cloud-init takes the machine for a new one", pair.Key.Text)
			}
			if slices.Contains(words("/dev/vda /dev/sda /dev/nvme0n1 /dev/xvda"), pair.Key.Text) {
				w.report("disk-overwrite", spot{node: pair.Key, path: "disk_setup." + pair.Key.Text}, "%s is the disk that the machine starts from", pair.Key.Text)
			}
		}
	}
	if list := w.config.Get("fs_setup"); list != nil {
		limits := map[string]int{"ext2": 16, "ext3": 16, "ext4": 16, "xfs": 12, "vfat": 11}
		for i, item := range list.Items {
			label, kind := item.Get("label"), item.Get("filesystem")
			if label != nil && kind != nil && limits[kind.Text] > 0 && len(label.Text) > limits[kind.Text] {
				w.report("disk-label", spot{node: label, path: fmt.Sprintf("fs_setup[%d].label", i)}, "a label of %s has at most %d letters", kind.Text, limits[kind.Text])
			}
			if n := item.Get("overwrite"); isTrue(n) {
				w.report("disk-overwrite", spot{node: n, path: fmt.Sprintf("fs_setup[%d].overwrite", i)}, "what is on the disk is lost whenever cloud-init takes the machine for a new one")
			}
		}
	}
}
