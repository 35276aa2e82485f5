package supervisor

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

const (
	wakeWorkers = 4
	sweepEvery  = 30 * time.Second
	sweepLease  = "sweep"
)

// errOtherLog says that a checkpoint was not made of the log that was read.
var errOtherLog = errors.New("the checkpoint is not of this log")

// Bus is what a supervisor needs of the bus; package bus documents the methods.
type Bus interface {
	Read(ctx context.Context, id events.ProgramID, after uint64) iter.Seq2[events.Stored, error]
	PublishEffects(ctx context.Context, m effects.Message) error

	Load(ctx context.Context, id events.ProgramID) (reducer.Checkpoint, bool, error)
	Save(ctx context.Context, cp reducer.Checkpoint, replace bool) error
	Checkpoints(ctx context.Context, user events.UserID) iter.Seq2[reducer.Checkpoint, error]
	DropCheckpoint(ctx context.Context, id events.ProgramID) error
	Deletions(ctx context.Context) iter.Seq2[events.ProgramID, error]
	TakeBackDeletion(ctx context.Context, id events.ProgramID) error
	Head(ctx context.Context, id events.ProgramID) (events.Head, error)
	Heads(ctx context.Context) iter.Seq2[events.Head, error]

	Wakes(ctx context.Context, workers int, handle func(context.Context, events.ProgramID, uint64) error) error
	Reconnected(ctx context.Context) <-chan struct{}
	Lease(ctx context.Context, name, holder string) (bool, error)
}

// Supervisor reconciles programs. It is safe for concurrent use.
type Supervisor struct {
	bus     Bus
	name    string
	log     *slog.Logger
	metrics *Metrics
	hosts   *HostWatch       // nil looks after no hosts.
	now     func() time.Time // The clock of hosts.
}

// New returns a supervisor. Its name tells it from others where they share a lease, so it must be unique.
func New(bus Bus, name string, log *slog.Logger, metrics *Metrics) *Supervisor {
	return &Supervisor{bus: bus, name: name, log: log, metrics: metrics}
}

// UseHosts makes Reconcile ask a watch about the hosts of the programs that it moves; now is the clock of both. It is called before
// anything else.
func (s *Supervisor) UseHosts(w *HostWatch, now func() time.Time) { s.hosts, s.now = w, now }

// Run reconciles until ctx ends, and returns when everything in hand is done.
func (s *Supervisor) Run(ctx context.Context) error {
	var group sync.WaitGroup
	group.Go(func() { s.sweepLoop(ctx) })
	err := s.bus.Wakes(ctx, wakeWorkers, func(ctx context.Context, id events.ProgramID, seq uint64) error {
		_, err := s.Reconcile(ctx, id, seq)
		return err
	})
	group.Wait()
	return err
}

// Reconcile is the one function that moves a program forward: it replays the log from the checkpoint on, publishes the effects
// that the head of the log still awaits, and saves the checkpoint, which it returns. atLeast is an event that the log is known
// to hold, 0 for none; where less of it was read, that is events.ErrBehind. A program that does not exist is no error and gives the
// empty checkpoint. effects.ErrBacklog comes with the right checkpoint, which is not saved: it would claim that all is published.
func (s *Supervisor) Reconcile(ctx context.Context, id events.ProgramID, atLeast uint64) (reducer.Checkpoint, error) {
	from, found, err := s.bus.Load(ctx, id)
	if err != nil {
		return reducer.Checkpoint{}, s.failed(id, err)
	}
	if !found {
		from = reducer.NewCheckpoint(id)
	}
	return s.reconcileFrom(ctx, from, atLeast, false)
}

// Rebuild is Reconcile without trust in the checkpoint, which it replaces.
func (s *Supervisor) Rebuild(ctx context.Context, id events.ProgramID) (reducer.Checkpoint, error) {
	return s.reconcileFrom(ctx, reducer.NewCheckpoint(id), 0, true)
}

