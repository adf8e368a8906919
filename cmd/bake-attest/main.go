// Command bake-attest tries the claims about the machine it runs in and opens
// it if all of them hold. It is part of the seed, and started by the script gate of
// the layer attest: see package attest.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"bake/internal/attest"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bake-attest:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 2 {
		return fmt.Errorf("usage: bake-attest CLAIMS")
	}
	console, err := os.OpenFile("/dev/console", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer console.Close()
	return attest.Run(context.Background(), os.Args[1], attest.Options{Console: console,
		Wait: 45 * time.Minute, Poll: 100 * time.Millisecond, Each: 3 * time.Minute})
}
