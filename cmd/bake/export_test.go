package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"bake/internal/publish"
)

// export runs bake export, which must end so and say that.
func (s *sleep) export(code int, words string, args ...string) outcome {
	s.t.Helper()
	o := s.run(append([]string{"export"}, args...)...)
	if o.code != code || !strings.Contains(o.stderr, words) {
		s.t.Errorf("export %q: exit status %d, want %d, %q\n%.2000s%s", args, o.code, code, words, o.stdout, o.stderr)
	}
	return o
}

func (s *sleep) text(name string) string {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		s.t.Error(err)
	}
	return string(text)
}

// TestExportKubeVirt: the objects name the image that was published, by its digest, if
// somebody who counts has signed it; the seed is in the file of the Secret alone.
func TestExportKubeVirt(t *testing.T) {
	s, d := newFleet(t), newDepot(t)
	sent := s.moved(0, "", "publish", "--host", "zap", "--to", d.address)
	image := strings.TrimPrefix(d.address, "oci://") + "@" + sent.Image
	o := s.export(0, "it is for no repository", "kubevirt", "--host", "zap", "--from", d.address, "--output", "k8s")
	if o.stdout == "" || strings.Count(o.stdout, "\n") != strings.Count(o.stdout, ".yaml\n") {
		t.Errorf("printed is %q", o.stdout)
	}
	machine := s.text("k8s/zap.yaml")
	for _, want := range []string{"url: docker://" + image + "\n", "kind: VirtualMachine", "kind: NetworkPolicy", "secretName: zap-seed-" + sent.Generation} {
		if !strings.Contains(machine, want) {
			t.Errorf("there is no %q in\n%s", want, machine)
		}
	}
	if strings.Contains(machine, "kind: Secret") || !strings.Contains(s.text("k8s/zap.secret.yaml"), "user-data: ") {
		t.Error("the seed is not in the file of the Secret alone")
	}
	if info, err := os.Stat(filepath.Join(s.dir, "k8s/zap.secret.yaml")); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if again := s.export(0, "", "kubevirt", "--host", "zap", "--from", d.address); again.stdout == "" || !strings.Contains(again.stdout, machine) {
		t.Error("printed is something else than written")
	}
	ephemeral := s.export(0, "warning: an ephemeral root disk has the size of the base image", "kubevirt", "--host", "zap", "--from", d.address, "--ephemeral")
	if !strings.Contains(ephemeral.stdout, "image: "+image+"\n") || strings.Contains(ephemeral.stdout, "kind: DataVolume") {
		t.Error("an ephemeral machine is not on the image")
	}
	checkClean(t, s.dir)
}

