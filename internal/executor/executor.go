package executor

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/keylock"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

const (
	compareEvery = 30 * time.Second
	settleLimit  = time.Minute     // For one container in a comparison.
	beatEvery    = 3 * time.Second // Less than a third of the least TTL of a heartbeat.
	retryAfter   = time.Second     // Between tries of a comparison, where it doubles, or of Docker's event stream.
	exitBuffer   = 256             // Exits that wait to be settled; past it a comparison finds them.
)

var (
	// errNotDone says that the host could not try an effect to its end; it comes again.
	errNotDone = errors.New("the host could not run it to its end")
	// errAway says that this host must compare before it takes work: it may have been lost meanwhile, and its programs be elsewhere.
	errAway = errors.New("the host was cut off and has not yet compared its containers with the logs")
	// errUnwanted is the cause of the end of an effect that the log does not await any more.
	errUnwanted = errors.New("the program was stopped, or is built elsewhere")
)

// Bus is what an executor needs of the bus; package bus documents the methods.
type Bus interface {
	Read(ctx context.Context, id events.ProgramID, after uint64) iter.Seq2[events.Stored, error]
	Head(ctx context.Context, id events.ProgramID) (events.Head, error)
	Append(ctx context.Context, id events.ProgramID, ev events.Event, key string) (uint64, error)
	// Watch calls fn, one call at a time, after each event of a program that is stored from now on, until stop is called, which
	// waits for a call that is under way.
	Watch(ctx context.Context, id events.ProgramID, fn func()) (stop func(), err error)

	Effects(ctx context.Context, host events.HostID, class events.Class, workers int, open func() bool, handle func(context.Context, events.ProgramID, uint64) error) error
	Checkpoints(ctx context.Context, user events.UserID) iter.Seq2[reducer.Checkpoint, error]
	Reconnected(ctx context.Context) <-chan struct{}
	Beat(ctx context.Context, beat events.Heartbeat) error
	Drained(ctx context.Context, host events.HostID) (bool, error)
	Deletions(ctx context.Context) iter.Seq2[events.ProgramID, error]
}

// Host is what an executor needs of the machine that it runs programs on.
type Host interface {
	effects.EffectHandler
	// Containers returns the containers of this host, running and dead.
	Containers(ctx context.Context) ([]effects.Container, error)
	// Adopt takes up again what belongs to a running container, such as keeping its output. Doing it twice changes nothing.
	Adopt(ctx context.Context, c effects.Container) error
	// Exits calls ended for each container of this host that ends, until ctx does or the source of events breaks. It calls
	// connected once nothing is missed any more. It calls neither after it has returned.
	Exits(ctx context.Context, connected func(), ended func(effects.Container)) error
	// End kills a running container and leaves it there; its exit then carries the reason. One that has ended is fine.
	End(ctx context.Context, c effects.Container, reason string) error
	// Remains returns the programs of which this host has anything besides containers: images, folders.
	Remains(ctx context.Context) ([]events.ProgramID, error)
	// Forget removes the images and the folders of a program. Doing it again is fine.
	Forget(ctx context.Context, id events.ProgramID) error
	// Describe says what the host is, and what keeps it from working.
	Describe(ctx context.Context) events.Heartbeat
}

// Options say how much an executor takes on.
type Options struct {
	BuildSlots int             // Builds of programs without a host at once; as many rebuilds of its own programs may run beside them.
	RunSlots   int             // Starts and stops at once.
	Capacity   events.Capacity // What programs without a host are taken for. Those that are here start in any case.
	Version    string          // Of Hersh, for the heartbeat.
	FenceAfter time.Duration   // For how long the bus may take no heartbeat before all containers are ended; 0 is for ever.
	// Uptime is the clock by which FenceAfter is measured, from any beginning. nil is one that a jump of the wall clock does not move, but
	// that stands still while the machine is suspended.
	Uptime func() time.Duration
	// WithTimeout bounds a context; nil is context.WithTimeout. A simulation has a clock of its own.
	WithTimeout func(context.Context, time.Duration) (context.Context, context.CancelFunc)
}

// Executor runs effects on one host. It is safe for concurrent use.
type Executor struct {
	id      events.HostID
	bus     Bus
	host    Host
	opts    Options
	log     *slog.Logger
	metrics *Metrics
	locks   keylock.Locks
	doubts  doubts
	admit   *admission
	started time.Time
	// lastBeat is when, by Uptime, the last heartbeat was sent that the bus took.
	lastBeat atomic.Int64
	// outages counts how often the bus was away, compared those of them after which a comparison has begun that tried every container.
	outages, compared atomic.Uint64
}

