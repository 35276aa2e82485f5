package main

import "testing"

// Each refusal names the quota, what was given, and what may be given.
func TestQuotaFlags(t *testing.T) {
	usual := quotas{Programs: 1000, Source: 256, Sources: 2048, Events: 10_000, Requests: 500, Output: 256}
	if err := usual.check(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	for _, c := range []struct {
		change func(*quotas)
		want   string
	}{
		{func(q *quotas) { q.Programs = 0 }, "--quota-programs is 0: give it a number from 1 to 1073741824 programs"},
		{func(q *quotas) { q.Source = 257 }, "--quota-source is 257: give it a number from 1 to 256 MiB, which is what executors unpack"},
		{func(q *quotas) { q.Sources = -1 }, "--quota-sources is -1: give it a number from 1 to 1099511627776 MiB"},
		{func(q *quotas) { q.Events = 1 << 41 }, "--quota-events is 2199023255552: give it a number from 1 to 1099511627776 events"},
		{func(q *quotas) { q.Requests = 1_000_001 }, "--quota-requests is 1000001: give it a number from 1 to 1000000 requests a second"},
		{func(q *quotas) { q.Output = 0 }, "--quota-output is 0: give it a number from 1 to 1099511627776 MiB"},
	} {
		q := usual
		c.change(&q)
		if err := q.check(); err == nil || err.Error() != c.want {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
}
