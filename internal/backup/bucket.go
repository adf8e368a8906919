package backup

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/lifecycle"
)

// A Bucket is where a repository on S3 lies, as one of its keys sees it.
type Bucket struct {
	name, prefix string
	client       *minio.Client
	now          func() time.Time
}

// attempts is how often a question is put to a server that does not answer: a person
// waits.
const attempts = 3

func newBucket(u *url.URL, name, prefix, region string, keys keys) (*Bucket, error) {
	client, err := minio.New(u.Host, &minio.Options{
		Creds:  credentials.NewStaticV4(string(keys.Access.Reveal()), string(keys.Secret.Reveal()), ""),
		Secure: u.Scheme == "https", Region: region, MaxRetries: attempts, BucketLookup: minio.BucketLookupPath,
	})
	if err != nil {
		return nil, fmt.Errorf("the bucket %s: %w", name, err)
	}
	return &Bucket{name, prefix, client, time.Now}, nil
}

// String is the name of the bucket, and where it is.
func (b *Bucket) String() string { return b.client.EndpointURL().Host + "/" + b.name }

func (b *Bucket) fault(err error) error { return answered(b.String(), err) }

// finding is one thing that a bucket must be, and whether it is.
type finding struct {
	What string `json:"what"`
	OK   bool   `json:"ok"`
	Said string `json:"said,omitempty"` // what it is instead, and what to do
}

// A Lock is for how long a bucket lets nobody delete what it was given.
type Lock struct {
	Compliance bool // nobody at all; else whoever may bypass governance can
	Days       uint
	AtLeast    bool // one that is there does not become shorter
}

func (l Lock) mode() minio.RetentionMode {
	if l.Compliance {
		return minio.Compliance
	}
	return minio.Governance
}

// Create makes the bucket if it is absent, with versions and object lock, and gives it a
// lock. A bucket that is there without object lock is left alone: Check says what is
// wrong with it.
func (b *Bucket) Create(ctx context.Context, l Lock) (made bool, err error) {
	is, err := b.client.BucketExists(ctx, b.name)
	if err != nil {
		return false, b.fault(err)
	}
	if !is {
		if err := b.client.MakeBucket(ctx, b.name, minio.MakeBucketOptions{ObjectLocking: true}); err != nil {
			return false, b.fault(err)
		}
	}
	on, mode, validity, unit, err := b.client.GetObjectLockConfig(ctx, b.name)
	has, isCompliance := inDays(validity, unit), mode != nil && *mode == minio.Compliance
	switch {
	case minio.ToErrorResponse(err).Code == noLock, err == nil && on != "Enabled":
		return !is, nil
	case err != nil:
		return !is, b.fault(err)
	case l.AtLeast && mode != nil && has >= l.Days && (isCompliance || !l.Compliance):
		return !is, nil
	case l.AtLeast:
		l.Days = max(l.Days, has)
	}
	l.Compliance = l.Compliance || isCompliance // a lock becomes no weaker
	wanted, days := l.mode(), minio.Days
	return !is, b.fault(b.client.SetObjectLockConfig(ctx, b.name, &wanted, &l.Days, &days))
}

// noLock is the code of a server's answer about a bucket without object lock.
const noLock = "ObjectLockConfigurationNotFoundError"

// inDays is how long a bucket locks by default, 0 for not at all.
func inDays(validity *uint, unit *minio.ValidityUnit) uint {
	switch {
	case validity == nil || unit == nil:
		return 0
	case *unit == minio.Years:
		return *validity * 365
	}
	return *validity
}

// margin is for how long a backup must be locked at least where locks are renewed: a
// break-in is seen by then.
const margin = 14

// Need is for how many days a bucket must lock what it is given so that every backup
// that is kept is locked. A pack is stored once and used for as long as it is needed: by
// backups that come when its lock is half over, too. Renewing locks makes that moot.
func (k keep) Need(renews bool) uint {
	if renews {
		return margin
	}
	return uint(2 * k.oldest() / (24 * time.Hour))
}

