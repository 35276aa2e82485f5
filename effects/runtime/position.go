package runtime

import (
	"slices"
	"time"
)

// settle is how much later than a message, by Docker's clock, an older one may still come. Docker gives a message its time
// before it queues up to be written, so that those of stdout and stderr may change places; they do so within microseconds.
const settle = 2 * time.Second

const (
	// maxRecent bounds the messages that are recognized when they come again.
	maxRecent = 4096
	// maxRace is how much older than another a message may be, and still have come to be so by the two of them queueing up.
	maxRace = 100 * time.Millisecond
)

// position is a place in the output of a container: behind a number of messages. Docker can be asked for messages from a
// time on, so a position is a time and a count of the messages that are to be skipped from there.
//
// The time is not simply that of the last message. The pieces of one long line all carry the time of the first; those of
// two streams may not be in the order of their times; and some daemons drop every message that is older than the time asked
// for, others only those before the first that is not. So position asks from an anchor: a message that is newer than all
// before it, and after which no older one has come for long enough. There all daemons agree on what comes after.
type position struct {
	Since time.Time `json:"since,omitzero"` // What to ask Docker for; zero is all.
	Head  time.Time `json:"head,omitzero"`  // Time of the first message that Docker then sends.
	Seen  uint64    `json:"seen"`           // How many of the messages that it then sends were consumed.

	First time.Time    `json:"first,omitzero"` // Time of the first message of all.
	Total uint64       `json:"total"`          // How many messages were consumed in all.
	Last  time.Time    `json:"last,omitzero"`  // The newest time of all messages consumed.
	Tail  time.Time    `json:"tail,omitzero"`  // The time of the last message consumed.
	Open  [2]time.Time `json:"open"`           // Times of the unfinished lines of stdout and stderr; zero is none.

	next   anchor  // May become the anchor once it has settled.
	skip   uint64  // Messages of this reading that are still to be skipped.
	lost   bool    // The count means nothing: Docker has thrown the anchor away, or had left something out.
	head   bool    // The next message is the first of this reading.
	fresh  bool    // This reading has come to messages that are new.
	recent []int64 // Times of the last messages consumed, as a ring.
}

type anchor struct {
	at   time.Time
	seen uint64 // Messages consumed from it on, itself included; 0 is no anchor.
}

// begin is called before messages are read from Since on.
func (p *position) begin() {
	p.skip, p.head, p.lost, p.fresh = p.Seen, true, false, false
}

// suspect reports whether a new message may be a repetition. It is not when it is the first new one of a reading: that one
// was counted.
func (p *position) suspect(at time.Time, stream int) bool {
	if !p.fresh || at.After(p.Last) || at.Equal(p.Open[stream]) {
		return false
	}
	if !at.Equal(p.Tail) && p.Last.Sub(at) <= maxRace && !slices.Contains(p.recent, at.UnixNano()) {
		return false
	}
	if at.Before(p.Since) {
		p.rewind()
	}
	return true
}

// rewind makes the start the anchor: Docker's clock was set back, and from the start there is no question of times.
func (p *position) rewind() {
	p.Since, p.Head, p.Seen = time.Time{}, p.First, p.Total
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
	case p.Total > 0 && !at.After(p.Last) && p.lost:
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

// consume moves the position behind a message. stream is 0 for stdout and 1 for stderr; whole says that it ends its line.
func (p *position) consume(at time.Time, stream int, whole bool) {
	if p.Total == 0 {
		p.First, p.Head = at, at
	}
	p.Total++
	p.Seen++
	p.Tail, p.fresh = at, true
	p.remember(at)
	if at.Before(p.Since) {
		p.rewind()
	}
	p.advance(at)
	if at.After(p.Last) {
		p.Last = at
	}
	p.Open[stream] = time.Time{}
	if !whole {
		p.Open[stream] = at
	}
}

func (p *position) remember(at time.Time) {
	if len(p.recent) < maxRecent {
		p.recent = append(p.recent, at.UnixNano())
		return
	}
	p.recent[p.Total%maxRecent] = at.UnixNano()
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
