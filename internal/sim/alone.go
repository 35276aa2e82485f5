package sim

import "strings"

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
