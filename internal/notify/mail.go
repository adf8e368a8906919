package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"os"
	"os/exec"
	"strings"
	"time"

	"bake/internal/tool"
)

// email hands a message to the mail system of this machine.
func (s *Sender) email(ctx context.Context, t target, m Message) error {
	program, err := s.sendmail(t.sendmail)
	if err != nil {
		return err
	}
	message, err := letter(t, m)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, program, append([]string{"-i", "-f", t.from, "--"}, t.to...)...)
	cmd.Env = []string{"LC_ALL=C", "PATH=" + s.Getenv("PATH"), "HOME=" + s.Getenv("HOME")}
	cmd.Stdin, cmd.WaitDelay = bytes.NewReader(message), time.Second
	if output, err := cmd.CombinedOutput(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		said, _, _ := strings.Cut(strings.TrimSpace(string(output)), "\n")
		return fmt.Errorf("%s: %w: %s", program, err, said)
	}
	return nil
}

// sendmail finds the program, which is seldom on a user's search path.
func (s *Sender) sendmail(named string) (string, error) {
	if named == "" {
		if path, err := s.Tools.Find("sendmail"); err == nil {
			return path, nil
		}
		named = "/usr/sbin/sendmail"
	}
	if info, err := os.Stat(named); err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		return "", &tool.MissingError{Name: named, Package: "msmtp-mta"}
	}
	return named, nil
}

// letter is a mail as RFC 5322 has it. Everything in it that is not ours is in the
// body, which is encoded.
func letter(t target, m Message) ([]byte, error) {
	words := m.words()
	var out bytes.Buffer
	when := m.Ended
	if when.IsZero() {
		when = m.Began
	}
	for _, header := range [][2]string{
		{"From", t.from}, {"To", strings.Join(t.to, ", ")}, {"Subject", mime.QEncoding.Encode("utf-8", cut(words["summary"]))},
		{"Date", when.Format(time.RFC1123Z)}, {"Auto-Submitted", "auto-generated"}, {"MIME-Version", "1.0"},
		{"Content-Type", "text/plain; charset=utf-8"}, {"Content-Transfer-Encoding", "quoted-printable"},
	} {
		if strings.ContainsAny(header[1], "\r\n") {
			return nil, errors.New("a header would have several lines")
		}
		fmt.Fprintf(&out, "%s: %s\n", header[0], header[1])
	}
	out.WriteString("\n")
	body := quotedprintable.NewWriter(&out)
	_, err := body.Write([]byte(cut(words["table"])))
	return out.Bytes(), errors.Join(err, body.Close())
}
