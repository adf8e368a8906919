package notify

import (
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"bake/internal/nightly"
)

// The jobs of which there is something to be told.
const (
	Nightly = "nightly"
	Backup  = "backup"
)

// A Message is what a job came to.
type Message struct {
	Job          string // Nightly or Backup
	Summary      string // a line
	Table        string // lines, "" for the summary alone
	Failed       []string
	Exit         int
	Changed      bool // for whoever wants to hear of changes
	Began, Ended time.Time
	Content      any           // as JSON has it
	Metrics      func() string // in the text format
}

// message is a night as one.
func (s *Sender) message(n nightly.Night) Message {
	m := Message{Job: Nightly, Summary: n.String(), Exit: n.Exit, Changed: len(n.Promoted()) > 0, Began: n.Began, Ended: n.Ended, Content: n,
		Metrics: func() string { return exposition(append(s.history(), n)) }}
	for _, o := range n.Hosts {
		if !o.IsGood() {
			m.Failed = append(m.Failed, o.Host)
		}
	}
	if s.Table != nil {
		m.Table = s.Table(n)
	}
	return m
}

// isRed says whether somebody should look.
func (m Message) isRed() bool { return m.Exit != 0 || len(m.Failed) > 0 }

// words are what a body can refer to.
func (m Message) words() map[string]string {
	words := map[string]string{"summary": "bake " + m.Job + ": " + m.Summary, "verdict": "green", "exit": strconv.Itoa(m.Exit),
		"failed": strings.Join(m.Failed, ", "), "began": m.Began.UTC().Format(time.RFC3339), "ended": m.Ended.UTC().Format(time.RFC3339), "table": m.Table}
	if m.isRed() {
		words["verdict"] = "red"
	}
	if m.Table == "" {
		words["table"] = words["summary"] + "\n"
	}
	return words
}

// file is where the metrics of a job go: each has a file of its own, as each writes it
// whole. bake.prom has a bake-backup.prom beside it.
func (m Message) file(path string) string {
	if m.Job == Nightly {
		return path
	}
	end := filepath.Ext(path)
	return strings.TrimSuffix(path, end) + "-" + m.Job + end
}
