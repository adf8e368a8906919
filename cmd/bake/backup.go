package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"bake/internal/archive"
	"bake/internal/backup"
	"bake/internal/host"
	"bake/internal/secret"
)

// readBackup returns what a command line and backup.yaml say.
func (a *app) readBackup(c *cli.Context) (word string, o backupOptions, err error) {
	if word, err = checkWords(c, backupWords); err != nil {
		return word, o, err
	}
	if o.hosts, err = a.hosts(c); err != nil {
		return word, o, err
	}
	known := host.Names(a.config)
	for _, name := range o.hosts {
		if !slices.Contains(known, name) {
			return word, o, &host.UnknownError{Name: name, Dir: filepath.Join(a.config, "hosts"), Known: known}
		}
	}
	o.address, o.uri, o.identity, o.subset = c.String("address"), c.String("connect"), c.String("identity"), c.String("subset")
	o.dry, o.prune, o.isUserUnit = c.Bool("dry-run"), c.Bool("prune"), c.Bool("user")
	o.create, o.revive, o.policy = c.Bool("create"), c.Bool("revive"), c.String("policy")
	o.lock = backup.Lock{Days: c.Uint("days"), Compliance: c.Bool("compliance")}
	switch {
	case o.subset != "" && !backup.IsSubset(o.subset):
		return word, o, usageError{fmt.Errorf("--subset %q: want a part such as 5%% or an amount such as 1G", o.subset)}
	case o.address != "" && !isAddress(o.address):
		return word, o, usageError{fmt.Errorf("--address %q: want an IP address or a name", o.address)}
	case o.address != "" && len(o.hosts) > 1:
		return word, o, usageError{errors.New("--address is of one machine, there are several hosts")}
	case o.policy != "" && o.policy != string(backup.Writer) && o.policy != string(backup.Pruner):
		return word, o, usageError{fmt.Errorf("--policy %q: want writer or pruner", o.policy)}
	case o.lock.Days < 1 || o.lock.Days > 36500:
		return word, o, usageError{fmt.Errorf("--days %d: want 1 to 36500", o.lock.Days)}
	case o.uri != "":
		err = checkURI(o.uri)
	}
	if err == nil {
		o.config, err = backup.Read(a.config)
	}
	o.unit = unitOptions{word: "backup", about: "Store the state of machines", hosts: c.StringSlice("host"), at: c.String("at"),
		user: c.String("run-as"), onFailure: c.String("on-failure"), dir: c.String("unit-dir")}
	return word, o, err
}

// backupRoot is where backups are made ready.
func (a *app) backupRoot() (string, error) {
	if dir := a.stateDir(); dir != "" {
		return filepath.Join(dir, "backup"), nil
	}
	return "", lackError{errors.New("there is no directory to make backups ready in: set HOME or XDG_STATE_HOME")}
}

// backupPlan finds the stores of a host, as a role sees them.
func (a *app) backupPlan(ctx context.Context, o backupOptions, name string, as backup.Role) (backup.Plan, error) {
	plan, err := o.config.Plan(ctx, name, as, secret.Finder{Dir: a.config, Getenv: a.Getenv, Tools: a.Tools})
	if err != nil || plan.Restic == nil {
		return plan, err
	}
	if dir := a.Getenv("XDG_CACHE_HOME"); filepath.IsAbs(dir) {
		plan.Restic.Cache = filepath.Join(dir, "bake", "restic")
	} else if home := a.Getenv("HOME"); filepath.IsAbs(home) {
		plan.Restic.Cache = filepath.Join(home, ".cache", "bake", "restic")
	}
	last := time.Time{}
	plan.Restic.Progress = func(done, total int64) {
		if now := time.Now(); now.Sub(last) >= redraw || done == total {
			last = now
			a.stage("%s: storing, %d %% of %s", name, done*100/max(total, 1), amount(total))
		}
	}
	return plan, nil
}

// enterBackup takes the lock of a host's backups.
func (a *app) enterBackup(name string, plan backup.Plan) (*backup.Place, error) {
	root, err := a.backupRoot()
	if err != nil {
		return nil, err
	}
	place, err := backup.Enter(root, name)
	if busy := (*backup.BusyError)(nil); errors.As(err, &busy) {
		return nil, lackError{fmt.Errorf("%s: %w", name, err)}
	}
	if err == nil && plan.Restic != nil {
		plan.Restic.Hold = place.Hold()
	}
	return place, err
}

