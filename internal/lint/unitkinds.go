package lint

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"bake/internal/lazy"
)

var calendarWord = words("minutely hourly daily monthly weekly yearly annually quarterly semiannually")
var calendarTime = lazy.Regexp(`(?i)^(?:(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*(?:(?:\.\.|-|,)(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*)*,?\s+)?(?:[0-9*][0-9*/,.~-]*\s*)?(?:\s*[0-9*][0-9*/,.]*:[0-9*][0-9*/,.]*(?::[0-9*][0-9*/,.]*)?)?|(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*(?:(?:\.\.|-|,)(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*)*)(?:\s+(?:UTC|[A-Z][A-Za-z]+/[A-Za-z_]+))?$`)

func (w *world) checkTimer(u *unit) {
	whole := w.whole(u.name)
	events := 0
	for _, key := range words("OnCalendar OnBootSec OnStartupSec OnActiveSec OnUnitActiveSec OnUnitInactiveSec OnClockChange OnTimezoneChange") {
		events += len(whole.all("Timer", key))
	}
	for _, d := range u.all("Timer", "OnCalendar") {
		if !slices.Contains(calendarWord, strings.ToLower(d.value)) && !calendarTime.MatchString(d.value) {
			w.hint("such as daily, Mon 03:00 or *-*-* 03:10:00; systemd-analyze calendar tries it").report("unit-timer", d.at, "%q is no time that systemd knows", d.value)
		}
	}
	if u.dropIn {
		return
	}
	if events == 0 {
		at := u.file.key("path")
		for _, d := range u.lines {
			if d.section == "Timer" {
				at = d.at
				break
			}
		}
		w.report("unit-timer", at, "the timer has no event, such as OnCalendar=daily: it never starts anything")
	}
	service, at := strings.TrimSuffix(u.name, ".timer")+".service", u.file.key("path")
	if d, ok := whole.one("Timer", "Unit"); ok {
		service, at = d.value, d.at
	}
	if !w.knowsUnit(service) && !u.user {
		w.report("unit-timer", at, "nothing brings %s, which the timer starts", service)
	}
}

// checkTrigger reports a socket or path unit that waits for nothing.
func (w *world) checkTrigger(u *unit) {
	section := sectionOf[path.Ext(u.name)]
	start := map[string]string{"Socket": "Listen", "Path": ""}[section]
	whole := w.whole(u.name)
	if u.dropIn || slices.ContainsFunc(whole.lines, func(d directive) bool {
		return d.section == section && d.value != "" && (start != "" && strings.HasPrefix(d.key, start) || start == "" && slices.Contains(words("PathExists PathExistsGlob PathChanged PathModified DirectoryNotEmpty"), d.key))
	}) {
		return
	}
	at := u.file.key("path")
	for _, d := range u.lines {
		if d.section == section {
			at = d.at
			break
		}
	}
	w.report("unit-trigger", at, "the unit waits for nothing: systemd refuses it without %s", map[string]string{"Socket": "ListenStream= or the like", "Path": "PathExists= or the like"}[section])
}

func (w *world) checkMountUnit(u *unit) {
	whole := w.whole(u.name)
	section := sectionOf[path.Ext(u.name)]
	head := u.file.key("path")
	for _, d := range u.lines {
		if d.section == section {
			head = d.at
			break
		}
	}
	where, ok := whole.one(section, "Where")
	switch {
	case !ok && !u.dropIn:
		w.report("unit-mount", head, "Where= is missing")
		return
	case ok && !u.dropIn && !strings.Contains(u.name, "%") && !strings.Contains(where.value, "%") && escapePath(where.value)+path.Ext(u.name) != u.name:
		w.hint("name the file "+escapePath(where.value)+path.Ext(u.name)).report("unit-mount", u.file.key("path"), "the unit of %s must be called %s%s: systemd refuses this one", where.value, escapePath(where.value), path.Ext(u.name))
	}
	if section != "Mount" || u.dropIn {
		return
	}
	what, ok := whole.one("Mount", "What")
	if !ok {
		w.report("unit-mount", head, "What= is missing")
		return
	}
	if kind, _ := whole.one("Mount", "Type"); kind.value == "virtiofs" {
		options, _ := whole.one("Mount", "Options")
		w.checkShare(what.at, what.value, where.value, options.value)
	}
}

// escapePath is systemd-escape --path.
func escapePath(p string) string {
	p = strings.Trim(path.Clean(p), "/")
	if p == "" {
		return "-"
	}
	var out strings.Builder
	for i, c := range []byte(p) {
		switch {
		case c == '/':
			out.WriteByte('-')
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == ':' || c == '_' || c == '.' && i > 0:
			out.WriteByte(c)
		default:
			fmt.Fprintf(&out, `\x%02x`, c)
		}
	}
	return out.String()
}
