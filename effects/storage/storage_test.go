package storage

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/source"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testID = events.ProgramID("alice-build-0123456789ab-6ba7b810-9dad-41d1-80b4-00c04fd430c8")

var folders = map[string]fs.FileMode{
	"src": 0o700, "meta": 0o700, "state": 0o777, "compose": 0o700, "logs": 0o700, "runtime": 0o700,
}

func (m *Manager) getters() map[string]func(events.ProgramID) string {
	return map[string]func(events.ProgramID) string{
		"src": m.GetSrcPath, "meta": m.GetMetaPath, "state": m.GetStatePath,
		"compose": m.GetComposePath, "logs": m.GetLogsPath, "runtime": m.GetRuntimePath,
	}
}

func ensured(t *testing.T, id events.ProgramID) *Manager {
	t.Helper()
	m := NewManager(filepath.Join(t.TempDir(), "base"))
	if err := m.EnsureProgramFolders(id); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestEnsureProgramFolders(t *testing.T) {
	base := filepath.Join(t.TempDir(), "a", "b")
	m := NewManager(base)
	for _, id := range []events.ProgramID{testID, "my-prog", "test", "a_b"} {
		if m.ProgramExists(id) {
			t.Errorf("%s exists before", id)
		}
		for range 2 { // The second time it must find everything in order.
			if err := m.EnsureProgramFolders(id); err != nil {
				t.Fatal(err)
			}
			checkModes(t, filepath.Join(base, string(id)))
		}
		if !m.ProgramExists(id) {
			t.Errorf("%s does not exist", id)
		}
		for name, get := range m.getters() {
			if got, want := get(id), filepath.Join(base, string(id), name); got != want {
				t.Errorf("path of %s: got %q, want %q", name, got, want)
			}
		}
	}
	if info, err := os.Stat(base); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("base folder: %v, %v", info.Mode(), err)
	}
}

func checkModes(t *testing.T, dir string) {
	t.Helper()
	want := map[string]fs.FileMode{".": 0o700}
	for name, mode := range folders {
		want[name] = mode
	}
	for name, mode := range want {
		info, err := os.Lstat(filepath.Join(dir, name))
		if err != nil || !info.IsDir() || info.Mode() != fs.ModeDir|mode {
			t.Errorf("%s: %v, %v; want %v", name, info, err, mode)
		}
	}
}

func TestEnsureRepairs(t *testing.T) {
	m := ensured(t, testID)
	file := filepath.Join(m.GetStatePath(testID), "kept")
	err := errors.Join(
		os.WriteFile(file, []byte("x"), 0o600),
		os.Chmod(m.GetStatePath(testID), 0o500|fs.ModeSetuid),
		os.Chmod(filepath.Dir(m.GetSrcPath(testID)), 0o755),
		os.Remove(m.GetLogsPath(testID)),
		m.EnsureProgramFolders(testID),
	)
	if err != nil {
		t.Fatal(err)
	}
	checkModes(t, filepath.Dir(m.GetSrcPath(testID)))
	if content, err := os.ReadFile(file); err != nil || string(content) != "x" {
		t.Errorf("the state became %q, %v", content, err)
	}
}

