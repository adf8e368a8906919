package console

import "bake/internal/lazy"

// Stage is a place that a boot has come to.
type Stage struct {
	Name   string  `json:"name"`                     // for programs
	Words  string  `json:"words"`                    // for people
	Uptime float64 `json:"uptime_seconds,omitempty"` // of the guest, 0 where its line has no time
}

// Opening is the name of the stage between a guest's last claim and the first
// answer that anybody outside gets.
const Opening = "opening"

// byFirmware and byKernel are what Reader.reached is after the first two stages.
const (
	byFirmware = 1
	byKernel   = 2
)

// stages are what a console says on the way, and what it means to people.
var stages = []struct {
	pattern     lazy.Regexp
	name, words string
}{
	{bootLoader, "firmware", "the firmware starts the boot loader"},
	{lazy.Regexp(`^\[ *\d+\.\d+\]|^Linux version`), "kernel", "the kernel runs"},
	{lazy.Regexp(`Cloud-init v\. \S+ running 'init-local'`), "cloud-init-local", "cloud-init has begun"},
	{lazy.Regexp(`Cloud-init v\. \S+ running 'init'`), "cloud-init-network", "the network is up"},
	{lazy.Regexp(`Cloud-init v\. \S+ running 'modules:config'`), "cloud-init-config", "cloud-init configures"},
	{lazy.Regexp(`Cloud-init v\. \S+ running 'modules:final'`), "cloud-init-final", "cloud-init installs"},
	{lazy.Regexp(`Cloud-init v\. \S+ finished`), "cloud-init-done", "cloud-init is done"},
	{trying, "trying", "the guest tries its claims"},
	// A generation of before may say it behind a prompt.
	{lazy.Regexp(`(?:^|login: )bake: every claim holds, opening`), Opening, "the guest opens"},
	{lazy.Regexp(`BAKE-RESULT v1 `), "verdict", "the guest has its verdict"},
}

// ending is the kind of an end.
type ending int

const (
	stuck ending = iota
	off
	panicked
)

// ends are what a console says last. What is captured is added to the words. The
// kernel may print behind what somebody else has begun.
var ends = []struct {
	has     string // what every match has in it, which is sooner seen
	pattern lazy.Regexp
	words   string
	is      ending
}{
	{"Kernel panic", lazy.Regexp(`(?:^|\] ?)Kernel panic - not syncing(: .{1,200})?`), "the kernel panicked", panicked},
	{"reboot: ", lazy.Regexp(`(?:^|\] ?)reboot: (?:Power down|System halted)`), "it was switched off", off},
	{"Freezing", lazy.Regexp(`(?:^|\] ?)systemd\[1\]: Freezing execution`), "systemd froze", stuck},
	{"You are in", lazy.Regexp(`^You are in (?:emergency|rescue) mode`), "it is in emergency mode and waits for somebody", stuck},
	{"ALERT", lazy.Regexp(`^ALERT!(.{1,200}) +Dropping to a shell!`), "the initramfs gave up:", stuck},
	{"BdsDxe", lazy.Regexp(`^BdsDxe: No bootable option or device was found`), "the firmware found nothing to boot", stuck},
}

// PanickedEarly is how the kernel panicked before cloud-init began, and so before anything
// that a seed asks for ran; "" where it did not.
func (r Reading) PanickedEarly() string {
	if !r.isPanic {
		return ""
	}
	for _, s := range r.Stages {
		if s.Name != stages[byFirmware-1].name && s.Name != stages[byKernel-1].name {
			return ""
		}
	}
	return r.End
}
