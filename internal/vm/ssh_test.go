package vm

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"net"
	"testing"

	"golang.org/x/crypto/ssh"
)

// signer returns a key that depends on a byte only.
func signer(t *testing.T, seed byte) ssh.Signer {
	t.Helper()
	secret := make([]byte, ed25519.SeedSize)
	secret[0] = seed
	s, err := ssh.NewSignerFromKey(ed25519.NewKeyFromSeed(secret))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// serve runs a handler for each connection to a loopback port.
func serve(t *testing.T, handle func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go handle(conn)
		}
	}()
	return listener.Addr().String()
}

func TestLogin(t *testing.T) {
	host, user := signer(t, 1), signer(t, 2)
	cut := errors.New("cut")
	server := func(check func(ssh.PublicKey, net.Conn) error) func(net.Conn) {
		return func(conn net.Conn) {
			defer conn.Close()
			config := &ssh.ServerConfig{
				MaxAuthTries: 2,
				PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
					return nil, check(key, conn)
				},
			}
			config.AddHostKey(host)
			if _, channels, requests, err := ssh.NewServerConn(conn, config); err == nil {
				go ssh.DiscardRequests(requests)
				for range channels {
				}
			}
		}
	}
	welcome := serve(t, server(func(ssh.PublicKey, net.Conn) error { return nil }))
	hostile := serve(t, server(func(ssh.PublicKey, net.Conn) error { return errors.New("no") }))
	banning := serve(t, server(func(_ ssh.PublicKey, conn net.Conn) error { conn.Close(); return cut }))
	closing := serve(t, func(conn net.Conn) { conn.Close() })
	chatting := serve(t, func(conn net.Conn) { conn.Write([]byte("220 mail\r\n")); conn.Close() })
	stopped, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stopped.Close()

	many := []ssh.Signer{signer(t, 10), signer(t, 11), signer(t, 12), signer(t, 13)}
	for _, test := range []struct {
		name, address string
		auth          []ssh.AuthMethod
		host          ssh.PublicKey
		want          error
	}{
		{"welcome", welcome, []ssh.AuthMethod{ssh.PublicKeys(user)}, host.PublicKey(), nil},
		{"refused", hostile, []ssh.AuthMethod{ssh.PublicKeys(user)}, host.PublicKey(), ErrRefused},
		{"refused without a key", welcome, nil, host.PublicKey(), ErrRefused},
		{"refused for the number", hostile, []ssh.AuthMethod{ssh.PublicKeys(many...)}, host.PublicKey(), ErrRefused},
		{"another host", welcome, []ssh.AuthMethod{ssh.PublicKeys(user)}, user.PublicKey(), ErrHostKey},
		{"another kind of host key", welcome, nil, rsaKey(t), ErrHostKey},
		{"cut in the middle", banning, []ssh.AuthMethod{ssh.PublicKeys(user)}, host.PublicKey(), ErrUnreachable},
		{"cut at once", closing, nil, host.PublicKey(), ErrUnreachable},
		{"not ssh", chatting, nil, host.PublicKey(), ErrUnreachable},
		{"nobody", stopped.Addr().String(), nil, host.PublicKey(), ErrUnreachable},
	} {
		t.Run(test.name, func(t *testing.T) {
			client, err := login(context.Background(), test.address, "ops", test.auth, []ssh.PublicKey{test.host})
			if err == nil {
				client.Close()
			}
			for _, sentinel := range []error{ErrRefused, ErrUnreachable, ErrHostKey} {
				if errors.Is(err, sentinel) != (sentinel == test.want) {
					t.Errorf("login: %v; want %v", err, test.want)
				}
			}
			if (err == nil) != (test.want == nil) {
				t.Errorf("login: %v; want %v", err, test.want)
			}
		})
	}
}

// A server that accepts and says nothing holds nobody longer than the context.
func TestLoginStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	address := serve(t, func(conn net.Conn) { conn.Read(make([]byte, 1)); cancel() })
	_, err := login(ctx, address, "ops", nil, []ssh.PublicKey{signer(t, 1).PublicKey()})
	if !errors.Is(err, ErrUnreachable) || !errors.Is(err, context.Canceled) {
		t.Errorf("login: %v", err)
	}
}

func TestSSHNeedsAHostKey(t *testing.T) {
	if _, err := new(Machine).SSH(context.Background(), "ops", nil, nil); err == nil {
		t.Error("SSH without a host key succeeded")
	}
}

// rsaKey is a well-formed public key of another kind; nobody has its secret.
func rsaKey(t *testing.T) ssh.PublicKey {
	t.Helper()
	wire := ssh.Marshal(struct {
		Kind string
		E    []byte
		N    []byte
	}{ssh.KeyAlgoRSA, []byte{1, 0, 1}, append([]byte{0}, bytes.Repeat([]byte{0xff}, 256)...)})
	key, err := ssh.ParsePublicKey(wire)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
