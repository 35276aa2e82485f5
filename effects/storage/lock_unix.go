//go:build unix && !solaris && !aix

package storage

import (
	"errors"
	"os"
	"syscall"
)

// lock takes the one lock of a folder, or says ErrBusy. The kernel gives it back when the process dies.
func lock(root *os.Root) (unlock func(), err error) {
	f, err := root.Open(".")
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = ErrBusy
	}
	if err != nil {
		_ = f.Close() // Nothing was written.
		return nil, err
	}
	return func() { _ = f.Close() }, nil
}
