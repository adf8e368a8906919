package layer

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bake/layers"
)

// functionsOf returns the functions of a layer's program in the guest, with its parameters left out.
func functionsOf(t *testing.T, program string) string {
	t.Helper()
	text, err := os.ReadFile("../../layers/" + program)
	if err != nil {
		t.Fatal(err)
	}
	body, _, cut := strings.Cut(string(text), "\ncase \"")
	if !cut {
		t.Fatalf("%s has another form", program)
	}
	var kept []string
	for line := range strings.Lines(body) {
		if strings.Contains(line, "{{") {
			line = ":\n"
		}
		kept = append(kept, line)
	}
	return strings.Join(kept, "") + "\n"
}

// inShell runs shell commands in a directory and returns what they print.
func inShell(t *testing.T, dir, commands string) string {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", commands)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return strings.ReplaceAll(strings.TrimSpace(string(out)), dir, "")
}

// TestUsersKeys has the claim about a user's keys see every file that sshd reads, as
// nobody but the user.
func TestUsersKeys(t *testing.T) {
	for name, test := range map[string]struct{ make, sshd, want string }{
		"as listed":        {"echo 'ssh-ed25519 AAAA alice' > authorized_keys", ".ssh/authorized_keys .ssh/authorized_keys2", ""},
		"one more":         {"printf '%s\\n' 'ssh-ed25519 AAAA alice' 'ssh-ed25519 BBBB' > authorized_keys", ".ssh/authorized_keys", "> ssh-ed25519 BBBB"},
		"none":             {":", ".ssh/authorized_keys", "< ssh-ed25519 AAAA alice"},
		"in a second file": {"echo 'ssh-ed25519 AAAA alice' > authorized_keys; echo 'ssh-ed25519 BBBB' > authorized_keys2", ".ssh/authorized_keys .ssh/authorized_keys2", "> ssh-ed25519 BBBB"},
		"in another place": {"echo 'ssh-ed25519 AAAA alice' > authorized_keys; echo 'ssh-ed25519 BBBB' > ../more-alice", ".ssh/authorized_keys %h/more-%u", "> ssh-ed25519 BBBB"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			const program = "users/files/usr/local/lib/bake/users.tmpl"
			text, err := os.ReadFile("../../layers/" + program)
			if err != nil {
				t.Fatal(err)
			}
			_, commands, _ := strings.Cut(string(text), "\ncase ")
			got := inShell(t, dir, strings.ReplaceAll(functionsOf(t, program)+`
listed() { echo 'alice ssh-ed25519 AAAA alice'; }
sshd() { echo "authorizedkeysfile `+test.sshd+`"; }
runuser() { echo "as $2" >> asked; shift 3; "$@"; }
mkdir -p alice/.ssh && (cd alice/.ssh && `+test.make+`)
set -- keys
case `+commands, "/home/", dir+"/"))
			got = strings.Join(slices.DeleteFunc(strings.Split(got, "\n"), func(line string) bool { return !strings.ContainsAny(line[:min(1, len(line))], "<>") }), "\n")
			if got != test.want {
				t.Errorf("it says %q, want %q", got, test.want)
			}
			if asked, _ := os.ReadFile(filepath.Join(dir, "asked")); string(asked) != "as alice\n" {
				t.Errorf("the files are read %q: root would follow a link of hers", asked)
			}
		})
	}
}

// TestTokenRights lets no mode pass by which others get at the token.
func TestTokenRights(t *testing.T) {
	for mode, want := range map[string]string{"0600": "", "0400": "", "0604": "/token is 604 root", "0640": "/token is 640 root",
		"0004": "/token is 4 root", "0006": "/token is 6 root", "0040": "/token is 40 root", "0060": "/token is 60 root", "4600": "/token is 4600 root"} {
		dir := t.TempDir()
		got := inShell(t, dir, functionsOf(t, "openclaw/files/usr/local/lib/bake/openclaw.tmpl")+`
stat() { command stat "$@" | sed "s/ $(id -un)/ root/; s/^$(id -un) /root /"; }
token=$PWD/token; echo x > $token; chmod `+mode+` $token
token
`)
		if got != want {
			t.Errorf("%s: it says %q, want %q", mode, got, want)
		}
	}
}

