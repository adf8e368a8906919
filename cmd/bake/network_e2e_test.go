//go:build e2e

package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/xml"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"golang.org/x/crypto/ssh"
)

// What the neighbours of a guest see: its ports, its bans, its containers, and
// whether all of it is the same after a reboot. The neighbours come by a card
// that no rule names.

const maxRetry = 5

const streetHost = `host: zap
base: debian:13
machine: {vcpus: 2, memory: 2GiB, disk: 10GiB}
admin:
  name: ops
  keys:
    - ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIC5fZc/o+6nL5wffhDwRKx2uFUYmLG4ZcnVAjhhwA3Wo ops@example
layers:
  - ssh
  - ufw: {allow_tcp: [22]}
  - fail2ban:
      max_retry: 5
      ban_time: 60s
      ignore: [127.0.0.0/8, "::1", 10.0.2.2, ` + managerV4 + `, "` + managerV6 + `"]
  - docker
  - docker-user
`

// TestFullNetwork boots one guest. Its parts build on each other: the ban that
// is to end by itself runs while the ports are scanned.
func TestFullNetwork(t *testing.T) {
	s := newStreet(t)
	l := newLab(t, "debian-13")
	l.write(t, "hosts/zap.yaml", streetHost)
	if code, _ := l.bake(t, "image", "--host", "zap", "--base", l.base); code != 0 {
		t.Fatalf("bake image: exit %d", code)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Minute)
	defer cancel()
	h := settle(ctx, t, l, s)
	h.agrees(t, l.base)
	first := h.state(t)
	h.keep(t, "quiet")
	t.Run("ban", h.testBan)
	t.Run("ports", h.testPorts)
	t.Run("ban ends", h.testBanEnds)
	h.restore(t, "quiet")
	h.openShop(t)
	t.Run("containers", h.testContainers)
	t.Run("reboots", func(t *testing.T) { h.testReboots(t, first) })
}

// expect prints what was seen beside what was expected.
func expect(t *testing.T, title string, got, want map[string]string) {
	t.Helper()
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	wrong := 0
	keys := maps.Clone(want)
	maps.Copy(keys, got)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		mark := ""
		if got[key] != want[key] {
			mark = "WRONG, want " + want[key]
			wrong++
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", key, got[key], mark)
	}
	table.Flush()
	t.Logf("%s:\n%s", title, text.String())
	if wrong > 0 {
		t.Errorf("%s: %d of %d rows are wrong", title, wrong, len(keys))
	}
}

// seen collects rows from several goroutines.
type seen struct {
	sync.Mutex
	sync.WaitGroup
	rows map[string]string
}

// add looks in the background.
func (s *seen) add(key string, look func() string) {
	s.Go(func() {
		value := look()
		s.Lock()
		defer s.Unlock()
		s.rows[key] = value
	})
}

func (s *seen) all() map[string]string {
	s.Wait()
	return s.rows
}

// stranger is somebody who guesses, from an address of his own.
type stranger struct {
	from, guest, friend, with string
	isFreed                   bool // unbanned by hand; the other's ban ends by itself
}

var strangers = []stranger{
	{fmt.Sprintf(strangersV4, 16), guestV4, friendV4, "keys", true},
	{fmt.Sprintf(strangersV4, 17), guestV4, friendV4, "passwords", false},
	{fmt.Sprintf(strangersV6, 16), guestV6, friendV6, "keys", false},
	{fmt.Sprintf(strangersV6, 17), guestV6, friendV6, "passwords", true},
}

// testBan lets all strangers and the manager guess at the same time. Each row
// is one address, because sshd and fail2ban count by address.
func (h *house) testBan(t *testing.T) {
	s := seen{rows: map[string]string{}}
	want := map[string]string{}
	for _, stranger := range strangers {
		key := stranger.from + " guessing " + stranger.with
		s.add(key, func() string { return orError(h.guess(t, stranger)) })
		want[key] = "banned"
		if stranger.isFreed {
			want[key] = "banned, unbanned"
		}
	}
	for from, guest := range map[string]string{managerV4: guestV4, managerV6: guestV6} {
		key := from + " guessing both, the manager"
		s.add(key, func() string { return orError(h.manage(t, from, guest)) })
		want[key] = "ignored"
	}
	expect(t, fmt.Sprintf("what becomes of %d failures (the manager: %d)", maxRetry, 2*maxRetry), s.all(), want)
}

