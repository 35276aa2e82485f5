package disk

import (
	"context"
	"slices"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// blockSize is what the disk says that it counts in.
const blockSize = 4096

// node is a file as FUSE knows it.
type node struct {
	fs.Inode
	disk *Disk
	file *file
}

// handle is an open file.
type handle struct{ syncs bool } // Every write is synced.

// use runs fn with the disk to itself, unless the power is cut.
func (n *node) use(fn func() syscall.Errno) syscall.Errno {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	if n.disk.off {
		return syscall.EIO
	}
	return fn()
}

func (f *file) attr(out *fuse.Attr) {
	out.Mode, out.Nlink, out.Size, out.Blksize = f.mode, 1, uint64(len(f.data)), blockSize
	out.Blocks = (out.Size + 511) / 512
	out.SetTimes(&f.changed, &f.changed, &f.changed)
}

func (n *node) child(ctx context.Context, f *file, out *fuse.EntryOut) *fs.Inode {
	mode := uint32(syscall.S_IFREG)
	if f.folder {
		mode = syscall.S_IFDIR
	}
	f.attr(&out.Attr)
	return n.NewInode(ctx, &node{disk: n.disk, file: f}, fs.StableAttr{Mode: mode})
}

// Lookup implements fs.NodeLookuper.
func (n *node) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (inode *fs.Inode, errno syscall.Errno) {
	errno = n.use(func() syscall.Errno {
		f := n.file.names[name]
		if f == nil {
			return syscall.ENOENT
		}
		if old := n.GetChild(name); old != nil && old.Operations().(*node).file == f {
			f.attr(&out.Attr)
			inode = old
			return 0
		}
		inode = n.child(ctx, f, out)
		return 0
	})
	return inode, errno
}

// Readdir implements fs.NodeReaddirer.
func (n *node) Readdir(context.Context) (fs.DirStream, syscall.Errno) {
	var list []fuse.DirEntry
	errno := n.use(func() syscall.Errno {
		for name, f := range n.file.names {
			entry := fuse.DirEntry{Name: name, Mode: syscall.S_IFREG}
			if f.folder {
				entry.Mode = syscall.S_IFDIR
			}
			list = append(list, entry)
		}
		return 0
	})
	slices.SortFunc(list, func(a, b fuse.DirEntry) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return fs.NewListDirStream(list), errno
}

// Getattr implements fs.NodeGetattrer.
func (n *node) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	return n.use(func() syscall.Errno {
		n.file.attr(&out.Attr)
		return 0
	})
}

// Setattr implements fs.NodeSetattrer.
func (n *node) Setattr(_ context.Context, _ fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	return n.use(func() syscall.Errno {
		if mode, ok := in.GetMode(); ok {
			n.file.mode = mode & 0o7777
		}
		if size, ok := in.GetSize(); ok {
			if n.disk.full && int64(size) > int64(len(n.file.data)) {
				return syscall.ENOSPC
			}
			n.file.resize(int64(size))
		}
		if when, ok := in.GetMTime(); ok {
			n.file.changed = when
		}
		n.file.attr(&out.Attr)
		return 0
	})
}

// add makes a new name.
func (n *node) add(ctx context.Context, name string, f *file, out *fuse.EntryOut) (inode *fs.Inode, errno syscall.Errno) {
	errno = n.use(func() syscall.Errno {
		if n.disk.full {
			return syscall.ENOSPC
		}
		if n.file.names[name] != nil {
			return syscall.EEXIST
		}
		n.file.names[name] = f
		n.disk.changed[n.file] = true
		inode = n.child(ctx, f, out)
		return 0
	})
	return inode, errno
}

// Mkdir implements fs.NodeMkdirer.
func (n *node) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	f := newFolder()
	f.mode = mode & 0o7777
	return n.add(ctx, name, f, out)
}

