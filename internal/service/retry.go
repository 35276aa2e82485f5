package service

import (
	"context"
	"time"
)

const (
	firstRetry = 250 * time.Millisecond
	lastRetry  = 15 * time.Second
)

// Retry calls fn until it succeeds or ctx ends, which is then the error, with growing waits between; failed hears of each failure.
func Retry(ctx context.Context, fn func(context.Context) error, failed func(err error, wait time.Duration)) error {
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		err := fn(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		failed(err, wait)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}
