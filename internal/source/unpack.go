package source

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rlaaudgjs5638/hersh/events"
)

// Unpack makes the folder of a tarball, in dir, which must exist and be empty, and returns the digest of all that was
// read. The tarball may be hostile: nothing is written outside of dir and no link that leads out of it is made. After an
// error dir holds some part of the source. Errors wrap the sentinels of this package, or those of r, the disk or ctx.
func Unpack(ctx context.Context, dir string, r io.Reader, limits Limits) (events.SourceDigest, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", fmt.Errorf("unpack source: %w", err)
	}
	defer root.Close()
	digest, err := unpack(ctx, root, r, limits)
	if err != nil {
		return "", fmt.Errorf("unpack source to %q: %w", dir, err)
	}
	return digest, nil
}

// UnpackVerified makes dir the folder of the tarball with the given digest. Until every byte has been read and the digest
// is right, dir stays what it was; then it is replaced as a whole. A wrong source leaves nothing behind, and what a killed
// process left is removed by the next call. Only one call at a time may work on the same dir.
func UnpackVerified(ctx context.Context, dir string, r io.Reader, digest events.SourceDigest, limits Limits) error {
	if err := unpackVerified(ctx, dir, r, digest, limits); err != nil {
		return fmt.Errorf("unpack source %.64s to %q: %w", digest, dir, err)
	}
	return nil
}

