package e2e

import (
	"context"
	"testing"
	"time"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/bus"
	"github.com/rlaaudgjs5638/hersh/internal/executor"
	"github.com/rlaaudgjs5638/hersh/internal/natstest"
	"github.com/rlaaudgjs5638/hersh/internal/supervisor"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

// A host that is gone is lost once for each program on it; the next start goes to another host, and what ran on the lost one is
// removed when it is back.
func TestHostLost(t *testing.T) {
	const ttl = 10 * time.Second // The least that executors keep up with.
	s := newFakeSystem(t)
	s.bus = s.nats.BusWith(t, bus.Options{HostTTL: ttl})
	for range 2 { // Both see it; it is stored once.
		watch := supervisor.NewHostWatch(s.bus, ttl, natstest.Log(t), time.Now())
		serve(t, func(ctx context.Context) error { watch.Run(ctx); return nil })
	}
	s.startSupervisor("s1")
	lost := executor.NewFakeHost(effects.NewFakeEffectHandler())
	stop := s.startExecutor("h1", lost)
	running, resting := s.create("alice"), s.create("alice")
	s.publish(events.UserStartRequested{}, running)
	s.waitState(running, "ready", is(reducer.StateReady))

	stop()
	state := s.waitState(running, "lost with its host", is(reducer.StateError))
	if state.HostID != "" || state.ContainerID != "" || state.ErrorMsg != "host h1 was lost: no heartbeat for 10s" {
		t.Errorf("after the loss: %+v", state)
	}
	if n := countTypes(t, s.bus, running)[events.TypeHostLost]; n != 1 {
		t.Errorf("HostLost stands %d times in the log, want once", n)
	}
	if n := countTypes(t, s.bus, resting)[events.TypeHostLost]; n != 0 {
		t.Errorf("a program that is on no host was lost %d times", n)
	}

	s.startExecutor("h2", executor.NewFakeHost(effects.NewFakeEffectHandler()))
	s.publish(events.UserStartRequested{}, running)
	if again := s.waitState(running, "ready elsewhere", is(reducer.StateReady)); again.HostID != "h2" {
		t.Errorf("it is on %q, want h2", again.HostID)
	}

	if left, err := lost.Containers(t.Context()); err != nil || len(left) != 1 {
		t.Fatalf("the lost host has %v (%v), want the container that it ran", left, err)
	}
	s.startExecutor("h1", lost)
	next := s.create("bob") // Handled by either; what matters is that h1 compares before it works.
	s.publish(events.UserStartRequested{}, next)
	s.waitState(next, "ready", is(reducer.StateReady))
	waitFor(t, "the lost host to remove what is nobody's", func() bool {
		list, err := lost.Containers(t.Context())
		for _, c := range list {
			if c.ProgramID == running {
				return false
			}
		}
		return err == nil
	})
}

// waitFor polls until the condition holds.
func waitFor(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		case <-tick.C:
		}
	}
}
