package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rlaaudgjs5638/hersh/events"
)

// drain is the value of a host that is drained. It stays until somebody takes it back, whether the host is there or not.
type drain struct {
	Since time.Time `json:"since"`
}

// Drain says that a host takes no new program from now on, or, with drained false, that it does again. Doing it twice changes nothing.
func (b *Bus) Drain(ctx context.Context, host events.HostID, drained bool) error {
	kv, err := b.js.KeyValue(ctx, events.BucketDrains)
	switch {
	case err != nil:
	case drained:
		var data []byte
		if data, err = json.Marshal(drain{Since: time.Now().UTC()}); err == nil {
			_, err = kv.Create(ctx, string(host), data)
		}
		if isConflict(err) {
			err = nil // It is drained already, since an earlier time.
		}
	default:
		err = kv.Purge(ctx, string(host))
	}
	if err != nil {
		return fmt.Errorf("drain host %s (%t): %w", host, drained, err)
	}
	return nil
}

// Drained reports whether a host is to take no new program.
func (b *Bus) Drained(ctx context.Context, host events.HostID) (bool, error) {
	kv, err := b.js.KeyValue(ctx, events.BucketDrains)
	if err == nil {
		_, err = kv.Get(ctx, string(host))
	}
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look whether host %s is drained: %w", host, err)
	}
	return true, nil
}

// Drains returns the hosts that are to take no new program, each with since when. One that is written meanwhile may be missing.
func (b *Bus) Drains(ctx context.Context) (map[events.HostID]time.Time, error) {
	drains := map[events.HostID]time.Time{}
	err := b.eachValue(ctx, events.BucketDrains, "*", func(key string, value []byte) bool {
		var d drain
		if json.Unmarshal(value, &d) == nil {
			drains[events.HostID(key)] = d.Since
		}
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("list drained hosts: %w", err)
	}
	return drains, nil
}
