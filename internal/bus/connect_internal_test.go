package bus

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

type fakeConn struct{ closed atomic.Bool }

func (c *fakeConn) IsClosed() bool   { return c.closed.Load() }
func (c *fakeConn) LastError() error { return errors.New("refused") }

// A connection that is away is told of after 10 s and every 10 s from then on, and not once it is back or closed for good.
func TestOutageIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var told []string
		away := &outage{report: func(waited time.Duration, err error) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, fmt.Sprint(waited, " ", err))
		}}
		nc := &fakeConn{}
		expect := func(after time.Duration, want ...string) {
			t.Helper()
			time.Sleep(after) // Of the bubble's clock.
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(told, want) {
				t.Errorf("told of %q, want %q", told, want)
			}
			told = nil
		}
		away.begin(nc)
		expect(9 * time.Second)
		away.begin(nc) // A try that fails begins nothing new.
		expect(2*time.Second, "10s refused")
		expect(20*time.Second, "20s refused", "30s refused")
		if waited := away.end(); waited != 31*time.Second {
			t.Errorf("waited %s, want 31s", waited)
		}
		expect(time.Minute)
		away.begin(nc)
		nc.closed.Store(true)
		expect(time.Minute)
	})
}
