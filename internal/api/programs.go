package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rlaaudgjs5638/hersh/client/wire"
	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/pause"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

// Between tries to read a log to where its leader says that it goes; the waits double.
const (
	firstWait = 50 * time.Millisecond
	lastWait  = 800 * time.Millisecond
)

// create makes a program from a source that is there. Repeating it with the same ID and content changes nothing, and asks for the source
// again.
func (s *Server) create(ctx context.Context, user events.UserID, req wire.CreateRequest) (wire.CreateReply, error) {
	first, err := firstEvent(req)
	if err != nil {
		return wire.CreateReply{}, err
	}
	id := req.ProgramID
	if id == "" {
		id = events.NewProgramID(user, first.BuildID)
	} else if err := ownProgram(user, id); err != nil {
		return wire.CreateReply{}, err
	}
	if id.Build() != first.BuildID {
		return wire.CreateReply{}, fail(wire.CodeBadRequest, "program ID %s is not one of build %s", id, first.BuildID)
	}
	reply := wire.CreateReply{ProgramID: id, BuildID: first.BuildID}
	done := false
	if req.ProgramID != "" {
		if done, err = s.createdBefore(ctx, id, first); err != nil {
			return reply, err
		}
	}
	if !done {
		if err := s.createNow(ctx, user, id, first); err != nil {
			return reply, err
		}
	}
	found, err := s.bus.HasSource(ctx, user, req.SourceDigest)
	if err == nil && !found {
		err = fail(wire.CodeConflict, "program %s is there, but its source %s went with another program that was deleted; upload the source again, or delete this program", id, first.BuildID)
	}
	return reply, err
}

// createNow makes a program that is not there yet. Whoever deletes the last other program of its source may not see this one in time, and
// remove the source; the program then stays, for another upload makes it whole.
func (s *Server) createNow(ctx context.Context, user events.UserID, id events.ProgramID, first events.ProgramCreated) error {
	found, err := s.bus.HasSource(ctx, user, first.SourceDigest)
	if err != nil {
		return err
	}
	if !found {
		return fail(wire.CodeConflict, "source %s is not there; upload it first", first.BuildID)
	}
	if err := s.roomForProgram(ctx, user); err != nil {
		return err
	}
	if err := s.bus.Create(ctx, id, first); err != nil {
		return err
	}
	// So that the program is in the next list; where that fails, its wake-up does the same in a moment.
	if _, err := s.reconciler.Reconcile(ctx, id, 1); err != nil {
		s.log.Warn("a new program is not in the read model yet", "program", id, "error", err)
	}
	return nil
}

func firstEvent(req wire.CreateRequest) (events.ProgramCreated, error) {
	build, err := events.NewBuildID(req.SourceDigest)
	if err == nil {
		err = req.Limits.Validate()
	}
	if cpu := req.Limits.CPUMillis; err == nil && cpu > 0 && cpu < events.MinCPUMillis {
		err = fmt.Errorf("the limit cpuMillis is %d, less than %d, which is the least that Docker takes", cpu, events.MinCPUMillis)
	}
	if err != nil {
		return events.ProgramCreated{}, fail(wire.CodeBadRequest, "%s", err)
	}
	return events.ProgramCreated{BuildID: build, SourceDigest: req.SourceDigest, Limits: req.Limits}, nil
}

// createdBefore reports whether an earlier request made this very program. Another one under the same ID is a conflict.
func (s *Server) createdBefore(ctx context.Context, id events.ProgramID, first events.ProgramCreated) (bool, error) {
	cp, err := s.toHead(ctx, id)
	if errors.Is(err, events.ErrNoProgram) || err == nil && cp.State.SourceDigest == "" {
		return false, nil // Not there, or its first event was never stored: create goes on from there.
	}
	if err != nil {
		return false, err
	}
	if cp.State.SourceDigest != first.SourceDigest || cp.State.Limits != first.Limits {
		return false, fail(wire.CodeConflict, "program %s exists already, with another source or other limits", id)
	}
	return true, nil
}

func (s *Server) list(ctx context.Context, user events.UserID, req wire.ListRequest) (wire.ListReply, error) {
	return listPage(s.bus.Checkpoints(ctx, user), req)
}

func (s *Server) listAll(ctx context.Context, req wire.ListRequest) (wire.ListReply, error) {
	return listPage(s.bus.Checkpoints(ctx, ""), req)
}

// listPage returns those of the checkpoints that follow the request's After, as many as fit.
func listPage(all iter.Seq2[reducer.Checkpoint, error], req wire.ListRequest) (wire.ListReply, error) {
	reply := wire.ListReply{Programs: []reducer.Checkpoint{}}
	limit, err := pageLimit(req.Limit)
	if err != nil {
		return reply, err
	}
	newest := map[events.ProgramID]reducer.Checkpoint{} // One that is saved meanwhile comes twice.
	for cp, err := range all {
		if err != nil {
			return reply, err
		}
		if cp.State.ID > req.After {
			newest[cp.State.ID] = cp
		}
	}
	rest := slices.Collect(maps.Values(newest))
	slices.SortFunc(rest, func(a, b reducer.Checkpoint) int { return strings.Compare(string(a.State.ID), string(b.State.ID)) })
	size := 0
	for i, cp := range rest {
		data, err := json.Marshal(cp)
		if err != nil {
			return reply, err
		}
		size += len(data) + 1
		if i == limit || i > 0 && size > wire.MaxPageBytes {
			reply.Next = rest[i-1].State.ID
			break
		}
		reply.Programs = append(reply.Programs, cp)
	}
	return reply, nil
}

