package sim

import (
	"hash/maphash"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/rlaaudgjs5638/hersh/events"
)

// Bounds say how much may happen in a small world.
type Bounds struct {
	Users  int // Requests of the user: starts, stops and restarts.
	Faults int
	Waits  int  // How often time passes, after something went wrong and everything that can be done at once has been.
	Wakes  int  // How many wake-ups the supervisor has in hand at once.
	Turns  bool // What was begun goes on until it ends, or its process; the user and faults come between any two of its calls.
	// Switches are how often something else goes on, or begins, before what has its turn has ended. Without Turns that is free.
	Switches int
	Single   bool // A process has one thing in hand at a time.
	Steady   bool // The server never restarts, after which everybody looks at everything.
	Whole    bool // Every way is followed, also where another leads to the same world. Tests hold explorations that leave ways out against it.
	Exact    bool // Worlds are told apart by all that is in them, also where they go on alike. Tests hold the others against it.
}

// small is a small world's state beside the world itself: one program, one host and one supervisor, where somebody else chooses each step.
type small struct {
	bounds  Bounds
	left    Bounds
	fault   callFault // Of the call that goes on next.
	refuse  bool      // Docker refuses what it is asked next.
	turn    *task     // What went on last.
	traced  bool
	seed    maphash.Seed // Of fingerprints.
	metrics metrics
}

// take is the fault of the call that goes on now.
func (s *small) take() callFault {
	f := s.fault
	s.fault = none
	return f
}

// move is one step that may come next.
type move struct {
	choice   byte // Which it is of all.
	what     string
	of       *task // That goes on, or that a fault befalls; nil is none.
	byItself bool  // A fault of the world, or a call that is on its way: it comes from no process.
	cost     cost
	access   access
	do       func()
}

// cost is what a move takes of what may happen.
type cost struct{ users, faults, waits, switches int8 }

// usualMoves are as many as there mostly are at once.
const usualMoves = 32

const comesToRest = "comes to rest"

// moves are the steps that may come next, as far as they lead to worlds that no others lead to.
func (w *World) moves() []move { return w.enough(w.allMoves()) }

// allMoves are all the steps that may come next. The first one of a world that has nothing to do is to come to rest, after which there are
// none.
func (w *World) allMoves() []move {
	all := w.works()
	if len(all) == 0 {
		all = append(all, move{what: comesToRest, do: func() { w.rest(); w.checkAtRest() }})
		all = append(all, w.waits()...)
	}
	if w.cfg.small.left.Users > 0 {
		all = append(all, w.requests()...)
	}
	if w.cfg.small.left.Faults > 0 {
		all = append(all, w.mishaps()...)
	}
	if len(all) > math.MaxUint8 {
		panic("there are more choices than a byte can tell apart")
	}
	for i := range all {
		all[i].choice = byte(i)
	}
	return all
}

// chosen is the one of all moves with a choice. Those of the tasks come first: then the others need not be made out.
func (w *World) chosen(choice byte) move {
	if int(choice) < len(w.tasks) && !w.cfg.small.bounds.Turns {
		return w.goesOn(w.tasks[choice])
	}
	return w.allMoves()[choice]
}

// works are the steps of processes, and of calls that are on their way. What has its turn comes first.
func (w *World) works() []move {
	all := w.worksInAnyOrder()
	turn := slices.IndexFunc(w.tasks, w.hasTurn)
	if turn < 0 {
		return all
	}
	goesOn := all[turn]
	if w.cfg.small.left.Switches == 0 {
		return []move{goesOn}
	}
	others := slices.Delete(all, turn, turn+1)
	for i := range others {
		others[i].cost, others[i].access = cost{switches: 1}, anything
	}
	return append([]move{goesOn}, others...)
}

// worksInAnyOrder begin with those of the tasks, in their order.
func (w *World) worksInAnyOrder() []move {
	all := make([]move, 0, usualMoves)
	for _, t := range w.tasks {
		all = append(all, w.goesOn(t))
	}
	for _, p := range w.procs {
		switch {
		case !p.alive:
			all = append(all, move{what: "starts", do: func() { w.start(p) }})
		case w.handsFull(p):
			continue
		case p.dueCheck && !w.busy(p, "check"):
			all = append(all, move{what: "checks", do: func() { w.checkDue(p) }})
		}
		if p.alive && p.sup != nil && w.offersWake(p) {
			all = append(all, move{what: "takes", access: access{changes: theWakes}, do: func() { w.takeFromWakes(p) }})
		}
		if p.alive && p.exec != nil && p.compared {
			all = append(all, w.worksOfExecutor(p)...)
		}
	}
	for i, l := range w.late {
		all = append(all, move{what: "arrives", byItself: true, access: accessOf(l.what), do: func() { w.arriveAt(i) }})
	}
	return all
}

func (w *World) goesOn(t *task) move {
	return move{what: "goes on", of: t, access: accessOf(t.next), do: func() { w.cfg.small.turn = t; w.run(t) }}
}

// handsFull reports whether a process begins nothing before it has ended something.
func (w *World) handsFull(p *proc) bool {
	return w.cfg.small.bounds.Single && w.atWork(p)
}

func (w *World) worksOfExecutor(p *proc) (all []move) {
	if len(p.exits) > 0 {
		all = append(all, move{what: "settles", do: func() { w.settleExit(p) }})
	}
	if len(p.undone) > 0 && !w.busy(p, w.lockKey(p.undone[0].ProgramID, p.undone[0].Seq)) {
		all = append(all, move{what: "resumes", do: func() { w.resumeNext(p) }})
	}
	for _, q := range w.queues(p) {
		if w.offers(p, q) {
			all = append(all, move{what: "takes", do: func() { w.takeFrom(p, q) }})
		}
	}
	return all
}