func TestEnsureRefusesWhatIsInTheWay(t *testing.T) {
	outside := t.TempDir()
	for _, name := range []string{"", "src", "state", "logs"} {
		for kind, put := range map[string]func(path string) error{
			"link": func(path string) error { return os.Symlink(outside, path) },
			"file": func(path string) error { return os.WriteFile(path, nil, 0o600) },
		} {
			m := ensured(t, testID)
			path := filepath.Join(m.base, string(testID), name)
			if err := errors.Join(os.RemoveAll(path), put(path)); err != nil {
				t.Fatal(err)
			}
			if err := m.EnsureProgramFolders(testID); err == nil {
				t.Errorf("a %s in the place of %q was taken for a folder", kind, name)
			}
		}
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 {
		t.Errorf("outside: %v, %v", entries, err)
	}
}

func TestUnsafeIDs(t *testing.T) {
	base := filepath.Join(t.TempDir(), "base")
	m := NewManager(base)
	if err := os.MkdirAll(filepath.Join(base, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	ids := []string{
		"", ".", "..", "../x", "x/..", "x/y", "/x", "/", "x/", `x\y`, "a.b", ".x", "-x", "_x", "X", "My-Prog", "a b", " ", "*", ">", "a*", "x\x00",
		"x\n", "é", "\xff", "~", "$HOME", "%2e%2e", strings.Repeat("a", 129), strings.Repeat("a", 300),
	}
	for _, id := range ids {
		t.Run(fmt.Sprintf("%.20q", id), func(t *testing.T) {
			id := events.ProgramID(id)
			if m.ProgramExists(id) {
				t.Error("it exists")
			}
			store := m.StoreSource(context.Background(), id, bytes.NewReader(nil), "")
			for _, err := range []error{m.EnsureProgramFolders(id), m.DeleteProgram(id), store} {
				if !errors.Is(err, ErrUnsafeID) {
					t.Errorf("got %v, want %v", err, ErrUnsafeID)
				}
			}
			for name, get := range m.getters() {
				path := get(id)
				if !filepath.IsAbs(path) || strings.HasPrefix(path, base) {
					t.Errorf("path of %s: %q", name, path)
				}
				if err := os.MkdirAll(filepath.Join(path, "x"), 0o700); err == nil {
					t.Errorf("%q can be made", path)
				}
			}
		})
	}
	if entries, err := os.ReadDir(base); err != nil || len(entries) != 1 {
		t.Errorf("base folder: %v, %v", entries, err)
	}
}

// TestEveryProgramIDIsSafe holds the rule of this package against that of events.
func TestEveryProgramIDIsSafe(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		user, err := events.ParseUserID(rapid.StringMatching(`[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?`).Draw(t, "user"))
		if err != nil {
			t.Fatal(err)
		}
		if id := events.NewProgramID(user, "build-0123456789ab"); !isSafeID(string(id)) {
			t.Errorf("%s is not safe", id)
		}
	})
}

func TestBaseFolder(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	m := NewManager("programs")
	t.Chdir(t.TempDir())
	if got, want := m.GetSrcPath("x"), filepath.Join(dir, "programs", "x", "src"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	none := NewManager("")
	if none.EnsureProgramFolders("x") == nil || none.DeleteProgram("x") == nil || none.ProgramExists("x") || !filepath.IsAbs(none.GetSrcPath("x")) {
		t.Error("no base folder was taken for one")
	}
}

func tarball(t *testing.T, name, content string) ([]byte, events.SourceDigest) {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(content)), Mode: 0o644})
	_, writeErr := tw.Write([]byte(content))
	if err := errors.Join(err, writeErr, tw.Close()); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(buf.Bytes())
	return buf.Bytes(), events.SourceDigest(hex.EncodeToString(sum[:]))
}

func TestStoreSource(t *testing.T) {
	m := NewManager(filepath.Join(t.TempDir(), "base"))
	good, digest := tarball(t, "Dockerfile", "FROM scratch")
	bad, badDigest := tarball(t, "../../x", "x")
	full := fmt.Errorf("read: %w", syscall.ENOSPC)
	program := filepath.Join(m.base, string(testID))
	leftover := func() error { return os.MkdirAll(filepath.Join(program, ".src.unpack-KILLED", "x"), 0o700) }
	store := func(data []byte, digest events.SourceDigest) func() error {
		return func() error { return m.StoreSource(context.Background(), testID, bytes.NewReader(data), digest) }
	}
	steps := []struct {
		name string
		run  func() error
		err  error
		want []string // In src/.
	}{
		{"wrong digest", store(good, badDigest), source.ErrDigest, nil},
		{"right", store(good, digest), nil, []string{"Dockerfile"}},
		{"again", store(good, digest), nil, []string{"Dockerfile"}},
		{"unsafe", store(bad, badDigest), source.ErrUnsafePath, []string{"Dockerfile"}},
		{"after a crash", func() error { return errors.Join(leftover(), store(good, digest)()) }, nil, []string{"Dockerfile"}},
		{"after a crash between the renames", func() error { return errors.Join(os.RemoveAll(m.GetSrcPath(testID)), store(good, digest)()) }, nil, []string{"Dockerfile"}},
		{"failing reader", func() error { return m.StoreSource(context.Background(), testID, iotest.ErrReader(full), digest) }, syscall.ENOSPC, []string{"Dockerfile"}},
	}
	for _, step := range steps {
		if err := step.run(); !errors.Is(err, step.err) {
			t.Errorf("%s: got %v, want %v", step.name, err, step.err)
		}
		if got := list1(t, m.GetSrcPath(testID)); !slices.Equal(got, step.want) {
			t.Errorf("%s: src holds %q, want %q", step.name, got, step.want)
		}
		if got := list1(t, program); len(got) != len(folders) {
			t.Errorf("%s: the program's folder holds %q", step.name, got)
		}
	}
	if got := list1(t, m.base); !slices.Equal(got, []string{string(testID)}) {
		t.Errorf("the base folder holds %q", got)
	}
}

