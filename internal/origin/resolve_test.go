package origin

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bake/internal/diag"
	"github.com/google/go-cmp/cmp"
)

const serverImage = "ubuntu-24.04-server-cloudimg-amd64.img"

func TestResolveUbuntu(t *testing.T) {
	digest := func(name, serial string) string { return digestOf(name + serial) }
	for name, test := range map[string]struct {
		reference string
		change    func(w *world)
		want      Target // URL below the mirror
	}{
		"newest, dated by its change logs": {"ubuntu:24.04", nil, Target{
			URL: datedDir + serverImage, Name: serverImage, Digest: digest(serverImage, "20260722"), Serial: "20260722", Signed: signed}},
		"by codename": {"ubuntu:noble", nil, Target{
			URL: datedDir + serverImage, Name: serverImage, Digest: digest(serverImage, "20260722"), Serial: "20260722", Signed: signed}},
		"newest, without a dated directory": {"ubuntu:24.04", func(w *world) { w.put(datedDir, nil, nil) }, Target{
			URL: newestDir + serverImage, Name: serverImage, Digest: digest(serverImage, "20260722"), Serial: "20260722", Signed: signed}},
		"newest, contradicted by the dated directory": {"ubuntu:24.04", func(w *world) {
			w.publish(datedDir, only(serverImage), signed)
		}, Target{
			URL: newestDir + serverImage, Name: serverImage, Digest: digest(serverImage, "20260722"), Signed: signed}},
		"newest, dated by its signature": {"ubuntu:24.04", func(w *world) {
			w.publish(newestDir, only(serverImage), signed.Add(48*time.Hour))
			w.publish("/releases/noble/release-20260723/", only(serverImage+"x", serverImage), signed.Add(48*time.Hour))
			w.publish(datedDir, only("another", serverImage), signed)
		}, Target{
			URL: "/releases/noble/release-20260723/" + serverImage, Name: serverImage, Digest: digestOf(serverImage), Serial: "20260723", Signed: signed.Add(48 * time.Hour)}},
		"newest, without any date": {"ubuntu:24.04", func(w *world) { w.publish(newestDir, only(serverImage), signed.Add(240*time.Hour)) }, Target{
			URL: newestDir + serverImage, Name: serverImage, Digest: digestOf(serverImage), Signed: signed.Add(240 * time.Hour)}},
		"dated": {"ubuntu:24.04@20260722", nil, Target{
			URL: datedDir + serverImage, Name: serverImage, Digest: digest(serverImage, "20260722"), Serial: "20260722", Signed: signed}},
		"minimal": {"ubuntu-minimal:24.04@20260722", func(w *world) {
			w.publish("/minimal"+datedDir, sums("24.04", "20260722"), signed)
		}, Target{
			URL: "/minimal" + datedDir + "ubuntu-24.04-minimal-cloudimg-amd64.img", Name: "ubuntu-24.04-minimal-cloudimg-amd64.img",
			Digest: digest("ubuntu-24.04-minimal-cloudimg-amd64.img", "20260722"), Serial: "20260722", Signed: signed}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.resolver.now = func() time.Time { return today.Add(240 * time.Hour) } // later than any list
			if test.change != nil {
				test.change(w)
			}
			got, err := w.resolve(test.reference)
			if err != nil {
				t.Fatal(err)
			}
			want := test.want
			want.URL, want.Reference, want.Arch = w.url+want.URL, w.ref(test.reference).String(), "amd64"
			want.Algorithm, want.Trust, want.Signer = "sha256", "signed list of checksums", fingerprint(w.key.PrimaryKey)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			var lock Lock
			if err := lock.Set(got); err != nil {
				t.Errorf("what was resolved cannot be pinned: %v", err)
			}
		})
	}
}

// The list of another day under the name of the day that was asked for.
func TestResolveDatedElsewhere(t *testing.T) {
	for name, test := range map[string]struct {
		list   []byte
		signed time.Time
		want   string
	}{
		"it says so":           {sums("24.04", "20260705"), signed, "this is the list of 20260705, signed by"},
		"it is a newer one":    {sums("24.04", "20260801"), today, "this is the list of 20260801, signed by"},
		"it was signed before": {only(serverImage), at("2026-07-05T10:00:00Z"), "before the day of 20260722"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.publish(datedDir, test.list, test.signed)
			_, err := w.resolve("ubuntu:24.04@20260722")
			refused(t, err, "integrity", test.want, fingerprint(w.key.PrimaryKey), "use another mirror")
		})
	}
	w := newWorld(t)
	_, err := w.resolve("ubuntu:24.04@20240101")
	refused(t, err, "network", "404", "builds are removed after some months")
}

