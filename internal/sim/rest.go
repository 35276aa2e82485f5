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
	w.mendAll()
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
		} else if quiet++; quiet == 3 {
			return
		}
	}
	w.violate("", "the world does not come to rest: %+v", w.mark())
}

func (w *World) startAll() {
	for _, p := range w.procs {
		if !p.alive && !p.gone {
			w.start(p)
		}
	}
}

// mendAll brings back everything but, now and then, one host, which stays away: dead, or cut off with its containers.
func (w *World) mendAll() {
	gone := w.procs[w.pick(len(w.procs))]
	gone.gone = gone.host != "" && w.cfg.Hosts > 1 && w.pick(2) == 0
	if gone.gone && w.pick(2) == 0 {
		w.tracef("%s stays dead", gone.name)
		w.kill(gone)
	} else if gone.gone {
		w.tracef("%s stays cut off", gone.name)
		gone.cut = true
	}
	if w.serverAway {
		w.serverReturns()
	}
	for _, p := range w.procs {
		p.dockerAway = false
		if p.cut && !p.gone {
			w.connect(p)
		}
	}
	for w.arrive() {
	}
}

// mark is what changes as long as anything happens.
type mark struct{ published, made, containers int }

func (w *World) mark() mark {
	return mark{published: w.mem.Published(), made: w.docker.made, containers: len(w.docker.containers)}
}

func (w *World) drained() bool {
	for _, t := range w.tasks {
		if !t.proc.gone {
			return false
		}
	}
	return w.waiting() == 0
}

// waiting counts the messages in the queues, without those for a host that is gone.
func (w *World) waiting() int {
	wakes, effects := w.mem.Waiting()
	for _, p := range w.procs {
		if p.gone {
			effects -= w.mem.WaitingFor(p.host)
		}
	}
	return wakes + effects
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
	w.pass(31 * time.Second)
	swept := false
	for _, p := range w.procs {
		if p.host != "" || !swept {
			p.dueCheck = true
			swept = swept || p.host == ""
		}
	}
}
