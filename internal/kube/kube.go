// Package kube asks a Kubernetes API server for the few things that bake wants of one.
//
// Where it is and who we are there stands in a kubeconfig, as kubectl has it: $KUBECONFIG, else
// ~/.kube/config. Objects are JSON as the server has it, so that what is written back has the
// fields that bake knows nothing of.
//
// It promises:
//   - An object is replaced only if it is still what was read: its resourceVersion goes along,
//     and ErrMoved says that somebody else was quicker.
//   - Names and numbers of an object come back as they were: no number becomes a float.
//   - No token is sent anywhere but to that server: redirects are not followed, and without TLS
//     it speaks to this machine alone.
//   - An answer has a bound.
//
// It refuses a kubeconfig that does without checking who the server is, and one that says who we
// are by a program (exec) or a password: a ServiceAccount's token is what an automaton has.
//
// # Decisions
//
// 2026-11: plain HTTP and not client-go, which is 30 modules and 20 MB of the binary for four
// verbs on eight kinds. Would change if bake had to watch objects rather than ask for a few.
package kube

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

const (
	maxAnswer = 32 << 20 // bytes
	maxConfig = 4 << 20
	// consoleBytes are those of a console that are read, from its end.
	consoleLines = 20000
	consoleOf    = "guest-console-log" // container of a machine's pod
)

// ErrMoved says that an object is not what it was when it was read, or that there is one where
// there was none.
var ErrMoved = errors.New("somebody else has changed it meanwhile")

// kinds are where objects of a kind are: a group and version, and a plural.
var kinds = map[string][2]string{
	"ConfigMap":              {"/api/v1", "configmaps"},
	"Secret":                 {"/api/v1", "secrets"},
	"PersistentVolumeClaim":  {"/api/v1", "persistentvolumeclaims"},
	"NetworkPolicy":          {"/apis/networking.k8s.io/v1", "networkpolicies"},
	"DataVolume":             {"/apis/cdi.kubevirt.io/v1beta1", "datavolumes"},
	"VirtualMachine":         {"/apis/kubevirt.io/v1", "virtualmachines"},
	"VirtualMachineInstance": {"/apis/kubevirt.io/v1", "virtualmachineinstances"},
}

// Options say which cluster it is.
type Options struct {
	Getenv    func(string) string
	Context   string // of the kubeconfig, "" for its current one
	Namespace string
	Agent     string // what requests say they come from
}

// A Client speaks to a namespace of one cluster.
type Client struct {
	server    *url.URL
	client    *http.Client
	token     func() (string, error)
	namespace string
	agent     string
}

// A ConfigError says what is wrong with a kubeconfig.
type ConfigError struct{ File, Reason string }

func (e *ConfigError) Error() string { return "kubeconfig " + e.File + ": " + e.Reason }

// Lack marks the error as one of this machine's.
func (e *ConfigError) Lack() bool { return true }

// A StatusError is what a server has said instead of doing it.
type StatusError struct {
	Server  string
	What    string // what it would not do
	Code    int
	Message string
}

func (e *StatusError) Error() string {
	text := fmt.Sprintf("%s: could not %s: the server says %d: %s", e.Server, e.What, e.Code, e.Message)
	if e.Lack() {
		text += ": the kubeconfig names who must be allowed that"
	}
	return text
}

// Network says whether the server could not, rather than would not.
func (e *StatusError) Network() bool { return !e.Lack() }

// Lack says whether we are not allowed to.
func (e *StatusError) Lack() bool {
	return e.Code == http.StatusUnauthorized || e.Code == http.StatusForbidden
}

// A connectError says that a server could not be reached.
type connectError struct {
	server string
	err    error
}

func (e *connectError) Error() string { return e.server + ": " + e.err.Error() }
func (e *connectError) Unwrap() error { return e.err }
func (e *connectError) Network() bool { return true }

