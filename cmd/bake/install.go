package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"bake/internal/lazy"
	"bake/internal/unit"
)

// unitOptions say what units to write and where.
type unitOptions struct {
	word, about              string   // of the command, and what it does
	more                     []string // arguments
	writes                   []string // directories besides bake's own
	metrics                  []string // directories of text files, which are others' and are not made
	hosts                    []string // none: all that there will be
	selector                 string   // or those that fit each time
	at, user, onFailure, dir string
}

// runInstall shows a service and a timer, writes and enables them.
func runInstall(ctx context.Context, a *app, o nightOptions) error {
	if !o.isUserUnit && o.unit.user == "" {
		o.unit.user = cmp.Or(a.Getenv("SUDO_USER"), userName())
	}
	job, err := a.unitJob(o)
	if err != nil {
		return err
	}
	service, err := job.Service()
	if err != nil {
		return usageError{err}
	}
	timer, err := job.Timer()
	if err != nil {
		return usageError{err}
	}
	dir := o.unit.dir
	if dir == "" {
		if dir, err = a.systemUnits(o.isUserUnit); err != nil {
			return err
		}
	}
	files := [][2]string{{job.Name() + ".service", service}, {job.Name() + ".timer", timer}}
	for _, file := range files {
		if err := a.printLines([]string{"# " + filepath.Join(dir, file[0])}); err != nil {
			return err
		}
		if err := a.printLines(strings.Split(file[1], "\n")); err != nil {
			return err
		}
	}
	for _, path := range append([]string{job.Argv[0]}, job.Writes[:2]...) {
		if !o.isUserUnit && (strings.HasPrefix(path, "/tmp/") || strings.HasPrefix(path, "/var/tmp/")) {
			a.say("%s is in a directory which the service does not see: it has one of its own", path)
		}
	}
	if set := a.unpassed(); len(set) > 0 {
		a.say("%s are set here and not for the service: what it needs of them goes into %s", strings.Join(set, ", "), job.EnvFile)
	}
	if o.dry {
		a.say("nothing was written")
		return nil
	}
	if err := isAnothers(filepath.Join(dir, files[0][0]), service); err != nil {
		return err
	}
	if err := makePlaces(job.Writes[:len(job.Writes)-len(o.unit.metrics)], job.User); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, file := range files {
		if err := putUnit(filepath.Join(dir, file[0]), file[1]); err != nil {
			return err
		}
	}
	a.say("written to %s", dir)
	return a.enable(ctx, job, o)
}

// unpassed are the variables that change what bake does and that no unit has: anybody may
// read a unit, and some of them hold passwords.
func (a *app) unpassed() (set []string) {
	for _, name := range []string{"BAKE_ACCEL", "BAKE_ALLOW_EXPIRED", "BAKE_MIRROR_DEBIAN", "BAKE_MIRROR_PACKAGES", "BAKE_MIRROR_UBUNTU",
		"http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"} {
		if a.Getenv(name) != "" {
			set = append(set, name)
		}
	}
	return set
}

// isAnothers refuses to write over the service of another configuration or directory of
// artifacts: nobody would notice that its nights have ended.
func isAnothers(path, service string) error {
	there, err := os.ReadFile(path)
	if err != nil {
		return nil // there is none, or writing says why not
	}
	of := func(text string) string {
		for line := range strings.Lines(text) {
			if words, ok := strings.CutPrefix(line, "ExecStart="); ok {
				_, words, _ = strings.Cut(words, ` "--config" `)
				words, _, _ = strings.Cut(words, ` "--layers" `)
				words, _, _ = strings.Cut(words, ` "--signing-key" `)
				words, _, _ = strings.Cut(words, ` "nightly"`)
				words, _, _ = strings.Cut(words, ` "backup"`)
				return words
			}
		}
		return ""
	}
	if was := of(string(there)); was != of(service) {
		unit := strings.TrimSuffix(filepath.Base(path), ".service")
		return lackError{fmt.Errorf("%s is there, for another configuration, %s: one machine has one of them (systemctl disable --now %s.timer, and remove it)", path, was, unit)}
	}
	return nil
}

// makePlaces makes the directories that the service writes to, which belong to whom it
// runs as: all else is read-only for it, so it could not make them itself.
func makePlaces(dirs []string, name string) error {
	uid, gid := -1, -1
	if u, err := user.Lookup(name); err == nil && os.Geteuid() == 0 {
		uid, _ = strconv.Atoi(u.Uid)
		gid, _ = strconv.Atoi(u.Gid)
	}
	for _, dir := range dirs {
		var made []string
		for at := dir; ; at = filepath.Dir(at) {
			if _, err := os.Lstat(at); err == nil || at == filepath.Dir(at) {
				break
			}
			made = append(made, at)
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		for _, dir := range made {
			if err := os.Lchown(dir, uid, gid); err != nil {
				return err
			}
		}
	}
	return nil
}

// enable starts the timer, where there is a systemd to do it.
func (a *app) enable(ctx context.Context, job unit.Job, o nightOptions) error {
	var mine []string
	if o.isUserUnit {
		mine = []string{"--user"}
		a.say("a timer of your own runs while you are logged in, or always after: loginctl enable-linger")
	}
	commands := [][]string{append(mine, "daemon-reload"), append(mine, "enable", "--now", job.Name()+".timer")}
	if _, err := os.Stat("/run/systemd/system"); o.unit.dir != "" || err != nil {
		for _, command := range commands {
			a.say("what is left to do: systemctl %s", strings.Join(command, " "))
		}
		return nil
	}
	for _, command := range commands {
		if _, err := a.Tools.Run(ctx, "systemctl", command...); err != nil {
			return err
		}
	}
	a.say("%s.timer is enabled", job.Name())
	return nil
}

func userName() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return ""
}

