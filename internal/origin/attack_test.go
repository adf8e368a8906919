package origin

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

const sumsPath, signaturePath = newestDir + "SHA256SUMS", newestDir + "SHA256SUMS.gpg"

// attacks are worlds in which something is wrong with the newest build of
// ubuntu:24.04, after a good one was seen.
var attacks = map[string]struct {
	kind  string
	want  []string
	world func(t *testing.T, w *world)
}{
	"another key": {"integrity", []string{"unknown key", "want one by"}, func(t *testing.T, w *world) {
		list := sums("24.04", "20260722")
		w.put(newestDir, list, sign(t, list, signed, newKey(t, 0)))
	}},
	"another key that carries the trusted key's id": {"integrity", []string{"not over these bytes"}, func(t *testing.T, w *world) {
		list, thief := sums("24.04", "20260723"), newKey(t, 0)
		thief.PrivateKey.KeyId = w.key.PrimaryKey.KeyId
		thief.PrivateKey.Fingerprint = w.key.PrimaryKey.Fingerprint
		thief.PrimaryKey.KeyId = w.key.PrimaryKey.KeyId
		w.put(newestDir, list, sign(t, list, signed, thief))
	}},
	"the right key over another file": {"integrity", []string{"not over these bytes", "KEY", "try again in some minutes"}, func(t *testing.T, w *world) {
		w.put(newestDir, sums("24.04", "20260722"), sign(t, []byte("something else\n"), signed, w.key))
	}},
	"one byte of the list is changed": {"integrity", []string{"not over these bytes"}, func(t *testing.T, w *world) {
		list := sums("24.04", "20260722")
		signature := sign(t, list, signed, w.key)
		list[0] = map[bool]byte{true: '1', false: '0'}[list[0] == '0']
		w.put(newestDir, list, signature)
	}},
	"the key has expired since": {"integrity", []string{"has expired", "KEY"}, func(t *testing.T, w *world) {
		list := sums("24.04", "20260722")
		w.key = newKey(t, uint32(signed.Add(24*time.Hour).Sub(born)/time.Second))
		w.put(newestDir, list, sign(t, list, signed, w.key))
		w.pin(w.key)
	}},
	"the key had expired before": {"integrity", []string{"has expired"}, func(t *testing.T, w *world) {
		list := sums("24.04", "20260722")
		long := newKey(t, 0)
		w.key = long
		w.put(newestDir, list, sign(t, list, signed, long))
		lifetime := uint32(3600)
		for _, identity := range long.Identities {
			for _, self := range identity.SelfCertifications {
				self.Packet.KeyLifetimeSecs = &lifetime
				if err := self.Packet.SignUserId(identity.UserId.Id, long.PrimaryKey, long.PrivateKey, clock(born)); err != nil {
					t.Fatal(err)
				}
			}
		}
		w.pin(long)
	}},
	"the key is revoked": {"integrity", []string{"is revoked", "KEY", "use another mirror; if they all"}, func(t *testing.T, w *world) {
		revoke(t, w, packet.KeyCompromised)
	}},
	"the key was retired after it signed": {"integrity", []string{"is revoked", "KEY"}, func(t *testing.T, w *world) {
		revoke(t, w, packet.KeyRetired)
	}},
	"the subkey is revoked": {"integrity", []string{"subkey", "is revoked", "KEY"}, func(t *testing.T, w *world) {
		w.key = withSubkey(t)
		w.publish(newestDir, sums("24.04", "20260722"), signed)
		if err := w.key.Subkeys[1].Revoke(packet.KeyCompromised, "", clock(signed)); err != nil {
			t.Fatal(err)
		}
		w.pin(w.key)
	}},
	"the subkey is not bound to the key": {"integrity", []string{"unknown key"}, func(t *testing.T, w *world) {
		other := withSubkey(t)
		list := sums("24.04", "20260722")
		w.put(newestDir, list, sign(t, list, signed, other))
	}},
	"the subkey is for encryption": {"integrity", []string{"not meant"}, func(t *testing.T, w *world) {
		list, forger := sums("24.04", "20260722"), newKey(t, 0)
		forger.PrivateKey.KeyId = w.key.Subkeys[0].PublicKey.KeyId
		forger.PrimaryKey.KeyId = w.key.Subkeys[0].PublicKey.KeyId
		forger.PrivateKey.Fingerprint = w.key.Subkeys[0].PublicKey.Fingerprint
		w.put(newestDir, list, sign(t, list, signed, forger))
	}},
	"two signatures by trusted keys, one bad": {"integrity", []string{"not over these bytes"}, func(t *testing.T, w *world) {
		list, second := sums("24.04", "20260722"), newKey(t, 0)
		w.pin(w.key, second)
		w.put(newestDir, list, append(sign(t, list, signed, w.key), sign(t, []byte("else\n"), signed, second)...))
	}},
	"two signatures by one key, one bad": {"integrity", []string{"not over these bytes"}, func(t *testing.T, w *world) {
		list := sums("24.04", "20260722")
		w.put(newestDir, list, append(sign(t, []byte("else\n"), signed, w.key), sign(t, list, signed, w.key)...))
	}},
	"two signatures by unknown keys": {"integrity", []string{"unknown key", " and "}, func(t *testing.T, w *world) {
		list := sums("24.04", "20260722")
		w.put(newestDir, list, sign(t, list, signed, newKey(t, 0), newKey(t, 0)))
	}},
	"a crowd of signatures": {"integrity", []string{"more than 8 signatures"}, func(t *testing.T, w *world) {
		list := sums("24.04", "20260722")
		w.put(newestDir, list, bytes.Repeat(sign(t, list, signed, w.key), 9))
	}},
	"a signature from the future": {"integrity", []string{"in the future", "KEY"}, func(t *testing.T, w *world) {
		w.publish(newestDir, sums("24.04", "20260722"), today.Add(2*time.Hour))
	}},
	"a signature that has expired": {"integrity", []string{"it has expired"}, func(t *testing.T, w *world) {
		config := clock(signed)
		config.SigLifetimeSecs = 3600
		list := sums("24.04", "20260722")
		w.put(newestDir, list, signWith(t, list, &openpgp.SignParams{Config: config}, w.key))
	}},
	"a signature over text": {"integrity", []string{"not over the bytes"}, func(t *testing.T, w *world) {
		list := sums("24.04", "20260722")
		w.put(newestDir, list, signWith(t, list, &openpgp.SignParams{Config: clock(signed), TextSig: true}, w.key))
	}},
	"a signature with MD5": {"integrity", []string{"MD5"}, func(t *testing.T, w *world) {
		list := sums("24.04", "20260722")
		signature := sign(t, list, signed, w.key)
		signature[2+3] = 1 // behind the packet's header: version, type, algorithm, digest
		w.put(newestDir, list, signature)
	}},
	"a signature that is cut off": {"integrity", []string{"cut off"}, func(t *testing.T, w *world) {
		list := sums("24.04", "20260722")
		signature := sign(t, list, signed, w.key)
		w.put(newestDir, list, signature[:len(signature)/2])
	}},
	"an armored signature that is cut off": {"integrity", []string{"cut off"}, func(t *testing.T, w *world) {
		list := sums("24.04", "20260722")
		block := armored(t, list, w.key)
		w.put(newestDir, list, block[:len(block)/2])
	}},
	"two armored blocks": {"integrity", []string{"more than one block"}, func(t *testing.T, w *world) {
		list := sums("24.04", "20260722")
		w.put(newestDir, list, bytes.Repeat(append(armored(t, list, w.key), '\n'), 2))
	}},
	"an empty signature": {"integrity", []string{"signature is empty"}, func(t *testing.T, w *world) {
		w.put(newestDir, sums("24.04", "20260722"), []byte("\n"))
	}},
	"a key in place of the signature": {"integrity", []string{"packet of type 6"}, func(t *testing.T, w *world) {
		w.put(newestDir, sums("24.04", "20260722"), keyring(t, w.key))
	}},
	"the list is cut off in a line": {"integrity", []string{"cut off"}, func(t *testing.T, w *world) {
		list := sums("24.04", "20260722")
		w.put(newestDir, list[:len(list)-10], sign(t, list, signed, w.key))
	}},
	"the list is cut off between lines": {"integrity", []string{"not over these bytes"}, func(t *testing.T, w *world) {
		list := sums("24.04", "20260722")
		w.put(newestDir, list[:bytes.LastIndexByte(list[:len(list)-1], '\n')+1], sign(t, list, signed, w.key))
	}},
	"the list is empty": {"integrity", []string{"list of checksums is empty"}, func(t *testing.T, w *world) {
		w.publish(newestDir, []byte("\n"), signed)
	}},
	"the list is empty without a line": {"integrity", []string{"list of checksums is empty"}, func(t *testing.T, w *world) {
		w.hook(sumsPath, func(out http.ResponseWriter, _ *http.Request) { out.WriteHeader(http.StatusOK) })
	}},
	"an older list": {"integrity", []string{"a replay", "2026-07-05T10:00:00Z", "2026-07-22T19:16:08Z", "KEY", "--allow-older"}, func(t *testing.T, w *world) {
		w.publish(newestDir, sums("24.04", "20260705"), at("2026-07-05T10:00:00Z"))
	}},
	"only a name that contains ours": {"integrity", []string{"no file of the name ubuntu-24.04-server-cloudimg-amd64.img"}, func(t *testing.T, w *world) {
		w.publish(newestDir, only("my-ubuntu-24.04-server-cloudimg-amd64.img", "ubuntu-24.04-server-cloudimg-amd64.img.zsync"), signed)
	}},
	"our name under a path": {"integrity", []string{"not the plain name"}, func(t *testing.T, w *world) {
		w.publish(newestDir, only("daily/ubuntu-24.04-server-cloudimg-amd64.img"), signed)
	}},
	"our name with ../": {"integrity", []string{"not the plain name"}, func(t *testing.T, w *world) {
		w.publish(newestDir, only("../ubuntu-24.04-server-cloudimg-amd64.img"), signed)
	}},
	"an absolute name": {"integrity", []string{"not the plain name"}, func(t *testing.T, w *world) {
		w.publish(newestDir, only("/ubuntu-24.04-server-cloudimg-amd64.img"), signed)
	}},
	"our name twice": {"integrity", []string{"a second time"}, func(t *testing.T, w *world) {
		w.publish(newestDir, append(sums("24.04", "20260722"), only("ubuntu-24.04-server-cloudimg-amd64.img")...), signed)
	}},
	"the list of another release": {"integrity", []string{"another release, ubuntu 22.04"}, func(t *testing.T, w *world) {
		w.publish(newestDir, sums("22.04", "20260722"), signed.Add(time.Hour))
	}},
	"an HTML page with status 200": {"integrity", []string{"HTML page"}, func(t *testing.T, w *world) {
		w.put(newestDir, []byte("<!DOCTYPE html>\n<title>Log in</title>\n"), nil)
	}},
	"an HTML page that says so": {"integrity", []string{"HTML page"}, func(t *testing.T, w *world) {
		w.hook(sumsPath, func(out http.ResponseWriter, _ *http.Request) {
			out.Header().Set("Content-Type", "Text/HTML; charset=utf-8")
			_, _ = out.Write(sums("24.04", "20260722"))
		})
	}},
	"an HTML page in place of the signature": {"integrity", []string{"HTML page", "SHA256SUMS.gpg"}, func(t *testing.T, w *world) {
		w.put(newestDir, sums("24.04", "20260722"), []byte("\n\n<html>"))
	}},
	"an encoding nobody asked for": {"integrity", []string{"encoded as \"gzip\""}, func(t *testing.T, w *world) {
		w.hook(sumsPath, func(out http.ResponseWriter, _ *http.Request) {
			out.Header().Set("Content-Encoding", "gzip")
			_, _ = out.Write([]byte("\x1f\x8b\x08"))
		})
	}},
	"a list without end": {"integrity", []string{"longer than 1048576 bytes"}, func(t *testing.T, w *world) {
		w.hook(sumsPath, func(out http.ResponseWriter, _ *http.Request) {
			for line := []byte(strings.Repeat("0", 64) + " *x\n"); ; {
				if _, err := out.Write(line); err != nil {
					return
				}
			}
		})
	}},
	"the dated list is by another key": {"integrity", []string{"unknown key", datedDir}, func(t *testing.T, w *world) {
		list := sums("24.04", "20260722")
		w.put(datedDir, list, sign(t, list, signed, newKey(t, 0)))
	}},
	"a redirect with credentials": {"integrity", []string{"credentials", "xxxxx"}, func(t *testing.T, w *world) {
		w.hook(sumsPath, func(out http.ResponseWriter, in *http.Request) {
			http.Redirect(out, in, strings.Replace(w.url, "http://", "http://user:secret@", 1)+"/x", http.StatusFound)
		})
	}},
	"redirects without end": {"network", []string{"more than 5 redirects"}, func(t *testing.T, w *world) {
		w.hook(sumsPath, func(out http.ResponseWriter, in *http.Request) {
			http.Redirect(out, in, sumsPath, http.StatusFound)
		})
	}},
	"no list": {"network", []string{"404 Not Found", "SHA256SUMS"}, func(t *testing.T, w *world) {
		w.put(newestDir, nil, nil)
	}},
	"no signature": {"network", []string{"404 Not Found", "SHA256SUMS.gpg", "unsigned list is not used"}, func(t *testing.T, w *world) {
		w.put(newestDir, sums("24.04", "20260722"), nil)
	}},
	"a server that cannot": {"network", []string{"503 Service Unavailable", "try again"}, func(t *testing.T, w *world) {
		w.hook(sumsPath, func(out http.ResponseWriter, _ *http.Request) { out.WriteHeader(http.StatusServiceUnavailable) })
	}},
	"a server that cannot give the dated list": {"network", []string{"503", datedDir}, func(t *testing.T, w *world) {
		w.hook(datedDir+"SHA256SUMS", func(out http.ResponseWriter, _ *http.Request) { out.WriteHeader(http.StatusServiceUnavailable) })
	}},
	"part of a list": {"network", []string{"206"}, func(t *testing.T, w *world) {
		w.hook(sumsPath, func(out http.ResponseWriter, _ *http.Request) {
			out.WriteHeader(http.StatusPartialContent)
			_, _ = out.Write(sums("24.04", "20260722"))
		})
	}},
	"a connection that breaks": {"network", []string{"cut off after"}, func(t *testing.T, w *world) {
		w.hook(sumsPath, func(out http.ResponseWriter, _ *http.Request) {
			out.Header().Set("Content-Length", "5000")
			_, _ = out.Write([]byte("beginning"))
		})
	}},
	"a server that is silent": {"network", []string{"no whole answer within 1ms"}, func(t *testing.T, w *world) {
		w.resolver.timeout = time.Millisecond
		w.hook(sumsPath, func(_ http.ResponseWriter, in *http.Request) { <-in.Context().Done() })
	}},
	"nobody listens": {"network", []string{"connection refused", "set a mirror"}, func(t *testing.T, w *world) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		w.resolver.Mirrors = map[string]string{"ubuntu": "http://" + listener.Addr().String()}
		listener.Close()
	}},
}

