package sim

import (
	"context"
	"errors"
	"iter"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/bus/bustest"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

// errFault is what a call fails with. Whether it took effect, its caller cannot know.
var errFault = errors.New("no answer")

// client is the bus as a process sees it: every call may fail, take effect without an answer, or be the process's last.
type client struct {
	*bustest.Memory
	w *World
}

// call is one call through an interface: others may go on before it, and faults strike.
func (w *World) call(op string, id events.ProgramID, do func() error) error {
	w.pause()
	w.calls++
	if w.cfg.plan != nil {
		w.plannedUser()
	}
	f := w.callFault()
	w.tracef("%s %s: %s %s%s", w.current.proc.name, w.current.name, op, shortProgram(id), f)
	switch f {
	case crashBefore:
		panic(crashed{})
	case failBefore:
		return errFault
	}
	err := do()
	switch f {
	case crashAfter:
		panic(crashed{})
	case failAfter:
		return errFault
	}
	return err
}

// Read may give less than there is, as a replica that lags does.
func (c client) Read(ctx context.Context, id events.ProgramID, after uint64) iter.Seq2[events.Stored, error] {
	return func(yield func(events.Stored, error) bool) {
		var log []events.Stored
		err := c.w.call("read", id, func() error {
			for stored, err := range c.Memory.Read(ctx, id, after) {
				if err != nil {
					return err
				}
				log = append(log, stored)
			}
			return nil
		})
		if err != nil {
			yield(events.Stored{}, err)
			return
		}
		if n := len(log); n > 0 && c.w.faulty && c.w.oneIn(50) {
			log = log[:n-1-c.w.pick(n)]
			c.w.faults++
			c.w.tracef("%s: that read lags", c.w.current.proc.name)
		}
		for _, stored := range log {
			if !yield(stored, nil) {
				return
			}
		}
	}
}

func (c client) Append(ctx context.Context, id events.ProgramID, ev events.Event, key string) (seq uint64, err error) {
	err = c.w.call("append "+string(ev.Type()), id, func() error {
		seq, err = c.Memory.Append(ctx, id, ev, key)
		return err
	})
	if err == nil {
		c.w.acked = append(c.w.acked, acknowledged{id: id, seq: seq, typ: ev.Type(), key: key})
	}
	return seq, err
}

func (c client) PublishEffects(ctx context.Context, m effects.Message) error {
	return c.w.call("publish "+m.Key()[len(m.ProgramID):]+" "+string(m.Effects[0].Type()), m.ProgramID, func() error {
		return c.Memory.PublishEffects(ctx, m)
	})
}

func (c client) Load(ctx context.Context, id events.ProgramID) (cp reducer.Checkpoint, found bool, err error) {
	err = c.w.call("load", id, func() error {
		cp, found, err = c.Memory.Load(ctx, id)
		return err
	})
	return cp, found, err
}

func (c client) Save(ctx context.Context, cp reducer.Checkpoint, replace bool) error {
	id := cp.State.ID
	return c.w.call("save", id, func() error {
		if old := c.w.old[id]; len(old) == 0 || old[len(old)-1] != cp {
			c.w.old[id] = append(old, cp)
		}
		return c.Memory.Save(ctx, cp, replace)
	})
}

func (c client) Checkpoints(ctx context.Context, user events.UserID) iter.Seq2[reducer.Checkpoint, error] {
	return list(c.w, "list checkpoints", c.Memory.Checkpoints(ctx, user))
}

func (c client) Heads(ctx context.Context) iter.Seq2[events.Head, error] {
	return list(c.w, "list heads", c.Memory.Heads(ctx))
}

// list is a listing: one call, which may fail in the middle.
func list[T any](w *World, op string, all iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		if err := w.call(op, "", func() error { return nil }); err != nil {
			yield(none, err)
			return
		}
		for v, err := range all {
			if err == nil && w.faulty && w.oneIn(100) {
				w.faults++
				yield(none, errFault)
				return
			}
			if !yield(v, err) {
				return
			}
		}
	}
}

// Watch notes that there is news; the host tells the executor in the middle of its build.
func (c client) Watch(_ context.Context, id events.ProgramID, fn func()) (stop func(), err error) {
	t := c.w.current
	err = c.w.call("watch", id, func() error {
		t.watch = fn
		stop = c.Memory.Notify(id, func() { t.news = true })
		return nil
	})
	if err != nil {
		if stop != nil {
			stop()
		}
		return nil, err
	}
	return stop, nil
}
