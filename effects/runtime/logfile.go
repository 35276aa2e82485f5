package runtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/rlaaudgjs5638/hersh/events"
)

// The files beside a log file: what was in it before it grew too large, and the cursor.
const (
	rotatedSuffix = ".1"
	cursorSuffix  = ".cursor"
	maxCursor     = 1 << 20
	maxRuns       = 16 // Runs of a batch that are shipped one by one.
)

// cursor accounts for a log file: whose output it ends with, and how far that has come.
type cursor struct {
	Container string   `json:"container"`
	Attempt   uint64   `json:"attempt"`
	Position  position `json:"position"`
	Offset    int64    `json:"offset"`            // Length of the log file; what is behind it is not accounted for.
	Written   int64    `json:"written"`           // Bytes of the container's output that went to log files.
	Pending   *batch   `json:"pending,omitempty"` // May not have been shipped.
}

// batch is the last piece of the log file: runs of the two streams in turn.
type batch struct {
	Start int64            `json:"start"` // Where it begins in the container's output.
	First events.LogStream `json:"first"` // The stream of the first run.
	Sizes []int            `json:"sizes"` // Bytes of each run.
}

// piece is what is shipped at once. It begins at an offset in the container's output.
type piece struct {
	stream events.LogStream
	offset int64
	data   []byte
}

// add appends a message of a stream.
func (b *batch) add(stream events.LogStream, size int) {
	switch {
	case len(b.Sizes) == 0:
		b.First, b.Sizes = stream, append(b.Sizes, size)
	case stream == b.stream(len(b.Sizes)-1):
		b.Sizes[len(b.Sizes)-1] += size
	default:
		b.Sizes = append(b.Sizes, size)
	}
}

// stream returns the stream of a run.
func (b *batch) stream(run int) events.LogStream {
	if (run%2 == 0) == (b.First == events.LogStdout) {
		return events.LogStdout
	}
	return events.LogStderr
}

func (b *batch) size() (total int64) {
	for _, size := range b.Sizes {
		total += int64(size)
	}
	return total
}

func (b *batch) valid() bool {
	for _, size := range b.Sizes {
		if size <= 0 {
			return false
		}
	}
	return b.Start >= 0 && (b.First == events.LogStdout || b.First == events.LogStderr)
}

// pieces cuts the batch, whose text is data, into what is to be shipped, the same at any time. The order of the two streams
// is kept unless a program switches between them all the time: shipping each line by itself would then be too slow, and
// what it printed on each goes together.
func (b *batch) pieces(data []byte) []piece {
	var all []piece
	streams := []events.LogStream{""} // Runs of any stream, in their order.
	if len(b.Sizes) > maxRuns {
		streams = []events.LogStream{b.First, b.stream(1)}
	}
	for _, stream := range streams {
		offset, rest := b.Start, data
		joined := piece{stream: stream, offset: -1}
		for run, size := range b.Sizes {
			text := rest[:size]
			switch {
			case stream == "":
				all = append(all, piece{b.stream(run), offset, text})
			case stream == b.stream(run):
				if joined.offset < 0 {
					joined.offset = offset
				}
				joined.data = append(joined.data, text...)
			}
			offset, rest = offset+int64(size), rest[size:]
		}
		if stream != "" {
			all = append(all, joined)
		}
	}
	return all
}

// loadCursor returns the cursor of a log file, or an empty one when there is none.
func loadCursor(path string) (cursor, error) {
	file, err := os.Open(path + cursorSuffix) // #nosec G304 -- The path is made of a parsed ID.
	if errors.Is(err, fs.ErrNotExist) {
		return cursor{}, nil
	}
	if err != nil {
		return cursor{}, fmt.Errorf("open cursor: %w", err)
	}
	defer file.Close()
	var c cursor
	if err := json.NewDecoder(io.LimitReader(file, maxCursor)).Decode(&c); err != nil {
		return cursor{}, fmt.Errorf("read cursor: %w", err)
	}
	if p := c.Pending; c.Offset < 0 || p != nil && (!p.valid() || p.size() > c.Offset) {
		return cursor{}, errors.New("read cursor: its numbers make no sense")
	}
	return c, nil
}

// save replaces the cursor of a log file in one step.
func (c cursor) save(path string) error {
	data, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode cursor: %w", err)
	}
	name := path + cursorSuffix
	if err := os.WriteFile(name+".new", data, 0o600); err != nil {
		return fmt.Errorf("write cursor: %w", err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		return fmt.Errorf("replace cursor: %w", err)
	}
	return nil
}

// logFile is a file that is appended to.
type logFile struct {
	path string
	file *os.File
	size int64
}

func openLogFile(path string) (*logFile, error) {
	file, err := os.OpenFile(filepath.Clean(path), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log file: %w", err)
	}
	info, err := file.Stat()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open log file: %w", err), file.Close())
	}
	return &logFile{path: path, file: file, size: info.Size()}, nil
}

// append writes data at the end, wholly or not at all.
func (l *logFile) append(data []byte) error {
	if _, err := l.file.WriteAt(data, l.size); err != nil {
		return errors.Join(fmt.Errorf("append to log file: %w", err), l.cut(l.size))
	}
	l.size += int64(len(data))
	return nil
}

// cut shortens the file.
func (l *logFile) cut(size int64) error {
	if err := l.file.Truncate(size); err != nil {
		return fmt.Errorf("cut log file: %w", err)
	}
	l.size = size
	return nil
}

// tail returns the last bytes of the file.
func (l *logFile) tail(size int64) ([]byte, error) {
	data := make([]byte, size)
	if _, err := l.file.ReadAt(data, l.size-size); err != nil {
		return nil, fmt.Errorf("read log file: %w", err)
	}
	return data, nil
}

// rotate puts the file aside, in the place of the one before, and begins a new one. After an error it can be called again.
func (l *logFile) rotate() error {
	if err := os.Rename(l.path, l.path+rotatedSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("rotate log file: %w", err)
	}
	fresh, err := openLogFile(l.path)
	if err != nil {
		return err
	}
	err = l.file.Close()
	*l = *fresh
	if err != nil {
		return fmt.Errorf("close rotated log file: %w", err)
	}
	return nil
}

func (l *logFile) close() error { return l.file.Close() }
