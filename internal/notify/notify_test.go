package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/quotedprintable"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bake/internal/diag"
	"bake/internal/nightly"
	"bake/internal/tool"
)

var (
	began = time.Date(2026, 11, 28, 3, 0, 0, 0, time.UTC)
	green = nightly.Night{Number: 7, Began: began, Ended: began.Add(time.Hour), Hosts: []nightly.Outcome{
		{Host: "zap", Verdict: nightly.Promoted, Claims: 24, Seconds: 80.5, Base: nightly.Base{Reference: "ubuntu:24.04", Signed: began.Add(-24 * time.Hour)}},
		{Host: "zip", Verdict: nightly.Unchanged, Seconds: 0.1}}}
	red = nightly.Night{Number: 8, Began: began, Ended: began.Add(time.Hour), Exit: 7, Hosts: []nightly.Outcome{
		{Host: "zap", Verdict: nightly.Failed, Claims: 24, Failed: 2, Stage: "verify", Reason: "ufw: \"closed\"\r\nX-Evil: 1", Exit: 7},
		{Host: "zip", Verdict: nightly.Unchanged}}}
	quiet = nightly.Night{Began: began, Ended: began, Hosts: []nightly.Outcome{{Host: "zap", Verdict: nightly.Unchanged}}}
)

// service is a server that notes what it is sent.
type service struct {
	*httptest.Server
	status int
	got    []string // "METHOD path: body"
	kind   string
}

func newService(t *testing.T) *service {
	s := &service{status: 200}
	s.Server = httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
		body, _ := io.ReadAll(in.Body)
		s.got, s.kind = append(s.got, in.Method+" "+in.URL.RequestURI()+": "+string(body)), in.Header.Get("Content-Type")
		if s.status == 302 {
			out.Header().Set("Location", "/elsewhere")
		}
		out.WriteHeader(s.status)
	}))
	t.Cleanup(s.Close)
	return s
}

// sender reads a configuration; the file "url" has what URL is.
func sender(t *testing.T, config, url string) (*Sender, error) {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{FileName: config, "url": url} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := Read(dir)
	s := &Sender{Config: c, Dir: dir, Patience: 2 * time.Second,
		Getenv: func(name string) string { return map[string]string{"HOOK": url, "PATH": os.Getenv("PATH")}[name] },
		Table:  func(n nightly.Night) string { return "TABLE of " + n.String() + "\n" }}
	s.Tools = tool.Box{Getenv: s.Getenv}
	if err == nil {
		err = s.Prepare(t.Context())
	}
	return s, err
}

