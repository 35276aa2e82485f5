package sim

import (
	"context"
	"time"

	"github.com/rlaaudgjs5638/hersh/events"
)

// side is what a call goes to.
type side int

const (
	theBus side = iota
	theDocker
)

// late is a call that takes effect after its caller has given up: it is on its way, or with a server that is busy.
type late struct {
	what string
	of   *proc
	on   side
	args description // In a small world, beside what its name says.
	do   func()
}

func (w *World) busCall(ctx context.Context, op string, id events.ProgramID, do func() error) error {
	return w.call(ctx, theBus, op, id, do)
}

func (w *World) dockerCall(ctx context.Context, op string, id events.ProgramID, do func() error) error {
	return w.call(ctx, theDocker, op, id, do)
}

// call is one call through an interface: others may go on before it, and faults strike.
func (w *World) call(ctx context.Context, on side, op string, id events.ProgramID, do func() error) error {
	t := w.current
	t.next = op
	w.pause()
	defer func() { t.args = description{} }()
	if err := ctx.Err(); err != nil {
		return err
	}
	f := w.callFault()
	if f == none && w.unreachable(t.proc, on) {
		f = hangBefore
		if w.pick(2) == 0 {
			f = failBefore // The connection is known to be gone.
		}
	}
	w.tracef("%s %s: %s %s%s", t.proc.name, t.name, op, shortProgram(id), f)
	if f != none {
		w.remember(t, op+string(f), errFault)
	}
	switch f {
	case crashBefore:
		panic(crashed{})
	case failBefore:
		return errFault
	case hangBefore:
		w.hang(ctx, on)
		return errFault
	case failLate:
		w.late = append(w.late, late{what: op + " " + shortProgram(id), of: t.proc, on: on, args: t.args, do: func() { _ = do() }})
		w.hang(ctx, on)
		return errFault
	}
	err := do()
	if f == none {
		w.remember(t, op, err)
	}
	switch f {
	case crashAfter:
		panic(crashed{})
	case hangAfter:
		w.hang(ctx, on)
		return errFault
	case failAfter:
		return errFault
	}
	return err
}

// unreachable reports whether a process gets no answer from the bus, or from its Docker.
func (w *World) unreachable(p *proc, on side) bool {
	if on == theDocker {
		return p.dockerAway
	}
	return p.cut || w.serverAway
}

// hang lets the current task wait for an answer that does not come: as long as its call is patient, or its context allows.
func (w *World) hang(ctx context.Context, on side) {
	limits := []time.Duration{5 * time.Second, 10 * time.Second, 40 * time.Second}
	if on == theDocker {
		limits = []time.Duration{10 * time.Second, 40 * time.Second, 150 * time.Second}
	}
	if w.cfg.small != nil {
		return // Time does not pass there while anything is under way.
	}
	t := w.current
	t.until = w.now.Add(limits[w.pick(len(limits))])
	if deadline, ok := ctx.Deadline(); ok && deadline.Before(t.until) {
		t.until = deadline
	}
	w.pause()
}

// bounded is a context that ends by the clock of the simulation. Nobody waits for its end: calls look at it.
type bounded struct {
	context.Context
	w     *World
	until time.Time
}

func (b bounded) Deadline() (time.Time, bool) { return b.until, true }

func (b bounded) Err() error {
	if b.w.now.Before(b.until) {
		return b.Context.Err()
	}
	return context.DeadlineExceeded
}

func (w *World) withTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return bounded{Context: ctx, w: w, until: w.now.Add(d)}, func() {}
}

// arrive lets a call that is late take effect.
func (w *World) arrive() bool {
	for i, l := range w.late {
		if !w.unreachable(l.of, l.on) {
			w.arriveAt(i)
			return true
		}
	}
	return false
}

func (w *World) arriveAt(i int) {
	l := w.late[i]
	w.late = append(w.late[:i:i], w.late[i+1:]...)
	w.tracef("late, of %s: %s", l.of.name, l.what)
	l.do()
}
