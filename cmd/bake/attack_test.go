package main

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// attack is a mirror on which something is wrong. Whatever it is, the run ends
// with the status, says the words, keeps nothing and pins nothing.
type attack struct {
	code  int
	words []string
	world func(t *testing.T, m *mirror)
}

// serve answers for the image with anything.
func serve(h http.HandlerFunc) func(*testing.T, *mirror) {
	return func(_ *testing.T, m *mirror) { m.hook(datedDir(yesterday)+imageName, h) }
}

// answer serves these bytes whatever part is asked for.
func answer(content []byte, header ...string) http.HandlerFunc {
	return func(out http.ResponseWriter, _ *http.Request) {
		out.Header().Set("Content-Type", "application/octet-stream")
		for i := 0; i < len(header); i += 2 {
			out.Header().Set(header[i], header[i+1])
		}
		_, _ = out.Write(content)
	}
}

// vouched publishes an image with a good list: the publisher itself is deceived.
func vouched(make func(t *testing.T) []byte) func(*testing.T, *mirror) {
	return func(t *testing.T, m *mirror) { m.publish(make(t), yesterday) }
}

// within publishes an image with something else in it.
func within(path, content string) func(*testing.T, *mirror) {
	return vouched(func(t *testing.T) []byte { return changedImage(t, map[string]string{path: content}) })
}

// created is an image as qemu-img creates it.
func created(args ...string) func(*testing.T, *mirror) {
	return vouched(func(t *testing.T) []byte {
		w := workshop{dir: t.TempDir()}
		w.tool(t, "qemu-img", append([]string{"create", "-q"}, args...)...)
		content, err := os.ReadFile(filepath.Join(w.dir, "image"))
		if err != nil {
			t.Fatal(err)
		}
		return content
	})
}

// header is the good image with another number in its header.
func header(at int, value uint64) func(*testing.T, *mirror) {
	return vouched(func(t *testing.T) []byte {
		content := bytes.Clone(goodImage(t))
		binary.BigEndian.PutUint64(content[at:], value)
		return content
	})
}

// listed signs another list.
func listed(content string) func(*testing.T, *mirror) {
	return func(_ *testing.T, m *mirror) { m.list([]byte(content), yesterday, m.key) }
}

func damageSignature(change func([]byte) []byte) func(*testing.T, *mirror) {
	return func(_ *testing.T, m *mirror) {
		for _, dir := range []string{newestDir, datedDir(yesterday)} {
			m.put(dir+"SHA256SUMS.gpg", change(m.files[dir+"SHA256SUMS.gpg"]))
		}
	}
}

