package bustest

import (
	"maps"
	"slices"
	"time"
)

// Clone returns a bus that holds the same and goes on by itself, with a clock of its own. Nobody watches it, and deliveries are of the bus
// that gave them.
func (m *Memory) Clone(now func() time.Time) *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	cfg := m.cfg
	cfg.Now = now
	c := NewMemory(cfg)
	c.ids, c.deleted = slices.Clone(m.ids), slices.Clone(m.deleted)
	for id, p := range m.programs {
		c.programs[id] = p.clone()
	}
	c.wakes, c.effects = m.wakes.clone(), m.effects.clone()
	c.checkpoints, c.leases, c.beats = maps.Clone(m.checkpoints), maps.Clone(m.leases), maps.Clone(m.beats)
	c.drains, c.published = maps.Clone(m.drains), m.published
	return c
}

func (p *program) clone() *program {
	c := *p
	c.events = slices.Clip(p.events) // Only ever appended to.
	c.keys, c.perType = maps.Clone(p.keys), maps.Clone(p.perType)
	return &c
}

func (q *queue) clone() queue {
	c := queue{keys: maps.Clone(q.keys), last: q.last}
	for _, m := range q.messages {
		copied := *m
		c.messages = append(c.messages, &copied)
	}
	return c
}
