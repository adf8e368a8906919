//go:build e2e

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"bake/internal/base"
	"bake/internal/cluster"
	"bake/internal/kubelab"
	"bake/internal/nightly"
	"bake/internal/origin"
	"bake/internal/payload"
	"bake/internal/provenance"
	"bake/internal/publish"
)

const fleetPlace = "s3://" + warehouseBucket + "/bake"

// fates are what becomes of pods, in the order in which they start: five of them are killed,
// each when it makes a request of the bucket that was drawn, and one is taken for dead at the
// moment at which it promotes, and is not dead.
type fates struct {
	t      *testing.T
	agent  *kubelab.Agent
	server *url.URL // of the bucket

	mutex    sync.Mutex
	kills    []int // requests after which a pod is killed, of those to come
	zombie   bool  // the next pod is one
	killed   int
	resume   chan struct{} // closed when the one that was taken for dead wakes up
	sleeper  *exec.Cmd
	awake    chan struct{} // closed when it has ended
	promoted map[string]int
	made     map[string]int // generations, by tag
	said     bytes.Buffer
}

var tagPath = regexp.MustCompile(`/tags/(.+)-(current|[0-9a-f]{16})$`)

// verdictWriter notes what the bucket has said.
type verdictWriter struct {
	http.ResponseWriter
	code int
}

func (a *verdictWriter) WriteHeader(code int) {
	a.code = code
	a.ResponseWriter.WriteHeader(code)
}

// started gives a pod a way to the bucket of its own, on which its fate meets it.
func (f *fates) started(p kubelab.Pod, cmd *exec.Cmd) (running, ended func()) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	last, isZombie, requests := -1, f.zombie, 0
	f.zombie = false
	if !isZombie && len(f.kills) > 0 {
		last, f.kills = f.kills[0], f.kills[1:]
	}
	alive := make(chan struct{})
	forward := httputil.NewSingleHostReverseProxy(f.server)
	server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
		<-alive
		tag := tagPath.FindStringSubmatch(in.URL.Path)
		f.mutex.Lock()
		requests++
		isLast := requests == last
		sleeps := isZombie && in.Method == http.MethodPut && tag != nil && tag[2] == "current"
		if sleeps {
			isZombie = false
		}
		if isLast {
			f.killed++
		}
		f.mutex.Unlock()
		switch {
		case isLast:
			_ = cmd.Process.Kill()
			return
		case sleeps:
			f.sleep(p, cmd)
		}
		a := &verdictWriter{ResponseWriter: out, code: http.StatusOK}
		forward.ServeHTTP(a, in)
		if in.Method == http.MethodPut && tag != nil && a.code == http.StatusOK {
			f.mutex.Lock()
			defer f.mutex.Unlock()
			if tag[2] == "current" {
				f.promoted[tag[1]]++
			} else {
				f.made[tag[0]]++
			}
		}
	}))
	cmd.Env = append(cmd.Env, "AWS_ENDPOINT_URL_S3="+server.URL)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	return func() { close(alive) }, func() {
		server.CloseClientConnections()
		server.Close()
		f.mutex.Lock()
		defer f.mutex.Unlock()
		fmt.Fprintf(&f.said, "%s (%v):\n%s\n", p.Metadata.Name, cmd.ProcessState, said.Bytes())
		if f.sleeper == cmd {
			close(f.awake)
		}
	}
}

// sleep stops a pod's process, tells the cluster that it is dead, and goes on when that was
// believed for a night.
func (f *fates) sleep(p kubelab.Pod, cmd *exec.Cmd) {
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		f.t.Error(err)
	}
	f.mutex.Lock()
	f.sleeper = cmd
	f.mutex.Unlock()
	f.agent.Ended(f.t, p, 137)
	<-f.resume
	_ = cmd.Process.Signal(syscall.SIGCONT)
}