func mustSender(t *testing.T, config, url string) *Sender {
	t.Helper()
	s, err := sender(t, config, url)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestReadNothing(t *testing.T) {
	c, err := Read(t.TempDir())
	if err != nil || c.Keep != 0 || c.targets != nil {
		t.Errorf("%+v, %v", c, err)
	}
	if err := (&Sender{Config: c}).Send(t.Context(), red); err != nil {
		t.Error(err)
	}
	s := mustSender(t, "keep: 5\njobs: 2\nboots: 1\ndeadline: 45m\ndeploy: never\nnotify: []\n", "")
	if s.Keep != 5 || s.Jobs != 2 || s.Boots != 1 || s.Deadline != 45*time.Minute {
		t.Errorf("%+v", s.Config)
	}
}

func TestWebhook(t *testing.T) {
	web := newService(t)
	s := mustSender(t, "notify:\n  - webhook: {url: {file: url}}\n", web.URL+"/hook?key=k\n")
	if err := errors.Join(s.Start(t.Context(), Nightly), s.Send(t.Context(), red)); err != nil {
		t.Fatal(err)
	}
	if len(web.got) != 1 || !strings.HasPrefix(web.got[0], "POST /hook?key=k: {") || web.kind != "application/json" {
		t.Fatalf("%q, %s", web.got, web.kind)
	}
	_, body, _ := strings.Cut(web.got[0], ": ")
	var n nightly.Night
	if err := json.Unmarshal([]byte(body), &n); err != nil || n.Number != 8 || n.Hosts[0].Failed != 2 {
		t.Errorf("%v, %s", err, body)
	}
}

func TestWebhookBody(t *testing.T) {
	web := newService(t)
	s := mustSender(t, `notify:
  - webhook:
      url: {env: HOOK}
      body:
        text: "*((verdict))* ((summary)) (exit (( exit )))"
        "((verdict))": ["((failed))", "((table))", 1, 2.5, true, null]
`, web.URL)
	if err := s.Send(t.Context(), red); err != nil {
		t.Fatal(err)
	}
	want := `{"((verdict))":["zap","TABLE of 1 failed (zap), 1 unchanged\n",1,2.5,true,null],"text":"*red* bake nightly: 1 failed (zap), 1 unchanged (exit 7)"}`
	if len(web.got) != 1 || web.got[0] != "POST /: "+want {
		t.Errorf("%q", web.got)
	}
	// What a machine says stays text.
	s.Table = func(nightly.Night) string { return `"}],"x":"((exit))` }
	if err := s.Send(t.Context(), green); err != nil || !strings.Contains(web.got[1], `"\"}],\"x\":\"((exit))"`) {
		t.Errorf("%v, %q", err, web.got[1])
	}
}

func TestPing(t *testing.T) {
	web := newService(t)
	s := mustSender(t, "notify: [{ping: {url: {file: url}}}]\n", web.URL+"/abc/")
	err := errors.Join(s.Start(t.Context(), Nightly), s.Send(t.Context(), green), s.Start(t.Context(), Nightly), s.Send(t.Context(), red))
	want := "POST /abc/start: |POST /abc/: TABLE of 1 promoted, 1 unchanged\n|POST /abc/start: |POST /abc/fail: TABLE of 1 failed (zap), 1 unchanged\n"
	if got := strings.Join(web.got, "|"); err != nil || got != want {
		t.Errorf("%v\n%q\n%q", err, got, want)
	}
}

func TestWhen(t *testing.T) {
	for when, want := range map[string][3]int{"always": {1, 1, 1}, "change": {0, 1, 1}, "failure": {0, 0, 1}} {
		for i, n := range []nightly.Night{quiet, green, red} {
			web := newService(t)
			s := mustSender(t, "notify: [{webhook: {when: "+when+", url: {file: url}}}]\n", web.URL)
			if err := s.Send(t.Context(), n); err != nil || len(web.got) != want[i] {
				t.Errorf("%s, night %d: sent %d times, %v", when, i, len(web.got), err)
			}
		}
	}
	other := quiet
	other.Exit = 4 // of the night as a whole
	if red := func(n nightly.Night) bool { return (&Sender{}).message(n).isRed() }; !red(other) || red(quiet) || red(green) {
		t.Error("what is red?")
	}
}

// A server that never stops talking is hung up on.
func TestEndlessAnswer(t *testing.T) {
	for name, answer := range map[string]func(http.ResponseWriter){
		"body": func(out http.ResponseWriter) {
			for err := error(nil); err == nil; {
				_, err = out.Write(make([]byte, 64<<10))
			}
		},
		"headers": func(out http.ResponseWriter) {
			for i := range 2000 {
				out.Header().Set(fmt.Sprint("X-", i), strings.Repeat("x", 10<<10))
			}
		},
	} {
		web := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) { answer(out) }))
		s := mustSender(t, "notify: [{webhook: {url: {file: url}}}]\n", web.URL)
		s.Patience = time.Minute
		if err := s.Send(t.Context(), red); (err != nil) != (name == "headers") || err != nil && strings.Contains(err.Error(), "no answer within") {
			t.Errorf("%s: error %v", name, err)
		}
		web.Close()
	}
}