// config is as much of a kubeconfig as is read.
type config struct {
	Current  string `yaml:"current-context"`
	Contexts []struct {
		Name    string
		Context struct{ Cluster, User string }
	}
	Clusters []struct {
		Name    string
		Cluster struct {
			Server   string
			CA       string `yaml:"certificate-authority"`
			CAData   string `yaml:"certificate-authority-data"`
			Name     string `yaml:"tls-server-name"`
			Insecure bool   `yaml:"insecure-skip-tls-verify"`
			Proxy    string `yaml:"proxy-url"`
		}
	}
	Users []struct {
		Name string
		User identity
	}
}

type identity struct {
	Token     string
	TokenFile string         `yaml:"tokenFile"`
	Cert      string         `yaml:"client-certificate"`
	CertData  string         `yaml:"client-certificate-data"`
	Key       string         `yaml:"client-key"`
	KeyData   string         `yaml:"client-key-data"`
	Username  string         `yaml:"username"`
	Exec      map[string]any `yaml:"exec"`
	Provider  map[string]any `yaml:"auth-provider"`
}

// Open reads the kubeconfig. Nothing is asked of the server yet.
func Open(o Options) (*Client, error) {
	file := o.Getenv("KUBECONFIG")
	if file == "" {
		file = filepath.Join(o.Getenv("HOME"), ".kube", "config")
	}
	wrong := func(format string, args ...any) (*Client, error) {
		return nil, &ConfigError{file, fmt.Sprintf(format, args...)}
	}
	if strings.Contains(file, string(filepath.ListSeparator)) {
		return wrong("KUBECONFIG names several files, want one")
	}
	text, err := readFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return wrong("it is not there: KUBECONFIG names another")
	}
	if err != nil {
		return nil, err
	}
	var c config
	if err := yaml.Unmarshal(text, &c); err != nil {
		return wrong("it cannot be read: %v", err)
	}
	name := o.Context
	if name == "" {
		name = c.Current
	}
	k := &Client{namespace: o.Namespace, agent: o.Agent}
	for _, context := range c.Contexts {
		if context.Name != name {
			continue
		}
		if reason := k.read(filepath.Dir(file), c, context.Context.Cluster, context.Context.User); reason != "" {
			return wrong("%s", reason)
		}
		return k, nil
	}
	return wrong("it has no context %q", name)
}

func readFile(name string) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxConfig+1))
	if err == nil && len(text) > maxConfig {
		err = fmt.Errorf("%s has more than %d bytes", name, maxConfig)
	}
	return text, err
}