// startJob starts a Job from a CronJob, as kubectl create job --from does, and waits until the
// controller says how it ended.
func startJob(t *testing.T, c *kubelab.Cluster, cron []byte, name string) (condition string) {
	t.Helper()
	var o struct {
		Spec struct {
			JobTemplate struct {
				Metadata, Spec any
			} `yaml:"jobTemplate"`
		}
	}
	if err := yaml.Unmarshal(cron, &o); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]any{"apiVersion": "batch/v1", "kind": "Job", "metadata": map[string]any{"name": name}, "spec": o.Spec.JobTemplate.Spec})
	if err != nil {
		t.Fatal(err)
	}
	c.MustAsk(t, http.MethodPost, "/apis/batch/v1/namespaces/default/jobs?fieldValidation=Strict", text)
	for end := time.Now().Add(40 * time.Minute); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		var job struct {
			Status struct {
				Conditions []struct{ Type, Status string }
			}
		}
		if err := json.Unmarshal([]byte(c.MustAsk(t, http.MethodGet, "/apis/batch/v1/namespaces/default/jobs/"+name, nil)), &job); err != nil {
			t.Fatal(err)
		}
		for _, condition := range job.Status.Conditions {
			if condition.Status == "True" && (condition.Type == "Complete" || condition.Type == "Failed") {
				return condition.Type
			}
		}
	}
	t.Fatal("the Job does not end")
	return ""
}

// mustCreate has the cluster accept an object.
func mustCreate(t *testing.T, c *kubelab.Cluster, text string) {
	t.Helper()
	if kind, code, said, err := c.Create([]byte(text), ""); err != nil || code != http.StatusCreated {
		t.Fatalf("%s: %d, %v: %s", kind, code, err, said)
	}
}

// nightOfBucket is the report that the shards have written.
func nightOfBucket(t *testing.T, v *warehouse, name string) (n nightly.Night) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(v.data, warehouseBucket, "bake/nightly/nights", name))
	if err == nil {
		err = json.Unmarshal(text, &n)
	}
	if err != nil {
		t.Error(err)
	}
	return n
}

