package sim

import "time"

const (
	maxRounds = 40     // Of timers, until the world must have come to rest.
	maxWork   = 20_000 // Steps between two rounds.
)

// rest lets the world come to rest: nothing fails any more, everybody is up, and all timers go off until nothing changes.
func (w *World) rest() {
	if w.violation != nil {
		return
	}
	w.tracef("no more faults")
	quiet := 0
	for range maxRounds {
		before := w.mark()
		w.startAll()
		if !w.finish() {
			return
		}
		w.roundOfTimers()
		if !w.finish() {
			return
		}
		if w.mark() != before || !w.drained() {
			quiet = 0
		} else if quiet++; quiet == 2 {
			return
		}
	}
	w.violate("", "the world does not come to rest: %+v", w.mark())
}

func (w *World) startAll() {
	for _, p := range w.procs {
		if !p.alive {
			w.start(p)
		}
	}
}

// mark is what changes as long as anything happens.
type mark struct{ published, made, containers int }

func (w *World) mark() mark {
	return mark{published: w.mem.Published(), made: w.docker.made, containers: len(w.docker.containers)}
}

func (w *World) drained() bool {
	wakes, effects := w.mem.Waiting()
	return wakes == 0 && effects == 0
}

// finish does all the work that there is.
func (w *World) finish() bool {
	for range maxWork {
		w.steps++
		if !w.runAny() && !w.takeAny() {
			return true
		}
		if w.violation != nil {
			return false
		}
	}
	w.violate("", "work does not end")
	return false
}

// roundOfTimers lets time pass until everything that waits is due, and one supervisor sweep and every executor compare.
func (w *World) roundOfTimers() {
	w.now = w.now.Add(31 * time.Second)
	swept := false
	for _, p := range w.procs {
		if p.host != "" || !swept {
			p.dueCheck = true
			swept = swept || p.host == ""
		}
	}
}
