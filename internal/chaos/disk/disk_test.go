package disk

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newDisk(t *testing.T, kind Kind) *Disk {
	t.Helper()
	d, err := New(filepath.Join(t.TempDir(), "disk"), kind)
	if errors.Is(err, ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func syncPath(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	must(t, f.Sync())
	must(t, f.Close())
}

func (d *Disk) powerCut(t *testing.T) {
	t.Helper()
	d.Cut()
	must(t, d.Restore())
}

// content is what a file says, "-" if there is none.
func content(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return "-"
	}
	must(t, err)
	return string(data)
}

func TestFilesAreWhatWasWritten(t *testing.T) {
	d := newDisk(t, Strict)
	dir := filepath.Join(d.dir, "a", "b")
	must(t, os.MkdirAll(dir, 0o755))
	path := filepath.Join(dir, "f")
	must(t, os.WriteFile(path, []byte("0123456789"), 0o600))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt([]byte("xy"), 4)
	must(t, err)
	must(t, f.Truncate(8))
	must(t, f.Truncate(10))
	must(t, f.Close())
	if got := content(t, path); got != "0123xy67\x00\x00" {
		t.Errorf("the file says %q", got)
	}
	must(t, os.Rename(path, filepath.Join(d.dir, "g")))
	must(t, os.Remove(dir))
	entries, err := os.ReadDir(d.dir)
	must(t, err)
	if len(entries) != 2 || entries[0].Name() != "a" || entries[1].Name() != "g" || content(t, path) != "-" {
		t.Errorf("there are %v", entries)
	}
}

func TestPowerCutLosesWhatWasNotSynced(t *testing.T) {
	for kind, want := range map[Kind]struct{ noFolderSync, renamed string }{Strict: {"-", "old"}, Journaled: {"synced", "new"}} {
		t.Run(fmt.Sprint(kind), func(t *testing.T) {
			d := newDisk(t, kind)
			in := func(name string) string { return filepath.Join(d.dir, name) }
			for _, name := range []string{"safe", "target"} {
				must(t, os.WriteFile(in(name), []byte("old"), 0o600))
				syncPath(t, in(name))
			}
			syncPath(t, d.dir)
			must(t, os.WriteFile(in("safe"), []byte("not synced"), 0o600))
			must(t, os.WriteFile(in("unsynced"), []byte("not synced"), 0o600))
			must(t, os.WriteFile(in("new"), []byte("new"), 0o600))
			syncPath(t, in("new"))
			must(t, os.Rename(in("new"), in("target")))
			f, err := os.OpenFile(in("synced"), os.O_CREATE|os.O_WRONLY|os.O_SYNC, 0o600)
			must(t, err)
			_, err = f.WriteString("synced")
			must(t, err)
			must(t, f.Close())
			d.powerCut(t)
			if got := content(t, in("safe")); got != "old" {
				t.Errorf("a file that was written over and not synced says %q", got)
			}
			if got := content(t, in("unsynced")); got != "-" && got != "" {
				t.Errorf("a new file that was not synced says %q", got)
			}
			if got := content(t, in("synced")); got != want.noFolderSync {
				t.Errorf("a new file that was synced, and its folder not, says %q, want %q", got, want.noFolderSync)
			}
			if got := content(t, in("target")); got != want.renamed {
				t.Errorf("a file that a synced one was renamed to says %q, want %q", got, want.renamed)
			}
		})
	}
}

// Of many sectors that were not synced some are there and some are not; those that were synced all are.
func TestTornWrites(t *testing.T) {
	d := newDisk(t, Torn)
	path := filepath.Join(d.dir, "f")
	const sectors = 200
	must(t, os.WriteFile(path, bytes.Repeat([]byte("s"), sectors*sector), 0o600))
	syncPath(t, path)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt(bytes.Repeat([]byte("u"), sectors*sector), sectors/2*sector)
	must(t, err)
	must(t, f.Close())
	d.powerCut(t)
	got := content(t, path)
	counts := map[byte]int{}
	for _, c := range []byte(got[sectors/2*sector:]) {
		counts[c]++
	}
	if strings.Trim(got[:sectors/2*sector], "s") != "" || counts['s'] == 0 || counts['u'] == 0 || counts['s']%sector != 0 || counts['u']%sector != 0 {
		t.Errorf("after the power cut there are %v", counts)
	}
}

func TestSyncedFolderKeepsNames(t *testing.T) {
	d := newDisk(t, Strict)
	path := filepath.Join(d.dir, "f")
	must(t, os.WriteFile(path, []byte("x"), 0o600))
	syncPath(t, path)
	syncPath(t, d.dir)
	must(t, os.Remove(path))
	d.powerCut(t)
	if got := content(t, path); got != "x" {
		t.Errorf("the file says %q", got)
	}
}

func TestFullDisk(t *testing.T) {
	d := newDisk(t, Journaled)
	path := filepath.Join(d.dir, "f")
	must(t, os.WriteFile(path, []byte("x"), 0o600))
	d.SetFull(true)
	if err := os.WriteFile(path, []byte("xxx"), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a write to a full disk: %v", err)
	}
	if err := os.WriteFile(path+"2", nil, 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a new file on a full disk: %v", err)
	}
	d.SetFull(false)
	must(t, os.WriteFile(path, []byte("xxx"), 0o600))
}

func TestNothingWorksWithoutPower(t *testing.T) {
	d := newDisk(t, Journaled)
	path := filepath.Join(d.dir, "f")
	must(t, os.WriteFile(path, []byte("x"), 0o600))
	d.Cut()
	if _, err := os.ReadFile(path); !errors.Is(err, syscall.EIO) {
		t.Errorf("a read without power: %v", err)
	}
	must(t, d.Restore())
}