// TestFleetNightly: a night in three shards, as an Indexed Job of a real control plane. There is
// no kubelet: an agent of this test claims the pods that the scheduler has bound and runs their
// commands as processes of this machine, and the machines that are verified are simulated. Five
// pods are killed at moments that were drawn, one is taken for dead and wakes up when the night
// is over. Every host is promoted once, by one who still had it, and the report is whole.
func TestFleetNightly(t *testing.T) {
	s := newSleep(t)
	var names []string
	for i := range 11 {
		names = append(names, fmt.Sprintf("h%02d", i))
	}
	s.host(names...)
	names = append(names, "zap")
	v := newWarehouse(t, s)
	if o := s.run("key", "create"); o.code != 0 {
		t.Fatalf("%+v", o)
	}
	server, err := url.Parse(s.env["AWS_ENDPOINT_URL_S3"])
	if err != nil {
		t.Fatal(err)
	}
	c := kubelab.Start(t)
	c.Control(t, "node-1")
	config := t.TempDir()
	s.tool(t, "cp", "-r", "hosts", config)
	key, err := os.ReadFile(filepath.Join(s.dir, "signing.key"))
	if err != nil {
		t.Fatal(err)
	}
	f := &fates{t: t, server: server, resume: make(chan struct{}), awake: make(chan struct{}), promoted: map[string]int{}, made: map[string]int{}, zombie: true}
	draw := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	for range 5 {
		f.kills = append(f.kills, 1+draw.IntN(30))
	}
	t.Logf("pods are killed after %d requests", f.kills)
	f.agent = &kubelab.Agent{Cluster: c, Node: "node-1", Program: s.workshop.bake, Claims: map[string]string{"config": config}, Dir: t.TempDir(), Started: f.started,
		Env: []string{testVerdict + "=ok", testKeyring + "=" + s.env[testKeyring], "BAKE_MIRROR_UBUNTU=" + s.url, "XDG_CACHE_HOME=", "XDG_STATE_HOME=", "XDG_DATA_HOME="}}
	ctx, stop := context.WithCancel(t.Context())
	var working sync.WaitGroup
	working.Go(func() { f.agent.Run(ctx, t) })
	t.Cleanup(func() {
		stop()
		working.Wait()
		if t.Failed() {
			f.mutex.Lock()
			defer f.mutex.Unlock()
			t.Logf("the pods said:\n%s", f.said.Bytes())
		}
	})

	mustCreate(t, c, "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: config}\nspec: {accessModes: [ReadOnlyMany], storageClassName: \"\", volumeName: config, resources: {requests: {storage: 1Mi}}}\n")
	c.MustAsk(t, http.MethodPost, "/api/v1/persistentvolumes", fmt.Appendf(nil, `{"metadata": {"name": "config"}, "spec": {"capacity": {"storage": "1Mi"},
"accessModes": ["ReadOnlyMany"], "hostPath": {"path": %q}, "claimRef": {"namespace": "default", "name": "config"}}}`, config))
	for name, data := range map[string]map[string]string{"bucket": {"AWS_ACCESS_KEY_ID": "owner", "AWS_SECRET_ACCESS_KEY": "owner-secret"}, "signing": {"signing.key": string(key)}} {
		text, err := yaml.Marshal(map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": name}, "stringData": data})
		if err != nil {
			t.Fatal(err)
		}
		mustCreate(t, c, string(text))
	}
	o := s.run("export", "nightly", "--image", "r.example/bake:1", "--config-claim", "config", "--credentials", "bucket", "--key-secret", "signing", "--to", fleetPlace)
	if o.code != 0 {
		t.Fatalf("%+v", o)
	}
	mustCreate(t, c, o.stdout)

	if ended := startJob(t, c, []byte(o.stdout), "bake-nightly-100"); ended != "Complete" {
		t.Errorf("the Job is %s", ended)
	}
	f.mutex.Lock()
	if f.killed != 5 || f.sleeper == nil {
		t.Errorf("%d pods were killed, and one was taken for dead: %v", f.killed, f.sleeper != nil)
	}
	before := maps.Clone(f.promoted)
	f.mutex.Unlock()
	n := nightOfBucket(t, v, "bake-nightly-100")
	if n.String() != "12 promoted" || n.Exit != 0 {
		t.Errorf("the night came to %s, exit status %d", n, n.Exit)
	}
	if times := s.times(datedDir(yesterday) + imageName); times < 1 || times > 1+f.killed { // one may have been killed while it fetched
		t.Errorf("the base image was fetched from its publisher %d times", times)
	}
	close(f.resume)
	if f.sleeper != nil {
		<-f.awake
		if code := f.sleeper.ProcessState.ExitCode(); code == 0 {
			t.Error("who was taken for dead has a good night")
		}
	}
	f.mutex.Lock()
	for _, name := range names {
		if before[name] != 1 || f.promoted[name] != 1 {
			t.Errorf("%s was promoted %d times, and then %d", name, before[name], f.promoted[name])
		}
	}
	if len(f.made) != len(names) || slices.ContainsFunc(slices.Collect(maps.Values(f.made)), func(times int) bool { return times != 1 }) {
		t.Errorf("generations were published: %v", f.made)
	}
	f.mutex.Unlock()

	// The next night has nothing to do, but for a host whose file is broken: its shard is not
	// tried again, and the report is whole.
	if err := os.WriteFile(filepath.Join(config, "hosts/h03.yaml"), []byte("host: h03\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if ended := startJob(t, c, []byte(o.stdout), "bake-nightly-101"); ended != "Failed" {
		t.Errorf("a night with a broken host is %s", ended)
	}
	if n := nightOfBucket(t, v, "bake-nightly-101"); n.String() != "1 could not (h03), 11 unchanged" || n.Exit != 3 {
		t.Errorf("the second night came to %s, exit status %d", n, n.Exit)
	}
	for _, far := range []string{"status", "--json status"} {
		words := append([]string{"nightly"}, strings.Fields(far)...)
		got := s.run(slices.Insert(words, 1, "--to", fleetPlace)...)
		for _, want := range []string{"bake-nightly-100", "12 promoted", "bake-nightly-101", "1 could not (h03), 11 unchanged"} {
			if far == "--json status" && strings.Contains(want, " ") {
				continue // there the numbers are not added up
			}
			if got.code != 0 || !strings.Contains(got.stdout, want) {
				t.Errorf("%s: exit status %d, does not say %q:\n%s%s", far, got.code, want, got.stdout, got.stderr)
			}
		}
	}
	var pods struct{ Items []kubelab.Pod }
	if err := json.Unmarshal([]byte(c.MustAsk(t, http.MethodGet, "/api/v1/pods?labelSelector=batch.kubernetes.io/job-name%3Dbake-nightly-101", nil)), &pods); err != nil || len(pods.Items) != 3 {
		t.Errorf("%d pods, %v", len(pods.Items), err)
	}
	if slices.ContainsFunc(slices.Collect(maps.Values(f.promoted)), func(times int) bool { return times != 1 }) {
		t.Errorf("the second night promotes: %v", f.promoted)
	}
	checkClean(t, s.dir)
	if strings.Contains(f.said.String(), "owner-secret") {
		t.Error("a secret is in the log of a pod")
	}
}

// TestFleetBase: of three machines that need an image one fetches it from its publisher, the
// others from the bucket; what the bucket has is not believed.
func TestFleetBase(t *testing.T) {
	s := newSleep(t)
	v := newWarehouse(t, s)
	place, err := publish.Open(fleetPlace, publish.Options{Getenv: func(name string) string { return s.env[name] }})
	if err != nil {
		t.Fatal(err)
	}
	path := datedDir(yesterday) + imageName
	content := s.files[path]
	var waiting sync.WaitGroup
	waiting.Add(2)
	s.hook(path, func(out http.ResponseWriter, _ *http.Request) {
		waiting.Wait() // the others know by now that somebody fetches it
		_, _ = out.Write(content)
	})
	ref, err := origin.Parse("ubuntu:24.04", "amd64")
	if err != nil {
		t.Fatal(err)
	}
	obtain := func(i int, say func(string, ...any)) {
		shard, dir := cluster.Shard{Index: i, Of: 4}, t.TempDir()
		d := base.Depot{Cache: filepath.Join(dir, "cache"), Copies: filepath.Join(dir, "copies"), State: filepath.Join(dir, "state"), Config: dir, Keyring: keyring,
			Say: func(text string) { say("%s", text) },
			Shared: sharedBases{place: place, shard: shard, patience: time.Minute, poll: 10 * time.Millisecond, say: say,
				ledger: cluster.Ledger{Store: records{place}, Night: "n-1", Worker: shard.String()}}}
		found, err := d.Obtain(t.Context(), ref, base.Options{Mirrors: map[string]string{"ubuntu": s.url}})
		if err != nil || found.Blob.SHA256 != hexDigest(content) {
			t.Errorf("machine %d: %v", i, err)
			return
		}
		_ = found.Close()
	}
	var machines sync.WaitGroup
	for i := range 3 {
		machines.Go(func() {
			var once sync.Once
			obtain(i, func(format string, args ...any) {
				if text := fmt.Sprintf(format, args...); strings.Contains(text, "is being fetched by") {
					once.Do(waiting.Done)
				} else {
					t.Errorf("machine %d: %s", i, text)
				}
			})
		})
	}
	machines.Wait()
	if times := s.times(path); times != 1 {
		t.Errorf("the publisher was asked %d times", times)
	}
	kept := filepath.Join(v.data, warehouseBucket, "bake/bases/sha256-"+hexDigest(content))
	if err := os.WriteFile(kept, slices.Concat([]byte("X"), content[1:]), 0o644); err != nil {
		t.Fatal(err)
	}
	s.hook(path, nil)
	var said []string
	obtain(3, func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) })
	if times := s.times(path); times != 2 || !strings.Contains(strings.Join(said, "\n"), "fetching it from its publisher") {
		t.Errorf("with other bytes in the bucket the publisher was asked %d times: %q", times, said)
	}
	if strings.Contains(strings.Join(said, "\n"), "X-Amz") {
		t.Errorf("the signed address was shown: %q", said)
	}
}

