//go:build e2e

package backup

import (
	"bytes"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"bake/internal/secret"
)

// patience is after what time a store that does not get on is given up: long enough for
// a busy machine not to be taken for one.
const patience = 20 * time.Second

// server is a versitygw with a bucket of the owner's, in which writer and pruner may do
// what Policy says.
type server struct {
	*url.URL
	data, versions string
}

const bucketName = "zap"

func keysOf(who Role) keys {
	return keys{secret.New("key", []byte(who)), secret.New("secret", []byte(who+"-secret"))}
}

// serve starts a server with a bucket that locks for so many days.
func serve(t *testing.T, lock Lock) *server {
	t.Helper()
	needs(t, "restic")
	program := os.Getenv("BAKE_E2E_S3")
	if program == "" {
		t.Fatal("BAKE_E2E_S3 does not name a versitygw: make e2e does")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0") // for a port that is free
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	dir := t.TempDir()
	s := &server{URL: &url.URL{Scheme: "http", Host: address}, data: filepath.Join(dir, "data"), versions: filepath.Join(dir, "versions")}
	for _, d := range []string{s.data, s.versions, filepath.Join(dir, "iam")} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	var said bytes.Buffer
	cmd := exec.Command(program, "--port", address, "--iam-dir", filepath.Join(dir, "iam"), "--quiet", "posix", "--versioning-dir", s.versions, s.data)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+string(Owner), "ROOT_SECRET_KEY="+string(Owner)+"-secret")
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("the server said: %s", said.String())
		}
	})
	await(t, "server", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	for _, who := range []Role{Writer, Pruner} {
		admin := exec.Command(program, "admin", "--access", string(Owner), "--secret", string(Owner)+"-secret", "--endpoint-url", s.String(),
			"create-user", "--access", string(who), "--secret", string(who)+"-secret", "--role", "user")
		if out, err := admin.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	if made, err := s.as(t, Owner).Create(t.Context(), lock); err != nil || !made {
		t.Fatalf("making a bucket: %v, %v", made, err)
	}
	s.permit(t)
	return s
}

// permit hangs the policies of writer and pruner at the bucket.
func (s *server) permit(t *testing.T, more ...statement) {
	t.Helper()
	all := more
	for _, who := range []Role{Writer, Pruner} {
		for _, statement := range s.as(t, who).statements(who == Pruner) {
			statement.Principal = map[string][]string{"AWS": {string(who)}}
			all = append(all, statement)
		}
	}
	policy, err := document(all)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.as(t, Owner).client.SetBucketPolicy(t.Context(), bucketName, string(policy)); err != nil {
		t.Fatalf("%v\n%s", err, policy)
	}
}

func (s *server) as(t *testing.T, who Role) *Bucket {
	t.Helper()
	b, err := newBucket(s.URL, bucketName, "bake", "us-east-1", keysOf(who))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// repository is one in the bucket, as somebody sees it.
func (s *server) repository(who Role) *restic { return repositoryAt(s.Host, who) }

func repositoryAt(host string, who Role) *restic {
	return &restic{Repository: "s3:http://" + host + "/" + bucketName + "/bake", Password: secret.New("password", []byte(word)),
		Keys: keysOf(who)}
}

func failing(all []finding) (names []string) {
	for _, f := range all {
		if !f.OK {
			names = append(names, f.What+": "+f.Said)
		}
	}
	return names
}

// TestE2EBucket makes a bucket and has it judged; then every judgement must fail in turn.
func TestE2EBucket(t *testing.T) {
	t.Parallel()
	s := serve(t, Lock{Days: 30})
	found, err := s.as(t, Writer).Check(t.Context(), 30)
	if err != nil || len(failing(found)) > 0 || len(found) != 10 {
		t.Fatalf("%v, %+v", err, found)
	}
	falsify := func(what, want string, find func() ([]finding, error)) {
		t.Helper()
		found, err := find()
		if bad := strings.Join(failing(found), "\n"); err != nil || !strings.Contains(bad, want) {
			t.Errorf("%s: %v, %q, want %q", what, err, bad, want)
		}
	}
	ctx := t.Context()
	falsify("longer", "for at least 31 days: it is locked for 30, GOVERNANCE", func() ([]finding, error) { return s.as(t, Writer).Check(ctx, 31) })
	falsify("the owner's key", "the writer cannot delete a version: it can", func() ([]finding, error) { return s.as(t, Owner).Check(ctx, 30) })
	resource := []string{"arn:aws:s3:::" + bucketName + "/*"}
	whom := map[string][]string{"AWS": {string(Writer)}}
	s.permit(t, statement{"Allow", whom, []string{"s3:PutObjectRetention", "s3:BypassGovernanceRetention"}, resource})
	falsify("retention", "the writer cannot shorten a lock: it can", func() ([]finding, error) { return s.as(t, Writer).Check(ctx, 30) })
	s.permit(t, statement{"Allow", whom, []string{"s3:DeleteObjectVersion", "s3:BypassGovernanceRetention"}, resource})
	falsify("deletes", "the writer cannot delete a version: it can", func() ([]finding, error) { return s.as(t, Writer).Check(ctx, 30) })
	s.permit(t, statement{"Allow", whom, []string{"s3:DeleteObject"}, resource})
	falsify("hides", "the writer cannot have an object be deleted but a lock: it can", func() ([]finding, error) { return s.as(t, Writer).Check(ctx, 30) })
	s.permit(t, statement{"Allow", whom, []string{"s3:PutBucketObjectLockConfiguration"}, []string{"arn:aws:s3:::" + bucketName}})
	falsify("locks", "the writer cannot change for how long is locked: it can", func() ([]finding, error) { return s.as(t, Writer).Check(ctx, 30) })
	for range 2 {
		if _, err := s.as(t, Writer).put(ctx, "bake/data/00/00", "twice the same"); err != nil {
			t.Fatal(err)
		}
	}
	if found, err := s.as(t, Writer).Check(ctx, 30); err != nil || strings.Contains(strings.Join(failing(found), " "), "written over") {
		t.Errorf("the same twice: %v, %+v", err, found)
	}
	if _, err := s.as(t, Writer).put(ctx, "bake/data/00/00", "another"); err != nil {
		t.Fatal(err)
	}
	falsify("writes over", "nothing that is stored was written over: 1 objects were, bake/data/00/00 first", func() ([]finding, error) { return s.as(t, Writer).Check(ctx, 30) })
	atLeast := func(days uint) {
		t.Helper()
		if _, err := s.as(t, Owner).Create(ctx, Lock{Days: days, AtLeast: true}); err != nil {
			t.Fatal(err)
		}
	}
	atLeast(20) // a longer one stays
	falsify("shorter", "for at least 31 days: it is locked for 30", func() ([]finding, error) { return s.as(t, Writer).Check(ctx, 31) })
	atLeast(40)
	if found, err := s.as(t, Writer).Check(ctx, 40); err != nil || !found[1].OK {
		t.Errorf("%v, %+v", err, found)
	}
	s.permit(t, statement{"Allow", whom, []string{"s3:PutBucketVersioning"}, []string{"arn:aws:s3:::" + bucketName}})
	if _, err := s.as(t, Writer).Check(ctx, 30); err != nil { // a bucket with object lock refuses, whoever asks
		t.Error(err)
	}
	s.permit(t, statement{"Deny", whom, []string{"s3:PutObject"}, resource})
	falsify("stores", "the writer can store: ", func() ([]finding, error) { return s.as(t, Writer).Check(ctx, 30) })

	plain := s.as(t, Owner)
	plain.name = "plain"
	if err := plain.client.MakeBucket(ctx, "plain", minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	falsify("no versions", "versioning is off", func() ([]finding, error) { return plain.Check(ctx, 30) })
	falsify("no lock", "object lock is off", func() ([]finding, error) { return plain.Check(ctx, 30) })
	if made, err := plain.Create(ctx, Lock{Days: 1}); made || err != nil {
		t.Errorf("a bucket that is there was made: %v, %v", made, err)
	}
	plain.name = "absent"
	_, err = plain.Check(ctx, 30)
	caused(t, err, causeNoBucket)
}

// TestE2ES3Words: what can be wrong with a bucket and its keys, in words.
func TestE2ES3Words(t *testing.T) {
	t.Parallel()
	s := serve(t, Lock{Days: 1})
	j := state(t, 1<<10)
	with := func(change func(*restic)) *restic {
		r := s.repository(Writer)
		change(r)
		return r
	}
	absent := with(func(r *restic) { r.Repository = "s3:" + s.String() + "/none/bake"; r.Keys = keysOf(Owner) })
	_, err := absent.Init(t.Context()) // restic would make one, without versions
	caused(t, err, causeNoBucket)
	for name, test := range map[string]struct {
		r    *restic
		want cause
	}{
		"no such key":   {with(func(r *restic) { r.Keys.Access = secret.New("key", []byte("nobody")) }), causeRefused},
		"wrong secret":  {with(func(r *restic) { r.Keys.Secret = secret.New("secret", []byte("hunter2")) }), causeRefused},
		"no bucket":     {with(func(r *restic) { r.Repository = "s3:" + s.String() + "/none/bake"; r.Keys = keysOf(Owner) }), causeNoBucket},
		"no repository": {with(func(*restic) {}), causeAbsent},
		"no server":     {with(func(r *restic) { r.Repository = "s3:http://127.0.0.1:1/zap/bake" }), causeUnreachable},
	} {
		_, err := test.r.Save(t.Context(), j)
		if f := caused(t, err, test.want); strings.Contains(err.Error(), "hunter2") || !f.Network() {
			t.Errorf("%s: %v", name, err)
		}
		t.Logf("%s: %v", name, err)
	}
}

// TestE2EAttack is somebody who has taken the host and has the writer's key. What was
// stored before comes back, although the bucket's lock is the governance kind.
func TestE2EAttack(t *testing.T) {
	t.Parallel()
	s := serve(t, Lock{Days: 30})
	if _, err := s.repository(Writer).Init(t.Context()); err != nil {
		t.Fatal(err)
	}
	j := state(t, 2<<20)
	saved := save(t, s.repository(Writer), j)
	evil := s.as(t, Writer)
	var versions, destroyed, hidden, written int
	for object := range evil.client.ListObjects(t.Context(), bucketName, minio.ListObjectsOptions{Recursive: true, WithVersions: true}) {
		if object.Err != nil {
			t.Fatal(object.Err)
		}
		versions++
		count := func(n *int, err error) {
			if err == nil {
				*n++
			}
		}
		for _, bypass := range []bool{false, true} {
			count(&destroyed, evil.client.RemoveObject(t.Context(), bucketName, object.Key, minio.RemoveObjectOptions{VersionID: object.VersionID, GovernanceBypass: bypass}))
		}
		if strings.Contains(object.Key, "/data/") || strings.Contains(object.Key, "/snapshots/") {
			_, err := evil.put(t.Context(), object.Key, "you have been had")
			count(&written, err)
		} else {
			count(&hidden, evil.client.RemoveObject(t.Context(), bucketName, object.Key, minio.RemoveObjectOptions{}))
		}
	}
	t.Logf("of %d versions the writer's key destroyed %d, hid %d and wrote over %d", versions, destroyed, hidden, written)
	if destroyed > 0 || written == 0 || versions < 5 {
		t.Error("that is not what it must be able to do")
	}
	// Somebody who has the pruner's key, too, hides all that is left.
	worse := s.as(t, Pruner)
	for object := range worse.client.ListObjects(t.Context(), bucketName, minio.ListObjectsOptions{Recursive: true, WithVersions: true}) {
		if err := worse.client.RemoveObject(t.Context(), bucketName, object.Key, minio.RemoveObjectOptions{VersionID: object.VersionID, GovernanceBypass: true}); err == nil && !object.IsDeleteMarker {
			t.Errorf("the pruner's key destroyed %s", object.Key)
		}
		_ = worse.client.RemoveObject(t.Context(), bucketName, object.Key, minio.RemoveObjectOptions{})
	}
	_, err := s.repository(Writer).List(t.Context(), "zap")
	caused(t, err, causeAbsent)

	owner := s.as(t, Owner)
	would, err := owner.Revive(t.Context(), true)
	if err != nil || would == 0 {
		t.Fatal(would, err)
	}
	changed, err := owner.Revive(t.Context(), false)
	if err != nil || changed != would {
		t.Fatalf("%d of %d, %v", changed, would, err)
	}
	list, err := s.repository(Writer).List(t.Context(), "zap")
	if err != nil || len(list) != 1 || list[0].ID != saved.ID {
		t.Fatalf("%v, %v", list, err)
	}
	isWhole(t, s.repository(Writer), saved, j)
	if err := s.repository(Pruner).Check(t.Context(), "100%"); err != nil {
		t.Error(err)
	}
	if again, err := owner.Revive(t.Context(), false); err != nil || again != 0 {
		t.Errorf("there were %d left, %v", again, err)
	}
}

// TestE2ERenew: what restic still uses stays locked, what it does not use any more does
// not.
func TestE2ERenew(t *testing.T) {
	t.Parallel()
	s := serve(t, Lock{Days: 30})
	if _, err := s.repository(Writer).Init(t.Context()); err != nil {
		t.Fatal(err)
	}
	j := state(t, 1<<10)
	saved := save(t, s.repository(Writer), j)
	if n, err := s.as(t, Pruner).Renew(t.Context()); n != 0 || err != nil {
		t.Fatalf("what is new was renewed: %d, %v", n, err)
	}
	// A month later: the lock is over, and nobody has renewed it.
	past := func(b *Bucket) (all int) {
		soon, governance := time.Now().Add(time.Hour).UTC(), minio.Governance
		for object := range b.client.ListObjects(t.Context(), bucketName, minio.ListObjectsOptions{Recursive: true, WithVersions: true}) {
			if object.IsDeleteMarker || b.isPassing(object.Key) {
				continue
			}
			if err := b.client.PutObjectRetention(t.Context(), bucketName, object.Key, minio.PutObjectRetentionOptions{
				GovernanceBypass: true, Mode: &governance, RetainUntilDate: &soon, VersionID: object.VersionID}); err != nil {
				t.Fatal(err)
			}
			all++
		}
		return all
	}
	all := past(s.as(t, Owner))
	pruner := s.as(t, Pruner)
	pruner.now = func() time.Time { return time.Now().AddDate(0, 0, 20) }
	n, err := pruner.Renew(t.Context())
	if err != nil || n != all {
		t.Fatalf("%d of %d, %v", n, all, err)
	}
	if n, err := pruner.Renew(t.Context()); err != nil || n != 0 {
		t.Errorf("renewed what was: %d, %v", n, err)
	}
	if n, err := s.as(t, Writer).Renew(t.Context()); err == nil && n > 0 {
		t.Error("the writer renews")
	}
	isWhole(t, s.repository(Writer), saved, j)
}

// TestE2EKeysPrune: with the writer's key nothing is pruned, with the pruner's it is.
func TestE2EKeysPrune(t *testing.T) {
	t.Parallel()
	s := serve(t, Lock{Days: 1})
	if _, err := s.repository(Writer).Init(t.Context()); err != nil {
		t.Fatal(err)
	}
	j := state(t, 1<<10)
	save(t, s.repository(Writer), j)
	j.Time = j.Time.Add(time.Hour)
	newest := save(t, s.repository(Writer), j)
	denied := s.repository(Writer)
	denied.Limits.Stall = patience // restic asks again and again
	_, err := denied.Prune(t.Context(), "zap", keep{}, false)
	if err == nil {
		t.Fatal("the writer has pruned")
	}
	t.Logf("the writer: %v", err)
	if removed, err := s.repository(Pruner).Prune(t.Context(), "zap", keep{}, false); err != nil || len(removed) != 1 {
		t.Fatalf("%v, %v", removed, err)
	}
	if err := s.repository(Writer).Check(t.Context(), "100%"); err != nil {
		t.Error(err)
	}
	isWhole(t, s.repository(Writer), newest, j)
}
