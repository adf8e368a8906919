package vm

import (
	"context"
	"testing"
)

const (
	ed25519Key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
	keysBegin  = "-----BEGIN SSH HOST KEY KEYS-----\n"
	keysEnd    = "-----END SSH HOST KEY KEYS-----\n"
)

func TestHostKeysWaits(t *testing.T) {
	m := listening(keysBegin)
	go m.console.Write([]byte(ed25519Key + "\r\n" + keysEnd))
	if keys, err := m.HostKeys(context.Background()); err != nil || len(keys) != 1 {
		t.Errorf("HostKeys = %v, %v", keys, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if keys, err := listening(keysBegin).HostKeys(ctx); err == nil {
		t.Errorf("HostKeys without an end = %v", keys)
	}
}

func TestLoginCredential(t *testing.T) {
	got, err := LoginCredential(`command="x",no-pty `+ed25519Key+" 100%done\\n@desk", "ops", "root")
	if err != nil {
		t.Fatal(err)
	}
	const want = `d /run/bake-verify 0755 root root -
d /run/bake-verify/keys 0755 root root -
f+ /etc/ssh/sshd_config.d/0-bake-verify.conf 0600 root root - Match User ops,root\nAuthorizedKeysFile .ssh/authorized_keys /run/bake-verify/keys/%%u\n
f+ /run/bake-verify/keys/ops 0644 root root - ` + ed25519Key + `
f+ /run/bake-verify/keys/root 0644 root root - ` + ed25519Key + `
`
	if len(got) != 1 || got["tmpfiles.extra"] != want {
		t.Errorf("LoginCredential = %q", got)
	}
	for _, bad := range []struct {
		key   string
		users []string
	}{
		{ed25519Key, nil}, {ed25519Key, []string{""}}, {ed25519Key, []string{"../x"}},
		{ed25519Key, []string{"ops\nd /x"}}, {ed25519Key, []string{"ops", "Ops"}},
		{"", []string{"ops"}}, {"ssh-ed25519 AAAA", []string{"ops"}},
	} {
		if got, err := LoginCredential(bad.key, bad.users...); err == nil {
			t.Errorf("LoginCredential(%q) = %q", bad, got)
		}
	}
}
