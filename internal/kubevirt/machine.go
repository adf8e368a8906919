package kubevirt

import (
	"fmt"
	"strconv"

	"bake/internal/domain"
	"bake/internal/host"
)

// patience is how long a machine may take to shut down, in seconds: what bake deploy gives
// it, so that OpenClaw can finish what it is doing.
const patience = 420

// The probe: a first boot under load takes minutes, and costs nothing to ask for.
const (
	probeDelay   = 20 // seconds
	probePeriod  = 10
	probeTimeout = 5
	probeFailed  = 3
)

// mebibytes is a size as a quantity of Kubernetes; sizes of host files are whole MiB.
func mebibytes(bytes int64) string { return strconv.FormatInt(bytes>>20, 10) + "Mi" }

func (e *export) rootDisk() object {
	var source dataSource
	if e.Image != "" {
		source.Registry = &registrySource{URL: "docker://" + e.Image, SecretRef: e.ImportSecret}
	} else {
		source.HTTP = &httpSource{URL: e.BaseURL, Checksum: "sha256:" + e.BaseSHA256}
	}
	return object{APIVersion: "cdi.kubevirt.io/v1beta1", Kind: "DataVolume", Metadata: e.about(e.rootName()),
		Spec: dataVolumeSpec{Source: source, Storage: dataStorage{
			Resources: request(e.Machine.Disk), StorageClassName: e.StorageClass}}}
}

// stateDisk is filled by nobody: the layer state makes its file system.
func (e *export) stateDisk() object {
	return object{APIVersion: "v1", Kind: "PersistentVolumeClaim",
		Metadata: metadata{Name: e.stateName(), Namespace: e.Namespace, Labels: e.labels()}, // of no generation
		Spec: claimSpec{AccessModes: []string{"ReadWriteOnce"}, Resources: request(e.Machine.State),
			StorageClassName: e.StorageClass}}
}

func request(bytes int64) resources {
	return resources{Requests: map[string]string{"storage": mebibytes(bytes)}}
}

func (e *export) machine() object {
	about := e.about(e.Host.Name)
	spec := instanceSpec{
		Architecture: e.Machine.Arch, Hostname: e.Host.Name,
		EvictionStrategy: "LiveMigrateIfPossible", TerminationGracePeriodSeconds: patience,
		ReadinessProbe: e.probe(),
		Domain: domainSpec{
			CPU:      cpu{Cores: e.Machine.VCPUs, Sockets: 1, Threads: 1, Model: "host-model"},
			Memory:   memory{Guest: mebibytes(e.Machine.Memory)},
			Machine:  named{"q35"},
			Firmware: firmware{UUID: domain.UUID(e.Host.Name), Bootloader: bootloader{efi{e.isSecure()}}},
			Clock:    clock{Timer: timers()},
			Devices:  e.devices(),
		},
	}
	if e.Machine.Arch == host.ARM64 {
		spec.Domain.CPU.Model, spec.Domain.Machine, spec.Domain.Clock.Timer = "host-passthrough", named{"virt"}, nil
	}
	if e.isSecure() {
		spec.Domain.Features.SMM = &toggle{true}
	}
	switch e.Machine.Hugepages {
	case 2 << 20:
		spec.Domain.Memory.Hugepages = &hugepages{"2Mi"}
	case 1 << 30:
		spec.Domain.Memory.Hugepages = &hugepages{"1Gi"}
	}
	e.attach(&spec)
	e.plug(&spec)
	return object{APIVersion: "kubevirt.io/v1", Kind: "VirtualMachine", Metadata: about,
		Spec: machineSpec{RunStrategy: "RerunOnFailure", Template: template{
			Metadata: metadata{Labels: about.Labels, Annotations: about.Annotations}, Spec: spec}}}
}

// isSecure says whether the machine has secure boot, which a cluster has for every PC.
func (e *export) isSecure() bool {
	m := e.Machine
	return m.Firmware == host.UEFISecure || m.Firmware == host.FirmwareAuto && m.Arch == host.AMD64
}

// timers are those that a guest which has missed ticks is told of, as under libvirt.
func timers() *timer {
	absent := false
	return &timer{HPET: timerOf{Present: &absent}, PIT: timerOf{TickPolicy: "delay"}, RTC: timerOf{TickPolicy: "catchup"}}
}

func (e *export) devices() devices {
	m := e.Machine
	d := devices{
		DisableHotplug: true, AutoattachSerialConsole: true, LogSerialConsole: true, // the verdict is on it
		AutoattachMemBalloon: m.Balloon, AutoattachVSOCK: m.Vsock,
	}
	if m.TPM != host.TPMOff { // who demands one seals something with it, for the next boot
		d.TPM = &tpm{Persistent: m.TPM == host.TPMOn}
	}
	if m.Watchdog != "" {
		d.Watchdog = &watchdog{Name: "watchdog", I6300ESB: i6300esb{m.Watchdog}}
	}
	return d
}

// attach adds disks. Serials are what the guest knows them by; names of disks are names of
// containers.
func (e *export) attach(s *instanceSpec) {
	add := func(v volume, readOnly bool) {
		s.Domain.Devices.Disks = append(s.Domain.Devices.Disks, disk{Name: v.Name, Serial: "bake-" + v.Name,
			Disk: diskTarget{Bus: "virtio", ReadOnly: readOnly}})
		s.Volumes = append(s.Volumes, v)
	}
	if e.Ephemeral {
		add(volume{Name: "root", ContainerDisk: e.inImage("")}, false)
	} else {
		add(volume{Name: "root", DataVolume: &reference{e.rootName()}}, false)
	}
	s.Domain.Devices.Disks[0].BootOrder = 1
	add(volume{Name: "seed", Secret: &secretReference{e.seedName(), "cidata"}}, true)
	for i := range e.pieces {
		add(volume{Name: fmt.Sprintf("attest-%d", i), ConfigMap: &configReference{pieceName(e.program, i), "bakeattest"}}, true)
	}
	if len(e.Host.Secrets) > 0 {
		add(volume{Name: "secrets", Secret: &secretReference{e.secretsName(), "bakesecret"}}, true)
	}
	if e.Offline {
		add(volume{Name: "payload", ContainerDisk: e.inImage("/bake/payload.squashfs")}, true)
	}
	if e.Machine.State > 0 {
		add(volume{Name: "state", PersistentVolumeClaim: &claimReference{e.stateName()}}, false)
	}
}

func (e *export) inImage(path string) *containerDisk {
	return &containerDisk{Image: e.Image, ImagePullSecret: e.PullSecret, Path: path}
}

// plug adds the card.
func (e *export) plug(s *instanceSpec) {
	c := card{Name: "nic0", Model: "virtio", MACAddress: e.Host.Network.MAC}
	n := network{Name: "nic0"}
	if e.Options.Network == "" {
		c.Masquerade, n.Pod = &empty{}, &empty{}
		for _, p := range e.ports {
			c.Ports = append(c.Ports, cardPort(p))
		}
	} else {
		c.Bridge, n.Multus = &empty{}, &multus{e.Options.Network}
	}
	s.Domain.Devices.Interfaces = []card{c}
	s.Networks = []network{n}
}
