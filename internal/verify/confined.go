package verify

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// users are given a key of this boot: the administrator, root, and those of whom it
// is said that a key is of no more use to them.
func (p Plan) users() []string {
	users := []string{p.Admin, "root"}
	for _, l := range p.Layers {
		for _, c := range l.Checks {
			if c.Outside != nil && c.Outside.SSH != nil && c.Outside.SSH.Want == confined && !slices.Contains(users, c.Outside.SSH.User) {
				users = append(users, c.Outside.SSH.User)
			}
		}
	}
	return users
}

// heardOf is how much of an answer is looked at: what a command was asked to say
// would come first.
const heardOf = 4 << 10

// confinement asks for all that a login is good for. It is confined if none of it
// is done: whatever the server runs instead is its own choice.
func confinement(ctx context.Context, client *ssh.Client) string {
	stop := context.AfterFunc(ctx, func() { client.Close() })
	defer stop()
	for _, try := range []struct {
		what string
		done func(*ssh.Client) (bool, error)
	}{{"a command", runsCommand}, {"a terminal", hasTerminal}, {"TCP forwarding", forwards("tcp", "127.0.0.1:22")},
		{"forwarding to a socket", forwards("unix", journalSocket)}, {"remote forwarding", listens}} {
		switch done, err := try.done(client); {
		case err != nil:
			return fmt.Sprintf("trying %s: %v", try.what, err)
		case done:
			return "it is given " + try.what
		}
	}
	return confined
}

// runsCommand reports whether a command that is sent is what runs.
func runsCommand(client *ssh.Client) (bool, error) {
	session, err := client.NewSession()
	if err != nil {
		return false, err
	}
	defer session.Close()
	word := rand.Text()
	out, err := session.StdoutPipe()
	if err == nil {
		err = session.Start("printf %s " + word)
	}
	if err != nil {
		return false, err
	}
	answer, err := io.ReadAll(io.LimitReader(out, heardOf))
	return strings.Contains(string(answer), word), err
}

func hasTerminal(client *ssh.Client) (bool, error) {
	session, err := client.NewSession()
	if err != nil {
		return false, err
	}
	defer session.Close()
	return session.RequestPty("xterm", 24, 80, ssh.TerminalModes{}) == nil, nil
}

// journalSocket is a socket of every systemd, to which every user may connect.
const journalSocket = "/run/systemd/journal/stdout"

// forwards reports whether the server connects to somewhere else. A server that
// tries and finds nobody would do it, but of sockets OpenSSH says that it failed when
// it has not tried, too (serverloop.c, server_input_channel_open).
func forwards(network, address string) func(*ssh.Client) (bool, error) {
	return func(client *ssh.Client) (bool, error) {
		conn, err := client.Dial(network, address)
		if err == nil {
			conn.Close()
			return true, nil
		}
		failed, answered := err.(*ssh.OpenChannelError)
		switch {
		case !answered:
			return false, err
		case failed.Reason == ssh.Prohibited, network == "unix":
			return false, nil
		}
		return true, nil
	}
}

func listens(client *ssh.Client) (bool, error) {
	listener, err := client.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return false, nil
	}
	listener.Close()
	return true, nil
}
