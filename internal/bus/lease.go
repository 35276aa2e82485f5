package bus

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rlaaudgjs5638/hersh/events"
)

// Lease reports whether holder has the named lease, taking it when it is free and renewing it when it is held already. A lease
// that is not renewed is free again after its TTL. It saves work and protects nothing: whoever has it does what anybody may do.
func (b *Bus) Lease(ctx context.Context, name, holder string) (bool, error) {
	kv, err := b.js.KeyValue(ctx, events.BucketLeases)
	if err != nil {
		return false, fmt.Errorf("take lease %s: %w", name, err)
	}
	entry, err := kv.Get(ctx, name)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		_, err = kv.Create(ctx, name, []byte(holder))
	case err == nil && string(entry.Value()) == holder:
		_, err = kv.Update(ctx, name, []byte(holder), entry.Revision())
	case err == nil:
		return false, nil
	}
	if isConflict(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("take lease %s: %w", name, err)
	}
	return true, nil
}