// TestFleetPayload: of three machines that need a payload one makes it, and the others get that;
// one that nobody who counts has signed, or with other bytes, is not taken.
func TestFleetPayload(t *testing.T) {
	s := newSleep(t)
	v := newWarehouse(t, s)
	place, err := publish.Open(fleetPlace, publish.Options{Getenv: func(name string) string { return s.env[name] }})
	if err != nil {
		t.Fatal(err)
	}
	key, _, err := provenance.CreateKey(filepath.Join(t.TempDir(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	foreign, _, err := provenance.CreateKey(filepath.Join(t.TempDir(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	what := strings.Repeat("ab", 32)
	disk := func(text string) payload.Disk {
		path := filepath.Join(t.TempDir(), "disk")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return payload.Disk{Path: path, SHA256: hexDigest([]byte(text)), Size: int64(len(text))}
	}
	var waiting sync.WaitGroup
	waiting.Add(2)
	loads := func(i int, by provenance.Key, told func()) sharedLoads {
		shard := cluster.Shard{Index: i, Of: 9}
		var once sync.Once
		return sharedLoads{sharedBases{place: place, shard: shard, patience: time.Minute, poll: 10 * time.Millisecond,
			ledger: cluster.Ledger{Store: records{place}, Night: "n-1", Worker: shard.String()},
			say: func(format string, args ...any) {
				if strings.Contains(fmt.Sprintf(format, args...), "is being made by") && told != nil {
					once.Do(told)
				}
			}}, provenance.Ring{key.Public}, by}
	}
	ctx := t.Context()
	get := func(l sharedLoads) (string, bool, error) {
		file := filepath.Join(t.TempDir(), "disk")
		ok, err := l.Find(ctx, what, file)
		content, _ := os.ReadFile(file)
		if entries, _ := os.ReadDir(filepath.Dir(file)); len(entries) > 1 || !ok && len(entries) > 0 {
			t.Errorf("left behind: %v", entries)
		}
		return string(content), ok, err
	}
	var made sync.Map
	var machines sync.WaitGroup
	for i := range 3 {
		machines.Go(func() {
			l := loads(i, key, waiting.Done)
			text, ok, err := get(l)
			switch {
			case err != nil:
				t.Errorf("machine %d: %v", i, err)
			case !ok:
				waiting.Wait() // the others know by now
				made.Store(i, true)
				if err := l.Offer(ctx, what, disk("the payload")); err != nil {
					t.Error(err)
				}
			case text != "the payload":
				t.Errorf("machine %d has %q", i, text)
			}
		})
	}
	machines.Wait()
	times := 0
	made.Range(func(any, any) bool { times++; return true })
	if times != 1 {
		t.Errorf("it was made %d times", times)
	}
	path := filepath.Join(v.data, warehouseBucket, "bake/payloads", what)
	if err := os.WriteFile(path+"."+hexDigest([]byte("the payload")), []byte("the pAyload"), 0o644); err != nil {
		t.Fatal(err)
	}
	if text, ok, err := get(loads(3, key, nil)); ok || err == nil || exitCode(err) != 5 {
		t.Errorf("other bytes are taken: %q, %v", text, err)
	}
	if err := loads(4, foreign, nil).Offer(ctx, what, disk("evil")); err != nil {
		t.Fatal(err)
	}
	if text, ok, err := get(loads(5, key, nil)); ok || err == nil || !strings.Contains(err.Error(), "is not believed") {
		t.Errorf("what a foreign key has signed is taken: %q, %v", text, err)
	}
	if err := loads(6, key, nil).Offer(ctx, what, disk("the payload, again")); err != nil {
		t.Fatal(err)
	}
	if text, ok, err := get(loads(7, foreign, nil)); !ok || err != nil || text != "the payload, again" {
		t.Errorf("after it was made anew: %q, %v", text, err)
	}
	other := strings.Repeat("cd", 32)
	content, version, err := place.Record(ctx, loadName(what))
	if err != nil || version == "" {
		t.Fatal(err)
	}
	if _, err := place.SetRecord(ctx, loadName(other), content, ""); err != nil {
		t.Fatal(err)
	}
	if ok, err := loads(8, key, nil).Find(ctx, other, filepath.Join(t.TempDir(), "disk")); ok || err == nil || !strings.Contains(err.Error(), "it is about something else") {
		t.Errorf("another payload's statement is taken: %v", err)
	}
}

// TestFleetForgedClaim: who may write to the bucket, and has no key, writes down a promotion as a
// worker that did not live to tell of it would have: of an older generation, which was good once.
// Nobody signs that for him.
func TestFleetForgedClaim(t *testing.T) {
	s := newSleep(t)
	v := newWarehouse(t, s)
	if o := s.run("key", "create"); o.code != 0 {
		t.Fatalf("%+v", o)
	}
	night := func(name string, want int) {
		t.Helper()
		if o := s.night("--shard", "0/1", "--night", name, "--to", fleetPlace); o.code != want {
			t.Fatalf("%s: %+v", name, o)
		}
		if o := s.run("nightly", "status"); o.code != want || !strings.Contains(o.stdout, "1 ") || strings.Contains(o.stdout, "cut off") {
			t.Errorf("%s: here the night is %+v", name, o)
		}
	}
	read := func(name string) []byte {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(v.data, warehouseBucket, "bake", name))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	image := func() string {
		t.Helper()
		var tag struct{ Digest string }
		if err := json.Unmarshal(read("tags/zap-current"), &tag); err != nil {
			t.Fatal(err)
		}
		return tag.Digest
	}
	night("n-1", 0)
	old := image()
	var was cluster.Entry
	if err := json.Unmarshal(read("nightly/hosts/zap"), &was); err != nil || was.Image != old {
		t.Fatalf("%+v, %v", was, err)
	}
	s.publish(changedImage(t, map[string]string{"etc/motd": "new"}), now)
	night("n-2", 0)
	fresh := image()
	if fresh == old {
		t.Fatal("there is no new image")
	}
	var mutex sync.Mutex
	var tags []string
	v.reset(func(_ http.ResponseWriter, in *http.Request) bool {
		if in.Method == http.MethodPut && strings.HasSuffix(in.URL.Path, "/tags/zap-current") {
			body, err := io.ReadAll(in.Body)
			if err != nil {
				t.Error(err)
			}
			in.Body = io.NopCloser(bytes.NewReader(body))
			mutex.Lock()
			defer mutex.Unlock()
			tags = append(tags, string(body))
		}
		return false
	})
	for i, forge := range []func(*cluster.Entry){
		func(e *cluster.Entry) {},
		func(e *cluster.Entry) { e.Statement = nil },
	} {
		forged := was // with what was signed when it was promoted
		forged.Night, forged.Outcome, forged.Token = fmt.Sprintf("n-%d", 3+i), nil, 99
		forge(&forged)
		text, err := json.Marshal(forged)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(v.data, warehouseBucket, "bake/nightly/hosts/zap"), text, 0o644); err != nil {
			t.Fatal(err)
		}
		night(forged.Night, 0)
		if image() != fresh || len(tags) > 0 {
			t.Errorf("forged as %d: the tag is %s, want %s; it was %q", i, image(), fresh, tags)
		}
		if n := nightOfBucket(t, v, forged.Night); n.String() != "1 unchanged" {
			t.Errorf("forged as %d: the night came to %s", i, n)
		}
	}
}
