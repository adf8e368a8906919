package main

import (
	"context"
	"errors"
	"net/http"
	"os"
	"time"

	"bake/internal/cluster"
	"bake/internal/image"
	"bake/internal/origin"
	"bake/internal/publish"
)

const (
	// basePatience is how long a shard waits for another that fetches an image. It may have
	// died for good, and then everybody fetches it: that costs bandwidth and nothing else.
	basePatience = 30 * time.Minute
	basePoll     = 5 * time.Second
)

var errPatience = errors.New("who fetches it takes too long")

// sharedBases has a base image fetched from its publisher once for all shards of a night: the
// first that needs it keeps it in the bucket.
//
//	PREFIX/bases/ALGORITHM-DIGEST        the image
//	PREFIX/bases/ALGORITHM-DIGEST.turn   who fetches it
type sharedBases struct {
	place          *publish.Place
	ledger         cluster.Ledger
	shard          cluster.Shard
	patience, poll time.Duration
	say            func(format string, args ...any)
}

func baseName(t origin.Target) string { return "bases/" + t.Algorithm + "-" + t.Digest }

func (s sharedBases) Find(ctx context.Context, t origin.Target) (address string, by http.RoundTripper, err error) {
	name := baseName(t)
	ctx, cancel := context.WithTimeoutCause(ctx, s.patience, errPatience)
	defer cancel()
	for told := ""; ; {
		if address, by, err = s.place.Find(ctx, name); err != nil || address != "" {
			break
		}
		var other string
		if other, err = s.ledger.Turn(ctx, name+".turn", s.shard); err != nil || other == "" {
			break
		}
		if other != told {
			s.say("%s is being fetched by %s", t.Reference, other)
			told = other
		}
		select {
		case <-ctx.Done():
		case <-time.After(s.poll):
		}
	}
	if context.Cause(ctx) == errPatience {
		err = errPatience
	}
	return address, by, err
}

func (s sharedBases) Offer(ctx context.Context, t origin.Target, blob image.Blob) error {
	file, err := os.Open(blob.Path)
	if err != nil {
		return err
	}
	defer file.Close()
	return s.place.Keep(ctx, baseName(t), file, blob.Size, blob.SHA256)
}

func (s sharedBases) Pass(ctx context.Context, t origin.Target) error {
	return s.ledger.Pass(ctx, baseName(t)+".turn", s.shard)
}
