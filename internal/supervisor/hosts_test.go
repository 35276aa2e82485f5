package supervisor_test

import (
	"context"
	"errors"
	"iter"
	"testing"
	"time"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/natstest"
	"github.com/rlaaudgjs5638/hersh/internal/supervisor"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

// hostBus has one program, Ready on h1. What a list of the hosts says and what the leader says may differ.
type hostBus struct {
	listed []events.Heartbeat
	alive  bool
	err    error // Of the leader.
	lost   []events.HostID
}

func (b *hostBus) Hosts(context.Context) ([]events.Heartbeat, error) { return b.listed, nil }

func (b *hostBus) HostAlive(context.Context, events.HostID) (bool, error) { return b.alive, b.err }

func (b *hostBus) Checkpoints(context.Context, events.UserID) iter.Seq2[reducer.Checkpoint, error] {
	return func(yield func(reducer.Checkpoint, error) bool) {
		cp := reducer.NewCheckpoint("alice-build-0123456789ab-6f1c1a52-43a5-4e3c-9e0f-0d8a6f7b2c11")
		cp.State.State, cp.State.HostID = reducer.StateReady, "h1"
		yield(cp, nil)
	}
}

func (b *hostBus) Append(_ context.Context, _ events.ProgramID, ev events.Event, _ string) (uint64, error) {
	b.lost = append(b.lost, ev.(events.HostLost).HostID)
	return 1, nil
}

func (b *hostBus) Reconnected(context.Context) <-chan struct{} { return nil }

// A copy of the heartbeats that lags, or whose server was frozen, lists no host at all: that alone proves nothing.
func TestHostWatchAsksTheLeaderBeforeItDeclares(t *testing.T) {
	start := time.Now()
	b := &hostBus{listed: []events.Heartbeat{{HostID: "h1"}}, alive: true}
	watch := supervisor.NewHostWatch(b, time.Second, natstest.Log(t), start)
	now := start.Add(2 * time.Second)
	look := func() error {
		now = now.Add(time.Minute)
		_, err := watch.Look(t.Context(), now)
		return err
	}
	for _, step := range []struct {
		name   string
		listed []events.Heartbeat
		alive  bool
		err    error
		lost   int
	}{
		{name: "listed", listed: b.listed, alive: true},
		{name: "not listed, but there", alive: true},
		{name: "not listed, and the leader does not answer", err: errors.New("no answer")},
		{name: "gone", lost: 1},
	} {
		b.listed, b.alive, b.err = step.listed, step.alive, step.err
		if err := look(); !errors.Is(err, step.err) {
			t.Errorf("%s: %v, want %v", step.name, err, step.err)
		}
		if len(b.lost) != step.lost {
			t.Errorf("%s: declared lost %v, want %d", step.name, b.lost, step.lost)
		}
	}
}
