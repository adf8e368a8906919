// Command bake turns a host file into a KVM virtual machine that comes up
// hardened on its first boot, and proves it.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"
)

// firstCollection is at how much of the usual 4 MiB the first collection of garbage comes, in
// percent. Most commands are over by then: `bake lint` of a host would spend a fifth of its
// time on several.
const firstCollection = 800

func main() {
	usual := debug.SetGCPercent(firstCollection)
	// 16 bytes: smaller ones share a block with others, and may go much later.
	runtime.AddCleanup(new([16]byte), func(usual int) { debug.SetGCPercent(usual) }, usual)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, systemEnv(), os.Args)
	stop()
	os.Exit(code)
}
