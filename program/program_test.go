package program_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/program"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// handlerFunc is a handler of one function.
type handlerFunc func(context.Context, effects.Effect) events.Event

func (f handlerFunc) Execute(ctx context.Context, eff effects.Effect) events.Event {
	return f(ctx, eff)
}

// run starts the program in a bubble of synctest and ends it with the test.
func run(t *testing.T, p *program.Program) {
	t.Helper()
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { defer close(done); p.Start(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

func send(t *testing.T, p *program.Program, evs ...events.Event) {
	t.Helper()
	for _, ev := range evs {
		if err := p.SendEvent(ev); err != nil {
			t.Errorf("%s: %v", ev.Type(), err)
		}
	}
}

func want(t *testing.T, p *program.Program, state reducer.State) reducer.ProgramState {
	t.Helper()
	s := p.GetState()
	if s.State != state {
		t.Errorf("the program is %s (%s), want %s", s.State, s.ErrorMsg, state)
	}
	return s
}

// TestLife takes the seed's IDs, events and order.
func TestLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := program.NewProgram("my-prog", "build-123", effects.NewFakeEffectHandler())
		if got, fresh := p.GetState(), reducer.NewProgramState("my-prog", "build-123"); got != fresh || p.GetID() != "my-prog" || p.IsStopped() {
			t.Errorf("a new program is %+v, called %s, stopped %v", got, p.GetID(), p.IsStopped())
		}
		run(t, p)
		send(t, p, events.UserStartRequested{ProgramID: "my-prog"})
		synctest.Wait()
		s := want(t, p, reducer.StateReady)
		if s.Attempt != 1 || s.ContainerID == "" || s.ImageID == "" || s.HostID != "" {
			t.Errorf("ready as %+v", s)
		}
		send(t, p, events.UserRestartRequested{ProgramID: "my-prog"})
		synctest.Wait()
		if again := want(t, p, reducer.StateReady); again.Attempt != 2 || again.ContainerID == s.ContainerID {
			t.Errorf("restarted as %+v", again)
		}
		send(t, p, events.UserStopRequested{ProgramID: "my-prog"})
		synctest.Wait()
		if s := want(t, p, reducer.StateStopped); s.ContainerID != "" || p.IsStopped() {
			t.Errorf("stopped as %+v, the loop ended: %v", s, p.IsStopped())
		}
		send(t, p, events.UserStartRequested{})
		synctest.Wait()
		want(t, p, reducer.StateReady)
	})
}

// TestDelays watches the program through a life of slow effects.
func TestDelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		handler := effects.NewFakeEffectHandler()
		handler.Delay = time.Second
		p := program.NewProgram("my-prog", "build-123", handler)
		run(t, p)
		send(t, p, events.UserStartRequested{})
		at := func(after time.Duration, state reducer.State) {
			t.Helper()
			time.Sleep(after) // Of the bubble's clock: it takes no time.
			synctest.Wait()
			want(t, p, state)
		}
		at(1500*time.Millisecond, reducer.StateBuilding)
		at(time.Second, reducer.StateStarting)
		at(time.Second, reducer.StateReady)
		send(t, p, events.UserStopRequested{})
		at(500*time.Millisecond, reducer.StateStopping)
		at(time.Second, reducer.StateStopped)
	})
}

// TestFailures sets each of the seed's flags, and checks that what is behind a failure is not run.
func TestFailures(t *testing.T) {
	for _, c := range []struct {
		name    string
		set     func(*effects.FakeEffectHandler)
		message string
		ran     []effects.Type
	}{
		{
			"folders", func(h *effects.FakeEffectHandler) { h.FailFolders = true }, "fake folder failure",
			[]effects.Type{effects.TypeEnsureProgramFolders},
		},
		{
			"build", func(h *effects.FakeEffectHandler) { h.FailBuild = true }, "fake build failure",
			[]effects.Type{effects.TypeEnsureProgramFolders, effects.TypeBuildRuntime},
		},
		{
			"start", func(h *effects.FakeEffectHandler) { h.FailStart = true }, "fake start failure",
			[]effects.Type{effects.TypeEnsureProgramFolders, effects.TypeBuildRuntime, effects.TypeStartRuntime},
		},
		{
			"stop", func(h *effects.FakeEffectHandler) { h.FailStop = true }, "fake stop failure",
			[]effects.Type{effects.TypeEnsureProgramFolders, effects.TypeBuildRuntime, effects.TypeStartRuntime, effects.TypeStopRuntime},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fake := effects.NewFakeEffectHandler()
				c.set(fake)
				var ran []effects.Type
				p := program.NewProgram("my-prog", "build-123", handlerFunc(func(ctx context.Context, eff effects.Effect) events.Event {
					ran = append(ran, eff.Type())
					return fake.Execute(ctx, eff)
				}))
				run(t, p)
				send(t, p, events.UserStartRequested{}, events.UserStopRequested{})
				synctest.Wait()
				if s := want(t, p, reducer.StateError); !strings.Contains(s.ErrorMsg, c.message) {
					t.Errorf("the error is %q", s.ErrorMsg)
				}
				if !slices.Equal(ran, c.ran) {
					t.Errorf("ran %v, want %v", ran, c.ran)
				}
				*fake = *effects.NewFakeEffectHandler() // The loop is idle: the handler may be changed.
				send(t, p, events.UserStartRequested{})
				synctest.Wait()
				want(t, p, reducer.StateReady)
			})
		})
	}
}

