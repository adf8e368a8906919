package host

import (
	"fmt"
	"net/url"
	"path/filepath"

	"bake/internal/lazy"
)

// URI is a libvirt URI of the kinds that bake speaks:
//
//	qemu:///system                        this machine; ?socket=PATH for another socket
//	qemu:///session                       this user's own daemon
//	qemu+ssh://[user@]host[:port]/system  another machine
type URI struct {
	Instance   string // "system" or "session"
	Socket     string // "" for the usual ones
	Host       string // "" for this machine
	User, Port string // "" for ssh's own choice
}

// uriWord is what neither ssh nor a shell can take for anything but a word.
var uriWord = lazy.Regexp(`^[A-Za-z0-9/_][A-Za-z0-9/._:@-]*$`)

// ParseURI reads a libvirt URI; the error says what is wrong with it and what is
// allowed. Transports that do not say who is at the other end are refused.
func ParseURI(text string) (URI, error) {
	u, err := url.Parse(text)
	if err != nil {
		return URI{}, fmt.Errorf("libvirt's URI %q is none: %w", text, err)
	}
	refuse := func(what string) (URI, error) {
		return URI{}, fmt.Errorf("libvirt's URI %q: %s: want qemu:///system, qemu:///session or qemu+ssh://[user@]host/system", text, what)
	}
	switch {
	case u.Scheme == clusterScheme:
		return URI{}, fmt.Errorf("%q is a cluster and no libvirt: bake rollout brings generations there, and kubectl shows its machines", text)
	case u.Scheme != "qemu" && u.Scheme != "qemu+unix" && u.Scheme != "qemu+ssh":
		return refuse(fmt.Sprintf("the scheme %q is not known", u.Scheme))
	case u.Path != "/system" && u.Path != "/session":
		return refuse("it ends in neither /system nor /session")
	case (u.Hostname() != "") != (u.Scheme == "qemu+ssh"):
		return refuse("a host goes with qemu+ssh, and with nothing else")
	}
	to := URI{Instance: u.Path[1:], Host: u.Hostname(), User: u.User.Username(), Port: u.Port()}
	if _, ok := u.User.Password(); ok {
		return refuse("a password has no place in it")
	}
	for key, values := range u.Query() {
		if key != "socket" || len(values) > 1 {
			return refuse("of parameters there is socket, once")
		}
		to.Socket = values[0]
	}
	switch {
	case to.Socket != "" && (!filepath.IsAbs(to.Socket) || !uriWord.MatchString(to.Socket)):
		return refuse("the socket is no absolute path of plain characters")
	case to.Host != "" && !uriWord.MatchString(to.Host), to.User != "" && !uriWord.MatchString(to.User):
		return refuse("host or user has characters that ssh could take for something else")
	}
	return to, nil
}
