package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"bake/internal/tool"
)

const qemu = "qemu-system-x86_64"

const (
	kvm = "kvm"
	tcg = "tcg"
)

// probeTime bounds the whole probe. The guest needs 0.1 s.
const probeTime = 3 * time.Second

// Accelerator says how guests can run on this machine: "kvm", or "tcg" where
// KVM is missing, not permitted or does not work, and why, as a phrase that
// fits after "because".
//
// KVM is believed only when a small 64-bit guest has run under it to its end,
// with the machine and processor that Start uses. A clear answer is remembered
// in cacheDir until the kernel, QEMU or the permissions change; "" remembers
// nothing. force, "kvm" or "tcg", is returned without a look at the machine;
// "" and "auto" mean none. The error is a *tool.MissingError without QEMU.
func Accelerator(ctx context.Context, tools tool.Box, cacheDir, force string) (accel, reason string, err error) {
	switch force {
	case kvm, tcg:
		return force, "it was asked for", nil
	case "", "auto":
	default:
		return "", "", fmt.Errorf("choosing the accelerator: %q is neither kvm, tcg nor auto", force)
	}
	program, err := tools.Find(qemu)
	if err != nil {
		return "", "", err
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
	found, err := probe(ctx, tools, kvm)
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

// probe runs the payload under an accelerator.
func probe(ctx context.Context, tools tool.Box, accel string) (verdict, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, probeTime, errProbeTime)
	defer cancel()
	dir, err := os.MkdirTemp("", "bake-probe-")
	if err != nil {
		return verdict{}, err
	}
	defer os.RemoveAll(dir)
	image, err := payload()
	if err != nil {
		return verdict{}, err
	}
	rom := filepath.Join(dir, "rom")
	if err := os.WriteFile(rom, image, 0o600); err != nil {
		return verdict{}, err
	}
	stage := filepath.Join(dir, "stage")
	child, err := launch(ctx, tools, nil, append(processor(accel),
		"-no-user-config", "-nodefaults", "-display", "none",
		"-machine", "q35", "-m", "64", "-bios", rom,
		"-device", "isa-debug-exit,iobase=0xf4,iosize=4",
		"-chardev", "file,id=stage,path="+escape(stage),
		"-device", "isa-debugcon,iobase=0xe9,chardev=stage")...)
	if err != nil {
		return verdict{}, err
	}
	internal := child.until("KVM internal error")
	cause := context.Cause(ctx) // before the next line is a cause as well
	cancel()
	<-child.done
	return judge(cause, child, internal, passed(stage))
}

var errProbeTime = errors.New("the probe's time is up")

// judge turns what became of the payload's QEMU into a verdict.
func judge(cause error, child *process, internal bool, stage int) (verdict, error) {
	switch code := child.exitCode(); {
	case code == payloadPassed:
		return verdict{works: true, sure: true, reason: "a 64-bit guest ran to its end"}, nil
	case internal:
		return verdict{sure: true, reason: "KVM gave up on a 64-bit guest " + stages[stage]}, nil
	case code == payloadWrong:
		return verdict{sure: true, reason: "a 64-bit guest went wrong under KVM " + stages[stage]}, nil
	case code >= 0 || child.aborted():
		return verdict{sure: true, reason: "QEMU failed under KVM: " + orSilence(child.said(1))}, nil
	case errors.Is(cause, errProbeTime):
		return verdict{reason: fmt.Sprintf("a 64-bit guest hung under KVM %s (for %v)", stages[stage], probeTime)}, nil
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

// passed returns the last stage that the payload reported, 0 for none.
func passed(path string) int {
	report, err := os.ReadFile(path)
	if err != nil || len(report) == 0 {
		return 0
	}
	return min(int(report[len(report)-1]), payloadStages)
}

// processor returns the QEMU options that pick accelerator and CPU model.
// Under TCG cx16 stays off, for QEMU 7.2 emulates it so that Linux 6.12 panics, and
// la57, which makes every walk through the page tables a level longer.
func processor(accel string) []string {
	if accel == kvm {
		return []string{"-accel", "kvm", "-cpu", "host"}
	}
	return []string{"-accel", "tcg,thread=multi", "-cpu", "max,-cx16,-la57"}
}
