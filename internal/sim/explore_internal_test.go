package sim

import (
	"context"
	"runtime"
	"testing"
)

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
		found, err := Explore(context.Background(), bounds, hooks, runtime.GOMAXPROCS(0), 20_000)
		if err != nil || found.Result.Violation == nil {
			t.Errorf("%s: not found in %d worlds (%v)", name, found.Worlds, err)
			continue
		}
		t.Logf("%s: found in the first %d worlds: %.200v", name, found.Worlds, found.Result.Violation)
	}
}
