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

// deletion is a note that somebody means to delete a program. With it, a log that is not there by the word of its leader is one that was
// deleted; without, it may as well be lost, and hosts keep what they have of its program. No times are compared, since the clocks of
// servers differ and events are stored until the log is gone. Where there is a note and a log too, either the deletion failed or the
// program was created again: Create and each sweep take such a note back. A sweep may do so amid a deletion, so the note is stored once
// more when the log is gone. What is left of a program stays only if, besides, the process ends right between; and a log that is lost
// passes for one that was deleted only where a deletion failed since the last sweep.
type deletion struct {
	At     time.Time `json:"at"`               // For people.
	Source string    `json:"source,omitempty"` // Which upload was its source: one that came later is for another program.
}

// noteDeletion notes that somebody is about to delete a program.
func (b *Bus) noteDeletion(ctx context.Context, id events.ProgramID) (deletion, error) {
	info, err := b.sourceInfo(ctx, id.User(), id.Build())
	if err != nil {
		return deletion{}, err
	}
	note := deletion{At: time.Now().UTC(), Source: info.NUID} // Each upload of the same source has another.
	return note, b.putDeletion(ctx, id, note)
}

func (b *Bus) putDeletion(ctx context.Context, id events.ProgramID, note deletion) error {
	data, err := json.Marshal(note)
	if err != nil {
		return err
	}
	kv, err := b.js.KeyValue(ctx, events.BucketDeleted)
	if err == nil {
		_, err = kv.Put(ctx, events.CheckpointKey(id), data)
	}
	if err != nil {
		return fmt.Errorf("note that program %s is deleted: %w", id, err)
	}
	return nil
}

// deletionNoted returns the note that a program is deleted, and its revision, by the word of the bucket's leader. Revision 0 says that
// there is none.
func (b *Bus) deletionNoted(ctx context.Context, id events.ProgramID) (deletion, uint64, error) {
	stored, found, err := b.valueByLeader(ctx, events.BucketDeleted, events.CheckpointKey(id))
	if err != nil {
		return deletion{}, 0, fmt.Errorf("look whether program %s was deleted: %w", id, err)
	}
	if !found {
		return deletion{}, 0, nil
	}
	var note deletion
	_ = json.Unmarshal(stored.Data, &note) // That it is there says what matters; without the upload the source stays.
	return note, stored.Seq, nil
}

// TakeBackDeletion removes the note that a program is deleted where its log is there: should that be lost one day, it must not pass for a
// deletion. It looks for the log after it has read the note, for the note that is stored when the log is gone is to stay.
func (b *Bus) TakeBackDeletion(ctx context.Context, id events.ProgramID) error {
	_, revision, err := b.deletionNoted(ctx, id)
	if err != nil || revision == 0 {
		return err
	}
	_, err = b.Head(ctx, id)
	if errors.Is(err, events.ErrNoProgram) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("take back the deletion of program %s: %w", id, err)
	}
	return b.takeBack(ctx, id, revision)
}

// takeBack leaves a note that is newer than what was read, which is of another deletion.
func (b *Bus) takeBack(ctx context.Context, id events.ProgramID, revision uint64) error {
	kv, err := b.js.KeyValue(ctx, events.BucketDeleted)
	if err == nil {
		err = kv.Purge(ctx, events.CheckpointKey(id), jetstream.LastRevision(revision))
	}
	if err != nil && !isConflict(err) {
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

// dropSource removes the source of a program that was deleted, unless another program of the user has the same, or it was uploaded again
// since: then it is for one that is about to be created.
func (b *Bus) dropSource(ctx context.Context, id events.ProgramID, upload string) error {
	programs, err := b.layout.Programs(ctx, id.User())
	if err != nil {
		return err
	}
	if slices.ContainsFunc(programs, func(other events.ProgramID) bool { return other.Build() == id.Build() }) {
		return nil
	}
	info, err := b.sourceInfo(ctx, id.User(), id.Build())
	if err != nil || info.NUID == "" || info.NUID != upload {
		return err
	}
	store, err := b.js.ObjectStore(ctx, events.BucketSources)
	if err == nil {
		err = store.Delete(ctx, events.SourceKey(id.User(), id.Build()))
	}
	if errors.Is(err, jetstream.ErrObjectNotFound) {
		return nil
	}
	return err
}
