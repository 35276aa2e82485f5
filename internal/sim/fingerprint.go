package sim

import (
	"hash/maphash"
	"reflect"
	"strings"
	"sync"
)

// fingerprint is a number that differs, but for one chance in 2^64, where two small worlds differ in anything that what follows depends on. Worlds
// that go on alike have the same: see description. An exact one differs where anything differs that could be seen, numbers and the past too.
func (w *World) fingerprint(exact bool) uint64 {
	d, known := w.describe()
	if known && !exact {
		return d.print(w.cfg.small.seed, d.names())
	}
	seed := w.cfg.small.seed
	bus := w.mem.Fingerprints(seed)
	sum := mix(seed, bus.Logs, bus.Checkpoints, bus.Queues, uint64(w.docker.made), d.print(seed, d.raw()))
	for _, t := range w.tasks { // In any order.
		sum += mix(seed, t.seen.exact, t.seen.history)
	}
	return sum
}

func mix(seed maphash.Seed, numbers ...uint64) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	for _, n := range numbers {
		maphash.WriteComparable(&h, n)
	}
	return h.Sum64()
}

// seen is what a task was told so far, which is what it goes on from.
type seen struct {
	history uint64 // What it was like.
	numbers []number
	exact   uint64 // Kept for exact fingerprints only.
}

// tell notes what a task is told, in a small world.
func (w *World) tell(t *task, what func(*description)) {
	if w.cfg.small == nil {
		return
	}
	var d description
	what(&d)
	t.seen.history = mix(w.cfg.small.seed, t.seen.history, maphash.Bytes(w.cfg.small.seed, d.text))
	t.seen.numbers = append(t.seen.numbers, d.numbers...)
}

// remember tells a task how a call ended, and what it could see.
func (w *World) remember(t *task, op string, err error) {
	w.tell(t, func(d *description) {
		d.call(op)
		d.flag(err != nil)
		if err != errFault {
			w.describeSeen(d, op)
		}
	})
	if s := w.cfg.small; s != nil && s.bounds.Whole {
		bus := w.mem.Fingerprints(s.seed)
		t.seen.exact = mix(s.seed, t.seen.exact, bus.Logs, bus.Checkpoints)
	}
}

// describeSeen describes what a call can see of the world.
func (w *World) describeSeen(d *description, op string) {
	switch word, rest, _ := strings.Cut(op, " "); {
	case word == "read", word == "head", op == "list heads":
		d.log(w.truth(w.ids[0]))
	case word == "load", op == "list checkpoints":
		cp, found, _ := w.mem.Load(background, w.ids[0])
		d.checkpoint(cp, found)
	case word == "ask", op == "list hosts":
		d.number(w.mem.Fingerprints(w.cfg.small.seed).Hosts)
	case word == "withdraw":
		d.number(w.mem.Fingerprints(w.cfg.small.seed).Queues)
	case strings.Contains(rest, "container"), word == "inspect":
		d.docker(&w.docker)
	}
}

func zeroOrOne(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// deep is the fingerprint of a value and all that it holds, but for locks, channels, functions and whatever hides behind an interface.
func deep(seed maphash.Seed, v reflect.Value) uint64 {
	sum := uint64(v.Kind())
	switch v.Kind() {
	case reflect.Bool:
		return mix(seed, sum, zeroOrOne(v.Bool()))
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
