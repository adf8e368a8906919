package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/urfave/cli/v2"

	"bake/internal/host"
	"bake/internal/layer"
)

func initCommand(a *app) *cli.Command {
	return &cli.Command{
		Name:      "init",
		Usage:     "write a commented host file",
		ArgsUsage: "HOST",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "key", Usage: "public key of the admin (default: ~/.ssh/id_ed25519.pub)"}},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usageError{errors.New("name the host: bake init HOST")}
			}
			return runInit(a, c.Args().First(), c.String("key"))
		},
	}
}

var hostFile = template.Must(template.New("host").Parse(`# The machine {{.Name}}. bake image --host {{.Name}} makes it, bake verify --host {{.Name}} --boot
# proves it, bake layers shows what there is.
host: {{.Name}}

# The image to start from, a local qcow2 file; bake image --base FILE names another.
base: ./base.qcow2

machine:
  vcpus: 2
  memory: 3GiB
  disk: 60GiB            # virtual size of the root disk
  firmware: uefi         # or uefi-secure
  tpm: false
  images: /var/lib/libvirt/images/bake   # where the hypervisor keeps this machine's files

network:
  mac: auto              # derived from the name, the same at every rebuild
  dhcp: true             # or addresses, gateways and nameservers:
  # addresses: [192.0.2.10/24, "2001:db8::10/64"]
  # gateways: [192.0.2.1]
  # nameservers: [192.0.2.53]
  attach: {network: default}   # libvirt network, or {bridge: br0}

# The one person who can log in, with a key and in no other way.
admin:
  name: ops
  keys:{{if .Key}}
    - {{.Key}}{{else}} []             # put your public key here: a line of ~/.ssh/id_ed25519.pub{{end}}

# What is done to the machine, in this order.
layers:
  - ssh
  - ufw: {allow_tcp: [22]}
  - sysctl: {swappiness: 10}

# cloud-init's own keys, merged last. One that contradicts a layer is an error
# unless it is listed under override.
# cloud-config:
#   timezone: Etc/UTC
# override: [timezone]
`))

func runInit(a *app, name, keyFile string) error {
	path := filepath.Join(a.config, "hosts", name+".yaml")
	if !host.IsName(name) {
		return usageError{fmt.Errorf("%q is no name for a host: want a-z, 0-9 and -, starting with a letter, at most 63", name)}
	}
	key, err := a.adminKey(keyFile)
	if err != nil {
		return err
	}
	var content bytes.Buffer
	if err := hostFile.Execute(&content, struct{ Name, Key string }{name, key}); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return usageError{fmt.Errorf("%s exists already; it was left as it is", path)}
	}
	if err != nil {
		return err
	}
	_, err = file.Write(content.Bytes())
	if err := errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	if key == "" {
		a.say("%s has no key yet: put your public key under admin.keys", path)
	}
	return a.printPath(name, path)
}

// adminKey reads a public key from a file, or from the usual place if there is
// one.
func (a *app) adminKey(path string) (string, error) {
	usual := path == ""
	if usual {
		path = filepath.Join(a.Getenv("HOME"), ".ssh", "id_ed25519.pub")
	}
	data, err := os.ReadFile(path)
	if usual && err != nil {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	key := strings.TrimSpace(string(data))
	if err := layer.CheckKey(key); err != nil {
		return "", usageError{fmt.Errorf("--key %s: %w", path, err)}
	}
	return key, nil
}
