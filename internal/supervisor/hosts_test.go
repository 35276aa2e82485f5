package supervisor_test

import (
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/natstest"
	"github.com/rlaaudgjs5638/hersh/internal/supervisor"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

const onH1 events.ProgramID = "alice-build-0123456789ab-6f1c1a52-43a5-4e3c-9e0f-0d8a6f7b2c11"

// hostBus has a program for each of its hosts, Ready there; by default one, on h1. What a list of the hosts says and what the leader says may differ.
type hostBus struct {
	listed []events.Heartbeat
	alive  bool
	err    error // Of the leader.
	lost   []events.HostID

	hosts       []events.HostID
	scans       int
	appendErr   error
	withdrawn   []map[events.ProgramID]uint64
	withdrawErr error
	failing     events.HostID // The one that withdrawErr is of; "" is all.
	hang        time.Duration // How long Withdraw takes before it fails, unless its context ends before; 0 is no time.
	asked       int           // How often something was to be withdrawn.
}

func (b *hostBus) Hosts(context.Context) ([]events.Heartbeat, error) { return b.listed, nil }

func (b *hostBus) HostAlive(context.Context, events.HostID) (bool, error) { return b.alive, b.err }

func (b *hostBus) Checkpoints(context.Context, events.UserID) iter.Seq2[reducer.Checkpoint, error] {
	return func(yield func(reducer.Checkpoint, error) bool) {
		b.scans++
		hosts := b.hosts
		if hosts == nil {
			hosts = []events.HostID{"h1"}
		}
		for _, host := range hosts {
			cp := reducer.NewCheckpoint(onH1)
			cp.State.State, cp.State.HostID = reducer.StateReady, host
			if !yield(cp, nil) {
				return
			}
		}
	}
}

func (b *hostBus) Append(_ context.Context, _ events.ProgramID, ev events.Event, _ string) (uint64, error) {
	if b.appendErr != nil {
		return 0, b.appendErr
	}
	b.lost = append(b.lost, ev.(events.HostLost).HostID)
	return 7, nil
}

func (b *hostBus) Withdraw(ctx context.Context, host events.HostID, before map[events.ProgramID]uint64) (int, error) {
	b.asked++
	if b.hang > 0 {
		ctx, cancel := context.WithTimeout(ctx, b.hang)
		defer cancel()
		<-ctx.Done()
		return 0, ctx.Err()
	}
	if b.withdrawErr != nil && (b.failing == "" || b.failing == host) {
		return 0, b.withdrawErr
	}
	b.withdrawn = append(b.withdrawn, maps.Clone(before))
	return 1, nil
}

func (b *hostBus) Reconnected(context.Context) <-chan struct{} { return nil }

// newWatch returns a watch that is blind no more, and one look at a time.
func newWatch(t *testing.T, b *hostBus) (look func() error) {
	t.Helper()
	const ttl = 2 * time.Second
	now := time.Now()
	watch := supervisor.NewHostWatch(b, ttl, natstest.Log(t), now)
	look = func() error {
		now = now.Add(ttl / 2)
		_, err := watch.Look(t.Context(), now)
		return err
	}
	for range 3 {
		if err := look(); err != nil {
			t.Fatal(err)
		}
	}
	return look
}

// Found by the simulation: a server was away for longer than the TTL, and a watch looked before it was told that it had reconnected.
func TestHostWatchIsBlindAfterALongTimeWithoutALook(t *testing.T) {
	b := &hostBus{listed: []events.Heartbeat{{HostID: "h1"}}, alive: true}
	const ttl = 2 * time.Second
	start := time.Now()
	watch := supervisor.NewHostWatch(b, ttl, natstest.Log(t), start)
	for _, step := range []struct {
		at     time.Duration
		listed bool
		lost   int
	}{
		{1 * time.Second, true, 0},
		{2 * time.Second, true, 0},
		{9 * time.Second, false, 0},
		{10 * time.Second, false, 0},
		{11 * time.Second, false, 1}, // It was blind until then.
	} {
		if !step.listed {
			b.listed, b.alive = nil, false
		}
		if _, err := watch.Look(t.Context(), start.Add(step.at)); err != nil {
			t.Fatal(err)
		}
		if len(b.lost) != step.lost {
			t.Errorf("after %s: declared lost %v, want %d", step.at, b.lost, step.lost)
		}
	}
}

// A copy of the heartbeats that lags, or whose server was frozen, lists no host at all: that alone proves nothing.
func TestHostWatchAsksTheLeaderBeforeItDeclares(t *testing.T) {
	b := &hostBus{listed: []events.Heartbeat{{HostID: "h1"}}, alive: true}
	look := newWatch(t, b)
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

// What waits for a lost host is withdrawn up to the event that says so, again until that succeeds.
func TestHostWatchWithdraws(t *testing.T) {
	now := time.Now()
	b := &hostBus{withdrawErr: errors.New("no answer")}
	watch := supervisor.NewHostWatch(b, time.Second, natstest.Log(t), now)
	for range 2 { // Too early to declare anything.
		now = now.Add(time.Second * 2 / 5)
		if _, err := watch.Look(t.Context(), now); err != nil {
			t.Fatal(err)
		}
	}
	now = now.Add(time.Second * 2 / 5)
	if _, err := watch.Look(t.Context(), now); !errors.Is(err, b.withdrawErr) || len(b.lost) != 1 {
		t.Fatalf("the look gives %v, and declared lost %v", err, b.lost)
	}
	b.withdrawErr = nil
	for range 3 {
		now = now.Add(time.Second / 2)
		if _, err := watch.Look(t.Context(), now); err != nil {
			t.Fatal(err)
		}
	}
	if len(b.withdrawn) != 1 || len(b.withdrawn[0]) != 1 || b.withdrawn[0][onH1] != 7 {
		t.Errorf("withdrawn is %v, want once what was decided before event 7", b.withdrawn)
	}
	if len(b.lost) != 1 {
		t.Errorf("declared lost %v; the failure to withdraw is no reason to do so again", b.lost)
	}
}

// One host whose effects cannot be withdrawn keeps those of the others from nothing.
func TestHostWatchWithdrawsPastAFailure(t *testing.T) {
	b := &hostBus{hosts: []events.HostID{"h1", "h2"}, listed: []events.Heartbeat{{HostID: "h1"}, {HostID: "h2"}}, alive: true}
	look := newWatch(t, b)
	b.listed, b.alive, b.withdrawErr, b.failing = nil, false, errors.New("no answer"), "h1"
	if err := look(); !errors.Is(err, b.withdrawErr) || len(b.withdrawn) != 1 {
		t.Errorf("the look gives %v and withdrew %v, want what waited for h2", err, b.withdrawn)
	}
	b.withdrawErr = nil
	if err := look(); err != nil || len(b.withdrawn) != 2 {
		t.Errorf("the next look gives %v and withdrew %v, want what waited for h1 too", err, b.withdrawn)
	}
}

// A bus that does not answer takes its time for each host that is lost. It must not make the watch blind for those that are lost next.
func TestHostWatchLooksOnWhileNothingIsWithdrawn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ttl = 30 * time.Second
		all := []events.Heartbeat{{HostID: "h1"}, {HostID: "h2"}, {HostID: "h3"}, {HostID: "h4"}}
		b := &hostBus{hosts: []events.HostID{"h1", "h2", "h3", "h4"}, listed: all, alive: true}
		watch := supervisor.NewHostWatch(b, ttl, natstest.Log(t), time.Now())
		look := func() error {
			time.Sleep(2 * time.Second) // As Run does; this is the clock of synctest.
			began := time.Now()
			_, err := watch.Look(t.Context(), began)
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("a look took %s", took)
			}
			return err
		}
		for range ttl / (2 * time.Second) {
			if err := look(); err != nil {
				t.Fatal(err)
			}
		}
		b.listed, b.alive, b.hang = all[3:], false, 10*time.Second
		for range 4 {
			if err := look(); !errors.Is(err, context.DeadlineExceeded) || len(b.lost) != 3 {
				t.Fatalf("the look gives %v and declared lost %v, want that it ran out of time after h1, h2 and h3", err, b.lost)
			}
		}
		if b.asked != 4 {
			t.Errorf("the bus was asked %d times in 4 looks: whoever has no time left should not ask", b.asked)
		}
		b.listed = nil
		if err := look(); !errors.Is(err, context.DeadlineExceeded) || !slices.Contains(b.lost, "h4") {
			t.Errorf("the look gives %v and declared lost %v, want h4 too", err, b.lost)
		}
		b.hang = 0
		if err := look(); err != nil || len(b.withdrawn) != 4 {
			t.Errorf("once the bus answers the look gives %v, and %d hosts were withdrawn from, want 4", err, len(b.withdrawn))
		}
	})
}

