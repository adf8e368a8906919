//go:build e2e

package vm

import (
	"context"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// testSnapshot ruins the guest twice, memory, disk, firewall and sshd, and
// demands it back whole. It uses up g's connection.
func (g guest) testSnapshot(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	const state = "cat /proc/sys/vm/swappiness; ls .ssh; systemctl is-active ssh; sudo iptables -S INPUT"
	want := g.run(t, state)
	begin := time.Now()
	if err := g.Snapshot(ctx, "up"); err != nil {
		t.Fatal(err)
	}
	t.Logf("snapshot after %v", time.Since(begin).Round(time.Millisecond))
	for range 2 {
		g.run(t, "sudo sysctl -q vm.swappiness=99; rm -r .ssh; sudo iptables -I INPUT -p tcp --dport 22 --syn -j DROP; sudo systemctl stop ssh; sync")
		if got, err := g.Knock(ctx, 22); got != Silent || err != nil {
			t.Errorf("Knock(22) of the ruined guest = %v, %v", got, err)
		}
		begin = time.Now()
		if err := g.Restore(ctx, "up"); err != nil {
			t.Fatal(err)
		}
		t.Logf("restored after %v", time.Since(begin).Round(time.Millisecond))
		if got, err := g.Knock(ctx, 22); got != Accepted || err != nil {
			t.Errorf("Knock(22) of the restored guest = %v, %v", got, err)
		}
		g.client.Close()
		var err error
		if g.client, err = g.SSH(ctx, "ops", []ssh.AuthMethod{ssh.PublicKeys(g.key)}, g.keys); err != nil {
			t.Fatal(err)
		}
		t.Logf("logged in again after %v", time.Since(begin).Round(time.Millisecond))
		if got := g.run(t, state); got != want {
			t.Errorf("the restored guest:\n%s\nbefore:\n%s", got, want)
		}
	}
	g.client.Close()
}
