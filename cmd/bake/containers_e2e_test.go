//go:build e2e

package main

import (
	"fmt"
	"maps"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
)

// shop has web servers in containers, made of one static program: one on the
// default bridge, one on a network of its own with IPv6, each with a port that
// was published without an address and one on every address. The third, beside
// the first, publishes nothing.
//
// The shell ends when it is told to. The first process of a container ignores
// what it does not handle, and would hold a reboot up for 90 s.
const shop = `set -e
dir=$(mktemp -d)
mkdir -p $dir/bin $dir/www
cp /tmp/busybox $dir/bin/
chmod 755 $dir $dir/bin $dir/www $dir/bin/busybox
for name in sh httpd nc sleep; do ln -s busybox $dir/bin/$name; done
echo hello > $dir/www/index.html
tar -C $dir -c bin www | docker import - shop
rm -r $dir
serve() {
	docker run --detach "$@" shop sh -c 'trap "exit 0" TERM; httpd -p 80 -h /www; while :; do sleep 60 & wait $!; done'
}
docker network create --ipv6 --subnet ` + dockerV6 + ` street
serve --restart always --name bridge -p 80:80 -p 0.0.0.0:81:80
serve --restart always --name own --network street -p 82:80 -p 0.0.0.0:83:80 -p '[::]:84:80'
serve --name beside
`

func (h *house) openShop(t *testing.T) {
	t.Helper()
	program, err := os.Open("/bin/busybox")
	if err != nil {
		t.Fatalf("busybox-static is missing: %v", err)
	}
	defer program.Close()
	if _, err := h.feed("cat > /tmp/busybox", program); err != nil {
		t.Fatal(err)
	}
	h.run(t, shop)
	h.street.greet(t, net.JoinHostPort(scannerV4, "8080"))
}

// container is where one is now.
type container struct{ name, pid, v4, v6 string }

func (h *house) container(t *testing.T, name string) (c container) {
	t.Helper()
	out := h.run(t, `docker inspect -f '{{.Name}} {{.State.Pid}} {{range .NetworkSettings.Networks}}{{.IPAddress}} {{or .GlobalIPv6Address "-"}}{{end}}' `+name)
	if _, err := fmt.Sscan(out, &c.name, &c.pid, &c.v4, &c.v6); err != nil {
		t.Fatalf("docker inspect %s: %q: %v", name, out, err)
	}
	return c
}

// hear is a script that says hello if that is heard at an address, and "no"
// otherwise.
func hear(address, port string) string {
	return fmt.Sprintf(`timeout 5 bash -c 'exec 3<>/dev/tcp/%s/%s && printf "GET / HTTP/1.0\r\n\r\n" >&3 && grep -qx hello <&3' 2>/dev/null && echo hello || echo no`,
		address, port)
}

// hearFrom does the same inside a container, with what it has.
func hearFrom(name, address, port string) string {
	return fmt.Sprintf(`docker exec %s sh -c 'printf "GET / HTTP/1.0\r\n\r\n" | nc -w 4 %s %s' | grep -qx hello && echo hello || echo no`,
		name, address, port)
}

