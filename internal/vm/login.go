package vm

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"

	"bake/internal/lazy"
)

var userName = lazy.Regexp(`^[a-z_][a-z0-9_-]{0,31}$`)

// LoginCredential returns the Spec.Credentials that let each of the users in
// with one more key (an authorized_keys line; options and comment are dropped),
// for this boot only and without a changed byte in disk or seed. What sshd's
// own configuration says about a user stays in force: root may be given the
// key and still be refused.
//
// systemd-tmpfiles writes the files before sshd starts. It knows the credential
// tmpfiles.extra from systemd 252 on; Ubuntu 22.04 has 249 and ignores it.
func LoginCredential(authorizedKey string, users ...string) (map[string]string, error) {
	if len(users) == 0 {
		return nil, errors.New("making a login credential: no user is named")
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(authorizedKey))
	if err != nil {
		return nil, fmt.Errorf("making a login credential: %w", err)
	}
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
	lines := []string{
		"d /run/bake-verify 0755 root root -",
		"d /run/bake-verify/keys 0755 root root -",
		// For these users alone, so that what sshd -T says stays true; "0-" sorts
		// before the artifact's own files, and sshd keeps the first value.
		"f+ /etc/ssh/sshd_config.d/0-bake-verify.conf 0600 root root - " +
			`Match User ` + strings.Join(users, ",") +
			`\nAuthorizedKeysFile .ssh/authorized_keys /run/bake-verify/keys/%%u\n`,
	}
	for _, user := range users {
		if !userName.MatchString(user) {
			return nil, fmt.Errorf("making a login credential: %q is no user name", user)
		}
		lines = append(lines, "f+ /run/bake-verify/keys/"+user+" 0644 root root - "+line)
	}
	return map[string]string{"tmpfiles.extra": strings.Join(lines, "\n") + "\n"}, nil
}
