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
	"bake/internal/nightly"
	"bake/internal/notify"
	"bake/internal/unit"
)

// unitOptions say what units to write and where.
type unitOptions struct {
	word, about              string   // of the command, and what it does
	more                     []string // arguments
	writes                   []string // directories besides bake's own
	hosts                    []string // none: all that there will be
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
	if o.dry {
		a.say("nothing was written")
		return nil
	}
	if err := makePlaces(job.Writes, job.User); err != nil {
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
	if err != nil {
		return j, err
	}
	paths := []*string{&program, new(string), new(string), new(string)}
	*paths[1], *paths[2], *paths[3] = a.config, a.out, a.layers
	for _, path := range paths {
		if *path != "" {
			if *path, err = filepath.Abs(*path); err != nil {
				return j, err
			}
		}
	}
	j.Dir, j.Argv = *paths[1], []string{program, "--config", *paths[1], "--out", *paths[2]}
	if *paths[3] != "" {
		j.Argv = append(j.Argv, "--layers", *paths[3])
	}
	j.Argv = append(append(j.Argv, o.unit.word), o.unit.more...)
	for _, name := range o.unit.hosts {
		j.Argv = append(j.Argv, "--host", name)
	}
	home := a.Getenv("HOME")
	if !o.isUserUnit {
		u, err := user.Lookup(o.unit.user)
		if !account.MatchString(o.unit.user) || err != nil {
			return j, usageError{fmt.Errorf("--run-as %q: there is no such user", o.unit.user)}
		}
		if home != u.HomeDir {
			home = u.HomeDir
			j.Env = append(j.Env, "HOME="+home)
		}
		groups := []string{"kvm"}
		if len(o.config.Deploy) > 0 {
			groups = append(groups, "libvirt") // whose members may use its socket
		}
		for _, group := range groups {
			if _, err := user.LookupGroup(group); err == nil {
				j.Groups = append(j.Groups, group)
			}
		}
	} else {
		j.EnvFile = filepath.Join(home, ".config", "bake", o.unit.word+".env")
	}
	j.Writes = append([]string{*paths[1], *paths[2]}, o.unit.writes...)
	for _, place := range [][2]string{{"XDG_CACHE_HOME", ".cache"}, {"XDG_STATE_HOME", ".local/state"}} {
		dir := a.Getenv(place[0])
		if filepath.IsAbs(dir) {
			j.Env = append(j.Env, place[0]+"="+dir)
		} else {
			dir = filepath.Join(home, place[1])
		}
		j.Writes = append(j.Writes, filepath.Join(dir, "bake"))
	}
	return j, nil
}

// putUnit writes a file in one step.
func putUnit(path, content string) error {
	temporary := path + ".new"
	if err := os.WriteFile(temporary, []byte(content), 0o644); err != nil {
		return err
	}
	return errors.Join(os.Chmod(temporary, 0o644), os.Rename(temporary, path))
}

// runNights shows the last nights, a line each, and how each host fared, a letter a
// night.
func runNights(a *app, o nightOptions) error {
	if o.nights < 1 {
		return usageError{fmt.Errorf("--nights %d: want at least 1", o.nights)}
	}
	dir, err := a.nightDir()
	if err != nil {
		return err
	}
	journal := nightly.Journal{Dir: dir}
	nights, err := journal.Nights(o.nights)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(append([]nightly.Night{}, nights...))
	}
	if len(nights) == 0 {
		a.say("there was no night yet")
		return nil
	}
	if page := journal.Page(); page != "" {
		a.say("the same as a page: %s", page)
	}
	return a.printLines(nightStrips(nights, journal.IsBusy()))
}

var letters = map[nightly.Verdict]string{nightly.Unchanged: "=", nightly.Promoted: "P", nightly.Failed: "F", nightly.Undeployed: "u", nightly.CouldNot: "x"}

func nightStrips(nights []nightly.Night, busy bool) []string {
	var lines, hosts []string
	strips := map[string]string{}
	for i, n := range nights {
		state := fmt.Sprintf("exit %d, %s", n.Exit, n)
		switch {
		case len(n.Hosts) == 0 && len(n.Notes) > 0:
			state = firstLine(n.Notes[0])
		case !n.Ended.IsZero():
		case busy && i == len(nights)-1:
			state = "under way"
		default:
			state = "was cut off"
		}
		lines = append(lines, fmt.Sprintf("%6d  %s  %s", n.Number, n.Began.Local().Format("2006-01-02 15:04"), state))
		for _, o := range n.Hosts {
			if _, ok := strips[o.Host]; !ok {
				hosts = append(hosts, o.Host)
				strips[o.Host] = strings.Repeat(".", i)
			}
			letter := cmp.Or(letters[o.Verdict], "?")
			if o.Verdict.IsGood() && !o.IsGood() {
				letter = "r"
			}
			strips[o.Host] += letter
		}
		for host, strip := range strips {
			strips[host] = strip + strings.Repeat(".", i+1-len(strip))
		}
	}
	lines = append(lines, "")
	for _, host := range hosts {
		lines = append(lines, fmt.Sprintf("%-20s %s", host, strips[host]))
	}
	return append(lines, "", "P promoted, = unchanged, F a claim failed, u not deployed, r no restore proven, x could not, . not asked for")
}

// runNightLogs shows what nights said, by way of journalctl.
func runNightLogs(a *app, o nightOptions) error {
	program, err := a.Tools.Find("journalctl")
	if err != nil {
		return err
	}
	argv := []string{"journalctl", "--unit", unit.Job{Word: notify.Nightly}.Name() + ".service"}
	if o.isUserUnit {
		argv[1] = "--user-unit"
	}
	if o.follow {
		argv = append(argv, "--follow")
	}
	if err := a.Exec(program, argv); err != nil {
		return fmt.Errorf("starting %s: %w", program, err)
	}
	return nil
}
