package sim_test

import (
	"flag"
	"maps"
	"testing"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/sim"
)

var complete = flag.Bool("complete", false, "follow every plan of the small world, and not some of them only")

// TestSmallWorld goes through one program's life with one request of its user at every moment and one fault at every call, and
// with two faults at every two calls.
func TestSmallWorld(t *testing.T) {
	every := usual(40, 1000)
	if *complete {
		every = 1
	}
	n, runs := 0, 0
	follow := func(p sim.Plan) bool {
		if n++; n%every != 0 {
			return true
		}
		runs++
		_, result := sim.RunPlan(p, sim.Hooks{})
		if result.Violation != nil {
			t.Errorf("plan %+v: %v\n%s", p, result.Violation, sim.Shorten(result, 100))
		}
		return !t.Failed()
	}
	requests := []events.Event{nil, events.UserStopRequested{}, events.UserRestartRequested{}, events.UserStartRequested{}}
	for _, request := range requests {
		for at := range calls(t, sim.Plan{}) {
			users := map[int]events.Event{}
			if request != nil {
				users[at+1] = request
			} else if at > 0 {
				break // Without a request there is one moment only.
			}
			if !eachFault(t, sim.Plan{Users: users}, follow) {
				return
			}
		}
	}
	two := func(p sim.Plan) bool { return eachFault(t, p, follow) }
	eachFault(t, sim.Plan{}, two)
	t.Logf("%d of %d plans", runs, n)
}

func calls(t *testing.T, p sim.Plan) int {
	t.Helper()
	n, result := sim.RunPlan(p, sim.Hooks{})
	if result.Violation != nil {
		t.Errorf("plan %+v: %v\n%s", p, result.Violation, sim.Shorten(result, 100))
	}
	return n
}

// eachFault follows a plan with one more fault, at each call after the last one that it has, of each kind.
func eachFault(t *testing.T, p sim.Plan, follow func(sim.Plan) bool) bool {
	last := 0
	for at := range p.Faults {
		last = max(last, at)
	}
	most := calls(t, p)
	for at := last + 1; at <= most; at++ {
		for kind := range sim.PlanFaults {
			faults := maps.Clone(p.Faults)
			if faults == nil {
				faults = map[int]int{}
			}
			faults[at] = kind
			if !follow(sim.Plan{Users: p.Users, Faults: faults}) {
				return false
			}
		}
	}
	return true
}
