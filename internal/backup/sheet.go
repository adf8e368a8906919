package backup

import (
	"fmt"
	"strings"
	"time"

	"bake/internal/secret"
)

// A Sheet is what to print and put away: whoever has it, the password and the key needs
// neither bake nor the machine that it ran on.
type Sheet struct {
	Host     string
	Printed  time.Time
	Bake     string            // its version
	Versions map[string]string // of restic, tar and rsync, as they say it
	Newest   []Snapshot        // in each store, when it was printed
}

// Sheet is the text for a host. Secrets are not on it: what opens the store is put there
// by hand.
func (c Config) Sheet(s Sheet) string {
	p := c.hosts[s.Host].over(c.fallback)
	var out strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&out, format+"\n", args...) }
	line("RECOVERY SHEET of the machine %s, printed %s by bake %s", s.Host, s.Printed.UTC().Format("2006-01-02 15:04 UTC"), s.Bake)
	line("")
	line("Made with")
	for _, program := range []string{"restic", "tar", "rsync"} {
		if version := s.Versions[program]; version != "" {
			line("   %s", version)
		}
	}
	line("Newer versions read what these wrote.")
	for _, n := range s.Newest {
		line("Newest backup in %s: %s, the state of %s", n.Store, n.ID, n.Time.UTC().Format("2006-01-02 15:04:05 UTC"))
	}
	if p.repository != "" {
		line("\nThe repository")
		line("   %s", p.repository)
		line("   password        ______________________________________________")
		line("                   (where backups are made: %s)", whereIs(p.password))
		if keys, isS3 := p.keys[Writer]; isS3 {
			line("   access key      ______________________________________________")
			line("                   (%s)", whereIs(keys.key))
			line("   secret key      ______________________________________________")
			line("                   (%s)", whereIs(keys.secret))
		}
		out.WriteString(p.byHand(s.Host))
	}
	if p.tree != "" {
		line("\nThe directory %s/%s", p.tree, s.Host)
		line("It has a directory for each backup and a link, latest. In its tree/ the files lie as they")
		line("were, but belong to whoever backed up; who they belonged to is in manifest.json. A restore")
		line("that is true to the last bit, from the repository or by bake, is better.")
	}
	line("\nWith bake: bake restore --host %s", s.Host)
	line("If somebody has deleted the objects of a bucket that keeps versions: bake backup bucket --revive --host %s", s.Host)
	return out.String()
}

// byHand is how a repository is restored from with restic and tar alone. The lines that
// begin with $ are commands, and a test runs them.
func (p plan) byHand(host string) string {
	var out strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&out, format+"\n", args...) }
	line("\nTo restore by hand, as root in a directory with room, on a machine that has %s's layers:", host)
	line("$ export RESTIC_REPOSITORY=%s", shell(p.repository))
	line("$ read -rsp 'password: ' RESTIC_PASSWORD; export RESTIC_PASSWORD")
	if _, isS3 := p.keys[Writer]; isS3 {
		line("$ read -rp 'access key: ' AWS_ACCESS_KEY_ID; export AWS_ACCESS_KEY_ID")
		line("$ read -rsp 'secret key: ' AWS_SECRET_ACCESS_KEY; export AWS_SECRET_ACCESS_KEY")
		if p.region != "" {
			line("$ export AWS_DEFAULT_REGION=%s", shell(p.region))
		}
	}
	line("$ restic snapshots --no-lock --tag %s --host %s", tag, shell(host))
	line("$ restic restore latest --no-lock --tag %s --host %s --target ./restored        (or its ID for latest)", tag, shell(host))
	line("$ mkdir -m 0700 ./state")
	line("$ tar -xpf ./restored/%s --numeric-owner --xattrs --xattrs-include='*' --no-acls --exclude=.bake -C ./state", stateFile)
	line("Stop the services, move their old state away whole, and move what is in ./state to its place: never")
	line("unpack over a state, as a database must not meet another's journal. Start the services. Every file's")
	line("SHA-256 and owner is in ./restored/%s. Access lists are among the attributes, hence --no-acls.", manifestFile)
	return out.String()
}

// shell is one word of a command line.
func shell(text string) string {
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// whereIs says where a secret is, and not what.
func whereIs(refs []secret.Ref) string {
	if len(refs) == 0 {
		return "nowhere"
	}
	switch r := refs[0]; {
	case r.File != "":
		return "the file " + r.File
	case r.Env != "":
		return "the variable " + r.Env
	case r.Age != "":
		return "the file " + r.Age + ", encrypted with age"
	default:
		return "what " + strings.Join(r.Command, " ") + " prints"
	}
}
