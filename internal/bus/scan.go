package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Bounds of one read request; a log is read in as many as it takes.
const (
	readBatch = 512
	readBytes = 1 << 20
	readWait  = 5 * time.Second // For one of them, to its last message.
)

// errSilent says that a read was not answered in time: the server is away, frozen, or lost what was read.
var errSilent = errors.New("the server did not answer")

// scan calls fn for each message of some subjects after a sequence, to the end of the stream or until fn returns false. It asks
// for bounded batches without any consumer.
func (b *Bus) scan(ctx context.Context, stream, subjects string, after uint64, fn func(*jetstream.RawStreamMsg) bool) error {
	for {
		batch := batchRead{bus: b, stream: stream, subjects: subjects, last: after, fn: fn}
		err := batch.run(ctx)
		if err != nil || batch.ended {
			return err
		}
		after = batch.last
	}
}

// batchRead is one request of scan. What a server answers to it are the messages with its own headers after those of whoever published
// them, who may have given them the same names, or made the server's unreadable. So what the headers say is believed only where they are
// whole; every other message is asked for once more, in a way that does not mix the two.
type batchRead struct {
	bus              *Bus
	stream, subjects string
	last             uint64 // Sequence of the last message.
	ended            bool   // There is nothing more, or nobody wants it.
	fn               func(*jetstream.RawStreamMsg) bool
}

func (r *batchRead) run(ctx context.Context) error {
	ask, err := json.Marshal(map[string]any{
		"seq": r.last + 1, "next_by_subj": r.subjects, "batch": readBatch, "max_bytes": readBytes,
	})
	if err != nil {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, readWait)
	defer cancel()
	answers := make(chan *nats.Msg, 2*readBatch) // More than come: the messages, and one that says that it was all.
	inbox := r.bus.nc.NewInbox()
	sub, err := r.bus.nc.ChanSubscribe(inbox, answers)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }() // Fails only on a closed connection, which has none.
	if err := r.bus.nc.PublishRequest(jetstream.DefaultAPIPrefix+"DIRECT.GET."+r.stream, inbox, ask); err != nil {
		return err
	}
	asked := r.last
	for {
		select {
		case msg := <-answers:
			if done, err := r.take(ctx, msg); err != nil || done {
				return err
			}
		case <-waiting.Done():
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case r.last == asked: // Which must not pass for the end of the log.
				return fmt.Errorf("%w after event %d", errSilent, asked)
			}
			return nil // Some of it came; the rest is asked for again.
		}
	}
}

// take takes one answer and reports whether it was the last one.
func (r *batchRead) take(ctx context.Context, msg *nats.Msg) (done bool, err error) {
	whole := isWhole(msg.Header, headerBytes(msg))
	var stored *jetstream.RawStreamMsg
	if whole {
		stored = fromHeaders(msg, r.last)
	}
	if stored == nil && whole && last(msg.Header, jetstream.StreamHeader) == "" {
		switch status := last(msg.Header, "Status"); status {
		case "204": // The end of the batch.
			return true, nil
		case "404": // Nothing is left.
			r.ended = true
			return true, nil
		case "503":
			return true, nats.ErrNoResponders
		default:
			return true, fmt.Errorf("the server answered %.20q: %.200q", status, last(msg.Header, "Description"))
		}
	}
	pending := uint64(1) // Where nobody can tell, there may be more.
	if stored != nil {
		if pending, err = strconv.ParseUint(last(msg.Header, "Nats-Num-Pending"), 10, 64); err != nil {
			return true, fmt.Errorf("the server does not say how much is left: %w", err)
		}
	} else if stored, err = r.bus.next(ctx, r.stream, r.subjects, r.last); err != nil {
		return true, err
	}
	r.last, r.ended = stored.Sequence, pending == 0
	if !r.fn(stored) {
		r.ended = true
		return true, nil
	}
	return false, nil
}

