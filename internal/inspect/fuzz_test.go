package inspect

import (
	"bytes"
	"context"
	"encoding/json"
	"hash/crc32"
	"os"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"
)

const (
	fuzzBudget = 16 << 20
	fuzzMemory = 512 << 20 // allocated in one run, freed or not
)

// patched applies patches of three bytes each to a good image: two choose one
// of the places, the third is the new value.
func patched(good []byte, places []int, patches []byte) []byte {
	image := bytes.Clone(good)
	for ; len(patches) >= 3; patches = patches[3:] {
		place := int(patches[0])<<8 | int(patches[1])
		image[places[place*len(places)/65536]] = patches[2]
	}
	return image
}

// places returns where an image has bytes that are not zero, and the eight
// bytes behind each: the rest is room without meaning.
func places(image []byte) []int {
	var all []int
	last := -16
	for i, b := range image {
		if b != 0 {
			last = i
		}
		if i-last < 8 {
			all = append(all, i)
		}
	}
	return all
}

// survive opens an image and looks at it: an error is fine, anything else has
// to be a finding that JSON can carry.
func survive(t *testing.T, image []byte) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	i := &Image{name: "fuzzed"}
	f, err := func() (f Findings, err error) {
		if err := i.open(ctx, bytes.NewReader(image), int64(len(image))); err != nil {
			return f, err
		}
		i.disk.budget.left = fuzzBudget
		return i.Findings()
	}()
	runtime.ReadMemStats(&after)
	if ctx.Err() != nil {
		t.Fatal("it took more than 20 seconds")
	}
	if spent := after.TotalAlloc - before.TotalAlloc; spent > fuzzMemory {
		t.Fatalf("it took %d MiB of memory", spent>>20)
	}
	if err != nil {
		if strings.Contains(err.Error(), "\x1b") {
			t.Fatalf("an escape sequence went through: %q", err)
		}
		return
	}
	text, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	var again Findings
	if err := json.Unmarshal(text, &again); err != nil || !reflect.DeepEqual(f, again) {
		t.Fatalf("JSON loses something of %s: %v", text, err)
	}
	if _, err := f.SBOM(); err != nil {
		t.Fatal(err)
	}
}

// small is a GPT disk with a file system that has all that is looked at.
func small(t testing.TB) string {
	tree := guest()
	for name := range tree {
		if strings.HasPrefix(name, "opt/") {
			delete(tree, name)
		}
	}
	root := fileSystem(t, tree, 2*mib, "-t", "ext4", "-b", "1024", "-O", "^metadata_csum,^has_journal", "-N", "64")
	boot := fileSystem(t, bootTree, mib, "-t", "ext4", "-b", "1024", "-O", "^has_journal", "-L", labelBoot, "-N", "16")
	return rawDisk(t, 5, part{1, 1, 2, typeRoot, root}, part{16, 3, 1, typeBoot, boot})
}

func fuzzImage(f *testing.F, path string) {
	good, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	choice := places(good)
	f.Add([]byte{})
	f.Add([]byte{0, 0, 1})
	f.Add([]byte{1, 0, 255, 128, 3, 255, 200, 0, 0})
	f.Fuzz(func(t *testing.T, patches []byte) {
		if len(patches) > 96 {
			return
		}
		survive(t, patched(good, choice, patches))
	})
}

func FuzzRaw(f *testing.F)  { fuzzImage(f, small(f)) }
func FuzzZlib(f *testing.F) { fuzzImage(f, convert(f, small(f), "-c", "-o", "cluster_size=4k")) }
func FuzzZstd(f *testing.F) {
	fuzzImage(f, convert(f, small(f), "-c", "-o", "cluster_size=64k,compression_type=zstd"))
}

// FuzzFile: a file that is wholly foreign.
func FuzzFile(f *testing.F) {
	image, err := os.ReadFile(convert(f, small(f), "-c", "-o", "cluster_size=512"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(image[:8<<10])
	f.Add([]byte("QFI\xfb\x00\x00\x00\x03"))
	f.Fuzz(survive)
}

// FuzzTable: the partition table, with checksums that are right.
func FuzzTable(f *testing.F) {
	good, err := os.ReadFile(small(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{72, 9}, []byte{0, 1})
	f.Add([]byte{80, 1}, []byte{32, 255})
	f.Fuzz(func(t *testing.T, head, entries []byte) {
		disk := bytes.Clone(good)
		for ; len(entries) >= 2; entries = entries[2:] {
			disk[2*sector+int(entries[0])] = entries[1]
		}
		sum := crc32.ChecksumIEEE(disk[2*sector : 2*sector+128*128])
		survive(t, table(disk, sector, func(b []byte) {
			le.PutUint32(b[88:], sum)
			for ; len(head) >= 2; head = head[2:] {
				b[int(head[0])%len(b)] = head[1]
			}
		}))
	})
}

func FuzzStatus(f *testing.F) {
	f.Add(status)
	f.Add("Package: a\nStatus: install ok installed\nVersion: 1\n x\n\n:\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, p := range installed(clean(text)) {
			if p.Name == "" || p.Version == "" || strings.ContainsAny(p.Name+p.Version+p.Architecture, "\n\x1b") {
				t.Fatalf("%q", p)
			}
		}
	})
}

func FuzzOSRelease(f *testing.F) {
	f.Add("ID=debian\nPRETTY_NAME=\"a \\\"b\\\"\"\nX='y")
	f.Fuzz(func(t *testing.T, text string) {
		for name, value := range osRelease(clean(text)) {
			if strings.ContainsAny(value, "\n\x1b") {
				t.Fatalf("%q=%q", name, value)
			}
		}
	})
}

func FuzzSources(f *testing.F) {
	f.Add("deb [signed-by=/a arch=b] http://a b c # d\n")
	f.Add(sources822)
	f.Fuzz(func(t *testing.T, text string) {
		lines, _ := sourceLines("f", clean(text))
		stanzas, _ := sourceStanzas("f", clean(text))
		for _, s := range append(lines, stanzas...) {
			if len(s.Types) == 0 || len(s.URIs) == 0 || len(s.Suites) == 0 {
				t.Fatalf("%+v", s)
			}
		}
	})
}

func FuzzConfigure(f *testing.F) {
	f.Add("datasource_list: [ NoCloud, None ]\nsystem_info: {default_user: {name: x}}\n")
	f.Add("datasource_list: &a [*a]\n")
	f.Fuzz(func(t *testing.T, text string) {
		var c CloudInit
		note := c.configure("f", clean(text))
		if strings.ContainsAny(note+c.DefaultUser+strings.Join(c.Datasources, ""), "\n\x1b") {
			t.Fatalf("%q, %+v", note, c)
		}
	})
}
