package bus

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rlaaudgjs5638/hersh/events"
)

// Output is a chunk of what a build or a program printed.
type Output struct {
	Seq    uint64           `json:"seq"`
	Time   time.Time        `json:"time"`
	Stream events.LogStream `json:"stream"`
	Data   []byte           `json:"data"` // Any bytes; chunks do not end at line ends.
}

// ShipLog stores a chunk of output. The key makes it idempotent for some minutes.
func (b *Bus) ShipLog(ctx context.Context, id events.ProgramID, stream events.LogStream, key string, data []byte) error {
	msg := nats.NewMsg(events.LogSubject(id, stream))
	msg.Data = data
	if key != "" {
		msg.Header.Set(jetstream.MsgIDHeader, key)
	}
	if _, err := b.js.PublishMsg(ctx, msg); err != nil {
		return fmt.Errorf("ship %s of %s: %w", stream, id, err)
	}
	return nil
}

// ReadOutput returns the output of a program after a sequence, in order, to its end; "*" for stream is all of it.
func (b *Bus) ReadOutput(ctx context.Context, id events.ProgramID, stream events.LogStream, after uint64) iter.Seq2[Output, error] {
	return func(yield func(Output, error) bool) {
		err := b.scan(ctx, events.StreamLogs, events.LogSubject(id, stream), after, func(msg *jetstream.RawStreamMsg) bool {
			return yield(Output{Seq: msg.Sequence, Time: msg.Time, Stream: events.LogStream(events.EventType(msg.Subject)), Data: msg.Data}, nil)
		})
		if err != nil {
			yield(Output{}, fmt.Errorf("read output of %s: %w", id, err))
		}
	}
}
