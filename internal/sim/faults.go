package sim

import (
	"fmt"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

// callFault is what goes wrong with one call.
type callFault string

const (
	none        callFault = ""
	failBefore  callFault = " FAILS"
	failAfter   callFault = " DONE, NO ANSWER"
	crashBefore callFault = " CRASH BEFORE"
	crashAfter  callFault = " CRASH AFTER"
	hangBefore  callFault = " HANGS, NOT DONE"
	hangAfter   callFault = " DONE, HANGS"
	failLate    callFault = " HANGS, DONE LATER"
)

func (w *World) callFault() callFault {
	if w.cfg.small != nil {
		return w.cfg.small.take()
	}
	if !w.faulty || !w.oneIn(w.climate.callFaults) {
		return none
	}
	w.faults++
	return w.climate.callKinds[w.pick(len(w.climate.callKinds))]
}

// fault notes a fault of the world.
func (w *World) fault(format string, args ...any) {
	w.faults++
	w.tracef("FAULT "+format, args...)
}

// refusal is why Docker or the disk refuses an effect, in words that checks know again; "" is that it does not.
func (w *World) refusal(what string) string {
	if s := w.cfg.small; s != nil && s.refuse {
		s.refuse = false
	} else if !w.faulty || !w.oneIn(12) {
		return ""
	}
	w.fault("%s is refused", what)
	w.tell(w.current, func(d *description) { d.word("refused") })
	return fmt.Sprintf("injected %s failure", what)
}

// worldFault is something that goes wrong without being a call of anybody.
type worldFault int

const (
	crash worldFault = iota
	serverRestart
	wakeLost
	checkpointLost
	checkpointCorrupt
	checkpointStale
	checkpointAhead
	exit
	removedByHand
	forgery
	cutOff
	cutOff2 // Twice as often: it begins most of what hosts go through.
	dockerAway
	serverAway
	worldFaults // How many there are.
)

func (w *World) worldFault(f worldFault) {
	id := w.ids[w.pick(len(w.ids))]
	switch f {
	case crash:
		w.crashAny()
	case serverRestart:
		w.restartServer()
	case wakeLost:
		w.fault("lost: wake-up of %s", shortProgram(id))
		w.mem.DropWake(id)
	case checkpointLost:
		w.fault("lost: checkpoint of %s", shortProgram(id))
		if err := w.mem.DropCheckpoint(background, id); err != nil {
			panic(err) // A memory bus that was not told to fail does not.
		}
	case checkpointCorrupt:
		w.fault("corrupt: checkpoint of %s", shortProgram(id))
		w.mem.SetCheckpoint(id, reducer.Checkpoint{}, false)
	case checkpointStale:
		w.staleCheckpoint(id)
	case checkpointAhead:
		w.aheadCheckpoint(id)
	case exit:
		w.exitAny()
	case removedByHand:
		w.removeAny()
	case forgery:
		w.forge(id)
	case cutOff, cutOff2:
		w.cutOffAny()
	case dockerAway:
		w.dockerAwayAny()
	case serverAway:
		if !w.serverAway {
			w.fault("the server is away")
			w.serverLeaves()
		}
	}
}

// restartServer loses what is in the server's memory.
func (w *World) restartServer() {
	w.fault("the server restarts")
	if !w.serverAway {
		w.serverLeaves()
	}
	w.mem.Restart()
	w.serverReturns()
}

func (w *World) crashAny() {
	p := w.procs[w.pick(len(w.procs))]
	if p.alive {
		w.fault("%s is killed", p.name)
		w.kill(p)
	}
}

func (w *World) staleCheckpoint(id events.ProgramID) {
	if old := w.old[id]; len(old) > 0 {
		cp := old[w.pick(len(old))]
		w.fault("stale: checkpoint of %s is back at %d", shortProgram(id), cp.Seq)
		w.stale++
		w.mem.SetCheckpoint(id, cp, true)
	}
}

// aheadCheckpoint is what a bus that was restored from a backup may have: more than its log holds.
func (w *World) aheadCheckpoint(id events.ProgramID) {
	cp, found, _ := w.mem.Load(background, id)
	if !found {
		return
	}
	cp.Seq = w.truth(id).at.Seq + 1 + uint64(w.pick(2))
	cp.Time = cp.Time.Add(-1)
	cp.State.State = reducer.State(w.pick(7))
	w.fault("wrong: checkpoint of %s claims %d", shortProgram(id), cp.Seq)
	w.stale++
	w.mem.SetCheckpoint(id, cp, true)
}

func (w *World) exitAny() {
	if len(w.docker.containers) == 0 {
		return
	}
	if c := w.docker.containers[w.pick(len(w.docker.containers))]; c.phase == running {
		w.fault("%s of %s exits", c.id, shortProgram(c.program))
		w.explain[c.id] = true
		w.endContainer(c, w.pick(3))
	}
}

func (w *World) removeAny() {
	if len(w.docker.containers) == 0 {
		return
	}
	c := w.docker.containers[w.pick(len(w.docker.containers))]
	w.fault("%s of %s is removed by hand", c.id, shortProgram(c.program))
	w.explain[c.id] = true
	if c.phase == running {
		w.endContainer(c, 137)
	}
	w.docker.remove(c.id)
}

// forge publishes an effects message that nobody decided: any event of the program, to any queue.
func (w *World) forge(id events.ProgramID) {
	seq := 1 + uint64(w.pick(int(w.truth(id).at.Seq)+2)) // Also one that the log does not have.
	to := events.HostID("")
	if p := w.procs[w.pick(len(w.procs))]; p.host != "" {
		to = p.host
	}
	class := []events.Class{events.ClassBuild, events.ClassRun}[w.pick(2)]
	w.fault("forged: effects of %s/%d for %q %s", shortProgram(id), seq, to, class)
	if err := w.mem.PublishTrigger(background, events.EffectsSubject(to, class, id), id, seq, ""); err != nil {
		panic(err) // A memory bus takes it.
	}
}
