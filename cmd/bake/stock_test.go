package main

import (
	"bytes"
	"testing"
	"time"

	"bake/internal/base"
	"bake/internal/origin"
)

// TestStockView: what --json shows has the same keys whatever is known, and a
// pin is called by as little as tells it from others.
func TestStockView(t *testing.T) {
	all := []base.Stocked{
		{SHA256: "a", Size: 1, Added: time.Unix(0, 0).UTC(), Paths: []string{"p"}},
		{SHA256: "b", Users: []string{"zap/1"}, Damaged: true, Pins: []origin.Target{
			{Reference: "ubuntu:24.04", Arch: "amd64"}, {Reference: "debian:13", Arch: "arm64"}, {Reference: "https://h/x.img#sha256=b", Arch: "amd64"}}},
	}
	const want = `[
  {
    "sha256": "a",
    "size": 1,
    "added": "1970-01-01T00:00:00Z",
    "references": [],
    "generations": [],
    "paths": [
      "p"
    ]
  },
  {
    "sha256": "b",
    "size": 0,
    "added": "0001-01-01T00:00:00Z",
    "references": [
      "ubuntu:24.04",
      "debian:13 arm64",
      "https://h/x.img"
    ],
    "generations": [
      "zap/1"
    ],
    "paths": null,
    "damaged": true
  }
]
`
	for list, want := range map[*[]base.Stocked]string{&all: want, {}: "[]\n"} {
		var out bytes.Buffer
		u := &ui{env: env{Stdout: &out}}
		if err := u.printJSON(viewStock(*list)); err != nil || out.String() != want {
			t.Errorf("%v\n%s\nwant\n%s", err, out.String(), want)
		}
	}
}
