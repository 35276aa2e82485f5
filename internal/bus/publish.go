package bus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/pause"
)

const (
	// publishTries bounds how often a message is published that has a key. With the waits between it outlasts the election of a
	// leader, which takes some seconds; what fails for longer comes again as work.
	publishTries = 6
	// publishWait is how long one try may take. A server that has no leader does not answer at all.
	publishWait = 5 * time.Second
)

// publish stores a message and returns its sequence once the server has synced it. It tries again where nobody knows whether the
// message was stored: its key makes that safe. gone says, when no server answers for a stream, whether there is none. full is the error
// of a stream that takes no more of the subject.
func (b *Bus) publish(ctx context.Context, msg *nats.Msg, gone func() bool, full error) (uint64, error) {
	for try := 1; ; try++ {
		ack, err := b.publishOnce(ctx, msg)
		if err == nil {
			return ack.Sequence, nil
		}
		if isSubjectFull(err) {
			return 0, fmt.Errorf("%w: %w", full, err)
		}
		if try == publishTries || !mayPass(err) || ctx.Err() != nil || isNoAnswer(err) && gone() {
			return 0, err
		}
		pause.For(ctx, b.timing.backoff(try))
	}
}

func (b *Bus) publishOnce(ctx context.Context, msg *nats.Msg) (*jetstream.PubAck, error) {
	ctx, cancel := context.WithTimeout(ctx, publishWait)
	defer cancel()
	return b.js.PublishMsg(ctx, msg, jetstream.WithRetryAttempts(0))
}

// mayPass reports whether a publication that failed may succeed when it is tried again soon.
func mayPass(err error) bool {
	var apiErr *jetstream.APIError
	// A cluster says these while another publication with the same key is under way, and while it has no leader.
	const sameKeyUnderWay, unavailable, noLeader = 10158, 10008, 10009
	if errors.As(err, &apiErr) {
		return apiErr.ErrorCode == sameKeyUnderWay || apiErr.ErrorCode == unavailable || apiErr.ErrorCode == noLeader
	}
	return isNoAnswer(err) || isAway(err) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout)
}

// isAway reports that the connection is not there just now: another server is being tried.
func isAway(err error) bool {
	return errors.Is(err, nats.ErrReconnectBufExceeded) || errors.Is(err, nats.ErrConnectionReconnecting) || errors.Is(err, nats.ErrDisconnected)
}

func isSubjectFull(err error) bool {
	var apiErr *jetstream.APIError
	return errors.As(err, &apiErr) && apiErr.ErrorCode == events.LogFullCode && apiErr.Description == events.LogFullText
}

// Full reports whether the log of a program takes no more events of some type.
func (b *Bus) Full(ctx context.Context, id events.ProgramID) (bool, error) {
	stream, err := b.js.Stream(ctx, b.layout.Stream(id))
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		err = events.ErrNoProgram
	}
	var info *jetstream.StreamInfo
	if err == nil {
		info, err = stream.Info(ctx, jetstream.WithSubjectFilter(events.EventSubjects(id)))
	}
	if err != nil {
		return false, fmt.Errorf("look whether the log of %s is full: %w", id, err)
	}
	limit := info.Config.MaxMsgsPerSubject
	for _, n := range info.State.Subjects {
		if limit > 0 && n >= uint64(limit) {
			return true, nil
		}
	}
	return false, nil
}

// isNoAnswer reports that no server answers for a stream: there is none, or its leader is being elected.
func isNoAnswer(err error) bool {
	return errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrNoStreamResponse)
}

// onceKey is the key of a publication that nobody else repeats. Like every key of Hersh's it begins with the program.
func onceKey(id events.ProgramID) string { return string(id) + "/once/" + rand.Text() }

func never() bool { return false }
