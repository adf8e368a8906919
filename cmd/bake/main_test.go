package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"bake/internal/attest"
	"bake/internal/verify"
)

var update = flag.Bool("update", false, "rewrite what the scripts expect; the diff is the review")

// TestMain makes the test binary bake itself when it is called so: the scripts
// and the tests that kill it see the program a user starts, from main on.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"bake": child})
}

// testVerdict has a bake that is this test binary boot nothing and take what it says,
// ok or fail, for what came of it.
const testVerdict = "BAKE_TEST_VERDICT"

// testAgo has a bake that is this test binary believe that it is so long ago.
const testAgo = "BAKE_TEST_AGO"

// child is bake as a process.
func child() {
	verdict, fleet := os.Getenv(testVerdict), os.Getenv(testFleet)
	if ago, err := time.ParseDuration(os.Getenv(testAgo)); err == nil {
		clock = func() time.Time { return time.Now().Add(-ago) }
	}
	if verdict == "" && fleet == "" {
		main()
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	e := systemEnv()
	if fleet != "" {
		e.Fleet = func(real machines) machines { return simulator{real, fleet} }
	}
	e.Boot = func(ctx context.Context, o verify.Options) (verify.Report, error) {
		if verdict == "hang" {
			fmt.Fprintln(os.Stderr, "it boots")
			<-ctx.Done()
			return verify.Report{}, context.Cause(ctx)
		}
		return judged(verdict == "ok")(o)
	}
	os.Exit(run(ctx, e, os.Args))
}

func TestScripts(t *testing.T) { runScripts(t, "testdata/script") }

// TestBroken runs the corpus of host files and layers that must be refused.
func TestBroken(t *testing.T) { runScripts(t, "testdata/script/broken") }

func runScripts(t *testing.T, dir string) {
	testscript.Run(t, testscript.Params{
		Dir: dir,
		Setup: func(e *testscript.Env) error { // none of this user's
			e.Setenv(keyVariable, filepath.Join(e.WorkDir, "signing.key"))
			return nil
		},
		UpdateScripts:      *update,
		RequireUniqueNames: true,
		Condition:          condition,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":   exits,
			"refuses": refuses,
			"raw":     raw,
			"attests": attests,
			"sends":   sends,
		},
	})
}

// exits CODE PROGRAM ARGS... runs a program that must exit with that status.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARGS...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

// refuses PROGRAM ARGS... runs a program that must exit with status 3, print no
// product, and leave every file as it was.
func refuses(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("usage: refuses PROGRAM ARGS...")
	}
	before := tree(ts, ts.Getenv("WORK"))
	exits(ts, false, append([]string{"3"}, args...))
	if out := ts.ReadFile("stdout"); out != "" {
		ts.Fatalf("there is a product: %q", out)
	}
	if after := tree(ts, ts.Getenv("WORK")); !maps.Equal(before, after) {
		ts.Fatalf("files before: %v\nfiles after: %v", before, after)
	}
}

// tree lists a directory: what each file is and how large.
func tree(ts *testscript.TestScript, root string) map[string]string {
	found := map[string]string{}
	ts.Check(filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			found[path] = info.Mode().String() + " " + strconv.FormatInt(info.Size(), 10)
		}
		return err
	}))
	return found
}

// raw FILE TEXT... writes Go-quoted text, for bytes that do not survive in an
// archive: raw hosts/zap.yaml '\ufeffhost: zap\n'.
func raw(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: raw FILE TEXT")
	}
	text, err := strconv.Unquote(`"` + strings.ReplaceAll(args[1], `"`, `\"`) + `"`)
	ts.Check(err)
	path := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(filepath.Dir(path), 0o755))
	ts.Check(os.WriteFile(path, []byte(text), 0o600))
}

// attests LOG CLAIMS [KEY] writes the console log of a machine that tried the claims
// in a file, all of which held, and that has that ssh host key.
func attests(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: attests LOG CLAIMS [KEY]")
	}
	key := ""
	if len(args) == 3 {
		key = args[2]
	}
	path := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(filepath.Dir(path), 0o755))
	digest := sha256.Sum256([]byte(ts.ReadFile(args[1])))
	ts.Check(os.WriteFile(path, []byte(consoleOf(hex.EncodeToString(digest[:]), key)), 0o600))
}

// consoleOf is what a machine prints that has tried the claims with that digest, all
// of which held.
func consoleOf(plan, key string) string {
	verdict := attest.Verdict{OK: true, Plan: plan, Claims: 24, Report: strings.Repeat("f", 64)}
	text := "BdsDxe: starting Boot0001\r\n[    0.000000] Linux version 6.12\r\n" +
		"Cloud-init v. 25.1.4 finished at Mon. Up 57.20 seconds\r\n\r\nbake: trying 24 claims\r\n"
	if key != "" {
		text += "-----BEGIN SSH HOST KEY KEYS-----\r\n" + key + "\r\n-----END SSH HOST KEY KEYS-----\r\n"
	}
	return text + verdict.String() + "\r\n"
}

// condition is [lacks:PROGRAM]: this machine has no such program. On CI it has
// all of them or the test fails.
func condition(text string) (bool, error) {
	program, ok := strings.CutPrefix(text, "lacks:")
	if !ok {
		return false, fmt.Errorf("unknown condition %q", text)
	}
	_, err := exec.LookPath(program)
	if err != nil && os.Getenv("CI") == "true" {
		return false, fmt.Errorf("CI must not skip: %w", err)
	}
	return err != nil, nil
}
