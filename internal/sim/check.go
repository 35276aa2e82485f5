package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/bus/bustest"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

// acknowledged is a publication that its publisher was told is stored.
type acknowledged struct {
	id  events.ProgramID
	seq uint64
	typ events.Type
	key string
}

// truth is a program as its log, read without any fault, tells it.
type truth struct {
	at     reducer.Checkpoint
	log    []reducer.Step
	intent events.Type // Of the last user event that counts; "" is none.

	outstanding reducer.Outstanding // At the end.
}

// truth follows the log of a program to its end and checks each step on the way.
func (w *World) truth(id events.ProgramID) *truth {
	t := w.truths[id]
	for stored, err := range w.mem.Read(background, id, t.at.Seq) {
		if err != nil {
			panic(err) // A memory bus that was not told to fail does not.
		}
		next, step, err := t.at.Next(stored)
		if err != nil {
			w.violate(id, "the log is out of order: %v", err)
			return t
		}
		t.at = next
		t.log = append(t.log, step)
		t.outstanding.Observe(step)
		w.checkStep(id, step)
		if isUser(step) && step.Ignored == "" {
			t.intent = step.Type
		}
	}
	return t
}

func isUser(step reducer.Step) bool {
	switch step.Event.(type) {
	case events.UserStartRequested, events.UserStopRequested, events.UserRestartRequested:
		return true
	}
	return false
}

// checkStep checks what must hold of every step of a log.
func (w *World) checkStep(id events.ProgramID, step reducer.Step) {
	if attempt := attemptOf(step.Event); attempt != 0 && attempt != step.Before.Attempt && step.Before != step.After {
		w.violate(id, "event %d, a result of attempt %d, changes attempt %d", step.Seq, attempt, step.Before.Attempt)
	}
	if isUser(step) && step.Ignored != "" && !mayIgnore(step) {
		w.violate(id, "event %d, %s, is ignored in state %s", step.Seq, step.Type, step.Before.State)
	}
	if step.After.State != reducer.StateError || step.Before.State == reducer.StateError {
		return
	}
	if _, ok := step.Event.(events.HostLost); ok {
		return // See checkLoss.
	}
	if exit, ok := step.Event.(events.RuntimeExited); ok {
		if !w.explain[exit.ContainerID] {
			w.violate(id, "event %d says that %s exited, which nothing made it do", step.Seq, exit.ContainerID)
		}
	} else if !strings.Contains(step.After.ErrorMsg, "injected") {
		w.violate(id, "event %d, %s, ends in Error for no reason: %q", step.Seq, step.Type, step.After.ErrorMsg)
	}
}

func attemptOf(ev events.Event) uint64 {
	switch e := ev.(type) {
	case events.FoldersEnsured:
		return e.Attempt
	case events.BuildFinished:
		return e.Attempt
	case events.RuntimeStarted:
		return e.Attempt
	case events.StartFailed:
		return e.Attempt
	case events.RuntimeExited:
		return e.Attempt
	case events.StopFinished:
		return e.Attempt
	}
	return 0
}

// mayIgnore says in which states a request of a user has nothing to do.
func mayIgnore(step reducer.Step) bool {
	state := step.Before.State
	switch step.Event.(type) {
	case events.UserStartRequested:
		return state == reducer.StateBuilding || state == reducer.StateStarting || state == reducer.StateReady || state == reducer.StateStopping
	case events.UserStopRequested:
		return state == reducer.StateCreated || state == reducer.StateStopped || state == reducer.StateStopping ||
			state == reducer.StateError && step.Before.ContainerID == ""
	}
	return state != reducer.StateReady
}

// checkMayEnd checks that Hersh stops no container that its program runs in.
func (w *World) checkMayEnd(c *container) {
	s := w.truth(c.program).at.State
	if s.State == reducer.StateReady && s.ContainerID == c.id {
		w.violate(c.program, "%s is stopped, which the program is Ready in", c.id)
	}
}

// checkAtRest checks what must hold when nothing happens any more.
func (w *World) checkAtRest() {
	if w.violation != nil {
		return
	}
	if n := w.waiting(); n > 0 {
		w.violate("", "%d messages are left in the queues", n)
	}
	for _, id := range w.ids {
		w.checkProgram(id, w.truth(id))
	}
	w.checkContainers()
	w.checkLosses()
	w.checkAcknowledged()
	w.checkWork()
}

