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

// trimSteps is of how many parts at least the output is that is trimmed by whole parts.
const trimSteps = 64

// outputBlock is a part of the output of a user.
type outputBlock struct {
	last  uint64 // Sequence of its last chunk.
	bytes int64
}

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

// CountOutput says how many chunks of output are kept for each user, and the sequence of the last of all.
func (b *Bus) CountOutput(ctx context.Context) (counts map[events.UserID]int64, last uint64, err error) {
	stream, err := b.js.Stream(ctx, events.StreamLogs)
	if err != nil {
		return nil, 0, fmt.Errorf("count output: %w", err)
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(events.SubjectsLogs))
	if err != nil {
		return nil, 0, fmt.Errorf("count output: %w", err)
	}
	counts = map[events.UserID]int64{}
	for subject, n := range info.State.Subjects {
		if user, err := events.UserOfLogSubject(subject); err == nil {
			counts[user] += int64(min(n, 1<<40))
		}
	}
	return counts, info.State.LastSeq, nil
}

// TrimOutput removes the oldest output of a user, of all their programs, where it is more than so many bytes together; a quarter is made
// room for, so that it is not done for every chunk. It returns how many bytes are kept. Others may do so at once: what is kept is counted
// from the end, in one reading, so that what another has just removed is not removed once more of what is left.
func (b *Bus) TrimOutput(ctx context.Context, user events.UserID, most int64) (kept int64, err error) {
	subjects := events.UserLogSubjects(user)
	var blocks []outputBlock
	err = b.scan(ctx, events.StreamLogs, subjects, 0, func(msg *jetstream.RawStreamMsg) bool {
		if n := len(blocks); n == 0 || blocks[n-1].bytes >= most/trimSteps {
			blocks = append(blocks, outputBlock{})
		}
		block := &blocks[len(blocks)-1]
		block.last, block.bytes = msg.Sequence, block.bytes+int64(len(msg.Data))
		kept += int64(len(msg.Data))
		return true
	})
	if err != nil || kept <= most {
		return kept, wrapTrim(user, err)
	}
	last := uint64(0)
	for _, block := range blocks {
		if kept <= most-most/4 {
			break
		}
		last, kept = block.last, kept-block.bytes
	}
	stream, err := b.js.Stream(ctx, events.StreamLogs)
	if err == nil {
		err = stream.Purge(ctx, jetstream.WithPurgeSubject(subjects), jetstream.WithPurgeSequence(last+1))
	}
	return kept, wrapTrim(user, err)
}

func wrapTrim(user events.UserID, err error) error {
	if err != nil {
		return fmt.Errorf("trim the output of %s: %w", user, err)
	}
	return nil
}
