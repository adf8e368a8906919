package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"testing"

	"bake/internal/artifact"
	"bake/internal/base"
	"bake/internal/diag"
	"bake/internal/download"
	"bake/internal/host"
	"bake/internal/image"
	"bake/internal/origin"
	"bake/internal/secret"
	"bake/internal/tool"
)

func TestExitCode(t *testing.T) {
	list := diag.List{{Message: "wrong"}}
	tests := []struct {
		name string
		err  error
		want int
	}{
		{"nothing", nil, 0},
		{"unexpected", errors.New("why"), 1},
		{"command line", usageError{errors.New("no such option")}, 2},
		{"host file", list, 3},
		{"one host file of several things", errors.Join(errors.New("x"), list), 3},
		{"unknown host", &host.UnknownError{Name: "zap"}, 3},
		{"missing program", &tool.MissingError{Name: "qemu-img"}, 4},
		{"missing file", fs.ErrNotExist, 4},
		{"no permission", &os.PathError{Op: "open", Path: "x", Err: syscall.EACCES}, 4},
		{"not the owner", &os.PathError{Op: "chmod", Path: "x", Err: syscall.EPERM}, 4},
		{"full disk", &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}, 4},
		{"full quota", syscall.EDQUOT, 4},
		{"read-only file system", syscall.EROFS, 4},
		{"a file where a directory should be", &os.PathError{Op: "mkdir", Path: "x", Err: syscall.ENOTDIR}, 4},
		{"failing disk", &os.PathError{Op: "read", Path: "x", Err: syscall.EIO}, 1},
		{"busy host", lackError{errors.New("another bake works on it")}, 4},
		{"a cache of somebody else's", &base.DirError{Reason: errors.New("it belongs to the user 1")}, 4},
		{"no secret", &secret.CommandError{Name: "db", Program: "pass", Err: errors.New("exit status 1")}, 4},
		{"interrupted secret", &secret.CommandError{Name: "db", Program: "pass", Err: context.Canceled}, 130},
		{"damaged base", &image.IntegrityError{}, 5},
		{"refused base", &image.RefusedError{Reason: errors.New("no qcow2")}, 5},
		{"damaged generation", &artifact.IntegrityError{}, 5},
		{"damaged, because a file is missing", errors.Join(&artifact.IntegrityError{}, fs.ErrNotExist), 5},
		{"network", &net.DNSError{Err: "no such host"}, 6},
		{"connection", &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, 6},
		{"no file over there", &origin.NetworkError{Err: fs.ErrNotExist}, 6},
		{"download cut off", &download.NetworkError{Err: errors.New("reset")}, 6},
		{"unknown signer", &origin.IntegrityError{Err: errors.New("unknown key")}, 5},
		{"wrong bytes", errors.Join(&download.IntegrityError{}, &download.NetworkError{Err: errors.New("reset")}), 5},
		{"claim", claimError{errors.New("2 of 9 claims failed")}, 7},
		{"interrupted", context.Canceled, 130},
		{"interrupted in a program", fmt.Errorf("qemu-img: %w", context.Canceled), 130},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := exitCode(test.err); got != test.want {
				t.Errorf("exit status %d, want %d", got, test.want)
			}
			if test.err == nil {
				return
			}
			wrapped := fmt.Errorf("baking zap: %w", errors.Join(fmt.Errorf("first: %w", test.err), errors.New("and this")))
			if got := exitCode(wrapped); got != test.want {
				t.Errorf("exit status %d when wrapped, want %d", got, test.want)
			}
		})
	}
}
