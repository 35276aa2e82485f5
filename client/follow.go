package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rlaaudgjs5638/hersh/client/wire"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

const (
	pollEvery = 3 * time.Second // Between looks where the live feed says nothing: it may have been lost.
	patience  = 2 * time.Minute // How long a live iterator goes on trying while nobody answers.
)

// Step is what one event of a program's log did.
type Step = wire.Step

// Chunk is a piece of what a program or its builds printed.
type Chunk = wire.Chunk

// At is a point in the past of a program: a sequence or a time, not both.
type At = wire.At

// History returns what each event of a program after a sequence did, 0 for all, to the present end of its log. The iteration ends
// after the first error; a program that does not exist is ErrNoProgram.
func (c *Client) History(ctx context.Context, id events.ProgramID, after uint64) iter.Seq2[Step, error] {
	return c.history(ctx, wire.HistoryRequest{ProgramID: id, After: after})
}

// Watch is History that goes on: at the end of the log it waits for more, until ctx ends, with whose error it ends. Each step has
// the whole State after it.
func (c *Client) Watch(ctx context.Context, id events.ProgramID, after uint64) iter.Seq2[Step, error] {
	return func(yield func(Step, error) bool) {
		if _, err := events.ParseProgramID(string(id)); err != nil {
			yield(Step{}, err)
			return
		}
		read := func(ctx context.Context) iter.Seq2[Step, error] {
			return c.history(ctx, wire.HistoryRequest{ProgramID: id, After: after, States: true})
		}
		follow(ctx, c.nc, events.FeedSubject(id, "*"), read, func(step Step, err error) bool {
			after = max(after, step.Seq)
			return yield(step, err)
		})
	}
}

// StateAt returns a program as it was then.
func (c *Client) StateAt(ctx context.Context, id events.ProgramID, at At) (reducer.Checkpoint, error) {
	var reply wire.HistoryReply
	req := wire.HistoryRequest{ProgramID: id, At: &at, Limit: 1}
	if err := c.programRequest(ctx, id, wire.VerbHistory, req, &reply); err != nil {
		return reducer.Checkpoint{}, fmt.Errorf("replay program %s: %w", id, err)
	}
	if reply.At == nil {
		return reducer.Checkpoint{}, fmt.Errorf("replay program %s: the reply has no state", id)
	}
	return *reply.At, nil
}

// Logs returns what a program printed, as far as it is kept: stream is "stdout", "stderr" or "build"; "" is both of the program
// itself. With keepOn it goes on as Watch does.
func (c *Client) Logs(ctx context.Context, id events.ProgramID, stream events.LogStream, keepOn bool) iter.Seq2[Chunk, error] {
	if _, err := events.ParseProgramID(string(id)); err != nil || !keepOn {
		return c.logs(ctx, id, stream, 0) // Which gives the error too.
	}
	return func(yield func(Chunk, error) bool) {
		subject, after := stream, uint64(0)
		if subject == "" {
			subject = "*"
		}
		read := func(ctx context.Context) iter.Seq2[Chunk, error] { return c.logs(ctx, id, stream, after) }
		follow(ctx, c.nc, events.LogSubject(id, subject), read, func(chunk Chunk, err error) bool {
			after = max(after, chunk.Seq)
			return yield(chunk, err)
		})
	}
}

func (c *Client) history(ctx context.Context, req wire.HistoryRequest) iter.Seq2[Step, error] {
	return func(yield func(Step, error) bool) {
		for {
			var page wire.HistoryReply
			if err := c.programRequest(ctx, req.ProgramID, wire.VerbHistory, req, &page); err != nil {
				yield(Step{}, fmt.Errorf("read history of program %s: %w", req.ProgramID, err))
				return
			}
			for _, step := range page.Steps {
				if !yield(step, nil) {
					return
				}
			}
			if !page.More || page.Next <= req.After {
				return // A page that does not advance would never end.
			}
			req.After = page.Next
		}
	}
}

