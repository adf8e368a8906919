package secret

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"
	"golang.org/x/sys/unix"

	"bake/internal/diag"
	"bake/internal/doc"
	"bake/internal/tool"
)

// A Finder knows where relative paths start and what the environment says.
type Finder struct {
	Dir    string // the host file's directory
	Getenv func(string) string
	Tools  tool.Box
}

// Resolve returns the secrets behind references, in their order. The error is a
// diag.List for what is wrong with files, variables and identities, a
// *tool.MissingError or a *CommandError.
func (f Finder) Resolve(ctx context.Context, refs []Ref) ([]Value, error) {
	values := make([]Value, len(refs))
	var problems diag.List
	for i, ref := range refs {
		content, err := f.find(ref)
		var wrong *problem
		if errors.As(err, &wrong) {
			problems.Add(wrong.at.Problem(wrong.path, wrong.hint, "%s", wrong.message))
			continue
		}
		values[i] = New(ref.Name, content)
	}
	if err := problems.Err(); err != nil {
		return nil, err
	}
	for i, ref := range refs {
		if ref.Command == nil {
			continue
		}
		content, err := f.run(ctx, ref)
		if err != nil {
			return nil, err
		}
		values[i] = New(ref.Name, content)
	}
	return values, nil
}

// problem is what is wrong with a reference, without its content.
type problem struct {
	at                  *doc.Node
	path, message, hint string
}

func (p *problem) Error() string { return p.message }

// find gets a secret that needs no program. The error is a *problem.
func (f Finder) find(ref Ref) ([]byte, error) {
	wrong := func(hint, format string, args ...any) error {
		return &problem{ref.at, ref.path, fmt.Sprintf(format, args...), hint}
	}
	var content []byte
	var err error
	switch {
	case ref.File != "":
		content, err = readPrivate(f.path(ref.File))
	case ref.Env != "":
		if content = []byte(f.Getenv(ref.Env)); len(content) == 0 {
			return nil, wrong("export it before bake runs", "the variable %s is not set, or empty", ref.Env)
		}
	case ref.Age != "":
		content, err = f.decrypt(ref)
	default: // a command
		return nil, nil
	}
	var own *problem
	var open *openError
	switch {
	case errors.As(err, &own):
		return nil, err
	case errors.As(err, &open):
		return nil, wrong(open.hint, "%s", open)
	case err != nil:
		return nil, wrong("", "%v", err)
	case len(content) == 0:
		return nil, wrong("", "the secret is empty")
	case len(content) > maxSize:
		return nil, wrong("put data onto the machine in another way", "the secret has more than %d KiB", maxSize>>10)
	}
	return content, nil
}

// path returns where a path of the host file leads.
func (f Finder) path(name string) string {
	if rest, ok := strings.CutPrefix(name, "~/"); ok {
		return filepath.Join(f.Getenv("HOME"), rest)
	}
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(f.Dir, name)
}

// openError says why a file cannot be used, and what to do.
type openError struct {
	path, message, hint string
}

func (e *openError) Error() string { return e.path + ": " + e.message }

// open opens a regular file, which a FIFO cannot keep waiting. The error is an
// *openError.
func open(path string) (*os.File, fs.FileInfo, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		var inner *fs.PathError
		if errors.As(err, &inner) {
			err = inner.Err
		}
		return nil, nil, &openError{path: path, message: err.Error()}
	}
	info, err := file.Stat()
	if err == nil && info.Mode().IsRegular() {
		return file, info, nil
	}
	_ = file.Close() // it was only looked at
	return nil, nil, &openError{path: path, message: "this is not a regular file"}
}

// readPrivate reads a file which is its owner's alone, and no more of it than
// shows that it is too large.
func readPrivate(path string) ([]byte, error) {
	file, info, err := open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, &openError{path: path, hint: "chmod 600 " + path,
			message: fmt.Sprintf("its mode %04o lets others than its owner at it", mode)}
	}
	return io.ReadAll(io.LimitReader(file, maxSize+1))
}

// maxCipher bounds what is read of an encrypted file: the secret, and room for
// many recipients.
const maxCipher = 1 << 20

func (f Finder) decrypt(ref Ref) ([]byte, error) {
	identities, err := f.identities(ref)
	if err != nil {
		return nil, err
	}
	path := f.path(ref.Age)
	file, _, err := open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	source := bufio.NewReader(io.LimitReader(file, maxCipher))
	var cipher io.Reader = source
	if start, _ := source.Peek(len(armor.Header)); string(start) == armor.Header {
		cipher = armor.NewReader(source)
	}
	plain, err := age.Decrypt(cipher, identities...)
	var none *age.NoIdentityMatchError
	switch {
	case errors.As(err, &none):
		return nil, &openError{path: path, message: "it is encrypted for others than this identity",
			hint: "name another with identity: PATH, or encrypt it again"}
	case err != nil:
		return nil, &openError{path: path, message: "it is not a file that age wrote, or damaged"}
	}
	content, err := io.ReadAll(io.LimitReader(plain, maxSize+1))
	if err != nil {
		return nil, &openError{path: path, message: "it is damaged"}
	}
	return content, nil
}

// identities reads the keys that decrypt. What age says of a bad one may quote
// it, and is not repeated.
func (f Finder) identities(ref Ref) ([]age.Identity, error) {
	at, where, path := ref.at, ref.path, ""
	hint := "name one with identity: PATH or BAKE_AGE_IDENTITY, or make one: age-keygen -o "
	switch named := f.Getenv("BAKE_AGE_IDENTITY"); {
	case ref.Identity != "":
		at, where, path = ref.identity, strings.TrimSuffix(ref.path, "age")+"identity", f.path(ref.Identity)
	case named != "":
		path = named
	default:
		path = filepath.Join(f.Getenv("HOME"), ".config", "bake", "age.txt")
	}
	content, err := readPrivate(path)
	var wrong *openError
	if errors.As(err, &wrong) {
		if wrong.hint == "" {
			wrong.hint = hint + path
		}
		return nil, &problem{at, where, "the identity " + wrong.Error(), wrong.hint}
	}
	if err != nil {
		return nil, err
	}
	identities, err := age.ParseIdentities(bytes.NewReader(content))
	if err != nil {
		return nil, &problem{at, where, "the identity " + path + " is not a file that age-keygen wrote", ""}
	}
	return identities, nil
}