// look tries all doors of the shop.
func (h *house) look(t *testing.T) map[string]string {
	t.Helper()
	h.run(t, `docker start beside >&2
for name in bridge own beside; do
	until [ "$(docker inspect -f '{{.State.Running}}' $name)" = true ]; do sleep 0.5; done
done`)
	bridge, own, beside := h.container(t, "bridge"), h.container(t, "own"), h.container(t, "beside")
	s := seen{rows: map[string]string{}}
	ask := func(key, script string) { s.add(key, func() string { return orError(h.try(script)) }) }
	for _, port := range []string{"80", "81", "82", "83"} {
		ask("the guest itself: 127.0.0.1 port "+port, hear("127.0.0.1", port))
	}
	ask("bridge, outward", hearFrom("bridge", scannerV4, "8080"))
	ask("own, outward", hearFrom("own", scannerV4, "8080"))
	ask("beside, to bridge", hearFrom("beside", bridge.v4, "80"))
	ask("beside, to own", hearFrom("beside", own.v4, "80"))
	for _, c := range []container{bridge, own, beside} {
		ask(c.name[1:]+", who root is", "[ $(stat -c %u /proc/"+c.pid+") -ge 65536 ] && echo nobody || echo somebody")
	}
	s.all() // the machine is slow; the neighbours do not wait for long
	for _, port := range []string{"80", "81", "82", "83", "84"} {
		s.add("neighbour: "+guestV4+" port "+port, func() string {
			return h.street.knock(scannerV4, net.JoinHostPort(guestV4, port))
		})
		s.add("neighbour: "+guestV6+" port "+port, func() string {
			return h.street.knock(scannerV6, net.JoinHostPort(guestV6, port))
		})
	}
	s.add("neighbour: bridge itself", func() string { return h.street.knock(scannerV4, net.JoinHostPort(bridge.v4, "80")) })
	s.add("neighbour: own itself", func() string { return h.street.knock(scannerV4, net.JoinHostPort(own.v4, "80")) })
	s.add("neighbour: own itself, IPv6", func() string { return h.street.knock(scannerV6, net.JoinHostPort(own.v6, "80")) })
	for _, port := range []int{80, 81, 83} {
		s.add(fmt.Sprintf("first card: port %d", port), func() string {
			answer, err := h.Knock(h.ctx, port)
			return orError(answer.String(), err)
		})
	}
	return s.all()
}

// closedShop is what look must see. Docker does not lead IPv6 into containers here
// (engine 26), so that nothing is claimed about their way out by it.
func closedShop() map[string]string {
	want := map[string]string{"neighbour: bridge itself": silent, "neighbour: own itself": silent,
		"neighbour: own itself, IPv6": silent,
		"bridge, outward":             hello, "own, outward": hello,
		"beside, to bridge": "no", "beside, to own": "no",
		"first card: port 80": "silent", "first card: port 81": "silent", "first card: port 83": "silent"}
	for _, name := range []string{"bridge", "own", "beside"} {
		want[name+", who root is"] = "nobody"
	}
	for _, port := range []string{"80", "81", "82", "83", "84"} {
		want["neighbour: "+guestV4+" port "+port] = silent
		want["neighbour: "+guestV6+" port "+port] = silent
	}
	for _, port := range []string{"80", "81", "82", "83"} {
		want["the guest itself: 127.0.0.1 port "+port] = hello
	}
	return want
}

// testContainers looks at the shop as it is, after whatever rewrites the packet
// filter, and with its locks picked one after the other, which shows that the
// neighbours would have seen an open door.
func (h *house) testContainers(t *testing.T) {
	expect(t, "containers", h.look(t), closedShop())
	h.run(t, "ufw reload")
	expect(t, "containers after ufw reload", h.look(t), closedShop())
	h.run(t, "systemctl restart docker")
	expect(t, "containers after a restart of docker", h.look(t), closedShop())
	h.keep(t, "shop")

	want := closedShop()
	h.run(t, "iptables -F DOCKER-USER")
	for _, key := range []string{"neighbour: " + guestV4 + " port 81", "neighbour: " + guestV4 + " port 83",
		"neighbour: bridge itself", "neighbour: own itself"} {
		want[key] = hello
	}
	want["first card: port 81"], want["first card: port 83"] = "accepted", "accepted"
	expect(t, "containers without the list of docker-user", h.look(t), want)

	h.run(t, `for table in iptables ip6tables; do
	$table -I INPUT -j ACCEPT
	$table -I FORWARD -j ACCEPT
done`)
	maps.Copy(want, map[string]string{
		"neighbour: own itself, IPv6": hello, "beside, to bridge": hello, "beside, to own": hello,
		// Bound to 127.0.0.1: closed even to those who pass every rule.
		"neighbour: " + guestV4 + " port 80": refused, "neighbour: " + guestV4 + " port 82": refused,
		"first card: port 80": "refused",
		// Docker holds the port open for nobody.
		"neighbour: " + guestV4 + " port 84": refused, "neighbour: " + guestV6 + " port 84": mute,
	})
	for _, port := range []string{"80", "81", "82", "83"} {
		want["neighbour: "+guestV6+" port "+port] = refused
	}
	expect(t, "containers without any rule", h.look(t), want)
	h.restore(t, "shop")
}

