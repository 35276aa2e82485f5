package executor

import (
	"context"
	"sync"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
)

// FakeHost is a Host without Docker, whose containers are in memory and end with the process.
type FakeHost struct {
	*effects.FakeEffectHandler
	exits chan effects.Container

	mu      sync.Mutex
	reasons map[string]string // Why it ended containers.
}

// NewFakeHost returns a host around a fake handler.
func NewFakeHost(handler *effects.FakeEffectHandler) *FakeHost {
	return &FakeHost{FakeEffectHandler: handler, exits: make(chan effects.Container, exitBuffer), reasons: map[string]string{}}
}

// Crash makes a container end by itself, and tells who listens to Exits. It reports whether the container was running.
func (h *FakeHost) Crash(c effects.Container, exitCode int) bool {
	if !h.Exit(c.ID, exitCode) {
		return false
	}
	c.Running, c.ExitCode = false, exitCode
	select {
	case h.exits <- c:
	default: // Nobody listens; a comparison finds it.
	}
	return true
}

// Execute implements effects.EffectHandler. Exits carry the reasons of End.
func (h *FakeHost) Execute(ctx context.Context, eff effects.Effect) events.Event {
	result := h.FakeEffectHandler.Execute(ctx, eff)
	if exited, ok := result.(events.RuntimeExited); ok {
		h.mu.Lock()
		defer h.mu.Unlock()
		exited.Reason = h.reasons[exited.ContainerID]
		return exited
	}
	return result
}

// End implements Host.
func (h *FakeHost) End(_ context.Context, c effects.Container, reason string) error {
	h.mu.Lock()
	h.reasons[c.ID] = reason
	h.mu.Unlock()
	h.Crash(c, 137)
	return nil
}

// Remains implements Host: there are only containers.
func (h *FakeHost) Remains(context.Context) ([]events.ProgramID, error) { return nil, nil }

// Forget implements Host.
func (h *FakeHost) Forget(context.Context, events.ProgramID) error { return nil }

// Adopt implements Host: there is nothing to take up.
func (h *FakeHost) Adopt(context.Context, effects.Container) error { return nil }

// Exits implements Host.
func (h *FakeHost) Exits(ctx context.Context, connected func(), ended func(effects.Container)) error {
	connected()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case c := <-h.exits:
			ended(c)
		}
	}
}

// Describe implements Host.
func (h *FakeHost) Describe(ctx context.Context) events.Heartbeat {
	beat := events.Heartbeat{DefaultRuntime: "fake"}
	containers, err := h.Containers(ctx)
	if err != nil {
		beat.Problem = err.Error()
	}
	for _, c := range containers {
		if c.Running {
			beat.Running++
		}
	}
	return beat
}
