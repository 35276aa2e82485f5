package sim

import "github.com/rlaaudgjs5638/hersh/events"

// Plan is a run without chance: one program, one host, one supervisor, one task after the other, and things that happen at
// given calls. The calls of a run are numbered from 1.
type Plan struct {
	Users  map[int]events.Event // What the user publishes just before a call; the first start is published before all.
	Faults map[int]int          // What goes wrong with a call: one of the PlanFaults kinds.
}

// PlanFaults is how many kinds of faults a call may have.
const PlanFaults = 4

// RunPlan follows a plan until the world is at rest, and checks it. It returns how many calls there were.
func RunPlan(p Plan, hooks Hooks) (calls int, r Result) {
	w := newWorld(Config{Programs: 1, Hosts: 1, Supervisors: 1, Hooks: hooks, plan: &p})
	w.publish(w.ids[0], events.UserStartRequested{})
	w.rest()
	w.checkAtRest()
	w.end()
	return w.calls, Result{Steps: w.steps, Faults: w.faults, Events: len(w.truths[w.ids[0]].log), Trace: w.trace.Bytes(), Violation: w.violation}
}

// plannedFault is what the plan has for the call that comes now.
func (w *World) plannedFault() callFault {
	kind, found := w.cfg.plan.Faults[w.calls]
	if !found {
		return none
	}
	w.faults++
	return []callFault{failBefore, failAfter, crashBefore, crashAfter}[kind]
}

// plannedUser publishes what the plan has for the moment before the call that comes now.
func (w *World) plannedUser() {
	if ev, found := w.cfg.plan.Users[w.calls]; found {
		w.publish(w.ids[0], ev)
	}
}