func (s *Supervisor) reconcileFrom(ctx context.Context, from reducer.Checkpoint, atLeast uint64, replace bool) (reducer.Checkpoint, error) {
	id := from.State.ID
	s.metrics.reconciles.Inc()
	head, pending, err := s.replay(ctx, from)
	switch {
	case errors.Is(err, events.ErrNoProgram):
		return reducer.NewCheckpoint(id), nil
	case errors.Is(err, errOtherLog):
		s.log.Warn("rebuilding a checkpoint", "program", id, "checkpoint", from.Seq, "reason", err)
		return s.reconcileFrom(ctx, reducer.NewCheckpoint(id), atLeast, true)
	case err != nil:
		return from, s.failed(id, err)
	case head.Seq < atLeast:
		// Whoever published an event may have made up the sequence that its wake-up names; the leader knows better.
		leader, err := s.bus.Head(ctx, id)
		if err == nil && head.Seq < leader.Seq {
			err = events.ErrBehind
		}
		if err != nil {
			return head, s.failed(id, fmt.Errorf("%w (read to %d, expected %d)", err, head.Seq, atLeast))
		}
	}
	if err := s.publish(ctx, head.State, pending); err != nil {
		if errors.Is(err, effects.ErrBacklog) { // Of a host that is gone nobody takes any, until that is known.
			s.checkHost(ctx, head)
		}
		return head, s.failed(id, err)
	}
	if head.Seq == from.Seq && !replace {
		return head, nil
	}
	if err := s.bus.Save(ctx, head, replace); err != nil {
		return head, s.failed(id, err)
	}
	s.checkHost(ctx, head)
	return head, nil
}

// publish goes on past a queue that has no room: what is for another, a stop above all, must not wait for it.
//
// What is for a host that the program is not on is the stop of a container that is nobody's. A host that takes none of them need not hold
// up the program: where it is sound, its next comparison removes the container, and where it is not, it may have made them all up.
func (s *Supervisor) publish(ctx context.Context, state reducer.ProgramState, pending []reducer.Pending) error {
	var backlog error
	for _, p := range pending {
		err := s.bus.PublishEffects(ctx, effects.Message{ProgramID: state.ID, Seq: p.Seq, Time: p.Time, Attempt: p.Attempt, Effects: p.Effects})
		switch {
		case err == nil:
			s.metrics.published.Inc()
		case !errors.Is(err, effects.ErrBacklog):
			return errors.Join(backlog, err)
		case p.HostID == "" || p.HostID == state.HostID:
			backlog = err
		default:
			s.log.Warn("dropped the stop of a container that is nobody's: its host takes none", "program", state.ID, "seq", p.Seq, "host", p.HostID)
		}
	}
	return backlog
}

// checkHost finds a program that has just come to wait for a host which is lost. Where it cannot, the watch itself finds it later.
func (s *Supervisor) checkHost(ctx context.Context, head reducer.Checkpoint) {
	if s.hosts == nil {
		return
	}
	if err := s.hosts.Check(ctx, head, s.now()); err != nil && ctx.Err() == nil {
		s.log.Warn("cannot look after the host of a program now", "program", head.State.ID, "host", head.State.HostID, "error", err)
	}
}

// replay folds what the log has after a checkpoint and returns the new one with the effects that are still to be done. It reads
// the last event of the checkpoint again: a checkpoint that claims more than its log had would otherwise be taken for true once
// the log is as long.
func (s *Supervisor) replay(ctx context.Context, from reducer.Checkpoint) (reducer.Checkpoint, []reducer.Pending, error) {
	at := from
	known := from.Seq == 0
	var outstanding reducer.Outstanding
	for stored, err := range s.bus.Read(ctx, from.State.ID, max(from.Seq, 1)-1) {
		if err != nil {
			return at, nil, err
		}
		if !known {
			if stored.Seq != from.Seq || !stored.Time.Equal(from.Time) {
				return at, nil, errOtherLog
			}
			known = true
			continue
		}
		next, step, err := at.Next(stored)
		if err != nil {
			return at, nil, err
		}
		at = next
		outstanding.Observe(step)
		s.note(step)
	}
	if !known {
		return at, nil, fmt.Errorf("%w (the checkpoint is of event %d)", events.ErrBehind, from.Seq)
	}
	return at, outstanding.All(), nil
}

func (s *Supervisor) note(step reducer.Step) {
	s.metrics.events.Inc()
	switch {
	case step.Reject != nil:
		s.metrics.rejected.Inc()
		s.log.Debug("rejected", "program", step.After.ID, "seq", step.Seq, "type", step.Type, "reason", step.Reject)
	case step.Before.State != step.After.State:
		s.log.Info("program", "program", step.After.ID, "seq", step.Seq, "event", step.Type,
			"from", step.Before.State, "to", step.After.State, "host", step.After.HostID, "error", step.After.ErrorMsg)
	}
}

func (s *Supervisor) failed(id events.ProgramID, err error) error {
	s.metrics.failures.Inc()
	return fmt.Errorf("reconcile %s: %w", id, err)
}

