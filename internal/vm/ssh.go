package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/crypto/ssh"
)

// What an attempt to reach the guest can fail with, besides the context and
// the machine's end.
var (
	ErrRefused     = errors.New("the server refused the login")
	ErrUnreachable = errors.New("nobody answered")
	ErrHostKey     = errors.New("the server's host key is not the guest's")
)

// loginTime bounds one login where the context does not. Under emulation one
// takes a few seconds.
const loginTime = 60 * time.Second

// SSH logs a user in on the guest's port 22, once, without a retry. Only a
// server that proves one of hostKeys is spoken to. The error wraps ErrRefused
// when that server said no, ErrHostKey when it has another key, and
// ErrUnreachable when nothing that speaks ssh is there (yet) or it went away
// in the middle; when the machine has ended it says so and wraps none. ctx bounds the login, not the client's life.
func (m *Machine) SSH(ctx context.Context, user string, auth []ssh.AuthMethod, hostKeys []ssh.PublicKey) (*ssh.Client, error) {
	if len(hostKeys) == 0 {
		return nil, fmt.Errorf("logging in as %s: no host key is known", user)
	}
	port, err := m.sshForward(ctx)
	if err != nil {
		return nil, fmt.Errorf("logging in as %s: %w", user, m.orDead(err))
	}
	client, err := login(ctx, fmt.Sprintf("127.0.0.1:%d", port), user, auth, hostKeys)
	if err != nil {
		return nil, fmt.Errorf("logging in as %s: %w", user, m.orDead(err))
	}
	return client, nil
}

func (m *Machine) sshForward(ctx context.Context) (int, error) {
	m.forwards.Lock()
	defer m.forwards.Unlock()
	if m.sshPort == 0 {
		port, err := m.forward(ctx, 22)
		if err != nil {
			return 0, err
		}
		m.sshPort = port
	}
	return m.sshPort, nil
}

func login(ctx context.Context, address, user string, auth []ssh.AuthMethod, hostKeys []ssh.PublicKey) (*ssh.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, loginTime)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	isKnown := false
	clear, channels, requests, err := ssh.NewClientConn(conn, address, &ssh.ClientConfig{
		User:              user,
		Auth:              auth,
		HostKeyAlgorithms: algorithms(hostKeys),
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			for _, known := range hostKeys {
				if bytes.Equal(known.Marshal(), key.Marshal()) {
					isKnown = true
					return nil
				}
			}
			return fmt.Errorf("%w: %s", ErrHostKey, ssh.FingerprintSHA256(key))
		},
	})
	if !stop() && err == nil { // the context ended on the last step
		clear.Close()
		err = net.ErrClosed
	}
	if err != nil {
		conn.Close()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnreachable, context.Cause(ctx))
		}
		return nil, loginError(err, isKnown)
	}
	return ssh.NewClient(clear, channels, requests), nil
}

// loginError sorts a failed handshake. After the host key was proved, any end
// but a cut connection is the server's decision.
func loginError(err error, isKnown bool) error {
	var cut net.Error
	var terms *ssh.AlgorithmNegotiationError
	switch {
	case errors.Is(err, ErrHostKey):
		return err
	case errors.As(err, &terms) && terms.What == "host key":
		return fmt.Errorf("%w: %w", ErrHostKey, err)
	case !isKnown, errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed), errors.As(err, &cut):
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return fmt.Errorf("%w: %w", ErrRefused, err)
}

// algorithms asks for the kinds of key that are known, so that the server
// proves one of these.
func algorithms(keys []ssh.PublicKey) []string {
	var names []string
	for _, key := range keys {
		if key.Type() == ssh.KeyAlgoRSA {
			names = append(names, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
			continue
		}
		names = append(names, key.Type())
	}
	return names
}
