package vm

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bake/internal/tool"
)

func TestSweep(t *testing.T) {
	root := t.TempDir()
	box := tool.Box{Getenv: func(string) string { return root }}
	used, err := newScratch(box)
	if err != nil {
		t.Fatal(err)
	}
	orphan := filepath.Join(root, scratchPrefix+"orphan")
	unlocked := filepath.Join(root, scratchPrefix+"young") // its owner has not come to lock it
	shared := filepath.Join(root, scratchPrefix+"shared")  // not made by newScratch
	foreign := filepath.Join(root, "other")
	link := filepath.Join(root, scratchPrefix+"link")
	for _, dir := range []string{orphan, unlocked, shared, foreign} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if dir == unlocked {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, lockName), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Chmod(shared, 0o755), os.Symlink(foreign, link)); err != nil {
		t.Fatal(err)
	}
	next, err := newScratch(box)
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{used.dir, next.dir, unlocked, shared, foreign, link} {
		if isRemoved(dir) {
			t.Errorf("%s was removed", dir)
		}
	}
	if !isRemoved(orphan) {
		t.Errorf("%s was not removed", orphan)
	}
	for _, s := range []*scratch{used, next} {
		if err := s.remove(); err != nil || !isRemoved(s.dir) {
			t.Errorf("remove: %v", err)
		}
	}
}

func TestNewScratchFails(t *testing.T) {
	box := tool.Box{Getenv: func(string) string { return "/nonexistent" }}
	if s, err := newScratch(box); err == nil {
		t.Errorf("newScratch made %s", s.dir)
	}
}

func TestCredentials(t *testing.T) {
	for _, test := range []struct {
		name   string
		values map[string]string
		want   []string // nil: an error
	}{
		{"none", nil, []string{}},
		{"sorted", map[string]string{"b": "2\n", "a.x": "1"},
			[]string{"io.systemd.credential.binary:a.x=MQ==", "io.systemd.credential.binary:b=Mgo="}},
		{"empty name", map[string]string{"": "1"}, nil},
		{"path", map[string]string{"../a": "1"}, nil},
		{"dots", map[string]string{"..": "1"}, nil},
		{"line end", map[string]string{"a\n": "1"}, nil},
		{"too much", map[string]string{"a": strings.Repeat("x", credentialLimit)}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := &scratch{dir: t.TempDir()}
			files, err := s.credentials(test.values)
			if (err == nil) != (test.want != nil) || len(files) != len(test.want) {
				t.Fatalf("credentials = %s, %v", files, err)
			}
			for i, file := range files {
				text, err := os.ReadFile(file)
				info, statErr := os.Stat(file)
				if err != nil || statErr != nil || string(text) != test.want[i] || info.Mode().Perm() != 0o600 {
					t.Errorf("%s: %q, %v, %v", file, text, info, errors.Join(err, statErr))
				}
			}
			if err := s.forget(files); err != nil || len(files) > 0 && !isRemoved(files[0]) {
				t.Errorf("forget: %v", err)
			}
		})
	}
}

func TestFindFirmware(t *testing.T) {
	dir := t.TempDir()
	code, vars := filepath.Join(dir, "code"), filepath.Join(dir, "vars")
	for _, file := range []string{code, vars} {
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	target := "x86_64"
	describe := func(device, code, machine, features string) string {
		return `{"mapping": {"device": "` + device + `", "executable": {"filename": "` + code + `", "format": "raw"},
			"nvram-template": {"filename": "` + vars + `", "format": "raw"}},
			"targets": [{"architecture": "` + target + `", "machines": ["` + machine + `"]}], "features": [` + features + `]}`
	}
	const secure = `"secure-boot", "enrolled-keys", "requires-smm"`
	for _, test := range []struct {
		name, kind, text string
		found            bool
	}{
		{"plain", uefi, describe("flash", code, "pc-q35-*", `"acpi-s3"`), true},
		{"secure", uefiSecure, describe("flash", code, "pc-q35-*", secure), true},
		{"secure is not plain", uefi, describe("flash", code, "pc-q35-*", secure), false},
		{"plain is not secure", uefiSecure, describe("flash", code, "pc-q35-*", ""), false},
		{"no keys enrolled", uefiSecure, describe("flash", code, "pc-q35-*", `"secure-boot"`), false},
		{"no flash", uefi, describe("memory", code, "pc-q35-*", ""), false},
		{"file missing", uefi, describe("flash", code+"x", "pc-q35-*", ""), false},
		{"another machine", uefi, describe("flash", code, "microvm", ""), false},
		{"no JSON", uefi, "{", false},
		{"unknown kind", "bios", describe("flash", code, "pc-q35-*", ""), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "10-x.json"), []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
			firm, err := findFirmware(boards[amd64], test.kind, []string{"/nonexistent", dir})
			if (err == nil) != test.found || test.found && (firm.Code.Filename != code || firm.secure != (test.kind == uefiSecure)) {
				t.Errorf("findFirmware = %+v, %v", firm, err)
			}
		})
	}
	// Where it is left to the machine it is the secure one, with KVM, if that is there.
	for _, test := range []struct {
		accel, text string
		secure      bool
	}{
		{kvm, secure, true},
		{tcg, secure, false},
		{kvm, `"secure-boot"`, false},
	} {
		dir := t.TempDir()
		for name, features := range map[string]string{"10-secure.json": test.text, "20-plain.json": ""} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(describe("flash", code, "pc-q35-*", features)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		firm, err := Spec{Accel: test.accel, Firmware: firmwareAuto}.findFirmware(boards[amd64], []string{dir})
		if err != nil || firm.secure != test.secure {
			t.Errorf("%s, %s: %+v, %v", test.accel, test.text, firm, err)
		}
		if firm, err = (Spec{Accel: kvm, Firmware: uefi}).findFirmware(boards[amd64], []string{dir}); err != nil || firm.secure {
			t.Errorf("plain was asked for: %+v, %v", firm, err)
		}
	}
	// That of one processor is none for the other.
	both := t.TempDir()
	other := filepath.Join(both, "other")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	target = "aarch64"
	for name, text := range map[string]string{"10-arm.json": describe("flash", other, "virt-*", ""), "20-q35.json": strings.Replace(describe("flash", code, "pc-q35-*", ""), target, "x86_64", 1)} {
		if err := os.WriteFile(filepath.Join(both, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for arch, want := range map[string]string{amd64: code, arm64: other} {
		if firm, err := findFirmware(boards[arch], uefi, []string{both}); err != nil || firm.Code.Filename != want {
			t.Errorf("%s: %+v, %v", arch, firm, err)
		}
	}
	var missing *tool.MissingError
	if _, err := findFirmware(boards[arm64], uefiSecure, []string{both}); !errors.As(err, &missing) || missing.Package != "qemu-efi-aarch64" {
		t.Errorf("without firmware: %v", err)
	}
}
