package api

import (
	"context"

	"github.com/rlaaudgjs5638/hersh/client/wire"
	"github.com/rlaaudgjs5638/hersh/events"
)

func (s *Server) listHosts(ctx context.Context, _ struct{}) (wire.HostsReply, error) {
	hosts, err := s.bus.Hosts(ctx)
	if hosts == nil {
		hosts = []events.Heartbeat{}
	}
	return wire.HostsReply{Hosts: hosts}, err
}

// registerHost tells an executor whether its host may be called so, and how often it must say that it lives. Nothing is stored:
// the heartbeats that follow are what makes a host known.
func (s *Server) registerHost(_ context.Context, req wire.RegisterRequest) (wire.RegisterReply, error) {
	id, err := events.ParseHostID(string(req.HostID))
	if err != nil {
		return wire.RegisterReply{}, fail(wire.CodeBadRequest, "%s", err)
	}
	s.log.Info("a host made itself known", "host", id)
	return wire.RegisterReply{HostID: id, HostTTLMillis: s.bus.HostTTL().Milliseconds(), Version: s.opts.Version}, nil
}
