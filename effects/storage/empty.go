package storage

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
)

const (
	listBatch   = 1024
	maxRemovals = 100_000_000 // A program that still writes while it is deleted must not keep a host busy for ever.
)

// empty removes everything in a folder. A program may have made its state as deep as it liked, deeper than a path can
// say and than a process can hold open, so that what walks down a tree never comes to its end. Nothing is walked down
// here: folders are lifted to the top until none has a folder in it.
func empty(root *os.Root) error {
	left := maxRemovals
	for {
		names, err := list(root, ".")
		if err != nil || len(names) == 0 {
			return err
		}
		for _, name := range names {
			if err := remove(root, name, &left); err != nil {
				return err
			}
		}
	}
}

// remove removes one entry of the top; the folders in it go to the top.
func remove(root *os.Root, name string, left *int) error {
	for {
		if *left--; *left < 0 {
			return fmt.Errorf("more than %d entries, or they become more meanwhile", maxRemovals)
		}
		info, err := root.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if !info.IsDir() {
			return gone(root.Remove(name))
		}
		if err := unlockFolder(root, name, info); err != nil {
			return err
		}
		names, err := list(root, name)
		if err != nil {
			return err
		}
		if len(names) == 0 {
			return gone(root.Remove(name))
		}
		for _, child := range names {
			*left--
			if err := lift(root, path.Join(name, child)); err != nil {
				return err
			}
		}
	}
}

// lift removes a file or a link, and moves a folder to the top, under a name that nothing has.
func lift(root *os.Root, name string) error {
	info, err := root.Lstat(name)
	if err != nil {
		return gone(err)
	}
	if !info.IsDir() {
		return gone(root.Remove(name))
	}
	if err := unlockFolder(root, name, info); err != nil {
		return err
	}
	return gone(root.Rename(name, ".lifted-"+rand.Text()))
}

// unlockFolder makes a folder one that its owner can list, change and move.
func unlockFolder(root *os.Root, name string, info fs.FileInfo) error {
	if info.Mode()&private == private {
		return nil
	}
	return gone(root.Chmod(name, private))
}

// list returns some of the names in a folder, none when it is empty.
func list(root *os.Root, dir string) ([]string, error) {
	f, err := root.Open(dir)
	if err != nil {
		return nil, gone(err)
	}
	defer f.Close()
	names, err := f.Readdirnames(listBatch)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return names, err
}

func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
