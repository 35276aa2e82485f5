package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/patternmatcher"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestPackStable holds the format still: another digest means that every source gets another BuildID.
func TestPackStable(t *testing.T) {
	src := tree{
		"Dockerfile": "FROM scratch\n", "run*": "#!/bin/sh\n", "a/b/c.txt": "c", "a-b": "", "empty/": "", "link@": "a/b/c.txt",
		"ü/" + strings.Repeat("long", 40): "x", ".dockerignore": "*.log\n", "x.log": "no",
	}
	const want = "f141e3df2deee261b67acb8959db970616cf9e00ab1df23078513d304096a873"
	data, digest := packed(t, src.folder(t))
	if digest != want {
		t.Errorf("digest %s, want %s", digest, want)
	}
	wantNames := []string{
		".dockerignore", "Dockerfile", "a/", "a/b/", "a/b/c.txt", "a-b", "empty/", "link", "run", "ü/", "ü/" + strings.Repeat("long", 40),
	}
	// Folder by folder, each sorted by itself.
	if got := names(t, data); !slices.Equal(got, wantNames) {
		t.Errorf("got %q, want %q", got, wantNames)
	}
}

func TestPackIgnoresWhatIsNotContent(t *testing.T) {
	src := tree{"Dockerfile": "FROM scratch\n", "d/f": "f", "x*": "x"}
	one, other := src.folder(t), src.folder(t)
	for name, mode := range map[string]os.FileMode{"Dockerfile": 0o600, "d": 0o700, "d/f": 0o444, "x": 0o700} {
		full := filepath.Join(other, name)
		if err := os.Chtimes(full, time.Time{}, time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(full, mode); err != nil {
			t.Fatal(err)
		}
	}
	a, _ := packed(t, one)
	b, _ := packed(t, other)
	if !bytes.Equal(a, b) {
		t.Error("times or modes made a difference")
	}
}

func TestPackIgnoreFile(t *testing.T) {
	src := tree{
		"Dockerfile": "", "a.log": "", "keep.log": "", "d/a.log": "", "d/keep.log": "", "d/e/a.txt": "", "node/x/y/keep.me": "", "node/x/z": "",
		"secret/key": "",
	}
	all := []string{".dockerignore", "Dockerfile", "a.log", "d/a.log", "d/e/a.txt", "d/keep.log", "keep.log", "node/x/y/keep.me", "node/x/z", "secret/key"}
	without := func(gone ...string) []string {
		return slices.DeleteFunc(slices.Clone(all), func(name string) bool { return slices.Contains(gone, name) })
	}
	tests := []struct {
		name, patterns string
		want           []string
	}{
		{"nothing", "", all},
		{"comments and blank lines", "# x\n\n  \n", all},
		{"byte order mark", "\ufeffsecret\n", without("secret/key")},
		{"one folder", "secret", without("secret/key")},
		{"absolute means the folder", "/secret/", without("secret/key")},
		{"star stays in its folder", "*.log", without("a.log", "keep.log")},
		{"two stars do not", "**/*.log", without("a.log", "keep.log", "d/a.log", "d/keep.log")},
		{"exception", "*.log\n!keep.log", without("a.log")},
		{"order counts", "!keep.log\n*.log", without("a.log", "keep.log")},
		{"exception in an ignored folder", "node\n!node/x/y/keep.me", without("node/x/z")},
		{"exception by stars in an ignored folder", "node\n!**/keep.me", without("node/x/z")},
		{"exception by one star", "node\n!node/*/y", without("node/x/z")},
		{"exception elsewhere", "node\n!d/keep.log", without("node/x/y/keep.me", "node/x/z")},
		{"exception of a folder, then a part of it", "d\n!d/e\nd/e/a*", without("d/a.log", "d/keep.log", "d/e/a.txt")},
		{"everything", "*", []string{".dockerignore", "Dockerfile"}},
		{"everything by stars", "**", []string{".dockerignore", "Dockerfile"}},
		{"the files of the build", "Dockerfile\n.dockerignore", all},
		{"all but one", "**\n!d/e", []string{".dockerignore", "Dockerfile", "d/e/a.txt"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src := maps.Clone(src)
			src[".dockerignore"] = tt.patterns
			data, _ := packed(t, src.folder(t))
			got := slices.DeleteFunc(names(t, data), func(name string) bool { return strings.HasSuffix(name, "/") })
			slices.Sort(got)
			if !slices.Equal(got, tt.want) {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

func TestPackRefuses(t *testing.T) {
	deep := strings.Repeat("d/", maxDepth)
	tests := []struct {
		name string
		src  tree
		want error
	}{
		{"no Dockerfile", tree{"a": ""}, ErrNoDockerfile},
		{"Dockerfile is a folder", tree{"Dockerfile/a": ""}, ErrNoDockerfile},
		{"Dockerfile leads nowhere", tree{"Dockerfile@": "a"}, ErrNoDockerfile},
		{"Dockerfile leads out", tree{"Dockerfile@": "../a"}, ErrUnsafePath},
		{"absolute link", tree{"Dockerfile": "", "l@": "/etc/passwd"}, ErrUnsafePath},
		{"link leads out", tree{"Dockerfile": "", "a/l@": "../../x"}, ErrUnsafePath},
		{"link leads out by another", tree{"Dockerfile": "", "a/b/c/": "", "l@": "a/b/c", "m@": "l/../../../.."}, ErrUnsafePath},
		{"link to the folder above it all", tree{"Dockerfile": "", "l@": ".."}, ErrUnsafePath},
		{"name is not UTF-8", tree{"Dockerfile": "", "\xff": ""}, ErrUnsafePath},
		{"too deep", tree{"Dockerfile": "", deep + "f": ""}, ErrTooLarge},
		{"bad pattern", tree{"Dockerfile": "", ".dockerignore": "["}, ErrInvalidIgnore},
		{"exception of nothing", tree{"Dockerfile": "", ".dockerignore": "!"}, ErrInvalidIgnore},
		{"too many patterns", tree{"Dockerfile": "", ".dockerignore": strings.Repeat("a\n", maxIgnorePatterns+1)}, ErrInvalidIgnore},
		{"patterns too long", tree{"Dockerfile": "", ".dockerignore": strings.Repeat("#", maxIgnoreBytes+1)}, ErrInvalidIgnore},
		{"patterns are a folder", tree{"Dockerfile": "", ".dockerignore/x": ""}, ErrUnsupportedEntry},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			digest, err := Pack(context.Background(), io.Discard, tt.src.folder(t))
			if !errors.Is(err, tt.want) || digest != "" {
				t.Errorf("got %q, %v; want %v", digest, err, tt.want)
			}
		})
	}
}

func TestPackAcceptsLinksThatStay(t *testing.T) {
	src := tree{
		"docker/File": "FROM scratch\n", "Dockerfile@": "docker/File", "a/l@": "../b", "b": "b", "circle@": "circle", "nowhere@": "x/y",
		"self@": ".", "ignore": "x\n", ".dockerignore@": "ignore", "x": "", "up@": "a/../b",
	}
	data, _ := packed(t, src.folder(t))
	if got := names(t, data); !slices.Contains(got, "circle") || slices.Contains(got, "x") {
		t.Errorf("got %q", got)
	}
}

func TestPackSpecialFiles(t *testing.T) {
	dir := tree{"Dockerfile": ""}.folder(t)
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Pack(context.Background(), io.Discard, dir); !errors.Is(err, ErrUnsupportedEntry) {
		t.Errorf("got %v, want %v", err, ErrUnsupportedEntry)
	}
	tree{".dockerignore": "pipe"}.write(t, dir)
	if _, err := Pack(context.Background(), io.Discard, dir); err != nil {
		t.Errorf("an ignored pipe: %v", err)
	}
}

func TestPackTooLarge(t *testing.T) {
	dir := tree{"Dockerfile": ""}.folder(t)
	f, err := os.Create(filepath.Join(dir, "big"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(MaxBytes + 1); err != nil { // All hole: no disk is used, and none of it is read.
		t.Fatal(err)
	}
	if _, err := Pack(context.Background(), io.Discard, dir); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v, want %v", err, ErrTooLarge)
	}
}

// hookWriter calls hook before the first write that holds the mark.
type hookWriter struct {
	mark []byte
	hook func()
}

func (h *hookWriter) Write(b []byte) (int, error) {
	if h.hook != nil && bytes.Contains(b, h.mark) {
		h.hook()
		h.hook = nil
	}
	return len(b), nil
}

func TestPackFileChanges(t *testing.T) {
	const size = 1 << 20 // More than the buffers, so that writing starts before reading ends.
	for name, change := range map[string]func(f *os.File) error{
		"grows":   func(f *os.File) error { _, err := f.WriteAt([]byte("x"), size); return err },
		"shrinks": func(f *os.File) error { return f.Truncate(size / 2) },
		"changes": func(f *os.File) error {
			_, err := f.WriteAt([]byte("x"), size-1)
			return errors.Join(err, os.Chtimes(f.Name(), time.Time{}, time.Unix(1, 0)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tree{"Dockerfile": strings.Repeat("#", size)}.folder(t)
			f, err := os.OpenFile(filepath.Join(dir, "Dockerfile"), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			w := &hookWriter{mark: []byte("####"), hook: func() {
				if err := change(f); err != nil {
					t.Error(err)
				}
			}}
			if _, err := Pack(context.Background(), w, dir); !errors.Is(err, ErrChanged) {
				t.Errorf("got %v, want %v", err, ErrChanged)
			}
		})
	}
}

func TestPackFailingWriterAndContext(t *testing.T) {
	dir := tree{"Dockerfile": ""}.folder(t)
	full := fmt.Errorf("write: %w", syscall.ENOSPC)
	if _, err := Pack(context.Background(), failingWriter{full}, dir); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v, want ENOSPC", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Pack(ctx, io.Discard, dir); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	if _, err := Pack(context.Background(), io.Discard, filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want %v", err, os.ErrNotExist)
	}
}

type failingWriter struct{ err error }

func (f failingWriter) Write([]byte) (int, error) { return 0, f.err }

func TestStream(t *testing.T) {
	src := tree{"Dockerfile": "", "build/Other": "", "build/x": "", ".dockerignore": "build\n"}
	dir := src.folder(t)
	read := func(dockerfile string) ([]string, error) {
		r := Stream(context.Background(), dir, dockerfile)
		defer r.Close()
		data, err := io.ReadAll(r)
		return names(t, data), err
	}
	want := []string{".dockerignore", "Dockerfile"}
	if got, err := read(""); err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	want = []string{".dockerignore", "Dockerfile", "build/Other"}
	if got, err := read("./build/Other"); err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	if _, err := read("none"); !errors.Is(err, ErrNoDockerfile) {
		t.Errorf("got %v, want %v", err, ErrNoDockerfile)
	}
	if _, err := read("../Dockerfile"); !errors.Is(err, ErrUnsafePath) {
		t.Errorf("got %v, want %v", err, ErrUnsafePath)
	}
}

// TestStreamClosedEarly relies on goleak: the packing goroutine must be gone.
func TestStreamClosedEarly(t *testing.T) {
	dir := tree{"Dockerfile": strings.Repeat("#", 1<<20)}.folder(t)
	r := Stream(context.Background(), dir, "")
	if _, err := r.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestRoundTrip checks that a packed folder unpacks to the same folder, less what is ignored, and packs to the same bytes
// again: executors make build contexts of what they unpacked, and those must be what was deployed.
func TestRoundTrip(t *testing.T) {
	base := t.TempDir()
	runs := 0
	name := rapid.StringMatching(`[a-c.é -]{1,6}`).Filter(func(s string) bool { return s != "." && s != ".." })
	rapid.Check(t, func(rt *rapid.T) {
		runs++
		dir, back := filepath.Join(base, fmt.Sprint(runs, "a")), filepath.Join(base, fmt.Sprint(runs, "b"))
		tree{"Dockerfile": rapid.String().Draw(rt, "dockerfile")}.write(t, dir)
		for i := range rapid.IntRange(0, 12).Draw(rt, "entries") {
			path := filepath.Join(dir, filepath.Join(rapid.SliceOfN(name, 1, 4).Draw(rt, "path")...))
			if os.MkdirAll(filepath.Dir(path), 0o755) != nil {
				continue // A file is in the way; the tree is random anyway.
			}
			switch rapid.SampledFrom([]string{"file", "exec", "dir", "link"}).Draw(rt, "kind") {
			case "file":
				_ = os.WriteFile(path, []byte(rapid.String().Draw(rt, "content")), 0o644)
			case "exec":
				_ = os.WriteFile(path, []byte{byte(i)}, 0o711)
			case "dir":
				_ = os.MkdirAll(path, 0o700)
			case "link":
				_ = os.Symlink(rapid.SampledFrom([]string{"a", "b/c", "./.", "a-b"}).Draw(rt, "target"), path)
			}
		}
		patterns := rapid.SliceOfN(rapid.StringMatching(`!?(\*\*/)?[a-c*]{1,2}(/[a-c?*]{1,2})?`), 0, 4).Draw(rt, "patterns")
		tree{".dockerignore": strings.Join(patterns, "\n")}.write(t, dir)

		data, digest := packed(t, dir)
		if err := os.Mkdir(back, 0o755); err != nil {
			t.Fatal(err)
		}
		got, err := Unpack(context.Background(), back, bytes.NewReader(data), Limits{})
		if err != nil || string(got) != digest {
			t.Fatalf("got %s, %v; want %s", got, err, digest)
		}
		whole, part := readTree(t, dir), readTree(t, back)
		for name, content := range part {
			if was, found := whole[name]; !strings.HasSuffix(name, "/") && (!found || was != content) {
				t.Errorf("%q holds %q, was %q", name, content, was)
			}
		}
		if len(patterns) == 0 && !maps.Equal(whole, part) {
			t.Errorf("got %q, want %q", part, whole)
		}
		if again, _ := packed(t, back); !bytes.Equal(data, again) {
			t.Errorf("packed again: %q, first %q", names(t, again), names(t, data))
		}
		os.RemoveAll(dir)
		os.RemoveAll(back)
	})
}

// FuzzIgnore checks that no .dockerignore makes packing panic, or leave out what the build needs, and that a folder is
// passed over only when nothing in it would have been kept.
func FuzzIgnore(f *testing.F) {
	for _, seed := range []string{"*", "**", "!**", "a\n!a/b", "[a-z]/\\*", "**/b\n!**/c", "a/**/c\n!a/*/c", ".", "..", "/", "!/", "a**b", "a\n![a/]b", "a\n!x|/*", "a\n!x{0}*/c"} {
		f.Add(seed)
	}
	dir := f.TempDir()
	tree{"Dockerfile": "", "a/b/c": "", "a/c": "", "b/a/c": ""}.write(f, dir)
	f.Fuzz(func(t *testing.T, patterns string) {
		tree{".dockerignore": patterns}.write(t, dir)
		var buf bytes.Buffer
		if _, err := Pack(context.Background(), &buf, dir); err != nil {
			if !errors.Is(err, ErrInvalidIgnore) {
				t.Error(err)
			}
			return
		}
		got := names(t, buf.Bytes())
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		g, err := readIgnore(root, dockerfileName)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"Dockerfile", ".dockerignore", "a/b/c", "a/c", "b/a/c"} {
			var ignored bool
			var match patternmatcher.MatchInfo
			for i := range len(name) + 1 { // All folders above it are looked at, whether they are ignored or not.
				if i == len(name) || name[i] == '/' {
					if ignored, match, err = g.match(name[:i], match); err != nil {
						t.Fatal(err)
					}
				}
			}
			if ignored == slices.Contains(got, name) {
				t.Errorf("%s: ignored is %v, packed %q", name, ignored, got)
			}
		}
	})
}