// New returns the executor of a host. No two executors that run at once may have the same ID.
func New(id events.HostID, bus Bus, host Host, opts Options, log *slog.Logger, metrics *Metrics) *Executor {
	if opts.WithTimeout == nil {
		opts.WithTimeout = context.WithTimeout
	}
	started := time.Now()
	if opts.Uptime == nil {
		opts.Uptime = func() time.Duration { return time.Since(started) }
	}
	opts.BuildSlots, opts.RunSlots = max(opts.BuildSlots, 1), max(opts.RunSlots, 1)
	return &Executor{
		id: id, bus: bus, host: host, opts: opts, log: log.With("host", id), metrics: metrics,
		admit: newAdmission(opts.BuildSlots, opts.Capacity, time.Now), started: started,
	}
}

// Run works until ctx ends, and returns when everything in hand is finished or handed back. Containers go on running.
func (e *Executor) Run(ctx context.Context) error {
	var group sync.WaitGroup
	e.lastBeat.Store(int64(e.opts.Uptime()))
	compareNow := make(chan struct{}, 1)
	beatNow := make(chan struct{}, 1)
	group.Go(func() { e.beatLoop(ctx, beatNow) })
	group.Go(func() { e.drainLoop(ctx, beatNow) })
	group.Go(func() { e.fenceLoop(ctx) })
	group.Go(func() { e.awayLoop(ctx, compareNow) })
	e.compareUntilTried(ctx) // What is nobody's goes before new work comes.

	exits := make(chan effects.Container, exitBuffer)
	group.Go(func() { e.exitLoop(ctx, exits, compareNow) })
	group.Go(func() { e.settleLoop(ctx, exits) })
	group.Go(func() { e.compareLoop(ctx, compareNow) })
	group.Go(func() { e.resume(ctx) })
	for _, q := range []struct {
		host    events.HostID
		class   events.Class
		workers int
		open    func() bool
	}{
		{"", events.ClassBuild, e.opts.BuildSlots, e.admit.open},
		{e.id, events.ClassBuild, e.opts.BuildSlots, nil},
		{"", events.ClassRun, 1, nil}, // Rare: the stop of a container whose host nobody named.
		{e.id, events.ClassRun, e.opts.RunSlots, nil},
	} {
		group.Go(func() {
			if err := e.bus.Effects(ctx, q.host, q.class, q.workers, q.open, e.Handle); err != nil && ctx.Err() == nil {
				e.log.Error("a queue of effects ended", "queue", q.host, "class", q.class, "error", err)
			}
		})
	}
	group.Wait()
	return ctx.Err()
}

// Handle runs what one transition decided and the log still awaits, and publishes the results. An error means that it must come
// again; one that wraps effects.ErrElsewhere, that it is for another host. Running it twice ends in the same place.
func (e *Executor) Handle(ctx context.Context, id events.ProgramID, seq uint64) error {
	err := e.handle(ctx, id, seq)
	if errors.Is(err, events.ErrBehind) {
		err = e.whyBehind(ctx, id, seq, err)
	}
	return e.failed(id, seq, err)
}

func (e *Executor) handle(ctx context.Context, id events.ProgramID, seq uint64) error {
	if e.compared.Load() < e.outages.Load() {
		return errAway
	}
	_, pending, err := e.derive(ctx, id, seq)
	if err != nil {
		return err
	}
	if len(pending.Effects) == 0 {
		e.metrics.dropped.Inc()
		return nil
	}
	// One at a time for each program and class: after a reconnect the same message may be here twice.
	unlock, err := e.locks.Lock(ctx, lockKey(id, effects.Class(pending.Effects)))
	if err != nil {
		return err
	}
	defer unlock()
	state, pending, err := e.derive(ctx, id, seq)
	if err != nil {
		return err
	}
	if len(pending.Effects) > 0 && pending.HostID == "" && effects.Class(pending.Effects) == events.ClassBuild {
		taken, leave, err := e.admit.take(ctx, state)
		if err != nil {
			return err
		}
		defer leave()
		ctx = taken
	}
	for i, eff := range pending.Effects {
		more, err := e.runOne(ctx, &state, seq, i, eff)
		if err != nil {
			if cause := context.Cause(ctx); errors.Is(cause, effects.ErrElsewhere) {
				err = cause
			}
			return err
		}
		if !more {
			break
		}
	}
	return nil
}

