package origin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"
)

// A Target is an image that is believed: what to fetch, and the digest that it
// must have. It is what bake.lock keeps.
type Target struct {
	Reference string    `json:"reference"` // as Ref.String has it
	Arch      string    `json:"arch"`
	URL       string    `json:"url"`
	Name      string    `json:"name"`           // of the file, without a path
	Size      int64     `json:"size,omitempty"` // bytes; 0 when unknown, which it is until the image was fetched
	Algorithm string    `json:"algorithm"`      // sha256 or sha512
	Digest    string    `json:"digest"`         // lower-case hex
	Serial    string    `json:"serial,omitempty"`
	Signer    string    `json:"signer,omitempty"` // fingerprint of the primary key, "" when nobody signed
	Trust     string    `json:"trust"`            // why it is believed, in words
	Signed    time.Time `json:"signed,omitzero"`  // when, in UTC; zero when nobody signed
}

// A Resolver finds out what a reference means today.
type Resolver struct {
	// State is the directory that remembers the newest list of each series
	// against replays. It is made if need be, 0700.
	State string

	// Mirrors has the base URL to use instead of the distribution's own, by
	// distribution: ubuntu (for ubuntu-minimal, too) or debian.
	Mirrors map[string]string

	// AllowOlder accepts a signed list that is older than one seen before.
	AllowOlder bool

	// Transport is http.DefaultTransport, with the proxy of the environment,
	// when nil.
	Transport http.RoundTripper

	// Keyring, when not nil, takes the place of the built-in keys: a binary
	// OpenPGP keyring of which every primary key counts, and of which an empty
	// one trusts nobody. It is for tests, which must sign lists of their own. It
	// is bytes and not a path, and no flag, file or environment may set it:
	// whom to trust is a decision of the program, never of its configuration.
	Keyring []byte

	// For tests.
	now     func() time.Time
	timeout time.Duration
}

// Resolve returns the image that a reference means. A link is taken at its word
// without asking anybody; for a release the signed list is fetched and verified
// as the package comment says; a file is an error, as only its reader can tell
// what it is.
//
// The error is or wraps an *IntegrityError, a *NetworkError, a diag.List (a
// mirror that will not do), the cause of ctx's end, or what the file system said.
func (r Resolver) Resolve(ctx context.Context, ref Ref) (Target, error) {
	target, err := r.resolve(ctx, ref)
	if err != nil {
		return Target{}, fmt.Errorf("resolving %s for %s: %w", ref, ref.Arch, err)
	}
	target.Reference, target.Arch = ref.String(), ref.Arch
	return target, nil
}

func (r Resolver) resolve(ctx context.Context, ref Ref) (Target, error) {
	switch ref.Kind {
	case Release:
	case Link:
		u, err := url.Parse(ref.URL)
		if err != nil {
			return Target{}, err
		}
		return Target{URL: ref.URL, Name: path.Base(u.Path), Algorithm: ref.Algorithm, Digest: ref.Digest, Trust: "digest in the reference"}, nil
	default:
		return Target{}, errors.New("only references to releases and links have an origin elsewhere")
	}
	q, err := r.question(ref)
	if err != nil {
		return Target{}, err
	}
	target, err := r.answer(ctx, q)
	if err == nil && r.State != "" {
		q.fetch.answers.keep(answersFile(r.State, q.base, ref))
	}
	return target, err
}

// answer asks what a question needs to have asked.
func (r Resolver) answer(ctx context.Context, q question) (Target, error) {
	ref := q.ref
	newest, err := q.list(ctx, ref.Serial)
	if err != nil {
		return Target{}, err
	}
	q.fetch.answers.settle()
	if ref.Serial != "" {
		return q.target(newest, ref.Serial), nil
	}
	serial, dated, err := q.date(ctx, newest)
	if err != nil {
		return Target{}, err
	}
	if q.signed {
		seen := sighting{newest.by.made, newest.sum, newest.by.signer}
		if err := admit(ctx, r.State, ref.String(), newest.url, seen, r.AllowOlder); err != nil {
			return Target{}, err
		}
	}
	target := q.target(dated, serial)
	target.Signed = newest.by.made // of the list that the replay check was about
	return target, nil
}

// question is one reference, with all that is needed to answer it.
type question struct {
	*distro
	ref   Ref
	base  string
	trust trust
	fetch fetcher
	now   time.Time
}

func (r Resolver) question(ref Ref) (question, error) {
	q := question{distro: findDistro(ref.Distro), ref: ref, now: time.Now()}
	if q.distro == nil {
		return question{}, fmt.Errorf("unknown distribution %q", ref.Distro)
	}
	if r.now != nil {
		q.now = r.now()
	}
	q.fetch = fetcher{transport: r.Transport, timeout: r.timeout, plain: q.signed}
	if q.fetch.timeout == 0 {
		q.fetch.timeout = patience
	}
	var err error
	if q.base, err = q.at(r.Mirrors); err != nil {
		return q, err
	}
	if r.State != "" {
		q.fetch.answers = recallAnswers(answersFile(r.State, q.base, ref))
	}
	if !q.signed {
		return q, nil
	}
	if r.Keyring == nil {
		q.trust, err = trustIn(ubuntuKeyring, ubuntuKeys)
	} else {
		q.trust, err = trustAll(r.Keyring)
	}
	return q, err
}

