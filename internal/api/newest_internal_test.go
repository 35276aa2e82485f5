package api

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

// lagging is a log of 5 events by the word of its leader, read from copies of which the first ones have 4.
type lagging struct {
	Bus
	old, reads int
}

var errLags = errors.New("the log that was read ends too early")

func (l *lagging) Head(_ context.Context, id events.ProgramID) (events.Head, error) {
	return events.Head{ProgramID: id, Seq: 5}, nil
}

func (l *lagging) Reconcile(_ context.Context, id events.ProgramID, atLeast uint64) (reducer.Checkpoint, error) {
	l.reads++
	cp := reducer.NewCheckpoint(id)
	if cp.Seq = 5; l.reads <= l.old {
		cp.Seq = 4
	}
	if cp.Seq < atLeast {
		return cp, errLags
	}
	return cp, nil
}

// What a user published and had acknowledged is in what the user is told next, or it is an error.
func TestNewestIsAsNewAsTheLeaderSays(t *testing.T) {
	const id events.ProgramID = "alice-build-0123456789ab-00000000-0000-4000-8000-000000000000"
	for _, c := range []struct {
		old int
		err error
	}{{0, nil}, {3, nil}, {1000, errLags}} {
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
