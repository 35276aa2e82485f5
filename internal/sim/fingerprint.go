package sim

import (
	"hash/maphash"
	"reflect"
	"strings"
	"sync"

	"github.com/rlaaudgjs5638/hersh/internal/bus/bustest"
)

// fingerprint is a number that differs, but for one chance in 2^64, where two small worlds differ in anything that what follows depends on. How
// they came to be as they are does not count, but for what a task was answered so far, which is what it goes on from.
func (w *World) fingerprint() uint64 {
	seed := w.cfg.small.seed
	bus := w.mem.Fingerprints(seed)
	sum := mix(seed, bus.Logs, bus.Checkpoints, bus.Queues, bus.Hosts, uint64(w.now.UnixNano()), w.docker.fingerprint(seed))
	for _, p := range w.procs {
		sum = mix(seed, sum, p.fingerprint(seed, w))
	}
	tasks := uint64(0) // In any order.
	for _, t := range w.tasks {
		tasks += mix(seed, t.fingerprint(seed), number(w.hasTurn(t)))
	}
	for _, l := range w.late {
		sum = mix(seed, sum, maphash.String(seed, l.of.name), maphash.String(seed, l.what))
	}
	explained := uint64(0)
	for id := range w.explain {
		explained += maphash.String(seed, id)
	}
	return mix(seed, sum, tasks, explained, w.losses(seed))
}

func mix(seed maphash.Seed, numbers ...uint64) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	for _, n := range numbers {
		maphash.WriteComparable(&h, n)
	}
	return h.Sum64()
}

func (d *docker) fingerprint(seed maphash.Seed) uint64 {
	sum := uint64(d.made)
	for _, c := range d.containers {
		plain := *c
		plain.started = 0 // See proc.fingerprint.
		sum = mix(seed, sum, maphash.Comparable(seed, plain))
	}
	return sum
}

// fingerprint of a process has the order in which it and its comparisons began, as far as checks ask for it, and no numbers of steps.
func (p *proc) fingerprint(seed maphash.Seed, w *World) uint64 {
	sum := maphash.Comparable(seed, struct {
		alive, compared, dueCheck, dueLook, dueBlind, lagged, worked, back bool
		exits                                                              string
	}{p.alive, p.compared, p.dueCheck, p.dueLook, p.dueBlind, p.lagged, p.tried < p.since, p.compareBegan < p.since, strings.Join(p.exits, " ")})
	for _, l := range p.undone {
		sum = mix(seed, sum, l.Seq)
	}
	for _, c := range w.docker.containers {
		sum = mix(seed, sum, number(c.started < p.since), number(c.started < p.compareBegan))
	}
	if p.watch != nil {
		sum = mix(seed, sum, deep(seed, reflect.ValueOf(p.watch).Elem()))
	}
	return sum
}

func (t *task) fingerprint(seed maphash.Seed) uint64 {
	sum := maphash.Comparable(seed, struct {
		proc, name, key, next           string
		news, lagged, unheard           bool
		beforeComparison, beforeConnect bool
		history                         uint64
	}{t.proc.name, t.name, t.key, t.next, t.news, t.lagged, t.unheard, t.began <= t.proc.compareBegan, t.began < t.proc.since, t.history})
	if d := t.delivery; d != nil {
		sum = mix(seed, sum, d.Seq, uint64(d.Delivered), uint64(d.Position()))
	}
	return sum
}

// losses are what the checks remember of hosts that were declared lost.
func (w *World) losses(seed maphash.Seed) uint64 {
	sum := uint64(0)
	for at, l := range w.lost {
		p := w.procOf(at.host)
		one := mix(seed, l.attempt, number(l.step < p.since), number(l.step < p.compareBegan))
		for _, t := range w.tasks {
			one += mix(seed, t.fingerprint(seed), number(l.step < t.began))
		}
		sum += one
	}
	return sum
}

func number(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// remember adds an answer to what a task goes on from: how the call ended, and what it could see.
func (w *World) remember(t *task, op string, err error) {
	if w.cfg.small == nil {
		return
	}
	seed := w.cfg.small.seed
	t.history = mix(seed, t.history, maphash.String(seed, op), number(err != nil), w.seen(op))
}

// seen is what a call can see of the world.
func (w *World) seen(op string) uint64 {
	seed := w.cfg.small.seed
	word, rest, _ := strings.Cut(op, " ")
	bus := func(of func(bustest.Fingerprints) uint64) uint64 { return of(w.mem.Fingerprints(seed)) }
	switch {
	case word == "read", word == "head", word == "append", op == "list heads":
		return bus(func(f bustest.Fingerprints) uint64 { return f.Logs })
	case word == "load", op == "list checkpoints":
		return bus(func(f bustest.Fingerprints) uint64 { return f.Checkpoints })
	case word == "ask", op == "list hosts":
		return bus(func(f bustest.Fingerprints) uint64 { return f.Hosts })
	case word == "withdraw":
		return bus(func(f bustest.Fingerprints) uint64 { return f.Queues })
	case strings.Contains(rest, "container"), word == "inspect":
		return w.docker.fingerprint(seed)
	}
	return 0
}

// deep is the fingerprint of a value and all that it holds, but for locks, channels, functions and whatever hides behind an interface.
func deep(seed maphash.Seed, v reflect.Value) uint64 {
	sum := uint64(v.Kind())
	switch v.Kind() {
	case reflect.Bool:
		return mix(seed, sum, number(v.Bool()))
	case reflect.Int, reflect.Int64:
		return mix(seed, sum, uint64(v.Int()))
	case reflect.Uint64:
		return mix(seed, sum, v.Uint())
	case reflect.String:
		return mix(seed, sum, maphash.String(seed, v.String()))
	case reflect.Map:
		if v.IsNil() {
			return sum
		}
		for each := v.MapRange(); each.Next(); {
			sum += mix(seed, deep(seed, each.Key()), deep(seed, each.Value()))
		}
		return mix(seed, sum)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[sync.Mutex]() {
			return sum
		}
		for i := range v.NumField() {
			sum = mix(seed, sum, deep(seed, v.Field(i)))
		}
		return sum
	case reflect.Interface, reflect.Chan, reflect.Func, reflect.Pointer:
		return sum // The bus, the logger, the place of a time.
	}
	panic("there is no fingerprint of a " + v.Type().String())
}
