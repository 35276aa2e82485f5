package sim

import (
	"time"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/bus/bustest"
)

// chaos lets everything happen for one epoch.
func (w *World) chaos() {
	w.faulty = true
	for _, p := range w.procs {
		p.gone = false
	}
	for range w.cfg.Steps {
		w.step()
		if w.violation != nil {
			return
		}
	}
	w.faulty = false
}

// climate is how often each thing happens in a run. Every seed has its own, so that some runs are all users and no faults, some
// have one kind of fault only, and so on: what is rare on the average happens often in some run.
type climate struct {
	run, take, user, time, start, timer, fault int // In proportion to one another.
	mend                                       int // What is cut off, away or late comes back.
	callFaults                                 int // One call in so many has a fault.
	callKinds                                  []callFault
	faults                                     []worldFault
}

func (w *World) newClimate() climate {
	c := climate{
		run: 20 + w.pick(60), take: 5 + w.pick(30), user: 1 + w.pick(12), time: w.pick(6), start: 1 + w.pick(8),
		timer: w.pick(5), fault: 1 + w.pick(10), mend: 4 + w.pick(16), callFaults: 5 + w.pick(60),
	}
	for _, kind := range []callFault{failBefore, failAfter, crashBefore, crashAfter, hangBefore, hangAfter, failLate} {
		if w.pick(3) == 0 {
			c.callKinds = append(c.callKinds, kind)
		}
	}
	if len(c.callKinds) == 0 {
		c.callKinds = []callFault{failAfter, crashAfter}
	}
	for f := range worldFaults {
		if w.oneIn(2) {
			c.faults = append(c.faults, f)
		}
	}
	return c
}

// step is one thing that happens.
func (w *World) step() {
	w.steps++
	c := w.climate
	n := w.pick(c.run + c.take + c.user + c.time + c.start + c.timer + c.mend + c.fault)
	happens := func(weight int) bool { n -= weight; return n < 0 }
	switch {
	case happens(c.run):
		if !w.runAny() {
			w.takeAny()
		}
	case happens(c.take):
		w.takeAny()
	case happens(c.user):
		w.userAct()
	case happens(c.time):
		w.passTime()
	case happens(c.start):
		w.startAny()
	case happens(c.timer):
		w.timer()
	case happens(c.mend):
		w.mendAny()
	case len(c.faults) > 0:
		w.worldFault(c.faults[w.pick(len(c.faults))])
	}
}

// runAny lets one task go on that does not hang; false when there is none.
func (w *World) runAny() bool {
	if len(w.tasks) == 0 {
		return false
	}
	from := w.pick(len(w.tasks))
	for i := range w.tasks {
		if t := w.tasks[(from+i)%len(w.tasks)]; !w.hangs(t) {
			w.run(t)
			return true
		}
	}
	return false
}

// takeAny lets a process take work, beginning at a random one; false when there is none.
func (w *World) takeAny() bool {
	from := w.pick(len(w.procs))
	for i := range w.procs {
		p := w.procs[(from+i)%len(w.procs)]
		if p.alive && (p.host == "" && w.takeWake(p) || p.host != "" && w.takeEffects(p)) {
			return true
		}
	}
	return false
}

func (w *World) takeWake(p *proc) bool {
	if w.checkDue(p) {
		return true
	}
	if w.lookDue(p) {
		return true
	}
	if w.unreachable(p, theBus) || !w.offersWake(p) {
		return false
	}
	w.takeFromWakes(p)
	return true
}

func (w *World) offersWake(p *proc) bool {
	workers := 2
	if w.cfg.small != nil {
		workers = w.cfg.small.bounds.Wakes
	}
	return w.count(p, 'w') < workers && w.mem.PeekWake()
}

func (w *World) takeFromWakes(p *proc) {
	d, _ := w.mem.TakeWake()
	w.work(p, "wake", "", d, func() error {
		_, err := p.sup.Reconcile(background, d.ProgramID, d.Seq)
		return err
	})
}

// checkDue begins the sweep or the comparison that is due.
func (w *World) checkDue(p *proc) bool {
	if !p.dueCheck || w.busy(p, "check") {
		return false
	}
	p.dueCheck = false
	if p.sup != nil {
		if w.cfg.Hooks.NoSweep {
			return false
		}
		w.spawn(p, "sweep", "check", nil, func() error { _, err := p.sup.Sweep(background); return err }, func(error) {})
		return true
	}
	if w.cfg.Hooks.NoCompare && p.compared {
		return false
	}
	var t *task
	tried := false
	t = w.spawn(p, "compare", "check", nil, func() (err error) { tried, err = p.exec.Compare(background); return err }, func(err error) {
		if err == nil {
			w.checkBack(t)
		}
		if !p.compared {
			// Until the first comparison has tried every container no work is taken and no exit is heard of; once it has, exits
			// are heard of from then on, and another comparison finds those in between.
			if p.compared, p.dueCheck = tried, tried; tried {
				w.resume(p)
			}
		}
	})
	return true
}

// takeEffects lets an executor begin something: mostly a comparison first that is due, as loops that go on side by side may.
func (w *World) takeEffects(p *proc) bool {
	if !p.compared || w.pick(3) > 0 {
		return w.checkDue(p) || p.compared && w.takeWork(p)
	}
	return w.takeWork(p) || w.checkDue(p)
}

func (w *World) takeWork(p *proc) bool {
	if len(p.exits) > 0 {
		w.settleExit(p)
		return true
	}
	if w.resumeNext(p) {
		return true
	}
	if w.unreachable(p, theBus) {
		return false
	}
	for _, q := range w.queues(p) {
		if w.offers(p, q) {
			w.takeFrom(p, q)
			return true
		}
	}
	return false
}

