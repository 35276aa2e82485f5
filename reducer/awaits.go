package reducer

import (
	"slices"
	"time"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
)

// Awaits reports whether a program in this state still waits for the effect: a build while Building and a start while
// Starting, of the same attempt and not placed elsewhere; a StopRuntime always, since it names one container and is
// idempotent. Supervisors publish only what is awaited and executors run only that.
func Awaits(s ProgramState, eff effects.Effect) bool {
	switch e := eff.(type) {
	case effects.EnsureProgramFolders:
		return s.State == StateBuilding && current(s, e.Placement)
	case effects.BuildRuntime:
		return s.State == StateBuilding && current(s, e.Placement)
	case effects.StartRuntime:
		return s.State == StateStarting && current(s, e.Placement)
	case effects.StopRuntime:
		return true
	case effects.FetchRuntimeStatus:
		return s.State == StateReady && s.ContainerID == e.ContainerID
	}
	return false
}

func current(s ProgramState, p effects.Placement) bool {
	return p.Attempt == s.Attempt && (p.HostID == "" || s.HostID == "" || p.HostID == s.HostID)
}

// Pending is the effects that one transition decided and that nothing in the log has settled yet.
type Pending struct {
	Seq     uint64
	Time    time.Time // When the event that decided them was stored.
	Attempt uint64
	HostID  events.HostID // The host that must run them; "" is any host.
	Effects []effects.Effect
}

// Outstanding follows a log and keeps what is still to be done. The zero value is that of an empty log. Its size is bounded
// by the stops that are under way at once, since everything else is awaited by the latest transition only. Copies go on by themselves.
type Outstanding struct {
	list []Pending
}

// Observe takes the next step of the log.
func (o *Outstanding) Observe(step Step) {
	if stop, ok := step.Event.(events.StopFinished); ok {
		o.settleStop(stop, step.Before.ContainerID)
	}
	if len(step.Effects) > 0 {
		place := step.Effects[0].Place()
		o.list = append(slices.Clip(o.list), Pending{Seq: step.Seq, Time: step.Time, Attempt: place.Attempt, HostID: place.HostID, Effects: step.Effects})
	}
	o.keepAwaited(step.After)
}

// At returns what the transition of one event still waits for.
func (o *Outstanding) At(seq uint64) (Pending, bool) {
	for _, p := range o.list {
		if p.Seq == seq {
			return p, true
		}
	}
	return Pending{}, false
}

// All returns everything that is still to be done, oldest first.
func (o *Outstanding) All() []Pending { return o.list }

// settleStop removes the stops that a StopFinished answers, well or badly: a user may ask again. An answer of another
// attempt or host settles nothing: Reduce ignores it, and the program would wait for ever for a stop that nobody runs.
func (o *Outstanding) settleStop(stop events.StopFinished, own string) {
	if stop.ContainerID == "" {
		stop.ContainerID = own
	}
	o.filter(func(eff effects.Effect) bool {
		asked, isStop := eff.(effects.StopRuntime)
		return !isStop || !answers(stop, asked)
	})
}

func answers(stop events.StopFinished, asked effects.StopRuntime) bool {
	return stop.ContainerID == asked.ContainerID &&
		(stop.Attempt == 0 || asked.Attempt == 0 || stop.Attempt == asked.Attempt) &&
		(stop.HostID == "" || asked.HostID == "" || stop.HostID == asked.HostID)
}

func (o *Outstanding) keepAwaited(head ProgramState) {
	o.filter(func(eff effects.Effect) bool { return Awaits(head, eff) })
}

func (o *Outstanding) filter(keep func(effects.Effect) bool) {
	var list []Pending
	for _, p := range o.list {
		var effs []effects.Effect
		for _, eff := range p.Effects {
			if keep(eff) {
				effs = append(effs, eff)
			}
		}
		if p.Effects = effs; len(effs) > 0 {
			list = append(list, p)
		}
	}
	o.list = list
}
