package sim

import (
	"context"
	"fmt"
	"slices"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
)

// phase is how far a container's life has come.
type phase int

const (
	created phase = iota
	running
	ended
)

// container is one of the daemon's, with the labels that it was made with.
type container struct {
	id       string
	program  events.ProgramID
	host     events.HostID
	attempt  uint64
	phase    phase
	exitCode int
	started  int // The step at which it was started.
}

// docker is a model of one daemon that all hosts share.
type docker struct {
	containers []*container // In the order of their creation.
	made       int
}

func (d *docker) find(id string) *container {
	for _, c := range d.containers {
		if c.id == id {
			return c
		}
	}
	return nil
}

func (d *docker) remove(id string) {
	d.containers = slices.DeleteFunc(d.containers, func(c *container) bool { return c.id == id })
}

// host is the daemon as the executor of one host sees it.
type host struct {
	w  *World
	id events.HostID
}

// Execute implements executor.Host. It makes the calls that the real one makes, in their order.
func (h host) Execute(ctx context.Context, eff effects.Effect) events.Event {
	switch e := eff.(type) {
	case effects.EnsureProgramFolders:
		return h.folders(ctx, e)
	case effects.BuildRuntime:
		return h.build(ctx, e)
	case effects.StartRuntime:
		return h.start(ctx, e)
	case effects.StopRuntime:
		return h.stop(ctx, e)
	case effects.FetchRuntimeStatus:
		return h.status(ctx, e)
	}
	return nil
}

func (h host) folders(ctx context.Context, e effects.EnsureProgramFolders) events.Event {
	h.w.checkMayWork(h.w.current)
	if err := h.w.dockerCall(ctx, "make folders", e.ProgramID, func() error { return nil }); err != nil {
		return nil
	}
	if why := h.w.refusal("folders"); why != "" {
		return events.FoldersEnsured{Error: why}
	}
	return events.FoldersEnsured{Success: true}
}

func (h host) build(ctx context.Context, e effects.BuildRuntime) events.Event {
	t := h.w.current
	for range 1 + h.w.pick(4) {
		if err := h.w.dockerCall(ctx, "build", e.ProgramID, func() error { return nil }); err != nil {
			return nil
		}
		if t.news {
			t.news = false
			t.watch()
		}
		if ctx.Err() != nil {
			return nil
		}
	}
	if why := h.w.refusal("build"); why != "" {
		return events.BuildFinished{Error: why}
	}
	return events.BuildFinished{Success: true, ImageID: "image"}
}

func (h host) start(ctx context.Context, e effects.StartRuntime) events.Event {
	h.w.checkMayWork(h.w.current)
	own, failed := h.makeRoom(ctx, e)
	if failed != nil {
		return failed.event
	}
	if own == "" {
		h.w.current.args.named(anAttempt, e.Attempt)
		err := h.w.dockerCall(ctx, "create container", e.ProgramID, func() error {
			own = h.w.docker.create(e.ProgramID, h.id, e.Attempt)
			return nil
		})
		if err != nil {
			return nil
		}
	}
	c := h.w.docker.find(own)
	if c == nil {
		return nil // It was removed by hand meanwhile.
	}
	if c.phase != created {
		return events.RuntimeStarted{ContainerID: own}
	}
	if why := h.w.refusal("start"); why != "" {
		h.w.docker.remove(own)
		return events.StartFailed{Reason: why}
	}
	if err := h.w.dockerCall(ctx, "start container "+own, e.ProgramID, func() error { return h.w.runContainer(own) }); err != nil {
		return nil
	}
	return events.RuntimeStarted{ContainerID: own}
}

// outcome is why a start goes no further: a result, or none.
type outcome struct{ event events.Event }

// makeRoom removes the containers of earlier attempts, and returns the one of this attempt if it is there.
func (h host) makeRoom(ctx context.Context, e effects.StartRuntime) (own string, failed *outcome) {
	var others []string
	late := false
	err := h.w.dockerCall(ctx, "list containers", e.ProgramID, func() error {
		for _, c := range h.w.docker.containers {
			switch {
			case c.program != e.ProgramID || c.host != h.id:
			case c.attempt == e.Attempt:
				own = c.id
			case c.attempt > e.Attempt:
				late = true
			default:
				others = append(others, c.id)
			}
		}
		return nil
	})
	if err != nil {
		return "", &outcome{}
	}
	if late {
		return "", &outcome{events.StartFailed{Reason: "a later attempt is there already"}}
	}
	for _, id := range others {
		if !h.end(ctx, id, e.ProgramID) {
			return "", &outcome{}
		}
	}
	return own, nil
}

