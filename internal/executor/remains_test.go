package executor_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/bus/bustest"
	"github.com/rlaaudgjs5638/hersh/internal/executor"
)

// strewnHost is a host with something left of programs.
type strewnHost struct {
	*executor.FakeHost
	remains   []events.ProgramID
	forgotten []events.ProgramID
	err       error
}

func (h *strewnHost) Remains(context.Context) ([]events.ProgramID, error) {
	return slices.Clone(h.remains), nil
}

func (h *strewnHost) Forget(_ context.Context, id events.ProgramID) error {
	if h.err == nil {
		h.forgotten = append(h.forgotten, id)
	}
	return h.err
}

// unsureBus cannot say how far a log goes.
type unsureBus struct{ *testBus }

func (b unsureBus) Head(context.Context, events.ProgramID) (events.Head, error) {
	return events.Head{}, errFault
}

// Only what somebody deleted goes, and only where the leader says that there is no log.
func TestRemains(t *testing.T) {
	deleted := func(s *setUp) {
		if err := s.bus.Remove(s.t.Context(), s.id); err != nil {
			s.t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name    string
		before  func(s *setUp)
		unsure  bool
		hostErr error
		goes    bool
	}{
		{name: "deleted", before: deleted, goes: true},
		{name: "there", before: func(s *setUp) { s.saveCheckpoint() }},
		{name: "there, but not in the read model", before: func(*setUp) {}},
		{name: "lost by the bus", before: func(s *setUp) { s.id, _ = bustest.NewProgram("alice", 77) }},
		{name: "deleted and created again", before: func(s *setUp) { deleted(s); s.program(1) }},
		{name: "deleted, and the leader does not answer", before: deleted, unsure: true},
		{name: "deleted, and the disk refuses", before: deleted, hostErr: errFault},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSetUp(t)
			c.before(s)
			host := &strewnHost{FakeHost: s.host.FakeHost, remains: []events.ProgramID{s.id}, err: c.hostErr}
			exec := s.executor("h1", host)
			if c.unsure {
				exec = s.executorOn(unsureBus{s.bus}, host)
			}
			_, err := exec.Compare(t.Context())
			if wantErr := c.unsure || c.hostErr != nil; errors.Is(err, errFault) != wantErr || err != nil && !wantErr {
				t.Errorf("the comparison gives %v", err)
			}
			if got := slices.Contains(host.forgotten, s.id); got != c.goes {
				t.Errorf("forgotten: %t, want %t", got, c.goes)
			}
		})
	}
}

// What is left of a program goes after its container, not under it.
func TestRemainsUnderAContainerStay(t *testing.T) {
	s := newSetUp(t)
	s.toReady()
	if err := s.bus.Remove(t.Context(), s.id); err != nil {
		t.Fatal(err)
	}
	host := &strewnHost{FakeHost: s.host.FakeHost, remains: []events.ProgramID{s.id}}
	exec := s.executor("h1", host)
	for i, want := range []int{0, 1} {
		if _, err := exec.Compare(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(host.forgotten) != want || s.containers() != "" {
			t.Errorf("after comparison %d: forgotten %v, containers %q", i+1, host.forgotten, s.containers())
		}
	}
}
