package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"bake/internal/artifact"
	"bake/internal/domain"
	"bake/internal/status"
	"bake/internal/verify"
)

// statusView is what is known of a machine.
type statusView struct {
	status.Status
	Generation  string      `json:"generation,omitempty"`  // whose claims the guest tried
	IsHostFile  bool        `json:"host_file,omitempty"`   // they are those of the host file as it is now
	Generations []keptView  `json:"generations"`           // that are kept here
	Keys        []keyView   `json:"ssh_host_keys"`         // that it has printed
	Known       string      `json:"known_hosts,omitempty"` // where they are kept
	Changes     []string    `json:"key_changes,omitempty"` // since the last time
	Base        *agingView  `json:"base,omitempty"`        // of the generation that runs, where that is kept here
	Reboot      *rebootView `json:"reboot,omitempty"`      // whether one is due, where somebody has looked
	Domain      *domainView `json:"domain,omitempty"`      // what libvirt says, where it was asked
	isQuiet     time.Duration
}

// keptView is a generation that is kept here.
type keptView struct {
	Name      string `json:"generation"`
	IsLatest  bool   `json:"latest,omitempty"`
	IsCurrent bool   `json:"current,omitempty"`
	Plan      string `json:"plan,omitempty"` // digest of the claims that its guest tries
	Verified  string `json:"verified"`       // what bake verify said last
}

// domainView is the machine as libvirt knows it; its State may be "none".
type domainView struct {
	Hypervisor string `json:"hypervisor"`
	listView
	Drift  []domain.Difference `json:"drift,omitempty"`  // of what runs from what is defined
	Edited []domain.Difference `json:"edited,omitempty"` // of what is defined from the generation's domain.xml
	Report json.RawMessage     `json:"report,omitempty"` // of the guest's last boot, as the guest has it
}

// guest is what a guest says it is, "" where it has not said it.
func (d *domainView) guest() string {
	var report struct {
		Guest struct{ OS, Kernel, Systemd string }
	}
	if err := json.Unmarshal(d.Report, &report); err != nil || report.Guest.OS == "" {
		return ""
	}
	return fmt.Sprintf("%s, kernel %s, systemd %s", report.Guest.OS, report.Guest.Kernel, report.Guest.Systemd)
}

// differences are what of a domain is not as it was baked.
func (d *domainView) differences() (all []string) {
	for _, x := range d.Drift {
		all = append(all, drifted(x))
	}
	for _, x := range d.Edited {
		all = append(all, edited(x))
	}
	return all
}

func drifted(x domain.Difference) string {
	return fmt.Sprintf("%s: %s runs, %s is defined", x.Element, x.Found, x.Wanted)
}

func edited(x domain.Difference) string {
	return fmt.Sprintf("%s: %s is defined, %s is in its generation", x.Element, x.Found, x.Wanted)
}

type keyView struct {
	Type   string `json:"type"`
	SHA256 string `json:"sha256"`
}

// view judges a log, compares it with the generations, and keeps the host keys of a
// machine that is what was specified.
func (a *app) view(w *watched) (statusView, error) {
	view := statusView{Status: status.Of(w.name, w.log), Keys: []keyView{}}
	keys := w.log.Reading().Keys
	for _, key := range keys {
		view.Keys = append(view.Keys, keyView{key.Type(), ssh.FingerprintSHA256(key)})
	}
	if view.State == status.NotYet {
		view.isQuiet = time.Since(view.Grew)
	}
	var err error
	if view.Domain, err = w.domainOf(); err != nil {
		return view, err
	}
	if view.Domain != nil {
		view.NoteReport(view.Domain.Report)
	}
	if view.Domain != nil && (view.Domain.State == "off" || view.Domain.State == "saved") {
		view.NoteOff()
	}
	if view.Generations, err = a.kept(w.name); err != nil {
		return view, err
	}
	for _, g := range view.Generations { // the latest is first
		if g.Plan == view.Plan && view.Plan != "" {
			view.Generation = g.Name
			break
		}
	}
	if err := a.aging(w.name, &view); err != nil {
		return view, err
	}
	if view.Plan == "" {
		return view, nil
	}
	view.IsHostFile = slices.Contains(w.plans, view.Plan)
	if view.State != status.Attested || len(keys) == 0 || !view.isOurs() {
		return view, nil
	}
	return view, a.keepKeys(w, &view, keys)
}

// isOurs says whether anybody here knows the claims that the guest tried.
func (v statusView) isOurs() bool { return v.Generation != "" || v.IsHostFile }

// keepKeys keeps the host keys of a machine, and says if they are others than
// before.
func (a *app) keepKeys(w *watched, view *statusView, keys []ssh.PublicKey) error {
	var addresses []string
	if w.host != nil {
		for _, address := range w.host.Network.Addresses {
			addresses = append(addresses, address.Addr().String())
		}
	}
	view.Known = filepath.Join(a.out, w.name, status.KnownFile)
	err := artifact.Keep(a.out, w.name, status.KnownFile, func(old []byte) ([]byte, error) {
		view.Changes = status.Changes(old, keys)
		return status.KnownHosts(w.name, addresses, keys), nil
	})
	if len(view.Changes) > 0 {
		a.warn("%s: WARNING: its ssh host keys are not those of the last time: %s. A rebuild makes new keys; if nobody has rebuilt it, do not log in.",
			w.name, strings.Join(view.Changes, "; "))
	}
	return err
}

