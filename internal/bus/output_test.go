package bus_test

import (
	"fmt"
	"testing"

	"github.com/rlaaudgjs5638/hersh/events"
)

// Each supervisor holds users to their quota, without knowing of the others: together they remove no more than one would.
func TestTrimOutputOfManyAtOnce(t *testing.T) {
	b, _ := unsynced(t)
	id := create(t, b, 1)
	const chunks, size, most = 1500, 100, 100_000
	each(t, 10, func(worker int) error {
		for i := range chunks / 10 {
			key := fmt.Sprintf("%s/%d/%d", id, worker, i)
			if err := b.ShipLog(t.Context(), id, events.LogStdout, key, make([]byte, size)); err != nil {
				return err
			}
		}
		return nil
	})
	each(t, 24, func(worker int) error {
		for range worker / 2 { // So that some are in the middle when others are done.
			if _, _, err := b.CountOutput(t.Context()); err != nil {
				return err
			}
		}
		_, err := b.TrimOutput(t.Context(), id.User(), most)
		return err
	})
	left := int64(0)
	for out, err := range b.ReadOutput(t.Context(), id, "*", 0) {
		if err != nil {
			t.Fatal(err)
		}
		left += int64(len(out.Data))
	}
	if left > most-most/4 || left < most/2 {
		t.Errorf("%d bytes are left of %d, want about three quarters of %d", left, chunks*size, most)
	}
	kept, err := b.TrimOutput(t.Context(), id.User(), most)
	if err != nil || kept != left {
		t.Errorf("once more keeps %d (%v), want all %d", kept, err, left)
	}
}
