package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/rlaaudgjs5638/hersh/events"
)

const (
	maxMeasured = 1_000_000 // Files and folders that are looked at.
	maxNested   = 256       // Folders in folders.
)

// ErrUncountable says that a state folder has so many files, or folders nested so deep, that it is not measured to its end.
var ErrUncountable = errors.New("the state folder has too many files, or folders nested too deep")

// StateSize returns how many bytes of the disk the state folder of a program takes, counting each name of a file with several. It
// follows no link and opens no file. A program that runs may change the folder meanwhile: the size is that of some mixture of
// moments. The error wraps ErrUncountable where there is no end to it.
func (m *Manager) StateSize(ctx context.Context, id events.ProgramID) (int64, error) {
	if err := m.check(id); err != nil {
		return 0, fmt.Errorf("measure state of program %.140q: %w", id, err)
	}
	root, err := os.OpenRoot(m.GetStatePath(id))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("measure state of program %q: %w", id, err)
	}
	defer root.Close()
	scale := usage{ctx: ctx, root: root}
	if err := scale.folder(".", 0); err != nil {
		return 0, fmt.Errorf("measure state of program %q: %w", id, err)
	}
	return scale.bytes, nil
}

type usage struct {
	ctx   context.Context
	root  *os.Root
	bytes int64
	seen  int
}

// folder adds what is in a folder. What goes away meanwhile takes no room.
func (u *usage) folder(dir string, depth int) error {
	if depth > maxNested {
		return fmt.Errorf("%w: more than %d folders in each other", ErrUncountable, maxNested)
	}
	f, err := u.root.Open(dir)
	if err != nil {
		return gone(err)
	}
	defer f.Close()
	for {
		names, err := f.Readdirnames(listBatch)
		if len(names) == 0 {
			return endOfFolder(err)
		}
		for _, name := range names {
			if err := u.entry(path.Join(dir, name), depth); err != nil {
				return err
			}
		}
	}
}

func (u *usage) entry(name string, depth int) error {
	if err := u.ctx.Err(); err != nil {
		return err
	}
	if u.seen++; u.seen > maxMeasured {
		return fmt.Errorf("%w: more than %d entries", ErrUncountable, maxMeasured)
	}
	info, err := u.root.Lstat(name)
	if err != nil {
		return gone(err)
	}
	u.bytes += diskSize(info)
	if !info.IsDir() {
		return nil
	}
	return u.folder(name, depth+1)
}

func endOfFolder(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return gone(err)
}
