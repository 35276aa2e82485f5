package executor

import "sync"

const (
	// believeAfter is how often a message must have named an event that its log does not have. With the waits of the queue between,
	// from 250 ms doubling up to 30 s, that is about a minute; a server that is cut off gives up its lead after 10 s.
	believeAfter = 9
	maxDoubts    = 1024 // Messages that are counted at once; past it the counting begins anew.
)

// doubts counts how often messages have named events that are not there. It is safe for concurrent use.
type doubts struct {
	mu   sync.Mutex
	seen map[string]int
}

// enough counts a message once more, and reports whether it was there often enough to be believed wrong; then it is forgotten.
func (d *doubts) enough(key string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.seen == nil || len(d.seen) >= maxDoubts {
		d.seen = map[string]int{}
	}
	if d.seen[key]++; d.seen[key] < believeAfter {
		return false
	}
	delete(d.seen, key)
	return true
}
