package base

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"bake/internal/image"
	"bake/internal/inspect"
	"bake/internal/origin"
)

// Look looks inside an image that is a file of the user's: it is not judged. What
// is wrong with it is an *image.RefusedError, as it is for Obtain; what the world
// did is not.
func Look(ctx context.Context, path string) (inspect.Findings, error) {
	findings, err := inspect.Look(ctx, path)
	return findings, unreadable(ctx, err)
}

// judge says why no machine of this reference could come up on an image.
// Packages of layers are not looked for: cloud-init installs them. Without sshd
// and sudo the one administrator could do nothing about it.
func judge(ref origin.Ref, findings inspect.Findings) error {
	want := inspect.Requirement{Architecture: ref.Arch, Packages: []string{"openssh-server", "sudo"}}
	if ref.Kind == origin.Release {
		want.Distribution, want.Release = publisher(ref), ref.Version
	}
	if problems := findings.Problems(want); problems != nil {
		return errors.New(strings.Join(problems, "; "))
	}
	return nil
}

// refusal says of which reference an image is not used.
func refusal(ctx context.Context, ref origin.Ref, err error) error {
	if err == nil {
		return nil
	}
	return unreadable(ctx, fmt.Errorf("%s: %w", ref, err))
}

// unreadable makes a judgement on an image one of integrity and leaves what the
// world did as it is.
func unreadable(ctx context.Context, err error) error {
	var errno syscall.Errno
	if err == nil || ctx.Err() != nil || errors.As(err, &errno) {
		return err
	}
	return &image.RefusedError{Reason: err}
}
