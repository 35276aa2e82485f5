package pause_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rlaaudgjs5638/hersh/internal/pause"
)

func TestFor(t *testing.T) {
	for name, c := range map[string]struct {
		limit, want time.Duration
		whole       bool
	}{
		"whole":      {2 * time.Hour, time.Hour, true},
		"ends early": {time.Minute, time.Minute, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), c.limit)
				defer cancel()
				began := time.Now()
				if whole := pause.For(ctx, time.Hour); whole != c.whole || time.Since(began) != c.want {
					t.Errorf("it waited %s (to the end: %t), want %s", time.Since(began), whole, c.want)
				}
			})
		})
	}
}
