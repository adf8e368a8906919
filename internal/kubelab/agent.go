//go:build e2e

package kubelab

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// controllers are those that a Job needs, and no more.
const controllers = "job-controller,cronjob-controller,serviceaccount-controller,persistentvolume-binder-controller"

// Control starts the real kube-controller-manager and kube-scheduler, and adds a node on which
// the scheduler may put pods. Nothing runs there but an Agent.
func (c *Cluster) Control(t *testing.T, node string) {
	t.Helper()
	config := c.Kubeconfig(t)
	program := os.Getenv("BAKE_E2E_KUBE")
	start(t, c.dir, program, "kube-controller-manager", "--kubeconfig", config, "--leader-elect=false", "--controllers", controllers,
		"--bind-address", "127.0.0.1", "--secure-port", fmt.Sprint(freePort(t)), "--service-account-private-key-file", filepath.Join(c.dir, "sa.key"), "--cert-dir", c.dir)
	start(t, c.dir, program, "kube-scheduler", "--kubeconfig", config, "--leader-elect=false",
		"--bind-address", "127.0.0.1", "--secure-port", fmt.Sprint(freePort(t)), "--cert-dir", c.dir)
	c.MustAsk(t, http.MethodPost, "/api/v1/nodes", fmt.Appendf(nil, `{"metadata": {"name": %q, "labels": {"kubernetes.io/os": "linux"}}}`, node))
	c.Patch(t, "/api/v1/nodes/"+node+"/status", `{"status": {"capacity": {"cpu": "64", "memory": "256Gi", "pods": "110"},
"allocatable": {"cpu": "64", "memory": "256Gi", "pods": "110"}, "conditions": [{"type": "Ready", "status": "True"}]}}`)
}

// Patch merges something into an object.
func (c *Cluster) Patch(t *testing.T, path, text string) {
	t.Helper()
	if code, said, err := c.Ask(http.MethodPatch, path, "application/merge-patch+json", []byte(text)); err != nil || code != http.StatusOK {
		t.Errorf("PATCH %s: %d, %v: %s", path, code, err, said)
	}
}

// A Pod is what an Agent knows of one.
type Pod struct {
	Metadata struct {
		Name, Namespace   string
		Labels            map[string]string
		DeletionTimestamp string
	}
	Spec struct {
		InitContainers, Containers []Container
		Volumes                    []Volume
	}
	Status struct{ Phase string }
}

// A Container is one of a pod's.
type Container struct {
	Name, Image   string
	Command, Args []string
	Env           []struct {
		Name, Value string
		ValueFrom   *struct{ FieldRef struct{ FieldPath string } }
	}
	EnvFrom      []struct{ SecretRef struct{ Name string } }
	VolumeMounts []struct{ Name, MountPath string }
}

// A Volume is one of a pod's.
type Volume struct {
	Name                  string
	PersistentVolumeClaim *struct{ ClaimName string }
	Secret                *struct{ SecretName string }
}

// An Agent does the one thing of a kubelet's that a Job cannot do without: it claims the pods
// that the scheduler has bound to its node, runs the commands of their containers, as processes
// of this machine, and says how they ended. There are no images and no isolation: paths in
// commands and variables that are in a volume become those of a directory.
type Agent struct {
	*Cluster
	Node    string
	Program string            // that containers without a command run: the entry point of the image
	Env     []string          // of all processes, beside their own
	Claims  map[string]string // directories of PersistentVolumeClaims
	Dir     string            // of the other volumes
	// Started is told of each container's process, but for those that only prepare, before it
	// runs, and may change it. What it returns is called when the process has ended.
	Started func(p Pod, cmd *exec.Cmd) (running func(), ended func())
}

// Run works until the context ends.
func (a *Agent) Run(ctx context.Context, t *testing.T) {
	mine := map[string]bool{}
	for ctx.Err() == nil {
		code, text, err := a.Ask(http.MethodGet, "/api/v1/pods?fieldSelector=spec.nodeName="+a.Node, "", nil)
		var list struct{ Items []Pod }
		if err == nil && code == http.StatusOK {
			err = json.Unmarshal([]byte(text), &list)
		}
		if err != nil && ctx.Err() == nil {
			t.Errorf("asking for pods: %d, %v", code, err)
		}
		for _, p := range list.Items {
			if !mine[p.Metadata.Name] && p.Status.Phase == "Pending" {
				mine[p.Metadata.Name] = true
				go func() {
					if err := a.run(ctx, t, p); err != nil && ctx.Err() == nil {
						t.Errorf("pod %s: %v", p.Metadata.Name, err)
					}
				}()
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond): // a kubelet watches
		}
	}
}

