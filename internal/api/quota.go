package api

import (
	"context"
	"sync"
	"time"

	"github.com/rlaaudgjs5638/hersh/client/wire"
	"github.com/rlaaudgjs5638/hersh/events"
)

// Quotas bound what one user may have and ask. A field that is zero is the default. Several requests that are served at once may each see
// room for the last: what is counted is exceeded by as many at most.
type Quotas struct {
	Programs      int           // That exist at once.
	SourceBytes   int64         // Of one source.
	SourcesBytes  int64         // Of all sources, and as much again of uploads that are not complete.
	RequestsEvery time.Duration // One request comes free so often…
	RequestsBurst int           // …and so many may come at once.
	OutputBytes   int64         // Kept of what all programs print; the oldest goes first.
	OutputEvery   time.Duration // How often that is looked at; until then there may be more.
}

func (q Quotas) orDefault() Quotas {
	if q.Programs == 0 {
		q.Programs = 1000
	}
	if q.SourceBytes == 0 {
		q.SourceBytes = 256 << 20
	}
	if q.SourcesBytes == 0 {
		q.SourcesBytes = 2 << 30
	}
	if q.RequestsEvery == 0 {
		q.RequestsEvery = 2 * time.Millisecond
	}
	if q.RequestsBurst == 0 {
		q.RequestsBurst = 1000
	}
	if q.OutputBytes == 0 {
		q.OutputBytes = 256 << 20
	}
	if q.OutputEvery == 0 {
		q.OutputEvery = time.Minute
	}
	return q
}

// maxBuckets bounds for how many users is remembered what they asked lately.
const maxBuckets = 100_000

// limiter is a token bucket a user. A bucket that is full again is forgotten.
type limiter struct {
	quotas Quotas
	now    func() time.Time

	mu      sync.Mutex
	buckets map[events.UserID]bucket
}

type bucket struct {
	tokens float64
	at     time.Time
}

func newLimiter(q Quotas, now func() time.Time) *limiter {
	return &limiter{quotas: q, now: now, buckets: map[events.UserID]bucket{}}
}

// allow takes a token of a user, and reports whether there was one.
func (l *limiter) allow(user events.UserID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	b, known := l.buckets[user]
	if !known {
		if len(l.buckets) >= maxBuckets {
			l.forget(now)
		}
		b = bucket{tokens: float64(l.quotas.RequestsBurst), at: now}
	}
	b.tokens = l.filled(b, now)
	b.at = now
	allowed := b.tokens >= 1
	if allowed {
		b.tokens--
	}
	if known || len(l.buckets) < maxBuckets {
		l.buckets[user] = b
	}
	return allowed
}

func (l *limiter) filled(b bucket, now time.Time) float64 {
	return min(b.tokens+float64(max(now.Sub(b.at), 0))/float64(l.quotas.RequestsEvery), float64(l.quotas.RequestsBurst))
}

func (l *limiter) forget(now time.Time) {
	for user, b := range l.buckets {
		if l.filled(b, now) >= float64(l.quotas.RequestsBurst) {
			delete(l.buckets, user)
		}
	}
}

// limit returns an error where the user of a request has asked too much lately. Requests of nobody are of operators and hosts.
func (s *Server) limit(subject string) error {
	user, _, err := events.ParseAPISubject(subject)
	if err != nil || s.limiter.allow(user) {
		return nil
	}
	return fail(wire.CodeBusy, "user %s asks too much: %d requests may come at once, and one more every %v; try again in a moment",
		user, s.opts.Quotas.RequestsBurst, s.opts.Quotas.RequestsEvery)
}

// roomForProgram returns an error where a user has as many programs as they may.
func (s *Server) roomForProgram(ctx context.Context, user events.UserID) error {
	seen := map[events.ProgramID]bool{}
	for cp, err := range s.bus.Checkpoints(ctx, user) {
		if err != nil {
			return err
		}
		seen[cp.State.ID] = true
	}
	if most := s.opts.Quotas.Programs; len(seen) >= most {
		return fail(wire.CodeQuota, "user %s has %d programs, and may have %d; delete one first", user, len(seen), most)
	}
	return nil
}

// roomForSource returns an error where a source is too large, by itself or with those that are there.
func (s *Server) roomForSource(ctx context.Context, user events.UserID, bytes int64) error {
	q := s.opts.Quotas
	if bytes > q.SourceBytes {
		return fail(wire.CodeQuota, "the source has %d bytes, and a source may have %d; leave files out with .dockerignore", bytes, q.SourceBytes)
	}
	used, err := s.bus.SourceBytes(ctx, user)
	if err != nil {
		return err
	}
	if used+bytes > q.SourcesBytes {
		return fail(wire.CodeQuota, "the sources of user %s have %d bytes, and with the %d of this one more than the %d that they may have; delete programs whose source no other has",
			user, used, bytes, q.SourcesBytes)
	}
	return nil
}
