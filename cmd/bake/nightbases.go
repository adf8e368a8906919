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

var errPatience = errors.New("who has begun with it takes too long")

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
	_, err = s.await(ctx, name, t.Reference+" is being fetched by", func(ctx context.Context) (is bool, err error) {
		address, by, err = s.place.Find(ctx, name)
		return address != "", err
	})
	return address, by, err
}

// await waits until something is found that all need and one of them gets, or it is this one's
// turn to get it.
func (s sharedBases) await(ctx context.Context, name, words string, find func(context.Context) (bool, error)) (is bool, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.patience, errPatience)
	defer cancel()
	for told := ""; ; {
		if is, err = find(ctx); err != nil || is {
			break
		}
		var other string
		if other, err = s.ledger.Turn(ctx, name+".turn", s.shard); err != nil || other == "" {
			break
		}
		if other != told {
			s.say("%s %s", words, other)
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
	return is, err
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
