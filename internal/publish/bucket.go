package publish

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

const (
	attempts     = 5
	validFor     = 12 * time.Hour // of an address that is signed for one download
	maxDocument  = 4 << 20        // bytes of a manifest or a tag
	awsEndpoint  = "https://s3.amazonaws.com"
	sumHeader    = "X-Amz-Checksum-Sha256"
	maxSinglePut = 5 << 30 // bytes, S3's own limit
)

// bucket is a prefix in one. Who we are there is in the variables that every tool for S3
// reads.
type bucket struct {
	client       *minio.Client
	name, prefix string
	isNobody     bool // there are no keys
	base         http.RoundTripper
}

func openBucket(address string, o Options) (*bucket, error) {
	get := func(names ...string) (value string) {
		for _, name := range names {
			value = cmp.Or(value, o.Getenv(name))
		}
		return value
	}
	name, prefix, _ := strings.Cut(address, "/")
	if name == "" || prefix != "" && (path.Clean(prefix) != prefix || strings.HasPrefix(prefix, "..")) {
		return nil, errors.New("that is no bucket and prefix")
	}
	endpoint, err := url.Parse(cmp.Or(get("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"), awsEndpoint))
	if err != nil || endpoint.Host == "" || endpoint.Scheme != "http" && endpoint.Scheme != "https" || strings.Trim(endpoint.Path, "/") != "" {
		return nil, errors.New("the environment's AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL is not https://HOST")
	}
	key := get("AWS_ACCESS_KEY_ID")
	b := &bucket{name: name, prefix: prefix, isNobody: key == "", base: connections(o)}
	lookup := minio.BucketLookupPath
	if strings.HasSuffix(endpoint.Host, ".amazonaws.com") {
		lookup = minio.BucketLookupAuto
	}
	b.client, err = minio.New(endpoint.Host, &minio.Options{
		Creds:  credentials.NewStaticV4(key, get("AWS_SECRET_ACCESS_KEY"), get("AWS_SESSION_TOKEN")),
		Secure: endpoint.Scheme == "https", Region: cmp.Or(get("AWS_REGION", "AWS_DEFAULT_REGION"), "us-east-1"),
		MaxRetries: attempts, BucketLookup: lookup, Transport: b.base,
	})
	if err != nil {
		return nil, errors.New("the environment's AWS_ variables are not as they must be")
	}
	return b, nil
}

func (b *bucket) key(parts ...string) string {
	return path.Join(append([]string{b.prefix}, parts...)...)
}

func (b *bucket) blob(d v1.Hash) string { return b.key("blobs", d.Algorithm, d.Hex) }

// gone makes one error of the ways in which a server says that there is nothing.
func gone(err error) error {
	switch code := minio.ToErrorResponse(err).Code; code {
	case "NoSuchKey", "NotFound":
		return fs.ErrNotExist
	case "PreconditionFailed", "ConditionalRequestConflict":
		return errMoved
	}
	return err
}

func (b *bucket) has(ctx context.Context, d v1.Hash, size int64) (bool, error) {
	info, err := b.client.StatObject(ctx, b.name, b.blob(d), minio.StatObjectOptions{})
	switch err = gone(err); {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err == nil && info.Size != size:
		return false, &TamperedError{b.client.EndpointURL().Host + "/" + b.name,
			fmt.Sprintf("%s has %d bytes and not %d: remove it", b.blob(d), info.Size, size)}
	}
	return err == nil, err
}

// write stores an object under a condition. The server refuses other bytes than the
// digest has.
func (b *bucket) write(ctx context.Context, key string, from io.Reader, size int64, d v1.Hash, condition func(*minio.PutObjectOptions)) error {
	sum, err := hex.DecodeString(d.Hex)
	if err != nil {
		return err
	}
	o := minio.PutObjectOptions{DisableMultipart: true, DisableContentSha256: true, ContentType: "application/octet-stream",
		UserMetadata: map[string]string{sumHeader: base64.StdEncoding.EncodeToString(sum)}}
	condition(&o)
	if size > maxSinglePut { // no condition and no digest of the whole: who fetches it checks
		o = minio.PutObjectOptions{ContentType: o.ContentType}
	}
	_, err = b.client.PutObject(ctx, b.name, key, from, size, o)
	return gone(err)
}

