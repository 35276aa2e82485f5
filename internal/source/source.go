// Package source is the one way in which a source folder becomes a tarball, and a tarball a folder again. The client packs
// with it, storage unpacks with it, and the build context is made with it.
//
// A tarball is a function of the files: the same files give the same bytes, and so the same BuildID, on any machine. Names
// are sorted; owners, times and permissions other than "executable" are left out, and so is whatever .dockerignore names.
// What this package packs it also unpacks: both ends hold to the same bounds and the same rules for names and links.
package source

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"unicode/utf8"
)

// The bounds of a source folder, for both directions.
const (
	MaxEntries = 100_000 // Files, folders and links; folders that a tarball only implies count as well.
	MaxBytes   = 1 << 30 // Content of all files.

	maxName      = 1024 // Bytes of one path below the folder, and of the target of a link.
	maxElement   = 255  // Bytes of one element of a path, the bound of every usual file system.
	maxDepth     = 64   // Elements of one path.
	maxNameBytes = 32 << 20
	maxOverhead  = 512 << 20 // Headers and padding of MaxEntries entries with the longest names.
	maxTrailing  = 1 << 20   // What may follow the end of the archive: tar pads to its record size.
	maxLinkSteps = 5_000_000 // Elements that following all links may pass; an honest link has about ten.
)

const (
	dockerfileName = "Dockerfile"
	ignoreName     = ".dockerignore"
)

var (
	// ErrNoDockerfile says that a folder holds no Dockerfile that is a file.
	ErrNoDockerfile = errors.New("the folder has no Dockerfile")
	// ErrTooLarge says that there are more entries, more bytes or longer names than the limits allow.
	ErrTooLarge = errors.New("the source is too large")
	// ErrUnsafePath says that a name or a link leaves the folder, or means two things at once.
	ErrUnsafePath = errors.New("the source has an unsafe path")
	// ErrUnsupportedEntry says that an entry is neither a file, a folder nor a link: a device, a pipe, a socket, a sparse file.
	ErrUnsupportedEntry = errors.New("the source has an entry that is no file, folder or link")
	// ErrChanged says that a file changed while it was packed.
	ErrChanged = errors.New("the source changed while it was read")
	// ErrInvalidIgnore says that .dockerignore cannot be understood.
	ErrInvalidIgnore = errors.New("invalid .dockerignore")
	// ErrMalformed says that the bytes are no tarball.
	ErrMalformed = errors.New("the source is not a tarball")
	// ErrDigest says that a tarball is not the one that was asked for.
	ErrDigest = errors.New("the source does not have the expected digest")
	// ErrNotEmpty says that the folder to unpack to holds something already.
	ErrNotEmpty = errors.New("the folder is not empty")
)

// Limits narrows what Unpack makes of a tarball. A field that is zero, or more than its default, means the default.
type Limits struct {
	Entries   int   // Default MaxEntries.
	Bytes     int64 // Content of all files; default MaxBytes.
	FileBytes int64 // Content of one file; default Bytes.
}

func (l Limits) orDefault() Limits {
	if l.Entries <= 0 || l.Entries > MaxEntries {
		l.Entries = MaxEntries
	}
	if l.Bytes <= 0 || l.Bytes > MaxBytes {
		l.Bytes = MaxBytes
	}
	if l.FileBytes <= 0 || l.FileBytes > l.Bytes {
		l.FileBytes = l.Bytes
	}
	return l
}

// tally counts what has been seen against the limits.
type tally struct {
	limits  Limits
	entries int
	bytes   int64
	names   int64
}

// entry counts an entry of the given name.
func (t *tally) entry(name string) error {
	t.entries++
	t.names += int64(len(name))
	if t.entries > t.limits.Entries {
		return fmt.Errorf("%w: more than %d entries", ErrTooLarge, t.limits.Entries)
	}
	if t.names > maxNameBytes {
		return fmt.Errorf("%w: the names have more than %d bytes", ErrTooLarge, maxNameBytes)
	}
	return nil
}

// content counts the content of a file before it is read.
func (t *tally) content(name string, size int64) error {
	if size > t.limits.FileBytes {
		return fmt.Errorf("%w: %.200q has %d bytes, more than %d", ErrTooLarge, name, size, t.limits.FileBytes)
	}
	t.bytes += size // Cannot overflow: both are bounded.
	if t.bytes > t.limits.Bytes {
		return fmt.Errorf("%w: the files have more than %d bytes", ErrTooLarge, t.limits.Bytes)
	}
	return nil
}

// checkName accepts the clean slash path of an entry. Names that are not valid UTF-8 are refused since not every file
// system can hold them, and two of them may look alike.
func checkName(name string) error {
	if !fs.ValidPath(name) || name == "." || strings.ContainsRune(name, 0) {
		return fmt.Errorf("%w: %.200q", ErrUnsafePath, name)
	}
	if len(name) > maxName || strings.Count(name, "/") >= maxDepth {
		return fmt.Errorf("%w: the name %.200q… is longer than %d bytes or %d elements", ErrTooLarge, name, maxName, maxDepth)
	}
	for element := range strings.SplitSeq(name, "/") {
		if len(element) > maxElement {
			return fmt.Errorf("%w: the name %.200q… has more than %d bytes", ErrTooLarge, element, maxElement)
		}
	}
	return nil
}

// links are the symbolic links of a folder: name to target, as written.
type links map[string]string

// check refuses links that leave the folder. It follows them on paper: a link may go through other links, and what a
// target says is not where it leads. Links in a circle lead nowhere and are harmless; targets need not exist.
func (l links) check() error {
	steps := 0
	for name, target := range l {
		inside, err := l.staysInside(name, &steps)
		if err != nil {
			return err
		}
		if !inside {
			return fmt.Errorf("%w: the link %.200q leads out of the folder, to %.200q", ErrUnsafePath, name, target)
		}
	}
	return nil
}

func (l links) staysInside(name string, steps *int) (bool, error) {
	const maxHops = 255 // More than any kernel follows.
	at := "."           // Where the walk has come to; never holds a link or "..".
	rest := strings.Split(name, "/")
	for hops := 0; len(rest) > 0 && hops < maxHops; {
		if *steps++; *steps > maxLinkSteps || len(at) > 2*maxName {
			return false, fmt.Errorf("%w: the links are too entangled", ErrTooLarge)
		}
		element := rest[0]
		rest = rest[1:]
		switch {
		case element == "" || element == ".":
			continue
		case element == ".." && at == ".":
			return false, nil
		case element == "..":
			at = path.Dir(at)
			continue
		}
		next := path.Join(at, element)
		target, isLink := l[next]
		if !isLink {
			at = next
			continue
		}
		if path.IsAbs(target) {
			return false, nil
		}
		hops++
		rest = slices.Concat(strings.Split(target, "/"), rest)
		*steps += len(rest)
	}
	return true, nil
}

// checkTarget accepts the target of a link as far as it can be told from the target alone.
func checkTarget(name, target string) error {
	switch {
	case target == "" || strings.ContainsRune(target, 0) || !utf8.ValidString(target) || path.IsAbs(target):
		return fmt.Errorf("%w: the link %.200q leads to %.200q", ErrUnsafePath, name, target)
	case len(target) > maxName:
		return fmt.Errorf("%w: the target of the link %.200q has more than %d bytes", ErrTooLarge, name, maxName)
	}
	return nil
}