// TestExportRefused: what nobody has signed, what was changed, or is not of the host file as
// it is: refused, and nothing is written.
func TestExportRefused(t *testing.T) {
	s, d := newFleet(t), newDepot(t)
	fail := func(code int, words string, args ...string) {
		t.Helper()
		s.export(code, words, append([]string{"kubevirt", "--host", "zap", "--output", "k8s"}, args...)...)
		if _, err := os.Stat(filepath.Join(s.dir, "k8s")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q leaves something: %v", args, err)
		}
	}
	fail(6, "it is not there: bake publish puts it there", "--from", d.address)
	s.moved(0, "", "publish", "--host", "zap", "--to", d.address)

	is := s.text("hosts/zap.yaml")
	s.write(t, "hosts/zap.yaml", strings.Replace(is, "disk: 1GiB", "disk: 2GiB", 1), 0o644)
	if o := s.run("image", "--host", "zap", "--locked"); o.code != 0 {
		t.Fatalf("%+v", o)
	}
	s.moved(0, "", "publish", "--host", "zap", "--generation", "latest", "--to", d.address)
	fail(4, "is not of host zap as its host file and this bake make it now: run bake image --host zap")
	s.write(t, "hosts/zap.yaml", is, 0o644)
	d.moveTag("zap-"+s.open("current").Manifest.Generation, "zap-"+s.open("latest").Manifest.Generation)
	fail(5, "is refused: it is generation "+s.open("latest").Manifest.Generation, "--from", d.address)

	disk := s.open("current").Path("seed.iso")
	whole, err := os.ReadFile(disk)
	if err != nil {
		t.Fatal(err)
	}
	s.tool(t, "chmod", "u+w", disk)
	if err := os.WriteFile(disk, append(whole[:len(whole)-1:len(whole)-1], whole[len(whole)-1]+1), 0o600); err != nil {
		t.Fatal(err)
	}
	fail(5, "seed.iso")
	if err := os.WriteFile(disk, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	s.export(0, "", "kubevirt", "--host", "zap", "--output", "k8s")
}

// TestExportForged: who may write to the place puts an image there with other bytes, about which
// the same is said as of what was published, signatures and all. Nothing of it is fetched here,
// so the image must be the one that the generation makes.
func TestExportForged(t *testing.T) {
	s, d := newFleet(t), newDepot(t)
	sent := s.moved(0, "", "publish", "--host", "zap", "--to", d.address)
	for _, what := range []string{"bake/domain.xml", publish.DiskName} {
		d.replant(sent, what, func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
		o := s.export(5, "is another image than generation "+sent.Generation+" makes", "kubevirt", "--host", "zap", "--from", d.address)
		if o.stdout != "" {
			t.Errorf("%s: printed is %.200s", what, o.stdout)
		}
	}
}

// moveTag has a tag name what another one does, as who may write there can.
func (d *depot) moveTag(tag, as string) {
	d.t.Helper()
	manifests := strings.Replace(strings.TrimPrefix(d.address, "oci://"), "/", "/v2/", 1) + "/manifests/"
	answer, err := http.Get("http://" + manifests + as)
	if err != nil {
		d.t.Fatal(err)
	}
	defer answer.Body.Close()
	put, err := http.NewRequest(http.MethodPut, "http://"+manifests+tag, answer.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	put.Header.Set("Content-Type", answer.Header.Get("Content-Type"))
	done, err := http.DefaultClient.Do(put)
	if err != nil || done.StatusCode != http.StatusCreated {
		d.t.Fatal(done, err)
	}
	done.Body.Close()
}

// TestExportLibvirt: a bundle is whole, checks itself, and is the same another time.
func TestExportLibvirt(t *testing.T) {
	s := newFleet(t)
	s.export(0, "keep it as you keep those", "libvirt", "--host", "zap", "--output", "bundle")
	s.export(0, "", "libvirt", "--host", "zap", "--output", "one.tar")
	s.export(0, "", "libvirt", "--host", "zap", "--output", "two.tar")
	if fileSum(t, filepath.Join(s.dir, "one.tar")) != fileSum(t, filepath.Join(s.dir, "two.tar")) {
		t.Error("another time it is another archive")
	}
	s.tool(t, "sh", "-c", "cd bundle && sha256sum --check --strict --quiet SHA256SUMS")
	s.tool(t, "sh", "-c", "cd bundle && qemu-img check -q zap/*/disk.qcow2") // finds its base image
	s.tool(t, "sh", "-c", "mkdir other && cd other && tar xf ../one.tar && sha256sum --check --strict --quiet SHA256SUMS && cd .. && diff -r other bundle")
	file, err := os.Open(filepath.Join(s.dir, "one.tar"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for read := tar.NewReader(file); ; {
		h, err := read.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid+h.Gid != 0 || h.Uname != "" || h.ModTime.Unix() != 0 || filepath.IsAbs(h.Name) || h.Mode&0o077 != 0 && h.Typeflag != tar.TypeDir {
			t.Errorf("%s belongs to %d, of %v, %o", h.Name, h.Uid, h.ModTime, h.Mode)
		}
	}
	s.export(2, "it is there already", "libvirt", "--host", "zap", "--output", "bundle")
	base := regexp.MustCompile(`(?m)^  virsh define '(.*/)zap/[0-9a-f]{16}/domain.xml'$`).FindStringSubmatch(s.text("bundle/README"))
	if base == nil || !bytes.Contains([]byte(s.text("bundle/zap/"+s.open("current").Manifest.Generation+"/domain.xml")), []byte(base[1]+"zap/")) {
		t.Errorf("the README and the XML have other places: %q", base)
	}

	blob := filepath.Join(s.dir, "out/.base", s.open("current").Manifest.Base.SHA256+".qcow2")
	content, err := os.ReadFile(blob)
	if err != nil {
		t.Fatal(err)
	}
	s.tool(t, "chmod", "u+w", blob)
	content[len(content)/2]++
	if err := os.WriteFile(blob, content, 0o600); err != nil {
		t.Fatal(err)
	}
	s.export(5, "", "libvirt", "--host", "zap", "--output", "three.tar")
	if _, err := os.Stat(filepath.Join(s.dir, "three.tar")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a damaged base image leaves a bundle: %v", err)
	}
	checkClean(t, s.dir)
}
