// Package storage keeps the folders of programs on a host, one folder for each program below one base folder:
//
//	{base}/{programID}/
//	├─ src/      source, unpacked from a verified tarball
//	├─ meta/     metadata
//	├─ state/    what the program keeps, mounted at /state
//	├─ compose/  the generated compose file
//	├─ logs/     build and runtime logs
//	└─ runtime/  container metadata
//
// Errors of the disk are wrapped, so that errors.Is finds syscall.ENOSPC and its like.
package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/source"
)

const (
	srcDir     = "src"
	metaDir    = "meta"
	stateDir   = "state"
	composeDir = "compose"
	logsDir    = "logs"
	runtimeDir = "runtime"

	// private keeps other users of the host away from sources and logs, and from state folders, which are open in themselves.
	private = 0o700
	// open is the mode of state/ itself: the user that an image runs as may be anyone, and must be able to write there. No
	// one else gets that far, since the folder above it is private.
	open = 0o777

	maxIDLen = 128
)

var (
	// ErrUnsafeID says that an ID is neither a ProgramID nor one safe path element, so that no folder is named after it.
	ErrUnsafeID = errors.New("program ID is not safe as a folder name")
	// ErrBusy says that another process, or another goroutine, is changing the folders of the program just now.
	ErrBusy = errors.New("the folders of the program are in use")
)

// Manager gives every program its folders. It is safe for concurrent use, also by several processes with one base folder:
// what changes a program as a whole happens once at a time, and the second to ask gets ErrBusy.
type Manager struct {
	base string
	err  error // Why there is no base folder.
}

// NewManager returns the Manager of a base folder, which need not exist yet. A relative one is made absolute here, so that
// it stays the same when the process changes its directory; where that fails, or it is empty, every method says so.
func NewManager(baseDir string) *Manager {
	if baseDir == "" {
		return &Manager{err: errors.New("the base folder of programs has no name")}
	}
	base, err := filepath.Abs(baseDir)
	return &Manager{base: base, err: err}
}

// GetSrcPath returns the absolute path of src/. This, as all path getters, creates nothing; for an ID that is not safe it
// returns a path below a file, where nothing can ever be opened or made, not even when more is joined to it.
func (m *Manager) GetSrcPath(id events.ProgramID) string { return m.path(id, srcDir) }

// GetMetaPath returns the absolute path of meta/.
func (m *Manager) GetMetaPath(id events.ProgramID) string { return m.path(id, metaDir) }

// GetStatePath returns the absolute path of state/.
func (m *Manager) GetStatePath(id events.ProgramID) string { return m.path(id, stateDir) }

// GetComposePath returns the absolute path of compose/.
func (m *Manager) GetComposePath(id events.ProgramID) string { return m.path(id, composeDir) }

// GetLogsPath returns the absolute path of logs/.
func (m *Manager) GetLogsPath(id events.ProgramID) string { return m.path(id, logsDir) }

// GetRuntimePath returns the absolute path of runtime/.
func (m *Manager) GetRuntimePath(id events.ProgramID) string { return m.path(id, runtimeDir) }

func (m *Manager) path(id events.ProgramID, dir string) string {
	if m.check(id) != nil {
		return filepath.Join(os.DevNull, "unsafe-program-id", dir)
	}
	return filepath.Join(m.base, string(id), dir)
}

// ProgramExists reports whether the program has a folder. An ID that is not safe has none.
func (m *Manager) ProgramExists(id events.ProgramID) bool {
	if m.check(id) != nil {
		return false
	}
	info, err := os.Lstat(filepath.Join(m.base, string(id)))
	return err == nil && info.IsDir()
}

// Programs returns the programs that have a folder. What has no name that is safe is not theirs and is left out.
func (m *Manager) Programs() ([]events.ProgramID, error) {
	if m.err != nil {
		return nil, fmt.Errorf("list programs: %w", m.err)
	}
	entries, err := os.ReadDir(m.base)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list programs: %w", err)
	}
	var list []events.ProgramID
	for _, entry := range entries {
		if entry.IsDir() && isSafeID(entry.Name()) {
			list = append(list, events.ProgramID(entry.Name()))
		}
	}
	return list, nil
}