// read makes the client of a cluster and a user; reason is why not.
func (k *Client) read(dir string, c config, cluster, user string) (reason string) {
	either := func(data, file string) ([]byte, error) {
		switch {
		case data != "":
			return base64.StdEncoding.DecodeString(data)
		case file == "":
			return nil, nil
		case !filepath.IsAbs(file):
			file = filepath.Join(dir, file)
		}
		return readFile(file)
	}
	security := &tls.Config{MinVersion: tls.VersionTLS12}
	for _, found := range c.Clusters {
		if found.Name != cluster {
			continue
		}
		to := found.Cluster
		server, err := url.Parse(to.Server)
		switch {
		case err != nil || server.Host == "" || server.Scheme != "https" && server.Scheme != "http" || server.User != nil:
			return fmt.Sprintf("the server of cluster %q is not https://HOST", cluster)
		case to.Insecure:
			return fmt.Sprintf("cluster %q skips to check who the server is (insecure-skip-tls-verify): certificate-authority-data says whom to believe", cluster)
		case to.Proxy != "":
			return fmt.Sprintf("cluster %q has a proxy-url, which is not spoken: HTTPS_PROXY is", cluster)
		case server.Scheme == "http" && !isHere(server.Hostname()):
			return fmt.Sprintf("the server of cluster %q does not speak TLS", cluster)
		}
		authority, err := either(to.CAData, to.CA)
		if err != nil {
			return fmt.Sprintf("cluster %q: certificate-authority: %v", cluster, err)
		}
		if authority != nil {
			security.RootCAs = x509.NewCertPool()
			if !security.RootCAs.AppendCertsFromPEM(authority) {
				return fmt.Sprintf("cluster %q: certificate-authority has no certificate", cluster)
			}
		}
		k.server, security.ServerName = server, to.Name
	}
	if k.server == nil {
		return fmt.Sprintf("it has no cluster %q", cluster)
	}
	known := false
	for _, found := range c.Users {
		if found.Name != user {
			continue
		}
		known = true
		is := found.User
		if is.Exec != nil || is.Provider != nil || is.Username != "" {
			return fmt.Sprintf("user %q is known by a program or a password: want a token or a certificate (kubectl create token makes one for a ServiceAccount)", user)
		}
		certificate, err := either(is.CertData, is.Cert)
		key, failed := either(is.KeyData, is.Key)
		if err = errors.Join(err, failed); err == nil && (certificate != nil || key != nil) {
			var pair tls.Certificate
			pair, err = tls.X509KeyPair(certificate, key)
			security.Certificates = []tls.Certificate{pair}
		}
		if err != nil {
			return fmt.Sprintf("user %q: client-certificate and client-key: %v", user, err)
		}
		k.token = func() (string, error) {
			if is.Token != "" || is.TokenFile == "" {
				return is.Token, nil
			}
			text, err := either("", is.TokenFile) // whoever runs us renews it
			return strings.TrimSpace(string(text)), err
		}
	}
	if !known {
		return fmt.Sprintf("it has no user %q", user)
	}
	k.client = &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       time.Minute,
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: security, TLSHandshakeTimeout: 20 * time.Second,
			ForceAttemptHTTP2: true, IdleConnTimeout: 90 * time.Second, MaxIdleConnsPerHost: 4,
			DialContext: (&net.Dialer{Timeout: 20 * time.Second}).DialContext}}
	return ""
}

// isHere says whether a host is this machine.
func isHere(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// String names the namespace and its cluster, for people.
func (k *Client) String() string { return "namespace " + k.namespace + " at " + k.server.Host }

func (k *Client) path(kind, name string) (string, error) {
	at, ok := kinds[kind]
	if !ok {
		return "", fmt.Errorf("there is no way to a %q", kind)
	}
	path := at[0] + "/namespaces/" + url.PathEscape(k.namespace) + "/" + at[1]
	if name != "" {
		path += "/" + url.PathEscape(name)
	}
	return path, nil
}

// ask returns what the server answers, whatever that is.
func (k *Client) ask(ctx context.Context, method, path string, body any) (code int, text []byte, err error) {
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return 0, nil, err
		}
		content = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(k.server.String(), "/")+path, content)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("User-Agent", k.agent)
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	token, err := k.token()
	if err != nil {
		return 0, nil, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := k.client.Do(req)
	if err == nil {
		defer answer.Body.Close()
		text, err = io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	}
	switch {
	case ctx.Err() != nil:
		return 0, nil, context.Cause(ctx)
	case err != nil:
		return 0, nil, &connectError{k.server.Host, err}
	case len(text) > maxAnswer:
		return 0, nil, &connectError{k.server.Host, fmt.Errorf("an answer has more than %d bytes", maxAnswer)}
	}
	return answer.StatusCode, text, nil
}

// refusal is what the server said.
func (k *Client) refusal(what string, code int, text []byte) error {
	var status struct{ Message string }
	_ = json.Unmarshal(text, &status) // or it is no Status
	if status.Message == "" {
		status.Message = http.StatusText(code)
	}
	return &StatusError{k.server.Host, what, code, status.Message}
}

// object asks for something whose answer is an object.
func (k *Client) object(ctx context.Context, method, kind, name, query string, body any) (Object, error) {
	path, err := k.path(kind, name)
	if err != nil {
		return nil, err
	}
	code, text, err := k.ask(ctx, method, path+query, body)
	what := map[string]string{http.MethodGet: "read", http.MethodPost: "create", http.MethodPut: "replace", http.MethodDelete: "delete"}[method] + " " + kind + " " + name
	switch {
	case err != nil:
		return nil, err
	case code == http.StatusConflict:
		return nil, ErrMoved
	case code == http.StatusNotFound && isMissing(text):
		return nil, fs.ErrNotExist
	case code/100 != 2:
		return nil, k.refusal(what, code, text)
	}
	o, err := DecodeJSON(text)
	if err != nil {
		return nil, k.refusal(what, code, []byte(`{"message": "something that is no object"}`))
	}
	return o, nil
}