// backupHost fetches the state of one machine and stores it. What is returned is what
// came of it, whatever the error.
func (a *app) backupHost(ctx context.Context, name string, o backupOptions) (record backup.Record, err error) {
	record.Began = time.Now().UTC().Truncate(time.Second)
	h, err := host.Load(a.config, name, a.shelf())
	if err != nil {
		return record, err
	}
	plan, err := a.backupPlan(ctx, o, name, backup.Writer)
	if err != nil {
		return record, err
	}
	place, err := a.enterBackup(name, plan)
	if err != nil {
		return record, err
	}
	defer func() {
		record.Ended, record.Exit = time.Now().UTC().Truncate(time.Second), exitCode(err)
		if err != nil {
			record.Reason = strings.TrimPrefix(firstLine(err.Error()), name+": ")
		}
		err = errors.Join(err, place.Write(record), place.Leave())
	}()
	root, err := a.backupRoot()
	if err != nil {
		return record, err
	}
	before, err := backup.ReadRecord(root, name)
	if err != nil {
		a.warn("%s: what its last backup came to cannot be read: %v", name, err)
	}
	record.LastGood = before.LastGood
	stage, err := place.Stage()
	if err != nil {
		return record, err
	}
	manifest, err := a.fetchState(ctx, h, plan, o, stage)
	if err != nil {
		return record, fmt.Errorf("%s: %w", name, err)
	}
	job := backup.Job{Dir: stage, Host: name, Generation: manifest.Generation, Time: manifest.Frozen}
	for _, store := range plan.Stores() { // what one store cannot, the other may
		a.stage("%s: storing in %s", name, store)
		saved, failed := store.Save(ctx, job)
		a.stage("")
		if failed != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", name, failed))
			continue
		}
		record.Saved = append(record.Saved, saved)
		a.say("%s: %s in %s: state of %s, %s, %s of it new", name, saved.ID, store, saved.Time.Local().Format(time.DateTime), amount(saved.Bytes), amount(saved.Added))
	}
	if err == nil {
		record.LastGood = manifest.Frozen.UTC()
	}
	return record, err
}

// fetchState receives what a machine sends of its state.
func (a *app) fetchState(ctx context.Context, h *host.Host, plan backup.Plan, o backupOptions, stage string) (m archive.Manifest, err error) {
	address := cmp.Or(o.address, plan.Address)
	if uri := cmp.Or(o.uri, h.Domain.URI); uri != "" && address == "" {
		if address, err = a.addressOf(ctx, h, uri); err != nil {
			return m, err
		}
	}
	more := []string{"-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=30", "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4", "-o", "ForwardAgent=no"}
	if identity := cmp.Or(o.identity, plan.Identity); identity != "" {
		more = append(more, "-i", identity, "-o", "IdentitiesOnly=yes")
	}
	program, argv, err := a.login(h, address, more...)
	if err != nil {
		return m, err
	}
	argv[len(argv)-3] = plan.User // behind -l
	if limit := plan.Limit(); limit > 0 {
		limited, stop := context.WithTimeoutCause(ctx, limit, remoteError{fmt.Errorf("the machine had not sent its state within %v", limit)})
		defer stop()
		ctx = limited
	}
	cmd := exec.CommandContext(ctx, program, argv[1:]...)
	cmd.Env = os.Environ() // its agent, its home: as bake ssh
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
	cmd.WaitDelay = 5 * time.Second
	var said tailOf
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return m, err
	}
	if err := cmd.Start(); err != nil {
		return m, fmt.Errorf("starting ssh: %w", err)
	}
	counted := &counter{Reader: out, shown: time.Now(), show: func(n int64) { a.stage("%s: fetching, %s", h.Name, amount(n)) }}
	m, err = archive.Receive(ctx, counted, stage, archive.Limits{})
	a.stage("")
	_ = out.Close() // so that ssh ends, however it was
	failed := cmd.Wait()
	var refused *archive.RefusedError
	switch {
	case ctx.Err() != nil:
		return m, context.Cause(ctx)
	case failed != nil && (err == nil || errors.As(err, &refused)): // it broke off, and that is why
		return m, remoteError{fmt.Errorf("the machine gave no state: %s (%w)", cmp.Or(said.line(), "ssh said nothing"), failed)}
	case err != nil:
		return m, err
	case m.Host != h.Name:
		return m, claimError{fmt.Errorf("the machine at work calls itself %q", m.Host)}
	}
	for _, database := range m.Databases {
		if database.Integrity != "ok" {
			a.warn("%s: the database %s is damaged in the machine: %s", h.Name, database.Path, database.Integrity)
		}
	}
	return m, nil
}

// addressOf asks libvirt where a machine is.
func (a *app) addressOf(ctx context.Context, h *host.Host, uri string) (string, error) {
	w := &watched{name: h.Name, host: h}
	if err := a.ask(ctx, w, uri); err != nil {
		return "", err
	}
	d, err := w.domainOf()
	if err := errors.Join(err, w.Close()); err != nil {
		return "", err
	}
	if d.State != "running" {
		return "", lackError{fmt.Errorf("there is no machine at work: %s", d)}
	}
	if len(d.Addresses) == 0 {
		return "", nil
	}
	return d.Addresses[0], nil
}

// counter tells now and then how much was read.
type counter struct {
	io.Reader
	n     int64
	shown time.Time
	show  func(int64)
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += int64(n)
	if now := time.Now(); now.Sub(c.shown) >= redraw {
		c.shown = now
		c.show(c.n)
	}
	return n, err
}

// tailOf keeps the end of what is written to it.
type tailOf []byte

func (t *tailOf) Write(p []byte) (int, error) {
	const most = 4 << 10
	*t = append(*t, p...)
	*t = bytes.Clone((*t)[max(0, len(*t)-most):])
	return len(p), nil
}

// line is the last line that says something.
func (t *tailOf) line() (last string) {
	for line := range strings.Lines(string(*t)) {
		last = cmp.Or(strings.TrimSpace(line), last)
	}
	return last
}
