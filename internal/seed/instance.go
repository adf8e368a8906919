package seed

import (
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"bake/internal/lazy"
)

// instanceLine is how Build writes the instance id.
var instanceLine = lazy.Regexp(`(?m)^instance-id: "([^"\n]{1,200})"$`)

// InstanceAt returns the instance id of the seed that path holds, "" where there
// is none, or none of bake's. A machine that was provisioned by it does not act on
// a seed with the same id.
func InstanceAt(path string, format Format) string {
	for _, f := range filesAt(path, format) {
		if m := instanceLine.FindSubmatch(f.data); f.name == "meta-data" && m != nil {
			return string(m[1])
		}
	}
	return ""
}

func filesAt(path string, format Format) []file {
	if format == Dir {
		data, err := os.ReadFile(filepath.Join(path, "meta-data"))
		if err != nil {
			return nil
		}
		return []file{{"meta-data", data}}
	}
	at, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a FIFO must not hold us up
	if err != nil {
		return nil
	}
	defer at.Close()
	image, err := io.ReadAll(io.LimitReader(at, 2*maxBytes+1))
	if err != nil || len(image) > 2*maxBytes || replaceableImage(path, label) != nil || len(image) == 0 {
		return nil
	}
	files, err := codecs[format].decode(image, nil)
	if err != nil {
		return nil
	}
	return files
}