// TestCrash is an exit that whoever watches the container tells the program of.
func TestCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := program.NewProgram("my-prog", "build-123", effects.NewFakeEffectHandler())
		run(t, p)
		send(t, p, events.UserStartRequested{}, events.RuntimeExited{ExitCode: 3})
		synctest.Wait()
		if s := want(t, p, reducer.StateError); s.ExitCode != 3 {
			t.Errorf("crashed as %+v", s)
		}
	})
}

// TestFullQueue fills the queue before Start, and again from inside each effect: results must get through all the same.
func TestFullQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := effects.NewFakeEffectHandler()
		var p *program.Program
		fill := func() (taken int) {
			for p.SendEvent(events.UserRestartRequested{ProgramID: "another"}) == nil {
				taken++
			}
			return taken
		}
		rounds := 0
		p = program.NewProgram("my-prog", "build-123", handlerFunc(func(ctx context.Context, eff effects.Effect) events.Event {
			fill()
			if err := p.SendEvent(events.UserStopRequested{}); !errors.Is(err, program.ErrEventQueueFull) {
				t.Errorf("a full queue gave %v", err)
			}
			rounds++
			return fake.Execute(ctx, eff)
		}))
		send(t, p, events.UserStartRequested{})
		if taken := fill(); taken != 999 {
			t.Errorf("the queue took %d events, want 1000", taken+1)
		}
		run(t, p)
		synctest.Wait()
		want(t, p, reducer.StateReady)
		if rounds != 3 {
			t.Errorf("ran %d effects, want 3", rounds)
		}
	})
}

// TestRetries has a handler that cannot try: its effect is run again, later and later, until it has a result.
func TestRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := effects.NewFakeEffectHandler()
		start := time.Now()
		var tries []time.Duration
		p := program.NewProgram("my-prog", "build-123", handlerFunc(func(ctx context.Context, eff effects.Effect) events.Event {
			if eff.Type() == effects.TypeBuildRuntime {
				if tries = append(tries, time.Since(start)); len(tries) < 9 {
					return nil
				}
			}
			return fake.Execute(ctx, eff)
		}))
		run(t, p)
		send(t, p, events.UserStartRequested{})
		time.Sleep(time.Minute)
		synctest.Wait()
		want(t, p, reducer.StateReady)
		const ms = time.Millisecond
		// 100 ms, doubled each time, 5 s at most.
		if all := []time.Duration{0, 100 * ms, 300 * ms, 700 * ms, 1500 * ms, 3100 * ms, 6300 * ms, 11300 * ms, 16300 * ms}; !slices.Equal(tries, all) {
			t.Errorf("tried at %v, want %v", tries, all)
		}
	})
}

// TestEndDuringRetries checks that the end does not wait for the delay.
func TestEndDuringRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := program.NewProgram("my-prog", "build-123", handlerFunc(func(context.Context, effects.Effect) events.Event { return nil }))
		send(t, p, events.UserStartRequested{}, events.UserStopRequested{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute+time.Millisecond)
		defer cancel()
		start := time.Now()
		p.Start(ctx)
		if took := time.Since(start); took != time.Minute+time.Millisecond {
			t.Errorf("it ended after %v", took)
		}
		want(t, p, reducer.StateBuilding) // It still says what it was waiting for.
		if !p.IsStopped() {
			t.Error("it is not stopped")
		}
	})
}

// TestResultOfTheLastMoment ends the context while an effect is run. Its result is a fact and counts; the effect that
// follows is not begun.
func TestResultOfTheLastMoment(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	fake := effects.NewFakeEffectHandler()
	var ran []effects.Type
	p := program.NewProgram("my-prog", "build-123", handlerFunc(func(ctx context.Context, eff effects.Effect) events.Event {
		ran = append(ran, eff.Type())
		result := fake.Execute(ctx, eff)
		if eff.Type() == effects.TypeBuildRuntime {
			cancel()
		}
		return result
	}))
	send(t, p, events.UserStartRequested{}, events.UserStopRequested{})
	p.Start(ctx)
	if s := want(t, p, reducer.StateStarting); s.ImageID == "" {
		t.Errorf("the image is lost: %+v", s)
	}
	if want := []effects.Type{effects.TypeEnsureProgramFolders, effects.TypeBuildRuntime}; !slices.Equal(ran, want) {
		t.Errorf("ran %v, want %v", ran, want)
	}
}

