package bus

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rlaaudgjs5638/hersh/events"
)

// Create makes the log of a program and publishes its first event. Doing it again changes nothing.
func (b *Bus) Create(ctx context.Context, id events.ProgramID, first events.ProgramCreated) error {
	if err := b.layout.MakeRoom(ctx, id); err != nil {
		return fmt.Errorf("create program %s: %w", id, err)
	}
	// A header that expects the stream to be empty would be republished with the event and keep its wake-up out of
	// HERSH_WAKE; nobody else knows the ID yet, and a second ProgramCreated changes nothing.
	if _, err := b.Append(ctx, id, first, string(id)+"/created"); err != nil {
		return err
	}
	// Last: a program that could not be made must still count as deleted, and one that was made is there whatever the bucket says.
	if err := b.TakeBackDeletion(ctx, id); err != nil {
		b.log.Warn("a program that was created again is noted as deleted until the next sweep", "program", id, "error", err)
	}
	return nil
}

// Append publishes an event to the log of its program and returns its sequence once the server has synced it. The key makes
// the publication idempotent for some minutes; "" is one that no other publication has. It returns events.ErrNoProgram where there
// is no log.
func (b *Bus) Append(ctx context.Context, id events.ProgramID, ev events.Event, key string) (uint64, error) {
	data, err := events.Encode(ev)
	if err != nil {
		return 0, err
	}
	msg := nats.NewMsg(events.EventSubject(id, ev.Type()))
	msg.Data = data
	if key == "" {
		key = onceKey(id)
	}
	msg.Header.Set(jetstream.MsgIDHeader, key)
	gone := func() bool { return errors.Is(b.whyNoAnswer(ctx, id, nats.ErrNoResponders), events.ErrNoProgram) }
	seq, err := b.publish(ctx, msg, gone, events.ErrLogFull)
	if err != nil {
		return 0, fmt.Errorf("publish %s of %s: %w", ev.Type(), id, b.whyNoAnswer(ctx, id, err))
	}
	return seq, nil
}

// Read returns the events of a program after a sequence, in order, to the end of the log. A program without a log is
// events.ErrNoProgram. The iteration ends after the first error.
func (b *Bus) Read(ctx context.Context, id events.ProgramID, after uint64) iter.Seq2[events.Stored, error] {
	return func(yield func(events.Stored, error) bool) {
		err := b.scan(ctx, b.layout.Stream(id), events.EventSubjects(id), after, func(msg *jetstream.RawStreamMsg) bool {
			return yield(events.Stored{Seq: msg.Sequence, Time: msg.Time, Type: events.EventType(msg.Subject), Data: msg.Data}, nil)
		})
		if err != nil {
			yield(events.Stored{}, fmt.Errorf("read log of %s: %w", id, b.whyNoAnswer(ctx, id, err)))
		}
	}
}

// whyNoAnswer tells a program that does not exist from a server that cannot answer now: both look like "no responders".
func (b *Bus) whyNoAnswer(ctx context.Context, id events.ProgramID, err error) error {
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return events.ErrNoProgram // Whoever stores a host's results for it has looked.
	}
	if !isNoAnswer(err) {
		return err
	}
	if exists, lookupErr := b.layout.Exists(ctx, id); lookupErr == nil && !exists {
		return events.ErrNoProgram
	}
	return err
}

// Exists reports whether there is a log of the program.
func (b *Bus) Exists(ctx context.Context, id events.ProgramID) (bool, error) {
	return b.layout.Exists(ctx, id)
}

// Head says how far the log of a program goes, by the word of its leader; other reads may be answered by a copy that lags. A program
// without a log is events.ErrNoProgram, one whose leader cannot be asked now is events.ErrNoLeader.
func (b *Bus) Head(ctx context.Context, id events.ProgramID) (events.Head, error) {
	return b.layout.Head(ctx, id)
}

// Heads lists all programs and how far their logs go. While a leader is elected, that of its log may come from a copy that lags.
func (b *Bus) Heads(ctx context.Context) iter.Seq2[events.Head, error] { return b.layout.Heads(ctx) }

// Remove deletes a program: its log, its effects that wait, its output, its checkpoint, and its source where no other program of the user
// has the same. What it was is not to be had again. A program that is created in the same moment of the source as it was uploaded before
// may lose it.
func (b *Bus) Remove(ctx context.Context, id events.ProgramID) error {
	note, err := b.noteDeletion(ctx, id)
	if err != nil {
		return err
	}
	if err := b.layout.Remove(ctx, id); err != nil {
		return fmt.Errorf("remove program %s: %w", id, err)
	}
	return b.removeRest(ctx, id, note)
}

// removeRest removes what a deleted program leaves besides its log, unless it was created again meanwhile: then all of it may be the new
// one's. The checkpoint goes last: where something fails, the sweep finds it; and should the program be created just now, the sweep makes
// a new one.
func (b *Bus) removeRest(ctx context.Context, id events.ProgramID, note deletion) error {
	if exists, err := b.layout.Exists(ctx, id); err != nil || exists {
		return err
	}
	if err := b.putDeletion(ctx, id, note); err != nil {
		return err
	}
	if _, err := b.withdraw(ctx, events.ProgramEffects(id), func(string) uint64 { return math.MaxUint64 }); err != nil {
		return fmt.Errorf("remove effects of program %s: %w", id, err)
	}
	stream, err := b.js.Stream(ctx, events.StreamLogs)
	if err == nil {
		err = stream.Purge(ctx, jetstream.WithPurgeSubject(events.LogSubject(id, "*")))
	}
	if err != nil {
		return fmt.Errorf("remove output of program %s: %w", id, err)
	}
	if err := b.dropSource(ctx, id, note.Source); err != nil {
		return fmt.Errorf("remove source of program %s: %w", id, err)
	}
	return b.purgeCheckpoint(ctx, id)
}

// Watch calls fn, one call at a time, after each event of a program that is stored from now on. Calls are merged while fn runs.
// stop waits for a call that is under way.
func (b *Bus) Watch(ctx context.Context, id events.ProgramID, fn func()) (stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	news := make(chan struct{}, 1)
	sub, err := b.nc.Subscribe(events.FeedSubject(id, "*"), func(*nats.Msg) {
		select {
		case news <- struct{}{}:
		default: // A call is waiting already.
		}
	})
	if err == nil {
		err = b.nc.FlushTimeout(apiTimeout) // The server knows of the subscription from here on.
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("watch %s: %w", id, err)
	}
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
	return func() {
		_ = sub.Unsubscribe() // Fails only on a closed connection, which has none.
		cancel()
		group.Wait()
	}, nil
}