func (s *Supervisor) sweepLoop(ctx context.Context) {
	reconnected := s.bus.Reconnected(ctx)
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	s.sweepAndLog(ctx)
	for {
		select {
		case <-ctx.Done():
			for range reconnected { // Closed by its owner, which has then ended.
			}
			return
		case <-reconnected:
			s.sweepAndLog(ctx)
		case <-ticker.C:
			held, err := s.bus.Lease(ctx, sweepLease, s.name)
			if err != nil && ctx.Err() == nil {
				s.log.Warn("cannot take the lease of the sweep", "error", err)
			}
			if held {
				s.sweepAndLog(ctx)
			}
		}
	}
}

func (s *Supervisor) sweepAndLog(ctx context.Context) {
	found, err := s.Sweep(ctx)
	if err != nil && ctx.Err() == nil {
		s.log.Warn("the sweep failed and comes again", "error", err)
	}
	if found > 0 {
		s.log.Info("the sweep found programs with news", "programs", found)
	}
}

// Sweep reconciles every program whose log does not end where its checkpoint does, by sequence and by time, and returns how many
// there were. It removes the checkpoints of programs that were deleted, and takes the notes of deletions back of programs that live. It
// goes on past a program that fails, and returns the errors together.
func (s *Supervisor) Sweep(ctx context.Context) (int, error) {
	s.metrics.sweeps.Inc()
	saved := map[events.ProgramID]reducer.Checkpoint{}
	for cp, err := range s.bus.Checkpoints(ctx, "") {
		if err != nil {
			return 0, fmt.Errorf("sweep: %w", err)
		}
		saved[cp.State.ID] = cp
	}
	found := 0
	deleted, err := s.deletions(ctx)
	failures := []error{err}
	for head, err := range s.bus.Heads(ctx) {
		if err != nil {
			return found, errors.Join(append(failures, fmt.Errorf("sweep: %w", err))...)
		}
		if deleted[head.ProgramID] {
			failures = append(failures, s.bus.TakeBackDeletion(ctx, head.ProgramID))
		}
		cp := saved[head.ProgramID]
		delete(saved, head.ProgramID)
		if cp.Seq == head.Seq && (head.Seq == 0 || cp.Time.Equal(head.Time)) {
			continue
		}
		found++
		var err error
		if cp.Seq > head.Seq {
			_, err = s.checkAhead(ctx, head)
		} else {
			_, err = s.Reconcile(ctx, head.ProgramID, head.Seq)
		}
		failures = append(failures, err)
	}
	for _, id := range slices.Sorted(maps.Keys(saved)) {
		failures = append(failures, s.forget(ctx, id))
	}
	return found, errors.Join(failures...)
}

// deletions returns the programs that are noted as deleted, as far as they can be listed.
func (s *Supervisor) deletions(ctx context.Context) (map[events.ProgramID]bool, error) {
	deleted := map[events.ProgramID]bool{}
	for id, err := range s.bus.Deletions(ctx) {
		if err != nil {
			return deleted, fmt.Errorf("sweep: %w", err)
		}
		deleted[id] = true
	}
	return deleted, nil
}

// forget removes the checkpoint of a program without a log: whoever reconciles a program while it is deleted may save one last. No
// list is trusted with that, since it may lag.
func (s *Supervisor) forget(ctx context.Context, id events.ProgramID) error {
	_, err := s.bus.Head(ctx, id)
	if !errors.Is(err, events.ErrNoProgram) {
		return err
	}
	s.log.Info("removing the checkpoint of a program that was deleted", "program", id)
	return s.bus.DropCheckpoint(ctx, id)
}

// checkAhead deals with a checkpoint that claims more than there is. It may only have been saved after the heads were listed; if it
// claims more than the log has even now, it is wrong.
func (s *Supervisor) checkAhead(ctx context.Context, head events.Head) (reducer.Checkpoint, error) {
	last := uint64(0)
	for stored, err := range s.bus.Read(ctx, head.ProgramID, head.Seq) {
		if err != nil {
			return reducer.Checkpoint{}, err
		}
		last = stored.Seq
	}
	cp, found, err := s.bus.Load(ctx, head.ProgramID)
	if err != nil || !found || cp.Seq <= max(last, head.Seq) {
		return cp, err
	}
	s.log.Warn("a checkpoint is ahead of its log; rebuilding it", "program", head.ProgramID, "checkpoint", cp.Seq, "log", max(last, head.Seq))
	return s.Rebuild(ctx, head.ProgramID)
}