// No error says where to, and one that fails does not keep the others from being told.
func TestUnheard(t *testing.T) {
	web, good := newService(t), newService(t)
	closed := httptest.NewServer(nil)
	closed.Close()
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, in *http.Request) {
		_, _ = io.Copy(io.Discard, in.Body)
		<-in.Context().Done()
	}))
	defer slow.Close()
	const secret = "/s3cr3t-t0ken?k=v3rys3cr3t"
	for name, test := range map[string]struct {
		url    string
		status int
		want   string
	}{
		"not found":    {web.URL, 404, "the server answers 404 Not Found"},
		"overloaded":   {web.URL, 503, "the server answers 503"},
		"a redirect":   {web.URL, 302, "the server answers 302"},
		"nobody there": {closed.URL, 0, "connection refused"},
		"no answer":    {slow.URL, 0, "no answer within"},
		"no such name": {"http://nobody.invalid", 0, "nobody.invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			web.status, good.got = test.status, nil
			s := mustSender(t, "notify:\n  - ping: {url: {file: url}}\n  - webhook: {url: {command: [echo, "+good.URL+"]}}\n", test.url+secret)
			s.Patience = 1500 * time.Millisecond
			err := s.Send(t.Context(), green)
			var unheard *Error
			if !errors.As(err, &unheard) || !unheard.Network() || !strings.Contains(err.Error(), "notifying notify[0].ping: ") || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
			if strings.Contains(err.Error(), "s3cr3t") {
				t.Errorf("it tells the URL: %v", err)
			}
			if len(good.got) != 1 {
				t.Errorf("the other one was told %d times", len(good.got))
			}
		})
	}
}

