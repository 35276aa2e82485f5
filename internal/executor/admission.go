package executor

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

// refusalPause is how long no new program is taken after one that there was no room for, unless room is made: otherwise the same
// one would be taken and handed back again and again.
const refusalPause = 5 * time.Second

// errDrained is the cause of the end of a build that is handed back because its host is drained.
var errDrained = errors.New("the host was drained")

// admission decides whether the host takes a program that is on none. What it knows is a cache of what the logs say: each replay of
// a log corrects it, and so does each comparison.
type admission struct {
	slots    int
	capacity events.Capacity
	now      func() time.Time

	mu       sync.Mutex
	known    bool // Whether the host is drained has been looked up.
	drained  bool
	pause    time.Time                          // Until when nothing is taken.
	building map[events.ProgramID]newcomer      // Without a host; they may become this one's.
	placed   map[events.ProgramID]placedProgram // On this host, and not at rest.
}

type newcomer struct {
	limits events.Limits
	cancel context.CancelCauseFunc
}

type placedProgram struct {
	limits events.Limits
	seq    uint64 // Of the log that said so.
	listed bool   // The comparison that is under way has come by it.
}

func newAdmission(slots int, capacity events.Capacity, now func() time.Time) *admission {
	return &admission{
		slots: slots, capacity: capacity, now: now,
		building: map[events.ProgramID]newcomer{}, placed: map[events.ProgramID]placedProgram{},
	}
}

// drain notes whether the host is drained, and reports whether that is a change. Builds in hand of programs without a host end:
// somebody else is to have them.
func (a *admission) drain(drained bool) (changed bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	changed = a.drained != drained
	a.known, a.drained = true, drained
	if drained {
		for _, b := range a.building {
			b.cancel(fmt.Errorf("%w: %w", effects.ErrElsewhere, errDrained))
		}
	}
	return changed
}

// open reports whether a program may be taken from the queue of any host.
func (a *admission) open() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	load := a.load()
	// What a program needs is seen only when it is taken: anything that is left may be enough.
	const least = 1
	free := a.capacity.Full(load, events.Limits{MemoryBytes: least, CPUMillis: least, Pids: least}) == ""
	return a.known && !a.drained && free && !a.now().Before(a.pause)
}

// take makes room for a program without a host until the returned function is called. The context ends when the host is drained.
// An error wraps effects.ErrElsewhere: another host may take it.
func (a *admission) take(ctx context.Context, s reducer.ProgramState) (context.Context, func(), error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.drained {
		return nil, nil, fmt.Errorf("%w: %w", effects.ErrElsewhere, errDrained)
	}
	if why := a.capacity.Full(a.load(), s.Limits); why != "" {
		a.pause = a.now().Add(refusalPause)
		return nil, nil, fmt.Errorf("%w: %s", effects.ErrElsewhere, why)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	a.building[s.ID] = newcomer{limits: s.Limits, cancel: cancel}
	return ctx, func() { a.leave(s.ID, cancel) }, nil
}

func (a *admission) leave(id events.ProgramID, cancel context.CancelCauseFunc) {
	cancel(nil)
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.building, id)
	if _, stays := a.placed[id]; !stays {
		a.pause = time.Time{} // There is room now.
	}
}

// note takes the word of a log on whether its program is on this host.
func (a *admission) note(host events.HostID, s reducer.ProgramState, seq uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	old, found := a.placed[s.ID]
	if found && old.seq > seq { // Read from a copy that lags.
		old.listed = true
		a.placed[s.ID] = old
		return
	}
	if s.HostID == host && s.State.NeedsHost() {
		a.placed[s.ID] = placedProgram{limits: s.Limits, seq: seq, listed: true}
		return
	}
	if found {
		a.remove(s.ID)
	}
}

// ended notes that the container which a program ran in has.
func (a *admission) ended(id events.ProgramID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.remove(id)
}

// remove takes a program off the host: there is room now.
func (a *admission) remove(id events.ProgramID) {
	delete(a.placed, id)
	a.pause = time.Time{}
}

// beginCount and endCount surround a comparison: what no log and no checkpoint has told of in between is not here any more.
func (a *admission) beginCount() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, p := range a.placed {
		p.listed = false
		a.placed[id] = p
	}
}

func (a *admission) endCount() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, p := range a.placed {
		if !p.listed {
			a.remove(id)
		}
	}
}

// load is what is promised: to programs on this host, and to those that are being built here and may come to be.
func (a *admission) load() events.Load {
	var load events.Load
	for _, p := range a.placed {
		load = load.Plus(p.limits)
	}
	for id, b := range a.building {
		if _, counted := a.placed[id]; !counted {
			load = load.Plus(b.limits)
		}
	}
	return load
}

// report writes into a heartbeat what others have to know.
func (a *admission) report(beat *events.Heartbeat) {
	a.mu.Lock()
	defer a.mu.Unlock()
	beat.BuildSlots, beat.Building, beat.Capacity, beat.Promised = a.slots, len(a.building), a.capacity, a.load()
	beat.Drained = a.drained && len(a.building) == 0
}