// kept lists the generations of a host, the latest first, then the current one. One
// that cannot be read is told of and left out.
func (a *app) kept(name string) ([]keptView, error) {
	all := []keptView{}
	entries, err := os.ReadDir(filepath.Join(a.out, name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	latest, _ := artifact.Open(a.out, name, "latest")
	current, _ := artifact.Open(a.out, name, "current")
	for _, entry := range entries {
		if !isGeneration(entry.Name()) {
			continue
		}
		g, err := artifact.Open(a.out, name, entry.Name())
		var plan verify.Plan
		if err == nil {
			plan, err = readPlan(g)
		}
		if err != nil {
			a.say("%s: generation %s does not count: %v", name, entry.Name(), err)
			continue
		}
		all = append(all, keptView{entry.Name(), g.Dir == latest.Dir, g.Dir == current.Dir, plan.Attest, lastReport(g)})
	}
	rank := func(g keptView) int {
		return map[bool]int{true: 0, false: 2}[g.IsLatest] + map[bool]int{true: 0, false: 1}[g.IsCurrent]
	}
	slices.SortStableFunc(all, func(x, y keptView) int { return rank(x) - rank(y) })
	return all, nil
}

// lastReport is what bake verify said last of a generation.
func lastReport(g artifact.Generation) string {
	report, err := readReport(g)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "not verified yet"
	case err != nil:
		return "its report cannot be read"
	case report.Err() != nil:
		return fmt.Sprintf("%d of %d claims failed", report.Failed, len(report.Results))
	}
	return fmt.Sprintf("%d claims held", len(report.Results))
}

// quiet is how long a boot may be silent before that is worth a word.
const quiet = 2 * time.Minute

// lines are what people are shown.
func (v statusView) lines() []string {
	lines := []string{fmt.Sprintf("%s: %s", v.Host, v)}
	add := func(key, format string, args ...any) {
		lines = append(lines, fmt.Sprintf("    %-11s ", key)+fmt.Sprintf(format, args...))
	}
	for _, text := range v.Failures {
		add("failed", "%s", text)
	}
	for _, text := range v.Said {
		add("said", "%s", text)
	}
	if v.End != "" && v.End != v.Reason {
		add("ended", "%s", v.End)
	}
	if d := v.Domain; d != nil {
		add("domain", "%s", d)
		for _, address := range d.Addresses {
			add("address", "%s", address)
		}
		if guest := d.guest(); guest != "" {
			add("guest", "%s", guest)
		}
		for _, x := range d.Drift {
			add("drift", "%s", drifted(x))
		}
		for _, x := range d.Edited {
			add("edited", "%s", edited(x))
		}
	}
	switch {
	case v.Plan == "":
	case v.Generation != "":
		add("claims", "those of generation %s", v.Generation)
	case v.IsHostFile:
		add("claims", "those of the host file as it is, and of no generation here")
	default:
		add("claims", "those of nothing that is kept here, %s: its host keys are not kept", v.Plan)
	}
	if v.Base != nil {
		add("base", "%s", v.Base)
	}
	if v.Reboot != nil {
		add("reboot", "%s", v.Reboot)
	}
	for _, g := range v.Generations {
		if g.IsLatest {
			add("latest", "%s, %s", g.Name, g.Verified)
		}
		if g.IsCurrent {
			add("current", "%s, %s", g.Name, g.Verified)
		}
	}
	if !v.Grew.IsZero() {
		add("console", "%s, %d KiB, grew %s ago", v.Console, (v.Bytes+1023)/1024, ago(time.Since(v.Grew)))
	}
	if v.Boots > 1 {
		add("boot", "number %d in this log", v.Boots)
	}
	if v.isQuiet > quiet && v.Domain == nil {
		add("silent", "for %s: so is one that hangs, is paused or was destroyed; virsh domstate %s tells", ago(v.isQuiet), v.Host)
	}
	for _, key := range v.Keys {
		add("host key", "%s (%s)", key.SHA256, key.Type)
	}
	if v.State == status.Attested && len(v.Keys) == 0 {
		add("host key", "none can be read on the console")
	}
	if v.Known != "" {
		add("known_hosts", "%s", v.Known)
	}
	return lines
}

// String is what libvirt says, without the host.
func (d *domainView) String() string {
	if d.Generation == "" {
		return "none on " + d.Hypervisor
	}
	text := d.State + " on " + d.Hypervisor + ", generation " + d.Generation
	if d.Trying {
		text += ", which has yet to attest"
	}
	if d.Previous != "" {
		text += "; before it was " + d.Previous
	}
	return text
}

// ago is a duration as people say it.
func ago(d time.Duration) string {
	if d >= 2*time.Hour {
		return age(d)
	}
	return max(d, 0).Round(time.Second).String()
}

func (a *app) printStatus(v statusView) error {
	if a.json {
		return a.printJSON(v)
	}
	return a.printLines(v.lines())
}