// get returns the newest state, which it brings about: no client sees the read model lag behind what it published itself.
func (s *Server) get(ctx context.Context, user events.UserID, req wire.ProgramRequest) (wire.GetReply, error) {
	cp, err := s.newest(ctx, user, req.ProgramID)
	if err != nil {
		return wire.GetReply{}, err
	}
	since, begun, err := s.since(ctx, cp)
	if err != nil {
		return wire.GetReply{}, err
	}
	waiting, err := s.waiting(ctx, cp.State, begun)
	if err != nil {
		return wire.GetReply{}, err
	}
	return wire.GetReply{Checkpoint: cp, Since: since, Waiting: waiting}, nil
}

// newest returns the state of a program as far as its log goes by the word of its leader.
func (s *Server) newest(ctx context.Context, user events.UserID, id events.ProgramID) (reducer.Checkpoint, error) {
	if err := ownProgram(user, id); err != nil {
		return reducer.Checkpoint{}, err
	}
	cp, err := s.toHead(ctx, id)
	if errors.Is(err, events.ErrNoProgram) || err == nil && cp.Seq == 0 {
		err = noProgram(id)
	}
	return cp, err
}

// toHead reconciles a program as far as its log goes by the word of its leader. A copy that lags is read again: the user may have
// published a moment ago what it does not have yet. All other failures are for the user to try again after; the workers are few.
func (s *Server) toHead(ctx context.Context, id events.ProgramID) (reducer.Checkpoint, error) {
	head, err := s.bus.Head(ctx, id)
	if err != nil {
		return reducer.Checkpoint{}, err
	}
	cp, err := s.reconcile(ctx, id, head.Seq)
	for wait := firstWait; errors.Is(err, events.ErrBehind) && wait <= lastWait && pause.For(ctx, wait); wait *= 2 {
		cp, err = s.reconcile(ctx, id, head.Seq)
	}
	return cp, err
}

// reconcile takes the state of a program whose effects find no room for what it is: that is no matter of who asks, and comes again as
// work of a supervisor.
func (s *Server) reconcile(ctx context.Context, id events.ProgramID, atLeast uint64) (reducer.Checkpoint, error) {
	cp, err := s.reconciler.Reconcile(ctx, id, atLeast)
	if errors.Is(err, effects.ErrBacklog) {
		return cp, nil
	}
	return cp, err
}

// since looks up when a program came into the state of its checkpoint, and whether a host has begun with what that waits for.
func (s *Server) since(ctx context.Context, cp reducer.Checkpoint) (since time.Time, begun bool, err error) {
	for step, err := range reducer.Replay(reducer.NewCheckpoint(cp.State.ID), s.bus.Read(ctx, cp.State.ID, 0)) {
		if err != nil {
			return time.Time{}, false, err
		}
		if step.Seq > cp.Seq {
			break
		}
		if since.IsZero() || step.After.State != step.Before.State {
			since = step.Time
		}
		if step.After.Attempt != step.Before.Attempt {
			begun = false
		}
		begun = begun || step.Type == events.TypeFoldersEnsured && step.Reject == nil && step.Ignored == ""
	}
	return since, begun, nil
}

// delete removes a program that runs nowhere, or whose log is full, so that nobody can stop it any more. What its hosts have of it goes
// with their next comparison, or when they are back.
func (s *Server) delete(ctx context.Context, user events.UserID, req wire.ProgramRequest) (wire.DeleteReply, error) {
	cp, err := s.newest(ctx, user, req.ProgramID)
	if err != nil {
		return wire.DeleteReply{}, err
	}
	if why := whyNotDelete(cp.State); why != "" {
		full, err := s.bus.Full(ctx, req.ProgramID)
		if err != nil {
			return wire.DeleteReply{}, err
		}
		if !full {
			return wire.DeleteReply{}, fail(wire.CodeConflict, "program %s cannot be deleted: %s", req.ProgramID, why)
		}
	}
	if err := s.bus.Remove(ctx, req.ProgramID); err != nil {
		return wire.DeleteReply{}, err
	}
	s.log.Info("deleted a program", "program", req.ProgramID, "seq", cp.Seq)
	return wire.DeleteReply(req), nil
}

func whyNotDelete(state reducer.ProgramState) string {
	switch state.State {
	case reducer.StateCreated, reducer.StateStopped:
		return ""
	case reducer.StateError:
		if state.ContainerID == "" {
			return ""
		}
		return "it ended in Error and its container is still there; stop it first"
	}
	return fmt.Sprintf("it is %s; stop it first", state.State)
}