func ifAbsent(o *minio.PutObjectOptions) { o.SetMatchETagExcept("*") }

func (b *bucket) put(ctx context.Context, l *layer) error {
	if is, err := b.has(ctx, l.hash, l.length()); is || err != nil {
		return err
	}
	from, err := l.open()
	if err != nil {
		return err
	}
	defer from.Close()
	err = b.write(ctx, b.blob(l.hash), from, l.length(), l.hash, ifAbsent)
	if errors.Is(err, errMoved) {
		return nil // somebody else was quicker, with the same bytes
	}
	return err
}

func (b *bucket) putManifest(ctx context.Context, raw []byte) error { return b.put(ctx, blobOf(raw)) }

func (b *bucket) refer(ctx context.Context, subject v1.Hash, raw []byte) error {
	if err := b.putManifest(ctx, raw); err != nil {
		return err
	}
	key := b.key("referrers", subject.Algorithm, subject.Hex, hashOf(raw).Hex)
	err := b.write(ctx, key, bytes.NewReader(nil), 0, hashOf(nil), ifAbsent)
	if errors.Is(err, errMoved) {
		return nil
	}
	return err
}

func (b *bucket) read(ctx context.Context, key string) ([]byte, minio.ObjectInfo, error) {
	object, err := b.client.GetObject(ctx, b.name, key, minio.GetObjectOptions{})
	if err != nil {
		return nil, minio.ObjectInfo{}, gone(err)
	}
	defer object.Close()
	content, err := io.ReadAll(io.LimitReader(object, maxDocument+1))
	if err == nil && len(content) > maxDocument {
		err = &TamperedError{b.client.EndpointURL().Host + "/" + b.name, key + " is too large"}
	}
	if err != nil {
		return nil, minio.ObjectInfo{}, gone(err)
	}
	info, err := object.Stat()
	return content, info, gone(err)
}

func (b *bucket) manifest(ctx context.Context, d v1.Hash) ([]byte, error) {
	content, _, err := b.read(ctx, b.blob(d))
	if err == nil && hashOf(content) != d {
		err = &TamperedError{b.client.EndpointURL().Host + "/" + b.name, b.blob(d) + " has other bytes than its name says"}
	}
	return content, err
}

func (b *bucket) referrers(ctx context.Context, d v1.Hash) ([]v1.Hash, error) {
	var all []v1.Hash
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	prefix := b.key("referrers", d.Algorithm, d.Hex) + "/"
	for object := range b.client.ListObjects(ctx, b.name, minio.ListObjectsOptions{Prefix: prefix}) {
		if object.Err != nil {
			return nil, object.Err
		}
		all = append(all, v1.Hash{Algorithm: "sha256", Hex: strings.TrimPrefix(object.Key, prefix)})
		if len(all) > maxReferrers {
			break
		}
	}
	return all, nil
}

func (b *bucket) tag(ctx context.Context, name string) (v1.Descriptor, string, error) {
	var d v1.Descriptor
	content, info, err := b.read(ctx, b.key("tags", name))
	if err != nil {
		return d, "", err
	}
	if err := json.Unmarshal(content, &d); err != nil || d.Digest.Algorithm != "sha256" || d.MediaType != types.OCIManifestSchema1 {
		return d, "", &TamperedError{b.client.EndpointURL().Host + "/" + b.name, "the tag " + name + " is no descriptor of an image"}
	}
	return d, info.ETag, nil
}

