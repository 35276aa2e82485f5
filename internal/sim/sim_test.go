package sim_test

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
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
	var steps, faults, events int
	run := func(seed uint64) {
		result := sim.Run(sim.Small(seed))
		steps, faults, events = steps+result.Steps, faults+result.Faults, events+result.Events
		report(t, result)
		if again := sim.Run(sim.Small(seed)); !bytes.Equal(result.Trace, again.Trace) {
			t.Fatalf("seed %d does not give the same trace twice:\n%s", seed, firstDifference(result.Trace, again.Trace))
		}
	}
	for n := range *seeds {
		run(*first + uint64(n))
	}
	t.Logf("seeds %d to %d", *first, *first+uint64(*seeds)-1)
	if *fresh > 0 {
		from, n := rand.Uint64()>>16, uint64(0)
		for until := time.Now().Add(*fresh); time.Now().Before(until); n++ {
			run(from + n)
		}
		t.Logf("fresh seeds %d to %d", from, from+n-1)
	}
	t.Logf("%d steps, %d faults, %d events; each run twice, %.0f steps/s",
		steps, faults, events, 2*float64(steps)/time.Since(began).Seconds())
}

// report fails the test with a violation, its seed, and what led to it.
func report(t *testing.T, result sim.Result) {
	t.Helper()
	if result.Violation != nil {
		result = sim.Shrink(sim.Small(result.Seed), result)
		t.Fatalf("seed %d: %v\nreproduce: go test ./internal/sim -run TestSeeds -seed %d -trace\n%s",
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
