package chaos

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/pause"
)

const (
	watchEvery = 200 * time.Millisecond
	mostPairs  = 100 // Remembered of one program; one is enough to fail.
)

// runner is a container that runs, as the watch saw it.
type runner struct {
	host    events.HostID
	id      string
	attempt uint64
}

// watch looks all the time for programs with two running containers.
type watch struct {
	system *System

	mu    sync.Mutex
	pairs map[events.ProgramID]map[[2]runner]time.Time
}

func newWatch(s *System) *watch {
	return &watch{system: s, pairs: map[events.ProgramID]map[[2]runner]time.Time{}}
}

// run looks until ctx ends. Two containers that are both there in two looks, one after the other, ran at the same time.
func (w *watch) run(ctx context.Context) {
	var before map[events.ProgramID][]runner
	for pause.For(ctx, watchEvery) {
		now := w.look()
		for id, list := range now {
			w.note(id, common(before[id], list))
		}
		before = now
	}
}

func (w *watch) look() map[events.ProgramID][]runner {
	now := map[events.ProgramID][]runner{}
	for _, e := range w.system.executors {
		list, err := e.host.list()
		if _, ok := e.host.(dockerHost); ok && err != nil {
			continue // A busy Docker is no mistake of Hersh's; this look sees nothing of it.
		}
		if err != nil {
			w.system.note(fmt.Errorf("list the containers of %s: %w", e.Name, err))
		}
		for _, c := range list {
			if c.Running {
				now[c.ProgramID] = append(now[c.ProgramID], runner{host: events.HostID(e.Name), id: c.ID, attempt: c.Attempt})
			}
		}
	}
	return now
}

func common(a, b []runner) []runner {
	var both []runner
	for _, x := range a {
		for _, y := range b {
			if x == y {
				both = append(both, x)
			}
		}
	}
	return both
}

func (w *watch) note(id events.ProgramID, list []runner) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, a := range list {
		for _, b := range list[i+1:] {
			if w.pairs[id] == nil {
				w.pairs[id] = map[[2]runner]time.Time{}
			}
			if _, found := w.pairs[id][[2]runner{a, b}]; !found && len(w.pairs[id]) < mostPairs {
				w.pairs[id][[2]runner{a, b}] = time.Now()
			}
		}
	}
}

func (w *watch) of(id events.ProgramID) map[[2]runner]time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.pairs[id])
}
