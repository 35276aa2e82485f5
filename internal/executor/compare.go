package executor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

// verdict is what becomes of a container, given what its program's log says.
type verdict int

const (
	leave  verdict = iota // Somebody is at work on it, or it is evidence, or the log that was read may be old.
	adopt                 // It runs, and should.
	report                // It ended, and nobody has said so.
	remove                // It is nobody's.
)

// judge decides about a container with the label of this host. It removes only what no later event can give back: a container
// of an attempt that the log has left behind.
func judge(s reducer.ProgramState, host events.HostID, c effects.Container) verdict {
	here := s.HostID == host
	switch {
	case c.Attempt > s.Attempt:
		return leave // Its start was decided by a log that is longer than the one that was read.
	case c.Attempt == s.Attempt && (s.State == reducer.StateBuilding || s.State == reducer.StateStarting && here):
		return leave
	case !here || c.ID != s.ContainerID:
		return remove
	case s.State == reducer.StateReady && c.Running:
		return adopt
	case s.State == reducer.StateReady:
		return report
	case s.State == reducer.StateStopping:
		return leave // Its stop is in the queue.
	case s.State == reducer.StateError && !c.Running:
		return leave // Its logs and exit code are evidence.
	}
	return remove
}

// Settle does what the log says about one container of this host.
func (e *Executor) Settle(ctx context.Context, c effects.Container) error {
	head, _, err := e.replay(ctx, c.ProgramID)
	what := remove
	switch {
	case errors.Is(err, events.ErrNoProgram):
	case err != nil:
		return fmt.Errorf("settle container %s of %s: %w", c.ID, c.ProgramID, err)
	default:
		what = judge(head.State, e.id, c)
	}
	switch what {
	case adopt:
		err = e.host.Adopt(ctx, c)
	case report:
		if err = e.reportExit(ctx, c); err == nil {
			e.admit.ended(c.ProgramID)
		}
	case remove:
		err = e.remove(ctx, c)
	default:
		err = nil
	}
	if err != nil {
		return fmt.Errorf("settle container %s of %s: %w", c.ID, c.ProgramID, err)
	}
	return nil
}

func (e *Executor) remove(ctx context.Context, c effects.Container) error {
	e.log.Info("removing a container that is nobody's", "program", c.ProgramID, "attempt", c.Attempt, "container", c.ID)
	result := e.host.Execute(ctx, effects.StopRuntime{
		Placement: effects.Placement{HostID: e.id, Attempt: c.Attempt}, ProgramID: c.ProgramID, ContainerID: c.ID,
	})
	stopped, ok := result.(events.StopFinished)
	switch {
	case !ok:
		return errNotDone
	case !stopped.Success:
		return errors.New(stopped.Error)
	}
	e.metrics.orphans.Inc()
	return nil
}

// Away says that the bus was away: this host may have been declared lost. It takes no more work until a comparison that begins now
// or later has tried every container, so that what is nobody's any more goes first.
func (e *Executor) Away() { e.outages.Add(1) }

// Compare holds the containers of this host against the logs, and then the programs that should run here against the
// containers. It goes on past what fails and returns the errors together. tried says that every container was tried: work may be
// taken then, though some of them fail. One that cannot be settled must not keep everybody else's programs waiting; its own
// program's next start removes it or fails.
func (e *Executor) Compare(ctx context.Context) (tried bool, err error) {
	e.metrics.comparisons.Inc()
	outages := e.outages.Load()
	containers, err := e.host.Containers(ctx)
	if err != nil {
		return false, fmt.Errorf("compare: %w", err)
	}
	var failures []error
	known, programs := map[string]bool{}, map[events.ProgramID]bool{}
	e.admit.beginCount()
	for _, c := range containers {
		known[c.ID], programs[c.ProgramID] = true, true
		failures = append(failures, e.settleWithin(ctx, c))
	}
	if ctx.Err() == nil {
		e.compared.Store(max(outages, e.compared.Load()))
		tried = true
	}
	return tried, errors.Join(append(failures, e.compareMissing(ctx, known, programs))...)
}

// settleWithin is Settle in bounded time: the daemon may hang at one container.
func (e *Executor) settleWithin(ctx context.Context, c effects.Container) error {
	ctx, cancel := e.opts.WithTimeout(ctx, settleLimit)
	defer cancel()
	return e.Settle(ctx, c)
}

