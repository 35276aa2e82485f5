package api

import (
	"testing"
	"time"
)

func TestRequestsComeFreeWithTime(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	l := newLimiter(Quotas{RequestsEvery: time.Second, RequestsBurst: 3}, func() time.Time { return now })
	count := func(tries int) int {
		n := 0
		for range tries {
			if l.allow("alice") {
				n++
			}
		}
		return n
	}
	if n := count(10); n != 3 {
		t.Errorf("%d of 10 at once, want 3", n)
	}
	if !l.allow("bob") {
		t.Error("one user costs another")
	}
	now = now.Add(2 * time.Second)
	if n := count(10); n != 2 {
		t.Errorf("%d after two seconds, want 2", n)
	}
	now = now.Add(-time.Hour)
	if n := count(10); n != 0 {
		t.Errorf("%d after the clock went back, want 0", n)
	}
	now = now.Add(10 * time.Hour)
	if n := count(10); n != 3 {
		t.Errorf("%d after a long time, want 3", n)
	}
}
