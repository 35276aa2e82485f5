package executor

import (
	"testing"
	"time"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

// What was refused for want of room is taken again as soon as there is room, and not before.
func TestAdmissionReopensWhereAPlaceBecomesFree(t *testing.T) {
	now := time.Now()
	first := reducer.ProgramState{ID: "first"}
	placed := reducer.ProgramState{ID: "first", HostID: "h1", State: reducer.StateStarting}
	for _, c := range []struct {
		name string
		free func(a *admission, leave func())
		open bool
	}{
		{"nothing happens", func(*admission, func()) {}, false},
		{"the build fails", func(_ *admission, leave func()) { leave() }, true},
		{"the build succeeds, so that the program stays", func(a *admission, leave func()) { a.note("h1", placed, 4); leave() }, false},
		{"it stays, and its container ends", func(a *admission, leave func()) { a.note("h1", placed, 4); leave(); a.ended("first") }, true},
		{"it stays, and a comparison does not find it", func(a *admission, leave func()) {
			a.note("h1", placed, 4)
			leave()
			a.beginCount()
			a.endCount()
		}, true},
	} {
		a := newAdmission(2, events.Capacity{MemoryBytes: 300 << 20}, func() time.Time { return now })
		a.drain(false)
		_, leave, err := a.take(t.Context(), first)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := a.take(t.Context(), reducer.ProgramState{ID: "second"}); err == nil || a.open() {
			t.Fatalf("%s: a host that is full gives %v and takes programs: %t", c.name, err, a.open())
		}
		c.free(a, leave)
		if a.open() != c.open {
			t.Errorf("%s: it takes programs: %t, want %t", c.name, a.open(), c.open)
		}
	}
}
