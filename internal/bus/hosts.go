package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rlaaudgjs5638/hersh/events"
)

// HostTTL is how long a host may say nothing before it is lost.
func (b *Bus) HostTTL() time.Duration { return b.opts.HostTTL }

// maxMissedBeats is how many heartbeats in a row may not be stored before another server is tried.
const maxMissedBeats = 3

// Beat stores the heartbeat of a host. Its key expires when no other follows within the TTL of the bucket. A server that keeps the
// connection and is itself cut off from the others stores nothing; after some heartbeats that were not stored it is left for
// another, so that the host is not lost with it.
func (b *Bus) Beat(ctx context.Context, beat events.Heartbeat) error {
	err := b.beat(ctx, beat)
	if err == nil || errors.Is(err, jetstream.ErrBucketNotFound) { // Which a server that is cut off does not know.
		b.missedBeats.Store(0)
	} else if b.nc.IsConnected() && b.missedBeats.Add(1) == maxMissedBeats {
		b.missedBeats.Store(0)
		b.log.Warn("no heartbeat can be stored; leaving the NATS server for another", "server", b.nc.ConnectedUrlRedacted())
		return errors.Join(err, b.nc.ForceReconnect())
	}
	return err
}

// twinProblem is what a host says of itself whose ID another executor has as well.
const twinProblem = "another executor runs with the same host ID; give each a --host-id of its own, or stop one"

// ownBeat is the last heartbeat that a connection stored. The next one is to follow it: where another came in between, somebody
// else has the same host ID, or the key had expired. An executor that is started again does not care what is there.
type ownBeat struct {
	mu       sync.Mutex
	host     events.HostID
	revision uint64 // 0 is none.
	met      int    // How often in a row another came in between.
}

// maxMet is how often another heartbeat may come in between by itself: that of a predecessor that was still under way.
const maxMet = 1

func (b *Bus) beat(ctx context.Context, beat events.Heartbeat) error {
	kv, err := b.js.KeyValue(ctx, events.BucketHosts)
	if err == nil {
		err = b.own.store(ctx, kv, beat, b.log)
	}
	if err != nil {
		return fmt.Errorf("heartbeat of host %s: %w", beat.HostID, err)
	}
	return nil
}

func (o *ownBeat) store(ctx context.Context, kv jetstream.KeyValue, beat events.Heartbeat, log *slog.Logger) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	last := o.revision
	if o.host != beat.HostID {
		last, o.met = 0, 0
	}
	o.host, o.revision = beat.HostID, 0 // Whether one that fails was stored nobody knows.
	data, err := json.Marshal(beat)
	if err != nil {
		return err
	}
	if last > 0 {
		revision, err := kv.Update(ctx, string(beat.HostID), data, last)
		if err == nil {
			o.revision, o.met = revision, 0
			return nil
		}
		if !isConflict(err) {
			return err
		}
		o.met++
	}
	if o.met > maxMet {
		log.Error(twinProblem, "host", beat.HostID)
		if beat.Problem != "" {
			beat.Problem = twinProblem + "; and besides: " + beat.Problem
		} else {
			beat.Problem = twinProblem
		}
		if data, err = json.Marshal(beat); err != nil {
			return err
		}
	}
	o.revision, err = kv.Put(ctx, string(beat.HostID), data)
	return err
}

// Hosts returns the last heartbeat of each host that is there, sorted by ID.
func (b *Bus) Hosts(ctx context.Context) ([]events.Heartbeat, error) {
	byID := map[events.HostID]events.Heartbeat{} // A key that is written meanwhile comes twice.
	err := b.eachValue(ctx, events.BucketHosts, "*", func(key string, value []byte) bool {
		var beat events.Heartbeat
		if json.Unmarshal(value, &beat) == nil && string(beat.HostID) == key {
			byID[beat.HostID] = beat
		}
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("list hosts: %w", err)
	}
	hosts := slices.Collect(maps.Values(byID))
	slices.SortFunc(hosts, func(a, b events.Heartbeat) int { return strings.Compare(string(a.HostID), string(b.HostID)) })
	return hosts, nil
}
