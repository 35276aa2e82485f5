package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

// beatEvery is the longest that the clock goes on without heartbeats; well within their TTL.
const beatEvery = 10 * time.Second

// pass lets the clock go on, and hosts send their heartbeats.
func (w *World) pass(by time.Duration) {
	for by > 0 {
		step := min(by, beatEvery)
		by -= step
		w.now = w.now.Add(step)
		for _, p := range w.procs {
			if p.alive && p.host == "" {
				p.dueLook = true
				w.lookNow(p)
			}
			if p.alive && p.host != "" && !w.unreachable(p, theBus) {
				w.beat(p)
			}
			if p.exec != nil && p.compareBegan < p.since {
				p.dueCheck = true // It failed, and is tried again.
			}
		}
		w.noteExpired()
	}
}

// beat lets an executor send a heartbeat, unless it still tries to send the last one.
func (w *World) beat(p *proc) {
	for _, t := range slices.Clone(w.tasks) {
		if t.proc == p && t.key == "beat" {
			w.runThrough(t)
		}
	}
	if p.alive && !w.busy(p, "beat") {
		w.runThrough(w.spawn(p, "beat", "beat", nil, func() error { return p.exec.Beat(background) }, func(error) {}))
	}
}

// lookNow lets a watch look to the end, as it does more often than the clock of the simulation goes on; now and then others may go on
// before it.
func (w *World) lookNow(p *proc) {
	if w.faulty && w.pick(4) == 0 {
		return
	}
	for _, t := range slices.Clone(w.tasks) {
		if t.proc == p && t.key == "look" {
			w.runThrough(t)
		}
	}
	if p.alive && w.lookDue(p) {
		w.runThrough(w.tasks[len(w.tasks)-1])
	}
}

// noteExpired notes which hosts have no heartbeat now.
func (w *World) noteExpired() {
	for _, p := range w.procs {
		if alive, _ := w.mem.HostAlive(background, p.host); !alive && p.host != "" {
			w.expired[p.host] = w.steps
		}
	}
}

// lookDue begins the look at the hosts that is due. A watch that was cut off may look before it is told so.
func (w *World) lookDue(p *proc) bool {
	if w.cfg.Hooks.NoWatch || w.busy(p, "look") {
		return false
	}
	if p.dueBlind && (!p.dueLook || w.pick(2) == 0) {
		p.dueBlind = false
		p.watch.Blind(w.now)
	}
	if !p.dueLook {
		return false
	}
	p.dueLook = false
	w.spawn(p, "look", "look", nil, func() error { _, err := p.watch.Look(background, w.now); return err }, func(error) {})
	return true
}

func (w *World) cutOffAny() {
	if p := w.procs[w.pick(len(w.procs))]; !p.cut {
		w.fault("%s is cut off from the bus", p.name)
		p.cut = true
	}
}

func (w *World) dockerAwayAny() {
	if p := w.procs[w.pick(len(w.procs))]; p.host != "" && !p.dockerAway {
		w.fault("Docker of %s is away", p.name)
		p.dockerAway = true
	}
}

// mendAny brings back something that is cut off or away, or lets a call take effect at last.
func (w *World) mendAny() {
	if w.pick(2) == 0 && w.arrive() {
		return
	}
	if w.serverAway && w.pick(2) == 0 {
		w.serverReturns()
		return
	}
	p := w.procs[w.pick(len(w.procs))]
	if p.dockerAway {
		w.tracef("Docker of %s is back", p.name)
		p.dockerAway = false
	}
	if p.cut {
		w.connect(p)
	}
}

// connect lets a process reach the bus again.
func (w *World) connect(p *proc) {
	w.tracef("%s reaches the bus again", p.name)
	p.cut = false
	w.reconnected(p)
}

// serverLeaves begins an absence of the server.
func (w *World) serverLeaves() {
	w.serverAway, w.serverLeft = true, w.now
	for _, p := range w.procs {
		w.cutShort[p.host], _ = w.mem.HostAlive(background, p.host)
	}
}