func orError(what string, err error) string {
	if err != nil {
		return err.Error()
	}
	return what
}

// guess fails one time less than is allowed, then once more.
func (h *house) guess(t *testing.T, s stranger) (string, error) {
	method := h.wrong(t, s.with)
	if err := h.fail(s.from, s.guest, maxRetry-1, method); err != nil {
		return "", err
	}
	if err := h.until("the count", func() (bool, error) {
		n, err := h.logged("Found " + s.from + " ")
		if n > maxRetry-1 {
			err = fmt.Errorf("%d failures are counted as %d", maxRetry-1, n)
		}
		return n == maxRetry-1, err
	}); err != nil {
		return "", err
	}
	if banned, err := h.isBanned(s.from); banned || err != nil {
		return "banned one failure early", err
	}
	if err := h.fail(s.from, s.guest, 1, method); err != nil {
		return "", err
	}
	begin := time.Now()
	// Not at port 22, where a knock is one more failure. fail2ban says that an
	// address is banned before the rule is there.
	if err := h.until("the ban", func() (bool, error) {
		return h.street.knock(s.from, net.JoinHostPort(s.guest, "80")) == refused, nil
	}); err != nil {
		return "", err
	}
	t.Logf("%s: banned %v after the last failure", s.from, time.Since(begin).Round(100*time.Millisecond))
	if got := h.street.knock(s.from, net.JoinHostPort(s.guest, "22")); got != refused {
		return "banned, but port 22 is " + got, nil
	}
	if err := h.street.login(s.friend, s.guest, h.plan.Admin, ssh.PublicKeys(h.signer)); err != nil {
		return "", fmt.Errorf("shut out with %s: %w", s.from, err)
	}
	if !s.isFreed {
		return "banned", nil
	}
	if _, err := h.try("fail2ban-client unban " + s.from); err != nil {
		return "", err
	}
	return "banned, unbanned", h.welcome(s.from, s.guest)
}

// manage fails as the manager, who may, and then logs in.
func (h *house) manage(t *testing.T, from, guest string) (string, error) {
	for _, with := range []string{"keys", "passwords"} {
		if err := h.fail(from, guest, maxRetry, h.wrong(t, with)); err != nil {
			return "", err
		}
	}
	if err := h.until("the count", func() (bool, error) {
		n, err := h.logged("Ignore " + from + " ")
		return n >= 2*maxRetry, err
	}); err != nil {
		return "", err
	}
	if banned, err := h.isBanned(from); banned || err != nil {
		return "banned", err
	}
	return "ignored", h.welcome(from, guest)
}

func (h *house) wrong(t *testing.T, with string) ssh.AuthMethod {
	if with == "passwords" {
		return ssh.Password("secret")
	}
	return ssh.PublicKeys(newSigner(t))
}

// fail fails to log in n times. Only what sshd decides counts: after some
// failures it hangs up on an address at once, for a while (OpenSSH 9.8 and
// later), and logs nothing that fail2ban counts.
func (h *house) fail(from, guest string, n int, method ssh.AuthMethod) error {
	return h.until(fmt.Sprintf("a failure of %s", from), func() (bool, error) {
		err := h.street.login(from, guest, h.plan.Admin, method)
		switch {
		case err == nil:
			return false, fmt.Errorf("%s logged in with what is wrong", from)
		case strings.Contains(err.Error(), "unable to authenticate"):
			n--
		}
		return n == 0, nil
	})
}

// welcome logs in with the right key, when sshd's own penalty is over.
func (h *house) welcome(from, guest string) error {
	return h.until("a login from "+from, func() (bool, error) {
		return h.street.login(from, guest, h.plan.Admin, ssh.PublicKeys(h.signer)) == nil, nil
	})
}

func (h *house) logged(text string) (n int, err error) {
	out, err := h.try("grep -cF '" + text + "' /var/log/fail2ban.log || :")
	if err == nil {
		_, err = fmt.Sscan(out, &n)
	}
	return n, err
}

func (h *house) isBanned(address string) (bool, error) {
	out, err := h.try("fail2ban-client get sshd banip")
	return slices.Contains(strings.Fields(out), address), err
}