// Create implements fs.NodeCreater.
func (n *node) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	f := &file{mode: mode & 0o7777}
	f.resize(0)
	inode, errno := n.add(ctx, name, f, out)
	return inode, open(flags), fuse.FOPEN_DIRECT_IO, errno
}

// Open implements fs.NodeOpener.
func (n *node) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	errno := n.use(func() syscall.Errno {
		if flags&syscall.O_TRUNC != 0 {
			n.file.resize(0)
		}
		return 0
	})
	return open(flags), fuse.FOPEN_DIRECT_IO, errno
}

func open(flags uint32) *handle {
	return &handle{syncs: flags&(syscall.O_SYNC|syscall.O_DSYNC) != 0}
}

// Read implements fs.NodeReader.
func (n *node) Read(_ context.Context, _ fs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	count := 0
	errno := n.use(func() syscall.Errno {
		if off < int64(len(n.file.data)) {
			count = copy(dest, n.file.data[off:])
		}
		return 0
	})
	return fuse.ReadResultData(dest[:count]), errno
}

// Write implements fs.NodeWriter.
func (n *node) Write(_ context.Context, h fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	n.disk.wait()
	return uint32(len(data)), n.use(func() syscall.Errno {
		if n.disk.full && off+int64(len(data)) > int64(len(n.file.data)) {
			return syscall.ENOSPC
		}
		n.file.write(data, off)
		if h.(*handle).syncs {
			n.disk.sync(n.file)
		}
		return 0
	})
}

// Fsync implements fs.NodeFsyncer, of files and of folders.
func (n *node) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	n.disk.wait()
	return n.use(func() syscall.Errno {
		n.disk.sync(n.file)
		return 0
	})
}

// Unlink implements fs.NodeUnlinker.
func (n *node) Unlink(_ context.Context, name string) syscall.Errno {
	return n.use(func() syscall.Errno { return n.remove(name) })
}

// Rmdir implements fs.NodeRmdirer.
func (n *node) Rmdir(_ context.Context, name string) syscall.Errno {
	return n.use(func() syscall.Errno {
		if f := n.file.names[name]; f != nil && len(f.names) > 0 {
			return syscall.ENOTEMPTY
		}
		return n.remove(name)
	})
}

func (n *node) remove(name string) syscall.Errno {
	if n.file.names[name] == nil {
		return syscall.ENOENT
	}
	delete(n.file.names, name)
	n.disk.changed[n.file] = true
	return 0
}

// Rename implements fs.NodeRenamer.
func (n *node) Rename(_ context.Context, name string, newParent fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	to := newParent.(*node)
	return n.use(func() syscall.Errno {
		f, old := n.file.names[name], to.file.names[newName]
		switch {
		case flags != 0:
			return syscall.EINVAL
		case f == nil:
			return syscall.ENOENT
		case old != nil && len(old.names) > 0:
			return syscall.ENOTEMPTY
		}
		delete(n.file.names, name)
		to.file.names[newName] = f
		n.disk.changed[n.file], n.disk.changed[to.file] = true, true
		return 0
	})
}

// Statfs implements fs.NodeStatfser.
func (n *node) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	return n.use(func() syscall.Errno {
		const size = 64 << 30
		out.Bsize, out.Frsize, out.NameLen = blockSize, blockSize, 255
		out.Blocks, out.Bfree, out.Bavail = size/blockSize, size/blockSize, size/blockSize
		if n.disk.full {
			out.Bfree, out.Bavail = 0, 0
		}
		return 0
	})
}

// The compiler says so when FUSE would not find one of these.
var _ interface {
	fs.NodeLookuper
	fs.NodeReaddirer
	fs.NodeGetattrer
	fs.NodeSetattrer
	fs.NodeMkdirer
	fs.NodeCreater
	fs.NodeOpener
	fs.NodeReader
	fs.NodeWriter
	fs.NodeFsyncer
	fs.NodeUnlinker
	fs.NodeRmdirer
	fs.NodeRenamer
	fs.NodeStatfser
} = (*node)(nil)