// TestLeaks finds the line of a secret beside a file that has a hole larger than any
// memory, and does not count the file in which a gateway has its token.
func TestLeaks(t *testing.T) {
	dir := t.TempDir()
	script := functionsOf(t, "secrets/files/usr/local/lib/bake/secrets.tmpl")
	for _, place := range []string{"/var/lib/cloud", "/var/log", "/run"} {
		script = strings.ReplaceAll(script, " "+place, " "+dir+place)
	}
	script = strings.NewReplacer("-e /run/openclaw", "-e "+dir+"/run/openclaw", "/proc/[0-9]*/cmdline", dir+"/cmdline").Replace(script)
	got := inShell(t, dir, script+`
store=$PWD/store
journalctl() { :; }
mkdir -p store var/lib/cloud var/log run/openclaw run/openclaw-container run/credentials/x
echo secret-0123456789 > store/token
for where in run/openclaw/token run/openclaw-container/token run/credentials/x/token run/openclaw/other var/log/syslog; do cp store/token $where; done
truncate -s 4T run/openclaw/hole var/log/hole
ulimit -v 1000000
leaks | sort
`)
	if want := "/run/openclaw/other\n/var/log/syslog"; got != want {
		t.Errorf("it says %q, want %q", got, want)
	}
}

// TestStateLinks has no directory mounted to which a link on the disk leads: whoever
// gives it its owner would give that to something of the machine's.
func TestStateLinks(t *testing.T) {
	for name, test := range map[string]struct{ make, want string }{
		"new":                 {":", "mount --bind /state/dirs/srv/agent /srv/agent"},
		"there":               {"mkdir -p state/dirs/srv/agent", "mount --bind /state/dirs/srv/agent /srv/agent"},
		"a link":              {"mkdir -p state/dirs/srv etc; ln -s $PWD/etc state/dirs/srv/agent", "refused: /srv/agent is a link on it, or in one"},
		"in a link":           {"mkdir -p state/dirs etc; ln -s $PWD/etc state/dirs/srv", "refused: /srv/agent is a link on it, or in one"},
		"a link that dangles": {"mkdir -p state/dirs/srv; ln -s $PWD/no state/dirs/srv/agent", "refused: /srv/agent is a link on it, or in one"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, err := filepath.EvalSymlinks(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile("../../layers/state/files/usr/local/lib/bake/state.tmpl")
			if err != nil {
				t.Fatal(err)
			}
			_, body, _ := strings.Cut(string(text), "\nbind() {\n")
			body, _, cut := strings.Cut(body, "\n}\n")
			if !cut {
				t.Fatal("the script has no function bind")
			}
			got := inShell(t, dir, `set -eu
mount=$PWD/state lib=$PWD
fail() { echo "refused: $1"; exit 0; }
mkdir() { case $2 in /srv/*) ;; *) command mkdir "$@" ;; esac; }
mountpoint() { return 1; }
mount() { echo "mount $*"; }
echo /srv/agent > state.dirs
`+test.make+"\nbind() {\n"+body+"\n}\nbind\n")
			if got != test.want {
				t.Errorf("it says %q, want %q", got, test.want)
			}
			if left, _ := os.ReadDir(filepath.Join(dir, "etc")); len(left) > 0 {
				t.Errorf("%s was made outside of the disk", left[0])
			}
		})
	}
}

// TestBanWords lets nobody but root report a failed login to fail2ban: whoever may name
// a program could shut out any address, such as the administrator's.
func TestBanWords(t *testing.T) {
	text, err := os.ReadFile("../../layers/fail2ban/files/etc/fail2ban/jail.d/bake.local.tmpl")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "\njournalmatch = ")
	line, _, _ := strings.Cut(rest, "\n")
	if !found {
		t.Fatal("the jail has no journalmatch")
	}
	for match := range strings.SplitSeq(line, " + ") {
		if !strings.HasPrefix(match, "_SYSTEMD_UNIT=") && !strings.HasSuffix(match, " _UID=0") {
			t.Errorf("%s matches what any user's program says", match)
		}
	}
}

// TestSeedShut has nobody but root look at a seed's volume while the guest takes its
// claims from it.
func TestSeedShut(t *testing.T) {
	dir := t.TempDir()
	script := strings.ReplaceAll(functionsOf(t, "attest/files/usr/local/lib/bake/gate.tmpl"), "/run/bake/", dir+"/run/")
	got := inShell(t, dir, script+`
lib=$PWD seeds=$PWD/seeds
mkdir run && echo /dev/sr0 > seeds && printf '#!/bin/sh\n' > seal && chmod 0755 seal
checked() { return 1; }
mount() { :; }
umount() { :; }
take() { :; }
fetch
stat -c %a run/seed
`)
	if got != "700" {
		t.Errorf("the directory above the volume has mode %s", got)
	}
}

