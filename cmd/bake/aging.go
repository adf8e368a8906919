package main

// What becomes of a machine while nobody does anything to it: its base image ages, and what
// it has installed waits for a reboot.

import (
	"cmp"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"bake/internal/artifact"
	"bake/internal/verify"
)

// agingView is the base image of what runs.
type agingView struct {
	Reference string    `json:"reference"`
	Serial    string    `json:"serial,omitempty"` // the publisher's name of the build
	SHA256    string    `json:"sha256"`
	Since     time.Time `json:"since,omitzero"` // the day of the serial, or when it came here
}

func (v agingView) String() string {
	text := v.Reference
	if v.Serial != "" {
		text += ", serial " + v.Serial
	}
	if v.Since.IsZero() {
		return text
	}
	return text + ", " + age(clock().Sub(v.Since)) + " old"
}

// rebootView says whether a machine waits for a reboot, as far as somebody has looked.
type rebootView struct {
	IsDue bool      `json:"due"`
	Seen  time.Time `json:"seen,omitzero"` // by bake verify; zero for its last boot
}

func (v rebootView) String() string {
	text := "none was due"
	if v.IsDue {
		text = "is due: what was installed waits for it"
	}
	if v.Seen.IsZero() {
		return text + ", as of its last boot"
	}
	return text + ", as of bake verify " + ago(clock().Sub(v.Seen)) + " ago"
}

// aging finds out what has become of what runs.
func (a *app) aging(name string, view *statusView) error {
	which := view.Generation
	if view.Domain != nil {
		which = cmp.Or(view.Domain.Generation, which)
	}
	if which == "" {
		return nil
	}
	view.Reboot = a.reboot(name, which, view.Domain)
	g, err := artifact.Open(a.out, name, which)
	var damaged *artifact.IntegrityError
	if errors.Is(err, fs.ErrNotExist) || errors.As(err, &damaged) { // kept has told of it
		return nil
	}
	if err != nil {
		return err
	}
	base := g.Manifest.Base
	view.Base = &agingView{Reference: base.Reference, Serial: base.Serial, SHA256: base.SHA256}
	if view.Base.Since = dayOf(base.Serial); !view.Base.Since.IsZero() {
		return nil
	}
	stock, err := a.depot().Stock(func() (map[string][]string, error) { return nil, nil })
	for _, s := range stock {
		if s.SHA256 == base.SHA256 {
			view.Base.Since = s.Added
		}
	}
	return err
}

// dayOf is the day of a serial, with which publishers begin it; zero for another.
func dayOf(serial string) time.Time {
	day, err := time.Parse("20060102", serial[:min(len(serial), 8)])
	if err != nil {
		return time.Time{}
	}
	return day
}

// reboot is what was seen last, nil if nobody has looked.
func (a *app) reboot(name, generation string, d *domainView) *rebootView {
	var live verify.Report
	data, err := os.ReadFile(filepath.Join(a.out, name, liveReport))
	if err == nil && json.Unmarshal(data, &live) == nil && live.Generation == generation && live.Guest.OS != "" {
		return &rebootView{live.Guest.RebootDue, live.Began.UTC()}
	}
	var boot struct {
		Guest struct {
			OS        string
			RebootDue bool `json:"reboot_due"`
		}
	}
	if d == nil || json.Unmarshal(d.Report, &boot) != nil || boot.Guest.OS == "" {
		return nil
	}
	return &rebootView{IsDue: boot.Guest.RebootDue}
}
