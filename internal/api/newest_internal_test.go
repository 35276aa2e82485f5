package api

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/rlaaudgjs5638/hersh/client/wire"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

// lagging is a log of 5 events by the word of its leader, read from copies of which the first ones have 4, or fail.
type lagging struct {
	Bus
	old, reads int
	noLeader   bool
	fault      error // Of the first reads, instead of too few events.
}

func (l *lagging) Head(_ context.Context, id events.ProgramID) (events.Head, error) {
	if l.noLeader {
		return events.Head{}, fmt.Errorf("ask: %w", events.ErrNoLeader)
	}
	return events.Head{ProgramID: id, Seq: 5}, nil
}

func (l *lagging) Reconcile(_ context.Context, id events.ProgramID, atLeast uint64) (reducer.Checkpoint, error) {
	l.reads++
	cp := reducer.NewCheckpoint(id)
	if cp.Seq = 5; l.reads <= l.old {
		cp.Seq = 4
	}
	switch {
	case l.reads <= l.old && l.fault != nil:
		return cp, l.fault
	case cp.Seq < atLeast:
		return cp, fmt.Errorf("reconcile: %w", events.ErrBehind)
	}
	return cp, nil
}

// What a user published and had acknowledged is in what the user is told next, or it is an error.
func TestNewestIsAsNewAsTheLeaderSays(t *testing.T) {
	const id events.ProgramID = "alice-build-0123456789ab-00000000-0000-4000-8000-000000000000"
	for _, c := range []struct {
		old int
		err error
	}{{0, nil}, {3, nil}, {1000, events.ErrBehind}} {
		synctest.Test(t, func(t *testing.T) {
			l := &lagging{old: c.old}
			s := &Server{bus: l, reconciler: l}
			cp, err := s.newest(t.Context(), "alice", id)
			if !errors.Is(err, c.err) || err == nil && cp.Seq != 5 {
				t.Errorf("after %d copies that lag: event %d, %v; want event 5 or %v", c.old, cp.Seq, err, c.err)
			}
			if l.reads > 10 {
				t.Errorf("it was read %d times", l.reads)
			}
		})
	}
}

// Only a copy that lags is read again. What fails otherwise is for the user to try again after, and holds no worker meanwhile.
func TestNewestTriesNothingElseAgain(t *testing.T) {
	const id events.ProgramID = "alice-build-0123456789ab-00000000-0000-4000-8000-000000000000"
	errFault := errors.New("no answer")
	for _, c := range []struct {
		name  string
		log   lagging
		err   error
		reads int
	}{
		{"there is no leader", lagging{noLeader: true}, events.ErrNoLeader, 0},
		{"the read fails", lagging{old: 1, fault: errFault}, errFault, 1},
		{"it is deleted meanwhile", lagging{old: 1, fault: fmt.Errorf("ask: %w", events.ErrNoProgram)}, events.ErrNoProgram, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := &Server{bus: &c.log, reconciler: &c.log}
			_, err := s.toHead(t.Context(), id)
			if !errors.Is(err, c.err) || c.log.reads != c.reads {
				t.Errorf("%s: %v after %d reads, want %v after %d", c.name, err, c.log.reads, c.err, c.reads)
			}
		})
	}
}

// Whoever asks while nobody can answer hears what to do, and a client that tries again by itself does so by the code.
func TestUnknownHeadIsToldAsTryAgain(t *testing.T) {
	for _, err := range []error{events.ErrNoLeader, events.ErrBehind, fmt.Errorf("%w: %w", events.ErrNoLeader, context.DeadlineExceeded)} {
		if f := asFault(fmt.Errorf("ask: %w", err)); f.code != wire.CodeInternal || !strings.Contains(f.sentence, "the log of the program") || !strings.Contains(f.sentence, "try again") {
			t.Errorf("%v is told as %d %q", err, f.code, f.sentence)
		}
	}
}
