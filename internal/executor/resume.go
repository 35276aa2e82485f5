package executor

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

// Leftover is work of this host that a log awaits: what Handle would be called with.
type Leftover struct {
	ProgramID events.ProgramID
	Seq       uint64
	class     events.Class
}

// resume runs at the start what the logs await of this host. What its predecessor had in hand when it died is in the queue still,
// but the server gives it to nobody before the predecessor has been silent for a while; the log says at once what it was. A
// message that comes later finds nothing to do. It returns when all was tried once; what failed comes again as a message.
func (e *Executor) resume(ctx context.Context) {
	list, err := e.Leftovers(ctx)
	if err != nil && ctx.Err() == nil {
		e.log.Warn("cannot find all that was left undone; it will come as messages", "error", err)
	}
	var group sync.WaitGroup
	for class, workers := range map[events.Class]int{events.ClassBuild: e.opts.BuildSlots, events.ClassRun: e.opts.RunSlots} {
		work := make(chan Leftover, len(list))
		for _, l := range list {
			if l.class == class {
				work <- l
			}
		}
		close(work)
		for range workers {
			group.Go(func() { e.resumeEach(ctx, work) })
		}
	}
	group.Wait()
}

func (e *Executor) resumeEach(ctx context.Context, work <-chan Leftover) {
	for l := range work {
		if ctx.Err() != nil {
			return
		}
		e.log.Info("resuming what was left undone", "program", l.ProgramID, "seq", l.Seq)
		if err := e.handle(ctx, l.ProgramID, l.Seq); err != nil && ctx.Err() == nil {
			e.log.Warn("could not resume; it will come as a message", "program", l.ProgramID, "seq", l.Seq, "error", err)
		}
	}
}

// Leftovers returns what the logs of programs that are under way on this host await. The read model may lag behind and miss one.
func (e *Executor) Leftovers(ctx context.Context) ([]Leftover, error) {
	var list []Leftover
	var failures []error
	for cp, err := range e.bus.Checkpoints(ctx, "") {
		if err != nil {
			return list, errors.Join(append(failures, err)...)
		}
		if cp.State.HostID != e.id || !underWay(cp.State.State) {
			continue
		}
		_, outstanding, err := e.replay(ctx, cp.State.ID)
		if err != nil && !errors.Is(err, events.ErrNoProgram) {
			failures = append(failures, fmt.Errorf("find what %s awaits: %w", cp.State.ID, err))
			continue
		}
		for _, p := range outstanding.All() {
			if p.HostID == e.id {
				list = append(list, Leftover{ProgramID: cp.State.ID, Seq: p.Seq, class: effects.Class(p.Effects)})
			}
		}
	}
	return list, errors.Join(failures...)
}

func underWay(s reducer.State) bool {
	return s == reducer.StateBuilding || s == reducer.StateStarting || s == reducer.StateStopping
}
