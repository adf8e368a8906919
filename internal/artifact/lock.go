package artifact

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

const lockRetry = 100 * time.Millisecond

// Lock makes root/host and holds its lock until the result is closed or the
// process ends, however it ends. It must be held from Begin to Commit and for
// Promote. When another run holds it, Lock waits until the deadline of ctx, and
// without a deadline not at all; the error then says who that is.
func Lock(ctx context.Context, root, host string) (io.Closer, error) {
	held, err := lock(ctx, root, host)
	if err != nil {
		return nil, fmt.Errorf("locking host %s: %w", host, err)
	}
	return held, nil
}

func lock(ctx context.Context, root, host string) (io.Closer, error) {
	dir, err := makeHostDir(root, host)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, lockName)
	held := flock.New(path)
	var got bool
	if _, ok := ctx.Deadline(); ok {
		got, err = held.TryLockContext(ctx, lockRetry)
	} else {
		got, err = held.TryLock()
	}
	switch {
	case err == nil && !got, errors.Is(err, context.DeadlineExceeded):
		return nil, fmt.Errorf("another bake works on it%s (%s)", holder(path), path)
	case err != nil:
		return nil, err
	}
	// For the message above and nothing else: the lock is the kernel's.
	if err := os.WriteFile(path, fmt.Appendf(nil, "%d\n", os.Getpid()), 0o600); err != nil {
		return nil, errors.Join(err, held.Close())
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, held.Close())
	}
	return held, nil
}

// holder says which process wrote its number into the lock file, if any did.
func holder(path string) string {
	data, err := os.ReadFile(path)
	pid := strings.TrimSpace(string(data))
	if err != nil || pid == "" {
		return ""
	}
	return ", process " + pid
}
