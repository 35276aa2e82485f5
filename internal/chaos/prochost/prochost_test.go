package prochost_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/chaos/box"
	"github.com/rlaaudgjs5638/hersh/internal/chaos/prochost"
)

const seed = 1

// container builds the container's program.
func container(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "container")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", path, "github.com/rlaaudgjs5638/hersh/internal/chaos/container")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// plain returns a program whose first two attempts run until they are stopped.
func plain(t *testing.T) events.ProgramID {
	t.Helper()
	for n := range 1000 {
		id := events.ProgramID(fmt.Sprintf("alice-build-0123456789ab-00000000-0000-4000-8000-%012d", n))
		good := true
		for attempt := range uint64(2) {
			p := prochost.PlanOf(seed, id, attempt+1)
			good = good && !p.FoldersFail && !p.BuildFails && !p.StartFails && p.Script == box.Script{}
		}
		if good {
			return id
		}
	}
	t.Fatal("no program has a plain plan")
	return ""
}

func TestContainersOutliveTheirHost(t *testing.T) {
	dir, binary, id := t.TempDir(), container(t), plain(t)
	h := prochost.New(dir, binary, seed)
	first := start(t, h, id, 1)
	if again := start(t, h, id, 1); again != first {
		t.Errorf("a repeated start made %s beside %s", again, first)
	}

	h = prochost.New(dir, binary, seed) // As after a kill -9.
	if list := running(t, h); len(list) != 1 || list[0] != first {
		t.Fatalf("after a restart %v runs, want %s", list, first)
	}
	ended, stop := exits(t, h)
	defer stop()
	second := start(t, h, id, 2)
	if list := running(t, h); len(list) != 1 || list[0] != second {
		t.Errorf("after the start of a later attempt %v runs, want %s", list, second)
	}
	if c := <-ended; c.ID != first {
		t.Errorf("%s ended, want %s", c.ID, first)
	}

	status, err := prochost.Store(dir, binary).Find(second)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(status.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if c := <-ended; c.ID != second || c.ExitCode != 137 {
		t.Errorf("after a kill: %+v, want %s with code 137", c, second)
	}
	if ev := h.Execute(t.Context(), effects.FetchRuntimeStatus{ContainerID: second}); ev != (events.RuntimeExited{ContainerID: second, ExitCode: 137}) {
		t.Errorf("status of a killed container: %+v", ev)
	}
	want := events.StopFinished{ContainerID: second, Success: true}
	for range 2 {
		if ev := h.Execute(t.Context(), effects.StopRuntime{ProgramID: id, ContainerID: second}); ev != want {
			t.Errorf("stop: %+v, want %+v", ev, want)
		}
	}
	if list, err := h.Containers(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("left over: %v, %v", list, err)
	}
}

func start(t *testing.T, h *prochost.Host, id events.ProgramID, attempt uint64) string {
	t.Helper()
	where := effects.Placement{Attempt: attempt}
	if ev, ok := h.Execute(t.Context(), effects.BuildRuntime{Placement: where, ProgramID: id}).(events.BuildFinished); !ok || !ev.Success {
		t.Fatalf("build: %+v", ev)
	}
	ev, ok := h.Execute(t.Context(), effects.StartRuntime{Placement: where, ProgramID: id}).(events.RuntimeStarted)
	if !ok {
		t.Fatalf("start: %+v", ev)
	}
	return ev.ContainerID
}

func running(t *testing.T, h *prochost.Host) []string {
	t.Helper()
	list, err := h.Containers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, c := range list {
		if c.Running {
			ids = append(ids, c.ID)
		}
	}
	return ids
}

// exits follows the ends of containers, from now on.
func exits(t *testing.T, h *prochost.Host) (<-chan effects.Container, func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	ended, connected := make(chan effects.Container, 10), make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		defer close(ended)
		_ = h.Exits(ctx, func() { close(connected) }, func(c effects.Container) { ended <- c }) // The error of ctx.
	})
	<-connected
	return ended, func() { cancel(); group.Wait() }
}