// Check says whether a bucket keeps what it is given, for so many days at least, and
// whether this key, the writer's, can do nothing about it. For that it stores an object
// of a few bytes and tries.
func (b *Bucket) Check(ctx context.Context, days uint) ([]finding, error) {
	if err := b.isThere(ctx); err != nil {
		return nil, err
	}
	all := b.settings(ctx, days)
	info, err := b.put(ctx, path.Join(b.prefix, probeName), "what bake backup bucket tries to delete\n")
	if err != nil {
		return append(all, finding{What: "the writer can store", Said: b.fault(err).Error()}), nil
	}
	all = append(all, finding{What: "the writer can store", OK: true}, b.untouched(ctx))
	return append(all, b.trials(ctx, info)...), nil
}

func (b *Bucket) isThere(ctx context.Context) error {
	is, err := b.client.BucketExists(ctx, b.name)
	if err == nil && !is {
		return &fault{Store: b.String(), Cause: causeNoBucket, Hint: "bake backup bucket --create makes it as it should be"}
	}
	return b.fault(err)
}

const probeName = "bake-probe"

func (b *Bucket) put(ctx context.Context, key, text string) (minio.UploadInfo, error) {
	return b.client.PutObject(ctx, b.name, key, strings.NewReader(text), int64(len(text)),
		minio.PutObjectOptions{SendContentMd5: true, DisableMultipart: true})
}

// settings are what a bucket says of itself. A writer need not be allowed to ask.
func (b *Bucket) settings(ctx context.Context, days uint) []finding {
	versions, err := b.client.GetBucketVersioning(ctx, b.name)
	keeps := finding{What: "every version of an object is kept", OK: err == nil && versions.Enabled()}
	switch {
	case err != nil:
		keeps.Said = b.fault(err).Error()
	case !keeps.OK:
		keeps.Said = "versioning is off"
	}
	on, mode, validity, unit, err := b.client.GetObjectLockConfig(ctx, b.name)
	locks := finding{What: fmt.Sprintf("what is stored cannot be deleted for at least %d days", days)}
	switch {
	case err != nil && minio.ToErrorResponse(err).Code == noLock, err == nil && on != "Enabled":
		locks.Said = "object lock is off, and most servers can only turn it on for a new bucket: bake backup bucket --create makes one"
	case err != nil:
		locks.Said = b.fault(err).Error()
	case mode == nil || validity == nil || unit == nil:
		locks.Said = fmt.Sprintf("object lock is on, but nothing is locked by default: bake backup bucket --create --days %d says so", days)
	default:
		has := inDays(validity, unit)
		if locks.OK = has >= days; !locks.OK {
			locks.Said = fmt.Sprintf("it is locked for %d, %s: bake backup bucket --create --days %d changes that for what is stored from then on", has, *mode, days)
		} else {
			locks.Said = fmt.Sprintf("%d days, %s", has, *mode)
		}
	}
	return []finding{keeps, locks}
}

// trials are what the writer must not be able to do. The order is from the harmless to
// what destroys the probe.
func (b *Bucket) trials(ctx context.Context, probe minio.UploadInfo) []finding {
	governance, past := minio.Governance, b.now().Add(time.Hour).UTC()
	all := []finding{
		b.tryLock(ctx), b.tryRules(ctx),
		refused("the writer cannot turn versions off", b.client.SuspendVersioning(ctx, b.name), func() { _ = b.client.EnableVersioning(ctx, b.name) }),
		refused("the writer cannot shorten a lock", b.client.PutObjectRetention(ctx, b.name, probe.Key,
			minio.PutObjectRetentionOptions{GovernanceBypass: true, Mode: &governance, RetainUntilDate: &past, VersionID: probe.VersionID}), nil),
	}
	return append(all,
		refused("the writer cannot have an object be deleted but a lock", b.client.RemoveObject(ctx, b.name, probe.Key, minio.RemoveObjectOptions{}), nil),
		refused("the writer cannot delete a version", b.client.RemoveObject(ctx, b.name, probe.Key,
			minio.RemoveObjectOptions{GovernanceBypass: true, VersionID: probe.VersionID}), nil))
}

