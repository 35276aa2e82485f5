package storage

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rlaaudgjs5638/hersh/events"
)

func TestStateSize(t *testing.T) {
	const id = events.ProgramID("my-prog")
	m := NewManager(filepath.Join(t.TempDir(), "base"))
	size := func() int64 {
		t.Helper()
		n, err := m.StateSize(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := size(); n != 0 {
		t.Errorf("a program without folders has %d bytes", n)
	}
	if err := m.EnsureProgramFolders(id); err != nil {
		t.Fatal(err)
	}
	state := m.GetStatePath(id)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(state, "a", "b"), 0o755))
	must(os.WriteFile(filepath.Join(state, "a", "b", "full"), make([]byte, 1<<20), 0o600))
	must(os.Symlink("/", filepath.Join(state, "root")))
	must(os.Symlink("a", filepath.Join(state, "loop")))
	sparse, err := os.Create(filepath.Join(state, "sparse"))
	must(err)
	must(sparse.Truncate(1 << 40))
	must(sparse.Close())
	if n := size(); n < 1<<20 || n > 2<<20 {
		t.Errorf("a file of 1 MiB, links and a file of holes are %d bytes", n)
	}
	must(os.MkdirAll(filepath.Join(state, strings.Repeat("d/", maxNested+2)), 0o755))
	if _, err := m.StateSize(t.Context(), id); !errors.Is(err, ErrUncountable) {
		t.Errorf("folders without end give %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.StateSize(ctx, id); !errors.Is(err, context.Canceled) {
		t.Errorf("the end of the context gives %v", err)
	}
	if _, err := m.StateSize(t.Context(), "../x"); !errors.Is(err, ErrUnsafeID) {
		t.Errorf("an unsafe ID gives %v", err)
	}
}