// testBanEnds waits for the bans that nobody lifts.
func (h *house) testBanEnds(t *testing.T) {
	s := seen{rows: map[string]string{}}
	want := map[string]string{}
	for _, stranger := range strangers {
		if stranger.isFreed {
			continue
		}
		s.add(stranger.from, func() string {
			err := h.until("the end of the ban", func() (bool, error) {
				n, err := h.logged("Unban " + stranger.from)
				return n == 1, err
			})
			return orError("welcome again", errors.Join(err, h.welcome(stranger.from, stranger.guest)))
		})
		want[stranger.from] = "welcome again"
	}
	expect(t, "after the ban time", s.all(), want)
}

// scan is what nmap reports, as XML.
type scan struct {
	Rest []struct {
		State string `xml:"state,attr"`
		Count int    `xml:"count,attr"`
	} `xml:"host>ports>extraports"`
	Ports []struct {
		Protocol string `xml:"protocol,attr"`
		Number   int    `xml:"portid,attr"`
		State    struct {
			State string `xml:"state,attr"`
		} `xml:"state"`
	} `xml:"host>ports>port"`
}

// nmap counts the ports in each state and names those that answered.
func (h *house) nmap(guest string, args ...string) string {
	// The kernel's own choice of a source may be an address that is banned.
	from := []string{"-S", scannerV4}
	if strings.Contains(guest, ":") {
		from = []string{"-6", "-S", scannerV6}
	}
	args = append(append(args, from...), "-n", "-Pn", "-e", "tap0", "-oX", "-", guest)
	out, err := h.street.run(h.ctx, "nmap", args...)
	if err != nil {
		return err.Error()
	}
	var s scan
	if err := xml.Unmarshal(out, &s); err != nil {
		return err.Error()
	}
	count := map[string]int{}
	for _, rest := range s.Rest {
		count[rest.State] += rest.Count
	}
	for _, port := range s.Ports {
		state := port.State.State
		if state != "filtered" && state != "open|filtered" {
			state = fmt.Sprintf("%s %d", state, port.Number)
		}
		count[state]++
	}
	var words []string
	for _, state := range slices.Sorted(maps.Keys(count)) {
		words = append(words, fmt.Sprintf("%s: %d", state, count[state]))
	}
	return strings.Join(words, ", ")
}

func (h *house) scanAll() map[string]string {
	s := seen{rows: map[string]string{}}
	for _, guest := range []string{guestV4, guestV6} {
		s.add("TCP "+guest, func() string {
			return h.nmap(guest, "-sS", "-p-", "--min-rate", "6000", "--max-retries", "2")
		})
		s.add("UDP "+guest, func() string {
			return h.nmap(guest, "-sU", "--top-ports", "20", "--max-retries", "2")
		})
	}
	return s.all()
}

// testPorts scans every TCP port and the usual UDP ones, and again when two
// more answer: the scanner sees what there is.
func (h *house) testPorts(t *testing.T) {
	expect(t, "ports", h.scanAll(), map[string]string{
		"TCP " + guestV4: "filtered: 65534, open 22: 1", "UDP " + guestV4: "open|filtered: 20",
		"TCP " + guestV6: "filtered: 65534, open 22: 1", "UDP " + guestV6: "open|filtered: 20",
	})
	h.run(t, `systemd-run --quiet --unit=lab-tcp python3 -m http.server --bind :: 40000
systemd-run --quiet --unit=lab-udp python3 -c '
import socket
door = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
door.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
door.bind(("::", 123))
while True:
    question, who = door.recvfrom(999)
    door.sendto(b"hello", who)
'
ufw allow 40000/tcp >&2
ufw allow 123/udp >&2
until ss -ltnH | grep -q :40000 && ss -lunH | grep -q :123; do sleep 0.2; done`)
	expect(t, "ports with 40000/tcp and 123/udp open", h.scanAll(), map[string]string{
		"TCP " + guestV4: "filtered: 65533, open 22: 1, open 40000: 1", "UDP " + guestV4: "open 123: 1, open|filtered: 19",
		"TCP " + guestV6: "filtered: 65533, open 22: 1, open 40000: 1", "UDP " + guestV6: "open 123: 1, open|filtered: 19",
	})
}

func newSigner(t *testing.T) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}
