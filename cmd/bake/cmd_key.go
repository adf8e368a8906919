package main

import (
	"fmt"

	"github.com/urfave/cli/v2"
)

type keyOptions struct {
	word, file, name string
	dryRun           bool
}

func keyCommand(a *app) *cli.Command {
	return &cli.Command{
		Name:      "key",
		Usage:     "the key that signs generations, and those whose signatures count",
		ArgsUsage: "create | show | export | trust [FILE.pub] | rotate",
		Description: `bake makes a key when it bakes for the first time, and signs each generation with it.
As long as there is no directory keys/ beside hosts/, this key is the only one whose
signatures count here; otherwise those in keys/, NAME.pub each, are.

   create   make the key
   show     which key signs here, and whose signatures count
   export   print the public key, as openssl and cosign read it
   trust    write a public key into keys/: that in FILE, or this user's own
   rotate   take a new key; keys/ gets it, and keeps the old one until you remove it

The private key is $BAKE_KEY, or bake/signing.key in $XDG_DATA_HOME or ~/.local/share;
--signing-key names another. docs/provenance.md says what signatures protect.`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "name", Usage: "with trust and rotate: name of the file in keys/ (default: the key's id)"},
			&cli.BoolFlag{Name: "dry-run", Usage: "only say what would be written"},
		},
		Action: func(c *cli.Context) error {
			o := keyOptions{word: c.Args().First(), file: c.Args().Get(1), name: c.String("name"), dryRun: c.Bool("dry-run")}
			if err := o.check(c.NArg()); err != nil {
				return err
			}
			return a.keyWord(o)
		},
	}
}

// check refuses words and options that do not go together.
func (o keyOptions) check(words int) error {
	most := 1
	switch o.word {
	case "":
		return usageError{fmt.Errorf("want create, show, export, trust or rotate (bake key --help)")}
	case "trust":
		most = 2
	case "create", "show", "export", "rotate":
	default:
		return usageError{fmt.Errorf("unexpected argument %q: want create, show, export, trust or rotate", o.word)}
	}
	switch {
	case words > most:
		return usageError{fmt.Errorf("bake key %s: there is an argument too many", o.word)}
	case o.name != "" && !isPlainName(o.name):
		return usageError{fmt.Errorf("--name %q: want letters, digits, ., _, @ and -", o.name)}
	case o.name != "" && o.word != "trust" && o.word != "rotate":
		return usageError{fmt.Errorf("--name goes with bake key trust and rotate")}
	case o.dryRun && (o.word == "show" || o.word == "export"):
		return usageError{fmt.Errorf("--dry-run does not go with bake key %s, which changes nothing", o.word)}
	}
	return nil
}

func (a *app) keyWord(o keyOptions) error {
	switch o.word {
	case "create":
		return a.createKey(o)
	case "export":
		return a.exportKey()
	case "trust":
		return a.trustKey(o)
	case "rotate":
		return a.rotateKey(o)
	}
	return a.showKeys()
}
