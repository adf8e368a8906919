package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"bake/internal/host"
	"bake/internal/lazy"
	"bake/internal/status"
)

func sshCommand(a *app) *cli.Command {
	return &cli.Command{
		Name:      "ssh",
		Usage:     "log in to a machine that has attested, as the admin of its host file",
		ArgsUsage: "[-- COMMAND...]",
		Description: `Runs the ssh of this machine, with your keys and your configuration. The machine
is known by OUT/HOST/known_hosts, which bake status writes from its console, and
by nothing else: no other file, no DNS, no question whether to trust it.

The exit status is ssh's: that of COMMAND, or 255 when ssh itself failed.`,
		Flags: append(hostFlags(),
			&cli.StringFlag{Name: "address", Usage: "address or name to connect to (default: the host file's first static or reserved address, or what libvirt says)"},
			&cli.StringFlag{Name: "connect", Aliases: []string{"c"}, Usage: "libvirt URI to ask for the address (default: domain.uri of the host file, if it has one)"}),
		Action: func(c *cli.Context) error {
			names, err := a.hosts(c)
			uri, address := c.String("connect"), c.String("address")
			switch {
			case err != nil:
				return err
			case len(names) > 1:
				return usageError{errors.New("want one host to log in to")}
			case uri != "" && address != "":
				return usageError{errors.New("--address and --connect exclude each other")}
			case uri != "" && checkURI(uri) != nil:
				return checkURI(uri)
			}
			return runSSH(c.Context, a, names[0], address, uri, c.Args().Slice())
		},
	}
}

func runSSH(ctx context.Context, a *app, name, address, uri string, command []string) error {
	h, err := host.Load(a.config, name, a.shelf())
	if err != nil {
		return err
	}
	if uri == "" && !h.Network.Reserve.IsValid() && len(h.Network.Addresses) == 0 {
		uri = h.Domain.URI
	}
	if uri != "" && address == "" {
		if address, err = a.addressOf(ctx, h, uri); err != nil {
			return err
		}
	}
	program, argv, err := a.login(h, address)
	if err != nil {
		return err
	}
	if len(command) > 0 {
		argv = append(append(argv, "--"), command...) // ssh looks for options behind the address, too
	}
	if err := a.Exec(program, argv); err != nil {
		return fmt.Errorf("starting %s: %w", program, err)
	}
	return nil
}

// login is the command line that logs in to a machine as its admin, by what is known
// of it, and the program.
func (a *app) login(h *host.Host, address string, more ...string) (program string, argv []string, err error) {
	name := h.Name
	if address == "" && h.Network.Reserve.IsValid() {
		address = h.Network.Reserve.String()
	}
	if address == "" {
		if len(h.Network.Addresses) == 0 {
			return "", nil, usageError{fmt.Errorf("%s has no static or reserved address in %s: name one with --address, or the libvirt to ask with --connect", name, h.File)}
		}
		address = h.Network.Addresses[0].Addr().String()
	}
	if !isAddress(address) {
		return "", nil, usageError{fmt.Errorf("--address %q: want an IP address or a name", address)}
	}
	known, err := filepath.Abs(filepath.Join(a.out, name, status.KnownFile))
	if err != nil {
		return "", nil, err
	}
	if _, err := os.Stat(known); err != nil {
		return "", nil, fmt.Errorf("nobody knows the host keys of %s yet: bake status --host %s reads them from its console once it has attested (%w)", name, name, err)
	}
	options, err := trust(name, known)
	if err != nil {
		return "", nil, err
	}
	if program, err = a.Tools.Find("ssh"); err != nil {
		return "", nil, err
	}
	return program, append(append(append([]string{"ssh"}, more...), options...), "-l", h.Admin.Name, "--", address), nil
}

var serverName = lazy.Regexp(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,252}[A-Za-z0-9])?$`)

func isAddress(text string) bool {
	_, err := netip.ParseAddr(text)
	return err == nil || serverName.MatchString(text)
}

// trust are the options by which ssh knows a machine by one file alone. They win
// over whatever its configuration files say; the alias also ends any exception for
// this machine itself. A connection that is open already is not used: nobody knows
// how its server was known.
func trust(name, known string) ([]string, error) {
	if strings.ContainsAny(known, "\"\n") || strings.Contains(known, "${") {
		return nil, fmt.Errorf("ssh cannot be told of a file of that name: %q", known)
	}
	known = strings.ReplaceAll(strings.ReplaceAll(known, `\`, `\\`), "%", "%%")
	if strings.ContainsAny(known, " \t'#\\") {
		known = `"` + known + `"`
	}
	var options []string
	for _, option := range []string{
		"UserKnownHostsFile=" + known, "GlobalKnownHostsFile=/dev/null", "KnownHostsCommand=none", "VerifyHostKeyDNS=no",
		"StrictHostKeyChecking=yes", "HostKeyAlias=" + name, "UpdateHostKeys=no", "ControlPath=none",
	} {
		options = append(options, "-o", option)
	}
	return options, nil
}
