package artifact

import (
	"errors"
	"os"
	"testing"
)

// stamp is a notary that vouches for a manifest by its digest.
type stamp struct{ word string }

func (s stamp) Sign(_ Manifest, sha256 string) ([]byte, error) {
	if s.word == "" {
		return nil, nil
	}
	return []byte(s.word + " " + sha256 + "\n"), nil
}

func (s stamp) Check(g Generation) error {
	content, sum, err := g.Provenance()
	if err == nil && string(content) != s.word+" "+sum+"\n" {
		err = errors.New("nobody vouches for it")
	}
	return err
}

// stamped bakes with a notary, from other bytes if there is a text.
func stamped(t *testing.T, root string, n Notary, disk string) Generation {
	t.Helper()
	draft, err := Begin(root, "zap")
	if err != nil {
		t.Fatal(err)
	}
	draft.VouchedBy(n)
	if err := os.WriteFile(draft.Path("disk.qcow2"), []byte(disk), 0o644); err != nil {
		t.Fatal(err)
	}
	g, err := draft.Commit(Manifest{Generation: genA})
	if err == nil {
		err = g.Verify(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestNotary(t *testing.T) {
	root := t.TempDir()
	g := stamped(t, root, stamp{"a"}, "disk")
	if err := (stamp{"a"}).Check(g); err != nil {
		t.Error(err)
	}
	if _, ok := g.Manifest.Files[sealName]; ok {
		t.Error("the signature is part of what it signs")
	}
	if info, err := os.Stat(g.Path(sealName)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if err := g.Promote(); err != nil {
		t.Fatal(err)
	}

	// Vouched for, it stays, whatever the draft has; so it does when there is nobody to sign.
	if again := stamped(t, root, stamp{"a"}, "another disk"); !again.same(g.Manifest) {
		t.Error("what was vouched for was replaced")
	}
	if again := stamped(t, root, stamp{""}, "another disk"); !again.same(g.Manifest) {
		t.Error("what was signed was replaced by what is not")
	}

	// For another notary the same bytes get another signature, other bytes go.
	if again := stamped(t, root, stamp{"b"}, "disk"); !again.same(g.Manifest) || (stamp{"b"}).Check(again) != nil {
		t.Error("the same was not signed again")
	}
	if _, err := Open(root, "zap", "current"); err != nil {
		t.Errorf("the same is not current any more: %v", err)
	}
	if again := stamped(t, root, stamp{"c"}, "another disk"); again.same(g.Manifest) || (stamp{"c"}).Check(again) != nil {
		t.Error("what nobody vouches for has stayed")
	}
	if _, err := Open(root, "zap", "current"); err == nil {
		t.Error("what was never verified is current")
	}
	wantClean(t, root)

	draft, err := Begin(root, "zap")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(draft.Path(sealName), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := draft.Commit(Manifest{Generation: genB}); err == nil {
		t.Error("a draft brings its own signature")
	}
}
