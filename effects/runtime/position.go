package runtime

import (
	"encoding/binary"
	"hash/maphash"
	"maps"
	"slices"
	"time"
)

const (
	// settle is how much later than a message, by Docker's clock, an older one may still come. Docker gives a message its time
	// before it queues up to be written, so that those of stdout and stderr may change places; they do so within microseconds.
	settle = 2 * time.Second
	// maxRace is how much older than another a message may be, for that to be the reason.
	maxRace = 100 * time.Millisecond
	// maxRecent bounds the messages that are recognized when they come again.
	maxRecent = 32 << 10
	// maxFollowed bounds the messages of one reading that follows; then what it may have left out is looked for.
	maxFollowed = 8 << 10
)

// position is a place in the output of a container: behind a number of messages. Docker can be asked for messages from a
// time on, so a position is a time and a count of the messages that are to be skipped from there.
//
// The time is not simply that of the last message. The pieces of one long line all carry the time of the first; those of
// two streams may not be in the order of their times; and some daemons drop every message that is older than the time asked
// for, others only those before the first that is not. So position asks from an anchor: a message that is newer than all
// before it, and after which no older one has come for long enough. There all daemons agree on what comes after.
//
// A reading that follows cannot be trusted. Engine 20.10, when it puts its own log file aside under the eyes of a follower,
// sends messages twice, and when the follower is slow, it leaves out a whole file. Therefore the messages consumed lately are
// known by all that Docker has of them. Those that come again are dropped (repeats); where something old turns up that is
// not known (suspect), and every maxFollowed messages, Docker is asked anew without following, which brings the files as they
// are, and what was left out is made up for: late, but once.
//
// What is known is lost when the process ends. The reading after that has only the count, and where the count does not lead
// to the last message consumed, only the time.
type position struct {
	Since time.Time `json:"since,omitzero"` // What to ask Docker for; zero is all.
	Head  time.Time `json:"head,omitzero"`  // Time of the first message that Docker then sends.
	Seen  uint64    `json:"seen"`           // How many of the messages that it then sends were consumed.

	First time.Time    `json:"first,omitzero"` // Time of the first message of all.
	Total uint64       `json:"total"`          // How many messages were consumed in all.
	Last  time.Time    `json:"last,omitzero"`  // The newest time of all messages consumed.
	Tail  time.Time    `json:"tail,omitzero"`  // The time of the last message consumed.
	Open  [2]time.Time `json:"open"`           // Times of the unfinished lines of stdout and stderr; zero is none.

	recent   recent // Messages consumed from the anchor on, and of this reading.
	complete bool   // They are all in recent.

	reading reading
}

// reading is what a position keeps of the reading that goes on.
type reading struct {
	known   map[uint64]int // Messages that are to be skipped, by their sums.
	byCount bool           // Instead, so many are to be skipped:
	skip    uint64
	lost    bool   // The count means nothing: Docker has thrown the anchor away, or had left something out.
	begun   bool   // A message has come.
	fresh   uint64 // New messages that have come.
	scan    scan
}

// begin is called before messages are read from Since on.
func (p *position) begin() {
	if p.Total == 0 {
		p.complete = true
	}
	p.reading = reading{byCount: !p.complete}
	if p.complete {
		p.reading.known = maps.Clone(p.recent.known)
	} else {
		p.reading.skip, p.recent = p.Seen, recent{}
	}
}

// end is called after a reading that did not follow has come to its end. It brings the anchor forward, so that the next
// reading does not begin at the start of a long output.
func (p *position) end() {
	best := p.reading.scan.best
	if best.seen == 0 {
		return
	}
	p.Since, p.Head, p.Seen = best.at, best.at, best.seen
	p.complete = p.recent.keep(p.reading.scan.sums, best.seen)
}

// isNew reports whether the next message of a reading was not consumed before.
func (p *position) isNew(msg message) bool {
	r := &p.reading
	first := !r.begun
	r.begun = true
	sum := p.recent.sum(msg)
	r.scan.see(msg, sum)
	if r.byCount {
		return p.isBehind(msg, first)
	}
	if r.known[sum] > 0 {
		r.known[sum]--
		return false
	}
	return true
}

// isBehind is isNew by the count. Messages are consumed in Docker's order, so after one that is new all are.
func (p *position) isBehind(msg message, first bool) bool {
	r := &p.reading
	// Docker keeps a bounded part of the output. Without the anchor the count means nothing, and only the time is left.
	if first && p.Seen > 0 && !msg.at.Equal(p.Head) {
		r.lost = true
	}
	switch {
	case r.lost && !msg.at.After(p.Last):
		return false
	case r.lost:
		r.lost, r.skip = false, 0
		p.Since, p.Head, p.Seen, p.recent, p.complete = msg.at, msg.at, 0, recent{}, true
		r.scan = scan{}
		r.scan.see(msg, p.recent.sum(msg))
		return true
	case r.skip > 0 && !msg.at.After(p.Last):
		p.recent.add(msg)
		if r.skip--; r.skip == 0 {
			r.lost, p.complete = !msg.at.Equal(p.Tail), p.Seen <= maxRecent
		}
		return false
	}
	r.skip = 0
	return true
}

