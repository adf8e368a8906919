// Package layers holds the built-in layers as data.
//
// Each folder is one layer; internal/layer reads them, and only cmd/bake sees
// this package.
//
// # Decisions
//
// 2026-11: the layers are embedded in the binary, so that one file is the whole
// tool. go:embed drops file modes; a layer names its exceptions under `files`.
package layers

import "embed"

// FS has one folder per built-in layer. The second pattern takes a layer's
// whole files/ tree, dotfiles included.
//
//go:embed */layer.yaml all:*/files
var FS embed.FS
