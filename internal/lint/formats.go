package lint

import (
	"encoding/json"
	"errors"
	"path"
	"slices"
	"strings"

	"bake/internal/diag"
	"bake/internal/doc"
	"bake/internal/lazy"
)

// daemonConf are the settings of systemd's own daemons, by the directory of their
// drop-ins.
var daemonConf = map[string][]string{
	"/etc/systemd/journald.conf": words(`Journal Storage Compress Seal SplitMode SyncIntervalSec RateLimitIntervalSec RateLimitInterval RateLimitBurst SystemMaxUse SystemKeepFree SystemMaxFileSize SystemMaxFiles
		RuntimeMaxUse RuntimeKeepFree RuntimeMaxFileSize RuntimeMaxFiles MaxRetentionSec MaxFileSec ForwardToSyslog ForwardToKMsg ForwardToConsole ForwardToWall ForwardToSocket TTYPath MaxLevelStore MaxLevelSyslog MaxLevelKMsg MaxLevelConsole MaxLevelWall MaxLevelSocket ReadKMsg Audit LineMax`),
	"/etc/systemd/resolved.conf":  words(`Resolve DNS FallbackDNS Domains LLMNR MulticastDNS DNSSEC DNSOverTLS Cache CacheFromLocalhost DNSStubListener DNSStubListenerExtra ReadEtcHosts ResolveUnicastSingleLabel StaleRetentionSec RefuseRecordTypes`),
	"/etc/systemd/timesyncd.conf": words(`Time NTP FallbackNTP RootDistanceMaxSec PollIntervalMinSec PollIntervalMaxSec ConnectionRetrySec SaveIntervalSec`),
	"/etc/systemd/logind.conf": words(`Login NAutoVTs ReserveVT KillUserProcesses KillOnlyUsers KillExcludeUsers InhibitDelayMaxSec UserStopDelaySec SleepOperation HandlePowerKey HandlePowerKeyLongPress HandleRebootKey HandleRebootKeyLongPress
		HandleSuspendKey HandleSuspendKeyLongPress HandleHibernateKey HandleHibernateKeyLongPress HandleSecureAttentionKey HandleLidSwitch HandleLidSwitchExternalPower HandleLidSwitchDocked PowerKeyIgnoreInhibited SuspendKeyIgnoreInhibited HibernateKeyIgnoreInhibited LidSwitchIgnoreInhibited
		RebootKeyIgnoreInhibited HoldoffTimeoutSec IdleAction IdleActionSec RuntimeDirectorySize RuntimeDirectoryInodesMax RemoveIPC InhibitorsMax SessionsMax StopIdleSessionSec DesignatedMaintenanceTime WallMessages`),
	"/etc/systemd/coredump.conf": words(`Coredump Storage Compress ProcessSizeMax ExternalSizeMax JournalSizeMax MaxUse KeepFree EnterNamespace`),
}

// storages are journald's.
var storages = words("volatile persistent auto none")

// logrotateWords begin a line of a file of logrotate.
var logrotateWords = words(`compress nocompress compresscmd uncompresscmd compressext compressoptions copy nocopy copytruncate nocopytruncate create nocreate createolddir nocreateolddir daily dateext nodateext
	dateformat dateyesterday datehourago delaycompress nodelaycompress extension addextension hourly ifempty notifempty ignoreduplicates include mail mailfirst maillast maxage maxsize minsize minage missingok nomissingok monthly
	nomail noolddir olddir nosharedscripts sharedscripts postrotate prerotate firstaction lastaction preremove endscript renamecopy norenamecopy rotate size shred noshred shredcycles start su tabooext taboopat weekly yearly allowhardlink noallowhardlink`)

