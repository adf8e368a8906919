package origin

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

const (
	answersDir    = "answers"
	answersSchema = "bake.answers/1"
)

// answers is what the servers said when a reference was resolved last, so that the
// next time they need not say it again. Nothing is believed for being in it: a list
// from here is verified like one that has just come.
type answers struct {
	Schema string            `json:"schema"`
	ByURL  map[string]answer `json:"answers"`

	given   map[string]answer // in this run
	moved   bool              // a file came, or there was none
	settled bool              // what moves has not moved: what does not is not asked for
}

// answer is one file, or that there is none.
type answer struct {
	ETag     string `json:"etag,omitempty"`
	Modified string `json:"modified,omitempty"` // Last-Modified, as the server wrote it
	Content  []byte `json:"content,omitempty"`
	Status   int    `json:"status,omitempty"` // of an absent file
}

// answersFile is where the answers to a question are kept: one file for each
// reference, so that there are never more.
func answersFile(state, base string, ref Ref) string {
	sum := sha256.Sum256([]byte(base + "\n" + ref.String() + "\n" + ref.Arch))
	return filepath.Join(state, answersDir, hex.EncodeToString(sum[:8])+".json")
}

// recallAnswers reads what was kept. What cannot be read was never said.
func recallAnswers(file string) *answers {
	a := &answers{given: map[string]answer{}}
	content, err := os.ReadFile(file)
	if err != nil || json.Unmarshal(content, a) != nil || a.Schema != answersSchema {
		a.ByURL = nil
	}
	return a
}

// keep puts the answers of this run in place of those before. Losing them costs
// some KiB the next time, so it is nobody's problem when they cannot be kept.
func (a *answers) keep(file string) {
	if a.settled || maps.EqualFunc(a.ByURL, a.given, answer.same) {
		return
	}
	content, err := json.Marshal(answers{Schema: answersSchema, ByURL: a.given})
	if err == nil && os.MkdirAll(filepath.Dir(file), 0o700) == nil {
		_ = replace(file, content, 0o600)
	}
}

func (a answer) same(b answer) bool {
	return a.ETag == b.ETag && a.Modified == b.Modified && a.Status == b.Status && bytes.Equal(a.Content, b.Content)
}

// settle is called when all that moves has been asked for. If none of it has moved,
// what was found by way of it last time has not either: builds stay what they are.
func (a *answers) settle() {
	if a != nil {
		a.settled = !a.moved
	}
}

// without returns the answer to a question that need not be asked.
func (a *answers) without(address string) (answer, bool) {
	if a == nil || !a.settled {
		return answer{}, false
	}
	is, ok := a.ByURL[address]
	return is, ok
}

// condition makes a request one for a file that is another than before.
func (a *answers) condition(request *http.Request) {
	if a == nil {
		return
	}
	was := a.ByURL[request.URL.String()]
	switch {
	case was.Status != 0:
	case was.ETag != "":
		request.Header.Set("If-None-Match", was.ETag)
	case was.Modified != "":
		request.Header.Set("If-Modified-Since", was.Modified)
	}
}

// unchanged returns the file that a server says has not changed since.
func (a *answers) unchanged(address string, request *http.Request) ([]byte, bool) {
	if request.Header.Get("If-None-Match") == "" && request.Header.Get("If-Modified-Since") == "" {
		return nil, false // then 304 is no answer
	}
	was := a.ByURL[address]
	a.given[address] = was
	return was.Content, true
}

// note remembers an answer.
func (a *answers) note(address string, header http.Header, content []byte) {
	if a == nil {
		return
	}
	a.moved = true
	a.given[address] = answer{ETag: validator(header.Get("ETag")), Modified: validator(header.Get("Last-Modified")), Content: content}
}

// noteAbsent remembers that there is no such file.
func (a *answers) noteAbsent(address string, status int) {
	if a != nil {
		a.moved = true
		a.given[address] = answer{Status: status}
	}
}

// validator is what will be sent back, unless it is nothing one would send.
func validator(text string) string {
	if len(text) > 256 || strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c > '~' }) {
		return ""
	}
	return text
}
