//go:build e2e

package kubelab

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// Kubeconfig writes one for who may do everything, and returns its path.
func (c *Cluster) Kubeconfig(t *testing.T) string {
	t.Helper()
	config := filepath.Join(c.dir, "kubeconfig")
	text := fmt.Sprintf(`{"apiVersion": "v1", "kind": "Config", "current-context": "c",
"clusters": [{"name": "c", "cluster": {"server": %q, "certificate-authority": %q}}],
"users": [{"name": "u", "user": {"token": %q}}],
"contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]}`, c.address, filepath.Join(c.dir, "certificates", "apiserver.crt"), c.token)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return config
}

// An Operator does what of KubeVirt and CDI a driver of machines can see, without either: it has
// root disks filled, an instance where a machine is to run, none where it is halted, and ready
// those that are to be. What it starts from is the machine's object, as KubeVirt has it: a
// strategy that took the place of another starts it, and the instance has the template's
// annotations.
type Operator struct {
	*Cluster
	Namespace string
	Attests   func(host, generation string) bool

	mutex   sync.Mutex
	started map[string]int // by HOST GENERATION
}

// Started is how often each was started, by HOST GENERATION.
func (o *Operator) Started() map[string]int {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	all := map[string]int{}
	for key, n := range o.started {
		all[key] = n
	}
	return all
}

type vmObject struct {
	APIVersion string `json:"apiVersion,omitempty"`
	Kind       string `json:"kind,omitempty"`
	Metadata   struct {
		Name              string            `json:"name,omitempty"`
		Labels            map[string]string `json:"labels,omitempty"`
		Annotations       map[string]string `json:"annotations,omitempty"`
		DeletionTimestamp string            `json:"deletionTimestamp,omitempty"`
	} `json:"metadata"`
	Spec   map[string]any `json:"spec,omitempty"`
	Status map[string]any `json:"status,omitempty"`
}

func (o *Operator) list(t *testing.T, path string) (all map[string]vmObject) {
	code, text, err := o.Ask(http.MethodGet, path, "", nil)
	var list struct{ Items []vmObject }
	if err == nil && code == http.StatusOK {
		err = json.Unmarshal([]byte(text), &list)
	}
	if err != nil || code != http.StatusOK {
		t.Logf("asking for %s: %d, %v", path, code, err)
	}
	all = map[string]vmObject{}
	for _, item := range list.Items {
		all[item.Metadata.Name] = item
	}
	return all
}

// status writes the state of an object, where it has a place of its own, and where not.
func (o *Operator) status(t *testing.T, path string, status map[string]any) {
	text, err := json.Marshal(map[string]any{"status": status})
	if err != nil {
		t.Error(err)
	}
	for _, at := range []string{path + "/status", path} {
		code, said, err := o.Ask(http.MethodPatch, at, "application/merge-patch+json", text)
		if err == nil && code == http.StatusOK {
			return
		}
		if err != nil || code != http.StatusNotFound {
			t.Logf("PATCH %s: %d, %v: %s", at, code, err, said)
		}
	}
}

// Run works until the context ends.
func (o *Operator) Run(ctx context.Context, t *testing.T) {
	o.mutex.Lock()
	o.started = map[string]int{}
	o.mutex.Unlock()
	disks := "/apis/cdi.kubevirt.io/v1beta1/namespaces/" + o.Namespace + "/datavolumes"
	machines := "/apis/kubevirt.io/v1/namespaces/" + o.Namespace + "/virtualmachines"
	instances := machines[:len(machines)-1] + "instances"
	for ctx.Err() == nil {
		for name, disk := range o.list(t, disks) {
			if disk.Status["phase"] == nil {
				o.status(t, disks+"/"+name, map[string]any{"phase": "Succeeded"})
			}
		}
		running := o.list(t, instances)
		for name, m := range o.list(t, machines) {
			strategy, _ := m.Spec["runStrategy"].(string)
			is, runs := running[name]
			switch {
			case strategy == "Halted" && runs && is.Metadata.DeletionTimestamp == "":
				if code, said, err := o.Ask(http.MethodDelete, instances+"/"+name, "", nil); err != nil || code/100 != 2 {
					t.Logf("deleting %s: %d, %v: %s", name, code, err, said)
				}
			case strategy == "RerunOnFailure" && !runs && m.Status["runStrategy"] != strategy:
				o.begin(t, instances, m)
			}
			if m.Status["runStrategy"] != strategy {
				o.status(t, machines+"/"+name, map[string]any{"runStrategy": strategy})
			}
		}
		for name, is := range running {
			generation := is.Metadata.Annotations["bake/generation"]
			if is.Status["conditions"] == nil && o.Attests(name, generation) {
				o.status(t, instances+"/"+name, map[string]any{"phase": "Running", "conditions": []any{map[string]any{"type": "Ready", "status": "True"}}})
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond): // a controller watches
		}
	}
}

// begin makes the instance of a machine.
func (o *Operator) begin(t *testing.T, path string, m vmObject) {
	template, _ := m.Spec["template"].(map[string]any)
	var is vmObject
	text, err := json.Marshal(template)
	if err == nil {
		err = json.Unmarshal(text, &is)
	}
	is.APIVersion, is.Kind, is.Metadata.Name = "kubevirt.io/v1", "VirtualMachineInstance", m.Metadata.Name
	if err == nil {
		text, err = json.Marshal(is)
	}
	if err != nil {
		t.Error(err)
		return
	}
	code, said, err := o.Ask(http.MethodPost, path, "application/json", text)
	if err != nil || code != http.StatusCreated {
		t.Logf("starting %s: %d, %v: %s", m.Metadata.Name, code, err, said)
		return
	}
	o.mutex.Lock()
	o.started[m.Metadata.Name+" "+is.Metadata.Annotations["bake/generation"]]++
	o.mutex.Unlock()
}
