package program_test

import (
	"context"
	"fmt"
	"time"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/program"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

// A program is built and started, and stopped again, by a host that only pretends. With host.NewRealEffectHandler in its
// place the same lines run a container.
func Example() {
	prog := program.NewProgram("my-prog", "build-123", effects.NewFakeEffectHandler())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		prog.Start(ctx)
	}()

	reach := func(state reducer.State) {
		for range time.Tick(time.Millisecond) {
			if prog.GetState().State == state {
				fmt.Println(state)
				return
			}
		}
	}
	if err := prog.SendEvent(events.UserStartRequested{ProgramID: "my-prog"}); err != nil {
		fmt.Println(err)
	}
	reach(reducer.StateReady)
	if err := prog.SendEvent(events.UserStopRequested{ProgramID: "my-prog"}); err != nil {
		fmt.Println(err)
	}
	reach(reducer.StateStopped)

	cancel()
	<-done
	fmt.Println(prog.SendEvent(events.UserStartRequested{ProgramID: "my-prog"}))
	// Output:
	// Ready
	// Stopped
	// program stopped
}