// serverReturns ends the absence of the server, short or long. The heartbeats that nobody could send have expired.
func (w *World) serverReturns() {
	w.tracef("the server is there")
	w.noteExpired()
	w.serverAway, w.serverBack, w.serverBackStep = false, w.now, w.steps
	for _, p := range w.procs {
		if !p.cut {
			w.reconnected(p)
		}
	}
}

// reconnected tells a process that its connection was away.
func (w *World) reconnected(p *proc) {
	if !p.alive {
		return
	}
	p.dueCheck, p.dueBlind, p.since = true, true, w.steps
	if p.exec != nil && !w.cfg.Hooks.NeverAway {
		p.exec.Away()
	}
}

// place is a program on a host.
type place struct {
	program events.ProgramID
	host    events.HostID
}

// loss is the last time that a host was declared lost for a program.
type loss struct {
	step    int
	attempt uint64 // Of the program then; its containers there were of this attempt or an earlier one.
}

// checkLoss checks that a host which is declared lost did miss its heartbeats, and this while it could have sent them.
func (w *World) checkLoss(id events.ProgramID, host events.HostID) {
	w.noteExpired()
	if w.expired[host] < w.current.began {
		w.violate(id, "%s is declared lost, and has sent its heartbeats", host)
	}
	// What the process was answered before the server went away still holds, though it says so only now.
	asked, found := w.current.proc.asked[host]
	silent := w.now.Sub(w.serverBack)
	// It may have sent none for so long that the absence of the server does not matter.
	missed := silent+max(w.serverLeft.Sub(w.lastBeat[host]), 0) >= hostTTL
	if silent < hostTTL/2 && w.cutShort[host] && !missed && (!found || asked >= w.serverBackStep) {
		w.violate(id, "%s is declared lost %s after the server was back, and was there before", host, silent)
	}
}

// noteLoss notes that a host was declared lost to a program, if it was on it.
func (w *World) noteLoss(s reducer.ProgramState, host events.HostID) {
	if s.HostID == host {
		w.lost[place{s.ID, host}] = loss{step: w.steps, attempt: s.Attempt}
	}
}

// isLost reports whether a container is one that a lost host left running, until that host is back.
func (w *World) isLost(c *container) bool {
	l, found := w.lost[place{c.program, c.host}]
	return found && c.attempt <= l.attempt && !w.isBack(c.host, l.step)
}

// isBack reports whether a host has compared its containers with the logs since a step, and has nothing in hand any more that it
// began before that.
func (w *World) isBack(id events.HostID, since int) bool {
	p := w.procOf(id)
	if p.compareBegan <= since {
		return false
	}
	for _, t := range w.tasks {
		if t.proc == p && t.began <= p.compareBegan && t.name == "effects" {
			return false
		}
	}
	return true
}

func (w *World) procOf(id events.HostID) *proc {
	for _, p := range w.procs {
		if p.host == id {
			return p
		}
	}
	panic(fmt.Sprintf("there is no host %s", id))
}

// checkBack checks, after a comparison has succeeded, that nothing runs any more which was left from when the host was lost.
func (w *World) checkBack(t *task) {
	if t.lagged {
		return
	}
	t.proc.compareBegan = t.began
	for _, c := range w.leftovers(t.proc, t.began) {
		w.violate(c.program, "%s, which was lost, has compared, and %s of attempt %d still runs", c.host, c.id, c.attempt)
	}
}

// checkMayWork checks that a host does not begin to build or to start anything while containers run there that were somebody else's
// when it came back.
func (w *World) checkMayWork(t *task) {
	if p := t.proc; t.name == "effects" && t.began >= p.since && p.tried < p.since && !p.lagged {
		for _, c := range w.leftovers(p, p.since) {
			w.violate(c.program, "%s, which was lost, works again, and %s of attempt %d still runs", c.host, c.id, c.attempt)
		}
	}
}

// leftovers are the containers that run on a host since before a step, and whose program was told before that step that the host is
// lost.
func (w *World) leftovers(p *proc, before int) (all []*container) {
	for _, c := range w.docker.containers {
		l, found := w.lost[place{c.program, c.host}]
		if found && c.host == p.host && c.phase == running && c.started < before && l.step < before && c.attempt <= l.attempt {
			all = append(all, c)
		}
	}
	return all
}