func TestAttacks(t *testing.T) {
	for name, attack := range attacks {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			good, err := w.resolve("ubuntu:24.04")
			if err != nil || good.Serial != "20260722" {
				t.Fatalf("the world is broken before the attack: %+v, %v", good, err)
			}
			before := w.state()
			attack.world(t, w)
			target, err := w.resolve("ubuntu:24.04")
			want := []string{w.resolver.Mirrors["ubuntu"], "; "}
			for _, fragment := range attack.want {
				want = append(want, strings.ReplaceAll(fragment, "KEY", fingerprint(w.key.PrimaryKey)))
			}
			refused(t, err, attack.kind, want...)
			if target != (Target{}) {
				t.Errorf("with the error there is %+v", target)
			}
			if after := w.state(); after != before || before == "" {
				t.Errorf("what was seen has changed from %s to %s", before, after)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("a password is in: %v", err)
			}
		})
	}
}

func revoke(t *testing.T, w *world, reason packet.ReasonForRevocation) {
	if err := w.key.Revoke(reason, "", clock(signed.Add(time.Hour))); err != nil {
		t.Fatal(err)
	}
	w.pin(w.key)
}

// withSubkey makes a key whose second subkey signs.
func withSubkey(t *testing.T) *openpgp.Entity {
	key := newKey(t, 0)
	if err := key.AddSigningSubkey(clock(born)); err != nil {
		t.Fatal(err)
	}
	return key
}

