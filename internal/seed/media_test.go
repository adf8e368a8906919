package seed

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

var formats = []Format{ISO, VFAT, Dir}

func sample() Seed {
	return Seed{
		UserData:      []byte("#cloud-config\nhostname: zap\n"),
		MetaData:      []byte("instance-id: bake-zap-0123456789ab\nlocal-hostname: zap\ndsmode: local\n"),
		NetworkConfig: []byte("version: 2\nethernets: {}\n"),
	}
}

// seen reads a medium back without comparing it to anything.
func seen(t *testing.T, path string, format Format) map[string]string {
	t.Helper()
	var files []file
	var err error
	if format == Dir {
		files, err = readDir(path)
	} else {
		var image []byte
		if image, err = os.ReadFile(path); err == nil {
			files, err = codecs[format].decode(image, nil)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]string{}
	for _, f := range files {
		m[f.name] = string(f.data)
	}
	return m
}

func wantSeed(t *testing.T, path string, format Format, s Seed) {
	t.Helper()
	want := map[string]string{"user-data": string(s.UserData), "meta-data": string(s.MetaData)}
	if len(s.NetworkConfig) > 0 {
		want["network-config"] = string(s.NetworkConfig)
	}
	got := seen(t, path, format)
	for name := range want {
		if got[name] != want[name] {
			t.Errorf("%s: %d bytes that are not the %d asked for", name, len(got[name]), len(want[name]))
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d files, want %d", len(got), len(want))
	}
}

func TestParseFormat(t *testing.T) {
	for _, f := range formats {
		if got, err := ParseFormat(string(f)); err != nil || got != f {
			t.Errorf("%s: %q, %v", f, got, err)
		}
	}
	for _, name := range []string{"", "ISO", "iso ", "raw", "fat"} {
		if got, err := ParseFormat(name); err == nil || got != "" {
			t.Errorf("%q: %q, %v, want an error", name, got, err)
		}
	}
}

// The sizes are those at which sectors, clusters and kinds of FAT change.
func TestRoundTrip(t *testing.T) {
	for _, n := range []int{1, 511, 512, 513, 1024, 2047, 2048, 2049, 6144, 1<<20 - 100, 1 << 20, 6<<20 - 100, 6 << 20, maxBytes - 100} {
		s := sample()
		s.UserData = pattern(n)
		if n%2 == 0 {
			s.NetworkConfig = nil
		}
		for _, f := range formats {
			path := filepath.Join(t.TempDir(), "seed")
			if err := Write(path, f, s); err != nil {
				t.Errorf("%s, %d bytes: %v", f, n, err)
				continue
			}
			wantSeed(t, path, f, s)
		}
	}
}

// pattern has no period that a sector, a cluster or a buffer could hide.
func pattern(n int) []byte {
	b := make([]byte, n)
	x := uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}

func TestRefusedSeeds(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Seed)
		want   string
	}{
		"no user-data": {func(s *Seed) { s.UserData = nil }, "user-data is empty"},
		"no meta-data": {func(s *Seed) { s.MetaData = []byte{} }, "meta-data is empty"},
		"too large":    {func(s *Seed) { s.UserData = make([]byte, maxBytes) }, "more than 16 MiB"},
	} {
		for _, f := range formats {
			s, dir := sample(), t.TempDir()
			test.change(&s)
			err := Write(filepath.Join(dir, "seed"), f, s)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s, %s: %v, want %q", name, f, err, test.want)
			}
			wantEntries(t, dir)
		}
	}
}

func TestRefusedPaths(t *testing.T) {
	dir := t.TempDir()
	for name, err := range map[string]error{
		"unknown format": Write(filepath.Join(dir, "seed"), "raw", sample()),
		"empty path":     Write("", ISO, sample()),
		"no parent":      Write(filepath.Join(dir, "none", "seed"), ISO, sample()),
		"no parent, dir": Write(filepath.Join(dir, "none", "seed"), Dir, sample()),
		"a directory":    Write(dir, VFAT, sample()),
	} {
		if err == nil || !strings.HasPrefix(err.Error(), "writing seed ") {
			t.Errorf("%s: %v, want an error that names the path", name, err)
		}
	}
	wantEntries(t, dir)
}

