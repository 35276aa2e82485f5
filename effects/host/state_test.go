package host_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/effects/host"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/dockertest"
)

// The note of a kill stays until the kill can be known not to have succeeded, and says nothing of a container that ended by itself.
func TestNoteOfAKill(t *testing.T) {
	b := newBench(t)
	h := b.handler("", host.WithStateLimit(1<<30))
	id := b.program(t, dockertest.Command("await", "go", "exit", "3"))
	container := b.run(h, id, 1)
	path := filepath.Join(b.storage.GetRuntimePath(id), "ended.json")
	note := func() {
		data, err := json.Marshal(map[string]string{"containerId": container, "reason": "for a test"})
		if err == nil {
			err = os.WriteFile(path, data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	noted := func() bool { _, err := os.Stat(path); return err == nil }
	enforce := func() {
		t.Helper()
		if err := h.EnforceStateLimit(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	note()
	if enforce(); !noted() {
		t.Error("the note of a kill that is under way was removed")
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	if enforce(); noted() {
		t.Error("the note of a kill that did not succeed is still there")
	}
	note()
	b.signal(t, id, "go")
	b.waitDead(t, container)
	want := events.RuntimeExited{ContainerID: container, ExitCode: 3}
	if result := h.Execute(t.Context(), effects.FetchRuntimeStatus{ContainerID: container}); result != want {
		t.Errorf("one that ended by itself gives %+v, want %+v", result, want)
	}
}
