package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"bake/internal/kubevirt"
	"bake/internal/publish"
)

type exportOptions struct {
	hosts      []string
	generation string
	output     string         // file or directory; "" for standard output
	secrets    string         // include, omit or "" where nobody has said
	place      *publish.Place // whose images are named; nil for none
	kube       kubevirt.Options
	night      kubevirt.Night
}

// exportWords are the words of bake export, with the options that go with each alone.
var exportWords = map[string][]string{
	"":         {},
	"kubevirt": {"from", "plain-http", "image", "namespace", "network", "storage-class", "pull-secret", "import-secret", "ephemeral", "secrets"},
	"libvirt":  {},
	"nightly": {"name", "image", "namespace", "pull-secret", "at", "shards", "to", "plain-http", "with-secrets", "config-claim", "cache-claim",
		"credentials", "key-secret", "kvm", "cpu", "memory", "storage"},
}

func exportCommand(a *app) *cli.Command {
	return &cli.Command{
		Name:      "export",
		Usage:     "write a generation in the form in which something else runs it",
		ArgsUsage: "kubevirt | libvirt | nightly",
		Description: `Nothing is changed anywhere but at --output: who runs the machine applies what is there.

   kubevirt  YAML for a Kubernetes cluster with KubeVirt and CDI: VirtualMachine, disks,
             NetworkPolicy, and the Secrets and ConfigMaps of the seed; kubectl apply
             --server-side -f takes it
   libvirt   a directory or, if the name ends in .tar, an archive, with all that a
             hypervisor without bake needs, checksums, and a README that says how
   nightly   YAML for a CronJob whose pods do bake nightly, each a shard of the hosts

--from names the place that bake publish --to had: the image of the same generation is
looked up there, its signatures are checked, and the objects name it by its digest.
Without it the root disk is the base image from its publisher, which is enough for a
host with payload: none.

With kubevirt and no --output the YAML is printed. A host with secrets wants to be told
what is to become of them then: --secrets include, or omit.

What the host file asks for and KubeVirt does not have is an error at its line, or a
warning where the machine is no less shut without it.`,
		Flags: append(append(hostFlags(), exportNightFlags()...),
			&cli.StringFlag{Name: "generation", Value: "current", Usage: "current, latest or a generation's name"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "directory; with libvirt also a file that ends in .tar, with nightly a file"},
			&cli.StringFlag{Name: "from", Usage: "oci://REGISTRY/REPOSITORY that bake publish has sent the generation to (default: the base image from its publisher)"},
			&cli.BoolFlag{Name: "plain-http", Usage: "look it up at other machines without TLS, too; with nightly: let the pods do so"},
			&cli.StringFlag{Name: "image", Usage: "the image itself, REGISTRY/REPOSITORY@sha256:DIGEST or :TAG, believed as it is, where --from cannot reach it; with nightly: the one that make image makes"},
			&cli.StringFlag{Name: "namespace", Usage: "namespace of the objects (default: where kubectl applies them)"},
			&cli.StringFlag{Name: "network", Usage: "NetworkAttachmentDefinition for the card (default: the pod network)"},
			&cli.StringFlag{Name: "storage-class", Usage: "of the disks (default: the cluster's)"},
			&cli.StringFlag{Name: "pull-secret", Usage: "Secret with which nodes pull the image"},
			&cli.StringFlag{Name: "import-secret", Usage: "Secret with which CDI imports the image"},
			&cli.BoolFlag{Name: "ephemeral", Usage: "root disk of the image that is new at each start, instead of one that stays"},
			&cli.StringFlag{Name: "secrets", Usage: "include or omit the host's secrets (default: include with --output)"},
		),
		Action: func(c *cli.Context) error {
			o, err := a.readExport(c)
			if err != nil {
				return err
			}
			do := map[string]func(context.Context, *app, exportOptions) error{"kubevirt": exportKubeVirt, "libvirt": exportLibvirt, "nightly": exportNightly}
			return do[c.Args().First()](c.Context, a, o)
		},
	}
}

func (a *app) readExport(c *cli.Context) (o exportOptions, err error) {
	word := c.Args().First()
	if _, known := exportWords[word]; !known || word == "" || c.Args().Len() > 1 {
		return o, usageError{fmt.Errorf("bake export wants one word, kubevirt, libvirt or nightly, there is %q (bake export --help shows the options)", c.Args().Slice())}
	}
	if _, err = checkWords(c, exportWords); err != nil {
		return o, err
	}
	if word == "nightly" {
		return a.readExportNight(c)
	}
	if o.hosts, err = a.hosts(c); err != nil {
		return o, err
	}
	o.generation, o.output, o.secrets = c.String("generation"), c.String("output"), c.String("secrets")
	o.kube = kubevirt.Options{Image: c.String("image"), Namespace: c.String("namespace"), Network: c.String("network"),
		StorageClass: c.String("storage-class"), PullSecret: c.String("pull-secret"), ImportSecret: c.String("import-secret"),
		Ephemeral: c.Bool("ephemeral")}
	if err := a.readExportPlace(c, &o); err != nil {
		return o, err
	}
	switch {
	case o.secrets != "" && o.secrets != "include" && o.secrets != "omit":
		err = fmt.Errorf("--secrets %q: want include or omit", o.secrets)
	case o.output == "" && word == "libvirt":
		err = errors.New("--output names the directory, or the file that ends in .tar")
	case o.output == "" && a.json:
		err = errors.New("--json says what was written: it goes with --output")
	case len(o.hosts) > 1 && word == "libvirt":
		err = fmt.Errorf("--output names one bundle, there are %d hosts", len(o.hosts))
	case len(o.hosts) > 1 && o.kube.Image != "":
		err = fmt.Errorf("--image is of one host's generation, there are %d hosts: --from finds each", len(o.hosts))
	}
	if err != nil {
		return o, usageError{err}
	}
	return o, nil
}

// readExportPlace reads where the image is, and whether the options go together.
func (a *app) readExportPlace(c *cli.Context, o *exportOptions) (err error) {
	checked := o.kube
	if address := c.String("from"); address != "" {
		if o.kube.Image != "" {
			return usageError{errors.New("--from and --image both name an image: give one")}
		}
		o.place, err = publish.Open(address, a.publishWays(c.Bool("plain-http")))
		if err == nil && o.place.Image("") == "" {
			err = errors.New("a cluster pulls images from a registry, want oci://REGISTRY/REPOSITORY")
		}
		if err != nil {
			return usageError{fmt.Errorf("--from: %w", err)}
		}
		checked.Image = o.place.Image("sha256:" + strings.Repeat("0", 64)) // which one, the place says
	} else if c.IsSet("plain-http") {
		return usageError{errors.New("--plain-http goes with --from")}
	}
	if err := checked.Check(); err != nil {
		return usageError{err}
	}
	return nil
}
