package sim

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/bus/bustest"
	"github.com/rlaaudgjs5638/hersh/internal/executor"
	"github.com/rlaaudgjs5638/hersh/internal/supervisor"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

// Config says what is simulated. Together with its seed it determines a run.
type Config struct {
	Seed        uint64
	Programs    int
	Hosts       int
	Supervisors int
	Steps       int // Steps with faults; after each epoch of them the world comes to rest and is checked.
	Epochs      int
	Hooks       Hooks

	small *small // Somebody chooses each step, in place of chance; nil for a run by its seed.
}

// Small is a small world for a seed: such meet more in few steps than large ones. Their sizes differ from seed to seed.
func Small(seed uint64) Config {
	return Config{
		Seed: seed, Programs: 1 + int(seed%4), Hosts: 1 + int(seed/4%3), Supervisors: 1 + int(seed/12%2),
		Steps: 500, Epochs: 3,
	}
}

// Hooks let tests plant mistakes, to see that they are found. The zero value plants none.
type Hooks struct {
	SupervisorBus func(supervisor.Bus) supervisor.Bus
	HostBus       func(supervisor.HostBus) supervisor.HostBus
	ExecutorBus   func(executor.Bus) executor.Bus
	Host          func(events.HostID, executor.Host, *World) executor.Host
	NoSweep       bool // Supervisors never sweep.
	NoCompare     bool // Executors compare at their start only.
	AckFirst      bool // Work is acknowledged before it is done.
	AckFailed     bool // Work that failed is acknowledged.
	NoWatch       bool // Nobody looks after the hosts.
	NeverAway     bool // Executors are not told that the bus was away.
	StaleLog      bool // Executors read a log no further than the event that their message names.
}

// Result is what a run came to.
type Result struct {
	Seed      uint64
	Steps     int // All that happened, rest included.
	Faults    int
	Events    int // In all logs.
	Trace     []byte
	Violation *Violation // nil when everything held.
}

// Violation is something that does not hold.
type Violation struct {
	Step    int
	Program events.ProgramID // "" when it is of no single program.
	What    string
}

func (v *Violation) Error() string {
	return fmt.Sprintf("step %d: %s %s", v.Step, shortProgram(v.Program), v.What)
}

// proc is a process: a supervisor, or the executor of a host.
type proc struct {
	name     string
	host     events.HostID // "" for a supervisor.
	alive    bool
	sup      *supervisor.Supervisor
	exec     *executor.Executor
	watch    *supervisor.HostWatch
	compared bool                  // An executor's first comparison has tried every container, so that it takes work.
	tried    int                   // The step at which its last comparison began that did.
	dueCheck bool                  // A sweep, or a comparison, is due.
	dueLook  bool                  // A look at the hosts is due.
	dueBlind bool                  // The connection was away, which its watch was not told yet.
	undone   []executor.Leftover   // Of its predecessor.
	exits    []string              // Containers whose end an executor was told of.
	lagged   bool                  // Its last comparison saw less of the logs than there was.
	asked    map[events.HostID]int // The last step at which it was told whether a host is there.
	since    int                   // Step since which it is there: when it started, or could reach the bus again.

	machine
}

// machine is where a process runs. It stays as it is when the process starts anew.
type machine struct {
	cut          bool // It does not reach the bus.
	dockerAway   bool // Its Docker does not answer.
	compareBegan int  // The step at which its last comparison began that succeeded.
	gone         bool // It stays away while the world comes to rest: dead, or cut off.
}

// World is everything in one run.
type World struct {
	cfg     Config
	rng     *rand.Rand
	now     time.Time
	mem     *bustest.Memory
	docker  docker
	procs   []*proc
	tasks   []*task
	current *task
	ids     []events.ProgramID

	serverAway     bool      // Nobody reaches the bus.
	serverLeft     time.Time // When the bus went away the last time.
	serverBack     time.Time // Since when the bus is there.
	serverBackStep int       // The step at which it came back.
	lastBeat       map[events.HostID]time.Time
	cutShort       map[events.HostID]bool // Hosts that were there when the server went away the last time.
	late           []late                 // Calls that are yet to take effect, though their callers have given up.
	lost           map[place]loss         // Where programs were when their host was declared lost.
	expired        map[events.HostID]int  // The last step at which a host was seen without a heartbeat.

	climate   climate
	faulty    bool // Faults strike.
	steps     int
	faults    int
	stale     int // Checkpoints that were made wrong.
	users     int
	trace     bytes.Buffer
	violation *Violation

	truths  map[events.ProgramID]*truth
	acked   []acknowledged
	old     map[events.ProgramID][]reducer.Checkpoint // Saved earlier, for the fault that brings one back.
	explain map[string]bool                           // Containers that ended by a fault.
	metrics metrics
	quiet   *slog.Logger
}

type metrics struct {
	sup  *supervisor.Metrics
	exec *executor.Metrics
}

func newMetrics() metrics {
	reg := prometheus.NewRegistry()
	return metrics{sup: supervisor.NewMetrics(reg), exec: executor.NewMetrics(reg)}
}

// Run simulates a seed to its end or to its first violation.
func Run(cfg Config) Result {
	w := newWorld(cfg)
	for range max(cfg.Epochs, 1) {
		w.chaos()
		w.rest()
		w.checkAtRest()
		if w.violation != nil {
			break
		}
	}
	w.end()
	return w.result()
}

