package source

import (
	"archive/tar"
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/moby/patternmatcher"
	"github.com/rlaaudgjs5638/hersh/events"
)

// maxListed bounds the entries that are looked at, those that .dockerignore leaves out included.
const maxListed = 10 * MaxEntries

// Pack writes the tarball of a source folder to w and returns its digest. Nothing outside of the folder is read. On an
// error what was written is of no use; errors wrap the sentinels of this package, that of w, or ctx's.
func Pack(ctx context.Context, w io.Writer, dir string) (events.SourceDigest, error) {
	digest, err := pack(ctx, w, dir, dockerfileName)
	if err != nil {
		return "", fmt.Errorf("pack source folder %q: %w", dir, err)
	}
	return digest, nil
}

// Stream returns the tarball of a source folder as a reader, as a build context. dockerfile is the slash path of the
// Dockerfile in the folder, "" for the usual one; it is in the tarball even when .dockerignore names it. Errors come from
// Read. The reader must be closed; after that nothing of it is left running.
func Stream(ctx context.Context, dir, dockerfile string) io.ReadCloser {
	r, w := io.Pipe()
	s := &stream{PipeReader: r, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		_, err := pack(ctx, w, dir, path.Clean(cmp.Or(dockerfile, dockerfileName)))
		if err != nil {
			err = fmt.Errorf("pack source folder %q: %w", dir, err)
		}
		w.CloseWithError(err)
	}()
	return s
}

type stream struct {
	*io.PipeReader
	done chan struct{}
}

// Close makes the next write of the packing goroutine fail, and waits for it to end.
func (s *stream) Close() error {
	err := s.PipeReader.Close()
	<-s.done
	return err
}

type packer struct {
	ctx    context.Context
	root   *os.Root
	tar    *tar.Writer
	ignore *ignore
	tally  tally
	links  links
	listed int
}

func pack(ctx context.Context, w io.Writer, dir, dockerfile string) (events.SourceDigest, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	if err := checkDockerfile(root, dockerfile); err != nil {
		return "", err
	}
	ignore, err := readIgnore(root, dockerfile)
	if err != nil {
		return "", err
	}
	hash := sha256.New()
	buffered := bufio.NewWriterSize(io.MultiWriter(hash, w), 64<<10)
	p := &packer{
		ctx: ctx, root: root, tar: tar.NewWriter(buffered), ignore: ignore,
		tally: tally{limits: Limits{}.orDefault()}, links: links{},
	}
	if err := p.folder(".", patternmatcher.MatchInfo{}); err != nil {
		return "", err
	}
	if err := p.links.check(); err != nil {
		return "", err
	}
	if err := p.tar.Close(); err != nil {
		return "", err
	}
	if err := buffered.Flush(); err != nil {
		return "", err
	}
	return events.SourceDigest(hex.EncodeToString(hash.Sum(nil))), nil
}

func checkDockerfile(root *os.Root, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	info, err := root.Stat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%w: %q", ErrNoDockerfile, name)
	}
	if link, lstatErr := root.Lstat(name); err != nil && lstatErr == nil && link.Mode()&fs.ModeSymlink != 0 {
		return fmt.Errorf("%w: the link %q: %w", ErrUnsafePath, name, err)
	}
	return err
}

// folder packs what is in a folder. It recurses, and checkName bounds how deep.
func (p *packer) folder(dir string, parent patternmatcher.MatchInfo) error {
	names, err := p.list(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := p.ctx.Err(); err != nil {
			return err
		}
		if err := p.entry(path.Join(dir, name), parent); err != nil {
			return err
		}
	}
	return nil
}

// list returns the sorted names in a folder. It reads them in pieces, so that a folder of endless size is refused before
// it is in memory.
func (p *packer) list(dir string) ([]string, error) {
	f, err := p.root.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var names []string
	for {
		some, err := f.Readdirnames(1024)
		names = append(names, some...)
		if p.listed += len(some); p.listed > maxListed {
			return nil, fmt.Errorf("%w: more than %d entries, ignored ones included", ErrTooLarge, maxListed)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(names)
	return names, nil
}

func (p *packer) entry(name string, parent patternmatcher.MatchInfo) error {
	ignored, match, err := p.ignore.match(name, parent)
	if err != nil {
		return err
	}
	info, err := p.root.Lstat(name)
	if err != nil {
		return changedIfGone(err)
	}
	if ignored && (!info.IsDir() || !p.ignore.mayHold(name)) {
		return nil
	}
	if err := errors.Join(checkName(name), p.tally.entry(name)); err != nil {
		return err
	}
	switch {
	case info.IsDir():
		if !ignored {
			if err := p.header(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755}); err != nil {
				return err
			}
		}
		return p.folder(name, match)
	case info.Mode()&fs.ModeSymlink != 0:
		return p.link(name)
	case info.Mode().IsRegular():
		return p.file(name)
	}
	return fmt.Errorf("%w: %.200q is a %s", ErrUnsupportedEntry, name, info.Mode().Type())
}

func (p *packer) header(hdr *tar.Header) error {
	hdr.ModTime = time.Unix(0, 0)
	return p.tar.WriteHeader(hdr)
}

func (p *packer) link(name string) error {
	target, err := p.root.Readlink(name)
	if err != nil {
		return changedIfGone(err)
	}
	target = filepath.ToSlash(target)
	if err := checkTarget(name, target); err != nil {
		return err
	}
	p.links[name] = target
	return p.header(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777})
}

// file packs a regular file, and makes sure that it stayed the same meanwhile: the size stands before the content, and
// half of an old and half of a new file is a source that nobody wrote.
func (p *packer) file(name string) error {
	f, before, err := openFile(p.root, name, p.root.Lstat)
	if err != nil {
		return changedIfGone(err)
	}
	defer f.Close()
	if err := p.tally.content(name, before.Size()); err != nil {
		return err
	}
	hdr := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: before.Size(), Mode: 0o644}
	if before.Mode()&0o100 != 0 {
		hdr.Mode = 0o755
	}
	if err := p.header(hdr); err != nil {
		return err
	}
	_, err = io.CopyN(p.tar, ctxReader{p.ctx, f}, before.Size())
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	after, statErr := f.Stat()
	if statErr != nil {
		return statErr
	}
	if err != nil || after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime()) {
		return fmt.Errorf("%w: %.200q", ErrChanged, name)
	}
	return nil
}

// openFile opens the regular file that stat finds, and nothing else: it does not hang on a pipe, nor follow a link, that
// took its place.
func openFile(root *os.Root, name string, stat func(string) (fs.FileInfo, error)) (*os.File, fs.FileInfo, error) {
	seen, err := stat(name)
	if err != nil {
		return nil, nil, err
	}
	if !seen.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%w: %.200q is a %s", ErrUnsupportedEntry, name, seen.Mode().Type())
	}
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !os.SameFile(seen, info) {
		err = fmt.Errorf("%w: %.200q", ErrChanged, name)
	}
	if err != nil {
		_ = f.Close() // It was only opened.
		return nil, nil, err
	}
	return f, info, nil
}

func changedIfGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrChanged, err)
	}
	return err
}

// ctxReader ends a long copy when ctx ends.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c ctxReader) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(b)
}