// testReboots reboots once, or three times for `make e2e-full`. The containers
// are looked at after the first and then taken away, so that what is compared
// is the machine's own.
func (h *house) testReboots(t *testing.T, first string) {
	h.reboot(t)
	expect(t, "containers after a reboot", h.look(t), closedShop())
	// Docker turns IPv6 forwarding on for such a network, and never off.
	h.run(t, `docker rm -f bridge own beside >&2
docker network rm street >&2
sysctl -qw net.ipv6.conf.all.forwarding=0`)
	rows, want := map[string]string{}, map[string]string{}
	reboots := 1
	if isFull() {
		reboots = 3
	}
	for n := 1; n <= reboots; n++ {
		if n > 1 {
			h.reboot(t)
		}
		now := h.state(t)
		key := fmt.Sprintf("reboot %d: rules, jails, mounts, sysctl", n)
		rows[key], want[key] = fmt.Sprintf("%d lines", strings.Count(now, "\n")), fmt.Sprintf("%d lines", strings.Count(first, "\n"))
		if diff := gocmp.Diff(strings.Split(first, "\n"), strings.Split(now, "\n")); diff != "" {
			rows[key] = "differ from the first boot's"
			t.Errorf("after reboot %d (-first boot +now):\n%s", n, diff)
		}
	}
	expect(t, "state", rows, want)
	// A look that cannot see a change would prove nothing.
	h.run(t, "ip6tables -I INPUT -j ACCEPT && sysctl -qw net.ipv4.conf.all.send_redirects=1 kernel.sysrq=1")
	if h.state(t) == first {
		t.Error("the state looks the same with another rule and other settings")
	}
}

// reboot reboots from inside. The same host keys must come back: others would
// end enter.
func (h *house) reboot(t *testing.T) {
	t.Helper()
	const boot = "cat /proc/sys/kernel/random/boot_id"
	before := h.run(t, boot)
	begin := time.Now()
	_, _ = h.try("systemctl reboot") // which may cut this connection first
	h.await(t, "the reboot", func() (bool, error) {
		h.client.Close()
		h.enter(t)
		now, err := h.try(boot) // an error is a connection that the reboot cut
		return err == nil && now != before, nil
	})
	h.moveIn(t)
	t.Logf("rebooted in %v", time.Since(begin).Round(time.Second))
}

// volatile are settings that are readings, and why.
var volatile = []struct{ key, why string }{
	{`dev\.cdrom\..*`, "of isofs, in the kernel at the first boot alone, to read the seed"},
	{`fs\.(dentry-state|file-nr|inode-nr|inode-state)`, "counts of open things"},
	{`fs\.quota\..*`, "counts of quota operations"},
	{`kernel\.(ns_last_pid|pty\.nr)`, "what runs just now"},
	{`kernel\.random\.(boot_id|uuid|entropy_avail)`, "random by purpose"},
	{`net\.ipv4\.tcp_fastopen_key`, "random by purpose"},
	{`net\.netfilter\.nf_conntrack_count`, "connections just now"},
	{`kernel\.perf_(event_max_sample_rate|cpu_time_max_percent)`, "the kernel adapts it to a slow processor"},
	{`vm\.user_reserve_kbytes`, "from the memory that was free when it started"},
}

// state is what must be the same after each boot: everything that lets
// somebody in, or not. Packet counters are left out, and of the mounts, which
// are sorted because units mount in parallel, numbers that change: systemd's
// pipe to itself and the size of /tmp, half of the memory that was free.
func (h *house) state(t *testing.T) string {
	t.Helper()
	var keys []string
	for _, v := range volatile {
		keys = append(keys, v.key)
	}
	readings := regexp.MustCompile(`(?m)^(` + strings.Join(keys, "|") + `) = .*\n`)
	text := h.run(t, `set -e
fail2ban-client unban --all >&2
docker info >&2
for table in iptables ip6tables; do
	echo "== $table"
	$table-save | sed -e '/^#/d' -e 's/ \[[0-9]*:[0-9]*\]$//'
done
echo == ufw
ufw status verbose
echo == fail2ban
fail2ban-client status
echo == sysctl
sysctl -a 2>/dev/null
echo == mounts
findmnt -rn -o TARGET,FSTYPE,OPTIONS,SOURCE | sed -E 's/,(fd|pipe_ino|size)=[^, ]*//g' | sort`)
	return readings.ReplaceAllString(text, "")
}
