package runtime

import (
	"encoding/binary"
	"fmt"
	"io"
)

const (
	frameHeader = 8
	// maxFrame bounds one message of the multiplexed output. Docker's own are below 17 KiB: it cuts lines at 16 KiB.
	maxFrame = 1 << 20
)

// frameReader passes on multiplexed output until a header claims more than maxFrame. stdcopy makes room for whatever a header
// says, up to 4 GiB, so a stream out of step, or a daemon gone mad, could otherwise end this process.
type frameReader struct {
	stream io.Reader
	header [frameHeader]byte
	have   int // Bytes of the header that were read.
	left   int // Bytes of the message after it that are still to come.
}

// Read implements io.Reader.
func (r *frameReader) Read(b []byte) (int, error) {
	n, err := r.stream.Read(b)
	for rest := b[:n]; len(rest) > 0; {
		if r.left > 0 {
			skip := min(r.left, len(rest))
			r.left, rest = r.left-skip, rest[skip:]
			continue
		}
		took := copy(r.header[r.have:], rest)
		r.have, rest = r.have+took, rest[took:]
		if r.have < frameHeader {
			break
		}
		size := binary.BigEndian.Uint32(r.header[frameHeader-4:])
		if size > maxFrame {
			return 0, fmt.Errorf("a message of the output claims %d bytes, more than %d", size, maxFrame)
		}
		r.have, r.left = 0, int(size)
	}
	return n, err
}
