package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"bake/internal/adopt"
	"bake/internal/cloudinit"
	"bake/internal/diag"
	"bake/internal/lint"
)

// foreignView is what --json shows of user-data from elsewhere.
type foreignView struct {
	Parts     []partView `json:"parts"`
	Lost      []lostView `json:"lost"`
	Uncertain []string   `json:"uncertain"`
}

type partView struct {
	At string `json:"at"`
	cloudinit.Part
}

type lostView struct {
	At      string `json:"at"`
	Path    string `json:"path,omitempty"`
	Message string `json:"message"`
}

// maxUserData is more than any machine is given.
const maxUserData = 16 << 20

// readForeign reads a file that may be a pipe, or a device without an end.
func readForeign(name string) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxUserData+1))
	if err == nil && len(data) > maxUserData {
		err = diag.List{{Pos: diag.Position{File: name}, Message: fmt.Sprintf("the file has more than the %d bytes that are read", maxUserData)}}
	}
	return data, err
}

// checkForeign says what cloud-init makes of foreign user-data. Losing any of
// it is an error.
func (a *app) checkForeign(result cloudinit.Result) error {
	lost := result.Lost()
	view := foreignView{Parts: []partView{}, Lost: []lostView{}, Uncertain: append([]string{}, result.Uncertain...)}
	for _, part := range result.Parts {
		view.Parts = append(view.Parts, partView{part.Pos.String(), part})
	}
	for _, problem := range lost {
		view.Lost = append(view.Lost, lostView{problem.Pos.String(), problem.Path, problem.Message})
	}
	var text strings.Builder
	for _, part := range view.Parts {
		fmt.Fprintf(&text, "%s  %s  %s: %s\n", part.At, diag.Printable(part.Name), diag.Printable(part.Type), part.Verdict)
	}
	for _, reason := range result.Uncertain {
		a.say("not known here: %s", diag.Printable(reason))
	}
	err := error(nil)
	if a.json {
		err = a.printJSON(view)
	} else {
		_, err = fmt.Fprint(a.Stdout, text.String())
	}
	if err != nil {
		return err
	}
	return lost.Err()
}

// lintFile checks a file that is not bake's; one that is no #cloud-config by itself as
// what cloud-init makes of it. Uncertain is what only the guest knows.
func lintFile(name string, data []byte) (found []lint.Finding, uncertain []string, err error) {
	found, err = lint.File(name, data)
	var more *lint.UnsupportedError
	if !errors.As(err, &more) {
		return found, nil, err
	}
	result, err := cloudinit.Merge(name, data, cloudinit.Options{})
	if err != nil {
		return nil, nil, err
	}
	lost := result.Lost()
	if len(result.Parts) == 0 && len(lost) == 0 {
		lost.Add(diag.Problem{Pos: diag.Position{File: name, Line: 1, Col: 1}, Width: 1, Message: "nothing of the user-data is applied: it has no part that cloud-init finds",
			Hint: "of a MIME message, boundary= in its head is what stands behind -- before each part"})
	}
	var parts []lint.Part
	for _, part := range result.Parts {
		if part.Verdict != cloudinit.Lost {
			parts = append(parts, lint.Part{Name: part.Name, Type: part.Type, Text: part.Text, Pos: part.Pos})
		}
	}
	return lint.Foreign(lost, result.Config, parts...), result.Uncertain, nil
}

// writeAdopted writes what a plan says, or nothing.
func (a *app) writeAdopted(o importOptions, result cloudinit.Result, plan adopt.Plan, key string) error {
	for _, note := range plan.Notes {
		a.say("%s", diag.Printable(note))
	}
	for i := range plan.Left {
		if plan.Left[i].Pos.File == "" { // it is about the file as a whole
			plan.Left[i].Pos.File = o.file
		}
	}
	if len(plan.Left) > 0 && (!o.partial || result.Fatal != "") {
		return plan.Left.Err()
	}
	for _, left := range plan.Left {
		a.say("left out: %s: %s", left.Pos, diag.Printable(left.Message))
	}
	for _, lost := range result.Lost() {
		if lost.Path != "" && !strings.HasPrefix(lost.Message, "the part") {
			a.say("%s: %s: cloud-init would have dropped it", lost.Pos, diag.Printable(lost.Path))
		}
	}
	if err := a.writeNew(plan.Files, o.dryRun); err != nil {
		return err
	}
	if key == "" {
		a.say("hosts/%s.yaml has no key yet: put your public key under admin.keys (ssh-keygen -t ed25519 makes one)", o.name)
	}
	hostFile := filepath.Join(a.config, "hosts", o.name+".yaml")
	if key != "" && !o.dryRun {
		if _, err := a.prepare([]string{o.name}); err != nil {
			a.say("%s and its layers are written, and need a hand:", hostFile)
			return err
		}
	}
	return a.printPath(o.name, hostFile)
}

// writeNew writes files below the configuration directory, none of which may
// exist. If one cannot be written, none is left. The host file comes last: until
// it is there, nobody reads the others.
func (a *app) writeNew(files []adopt.File, dryRun bool) (err error) {
	var written []string
	defer func() {
		if err != nil {
			for i := len(written) - 1; i >= 0; i-- {
				os.Remove(written[i]) // a directory with something of others in it stays
			}
		}
	}()
	for _, f := range files {
		path := filepath.Join(a.config, f.Path)
		if rest, ok := strings.CutPrefix(f.Path, "layers/"); ok && a.layers != "" {
			path = filepath.Join(a.layers, rest)
		}
		if _, err := os.Lstat(path); err == nil {
			return usageError{fmt.Errorf("%s exists already; nothing was written", path)}
		}
		if dryRun {
			a.say("would write %s", path)
			continue
		}
		made, err := makeDirs(filepath.Dir(path))
		written = append(written, made...)
		if err != nil {
			return err
		}
		file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, f.Mode)
		if err != nil {
			return err
		}
		written = append(written, path)
		_, err = file.Write(f.Content)
		if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
			return err
		}
	}
	return nil
}

// makeDirs makes a directory and those above it, and says which are new.
func makeDirs(dir string) (made []string, err error) {
	if _, err := os.Stat(dir); err == nil {
		return nil, nil
	}
	if above := filepath.Dir(dir); above != dir {
		if made, err = makeDirs(above); err != nil {
			return made, err
		}
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return made, err
	}
	return append(made, dir), nil
}
