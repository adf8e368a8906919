package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"bake/internal/cluster"
	"bake/internal/kubevirt"
	"bake/internal/publish"
)

func exportNightFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "name", Value: "bake-nightly", Usage: "with nightly: of the CronJob"},
		&cli.StringFlag{Name: "at", Value: "0 3 * * *", Usage: "with nightly: when, as cron has it, in UTC"},
		&cli.IntFlag{Name: "shards", Value: 3, Usage: "with nightly: pods, each with its part of the hosts"},
		&cli.StringFlag{Name: "to", Usage: "with nightly: s3://BUCKET/PREFIX for what is proven"},
		&cli.StringFlag{Name: "config-claim", Usage: "with nightly: PersistentVolumeClaim that has hosts/, layers/ and keys/"},
		&cli.StringFlag{Name: "cache-claim", Usage: "with nightly: PersistentVolumeClaim for caches, of many nodes (default: empty each time)"},
		&cli.StringFlag{Name: "credentials", Usage: "with nightly: Secret with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL_S3"},
		&cli.StringFlag{Name: "key-secret", Usage: "with nightly: Secret whose signing.key signs generations"},
		&cli.StringFlag{Name: "kvm", Usage: "with nightly: resource by which pods get /dev/kvm, such as devices.kubevirt.io/kvm (default: emulation)"},
		&cli.StringFlag{Name: "cpu", Value: "2", Usage: "with nightly: processors of a pod"},
		&cli.StringFlag{Name: "memory", Value: "6Gi", Usage: "with nightly: memory of a pod: a machine that is tried, and a GiB"},
		&cli.StringFlag{Name: "storage", Value: "60Gi", Usage: "with nightly: most of an empty cache"},
		&cli.BoolFlag{Name: "with-secrets", Usage: "with nightly: as bake publish has it"},
	}
}

func (a *app) readExportNight(c *cli.Context) (o exportOptions, err error) {
	for _, flag := range []string{"host", "all", "generation"} {
		if c.IsSet(flag) {
			return o, usageError{fmt.Errorf("--%s does not go with bake export nightly: its pods do all hosts", flag)}
		}
	}
	o.output = c.String("output")
	o.night = kubevirt.Night{Name: c.String("name"), Namespace: c.String("namespace"), Image: c.String("image"), Schedule: c.String("at"),
		Shards: c.Int("shards"), Place: c.String("to"), ConfigClaim: c.String("config-claim"), CacheClaim: c.String("cache-claim"),
		Credentials: c.String("credentials"), KeySecret: c.String("key-secret"), PullSecret: c.String("pull-secret"), KVM: c.String("kvm"),
		CPU: c.String("cpu"), Memory: c.String("memory"), StorageLimit: c.String("storage"), PlainHTTP: c.Bool("plain-http"), WithSecrets: c.Bool("with-secrets")}
	if err := o.night.Check(cluster.MaxShards); err != nil {
		return o, usageError{err}
	}
	place, err := publish.Open(o.night.Place, publish.Options{Getenv: func(string) string { return "" }}) // whose server it is, the pods know
	if err == nil && !place.HasConditions() {
		err = errors.New("a registry has no conditional writes, without which a host could be promoted twice: want s3://BUCKET/PREFIX")
	}
	if err != nil {
		return o, usageError{fmt.Errorf("--to: %w", err)}
	}
	if o.output == "" && a.json {
		return o, usageError{errors.New("--json says what was written: it goes with --output")}
	}
	return o, nil
}

// exportNightly writes or prints the CronJob.
func exportNightly(_ context.Context, a *app, o exportOptions) error {
	text, err := o.night.Export()
	if err != nil {
		return err
	}
	if o.output == "" {
		_, err = a.Stdout.Write(text)
		return err
	}
	if err := writeWhole(o.output, text, true); err != nil {
		return err
	}
	return a.printPath(o.night.Name, o.output)
}
