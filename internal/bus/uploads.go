package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rlaaudgjs5638/hersh/events"
)

// offsetHeader is where in its upload a chunk belongs.
const offsetHeader = "Hersh-Offset"

// ErrIncomplete says that an upload lacks a chunk.
var ErrIncomplete = errors.New("the upload lacks a part")

// StageChunk keeps a chunk of an upload. Doing it again, within an hour, changes nothing.
func (b *Bus) StageChunk(ctx context.Context, user events.UserID, upload string, offset int64, data []byte) error {
	msg := nats.NewMsg(events.UploadSubject(user, upload))
	msg.Data = data
	at := strconv.FormatInt(offset, 10)
	msg.Header.Set(offsetHeader, at)
	msg.Header.Set(jetstream.MsgIDHeader, string(user)+"/"+upload+"/"+at)
	if _, err := b.js.PublishMsg(ctx, msg); err != nil {
		return fmt.Errorf("keep a chunk of an upload of %s: %w", user, err)
	}
	return nil
}

// StagedChunks counts the chunks that are kept for a user, of all uploads that are not complete.
func (b *Bus) StagedChunks(ctx context.Context, user events.UserID) (int64, error) {
	stream, err := b.js.Stream(ctx, events.StreamUploads)
	if err != nil {
		return 0, fmt.Errorf("count uploads of %s: %w", user, err)
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(events.UploadSubjects(user)))
	if err != nil {
		return 0, fmt.Errorf("count uploads of %s: %w", user, err)
	}
	var n uint64
	for _, count := range info.State.Subjects {
		n += count
	}
	return int64(min(n, 1<<40)), nil
}

// CopyUpload writes the chunks of an upload in their order, and returns how many bytes there are.
func (b *Bus) CopyUpload(ctx context.Context, w io.Writer, user events.UserID, upload string) (int64, error) {
	var total int64
	var failure error
	err := b.scan(ctx, events.StreamUploads, events.UploadSubject(user, upload), 0, func(msg *jetstream.RawStreamMsg) bool {
		offset, err := strconv.ParseInt(msg.Header.Get(offsetHeader), 10, 64)
		switch {
		case err != nil || offset > total:
			failure = ErrIncomplete
		case offset < total:
			return true // It was sent twice.
		default:
			_, failure = w.Write(msg.Data)
			total += int64(len(msg.Data))
		}
		return failure == nil
	})
	if err = errors.Join(err, failure); err != nil {
		return total, fmt.Errorf("read an upload of %s: %w", user, err)
	}
	return total, nil
}

// DropUpload removes the chunks of an upload.
func (b *Bus) DropUpload(ctx context.Context, user events.UserID, upload string) error {
	stream, err := b.js.Stream(ctx, events.StreamUploads)
	if err == nil {
		err = stream.Purge(ctx, jetstream.WithPurgeSubject(events.UploadSubject(user, upload)))
	}
	if err != nil {
		return fmt.Errorf("remove an upload of %s: %w", user, err)
	}
	return nil
}

// SourceBytes is how much the sources of a user are together.
func (b *Bus) SourceBytes(ctx context.Context, user events.UserID) (int64, error) {
	var total int64
	err := b.scan(ctx, "OBJ_"+events.BucketSources, "$O."+events.BucketSources+".M.>", 0, func(msg *jetstream.RawStreamMsg) bool {
		var info jetstream.ObjectInfo
		if json.Unmarshal(msg.Data, &info) == nil && !info.Deleted && strings.HasPrefix(info.Name, string(user)+".") {
			total += int64(min(info.Size, 1<<50)) // #nosec G115 -- Bounded, since a size that somebody made up must not turn the sum negative.
		}
		return true
	})
	if err != nil {
		return 0, fmt.Errorf("add up the sources of %s: %w", user, err)
	}
	return total, nil
}
