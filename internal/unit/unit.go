// Package unit writes the systemd service and timer of a job that is done again and again.
//
// It makes texts and touches no system. The service is a oneshot that runs as the
// user who bakes, with nothing that baking does not need: no privileges and none to be
// had, a file system that is read-only but for the directories it writes to, its own
// /tmp, no devices but /dev/kvm and the harmless ones, no namespaces, the system calls
// of an ordinary service. The timer spreads nights over an hour and makes up for one
// that was slept through.
//
// It promises that whatever a path is, it is one word of one line, and means itself:
// no specifier, variable or quote in it counts. It refuses what has a control
// character in it.
//
// # Decisions
//
// 2026-11: memory may be written and executed (no MemoryDenyWriteExecute): QEMU
// without KVM and npm's engine make code while they run. It costs 0.1 of exposure.
//
// 2026-11: homes are read-only, not hidden. Configuration, secrets and age's identity
// are usually there, and a list of what a host file may refer to would be wrong soon.
//
// 2026-11: /proc is whole (no ProcSubset): how many machines boot at once is decided
// by /proc/meminfo. Other users' processes are hidden.
//
// 2026-11: a user's own manager gets no file system of its own: where user namespaces
// are closed, as on Ubuntu 24.04, systemd leaves such settings out without a word, and
// a setting that does nothing is worse than none. The filters stay.
//
// 2026-11: seccomp may be called, which @system-service does not have in systemd 252:
// without it QEMU does not know -sandbox, and ran a guest with the service's filter alone,
// in which it may start programs. Who calls it can only have less than before.
package unit

import (
	"fmt"
	"strings"
)

// A Job is what the units are for.
type Job struct {
	Word      string   // of bake's command: nightly or backup
	About     string   // what it does, as a sentence without its end
	Argv      []string // the program, by its absolute path, and its arguments
	Dir       string   // to work in
	Writes    []string // directories it writes to; those that are absent are no error
	Env       []string // NAME=VALUE
	EnvFile   string   // a file with more, which may be absent
	User      string   // "" for the user of the manager, or root
	Groups    []string // more groups, which exist
	OnFailure string   // a unit, "" for none
	At        string   // OnCalendar
	IsUser    bool     // for a user's own manager
}

// Name is that of both units.
func (j Job) Name() string { return "bake-" + j.Word }

// hardening needs a manager that can make namespaces.
const hardening = `# no way to more than it has
CapabilityBoundingSet=
AmbientCapabilities=
# a file system of its own
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
PrivateIPC=yes
PrivateMounts=yes
ProtectProc=invisible
ProtectControlGroups=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectClock=yes
ProtectHostname=yes
RemoveIPC=yes
KeyringMode=private
DevicePolicy=closed
DeviceAllow=/dev/kvm rw
`

// filters work everywhere.
const filters = `# only what a service of this kind asks of the kernel
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictNamespaces=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallFilter=@chown sched_setaffinity setpriority prlimit64 setrlimit seccomp
SystemCallErrorNumber=EPERM
UMask=0077
`

// limits keep a night from being noticed by day.
const limits = `# it has time, and others come first
TimeoutStartSec=12h
TimeoutStopSec=2min
Nice=10
IOSchedulingClass=best-effort
IOSchedulingPriority=7
CPUWeight=20
IOWeight=20
MemoryMax=90%
TasksMax=4096
`

// Service is the text of the service.
func (j Job) Service() (string, error) {
	var out strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&out, format+"\n", args...) }
	line("# Made by bake, which may make it anew: changes go into a drop-in.")
	line("[Unit]")
	line("Description=%s", plain(j.About))
	if !j.IsUser { // a user's manager has no such target
		line("Wants=network-online.target")
		line("After=network-online.target time-sync.target")
	}
	if j.OnFailure != "" {
		line("OnFailure=%s", plain(j.OnFailure))
	}
	line("\n[Service]")
	line("Type=oneshot")
	line("ExecStart=%s", command(j.Argv))
	line("WorkingDirectory=%s", plain(j.Dir))
	for _, variable := range j.Env {
		line("Environment=%s", quote(variable))
	}
	if j.EnvFile != "" {
		line("EnvironmentFile=-%s", plain(j.EnvFile))
	}
	if j.User != "" && !j.IsUser {
		line("User=%s", plain(j.User))
	}
	if len(j.Groups) > 0 && !j.IsUser {
		line("SupplementaryGroups=%s", strings.Join(j.Groups, " "))
	}
	out.WriteString("\n" + limits + "\n")
	if !j.IsUser {
		out.WriteString(hardening)
		for _, dir := range j.Writes {
			line("ReadWritePaths=%s", quote("-"+dir))
		}
		out.WriteString("\n")
	}
	out.WriteString(filters)
	return out.String(), j.check()
}

// Timer is the text of the timer.
func (j Job) Timer() (string, error) {
	return fmt.Sprintf(`# Made by bake, which may make it anew: changes go into a drop-in.
[Unit]
Description=When %s runs

[Timer]
OnCalendar=%s
RandomizedDelaySec=1h
AccuracySec=1min
Persistent=true

[Install]
WantedBy=timers.target
`, j.Name(), plain(j.At)), j.check()
}

// check refuses what no line can hold.
func (j Job) check() error {
	all := append(append(append([]string{j.Word, j.About, j.Dir, j.EnvFile, j.User, j.OnFailure, j.At}, j.Argv...), j.Writes...), j.Env...)
	for _, text := range append(all, j.Groups...) {
		if strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c == 0x7f }) {
			return fmt.Errorf("a unit cannot have %q in it", text)
		}
	}
	return nil
}

// plain is a value that takes the rest of its line: only specifiers count there.
func plain(text string) string { return strings.ReplaceAll(text, "%", "%%") }

// quote makes one word of a text.
func quote(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%").Replace(text) + `"`
}

// command is a line of ExecStart, where variables count, too. In the name of the
// program they do not.
func command(argv []string) string {
	var words []string
	for i, word := range argv {
		if i > 0 {
			word = strings.ReplaceAll(word, "$", "$$")
		}
		words = append(words, quote(word))
	}
	return strings.Join(words, " ")
}