// isMissing tells an object that is not there from a kind that a cluster does not have.
func isMissing(text []byte) bool {
	var status struct {
		Reason  string
		Details struct{ Name string }
	}
	return json.Unmarshal(text, &status) == nil && status.Reason == "NotFound" && status.Details.Name != ""
}

const strict = "?fieldManager=bake&fieldValidation=Strict"

// Get reads an object. The error is fs.ErrNotExist when it is not there.
func (k *Client) Get(ctx context.Context, kind, name string) (Object, error) {
	return k.object(ctx, http.MethodGet, kind, name, "", nil)
}

// Create makes an object; in which namespace, the client says. The error is ErrMoved when there
// is one by its name.
func (k *Client) Create(ctx context.Context, o Object) (Object, error) {
	path, err := k.path(o.Kind(), "")
	if err != nil {
		return nil, err
	}
	code, text, err := k.ask(ctx, http.MethodPost, path+strict, k.placed(o))
	switch {
	case err != nil:
		return nil, err
	case code == http.StatusConflict:
		return nil, ErrMoved
	case code/100 != 2:
		return nil, k.refusal("create "+o.Kind()+" "+o.Name(), code, text)
	}
	return o, nil
}

func (k *Client) placed(o Object) Object {
	o = o.Clone()
	o.Set(k.namespace, "metadata", "namespace")
	return o
}

// Replace writes an object that was read and changed. The error is ErrMoved when it is not what
// was read any more.
func (k *Client) Replace(ctx context.Context, o Object) (Object, error) {
	if o.Text("metadata", "resourceVersion") == "" {
		return nil, fmt.Errorf("%s %s was never read", o.Kind(), o.Name())
	}
	return k.object(ctx, http.MethodPut, o.Kind(), o.Name(), strict, k.placed(o))
}

// Delete has an object that was read deleted; when it is gone, Get says. One that is not there
// is no error.
func (k *Client) Delete(ctx context.Context, o Object) error {
	body := Object{"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": map[string]any{"uid": o.Text("metadata", "uid")}}
	_, err := k.object(ctx, http.MethodDelete, o.Kind(), o.Name(), "", body)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Console is the end of what a machine's instance has printed, as far as its pod has it.
func (k *Client) Console(ctx context.Context, instance Object) (string, error) {
	pods := "/api/v1/namespaces/" + url.PathEscape(k.namespace) + "/pods"
	code, text, err := k.ask(ctx, http.MethodGet, pods+"?labelSelector="+url.QueryEscape("kubevirt.io/created-by="+instance.Text("metadata", "uid")), nil)
	if err != nil {
		return "", err
	}
	if code != http.StatusOK {
		return "", k.refusal("list the pods of "+instance.Name(), code, text)
	}
	var list struct {
		Items []struct {
			Metadata struct{ Name, DeletionTimestamp string }
			Status   struct{ Phase string }
		}
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return "", k.refusal("list the pods of "+instance.Name(), code, nil)
	}
	for _, pod := range list.Items {
		if pod.Metadata.DeletionTimestamp != "" || pod.Status.Phase != "Running" {
			continue // one that the machine has left, or is on its way to
		}
		code, text, err := k.ask(ctx, http.MethodGet, fmt.Sprintf("%s/%s/log?container=%s&tailLines=%d", pods, url.PathEscape(pod.Metadata.Name), consoleOf, consoleLines), nil)
		if err != nil {
			return "", err
		}
		if code != http.StatusOK {
			return "", k.refusal("read the console of "+instance.Name(), code, text)
		}
		return string(text), nil
	}
	return "", nil
}
