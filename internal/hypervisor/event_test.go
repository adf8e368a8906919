package hypervisor

import (
	"context"
	"errors"
	"testing"
	"time"

	"bake/internal/domain"
	"bake/internal/tool"
)

// TestChanges: what becomes of a domain is told, what becomes of another is not, and nobody
// has to listen.
func TestChanges(t *testing.T) {
	_, uri := daemon(t)
	busy := connect(t, uri)
	h, err := Connect(t.Context(), uri, tool.Box{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	changed, err := h.Changes(ctx, "zap")
	if err != nil {
		t.Fatal(err)
	}
	others, err := h.Changes(ctx, "other")
	if err != nil {
		t.Fatal(err)
	}
	told := func(what string) {
		t.Helper()
		select {
		case _, ok := <-changed:
			if !ok {
				t.Fatalf("%s: it is closed", what)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%s: nobody has said so", what)
		}
	}
	if err := busy.Define(small("zap", domain.UUID("zap"), domain.Mark{Host: "zap", Generation: "one"}.String())); err != nil {
		t.Fatal(err)
	}
	told("defined")
	if err := busy.Start("zap", false); err != nil {
		t.Fatal(err)
	}
	told("started")
	for range 3 { // and nobody takes them
		if err := errors.Join(busy.Kill("zap"), busy.Start("zap", false)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(busy.Kill("zap"), busy.Undefine("zap")); err != nil {
		t.Fatal(err)
	}
	if m, err := h.Find("zap"); m != nil || err != nil { // the connection is as good as before
		t.Errorf("%+v, %v", m, err)
	}
	told("much")
	select {
	case <-others:
		t.Error("another's was told")
	default:
	}
	cancel() // who has enough is told nothing more
	later, err := h.Changes(t.Context(), "zap")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	for range later { // until it is closed
	}
	if none, err := h.Changes(t.Context(), "zap"); err == nil {
		for range none {
		}
	}
}
