package bus

import (
	"context"
	"errors"
	"time"

	"github.com/rlaaudgjs5638/hersh/events"
)

// Hasten makes everything that waits for time wait little, so that tests of expiry and redelivery are quick.
func (b *Bus) Hasten() {
	b.timing = timing{
		ackWait: 2 * time.Second, progressEvery: 200 * time.Millisecond, pullWait: 200 * time.Millisecond,
		drainWait: time.Second, answerWait: 2 * time.Second, minRetry: 20 * time.Millisecond, maxRetry: 100 * time.Millisecond,
		elsewhere: 50 * time.Millisecond,
	}
	b.lease = 2 * time.Second
}

// LimitEvents makes the logs that are created from now on take only so many events of each type.
func (b *Bus) LimitEvents(n int64) {
	l := b.layout.(perProgram)
	l.eventsPerType = n
	b.layout = l
}

// AckWait makes work that says nothing for so long go to another.
func (b *Bus) AckWait(d time.Duration) { b.timing.ackWait = d }

// DrainWait makes work in hand end so long after the end was asked for.
func (b *Bus) DrainWait(d time.Duration) { b.timing.drainWait = d }

// BeginRemove is as much of Remove as is done when it fails right after the log is gone.
func (b *Bus) BeginRemove(ctx context.Context, id events.ProgramID) error {
	return errors.Join(b.FailRemove(ctx, id), b.layout.Remove(ctx, id))
}

// FailRemove is as much of Remove as is done when it fails to remove the log.
func (b *Bus) FailRemove(ctx context.Context, id events.ProgramID) error {
	_, err := b.noteDeletion(ctx, id)
	return err
}

// LoseLog is what a server does that loses the log of a program.
func (b *Bus) LoseLog(ctx context.Context, id events.ProgramID) error {
	return b.layout.Remove(ctx, id)
}

// AfterRemove makes fn run whenever a log was removed, before Remove goes on.
func (b *Bus) AfterRemove(fn func()) { b.layout = afterRemove{b.layout, fn} }

type afterRemove struct {
	Layout
	fn func()
}

func (l afterRemove) Remove(ctx context.Context, id events.ProgramID) error {
	err := l.Layout.Remove(ctx, id)
	l.fn()
	return err
}

// TakeBackLate takes back the note of a deletion as whoever read it before fn ran.
func (b *Bus) TakeBackLate(ctx context.Context, id events.ProgramID, fn func() error) error {
	_, revision, err := b.deletionNoted(ctx, id)
	if err == nil {
		err = fn()
	}
	return errors.Join(err, b.takeBack(ctx, id, revision))
}
