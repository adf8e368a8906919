package host

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"bake/internal/doc"
	"bake/internal/layer"
	"bake/internal/lazy"
)

// Disk is a file or a block device of the hypervisor's that is there: bake neither makes
// nor deletes it.
type Disk struct {
	Name     string // in the guest /dev/disk/by-id/virtio-NAME
	Path     string
	Format   string // "raw" or "qcow2"; never guessed
	ReadOnly bool
}

// IsBlock says whether it is a block device.
func (d Disk) IsBlock() bool { return strings.HasPrefix(d.Path, "/dev/") }

// Device is a device of the hypervisor's that the machine has for itself: exactly one of
// the two is set.
type Device struct {
	PCI  string // address such as 0000:65:00.0
	Mdev string // UUID of a mediated device
}

var (
	diskName = lazy.Regexp(`^[A-Za-z0-9][A-Za-z0-9_-]{0,19}$`) // virtio-blk has no more room
	pciForm  = lazy.Regexp(`^[0-9a-f]{4}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]$`)
	uuidForm = lazy.Regexp(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
)

// maxDisks is for as many letters as bake's own disks leave.
const maxDisks = 20

// hardware reads what a machine has beyond processors, memory and disks of bake's.
func (r *resolver) hardware(get func(string) *doc.Node) {
	m := &r.host.Machine
	if text, ok := r.read(get("hugepages"), "machine.hugepages", layer.Param{Type: "enum", Of: []string{"2MiB", "1GiB"}}); ok {
		m.Hugepages = map[string]int64{"2MiB": 2 * mib, "1GiB": gib}[text]
		if m.Memory%m.Hugepages != 0 {
			r.problems.Add(get("hugepages").Problem("machine.hugepages", "", "%d MiB of memory are not a whole number of pages of %s", m.Memory/mib, text))
		}
	}
	if text, ok := r.read(get("watchdog"), "machine.watchdog", layer.Param{Type: "enum", Of: []string{"reset", "poweroff", "pause"}}); ok {
		m.Watchdog = text
	}
	for key, to := range map[string]*bool{"vsock": &m.Vsock, "agent": &m.Agent, "balloon": &m.Balloon} {
		if text, ok := r.read(get(key), "machine."+key, layer.Param{Type: "bool"}); ok {
			*to = text == "true"
		}
	}
	r.disks(get("disks"))
	r.devices(get("devices"))
}

// items are the elements of a list; problems with it are added.
func (r *resolver) items(n *doc.Node, path string) []*doc.Node {
	if n != nil && n.Kind != doc.List {
		r.problems.Add(n.Problem(path, "", "this is %s, want a list", n.Kind))
		return nil
	}
	if n == nil {
		return nil
	}
	return n.Items
}

func (r *resolver) disks(n *doc.Node) {
	items := r.items(n, "machine.disks")
	if len(items) > maxDisks {
		r.problems.Add(n.Problem("machine.disks", "", "%d disks are more than %d", len(items), maxDisks))
	}
	seen := map[string]bool{}
	for i, item := range items {
		at := fmt.Sprintf("machine.disks[%d]", i)
		get := item.Fields(at, &r.problems, "name", "path", "format", "readonly")
		if item.Kind != doc.Map {
			continue
		}
		d := Disk{Name: r.text(item, get("name"), at+".name", "name: data"), Path: r.text(item, get("path"), at+".path", "path: /srv/data.qcow2")}
		home := path.Join(r.host.Machine.ImagesPath, r.host.Name)
		switch {
		case d.Name == "":
		case !diskName.MatchString(d.Name) || strings.HasPrefix(d.Name, "bake-"):
			r.problems.Add(get("name").Problem(at+".name", "", "%q is not allowed, want at most 20 of a-z, A-Z, 0-9, - and _, and not bake-...", d.Name))
		case seen["name "+d.Name]:
			r.problems.Add(get("name").Problem(at+".name", "", "there are two disks %q", d.Name))
		}
		switch {
		case d.Path == "":
		case !path.IsAbs(d.Path) || path.Clean(d.Path) != d.Path:
			r.problems.Add(get("path").Problem(at+".path", "", "%q is not a clean absolute path", d.Path))
		case strings.HasPrefix(d.Path, home+"/"), strings.HasPrefix(d.Path, path.Join(r.host.Machine.ImagesPath, ".base")+"/"):
			r.problems.Add(get("path").Problem(at+".path", "put it elsewhere: what is there bake makes and deletes", "%q is where bake has its own", d.Path))
		case seen[d.Path]:
			r.problems.Add(get("path").Problem(at+".path", "", "there are two disks %s", d.Path))
		}
		seen["name "+d.Name], seen[d.Path] = true, true
		r.diskFormat(item, get("format"), at+".format", &d)
		if text, ok := r.read(get("readonly"), at+".readonly", layer.Param{Type: "bool"}); ok {
			d.ReadOnly = text == "true"
		}
		r.host.Machine.Disks = append(r.host.Machine.Disks, d)
	}
}

func (r *resolver) diskFormat(item, n *doc.Node, at string, d *Disk) {
	text, ok := r.read(n, at, layer.Param{Type: "enum", Of: []string{"raw", "qcow2"}})
	switch {
	case ok && d.IsBlock() && text != "raw":
		r.problems.Add(n.Problem(at, "", "a block device is raw"))
	case ok:
		d.Format = text
	case n == nil && d.IsBlock():
		d.Format = "raw"
	case n == nil && d.Path != "":
		r.problems.Add(item.Problem(at, "format: qcow2, or raw", "the key \"format\" is missing: a guest could choose it otherwise"))
	}
}

func (r *resolver) devices(n *doc.Node) {
	for i, item := range r.items(n, "machine.devices") {
		at := fmt.Sprintf("machine.devices[%s]", strconv.Itoa(i))
		get := item.Fields(at, &r.problems, "pci", "mdev")
		if item.Kind != doc.Map {
			continue
		}
		if (get("pci") == nil) == (get("mdev") == nil) {
			r.problems.Add(item.Problem(at, "", "want exactly one of pci and mdev"))
			continue
		}
		var d Device
		form, value, key, want := pciForm, &d.PCI, "pci", `an address in quotes, "0000:65:00.0", as lspci -D has it`
		if get("mdev") != nil {
			form, value, key, want = uuidForm, &d.Mdev, "mdev", "a UUID in small letters"
		}
		*value = r.text(item, get(key), at+"."+key, want)
		if *value != "" && !form.MatchString(*value) {
			r.problems.Add(get(key).Problem(at+"."+key, "", "%q is not allowed, want %s", *value, want))
		}
		if slices.Contains(r.host.Machine.Devices, d) {
			r.problems.Add(item.Problem(at, "remove one of the two", "the device is listed twice"))
		}
		r.host.Machine.Devices = append(r.host.Machine.Devices, d)
	}
}
