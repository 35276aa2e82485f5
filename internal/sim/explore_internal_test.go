package sim

import (
	"context"
	"hash/maphash"
	"maps"
	"runtime"
	"slices"
	"sync"
	"testing"
)

// TestSmallWorldLeavesNothingOut holds an exploration that follows worlds of one kind once, and leaves out ways, against one that follows every
// way to every world: both come to worlds of the same kinds, with as much left.
func TestSmallWorldLeavesNothingOut(t *testing.T) {
	all := []Bounds{{Users: 1, Wakes: 1}, {Users: 2, Wakes: 1, Turns: true}}
	if !FewSeeds {
		all = append(all,
			Bounds{Users: 1, Wakes: 4}, Bounds{Users: 2, Wakes: 1}, Bounds{Users: 1, Faults: 1, Waits: 1, Wakes: 1, Turns: true},
			Bounds{Users: 1, Faults: 2, Wakes: 1, Turns: true, Steady: true},
			Bounds{Users: 2, Wakes: 1, Single: true, Steady: true}, Bounds{Users: 1, Faults: 1, Wakes: 1, Single: true, Steady: true},
			Bounds{Users: 2, Wakes: 1, Turns: true, Switches: 1}, Bounds{Users: 1, Faults: 1, Wakes: 1, Turns: true, Switches: 1, Steady: true})
	}
	for _, bounds := range all {
		whole := bounds
		whole.Whole, whole.Exact = true, true
		comeToTheSame(t, bounds, whole)
	}
}

// TestSmallWorldLeavesOutNoOrder holds only the orders against each other, of more requests and faults: worlds of one kind are followed once in both.
func TestSmallWorldLeavesOutNoOrder(t *testing.T) {
	if FewSeeds {
		t.Skip("it takes too long with the race detector; the build without it does it")
	}
	for _, bounds := range []Bounds{
		{Users: 2, Faults: 1, Wakes: 1, Single: true, Steady: true},
		{Users: 1, Faults: 2, Wakes: 1, Single: true, Steady: true},
		{Users: 1, Faults: 1, Wakes: 1, Single: true},
	} {
		whole := bounds
		whole.Whole = true
		comeToTheSame(t, bounds, whole)
	}
}

// Whether a container may be stopped is checked by the log. An append before the stop and one after it lead to the same world, so that no world
// that is met tells whether both orders were.
func TestAStopIsOrderedAmongAppends(t *testing.T) {
	stop, late := accessOf("stop container c1"), accessOf("append RuntimeStarted")
	if !stop.conflicts(late) || !late.conflicts(stop) {
		t.Error("one order of a stop and an append is left out")
	}
	if accessOf("remove container c1").conflicts(late) {
		t.Error("a removal, which no check looks at the log for, counts as one")
	}
}

func comeToTheSame(t *testing.T, bounds, whole Bounds) {
	t.Helper()
	seed := maphash.MakeSeed()
	short, few := kindsMet(t, bounds, seed)
	long, many := kindsMet(t, whole, seed)
	t.Logf("%+v: %d kinds; %d worlds instead of %d", bounds, len(long), few.Worlds, many.Worlds)
	if !maps.Equal(short, long) || few.Worlds >= many.Worlds {
		t.Errorf("%+v: %d kinds in %d worlds, and %d kinds in %d worlds when every way is followed: %d differ",
			bounds, len(short), few.Worlds, len(long), many.Worlds, differences(short, long))
	}
}

func differences(a, b map[uint64]coverage) (n int) {
	for print, left := range b {
		if a[print] != left {
			n++
		}
	}
	for print := range a {
		if _, found := b[print]; !found {
			n++
		}
	}
	return n
}

// kindsMet explores, and returns the kinds of worlds with nothing under way that it came to, with how much was left then.
func kindsMet(t *testing.T, bounds Bounds, seed maphash.Seed) (met map[uint64]coverage, found Exploration) {
	t.Helper()
	met = map[uint64]coverage{}
	var mu sync.Mutex
	e := newExplorer(bounds, Hooks{}, 10_000_000)
	e.seed = seed
	e.visit = func(w *World) {
		isDown := func(p *proc) bool { return !p.alive } // It starts at once, but where every way is followed.
		if len(w.tasks) > 0 || len(w.late) > 0 || slices.ContainsFunc(w.procs, isDown) {
			return
		}
		print, left := w.fingerprint(false), w.cfg.small.left
		mu.Lock()
		defer mu.Unlock()
		covered := met[print]
		covered.add(left)
		met[print] = covered
	}
	found = e.explore(t.Context(), runtime.GOMAXPROCS(0))
	if !found.Complete || found.Result.Violation != nil {
		t.Fatalf("%+v: the exploration is not complete, or found %v", bounds, found.Result.Violation)
	}
	return met, found
}

// TestSmallWorldFindsMistakes shows that an exploration can fail. What a single host with a bus that is never away cannot get wrong is for
// TestPlantedMistakesAreFound.
func TestSmallWorldFindsMistakes(t *testing.T) {
	if FewSeeds {
		t.Skip("it takes too long with the race detector; the build without it does it")
	}
	all := mistakes()
	for _, name := range []string{
		"work is acknowledged before it is done",
		"work that failed is acknowledged",
		"no sweep",
		"a sweep lists nothing",
		"no comparison but at the start",
		"checkpoints are saved before effects go out",
		"a publication that failed counts",
		"results say no attempt and no host",
		"result keys without the sequence",
		"a failing read is taken for no program",
		"a failing publication counts",
		"dead containers are taken for alive",
		"a start makes a container each time",
		"what could not be tried counts as done",
	} {
		hooks, planted := all[name]
		if !planted {
			t.Fatalf("there is no mistake %q", name)
		}
		bounds := Bounds{Users: 2, Faults: 1, Waits: 1, Wakes: 1, Steady: true}
		found, err := Explore(context.Background(), bounds, hooks, runtime.GOMAXPROCS(0), 100_000, nil)
		if err != nil || found.Result.Violation == nil {
			t.Errorf("%s: not found in %d worlds (%v)", name, found.Worlds, err)
			continue
		}
		t.Logf("%s: found in the first %d worlds: %.200v", name, found.Worlds, found.Result.Violation)
	}
}
