package sim

import (
	"slices"
	"strings"
)

// objects are what calls, users and faults may see or change of the world: a set. What a host has of images and folders is not among them.
type objects int

const (
	theLog objects = 1 << iota
	theWakes
	theCheckpoint
	theContainers // And what a host is told of them.
	theQueues     // Of effects, as far as their order goes: where one adds and another takes, or gives back, it does not matter who is first.
	everything    = theLog | theWakes | theCheckpoint | theContainers | theQueues
)

// access is what something sees, or changes, of the world. That a process begins something is none: what it may come to do then is its future. Nor is
// whether an executor is told of the end of a container, which depends on when its first comparison ends: there is a fault of which it is not told.
type access struct{ sees, changes objects }

var anything = access{everything, everything}

func (a access) and(b access) access { return access{a.sees | b.sees, a.changes | b.changes} }

// conflicts reports whether it matters which of two comes first.
func (a access) conflicts(b access) bool {
	return a.changes&(b.sees|b.changes) != 0 || a.sees&b.changes != 0
}

func accessOf(call string) access {
	op, of, _ := strings.Cut(call, " ")
	switch {
	case op == "read", op == "head", op == "watch", op == "build", op == "list" && of == "heads":
		return access{sees: theLog}
	case op == "append":
		return access{sees: theLog, changes: theLog | theWakes}
	case op == "load", op == "list" && of == "checkpoints":
		return access{sees: theCheckpoint}
	case op == "save":
		return access{changes: theCheckpoint}
	case op == "inspect", op == "adopt", op == "list" && of == "containers":
		return access{sees: theContainers}
	case op == "stop": // Whether a container it may end is checked by the log.
		return access{sees: theLog, changes: theContainers}
	case strings.HasPrefix(of, "container"):
		return access{changes: theContainers}
	case op == "publish":
		return access{changes: theQueues}
	case op == "make", op == "beat", op == "ask", op == "list" && of == "hosts":
		return access{}
	}
	return anything
}

// enough are moves that are enough: all that could come before them may as well come after them, since neither notices the other. To go through
// that too would lead to the same worlds by more ways. The field calls them a persistent set.
func (w *World) enough(all []move) []move {
	switch s := w.cfg.small; {
	case s.bounds.Whole:
		return all
	case s.bounds.Turns:
		if len(w.late) == 0 && slices.ContainsFunc(w.tasks, w.hasTurn) {
			return drawn(all, all[0].of)
		}
		return all
	case s.left.Waits < s.bounds.Waits, s.left.Faults > 0 && s.bounds.Waits > 0:
		return all // Hosts may be lost.
	}
	for _, t := range w.tasks {
		if !w.isAlone(t) {
			continue
		}
		if some := drawn(all, t); len(some) < len(all) && w.unnoticed(t, some) {
			return some
		}
	}
	return all
}

// drawn are the moves of a task and of its process, and those that they draw in: it matters which comes first. What touches anything is always in: a
// call that touches nothing would not draw it.
func drawn(all []move, t *task) []move {
	in := func(m move, touched access) bool {
		return m.of != nil && m.of.proc == t.proc || m.access == anything || m.access.conflicts(touched)
	}
	var touched access
	for range all {
		for _, m := range all {
			if in(m, touched) {
				touched = touched.and(m.access)
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(m move) bool { return !in(m, touched) })
}

// unnoticed reports whether no other process, nor the user, can do anything that some of these moves would notice, or that would notice them, before
// one of them is made.
func (w *World) unnoticed(t *task, some []move) bool {
	for _, m := range some {
		if m.of == nil && !m.byItself || m.of != nil && m.of.proc != t.proc {
			return false
		}
		others := w.future(w.beside(t.proc), w.cfg.small.left.Faults-int(m.cost.faults))
		if w.cfg.small.left.Users > 0 {
			others.changes |= theLog | theWakes
		}
		if m.access.conflicts(others) {
			return false
		}
	}
	return true
}

// isAlone reports whether a task is all that its process does until it makes its next call, or its process ends.
func (w *World) isAlone(t *task) bool {
	p, s := t.proc, w.cfg.small
	switch {
	case slices.ContainsFunc(w.tasks, func(other *task) bool { return other != t && other.proc == p }):
		return false
	case s.bounds.Single:
		return true // Its process begins nothing else.
	case s.left.Faults > 0, w.begins(p):
		return false // Others may make it begin something.
	case p.exec != nil && !p.compared:
		return true
	case p.exec != nil:
		return !w.mayAct(w.beside(p), 0)
	}
	return t.name == "wake" && s.bounds.Wakes == 1 || s.left.Users == 0 && !w.mayAct(w.beside(p), 0)
}

// beside is the other one of the two processes of a small world.
func (w *World) beside(p *proc) *proc {
	if w.procs[0] == p {
		return w.procs[1]
	}
	return w.procs[0]
}

// begins reports whether a process may begin something now, whatever others do.
func (w *World) begins(p *proc) bool {
	switch {
	case !p.alive, p.dueCheck:
		return true
	case p.sup != nil:
		return w.offersWake(p)
	}
	return p.compared && len(w.worksOfExecutor(p)) > 0
}

// mayAct reports whether a process does anything before another one has, with so many faults. A request of a user wakes the supervisor, the end of a
// container the executor.
func (w *World) mayAct(p *proc, faults int) bool {
	return w.atWork(p) || w.begins(p) || len(w.late) > 0 || p.sup != nil && w.cfg.small.left.Users > 0 || p.exec != nil && faults > 0
}

// future is what a process may come to see or change before another one does anything, with so many faults. It asks for checkpoints only where it
// compares, as it does when it starts. That it takes from the queues of effects changes no order there.
func (w *World) future(p *proc, faults int) access {
	switch {
	case !w.mayAct(p, faults):
		return access{}
	case p.sup != nil:
		return access{sees: theLog | theCheckpoint, changes: theCheckpoint | theWakes | theQueues}
	}
	a := access{sees: theLog | theContainers, changes: theLog | theWakes | theContainers}
	if faults > 0 || !p.alive || !p.compared || p.dueCheck || w.count(p, 'c')+w.count(p, 'r') > 0 {
		a.sees |= theCheckpoint
	}
	return a
}
