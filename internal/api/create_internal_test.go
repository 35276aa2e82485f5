package api

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/rlaaudgjs5638/hersh/client/wire"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

const createdDigest = events.SourceDigest("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")

// swept is a bus on which the source of a program goes, with another program, while the program is created.
type swept struct {
	Bus
	source bool
	sweep  bool // The next creation loses the source.
	log    reducer.Checkpoint
	old    int // So many reads come from a copy that has nothing yet.
	made   int
}

func (s *swept) HasSource(context.Context, events.UserID, events.SourceDigest) (bool, error) {
	return s.source, nil
}

func (s *swept) Checkpoints(context.Context, events.UserID) iter.Seq2[reducer.Checkpoint, error] {
	return func(func(reducer.Checkpoint, error) bool) {}
}

func (s *swept) Create(_ context.Context, id events.ProgramID, first events.ProgramCreated) error {
	s.log = reducer.NewCheckpoint(id)
	s.log.Seq = 1
	s.log.State, _ = reducer.Reduce(s.log.State, first)
	s.source = s.source && !s.sweep
	s.made++
	return nil
}

func (s *swept) Head(_ context.Context, id events.ProgramID) (events.Head, error) {
	if s.log.Seq == 0 {
		return events.Head{}, events.ErrNoProgram
	}
	return events.Head{ProgramID: id, Seq: s.log.Seq}, nil
}

func (s *swept) Reconcile(_ context.Context, id events.ProgramID, atLeast uint64) (reducer.Checkpoint, error) {
	if s.old > 0 {
		s.old--
		if atLeast > 0 {
			return reducer.NewCheckpoint(id), events.ErrBehind
		}
		return reducer.NewCheckpoint(id), nil
	}
	return s.log, nil
}

func (s *swept) ask(t *testing.T, limits events.Limits) error {
	t.Helper()
	build, err := events.NewBuildID(createdDigest)
	if err != nil {
		t.Fatal(err)
	}
	id := events.ProgramID(fmt.Sprintf("alice-%s-00000000-0000-4000-8000-000000000000", build))
	server := &Server{bus: s, reconciler: s, opts: Options{Quotas: Quotas{}.orDefault()}}
	_, err = server.create(t.Context(), "alice", wire.CreateRequest{ProgramID: id, SourceDigest: createdDigest, Limits: limits})
	return err
}

func wantConflict(t *testing.T, what string, err error, sentence string) {
	t.Helper()
	var f *fault
	if !errors.As(err, &f) || f.code != wire.CodeConflict || !strings.Contains(f.sentence, sentence) {
		t.Errorf("%s: %v, want a conflict that says %q", what, err, sentence)
	}
}

// A program whose source went in the moment in which it was created is there, and whole as soon as the source is; its user hears so.
func TestCreateThatLosesItsSource(t *testing.T) {
	s := &swept{source: true, sweep: true}
	wantConflict(t, "created", s.ask(t, events.Limits{}), "upload the source again")
	wantConflict(t, "repeated", s.ask(t, events.Limits{}), "upload the source again")
	s.source = true
	if err := s.ask(t, events.Limits{}); err != nil || s.made != 1 {
		t.Errorf("repeated with the source: %v; it was made %d times", err, s.made)
	}
}

// Whether a program is there already is no question for a copy that lags.
func TestRepeatedCreateIsFoundThoughACopyLags(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &swept{source: true}
		if err := s.ask(t, events.Limits{}); err != nil {
			t.Fatal(err)
		}
		s.old = 2
		wantConflict(t, "repeated with other limits", s.ask(t, events.Limits{Pids: 64}), "exists already")
		if s.made != 1 {
			t.Errorf("it was made %d times", s.made)
		}
	})
}
