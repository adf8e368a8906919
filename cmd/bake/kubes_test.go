package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"

	"bake/internal/kube"
)

// puddle is as much of a cluster as a rollout sees: objects with versions, and what KubeVirt's
// and CDI's controllers do of them.
type puddle struct {
	mutex   sync.Mutex
	objects map[string]kube.Object
	version int
	deaf    map[string]bool // generations that do not attest
	started []string
	seen    []string // requests that write
}

func newPuddle(t *testing.T, s *sleep) *puddle {
	t.Helper()
	p := &puddle{objects: map[string]kube.Object{}, deaf: map[string]bool{}}
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	s.write(t, "kubeconfig", fmt.Sprintf(`current-context: a
contexts: [{name: a, context: {cluster: none, user: u}}, {name: lab, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: %q}}]
users: [{name: u, user: {token: t0ken}}]
`, server.URL), 0o600)
	s.env["KUBECONFIG"] = s.dir + "/kubeconfig"
	return p
}

func (p *puddle) ServeHTTP(out http.ResponseWriter, in *http.Request) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	answer := func(code int, o any) {
		out.Header().Set("Content-Type", "application/json")
		out.WriteHeader(code)
		_ = json.NewEncoder(out).Encode(o)
	}
	refuse := func(code int, reason string) {
		answer(code, map[string]any{"kind": "Status", "reason": reason, "message": reason, "details": map[string]any{"name": path.Base(in.URL.Path)}})
	}
	if in.Header.Get("Authorization") != "Bearer t0ken" || !strings.Contains(in.URL.Path, "/namespaces/machines/") {
		refuse(http.StatusForbidden, "Forbidden")
		return
	}
	at := in.URL.Path
	if strings.HasSuffix(at, "/pods") {
		answer(http.StatusOK, map[string]any{})
		return
	}
	var o kube.Object
	if in.Method == http.MethodPost || in.Method == http.MethodPut {
		if err := json.NewDecoder(in.Body).Decode(&o); err != nil {
			refuse(http.StatusBadRequest, "BadRequest")
			return
		}
		p.seen = append(p.seen, in.Method+" "+o.Kind()+" "+o.Name())
	}
	if in.Method == http.MethodPost {
		at += "/" + o.Name()
	}
	is := p.objects[at]
	switch {
	case is == nil && in.Method != http.MethodPost:
		refuse(http.StatusNotFound, "NotFound")
	case in.Method == http.MethodGet:
		answer(http.StatusOK, is)
	case in.Method == http.MethodDelete:
		delete(p.objects, at)
		answer(http.StatusOK, map[string]any{})
	case is != nil && in.Method == http.MethodPost, is != nil && is.Text("metadata", "resourceVersion") != o.Text("metadata", "resourceVersion"):
		refuse(http.StatusConflict, "Conflict")
	default:
		p.put(at, o)
		p.reconcile(at, o)
		answer(http.StatusOK, p.objects[at])
	}
}

func (p *puddle) put(at string, o kube.Object) {
	p.version++
	o.Set(fmt.Sprint(p.version), "metadata", "resourceVersion")
	p.objects[at] = o
}

func (p *puddle) reconcile(at string, o kube.Object) {
	if o.Kind() == "DataVolume" {
		o.Set("Succeeded", "status", "phase")
	}
	if o.Kind() != "VirtualMachine" {
		return
	}
	instance := strings.Replace(at, "/virtualmachines/", "/virtualmachineinstances/", 1)
	switch strategy := o.Text("spec", "runStrategy"); {
	case strategy == "Halted":
		delete(p.objects, instance)
	case p.objects[instance] == nil:
		is := kube.Object{"kind": "VirtualMachineInstance", "metadata": o.Clone().Get("spec", "template", "metadata"), "spec": o.Get("spec", "template", "spec")}
		generation := is.Text("metadata", "annotations", "bake/generation")
		p.started = append(p.started, generation)
		is.Set("Succeeded", "status", "phase")
		if !p.deaf[generation] {
			is.Set("Running", "status", "phase")
			is.Set([]any{map[string]any{"type": "Ready", "status": "True"}}, "status", "conditions")
		}
		p.put(instance, is)
	}
}

