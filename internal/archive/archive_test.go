package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
)

var clock = time.Date(2026, 11, 28, 20, 0, 0, 123456789, time.UTC)

// part is a member as a test writes it.
type part struct {
	tar.Header
	body string
}

func dir(name string) part {
	return part{tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o700}, ""}
}

func file(name, body string) part {
	return part{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600}, body}
}

func link(kind byte, name, target string) part {
	return part{tar.Header{Typeflag: kind, Name: name, Linkname: target, Mode: 0o777}, ""}
}

// honest is a state with all that a state may have.
func honest() []part {
	attributes := file("var/lib/o/a", "hello")
	attributes.Mode = 0o4755
	attributes.PAXRecords = map[string]string{xattrPrefix + "user.x%3Dy%25": "b\x00ar"}
	return []part{dir("var"), dir("var/lib"), dir("var/lib/o"), attributes, link(tar.TypeLink, "var/lib/o/b", "var/lib/o/a"),
		link(tar.TypeSymlink, "var/lib/o/c", "../../../../etc/passwd"), file("var/lib/o/odd\n\xff name", ""),
		file("var/lib/o/"+strings.Repeat("long", 60), "x"), file("var/lib/o/zeros", strings.Repeat("\x00", 100_000)+"1"+strings.Repeat("\x00", 9000))}
}

