package artifact

import (
	"os"
	"path/filepath"
)

// Before finds, of the generations of the same host, the one that was committed last before
// this one and is proven; ok is false when there is none. The order is Prune's. What
// cannot be read is no generation.
func (g Generation) Before(proven func(Generation) bool) (before Generation, ok bool) {
	mine, err := os.Lstat(g.Path(manifestName))
	if err != nil {
		return before, false
	}
	dir := filepath.Dir(g.Dir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return before, false
	}
	best := aged{}
	for _, entry := range entries {
		if !entry.IsDir() || vetGeneration(entry.Name()) != nil || entry.Name() == filepath.Base(g.Dir) {
			continue
		}
		other, err := load(filepath.Join(dir, entry.Name()))
		if err != nil {
			continue
		}
		info, err := os.Lstat(other.Path(manifestName))
		if err == nil && info.ModTime().Before(mine.ModTime()) && info.ModTime().After(best.committed) && proven(other) {
			best = aged{other, info.ModTime()}
		}
	}
	return best.Generation, best.Dir != ""
}
