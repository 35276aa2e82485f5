package executor_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/executor"
	"github.com/rlaaudgjs5638/hersh/internal/natstest"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

func (s *setUp) bounded(capacity events.Capacity) {
	s.exec = executor.New("h1", s.bus, s.host, executor.Options{Capacity: capacity}, natstest.Log(s.t), executor.NewMetrics(prometheus.NewRegistry()))
}

// A host that is full leaves a program without a host to others, and takes the next one once there is room.
func TestFullHostLeavesProgramsToOthers(t *testing.T) {
	for _, c := range []struct {
		name string
		free func(s *setUp, first events.ProgramID) // Makes room.
	}{
		{"a stop", func(s *setUp, first events.ProgramID) {
			s.id = first
			s.add(first, events.UserStopRequested{})
			s.handle(6)
		}},
		{"a crash", func(s *setUp, first events.ProgramID) {
			list, err := s.handler.Containers(s.t.Context())
			if err != nil || !s.host.Crash(list[0], 3) {
				s.t.Fatalf("no container to crash: %v, %v", list, err)
			}
			list[0].Running = false
			if err := s.exec.Settle(s.t.Context(), list[0]); err != nil {
				s.t.Fatal(err)
			}
		}},
		{"a start that fails", func(s *setUp, first events.ProgramID) {
			s.id = first
			s.add(first, events.UserStopRequested{})
			s.handle(6)
			s.add(first, events.UserStartRequested{})
			s.handle(8)
			s.handler.FailStart = true
			s.handle(10)
			s.handler.FailStart = false
		}},
		{"a deletion that a comparison finds", func(s *setUp, first events.ProgramID) {
			if err := s.bus.Remove(s.t.Context(), first); err != nil {
				s.t.Fatal(err)
			}
			if _, err := s.exec.Compare(s.t.Context()); err != nil {
				s.t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSetUp(t)
			s.bounded(events.Capacity{MemoryBytes: 500 << 20})
			s.toReady()
			first, second := s.id, s.program(2, events.UserStartRequested{})
			if err := s.exec.Handle(t.Context(), second, 2); !errors.Is(err, effects.ErrElsewhere) {
				t.Fatalf("a full host gives %v, want ErrElsewhere", err)
			}
			want(t, "effects of a full host", s.host.took(), "")
			c.free(s, first)
			s.host.took()
			if err := s.exec.Handle(t.Context(), second, 2); err != nil {
				t.Fatal(err)
			}
			want(t, "effects with room", s.host.took(), "EnsureProgramFolders BuildRuntime")
		})
	}
}

// What is on the host starts there in any case: its image and its /state are there.
func TestFullHostStartsItsOwn(t *testing.T) {
	s := newSetUp(t)
	s.bounded(events.Capacity{Programs: 1})
	s.toReady()
	s.id = s.program(2, events.UserStartRequested{}, events.FoldersEnsured{Origin: origin(1), Success: true},
		events.BuildFinished{Origin: origin(1), Success: true, ImageID: "i"})
	s.handle(4)
	want(t, "effects of a program that is here", s.host.took(), "StartRuntime")
}

// An executor that starts counts what is there before it takes anything.
func TestComparisonCountsWhatIsHere(t *testing.T) {
	s := newSetUp(t)
	s.toReady()
	s.saveCheckpoint()
	s.bounded(events.Capacity{Programs: 1})
	if _, err := s.exec.Compare(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := s.program(2, events.UserStartRequested{})
	if err := s.exec.Handle(t.Context(), second, 2); !errors.Is(err, effects.ErrElsewhere) {
		t.Errorf("a full host gives %v, want ErrElsewhere", err)
	}
}

// The build that a host has in hand when it is drained is another's. What is on it goes on, and its heartbeat says that it obeys.
func TestDrainedHostHandsBack(t *testing.T) {
	s := newSetUp(t)
	s.toReady()
	mine := s.id
	beats := beatBus{s.bus.Memory, make(chan events.Heartbeat, 1)}
	building := make(chan struct{}, 8)
	s.host.hold = func(ctx context.Context, eff effects.Effect) bool {
		if _, isBuild := eff.(effects.BuildRuntime); isBuild {
			building <- struct{}{}
			<-ctx.Done()
			return false
		}
		return true
	}
	s.exec = executor.New("h1", beats, s.host, executor.Options{}, natstest.Log(t), executor.NewMetrics(prometheus.NewRegistry()))
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	run := func(e *executor.Executor) {
		group.Go(func() {
			if err := e.Run(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("run ended with %v", err)
			}
		})
	}
	run(s.exec)
	s.id = s.program(2, events.UserStartRequested{})
	s.effects(2, effects.BuildRuntime{})
	<-building
	if err := s.bus.Drain(ctx, "h1", true); err != nil {
		t.Fatal(err)
	}
	drained := events.Heartbeat{}
	for end := time.After(deadline); !drained.Drained; {
		select {
		case drained = <-beats.beats:
		case <-end:
			t.Fatal("no heartbeat says that the host is drained")
		}
	}
	if drained.Building != 0 || drained.Promised.Programs != 1 {
		t.Errorf("the heartbeat is %+v, want one program and no build", drained)
	}
	run(s.executor("h2", &testHost{FakeHost: executor.NewFakeHost(effects.NewFakeEffectHandler())}))
	s.waitFor(reducer.StateStarting)
	if state := s.state(); state.HostID != "h2" {
		t.Errorf("it is on %q, want h2", state.HostID)
	}
	s.id = mine // A stop is for its host, drained or not.
	s.add(mine, events.UserStopRequested{})
	s.effects(6, effects.StopRuntime{Placement: effects.Placement{HostID: "h1"}})
	s.waitFor(reducer.StateStopped)
	cancel()
	group.Wait()
	if len(building) > 0 {
		t.Error("the drained host built again")
	}
}

func (s *setUp) effects(seq uint64, eff effects.Effect) {
	s.t.Helper()
	if err := s.bus.PublishEffects(s.t.Context(), effects.Message{ProgramID: s.id, Seq: seq, Effects: []effects.Effect{eff}}); err != nil {
		s.t.Fatal(err)
	}
}
