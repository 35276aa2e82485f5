package client

import (
	"context"
	"fmt"
	"time"

	"github.com/rlaaudgjs5638/hersh/client/wire"
	"github.com/rlaaudgjs5638/hersh/events"
)

const (
	drainPoll = 500 * time.Millisecond
	drainWait = 15 * time.Second // Some heartbeats.
)

// Drain makes a host take no new program from now on; stop stops those that are there, too. It returns once the host has none in hand
// that could still become its own; obeyed is false when the host has not said so within some seconds, for instance since it is away:
// then it obeys when it is back. Repeating it changes nothing. A host that nobody knows is ErrRefused.
func (c *Client) Drain(ctx context.Context, host events.HostID, stop bool) (reply wire.DrainReply, obeyed bool, err error) {
	reply, err = c.drain(ctx, wire.DrainRequest{HostID: host, Drained: true})
	if err != nil {
		return reply, false, err
	}
	if obeyed, err = c.waitDrained(ctx, host); err != nil || !stop {
		return reply, obeyed, err
	}
	reply, err = c.drain(ctx, wire.DrainRequest{HostID: host, Drained: true, Stop: true})
	return reply, obeyed, err
}

// Undrain makes a host take new programs again.
func (c *Client) Undrain(ctx context.Context, host events.HostID) error {
	_, err := c.drain(ctx, wire.DrainRequest{HostID: host})
	return err
}

func (c *Client) drain(ctx context.Context, req wire.DrainRequest) (wire.DrainReply, error) {
	var reply wire.DrainReply
	if _, err := events.ParseHostID(string(req.HostID)); err != nil {
		return reply, err
	}
	if err := c.request(ctx, events.SubjectHostsDrain, req, &reply); err != nil {
		return reply, fmt.Errorf("drain host %s: %w", req.HostID, err)
	}
	return reply, nil
}

// waitDrained waits until a host says that it takes no new program, for some heartbeats at most.
func (c *Client) waitDrained(ctx context.Context, host events.HostID) (bool, error) {
	for end := time.Now().Add(drainWait); ; {
		hosts, err := c.Hosts(ctx)
		if err != nil {
			return false, err
		}
		for _, h := range hosts {
			if h.HostID == host && (h.Drained || h.Away) {
				return h.Drained, nil
			}
		}
		if time.Now().After(end) {
			return false, nil
		}
		if !sleep(ctx, drainPoll) {
			return false, ctx.Err()
		}
	}
}
