package api

import (
	"context"
	"time"

	"github.com/rlaaudgjs5638/hersh/events"
)

// maxOutputChunk is how long a chunk of output is at most, as executors send it.
const maxOutputChunk = 32 << 10

// measured is what was found of the output of a user, so that it is not read again before it can have become too much.
type measured struct {
	last  uint64 // Sequence of the last chunk of all users by then.
	bytes int64
}

// boundOutput keeps the output of each user within its quota, until Stop. Output does not come by way of the API, so that it is kept, and
// then the oldest of it removed. Several instances may do so at once: what is too much for one is not there any more for the next.
func (s *Server) boundOutput() {
	ticker := time.NewTicker(s.opts.Quotas.OutputEvery)
	defer ticker.Stop()
	known := map[events.UserID]measured{}
	for {
		select {
		case <-s.stopping:
			return
		case <-ticker.C:
		}
		ctx, cancel := context.WithTimeout(s.ctx, s.opts.Quotas.OutputEvery+requestTimeout)
		err := s.trimOutput(ctx, known)
		cancel()
		if err != nil && s.ctx.Err() == nil {
			s.log.Warn("the output of users could not be held to its quota; trying again", "error", err)
		}
	}
}

func (s *Server) trimOutput(ctx context.Context, known map[events.UserID]measured) error {
	counts, last, err := s.bus.CountOutput(ctx)
	if err != nil {
		return err
	}
	for user := range known {
		if counts[user] == 0 {
			delete(known, user)
		}
	}
	most := s.opts.Quotas.OutputBytes
	for user, chunks := range counts {
		atMost := chunks * maxOutputChunk
		if before, found := known[user]; found && last >= before.last {
			atMost = min(atMost, before.bytes+int64(min(last-before.last, 1<<40))*maxOutputChunk)
		}
		if atMost <= most {
			continue
		}
		kept, err := s.bus.TrimOutput(ctx, user, most)
		if err != nil {
			return err
		}
		known[user] = measured{last: last, bytes: kept}
	}
	return nil
}