// TestRolloutCluster: a rollout to a cluster, driven from a machine that has no generations: they
// come from where they were published, also for a host that was begun with elsewhere. A generation
// that does not attest is taken back; the image is the one that was signed.
func TestRolloutCluster(t *testing.T) {
	s, d := newFleet(t), newDepot(t)
	p := newPuddle(t, s)
	publish := func() string {
		t.Helper()
		s.must(0, nil)
		if o := s.run("publish", "--host", "zap", "--to", d.address); o.code != 0 {
			t.Fatalf("%+v", o)
		}
		for _, far := range []string{"far", "further"} {
			s.tool(t, "mkdir", "-p", far+"/hosts", far+"/keys")
			s.tool(t, "cp", "far/keys/desk.pub", far+"/keys/desk.pub.new")
			s.tool(t, "mv", far+"/keys/desk.pub.new", far+"/keys/desk.pub")
			s.tool(t, "cp", "hosts/zap.yaml", far+"/hosts")
		}
		return s.open("current").Manifest.Generation
	}
	plain := s.text("hosts/zap.yaml")
	s.write(t, "hosts/zap.yaml", plain+"domain: {uri: \"kubevirt://machines?context=lab\"}\n", 0o644)
	one := publish()
	rollout := func(from string, code int, words string, args ...string) {
		t.Helper()
		o := s.run(append([]string{"--config", from, "--out", from + "/out", "rollout", "--from", d.address, "--state", s.dir + "/state"}, args...)...)
		if o.code != code || !strings.Contains(o.stderr+o.stdout, words) {
			t.Errorf("%q: exit status %d, want %d, %q\n%s%s", args, o.code, code, words, o.stdout, o.stderr)
		}
	}
	rollout("far", 0, "done: 1 of 1 done", "--host", "zap")
	if !slices.Equal(p.started, []string{one}) {
		t.Errorf("started: %q", p.started)
	}
	vm := p.objects["/apis/kubevirt.io/v1/namespaces/machines/virtualmachines/zap"]
	text, err := json.Marshal(vm)
	if err != nil || strings.Contains(string(text), "user-data:") || !strings.Contains(string(text), "zap-seed-"+one) {
		t.Errorf("%s, %v", text, err)
	}
	disk := p.objects["/apis/cdi.kubevirt.io/v1beta1/namespaces/machines/datavolumes/zap-root-"+one]
	if url := disk.Text("spec", "source", "registry", "url"); !strings.HasPrefix(url, "docker://127.0.0.1:") || !strings.Contains(url, "/fleet/machines@sha256:") {
		t.Errorf("the disk comes from %q", url)
	}

	s.write(t, "hosts/zap.yaml", s.text("hosts/zap.yaml")+"cloud-config: {timezone: Europe/Berlin}\n", 0o644)
	two := publish()
	p.deaf[two] = true
	s.tool(t, "rm", "-rf", "far/out")
	rollout("far", 7, "generation "+one+" is back and has attested", "--host", "zap")
	p.deaf[two] = false
	rollout("further", 0, "done: 1 of 1 done", "--resume") // which has nothing of it
	if want := []string{one, two, one, two}; !slices.Equal(p.started, want) {
		t.Errorf("started: %q, want %q", p.started, want)
	}
	rollout("further", 0, "rolled back", "--rollback")
	if want := []string{one, two, one, two, one}; !slices.Equal(p.started, want) {
		t.Errorf("started: %q, want %q", p.started, want)
	}

	sent := s.moved(0, "", "publish", "--host", "zap", "--to", d.address)
	d.replant(sent, "disk/disk.qcow2", func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
	writes := len(p.seen)
	rollout("far", 5, "is another image than generation "+two+" makes", "--host", "zap", "--abandon")
	if len(p.seen) != writes {
		t.Errorf("with a forged image the rollout has written %q", p.seen[writes:])
	}
	for _, words := range []string{"up", "deploy", "status"} {
		if o := s.run(words, "--host", "zap"); o.code != 4 || !strings.Contains(o.stderr, "is a cluster and no libvirt") {
			t.Errorf("%s: %+v", words, o)
		}
	}
	s.env["KUBECONFIG"] = s.dir + "/nowhere"
	rollout("far", 6, "kubeconfig "+s.dir+"/nowhere: it is not there", "--host", "zap", "--abandon")
	if t.Failed() {
		t.Logf("%q", p.seen)
	}
}
