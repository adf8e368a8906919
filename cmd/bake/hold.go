package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

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
