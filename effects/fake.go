package effects

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rlaaudgjs5638/hersh/events"
)

// FakeEffectHandler stands in for a host in tests and in `hersh dev --fake`: it takes time, fails when told to, and keeps
// "containers" in memory. It is safe for concurrent use once its fields are set. It is made by NewFakeEffectHandler; its zero
// value blocks for ever.
type FakeEffectHandler struct {
	Delay       time.Duration // Simulates execution time.
	FailBuild   bool          // Causes BuildRuntime to fail.
	FailStart   bool          // Causes StartRuntime to fail.
	FailStop    bool          // Causes StopRuntime to fail.
	FailFolders bool          // Causes EnsureProgramFolders to fail.

	// containers holds the one map of containers: who has taken it out has the lock. (The core imports no sync.)
	containers chan map[string]Container
}

// NewFakeEffectHandler returns a handler without delay whose effects all succeed.
func NewFakeEffectHandler() *FakeEffectHandler {
	h := &FakeEffectHandler{containers: make(chan map[string]Container, 1)}
	h.containers <- map[string]Container{}
	return h
}

// Execute implements EffectHandler. It returns nil when ctx ends before the delay does.
func (h *FakeEffectHandler) Execute(ctx context.Context, eff Effect) events.Event {
	if !h.delay(ctx) {
		return nil
	}
	switch e := eff.(type) {
	case EnsureProgramFolders:
		if h.FailFolders {
			return events.FoldersEnsured{Error: "fake folder failure"}
		}
		return events.FoldersEnsured{Success: true}
	case BuildRuntime:
		if h.FailBuild {
			return events.BuildFinished{Error: "fake build failure"}
		}
		return events.BuildFinished{Success: true, ImageID: "fake-image-" + string(e.BuildID)}
	case StartRuntime:
		if h.FailStart {
			return events.StartFailed{Reason: "fake start failure"}
		}
		return events.RuntimeStarted{ContainerID: h.start(e)}
	case StopRuntime:
		if h.FailStop {
			return events.StopFinished{ContainerID: e.ContainerID, Error: "fake stop failure"}
		}
		if !h.remove(e.ProgramID, e.ContainerID) {
			return events.StopFinished{ContainerID: e.ContainerID, Error: "the container belongs to another program"}
		}
		return events.StopFinished{ContainerID: e.ContainerID, Success: true}
	case FetchRuntimeStatus:
		return h.status(e.ContainerID)
	}
	return nil
}

// Exit makes a container end by itself, as a crashing program would. It reports whether the container was running.
func (h *FakeEffectHandler) Exit(containerID string, exitCode int) bool {
	all := <-h.containers
	defer func() { h.containers <- all }()
	c, found := all[containerID]
	if !found || !c.Running {
		return false
	}
	c.Running, c.ExitCode = false, exitCode
	all[containerID] = c
	return true
}

// Containers returns all containers, sorted by ID.
func (h *FakeEffectHandler) Containers(context.Context) ([]Container, error) {
	all := <-h.containers
	defer func() { h.containers <- all }()
	list := make([]Container, 0, len(all))
	for _, c := range all {
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b Container) int { return strings.Compare(a.ID, b.ID) })
	return list, nil
}

func (h *FakeEffectHandler) delay(ctx context.Context) bool {
	if h.Delay <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(h.Delay)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// start finds the container of the attempt, or makes it and removes those of earlier attempts.
func (h *FakeEffectHandler) start(e StartRuntime) string {
	all := <-h.containers
	defer func() { h.containers <- all }()
	id := fmt.Sprintf("fake-%s-%d", e.ProgramID, e.Attempt)
	if _, found := all[id]; found {
		return id
	}
	for other, c := range all {
		if c.ProgramID == e.ProgramID && c.Attempt < e.Attempt {
			delete(all, other)
		}
	}
	all[id] = Container{ID: id, ProgramID: e.ProgramID, Attempt: e.Attempt, Running: true}
	return id
}

// remove reports false when the container is not one of the program; one that is gone already is fine.
func (h *FakeEffectHandler) remove(owner events.ProgramID, containerID string) bool {
	all := <-h.containers
	defer func() { h.containers <- all }()
	if c, found := all[containerID]; found && owner != "" && c.ProgramID != owner {
		return false
	}
	delete(all, containerID)
	return true
}

func (h *FakeEffectHandler) status(containerID string) events.Event {
	all := <-h.containers
	defer func() { h.containers <- all }()
	c, found := all[containerID]
	switch {
	case !found:
		return events.RuntimeExited{ContainerID: containerID, ExitCode: -1}
	case c.Running:
		return nil
	}
	return events.RuntimeExited{ContainerID: containerID, ExitCode: c.ExitCode, OOMKilled: c.OOMKilled}
}
