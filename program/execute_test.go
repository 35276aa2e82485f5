package program

import (
	"context"
	"testing"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
)

// TestNothingToTell is inside the package, since no transition asks for the status of a container: that one which still runs
// has no result is an answer, and not a reason to ask again.
func TestNothingToTell(t *testing.T) {
	calls := 0
	p := NewProgram("my-prog", "build-123", handlerFunc(func(context.Context, effects.Effect) events.Event { calls++; return nil }))
	if got := p.execute(t.Context(), effects.FetchRuntimeStatus{ContainerID: "c1"}); got != nil || calls != 1 {
		t.Errorf("got %+v after %d calls", got, calls)
	}
}

type handlerFunc func(context.Context, effects.Effect) events.Event

func (f handlerFunc) Execute(ctx context.Context, eff effects.Effect) events.Event {
	return f(ctx, eff)
}