func TestReplay(t *testing.T) {
	w := newWorld(t)
	resolve := func(want string) {
		t.Helper()
		target, err := w.resolve("ubuntu:24.04")
		if err != nil || target.Serial != want {
			t.Fatalf("%s, %v, want %s", target.Serial, err, want)
		}
	}
	older := func() {
		w.publish(newestDir, sums("24.04", "20260705"), at("2026-07-05T10:00:00Z"))
		w.publish("/releases/noble/release-20260705/", sums("24.04", "20260705"), at("2026-07-05T10:00:00Z"))
	}
	older()
	resolve("20260705") // the first one is believed
	first := w.state()
	w.publish(newestDir, sums("24.04", "20260722"), signed)
	resolve("20260722")
	seen := w.state()
	if seen == first {
		t.Fatal("the newer list was not remembered")
	}
	resolve("20260722") // the same again
	w.publish(newestDir, sums("24.04", "20260722"), signed.Add(-time.Hour))
	resolve("20260722") // the same list with an earlier signature has nothing older in it

	older()
	_, err := w.resolve("ubuntu:24.04")
	refused(t, err, "integrity", "a replay")
	w.resolver.AllowOlder = true
	resolve("20260705")
	w.resolver.AllowOlder = false
	_, err = w.resolve("ubuntu:24.04")
	refused(t, err, "integrity", "a replay") // allowed once is not allowed for ever

	if target, err := w.resolve("ubuntu:24.04@20260705"); err != nil || target.Serial != "20260705" {
		t.Errorf("a dated reference: %s, %v", target.Serial, err)
	}
	if w.state() != seen {
		t.Errorf("what was seen has changed to %s", w.state())
	}

	// The other architecture is of the same series, the other flavour is not.
	ref, _ := Parse("ubuntu:24.04", "arm64")
	_, err = w.resolver.Resolve(context.Background(), ref)
	refused(t, err, "integrity", "a replay")
	w.publish("/minimal"+newestDir, sums("24.04", "20260705"), at("2026-07-05T10:00:00Z"))
	if _, err := w.resolve("ubuntu-minimal:24.04"); err != nil {
		t.Error(err)
	}
	// And another mirror makes no difference.
	w.resolver.Mirrors["ubuntu"] = strings.Replace(w.url, "127.0.0.1", "localhost", 1) + "/"
	_, err = w.resolve("ubuntu:24.04")
	refused(t, err, "integrity", "a replay")
}

func debianWorld(t *testing.T) *world {
	w := newWorld(t)
	sum := strings.Repeat("cd", 64)
	w.files["/images/cloud/trixie/latest/SHA512SUMS"] = []byte(sum + "  debian-13-genericcloud-amd64.qcow2\n")
	w.files["/images/cloud/trixie/20260101-1234/SHA512SUMS"] = []byte(sum + "  debian-13-genericcloud-amd64-20260101-1234.qcow2\n")
	w.files["/images/cloud/trixie/latest/debian-13-genericcloud-amd64.json"] = []byte(`{"items":[{"kind":"Upload"},{"data":{"info":{"version":"20260101-1234"}}}]}`)
	return w
}

func TestResolveDebian(t *testing.T) {
	const (
		latest = "/images/cloud/trixie/latest/debian-13-genericcloud-amd64.qcow2"
		dated  = "/images/cloud/trixie/20260101-1234/debian-13-genericcloud-amd64-20260101-1234.qcow2"
		record = "/images/cloud/trixie/latest/debian-13-genericcloud-amd64.json"
	)
	for name, test := range map[string]struct {
		reference, url, serial string
		change                 func(w *world)
	}{
		"newest, dated by its record": {"debian:13", dated, "20260101-1234", nil},
		"dated":                       {"debian:13@20260101-1234", dated, "20260101-1234", nil},
		"no record":                   {"debian:13", latest, "", func(w *world) { delete(w.files, record) }},
		"a record of something else":  {"debian:13", latest, "", func(w *world) { w.files[record] = []byte(`[1]`) }},
		"a record with a path":        {"debian:13", latest, "", func(w *world) { w.files[record] = []byte(`{"items":[{"data":{"info":{"version":"../x"}}}]}`) }},
		"a record of another build":   {"debian:13", latest, "", func(w *world) { w.files[record] = []byte(`{"items":[{"data":{"info":{"version":"20260202-2"}}}]}`) }},
		"the dated image has another sum": {"debian:13", latest, "", func(w *world) {
			w.files["/images/cloud/trixie/20260101-1234/SHA512SUMS"] = []byte(strings.Repeat("ef", 64) + "  debian-13-genericcloud-amd64-20260101-1234.qcow2\n")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := debianWorld(t)
			if test.change != nil {
				test.change(w)
			}
			got, err := w.resolve(test.reference)
			if err != nil {
				t.Fatal(err)
			}
			want := Target{Reference: test.reference, Arch: "amd64", URL: w.url + test.url, Name: filepath.Base(test.url), Algorithm: "sha512",
				Digest: strings.Repeat("cd", 64), Serial: test.serial, Trust: "https only: the list of checksums is not signed"}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			if w.state() != "" {
				t.Error("a list that nobody signed is remembered")
			}
			if slices.ContainsFunc(w.asked, func(path string) bool { return strings.HasSuffix(path, ".gpg") }) {
				t.Error("a signature was asked for")
			}
		})
	}
}

