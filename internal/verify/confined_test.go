package verify

import (
	"crypto/ed25519"
	"crypto/rand"
	"net"
	"os/exec"
	"slices"
	"testing"

	"golang.org/x/crypto/ssh"

	"bake/internal/claim"
)

// gatekeeper is a server of ssh that does what it is told to, and refuses the rest as
// sshd does.
type gatekeeper struct {
	does string // one of the requests that it grants
}

func (g gatekeeper) dial(t *testing.T) *ssh.Client {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		if conn, err := listener.Accept(); err == nil {
			g.serve(conn, signer)
		}
	}()
	client, err := ssh.Dial("tcp", listener.Addr().String(), &ssh.ClientConfig{User: "bake-backup", HostKeyCallback: ssh.FixedHostKey(signer.PublicKey())})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

func (g gatekeeper) serve(conn net.Conn, signer ssh.Signer) {
	config := &ssh.ServerConfig{NoClientAuth: true}
	config.AddHostKey(signer)
	_, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return
	}
	go func() {
		for r := range requests {
			_ = r.Reply(r.Type == g.does, ssh.Marshal(struct{ Port uint32 }{4711}))
		}
	}()
	for offer := range channels {
		kind := offer.ChannelType()
		if kind != "session" && kind != g.does {
			reason := ssh.Prohibited
			if kind == "direct-streamlocal@openssh.com" {
				reason = ssh.ConnectionFailed
			}
			_ = offer.Reject(reason, "no")
			continue
		}
		if kind == "direct-tcpip" {
			_ = offer.Reject(ssh.ConnectionFailed, "nobody answers there")
			continue
		}
		channel, requests, err := offer.Accept()
		if err != nil {
			return
		}
		go func() {
			defer channel.Close()
			for r := range requests {
				_ = r.Reply(r.Type == "exec" || r.Type == g.does, nil)
				if r.Type == "exec" {
					g.exec(channel, r.Payload)
					return
				}
			}
		}()
	}
}

// exec runs a command, or what it always runs.
func (g gatekeeper) exec(channel ssh.Channel, payload []byte) {
	var command struct{ Text string }
	if err := ssh.Unmarshal(payload, &command); err != nil || g.does != "exec" {
		command.Text = "echo the same for everybody"
	}
	cmd := exec.Command("/bin/sh", "-c", command.Text)
	cmd.Stdout = channel
	_ = cmd.Run()
	_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{}))
}

// TestConfinement: each thing that a server grants is found, also the attempt to connect
// to where nobody is.
func TestConfinement(t *testing.T) {
	for does, want := range map[string]string{
		"":                               confined,
		"exec":                           "it is given a command",
		"pty-req":                        "it is given a terminal",
		"direct-tcpip":                   "it is given TCP forwarding",
		"direct-streamlocal@openssh.com": "it is given forwarding to a socket",
		"tcpip-forward":                  "it is given remote forwarding",
	} {
		if got := confinement(t.Context(), gatekeeper{does: does}.dial(t)); got != want {
			t.Errorf("%s: %s, want %s", does, got, want)
		}
	}
	gone := gatekeeper{}.dial(t)
	gone.Close()
	if got := confinement(t.Context(), gone); got == confined {
		t.Error("who cannot be asked is confined")
	}
}

// TestUsers: those who are said to be confined get a key, each once.
func TestUsers(t *testing.T) {
	login := func(user, want string) claim.Check {
		return claim.Check{Outside: &claim.Outside{SSH: &claim.Login{User: user, With: "key", Want: want}}}
	}
	p := Plan{Admin: "ops", Layers: []Layer{{Checks: []claim.Check{login("x", accepted), login("b", confined), login("b", confined), {Outside: &claim.Outside{}}, {}}}}}
	if got := p.users(); !slices.Equal(got, []string{"ops", "root", "b"}) {
		t.Errorf("%q", got)
	}
}
