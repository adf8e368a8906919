package kube

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// config writes a kubeconfig and returns the options that read it.
func configure(t *testing.T, text string) Options {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Options{Getenv: func(name string) string { return map[string]string{"KUBECONFIG": file}[name] }, Namespace: "lab", Agent: "bake/test"}
}

const whole = `
current-context: a
contexts: [{name: a, context: {cluster: c, user: u}}, {name: "x:y/z", context: {cluster: c, user: nobody}}]
clusters: [{name: c, cluster: {server: %s, certificate-authority-data: %s}}]
users: [{name: u, user: {token: s3cret}}]
`

// apiServer is one with TLS that answers what the test says.
func apiServer(t *testing.T, answer http.HandlerFunc) (*Client, *httptest.Server) {
	t.Helper()
	server := httptest.NewTLSServer(answer)
	t.Cleanup(server.Close)
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	k, err := Open(configure(t, fmt.Sprintf(whole, server.URL, base64.StdEncoding.EncodeToString(authority))))
	if err != nil {
		t.Fatal(err)
	}
	return k, server
}

func status(out http.ResponseWriter, code int, reason, name string) {
	out.WriteHeader(code)
	fmt.Fprintf(out, `{"kind": "Status", "reason": %q, "message": "it said %s", "details": {"name": %q}}`, reason, reason, name)
}