// list is a list of checksums that is believed.
type list struct {
	url    string // of the list
	image  string // URL of the image
	digest string // of the image
	stated string // the serial that the list states, or ""
	sum    string // SHA-256 of the list
	by     voucher
}

// list fetches the list of a serial, or the newest, and believes it or not.
func (q question) list(ctx context.Context, serial string) (list, error) {
	dir := q.base + q.dir(q.ref.Codename, serial)
	l := list{url: dir + q.sums, image: dir + q.file(q.ref.Version, q.ref.Arch, serial)}
	content, err := q.fetch.get(ctx, l.url)
	if err != nil {
		return list{}, err
	}
	refuse := func(address string, err error, advice string) (list, error) {
		return list{}, &IntegrityError{URL: address, Err: err, Advice: advice}
	}
	if err := whole(content); err != nil {
		return refuse(l.url, err, "try again or set another mirror")
	}
	if q.signed {
		signature, err := q.fetch.get(ctx, l.url+".gpg")
		if err != nil {
			return list{}, err
		}
		if l.by, err = q.trust.verify(content, signature, q.now); err != nil {
			advice := "use another mirror; if they all say so, a newer bake may know newer keys"
			if errors.Is(err, errOtherBytes) {
				advice = "try again in some minutes, as the mirror may just be taking a new build; if it stays, use another mirror"
			}
			return refuse(l.url+".gpg", err, advice)
		}
	}
	digests, err := parseSums(content, q.algorithm)
	if err != nil {
		return refuse(l.url, err, "try again or set another mirror")
	}
	sum := sha256.Sum256(content)
	l.sum = hex.EncodeToString(sum[:])
	l.stated = q.stated(digests, q.ref.Version, q.ref.Arch)
	l.digest = digests[path.Base(l.image)]
	if l.digest == "" {
		err := fmt.Errorf("the list has no file of the name %s", path.Base(l.image))
		if other := q.others(digests, q.ref.Version); other != "" {
			err = fmt.Errorf("this is the list of another release, %s %s, not of %s", q.upstream, other, q.ref.Version)
		}
		return refuse(l.url, err, "check the mirror; not every build has every architecture")
	}
	if err := q.fits(l, serial); err != nil {
		return refuse(l.url, err, "the mirror serves another build under this name: use another mirror")
	}
	return l, nil
}

// fits says why a list cannot be the one of the serial that was asked for.
func (q question) fits(l list, serial string) error {
	if serial == "" || !q.signed {
		return nil
	}
	day, err := time.Parse("20060102", serial[:8])
	switch {
	case err != nil:
		return fmt.Errorf("the serial %s is no day", quote(serial))
	case l.stated != "" && l.stated != serial:
		return fmt.Errorf("this is the list of %s, signed by %s, not of %s", l.stated, l.by.signer, serial)
	case l.by.made.Before(day.Add(-24 * time.Hour)): // wherever on earth the day was
		return fmt.Errorf("the list was signed by %s at %s, before the day of %s", l.by.signer, stamp(l.by.made), serial)
	}
	return nil
}

// date finds the serial of the newest build, and the list under which it does
// not move. Without one it returns the list it was given.
func (q question) date(ctx context.Context, newest list) (string, list, error) {
	candidates, err := q.candidates(ctx, newest)
	if err != nil {
		return "", list{}, err
	}
	for _, serial := range candidates {
		dated, err := q.list(ctx, serial)
		var down *NetworkError
		switch {
		case errors.As(err, &down) && down.absent():
			continue
		case err != nil:
			return "", list{}, err
		case dated.digest == newest.digest:
			return serial, dated, nil
		case serial == newest.stated: // two lists of one serial: say nothing about it
			return "", newest, nil
		}
	}
	return newest.stated, newest, nil
}

// candidates are serials that may be the newest: nothing is believed because it
// is among them.
func (q question) candidates(ctx context.Context, newest list) ([]string, error) {
	switch {
	case newest.stated != "":
		return []string{newest.stated}, nil
	case q.signed:
		var days []string // a build is signed on its day or within the next
		for back := range 4 {
			days = append(days, newest.by.made.AddDate(0, 0, -back).Format("20060102"))
		}
		return days, nil
	}
	record := strings.TrimSuffix(newest.image, path.Ext(newest.image)) + ".json"
	content, err := q.fetch.get(ctx, record)
	var down *NetworkError
	switch {
	case errors.As(err, &down) && down.absent():
		return nil, nil // then the build has no name that does not move
	case err != nil:
		return nil, err
	}
	if serial := recorded(content); q.isSerial(serial) {
		return []string{serial}, nil
	}
	return nil, nil
}

// recorded returns the version in Debian's record of a build, or "".
func recorded(content []byte) string {
	var record struct {
		Items []struct {
			Data struct {
				Info struct{ Version string }
			}
		}
	}
	if json.Unmarshal(content, &record) != nil {
		return ""
	}
	for _, item := range record.Items {
		if item.Data.Info.Version != "" {
			return item.Data.Info.Version
		}
	}
	return ""
}

func (q question) target(l list, serial string) Target {
	t := Target{URL: l.image, Name: path.Base(l.image), Algorithm: q.algorithm, Digest: l.digest,
		Serial: serial, Signer: l.by.signer, Signed: l.by.made, Trust: "signed list of checksums"}
	if !q.signed {
		t.Trust = "https only: the list of checksums is not signed"
	}
	return t
}
