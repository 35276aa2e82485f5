package bus

import (
	"context"
	"errors"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

// silentBucket gives a listing that never comes to its end, as that of a deleted bucket.
type silentBucket struct{ jetstream.KeyValue }

func (silentBucket) Watch(context.Context, string, ...jetstream.WatchOpt) (jetstream.KeyWatcher, error) {
	return silentWatcher{}, nil
}

type silentWatcher struct{ jetstream.KeyWatcher }

func (silentWatcher) Updates() <-chan jetstream.KeyValueEntry { return nil }
func (silentWatcher) Stop() error                             { return nil }

func TestListingThatStopsIsAnError(t *testing.T) {
	t.Parallel()
	b := &Bus{}
	b.Hasten()
	err := b.eachEntry(t.Context(), silentBucket{}, "*", func(jetstream.KeyValueEntry) bool { return true })
	if !errors.Is(err, errSilent) {
		t.Errorf("got %v, want errSilent", err)
	}
}
