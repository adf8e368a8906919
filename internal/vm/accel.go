package vm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"bake/internal/tool"
)

const (
	kvm = "kvm"
	tcg = "tcg"
)

// probeTime bounds the whole probe. The guest needs 0.1 s.
const probeTime = 3 * time.Second

// Accelerator says how guests of an architecture ("amd64", "arm64") can run on this
// machine: "kvm", or "tcg" where KVM is missing, not permitted or does not work, and
// why, as a phrase that fits after "because".
//
// KVM is believed only when a small 64-bit guest has run under it to its end,
// with the machine and processor that Start uses. A clear answer is remembered
// in cacheDir until the kernel, QEMU or the permissions change; "" remembers
// nothing. force, "kvm" or "tcg", is returned without a look at the machine;
// "" and "auto" mean none. The error is a *tool.MissingError without QEMU.
func Accelerator(ctx context.Context, tools tool.Box, cacheDir, arch, force string) (accel, reason string, err error) {
	board, err := boardOf(arch)
	if err != nil {
		return "", "", err
	}
	switch force {
	case kvm, tcg:
		return force, "it was asked for", nil
	case "", "auto":
	default:
		return "", "", fmt.Errorf("choosing the accelerator: %q is neither kvm, tcg nor auto", force)
	}
	program, err := tools.Find(board.program)
	switch {
	case err != nil:
		return "", "", err
	case cmp.Or(arch, amd64) != runtime.GOARCH:
		return tcg, fmt.Sprintf("its processor is %s, this machine's %s", arch, runtime.GOARCH), nil
	}
	device, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return tcg, cannotOpen(err), nil
	}
	device.Close()
	memory := recall(cacheDir, program)
	if memory.Accel != "" {
		return memory.Accel, memory.Reason, nil
	}
	found, err := probe(ctx, tools, runtime.GOARCH, kvm)
	if err != nil {
		return "", "", fmt.Errorf("probing /dev/kvm: %w", err)
	}
	if found.sure {
		memory.Reason = found.reason
		memory.Accel = tcg
		if found.works {
			memory.Accel = kvm
		}
		memory.store(cacheDir)
	}
	if found.works {
		return kvm, found.reason, nil
	}
	return tcg, found.reason, nil
}

func cannotOpen(err error) string {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "this machine has no /dev/kvm"
	case errors.Is(err, os.ErrPermission):
		return "/dev/kvm may not be opened by this user (group kvm?)"
	}
	return "/dev/kvm does not open: " + strings.TrimPrefix(err.Error(), "open /dev/kvm: ")
}

// verdict is what one probe found.
type verdict struct {
	works  bool
	sure   bool // false when a busy machine could have been the cause
	reason string
}

// probe runs the payload of an architecture under an accelerator.
func probe(ctx context.Context, tools tool.Box, arch, accel string) (verdict, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, probeTime, errProbeTime)
	defer cancel()
	dir, err := os.MkdirTemp("", "bake-probe-")
	if err != nil {
		return verdict{}, err
	}
	defer os.RemoveAll(dir)
	image, err := payload(arch)
	if err != nil {
		return verdict{}, err
	}
	rom := filepath.Join(dir, "rom")
	if err := os.WriteFile(rom, image, 0o600); err != nil {
		return verdict{}, err
	}
	stage := filepath.Join(dir, "stage")
	args := append(processor(arch, accel),
		"-no-user-config", "-nodefaults", "-display", "none", "-m", "64", "-bios", rom,
		"-chardev", "file,id=stage,path="+escape(stage))
	if arch == arm64 {
		args = append(args, "-machine", virt(accel), "-serial", "chardev:stage")
	} else {
		args = append(args, "-machine", "q35", "-device", "isa-debug-exit,iobase=0xf4,iosize=4",
			"-device", "isa-debugcon,iobase=0xe9,chardev=stage")
	}
	child, err := launch(ctx, tools, boards[arch].program, nil, args...)
	if err != nil {
		return verdict{}, err
	}
	internal := child.until("KVM internal error")
	cause := context.Cause(ctx) // before the next line is a cause as well
	cancel()
	<-child.done
	said, _ := os.ReadFile(stage) // nothing, if it said nothing
	return judge(cause, child, internal, reported(arch, said, child.exitCode()))
}

var errProbeTime = errors.New("the probe's time is up")

// outcome is what a payload has told.
type outcome struct {
	passed, wrong bool
	stage         string // that it was at
}

// reported reads the stages that a payload has told, and QEMU's exit status.
func reported(arch string, said []byte, code int) outcome {
	wrong := code == payloadWrong
	if arch == arm64 && len(said) > 0 && said[len(said)-1] == armWrong {
		said, wrong = said[:len(said)-1], code == 0
	}
	stage := 0
	if len(said) > 0 {
		stage = min(int(said[len(said)-1]), payloadStages)
	}
	passed := code == payloadPassed
	if arch == arm64 {
		passed = code == 0 && stage == payloadStages && !wrong
	}
	return outcome{passed, wrong, stages[arch][stage]}
}

// judge turns what became of the payload's QEMU into a verdict.
func judge(cause error, child *process, internal bool, o outcome) (verdict, error) {
	switch code := child.exitCode(); {
	case o.passed:
		return verdict{works: true, sure: true, reason: "a 64-bit guest ran to its end"}, nil
	case internal:
		return verdict{sure: true, reason: "KVM gave up on a 64-bit guest " + o.stage}, nil
	case o.wrong:
		return verdict{sure: true, reason: "a 64-bit guest went wrong under KVM " + o.stage}, nil
	case code >= 0 || child.aborted():
		return verdict{sure: true, reason: "QEMU failed under KVM: " + orSilence(child.said(1))}, nil
	case errors.Is(cause, errProbeTime):
		return verdict{reason: fmt.Sprintf("a 64-bit guest hung under KVM %s (for %v)", o.stage, probeTime)}, nil
	case cause != nil:
		return verdict{}, cause
	}
	return verdict{reason: "QEMU was killed under KVM"}, nil
}

func orSilence(text string) string {
	if text == "" {
		return "it did not say why"
	}
	return text
}
