package sim

import (
	"slices"
	"strings"
)

// alone is a task whose next call may as well be made now: nobody can notice before it is done, nor do anything first that it would notice. To go
// through all that could come before it would lead to the same worlds by more ways. It is looked for only where nothing can go wrong any more, so
// that no process starts anew and no host is lost: only executors and users write logs then, only supervisors checkpoints, and only executors
// use Docker.
func (w *World) alone() *task {
	s := w.cfg.small
	if s.bounds.Whole || s.bounds.Turns || s.left.Faults > 0 || s.left.Waits < s.bounds.Waits || len(w.late) > 0 {
		return nil
	}
	n := w.neighbours()
	for _, t := range w.tasks {
		if t.proc.sup != nil && n.aloneInSupervisor(t) || t.proc.exec != nil && n.aloneInExecutor(t) {
			return t
		}
	}
	return nil
}

// neighbours are what may happen beside the call of a task.
type neighbours struct {
	user               bool // A request may come.
	supervises, wakes  int  // Tasks of the supervisor, and those of them that hold a wake-up.
	executes, compares int  // Tasks of the executor, and those of them that look at checkpoints.
	supMore, execMore  bool // It may begin something now, whatever others do.
	compared           bool // The executor takes work.
}

func (w *World) neighbours() (n neighbours) {
	n.user = w.cfg.small.left.Users > 0
	for _, p := range w.procs {
		if p.sup != nil {
			n.supervises, n.wakes = w.count(p, 's')+w.count(p, 'w'), w.count(p, 'w')
			n.supMore = !p.alive || p.dueCheck || w.offersWake(p)
			continue
		}
		n.compares = w.count(p, 'c') + w.count(p, 'r')
		n.executes = n.compares + w.count(p, 'e') + w.count(p, 's')
		n.execMore = !p.alive || p.dueCheck || len(p.exits) > 0 || p.compared && len(w.worksOfExecutor(p)) > 0
		n.compared = p.compared
	}
	return n
}

func (n neighbours) aloneInSupervisor(t *task) bool {
	logsRest := !n.user && n.executes == 0 && !n.execMore
	// While it has as many wake-ups in hand as it may, it takes no other.
	noOther := n.supervises == 1 && !n.supMore && (n.wakes == 1 || logsRest)
	switch op, of, _ := strings.Cut(t.next, " "); {
	case !noOther:
		return false
	case op == "load", op == "publish", op == "list" && of == "checkpoints":
		return true
	case op == "save":
		return n.compared && n.compares == 0 && !n.execMore
	case op == "read", op == "head", op == "list" && of == "heads":
		return logsRest
	}
	return false
}

func (n neighbours) aloneInExecutor(t *task) bool {
	op, of, _ := strings.Cut(t.next, " ")
	switch {
	case n.executes != 1 || n.execMore:
		return false
	case !n.user && n.supervises == 0 && !n.supMore:
		return true // Nobody else does anything.
	case n.compared:
		return false // The supervisor may give it more to do.
	case op == "read":
		return !n.user
	}
	return op == "inspect" || op == "adopt" || strings.HasPrefix(of, "container")
}

// objects are what calls, users and faults may see or change of the world: a set.
type objects int

const (
	theLog        objects = 1 << iota // With its wake-ups: every event brings one.
	theCheckpoint                     // Of the program.
	theContainers                     // And what a host is told of them.
	everything    = theLog | theCheckpoint | theContainers
)

// touchedBy are the objects that a call sees or changes, beside those that nobody touches while the task has its turn: the queues of effects,
// images, folders.
func touchedBy(call string) objects {
	op, of, _ := strings.Cut(call, " ")
	switch {
	case op == "read", op == "head", op == "append", op == "watch", op == "build", op == "list" && of == "heads":
		return theLog
	case op == "load", op == "save", op == "list" && of == "checkpoints":
		return theCheckpoint
	case op == "inspect", op == "adopt", strings.Contains(of, "container"):
		return theContainers
	case op == "publish", op == "make", op == "beat", op == "ask", op == "list" && of == "hosts":
		return 0
	}
	return everything
}

// unlessPostponed leaves out, where a task has its turn and goes on with a call, the users and faults that neither see nor change what the call
// does: coming after it they lead to the same world as before it. The first of the moves is the one of the call.
func (w *World) unlessPostponed(all []move) []move {
	s := w.cfg.small
	if s.bounds.Whole || !s.bounds.Turns || len(w.late) > 0 || !slices.ContainsFunc(w.tasks, w.hasTurn) {
		return all
	}
	touched := all[0].touches
	for range all { // A restart of the server touches everything, and brings in the rest.
		for _, m := range all {
			if m.touches&touched != 0 {
				touched |= m.touches
			}
		}
	}
	return slices.DeleteFunc(all, func(m move) bool { return m.touches&touched != m.touches })
}
