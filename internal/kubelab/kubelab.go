//go:build e2e

// Package kubelab is a Kubernetes control plane on the loopback, for tests: etcd, kube-apiserver
// and, if wanted, kube-controller-manager and kube-scheduler, all of them the real ones, with the
// CRDs of KubeVirt and CDI. There is no kubelet: nothing runs what is scheduled, unless the test
// does (see Agent).
//
// # Decisions
//
// 2026-11: a package under a build tag, for the tests of two packages: of bake nothing imports it.
package kubelab

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"
)

// A Cluster is one that runs until the test ends.
type Cluster struct {
	address, token string
	dir            string
	client         *http.Client
}

// Kinds are those of which objects can be created, and where.
var Kinds = map[string]string{
	"ConfigMap":             "/api/v1/namespaces/%s/configmaps",
	"Secret":                "/api/v1/namespaces/%s/secrets",
	"PersistentVolumeClaim": "/api/v1/namespaces/%s/persistentvolumeclaims",
	"NetworkPolicy":         "/apis/networking.k8s.io/v1/namespaces/%s/networkpolicies",
	"DataVolume":            "/apis/cdi.kubevirt.io/v1beta1/namespaces/%s/datavolumes",
	"VirtualMachine":        "/apis/kubevirt.io/v1/namespaces/%s/virtualmachines",
	"CronJob":               "/apis/batch/v1/namespaces/%s/cronjobs",
}

// serverPatience is how long a server may take to answer for the first time, on a machine that has
// other things to do.
const serverPatience = 15 * time.Minute

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// start runs a program until the test ends; what it says is shown if the test fails.
func start(t *testing.T, dir, program string, args ...string) {
	t.Helper()
	name := filepath.Base(program)
	if name == "kube" {
		name = args[0]
	}
	log, err := os.Create(filepath.Join(dir, name+".log"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		_ = cmd.Wait()
		if text, _ := os.ReadFile(log.Name()); t.Failed() {
			t.Logf("%s said, last:\n%s", name, text[max(0, len(text)-4000):])
		}
	})
}

// Start starts one and waits until it answers.
func Start(t *testing.T) *Cluster {
	t.Helper()
	program := os.Getenv("BAKE_E2E_KUBE")
	if program == "" {
		t.Fatal("BAKE_E2E_KUBE names no kube-apiserver: make e2e-fleet")
	}
	dir := t.TempDir()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	c := &Cluster{dir: dir, token: rand.Text(), address: fmt.Sprintf("https://127.0.0.1:%d", freePort(t))}
	for name, text := range map[string]string{
		"sa.key": string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})),
		"tokens": c.token + ",admin,1,system:masters\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	etcd, peer := fmt.Sprintf("http://127.0.0.1:%d", freePort(t)), fmt.Sprintf("http://127.0.0.1:%d", freePort(t))
	start(t, dir, "etcd", "--data-dir", filepath.Join(dir, "etcd"), "--listen-client-urls", etcd, "--advertise-client-urls", etcd,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer,
		"--heartbeat-interval", "1000", "--election-timeout", "10000")
	start(t, dir, program, "kube-apiserver", "--etcd-servers", etcd, "--bind-address", "127.0.0.1", "--secure-port", c.address[strings.LastIndex(c.address, ":")+1:],
		"--cert-dir", filepath.Join(dir, "certificates"), "--token-auth-file", "tokens", "--authorization-mode", "RBAC",
		"--service-account-issuer", "https://kubernetes.default.svc", "--service-account-key-file", "sa.key", "--service-account-signing-key-file", "sa.key",
		"--service-cluster-ip-range", "10.0.0.0/24", "--endpoint-reconciler-type", "none",
		"--disable-admission-plugins", "TaintNodesByCondition") // nobody would take the taint of a new node off again
	deadline := time.Now().Add(serverPatience)
	for {
		certificate, err := os.ReadFile(filepath.Join(dir, "certificates", "apiserver.crt"))
		if err == nil {
			roots := x509.NewCertPool()
			roots.AppendCertsFromPEM(certificate)
			c.client = &http.Client{Timeout: serverPatience, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
			if code, _, err := c.Ask(http.MethodGet, "/readyz", "", nil); err == nil && code == http.StatusOK {
				return c
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("the kube-apiserver does not get ready")
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// Ask asks the kube-apiserver, as who may do everything.
func (c *Cluster) Ask(method, path, media string, body []byte) (int, string, error) {
	request, err := http.NewRequest(method, c.address+path, bytes.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	request.Header.Set("Authorization", "Bearer "+c.token)
	if media != "" {
		request.Header.Set("Content-Type", media)
	}
	answer, err := c.client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(text), err
}

// MustAsk wants it to be done.
func (c *Cluster) MustAsk(t *testing.T, method, path string, body []byte) string {
	t.Helper()
	code, text, err := c.Ask(method, path, "application/json", body)
	if err != nil || code >= 300 {
		t.Fatalf("%s %s: %d, %v: %s", method, path, code, err, text)
	}
	return text
}

// Install adds the CRDs, as their authors' operators do, and waits until they count.
func (c *Cluster) Install(t *testing.T) {
	t.Helper()
	out, err := exec.Command(os.Getenv("BAKE_E2E_KUBE"), "crds").Output()
	if err != nil {
		t.Fatal(err)
	}
	var list struct{ Items []json.RawMessage }
	if err := json.Unmarshal(out, &list); err != nil || len(list.Items) < 3 {
		t.Fatalf("%d CRDs, %v", len(list.Items), err)
	}
	const path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
	for _, item := range list.Items {
		var crd struct{ Metadata struct{ Name string } }
		if err := json.Unmarshal(item, &crd); err != nil {
			t.Fatal(err)
		}
		c.MustAsk(t, http.MethodPost, path, item)
		t.Logf("installed %s, %d bytes", crd.Metadata.Name, len(item))
		for deadline := time.Now().Add(serverPatience); ; time.Sleep(200 * time.Millisecond) {
			var seen struct {
				Status struct {
					Conditions []struct{ Type, Status string }
				}
			}
			if err := json.Unmarshal([]byte(c.MustAsk(t, http.MethodGet, path+"/"+crd.Metadata.Name, nil)), &seen); err != nil {
				t.Fatal(err)
			}
			established := false
			for _, condition := range seen.Status.Conditions {
				if condition.Status == "False" && condition.Type != "Established" {
					t.Fatalf("%s: %+v", crd.Metadata.Name, condition)
				}
				established = established || condition.Type == "Established" && condition.Status == "True"
			}
			if established {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s is not established", crd.Metadata.Name)
			}
		}
	}
}

// Create gives the cluster an object as it is in the YAML, with strict validation: a field
// that is unknown or there twice is an error of the server's.
func (c *Cluster) Create(document []byte, query string) (kind string, code int, said string, err error) {
	var o struct {
		Kind     string
		Metadata struct{ Namespace string }
	}
	if err := yaml.Unmarshal(document, &o); err != nil {
		return "", 0, "", err
	}
	path, ok := Kinds[o.Kind]
	if !ok {
		return o.Kind, 0, "", fmt.Errorf("an export has no %q", o.Kind)
	}
	namespace := o.Metadata.Namespace
	if namespace == "" {
		namespace = "default"
	}
	code, said, err = c.Ask(http.MethodPost, fmt.Sprintf(path, namespace)+"?fieldManager=bake&fieldValidation=Strict"+query, "application/yaml", document)
	return o.Kind, code, said, err
}