// fromHeaders returns the message that an answer of a batch is by its headers, or nil when they do not say, or not one that comes after
// the given sequence.
func fromHeaders(msg *nats.Msg, after uint64) *jetstream.RawStreamMsg {
	if last(msg.Header, jetstream.SubjectHeader) == "" {
		return nil
	}
	seq, err := strconv.ParseUint(last(msg.Header, jetstream.SequenceHeader), 10, 64)
	if err != nil || seq <= after {
		return nil
	}
	at, err := time.Parse(time.RFC3339Nano, last(msg.Header, jetstream.TimeStampHeaer))
	if err != nil {
		return nil
	}
	return &jetstream.RawStreamMsg{
		Subject: last(msg.Header, jetstream.SubjectHeader), Sequence: seq, Time: at, Header: msg.Header, Data: msg.Data,
	}
}

// last returns the value of a header that was put there last, which is the server's own: a publisher's come before it.
func last(header nats.Header, name string) string {
	if values := header[name]; len(values) > 0 {
		return values[len(values)-1]
	}
	return ""
}

// Bounds for isWhole: the headers that the server adds to a message take more than addedBytes, and maxLines lines can hide fewer.
const (
	addedBytes = 140 // Six names are 85 of it, and then come signs between and the shortest values there can be.
	maxLines   = 40
	slack      = 3 * maxLines // A line may be up to two bytes shorter than it is counted, and the first line one.
)

// headerBytes returns how long the headers of a message were when it came.
func headerBytes(msg *nats.Msg) int {
	return msg.Size() - len(msg.Subject) - len(msg.Reply) - len(msg.Data)
}

// isWhole reports whether the headers of a message were read to their end. An empty line between them, which a publisher may put there
// by writing the protocol itself, ends the reading before those of the server. The client does not show what it has not read, but
// how long all was: what is missing in what it has read is less than a server's headers take.
func isWhole(header nats.Header, length int) bool {
	if length == 0 {
		return true // There were none.
	}
	read, lines := len("NATS/1.0\r\n\r\n"), 0
	for name, values := range header {
		for _, value := range values {
			read += len(name) + len(": ") + len(value) + len("\r\n")
			lines++
		}
	}
	return header != nil && lines <= maxLines && length < read+addedBytes-slack
}

// storedMessage is a message as the API of its stream tells it: nothing of it is in headers.
type storedMessage struct {
	Subject string    `json:"subject"`
	Seq     uint64    `json:"seq"`
	Header  []byte    `json:"hdrs"` // As its publisher sent them.
	Data    []byte    `json:"data"`
	Time    time.Time `json:"time"`
}

// getStored asks the leader of a stream for one message.
func (b *Bus) getStored(ctx context.Context, stream string, ask map[string]any) (storedMessage, error) {
	request, err := json.Marshal(ask)
	if err != nil {
		return storedMessage{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, readWait)
	defer cancel()
	reply, err := b.nc.RequestWithContext(ctx, jetstream.DefaultAPIPrefix+"STREAM.MSG.GET."+stream, request)
	if err != nil {
		return storedMessage{}, err
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message storedMessage       `json:"message"`
	}
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		return storedMessage{}, err
	}
	if answer.Error != nil {
		return storedMessage{}, answer.Error
	}
	return answer.Message, nil
}

// next returns the first message of some subjects after a sequence.
func (b *Bus) next(ctx context.Context, stream, subjects string, after uint64) (*jetstream.RawStreamMsg, error) {
	stored, err := b.getStored(ctx, stream, map[string]any{"seq": after + 1, "next_by_subj": subjects})
	if err != nil {
		return nil, fmt.Errorf("look at what comes after %d: %w", after, err)
	}
	if stored.Seq <= after {
		return nil, fmt.Errorf("the server answered message %d to the question for what comes after %d", stored.Seq, after)
	}
	header, err := nats.DecodeHeadersMsg(stored.Header)
	if err != nil {
		header = nil // Its publisher's, which nobody can read.
	}
	return &jetstream.RawStreamMsg{Subject: stored.Subject, Sequence: stored.Seq, Time: stored.Time, Header: header, Data: stored.Data}, nil
}