func (h host) stop(ctx context.Context, e effects.StopRuntime) events.Event {
	var c *container
	err := h.w.dockerCall(ctx, "inspect "+e.ContainerID, e.ProgramID, func() error {
		c = h.w.docker.find(e.ContainerID)
		return nil
	})
	switch {
	case err != nil:
		return nil
	case c == nil:
		return events.StopFinished{ContainerID: e.ContainerID, Success: true}
	case c.program != e.ProgramID || c.host != h.id:
		return events.StopFinished{ContainerID: e.ContainerID, Error: "it is not the program's container"}
	}
	if why := h.w.refusal("stop"); why != "" {
		return events.StopFinished{ContainerID: e.ContainerID, Error: why}
	}
	if !h.end(ctx, e.ContainerID, e.ProgramID) {
		return nil
	}
	return events.StopFinished{ContainerID: e.ContainerID, Success: true}
}

// end stops a container and removes it; false when the daemon gave no answer on the way.
func (h host) end(ctx context.Context, id string, program events.ProgramID) bool {
	err := h.w.dockerCall(ctx, "stop container "+id, program, func() error {
		if c := h.w.docker.find(id); c != nil && c.phase == running {
			h.w.checkMayEnd(c)
			h.w.endContainer(c, 143)
		}
		return nil
	})
	if err != nil {
		return false
	}
	return h.w.dockerCall(ctx, "remove container "+id, program, func() error {
		if c := h.w.docker.find(id); c != nil {
			h.w.docker.remove(id)
		}
		return nil
	}) == nil
}

func (h host) status(ctx context.Context, e effects.FetchRuntimeStatus) events.Event {
	var result events.Event
	err := h.w.dockerCall(ctx, "inspect "+e.ContainerID, "", func() error {
		switch c := h.w.docker.find(e.ContainerID); {
		case c == nil:
			result = events.RuntimeExited{ContainerID: e.ContainerID, ExitCode: -1}
		case c.phase == ended:
			result = events.RuntimeExited{ContainerID: e.ContainerID, ExitCode: c.exitCode}
		}
		return nil
	})
	if err != nil {
		return nil
	}
	return result
}

// Containers implements executor.Host.
func (h host) Containers(ctx context.Context) (all []effects.Container, err error) {
	err = h.w.dockerCall(ctx, "list containers", "", func() error {
		for _, c := range h.w.docker.containers {
			if c.host == h.id {
				all = append(all, c.seen())
			}
		}
		return nil
	})
	return all, err
}

func (c *container) seen() effects.Container {
	return effects.Container{ID: c.id, ProgramID: c.program, Attempt: c.attempt, Running: c.phase == running, ExitCode: c.exitCode}
}

// Adopt implements executor.Host.
func (h host) Adopt(ctx context.Context, c effects.Container) error {
	return h.w.dockerCall(ctx, "adopt "+c.ID, c.ProgramID, func() error { return nil })
}

// Exits implements executor.Host. The scheduler hands exits on itself.
func (h host) Exits(context.Context, func(), func(effects.Container)) error { return errFault }

// End implements executor.Host. No simulated host is fenced.
func (h host) End(context.Context, effects.Container, string) error { return errFault }

// Remains implements executor.Host: there are only containers.
func (h host) Remains(context.Context) ([]events.ProgramID, error) { return nil, nil }

// Forget implements executor.Host.
func (h host) Forget(context.Context, events.ProgramID) error { return nil }

// Describe implements executor.Host.
func (h host) Describe(ctx context.Context) (beat events.Heartbeat) {
	if err := h.w.dockerCall(ctx, "describe", "", func() error { return nil }); err != nil {
		beat.Problem = err.Error()
	}
	return beat
}

func (d *docker) create(program events.ProgramID, host events.HostID, attempt uint64) string {
	d.made++
	c := &container{id: fmt.Sprint("c", d.made), program: program, host: host, attempt: attempt}
	d.containers = append(d.containers, c)
	return c.id
}

// runContainer starts a container, again if it has ended, and checks that its program has no other, except where the host of one is
// lost.
func (w *World) runContainer(id string) error {
	c := w.docker.find(id)
	if c == nil {
		return errFault
	}
	if c.phase == running {
		return nil
	}
	c.phase, c.started = running, w.steps
	for _, other := range w.docker.containers {
		if other != c && other.program == c.program && other.phase == running && !w.isLost(c) && !w.isLost(other) {
			w.violate(c.program, "has two running containers: %s of attempt %d on %s, and %s of attempt %d on %s",
				other.id, other.attempt, other.host, c.id, c.attempt, c.host)
		}
	}
	if w.faulty && w.oneIn(20) {
		w.fault("%s exits at once", id)
		w.explain[id] = true
		w.endContainer(c, w.pick(3))
	}
	return nil
}

// endContainer lets a container end, and tells the executor of its host, if that listens.
func (w *World) endContainer(c *container, code int) {
	c.phase, c.exitCode = ended, code
	if w.faulty && w.oneIn(4) {
		w.fault("nobody is told that %s ended", c.id)
		return
	}
	for _, p := range w.procs {
		if p.host == c.host && p.alive && p.compared {
			p.exits = append(p.exits, c.id)
		}
	}
}