func TestDebianRefuses(t *testing.T) {
	for name, test := range map[string]struct{ list, kind, want string }{
		"empty":           {"\n", "integrity", "is empty"},
		"cut off":         {strings.Repeat("cd", 64) + "  debian-13-genericcloud-amd64.qcow2", "integrity", "cut off"},
		"page":            {"<html>\n", "integrity", "HTML page"},
		"another release": {strings.Repeat("cd", 64) + "  debian-12-genericcloud-amd64.qcow2\n", "integrity", "another release, debian 12"},
		"another flavour": {strings.Repeat("cd", 64) + "  debian-13-generic-amd64.qcow2\n", "integrity", "no file of the name"},
		"path":            {strings.Repeat("cd", 64) + "  ../debian-13-genericcloud-amd64.qcow2\n", "integrity", "not the plain name"},
		"sha256":          {strings.Repeat("cd", 32) + "  debian-13-genericcloud-amd64.qcow2\n", "integrity", "is not a sha512"},
	} {
		t.Run(name, func(t *testing.T) {
			w := debianWorld(t)
			w.files["/images/cloud/trixie/latest/SHA512SUMS"] = []byte(test.list)
			_, err := w.resolve("debian:13")
			refused(t, err, test.kind, test.want, w.url)
		})
	}
}

func TestMirrors(t *testing.T) {
	for mirror, want := range map[string]map[string]string{ // by distribution: base, or part of the problem
		"":                                   {"ubuntu": "https://cloud-images.ubuntu.com", "debian": "https://cloud.debian.org"},
		"https://mirror.example/ubuntu/":     {"ubuntu": "https://mirror.example/ubuntu", "debian": "https://mirror.example/ubuntu"},
		"http://mirror.example":              {"ubuntu": "http://mirror.example", "debian": "plain http is no trust at all"},
		"http://localhost:8080/x":            {"debian": "http://localhost:8080/x"},
		"http://[::1]:8080":                  {"debian": "http://[::1]:8080"},
		"http://127.0.0.1.example":           {"debian": "plain http is no trust at all"},
		"ftp://mirror.example":               {"ubuntu": "not the URL of a mirror"},
		"mirror.example":                     {"ubuntu": "not the URL of a mirror"},
		"https://user:secret@mirror.example": {"ubuntu": "credentials"},
		"https://mirror.example/?x=":         {"ubuntu": "? or #"},
		"https://mirror.example/#x":          {"debian": "? or #"},
	} {
		for name, want := range want {
			got, err := findDistro(name).at(map[string]string{name: mirror})
			var list diag.List
			if errors.As(err, &list) {
				got = list.Error()
			}
			if err == nil && got != want || err != nil && !strings.Contains(got, want) || strings.Contains(got, "secret") {
				t.Errorf("%s at %q: %q, want %q", name, mirror, got, want)
			}
		}
	}
	w := newWorld(t)
	w.resolver.Mirrors["ubuntu"] = "ftp://mirror.example"
	_, err := w.resolve("ubuntu:24.04")
	var list diag.List
	if !errors.As(err, &list) || len(w.asked) > 0 {
		t.Errorf("%v, %v", err, w.asked)
	}
}