// builtin is a built-in layer with parameters.
func builtin(t *testing.T, name, params string) Rendered {
	t.Helper()
	l, err := Shelf{Builtin: layers.FS, ShowBuiltin: "layers"}.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	r, err := l.Render(parse(t, "p: "+params).Get("p"), "p", facts)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// programOf is a program of a built-in layer as a machine has it.
func programOf(t *testing.T, name, params, path string) string {
	t.Helper()
	for _, file := range builtin(t, name, params).Files {
		if file.Path == path {
			return string(file.Content)
		}
	}
	t.Fatalf("%s has no %s", name, path)
	return ""
}

// judged returns how a built-in layer tries a claim, by its beginning, and what it wants to see.
func judged(t *testing.T, name, params, beginning string) (run, is string) {
	t.Helper()
	r := builtin(t, name, params)
	for _, c := range r.Checks {
		if strings.HasPrefix(c.Claim, beginning) && c.Inside != nil {
			if c.Inside.Is != nil {
				is = *c.Inside.Is
			}
			return c.Inside.Run, is
		}
	}
	t.Fatalf("%s does not claim: %s", name, beginning)
	return "", ""
}

// TestUpdateOrigins takes no archive for a security archive because of a word in its name.
func TestUpdateOrigins(t *testing.T) {
	const baked = "origin=Debian,codename=trixie-security,label=Debian-Security, origin=Ubuntu,archive=trixie,label=Ubuntu, " +
		"origin=Ubuntu,archive=trixie-security,label=Ubuntu, origin=UbuntuESMApps,archive=trixie-apps-security, origin=UbuntuESM,archive=trixie-infra-security"
	for name, test := range map[string]struct{ params, origins, want string }{
		"as baked":               {"{}", baked, "ok"},
		"one more, asked for":    {"{extra_origins: [origin=Docker]}", baked + ", origin=Docker", "ok"},
		"of a word, asked for":   {"{extra_origins: ['origin=Acme,label=Security']}", baked + ", origin=Acme,label=Security", "ok"},
		"one more":               {"{}", baked + ", origin=Docker", "no"},
		"of a word":              {"{}", baked + ", origin=Acme,label=Security", "no"},
		"of a name":              {"{}", baked + ", site=security.example.com", "no"},
		"wider than it should":   {"{}", strings.Replace(baked, ",archive=trixie-security,", ",archive=*-security,", 1), "no"},
		"without the security's": {"{}", "origin=Ubuntu,archive=trixie,label=Ubuntu", "no"},
	} {
		run, _ := judged(t, "unattended-upgrades", test.params, "Only security archives")
		got := inShell(t, t.TempDir(), "echo \"echo 'Allowed origins are: "+test.origins+"' >&2\" > unattended-upgrade; chmod +x unattended-upgrade; PATH=$PWD:$PATH\n("+
			run+") > said && echo ok || echo no")
		if got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

// TestKeptRunning has needrestart leave a service that is named with or without its suffix.
func TestKeptRunning(t *testing.T) {
	if _, err := exec.LookPath("perl"); err != nil {
		t.Skip(err)
	}
	for _, name := range []string{"openclaw", "openclaw.service", "cron"} {
		params := "{keep_running: [" + name + "]}"
		r, dir := builtin(t, "unattended-upgrades", params), t.TempDir()
		for _, file := range r.Files {
			if err := os.WriteFile(filepath.Join(dir, filepath.Base(file.Path)), []byte(file.Content), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		unit := strings.TrimSuffix(name, ".service") + ".service"
		// As needrestart asks, line by line: the name of the unit as systemd has it.
		got := inShell(t, dir, `perl -e 'our %nrconf; eval do { local (@ARGV, $/) = "50-bake.conf"; <> }; die $@ if $@;
for my $re (keys %{$nrconf{override_rc}}) { print "left\n" if "`+unit+`" =~ /$re/ }'`)
		if got != "left" {
			t.Errorf("%s: needrestart restarts %s", params, unit)
		}
		run, want := judged(t, "unattended-upgrades", params, "A service with an updated library")
		run = strings.ReplaceAll(run, "/usr/local/lib/bake/restarts", "sed s,/etc/needrestart/needrestart.conf,50-bake.conf, restarts > asks; perl asks")
		if got := inShell(t, dir, run); got != want {
			t.Errorf("%s: the claim sees %q, want %q", params, got, want)
		}
	}
}

// TestSandboxWrites sees a place that is mounted to be written, whoever's it is: root
// without capabilities could not write there, and the unit's own user can.
func TestSandboxWrites(t *testing.T) {
	const base = `21 1 254:1 / / ro,relatime shared:1 - ext4 /dev/vda1 rw
22 21 0:5 / /dev rw,nosuid shared:2 - tmpfs tmpfs rw
23 21 0:20 / /proc rw,nosuid shared:3 - proc proc rw
24 21 0:30 / /tmp rw,nosuid - tmpfs tmpfs rw
`
	for name, test := range map[string]struct{ mounts, want string }{
		"shut":           {"", ""},
		"listed":         {"30 21 254:1 /listed DIR/listed rw - ext4 /dev/vda1 rw\n31 30 254:9 / DIR/listed/disk rw - ext4 /dev/vdb rw\n", ""},
		"another's":      {"30 21 254:1 /agent DIR/agent rw,relatime shared:9 - ext4 /dev/vda1 rw\n", "/agent"},
		"mounted over":   {"30 21 254:1 /agent DIR/agent rw - ext4 /dev/vda1 rw\n31 21 0:40 / DIR/agent ro - tmpfs none ro\n", ""},
		"opened on top":  {"30 21 254:1 /agent DIR/agent ro - ext4 /dev/vda1 rw\n31 21 0:40 / DIR/agent rw - tmpfs none rw\n", "/agent"},
		"not there yet":  {"30 21 0:41 / DIR/agent rw - autofs systemd-1 rw\n", ""},
		"not to be seen": {"30 21 0:41 / DIR/gone rw - tmpfs none rw\n", ""},
	} {
		dir := t.TempDir()
		script := programOf(t, "service-hardening", "{writable: ["+filepath.Join(dir, "listed")+"]}", "/usr/local/lib/bake/sandbox")
		_, script, _ = strings.Cut(script, "\nwrites='\n")
		script, _, _ = strings.Cut(script, "'\n")
		_, script, _ = strings.Cut(script, "\ndone\n") // what it tries to write is tried in a machine
		if err := os.WriteFile(filepath.Join(dir, "mountinfo"), []byte(base+strings.ReplaceAll(test.mounts, "DIR", dir)), 0o600); err != nil {
			t.Fatal(err)
		}
		got := inShell(t, dir, "mkdir agent listed listed/disk\n("+strings.ReplaceAll(script, "/proc/self/mountinfo", "mountinfo")+")")
		if got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

// TestImageVolumes has no container start of an image that would bring it places to write to.
func TestImageVolumes(t *testing.T) {
	_, body, _ := strings.Cut(programOf(t, "openclaw-container", "{image: 'sha256:"+hex64+"'}", "/usr/local/lib/bake/openclaw-container"), "\nprepare() {\n")
	body, _, cut := strings.Cut(body, "\n}\n")
	if !cut {
		t.Fatal("the script has no function prepare")
	}
	for volumes, want := range map[string]string{"null": "", "{}": "", `{"/data":{}}`: `the image brings volumes of its own: {"/data":{}}` + "\nrefused"} {
		got := inShell(t, t.TempDir(), `set -eu
image=i run=. CREDENTIALS_DIRECTORY=. owner=0
place() { :; }
command() { :; }
docker() { case $* in *Volumes*) echo '`+volumes+`' ;; esac; }
prepare() {
`+body+"\n}\nprepare 2>&1 || echo refused\n")
		if got != want {
			t.Errorf("%s: %q, want %q", volumes, got, want)
		}
	}
}

// TestContainerTried has the claims about the container be about the one that runs, beside
// which no other could have its port.
func TestContainerTried(t *testing.T) {
	script, _, _ := strings.Cut(programOf(t, "openclaw-container", "{image: 'sha256:"+hex64+"'}", "/usr/local/lib/bake/openclaw-container"), "\ncommand=$1\n")
	script = strings.ReplaceAll(strings.ReplaceAll(script, "/usr/local/lib/bake/docker-try", "./docker-try"), "/proc/$pid", "proc$pid")
	for pid, want := range map[string]string{"": "/tmp /try\n127.0.0.1:1", "0": "/tmp /try\n127.0.0.1:1", "7": "/gateway /tmp\n127.0.0.1:18789"} {
		got := inShell(t, t.TempDir(), script+`
place() { :; }
docker() { case "$*" in
    inspect*) echo `+pid+`; test "`+pid+`" ;;
    "port openclaw") echo "18789/tcp -> 127.0.0.1:18789" ;;
    "port bake-openclaw") echo "18789/tcp -> 127.0.0.1:1" ;;
    esac; }
printf '#!/bin/sh\ntest "$1 $2" = "up bake-openclaw" && echo 8\n' > docker-try; chmod +x docker-try
mkdir proc7 proc8
echo "1 1 0:1 / /gateway rw - x x rw
1 1 0:1 / /tmp rw - x x rw" > proc7/mountinfo
sed s/gateway/try/ proc7/mountinfo > proc8/mountinfo
PATH=$PATH:/usr/bin
writes
published
`)
		if got != want {
			t.Errorf("pid %q: %q, want %q", pid, got, want)
		}
	}
}

// TestForwardedV6 sees what could be forwarded over IPv6 before it meets the list, or
// beside it where Docker leads nothing through it.
func TestForwardedV6(t *testing.T) {
	run, want := judged(t, "docker-user", "{}", "Over IPv6")
	const led, ufw = "-A FORWARD -j DOCKER-USER\n-A FORWARD -j DOCKER-FORWARD\n", "-A FORWARD -j ufw6-before-forward\n"
	for name, test := range map[string]struct {
		rules string
		holds bool
	}{
		"led":                      {"-P FORWARD DROP\n" + led + ufw + "-A FORWARD -o docker0 -j ACCEPT\n", true},
		"led, isolation first":     {"-P FORWARD DROP\n-A FORWARD -j DOCKER-ISOLATION-STAGE-1\n" + led + ufw, true},
		"not led":                  {"-P FORWARD DROP\n" + ufw, true},
		"open":                     {"-P FORWARD ACCEPT\n" + led + ufw, false},
		"accepted before":          {"-P FORWARD DROP\n-A FORWARD -i tailscale0 -j ACCEPT\n" + led + ufw, false},
		"accepted and not led":     {"-P FORWARD DROP\n" + ufw + "-A FORWARD -i tailscale0 -j ACCEPT\n", false},
		"somebody's chain before":  {"-P FORWARD DROP\n-A FORWARD -j ts-forward\n" + led + ufw, false},
		"Docker's before the list": {"-P FORWARD DROP\n-A FORWARD -j DOCKER-FORWARD\n-A FORWARD -j DOCKER-USER\n" + ufw, false},
	} {
		got := inShell(t, t.TempDir(), `iptables() { echo "-N DOCKER-USER
-A DOCKER-USER -j DROP"; }
ip6tables() { case $2 in FORWARD) printf %b '`+strings.ReplaceAll(test.rules, "\n", `\n`)+`' ;; *) iptables ;; esac; }
`+run)
		if (got == want) != test.holds {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// TestBesideGate sees a card that the gate lets by for the name of a container's bridge.
func TestBesideGate(t *testing.T) {
	script := functionsOf(t, "attest/files/usr/local/lib/bake/gate.tmpl")
	const veth, card = `4: veth1@if5: <BROADCAST> mtu 1500 \    veth \    bridge_slave`, `2: enp1s0: <BROADCAST> mtu 1500 \    bridge_slave`
	for name, test := range map[string]struct{ make, slaves, want string }{
		"containers":     {"mkdir -p docker0/bridge br-0123456789ab/bridge bake-inside enp1s0/device", veth, "holds"},
		"none":           {":", "", "holds"},
		"behind another": {"mkdir -p br-lan/bridge", veth + "\n" + card, "it does not stand before enp1s0"},
		"by its name":    {"mkdir -p br-wan/device", "", "it does not stand before br-wan"},
	} {
		dir := t.TempDir()
		got := inShell(t, dir, strings.ReplaceAll(script, "/sys/class/net", dir+"/net")+`
stamp=stamp; echo 1 > stamp
active() { printf '2\n3\n0\n'; }
ip() { cat slaves; }
mkdir net; echo '`+test.slaves+`' | grep . > slaves || :
(cd net && `+test.make+`)
order > said && echo holds || sed 1d said
`)
		if got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}