// attacks on lists and signatures.
func listAttacks() map[string]attack {
	image := strings.Repeat("0", 64)
	return map[string]attack{
		"another key": {5, []string{"unknown key"}, func(t *testing.T, m *mirror) {
			m.list(listOf(imageName, goodImage(t), serialOf(yesterday)), yesterday, newSigningKey(t, 0))
		}},
		"the right key over another list": {5, []string{"not over these bytes"}, func(t *testing.T, m *mirror) {
			m.put(newestDir+"SHA256SUMS", listOf(imageName, []byte("x"), serialOf(yesterday)))
		}},
		"an expired key": {5, []string{"has expired"}, func(t *testing.T, m *mirror) {
			m.key = newSigningKey(t, uint32(now.Add(-time.Hour).Sub(now.AddDate(-1, 0, 0))/time.Second))
			m.trust(m.key)
			m.publish(goodImage(t), yesterday)
		}},
		"a revoked key": {5, []string{"is revoked"}, func(t *testing.T, m *mirror) {
			if err := m.key.Revoke(packet.KeyCompromised, "", keyConfig(yesterday)); err != nil {
				t.Fatal(err)
			}
			m.trust(m.key)
		}},
		"a signature with SHA-1": {5, []string{"SHA-1"}, damageSignature(func(s []byte) []byte {
			weak := bytes.Clone(s)
			weak[2+3] = 2 // behind the packet's header: version, type, algorithm, digest
			return weak
		})},
		"a signature cut off": {5, []string{"cut off"}, damageSignature(func(s []byte) []byte { return s[:len(s)/2] })},
		"a second signature, damaged": {5, []string{"not over these bytes"}, func(t *testing.T, m *mirror) {
			m.put(newestDir+"SHA256SUMS.gpg", append(signList(t, []byte("x"), yesterday, m.key), m.files[newestDir+"SHA256SUMS.gpg"]...))
		}},
		"no signature": {6, []string{"SHA256SUMS.gpg", "404"}, func(_ *testing.T, m *mirror) { m.put(newestDir+"SHA256SUMS.gpg", nil) }},
		"a list cut off": {5, []string{"SHA256SUMS"}, func(_ *testing.T, m *mirror) {
			m.put(newestDir+"SHA256SUMS", m.files[newestDir+"SHA256SUMS"][:40])
		}},
		"an empty list":               {5, []string{"empty"}, func(_ *testing.T, m *mirror) { m.hook(newestDir+"SHA256SUMS", answer(nil)) }},
		"an HTML page for a list":     {5, []string{"HTML page"}, func(_ *testing.T, m *mirror) { m.hook(newestDir+"SHA256SUMS", answer([]byte("<html>"))) }},
		"the list of another release": {5, []string{"list of another release"}, listed(image + " *ubuntu-22.04-server-cloudimg-amd64.img\n")},
		"a name that only contains":   {5, []string{"no file of the name"}, listed(image + " *x-" + imageName + "\n" + image + " *" + imageName + ".old\n")},
		"a name that leads elsewhere": {5, []string{"SHA256SUMS"}, listed(image + " *../" + imageName + "\n")},
		"an older build under the name of a newer": {5, []string{"this is the list of " + serialOf(earlier)}, func(t *testing.T, m *mirror) {
			m.list(listOf(imageName, goodImage(t), serialOf(earlier)), yesterday, m.key)
			m.write(t, "hosts/zap.yaml", strings.Replace(hostFixture, "../base.qcow2", "ubuntu:24.04@"+serialOf(yesterday), 1), 0o644)
		}},
		"a replay": {5, []string{"a replay", "--allow-older"}, func(t *testing.T, m *mirror) {
			m.must(0, nil, "pull", "--quiet")
			m.tool(t, "rm", "-r", "bake.lock", "cache")
			m.publish(goodImage(t), earlier)
		}},
		"what was seen is damaged": {5, []string{"what was seen is damaged"}, func(t *testing.T, m *mirror) { m.write(t, "state/bake/seen.json", "{", 0o600) }},
		"a bake.lock that is none": {3, []string{"bake.lock:1:"}, func(t *testing.T, m *mirror) { m.write(t, "bake.lock", "{", 0o644) }},
	}
}

// attacks on the way of the image and on the image itself.
func imageAttacks(t *testing.T) map[string]attack {
	good := goodImage(t)
	longer, flipped := append(bytes.Clone(good), 0), bytes.Clone(good)
	flipped[len(flipped)/2] ^= 1
	return map[string]attack{
		"one byte longer":        {5, []string{"sha256"}, serve(answer(longer))},
		"one byte shorter":       {5, []string{"sha256"}, serve(answer(good[:len(good)-1]))},
		"one byte changed":       {5, []string{"sha256"}, serve(answer(flipped))},
		"nothing":                {6, []string{"too little"}, serve(answer(nil, "Content-Length", "0"))},
		"an HTML page":           {5, []string{"text/html"}, serve(answer([]byte("<!DOCTYPE html><title>Log in</title>"), "Content-Type", "text/html"))},
		"a compressed body":      {5, []string{"gzip"}, serve(answer(good, "Content-Encoding", "gzip"))},
		"an announced 65 GiB":    {5, []string{"at most 68719476736 bytes"}, serve(answer(good, "Content-Length", fmt.Sprint(65<<30)))},
		"not there":              {6, []string{"404"}, serve(http.NotFound)},
		"not allowed":            {6, []string{"403"}, serve(func(out http.ResponseWriter, _ *http.Request) { out.WriteHeader(http.StatusForbidden) })},
		"redirected without end": {6, []string{"redirects"}, serve(func(out http.ResponseWriter, in *http.Request) { http.Redirect(out, in, in.URL.Path, http.StatusFound) })},
		"the backing file /etc/passwd": {5, []string{"backing file"}, func(t *testing.T, m *mirror) {
			created("-f", "qcow2", "-u", "-b", "/etc/passwd", "-F", "raw", "image", "64M")(t, m)
		}},
		"an external data file":   {5, []string{"data file"}, created("-f", "qcow2", "-o", "data_file=data.raw", "image", "64M")},
		"17 TiB inside":           {5, []string{"virtual size"}, created("-f", "qcow2", "-o", "cluster_size=2M", "image", "17T")},
		"8 EiB inside":            {5, nil, header(24, 1<<62)},
		"an L1 table of 32 GiB":   {5, []string{"L1 table"}, header(36, 0xffffffff<<32)},
		"tables behind the end":   {5, nil, header(40, 1<<40)},
		"marked corrupt":          {5, []string{"corrupt"}, header(72, 2)},
		"a feature nobody knows":  {5, nil, header(72, 1<<40)},
		"not an image":            {5, nil, vouched(func(*testing.T) []byte { return bytes.Repeat([]byte("no image "), 4096) })},
		"an empty disk":           {5, nil, created("-f", "qcow2", "image", "64M")},
		"a VMDK":                  {5, nil, created("-f", "vmdk", "image", "64M")},
		"another distribution":    {5, []string{"the image is debian 13, not ubuntu 24.04"}, within("etc/os-release", "ID=debian\nVERSION_ID=13\nVERSION_CODENAME=trixie\n")},
		"another release":         {5, []string{"the image is ubuntu 22.04, not ubuntu 24.04"}, within("etc/os-release", "ID=ubuntu\nVERSION_ID=22.04\nVERSION_CODENAME=jammy\n")},
		"no distribution":         {5, []string{"no os-release"}, within("etc/os-release", "")},
		"another architecture":    {5, []string{"the image is for arm64, not for amd64"}, within("var/lib/dpkg/status", strings.ReplaceAll(guestTree()["var/lib/dpkg/status"], "amd64", "arm64"))},
		"no kernel":               {5, []string{"no kernel"}, within("boot/vmlinuz-6.8.0-90-generic", "")},
		"no sshd":                 {5, []string{"does not have openssh-server"}, within("var/lib/dpkg/status", strings.ReplaceAll(guestTree()["var/lib/dpkg/status"], "openssh-server", "telnetd"))},
		"for one cloud only":      {5, []string{"NoCloud is not in"}, within("etc/cloud/cloud.cfg", "datasource_list: [Ec2]\n")},
		"cloud-init switched off": {5, []string{"cloud-init is disabled"}, within("etc/cloud/cloud-init.disabled", "\n")},
		"words that drive a terminal": {5, []string{"the image is evil"}, within("etc/os-release",
			"ID=evil\x1b[2J\nVERSION_ID=1\n")},
	}
}