// setTag writes what no tag of this name was before, with a mark: servers give the same bytes the
// same version.
func (b *bucket) setTag(ctx context.Context, name string, raw []byte, version, mark string) error {
	d := v1.Descriptor{MediaType: types.OCIManifestSchema1, Size: int64(len(raw)), Digest: hashOf(raw)}
	if mark != "" {
		d.Annotations = map[string]string{markKey: mark}
	}
	text, err := json.Marshal(d)
	if err != nil {
		return err
	}
	condition := ifAbsent
	if version != "" {
		condition = func(o *minio.PutObjectOptions) { o.SetMatchETag(version) }
	}
	return b.write(ctx, b.key("tags", name), bytes.NewReader(text), int64(len(text)), hashOf(text), condition)
}

// source is an address that is signed, so that the downloader needs no keys.
func (b *bucket) source(ctx context.Context, d v1.Hash) (string, http.RoundTripper, error) {
	return b.signed(ctx, b.blob(d))
}

func (b *bucket) signed(ctx context.Context, key string) (string, http.RoundTripper, error) {
	if b.isNobody {
		u := b.client.EndpointURL().JoinPath(b.name, key)
		return u.String(), b.base, nil
	}
	u, err := b.client.PresignedGetObject(ctx, b.name, key, validFor, nil)
	if err != nil {
		return "", nil, err
	}
	return u.String(), b.base, nil
}

func (b *bucket) explain(err error) (said, hint string) {
	answer := minio.ToErrorResponse(err)
	where := b.client.EndpointURL().Host
	switch {
	case errors.Is(err, errPlain):
		return err.Error(), hintPlain
	case answer.Code == "NoSuchBucket":
		return "there is no bucket " + b.name + " at " + where, "make it, or AWS_ENDPOINT_URL_S3 names another server"
	case answer.StatusCode == http.StatusForbidden && b.isNobody:
		return "the server says " + answer.Code, "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
	case answer.StatusCode == http.StatusForbidden:
		return "the server says " + answer.Code, "the key must be allowed to list, read and write there, and to use this bucket and region"
	case answer.StatusCode > 0 && answer.Code != "":
		return fmt.Sprintf("the server says %d %s: %s", answer.StatusCode, answer.Code, answer.Message), ""
	}
	return err.Error(), ""
}

// get and replace are for small objects that several machines change.
func (b *bucket) get(ctx context.Context, name string) ([]byte, string, error) {
	content, info, err := b.read(ctx, b.key(name))
	return content, info.ETag, err
}

func (b *bucket) find(ctx context.Context, name string) (string, http.RoundTripper, error) {
	if _, err := b.client.StatObject(ctx, b.name, b.key(name), minio.StatObjectOptions{}); err != nil {
		return "", nil, gone(err)
	}
	return b.signed(ctx, b.key(name))
}

func (b *bucket) list(ctx context.Context, name string) (names []string, err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	prefix := b.key(name) + "/"
	for object := range b.client.ListObjects(ctx, b.name, minio.ListObjectsOptions{Prefix: prefix}) {
		if object.Err != nil {
			return nil, object.Err
		}
		if name := strings.TrimPrefix(object.Key, prefix); !strings.HasSuffix(name, "/") {
			names = append(names, name)
		}
	}
	return names, nil
}

func (b *bucket) keep(ctx context.Context, name string, from io.Reader, size int64, sum v1.Hash) error {
	err := b.write(ctx, b.key(name), from, size, sum, ifAbsent)
	if errors.Is(err, errMoved) {
		return nil // somebody else was quicker
	}
	return err
}

func (b *bucket) replace(ctx context.Context, name string, content []byte, version string) error {
	condition := ifAbsent
	if version != "" {
		condition = func(o *minio.PutObjectOptions) { o.SetMatchETag(version) }
	}
	return b.write(ctx, b.key(name), bytes.NewReader(content), int64(len(content)), hashOf(content), condition)
}
