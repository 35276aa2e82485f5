package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rlaaudgjs5638/hersh/events"
)

// deletion is the value of a program that was deleted: the word of somebody that it was meant, for the hosts that have something of
// it. A log that is not there proves less, since a bus that lost its data has none either.
type deletion struct {
	At time.Time `json:"at"`
}

func (b *Bus) noteDeletion(ctx context.Context, id events.ProgramID) error {
	data, err := json.Marshal(deletion{At: time.Now().UTC()})
	if err != nil {
		return err
	}
	kv, err := b.js.KeyValue(ctx, events.BucketDeleted)
	if err == nil {
		_, err = kv.Put(ctx, events.CheckpointKey(id), data)
	}
	return err
}

func (b *Bus) deletionNoted(ctx context.Context, id events.ProgramID) (bool, error) {
	kv, err := b.js.KeyValue(ctx, events.BucketDeleted)
	if err == nil {
		_, err = kv.Get(ctx, events.CheckpointKey(id))
	}
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look whether program %s was deleted: %w", id, err)
	}
	return true, nil
}

// Deletions returns the programs that were deleted in the last months.
func (b *Bus) Deletions(ctx context.Context) iter.Seq2[events.ProgramID, error] {
	return func(yield func(events.ProgramID, error) bool) {
		err := b.eachValue(ctx, events.BucketDeleted, events.UserCheckpointKeys("*"), func(key string, _ []byte) bool {
			id, err := events.ParseCheckpointKey(key)
			return err != nil || yield(id, nil)
		})
		if err != nil {
			yield("", fmt.Errorf("list deleted programs: %w", err))
		}
	}
}

// dropSource removes the source of a program that is deleted, unless another program of the user has the same.
func (b *Bus) dropSource(ctx context.Context, id events.ProgramID) error {
	programs, err := b.layout.Programs(ctx, id.User())
	if err != nil {
		return err
	}
	if slices.ContainsFunc(programs, func(other events.ProgramID) bool { return other.Build() == id.Build() }) {
		return nil
	}
	store, err := b.js.ObjectStore(ctx, events.BucketSources)
	if err != nil {
		return err
	}
	err = store.Delete(ctx, events.SourceKey(id.User(), id.Build()))
	if errors.Is(err, jetstream.ErrObjectNotFound) {
		return nil
	}
	return err
}
