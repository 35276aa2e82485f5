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
	At time.Time `json:"at"` // For people. What is decided goes by when the server stored it.
}

// noteDeletion notes that somebody deletes a program, and returns when, by the clock of the server.
func (b *Bus) noteDeletion(ctx context.Context, id events.ProgramID) (time.Time, error) {
	data, err := json.Marshal(deletion{At: time.Now().UTC()})
	if err != nil {
		return time.Time{}, err
	}
	kv, err := b.js.KeyValue(ctx, events.BucketDeleted)
	if err == nil {
		_, err = kv.Put(ctx, events.CheckpointKey(id), data)
	}
	if err != nil {
		return time.Time{}, err
	}
	at, _, err := b.deletionNoted(ctx, id)
	return at, err
}

// deletionNoted reports whether somebody deleted a program, and when, by the clock of the server.
func (b *Bus) deletionNoted(ctx context.Context, id events.ProgramID) (time.Time, bool, error) {
	note, found, err := b.valueByLeader(ctx, events.BucketDeleted, events.CheckpointKey(id))
	if err != nil {
		return time.Time{}, false, fmt.Errorf("look whether program %s was deleted: %w", id, err)
	}
	return note.Time, found, nil
}

// takeBackDeletion removes the note of a deletion, if there is one: the program lives, and should its log be lost one day, that must not
// pass for a deletion.
func (b *Bus) takeBackDeletion(ctx context.Context, id events.ProgramID) error {
	_, noted, err := b.deletionNoted(ctx, id)
	if err != nil || !noted {
		return err
	}
	kv, err := b.js.KeyValue(ctx, events.BucketDeleted)
	if err == nil {
		err = kv.Purge(ctx, events.CheckpointKey(id))
	}
	if err != nil {
		return fmt.Errorf("take back the deletion of program %s: %w", id, err)
	}
	return nil
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

// dropSource removes the source of a program that was deleted at a time, unless another program of the user has the same, or it was
// uploaded since: then it is for one that is about to be created. Both times are the servers'.
func (b *Bus) dropSource(ctx context.Context, id events.ProgramID, deleted time.Time) error {
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
	key := events.SourceKey(id.User(), id.Build())
	info, err := store.GetInfo(ctx, key)
	if err == nil && info.ModTime.Before(deleted) {
		err = store.Delete(ctx, key)
	}
	if errors.Is(err, jetstream.ErrObjectNotFound) {
		return nil
	}
	return err
}
