package events_test

import (
	"math"
	"strings"
	"testing"

	"github.com/rlaaudgjs5638/hersh/events"
)

func TestCapacity(t *testing.T) {
	const mib = 1 << 20
	two := events.Load{}.Plus(events.Limits{}).Plus(events.Limits{MemoryBytes: 64 * mib, CPUMillis: 500})
	if want := (events.Load{Programs: 2, MemoryBytes: 320 * mib, CPUMillis: 1500}); two != want {
		t.Fatalf("two programs promise %+v, want %+v", two, want)
	}
	small := events.Limits{MemoryBytes: 64 * mib, CPUMillis: 500}
	for _, c := range []struct {
		name     string
		capacity events.Capacity
		limits   events.Limits
		says     string // Of why it is full; "" has room.
	}{
		{"no bound", events.Capacity{}, events.Limits{MemoryBytes: 1 << 50, CPUMillis: 1 << 40}, ""},
		{"all fits exactly", events.Capacity{Programs: 3, MemoryBytes: 384 * mib, CPUMillis: 2000}, small, ""},
		{"programs", events.Capacity{Programs: 2}, small, "it has 2 programs"},
		{"memory", events.Capacity{MemoryBytes: 384*mib - 1}, small, "320 MiB are promised"},
		{"processors", events.Capacity{CPUMillis: 1999}, small, "of its 1.999 processors, 1.5 are promised"},
		{"more memory than can be counted", events.Capacity{MemoryBytes: 1 << 40}, events.Limits{MemoryBytes: math.MaxInt64}, "320 MiB are promised"},
		{"more processors than can be counted", events.Capacity{CPUMillis: 1 << 40}, events.Limits{CPUMillis: math.MaxInt64}, "1.5 are promised"},
		{"silent limits are the defaults", events.Capacity{MemoryBytes: 512 * mib}, events.Limits{}, "320 MiB are promised"},
	} {
		if why := c.capacity.Full(two, c.limits); (why == "") != (c.says == "") || !strings.Contains(why, c.says) {
			t.Errorf("%s: %q, want …%s…", c.name, why, c.says)
		}
	}
}