func (c *Client) logs(ctx context.Context, id events.ProgramID, stream events.LogStream, after uint64) iter.Seq2[Chunk, error] {
	return func(yield func(Chunk, error) bool) {
		for {
			var page wire.LogsReply
			req := wire.LogsRequest{ProgramID: id, Stream: stream, After: after}
			if err := c.programRequest(ctx, id, wire.VerbLogs, req, &page); err != nil {
				yield(Chunk{}, fmt.Errorf("read output of program %s: %w", id, err))
				return
			}
			for _, chunk := range page.Chunks {
				if !yield(chunk, nil) {
					return
				}
			}
			if !page.More || page.Next <= after {
				return
			}
			after = page.Next
		}
	}
}

// follow yields what read returns, again and again: each time a message comes on the subject, and every few seconds. The messages
// are not looked at. read must return only what yield has not had yet.
func follow[T any](ctx context.Context, nc *nats.Conn, subject string, read func(context.Context) iter.Seq2[T, error], yield func(T, error) bool) {
	var zero T
	news := make(chan struct{}, 1)
	sub, err := nc.Subscribe(subject, func(*nats.Msg) {
		select {
		case news <- struct{}{}:
		default: // One is enough.
		}
	})
	if err != nil {
		yield(zero, fmt.Errorf("subscribe to %s: %w", subject, err))
		return
	}
	defer func() { _ = sub.Unsubscribe() }() // Fails only on a closed connection, which has no subscriptions.
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	good := time.Now()
	for {
		more, err := drain(read(ctx), yield)
		switch {
		case !more:
			return
		case ctx.Err() != nil:
			yield(zero, ctx.Err())
			return
		case err == nil:
			good = time.Now()
		case !transient(err) || time.Since(good) > patience:
			yield(zero, err)
			return
		}
		select {
		case <-ctx.Done():
			yield(zero, ctx.Err())
			return
		case <-news:
		case <-ticker.C:
		}
	}
}

// drain yields all of seq. It reports whether more is wanted, and the error that seq ended with.
func drain[T any](seq iter.Seq2[T, error], yield func(T, error) bool) (bool, error) {
	for item, err := range seq {
		if err != nil {
			return true, err
		}
		if !yield(item, nil) {
			return false, nil
		}
	}
	return true, nil
}

// Settled is what came of an event.
type Settled struct {
	Rejected string               // Why the event does not count at all; "" where it does.
	Ignored  string               // Why it changed nothing; "" where it did.
	Seq      uint64               // Of the event after which the program was at rest.
	State    reducer.ProgramState // The program at rest.
}

// AtRest reports whether a program in this state stays as it is until somebody asks for something, or it ends by itself.
func AtRest(s reducer.State) bool {
	switch s {
	case reducer.StateCreated, reducer.StateReady, reducer.StateStopped, reducer.StateError:
		return true
	}
	return false
}

// WaitSettled waits until the event at seq was looked at and the program has come to rest: Ready, Stopped, Error or Created. An event
// that changed nothing is no error, and the result says so. Each function of each hears of every step on the way.
func (c *Client) WaitSettled(ctx context.Context, id events.ProgramID, seq uint64, each ...func(Step)) (Settled, error) {
	var settled Settled
	for step, err := range c.Watch(ctx, id, seq-min(seq, 1)) {
		if err != nil {
			return Settled{}, fmt.Errorf("wait for program %s: %w", id, err)
		}
		for _, hear := range each {
			hear(step)
		}
		if step.Seq == seq {
			settled.Rejected, settled.Ignored = step.Rejected, step.Ignored
		}
		if step.State == nil {
			return Settled{}, fmt.Errorf("wait for program %s: a step has no state", id)
		}
		if step.Seq >= seq && AtRest(step.To) {
			settled.Seq, settled.State = step.Seq, *step.State
			return settled, nil
		}
	}
	return Settled{}, errors.New("the history ended") // Not reached: Watch ends with an error.
}

// Outcome waits until the event at seq was looked at, and no longer: the program may still be on its way.
func (c *Client) Outcome(ctx context.Context, id events.ProgramID, seq uint64) (Step, error) {
	for step, err := range c.Watch(ctx, id, seq-min(seq, 1)) {
		if err != nil {
			return Step{}, fmt.Errorf("look for event %d of program %s: %w", seq, id, err)
		}
		if step.Seq == seq {
			return step, nil
		}
		break
	}
	return Step{}, fmt.Errorf("program %s has no event %d", id, seq)
}
