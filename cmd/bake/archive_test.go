package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// openArchive has the mirror be an archive of packages, too, whose key and address the
// image of pak knows.
func (f *fortnight) openArchive() {
	t := f.sleep.t
	demand(t, "apt-get")
	demand(t, "gpgv")
	f.signer = f.stranger()
	var ring bytes.Buffer
	if err := f.signer.Serialize(&ring); err != nil {
		t.Fatal(err)
	}
	p := f.packing
	p.write(t, "tree/usr/share/keyrings/archive.gpg", ring.String(), 0o644)
	p.write(t, "tree/etc/apt/sources.list.d/archive.sources", "Types: deb\nURIs: "+f.url+"/debian\nSuites: trixie\nComponents: main\nSigned-By: /usr/share/keyrings/archive.gpg\n", 0o644)
	p.write(t, "tree/var/lib/dpkg/status", "Package: dpkg\nStatus: install ok installed\nArchitecture: amd64\nMaintainer: x\nVersion: 1.22\nDescription: x\n", 0o644)
	if err := os.Remove(filepath.Join(p.dir, "tree/etc/apt/sources.list")); err != nil {
		t.Fatal(err)
	}
	p.image(t)
	f.offer(t, "1")
}

// stranger is a key that signs archives.
func (f *fortnight) stranger() *openpgp.Entity {
	f.sleep.t.Helper()
	key, err := openpgp.NewEntity("Archive", "test", "archive@example.org",
		&packet.Config{Algorithm: packet.PubKeyAlgoRSA, RSABits: 2048, Time: func() time.Time { return now.AddDate(-1, 0, 0) }})
	if err != nil {
		f.sleep.t.Fatal(err)
	}
	return key
}

// offer has the archive give out that version of fail2ban.
func (f *fortnight) offer(t *testing.T, version string) {
	t.Helper()
	f.publishPackages(version, f.signer, "")
}

// publishPackages puts packages into the archive, and an index of them, with a Release
// that is signed by a key and has more lines in it.
func (f *fortnight) publishPackages(version string, key *openpgp.Entity, more string) {
	t := f.sleep.t
	t.Helper()
	var index strings.Builder
	for name, version := range map[string]string{"fail2ban": version, "python3-systemd": "1"} {
		built, ok := f.built[name+" "+version] // a second one would have other bytes
		if !ok {
			built[0], built[1] = f.packing.deb(t, name, version)
			f.built[name+" "+version] = built
		}
		control, content := built[0], []byte(built[1])
		f.put("/debian/pool/"+name+".deb", content)
		fmt.Fprintf(&index, "%sFilename: pool/%s.deb\nSize: %d\nSHA256: %x\n\n", control, name, len(content), sha256.Sum256(content))
	}
	const at = "main/binary-amd64/Packages"
	release := fmt.Sprintf("Origin: test\nSuite: trixie\nCodename: trixie\nDate: %s\n%sArchitectures: amd64\nComponents: main\nSHA256:\n %x %d %s\n",
		time.Now().Add(-time.Hour).UTC().Format(time.RFC1123), more, sha256.Sum256([]byte(index.String())), index.Len(), at)
	var signed bytes.Buffer
	out, err := clearsign.Encode(&signed, key.PrivateKey, nil)
	if err == nil {
		_, err = out.Write([]byte(release))
	}
	if err == nil {
		err = out.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	f.put("/debian/dists/trixie/InRelease", signed.Bytes())
	f.put("/debian/dists/trixie/"+at, []byte(index.String()))
}
