package keylock

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

func TestLocksKeepNothing(t *testing.T) {
	var k Locks
	for i := range 10 {
		unlock, err := k.Lock(t.Context(), fmt.Sprint(i))
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			unlock()
			if i == 0 && len(k.locks) != 0 {
				t.Errorf("%d locks are kept", len(k.locks))
			}
		}()
	}
}

func TestLockWaitsUntilItsContextEnds(t *testing.T) {
	var k Locks
	unlock, err := k.Lock(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := k.Lock(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("a lock that is held is had: %v", err)
	}
	unlock()
	if _, err := k.Lock(t.Context(), "a"); err != nil {
		t.Errorf("a lock that is free is not had: %v", err)
	}
}