func TestAttacks(t *testing.T) {
	all := listAttacks()
	for name, a := range imageAttacks(t) {
		all["the image is "+name] = a
	}
	for name, a := range all {
		t.Run(name, func(t *testing.T) {
			m := newMirror(t)
			a.world(t, m)
			before := m.pinned()
			for _, args := range [][]string{{"pull"}, {"image", "--host", "zap"}, {"inspect", "--host", "zap"}} {
				o := m.must(a.code, a.words, args...)
				if o.stdout != "" || !plain(o.stderr) {
					t.Errorf("%q\n%q", o.stdout, o.stderr)
				}
				if kept := m.kept(); kept != nil {
					t.Errorf("%q keeps %q", args, kept)
				}
				if m.pinned() != before {
					t.Errorf("%q pins %s", args, m.pinned())
				}
			}
			if left, err := filepath.Glob(filepath.Join(m.dir, "out/zap/[^.]*")); err != nil || left != nil {
				t.Errorf("%q is left behind (%v)", left, err)
			}
		})
	}
	t.Logf("%d attacks", len(all))
}

// TestNobodyThere: a mirror that is gone is a matter of the network.
func TestNobodyThere(t *testing.T) {
	m := newMirror(t)
	m.env["BAKE_MIRROR_UBUNTU"] = "http://127.0.0.1:9"
	m.must(6, []string{"127.0.0.1:9", "connection refused"}, "pull")
	if m.kept() != nil || m.pinned() != "" {
		t.Errorf("%q, %q", m.kept(), m.pinned())
	}
}

// TestPinHolds: what is pinned is what comes, whoever signs something else.
func TestPinHolds(t *testing.T) {
	m := newMirror(t)
	m.must(0, nil, "pull")
	before := m.pinned()
	other := changedImage(t, map[string]string{"etc/new": "x"})
	m.put(datedDir(yesterday)+imageName, other)
	m.tool(t, "rm", "-r", "cache")
	m.must(5, []string{"ubuntu:24.04: "}, "image", "--host", "zap")
	if m.kept() != nil || m.pinned() != before {
		t.Errorf("%q, %q", m.kept(), m.pinned())
	}
	m.put(datedDir(yesterday)+imageName, goodImage(t))
	m.must(0, nil, "image", "--host", "zap")

	// A size that does not fit is noticed without the network.
	m.write(t, "bake.lock", strings.Replace(before, `"size": `, `"size": 1`, 1), 0o644)
	m.must(5, []string{"bytes"}, "image", "--host", "zap")
}