func list1(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestBusy has one StoreSource wait in its reader while others try.
func TestBusy(t *testing.T) {
	m := ensured(t, testID)
	data, digest := tarball(t, "Dockerfile", "")
	r := &gate{entered: make(chan struct{}), open: make(chan struct{}), data: bytes.NewReader(data)}
	done := make(chan error)
	go func() { done <- m.StoreSource(context.Background(), testID, r, digest) }()
	<-r.entered
	other := NewManager(m.base)
	if err := other.StoreSource(context.Background(), testID, bytes.NewReader(data), digest); !errors.Is(err, ErrBusy) {
		t.Errorf("got %v, want %v", err, ErrBusy)
	}
	if err := other.DeleteProgram(testID); !errors.Is(err, ErrBusy) {
		t.Errorf("got %v, want %v", err, ErrBusy)
	}
	if err := other.EnsureProgramFolders(testID); err != nil {
		t.Error(err)
	}
	close(r.open)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := other.DeleteProgram(testID); err != nil {
		t.Error(err)
	}
}

type gate struct {
	entered, open chan struct{}
	passed        bool
	data          *bytes.Reader
}

func (g *gate) Read(b []byte) (int, error) {
	if !g.passed {
		g.passed = true
		close(g.entered)
		<-g.open
	}
	return g.data.Read(b)
}

func TestDeleteProgram(t *testing.T) {
	outside := t.TempDir()
	canary := filepath.Join(outside, "canary")
	if err := os.WriteFile(canary, []byte("alive"), 0o644); err != nil {
		t.Fatal(err)
	}
	tests := map[string]func(state string) error{
		"nothing": func(string) error { return nil },
		"files":   func(s string) error { return os.WriteFile(filepath.Join(s, "f"), nil, 0) },
		"links out": func(s string) error {
			return errors.Join(os.Symlink(outside, filepath.Join(s, "dir")), os.Symlink(canary, filepath.Join(s, "file")), os.Symlink("/", filepath.Join(s, "root")))
		},
		"hard link out": func(s string) error { return os.Link(canary, filepath.Join(s, "h")) },
		"pipe":          func(s string) error { return syscall.Mkfifo(filepath.Join(s, "pipe"), 0o600) },
		"locked folders": func(s string) error {
			a := filepath.Join(s, "a", "b", "c")
			return errors.Join(os.MkdirAll(a, 0o700), os.Chmod(a, 0), os.Chmod(filepath.Dir(a), 0o500), os.Chmod(s, 0))
		},
		"many": func(s string) error {
			var errs []error
			for i := range 3 * listBatch / 2 {
				errs = append(errs, os.MkdirAll(filepath.Join(s, fmt.Sprint("d", i), "e"), 0o700))
			}
			return errors.Join(errs...)
		},
		"deeper than a path": makeDeep,
	}
	for name, fill := range tests {
		t.Run(name, func(t *testing.T) {
			m := ensured(t, testID)
			if err := m.EnsureProgramFolders("other"); err != nil {
				t.Fatal(err)
			}
			if err := fill(m.GetStatePath(testID)); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := m.DeleteProgram(testID); err != nil || m.ProgramExists(testID) {
					t.Errorf("got %v, exists %v", err, m.ProgramExists(testID))
				}
			}
			if !m.ProgramExists("other") {
				t.Error("another program is gone")
			}
			if content, err := os.ReadFile(canary); err != nil || string(content) != "alive" {
				t.Errorf("outside: %q, %v", content, err)
			}
		})
	}
}

// makeDeep makes a folder as a program can, step by step, whose path nobody can say.
func makeDeep(dir string) error {
	root, err := os.OpenRoot(dir)
	for range 2200 {
		if err != nil {
			return err
		}
		if err := root.Mkdir("d", 0o700); err != nil {
			return err
		}
		next, openErr := root.OpenRoot("d")
		root.Close()
		root, err = next, openErr
	}
	return errors.Join(err, root.Close())
}

// TestDeleteProgramLink checks that a link in the place of a program is removed, and not what it leads to.
func TestDeleteProgramLink(t *testing.T) {
	m := ensured(t, "other")
	if err := os.Symlink("other", filepath.Join(m.base, "link")); err != nil {
		t.Fatal(err)
	}
	if m.ProgramExists("link") {
		t.Error("a link was taken for a program")
	}
	if err := m.DeleteProgram("link"); err != nil {
		t.Error(err)
	}
	if got := list1(t, m.base); !slices.Equal(got, []string{"other"}) || len(list1(t, filepath.Join(m.base, "other"))) != len(folders) {
		t.Errorf("got %q", got)
	}
}

func TestBaseIsAFile(t *testing.T) {
	base := filepath.Join(t.TempDir(), "base")
	if err := os.WriteFile(base, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := NewManager(base).EnsureProgramFolders("x"); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("got %v, want ENOTDIR", err)
	}
}
