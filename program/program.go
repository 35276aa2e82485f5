package program

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

const (
	queueSize = 1000 // Events that wait at once.

	firstRetryDelay = 100 * time.Millisecond // Doubles with each try of the same effect.
	lastRetryDelay  = 5 * time.Second
)

var (
	// ErrEventQueueFull is returned by SendEvent while 1000 events wait. The event was not taken; try again later.
	ErrEventQueueFull = errors.New("event queue full")
	// ErrProgramStopped is returned by SendEvent once Start has returned. The event was not taken and never will be.
	ErrProgramStopped = errors.New("program stopped")
)

// Program is one program and its event loop. All methods are safe for concurrent use.
type Program struct {
	id      events.ProgramID
	handler effects.EffectHandler
	queue   chan events.Event // Never closed: who sends late is told by stopped.

	mu      sync.RWMutex
	state   reducer.ProgramState
	started bool
	stopped bool // Guards the queue too: an event is put there only while this is false.
}

// NewProgram makes a program in state Created, whose effects the handler will run.
func NewProgram(id events.ProgramID, buildID events.BuildID, handler effects.EffectHandler) *Program {
	return &Program{
		id:      id,
		handler: handler,
		queue:   make(chan events.Event, queueSize),
		state:   reducer.NewProgramState(id, buildID),
	}
}

// Start runs the event loop until ctx ends; it blocks. Events that still wait then are dropped. A program is started once:
// a second Start returns at once and does nothing, whether the first still runs or not.
func (p *Program) Start(ctx context.Context) {
	if !p.begin() {
		return
	}
	defer p.end()
	for ctx.Err() == nil { // Asked first, since select takes either of two that are ready.
		select {
		case <-ctx.Done():
		case event := <-p.queue:
			p.process(ctx, event)
		}
	}
}

// SendEvent puts an event into the queue and does not wait. It may be called before Start. The errors are
// ErrEventQueueFull and ErrProgramStopped; nil says that the event is in the queue, not that it was folded.
func (p *Program) SendEvent(event events.Event) error {
	p.mu.RLock() // Held while sending: after end no event gets into the queue.
	defer p.mu.RUnlock()
	if p.stopped {
		return ErrProgramStopped
	}
	select {
	case p.queue <- event:
		return nil
	default:
		return ErrEventQueueFull
	}
}

// GetState returns a copy of the current state.
func (p *Program) GetState() reducer.ProgramState {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.state
}

// GetID returns the program's ID.
func (p *Program) GetID() events.ProgramID { return p.id }

// IsStopped reports whether the event loop has ended, which is not the same as state Stopped: a program in that state can
// be started again by an event.
func (p *Program) IsStopped() bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.stopped
}

// begin reports whether this is the first Start.
func (p *Program) begin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.started {
		return false
	}
	p.started = true
	return true
}

func (p *Program) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
}

// process folds one event and then runs what follows from it, until nothing more follows or ctx ends. Of the effects of one
// transition those behind a failure are not run, as in the executor.
func (p *Program) process(ctx context.Context, event events.Event) {
	todo := p.fold(event)
	for len(todo) > 0 {
		result := p.execute(ctx, todo[0])
		if todo = todo[1:]; events.Failed(result) {
			todo = nil
		}
		todo = append(todo, p.fold(result)...)
	}
}

// fold takes an event, where there is one, into the state and returns the effects that follow.
func (p *Program) fold(event events.Event) []effects.Effect {
	if event == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	next, effs := reducer.Reduce(p.state, event)
	p.state = next
	return effs
}

// execute runs an effect until it has a result, and says which attempt the result is of. It returns nil for a container
// that still runs, and when ctx ended first; once it has ended nothing is run. A result that came about while ctx ended is
// a fact and is returned.
func (p *Program) execute(ctx context.Context, eff effects.Effect) events.Event {
	delay := firstRetryDelay
	for ctx.Err() == nil {
		result := p.handler.Execute(ctx, eff)
		if result != nil {
			return events.WithOrigin(result, events.Origin{Attempt: eff.Place().Attempt})
		}
		if eff.Type() == effects.TypeFetchRuntimeStatus {
			return nil
		}
		wait(ctx, delay)
		delay = min(2*delay, lastRetryDelay)
	}
	return nil
}

// wait returns when the delay is over or ctx ends.
func wait(ctx context.Context, delay time.Duration) {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
