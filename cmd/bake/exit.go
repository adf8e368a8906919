package main

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"syscall"

	"bake/internal/base"
	"bake/internal/deploy"
	"bake/internal/diag"
	"bake/internal/host"
	"bake/internal/hypervisor"
	"bake/internal/nightly"
	"bake/internal/payload"
	"bake/internal/secret"
	"bake/internal/tool"
)

// exitStatus ends every help page.
const exitStatus = `EXIT STATUS
   0    done
   1    unexpected error
   2    wrong command line
   3    host file or layer invalid
   4    this machine lacks something: a program, a file, room, a permission, a secret
   5    integrity: a digest, a signature or a base image is not what it must be
   6    network or remote store
   7    built, but a claim failed
   130  interrupted
`

// usageError is a wrong command line.
type usageError struct{ error }

// lackError says that this machine lacks something other than a program.
type lackError struct{ error }

// claimError says that a machine is not what was specified.
type claimError struct{ error }

// errInterrupted is what is said of a run that was told to stop, whatever it
// was doing.
var errInterrupted = errors.New("interrupted")

// exitCode maps what went wrong to the exit status that every command
// documents.
func exitCode(err error) int {
	var (
		usage   usageError
		invalid diag.List
		unknown *host.UnknownError
		missing *tool.MissingError
		lack    lackError
		place   *base.DirError
		cache   *payload.DirError
		broken  interface{ Integrity() bool }
		remote  interface{ Network() bool }
		poor    interface{ Lack() bool }
		connect *net.OpError // not net.Error: every system call's error is one
		lookup  *net.DNSError
		claim   claimError
		refused *secret.CommandError
		nobody  *hypervisor.ConnectError
		lacks   *hypervisor.LackError
		failed  *deploy.FailedError
		gone    goneError
		late    *nightly.LateError
		found   foundError
	)
	switch {
	case err == nil:
		return 0
	case errors.As(err, &usage):
		return 2
	case errors.As(err, &invalid), errors.As(err, &unknown), errors.As(err, &found):
		return 3
	case errors.As(err, &broken) && broken.Integrity():
		return 5
	case errors.As(err, &claim), errors.As(err, &failed), errors.As(err, &late):
		return 7
	case errors.Is(err, errInterrupted), errors.Is(err, context.Canceled):
		return 130
	case errors.As(err, &remote) && remote.Network(): // its cause may be a file that is missing, over there
		return 6
	case errors.As(err, &poor) && poor.Lack(), errors.As(err, &missing), errors.As(err, &lack), errors.As(err, &gone), errors.As(err, &place), errors.As(err, &cache), errors.As(err, &refused),
		errors.As(err, &nobody), errors.As(err, &lacks), hypervisor.IsRefused(err),
		errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EROFS), errors.Is(err, syscall.ENOTDIR),
		errors.Is(err, fs.ErrPermission), errors.Is(err, fs.ErrNotExist):
		return 4
	case errors.As(err, &connect), errors.As(err, &lookup):
		return 6
	}
	return 1
}
