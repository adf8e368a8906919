package host

import (
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"strconv"

	"bake/internal/lazy"
)

// URI is a libvirt URI of the kinds that bake speaks:
//
//	qemu:///system                        this machine; ?socket=PATH for another socket
//	qemu:///session                       this user's own daemon
//	qemu+ssh://[user@]host[:port]/system  another machine; ?keyfile=PATH for the key to show it
type URI struct {
	Instance   string // "system" or "session"
	Socket     string // "" for the usual ones
	Host       string // "" for this machine
	User, Port string // "" for ssh's own choice
	Keyfile    string // of ssh's key, "" for its own choice
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
		return URI{}, &clusterError{text}
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
		switch {
		case key == "socket" && len(values) == 1:
			to.Socket = values[0]
		case key == "keyfile" && len(values) == 1:
			to.Keyfile = values[0]
		default:
			return refuse("of parameters there are socket and keyfile, once each")
		}
	}
	switch {
	case to.Socket != "" && (!filepath.IsAbs(to.Socket) || !uriWord.MatchString(to.Socket)):
		return refuse("the socket is no absolute path of plain characters")
	case to.Host != "" && !uriWord.MatchString(to.Host) && !isIPv6(to.Host), to.User != "" && !uriWord.MatchString(to.User):
		return refuse("host or user has characters that ssh could take for something else")
	case to.Keyfile != "" && (!filepath.IsAbs(to.Keyfile) || !uriWord.MatchString(to.Keyfile) || to.Host == ""):
		return refuse("the keyfile is ssh's, an absolute path of plain characters")
	}
	if n, err := strconv.ParseUint(to.Port, 10, 16); to.Port != "" && (err != nil || n == 0) {
		return refuse("the port is none")
	}
	return to, nil
}

// isIPv6 says whether a host is an address that begins with what no word does, such as ::1.
func isIPv6(host string) bool {
	address, err := netip.ParseAddr(host)
	return err == nil && address.Is6() && (address.Zone() == "" || uriWord.MatchString(address.Zone()))
}
