package sim

import (
	"context"
	"errors"
	"hash/maphash"
	"slices"
	"sync"
)

// Exploration is what came of Explore.
type Exploration struct {
	Complete bool   // Every order of steps was gone through; else a violation or a limit came first.
	Worlds   int    // In which there is a choice, or nothing left to do, and that go on differently.
	Steps    int    // From one world to another.
	Rests    int    // Those with nothing left to do. From each of them one run came to rest and was checked.
	Depth    int    // The most steps until there was nothing left to do.
	Result   Result // Of the run with the violation, if there is one.
}

// Explore goes through every order of steps of a small world: one program, one host and one supervisor. Where different ways lead to worlds that
// go on alike, one is followed. What is under way cannot be copied, so each run begins where nothing was, and repeats the choices from there on.
//
// It ends at the first violation, when ctx ends, or after maxWorlds. Now and then it tells how far it has come; nil hears nothing.
func Explore(ctx context.Context, bounds Bounds, hooks Hooks, workers, maxWorlds int, tell func(Exploration)) (Exploration, error) {
	if !bounds.valid() {
		return Exploration{}, errors.New("a small world has 0 to 4 requests, 0 to 2 faults, 0 to 3 waits, 0 to 3 switches, and at least one wake-up in hand")
	}
	e := newExplorer(bounds, hooks, maxWorlds)
	e.tell = tell
	return e.explore(ctx, workers), nil
}

func newExplorer(bounds Bounds, hooks Hooks, maxWorlds int) *explorer {
	e := &explorer{
		bounds: bounds, hooks: hooks, maxWorlds: maxWorlds, seed: maphash.MakeSeed(), seen: map[uint64]coverage{}, todo: make([]beginning, 1),
	}
	e.more.L = &e.mu
	return e
}

func (e *explorer) explore(ctx context.Context, workers int) Exploration {
	stop := context.AfterFunc(ctx, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.end()
	})
	defer stop()
	var group sync.WaitGroup
	for range max(workers, 1) {
		group.Go(e.work)
	}
	group.Wait()
	if e.violated != nil {
		e.found.Result = e.repeat(e.violated)
	}
	e.found.Complete = !e.ended
	return e.found
}

// explorer is an exploration that is under way.
type explorer struct {
	bounds    Bounds
	hooks     Hooks
	maxWorlds int
	seed      maphash.Seed
	tell      func(Exploration)
	visit     func(*World) // Gets every world on the way, where a test looks; nil else.

	mu       sync.Mutex
	more     sync.Cond
	todo     []beginning // That are to be followed. The last is next.
	busy     int         // Workers that follow one.
	seen     map[uint64]coverage
	ended    bool
	violated []byte
	found    Exploration
}

// beginning is that of a run.
type beginning struct {
	path []byte // Its choices, from the world that every run begins with.
	base *World // The one that the first done of them lead to, never to be changed; nil is that every run begins with.
	done int
}

// end lets the workers end. The lock is held.
func (e *explorer) end() {
	e.ended = true
	e.more.Broadcast()
}

func (e *explorer) work() {
	shared := newMetrics()
	for {
		from, ok := e.next()
		if !ok {
			return
		}
		violated := e.follow(from, shared)
		e.mu.Lock()
		e.busy--
		if violated != nil {
			e.violated = violated
			e.end()
		}
		e.more.Broadcast()
		e.mu.Unlock()
	}
}

// next waits for a beginning to follow; there is none when nobody follows any.
func (e *explorer) next() (from beginning, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for len(e.todo) == 0 && e.busy > 0 && !e.ended {
		e.more.Wait()
	}
	if len(e.todo) == 0 || e.ended {
		return beginning{}, false
	}
	e.busy++
	last := len(e.todo) - 1
	from = e.todo[last]
	e.todo = slices.Delete(e.todo, last, last+1)
	return from, true
}

// newWorld is the one that every run begins with: all have started, and there is nothing to do.
func (e *explorer) newWorld(shared metrics, traced bool) *World {
	s := &small{bounds: e.bounds, left: e.bounds, seed: e.seed, metrics: shared, traced: traced}
	w := newWorld(Config{Programs: 1, Hosts: 1, Supervisors: 1, Hooks: e.hooks, small: s})
	w.finish()
	return w
}

