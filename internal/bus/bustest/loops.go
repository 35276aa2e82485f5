package bustest

import (
	"context"
	"sync"
	"time"

	"github.com/rlaaudgjs5638/hersh/events"
)

// pollAt bounds how long a worker waits for messages that become due by the clock alone.
const pollAt = 5 * time.Millisecond

type handler = func(ctx context.Context, id events.ProgramID, seq uint64) error

// Wakes hands wake-ups to workers until ctx ends; it returns when all are done.
func (m *Memory) Wakes(ctx context.Context, workers int, handle func(ctx context.Context, id events.ProgramID, seq uint64) error) error {
	return m.consume(ctx, workers, m.TakeWake, handle)
}

// Effects hands the effect messages of one queue to workers until ctx ends; it returns when all are done.
func (m *Memory) Effects(ctx context.Context, host events.HostID, class events.Class, workers int, open func() bool, handle func(ctx context.Context, id events.ProgramID, seq uint64) error) error {
	return m.consume(ctx, workers, func() (Delivery, bool) {
		if open != nil && !open() {
			return Delivery{}, false
		}
		return m.TakeEffects(host, class)
	}, handle)
}

func (m *Memory) consume(ctx context.Context, workers int, take func() (Delivery, bool), handle handler) error {
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for ctx.Err() == nil {
				changed := m.change()
				delivery, found := take()
				if !found {
					waitFor(ctx, changed)
					continue
				}
				m.attend(ctx, delivery, handle)
			}
		})
	}
	group.Wait()
	return ctx.Err()
}

func (m *Memory) attend(ctx context.Context, d Delivery, handle handler) {
	stop := m.keepInProgress(d)
	err := handle(context.WithoutCancel(ctx), d.ProgramID, d.Seq)
	stop()
	switch {
	case err == nil:
		d.Ack()
	case ctx.Err() != nil:
		d.Nak(0)
	default:
		d.Nak(m.cfg.Retry)
	}
}

func (m *Memory) keepInProgress(d Delivery) (stop func()) {
	ended := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		ticker := time.NewTicker(m.cfg.AckWait / 3)
		defer ticker.Stop()
		for {
			select {
			case <-ended:
				return
			case <-ticker.C:
				d.Progress()
			}
		}
	})
	return func() { close(ended); group.Wait() }
}

func (m *Memory) change() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changed
}

func waitFor(ctx context.Context, changed <-chan struct{}) {
	timer := time.NewTimer(pollAt)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-changed:
	case <-timer.C:
	}
}

// Watch calls fn, one call at a time, after each event of a program that is stored from now on. stop waits for a call that is
// under way.
func (m *Memory) Watch(ctx context.Context, id events.ProgramID, fn func()) (stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	news := make(chan struct{}, 1)
	forget := m.Notify(id, func() {
		select {
		case news <- struct{}{}:
		default: // A call is waiting already.
		}
	})
	var group sync.WaitGroup
	group.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-news:
				fn()
			}
		}
	})
	return func() { forget(); cancel(); group.Wait() }, nil
}

// Notify calls note after each event of a program that is stored from now on, until forget is called. note is called while the
// bus is locked: it must not use it, nor wait.
func (m *Memory) Notify(id events.ProgramID, note func()) (forget func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.nextWatcher++
	number := m.nextWatcher
	m.watchers[number] = watcher{id: id, fn: note}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.watchers, number)
	}
}

// Reconnected returns a channel that never gets a value and is closed when ctx ends: this bus is never away.
func (m *Memory) Reconnected(ctx context.Context) <-chan struct{} {
	out := make(chan struct{})
	context.AfterFunc(ctx, func() { close(out) })
	return out
}
