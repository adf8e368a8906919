package publish

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func getenv(all map[string]string) func(string) string {
	return func(name string) string { return all[name] }
}

func TestOpen(t *testing.T) {
	for address, want := range map[string]string{
		"oci://registry.example.org/fleet/machines": "oci://registry.example.org/fleet/machines",
		"oci://127.0.0.1:5000/a/":                   "oci://127.0.0.1:5000/a",
		"s3://bucket":                               "s3://bucket",
		"s3://bucket/a/b/":                          "s3://bucket/a/b",
		"":                                          "no scheme",
		"registry.example.org/a":                    "no scheme",
		"oci://":                                    "no repository",
		"oci://registry.example.org":                "no repository",
		"oci://registry.example.org/UPPER":          "no repository",
		"oci://registry.example.org/a:tag":          "no repository",
		"s3://":                                     "no bucket",
		"s3://bucket/../x":                          "no bucket",
		"s3://bucket/a//b":                          "no bucket",
		"https://example.org/a":                     "its scheme is https",
	} {
		p, err := Open(address, Options{Getenv: getenv(nil)})
		var wrong *AddressError
		switch {
		case err == nil && p.String() != want:
			t.Errorf("%q: %s, want %q", address, p, want)
		case err != nil && (!errors.As(err, &wrong) || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: %v, want %q", address, err, want)
		}
	}
	if _, err := Open("s3://b", Options{Getenv: getenv(map[string]string{"AWS_ENDPOINT_URL": "ftp://x"})}); err == nil {
		t.Error("an endpoint that is none was taken")
	}
}

// silent is a network on which nothing may be asked.
type silent struct{ t *testing.T }

func (s silent) RoundTrip(req *http.Request) (*http.Response, error) {
	s.t.Errorf("%s was asked", req.URL)
	return nil, errors.New("no")
}

type echo struct{}

func (echo) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusTeapot, Body: http.NoBody}, nil
}

// TestGuard: without TLS only this machine is spoken to.
func TestGuard(t *testing.T) {
	for address, ok := range map[string]bool{
		"https://registry.example.org/": true, "http://127.0.0.1:5000/": true, "http://[::1]/": true, "http://localhost:1/": true,
		"http://registry.example.org/": false, "http://192.0.2.1/": false, "http://127.0.0.1.example.org/": false, "http://10.0.0.1/": false,
	} {
		req, err := http.NewRequest(http.MethodGet, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		inner := http.RoundTripper(echo{})
		if !ok {
			inner = silent{t}
		}
		if _, err := (guard{inner, false}).RoundTrip(req); (err == nil) != ok {
			t.Errorf("%s: %v", address, err)
		}
		if _, err := (guard{echo{}, true}).RoundTrip(req); err != nil {
			t.Errorf("%s with --plain-http: %v", address, err)
		}
	}
}

func write(t *testing.T, name string, content []byte) Part {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return Part{Name: name, Path: path, SHA256: hashOf(content).Hex, Size: int64(len(content))}
}

func small(t *testing.T) Generation {
	t.Helper()
	return Generation{Host: "zap", Name: "0123456789abcdef", Arch: "amd64", IsBase: true,
		Disk:     write(t, "base.qcow2", bytes.Repeat([]byte("disk"), 300<<10)),
		Parts:    []Part{write(t, "seed.iso", []byte("seed")), write(t, "domain.xml", []byte("<domain/>")), write(t, "payload.squashfs", bytes.Repeat([]byte("p"), 1<<20))},
		Manifest: []byte("{}")}
}

// TestReproducible: the digest of an image is one that was written down, wherever the files
// are and in which order they are named.
func TestReproducible(t *testing.T) {
	var p Place
	im, err := p.pack(t.Context(), small(t))
	if err != nil {
		t.Fatal(err)
	}
	again := small(t)
	again.Parts[0], again.Parts[2] = again.Parts[2], again.Parts[0]
	same, err := (&Place{}).pack(t.Context(), again)
	if err != nil || same.hash() != im.hash() {
		t.Errorf("%v, then %v, %v", im.hash(), same.hash(), err)
	}
	const want = "c2bb69dd96e437606cd9222112ada4778ae79876fae917d532cb796088b680e7"
	if got := im.hash().Hex; got != want {
		t.Errorf("the image is %s, and was %s: everybody's would be another one", got, want)
	}
	other := small(t)
	other.Parts[1] = write(t, "domain.xml", []byte("<domain />"))
	if differs, err := p.pack(t.Context(), other); err != nil || differs.hash() == im.hash() || differs.layers[0].hash != im.layers[0].hash {
		t.Errorf("another file: %v, %v", differs.hash(), err)
	}
	other.Arch = "arm64"
	if differs, err := p.pack(t.Context(), other); err != nil || differs.hash() == im.hash() {
		t.Errorf("another architecture: %v", err)
	}
}

// TestLayerBytes: a layer is the tar that archive/tar writes, wherever it is read from.
func TestLayerBytes(t *testing.T) {
	for _, size := range []int{0, 1, 511, 512, 513, 100000} {
		content := bytes.Repeat([]byte("x"), size)
		l, err := fileLayer("base", DiskName, write(t, "f", content))
		if err != nil {
			t.Fatal(err)
		}
		var want bytes.Buffer
		w := tar.NewWriter(&want)
		if err := errors.Join(header(w, diskDir, 0), header(w, DiskName, int64(size))); err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write(content)
		_ = w.Close()
		from, err := l.open()
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(from)
		if err != nil || !bytes.Equal(got, want.Bytes()) || l.length() != int64(len(got)) {
			t.Errorf("%d bytes: %v, %d and not %d", size, err, len(got), want.Len())
		}
		part := make([]byte, 700)
		for _, at := range []int{0, 1000, 1023, 1024, len(got) - 1100, len(got) - 3} {
			n, err := from.ReadAt(part, int64(at))
			if !bytes.Equal(part[:n], got[at:min(at+700, len(got))]) || (n < 700) != (err == io.EOF) {
				t.Errorf("%d bytes, at %d: %d, %v", size, at, n, err)
			}
		}
		_ = from.Close()
	}
	l, err := fileLayer("base", DiskName, write(t, "f", make([]byte, 5000)))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(l.path, 100); err != nil {
		t.Fatal(err)
	}
	if err := (&memo{}).name(t.Context(), l); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a file that became shorter: %v", err)
	}
}