// follow repeats a beginning and goes on with it, always by the first choice, until it comes to rest or to a world that was seen. It returns the
// choices that led to a violation.
func (e *explorer) follow(from beginning, shared metrics) (violated []byte) {
	w := e.begin(from.base, shared)
	defer w.end()
	for _, choice := range from.path[from.done:] {
		w.make(w.chosen(choice))
	}
	rests := false
	path := from.path
	for w.violation == nil {
		if len(path) > longest {
			w.violate(w.ids[0], "work does not end")
			return path
		}
		if e.visit != nil {
			e.visit(w)
		}
		all := w.moves()
		// A world with one choice is followed without a look at whether it was: it is not kept.
		if rests || (len(all) > 1 || all[0].what == comesToRest || e.bounds.Whole || e.bounds.Exact) && !e.isNew(w, &from, path, all) {
			return nil
		}
		rests = all[0].what == comesToRest
		path = append(path, all[0].choice)
		w.make(all[0])
	}
	return path
}

func (e *explorer) begin(base *World, shared metrics) *World {
	if base != nil {
		return base.clone(shared)
	}
	return e.newWorld(shared, false)
}

// isNew notes a world, and all the choices in it but the first, unless it was seen before with as much left.
func (e *explorer) isNew(w *World, from *beginning, path []byte, all []move) bool {
	print, left := w.fingerprint(e.bounds.Exact), w.cfg.small.left
	e.mu.Lock()
	defer e.mu.Unlock()
	covered, seen := e.seen[print]
	if covered.has(left) || e.ended {
		return false
	}
	covered.add(left)
	e.seen[print] = covered
	if !seen {
		e.found.Worlds++
		if e.tell != nil && e.found.Worlds%worldsBetweenTelling == 0 {
			e.tell(e.found)
		}
		if all[0].what == comesToRest {
			e.found.Rests++
		}
	}
	e.found.Steps += len(all)
	e.found.Depth = max(e.found.Depth, len(path))
	if len(all) > 1 && w.mayBeCloned() && !e.bounds.Exact {
		from.base, from.done = w.clone(metrics{}), len(path)
	}
	for _, m := range slices.Backward(all[1:]) {
		e.todo = append(e.todo, beginning{append(path[:len(path):len(path)], m.choice), from.base, from.done})
	}
	e.more.Broadcast()
	if e.found.Worlds >= e.maxWorlds {
		e.end()
	}
	return true
}

// longest is how many steps a run may take; none that ends comes near.
const longest = 2000

// worldsBetweenTelling pass in some minutes.
const worldsBetweenTelling = 100_000

const mostUsers, mostFaults, mostWaits, mostSwitches = 4, 2, 3, 3

func (b Bounds) valid() bool {
	within := func(n, most int) bool { return n >= 0 && n <= most }
	return within(b.Users, mostUsers) && within(b.Faults, mostFaults) && within(b.Waits, mostWaits) && within(b.Switches, mostSwitches) && b.Wakes > 0
}

// coverage says with how much left a world was followed: of switches by index, of the rest by bits.
type coverage [mostSwitches + 1]uint64

func (c *coverage) has(left Bounds) bool { return c[left.Switches]&bit(left) != 0 }

// add adds all that have no more left of anything: what can come then can come now.
func (c *coverage) add(left Bounds) {
	for switches := range left.Switches + 1 {
		for users := range left.Users + 1 {
			for faults := range left.Faults + 1 {
				for waits := range left.Waits + 1 {
					c[switches] |= bit(Bounds{Users: users, Faults: faults, Waits: waits})
				}
			}
		}
	}
}

// bit stands for what is left of users, faults and waits, among 60.
func bit(left Bounds) uint64 {
	return 1 << (left.Users + (mostUsers+1)*(left.Faults+(mostFaults+1)*left.Waits))
}

// repeat makes choices again, with a trace.
func (e *explorer) repeat(path []byte) Result {
	w := e.newWorld(newMetrics(), true)
	for _, choice := range path {
		all := w.allMoves()
		w.tracef("%d of %d: %s", choice, len(all), all[choice].what)
		w.make(all[choice])
	}
	w.end()
	return w.result()
}
