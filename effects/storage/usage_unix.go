//go:build unix && !solaris && !aix

package storage

import (
	"io/fs"
	"syscall"
)

// diskSize is what a file takes of the disk: less than its length where it has holes, and not nothing where it is empty.
func diskSize(info fs.FileInfo) int64 {
	const block = 512 // The unit of st_blocks, whatever the file system's own.
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return stat.Blocks * block
	}
	return info.Size()
}
