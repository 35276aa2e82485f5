package bus

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rlaaudgjs5638/hersh/events"
)

// HostAlive reports whether a host's heartbeat is there, by the word of the bucket's leader. Other reads, Hosts too, may be answered
// by a copy that lags behind.
func (b *Bus) HostAlive(ctx context.Context, host events.HostID) (bool, error) {
	_, alive, err := b.valueByLeader(ctx, events.BucketHosts, string(host))
	if err != nil {
		return false, fmt.Errorf("look up host %s: %w", host, err)
	}
	return alive, nil
}

// valueByLeader asks the leader of a bucket for the value of a key, and reports whether there is one.
func (b *Bus) valueByLeader(ctx context.Context, bucket, key string) (storedMessage, bool, error) {
	stored, err := b.getStored(ctx, "KV_"+bucket, map[string]any{"last_by_subj": "$KV." + bucket + "." + key})
	if isNotFound(err) {
		return storedMessage{}, false, nil
	}
	return stored, err == nil && !isDeleted(stored.Header), err
}

func isNotFound(err error) bool {
	var refused *jetstream.APIError
	return errors.As(err, &refused) && refused.ErrorCode == jetstream.JSErrCodeMessageNotFound
}

// isDeleted reports whether the raw headers of a value say that its key was deleted, or has expired.
func isDeleted(raw []byte) bool {
	header, err := nats.DecodeHeadersMsg(raw)
	return err == nil && (header.Get(kvOperationHeader) != "" || header.Get(jetstream.MarkerReasonHeader) != "")
}