// repeats reports whether a new message was consumed lately and is sent again. No two messages have the same time and text,
// but pieces of a long line may.
func (p *position) repeats(msg message) bool {
	return !msg.at.Equal(p.Open[msg.index()]) && p.recent.has(msg)
}

// suspect reports whether a new message is too old for its place, or a piece of a line that looks like one before it, but
// for the last: a line may well go on with more of the same. The first new message of a reading is above suspicion.
func (p *position) suspect(msg message) bool {
	switch more := msg.at.Equal(p.Open[msg.index()]); {
	case p.reading.fresh == 0 || more && (!p.recent.has(msg) || p.recent.isLast(msg)):
		return false
	case !more && p.Last.Sub(msg.at) <= maxRace:
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
	p.reading.fresh++
	p.Tail = at
	p.complete = p.recent.add(msg) && p.complete
	if at.Before(p.Since) {
		p.rewind()
	}
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
	p.complete = p.complete && p.Total == uint64(len(p.recent.sums))
}

// scan looks through the messages of a reading, in Docker's order, for the latest anchor.
type scan struct {
	max        time.Time
	open       [2]time.Time
	next, best anchor   // The best has settled.
	sums       []uint64 // Of the messages from the earlier of the two on, at least.
}

type anchor struct {
	at   time.Time
	seen uint64 // Messages from it on, itself included; 0 is no anchor.
}

func (s *scan) see(msg message, sum uint64) {
	for _, a := range []*anchor{&s.next, &s.best} {
		if a.seen > 0 {
			a.seen++
		}
		if msg.at.Before(a.at) {
			*a = anchor{} // Something older came after it.
		}
	}
	if s.next.seen > 0 && msg.at.Sub(s.next.at) > settle {
		s.best, s.next = s.next, anchor{}
	}
	if s.next.seen == 0 && msg.at.After(s.max) && s.open == [2]time.Time{} { // More of an unfinished line would be older.
		s.next = anchor{at: msg.at, seen: 1}
	}
	if s.sums = append(s.sums, sum); s.best.seen+s.next.seen == 0 {
		s.sums = s.sums[:0]
	}
	if from := max(s.best.seen, s.next.seen); uint64(len(s.sums)) > 2*from+maxFollowed {
		s.sums = slices.Clone(s.sums[uint64(len(s.sums))-from:])
	}
	if msg.at.After(s.max) {
		s.max = msg.at
	}
	s.open[msg.index()] = time.Time{}
	if !msg.whole() {
		s.open[msg.index()] = msg.at
	}
}

// recent knows the last messages that were consumed, by all that Docker has of them: their time, stream and text.
type recent struct {
	seed  maphash.Seed
	sums  []uint64       // In the order in which they were consumed.
	known map[uint64]int // How often each is among them.
	last  [2]uint64      // Of stdout and stderr.
}

func (r *recent) has(msg message) bool { return r.known[r.sum(msg)] > 0 }

func (r *recent) isLast(msg message) bool { return r.last[msg.index()] == r.sum(msg) }

// add reports whether it forgot nothing for it.
func (r *recent) add(msg message) bool {
	sum := r.sum(msg)
	r.last[msg.index()] = sum
	r.sums = append(r.sums, sum)
	r.known[sum]++
	if len(r.sums) <= maxRecent {
		return true
	}
	if old := r.sums[0]; r.known[old] > 1 {
		r.known[old]--
	} else {
		delete(r.known, old)
	}
	r.sums = r.sums[1:] // The next growth leaves the room behind.
	return false
}

// keep replaces all that is known by the last n of the sums, and reports whether there is room for them.
func (r *recent) keep(sums []uint64, n uint64) bool {
	if n > maxRecent {
		return false
	}
	r.sums, r.known = slices.Clone(sums[uint64(len(sums))-n:]), make(map[uint64]int, n)
	for _, sum := range r.sums {
		r.known[sum]++
	}
	return true
}

func (r *recent) sum(msg message) uint64 {
	if r.known == nil {
		r.seed, r.known = maphash.MakeSeed(), map[uint64]int{}
	}
	var h maphash.Hash
	h.SetSeed(r.seed)
	var at [8]byte
	binary.BigEndian.PutUint64(at[:], uint64(msg.at.UnixNano()))
	_, _ = h.Write(at[:]) // A hash never fails.
	_, _ = h.WriteString(string(msg.stream))
	_, _ = h.Write(msg.text)
	return h.Sum64()
}
