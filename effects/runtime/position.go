package runtime

import (
	"encoding/binary"
	"hash/maphash"
	"time"
)

const (
	// settle is how much later than a message, by Docker's clock, an older one may still come. Docker gives a message its time
	// before it queues up to be written, so that those of stdout and stderr may change places; they do so within microseconds.
	settle = 2 * time.Second
	// maxRace is how much older than another a message may be, for that to be the reason.
	maxRace = 100 * time.Millisecond
	// maxRecent bounds the messages that are recognized when they come again.
	maxRecent = 16 << 10
)

// position is a place in the output of a container: behind a number of messages. Docker can be asked for messages from a
// time on, so a position is a time and a count of the messages that are to be skipped from there.
//
// The time is not simply that of the last message. The pieces of one long line all carry the time of the first; those of
// two streams may not be in the order of their times; and some daemons drop every message that is older than the time asked
// for, others only those before the first that is not. So position asks from an anchor: a message that is newer than all
// before it, and after which no older one has come for long enough. There all daemons agree on what comes after.
//
// Nor can every reading be trusted. Engine 20.10, when it puts its own log file aside under the eyes of a follower, may send
// messages twice, and when the follower is slow, it may leave out a whole file. So messages that were consumed lately are
// recognized (repeats), and a reading in which something old turns up that is not known is given up (suspect): one that does
// not follow comes from the files as they are. Where the count does not lead to the last message consumed, it is known to
// be wrong, and only the time is left.
type position struct {
	Since time.Time `json:"since,omitzero"` // What to ask Docker for; zero is all.
	Head  time.Time `json:"head,omitzero"`  // Time of the first message that Docker then sends.
	Seen  uint64    `json:"seen"`           // How many of the messages that it then sends were consumed.

	First time.Time    `json:"first,omitzero"` // Time of the first message of all.
	Total uint64       `json:"total"`          // How many messages were consumed in all.
	Last  time.Time    `json:"last,omitzero"`  // The newest time of all messages consumed.
	Tail  time.Time    `json:"tail,omitzero"`  // The time of the last message consumed.
	Open  [2]time.Time `json:"open"`           // Times of the unfinished lines of stdout and stderr; zero is none.

	next   anchor // May become the anchor once it has settled.
	skip   uint64 // Messages of this reading that are still to be skipped.
	lost   bool   // The count means nothing: Docker has thrown the anchor away, or had left something out.
	head   bool   // The next message is the first of this reading.
	fresh  bool   // This reading has come to messages that are new.
	recent recent
}

type anchor struct {
	at   time.Time
	seen uint64 // Messages consumed from it on, itself included; 0 is no anchor.
}

// begin is called before messages are read from Since on.
func (p *position) begin() {
	p.skip, p.head, p.lost, p.fresh = p.Seen, true, false, false
}

// isNew reports whether the next message of a reading is behind the position. Messages are consumed in Docker's order, so
// after one that is new all are.
func (p *position) isNew(at time.Time) bool {
	// Docker keeps a bounded part of the output. Without the anchor the count means nothing, and only the time is left.
	if p.head && p.Seen > 0 && !at.Equal(p.Head) {
		p.lost = true
	}
	p.head = false
	switch {
	case p.lost && !at.After(p.Last):
		return false
	case p.lost:
		p.lost, p.skip = false, 0
		p.Since, p.Head, p.Seen, p.next = at, at, 0, anchor{}
		return true
	case p.skip > 0 && !at.After(p.Last):
		if p.skip--; p.skip == 0 && !at.Equal(p.Tail) {
			p.lost = true
		}
		return false
	}
	p.skip = 0
	return true
}

// repeats reports whether a new message was consumed lately and is sent again. No two messages have the same time and text,
// but pieces of a long line may.
func (p *position) repeats(msg message) bool {
	return !msg.at.Equal(p.Open[msg.index()]) && p.recent.has(msg)
}

// suspect reports whether a new message is too old for its place. The first new one of a reading is not: that one was
// counted.
func (p *position) suspect(msg message) bool {
	if !p.fresh || p.Last.Sub(msg.at) <= maxRace || msg.at.Equal(p.Open[msg.index()]) {
		return false
	}
	if msg.at.Before(p.Since) {
		p.rewind()
	}
	return true
}

// consume moves the position behind a message.
func (p *position) consume(msg message) {
	at := msg.at
	if p.Total == 0 {
		p.First, p.Head = at, at
	}
	p.Total++
	p.Seen++
	p.Tail, p.fresh = at, true
	p.recent.add(msg)
	if at.Before(p.Since) {
		p.rewind()
	}
	p.advance(at)
	if at.After(p.Last) {
		p.Last = at
	}
	p.Open[msg.index()] = time.Time{}
	if !msg.whole() {
		p.Open[msg.index()] = at
	}
}

// rewind makes the start the anchor: Docker's clock was set back, and from the start there is no question of times.
func (p *position) rewind() {
	p.Since, p.Head, p.Seen = time.Time{}, p.First, p.Total
}

// advance looks for a later anchor, so that a resumed reading does not begin at the start of a long output.
func (p *position) advance(at time.Time) {
	switch {
	case p.next.seen > 0 && at.Before(p.next.at):
		p.next = anchor{} // Something older came after it.
	case p.next.seen > 0:
		p.next.seen++
	case at.After(p.Last) && p.Open == [2]time.Time{}: // More of an unfinished line would be older.
		p.next = anchor{at: at, seen: 1}
	}
	if p.next.seen > 0 && at.Sub(p.next.at) > settle {
		p.Since, p.Head, p.Seen = p.next.at, p.next.at, p.next.seen
		p.next = anchor{}
	}
}

// recent knows the last messages that were consumed, by all that Docker has of them: their time, stream and text.
type recent struct {
	seed  maphash.Seed
	ring  []uint64
	next  int
	known map[uint64]int // How often each is in the ring.
}

func (r *recent) has(msg message) bool { return len(r.ring) > 0 && r.known[r.sum(msg)] > 0 }

func (r *recent) add(msg message) {
	if r.known == nil {
		r.seed, r.known = maphash.MakeSeed(), map[uint64]int{}
	}
	sum := r.sum(msg)
	r.known[sum]++
	if len(r.ring) < maxRecent {
		r.ring = append(r.ring, sum)
		return
	}
	old := r.ring[r.next]
	if r.known[old]--; r.known[old] == 0 {
		delete(r.known, old)
	}
	r.ring[r.next] = sum
	r.next = (r.next + 1) % maxRecent
}

func (r *recent) sum(msg message) uint64 {
	var h maphash.Hash
	h.SetSeed(r.seed)
	var at [8]byte
	binary.BigEndian.PutUint64(at[:], uint64(msg.at.UnixNano()))
	_, _ = h.Write(at[:]) // A hash never fails.
	_, _ = h.WriteString(string(msg.stream))
	_, _ = h.Write(msg.text)
	return h.Sum64()
}
