package sim

import (
	"hash/maphash"
	"strings"

	"github.com/rlaaudgjs5638/hersh/reducer"
)

// seen is what a task was told so far, as far as it may still look at it: it goes on from that, and from the call that it stops at. What it does
// not look at any more, such as a log that it has read again since, would tell worlds apart that go on alike.
type seen struct {
	history uint64 // What it was like.
	numbers []number
	exact   uint64 // All of it; for exact fingerprints only.

	// These say what to tell, and are told themselves as far as they matter.
	seq    uint64 // Of the message that it works on.
	from   uint64 // The event of the checkpoint that it begins with.
	reads  int    // How often it read the log.
	before *seen  // Before it listed containers.
}

func (s *seen) forget() { s.history, s.numbers = 0, nil }

// tell notes what a task is told, in a small world.
func (w *World) tell(t *task, what func(*description)) {
	if w.cfg.small == nil {
		return
	}
	var d description
	what(&d)
	t.seen.history = mix(w.cfg.small.seed, t.seen.history, maphash.Bytes(w.cfg.small.seed, d.text))
	t.seen.numbers = append(t.seen.numbers[:len(t.seen.numbers):len(t.seen.numbers)], d.numbers...)
}

// tellMessage tells a task on which event it works.
func (w *World) tellMessage(t *task, seq uint64) {
	t.seen.seq = seq
	w.tell(t, func(d *description) { d.named(anEvent, seq) })
}

// remember tells a task how a call ended, and what it could see.
func (w *World) remember(t *task, op string, err error) {
	s := w.cfg.small
	switch {
	case s == nil:
	case s.bounds.Exact:
		w.rememberAll(t, op, err)
		bus := w.mem.Fingerprints(s.seed)
		t.seen.exact = mix(s.seed, t.seen.exact, bus.Logs, bus.Checkpoints)
	case t.name == "wake", t.name == "sweep":
		w.rememberReconciling(t, op, err)
	case t.name == "effects":
		w.rememberEffects(t, op, err)
	case t.name == "compare", t.name == "settle", t.name == "resume":
		w.rememberComparing(t, op, err)
	default:
		w.rememberAll(t, op, err)
	}
}

func (w *World) rememberAll(t *task, op string, err error) {
	w.tell(t, func(d *description) {
		d.call(op)
		d.flag(err != nil)
		if err != errFault {
			w.describeSeen(d, op)
		}
	})
}

// rememberReconciling is for a supervisor. Of the checkpoint that it begins with, it looks only at how far that went once it has read the log.
func (w *World) rememberReconciling(t *task, op string, err error) {
	log, told := w.truth(w.ids[0]), &t.seen
	word, _, _ := strings.Cut(op, " ")
	switch {
	case err == nil && word == "load" && told.reads == 0:
		cp, _, _ := w.mem.Load(background, w.ids[0])
		told.forget()
		told.from = cp.Seq
		w.rememberAll(t, op, err)
	case word == "read" && told.reads == 0:
		told.reads++
		told.forget()
		w.tell(t, func(d *description) {
			d.word(op)
			d.flag(err != nil)
			d.flag(log.at.Seq == told.from)
			d.named(anEvent, log.at.Seq)
			d.state(log.at.State)
			for _, p := range log.outstanding.All() {
				if p.Seq > told.from {
					d.pending(p)
				}
			}
		})
	case word == "publish" && err == nil: // That it comes to the next one says so.
	default:
		w.rememberAll(t, op, err)
	}
}

// rememberEffects is for an executor's work on a message. It reads the log, again once it has the lock, and again in the midst of a build: then only
// to see whether the log awaits it still. What it finds when it looks for the end of a container is not told: two faults are not enough to tell two
// worlds apart by that alone.
func (w *World) rememberEffects(t *task, op string, err error) {
	told := &t.seen
	word, of, _ := strings.Cut(op, " ")
	switch {
	case word == "read":
		told.reads++
		p, awaited := w.truth(w.ids[0]).outstanding.At(told.seq)
		w.tell(t, func(d *description) {
			d.word(op)
			d.flag(err == nil && !awaited)
			if awaited && told.reads == 2 {
				d.pending(p)
			}
		})
	case of == "containers":
		before := *told
		told.before = &before
		w.tell(t, func(d *description) {
			d.word(op)
			for _, c := range w.docker.containers {
				d.container(c.id)
				d.named(anAttempt, c.attempt)
			}
		})
	case word == "create", word == "start":
		if told.before != nil { // The others are gone, and its own is the one of its attempt.
			*told = *told.before
		}
		w.tell(t, func(d *description) { d.word(word) })
	case word == "append", word == "watch", word == "build", word == "make":
		w.tell(t, func(d *description) { d.word(word); d.flag(err != nil) })
	case err != nil:
		w.tell(t, func(d *description) { d.word("failed") })
	}
}

// rememberComparing is for what an executor does about containers. From a log it takes what becomes of one, which the next call says, and where
// none was found, which it is.
func (w *World) rememberComparing(t *task, op string, err error) {
	at := w.truth(w.ids[0]).at.State
	word, of, _ := strings.Cut(op, " ")
	switch {
	case of == "containers":
		w.tell(t, func(d *description) { d.word(op); d.flag(err != nil); d.docker(&w.docker) })
	case word == "read":
		w.tell(t, func(d *description) {
			d.word(op)
			d.flag(err != nil)
			if at.State == reducer.StateReady {
				d.named(anAttempt, at.Attempt)
				d.container(at.ContainerID)
			}
		})
	case of == "checkpoints":
		w.tell(t, func(d *description) { d.word(op); d.flag(err != nil) })
	case err != nil:
		w.tell(t, func(d *description) { d.word("failed") })
	}
}

// describeSeen describes what a call can see of the world.
func (w *World) describeSeen(d *description, op string) {
	switch word, rest, _ := strings.Cut(op, " "); {
	case word == "read", word == "head", op == "list heads":
		d.log(w.truth(w.ids[0]))
	case word == "load", op == "list checkpoints":
		cp, found, _ := w.mem.Load(background, w.ids[0])
		d.checkpoint(cp, found)
	case word == "ask", op == "list hosts":
		d.number(w.mem.Fingerprints(w.cfg.small.seed).Hosts)
	case word == "withdraw":
		d.number(w.mem.Fingerprints(w.cfg.small.seed).Queues)
	case strings.Contains(rest, "container"), word == "inspect":
		d.docker(&w.docker)
	}
}
