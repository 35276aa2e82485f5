package bustest

import (
	"context"
	"iter"
	"slices"

	"github.com/rlaaudgjs5638/hersh/events"
)

// Drain says that a host takes no new program from now on, or that it does again.
func (m *Memory) Drain(ctx context.Context, host events.HostID, drained bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.drains == nil {
		m.drains = map[events.HostID]bool{}
	}
	m.drains[host] = drained
	return nil
}

// Drained reports whether a host is to take no new program.
func (m *Memory) Drained(ctx context.Context, host events.HostID) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.drains[host], ctx.Err()
}

// Deletions returns the programs that were deleted.
func (m *Memory) Deletions(ctx context.Context) iter.Seq2[events.ProgramID, error] {
	return func(yield func(events.ProgramID, error) bool) {
		if err := ctx.Err(); err != nil {
			yield("", err)
			return
		}
		m.mu.Lock()
		deleted := slices.Clone(m.deleted)
		m.mu.Unlock()
		for _, id := range deleted {
			if !yield(id, nil) {
				return
			}
		}
	}
}

// TakeBackDeletion removes the note that a program was deleted where its log is there.
func (m *Memory) TakeBackDeletion(ctx context.Context, id events.ProgramID) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.programs[id] != nil {
		m.deleted = slices.DeleteFunc(m.deleted, func(other events.ProgramID) bool { return other == id })
	}
	return nil
}

// NoteDeletion is as much of Remove as is done when it fails to remove the log.
func (m *Memory) NoteDeletion(id events.ProgramID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.deleted = append(m.deleted, id)
}
