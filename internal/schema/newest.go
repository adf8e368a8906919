package schema

import (
	"embed"
	"path"
	"sync"
)

// NewestVersion is the cloud-init whose schemas Newest has: of 2026-08. They are
// Canonical's, under the Apache License 2.0, without their prose. To move them, run
// go test ./internal/schema -run TestNewest -from DIR with the directory
// cloudinit/config/schemas of another release, and write its version here.
const NewestVersion = "26.2"

//go:embed newest/*.json
var newestFiles embed.FS

// Newest returns the schemas of the newest cloud-init that is known here, for what
// is checked without an image.
var Newest = sync.OnceValue(func() Set {
	files := map[string][]byte{}
	entries, err := newestFiles.ReadDir("newest")
	for _, entry := range entries {
		if err == nil {
			files[entry.Name()], err = newestFiles.ReadFile(path.Join("newest", entry.Name()))
		}
	}
	var set Set
	if err == nil {
		set, err = ParseSet(files)
	}
	if err != nil {
		panic(err) // they are part of the program
	}
	return set
})
