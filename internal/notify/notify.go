// Package notify tells people and programs what a night came to.
//
// Who is told is in nightly.yaml, beside hosts/:
//
//	keep: 3                                   proven generations of each host, beside latest and current
//	jobs: 2                                   hosts that are built at once
//	boots: 1                                  machines that are booted at once
//	deploy: [zap]                             hosts whose machine at work gets what is proven; or never
//	deploy: {zap: always, zip: "Sat,Sun 02:00-05:00", web: [Mon..Fri 22:00-01:00, Sun 03:00-06:00]}
//	notify:
//	  - webhook: {url: {file: secrets/hook}, when: failure, body: {text: "((summary))"}}
//	  - ping: {url: {env: PING_URL}}          URL/start, then URL or URL/fail
//	  - email: {to: [ops@example.org], from: bake@example.org, when: change}
//	  - textfile: {path: /var/lib/node-exporter/bake.prom}
//
// What backups came to is told in the same way, to all but pings: a service that waits
// for a night must not take a backup for one. With job: nightly or job: backup an entry is
// for that alone, a ping, too.
//
// A URL is a secret: whoever has it can speak in your name. So it is referred to as
// secrets of a host file are, by file, env, age or command, relative to nightly.yaml,
// and is never written there. When is always (the default), change (something was
// promoted or is red) or failure.
//
// A webhook is sent the night as JSON, as `bake nightly --json` prints it. With body
// it is sent that, as JSON, and ((word)) in its texts is replaced: summary, table,
// verdict (green or red), failed (the hosts that somebody should look at), exit, began and ended. Texts are
// replaced in the tree and not in what it is written as, so that nothing that a
// machine says can become more than text.
//
// It promises:
//   - Nothing that it is given to keep is in an error: not a URL, not a line that
//     names one, not what a server answers.
//   - No notification holds up another, and none takes longer than Sender.Patience.
//   - The text file is whole at every moment, and readable for others.
//
// It refuses redirects (a secret would travel on), URLs that are not http or https,
// addresses that are more than an address, and keys that nobody knows.
//
// # Decisions
//
// 2026-11: mail goes through the sendmail interface, which every mail system has,
// instead of speaking SMTP: who may send and how is configured there already.
//
// 2026-11: metrics are a text file for node_exporter and nothing that listens: bake
// does not run when it is asked.
//
// 2026-11: what a body can say is a list of words, not a language: the night as JSON
// is there for whoever needs more. Would change if a service wanted a list of hosts.
package notify

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"bake/internal/diag"
	"bake/internal/nightly"
	"bake/internal/secret"
	"bake/internal/tool"
)

// A Sender tells what is to be told.
type Sender struct {
	Config
	Dir      string // of nightly.yaml
	Getenv   func(string) string
	Tools    tool.Box
	Patience time.Duration // for one notification; 20 s when 0
	Table    func(nightly.Night) string
	History  func() []nightly.Night // for the text file, the newest last, without this one

	urls   map[string]*url.URL // by target
	broken map[string]error    // those of which no URL could be had
}

// Prepare finds the URLs. It is for the beginning of a night: what is wrong with the
// configuration, a diag.List, is known before anything is done. A command that does not
// give its secret, be it that it takes longer than Patience, is told later, in the place
// of its notification: a night does not depend on a vault.
func (s *Sender) Prepare(ctx context.Context) error {
	s.urls, s.broken = map[string]*url.URL{}, map[string]error{}
	finder := secret.Finder{Dir: s.Dir, Getenv: s.Getenv, Tools: s.Tools}
	var problems diag.List
	for _, t := range s.targets {
		if t.url == nil {
			continue
		}
		limited, stop := context.WithTimeout(ctx, s.patience())
		values, err := finder.Resolve(limited, t.url)
		stop()
		var list diag.List
		switch {
		case errors.As(err, &list):
			problems.Add(list...)
			continue
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			s.broken[t.at] = err
			continue
		}
		u, err := url.Parse(strings.TrimSpace(string(values[0].Reveal())))
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Fragment != "" {
			problems.Add(diag.Problem{Pos: diag.Position{File: filepath.Join(s.Dir, FileName)}, Path: t.at + ".url",
				Message: "what it refers to is not one http or https URL", Secret: true})
			continue
		}
		s.urls[t.at] = u
	}
	return problems.Err()
}

// An Error says which notification failed. It is about a remote service, whatever the
// cause: the night itself is what it is.
type Error struct {
	At  string
	Err error
}

func (e *Error) Error() string { return "notifying " + e.At + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Network marks the error as one of the network or of a remote service.
func (e *Error) Network() bool { return true }

// Start tells that a job begins.
func (s *Sender) Start(ctx context.Context, job string) error { return s.each(ctx, job, nil) }

// Send tells what a night came to. The errors are *Error, joined, one for each
// notification that failed.
func (s *Sender) Send(ctx context.Context, n nightly.Night) error {
	return s.Tell(ctx, s.message(n))
}

// Tell tells what a job came to, as Send does.
func (s *Sender) Tell(ctx context.Context, m Message) error { return s.each(ctx, m.Job, &m) }

// each does one notification after another; m is nil at the beginning.
func (s *Sender) each(ctx context.Context, job string, m *Message) error {
	patience := s.patience()
	var failed error
	for _, t := range s.targets {
		if t.job != "" && t.job != job || m == nil && t.kind != "ping" || m != nil && !t.wants(*m) {
			continue
		}
		if t.url != nil && s.urls[t.at] == nil && s.broken[t.at] == nil {
			continue // Prepare has said what is wrong with it
		}
		limited, stop := context.WithTimeout(ctx, patience)
		err := s.broken[t.at]
		if err == nil {
			err = s.one(limited, t, m)
		}
		if err != nil && limited.Err() != nil && ctx.Err() == nil {
			err = fmt.Errorf("no answer within %v", patience)
		}
		stop()
		if err != nil {
			failed = errors.Join(failed, &Error{t.at, err})
		}
	}
	return failed
}

func (s *Sender) patience() time.Duration {
	if s.Patience == 0 {
		return 20 * time.Second
	}
	return s.Patience
}

func (t target) wants(m Message) bool {
	switch t.when {
	case "failure":
		return m.isRed()
	case "change":
		return m.isRed() || m.Changed
	}
	return true
}

func (s *Sender) one(ctx context.Context, t target, m *Message) error {
	switch t.kind {
	case "webhook":
		return s.webhook(ctx, t, *m)
	case "ping":
		return s.ping(ctx, t, m)
	case "email":
		return s.email(ctx, t, *m)
	}
	return writeMetrics(m.file(t.path), m.Metrics())
}

func (s *Sender) history() []nightly.Night {
	if s.History == nil {
		return nil
	}
	return s.History()
}
