package executor_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/executor"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

// What an executor had in hand when it died is done by the next one without its message, which the server still holds for the dead.
func TestStartResumesWhatWasInHand(t *testing.T) {
	for _, tc := range []struct {
		name  string
		leave func(s *setUp) // Leaves the program under way.
		state reducer.State  // It comes to this without any message.
	}{
		{"a start", func(s *setUp) { s.add(s.id, events.UserStartRequested{}); s.handle(2) }, reducer.StateReady},
		{"a stop", func(s *setUp) { s.toReady(); s.add(s.id, events.UserStopRequested{}) }, reducer.StateStopped},
		{"a rebuild", func(s *setUp) {
			s.toReady()
			s.add(s.id, events.UserStopRequested{})
			s.handle(6)
			s.add(s.id, events.UserStartRequested{})
		}, reducer.StateStarting},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSetUp(t)
			tc.leave(s)
			s.saveCheckpoint()
			ctx, cancel := context.WithCancel(t.Context())
			var group sync.WaitGroup
			group.Go(func() {
				if err := s.exec.Run(ctx); !errors.Is(err, context.Canceled) {
					t.Errorf("run ended with %v", err)
				}
			})
			s.waitFor(tc.state)
			cancel()
			group.Wait()
		})
	}
}

// A program of another host, or one that rests, is not touched.
func TestStartResumesNothingElse(t *testing.T) {
	s := newSetUp(t, events.UserStartRequested{}) // It may be anybody's: its message is in the queue of any host.
	s.saveCheckpoint()
	idle := &testHost{FakeHost: executor.NewFakeHost(effects.NewFakeEffectHandler())}
	other := s.executor("h2", idle)
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() { _ = other.Run(ctx) }) // Ends with ctx.
	second := s.program(2, events.UserStartRequested{}, events.FoldersEnsured{Success: true},
		events.BuildFinished{Origin: events.Origin{HostID: "h1", Attempt: 1}, Success: true, ImageID: "i"})
	s.id = second
	s.saveCheckpoint()
	s.exec = s.executor("h1", s.host)
	group.Go(func() { _ = s.exec.Run(ctx) })
	s.waitFor(reducer.StateReady)
	cancel()
	group.Wait()
	want(t, "effects", s.host.took(), "StartRuntime")
	want(t, "effects of the other host", idle.took(), "")
}