// waits let time pass: a moment, after which work that failed comes again, or as long as every timer takes, and then one goes off. Where
// nothing went wrong nothing waits.
func (w *World) waits() []move {
	if s := w.cfg.small; s.left.Waits == 0 || s.left.Faults == s.bounds.Faults {
		return nil
	}
	costs := cost{waits: 1}
	all := []move{{what: "a moment passes", cost: costs, do: func() { w.pass(300 * time.Millisecond) }}}
	for _, p := range w.procs {
		all = append(all, move{what: "time passes", cost: costs, do: func() { w.pass(31 * time.Second); p.dueCheck = true }})
	}
	return all
}

func (w *World) requests() (all []move) {
	for _, ev := range []events.Event{events.UserStartRequested{}, events.UserStopRequested{}, events.UserRestartRequested{}} {
		all = append(all, move{what: "user", cost: cost{users: 1}, access: access{changes: theLog | theWakes}, do: func() { w.publish(w.ids[0], ev) }})
	}
	return all
}

// mishaps are the faults that may come next: those of calls, and those of the world.
func (w *World) mishaps() []move {
	all := make([]move, 0, usualMoves)
	for _, t := range w.tasks {
		all = append(all, w.mishapsOf(t)...)
	}
	fault := func(what string, of access, do func()) {
		all = append(all, move{what: what, byItself: true, cost: cost{faults: 1}, access: of, do: do})
	}
	if !w.cfg.small.bounds.Steady {
		fault("the server restarts", anything, w.restartServer)
	}
	if w.mem.PeekWake() {
		fault("wake-up lost", access{changes: theWakes}, func() { w.worldFault(wakeLost) })
	}
	if _, found, _ := w.mem.Load(background, w.ids[0]); found {
		fault("checkpoint lost", access{changes: theCheckpoint}, func() { w.worldFault(checkpointLost) })
	}
	containers := access{changes: theContainers}
	for _, c := range w.docker.containers {
		if c.phase == running {
			fault("exits", containers, func() { w.ends(c); w.endContainer(c, 1) })
			fault("exits unseen", containers, func() { w.ends(c); c.phase, c.exitCode = ended, 1 })
		}
		fault("is removed", containers, func() { w.ends(c); w.docker.remove(c.id) })
	}
	return all
}

// mishapsOf are the faults of a task: of its call, and of the message that it works on. Of the latter nobody knows before the task has ended.
func (w *World) mishapsOf(t *task) (all []move) {
	fault := func(what string, of access, do func()) {
		all = append(all, move{what: what, of: t, cost: cost{faults: 1}, access: of, do: do})
	}
	call := accessOf(t.next)
	for _, kind := range faultsOf(t.next) {
		fault("goes wrong", call, func() { w.faults++; w.cfg.small.fault = kind; w.run(t) })
	}
	if mayBeRefused(t.next) {
		fault("is refused", call, func() { w.cfg.small.refuse = true; w.run(t); w.cfg.small.refuse = false })
	}
	if t.delivery != nil && !t.unheard {
		fault("is not heard", access{}, func() { w.tracef("FAULT %s %s will not be heard", t.proc.name, t.name); t.unheard = true })
		fault("is given to another", access{}, func() { w.fault("%s of %s is given to another", t.name, t.proc.name); t.delivery.Nak(0) })
	}
	return all
}

func (w *World) ends(c *container) {
	w.fault("%s ends, or is removed by hand", c.id)
	w.explain[c.id] = true
}

// faultsOf are the faults that a call may have. One that changes nothing may as well not have been made.
func faultsOf(call string) []callFault {
	op, _, _ := strings.Cut(call, " ")
	if slices.Contains([]string{"read", "load", "head", "list", "ask", "watch", "inspect", "adopt", "build", "make"}, op) {
		return []callFault{failBefore, crashBefore}
	}
	return []callFault{failBefore, failAfter, failLate, crashBefore, crashAfter}
}

// mayBeRefused says after which calls a model of Docker may refuse what it was asked.
func mayBeRefused(call string) bool {
	for _, before := range []string{"make folders", "build", "create container", "inspect"} {
		if strings.HasPrefix(call, before) {
			return true
		}
	}
	return false
}

// make makes a move, and lets whatever begins by it go to its first call.
func (w *World) make(m move) {
	left := &w.cfg.small.left
	left.Users, left.Faults = left.Users-int(m.cost.users), left.Faults-int(m.cost.faults)
	left.Waits, left.Switches = left.Waits-int(m.cost.waits), left.Switches-int(m.cost.switches)
	w.steps++
	m.do()
	w.cfg.small.fault = none // The call may have ended before, with its context.
	for _, t := range slices.Clone(w.tasks) {
		if t.next == "" {
			w.cfg.small.turn = t
			w.run(t)
		}
	}
	w.startAtOnce()
}

// startAtOnce lets processes start that are down. Nobody notices that they were, but who asks what began before.
func (w *World) startAtOnce() {
	if w.cfg.small.bounds.Whole || w.asksWhatBegan() {
		return
	}
	for _, p := range w.procs {
		if !p.alive {
			w.start(p)
		}
	}
}

// hasTurn reports whether a task goes on before any other may.
func (w *World) hasTurn(t *task) bool { return w.cfg.small.bounds.Turns && w.cfg.small.turn == t }
