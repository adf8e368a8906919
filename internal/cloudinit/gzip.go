package cloudinit

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
)

// maxPlain is how much is decompressed at most.
const maxPlain = 64 << 20

var errTooBig = errors.New("decompressed, this has more than 64 MiB")

// gunzip decompresses as Python's gzip does: members may follow one another,
// with zeros behind each.
func gunzip(data []byte) ([]byte, error) {
	if len(data) == 0 {
		return data, nil
	}
	in := bytes.NewReader(data)
	reader, err := gzip.NewReader(in)
	if err != nil {
		return nil, err
	}
	var plain bytes.Buffer
	for {
		reader.Multistream(false)
		if _, err := io.Copy(&plain, io.LimitReader(reader, maxPlain+1-int64(plain.Len()))); err != nil {
			return nil, err
		}
		if plain.Len() > maxPlain {
			return nil, errTooBig
		}
		for {
			b, err := in.ReadByte()
			if err != nil {
				return plain.Bytes(), nil
			}
			if b != 0 {
				in.UnreadByte()
				break
			}
		}
		if err := reader.Reset(in); err != nil {
			return nil, err
		}
	}
}
