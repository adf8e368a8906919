package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"bake/internal/diag"
	"bake/internal/publish"
)

// publishOptions are those of bake publish and bake fetch.
type publishOptions struct {
	hosts       []string
	address     string
	generation  string
	key         string // fetch: file of the public key that must have signed
	withSecrets bool   // publish: although the words show some
	dry         bool
	locked      bool // fetch: the host is ours
	place       *publish.Place
	point       func(ctx context.Context, sent *publish.Sent) error // has current point to what was sent; nil for a.point
}

// placeFlags are the options of both.
func placeFlags(generation string) []cli.Flag {
	return append(hostFlags(),
		&cli.StringFlag{Name: "generation", Value: "current", Usage: generation},
		&cli.BoolFlag{Name: "plain-http", Usage: "speak to other machines without TLS, too"})
}

func publishCommand(a *app) *cli.Command {
	return &cli.Command{
		Name:  "publish",
		Usage: "put a generation into a registry of container images or a bucket, for other hypervisors",
		Description: `The generation becomes an image that KubeVirt boots as a containerDisk, or the same bytes
as objects in a bucket of S3; manifest and signatures lie beside it. What is there is not
sent again: a fleet's base image travels once. The tag HOST-GENERATION is set last, and
HOST-current if it is what the host's link current points to.

The volume of secrets never travels. A generation in whose words a secret stands is
refused, exit status 3: --with-secrets sends it to a place as closed as this machine.

Who we are is what docker login wrote down or, for s3://, AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY, AWS_REGION and AWS_ENDPOINT_URL_S3. docs/publish.md has more.`,
		Flags: append(placeFlags("current, latest or a generation's name"),
			&cli.StringFlag{Name: "to", Usage: "oci://REGISTRY/REPOSITORY or s3://BUCKET/PREFIX"},
			&cli.BoolFlag{Name: "with-secrets", Usage: "send it although secrets stand in its words"},
			&cli.BoolFlag{Name: "dry-run", Usage: "only say what would be sent"}),
		Action: func(c *cli.Context) error {
			o, err := a.publishOptions(c, "to")
			if err != nil {
				return err
			}
			return runPublish(c.Context, a, o)
		},
	}
}

func fetchCommand(a *app) *cli.Command {
	return &cli.Command{
		Name:  "fetch",
		Usage: "get a published generation, if somebody who counts has signed it",
		Description: `Signatures are checked before anything large is fetched, and every file is held against
what was signed before the generation gets its name. A fetch that is interrupted goes on
where it ended. A generation that was asked for as current must have proven its claims,
and becomes current here; a place that offers an older one than it did before is refused.

Whose signatures count is as bake attest verify has it.`,
		Flags: append(placeFlags("current, or a generation's name"),
			&cli.StringFlag{Name: "from", Usage: "oci://REGISTRY/REPOSITORY or s3://BUCKET/PREFIX"},
			&cli.StringFlag{Name: "key", Usage: "file of the public key that must have signed (default: those in keys/, or the own one)"},
			&cli.BoolFlag{Name: "dry-run", Usage: "check signatures, and only say what would be fetched"}),
		Action: func(c *cli.Context) error {
			o, err := a.publishOptions(c, "from")
			if err != nil {
				return err
			}
			if o.generation == "latest" {
				return usageError{errors.New("--generation latest: only what is current, or a name, can be fetched")}
			}
			return runFetch(c.Context, a, o)
		},
	}
}

// publishOptions reads what the command line says; the flag is that of the place.
func (a *app) publishOptions(c *cli.Context, flag string) (o publishOptions, err error) {
	o = publishOptions{address: c.String(flag), generation: c.String("generation"), key: c.String("key"),
		withSecrets: c.Bool("with-secrets"), dry: c.Bool("dry-run")}
	if err := noArguments(c); err != nil {
		return o, err
	}
	if o.address == "" {
		return o, usageError{fmt.Errorf("--%s names the place: oci://REGISTRY/REPOSITORY or s3://BUCKET/PREFIX", flag)}
	}
	if o.hosts, err = a.hosts(c); err != nil {
		return o, err
	}
	o.place, err = publish.Open(o.address, a.publishWays(c.Bool("plain-http")))
	var wrong *publish.AddressError
	if errors.As(err, &wrong) {
		err = usageError{fmt.Errorf("--%s: %w", flag, err)}
	}
	return o, err
}

// each does something for one host after the other; a host's trouble is not another's,
// unless nobody waits any more.
func (o publishOptions) each(ctx context.Context, do func(name string) error) (failed error) {
	for _, name := range o.hosts {
		err := do(name)
		var list diag.List
		switch {
		case err == nil:
		case errors.As(err, &list) && len(o.hosts) == 1:
			return list
		default:
			failed = errors.Join(failed, fmt.Errorf("%s: %w", name, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return failed
}