// stream writes members and a manifest that is true, but for what change does to it.
func stream(t testing.TB, parts []part, change func(*Manifest)) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	s := &scanner{source: &source{Context: t.Context()}, seen: map[Path]string{}, limits: Limits{}}
	for _, p := range parts {
		p.Header.Size, p.Header.Uid, p.Header.Gid, p.Header.ModTime, p.Header.Format = int64(len(p.body)), 782, 782, clock, tar.FormatPAX
		if err := errors.Join(w.WriteHeader(&p.Header), second(w.Write([]byte(p.body)))); err != nil {
			t.Fatal(err)
		}
		_ = s.member(&p.Header, strings.NewReader(p.body)) // what is refused is what the test is about
	}
	m := Manifest{Format: format, Host: "zap", Method: "frozen", Asked: clock, Frozen: clock, Thawed: clock, Roots: []Path{},
		Count: len(s.entries), Bytes: s.bytes, Digest: digest(s.entries), Entries: s.entries}
	if change != nil {
		change(&m)
	}
	raw, err := json.Marshal(m)
	if err == nil {
		err = errors.Join(w.WriteHeader(&tar.Header{Name: manifestMember, Size: int64(len(raw)), Mode: 0o600}), second(w.Write(raw)), w.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func second(_ int, err error) error { return err }

func TestReceiveVerifyExtract(t *testing.T) {
	data := stream(t, honest(), nil)
	snapshot := filepath.Join(t.TempDir(), "snapshot")
	for range 2 { // also over the one before
		m, err := Receive(t.Context(), iotest.OneByteReader(bytes.NewReader(data)), snapshot, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		again, err := Verify(t.Context(), snapshot, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(m, again); diff != "" || m.Count != 9 || m.Entries[4].Target != "var/lib/o/a" || !m.Frozen.Equal(clock) {
			t.Fatalf("%s\n%+v", diff, m)
		}
	}
	demandFiles(t, snapshot, StateFile, ManifestFile)
	stored, err := os.ReadFile(filepath.Join(snapshot, StateFile))
	if err != nil || !bytes.Equal(stored, data) {
		t.Errorf("the stream is not stored as it came: %v", err)
	}
	to := filepath.Join(t.TempDir(), "look")
	if _, err := Extract(t.Context(), snapshot, to, Options{}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"a": "hello", "b": "hello", "odd\n\xff name": "", "zeros": honest()[8].body} {
		if got, err := os.ReadFile(filepath.Join(to, "var/lib/o", name)); err != nil || string(got) != want {
			t.Errorf("%q: %v", name, err)
		}
	}
	a, errA := os.Stat(filepath.Join(to, "var/lib/o/a"))
	b, errB := os.Stat(filepath.Join(to, "var/lib/o/b"))
	if errA != nil || errB != nil || !os.SameFile(a, b) || a.Mode() != 0o755 || !a.ModTime().Equal(clock) {
		t.Errorf("%v, %v: %v", errA, errB, a)
	}
	if target, err := os.Readlink(filepath.Join(to, "var/lib/o/c")); target != "../../../../etc/passwd" {
		t.Errorf("%q, %v", target, err)
	}
	if info, err := os.Stat(filepath.Join(to, "var/lib/o/zeros")); err != nil || info.Sys().(*syscall.Stat_t).Blocks*512 > 16<<10 {
		t.Errorf("no holes: %v", err)
	}
	value := make([]byte, 10)
	if n, err := syscall.Getxattr(filepath.Join(to, "var/lib/o/a"), "user.x=y%", value); !errors.Is(err, syscall.ENOTSUP) && string(value[:max(n, 0)]) != "b\x00ar" {
		t.Errorf("%q, %v", value, err)
	}
	if _, err := Extract(t.Context(), snapshot, to, Options{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over what is there: %v", err)
	}
}

func TestExtractKeeps(t *testing.T) {
	snapshot, to := filepath.Join(t.TempDir(), "s"), filepath.Join(t.TempDir(), "to")
	if _, err := Receive(t.Context(), bytes.NewReader(stream(t, honest(), nil)), snapshot, Limits{}); err != nil {
		t.Fatal(err)
	}
	keep := func(p Path) bool { return p == "var/lib/o/b" || p == "var/lib/o/zeros" } // b is a link to what is not kept
	if _, err := Extract(t.Context(), snapshot, to, Options{Keep: keep}); err != nil {
		t.Fatal(err)
	}
	demandFiles(t, filepath.Join(to, "var/lib/o"), "zeros")
}

func demandFiles(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if slices.Sort(names); err != nil || !slices.Equal(got, names) {
		t.Errorf("%s has %q, not %q: %v", dir, got, names, err)
	}
}

// hostile are streams that no honest machine sends, and what is said of them.
func hostile(t testing.TB) map[string][2]string {
	in := func(parts ...part) string {
		return string(stream(t, append([]part{dir("var")}, parts...), nil))
	}
	changed := func(change func(*Manifest)) string { return string(stream(t, honest(), change)) }
	whole := string(stream(t, honest(), nil))
	twice := append(honest(), file("var/lib/o/a", "hello"))
	second := stream(t, nil, nil)
	return map[string][2]string{
		"nothing":              {"", "ends without a manifest"},
		"no tar":               {strings.Repeat("no tar ", 1000), "cannot be read"},
		"absolute":             {in(file("/etc/passwd", "x")), "no path below"},
		"dot-dot":              {in(file("../x", "x")), "no path below"},
		"dot-dot inside":       {in(file("var/../../x", "x")), "no path below"},
		"dot":                  {in(file("./x", "x")), "no path below"},
		"double slash":         {in(file("var//x", "x")), "no path below"},
		"no name":              {in(file("", "x")), "no path below"},
		"long name":            {in(file("var/"+strings.Repeat("x", 256), "x")), "is a path of"},
		"twice":                {string(stream(t, twice, nil)), "comes twice"},
		"no parent":            {in(file("etc/passwd", "x")), "no directory of this stream"},
		"below a link":         {in(link(tar.TypeSymlink, "var/l", "/etc"), file("var/l/passwd", "x")), "no directory of this stream"},
		"below a file":         {in(file("var/f", "x"), file("var/f/g", "x")), "no directory of this stream"},
		"hard link outside":    {in(link(tar.TypeLink, "var/h", "/etc/passwd")), "no file of this stream"},
		"hard link to a link":  {in(link(tar.TypeSymlink, "var/l", "/etc/passwd"), link(tar.TypeLink, "var/h", "var/l")), "no file of this stream"},
		"hard link ahead":      {in(link(tar.TypeLink, "var/h", "var/z"), file("var/z", "")), "no file of this stream"},
		"link to nothing":      {in(link(tar.TypeSymlink, "var/l", "")), "link to no path"},
		"character device":     {in(part{tar.Header{Typeflag: tar.TypeChar, Name: "var/null", Devmajor: 1, Devminor: 3}, ""}), "neither file"},
		"block device":         {in(part{tar.Header{Typeflag: tar.TypeBlock, Name: "var/sda"}, ""}), "neither file"},
		"pipe":                 {in(part{tar.Header{Typeflag: tar.TypeFifo, Name: "var/pipe"}, ""}), "neither file"},
		"another manifest":     {in(dir(".bake"), file(".bake/x", "x")), "where the manifest is"},
		"after the manifest":   {whole[:len(whole)-1024] + string(second), "comes after the manifest"},
		"after the end":        {whole + strings.Repeat("\x00", 4096) + "x", "after the end"},
		"zeros without end":    {whole + strings.Repeat("\x00", trailerBytes+1), "after the end"},
		"content":              {strings.Replace(whole, "hello", "jello", 1), "sha256 is"},
		"attribute":            {strings.Replace(whole, "b\x00ar", "c\x00ar", 1), "xattrs is"},
		"one too few":          {changed(func(m *Manifest) { m.Entries = append(m.Entries, Entry{Path: "x"}) }), "has not come"},
		"one too many":         {changed(func(m *Manifest) { m.Entries = m.Entries[:8] }), "is not in the manifest"},
		"mode":                 {changed(func(m *Manifest) { m.Entries[3].Mode = 0o755 }), "mode is"},
		"count":                {changed(func(m *Manifest) { m.Count++ }), "sums"},
		"digest":               {changed(func(m *Manifest) { m.Digest = "" }), "sums"},
		"format":               {changed(func(m *Manifest) { m.Format = 2 }), "format 2"},
		"nobody's":             {changed(func(m *Manifest) { m.Host = "" }), "whose state"},
		"a root that is not":   {changed(func(m *Manifest) { m.Roots = []Path{"etc"} }), "has not come"},
		"database that is not": {changed(func(m *Manifest) { m.Databases = []Database{{"x.db", "ok"}} }), "has not come"},
		"a link for a root":    {string(stream(t, []part{dir("var"), link(tar.TypeSymlink, "var/o", "/etc")}, func(m *Manifest) { m.Roots = []Path{"var/o"} })), "is a link where"},
		"no list":              {strings.Replace(whole, `"databases":null`, `"databases":1234`, 1), "no list"},
		"many databases":       {changed(func(m *Manifest) { m.Databases = make([]Database, 11) }), "databases: it has more than 10"},
		"many entries":         {changed(func(m *Manifest) { m.Entries = make([]Entry, 11) }), "entries: it has more than 10"},
		"many roots":           {changed(func(m *Manifest) { m.Roots = make([]Path, 11) }), "roots: it has more than 10"},
		"many that are left":   {changed(func(m *Manifest) { m.Skipped = make([]Path, mostSkipped+1) }), ""},
		"no JSON":              {strings.Replace(whole, `{"format":1`, `["format":1`, 1), "no JSON"},
	}
}

func TestHostileStreams(t *testing.T) {
	for name, test := range hostile(t) {
		t.Run(name, func(t *testing.T) { demandRefused(t, test[0], test[1], Limits{}) })
	}
}

func demandRefused(t *testing.T, data, says string, limits Limits) {
	t.Helper()
	snapshot := t.TempDir()
	_, err := Receive(t.Context(), strings.NewReader(data), snapshot, limits)
	var refused *RefusedError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), says) {
		t.Errorf("%v, where %q was wanted", err, says)
	}
	demandFiles(t, snapshot)
}

// TestTruncated cuts a stream off at every block, and in the middle of each.
func TestTruncated(t *testing.T) {
	data := string(stream(t, honest(), nil))
	end := strings.LastIndex(data, "}") // of the manifest
	for n := 0; n < end; n += 256 {
		demandRefused(t, data[:n], "", Limits{})
	}
}

func TestLimits(t *testing.T) {
	many := func(m *Manifest) { m.Instance = strings.Repeat("x", manifestRest+100_000) }
	demandRefused(t, string(stream(t, honest(), many)), "bytes for 9 members", Limits{})
	data := string(stream(t, honest(), nil))
	demandRefused(t, data, "more than 8 members", Limits{Entries: 8})
	demandRefused(t, data, "longer than 100000 bytes", Limits{Bytes: 100_000})
	bomb := holeBomb(1 << 50)
	if len(bomb) > 1<<20 {
		t.Fatalf("%d bytes", len(bomb))
	}
	demandRefused(t, bomb, "longer than", Limits{})
}

// holeBomb is a sparse file as GNU tar sends it: a few bytes that stand for many.
func holeBomb(size int64) string {
	sizeText := strings.TrimSpace(strings.ReplaceAll(string(mustJSON(size)), "\"", ""))
	records := ""
	for key, value := range map[string]string{"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "bomb", "GNU.sparse.realsize": sizeText} {
		line := " " + key + "=" + value + "\n"
		n := len(line) + 2
		records += string(mustJSON(n)) + line
	}
	block := func(name string, kind byte, size int) []byte {
		var out bytes.Buffer
		w := tar.NewWriter(&out)
		_ = w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Size: int64(size), Mode: 0o600, Format: tar.FormatUSTAR})
		b := out.Bytes()[:512]
		b[156] = kind
		copy(b[148:156], "        ")
		sum := 0
		for _, c := range b {
			sum += int(c)
		}
		copy(b[148:156], []byte{'0' + byte(sum>>15&7), '0' + byte(sum>>12&7), '0' + byte(sum>>9&7), '0' + byte(sum>>6&7), '0' + byte(sum>>3&7), '0' + byte(sum&7), 0, ' '})
		return b
	}
	pad := func(text string) string { return text + strings.Repeat("\x00", (512-len(text)%512)%512) }
	data := pad("0\n")
	return string(block("pax", tar.TypeXHeader, len(records))) + pad(records) + string(block("GNUSparseFile.0/bomb", tar.TypeReg, len(data))) + data
}

func mustJSON(v any) []byte { data, _ := json.Marshal(v); return data }

// TestOtherFaults: what is not the stream's fault is not called a refusal, and leaves
// nothing either.
func TestOtherFaults(t *testing.T) {
	data := stream(t, honest(), nil)
	var refused *RefusedError
	snapshot := t.TempDir()
	cut := io.MultiReader(bytes.NewReader(data[:5000]), iotest.ErrReader(syscall.ECONNRESET))
	if _, err := Receive(t.Context(), cut, snapshot, Limits{}); !errors.Is(err, syscall.ECONNRESET) || errors.As(err, &refused) {
		t.Errorf("reset: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Receive(ctx, bytes.NewReader(data), snapshot, Limits{}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	// The holes of a file come without the stream: who does not wait any more is heard there, too.
	ctx, cancel = context.WithCancel(t.Context())
	stop := func(m member) error {
		cancel()
		if _, err := m.content.Read(make([]byte, 1)); !errors.Is(err, context.Canceled) {
			t.Errorf("a hole goes on: %v", err)
		}
		return nil
	}
	if _, _, err := scan(ctx, strings.NewReader(holeBomb(1<<20)+strings.Repeat("\x00", 1024)), Limits{}, stop); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled in a hole: %v", err)
	}
	full := &sink{Writer: fullDisk{}}
	if _, _, err := scan(t.Context(), io.TeeReader(bytes.NewReader(data), full), Limits{}, nil); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("full: %v", err)
	}
	demandFiles(t, snapshot)
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

func TestVerifyFindsChanges(t *testing.T) {
	for _, name := range []string{StateFile, ManifestFile} {
		snapshot := t.TempDir()
		if _, err := Receive(t.Context(), bytes.NewReader(stream(t, honest(), nil)), snapshot, Limits{}); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(filepath.Join(snapshot, name))
		if err != nil {
			t.Fatal(err)
		}
		changed := bytes.Replace(data, []byte("zap"), []byte("zip"), 1)
		if err := os.WriteFile(filepath.Join(snapshot, name), changed, 0o600); err != nil || bytes.Equal(data, changed) {
			t.Fatal(err)
		}
		var refused *RefusedError
		if _, err := Verify(t.Context(), snapshot, Limits{}); !errors.As(err, &refused) {
			t.Errorf("%s: %v", name, err)
		}
		to := filepath.Join(t.TempDir(), "to")
		if _, err := Extract(t.Context(), snapshot, to, Options{}); !errors.As(err, &refused) {
			t.Errorf("%s: %v", name, err)
		}
		demandFiles(t, filepath.Dir(to))
	}
}

func TestPathsAndModes(t *testing.T) {
	for _, p := range []Path{"a", "a b%/\xff\n\"ü"} {
		data, err := json.Marshal(p)
		var back Path
		if err = errors.Join(err, json.Unmarshal(data, &back)); err != nil || back != p {
			t.Errorf("%q: %s, %q, %v", p, data, back, err)
		}
	}
	for text, ok := range map[string]bool{`"0600"`: true, `"4755"`: true, `"8"`: false, `""`: false, `"-1"`: false, `"777777"`: false} {
		var m Mode
		if err := json.Unmarshal([]byte(text), &m); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// FuzzReceive: no stream leaves anything but a snapshot that verifies, and no
// snapshot anything outside of where it is extracted to.
func FuzzReceive(f *testing.F) {
	tests := hostile(f)
	for _, name := range slices.Sorted(maps.Keys(tests)) {
		f.Add([]byte(tests[name][0]))
	}
	f.Add(stream(f, honest(), nil))
	f.Add([]byte(holeBomb(1 << 20)))
	f.Fuzz(func(t *testing.T, data []byte) {
		limits := Limits{Bytes: 1 << 20, Entries: 100}
		base := t.TempDir()
		snapshot := filepath.Join(base, "snapshot")
		if _, err := Receive(t.Context(), bytes.NewReader(data), snapshot, limits); err != nil {
			demandFiles(t, snapshot)
			return
		}
		if _, err := Verify(t.Context(), snapshot, limits); err != nil {
			t.Fatal(err)
		}
		if _, err := Extract(t.Context(), snapshot, filepath.Join(base, "to"), Options{Limits: limits}); err == nil {
			demandFiles(t, base, "snapshot", "to")
			_ = removeTree(filepath.Join(base, "to"))
		}
		demandFiles(t, base, "snapshot")
	})
}
