package api

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/rlaaudgjs5638/hersh/client/wire"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

// laggingBus lists the hosts of some time ago.
type laggingBus struct {
	Bus
	listed []events.Heartbeat
	alive  events.HostID
	err    error
}

func (b laggingBus) Hosts(context.Context) ([]events.Heartbeat, error) { return b.listed, nil }

func (b laggingBus) Drains(context.Context) (map[events.HostID]time.Time, error) { return nil, nil }

func (b laggingBus) HostAlive(_ context.Context, host events.HostID) (bool, error) {
	return host == b.alive, b.err
}

// Whether the host of a program is there is asked of the leader, whatever a list says.
func TestWaitingForItsHost(t *testing.T) {
	lagging := laggingBus{listed: []events.Heartbeat{{HostID: "lost"}}, alive: "back"}
	for _, c := range []struct {
		host  events.HostID
		state reducer.State
		want  string
	}{
		{"lost", reducer.StateStarting, "its host lost sends no heartbeat"},
		{"lost", reducer.StateStopped, ""},
		{"back", reducer.StateStarting, ""},
	} {
		s := &Server{bus: lagging}
		if got, err := s.waiting(t.Context(), reducer.ProgramState{HostID: c.host, State: c.state}, false); err != nil || got != c.want {
			t.Errorf("%s on %s waits because %q, %v; want %q", c.state, c.host, got, err, c.want)
		}
	}
	lagging.err = errors.New("no leader")
	s := &Server{bus: lagging}
	if got, err := s.waiting(t.Context(), reducer.ProgramState{HostID: "back", State: reducer.StateReady}, false); !errors.Is(err, lagging.err) {
		t.Errorf("without a leader: %q, %v", got, err)
	}
}

func TestWhyNoHost(t *testing.T) {
	const gib = 1 << 30
	host := func(change func(*wire.Host)) wire.Host {
		h := wire.Host{Heartbeat: events.Heartbeat{HostID: "h", BuildSlots: 2, Capacity: events.Capacity{Programs: 3, MemoryBytes: gib, CPUMillis: 4000}}}
		if change != nil {
			change(&h)
		}
		return h
	}
	free := host(nil)
	drained := host(func(h *wire.Host) { h.Drain, h.Drained = true, true })
	draining := host(func(h *wire.Host) { h.Drain = true })
	away := host(func(h *wire.Host) { h.Drain, h.Away = true, true })
	busy := host(func(h *wire.Host) { h.Building = 2 })
	crowded := host(func(h *wire.Host) { h.Promised.Programs = 3 })
	heavy := host(func(h *wire.Host) { h.Promised.MemoryBytes = gib - 1 })
	limits := events.Limits{MemoryBytes: 512 << 20}
	for _, c := range []struct {
		name   string
		limits events.Limits
		hosts  []wire.Host
		begun  bool
		want   string
	}{
		{"nobody", limits, nil, false, "no host is there"},
		{"away", limits, []wire.Host{away}, false, "no host is there"},
		{"free", limits, []wire.Host{free, drained, crowded}, false, ""},
		{"drained", limits, []wire.Host{drained, draining, away}, true, "all hosts are drained"},
		{"full", limits, []wire.Host{busy, crowded, heavy}, false, "all hosts are full"},
		{"full, but one builds it", limits, []wire.Host{busy, crowded, heavy}, true, ""},
		{"full or drained", limits, []wire.Host{drained, busy}, false, "all hosts that are not drained are full"},
		{"too large", events.Limits{MemoryBytes: 2 * gib}, []wire.Host{free, crowded, drained}, false, "no host is large enough for its limits"},
		{"small enough for what is left", events.Limits{MemoryBytes: 6 << 20}, []wire.Host{host(func(h *wire.Host) { h.Promised.MemoryBytes = gib - 6<<20 })}, false, ""},
	} {
		if got := whyNoHost(c.limits, c.hosts, c.begun); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
