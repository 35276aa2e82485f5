package sim

import (
	"bytes"
	"maps"
	"slices"
	"time"
)

// mayBeCloned reports whether clone gives the same world. Tasks, and calls on their way, cannot be copied. Nor can what the production code
// keeps in its processes: there is nothing of that until time has passed, or a connection was away.
func (w *World) mayBeCloned() bool {
	return len(w.tasks) == 0 && len(w.late) == 0 && w.serverBackStep == 0 && w.now.Equal(epoch())
}

// clone returns a world that is the same and goes on by itself. The one that it is made of may be cloned by many at once.
func (w *World) clone(shared metrics) *World {
	c := *w
	c.tasks, c.late, c.current, c.trace = nil, nil, nil, bytes.Buffer{}
	s := *w.cfg.small
	s.turn, s.metrics = nil, shared
	c.cfg.small, c.metrics = &s, shared
	c.mem = w.mem.Clone(func() time.Time { return c.now })
	c.docker.containers = slices.Clone(w.docker.containers)
	for i, one := range c.docker.containers {
		copied := *one
		c.docker.containers[i] = &copied
	}
	c.procs = slices.Clone(w.procs)
	for i, p := range c.procs {
		copied := *p
		copied.exits, copied.undone, copied.asked = slices.Clone(p.exits), slices.Clone(p.undone), maps.Clone(p.asked)
		c.procs[i] = &copied
		c.equip(&copied)
	}
	c.lastBeat = maps.Clone(w.lastBeat)
	c.cutShort, c.lost, c.expired, c.explain = maps.Clone(w.cutShort), maps.Clone(w.lost), maps.Clone(w.expired), maps.Clone(w.explain)
	c.truths = maps.Clone(w.truths)
	for id, t := range c.truths {
		copied := *t
		copied.log = slices.Clip(t.log) // Only ever appended to.
		c.truths[id] = &copied
	}
	c.acked, c.old = slices.Clip(w.acked), maps.Clone(w.old)
	for id, all := range c.old {
		c.old[id] = slices.Clip(all)
	}
	return &c
}
