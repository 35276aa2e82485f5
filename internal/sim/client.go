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

// Read may give less than there is, as a replica that lags does.
func (c client) Read(ctx context.Context, id events.ProgramID, after uint64) iter.Seq2[events.Stored, error] {
	return func(yield func(events.Stored, error) bool) {
		var log []events.Stored
		err := c.w.busCall(ctx, "read", id, func() error {
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
			c.w.lags("read")
		}
		if d := c.w.current.delivery; c.w.cfg.Hooks.StaleLog && d != nil && c.w.current.proc.exec != nil {
			log = log[:min(len(log), int(d.Seq))]
		}
		for _, stored := range log {
			if !yield(stored, nil) {
				return
			}
		}
	}
}

func (c client) Append(ctx context.Context, id events.ProgramID, ev events.Event, key string) (seq uint64, err error) {
	lost, isLoss := ev.(events.HostLost)
	if isLoss {
		c.w.checkLoss(id, lost.HostID)
	}
	c.w.current.args.event(id, ev, key)
	err = c.w.busCall(ctx, "append "+string(ev.Type()), id, func() error {
		before := c.w.truth(id).at
		seq, err = c.Memory.Append(background, id, ev, key)
		if isLoss && err == nil && seq > before.Seq {
			c.w.noteLoss(before.State, lost.HostID)
		}
		return err
	})
	if err == nil {
		c.w.acked = append(c.w.acked, acknowledged{id: id, seq: seq, typ: ev.Type(), key: key})
	}
	return seq, err
}

func (c client) PublishEffects(ctx context.Context, m effects.Message) error {
	return c.w.busCall(ctx, "publish "+m.Key()[len(m.ProgramID):]+" "+string(m.Effects[0].Type()), m.ProgramID, func() error {
		return c.Memory.PublishEffects(background, m)
	})
}

func (c client) Load(ctx context.Context, id events.ProgramID) (cp reducer.Checkpoint, found bool, err error) {
	err = c.w.busCall(ctx, "load", id, func() error {
		cp, found, err = c.Memory.Load(ctx, id)
		return err
	})
	return cp, found, err
}

func (c client) Save(ctx context.Context, cp reducer.Checkpoint, replace bool) error {
	id := cp.State.ID
	c.w.current.args.checkpoint(cp, true)
	return c.w.busCall(ctx, "save", id, func() error {
		if old := c.w.old[id]; len(old) == 0 || old[len(old)-1] != cp {
			c.w.old[id] = append(old, cp)
		}
		return c.Memory.Save(ctx, cp, replace)
	})
}

func (c client) Checkpoints(ctx context.Context, user events.UserID) iter.Seq2[reducer.Checkpoint, error] {
	if t := c.w.current; t.name == "compare" { // It has tried every container.
		t.proc.tried, t.proc.lagged = t.began, t.lagged
	}
	return list(ctx, c.w, "list checkpoints", c.Memory.Checkpoints(ctx, user))
}

func (c client) Heads(ctx context.Context) iter.Seq2[events.Head, error] {
	return list(ctx, c.w, "list heads", c.Memory.Heads(ctx))
}

// list is a listing: one call, which may fail in the middle.
func list[T any](ctx context.Context, w *World, op string, all iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		if err := w.busCall(ctx, op, "", func() error { return nil }); err != nil {
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

func (c client) Head(ctx context.Context, id events.ProgramID) (head events.Head, err error) {
	err = c.w.busCall(ctx, "head", id, func() error {
		head, err = c.Memory.Head(ctx, id)
		return err
	})
	return head, err
}

func (c client) DropCheckpoint(ctx context.Context, id events.ProgramID) error {
	return c.w.busCall(ctx, "drop checkpoint", id, func() error { return c.Memory.DropCheckpoint(ctx, id) })
}

func (c client) Beat(ctx context.Context, beat events.Heartbeat) error {
	return c.w.busCall(ctx, "beat", "", func() error {
		c.w.lastBeat[beat.HostID] = c.w.now
		return c.Memory.Beat(background, beat)
	})
}

// Hosts may lack some: a copy of the heartbeats that lags, or whose server was frozen.
func (c client) Hosts(ctx context.Context) (hosts []events.Heartbeat, err error) {
	err = c.w.busCall(ctx, "list hosts", "", func() error {
		hosts, err = c.Memory.Hosts(ctx)
		return err
	})
	if err == nil && len(hosts) > 0 && c.w.faulty && c.w.oneIn(10) {
		hosts = hosts[:c.w.pick(len(hosts))]
		c.w.lags("list of hosts")
	}
	return hosts, err
}

func (c client) HostAlive(ctx context.Context, host events.HostID) (alive bool, err error) {
	err = c.w.busCall(ctx, "ask for "+string(host), "", func() error {
		alive, err = c.Memory.HostAlive(ctx, host)
		return err
	})
	if err == nil {
		c.w.current.proc.asked[host] = c.w.steps
	}
	return alive, err
}

func (c client) Withdraw(ctx context.Context, host events.HostID, before map[events.ProgramID]uint64) (n int, err error) {
	err = c.w.busCall(ctx, "withdraw effects of "+string(host), "", func() error {
		n, err = c.Memory.Withdraw(background, host, before)
		return err
	})
	return n, err
}

func (w *World) lags(what string) {
	w.faults++
	w.current.lagged = true
	w.tracef("%s: that %s lags", w.current.proc.name, what)
}

// Watch notes that there is news; the host tells the executor in the middle of its build.
func (c client) Watch(ctx context.Context, id events.ProgramID, fn func()) (stop func(), err error) {
	t := c.w.current
	err = c.w.busCall(ctx, "watch", id, func() error {
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
