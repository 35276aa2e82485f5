// Package disk is a disk whose power can be cut, and that can be slow or full: a file system in memory, mounted by FUSE. What
// was not synced when the power went is gone.
//
//	tree.go   the files: as they are, and as they would be after a power cut
//	node.go   what FUSE asks of them
//
// The contents of a file are safe once that file was synced (fsync, or a write with O_SYNC). What happens to names depends on the
// kind of disk: on a Strict one, which does no more than POSIX promises, a new, renamed or removed name is safe once its folder
// was synced; on a Journaled one, as ext4 and XFS are, any sync writes the journal and with it every name that was changed before. A
// Torn one is journaled too, but of what was written to a file and not synced a part is there after a power cut, sector by sector.
package disk

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// Kind says what a sync of a file does for names.
type Kind int

// The kinds of disks.
const (
	Journaled Kind = iota
	Strict
	Torn
)

// device is the way into the kernel's FUSE.
const device = "/dev/fuse"

// ErrUnsupported says that this machine, or this user, cannot mount a FUSE file system.
var ErrUnsupported = errors.New("no FUSE: it needs /dev/fuse and root")

// Disk is one disk. It is safe for concurrent use.
type Disk struct {
	dir    string
	kind   Kind
	server *fuse.Server // nil while it is not mounted.

	mu      sync.Mutex
	root    *file
	changed map[*file]bool // Folders with names that are not safe.
	off     bool           // The power is cut: everything fails.
	full    bool
	delay   time.Duration // Of each write and sync.
}

// Supported reports whether this machine, and this user, may be able to mount a disk.
func Supported() bool {
	_, err := os.Stat(device)
	return err == nil && os.Geteuid() == 0
}

// New mounts an empty disk on a folder, which it creates. ErrUnsupported says that there is no way.
func New(dir string, kind Kind) (*Disk, error) {
	if !Supported() {
		return nil, ErrUnsupported
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	d := &Disk{dir: dir, kind: kind, root: newFolder(), changed: map[*file]bool{}}
	return d, d.mount()
}

func (d *Disk) mount() error {
	server, err := fs.Mount(d.dir, &node{disk: d, file: d.root}, &fs.Options{MountOptions: fuse.MountOptions{
		DirectMountStrict: true, FsName: "hersh-chaos", Name: "powerless", MaxWrite: 1 << 20,
	}})
	if err != nil {
		return fmt.Errorf("mount %s: %w: %w", d.dir, ErrUnsupported, err)
	}
	d.server = server
	return nil
}

// Close unmounts the disk. Whoever uses it must have ended.
func (d *Disk) Close() error {
	if d.server == nil {
		return nil
	}
	if err := d.server.Unmount(); err != nil {
		return fmt.Errorf("unmount %s: %w", d.dir, err)
	}
	d.server.Wait()
	d.server = nil
	return nil
}

// Cut ends the power: from now on nothing is read or written, and what was not synced is lost.
func (d *Disk) Cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off = true
}

// Restore gives the power back. Whoever used the disk must have ended; it is mounted again with what was safe.
func (d *Disk) Restore() error {
	if err := d.Close(); err != nil {
		return err
	}
	d.mu.Lock()
	d.off = false
	d.root.restore(d.kind == Torn)
	clear(d.changed)
	d.mu.Unlock()
	return d.mount()
}

// Wipe empties the disk at once, as a new one is. Whoever used it must have ended.
func (d *Disk) Wipe() error {
	if err := d.Close(); err != nil {
		return err
	}
	d.mu.Lock()
	d.root = newFolder()
	clear(d.changed)
	d.mu.Unlock()
	return d.mount()
}

// SetFull makes every write that needs more room fail, or lets them through again.
func (d *Disk) SetFull(full bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.full = full
}

// SetDelay makes each write and each sync take so long at least.
func (d *Disk) SetDelay(delay time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.delay = delay
}

func (d *Disk) wait() {
	d.mu.Lock()
	delay := d.delay
	d.mu.Unlock()
	time.Sleep(delay)
}
