package sim

import (
	"context"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/rlaaudgjs5638/hersh/internal/bus/bustest"
)

var background = context.Background()

// task is work of a process that is under way: a coroutine that stops at every call through an interface.
type task struct {
	name     string
	proc     *proc
	key      string // No two tasks of a process with the same key are under way at once; "" is none.
	resume   func() (struct{}, bool)
	abandon  func()
	yield    func(struct{}) bool
	crashed  bool
	delivery *bustest.Delivery // What it works on, nil for a timer's.
	news     bool              // The program that a build watches has news.
	watch    func()
	until    time.Time   // While it hangs in a call: when that ends.
	began    int         // The step at which it began.
	lagged   bool        // Something that it read was not up to date.
	next     string      // The call that it stops at.
	seen     seen        // In a small world.
	args     description // Of its next call, as far as the call's name does not say them.
	unheard  bool        // Its answer to the queue will be lost.
}

// crashed is what a task panics with when its process dies: nothing of it goes on.
type crashed struct{}

// spawn begins work. done gets its result, unless the process dies.
func (w *World) spawn(p *proc, name, key string, delivery *bustest.Delivery, work func() error, done func(error)) *task {
	t := &task{name: name, proc: p, key: key, delivery: delivery}
	t.resume, t.abandon = iter.Pull(func(yield func(struct{}) bool) {
		t.yield, t.began = yield, w.steps
		err := t.guard(work)
		if !t.crashed {
			done(err)
		}
	})
	w.tasks = append(w.tasks, t)
	return t
}

func (t *task) guard(work func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(crashed); !ok {
				panic(r)
			}
			t.crashed = true
		}
	}()
	return work()
}

// run lets a task go on to its next call, or to its end.
func (w *World) run(t *task) {
	w.current = t
	_, more := t.resume()
	w.current = nil
	if !more {
		w.tasks = slices.DeleteFunc(w.tasks, func(other *task) bool { return other == t })
	}
	if t.crashed {
		w.kill(t.proc)
	}
}

// runThrough lets a task go on until it has ended, or hangs.
func (w *World) runThrough(t *task) {
	for !w.hangs(t) && slices.Contains(w.tasks, t) {
		w.run(t)
	}
}

func (w *World) hangs(t *task) bool { return w.now.Before(t.until) }

// pause is where a task stops at a call, until the scheduler lets it go on.
func (w *World) pause() {
	t := w.current
	if !t.yield(struct{}{}) {
		panic(crashed{})
	}
}

// kill ends a process with everything that it has under way.
func (w *World) kill(p *proc) {
	p.alive = false
	p.exits, p.undone = nil, nil // It knew of them.
	for _, t := range slices.Clone(w.tasks) {
		if t.proc == p {
			w.current = t
			t.abandon()
		}
	}
	w.current = nil
	w.tasks = slices.DeleteFunc(w.tasks, func(t *task) bool { return t.proc == p })
}

// busy reports whether a process has a task of a key under way, or of one that includes it: a program's includes those of its classes.
func (w *World) busy(p *proc, key string) bool {
	return slices.ContainsFunc(w.tasks, func(t *task) bool {
		return t.proc == p && t.key != "" && (strings.HasPrefix(t.key, key) || strings.HasPrefix(key, t.key))
	})
}

// atWork reports whether a process has anything under way.
func (w *World) atWork(p *proc) bool {
	return slices.ContainsFunc(w.tasks, func(t *task) bool { return t.proc == p })
}

func (w *World) count(p *proc, prefix byte) int {
	n := 0
	for _, t := range w.tasks {
		if t.proc == p && t.name[0] == prefix {
			n++
		}
	}
	return n
}
