package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"bake/internal/payload"
	"bake/internal/provenance"
)

// sharedLoads has a payload made once for all shards of a night. What lies in the bucket is
// believed if somebody who counts has signed that it was made of the very packages and trees.
//
//	PREFIX/payloads/KEY          who says which disk that is
//	PREFIX/payloads/KEY.turn     who makes it
//	PREFIX/payloads/KEY.SHA256   the disk
type sharedLoads struct {
	sharedBases
	ring provenance.Ring
	key  provenance.Key
}

func loadName(key string) string { return "payloads/" + key }

// signed is the disk that somebody who counts has made, "" when nobody has.
func (s sharedLoads) signed(ctx context.Context, key string) (sum string, size int64, err error) {
	envelope, _, err := s.place.Record(ctx, loadName(key))
	if err != nil || envelope == nil {
		return "", 0, err
	}
	statement, _, err := s.ring.Open(envelope)
	var p provenance.Packed
	if err == nil {
		err = statement.Read(&p)
	}
	sum = statement.SHA256("payload")
	if raw, wrong := hex.DecodeString(sum); err == nil && (wrong != nil || len(raw) != 32 || p.Key != key || p.Size < 1) {
		err = distrust("it is about something else")
	}
	if err != nil {
		return "", 0, fmt.Errorf("%s in %s is not believed: %w", loadName(key), s.place, err)
	}
	return sum, p.Size, nil
}

// Find implements payload.Shared.
func (s sharedLoads) Find(ctx context.Context, key, file string) (ok bool, err error) {
	var sum string
	var size int64
	ok, err = s.await(ctx, loadName(key), "the payload "+key[:16]+" is being made by", func(ctx context.Context) (bool, error) {
		sum, size, err = s.signed(ctx, key)
		return sum != "", err
	})
	if !ok || err != nil {
		return false, err
	}
	dir := file + ".coming"
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.Mkdir(dir, 0o700); err != nil {
		return false, err
	}
	came, err := s.place.Bring(ctx, loadName(key)+"."+sum, size, sum, dir)
	if err != nil {
		return false, err
	}
	err = os.Link(came.Path, file)
	return err == nil, errors.Join(err, came.Forget())
}

// Offer implements payload.Shared: the disk first, then who says so.
func (s sharedLoads) Offer(ctx context.Context, key string, disk payload.Disk) error {
	from, err := os.Open(filepath.Clean(disk.Path))
	if err != nil {
		return err
	}
	defer from.Close()
	if err := s.place.Keep(ctx, loadName(key)+"."+disk.SHA256, from, disk.Size, disk.SHA256); err != nil {
		return err
	}
	statement, err := provenance.Of(&provenance.Packed{Key: key, Size: disk.Size}, provenance.Descriptor{Name: "payload", Digest: sha256Of(disk.SHA256)})
	if err != nil {
		return err
	}
	envelope, err := s.key.Sign(statement)
	if err != nil {
		return err
	}
	_, version, err := s.place.Record(ctx, loadName(key))
	if err == nil {
		_, err = s.place.SetRecord(ctx, loadName(key), envelope, version)
	}
	return err
}

// Pass implements payload.Shared.
func (s sharedLoads) Pass(ctx context.Context, key string) error {
	return s.ledger.Pass(ctx, loadName(key)+".turn", s.shard)
}