// compareMissing looks at the programs that should run here in a container that Docker did not list, and at what is left of programs
// that have none.
func (e *Executor) compareMissing(ctx context.Context, known map[string]bool, programs map[events.ProgramID]bool) error {
	var failures []error
	there := map[events.ProgramID]bool{}
	for cp, err := range e.bus.Checkpoints(ctx, "") {
		if err != nil {
			return errors.Join(append(failures, fmt.Errorf("compare: %w", err))...)
		}
		there[cp.State.ID] = true
		e.admit.note(e.id, cp.State, cp.Seq)
		if e.shouldRun(cp.State) && !known[cp.State.ContainerID] {
			failures = append(failures, e.checkMissing(ctx, cp.State.ID))
		}
	}
	e.admit.endCount()
	return errors.Join(append(failures, e.removeRemains(ctx, there, programs))...)
}

func (e *Executor) shouldRun(s reducer.ProgramState) bool {
	return s.State == reducer.StateReady && s.HostID == e.id
}

// checkMissing reports the exit of a container that a program runs in by its log, and that Docker did not list.
func (e *Executor) checkMissing(ctx context.Context, id events.ProgramID) error {
	head, _, err := e.replay(ctx, id)
	if errors.Is(err, events.ErrNoProgram) || err == nil && !e.shouldRun(head.State) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for the container of %s: %w", id, err)
	}
	return e.reportExit(ctx, effects.Container{ID: head.State.ContainerID, ProgramID: id, Attempt: head.State.Attempt})
}

// compareUntilTried compares until every container was tried once, or ctx ends.
func (e *Executor) compareUntilTried(ctx context.Context) {
	wait := retryAfter
	for ctx.Err() == nil {
		tried, err := e.Compare(ctx)
		if err != nil && ctx.Err() == nil {
			e.log.Warn("the comparison of Docker with the logs failed and comes again", "takes work", tried, "error", err)
		}
		if tried {
			return
		}
		pause(ctx, wait)
		wait = min(2*wait, compareEvery)
	}
}

// awayLoop stops work as soon as the bus is back, whatever comparison is under way: that one may have read what was so before. It
// asks for another one.
func (e *Executor) awayLoop(ctx context.Context, compareNow chan<- struct{}) {
	for range e.bus.Reconnected(ctx) { // Closed by its owner when ctx ends.
		e.Away()
		ask(compareNow)
	}
}

// ask asks for what a loop does, unless it is asked for already.
func ask(now chan<- struct{}) {
	select {
	case now <- struct{}{}:
	default:
	}
}

// compareLoop compares every so often, and soon again after a comparison that failed.
func (e *Executor) compareLoop(ctx context.Context, now <-chan struct{}) {
	wait, retry := compareEvery, retryAfter
	for {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-now:
		case <-timer.C:
		}
		timer.Stop()
		tried, err := e.Compare(ctx)
		if err == nil {
			wait, retry = compareEvery, retryAfter
			continue
		}
		wait, retry = retry, min(2*retry, compareEvery)
		if ctx.Err() == nil {
			e.log.Warn("the comparison of Docker with the logs failed and comes again", "takes work", tried, "error", err)
		}
	}
}

// exitLoop follows the host's exits and hands them on. What it may have missed, a comparison finds.
func (e *Executor) exitLoop(ctx context.Context, exits chan<- effects.Container, compareNow chan<- struct{}) {
	wake := func() { ask(compareNow) }
	ended := func(c effects.Container) {
		select {
		case exits <- c:
		default:
			wake()
		}
	}
	for ctx.Err() == nil {
		err := e.host.Exits(ctx, wake, ended)
		if ctx.Err() == nil {
			e.log.Warn("lost the host's events, asking again", "error", err)
			pause(ctx, retryAfter)
		}
	}
}

func (e *Executor) settleLoop(ctx context.Context, exits <-chan effects.Container) {
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-exits:
			if err := e.Settle(ctx, c); err != nil && ctx.Err() == nil {
				e.log.Warn("could not settle an exit; the comparison will", "error", err)
			}
		}
	}
}