func TestEmail(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "sendmail")
	if err := os.WriteFile(program, []byte("#!/bin/sh\nprintf '%s|' \"$@\" > "+dir+"/argv\ncat > "+dir+"/mail\ntest ! -e "+dir+"/full || { echo no room >&2; exit 75; }\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	s := mustSender(t, "notify: [{email: {to: [ops@example.org, night@example.org], from: bake@example.org, sendmail: "+program+"}}]\n", "")
	s.Table = func(nightly.Night) string { return "Übersicht\n.\nFrom x\n" + red.Hosts[0].Reason }
	if err := s.Send(t.Context(), red); err != nil {
		t.Fatal(err)
	}
	argv, _ := os.ReadFile(filepath.Join(dir, "argv"))
	if string(argv) != "-i|-f|bake@example.org|--|ops@example.org|night@example.org|" {
		t.Errorf("argv %q", argv)
	}
	file, err := os.Open(filepath.Join(dir, "mail"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	m, err := mail.ReadMessage(file)
	if err != nil {
		t.Fatal(err)
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
	if err != nil || subject != "bake nightly: 1 failed (zap), 1 unchanged" || m.Header.Get("X-Evil") != "" || m.Header.Get("To") != "ops@example.org, night@example.org" {
		t.Errorf("%v, %+v", err, m.Header)
	}
	if when, err := m.Header.Date(); err != nil || !when.Equal(red.Ended) {
		t.Errorf("%v, %v", when, err)
	}
	body, err := io.ReadAll(quotedprintable.NewReader(m.Body))
	if err != nil || !strings.HasPrefix(strings.ReplaceAll(string(body), "\r\n", "\n"), "Übersicht\n.\nFrom x\n") {
		t.Errorf("%v, %q", err, body)
	}
	if err := os.WriteFile(filepath.Join(dir, "full"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Send(t.Context(), red); err == nil || !strings.Contains(err.Error(), "no room") {
		t.Errorf("error %v", err)
	}
	if err := os.Remove(program); err != nil {
		t.Fatal(err)
	}
	if err := s.Send(t.Context(), red); err == nil || !strings.Contains(err.Error(), "is not installed") {
		t.Errorf("error %v", err)
	}
}

func TestMetrics(t *testing.T) {
	s := mustSender(t, "notify: [{textfile: {path: bake.prom}}]\n", "")
	path := filepath.Join(s.Dir, "bake.prom")
	s.History = func() []nightly.Night { return []nightly.Night{green} }
	if err := s.Send(t.Context(), red); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"bake_nightly_last_exit_status 7\n", `bake_nightly_host_ok{host="zap"} 0`, `bake_nightly_host_ok{host="zip"} 1`,
		`bake_nightly_host_claims_failed{host="zap"} 2`, fmt.Sprintf("bake_nightly_host_last_good_timestamp_seconds{host=\"zap\"} %d\n", green.Ended.Unix()),
		"bake_nightly_last_duration_seconds 3600\n", "# TYPE bake_nightly_host_ok gauge\n",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("it lacks %q:\n%s", want, text)
		}
	}
	if err := s.Send(t.Context(), green); err != nil {
		t.Fatal(err)
	}
	text, _ = os.ReadFile(path)
	if want := `bake_nightly_host_base_age_seconds{host="zap"} 90000`; !strings.Contains(string(text), want) || strings.Contains(string(text), `base_age_seconds{host="zip"}`) {
		t.Errorf("it lacks %q:\n%s", want, text)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		if fields := strings.Fields(line); !strings.HasPrefix(line, "#") && len(fields) != 2 {
			t.Errorf("line %q", line)
		}
	}
	if label("a\"\\\n") != `a\"\\\n` {
		t.Errorf("%q", label("a\"\\\n"))
	}
	// What is not a file is not replaced, and nothing is left when it fails.
	if err := errors.Join(os.Remove(path), os.Symlink("/etc/passwd", path)); err != nil {
		t.Fatal(err)
	}
	if err := s.Send(t.Context(), green); err == nil || !strings.Contains(err.Error(), "refusing") {
		t.Errorf("error %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(s.Dir, newPrefix+"*")); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
}

// What is wrong with nightly.yaml has a place, and no line with a secret is shown.
func TestRefused(t *testing.T) {
	for config, want := range map[string]string{
		"[":                                      "not valid YAML",
		"- 1\n":                                  "want a map",
		"kepp: 3\n":                              `did you mean "keep"`,
		"keep: 0\n":                              "want a whole number from 1",
		"deadline: 45\n":                         "no time such as 45m",
		"deadline: 59s\n":                        "no time such as 45m",
		"deadline: 25h\n":                        "no time such as 45m",
		"keep: 1000000000000000\n":               "want a whole number from 1",
		"jobs: two\n":                            "want a whole number from 1",
		"boots: 1.5\n":                           "want a whole number from 1",
		"deploy: always\n":                       "neither never nor a list of hosts",
		"deploy: [zap, 7]\n":                     "this is",
		"deploy: {zap: {a: b}}\n":                "want always, never or windows",
		"deploy: {zap: []}\n":                    "want always, never or windows",
		"deploy: {zap: Sam 02:00-05:00}\n":       "is no day",
		"deploy: {zap: [always, 02:00-03:00]}\n": "always stands alone",
		"notify: {webhook: {}}\n":                "want a list",
		"notify: [webhook]\n":                    "want a map",
		"notify: [{webhok: {}}]\n":               `did you mean "webhook"`,
		"notify: [{}]\n":                         "want one of webhook",
		"notify: [{webhook: {}}]\n":              `the key "url" is missing`,
		"notify: [{webhook: https://h/T0KEN}]\n": "want a map",
		"notify: [{webhook: {url: https://h/T0KEN}}]\n":                           "notify[0].webhook.url: a secret is never written here",
		"notify: [{webhook: {ulr: https://h/T0KEN}}]\n":                           `did you mean "url"`,
		"notify: [{ping: {url: [https://h/T0KEN]}}]\n":                            "a secret is never written here",
		"notify: [{ping: {url: {fil: x}}}]\n":                                     `did you mean "file"`,
		"notify: [{ping: {url: {file: x, env: y}}}]\n":                            "want exactly one of",
		"notify: [{ping: {url: {file: absent}}}]\n":                               "no such file",
		"notify: [{ping: {url: {env: ABSENT}}}]\n":                                "ABSENT is not set",
		"notify: [{ping: {url: {file: url}, when: failure}}]\n":                   `unknown key "when"`,
		"notify: [{ping: {url: {file: url}}}]\n":                                  "not one http or https URL", // it is file:///etc/T0KEN
		"notify: [{webhook: {url: {file: url}, when: fail}}]\n":                   "want always, change or failure",
		"notify: [{webhook: {url: {file: url}, body: {x: [\"((sumary))\"]}}}]\n":  `did you mean "summary"`,
		"notify: [{email: {to: ops@example.org, from: a@b.org}}]\n":               "want a list of addresses",
		"notify: [{email: {to: [\"a@b.org, c@d.org\"], from: a@b.org}}]\n":        "is no address",
		"notify: [{email: {to: [\"-oQ/var@b.org\"], from: a@b.org}}]\n":           "is no address",
		"notify: [{email: {to: [a@b.org], from: \"Night <a@b.org>\"}}]\n":         "is no address",
		"notify: [{email: {to: [a@b.org], from: \"a@b.org\\nBcc: x@y.org\"}}]\n":  "control characters",
		"notify: [{email: {to: [a@b.org], from: a@b.org, sendmail: sendmail}}]\n": "absolute path",
		"notify: [{textfile: {}}]\n":                                              `the key "path" is missing`,
		"notify: [{textfile: {path: a}, ping: {url: {file: url}}}]\n":             "want one of",
		"notify:\n" + strings.Repeat("  - textfile: {path: [x]}\n", 3):            "want text",
		"notify: [{textfile: {path: a}}]\nnotify: []\n":                           "notify",
		"notify: &a [{textfile: {path: a}}]\n":                                    "anchor",
	} {
		_, err := sender(t, config, "file:///etc/T0KEN")
		var list diag.List
		if !errors.As(err, &list) || !strings.Contains(list.Error(), want) {
			t.Errorf("%q: %v, want %q", config, err, want)
			continue
		}
		if list[0].Pos.File == "" || strings.Contains(list.Error(), "T0KEN") {
			t.Errorf("%q: %v", config, list)
		}
	}
}

// A vault that does not answer is one notification's trouble.
func TestNoVault(t *testing.T) {
	web := newService(t)
	s := mustSender(t, "notify:\n  - ping: {url: {command: [sh, -c, \"echo locked >&2; exit 3\"]}}\n  - webhook: {url: {file: url}}\n", web.URL)
	err := s.Send(t.Context(), green)
	if err == nil || !strings.Contains(err.Error(), "notifying notify[0].ping") || !strings.Contains(err.Error(), "locked") || len(web.got) != 1 {
		t.Errorf("error %v, told %q", err, web.got)
	}
}

// A night that was told to stop tells nobody any more.
func TestStopped(t *testing.T) {
	web := newService(t)
	s := mustSender(t, "notify: [{ping: {url: {file: url}}}]\n", web.URL)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Send(ctx, green); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// Whatever stands there, reading it ends in a configuration or in problems with places,
// and no URL is shown.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{"keep: 3\n", "notify: [{ping: {url: {file: x}}}]\n", "notify:\n  - webhook: {url: https://h/T0KEN, body: {a: [\"((summary))\"]}}\n",
		"notify: [{email: {to: [a@b.org], from: c@d.org}}, {textfile: {path: x}}]\n", "deploy: never\njobs: 2\n",
		"deploy: {zap: always, zip: \"Sat,Sun 02:00-05:00\", web: [Mon..Fri 22:00-01:00, Sun 03:00-06:00], off: never}\n"} {
		f.Add(seed)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(filepath.Join(dir, FileName), []byte(text), 0o600); err != nil {
			t.Skip()
		}
		c, err := Read(dir)
		var list diag.List
		if err != nil && (!errors.As(err, &list) || len(list) == 0) {
			t.Fatalf("%v", err)
		}
		for _, p := range list {
			if p.Pos.File == "" || strings.HasPrefix(p.Path, "notify") && !p.Secret {
				t.Fatalf("%+v", p)
			}
		}
		if err == nil && (c.Keep < 0 || c.Keep > 1000 || c.Jobs > 1000 || c.Boots > 1000) {
			t.Fatalf("%+v", c)
		}
	})
}

// A night about one host, or about none, does not hide what is known of the others, and the
// age of a base is that of the one that a host is on, however long nothing newer can be had.
func TestMetricsOfOthers(t *testing.T) {
	first := green
	first.Hosts = []nightly.Outcome{
		{Host: "zap", Verdict: nightly.Promoted, Base: nightly.Base{Signed: began.Add(-24 * time.Hour)}},
		{Host: "zip", Verdict: nightly.Undeployed, Generation: "b", Current: "b", Base: nightly.Base{Signed: began.Add(-48 * time.Hour)}},
		{Host: "new", Verdict: nightly.Failed, Generation: "c", Failed: 3, Base: nightly.Base{Signed: began}}}
	newer := red
	newer.Hosts = []nightly.Outcome{{Host: "zap", Verdict: nightly.Failed, Failed: 2, Generation: "d", Current: "a", Base: nightly.Base{Signed: began}}}
	down := red
	down.Ended, down.Hosts = began.AddDate(0, 0, 10), []nightly.Outcome{{Host: "zap", Verdict: nightly.CouldNot}}
	unbegun := nightly.Unbegun(began.AddDate(0, 0, 20), 4, "no room")
	for name, test := range map[string]struct {
		nights []nightly.Night
		want   []string
	}{
		"all":        {[]nightly.Night{first}, []string{`ok{host="zap"} 1`, `ok{host="zip"} 0`, `claims_failed{host="new"} 3`, `base_age_seconds{host="zap"} 90000`, `base_age_seconds{host="zip"} 176400`}},
		"one is red": {[]nightly.Night{first, newer}, []string{`ok{host="zap"} 0`, `ok{host="zip"} 0`, `claims_failed{host="zap"} 2`, `base_age_seconds{host="zap"} 90000`}},
		"ten days without a mirror": {[]nightly.Night{first, newer, down}, []string{`base_age_seconds{host="zap"} 950400`,
			fmt.Sprintf(`_newest_base_signed_timestamp_seconds{host="zap"} %d`, began.Unix()), fmt.Sprintf(`last_good_timestamp_seconds{host="zap"} %d`, first.Ended.Unix())}},
		"it did not begin": {[]nightly.Night{first, unbegun}, []string{"last_exit_status 4", `ok{host="zap"} 1`, `base_age_seconds{host="zap"} 1814400`}},
		"never good":       {[]nightly.Night{first}, []string{`last_good_timestamp_seconds{host="new"} 0`}},
	} {
		text := exposition(test.nights)
		for _, want := range test.want {
			if !strings.Contains(text, want+"\n") {
				t.Errorf("%s: it lacks %q:\n%s", name, want, text)
			}
		}
		if strings.Contains(text, `_host_base_age_seconds{host="new"}`) {
			t.Errorf("%s: a host that was never proven is on a base", name)
		}
	}
	if got := label("\xffa"); got != "\ufffda" {
		t.Errorf("%q", got)
	}
}

// A command that never gives its secret holds up no night.
func TestSlowVault(t *testing.T) {
	web := newService(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, FileName), []byte("notify:\n  - ping: {url: {command: [sleep, \"1000\"]}}\n  - webhook: {url: {command: [echo, "+web.URL+"]}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Read(dir)
	s := &Sender{Config: c, Dir: dir, Patience: 300 * time.Millisecond, Getenv: os.Getenv, Tools: tool.Box{Getenv: os.Getenv}}
	if err = errors.Join(err, s.Prepare(t.Context())); err != nil {
		t.Fatal(err)
	}
	s.Patience = 5 * time.Second
	err = s.Send(t.Context(), green)
	var unheard *Error
	if !errors.As(err, &unheard) || unheard.At != "notify[0].ping" || len(web.got) != 1 {
		t.Errorf("error %v, told %q", err, web.got)
	}
}
