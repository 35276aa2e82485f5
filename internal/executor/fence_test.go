package executor_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

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

// A host that is cut off for too long ends its programs itself, and says so when it is back.
func TestFence(t *testing.T) {
	s := newSetUp(t)
	s.toReady()
	s.saveCheckpoint()
	bus := &cutBus{testBus: s.bus, back: make(chan struct{}, 1)}
	const after = 100 * time.Millisecond
	run := func(fence time.Duration) (stop func()) {
		exec := executor.New("h1", bus, s.host, executor.Options{FenceAfter: fence}, natstest.Log(t), executor.NewMetrics(prometheus.NewRegistry()))
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		group.Go(func() {
			if err := exec.Run(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("run ended with %v", err)
			}
		})
		return func() { cancel(); group.Wait() }
	}
	bus.cut.Store(true)
	stop := run(after)
	defer stop()
	tick := time.Tick(5 * time.Millisecond)
	for end := time.Now().Add(deadline); s.containers() != "1:ended"; <-tick {
		if time.Now().After(end) {
			t.Fatalf("the containers are %s, want the one to be ended", s.containers())
		}
	}
	if state := s.state(); state.State != reducer.StateReady {
		t.Fatalf("the log says %+v while the host is cut off", state)
	}
	bus.cut.Store(false)
	bus.back <- struct{}{}
	s.waitFor(reducer.StateError)
	if state := s.state(); !strings.Contains(state.ErrorMsg, "its host was cut off from the bus for ") || state.ExitCode != 137 {
		t.Errorf("the program is %+v", state)
	}
}

// Without the option nothing is ended, however long the bus is away.
func TestNoFence(t *testing.T) {
	s := newSetUp(t)
	s.toReady()
	bus := &cutBus{testBus: s.bus, back: make(chan struct{}, 1)}
	bus.cut.Store(true)
	exec := executor.New("h1", bus, s.host, executor.Options{}, natstest.Log(t), executor.NewMetrics(prometheus.NewRegistry()))
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second) // Some looks of a fence.
	defer cancel()
	if err := exec.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("run ended with %v", err)
	}
	want(t, "containers", s.containers(), "1:runs")
}
