// Package pause waits between two tries of something, without outlasting whoever waits.
package pause

import (
	"context"
	"time"
)

// For waits, and reports false if ctx ended before.
func For(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
