package attest

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// asking is how many looks at files there are to one question to systemd: a boot that is
// still provisioned needs its processors, and a question takes a tenth of a second of one.
const asking = 100

// wait returns when the boot is over, or has had its time. What has not happened
// by then is for the claims to find.
func (a *attestation) wait(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, a.Wait)
	defer cancel()
	for looks := 0; ctx.Err() == nil; looks++ {
		if (a.isProvisioned() || looks%asking == 0 && a.hasFailed(ctx)) && a.isUp(ctx) {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(a.Poll):
		}
	}
}

// isProvisioned says whether cloud-init has ended, or does not run in this boot.
func (a *attestation) isProvisioned() bool {
	for _, name := range []string{"/run/cloud-init/result.json", "/etc/cloud/cloud-init.disabled", "/run/cloud-init/disabled"} {
		if _, err := os.Stat(a.path(name)); err == nil {
			return true
		}
	}
	return false
}

// hasFailed says whether cloud-init has ended without a word.
func (a *attestation) hasFailed(ctx context.Context) bool {
	state, _, err := a.execute(ctx, "systemctl show -P ActiveState cloud-final.service")
	return err == nil && state == "failed"
}

// isUp says whether the services of the boot have started or failed.
func (a *attestation) isUp(ctx context.Context) bool {
	_, exit, err := a.execute(ctx, "systemctl --quiet is-active multi-user.target")
	return err == nil && exit == 0
}

// facts asks what the guest is and when things happened, a line each.
const facts = `. /etc/os-release; echo "$PRETTY_NAME"; uname -r
dpkg-query -W -f '${Version}\n' cloud-init
systemctl --version | sed -n '1s/^systemd \([^ ]*\).*/\1/p'
test -e /run/reboot-required && echo due || echo none
cat /proc/sys/kernel/random/boot_id
systemctl show -P ActiveEnterTimestampMonotonic network-pre.target ssh.service ssh.socket | grep .
cat /run/bake/gate`

// look completes the report. What is not found stays empty: no claim is made of
// it.
func (a *attestation) look(ctx context.Context) {
	out, _, _ := a.execute(ctx, facts)
	if lines := strings.Split(out, "\n"); len(lines) == 10 {
		version, _, _ := strings.Cut(lines[2], "-")
		a.report.Guest = Guest{OS: lines[0], Kernel: lines[1], CloudInit: version, Systemd: lines[3], RebootDue: lines[4] == "due"}
		a.report.BootID = lines[5]
		moment := func(text string) int64 {
			us, _ := strconv.ParseInt(text, 10, 64)
			return us / 1000
		}
		m := &a.report.Moments
		m.Network, m.SSH, m.Closed = moment(lines[6]), moment(lines[7]), moment(lines[9])
		if m.SSH == 0 {
			m.SSH = moment(lines[8])
		}
	}
	a.report.HostKeys = a.hostKeys()
}

// hostKeys returns what sshd shows, in authorized_keys form.
func (a *attestation) hostKeys() (keys []string) {
	files, _ := filepath.Glob(a.path("/etc/ssh/ssh_host_*_key.pub"))
	for _, file := range files {
		if data, err := os.ReadFile(file); err == nil {
			if fields := strings.Fields(string(data)); len(fields) >= 2 {
				keys = append(keys, fields[0]+" "+fields[1])
			}
		}
	}
	return keys
}

// uptime returns milliseconds since the kernel started.
func (a *attestation) uptime() int64 {
	data, _ := os.ReadFile(a.path("/proc/uptime"))
	text, _, _ := strings.Cut(string(data), " ")
	seconds, _ := strconv.ParseFloat(text, 64)
	return int64(seconds * 1000)
}
