package backup

import (
	"encoding/xml"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"bake/internal/secret"
)

// bucketOf is the bucket zap of a server that answers for it.
func bucketOf(t *testing.T, s *httptest.Server) *Bucket {
	t.Helper()
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	b, err := newBucket(u, "zap", "bake", "us-east-1", keys{secret.New("key", []byte("k")), secret.New("secret", []byte("s"))})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestTryRules: rules about what expires are tried with those that are there, or with one that
// does nothing and goes again; of a server that answers anything else nobody says that all is
// well. The real one of the other tests has no such rules.
func TestTryRules(t *testing.T) {
	t.Parallel()
	const none = `<Error><Code>NoSuchLifecycleConfiguration</Code></Error>`
	const rules = `<LifecycleConfiguration><Rule><ID>owners</ID><Status>Enabled</Status><Filter><Prefix>x/</Prefix></Filter><Expiration><Days>9</Days></Expiration></Rule></LifecycleConfiguration>`
	for name, test := range map[string]struct {
		read, write int
		has         string
		ok          bool
		asked       string
	}{
		"may not":            {404, 403, none, true, "GET PUT bake-probe"},
		"may":                {404, 200, none, false, "GET PUT bake-probe DELETE"},
		"may, and has rules": {200, 200, rules, false, "GET PUT owners"},
		"may not read":       {403, 200, "<Error><Code>AccessDenied</Code></Error>", false, "GET"},
		"too often":          {404, 429, none, false, ""},
		"nothing there":      {404, 404, none, false, ""},
		"no rules at all":    {501, 501, "<Error><Code>NotImplemented</Code></Error>", true, "GET"},
		"ill":                {404, 500, none, false, ""},
	} {
		var asked []string
		s := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
			if !in.URL.Query().Has("lifecycle") {
				t.Errorf("%s: %s", name, in.URL)
			}
			asked = append(asked, in.Method)
			switch in.Method {
			case http.MethodGet:
				out.WriteHeader(test.read)
				fmt.Fprint(out, test.has)
			case http.MethodPut:
				body := make([]byte, 1<<12)
				n, _ := in.Body.Read(body)
				for _, id := range []string{"bake-probe", "owners"} {
					if strings.Contains(string(body[:n]), "<ID>"+id) {
						asked = append(asked, id)
					}
				}
				out.WriteHeader(test.write)
				if test.write != 200 {
					fmt.Fprint(out, "<Error><Code>AccessDenied</Code></Error>")
				}
			}
		}))
		b := bucketOf(t, s)
		if f := b.tryRules(t.Context()); f.OK != test.ok || test.asked != "" && strings.Join(asked, " ") != test.asked {
			t.Errorf("%s: %+v, asked %q", name, f, asked)
		}
		s.Close()
	}
}

// TestRaiseLock: a lock that is there is made neither shorter nor weaker by one of which only the
// least is said, and nobody is told that it is one of compliance when it is not.
func TestRaiseLock(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		has, want string // mode and days; "" for nothing that is written
		lock      Lock
	}{
		"long enough":             {"GOVERNANCE 90", "", Lock{Days: 30, AtLeast: true}},
		"too short":               {"GOVERNANCE 10", "GOVERNANCE 30", Lock{Days: 30, AtLeast: true}},
		"too weak":                {"GOVERNANCE 90", "COMPLIANCE 90", Lock{Days: 30, AtLeast: true, Compliance: true}},
		"too short and too weak":  {"GOVERNANCE 10", "COMPLIANCE 30", Lock{Days: 30, AtLeast: true, Compliance: true}},
		"too short, and stronger": {"COMPLIANCE 10", "COMPLIANCE 30", Lock{Days: 30, AtLeast: true}},
		"all that is asked for":   {"COMPLIANCE 90", "", Lock{Days: 30, AtLeast: true, Compliance: true}},
		"said in days":            {"GOVERNANCE 90", "GOVERNANCE 30", Lock{Days: 30}},
		"said in days, stronger":  {"COMPLIANCE 90", "COMPLIANCE 30", Lock{Days: 30}},
	} {
		wrote := ""
		s := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
			switch mode, days, _ := strings.Cut(test.has, " "); in.Method {
			case http.MethodGet:
				fmt.Fprintf(out, `<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>%s</Mode><Days>%s</Days></DefaultRetention></Rule></ObjectLockConfiguration>`, mode, days)
			case http.MethodPut:
				var body struct {
					Mode string `xml:"Rule>DefaultRetention>Mode"`
					Days string `xml:"Rule>DefaultRetention>Days"`
				}
				if err := xml.NewDecoder(in.Body).Decode(&body); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				wrote = body.Mode + " " + body.Days
			}
		}))
		b := bucketOf(t, s)
		if made, err := b.Create(t.Context(), test.lock); made || err != nil || wrote != test.want {
			t.Errorf("%s: %q was written, want %q: %v, %v", name, wrote, test.want, made, err)
		}
		s.Close()
	}
}