func (a *Agent) run(ctx context.Context, t *testing.T, p Pod) error {
	dirs, err := a.volumes(p)
	if err != nil {
		return err
	}
	path := fmt.Sprintf("/api/v1/namespaces/%s/pods/%s/status", p.Metadata.Namespace, p.Metadata.Name)
	a.Patch(t, path, `{"status": {"phase": "Running", "startTime": "`+time.Now().UTC().Format(time.RFC3339)+`"}}`)
	for i, c := range append(p.Spec.InitContainers, p.Spec.Containers...) {
		cmd, err := a.command(ctx, p, c, dirs)
		if err != nil {
			return err
		}
		running, ended := func() {}, func() {}
		if i >= len(p.Spec.InitContainers) {
			running, ended = a.Started(p, cmd)
		}
		err = cmd.Start()
		if err == nil {
			running()
			err = cmd.Wait()
		}
		ended()
		code := 0
		var exit *exec.ExitError
		switch {
		case errors.As(err, &exit) && exit.ExitCode() >= 0:
			code = exit.ExitCode()
		case errors.As(err, &exit):
			code = 137
		case err != nil:
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
		if code != 0 || i == len(p.Spec.InitContainers)+len(p.Spec.Containers)-1 {
			a.Ended(t, p, code)
			return nil
		}
	}
	return nil
}

// Ended says how a pod ended.
func (a *Agent) Ended(t *testing.T, p Pod, code int) {
	phase, reason := "Succeeded", "Completed"
	if code != 0 {
		phase, reason = "Failed", "Error"
	}
	now := time.Now().UTC().Format(time.RFC3339)
	a.Patch(t, fmt.Sprintf("/api/v1/namespaces/%s/pods/%s/status", p.Metadata.Namespace, p.Metadata.Name), fmt.Sprintf(
		`{"status": {"phase": %q, "containerStatuses": [{"name": %q, "image": %q, "imageID": "", "ready": false, "restartCount": 0,
"state": {"terminated": {"exitCode": %d, "reason": %q, "startedAt": %q, "finishedAt": %q}}}]}}`,
		phase, p.Spec.Containers[0].Name, p.Spec.Containers[0].Image, code, reason, now, now))
}

// secret is what a Secret holds.
func (a *Agent) secret(namespace, name string) (map[string][]byte, error) {
	code, text, err := a.Ask(http.MethodGet, fmt.Sprintf("/api/v1/namespaces/%s/secrets/%s", namespace, name), "", nil)
	var s struct{ Data map[string]string }
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("%d: %s", code, text)
	}
	if err == nil {
		err = json.Unmarshal([]byte(text), &s)
	}
	all := map[string][]byte{}
	for key, value := range s.Data {
		content, failed := base64.StdEncoding.DecodeString(value)
		all[key], err = content, errors.Join(err, failed)
	}
	return all, err
}

// volumes makes the directories of a pod's volumes.
func (a *Agent) volumes(p Pod) (map[string]string, error) {
	dirs := map[string]string{}
	for _, v := range p.Spec.Volumes {
		dir := filepath.Join(a.Dir, p.Metadata.Name, v.Name)
		if v.PersistentVolumeClaim != nil {
			dirs[v.Name] = a.Claims[v.PersistentVolumeClaim.ClaimName]
			if dirs[v.Name] == "" {
				return nil, fmt.Errorf("there is no claim %s", v.PersistentVolumeClaim.ClaimName)
			}
			continue
		}
		dirs[v.Name] = dir
		if err := os.MkdirAll(dir, 0o770); err != nil {
			return nil, err
		}
		if v.Secret == nil {
			continue
		}
		files, err := a.secret(p.Metadata.Namespace, v.Secret.SecretName)
		for name, content := range files {
			err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), content, 0o440))
		}
		if err != nil {
			return nil, err
		}
	}
	return dirs, nil
}

// command is what a container runs.
func (a *Agent) command(ctx context.Context, p Pod, c Container, dirs map[string]string) (*exec.Cmd, error) {
	inside := func(text string) string {
		for _, m := range c.VolumeMounts {
			if text == m.MountPath || strings.HasPrefix(text, m.MountPath+"/") {
				return dirs[m.Name] + text[len(m.MountPath):]
			}
		}
		return text
	}
	values := map[string]string{}
	expand := func(text string) string {
		for name, value := range values {
			text = strings.ReplaceAll(text, "$("+name+")", value)
		}
		return text
	}
	env := append(os.Environ(), a.Env...)
	for _, from := range c.EnvFrom {
		all, err := a.secret(p.Metadata.Namespace, from.SecretRef.Name)
		if err != nil {
			return nil, err
		}
		for name, value := range all {
			env = append(env, name+"="+string(value))
		}
	}
	for _, e := range c.Env {
		value := e.Value
		if e.ValueFrom != nil {
			path := e.ValueFrom.FieldRef.FieldPath
			label, ok := strings.CutPrefix(path, "metadata.labels['")
			switch {
			case ok:
				value = p.Metadata.Labels[strings.TrimSuffix(label, "']")]
			case path == "metadata.name":
				value = p.Metadata.Name
			default:
				return nil, fmt.Errorf("what is %s?", path)
			}
		}
		values[e.Name] = expand(value)
		env = append(env, e.Name+"="+inside(values[e.Name]))
	}
	argv := c.Command
	if len(argv) == 0 {
		argv = []string{a.Program}
	}
	var args []string
	for _, word := range append(argv[1:len(argv):len(argv)], c.Args...) {
		args = append(args, inside(expand(word)))
	}
	cmd := exec.CommandContext(ctx, argv[0], args...)
	cmd.Env = env
	return cmd, nil
}
