package cloudinit

import (
	"strings"
	"testing"

	"bake/internal/diag"
)

// naive is what write-mime-multipart makes of three layers.
const naive = `Content-Type: multipart/mixed; boundary="==b=="
MIME-Version: 1.0

--==b==
Content-Type: text/cloud-config; charset="us-ascii"
MIME-Version: 1.0
Content-Transfer-Encoding: 7bit
Content-Disposition: attachment; filename="ufw.yaml"

#cloud-config
packages: [ufw]
runcmd:
  - ufw --force enable
ssh_pwauth: false

--==b==
Content-Type: text/cloud-config; charset="us-ascii"
MIME-Version: 1.0
Content-Transfer-Encoding: 7bit
Content-Disposition: attachment; filename="fail2ban.yaml"

#cloud-config
packages: [fail2ban]
runcmd:
  - systemctl restart fail2ban
ssh_pwauth: true

--==b==
Content-Type: text/cloud-config; charset="us-ascii"
Content-Disposition: attachment; filename="broken.yaml"

#cloud-config
write_files: [
--==b==
Content-Disposition: attachment; filename="notes.txt"

nothing of cloud-init
--==b==--
`

func TestLost(t *testing.T) {
	result, err := Merge("user-data", []byte(naive), Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"user-data:11:1: error: packages: the value is lost: the one at user-data:23:11 is what counts",
		"user-data:12:1: error: runcmd: the value is lost: the one at user-data:25:3 is what counts",
		"user-data:14:1: error: ssh_pwauth: the value is lost: the one at user-data:26:13 is what counts",
		"user-data:33:15: error: broken.yaml: the part is lost: it is not valid YAML: the end where a value should be",
		"user-data:37:1: error: notes.txt: the part is lost: nothing handles the type text/plain",
	}
	lost := result.Lost()
	if len(lost) != len(want) {
		t.Fatalf("%d problems, want %d:\n%v", len(lost), len(want), lost)
	}
	for i, problem := range lost {
		if got, _, _ := strings.Cut(diag.List{problem}.Error(), "\n"); got != want[i] {
			t.Errorf("got  %s\nwant %s", got, want[i])
		}
	}
}

// Nothing is lost where nothing is: every part appends.
func TestNothingLost(t *testing.T) {
	how := "merge_how: [{name: list, settings: [append]}, {name: dict, settings: [no_replace, recurse_list]}]\n"
	text := strings.ReplaceAll(naive[:strings.Index(naive, "--==b==\nContent-Type: text/cloud-config; charset=\"us-ascii\"\nContent-Disposition: attachment; filename=\"broken")]+"--==b==--\n",
		"#cloud-config\n", "#cloud-config\n"+how)
	text = strings.Replace(text, "ssh_pwauth: true", "ssh_pwauth: false", 1)
	result, err := Merge("user-data", []byte(text), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if lost := result.Lost(); len(lost) > 0 {
		t.Error(lost)
	}
	if got := canonical(result.Config.Get("packages")); got != "[s756677,s6661696c3262616e]" {
		t.Errorf("packages are %s", got)
	}
}

func TestFatal(t *testing.T) {
	for _, text := range []string{
		"#cloud-config-archive\n- type: text\n  content: x\n",
		"#cloud-config-archive\n- content: x\n  merge-type: 5\n",
		"MIME-Version: 1.0\nContent-Type: text/x-shellscript\n\n\xff",
		"MIME-Version: 1.0\nContent-Type: application/gzip\n\nnot compressed",
	} {
		result, err := Merge("user-data", []byte(text), Options{})
		if err != nil || result.Fatal == "" || len(result.Lost()) != 1 {
			t.Errorf("%q: %+v, %v", text, result, err)
		}
	}
}

// What only the guest can know is said, and nothing is fetched.
func TestUncertain(t *testing.T) {
	for _, text := range []string{
		"#include\nhttp://example.invalid/x\n",
		"#part-handler\npass\n",
		"## template: jinja\n#cloud-config\nhostname: {{ v1.region }}\n",
	} {
		result, err := Merge("user-data", []byte(text), Options{})
		if err != nil || len(result.Uncertain) != 1 {
			t.Errorf("%q: %+v, %v", text, result, err)
		}
	}
}

// TestPatchedAway: a patch that makes a list of the configuration costs all of it.
func TestPatchedAway(t *testing.T) {
	const parts = "Content-Type: multipart/mixed; boundary=b\nMIME-Version: 1.0\n\n--b\nContent-Type: text/cloud-config\n\n#cloud-config\npackages: [ufw]\n" +
		"--b\nContent-Type: text/cloud-config-jsonp\n\n#cloud-config-jsonp\n[{\"op\": \"add\", \"path\": \"\", \"value\": VALUE}]\n--b--\n"
	for value, lost := range map[string]int{"[1]": 2, `"x"`: 2, "NaN": 2, `{"packages": ["ufw"]}`: 0} {
		result, err := Merge("user-data", []byte(strings.ReplaceAll(parts, "VALUE", value)), Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got := result.Lost(); len(got) != lost || (result.Config == nil) != (lost > 0) || lost > 0 && !strings.Contains(got.Error(), "and cloud-init reads nothing but a map") {
			t.Errorf("%s: %v", value, got)
		}
	}
}

// TestNames: the names of parts stand in the file that cloud-init reads its configuration from.
func TestNames(t *testing.T) {
	const part = "Content-Type: multipart/mixed; boundary=b\nMIME-Version: 1.0\n\n--b\nContent-Type: text/cloud-config\n" +
		"Content-Disposition: attachment; filename*=utf-8''NAME\n\n#cloud-config\npackages: [ufw]\n--b--\n"
	for name, want := range map[string]string{
		"fine": "", "a%20b%0ac": "", "caf%C3%A9": "", "x%C2%85%20%23y": "", "x%C2%85": "", // a comment again, and nothing
		"x%04y":                    `user-data:9:1: error: x: the part is lost: the part "x\x04y" has a name with a character that YAML does not allow`,
		"x%1by":                    `has a name with a character that YAML does not allow`,
		"x%E2%80%A8runcmd:%20[id]": "uncertain",
	} {
		result, err := Merge("user-data", []byte(strings.ReplaceAll(part, "NAME", name)), Options{})
		if err != nil {
			t.Fatal(err)
		}
		lost := result.Lost().Error()
		switch {
		case want == "uncertain":
			if len(result.Uncertain) != 1 || !strings.Contains(result.Uncertain[0], "its name has a line break of YAML") {
				t.Errorf("%s: %q", name, result.Uncertain)
			}
		case want == "" && (len(result.Lost()) > 0 || len(result.Uncertain) > 0 || result.Config == nil):
			t.Errorf("%s: %s, %q", name, lost, result.Uncertain)
		case want != "" && (result.Config != nil || !strings.Contains(lost, strings.TrimPrefix(want, "user-data:9:1: error: x: "))):
			t.Errorf("%s: %s", name, lost)
		}
	}
}

// TestNull: a charset with a zero byte is an exception of Python that costs everything.
func TestNull(t *testing.T) {
	for _, header := range []string{"Content-Type: multipart/mixed; boundary*=u\x00''b", "Content-Type: text/cloud-config\nContent-Disposition: attachment; filename*=u\x00''x"} {
		result, err := Merge("user-data", []byte(header+"\nMIME-Version: 1.0\n\n--b\nContent-Type: text/cloud-config\n\n#cloud-config\na: 1\n--b--\n"), Options{})
		if err != nil || !strings.Contains(result.Fatal, "embedded null character") {
			t.Errorf("%q: %q, %v", header, result.Fatal, err)
		}
	}
}