func (w *World) result() Result {
	total := 0
	for _, t := range w.truths {
		total += len(t.log)
	}
	return Result{Seed: w.cfg.Seed, Steps: w.steps, Faults: w.faults, Events: total, Trace: w.trace.Bytes(), Violation: w.violation}
}

func newWorld(cfg Config) *World {
	w := &World{
		cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 1)), now: epoch(),
		lost: map[place]loss{}, lastBeat: map[events.HostID]time.Time{}, cutShort: map[events.HostID]bool{}, expired: map[events.HostID]int{},
		truths: map[events.ProgramID]*truth{}, old: map[events.ProgramID][]reducer.Checkpoint{}, explain: map[string]bool{},
	}
	w.climate = w.newClimate()
	w.mem = bustest.NewMemory(bustest.Config{Now: func() time.Time { return w.now }, HostTTL: hostTTL})
	w.quiet = slog.New(slog.DiscardHandler)
	w.metrics = newMetrics()
	if cfg.small != nil {
		w.metrics = cfg.small.metrics
	}
	for n := range cfg.Programs {
		id, first := bustest.NewProgram("u", n)
		if err := w.mem.Create(background, id, first); err != nil {
			panic(err) // A memory bus has room for a program.
		}
		w.ids = append(w.ids, id)
		w.truths[id] = &truth{at: reducer.NewCheckpoint(id)}
	}
	for n := range cfg.Supervisors {
		w.procs = append(w.procs, &proc{name: fmt.Sprint("s", n+1)})
	}
	for n := range cfg.Hosts {
		name := fmt.Sprint("h", n+1)
		w.procs = append(w.procs, &proc{name: name, host: events.HostID(name)})
	}
	for _, p := range w.procs {
		w.start(p)
	}
	return w
}

// epoch is when every run begins.
func epoch() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }

// hostTTL is how long a heartbeat lasts, as in package bus.
const hostTTL = 30 * time.Second

// start starts a process, which begins with a sweep or a comparison.
func (w *World) start(p *proc) {
	w.tracef("%s starts", p.name)
	*p = proc{name: p.name, host: p.host, alive: true, dueCheck: true, asked: map[events.HostID]int{}, since: w.steps, machine: p.machine}
	w.equip(p)
	if p.exec != nil {
		w.beat(p)
	}
}

// equip makes the production code of a process.
func (w *World) equip(p *proc) {
	b := client{Memory: w.mem, w: w}
	if p.host == "" {
		p.sup = supervisor.New(w.supervisorBus(b), p.name, w.quiet, w.metrics.sup)
		p.watch = supervisor.NewHostWatch(w.hostBus(b), hostTTL, w.quiet, w.now)
		if !w.cfg.Hooks.NoWatch {
			p.sup.UseHosts(p.watch, func() time.Time { return w.now })
		}
		return
	}
	var h executor.Host = host{w: w, id: p.host}
	if w.cfg.Hooks.Host != nil {
		h = w.cfg.Hooks.Host(p.host, h, w)
	}
	var eb executor.Bus = b
	if w.cfg.Hooks.ExecutorBus != nil {
		eb = w.cfg.Hooks.ExecutorBus(b)
	}
	opts := executor.Options{BuildSlots: 2, RunSlots: 2, WithTimeout: w.withTimeout}
	p.exec = executor.New(p.host, eb, h, opts, w.quiet, w.metrics.exec)
}

func (w *World) hostBus(b supervisor.HostBus) supervisor.HostBus {
	if w.cfg.Hooks.HostBus != nil {
		return w.cfg.Hooks.HostBus(b)
	}
	return b
}

func (w *World) supervisorBus(b supervisor.Bus) supervisor.Bus {
	if w.cfg.Hooks.SupervisorBus != nil {
		return w.cfg.Hooks.SupervisorBus(b)
	}
	return b
}

// pick chooses one of n, by the seed; a small world leaves nothing to chance.
func (w *World) pick(n int) int {
	if w.cfg.small != nil {
		return 0
	}
	return w.rng.IntN(n)
}

// oneIn says yes once in n times.
func (w *World) oneIn(n int) bool { return w.rng.IntN(n) == 0 }

func (w *World) tracef(format string, args ...any) {
	if w.cfg.small != nil && !w.cfg.small.traced {
		return
	}
	fmt.Fprintf(&w.trace, "%d %s ", w.steps, w.now.Format("15:04:05.000"))
	fmt.Fprintf(&w.trace, format, args...)
	w.trace.WriteByte('\n')
}

// violate notes what does not hold; the first one counts.
func (w *World) violate(id events.ProgramID, format string, args ...any) {
	if w.violation == nil {
		w.violation = &Violation{Step: w.steps, Program: id, What: fmt.Sprintf(format, args...)}
		w.tracef("VIOLATION %s", w.violation)
	}
}

// end stops everything that is under way.
func (w *World) end() {
	for _, p := range w.procs {
		w.kill(p)
	}
}

// shortProgram is the part of an ID that tells programs of a run apart.
func shortProgram(id events.ProgramID) string {
	parts := strings.Split(string(id), "-")
	if len(parts) < 4 {
		return string(id)
	}
	return "p" + strings.TrimLeft(parts[3][:7], "0") + parts[3][7:]
}
