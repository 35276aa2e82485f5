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

// registerHost tells an executor whether its host may be called so, and how often it must say that it lives, and makes the queues
// that it takes effects from. The heartbeats that follow are what makes a host known.
func (s *Server) registerHost(ctx context.Context, req wire.RegisterRequest) (wire.RegisterReply, error) {
	id, err := events.ParseHostID(string(req.HostID))
	if err != nil {
		return wire.RegisterReply{}, fail(wire.CodeBadRequest, "%s", err)
	}
	if err := s.bus.MakeQueues(ctx, id); err != nil {
		return wire.RegisterReply{}, err
	}
	s.log.Info("a host made itself known", "host", id)
	return wire.RegisterReply{HostID: id, HostTTLMillis: s.bus.HostTTL().Milliseconds(), Version: s.opts.Version}, nil
}

// hostEndpoint serves what a host asks in its own name: where hosts have accounts, the subject is one that only this host reaches.
func (s *Server) hostEndpoint() endpoint {
	return endpoint{name: "host-register", subject: events.HostRegisterSubject("*"), serve: func(ctx context.Context, subject string, data []byte) (any, error) {
		req, err := decode[wire.RegisterRequest](data)
		if err != nil {
			return nil, err
		}
		if subject != events.HostRegisterSubject(req.HostID) {
			return nil, fail(wire.CodeBadRequest, "a host registers itself only")
		}
		return s.registerHost(ctx, req)
	}}
}
