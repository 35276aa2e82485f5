package bus

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rlaaudgjs5638/hersh/events"
)

// HostAlive reports whether a host's heartbeat is there, by the word of the bucket's leader. Other reads, Hosts too, may be answered
// by a copy that lags behind.
func (b *Bus) HostAlive(ctx context.Context, host events.HostID) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	const bucket = events.BucketHosts
	ask, err := json.Marshal(map[string]string{"last_by_subj": "$KV." + bucket + "." + string(host)})
	if err != nil {
		return false, fmt.Errorf("look up host %s: %w", host, err)
	}
	reply, err := b.nc.RequestWithContext(ctx, jetstream.DefaultAPIPrefix+"STREAM.MSG.GET.KV_"+bucket, ask)
	if err != nil {
		return false, fmt.Errorf("look up host %s: %w", host, err)
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Header []byte `json:"hdrs"`
		} `json:"message"`
	}
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		return false, fmt.Errorf("look up host %s: %w", host, err)
	}
	switch {
	case answer.Error != nil && answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return false, nil
	case answer.Error != nil:
		return false, fmt.Errorf("look up host %s: %w", host, answer.Error)
	}
	return !isDeleted(answer.Message.Header), nil
}

// isDeleted reports whether the raw headers of a value say that its key was deleted, or has expired.
func isDeleted(raw []byte) bool {
	header, err := nats.DecodeHeadersMsg(raw)
	return err == nil && (header.Get(kvOperationHeader) != "" || header.Get(jetstream.MarkerReasonHeader) != "")
}
