package sim_test

import (
	"context"
	"flag"
	"os"
	"os/signal"
	"runtime"
	"testing"

	"github.com/rlaaudgjs5638/hersh/internal/sim"
)

var (
	users    = flag.Int("users", 0, "explore the small world with so many requests of its user, 1 to 4, instead of those of the test")
	faults   = flag.Int("faults", 0, "with -users, and with so many faults, 0 to 2")
	waits    = flag.Int("waits", 0, "with -users, and with time passing so often, 0 to 3")
	wakes    = flag.Int("wakes", 1, "with -users, how many wake-ups the supervisor has in hand at once")
	turns    = flag.Bool("turns", false, "with -users, what was begun goes on until it ends; only the user and faults come between")
	switches = flag.Int("switches", 0, "with -turns, how often something else goes on before, 0 to 3")
	single   = flag.Bool("single", false, "with -users, a process has one thing in hand at a time")
	steady   = flag.Bool("steady", false, "with -users, the server never restarts")
	worlds   = flag.Int("worlds", 100_000_000, "give up after so many")
)

// TestSmallWorld goes through every order of steps of one program on one host.
func TestSmallWorld(t *testing.T) {
	all := []sim.Bounds{{Users: 2, Wakes: 1}}
	if !sim.FewSeeds {
		all = append(all,
			sim.Bounds{Users: 1, Wakes: 4},
			sim.Bounds{Users: 1, Faults: 1, Waits: 1, Wakes: 1, Steady: true},
			sim.Bounds{Users: 2, Faults: 1, Wakes: 1, Turns: true, Steady: true},
			sim.Bounds{Users: 1, Faults: 2, Wakes: 1, Turns: true, Steady: true},
			sim.Bounds{Users: 2, Faults: 1, Wakes: 1, Single: true, Steady: true},
			sim.Bounds{Users: 1, Faults: 2, Wakes: 1, Single: true, Steady: true})
	}
	if *users > 0 {
		all = []sim.Bounds{{Users: *users, Faults: *faults, Waits: *waits, Wakes: *wakes, Turns: *turns, Switches: *switches, Single: *single, Steady: *steady}}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	for _, bounds := range all {
		explore(ctx, t, bounds)
	}
}

func explore(ctx context.Context, t *testing.T, bounds sim.Bounds) {
	t.Helper()
	found, err := sim.Explore(ctx, bounds, sim.Hooks{}, runtime.GOMAXPROCS(0), *worlds, func(e sim.Exploration) {
		t.Logf("%d worlds so far, %d steps between them", e.Worlds, e.Steps)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v: %d worlds, %d steps between them, %d where nothing is left to do, after %d steps at most", bounds, found.Worlds, found.Steps, found.Rests, found.Depth)
	switch {
	case found.Result.Violation != nil:
		t.Errorf("%v\n%s", found.Result.Violation, sim.Shorten(found.Result, 200))
	case !found.Complete:
		t.Errorf("the exploration is not complete: it was interrupted, or there are more worlds")
	}
}

func TestExploreRefusesBounds(t *testing.T) {
	for _, bounds := range []sim.Bounds{
		{Users: 5, Wakes: 1}, {Users: -1, Wakes: 1}, {Faults: 3, Wakes: 1}, {Faults: -1, Wakes: 1}, {Waits: 4, Wakes: 1}, {Waits: -1, Wakes: 1}, {Switches: 4, Wakes: 1}, {Users: 1},
	} {
		if _, err := sim.Explore(t.Context(), bounds, sim.Hooks{}, 1, 1, nil); err == nil {
			t.Errorf("%+v is taken", bounds)
		}
	}
}
