package hypervisor

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os/exec"
	"testing"
	"time"

	"bake/internal/tool"
)

// TestBeat: who has answered once and is silent is hung up on, who never has is not.
func TestBeat(t *testing.T) {
	for name, answers := range map[string]bool{"answered": true, "never": false} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := net.Pipe()
			go func() { _, _ = io.Copy(io.Discard, theirs) }()
			a := keptAlive(ours)
			defer a.Close()
			a.answers.Store(answers)
			if now := time.Now(); !a.beat(now.Add(silence/2)) || a.beat(now.Add(2*silence)) == answers {
				t.Error("it is taken for dead, or is not")
			}
			if a.silent.Load() != answers {
				t.Errorf("silent %v", a.silent.Load())
			}
		})
	}
}

// TestBeatBetweenPackets: however packets are cut, a question comes between two.
func TestBeatBetweenPackets(t *testing.T) {
	ours, theirs := net.Pipe()
	a := keptAlive(ours)
	defer a.Close()
	packet := binary.BigEndian.AppendUint32(nil, 40)
	for len(packet) < 40 {
		packet = append(packet, 0xee)
	}
	go func() {
		for cut := range 40 {
			for _, part := range [][]byte{packet[:cut], packet[cut:]} {
				_, _ = a.Write(part)
				a.beat(time.Now())
			}
		}
		_ = a.Close()
	}()
	packets, questions := 0, 0
	for {
		got, err := readPacket(theirs)
		if err != nil {
			break
		}
		switch {
		case len(got) == 40 && got[39] == 0xee:
			packets++
		case len(got) == headSize && binary.BigEndian.Uint32(got[4:]) == keepAlive:
			questions++
		default:
			t.Fatalf("%x", got)
		}
	}
	if packets != 40 || questions < 40 {
		t.Errorf("%d packets, %d questions", packets, questions)
	}
}

// TestStoppedDaemon: a libvirtd that is stopped keeps nobody for ever.
func TestStoppedDaemon(t *testing.T) {
	root, uri := ownDaemon(t)
	silence = time.Second
	defer func() { silence = 2 * time.Minute }()
	h, err := Connect(t.Context(), uri, tool.Box{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Find("zap"); err != nil {
		t.Fatal(err)
	}
	signal(t, root, "-STOP")
	defer signal(t, root, "-CONT")
	if _, err := h.Find("zap"); err == nil {
		t.Error("it answers")
	}
	var nobody *ConnectError
	if err := h.Close(); !errors.As(err, &nobody) || !errors.Is(err, errSilent) {
		t.Errorf("%v", err)
	}
	if _, err := Connect(t.Context(), uri, tool.Box{}); !errors.As(err, &nobody) || !errors.Is(err, errSilent) {
		t.Errorf("%v", err)
	}
}

// signal sends a signal to the libvirtd of a directory.
func signal(t *testing.T, root, which string) {
	t.Helper()
	for _, number := range daemonsOf(t, root) {
		if err := exec.Command("kill", which, number).Run(); err != nil {
			t.Error(err)
		}
	}
}
