package supervisor

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"time"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

const (
	hostsEvery    = 2 * time.Second  // How often heartbeats are looked at.
	programsEvery = 30 * time.Second // How often all programs are looked at, though no host is newly gone.
)

// HostBus is what a HostWatch needs of the bus; package bus documents the methods.
type HostBus interface {
	Hosts(ctx context.Context) ([]events.Heartbeat, error)
	HostAlive(ctx context.Context, host events.HostID) (bool, error)
	Checkpoints(ctx context.Context, user events.UserID) iter.Seq2[reducer.Checkpoint, error]
	Append(ctx context.Context, id events.ProgramID, ev events.Event, key string) (uint64, error)
	Reconnected(ctx context.Context) <-chan struct{}
}

// HostWatch appends HostLost to the programs of hosts that send no heartbeat any more. Every supervisor has one, and what several
// see at once is stored once, by its key.
//
// A heartbeat that is not there proves nothing while nobody could send one: for one TTL after its start, and after each
// reconnect, a watch declares nobody lost. Nor does the list of heartbeats prove anything: it may come from a copy of the bucket
// that lags, or in which all have just expired because its server was frozen. So the leader is asked about each host that is
// missing.
type HostWatch struct {
	bus HostBus
	ttl time.Duration
	log *slog.Logger

	blindUntil time.Time
	lastScan   time.Time
	present    map[events.HostID]bool // At the last look.
}

// NewHostWatch returns a watch. ttl is how long a heartbeat lasts; now is when the watch begins.
func NewHostWatch(bus HostBus, ttl time.Duration, log *slog.Logger, now time.Time) *HostWatch {
	return &HostWatch{bus: bus, ttl: ttl, log: log, blindUntil: now.Add(ttl)}
}

// Run looks every few seconds until ctx ends.
func (w *HostWatch) Run(ctx context.Context) {
	reconnected := w.bus.Reconnected(ctx)
	ticker := time.NewTicker(hostsEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			for range reconnected { // Closed by its owner, which has then ended.
			}
			return
		case <-reconnected:
			w.Blind(time.Now())
		case <-ticker.C:
			if _, err := w.Look(ctx, time.Now()); err != nil && ctx.Err() == nil {
				w.log.Warn("cannot look after the hosts", "error", err)
			}
		}
	}
}

// Blind says that heartbeats may not have come through until now.
func (w *HostWatch) Blind(now time.Time) { w.blindUntil = now.Add(w.ttl) }

// Look compares the hosts that are there with those that programs are on, and returns how many programs it found on a host that
// is lost.
func (w *HostWatch) Look(ctx context.Context, now time.Time) (int, error) {
	beats, err := w.bus.Hosts(ctx)
	if err != nil {
		w.Blind(now) // Nothing is known, so nothing is concluded.
		return 0, err
	}
	before := w.present
	w.present = make(map[events.HostID]bool, len(beats))
	for _, beat := range beats {
		w.present[beat.HostID] = true
	}
	if now.Before(w.blindUntil) {
		return 0, nil
	}
	if !w.newlyGone(before) && now.Sub(w.lastScan) < programsEvery {
		return 0, nil
	}
	found, err := w.declare(ctx)
	w.lastScan = now
	if err != nil {
		w.lastScan = time.Time{} // At the next look again.
	}
	return found, err
}

func (w *HostWatch) newlyGone(before map[events.HostID]bool) bool {
	for host := range before {
		if !w.present[host] {
			return true
		}
	}
	return false
}

// declare appends HostLost to each program that is not at rest and on a host that is not there.
func (w *HostWatch) declare(ctx context.Context) (int, error) {
	found := 0
	var failures []error
	asked := map[events.HostID]bool{}
	for cp, err := range w.bus.Checkpoints(ctx, "") {
		if err != nil {
			return found, errors.Join(append(failures, err)...)
		}
		s := cp.State
		if s.HostID == "" || w.present[s.HostID] || !needsHost(s.State) {
			continue
		}
		if !asked[s.HostID] {
			alive, err := w.bus.HostAlive(ctx, s.HostID)
			if err != nil {
				return found, errors.Join(append(failures, err)...)
			}
			asked[s.HostID], w.present[s.HostID] = true, alive
			if alive {
				continue
			}
			w.log.Warn("a host is lost: it sends no heartbeat any more", "host", s.HostID)
		}
		found++
		lost := events.HostLost{HostID: s.HostID, Reason: fmt.Sprintf("no heartbeat for %s", w.ttl)}
		// Once for each attempt: the next one may be on the same host again.
		key := fmt.Sprintf("%s/lost/%s/%d", s.ID, s.HostID, s.Attempt)
		if _, err := w.bus.Append(ctx, s.ID, lost, key); err != nil && !errors.Is(err, events.ErrNoProgram) {
			failures = append(failures, err)
		}
	}
	return found, errors.Join(failures...)
}

func needsHost(s reducer.State) bool {
	switch s {
	case reducer.StateBuilding, reducer.StateStarting, reducer.StateReady, reducer.StateStopping:
		return true
	}
	return false
}