// derive returns the state of a program, and what the transition at seq decided, by the program's log, as far as its head still awaits
// it here. A log that was read to less than seq is events.ErrBehind.
func (e *Executor) derive(ctx context.Context, id events.ProgramID, seq uint64) (reducer.ProgramState, reducer.Pending, error) {
	head, outstanding, err := e.replay(ctx, id)
	if errors.Is(err, events.ErrNoProgram) {
		return head.State, reducer.Pending{}, nil
	}
	if err != nil {
		return head.State, reducer.Pending{}, err
	}
	if head.Seq < seq {
		return head.State, reducer.Pending{}, fmt.Errorf("%w (read to %d, expected %d)", events.ErrBehind, head.Seq, seq)
	}
	pending, found := outstanding.At(seq)
	if !found || pending.HostID != "" && pending.HostID != e.id {
		pending = reducer.Pending{}
	}
	return head.State, pending, nil
}

// whyBehind tells a read that lags, which an error brings again, from a message that names an event which is not there, which is
// nil: nobody who read the log has published it, and it would come again for ever. The leader's word is not enough for that: a
// server that was cut off from the others believes for some seconds that it leads, and has not heard what the new leader stored.
// So it must have said so again and again, with the waits of the queue between: only what the queue delivers is counted.
func (e *Executor) whyBehind(ctx context.Context, id events.ProgramID, seq uint64, behind error) error {
	head, err := e.bus.Head(ctx, id)
	switch {
	case errors.Is(err, events.ErrNoProgram):
		return nil
	case err != nil:
		return err
	case head.Seq >= seq, !e.doubts.enough(effects.Key(id, seq)):
		return behind
	}
	e.log.Warn("dropped an effects message that names an event which the log does not have", "program", id, "seq", seq, "log", head.Seq)
	return nil
}

// replay folds the whole log of a program.
func (e *Executor) replay(ctx context.Context, id events.ProgramID) (reducer.Checkpoint, reducer.Outstanding, error) {
	head := reducer.NewCheckpoint(id)
	var outstanding reducer.Outstanding
	for stored, err := range e.bus.Read(ctx, id, 0) {
		if err != nil {
			return head, outstanding, err
		}
		next, step, err := head.Next(stored)
		if err != nil {
			return head, outstanding, err
		}
		head = next
		outstanding.Observe(step)
	}
	e.admit.note(e.id, head.State, head.Seq)
	return head, outstanding, nil
}

// runOne runs one effect, publishes its result, and reports whether the next one is to be run. The state becomes what the result makes
// of it.
func (e *Executor) runOne(ctx context.Context, state *reducer.ProgramState, seq uint64, i int, eff effects.Effect) (bool, error) {
	id := state.ID
	e.log.Info("effect", "program", id, "seq", seq, "effect", eff.Type(), "attempt", eff.Place().Attempt)
	began := time.Now()
	result, err := e.execute(ctx, id, seq, eff)
	if errors.Is(err, errUnwanted) {
		e.log.Info("given up", "program", id, "seq", seq, "effect", eff.Type(), "reason", errUnwanted)
		e.metrics.dropped.Inc()
		return false, nil
	}
	if err != nil {
		return false, err
	}
	e.metrics.observe(eff, result, time.Since(began))
	result = events.WithOrigin(result, events.Origin{HostID: e.id, Attempt: eff.Place().Attempt})
	stored, err := e.publish(ctx, id, result, e.resultKey(id, seq, i, result))
	if err != nil || stored == 0 {
		return false, err
	}
	*state, _ = reducer.Reduce(*state, result)
	e.admit.note(e.id, *state, stored)
	if started, ok := result.(events.RuntimeStarted); ok {
		// It may have ended before it was known to be started, and then its exit was nobody's yet.
		return true, e.reportExit(ctx, effects.Container{ID: started.ContainerID, ProgramID: id, Attempt: started.Attempt})
	}
	return !events.Failed(result), nil
}

// resultKey is the idempotency key of a result. A failure has one of its own: an earlier try of the same message may have published a
// success before it was given up, and must not hide that this try goes no further.
func (e *Executor) resultKey(id events.ProgramID, seq uint64, i int, result events.Event) string {
	key := effects.ResultKey(id, seq, i, e.id)
	if events.Failed(result) {
		key += "/failed"
	}
	return key
}

