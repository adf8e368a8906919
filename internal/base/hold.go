package base

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Hold keeps the images in a store's directory from being pruned until the result
// is closed or the process ends, however it ends. It waits while somebody prunes,
// as long as ctx lasts. Who wants to add an image and then stand on it must hold
// the store all the time: in between nobody else can know.
func Hold(ctx context.Context, dir string) (io.Closer, error) {
	return holdDir(ctx, dir, unix.LOCK_SH)
}

// Own keeps everybody else from a directory until the result is closed or the process
// ends.
func Own(ctx context.Context, dir string) (io.Closer, error) {
	return holdDir(ctx, dir, unix.LOCK_EX)
}

// holdDir locks a directory itself: no file beside what is kept there, nothing
// left when the process dies. How is unix.LOCK_SH or LOCK_EX, and with LOCK_NB
// the error wraps unix.EWOULDBLOCK when somebody else holds it.
func holdDir(ctx context.Context, dir string, how int) (io.Closer, error) {
	file, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(file.Fd()), how|unix.LOCK_NB)
		busy := errors.Is(err, unix.EWOULDBLOCK) && how&unix.LOCK_NB == 0
		switch {
		case err == nil:
			return file, nil
		case !busy && !errors.Is(err, unix.EINTR):
			return nil, errors.Join(fmt.Errorf("locking %s: %w", dir, err), file.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("waiting for the lock on %s: %w", dir, context.Cause(ctx)), file.Close())
		case <-time.After(50 * time.Millisecond):
		}
	}
}