// A change of these digests is a change of the artifact: say so in the
// changelog.
func TestGolden(t *testing.T) {
	for f, want := range map[Format]string{
		ISO:  "00e3dcfe2cc8070b73c5f0015f5d0857472d85db61e0ec4efe29e62a0605e780",
		VFAT: "c4b2934f757174323b0a542c14b9722f74f882e1eb7a5d9a8f91bcc3bd1fdc6d",
	} {
		path := filepath.Join(t.TempDir(), "seed")
		if err := Write(path, f, sample()); err != nil {
			t.Fatal(err)
		}
		if got := digest(t, path); got != want {
			t.Errorf("%s: sha256 %s, want %s", f, got, want)
		}
		other := sample()
		other.UserData[len(other.UserData)-2] ^= 1
		if err := Write(path, f, other); err != nil {
			t.Fatal(err)
		}
		if digest(t, path) == want {
			t.Errorf("%s: another seed has the same digest", f)
		}
	}
}

func digest(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func TestConcurrent(t *testing.T) {
	dir := t.TempDir()
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			s := sample()
			s.UserData = bytes.Repeat([]byte{'a' + byte(i)}, 5000)
			for _, f := range []Format{ISO, VFAT} {
				if err := Write(filepath.Join(dir, "shared."+string(f)), f, s); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	wantEntries(t, dir, "shared.iso", "shared.vfat")
	for _, f := range []Format{ISO, VFAT} {
		words := seen(t, filepath.Join(dir, "shared."+string(f)), f)["user-data"]
		if len(words) != 5000 || strings.Trim(words, words[:1]) != "" {
			t.Errorf("%s: the writers' words are mixed", f)
		}
	}
}

func TestCompare(t *testing.T) {
	asked := []file{{"a", []byte("1")}, {"b", []byte("2")}}
	for name, test := range map[string]struct {
		seen []file
		want string
	}{
		"equal":    {[]file{{"b", []byte("2")}, {"a", []byte("1")}}, ""},
		"missing":  {asked[:1], "b is missing"},
		"differs":  {[]file{{"a", []byte("secret")}, asked[1]}, "a differs"},
		"truncate": {[]file{{"a", nil}, asked[1]}, "a differs"},
		"extra":    {append([]file{{"c", nil}}, asked...), `"c" was never written`},
		"twice":    {append([]file{asked[0]}, asked...), `"a" was never written`},
	} {
		err := compare(asked, test.seen)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v quotes contents", name, err)
		}
	}
}

// Run it with -fuzzminimizetime=10x: the stage in $TMPDIR makes coverage vary,
// and the fuzzer would spend its time on minimizing noise.
func FuzzRoundTrip(f *testing.F) {
	s := sample()
	f.Add(s.UserData, s.MetaData, s.NetworkConfig)
	f.Add([]byte{0}, bytes.Repeat([]byte{0xff}, 2048), []byte(nil))
	f.Add(pattern(4097), []byte("~"), pattern(512))
	f.Fuzz(func(t *testing.T, user, meta, network []byte) {
		files, err := contents(Seed{UserData: user, MetaData: meta, NetworkConfig: network})
		if refuse := len(user) == 0 || len(meta) == 0; refuse != (err != nil) {
			t.Fatalf("%d and %d bytes: %v", len(user), len(meta), err)
		}
		if err != nil {
			return
		}
		for _, format := range []Format{ISO, VFAT} { // in order, or coverage would vary
			c := codecs[format]
			image, err := c.encode(files)
			if err != nil {
				t.Fatalf("%s: %v", format, err)
			}
			seen, err := c.decode(image, nil)
			if err == nil {
				err = compare(files, seen)
			}
			if err != nil {
				t.Fatalf("%s: %v", format, err)
			}
		}
	})
}