// queue is one that an executor takes effects from.
type queue struct {
	host  events.HostID
	class events.Class
}

func (w *World) queues(p *proc) [4]queue {
	return [...]queue{{"", events.ClassBuild}, {p.host, events.ClassBuild}, {"", events.ClassRun}, {p.host, events.ClassRun}}
}

// offers reports whether a queue has something that an executor can take now. Where it is busy with the same, it would wait for a lock
// of its own, and with it the one thread of the simulation.
func (w *World) offers(p *proc, q queue) bool {
	id, seq, found := w.mem.PeekEffects(q.host, q.class)
	return found && w.count(p, 'e') < 4 && !w.busy(p, w.lockKey(id, seq))
}

func (w *World) takeFrom(p *proc, q queue) {
	d, _ := w.mem.TakeEffects(q.host, q.class)
	w.work(p, "effects", w.lockKey(d.ProgramID, d.Seq), d, func() error { return p.exec.Handle(background, d.ProgramID, d.Seq) })
}

// lockKey is what an executor does one at a time: the effects of one class of a program. Where a message was forged, that need
// not be the class of its queue, nor need there be such an event.
func (w *World) lockKey(id events.ProgramID, seq uint64) string {
	if seq > uint64(len(w.truth(id).log)) {
		return string(id)
	}
	return string(id) + "/" + string(effects.Class(w.truth(id).log[seq-1].Effects))
}

// resume begins to look for what the predecessor of an executor left undone.
func (w *World) resume(p *proc) {
	w.spawn(p, "resume", "", nil, func() error {
		undone, err := p.exec.Leftovers(background)
		p.undone = undone
		return err
	}, func(error) {})
}

func (w *World) resumeNext(p *proc) bool {
	if len(p.undone) == 0 {
		return false
	}
	next := p.undone[0]
	key := w.lockKey(next.ProgramID, next.Seq)
	if w.busy(p, key) {
		return false
	}
	p.undone = p.undone[1:]
	w.tracef("%s resumes %s/%d", p.name, shortProgram(next.ProgramID), next.Seq)
	t := w.spawn(p, "effects", key, nil, func() error { return p.exec.Handle(background, next.ProgramID, next.Seq) }, func(error) {})
	w.tellMessage(t, next.Seq)
	return true
}

func (w *World) settleExit(p *proc) {
	id := p.exits[0]
	p.exits = p.exits[1:]
	c := w.docker.find(id)
	if c == nil {
		return // It is gone already; a comparison sees that.
	}
	seen := c.seen()
	t := w.spawn(p, "settle", "", nil, func() error { return p.exec.Settle(background, seen) }, func(error) {})
	w.tell(t, func(d *description) { d.one(c) })
}

// work does what the loop of a queue does with a message.
func (w *World) work(p *proc, name, key string, d bustest.Delivery, handle func() error) {
	if w.cfg.Hooks.AckFirst {
		d.Ack()
	}
	w.tracef("%s takes %s %s/%d, delivery %d", p.name, name, shortProgram(d.ProgramID), d.Seq, d.Delivered)
	var t *task
	defer func() { w.tellMessage(t, d.Seq) }()
	t = w.spawn(p, name, key, &d, handle, func(err error) {
		answer := d.Ack
		if err != nil && !w.cfg.Hooks.AckFailed {
			answer = func() { d.Nak(min(250*time.Millisecond<<min(d.Delivered-1, 10), 30*time.Second)) }
		}
		switch {
		case t.unheard, w.unreachable(p, theBus) && w.pick(2) == 0, w.faulty && w.oneIn(60):
			w.fault("an answer of %s is lost", p.name)
		case w.unreachable(p, theBus), w.faulty && w.oneIn(40):
			w.fault("an answer of %s comes late", p.name) // Perhaps when another works on the message.
			w.late = append(w.late, late{what: name + " answered", of: p, do: answer})
		default:
			answer()
		}
	})
}

// userAct is something that a user publishes.
func (w *World) userAct() {
	id := w.ids[w.pick(len(w.ids))]
	if w.oneIn(12) {
		w.users++
		w.tracef("user: garbage for %s", shortProgram(id))
		typ := []events.Type{"Nonsense", events.TypeBuildFinished, events.TypeUserStopRequested}[w.pick(3)]
		if _, err := w.mem.AppendRaw(background, id, typ, []byte(`{"x":`), ""); err != nil {
			panic(err) // The log is far from full.
		}
		return
	}
	ev := []events.Event{
		events.UserStartRequested{}, events.UserStartRequested{}, events.UserStopRequested{}, events.UserRestartRequested{},
	}[w.pick(4)]
	w.publish(id, ev)
}

func (w *World) publish(id events.ProgramID, ev events.Event) {
	w.tracef("user: %s for %s", ev.Type(), shortProgram(id))
	seq, err := w.mem.Append(background, id, ev, "")
	if err != nil {
		panic(err) // The log is far from full.
	}
	w.users++
	w.acked = append(w.acked, acknowledged{id: id, seq: seq, typ: ev.Type()})
}

// passTime lets the clock go on. Most of the work under way tells the server that it is.
func (w *World) passTime() {
	by := []time.Duration{10 * time.Millisecond, 300 * time.Millisecond, 5 * time.Second, 31 * time.Second, 11 * time.Minute}[min(w.pick(5), w.pick(6))]
	w.pass(by)
	for _, t := range w.tasks {
		if t.delivery != nil && !w.unreachable(t.proc, theBus) && (!w.faulty || !w.oneIn(8)) {
			t.delivery.Progress()
		}
	}
}

func (w *World) startAny() {
	for _, p := range w.procs {
		if !p.alive {
			w.start(p)
			return
		}
	}
}

func (w *World) timer() {
	p := w.procs[w.pick(len(w.procs))]
	p.dueCheck = p.alive
}
