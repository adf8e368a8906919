package seed

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bake/internal/tool"
)

// judge runs a program that is not ours over a medium that is. A missing one
// skips the test, but not where CI=true.
func judge(t *testing.T, program string, args ...string) (string, error) {
	t.Helper()
	box := tool.Box{Getenv: func(key string) string {
		if key == "PATH" { // blkid and fsck.vfat are not on a user's path
			return os.Getenv(key) + ":/usr/sbin:/sbin"
		}
		return os.Getenv(key)
	}}
	out, err := box.Run(t.Context(), program, args...)
	var missing *tool.MissingError
	if errors.As(err, &missing) {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return string(out), err
}

func mustJudge(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := judge(t, program, args...)
	if err != nil {
		t.Errorf("%s %s: %v", program, strings.Join(args, " "), err)
	}
	return out
}

// judged are seeds whose files end before, on and after a sector.
func judged() map[string]Seed {
	seeds := map[string]Seed{"small": sample()}
	for name, n := range map[string]int{"1": 1, "2047": 2047, "2048": 2048, "2049": 2049, "3 MiB": 3 << 20, "9 MiB": 9 << 20} {
		s := sample()
		s.UserData = pattern(n)
		seeds[name] = s
	}
	bare := sample()
	bare.NetworkConfig = nil
	seeds["no network-config"] = bare
	return seeds
}

// onEach runs a judge over an image of each seed.
func onEach(t *testing.T, format Format, with func(t *testing.T, path string, files []file)) {
	for name, s := range judged() {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "seed."+string(format))
			if err := Write(path, format, s); err != nil {
				t.Fatal(err)
			}
			files, err := contents(s)
			if err != nil {
				t.Fatal(err)
			}
			with(t, path, files)
		})
	}
}

func wantNames(t *testing.T, listing string, files []file, suffix string) {
	t.Helper()
	var want []string
	for _, f := range files {
		want = append(want, f.name+suffix)
	}
	if got := strings.Fields(listing); strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("lists %q, want %q", got, want)
	}
}

func wantData(t *testing.T, got string, f file) {
	t.Helper()
	if got != string(f.data) {
		t.Errorf("%s: %d bytes that are not the %d written", f.name, len(got), len(f.data))
	}
}

func TestISOByIsoinfo(t *testing.T) {
	onEach(t, ISO, func(t *testing.T, path string, files []file) {
		about := mustJudge(t, "isoinfo", "-d", "-i", path)
		for _, line := range []string{"Volume id: cidata\n", "System id: LINUX\n", "NO Joliet present", "NO Rock Ridge present"} {
			if !strings.Contains(about, line) {
				t.Errorf("no %q in:\n%s", line, about)
			}
		}
		listing := strings.ReplaceAll(mustJudge(t, "isoinfo", "-f", "-i", path), "/", "")
		wantNames(t, listing, files, ";1")
		for _, f := range files {
			wantData(t, mustJudge(t, "isoinfo", "-i", path, "-x", "/"+f.name+";1"), f)
		}
	})
}

func TestISOByXorriso(t *testing.T) {
	onEach(t, ISO, func(t *testing.T, path string, files []file) {
		listing := mustJudge(t, "xorriso", "-indev", path, "-ls", "/")
		wantNames(t, strings.ReplaceAll(listing, "'", ""), files, "")
		out := t.TempDir()
		mustJudge(t, "xorriso", "-osirrox", "on", "-indev", path, "-extract", "/", out)
		for _, f := range files {
			data, err := os.ReadFile(filepath.Join(out, f.name))
			if err != nil {
				t.Error(err)
			}
			wantData(t, string(data), f)
		}
		if err := os.Chmod(out, 0o700); err != nil { // extracted without write permission
			t.Error(err)
		}
	})
}

func TestISOByBsdtar(t *testing.T) {
	onEach(t, ISO, func(t *testing.T, path string, files []file) {
		wantNames(t, strings.TrimPrefix(mustJudge(t, "bsdtar", "-tf", path), ".\n"), files, "")
		for _, f := range files {
			wantData(t, mustJudge(t, "bsdtar", "-xOf", path, f.name), f)
		}
	})
}