// checkFormats looks at files whose reader is strict, and which are no other rule's.
func checkFormats(w *world) {
	w.checkSettingsTwice()
	for _, f := range w.files {
		if f.hidden || f.text == "" || f.layer != nil && strings.HasSuffix(f.layer.Origin, ".sh") {
			continue
		}
		dir, name := path.Dir(f.path), path.Base(f.path)
		conf, isConf := daemonConf[strings.TrimSuffix(dir, ".d")]
		if !isConf {
			conf, isConf = daemonConf[f.path]
		}
		switch {
		case isConf:
			w.checkDaemonConf(f, conf)
		case f.path == "/etc/docker/daemon.json":
		case strings.HasSuffix(name, ".json"):
			w.checkJSON(f)
		case dir == "/etc/netplan" || strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".yml"):
			w.checkYAML(f, dir == "/etc/netplan")
		case f.path == "/etc/apt/sources.list" || dir == "/etc/apt/sources.list.d":
			w.checkSourceLines(f)
		case dir == "/etc/logrotate.d":
			w.checkLogrotate(f)
		default:
			w.checkLines(f, dir)
		}
	}
}

func (w *world) checkDaemonConf(f *file, known []string) {
	inSection := false
	for i, line := range f.lines() {
		text := strings.TrimSpace(line)
		key, value, ok := strings.Cut(text, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		at := f.at(i, 0, len(line))
		switch {
		case text == "" || text[0] == '#' || text[0] == ';':
		case text[0] == '[':
			inSection = true
			if section := strings.Trim(text, "[]"); section != known[0] {
				w.hint("write ["+known[0]+"]").report("file-syntax", at, "there is no section [%s] here: it is ignored", section)
			}
		case !ok:
			w.report("file-syntax", at, "this line has no =: it is ignored")
		case !inSection:
			w.hint("write ["+known[0]+"] before it").report("file-syntax", at, "this line is before the first [Section]: it is ignored")
		case !slices.Contains(known[1:], key):
			w.hint(near2(key, known[1:])).report("file-syntax", at, "there is no setting %s here: it is ignored", key)
		case w.daemonValue(at, known[0], key, value):
		case known[0] == "Journal" && key == "Storage" && !slices.Contains(storages, value):
			w.hint(near(value, storages)).report("file-syntax", at, "Storage= is volatile, persistent, auto or none, not %q", value)
		}
	}
}

func (w *world) checkJSON(f *file) {
	var any any
	err := json.Unmarshal([]byte(f.text), &any)
	var syn *json.SyntaxError
	if errors.As(err, &syn) && !strings.Contains(f.text, "//") && !strings.Contains(f.text, "{{") {
		before := f.text[:min(int(syn.Offset), len(f.text))]
		w.warn("file-syntax", f.at(strings.Count(before, "\n"), 0, 1), "this is no JSON: %v", err)
	}
}

func (w *world) checkYAML(f *file, strict bool) {
	if strings.Contains(f.text, "{{") || strings.Contains(f.text, "{%") || strings.Contains(f.text, "\n---\n") {
		return
	}
	_, _, err := doc.Foreign(f.path, []byte(f.text))
	var list diag.List
	if !errors.As(err, &list) {
		return
	}
	severity := Warning
	if strict {
		severity = Error
	}
	w.add("file-syntax", severity, f.at(max(0, list[0].Pos.Line-1), max(0, list[0].Pos.Col-1), 1), "%s", list[0].Message)
}

var (
	sourceLine   = lazy.Regexp(`^(deb|deb-src)\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)(.*)$`)
	sourceFields = words(`types uris suites components architectures signed-by enabled languages targets pdiffs by-hash allow-insecure allow-weak allow-downgrade-to-insecure trusted check-valid-until valid-until-min valid-until-max check-date date-max-future inrelease-path snapshot x-repolib-name description repolib-name`)
)

func (w *world) checkSourceLines(f *file) {
	deb822 := strings.HasSuffix(f.path, ".sources")
	for i, line := range f.lines() {
		text := strings.TrimSpace(line)
		at := f.at(i, 0, len(line))
		switch key, _, ok := strings.Cut(text, ":"); {
		case text == "" || text[0] == '#':
		case deb822 && strings.HasPrefix(line, " "):
		case deb822 && (!ok || !slices.Contains(sourceFields, strings.ToLower(key))):
			w.hint(near(strings.ToLower(key), sourceFields)).report("apt-sources", at, "apt knows no field %s here, and reads none of the file", key)
		case deb822:
		default:
			m := sourceLine.FindStringSubmatch(text)
			switch {
			case m == nil:
				w.report("apt-sources", at, "want deb [signed-by=KEY] URL SUITE COMPONENT: apt update fails as a whole")
			case strings.TrimSpace(m[4]) == "" && !strings.HasSuffix(m[3], "/"):
				w.report("apt-sources", at, "the component, such as main, is missing: apt update fails as a whole")
			case !strings.Contains(m[2], ":"):
				w.report("apt-sources", at, "%q is no URL", m[2])
			case !strings.Contains(text, "signed-by") && !strings.Contains(m[2], "debian.org") && !strings.Contains(m[2], "ubuntu.com"):
				w.warn("apt-unsigned", at, "the archive has no key of its own: apt refuses it, or its key is trusted for all archives")
			}
		}
	}
}

func (w *world) checkLogrotate(f *file) {
	open, script := 0, false
	for i, line := range f.lines() {
		text := strings.TrimSpace(line)
		first := strings.Fields(text + " #")[0]
		switch {
		case text == "" || text[0] == '#':
		case script:
			script = text != "endscript"
		case slices.Contains(words("postrotate prerotate firstaction lastaction preremove"), first):
			script = true
		case strings.Contains(text, "{"):
			open++
		case text == "}":
			open--
		case strings.HasPrefix(first, "/") || strings.HasPrefix(first, `"`):
		case !slices.Contains(logrotateWords, first):
			w.hint(near(first, logrotateWords)).report("file-syntax", f.at(i, 0, len(line)), "logrotate knows no %s", first)
		default:
			w.checkLogrotateValue(f.at(i, 0, len(line)), first, strings.Fields(text)[1:])
		}
	}
	if open != 0 || script {
		w.report("file-syntax", f.at(len(f.lines())-1, 0, 1), "a { or a script is not closed: logrotate skips the file")
	}
}

// lineForms are the lines that a directory's reader accepts.
var lineForms = map[string]lazy.Regexp{
	"/etc/modprobe.d":        lazy.Regexp(`^(?:alias|blacklist|options|install|remove|softdep|weakdep|config)\s+\S`),
	"/etc/security/limits.d": lazy.Regexp(`^\S+\s+(?:soft|hard|-)\s+(?:core|data|fsize|memlock|nofile|rss|stack|cpu|nproc|as|maxlogins|maxsyslogins|nonewprivs|priority|locks|sigpending|msgqueue|nice|rtprio|chroot)\s+\S+`),
	"/etc/tmpfiles.d":        lazy.Regexp(`^[a-zA-Z][-+!=~^$?]*\s+(?:"[^"]*"|\S+)(?:\s+[~:]*(?:-|[0-7]{3,4})(?:\s+\S+(?:\s+\S+.*)?)?)?\s*$|^[a-zA-Z][-+!=~^$?]*\s+\S+\s+-`),
	"/etc/modules-load.d":    lazy.Regexp(`^[A-Za-z0-9_-]+$`),
	"/etc/audit/rules.d":     lazy.Regexp(`^-(?:D|b|e|f|r|i|c|-backlog_wait_time|-loginuid-immutable|a|A|w|W|d|k|C|t|q|-reset-lost)(?:\s|$)`),
	"/etc/apt/preferences.d": lazy.Regexp(`^(?:Package|Pin|Pin-Priority|Explanation):\s|^\s`),
	"/etc/sysusers.d":        lazy.Regexp(`^(?:u!?|g|m|r)\s+\S+`),
}

var auditPerms = lazy.Regexp(`\s-p\s+(\S+)`)

func (w *world) checkLines(f *file, dir string) {
	form := lineForms[dir]
	if form == "" {
		return
	}
	for i, line := range f.lines() {
		text := strings.TrimRight(line, " \t\r")
		if strings.TrimSpace(text) == "" || strings.HasPrefix(strings.TrimSpace(text), "#") {
			continue
		}
		if !form.MatchString(text) {
			w.report("file-syntax", f.at(i, 0, len(line)), "this is no line of %s", dir)
			continue
		}
		if m := auditPerms.FindStringSubmatch(text); dir == "/etc/audit/rules.d" && m != nil && strings.Trim(m[1], "rwxa") != "" {
			w.report("file-syntax", f.at(i, 0, len(line)), "-p takes r, w, x and a, not %q: no rule of the file is loaded", m[1])
		}
	}
}
