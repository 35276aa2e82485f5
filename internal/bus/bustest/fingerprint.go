package bustest

import (
	"hash/maphash"
	"slices"
	"time"

	"github.com/rlaaudgjs5638/hersh/events"
)

// Fingerprints are numbers that differ where what a part of the bus holds differs, and are the same where it is the same whatever
// came before. They hold within one process.
type Fingerprints struct {
	Logs        uint64 // Events, and the keys of publications.
	Checkpoints uint64
	Queues      uint64 // Wake-ups and effects: what is in them, in which order, and when it is due.
	Hosts       uint64 // Which heartbeats there are, and until when.
}

// Fingerprints returns those of now.
func (m *Memory) Fingerprints(seed maphash.Seed) Fingerprints {
	m.mu.Lock()
	defer m.mu.Unlock()
	var f Fingerprints
	for id, p := range m.programs {
		f.Logs += p.fingerprint(seed) ^ maphash.String(seed, string(id))
	}
	for _, s := range m.checkpoints {
		f.Checkpoints += maphash.Comparable(seed, s)
	}
	f.Queues = m.wakes.fingerprint(seed) ^ m.effects.fingerprint(seed)<<1
	for id, b := range m.beats {
		f.Hosts += maphash.Comparable(seed, struct {
			id    events.HostID
			until time.Time
		}{id, b.until})
	}
	return f
}

// fingerprint goes on from the events that it has seen already: a log only grows.
func (p *program) fingerprint(seed maphash.Seed) uint64 {
	for _, stored := range p.events[p.printed:] {
		p.print = maphash.Comparable(seed, [3]uint64{p.print, maphash.Bytes(seed, stored.Data), maphash.Comparable(seed, struct {
			typ events.Type
			at  time.Time
		}{stored.Type, stored.Time})})
	}
	p.printed = len(p.events)
	sum := p.print
	for key, at := range p.keys {
		sum += maphash.Comparable(seed, struct {
			key string
			at  stamp
		}{key, at})
	}
	return sum
}

// fingerprint leaves out the numbers of messages, which say how many there ever were.
func (q *queue) fingerprint(seed maphash.Seed) uint64 {
	sum := uint64(0)
	for _, m := range q.messages {
		plain := *m
		plain.number = 0
		sum = maphash.Comparable(seed, [2]uint64{sum, maphash.Comparable(seed, plain)})
	}
	for key, at := range q.keys {
		sum += maphash.Comparable(seed, struct {
			key string
			at  time.Time
		}{key, at})
	}
	return sum
}

// Position says which message of its queue a delivery is of; -1 when that is there no more.
func (d Delivery) Position() int {
	d.memory.mu.Lock()
	defer d.memory.mu.Unlock()
	return slices.IndexFunc(d.queue.messages, func(m *message) bool { return m.number == d.number })
}

// Waiting is a message of a work queue, in flight or not.
type Waiting struct {
	Subject   string // "" is that of wake-ups.
	Seq       uint64
	Delivered int
	Due       time.Duration // From now; 0 is that it may be taken.
}

// Messages returns what is in the queues, in their order: wake-ups first.
func (m *Memory) Messages() (all []Waiting) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.cfg.Now()
	for _, q := range []*queue{&m.wakes, &m.effects} {
		for _, msg := range q.messages {
			all = append(all, Waiting{msg.subject, msg.seq, msg.delivered, max(msg.due.Sub(now), 0)})
		}
	}
	return all
}

// Keys calls fn, in no order, with the key of each publication that would be taken for a repetition now, and with how long ago it was.
func (m *Memory) Keys(fn func(key string, age time.Duration)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.cfg.Now()
	tell := func(key string, at time.Time) {
		if age := now.Sub(at); age < DedupWindow {
			fn(key, age)
		}
	}
	for _, p := range m.programs {
		for key, stamp := range p.keys {
			tell(key, stamp.at)
		}
	}
	for key, at := range m.effects.keys {
		tell(key, at)
	}
}