func signWith(t *testing.T, list []byte, params *openpgp.SignParams, key *openpgp.Entity) []byte {
	var signature bytes.Buffer
	if err := openpgp.DetachSignWithParams(&signature, []*openpgp.Entity{key}, bytes.NewReader(list), params); err != nil {
		t.Fatal(err)
	}
	return signature.Bytes()
}

func armored(t *testing.T, list []byte, key *openpgp.Entity) []byte {
	var signature bytes.Buffer
	params := &openpgp.SignParams{Config: clock(signed)}
	if err := openpgp.ArmoredDetachSign(&signature, []*openpgp.Entity{key}, bytes.NewReader(list), params); err != nil {
		t.Fatal(err)
	}
	return signature.Bytes()
}

// only is a list of these names.
func only(names ...string) []byte {
	var list []byte
	for _, name := range names {
		list = fmt.Appendf(list, "%s *%s\n", digestOf(name), name)
	}
	return list
}

// What is not an attack passes: the same tools, used rightly.
func TestAccepted(t *testing.T) {
	list := sums("24.04", "20260722")
	for name, change := range map[string]func(t *testing.T, w *world){
		"armored":               func(t *testing.T, w *world) { w.put(newestDir, list, armored(t, list, w.key)) },
		"by an unknown key too": func(t *testing.T, w *world) { w.put(newestDir, list, sign(t, list, signed, newKey(t, 0), w.key)) },
		"by two trusted keys": func(t *testing.T, w *world) {
			second := newKey(t, 0)
			w.pin(w.key, second)
			w.put(newestDir, list, sign(t, list, signed, w.key, second))
		},
		"by a subkey": func(t *testing.T, w *world) {
			w.key = withSubkey(t)
			w.pin(w.key)
			w.publish(newestDir, list, signed)
			w.publish(datedDir, list, signed)
		},
		"by a clock a little ahead": func(t *testing.T, w *world) { w.publish(newestDir, list, today.Add(time.Minute)) },
		"through redirects": func(t *testing.T, w *world) {
			w.hook(sumsPath, func(out http.ResponseWriter, in *http.Request) {
				http.Redirect(out, in, datedDir+"SHA256SUMS", http.StatusFound)
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			change(t, w)
			target, err := w.resolve("ubuntu:24.04")
			if err != nil {
				t.Fatal(err)
			}
			if target.Signer != fingerprint(w.key.PrimaryKey) && name != "by two trusted keys" {
				t.Errorf("the signer is %s, want the primary key %s", target.Signer, fingerprint(w.key.PrimaryKey))
			}
		})
	}
}

// A step from https to http is refused even though a signature follows, and
// even on one machine.
func TestDowngrade(t *testing.T) {
	for _, reference := range []string{"ubuntu:24.04", "debian:13"} {
		w := newWorld(t)
		safe := httptest.NewTLSServer(http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
			http.Redirect(out, in, w.url+in.URL.Path, http.StatusFound)
		}))
		defer safe.Close()
		w.resolver.Transport = safe.Client().Transport
		w.resolver.Mirrors = map[string]string{"ubuntu": safe.URL, "debian": safe.URL}
		_, err := w.resolve(reference)
		refused(t, err, "integrity", "leaves https for", safe.URL)
		if len(w.asked) > 0 {
			t.Errorf("%s: %v was asked for all the same", reference, w.asked)
		}
		if w.state() != "" {
			t.Errorf("%s: the state has changed", reference)
		}
	}
}

// From plain http on this machine the way out is closed for a list that nobody
// signs, and open for one that is.
func TestRedirectWithoutTrust(t *testing.T) {
	w := newWorld(t)
	f := fetcher{timeout: time.Minute}
	w.hook("/away", func(out http.ResponseWriter, in *http.Request) {
		http.Redirect(out, in, "http://images.example.org/SHA512SUMS", http.StatusFound)
	})
	_, err := f.get(context.Background(), w.url+"/away")
	refused(t, err, "integrity", "without https and without a signature")
	request, _ := http.NewRequest(http.MethodGet, "http://images.example.org/SHA256SUMS", nil)
	from, _ := http.NewRequest(http.MethodGet, w.url, nil)
	if err := (fetcher{plain: true}).redirect(request, []*http.Request{from}); err != nil {
		t.Errorf("a signed list may come from there: %v", err)
	}
}