func TestISOBy7z(t *testing.T) {
	onEach(t, ISO, func(t *testing.T, path string, files []file) {
		if out := mustJudge(t, "7z", "t", path); !strings.Contains(out, "Everything is Ok") || strings.Contains(out, "WARN") {
			t.Errorf("7z t says:\n%s", out)
		}
		var names []string
		for _, line := range strings.Split(mustJudge(t, "7z", "l", "-ba", "-slt", path), "\n") {
			if name, ok := strings.CutPrefix(line, "Path = "); ok {
				names = append(names, name)
			}
		}
		wantNames(t, strings.Join(names, " "), files, "")
		for _, f := range files {
			wantData(t, mustJudge(t, "7z", "x", "-so", path, f.name), f)
		}
	})
}

// cloud-init finds its seed by what blkid says.
func TestLabelByBlkid(t *testing.T) {
	for format, want := range map[Format]string{ISO: "cidata iso9660", VFAT: "CIDATA vfat"} {
		onEach(t, format, func(t *testing.T, path string, _ []file) {
			got := mustJudge(t, "blkid", "-p", "-s", "LABEL", "-o", "value", path) +
				mustJudge(t, "blkid", "-p", "-s", "TYPE", "-o", "value", path)
			if strings.Join(strings.Fields(got), " ") != want {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}

func TestKindByFile(t *testing.T) {
	for format, want := range map[Format]string{ISO: "ISO 9660 CD-ROM filesystem data 'cidata'", VFAT: `label: "CIDATA`} {
		onEach(t, format, func(t *testing.T, path string, _ []file) {
			if got := mustJudge(t, "file", "-b", path); !strings.Contains(got, want) {
				t.Errorf("%q has no %q", got, want)
			}
		})
	}
}

func TestVFATByFsck(t *testing.T) {
	onEach(t, VFAT, func(t *testing.T, path string, _ []file) {
		out := mustJudge(t, "fsck.vfat", "-n", "-v", path)
		for _, complaint := range []string{"Reclaimed", "differences", "Leaving"} {
			if strings.Contains(out, complaint) {
				t.Errorf("fsck.vfat says:\n%s", out)
			}
		}
	})
}

func TestVFATByMtools(t *testing.T) {
	onEach(t, VFAT, func(t *testing.T, path string, files []file) {
		wantNames(t, strings.ReplaceAll(mustJudge(t, "mdir", "-b", "-i", path, "::"), "::/", ""), files, "")
		for _, f := range files {
			wantData(t, mustJudge(t, "mtype", "-i", path, "::"+f.name), f)
		}
	})
}

// Judges that cannot condemn are none: without the seal libarchive sees an
// empty disc and fsck.vfat a lost cluster.
func TestJudgesCondemn(t *testing.T) {
	files, err := contents(sample())
	if err != nil {
		t.Fatal(err)
	}
	t.Run("bsdtar", func(t *testing.T) {
		image, err := layOut(label, files)
		if err != nil {
			t.Fatal(err)
		}
		image = append(image, make([]byte, minSectors*sector)...) // its size is not the reason
		path := filepath.Join(t.TempDir(), "seed.iso")
		if err := os.WriteFile(path, image, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := judge(t, "bsdtar", "-tf", path); err == nil && strings.Contains(out, "user-data") {
			t.Errorf("an unsealed image lists %q: are the path tables still needed?", out)
		}
	})
	t.Run("fsck.vfat", func(t *testing.T) {
		image := make([]byte, volumes[0].size)
		if err := fillVFAT(image, volumes[0], files); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "seed.vfat")
		if err := os.WriteFile(path, image, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := judge(t, "fsck.vfat", "-n", path); err == nil {
			t.Errorf("an unsealed image passes: %s", out)
		}
	})
	t.Run("7z", func(t *testing.T) {
		image, err := encodeISO(label, epoch, files)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "seed.iso")
		if err := os.WriteFile(path, bytes.TrimRight(image, "\x00")[:17*sector], 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := judge(t, "7z", "t", path); err == nil {
			t.Errorf("a truncated image passes: %s", out)
		}
	})
}
