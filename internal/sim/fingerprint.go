package sim

import (
	"hash/maphash"
	"reflect"
	"strings"
	"sync"

	"github.com/rlaaudgjs5638/hersh/internal/bus/bustest"
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

// begins tells a task what it is about.
func (w *World) begins(t *task, about func(*description)) {
	if w.cfg.small == nil {
		return
	}
	var d description
	about(&d)
	t.tell(w.cfg.small.seed, d)
}

func (t *task) tell(seed maphash.Seed, d description) {
	t.seen.history = mix(seed, t.seen.history, maphash.Bytes(seed, d.text))
	t.seen.numbers = append(t.seen.numbers, d.numbers...)
}

// remember tells a task how a call ended, and what it could see.
func (w *World) remember(t *task, op string, err error) {
	if w.cfg.small == nil {
		return
	}
	seed := w.cfg.small.seed
	var d description
	d.call(op)
	d.flag(err != nil)
	bus := func(of func(bustest.Fingerprints) uint64) {
		if w.cfg.small.bounds.Whole {
			t.seen.exact = mix(seed, t.seen.exact, of(w.mem.Fingerprints(seed)))
		}
	}
	switch word, rest, _ := strings.Cut(op, " "); {
	case err == errFault: // It saw nothing.
	case word == "append":
		bus(func(f bustest.Fingerprints) uint64 { return f.Logs })
	case word == "read", word == "head", op == "list heads":
		d.log(w.truth(w.ids[0]))
		bus(func(f bustest.Fingerprints) uint64 { return f.Logs })
	case word == "load", op == "list checkpoints":
		cp, found, _ := w.mem.Load(background, w.ids[0])
		d.checkpoint(cp, found)
		bus(func(f bustest.Fingerprints) uint64 { return f.Checkpoints })
	case word == "ask", op == "list hosts":
		d.number(w.mem.Fingerprints(seed).Hosts)
	case word == "withdraw":
		d.number(w.mem.Fingerprints(seed).Queues)
	case strings.Contains(rest, "container"), word == "inspect":
		d.docker(&w.docker)
	}
	t.tell(seed, d)
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