// TestInterrupted ends the context in the middle of an effect that takes long: there is no result, and nothing is run again.
func TestInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		handler := effects.NewFakeEffectHandler()
		handler.Delay = time.Hour
		p := program.NewProgram("my-prog", "build-123", handler)
		send(t, p, events.UserStartRequested{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		p.Start(ctx)
		want(t, p, reducer.StateBuilding)
	})
}

// TestOrigin has a handler whose results claim another host and attempt. In one process there is no other.
func TestOrigin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := effects.NewFakeEffectHandler()
		p := program.NewProgram("my-prog", "build-123", handlerFunc(func(ctx context.Context, eff effects.Effect) events.Event {
			return events.WithOrigin(fake.Execute(ctx, eff), events.Origin{HostID: "h9", Attempt: 99})
		}))
		run(t, p)
		send(t, p, events.UserStartRequested{}, events.UserRestartRequested{})
		synctest.Wait()
		if s := want(t, p, reducer.StateReady); s.HostID != "" || s.Attempt != 2 {
			t.Errorf("ready as %+v", s)
		}
	})
}

// TestOrphan tells the program of a container that it did not ask for. It is stopped, and the program goes on.
func TestOrphan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := effects.NewFakeEffectHandler()
		var stopped []string
		p := program.NewProgram("my-prog", "build-123", handlerFunc(func(ctx context.Context, eff effects.Effect) events.Event {
			if stop, ok := eff.(effects.StopRuntime); ok {
				stopped = append(stopped, stop.ContainerID)
			}
			return fake.Execute(ctx, eff)
		}))
		run(t, p)
		send(t, p, events.UserStartRequested{}, events.RuntimeStarted{ContainerID: "orphan"})
		synctest.Wait()
		want(t, p, reducer.StateReady)
		if !slices.Equal(stopped, []string{"orphan"}) {
			t.Errorf("stopped %v", stopped)
		}
	})
}

func TestStartOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := program.NewProgram("my-prog", "build-123", effects.NewFakeEffectHandler())
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go p.Start(ctx)
		synctest.Wait()
		p.Start(t.Context()) // Returns at once: otherwise the bubble would be in a deadlock.
		send(t, p, events.UserStartRequested{})
		synctest.Wait()
		want(t, p, reducer.StateReady)
		cancel()
		synctest.Wait()
		if !p.IsStopped() {
			t.Error("it did not end with its context")
		}
		p.Start(t.Context())
		if err := p.SendEvent(events.UserStopRequested{}); !errors.Is(err, program.ErrProgramStopped) {
			t.Errorf("after the end SendEvent gave %v", err)
		}
		want(t, p, reducer.StateReady)
	})
}

func TestStartWithEndedContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := program.NewProgram("my-prog", "build-123", effects.NewFakeEffectHandler())
	send(t, p, events.UserStartRequested{})
	p.Start(ctx)
	want(t, p, reducer.StateCreated)
	if err := p.SendEvent(events.UserStartRequested{}); !p.IsStopped() || !errors.Is(err, program.ErrProgramStopped) {
		t.Errorf("stopped %v, SendEvent gave %v", p.IsStopped(), err)
	}
}

func TestNilEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := program.NewProgram("my-prog", "build-123", effects.NewFakeEffectHandler())
		run(t, p)
		if err := p.SendEvent(nil); err != nil {
			t.Error(err)
		}
		send(t, p, events.UserStartRequested{})
		synctest.Wait()
		want(t, p, reducer.StateReady)
	})
}

// TestSendersRaceWithTheEnd is for the race detector: many send while the loop ends. Each is told the truth: what was taken
// before the end was in the queue, and after the first ErrProgramStopped nothing is taken any more.
func TestSendersRaceWithTheEnd(t *testing.T) {
	for range 20 {
		p := program.NewProgram("my-prog", "build-123", effects.NewFakeEffectHandler())
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { p.Start(ctx) })
		for i := range 8 {
			wg.Go(func() {
				for n := 0; ; n++ {
					if i == 0 && n == 100 {
						cancel()
					}
					err := p.SendEvent([]events.Event{events.UserStartRequested{}, events.UserStopRequested{}}[n%2])
					if errors.Is(err, program.ErrProgramStopped) {
						break
					}
					if err != nil && !errors.Is(err, program.ErrEventQueueFull) {
						t.Error(err)
					}
					p.GetState()
				}
				if err := p.SendEvent(events.UserStartRequested{}); !errors.Is(err, program.ErrProgramStopped) || !p.IsStopped() {
					t.Errorf("after the end SendEvent gave %v, stopped %v", err, p.IsStopped())
				}
			})
		}
		wg.Wait()
		cancel()
	}
}

// TestErrorsOfTheSeed keeps the seed's words.
func TestErrorsOfTheSeed(t *testing.T) {
	if full, stopped := program.ErrEventQueueFull.Error(), program.ErrProgramStopped.Error(); full != "event queue full" || stopped != "program stopped" {
		t.Errorf("%q and %q", full, stopped)
	}
}