func TestResolveWithoutAsking(t *testing.T) {
	w := newWorld(t)
	got, err := w.resolve("https://h.example/a/x%2E1.img?y=/z#sha256=" + someDigest)
	want := Target{Reference: "https://h.example/a/x%2E1.img?y=/z#sha256=" + someDigest, Arch: "amd64", URL: "https://h.example/a/x%2E1.img?y=/z",
		Name: "x.1.img", Algorithm: "sha256", Digest: someDigest, Trust: "digest in the reference"}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
	if err := new(Lock).Set(got); err != nil {
		t.Error(err)
	}
	if _, err := w.resolve("./x.qcow2"); err == nil || kind(err) != "other" {
		t.Errorf("a file: %v", err)
	}
	if _, err := w.resolver.Resolve(context.Background(), Ref{Kind: Release, Distro: "plan9"}); err == nil || kind(err) != "other" {
		t.Errorf("a distribution that Parse does not return: %v", err)
	}
	if len(w.asked) > 0 {
		t.Errorf("%v was asked for", w.asked)
	}
}

// A run that is told to stop says so: it is nobody's failure.
func TestStop(t *testing.T) {
	w := newWorld(t)
	ctx, stop := context.WithCancel(context.Background())
	w.hook(sumsPath, func(_ http.ResponseWriter, in *http.Request) { stop(); <-in.Context().Done() })
	_, err := w.resolver.Resolve(ctx, w.ref("ubuntu:24.04"))
	if !errors.Is(err, context.Canceled) || kind(err) != "other" {
		t.Errorf("%s: %v", kind(err), err)
	}
}

func TestState(t *testing.T) {
	w := newWorld(t)
	if _, err := w.resolve("ubuntu:24.04"); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]os.FileMode{"": os.ModeDir | 0o700, seenName: 0o600, lockName: 0o600} {
		if info, err := os.Stat(filepath.Join(w.resolver.State, path)); err != nil || info.Mode() != want {
			t.Errorf("%q: %v, %v, want %v", path, info.Mode(), err, want)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(w.resolver.State, ".seen.json-*")); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
	good := w.state()
	for name, damaged := range map[string]string{
		"empty":        "",
		"cut off":      good[:len(good)/2],
		"other key":    strings.Replace(good, "sha256", "sha", 1),
		"other schema": strings.Replace(good, "bake.seen/1", "bake.seen/2", 1),
		"no time":      strings.Replace(good, "2026-07-22", "yesterday", 1),
		"zero time":    strings.Replace(good, "2026-07-22T19:16:08Z", "0001-01-01T00:00:00Z", 1),
		"no digest":    strings.Replace(good, `"sha256": "`, `"sha256": "x`, 1),
		"no series":    `{"schema":"bake.seen/1","series":null}`,
		"two":          good + good,
	} {
		if damaged == good {
			t.Fatalf("%s changes nothing", name)
		}
		if err := os.WriteFile(filepath.Join(w.resolver.State, seenName), []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := w.resolve("ubuntu:24.04")
		refused(t, err, "integrity", "what was seen is damaged", seenName, "remove the file")
		if w.state() != damaged {
			t.Errorf("%s: the file was overwritten", name)
		}
	}
	w.resolver.State = ""
	if _, err := w.resolve("ubuntu:24.04"); err == nil || kind(err) != "other" {
		t.Errorf("without a directory: %v", err)
	}
}

// Many at a time remember every series, and the newest list of each.
func TestConcurrent(t *testing.T) {
	w := newWorld(t)
	series := []string{"a", "b", "c", "d"}
	var group sync.WaitGroup
	for i := range 40 {
		group.Go(func() {
			made := signed.Add(time.Duration(i) * time.Minute)
			err := admit(t.Context(), w.resolver.State, series[i%len(series)], "url", sighting{made, digestOf(made.String()), "key"}, false)
			if err != nil && kind(err) != "integrity" { // overtaken by a newer one
				t.Error(err)
			}
		})
	}
	group.Wait()
	known, err := recall(filepath.Join(w.resolver.State, seenName))
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range series {
		if want := signed.Add(time.Duration(36+i) * time.Minute); !known.Series[name].Signed.Equal(want) {
			t.Errorf("%s: %v, want %v", name, known.Series[name].Signed, want)
		}
	}
}

// A record is anybody's bytes: what is taken from it is a serial or nothing.
func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"items":[{"data":{"info":{"version":"20260101-1234"}}}]}`))
	f.Add([]byte(`{"items":[[[[`))
	debian := findDistro("debian")
	f.Fuzz(func(t *testing.T, content []byte) {
		if serial := recorded(content); debian.isSerial(serial) && strings.Trim(serial, "0123456789-") != "" {
			t.Errorf("%q is a serial", serial)
		}
	})
}
