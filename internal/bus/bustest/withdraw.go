package bustest

import (
	"context"
	"slices"

	"github.com/rlaaudgjs5638/hersh/events"
)

// Withdraw removes, from the queues of a host, the messages of programs whose effects were decided by an event before the given one,
// and returns how many there were.
func (m *Memory) Withdraw(ctx context.Context, host events.HostID, before map[events.ProgramID]uint64) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	was := len(m.effects.messages)
	m.effects.messages = slices.DeleteFunc(m.effects.messages, func(msg *message) bool {
		return msg.waitsFor(host) && msg.seq < before[msg.program]
	})
	return was - len(m.effects.messages), nil
}
