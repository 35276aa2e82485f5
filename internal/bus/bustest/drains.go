package bustest

import (
	"context"

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