// A program whose log takes no more can only be deleted, and must not make every look fail until it is.
func TestHostWatchGivesUpOnAFullLog(t *testing.T) {
	b := &hostBus{listed: []events.Heartbeat{{HostID: "h1"}}, alive: true, appendErr: events.ErrLogFull}
	look := newWatch(t, b)
	b.listed, b.alive = nil, false
	before := b.scans
	for range 5 {
		if err := look(); err != nil {
			t.Fatal(err)
		}
	}
	if b.scans != before+1 {
		t.Errorf("all programs were looked at %d times in 5 looks, want once", b.scans-before)
	}
}

// A program that has just come to wait for a host is looked at at once, with the same doubts as everybody.
func TestHostWatchChecksOneProgram(t *testing.T) {
	start := time.Now()
	late := start.Add(6 * time.Second / 5)
	state := func(s reducer.State, host events.HostID) reducer.ProgramState {
		p := reducer.NewProgramState(onH1, onH1.Build())
		p.State, p.HostID = s, host
		return p
	}
	for _, c := range []struct {
		name   string
		looked bool
		listed []events.Heartbeat
		alive  bool
		err    error
		at     time.Time
		state  reducer.ProgramState
		lost   int
	}{
		{name: "lost", looked: true, at: late, state: state(reducer.StateBuilding, "h1"), lost: 1},
		{name: "listed", looked: true, listed: []events.Heartbeat{{HostID: "h1"}}, at: late, state: state(reducer.StateBuilding, "h1")},
		{name: "not listed, but there", looked: true, alive: true, at: late, state: state(reducer.StateBuilding, "h1")},
		{name: "the leader does not answer", looked: true, err: errors.New("no answer"), at: late, state: state(reducer.StateBuilding, "h1")},
		{name: "too early", looked: true, at: start.Add(time.Second / 2), state: state(reducer.StateBuilding, "h1")},
		{name: "nothing was looked at", at: late, state: state(reducer.StateBuilding, "h1")},
		{name: "no look for long", looked: true, at: start.Add(time.Minute), state: state(reducer.StateBuilding, "h1")},
		{name: "at rest", looked: true, at: late, state: state(reducer.StateStopped, "h1")},
		{name: "on no host", looked: true, at: late, state: state(reducer.StateBuilding, "")},
	} {
		b := &hostBus{listed: c.listed, alive: c.alive, err: c.err}
		watch := supervisor.NewHostWatch(b, time.Second, natstest.Log(t), start)
		at := start
		if c.looked {
			for range 3 { // Too early to declare anything.
				if _, err := watch.Look(t.Context(), at); err != nil {
					t.Fatal(err)
				}
				at = at.Add(2 * time.Second / 5)
			}
		}
		if err := watch.Check(t.Context(), reducer.Checkpoint{State: c.state}, c.at); !errors.Is(err, c.err) || len(b.lost) != c.lost {
			t.Errorf("%s: %v, declared lost %v, want %d", c.name, err, b.lost, c.lost)
		}
	}
}
