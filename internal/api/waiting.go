package api

import (
	"context"
	"fmt"

	"github.com/rlaaudgjs5638/hersh/client/wire"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

// waiting says why a program waits for a host, in a sentence, or "" where it does not. begun reports that a host has begun with what the
// state waits for.
func (s *Server) waiting(ctx context.Context, state reducer.ProgramState, begun bool) (string, error) {
	if !state.State.NeedsHost() || state.HostID == "" && state.State != reducer.StateBuilding {
		return "", nil
	}
	if state.HostID != "" {
		return s.whyAway(ctx, state.HostID)
	}
	hosts, err := s.hosts(ctx)
	if err != nil {
		return "", err
	}
	return whyNoHost(state.Limits, hosts, begun), nil
}

// whyAway says that the host of a program is not there. It asks the leader: the list of hosts may lag behind, and call a host away that has
// just come, or there when it is lost.
func (s *Server) whyAway(ctx context.Context, host events.HostID) (string, error) {
	alive, err := s.bus.HostAlive(ctx, host)
	if err != nil || alive {
		return "", err
	}
	return fmt.Sprintf("its host %s sends no heartbeat", host), nil
}

// whyNoHost says why no host takes a program that has none. It tells nothing of what others have on the hosts.
func whyNoHost(limits events.Limits, hosts []wire.Host, begun bool) string {
	there, drained, small, full := 0, 0, 0, 0
	for _, h := range hosts {
		switch {
		case h.Away:
			continue
		case h.Drain:
			drained++
		case h.Capacity.Full(events.Load{}, limits) != "":
			small++
		case h.Building >= h.BuildSlots, h.Capacity.Full(h.Promised, limits) != "":
			full++
		}
		there++
	}
	switch {
	case there == 0:
		return "no host is there"
	case drained == there:
		return "all hosts are drained"
	case small > 0 && small+drained == there:
		return "no host is large enough for its limits"
	case begun || small+full+drained < there:
		return "" // It is being built, or will be in a moment.
	case drained > 0:
		return "all hosts that are not drained are full"
	}
	return "all hosts are full"
}