// tryLock gives the bucket the lock that it has.
func (b *Bucket) tryLock(ctx context.Context) finding {
	const what = "the writer cannot change for how long is locked"
	_, mode, validity, unit, err := b.client.GetObjectLockConfig(ctx, b.name)
	if err != nil {
		return untried(what, err)
	}
	return refused(what, b.client.SetObjectLockConfig(ctx, b.name, mode, validity, unit), nil)
}

// tryRules gives the bucket the rules that it has about what expires, or one that does
// nothing.
func (b *Bucket) tryRules(ctx context.Context) finding {
	const what = "the writer cannot have versions expire"
	rules, err := b.client.GetBucketLifecycle(ctx, b.name)
	none := minio.ToErrorResponse(err).Code == "NoSuchLifecycleConfiguration"
	switch {
	case minio.ToErrorResponse(err).StatusCode == http.StatusNotImplemented:
		return finding{What: what, OK: true, Said: "the server has no such rules"}
	case err != nil && !none:
		return untried(what, err)
	case none:
		rules = lifecycle.NewConfiguration()
		rules.Rules = []lifecycle.Rule{{ID: probeName, Status: "Disabled", RuleFilter: lifecycle.Filter{Prefix: probeName + "/"}, Expiration: lifecycle.Expiration{Days: 36500}}}
	}
	return refused(what, b.client.SetBucketLifecycle(ctx, b.name, rules), func() {
		if none {
			_ = b.client.SetBucketLifecycle(ctx, b.name, lifecycle.NewConfiguration())
		}
	})
}

// untouched says whether every object of the repository is what was stored first: restic
// writes none twice, and whoever has the writer's key can.
func (b *Bucket) untouched(ctx context.Context) finding {
	is := finding{What: "nothing that is stored was written over"}
	all, err := b.histories(ctx)
	if err != nil {
		is.Said = b.fault(err).Error()
		return is
	}
	var changed []string
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if h := all[key]; !h.latest.IsDeleteMarker && !h.isSame() {
			changed = append(changed, key)
		}
	}
	if is.OK = len(changed) == 0; !is.OK {
		is.Said = fmt.Sprintf("%d objects were, %s first: somebody has the writer's key; bake backup bucket --revive makes them what they were", len(changed), changed[0])
	}
	return is
}

// untried is of what could not be read: what is there would be lost by a try. A key that may
// not read may write all the same.
func untried(what string, err error) finding {
	said := answered("not tried, for it could not be read, which the policy of bake backup bucket --policy allows", err)
	return finding{What: what, Said: said.Error()}
}

// What servers say no with. That a bucket is not in the state for it, or an object locked, some
// call a bad request: versitygw the first, MinIO the second.
var (
	noStatus = []int{http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusConflict}
	noCode   = []string{"InvalidBucketState", "InvalidRequest"}
)

// refused demands that a server said no. Anything else than yes or no is no answer: also
// that there is no such thing, that the question was bad, or that it came too late or too
// often.
func refused(what string, err error, undo func()) finding {
	said := minio.ToErrorResponse(err)
	switch {
	case err == nil:
		if undo != nil {
			undo()
		}
		return finding{What: what, Said: "it can: give it the policy that bake backup bucket --policy prints"}
	case slices.Contains(noStatus, said.StatusCode) || slices.Contains(noCode, said.Code):
		return finding{What: what, OK: true, Said: said.Code}
	}
	return finding{What: what, Said: answered("the server did not say", err).Error()}
}