// systemUnits is where units of the administrator, or the user's own, are.
func (a *app) systemUnits(isUser bool) (string, error) {
	if !isUser {
		return "/etc/systemd/system", nil
	}
	if dir := a.userDir("XDG_CONFIG_HOME", ".config", "systemd/user"); dir != "" {
		return dir, nil
	}
	return "", lackError{errors.New("there is no directory for units: set HOME, or --unit-dir")}
}

var (
	calendar = lazy.Regexp(`^[A-Za-z0-9*:.,/~ _+-]{1,100}$`)
	unitName = lazy.Regexp(`^[A-Za-z0-9:_.@%\\-]{1,200}\.(service|target)$`)
	account  = lazy.Regexp(`^[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?$`)
)

// unitJob is the command line that the service is to run, by absolute paths.
func (a *app) unitJob(o nightOptions) (j unit.Job, err error) {
	switch {
	case !calendar.MatchString(o.unit.at):
		return j, usageError{fmt.Errorf("--at %q: want a time such as 03:00 or Mon..Fri 02:30 (man systemd.time)", o.unit.at)}
	case o.unit.onFailure != "" && !unitName.MatchString(o.unit.onFailure):
		return j, usageError{fmt.Errorf("--on-failure %q: want a service or a target", o.unit.onFailure)}
	case o.isUserUnit && !filepath.IsAbs(a.Getenv("HOME")):
		return j, lackError{errors.New("there is no home of yours: set HOME")}
	case o.isUserUnit && o.unit.user != "":
		return j, usageError{errors.New("--user and --run-as exclude each other: units of your own run as you")}
	}
	j = unit.Job{Word: o.unit.word, About: o.unit.about, At: o.unit.at, OnFailure: o.unit.onFailure, User: o.unit.user, IsUser: o.isUserUnit, EnvFile: "/etc/bake/" + o.unit.word + ".env"}
	program, err := os.Executable()
	config, out, layers, key, usual, identity := a.config, a.out, a.layers, a.key, a.Getenv(keyVariable), a.Getenv("BAKE_AGE_IDENTITY")
	for _, path := range []*string{&program, &config, &out, &layers, &key, &usual, &identity} {
		if err == nil && *path != "" {
			*path, err = filepath.Abs(*path)
		}
	}
	if err != nil {
		return j, err
	}
	j.Dir, j.Argv = config, []string{program, "--config", config, "--out", out}
	for _, option := range [][2]string{{"--layers", layers}, {"--signing-key", key}} {
		if option[1] != "" {
			j.Argv = append(j.Argv, option[0], option[1])
		}
	}
	if usual != "" && key == "" {
		j.Env = append(j.Env, keyVariable+"="+usual)
	}
	if identity != "" {
		j.Env = append(j.Env, "BAKE_AGE_IDENTITY="+identity)
	}
	j.Argv = append(append(j.Argv, o.unit.word), o.unit.more...)
	for _, name := range o.unit.hosts {
		j.Argv = append(j.Argv, "--host", name)
	}
	if o.unit.selector != "" {
		j.Argv = append(j.Argv, "--selector", o.unit.selector)
	}
	home := a.Getenv("HOME")
	if o.isUserUnit {
		j.EnvFile = filepath.Join(home, ".config", "bake", o.unit.word+".env")
	} else if home, err = runAs(&j, home, len(o.config.Deploy) > 0); err != nil {
		return j, err
	}
	j.Writes = append([]string{config, out}, o.unit.writes...)
	// That of the key, too: the first night makes one if there is none.
	for _, place := range [][2]string{{"XDG_CACHE_HOME", ".cache"}, {"XDG_STATE_HOME", ".local/state"}, {"XDG_DATA_HOME", ".local/share"}} {
		dir := a.Getenv(place[0])
		if filepath.IsAbs(dir) {
			j.Env = append(j.Env, place[0]+"="+dir)
		} else {
			dir = filepath.Join(home, place[1])
		}
		j.Writes = append(j.Writes, filepath.Join(dir, "bake"))
	}
	for _, dir := range o.unit.metrics {
		if dir, err = filepath.Abs(dir); err != nil {
			return j, err
		}
		j.Writes = append(j.Writes, dir)
	}
	return j, nil
}

// runAs has the user of a unit of the system found there, with the groups that it takes,
// and returns that user's home.
func runAs(j *unit.Job, home string, deploys bool) (string, error) {
	u, err := user.Lookup(j.User)
	if !account.MatchString(j.User) || err != nil {
		return "", usageError{fmt.Errorf("--run-as %q: there is no such user", j.User)}
	}
	if home != u.HomeDir {
		j.Env = append(j.Env, "HOME="+u.HomeDir)
	}
	groups := []string{"kvm"}
	if deploys {
		groups = append(groups, "libvirt") // whose members may use its socket
	}
	for _, group := range groups {
		if _, err := user.LookupGroup(group); err == nil {
			j.Groups = append(j.Groups, group)
		}
	}
	return u.HomeDir, nil
}

// putUnit writes a file in one step.
func putUnit(path, content string) error {
	temporary := path + ".new"
	if err := os.WriteFile(temporary, []byte(content), 0o644); err != nil {
		return err
	}
	return errors.Join(os.Chmod(temporary, 0o644), os.Rename(temporary, path))
}