// TestCacheChanged: bytes that changed at rest are found at their next use.
func TestCacheChanged(t *testing.T) {
	for name, change := range map[string]string{"longer": "echo >> $1", "shorter": "truncate -s -1 $1",
		"one byte": "printf x | dd of=$1 bs=1 seek=100000 conv=notrunc status=none", "another file": "cp base.qcow2 $1"} {
		t.Run(name, func(t *testing.T) {
			m := newMirror(t)
			m.must(0, nil, "pull")
			before := m.pinned()
			path := filepath.Join("cache/bake/base", hexDigest(goodImage(t))+".qcow2")
			m.tool(t, "sh", "-c", "chmod 0644 $1; "+change, "sh", path)
			m.must(5, []string{"damaged"}, "image", "--host", "zap")
			m.must(5, nil, "pull")
			if m.pinned() != before {
				t.Error("bake.lock changed")
			}
			m.tool(t, "rm", path) // as the message advises
			m.must(0, nil, "image", "--host", "zap")
		})
	}
}

// TestForeignPartial: bytes of another version are no danger, only lost.
func TestForeignPartial(t *testing.T) {
	m := newMirror(t)
	name := "cache/bake/base/download/sha256-" + hexDigest(goodImage(t))
	at := m.url + datedDir(yesterday) + imageName
	for _, etag := range []string{`\"other\"`, `\"` + hexDigest(goodImage(t))[:16] + `\"`} {
		m.write(t, name+".part", strings.Repeat("other", 100000), 0o600)
		m.write(t, name+".part.json", fmt.Sprintf(`{"schema":"bake.part/1","url":%q,"etag":"%s","last_modified":"","total":%d}`,
			at, etag, len(goodImage(t))), 0o600)
		m.must(0, nil, "pull")
		m.must(0, []string{"1 images, all as"}, "images", "--verify")
		m.tool(t, "rm", "-r", "cache")
	}
}

// TestDowngrade: a link's server sends elsewhere, without encryption.
func TestDowngrade(t *testing.T) {
	m := newMirror(t)
	m.put("/x.img", goodImage(t))
	plainly := false
	server := httptest.NewTLSServer(http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
		if plainly {
			http.Redirect(out, in, m.url+"/x.img", http.StatusFound)
			return
		}
		m.ServeHTTP(out, in)
	}))
	defer server.Close()
	m.write(t, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})), 0o644)
	reference := server.URL + "/x.img#sha256=" + hexDigest(goodImage(t))
	pull := func(code int, words ...string) {
		t.Helper()
		o := finish(t, m.child("pull", reference))
		m.check(o, code, words, []string{"pull", reference})
	}
	pull(6, "certificate")
	m.env["SSL_CERT_FILE"] = filepath.Join(m.dir, "ca.pem")
	plainly = true
	pull(5, "redirect", "http")
	if m.kept() != nil || m.pinned() != "" || m.times("/x.img") != 0 {
		t.Errorf("%q, %q", m.kept(), m.pinned())
	}
	plainly = false
	pull(0, "digest in the reference")
	m.must(3, []string{"needs the digest"}, "pull", server.URL+"/x.img")
	m.must(3, []string{"only over https"}, "pull", "http://example.org/x.img#sha256="+hexDigest(nil))
}

// TestDebian: an unsigned list of another digest, and a cache that still knows
// the image by the digest which is pinned.
func TestDebian(t *testing.T) {
	m := newMirror(t)
	image := changedImage(t, map[string]string{"etc/os-release": "PRETTY_NAME=Debian\nID=debian\nVERSION_ID=\"13\"\nVERSION_CODENAME=trixie\n"})
	hash := crypto.SHA512.New()
	hash.Write(image)
	const dir = "/images/cloud/trixie/latest/"
	m.put(dir+"debian-13-genericcloud-amd64.qcow2", image)
	m.put(dir+"SHA512SUMS", fmt.Appendf(nil, "%x  debian-13-genericcloud-amd64.qcow2\n", hash.Sum(nil)))
	m.env["BAKE_MIRROR_DEBIAN"] = m.url
	o := m.must(0, []string{"https only: the list of checksums is not signed"}, "pull", "debian:13")
	if !strings.Contains(o.stdout, "debian:13 amd64: new, sha512 ") {
		t.Errorf("%s", o.stdout)
	}
	m.env["BAKE_MIRROR_DEBIAN"] = "https://127.0.0.1:9"
	m.must(0, []string{"from the cache"}, "pull", "debian:trixie")
	if o := m.must(0, nil, "images"); !strings.Contains(o.stdout, "debian:13") {
		t.Errorf("%s", o.stdout)
	}
}
