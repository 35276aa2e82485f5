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
	maxCursor     = 64 << 10
)

// cursor accounts for a log file: whose output it ends with, and how far that has come.
type cursor struct {
	Container string   `json:"container"`
	Position  position `json:"position"`
	Offset    int64    `json:"offset"`            // Length of the log file; what is behind it is not accounted for.
	Written   int64    `json:"written"`           // Bytes of the container's output that went to log files.
	Pending   *batch   `json:"pending,omitempty"` // May not have been shipped.
}

// batch is the last piece of the log file, of one stream.
type batch struct {
	Stream events.LogStream `json:"stream"`
	Start  int64            `json:"start"` // Where it begins in the container's output.
	Size   int64            `json:"size"`  // Bytes.
}

// loadCursor returns the cursor of a log file, or an empty one when there is none.
func loadCursor(path string) (cursor, error) {
	file, err := os.Open(path + cursorSuffix)
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
	if p := c.Pending; c.Offset < 0 || p != nil && (p.Size < 0 || p.Size > c.Offset) {
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