// EnsureProgramFolders makes the folders of a program that are not there, and sets the modes that matter.
func (m *Manager) EnsureProgramFolders(id events.ProgramID) error {
	root, err := m.ensure(id)
	if err != nil {
		return fmt.Errorf("ensure folders of program %.140q: %w", id, err)
	}
	return root.Close()
}

// StoreSource makes src/ the source with the given digest, read from r as a tarball. Until all of it is there and
// verified, src/ stays what it was. Running it again ends in the same place, also after a crash. The source is not
// synced to disk: it is stored and verified again before every build.
func (m *Manager) StoreSource(ctx context.Context, id events.ProgramID, r io.Reader, digest events.SourceDigest) error {
	if err := m.storeSource(ctx, id, r, digest); err != nil {
		return fmt.Errorf("store source of program %.140q: %w", id, err)
	}
	return nil
}

func (m *Manager) storeSource(ctx context.Context, id events.ProgramID, r io.Reader, digest events.SourceDigest) error {
	root, err := m.ensure(id)
	if err != nil {
		return err
	}
	defer root.Close()
	unlock, err := lock(root)
	if err != nil {
		return err
	}
	defer unlock()
	return source.UnpackVerified(ctx, m.GetSrcPath(id), r, digest, source.Limits{})
}

// DeleteProgram removes the folder of a program and all that is in it, the state included. It follows no link. A program
// without a folder is deleted already. After an error the program still exists, with part of its files; deleting goes on
// with the next call.
func (m *Manager) DeleteProgram(id events.ProgramID) error {
	if err := m.deleteProgram(id); err != nil {
		return fmt.Errorf("delete program %.140q: %w", id, err)
	}
	return nil
}

func (m *Manager) deleteProgram(id events.ProgramID) error {
	if err := m.check(id); err != nil {
		return err
	}
	dir := filepath.Join(m.base, string(id))
	info, err := os.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return os.Remove(dir) // A file or a link of that name is no program's, but is in the way of one.
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	unlock, err := lock(root)
	if err != nil {
		return err
	}
	defer unlock()
	if err := empty(root); err != nil {
		return err
	}
	return os.Remove(dir)
}

// ensure returns the folder of the program, opened, with all folders in it. A link in the place of a folder is refused.
func (m *Manager) ensure(id events.ProgramID) (*os.Root, error) {
	if err := m.check(id); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(m.base, private); err != nil {
		return nil, err
	}
	base, err := os.OpenRoot(m.base)
	if err != nil {
		return nil, err
	}
	defer base.Close()
	if err := ensureFolder(base, string(id), private); err != nil {
		return nil, err
	}
	root, err := base.OpenRoot(string(id))
	if err != nil {
		return nil, err
	}
	for _, dir := range []string{srcDir, metaDir, stateDir, composeDir, logsDir, runtimeDir} {
		mode := fs.FileMode(private)
		if dir == stateDir {
			mode = open
		}
		if err := ensureFolder(root, dir, mode); err != nil {
			_ = root.Close() // The first error says more.
			return nil, err
		}
	}
	return root, nil
}

// ensureFolder sets the mode in any case: the umask has taken its part of it, and a program may have changed that of its
// state folder.
func ensureFolder(parent *os.Root, name string, mode fs.FileMode) error {
	if err := parent.Mkdir(name, mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := parent.Lstat(name)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return &fs.PathError{Op: "mkdir", Path: filepath.Join(parent.Name(), name), Err: errors.New("something that is no folder is in the way")}
	}
	const special = fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky
	if info.Mode()&(fs.ModePerm|special) == mode {
		return nil
	}
	return parent.Chmod(name, mode)
}

// check accepts every ProgramID, and the short IDs of programs that live in one process.
func (m *Manager) check(id events.ProgramID) error {
	if !isSafeID(string(id)) {
		return fmt.Errorf("%w: it is not 1 to %d characters of a-z, 0-9, '-' and '_', starting with a letter or digit", ErrUnsafeID, maxIDLen)
	}
	return m.err
}

func isSafeID(id string) bool {
	if id == "" || len(id) > maxIDLen {
		return false
	}
	for i := range len(id) {
		c := id[i]
		alnum := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || c != '-' && c != '_') {
			return false
		}
	}
	return true
}
