package sim_test

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rlaaudgjs5638/hersh/internal/sim"
)

var (
	seed  = flag.Uint64("seed", 0, "run this seed only")
	seeds = flag.Int("seeds", usual(80, 5), "how many seeds to run, beginning at -first")
	first = flag.Uint64("first", 1, "the first of the seeds")
	fresh = flag.Duration("fresh", usual(4*time.Second, time.Second), "how long to go on with seeds that nobody has tried")
	trace = flag.Bool("trace", false, "with -seed, show the whole trace")
)

func usual[T any](value, few T) T {
	if sim.FewSeeds {
		return few
	}
	return value
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSeeds(t *testing.T) {
	if *seed != 0 {
		result := sim.Run(sim.Small(*seed))
		if *trace {
			t.Logf("%s", result.Trace)
		}
		report(t, result)
		return
	}
	began := time.Now()
	var total totals
	total.run(t, *first, func(n int) bool { return n < *seeds })
	t.Logf("seeds %d to %d", *first, *first+uint64(total.seeds)-1)
	if *fresh > 0 && !t.Failed() {
		from, before := rand.Uint64()>>16, total.seeds
		t.Logf("fresh seeds from %d on", from)
		until := time.Now().Add(*fresh)
		total.run(t, from, func(int) bool { return time.Now().Before(until) })
		t.Logf("%d fresh seeds", total.seeds-before)
	}
	t.Logf("%d seeds, %d steps, %d faults, %d events; each run twice, %.0f steps/s",
		total.seeds, total.steps, total.faults, total.events, 2*float64(total.steps)/time.Since(began).Seconds())
}

// totals is what was simulated.
type totals struct {
	mu                           sync.Mutex
	seeds, steps, faults, events int
}

// run simulates seeds on all cores, from one on, as long as more says so of the number that were begun, and none is violated.
func (total *totals) run(t *testing.T, from uint64, more func(begun int) bool) {
	var workers sync.WaitGroup
	begun := 0
	next := func() (uint64, bool) {
		total.mu.Lock()
		defer total.mu.Unlock()
		if t.Failed() || !more(begun) {
			return 0, false
		}
		begun++
		return from + uint64(begun) - 1, true
	}
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for seed, ok := next(); ok; seed, ok = next() {
				total.runOne(t, seed)
			}
		})
	}
	workers.Wait()
}

func (total *totals) runOne(t *testing.T, seed uint64) {
	result := sim.Run(sim.Small(seed))
	again := sim.Run(sim.Small(seed))
	total.mu.Lock()
	defer total.mu.Unlock()
	total.seeds++
	total.steps, total.faults, total.events = total.steps+result.Steps, total.faults+result.Faults, total.events+result.Events
	report(t, result)
	if !bytes.Equal(result.Trace, again.Trace) {
		t.Errorf("seed %d does not give the same trace twice:\n%s", seed, firstDifference(result.Trace, again.Trace))
	}
}

// report fails the test with a violation, its seed, and what led to it.
func report(t *testing.T, result sim.Result) {
	t.Helper()
	if result.Violation != nil {
		result = sim.Shrink(sim.Small(result.Seed), result)
		t.Errorf("seed %d: %v\nreproduce: go test ./internal/sim -run TestSeeds -seed %d -trace\n%s",
			result.Seed, result.Violation, result.Seed, sim.Shorten(result, 70))
	}
}

func firstDifference(a, b []byte) string {
	one, other := strings.Split(string(a), "\n"), strings.Split(string(b), "\n")
	for i := range min(len(one), len(other)) {
		if one[i] != other[i] {
			return fmt.Sprintf("line %d:\n%s\n%s", i, one[i], other[i])
		}
	}
	return "one is longer"
}
