package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"bake/internal/artifact"
	"bake/internal/nightly"
	"bake/internal/report"
	"bake/internal/verify"
)

// told is a report and what else is known here of its generation. What cannot be found
// is not on the page: a report must not fail for it.
func (a *app) told(g artifact.Generation, r verify.Report) report.Subject {
	s := report.Subject{Report: r, Manifest: g.Manifest}
	s.Plan, _ = readPlan(g)
	s.SBOM, _ = os.ReadFile(g.Path(sbomName))
	if by, err := a.vouched(g); err == nil {
		s.Signer = by.ID
	}
	if before, ok := g.Before(a.isProven); ok {
		s.Before, s.Changes = before.Manifest.Generation, before.Manifest.Differences(g.Manifest)
	}
	if dir, err := a.nightDir(); err == nil {
		s.Nights, _ = nightly.Journal{Dir: dir}.Nights(keptNights)
	}
	return s
}

// lastSubject is about the last report of a host's generation, or of its machine at work.
func (a *app) lastSubject(name, which string, live bool) (report.Subject, error) {
	var r verify.Report
	if live {
		data, err := os.ReadFile(filepath.Join(a.out, name, liveReport))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return report.Subject{}, fmt.Errorf("the machine at work of %s was not tried yet: bake verify --host %s (%w)", name, name, fs.ErrNotExist)
		case err == nil:
			err = json.Unmarshal(data, &r)
		}
		if err != nil {
			return report.Subject{}, fmt.Errorf("reading what was found out about the machine at work of %s: %w", name, err)
		}
		which = r.Generation
	}
	g, err := artifact.Open(a.out, name, which)
	if err != nil || live {
		return a.told(g, r), err
	}
	data, err := g.ReadReport("report.json")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return report.Subject{}, fmt.Errorf("generation %s of %s was not verified yet: bake verify --boot --host %s --generation %s (%w)",
			g.Manifest.Generation, name, name, g.Manifest.Generation, fs.ErrNotExist)
	case err == nil:
		err = json.Unmarshal(data, &r)
	}
	if err != nil {
		return report.Subject{}, fmt.Errorf("reading %s: %w", g.Path("report.json"), err)
	}
	return a.told(g, r), nil
}

// readReport is what the last boot of a generation came to. The error wraps
// fs.ErrNotExist when there was none.
func readReport(g artifact.Generation) (r verify.Report, err error) {
	content, err := g.ReadReport("report.json")
	if err == nil {
		err = json.Unmarshal(content, &r)
	}
	if err == nil && r.Generation != g.Manifest.Generation {
		err = fmt.Errorf("%s is of generation %s", g.Path("report.json"), r.Generation)
	}
	return r, err
}

// heldClaims is how many claims of a report held.
func heldClaims(r verify.Report) (n int) {
	for _, result := range r.Results {
		if result.OK {
			n++
		}
	}
	return n
}

// formatReport writes reports in one of reportFormats.
func formatReport(all []report.Subject, format string) ([]byte, error) {
	switch format {
	case "html":
		return all[0].HTML()
	case "junit":
		return report.JUnit(all)
	case "tap":
		return report.TAP(all), nil
	case "prom":
		return report.Metrics(all), nil
	}
	var out bytes.Buffer
	for _, s := range all {
		var err error
		if format == "json" {
			err = encodeJSON(&out, s.Report)
		} else {
			err = s.Report.WriteText(&out)
		}
		if err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}

// writeReports puts a report beside its generation, for people and for programs.
func (a *app) writeReports(g artifact.Generation, r verify.Report) error {
	s := []report.Subject{a.told(g, r)}
	for _, form := range []struct{ name, format string }{{"report.txt", "text"}, {"report.html", "html"}, {"report.xml", "junit"}} {
		content, err := formatReport(s, form.format)
		if err == nil {
			err = g.WriteReport(form.name, content)
		}
		if err != nil {
			return err
		}
	}
	data, err := json.MarshalIndent(r, "", "  ") // last: who finds it finds the others
	if err != nil {
		return err
	}
	return g.WriteReport("report.json", append(data, '\n'))
}

// writeIndex puts a page about all hosts beside the nights.
func (a *app) writeIndex(journal nightly.Journal) error {
	nights := a.pastNights(journal, -1) // and this one
	out, err := filepath.Abs(a.out)
	if err != nil {
		return err
	}
	page, err := report.Index(nights, func(o nightly.Outcome) string {
		for _, which := range []string{o.Generation, "current"} {
			path := filepath.Join(out, o.Host, which, "report.html")
			if _, err := os.Stat(path); which != "" && err == nil {
				link, _ := filepath.Rel(journal.Dir, path) // both are absolute, or there is no link
				return filepath.ToSlash(link)
			}
		}
		return ""
	})
	if err != nil {
		return err
	}
	return journal.WritePage(page)
}

// writeWhole replaces a file in one step. It is for its owner alone, unless others are to
// read it.
func writeWhole(path string, content []byte, isShared bool) (err error) {
	temporary, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(temporary.Name()))
		}
	}()
	_, err = temporary.Write(content)
	if err == nil && isShared {
		err = temporary.Chmod(0o644)
	}
	if err == nil {
		err = temporary.Sync()
	}
	if err = errors.Join(err, temporary.Close()); err != nil {
		return err
	}
	return os.Rename(temporary.Name(), path)
}
