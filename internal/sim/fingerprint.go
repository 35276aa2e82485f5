package sim

import (
	"hash/maphash"
	"reflect"
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
	for i, p := range w.procs {
		for _, b := range w.began(p) {
			sum = mix(seed, sum, uint64(i), zeroOrOne(b))
		}
	}
	for _, t := range w.tasks { // In any order.
		of := mix(seed, t.seen.exact, t.seen.history)
		for _, b := range t.beganBefore() {
			of = mix(seed, of, zeroOrOne(b))
		}
		sum += of
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
