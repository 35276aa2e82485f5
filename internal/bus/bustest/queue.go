package bustest

import (
	"slices"
	"strings"
	"time"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

// queue is a work queue: a message is there until it is acknowledged.
type queue struct {
	messages []*message
	keys     map[string]time.Time // Of publications with a key; those of messages that are gone are forgotten at a restart.
	last     int
}

// message is one in a work queue: a wake-up, or the effects of one transition.
type message struct {
	number    int
	subject   string
	program   events.ProgramID
	seq       uint64 // Of the program's log.
	key       string
	delivered int
	due       time.Time // When it may be delivered; for one in flight, when it is given to another.
}

// push adds a message, unless its key is known, and reports whether it did. A subject takes effects.MaxWaiting.
func (q *queue) push(m message, now time.Time) (bool, error) {
	if at, found := q.keys[m.key]; found && m.key != "" && now.Sub(at) < DedupWindow {
		return false, nil
	}
	waiting := 0
	for _, other := range q.messages {
		if other.subject == m.subject {
			waiting++
		}
	}
	if waiting >= effects.MaxWaiting {
		return false, effects.ErrBacklog
	}
	if q.keys == nil {
		q.keys = map[string]time.Time{}
	}
	if m.key != "" {
		q.keys[m.key] = now
	}
	q.last++
	m.number = q.last
	q.messages = append(q.messages, &m)
	return true, nil
}

// replace adds a message in place of the one of the same program, in flight or not: there is one a subject.
func (q *queue) replace(m message) {
	q.messages = slices.DeleteFunc(q.messages, func(old *message) bool { return old.program == m.program })
	q.last++
	m.number = q.last
	q.messages = append(q.messages, &m)
}

func (q *queue) find(number int) *message {
	for _, m := range q.messages {
		if m.number == number {
			return m
		}
	}
	return nil
}

// next returns the first message that is due of those whose subject begins so.
func (q *queue) next(prefix string, now time.Time) *message {
	for _, m := range q.messages {
		if strings.HasPrefix(m.subject, prefix) && !now.Before(m.due) {
			return m
		}
	}
	return nil
}

func (q *queue) remove(number int) {
	q.messages = slices.DeleteFunc(q.messages, func(m *message) bool { return m.number == number })
}

// Delivery is a message that a worker was given. A worker answers with Ack or Nak; one that answers nothing within the
// ack wait, which Progress begins anew, loses it to another.
type Delivery struct {
	ProgramID events.ProgramID
	Seq       uint64
	Delivered int // How often, this time included.
	memory    *Memory
	queue     *queue
	number    int
}

// TakeWake gives the oldest wake-up that is due.
func (m *Memory) TakeWake() (Delivery, bool) { return m.take(&m.wakes, "") }

// TakeEffects gives the oldest message that is due of one queue of effects.
func (m *Memory) TakeEffects(host events.HostID, class events.Class) (Delivery, bool) {
	return m.take(&m.effects, queuePrefix(host, class))
}

// queuePrefix is what the subjects of all programs in a queue of effects begin with.
func queuePrefix(host events.HostID, class events.Class) string {
	return strings.TrimSuffix(events.EffectsSubjects(host, class), "*.*")
}

func (m *Memory) take(q *queue, prefix string) (Delivery, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.cfg.Now()
	msg := q.next(prefix, now)
	if msg == nil {
		return Delivery{}, false
	}
	msg.delivered++
	msg.due = now.Add(m.cfg.AckWait)
	return Delivery{ProgramID: msg.program, Seq: msg.seq, Delivered: msg.delivered, memory: m, queue: q, number: msg.number}, true
}

// PeekEffects says what the message is about that TakeEffects would give.
func (m *Memory) PeekEffects(host events.HostID, class events.Class) (id events.ProgramID, seq uint64, found bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	msg := m.effects.next(queuePrefix(host, class), m.cfg.Now())
	if msg == nil {
		return "", 0, false
	}
	return msg.program, msg.seq, true
}

// PeekWake reports whether a wake-up is due.
func (m *Memory) PeekWake() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.wakes.next("", m.cfg.Now()) != nil
}

// Ack says that the work is done. It counts from whoever was ever given the message, as on the server.
func (d Delivery) Ack() {
	d.memory.mu.Lock()
	defer d.memory.mu.Unlock()
	d.queue.remove(d.number)
}

// Nak gives the work back, to come again after a delay.
func (d Delivery) Nak(delay time.Duration) { d.setDue(delay) }

// Progress says that the work goes on.
func (d Delivery) Progress() { d.setDue(d.memory.cfg.AckWait) }

func (d Delivery) setDue(in time.Duration) {
	m := d.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	if msg := d.queue.find(d.number); msg != nil {
		msg.due = m.cfg.Now().Add(in)
		m.notify("")
	}
}

// Restart is what a restart of the server does to what it holds: streams in memory are gone, and of work queues it remembers
// the keys of those messages only that are still there.
func (m *Memory) Restart() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wakes = queue{last: m.wakes.last}
	kept := map[string]time.Time{}
	for _, msg := range m.effects.messages {
		if at, found := m.effects.keys[msg.key]; found {
			kept[msg.key] = at
		}
	}
	m.effects.keys = kept
}

// DropWake loses the wake-up of a program.
func (m *Memory) DropWake(id events.ProgramID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wakes.messages = slices.DeleteFunc(m.wakes.messages, func(msg *message) bool { return msg.program == id })
}

// SetCheckpoint puts any checkpoint in place, as a fault would; one that is not readable is there but holds nothing of use.
func (m *Memory) SetCheckpoint(id events.ProgramID, cp reducer.Checkpoint, readable bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.checkpoints[id] = saved{cp: cp, readable: readable}
}

// Waiting counts the messages in the queues, in flight or not.
func (m *Memory) Waiting() (wakes, effects int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.wakes.messages), len(m.effects.messages)
}

// WaitingFor counts the messages in the queues of one host, in flight or not.
func (m *Memory) WaitingFor(host events.HostID) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, msg := range m.effects.messages {
		if msg.waitsFor(host) {
			n++
		}
	}
	return n
}

func (m *message) waitsFor(host events.HostID) bool {
	return strings.HasPrefix(m.subject, queuePrefix(host, events.ClassBuild)) || strings.HasPrefix(m.subject, queuePrefix(host, events.ClassRun))
}

// Published counts the events and effects messages that were stored, repeated keys not counted.
func (m *Memory) Published() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.published
}
