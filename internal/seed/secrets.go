package seed

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"bake/internal/secret"
)

// secretsLabel is what the guest looks for.
const secretsLabel = "bakesecret"

// secretsDate tells the volume from the seed by its UUID as well.
var secretsDate = epoch.AddDate(0, 0, 1)

// WriteSecrets makes path the volume that carries a host's secrets, 0600, in the
// way in which Write makes an image. Without secrets it removes an earlier volume,
// and nothing that is none. The error shows no secret.
//
// The volume is ISO 9660 with the label "bakesecret" and has flat files: s000,
// s001 and so on are the secrets, in the order of their names, and index has a
// line "FILE NAME" for each. The names of secrets are no file names here: ISO
// 9660 knows less letters, and shorter names.
func WriteSecrets(path string, all []secret.Value) error {
	if err := writeSecrets(path, all); err != nil {
		return fmt.Errorf("writing secrets %s: %w", path, err)
	}
	return nil
}

func writeSecrets(path string, all []secret.Value) error {
	sweepSecrets(path)
	if len(all) > 0 {
		files, err := secretFiles(all)
		if err != nil {
			return err
		}
		return writeImage(path, secretsLabel, iso9660Of(secretsLabel, secretsDate), files)
	}
	if err := replaceableImage(path, secretsLabel); err != nil {
		return err
	}
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// sweepSecrets removes what a killed run left beside path in the instant in which
// it replaced a volume, as far as it can. A file that is young may be that of a
// run which lives.
func sweepSecrets(path string) {
	dir, prefix := filepath.Dir(path), "."+filepath.Base(path)+"."
	entries, _ := os.ReadDir(dir)
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), prefix) {
			continue
		}
		if info, err := entry.Info(); err == nil && info.Mode().IsRegular() && time.Since(info.ModTime()) > time.Minute {
			_ = os.Remove(filepath.Join(dir, entry.Name()))
		}
	}
}

// SecretFiles returns the files of the volume that WriteSecrets makes, by name, for whoever
// makes it himself. The error shows no secret.
func SecretFiles(all []secret.Value) (map[string][]byte, error) {
	if len(all) == 0 {
		return nil, nil
	}
	files, err := secretFiles(all)
	return byName(files), err
}

// secretFiles lists the files of the volume in the order of their names.
func secretFiles(all []secret.Value) ([]file, error) {
	var index strings.Builder
	files := []file{{name: "index"}}
	total := 0
	for i, s := range all {
		content := s.Reveal()
		if len(content) == 0 {
			return nil, fmt.Errorf("%s is empty", s)
		}
		total += len(content)
		name := fmt.Sprintf("s%03d", i)
		fmt.Fprintf(&index, "%s %s\n", name, s.Name)
		files = append(files, file{name, content})
	}
	if total > maxBytes || len(all) > 1000 {
		return nil, fmt.Errorf("%d secrets with %d bytes are more than 1000 or %d MiB", len(all), total, maxBytes>>20)
	}
	files[0].data = []byte(index.String())
	return files, nil
}