// execute runs an effect; a build ends early when the log does not await it any more.
func (e *Executor) execute(ctx context.Context, id events.ProgramID, seq uint64, eff effects.Effect) (events.Event, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if _, isBuild := eff.(effects.BuildRuntime); isBuild {
		check := func() {
			_, pending, err := e.derive(ctx, id, seq)
			if err == nil && len(pending.Effects) == 0 {
				cancel(errUnwanted)
			}
		}
		stop, err := e.bus.Watch(ctx, id, check)
		if err != nil {
			return nil, err
		}
		defer stop()
		check() // What came before the watch began.
	}
	result := e.host.Execute(ctx, eff)
	if result != nil {
		return result, nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return nil, cause
	}
	return nil, errNotDone
}

// reportExit publishes the exit of a container if it has ended.
func (e *Executor) reportExit(ctx context.Context, c effects.Container) error {
	result := e.host.Execute(ctx, effects.FetchRuntimeStatus{
		Placement: effects.Placement{HostID: e.id, Attempt: c.Attempt}, ContainerID: c.ID,
	})
	if result == nil {
		return nil // It runs, or Docker cannot say now and the next comparison asks again.
	}
	if exited, ok := result.(events.RuntimeExited); ok && exited.ExitCode < 0 && !c.Running && c.ExitCode > 0 {
		exited.ExitCode = c.ExitCode // The container is gone, but its end was seen.
		result = exited
	}
	result = events.WithOrigin(result, events.Origin{HostID: e.id, Attempt: c.Attempt})
	_, err := e.publish(ctx, c.ProgramID, result, effects.ExitKey(c.ProgramID, c.ID))
	return err
}

// publish stores a result and returns its sequence, 0 where there is no program any more, or none that takes it. The latter is given up:
// an error would bring the effect again, and with it a whole build or start, for ever.
func (e *Executor) publish(ctx context.Context, id events.ProgramID, result events.Event, key string) (uint64, error) {
	seq, err := e.bus.Append(ctx, id, result, key)
	switch {
	case errors.Is(err, events.ErrNoProgram):
		return 0, nil
	case errors.Is(err, events.ErrLogFull):
		e.log.Error("gave up a result: the program can only be deleted", "program", id, "result", result.Type(), "error", err)
		return 0, nil
	}
	return seq, err
}

func (e *Executor) failed(id events.ProgramID, seq uint64, err error) error {
	if err == nil {
		return nil
	}
	e.metrics.retried.Inc()
	return fmt.Errorf("effects %s: %w", effects.Key(id, seq), err)
}

func (e *Executor) beatLoop(ctx context.Context, now <-chan struct{}) {
	for ctx.Err() == nil {
		wait := beatEvery
		if err := e.Beat(ctx); err != nil && ctx.Err() == nil {
			e.log.Warn("cannot send a heartbeat", "error", err)
			wait = retryAfter
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-now:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// drainLoop runs beside the heartbeats, which must not wait for its answers. The next one tells of a change, at once.
func (e *Executor) drainLoop(ctx context.Context, beatNow chan<- struct{}) {
	for ctx.Err() == nil {
		if e.lookWhetherDrained(ctx) {
			ask(beatNow)
		}
		pause(ctx, beatEvery)
	}
}

// lookWhetherDrained asks whether the host is to take new programs, and reports whether that has changed. What was so before holds
// where there is no answer.
func (e *Executor) lookWhetherDrained(ctx context.Context) (changed bool) {
	asking, cancel := e.opts.WithTimeout(ctx, beatEvery)
	defer cancel()
	drained, err := e.bus.Drained(asking, e.id)
	if err != nil {
		if ctx.Err() == nil {
			e.log.Warn("cannot look whether the host is drained", "error", err)
		}
		return false
	}
	if changed = e.admit.drain(drained); changed {
		e.log.Info("the host is drained or not any more", "drained", drained)
	}
	return changed
}

// Beat sends one heartbeat. Docker may hang, but the host is there, and what it runs goes on: the heartbeat has time of its own.
func (e *Executor) Beat(ctx context.Context) error {
	describing, cancel := e.opts.WithTimeout(ctx, beatEvery)
	beat := e.host.Describe(describing)
	cancel()
	beat.HostID, beat.Started, beat.Version = e.id, e.started.UTC(), e.opts.Version
	e.admit.report(&beat)
	sending, cancel := e.opts.WithTimeout(ctx, beatEvery)
	defer cancel()
	sent := e.opts.Uptime()
	err := e.bus.Beat(sending, beat)
	if err == nil {
		e.lastBeat.Store(int64(sent))
	}
	return err
}

// pause waits, or ends early with ctx.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