func unpackVerified(ctx context.Context, dir string, r io.Reader, digest events.SourceDigest, limits Limits) error {
	if _, err := events.ParseSourceDigest(string(digest)); err != nil {
		return err
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	name := filepath.Base(dir)
	parent, err := os.OpenRoot(filepath.Dir(dir))
	if err != nil {
		return err
	}
	defer parent.Close()
	if err := removeLeftovers(parent, name); err != nil {
		return err
	}
	fresh, old := tempPrefix(name)+rand.Text(), tempPrefix(name)+rand.Text()
	defer parent.RemoveAll(fresh) // Does nothing once it has been moved; a failure is left to the next call.
	if err := unpackFresh(ctx, parent, fresh, r, digest, limits); err != nil {
		return err
	}
	return swap(parent, fresh, name, old)
}

func unpackFresh(ctx context.Context, parent *os.Root, name string, r io.Reader, digest events.SourceDigest, limits Limits) error {
	if err := parent.Mkdir(name, 0o755); err != nil {
		return err
	}
	root, err := parent.OpenRoot(name)
	if err != nil {
		return err
	}
	defer root.Close()
	got, err := unpack(ctx, root, r, limits)
	switch {
	case got != "" && got != digest && err != nil:
		return fmt.Errorf("%w: it has %s: %w", ErrDigest, got, err)
	case got != "" && got != digest:
		return fmt.Errorf("%w: it has %s", ErrDigest, got)
	}
	return err
}

// swap puts fresh in the place of name. A process that is killed between the two renames leaves no folder of that name.
func swap(parent *os.Root, fresh, name, old string) error {
	err := parent.Rename(name, old)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	hadOld := err == nil
	if err := parent.Rename(fresh, name); err != nil {
		if hadOld {
			err = errors.Join(err, parent.Rename(old, name))
		}
		return err
	}
	return parent.RemoveAll(old)
}

// removeLeftovers removes what a killed UnpackVerified to the folder name in parent left beside it.
func removeLeftovers(parent *os.Root, name string) error {
	f, err := parent.Open(".")
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		names, err := f.Readdirnames(1024)
		for _, entry := range names {
			if strings.HasPrefix(entry, tempPrefix(name)) {
				if err := parent.RemoveAll(entry); err != nil {
					return err
				}
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func tempPrefix(name string) string { return "." + name + ".unpack-" }

// unpack returns the digest of the whole input even with an error, where the input could be read to its end.
func unpack(ctx context.Context, root *os.Root, r io.Reader, limits Limits) (events.SourceDigest, error) {
	if err := checkEmpty(root); err != nil {
		return "", err
	}
	limits = limits.orDefault()
	in := &input{r: ctxReader{ctx, r}, hash: sha256.New(), left: limits.Bytes + maxOverhead}
	buffered := bufio.NewReaderSize(in, 64<<10)
	u := &unpacker{root: root, tar: tar.NewReader(buffered), tally: tally{limits: limits}, seen: map[string]entry{}, links: links{}}
	err := u.run()
	if in.err != nil {
		return "", in.err // Not the tarball is wrong, but the reading of it.
	}
	trailing := int64(maxTrailing)
	if err != nil {
		trailing = in.left // The rest is of no interest, but the digest tells a damaged source from a bad one.
	}
	if n, copyErr := io.CopyN(io.Discard, buffered, trailing+1); n > trailing {
		return "", firstError(err, fmt.Errorf("%w: more than %d bytes follow the end of the archive", ErrTooLarge, maxTrailing))
	} else if !errors.Is(copyErr, io.EOF) {
		return "", firstError(err, copyErr)
	}
	return events.SourceDigest(hex.EncodeToString(in.hash.Sum(nil))), err
}

func firstError(first, second error) error {
	if first != nil {
		return first
	}
	return second
}

func checkEmpty(root *os.Root) error {
	f, err := root.Open(".")
	if err != nil {
		return err
	}
	defer f.Close()
	names, err := f.Readdirnames(1)
	if len(names) > 0 {
		return ErrNotEmpty
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// input hashes and bounds what is read, and remembers why reading failed.
type input struct {
	r    io.Reader
	hash hash.Hash
	left int64
	err  error // Other than io.EOF.
}

func (in *input) Read(b []byte) (int, error) {
	n, err := in.r.Read(b)
	in.hash.Write(b[:n])
	if in.left -= int64(n); in.left < 0 {
		err = fmt.Errorf("%w: the tarball itself", ErrTooLarge)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		in.err = err
	}
	return n, err
}

// entry is what a name of the tarball has become.
type entry struct {
	kind byte  // A type flag of the tar package.
	size int64 // Of a file.
}

type unpacker struct {
	root  *os.Root
	tar   *tar.Reader
	tally tally
	seen  map[string]entry
	links links
}

func (u *unpacker) run() error {
	for {
		hdr, err := u.tar.Next()
		if errors.Is(err, io.EOF) {
			return u.makeLinks()
		}
		if errors.Is(err, tar.ErrInsecurePath) {
			return fmt.Errorf("%w: %w", ErrUnsafePath, err)
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		if err := u.entry(hdr); err != nil {
			return err
		}
	}
}

func (u *unpacker) entry(hdr *tar.Header) error {
	if hdr.Typeflag == tar.TypeXGlobalHeader { // git archive writes one; it says nothing about files.
		return u.tally.entry(hdr.Name)
	}
	if isSparse(hdr) {
		return fmt.Errorf("%w: %.200q is sparse", ErrUnsupportedEntry, hdr.Name)
	}
	name, err := cleanName(hdr.Name, hdr.Typeflag == tar.TypeDir)
	if err != nil {
		return err
	}
	if hdr.Typeflag == tar.TypeDir {
		return u.folder(name)
	}
	switch hdr.Typeflag {
	case tar.TypeReg, tar.TypeLink, tar.TypeSymlink:
	default:
		return fmt.Errorf("%w: %.200q has type %q", ErrUnsupportedEntry, name, hdr.Typeflag)
	}
	if err := u.claim(name, entry{kind: hdr.Typeflag, size: hdr.Size}); err != nil {
		return err
	}
	switch hdr.Typeflag {
	case tar.TypeLink:
		return u.hardLink(name, hdr.Linkname)
	case tar.TypeSymlink:
		u.links[name] = hdr.Linkname
		return checkTarget(name, hdr.Linkname)
	}
	return u.file(name, hdr)
}

// cleanName takes off what plain tar commands write, a leading "./" and the trailing slash of folders. Anything that needs
// more cleaning than that is refused by checkName. The folder itself is ".".
func cleanName(name string, isDir bool) (string, error) {
	if isDir && (name == "." || name == "./") {
		return ".", nil
	}
	clean := strings.TrimPrefix(name, "./")
	if isDir {
		clean = strings.TrimSuffix(clean, "/")
	}
	return clean, checkName(clean)
}

// isSparse reports whether the content has holes: a few bytes of tarball would become any number of bytes on disk.
func isSparse(hdr *tar.Header) bool {
	if hdr.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range hdr.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// claim takes a new name, below folders only. A second entry of one name, or one below a file or a link, means a different
// folder to every program that unpacks it.
func (u *unpacker) claim(name string, e entry) error {
	if err := u.folder(path.Dir(name)); err != nil {
		return err
	}
	if _, found := u.seen[name]; found {
		return fmt.Errorf("%w: %.200q is there twice", ErrUnsafePath, name)
	}
	u.seen[name] = e
	return u.tally.entry(name)
}

// folder makes a folder and those above it, unless they are there. checkName has bounded the recursion. A folder may be
// named once for itself, and be implied any number of times.
func (u *unpacker) folder(name string) error {
	if name == "." {
		return nil
	}
	if e, found := u.seen[name]; found {
		if e.kind != tar.TypeDir {
			return fmt.Errorf("%w: %.200q is a folder and something else", ErrUnsafePath, name)
		}
		return nil
	}
	if err := u.claim(name, entry{kind: tar.TypeDir}); err != nil {
		return err
	}
	return u.root.Mkdir(name, 0o755)
}

func (u *unpacker) file(name string, hdr *tar.Header) (err error) {
	if err := u.tally.content(name, hdr.Size); err != nil {
		return err
	}
	mode := fs.FileMode(0o644)
	if hdr.Mode&0o100 != 0 {
		mode = 0o755
	}
	f, err := u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	defer func() { err = firstError(err, f.Close()) }()
	if _, err := io.Copy(f, u.tar); errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends within %.200q", ErrMalformed, name)
	} else if err != nil {
		return err
	}
	return nil
}

// hardLink gives a file of this tarball a second name. Its content counts again: it will when the folder is packed.
func (u *unpacker) hardLink(name, target string) error {
	target, err := cleanName(target, false)
	if err != nil {
		return err
	}
	e := u.seen[target]
	if e.kind != tar.TypeReg {
		return fmt.Errorf("%w: the link %.200q is to %.200q, which is no file before it", ErrUnsafePath, name, target)
	}
	u.seen[name] = e
	if err := u.tally.content(name, e.size); err != nil {
		return err
	}
	return u.root.Link(target, name)
}

// makeLinks makes the symbolic links after everything else, so that nothing has been written through one, and only when
// all of them stay inside.
func (u *unpacker) makeLinks() error {
	if err := u.links.check(); err != nil {
		return err
	}
	names := make([]string, 0, len(u.links))
	for name := range u.links {
		names = append(names, name)
	}
	slices.Sort(names) // The same tarball does the same things in the same order.
	for _, name := range names {
		if err := u.root.Symlink(u.links[name], name); err != nil {
			return err
		}
	}
	return nil
}
