package publish

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	diskDir = "disk/"
	fileDir = "bake/"

	// DiskName is what the disk is called in an image.
	DiskName = diskDir + "disk.qcow2"

	owner     = 107     // qemu, in KubeVirt's images
	ownLayer  = 1 << 20 // bytes from which on a file is a layer of its own
	tarRecord = 512
)

// A Part is a file of a generation.
type Part struct {
	Name   string // in the generation
	Path   string // where it is
	SHA256 string // of its content
	Size   int64  // bytes
}

// layer is a blob: some bytes, perhaps a file, and some more bytes. It implements v1.Layer.
type layer struct {
	title, content string // of the one file in it, see the package comment
	head, tail     []byte
	path           string
	size           int64 // of the file
	hash           v1.Hash
	read           func(int) // told of every byte that is sent
}

// blobOf is a blob of bytes.
func blobOf(content []byte) *layer { return &layer{head: content, hash: hashOf(content)} }

func hashOf(content []byte) v1.Hash {
	sum := sha256.Sum256(content)
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
}

// header writes the record of a file, or of a directory, whose name ends in a slash.
func header(w *tar.Writer, name string, size int64) error {
	h := &tar.Header{Name: name, Size: size, Mode: 0o440, Uid: owner, Gid: owner, Format: tar.FormatUSTAR, Typeflag: tar.TypeReg}
	switch {
	case strings.HasSuffix(name, "/"):
		h.Mode, h.Typeflag = 0o755, tar.TypeDir
	case size >= 8<<30: // more than USTAR can say
		h.Format = tar.FormatPAX
	}
	return w.WriteHeader(h)
}

// fileLayer is a tar of one file.
func fileLayer(title, name string, p Part) (*layer, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	if err := errors.Join(header(w, path.Dir(name)+"/", 0), header(w, name, p.Size)); err != nil {
		return nil, err
	}
	end := make([]byte, (tarRecord-p.Size%tarRecord)%tarRecord+2*tarRecord)
	return &layer{title: title, content: p.SHA256, head: out.Bytes(), path: p.Path, size: p.Size, tail: end}, nil
}

// smallLayer is a tar of several files, in the order given.
func smallLayer(parts []Part) (*layer, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	err := header(w, fileDir, 0)
	for _, p := range parts {
		content, failed := os.ReadFile(p.Path)
		if failed == nil && int64(len(content)) != p.Size {
			failed = fmt.Errorf("%s changes", p.Path)
		}
		if failed != nil {
			return nil, failed
		}
		err = errors.Join(err, header(w, fileDir+p.Name, p.Size))
		_, failed = w.Write(content)
		err = errors.Join(err, failed)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, err
	}
	return blobOf(out.Bytes()), nil
}

// memo remembers the digests of layers with one file, by what is in them: a fleet's base
// image is hashed once.
type memo struct {
	mutex sync.Mutex
	all   map[string]v1.Hash
}

// name fills in the digest of a layer.
func (m *memo) name(ctx context.Context, l *layer) error {
	key := string(l.head[:min(len(l.head), 2*tarRecord)]) + l.content
	m.mutex.Lock()
	known, ok := m.all[key]
	m.mutex.Unlock()
	if ok {
		l.hash = known
		return nil
	}
	from, err := l.open()
	if err != nil {
		return err
	}
	defer from.Close()
	sum := sha256.New()
	if _, err := io.CopyBuffer(sum, patient{ctx, from.SectionReader}, make([]byte, 1<<20)); err != nil {
		return err
	}
	l.hash = v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum.Sum(nil))}
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if m.all == nil {
		m.all = map[string]v1.Hash{}
	}
	m.all[key] = l.hash
	return nil
}

// patient reads until its context ends.
type patient struct {
	ctx context.Context
	io.Reader
}

func (p patient) Read(b []byte) (int, error) {
	if p.ctx.Err() != nil {
		return 0, context.Cause(p.ctx)
	}
	return p.Reader.Read(b)
}

func (l *layer) length() int64 { return int64(len(l.head)) + l.size + int64(len(l.tail)) }

// stream reads a layer.
type stream struct {
	*io.SectionReader
	l    *layer
	file *os.File
}

func (l *layer) open() (*stream, error) {
	s := &stream{l: l}
	if l.path != "" {
		file, err := os.Open(l.path)
		if err != nil {
			return nil, err
		}
		s.file = file
	}
	s.SectionReader = io.NewSectionReader(pieces{s}, 0, l.length())
	return s, nil
}

// Close implements io.Closer.
func (s *stream) Close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

// Read implements io.Reader, and tells of it.
func (s *stream) Read(b []byte) (int, error) {
	n, err := s.SectionReader.Read(b)
	if s.l.read != nil {
		s.l.read(n)
	}
	return n, err
}

// ReadAt implements io.ReaderAt, by which minio reads, and tells of it.
func (s *stream) ReadAt(b []byte, at int64) (int, error) {
	n, err := s.SectionReader.ReadAt(b, at)
	if s.l.read != nil {
		s.l.read(n)
	}
	return n, err
}

// pieces reads the bytes of a stream anywhere.
type pieces struct{ *stream }

func (p pieces) ReadAt(b []byte, at int64) (n int, err error) {
	l := p.l
	for n < len(b) && at < l.length() {
		var got int
		switch body, end := int64(len(l.head)), int64(len(l.head))+l.size; {
		case at < body:
			got = copy(b[n:], l.head[at:])
		case at >= end:
			got = copy(b[n:], l.tail[at-end:])
		default:
			got, err = p.file.ReadAt(b[n:n+int(min(int64(len(b)-n), end-at))], at-body)
			if errors.Is(err, io.EOF) && got > 0 {
				err = nil
			}
			if errors.Is(err, io.EOF) {
				err = fmt.Errorf("%s became shorter: %w", l.path, io.ErrUnexpectedEOF)
			}
		}
		n, at = n+got, at+int64(got)
		if err != nil {
			return n, err
		}
	}
	if n < len(b) {
		err = io.EOF
	}
	return n, err
}

// Digest implements v1.Layer.
func (l *layer) Digest() (v1.Hash, error) { return l.hash, nil }

// DiffID implements v1.Layer.
func (l *layer) DiffID() (v1.Hash, error) { return l.hash, nil }

// Compressed implements v1.Layer.
func (l *layer) Compressed() (io.ReadCloser, error) { return l.open() }

// Uncompressed implements v1.Layer.
func (l *layer) Uncompressed() (io.ReadCloser, error) { return l.open() }

// Size implements v1.Layer.
func (l *layer) Size() (int64, error) { return l.length(), nil }

// MediaType implements v1.Layer.
func (l *layer) MediaType() (types.MediaType, error) { return types.OCIUncompressedLayer, nil }
