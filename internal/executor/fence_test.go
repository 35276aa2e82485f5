package executor_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/executor"
	"github.com/rlaaudgjs5638/hersh/internal/natstest"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

// cutBus is a bus that a host can be cut off from.
type cutBus struct {
	*testBus
	cut  atomic.Bool
	back chan struct{}
}

func (b *cutBus) Beat(ctx context.Context, beat events.Heartbeat) error {
	if b.cut.Load() {
		return errFault
	}
	return b.testBus.Beat(ctx, beat)
}

func (b *cutBus) Append(ctx context.Context, id events.ProgramID, ev events.Event, key string) (uint64, error) {
	if b.cut.Load() {
		return 0, errFault
	}
	return b.testBus.Append(ctx, id, ev, key)
}

func (b *cutBus) Reconnected(ctx context.Context) <-chan struct{} {
	out := make(chan struct{})
	go func() {
		defer close(out)
		for {
			select {
			case <-ctx.Done():
				return
			case <-b.back:
				select {
				case out <- struct{}{}:
				case <-ctx.Done():
				}
			}
		}
	}()
	return out
}

// newCutOff returns a program that is ready on a host, and the bus that this host is cut off from.
func newCutOff(t *testing.T) (*setUp, *cutBus) {
	t.Helper()
	s := newSetUp(t)
	s.toReady()
	s.saveCheckpoint()
	b := &cutBus{testBus: s.bus, back: make(chan struct{}, 1)}
	b.cut.Store(true)
	return s, b
}

// start runs an executor of h1 until the returned function is called.
func (s *setUp) start(bus executor.Bus, host executor.Host, opts executor.Options) (exec *executor.Executor, stop func()) {
	exec = executor.New("h1", bus, host, opts, natstest.Log(s.t), executor.NewMetrics(prometheus.NewRegistry()))
	ctx, cancel := context.WithCancel(s.t.Context())
	var group sync.WaitGroup
	group.Go(func() {
		if err := exec.Run(ctx); !errors.Is(err, context.Canceled) {
			s.t.Errorf("run ended with %v", err)
		}
	})
	return exec, func() { cancel(); group.Wait() }
}

// A host that is cut off for too long ends its programs itself, and says so when it is back.
func TestFence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, bus := newCutOff(t)
		_, stop := s.start(bus, s.host, executor.Options{FenceAfter: 10 * time.Second})
		defer stop()
		time.Sleep(9 * time.Second)
		synctest.Wait()
		want(t, "containers while it is not cut off for long", s.containers(), "1:runs")
		time.Sleep(3 * time.Second)
		synctest.Wait()
		want(t, "containers", s.containers(), "1:ended")
		if state := s.state(); state.State != reducer.StateReady {
			t.Fatalf("the log says %+v while the host is cut off", state)
		}
		bus.cut.Store(false)
		bus.back <- struct{}{}
		s.waitFor(reducer.StateError)
		if state := s.state(); !strings.Contains(state.ErrorMsg, "its host was cut off from the bus for 1") || state.ExitCode != 137 {
			t.Errorf("the program is %+v", state)
		}
	})
}

// stubbornHost cannot end one container.
type stubbornHost struct {
	*testHost
	stuck string
}

func (h *stubbornHost) End(ctx context.Context, c effects.Container, reason string) error {
	if c.ID == h.stuck {
		return errFault
	}
	return h.testHost.End(ctx, c, reason)
}

// A host that is back ends no programs any more, though there was one that it could not end.
func TestFenceEndsWithItsCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, bus := newCutOff(t)
		host := &stubbornHost{testHost: s.host, stuck: s.state().ContainerID}
		_, stop := s.start(bus, host, executor.Options{FenceAfter: 10 * time.Second})
		defer stop()
		time.Sleep(15 * time.Second)
		bus.cut.Store(false)
		bus.back <- struct{}{}
		time.Sleep(5 * time.Minute)
		s.id = s.program(2)
		s.toReady()
		s.saveCheckpoint()
		time.Sleep(time.Minute)
		synctest.Wait()
		if state := s.state(); state.State != reducer.StateReady {
			t.Errorf("what is started long after is %+v", state)
		}
		want(t, "containers", s.containers(), "1:runs 1:runs")
	})
}