// TestObjects: what is written back is what was read, with its version and every field; who else
// has written is told of.
func TestObjects(t *testing.T) {
	const stored = `{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "namespace": "lab", "resourceVersion": "7", "uid": "u-1", "big": 9007199254740993}, "strange": [1.50, null, {"x": 1e3}]}`
	var put []byte
	k, _ := apiServer(t, func(out http.ResponseWriter, in *http.Request) {
		if in.Header.Get("Authorization") != "Bearer s3cret" || in.Header.Get("User-Agent") != "bake/test" {
			status(out, 401, "Unauthorized", "")
			return
		}
		switch in.Method + " " + in.URL.Path {
		case "GET /api/v1/namespaces/lab/secrets/a":
			_, _ = io.WriteString(out, stored)
		case "PUT /api/v1/namespaces/lab/secrets/a":
			put, _ = io.ReadAll(in.Body)
			if in.URL.Query().Get("fieldValidation") != "Strict" {
				t.Error("what is unknown to the server would be dropped")
			}
			_, _ = out.Write(put)
		case "POST /api/v1/namespaces/lab/secrets", "PUT /api/v1/namespaces/lab/secrets/moved":
			status(out, 409, "AlreadyExists", "a")
		case "DELETE /api/v1/namespaces/lab/secrets/a":
			body, _ := io.ReadAll(in.Body)
			if !bytes.Contains(body, []byte(`"uid":"u-1"`)) {
				t.Errorf("another of that name could be deleted: %s", body)
			}
			_, _ = io.WriteString(out, `{"kind": "Status"}`)
		case "GET /api/v1/namespaces/lab/secrets/kindless":
			status(out, 404, "NotFound", "")
		case "GET /api/v1/namespaces/lab/secrets/forbidden":
			status(out, 403, "Forbidden", "")
		case "GET /api/v1/namespaces/lab/secrets/away":
			http.Redirect(out, in, "https://127.0.0.1:1/", http.StatusTemporaryRedirect)
		case "GET /api/v1/namespaces/lab/secrets/endless":
			for range maxAnswer/1024 + 2 {
				_, _ = out.Write(make([]byte, 1024))
			}
		default:
			status(out, 404, "NotFound", "b")
		}
	})
	ctx := t.Context()
	o, err := k.Get(ctx, "Secret", "a")
	if err != nil {
		t.Fatal(err)
	}
	o.Set("new", "metadata", "labels", "x")
	if _, err := k.Replace(ctx, o); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"resourceVersion":"7"`, `9007199254740993`, `1.50`, `1e3`, `"x":"new"`} {
		if !bytes.Contains(put, []byte(want)) {
			t.Errorf("there is no %s in %s", want, put)
		}
	}
	if err := k.Delete(ctx, o); err != nil {
		t.Error(err)
	}
	if _, err := k.Create(ctx, o); !errors.Is(err, ErrMoved) {
		t.Error(err)
	}
	o.Set("moved", "metadata", "name")
	if _, err := k.Replace(ctx, o); !errors.Is(err, ErrMoved) {
		t.Error(err)
	}
	if _, err := k.Replace(ctx, Object{"kind": "Secret", "metadata": map[string]any{"name": "a"}}); err == nil {
		t.Error("what was never read is written over")
	}
	if _, err := k.Get(ctx, "Secret", "b"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	for name, want := range map[string]string{"kindless": "the server says 404", "forbidden": "must be allowed that", "away": "the server says 307", "endless": "has more than"} {
		_, err := k.Get(ctx, "Secret", name)
		if err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := k.Get(ctx, "Pod", "a"); err == nil {
		t.Error("there is a way to anything")
	}
}

// TestConsole: of the pods of a machine that one which runs.
func TestConsole(t *testing.T) {
	k, _ := apiServer(t, func(out http.ResponseWriter, in *http.Request) {
		switch in.URL.Path {
		case "/api/v1/namespaces/lab/pods":
			if in.URL.Query().Get("labelSelector") != "kubevirt.io/created-by=u-1" {
				_, _ = io.WriteString(out, `{}`)
				return
			}
			_ = json.NewEncoder(out).Encode(map[string]any{"items": []any{
				map[string]any{"metadata": map[string]any{"name": "left", "deletionTimestamp": "x"}, "status": map[string]any{"phase": "Running"}},
				map[string]any{"metadata": map[string]any{"name": "is"}, "status": map[string]any{"phase": "Running"}}}})
		case "/api/v1/namespaces/lab/pods/is/log":
			if in.URL.Query().Get("container") == consoleOf {
				_, _ = io.WriteString(out, "hello")
			}
		default:
			status(out, 404, "NotFound", "x")
		}
	})
	for uid, want := range map[string]string{"u-1": "hello", "u-2": ""} {
		text, err := k.Console(t.Context(), Object{"metadata": map[string]any{"name": "a", "uid": uid}})
		if err != nil || text != want {
			t.Errorf("%q, %v", text, err)
		}
	}
}

// TestOpen: what a kubeconfig must not be.
func TestOpen(t *testing.T) {
	if k, err := Open(configure(t, fmt.Sprintf(whole, "http://127.0.0.1:1", `""`))); err != nil || k.String() != "namespace lab at 127.0.0.1:1" {
		t.Errorf("%v, %v", k, err)
	}
	good := fmt.Sprintf(whole, "https://api.example.org", `""`)
	for words, text := range map[string]string{
		"it has no context":                   "contexts: []",
		"it cannot be read":                   "{",
		"is not https://HOST":                 strings.Replace(good, "https://api.example.org", "ftp://x", 1),
		"does not speak TLS":                  strings.Replace(good, "https", "http", 1),
		"skips to check who the server is":    strings.Replace(good, "server:", "insecure-skip-tls-verify: true, server:", 1),
		"has a proxy-url":                     strings.Replace(good, "server:", "proxy-url: http://x, server:", 1),
		"certificate-authority: illegal":      strings.Replace(good, `""`, `"!"`, 1),
		"has no certificate":                  strings.Replace(good, `""`, `aGVsbG8=`, 1),
		"it has no cluster":                   strings.Replace(good, "cluster: c,", "cluster: d,", 1),
		"it has no user":                      strings.Replace(good, "user: u}", "user: v}", 1),
		"is known by a program or a password": strings.Replace(good, "token: s3cret", "exec: {command: x}", 1),
		"client-certificate and client-key":   strings.Replace(good, "token: s3cret", "client-certificate-data: aGVsbG8=", 1),
		"certificate-authority: open":         strings.Replace(good, `certificate-authority-data: ""`, "certificate-authority: nowhere", 1),
	} {
		_, err := Open(configure(t, text))
		var wrong *ConfigError
		if !errors.As(err, &wrong) || !strings.Contains(err.Error(), words) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: %v", words, err)
		}
	}
	o := configure(t, good)
	if o.Context = "x:y/z"; true {
		if _, err := Open(o); err == nil || !strings.Contains(err.Error(), `no user "nobody"`) {
			t.Error(err)
		}
	}
	o.Getenv = func(name string) string { return map[string]string{"KUBECONFIG": "/a:/b"}[name] }
	if _, err := Open(o); err == nil || !strings.Contains(err.Error(), "several files") {
		t.Error(err)
	}
	o.Getenv = func(name string) string { return map[string]string{"HOME": "/nowhere"}[name] }
	if _, err := Open(o); err == nil || !strings.Contains(err.Error(), "/nowhere/.kube/config: it is not there") {
		t.Error(err)
	}
}

// TestTokenFile: a token in a file is read each time.
func TestTokenFile(t *testing.T) {
	var seen []string
	_, server := apiServer(t, func(out http.ResponseWriter, in *http.Request) {
		seen = append(seen, in.Header.Get("Authorization"))
		status(out, 404, "NotFound", "a")
	})
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	o := configure(t, strings.Replace(fmt.Sprintf(whole, server.URL, base64.StdEncoding.EncodeToString(authority)), "token: s3cret", "tokenFile: token", 1))
	k, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{"one", "two\n"} {
		if err := os.WriteFile(filepath.Join(filepath.Dir(o.Getenv("KUBECONFIG")), "token"), []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := k.Get(t.Context(), "Secret", "a"); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	}
	if fmt.Sprint(seen) != "[Bearer one Bearer two]" {
		t.Errorf("%q", seen)
	}
}

// TestDecode: a stream of YAML becomes what JSON makes of it.
func TestDecode(t *testing.T) {
	all, err := Decode([]byte("kind: A\nmetadata: {name: a, labels: {x: \"1\"}}\nspec: {n: 3, big: 9007199254740993, on: true}\n---\nkind: B\nmetadata:\n  name: b\n"))
	if err != nil || len(all) != 2 || all[0].Get("spec", "n") != json.Number("3") || all[0].Get("spec", "big") != json.Number("9007199254740993") || all[0].Text("metadata", "labels", "x") != "1" || all[1].Name() != "b" {
		t.Errorf("%v, %v", all, err)
	}
	o := all[0].Clone()
	o.Set("2", "metadata", "labels", "x")
	o.Set(nil, "spec", "on")
	if all[0].Text("metadata", "labels", "x") != "1" || o.Get("spec", "on") != nil || Same(o, all[0]) || !Same(all[0], all[0].Clone()) {
		t.Errorf("a copy shares something: %v", all[0])
	}
	for _, text := range []string{"kind: A\n", "[]", "a: {", "metadata: {name: a}\n"} {
		if _, err := Decode([]byte(text)); err == nil {
			t.Errorf("%q is objects", text)
		}
	}
}
