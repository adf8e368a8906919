// Command bake turns a host file into a KVM virtual machine that comes up
// hardened on its first boot, and proves it.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, systemEnv(), os.Args)
	stop()
	os.Exit(code)
}