// A machine that was suspended for too long may be lost, though its first heartbeat is taken at once when it wakes.
func TestFenceAfterASuspension(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetUp(t)
		s.toReady()
		s.saveCheckpoint()
		began := time.Now()
		var suspended atomic.Int64
		uptime := func() time.Duration { return time.Since(began) + time.Duration(suspended.Load()) }
		exec, stop := s.start(s.bus, s.host, executor.Options{FenceAfter: 10 * time.Second, Uptime: uptime})
		defer stop()
		time.Sleep(10500 * time.Millisecond)
		suspended.Add(int64(6 * time.Second))
		time.Sleep(5 * time.Second)
		want(t, "containers after a short suspension", s.containers(), "1:runs")
		suspended.Add(int64(time.Hour))
		if err := exec.Beat(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.waitFor(reducer.StateError)
		if state := s.state(); !strings.Contains(state.ErrorMsg, "its host was cut off from the bus for 1h0m") {
			t.Errorf("the program is %+v", state)
		}
		s.id = s.program(2)
		s.toReady()
		s.saveCheckpoint()
		time.Sleep(20 * time.Second)
		if state := s.state(); state.State != reducer.StateReady || !strings.Contains(s.containers(), "1:runs") {
			t.Errorf("what is started afterwards is %+v, among %s", state, s.containers())
		}
	})
}

// Without the option nothing is ended, however long the bus is away.
func TestNoFence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, bus := newCutOff(t)
		_, stop := s.start(bus, s.host, executor.Options{})
		defer stop()
		time.Sleep(time.Minute)
		synctest.Wait()
		want(t, "containers", s.containers(), "1:runs")
	})
}

// heldHost is a host whose comparisons wait for the test.
type heldHost struct {
	*testHost
	begun, goOn chan struct{}
}

func (h *heldHost) Containers(ctx context.Context) ([]effects.Container, error) {
	h.begun <- struct{}{}
	<-h.goOn
	return h.testHost.Containers(ctx)
}

// What a comparison that was under way has read may be from before the outage: another one must begin after it.
func TestOutageDuringAComparisonStopsWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetUp(t, events.UserStartRequested{})
		bus := &cutBus{testBus: s.bus, back: make(chan struct{}, 1)}
		host := &heldHost{testHost: s.host, begun: make(chan struct{}, 8), goOn: make(chan struct{}, 8)}
		exec, stop := s.start(bus, host, executor.Options{})
		defer stop()
		defer close(host.goOn)
		works := func() bool {
			t.Helper()
			synctest.Wait()
			return exec.Handle(t.Context(), s.id, 1) == nil // An event that decided nothing.
		}
		for _, step := range []struct {
			name  string
			do    func()
			works bool
		}{
			{"in the first comparison", func() { <-host.begun }, true},
			{"after an outage in it", func() { bus.back <- struct{}{} }, false},
			{"when it has succeeded", func() { host.goOn <- struct{}{}; <-host.begun }, false},
			{"when the next has", func() { host.goOn <- struct{}{} }, true},
			{"after another outage, in its comparison", func() { bus.back <- struct{}{}; <-host.begun }, false},
			{"after an outage in that", func() { bus.back <- struct{}{} }, false},
			{"when that has succeeded", func() { host.goOn <- struct{}{}; <-host.begun }, false},
			{"at the end", func() { host.goOn <- struct{}{} }, true},
		} {
			step.do()
			if got := works(); got != step.works {
				t.Errorf("%s: takes work: %t, want %t", step.name, got, step.works)
			}
		}
	})
}

// deafBus does not say whether the host is drained.
type deafBus struct{ beatBus }

func (b deafBus) Drained(ctx context.Context, _ events.HostID) (bool, error) {
	<-ctx.Done()
	return false, ctx.Err()
}

// A bus that does not answer one question must not make the host look lost.
func TestSlowDrainDelaysNoHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetUp(t)
		bus := deafBus{beatBus{s.bus.Memory, make(chan events.Heartbeat, 100)}}
		_, stop := s.start(bus, s.host, executor.Options{})
		defer stop()
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if n := len(bus.beats); n < 11 {
			t.Errorf("there were %d heartbeats in 31 s, want one every 3 s", n)
		}
	})
}