// Renew has every object of the repository that is in use locked for as long as one
// stored today. It returns how many needed it. A writer that could do so could also lock
// for a thousand years, so it is for the pruner.
func (b *Bucket) Renew(ctx context.Context) (renewed int, err error) {
	on, mode, validity, unit, err := b.client.GetObjectLockConfig(ctx, b.name)
	if err != nil || on != "Enabled" || mode == nil || validity == nil || unit == nil {
		if code := minio.ToErrorResponse(err).Code; err == nil || code == noLock || code == "NotImplemented" {
			return 0, nil // nothing is locked here
		}
		return 0, b.fault(err)
	}
	days := int(inDays(validity, unit))
	now := b.now().UTC()
	until := now.AddDate(0, 0, days)
	for object := range b.client.ListObjects(ctx, b.name, minio.ListObjectsOptions{Prefix: b.folder(), Recursive: true, WithVersions: true}) {
		if object.Err != nil {
			return renewed, b.fault(object.Err)
		}
		if !object.IsLatest || object.IsDeleteMarker || b.isPassing(object.Key) || object.LastModified.AddDate(0, 0, days/2).After(now) {
			continue // young enough, or not in use
		}
		held, err := b.lockedUntil(ctx, object)
		if err != nil {
			return renewed, b.fault(err)
		}
		if held.After(now.AddDate(0, 0, (days+1)/2)) {
			continue
		}
		if err := b.client.PutObjectRetention(ctx, b.name, object.Key,
			minio.PutObjectRetentionOptions{Mode: mode, RetainUntilDate: &until, VersionID: object.VersionID}); err != nil {
			return renewed, b.fault(err)
		}
		renewed++
	}
	return renewed, b.fault(ctx.Err())
}

// lockedUntil is what a HEAD says: the answer of the question for a retention is not the
// same document everywhere.
func (b *Bucket) lockedUntil(ctx context.Context, object minio.ObjectInfo) (time.Time, error) {
	info, err := b.client.StatObject(ctx, b.name, object.Key, minio.StatObjectOptions{VersionID: object.VersionID})
	if err != nil {
		return time.Time{}, err
	}
	until, err := time.Parse(time.RFC3339, info.Metadata.Get("X-Amz-Object-Lock-Retain-Until-Date"))
	if err != nil {
		return time.Time{}, nil // it is not locked
	}
	return until, nil
}

// folder is what all keys of the repository begin with.
func (b *Bucket) folder() string {
	if b.prefix == "" {
		return ""
	}
	return strings.TrimSuffix(b.prefix, "/") + "/"
}

// isPassing says whether an object is no part of what is kept.
func (b *Bucket) isPassing(key string) bool {
	rest := strings.TrimPrefix(key, b.folder())
	return strings.HasPrefix(rest, "locks/") || rest == probeName
}

// Revive undoes what was deleted and written over in the repository, from the versions
// that the bucket has kept. restic writes an object once and never again, so of each the
// oldest version is the true one. Nothing is destroyed by it; what was pruned and is not
// gone for good is there again, too, until the next prune. It needs a key that may read
// versions and store, and returns how many objects were not as they had been.
func (b *Bucket) Revive(ctx context.Context, dry bool) (changed int, err error) {
	all, err := b.histories(ctx)
	if err != nil {
		return 0, b.fault(err)
	}
	for _, key := range slices.Sorted(maps.Keys(all)) {
		h := all[key]
		if h.oldest.Key == "" || h.isSame() {
			continue
		}
		changed++
		if dry {
			continue
		}
		if _, err := b.client.CopyObject(ctx, minio.CopyDestOptions{Bucket: b.name, Object: key},
			minio.CopySrcOptions{Bucket: b.name, Object: key, VersionID: h.oldest.VersionID}); err != nil {
			return changed, b.fault(err)
		}
	}
	return changed, nil
}

// history is what a bucket keeps of an object.
type history struct{ latest, oldest minio.ObjectInfo }

func (h *history) isSame() bool {
	return !h.latest.IsDeleteMarker && h.latest.ETag == h.oldest.ETag && h.latest.Size == h.oldest.Size
}

// histories are those of the repository's objects, by their keys.
func (b *Bucket) histories(ctx context.Context) (map[string]*history, error) {
	all := map[string]*history{}
	for object := range b.client.ListObjects(ctx, b.name, minio.ListObjectsOptions{Prefix: b.folder(), Recursive: true, WithVersions: true}) {
		if object.Err != nil {
			return nil, object.Err
		}
		if b.isPassing(object.Key) {
			continue
		}
		h := all[object.Key]
		if h == nil {
			h = &history{}
			all[object.Key] = h
		}
		if object.IsLatest {
			h.latest = object
		}
		// A server lists the versions of an object from the newest to the oldest.
		if !object.IsDeleteMarker && (h.oldest.Key == "" || !object.LastModified.After(h.oldest.LastModified)) {
			h.oldest = object
		}
	}
	return all, nil
}
