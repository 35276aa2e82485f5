package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

// kvOperationHeader marks a value that says that its key was deleted.
const kvOperationHeader = "KV-Operation"

// saveTries bounds how often Save meets another supervisor that is just ahead or behind.
const saveTries = 5

// Load returns the checkpoint of a program, and false when there is none that can be read: then the log gives it again.
func (b *Bus) Load(ctx context.Context, id events.ProgramID) (reducer.Checkpoint, bool, error) {
	cp, _, err := b.loadRevision(ctx, id)
	if errors.Is(err, jetstream.ErrKeyNotFound) || errors.Is(err, errUnreadable) {
		return reducer.Checkpoint{}, false, nil
	}
	return cp, err == nil, err
}

// errUnreadable says that a checkpoint is there but holds nothing of use.
var errUnreadable = errors.New("the checkpoint cannot be read")

func (b *Bus) loadRevision(ctx context.Context, id events.ProgramID) (reducer.Checkpoint, uint64, error) {
	kv, err := b.js.KeyValue(ctx, events.BucketPrograms)
	if err != nil {
		return reducer.Checkpoint{}, 0, fmt.Errorf("load checkpoint of %s: %w", id, err)
	}
	entry, err := kv.Get(ctx, events.CheckpointKey(id))
	if err != nil {
		return reducer.Checkpoint{}, 0, fmt.Errorf("load checkpoint of %s: %w", id, err)
	}
	cp, err := decodeCheckpoint(id, entry.Value())
	return cp, entry.Revision(), err
}

// savedCheckpoint is a checkpoint as it is stored, with the version of the rules that it was folded by.
type savedCheckpoint struct {
	Version int `json:"version"`
	reducer.Checkpoint
}

func decodeCheckpoint(id events.ProgramID, data []byte) (reducer.Checkpoint, error) {
	var saved savedCheckpoint
	err := json.Unmarshal(data, &saved)
	if err != nil || saved.Version != reducer.Version || saved.State.ID != id || saved.Seq == 0 {
		return reducer.Checkpoint{}, fmt.Errorf("load checkpoint of %s: %w", id, errUnreadable)
	}
	return saved.Checkpoint, nil
}

// Save stores a checkpoint, unless the one that is there is of a later sequence. With replace it stores it in any case: the one
// that is there is known to be wrong.
func (b *Bus) Save(ctx context.Context, cp reducer.Checkpoint, replace bool) error {
	id := cp.State.ID
	data, err := json.Marshal(savedCheckpoint{reducer.Version, cp})
	if err != nil {
		return fmt.Errorf("save checkpoint of %s: %w", id, err)
	}
	kv, err := b.js.KeyValue(ctx, events.BucketPrograms)
	if err != nil {
		return fmt.Errorf("save checkpoint of %s: %w", id, err)
	}
	for range saveTries {
		old, revision, loadErr := b.loadRevision(ctx, id)
		switch {
		case errors.Is(loadErr, jetstream.ErrKeyNotFound):
			_, err = kv.Create(ctx, events.CheckpointKey(id), data)
		case loadErr != nil && !errors.Is(loadErr, errUnreadable):
			return loadErr
		case loadErr == nil && old.Seq > cp.Seq && !replace:
			return nil
		default:
			_, err = kv.Update(ctx, events.CheckpointKey(id), data, revision)
		}
		if err == nil {
			return nil
		}
		if !isConflict(err) {
			break
		}
	}
	return fmt.Errorf("save checkpoint of %s: %w", id, err)
}

// isConflict reports that a compare-and-set met another writer. A single server says so with code 10071, a cluster also with 10164.
func isConflict(err error) bool {
	var apiErr *jetstream.APIError
	const wrongLastSequence, wrongLastSequenceCluster = 10071, 10164
	return errors.Is(err, jetstream.ErrKeyExists) ||
		errors.As(err, &apiErr) && (apiErr.ErrorCode == wrongLastSequence || apiErr.ErrorCode == wrongLastSequenceCluster)
}

// Checkpoints returns the read model: the checkpoint of every program of a user, "" for all users. Unreadable ones are left out;
// the sweep mends them. One that is saved meanwhile comes again, the newer one last.
func (b *Bus) Checkpoints(ctx context.Context, user events.UserID) iter.Seq2[reducer.Checkpoint, error] {
	return func(yield func(reducer.Checkpoint, error) bool) {
		keys := events.UserCheckpointKeys("*")
		if user != "" {
			keys = events.UserCheckpointKeys(user)
		}
		err := b.eachValue(ctx, events.BucketPrograms, keys, func(key string, value []byte) bool {
			id, err := events.ParseCheckpointKey(key)
			if err != nil {
				return true
			}
			cp, err := decodeCheckpoint(id, value)
			return err != nil || yield(cp, nil)
		})
		if err != nil {
			yield(reducer.Checkpoint{}, fmt.Errorf("list checkpoints: %w", err))
		}
	}
}

// eachValue calls fn for the present value of each key of a bucket, until it returns false. It reads without a consumer, which not
// every user may make. A key that is written meanwhile comes again, with its newer value.
func (b *Bus) eachValue(ctx context.Context, bucket, keys string, fn func(key string, value []byte) bool) error {
	prefix := "$KV." + bucket + "."
	return b.scan(ctx, "KV_"+bucket, prefix+keys, 0, func(msg *jetstream.RawStreamMsg) bool {
		if msg.Header.Get(kvOperationHeader) != "" || msg.Header.Get(jetstream.MarkerReasonHeader) != "" {
			return true // It says that the key was deleted, or has expired.
		}
		return fn(strings.TrimPrefix(msg.Subject, prefix), msg.Data)
	})
}

// DropCheckpoint removes the checkpoint of a program without a log; one that is gone is fine. Where somebody deleted the program, Remove
// may not have come to its end, and what it left goes too. A log that is only lost takes nothing else with it.
func (b *Bus) DropCheckpoint(ctx context.Context, id events.ProgramID) error {
	note, revision, err := b.deletionNoted(ctx, id)
	if err != nil {
		return err
	}
	if revision != 0 {
		return b.removeRest(ctx, id, note)
	}
	return b.purgeCheckpoint(ctx, id)
}

func (b *Bus) purgeCheckpoint(ctx context.Context, id events.ProgramID) error {
	kv, err := b.js.KeyValue(ctx, events.BucketPrograms)
	if err == nil {
		err = kv.Purge(ctx, events.CheckpointKey(id))
	}
	if err != nil {
		return fmt.Errorf("remove checkpoint of %s: %w", id, err)
	}
	return nil
}