// TestFiles: a layer that has anything but files of a generation is refused.
func TestFiles(t *testing.T) {
	layer := func(all ...tar.Header) string {
		var out bytes.Buffer
		w := tar.NewWriter(&out)
		for _, h := range all {
			if err := w.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
			_, _ = w.Write(make([]byte, h.Size))
		}
		_ = w.Close()
		return write(t, "l", out.Bytes()).Path
	}
	file := tar.Header{Name: "bake/seed.iso", Typeflag: tar.TypeReg, Size: 5, Mode: 0o440}
	named := func(name string) tar.Header { h := file; h.Name = name; return h }
	var got []string
	collect := func(name string, content *io.SectionReader) error {
		got = append(got, FileName(name))
		if content.Size() != 5 {
			t.Errorf("%s has %d bytes", name, content.Size())
		}
		return nil
	}
	if err := Files(layer(tar.Header{Name: "bake/", Typeflag: tar.TypeDir}, file, named(DiskName)), collect); err != nil || strings.Join(got, " ") != "seed.iso disk.qcow2" {
		t.Errorf("%q, %v", got, err)
	}
	for _, bad := range []tar.Header{named("etc/passwd"), named("bake/../x"), named("/bake/x"), named("bake/a/b"), named("disk/other"),
		{Name: "bake/link", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}, {Name: "bake/hard", Typeflag: tar.TypeLink, Linkname: "bake/x"}} {
		var tampered *TamperedError
		if err := Files(layer(bad), collect); !errors.As(err, &tampered) {
			t.Errorf("%s: %v", bad.Name, err)
		}
	}
	var tampered *TamperedError
	if err := Files(write(t, "l", bytes.Repeat([]byte("no tar"), 200)).Path, collect); !errors.As(err, &tampered) {
		t.Error(err)
	}
	many := make([]tar.Header, maxEntries+1)
	for i := range many {
		many[i] = file
	}
	if err := Files(layer(many...), collect); !errors.As(err, &tampered) {
		t.Error(err)
	}
}

func TestReadManifest(t *testing.T) {
	var p Place
	im, err := p.pack(t.Context(), small(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readManifest(im.manifest); err != nil {
		t.Error(err)
	}
	for _, change := range [][2]string{{`"schemaVersion":2`, `"schemaVersion":1`}, {"image.manifest.v1", "image.index.v1"}, {`"layers":[`, `"x":[`},
		{"sha256:", "sha512:"}, {`"size":`, `"size":-`}, {"{", ""}} {
		text := strings.Replace(string(im.manifest), change[0], change[1], 1)
		if _, err := readManifest([]byte(text)); err == nil {
			t.Errorf("%q was taken", change)
		}
	}
}

func TestEndedContext(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	stop()
	var p Place
	if _, err := p.pack(ctx, small(t)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestID: the same bucket on another server is another place.
func TestID(t *testing.T) {
	seen := map[string]bool{}
	for _, endpoint := range []string{"https://a.example", "https://b.example:9000", ""} {
		p, err := Open("s3://fleet/ops/", Options{Getenv: getenv(map[string]string{"AWS_ENDPOINT_URL": endpoint})})
		if err != nil || p.String() != "s3://fleet/ops" || seen[p.ID()] {
			t.Errorf("%s: %v, %v", endpoint, p, err)
			continue
		}
		seen[p.ID()] = true
	}
	p, err := Open("oci://registry.example/fleet", Options{})
	if err != nil || p.ID() != "oci://registry.example/fleet" {
		t.Errorf("%v, %v", p, err)
	}
}