func (w *World) checkProgram(id events.ProgramID, t *truth) {
	s := t.at.State
	switch s.State {
	case reducer.StateBuilding, reducer.StateStarting, reducer.StateStopping:
		w.violate(id, "is stuck in %s", s.State)
	case reducer.StateError:
		if s.ErrorMsg == "" {
			w.violate(id, "is in Error without a reason")
		}
	case reducer.StateReady:
		if t.intent == events.TypeUserStopRequested {
			w.violate(id, "is Ready although the user's last word was stop")
		}
	case reducer.StateCreated, reducer.StateStopped:
		if t.intent == events.TypeUserStartRequested || t.intent == events.TypeUserRestartRequested {
			w.violate(id, "is %s although the user's last word was %s", s.State, t.intent)
		}
	}
	if cp, found, err := w.mem.Load(background, id); err != nil || !found || cp != t.at {
		w.violate(id, "the read model has event %d, %+v (%v); the log has event %d, %+v", cp.Seq, cp.State, found, t.at.Seq, s)
	}
	again := reducer.NewCheckpoint(id)
	for stored, err := range w.mem.Read(background, id, 0) {
		if err == nil {
			again, _, err = again.Next(stored)
		}
		if err != nil {
			w.violate(id, "a second replay fails: %v", err)
		}
	}
	if again != t.at {
		w.violate(id, "two replays differ: %+v, %+v", again, t.at)
	}
}

// checkLosses checks that a host is declared lost once for each attempt, as long as the bus remembers the key. A checkpoint that lags
// may say an earlier attempt, whose key is another, and one that was made wrong that the program waits for the host still or again.
func (w *World) checkLosses() {
	for _, id := range w.ids {
		times := map[string][]time.Time{}
		for _, step := range w.truth(id).log {
			lost, ok := step.Event.(events.HostLost)
			if !ok {
				continue
			}
			what := fmt.Sprintf("%s at attempt %d", lost.HostID, step.Before.Attempt)
			told := slices.DeleteFunc(times[what], func(at time.Time) bool { return step.Time.Sub(at) >= bustest.DedupWindow })
			if times[what] = append(told, step.Time); len(times[what]) > int(step.Before.Attempt)+w.stale {
				w.violate(id, "is told %d times of the loss of %s", len(times[what]), what)
			}
		}
	}
}

// checkContainers checks that the containers are those that the programs name: running for Ready, dead for Error.
func (w *World) checkContainers() {
	for _, c := range w.docker.containers {
		s := w.truth(c.program).at.State
		named := s.ContainerID == c.id && s.HostID == c.host
		switch {
		case w.procOf(c.host).gone: // Nobody can do anything about it.
		case c.phase == running && !(named && s.State == reducer.StateReady):
			w.violate(c.program, "%s of attempt %d runs, and the program is %s in %q", c.id, c.attempt, s.State, s.ContainerID)
		case c.phase != running && !(named && s.State == reducer.StateError):
			w.violate(c.program, "%s of attempt %d lies about, and the program is %s", c.id, c.attempt, s.State)
		}
	}
	for _, id := range w.ids {
		s := w.truth(id).at.State
		if s.State != reducer.StateReady {
			continue
		}
		if c := w.docker.find(s.ContainerID); c == nil || c.phase != running {
			w.violate(id, "is Ready in %q, which does not run", s.ContainerID)
		}
		if w.procOf(s.HostID).gone {
			w.violate(id, "is Ready on %s, which is gone", s.HostID)
		}
	}
}

// checkAcknowledged checks that every acknowledged publication is in its log, where its publisher was told, and once.
func (w *World) checkAcknowledged() {
	seen := map[string]string{}
	for _, a := range w.acked {
		log := w.truth(a.id).log
		if a.seq == 0 || a.seq > uint64(len(log)) || log[a.seq-1].Type != a.typ {
			w.violate(a.id, "%s was acknowledged as event %d and is not there", a.typ, a.seq)
			return
		}
		place := fmt.Sprintf("%s/%d", a.id, a.seq)
		if key, found := seen[place]; found && (key != a.key || a.key == "") {
			w.violate(a.id, "event %d was acknowledged to two publishers, %q and %q", a.seq, key, a.key)
		}
		seen[place] = a.key
	}
}

// checkWork checks that the work is bounded by what users ask and what goes wrong. A start is nine publications: the request,
// two messages of effects, four results and an exit.
func (w *World) checkWork() {
	if most := 20*len(w.ids) + 12*w.users + 8*w.faults; w.mem.Published() > most {
		w.violate("", "%d publications for %d requests and %d faults", w.mem.Published(), w.users, w.faults)
	}
}
