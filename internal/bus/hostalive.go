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
	const bucket = events.BucketHosts
	stored, err := b.getStored(ctx, "KV_"+bucket, map[string]any{"last_by_subj": "$KV." + bucket + "." + string(host)})
	var refused *jetstream.APIError
	switch {
	case errors.As(err, &refused) && refused.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look up host %s: %w", host, err)
	}
	return !isDeleted(stored.Header), nil
}

// isDeleted reports whether the raw headers of a value say that its key was deleted, or has expired.
func isDeleted(raw []byte) bool {
	header, err := nats.DecodeHeadersMsg(raw)
	return err == nil && (header.Get(kvOperationHeader) != "" || header.Get(jetstream.MarkerReasonHeader) != "")
}
