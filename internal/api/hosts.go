package api

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rlaaudgjs5638/hersh/client/wire"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

func (s *Server) listHosts(ctx context.Context, _ struct{}) (wire.HostsReply, error) {
	hosts, err := s.hosts(ctx)
	return wire.HostsReply{Hosts: hosts}, err
}

// hosts returns the hosts that are there and those that are drained, sorted.
func (s *Server) hosts(ctx context.Context) ([]wire.Host, error) {
	beats, err := s.bus.Hosts(ctx)
	if err != nil {
		return []wire.Host{}, err
	}
	drains, err := s.bus.Drains(ctx)
	if err != nil {
		return []wire.Host{}, err
	}
	hosts := make([]wire.Host, 0, len(beats))
	for _, beat := range beats {
		_, drain := drains[beat.HostID]
		hosts = append(hosts, wire.Host{Heartbeat: beat, Drain: drain})
		delete(drains, beat.HostID)
	}
	for host := range drains {
		hosts = append(hosts, wire.Host{Heartbeat: events.Heartbeat{HostID: host}, Drain: true, Away: true})
	}
	slices.SortFunc(hosts, func(a, b wire.Host) int { return strings.Compare(string(a.HostID), string(b.HostID)) })
	return hosts, nil
}

// drainHost says whether a host is to take new programs, and stops what is there where that is asked for.
func (s *Server) drainHost(ctx context.Context, req wire.DrainRequest) (wire.DrainReply, error) {
	reply := wire.DrainReply{HostID: req.HostID, Drained: req.Drained}
	if _, err := events.ParseHostID(string(req.HostID)); err != nil {
		return reply, fail(wire.CodeBadRequest, "%s", err)
	}
	if req.Stop && !req.Drained {
		return reply, fail(wire.CodeBadRequest, "only what is on a host that is drained can be stopped with it")
	}
	known, there, err := s.knownHosts(ctx, req.HostID)
	if err != nil {
		return reply, err
	}
	if !slices.Contains(known, req.HostID) {
		return reply, fail(wire.CodeBadRequest, "there is no host %s; %s", req.HostID, tellHosts(known))
	}
	if err := s.bus.Drain(ctx, req.HostID, req.Drained); err != nil {
		return reply, err
	}
	s.log.Info("an operator drains a host, or not any more", "host", req.HostID, "drained", req.Drained, "stop", req.Stop)
	reply.Programs = len(there)
	if req.Stop {
		reply.Stopping, err = s.stopPrograms(ctx, req.HostID, there)
	}
	return reply, err
}

// knownHosts returns the hosts that are there, are drained, or have programs, and the programs on one of them that are not at rest.
func (s *Server) knownHosts(ctx context.Context, host events.HostID) ([]events.HostID, []reducer.Checkpoint, error) {
	hosts, err := s.hosts(ctx)
	if err != nil {
		return nil, nil, err
	}
	known := map[events.HostID]bool{}
	for _, h := range hosts {
		known[h.HostID] = true
	}
	there := map[events.ProgramID]reducer.Checkpoint{} // One that is saved meanwhile comes twice.
	for cp, err := range s.bus.Checkpoints(ctx, "") {
		if err != nil {
			return nil, nil, err
		}
		delete(there, cp.State.ID)
		if cp.State.HostID == "" {
			continue
		}
		known[cp.State.HostID] = true
		if cp.State.HostID == host && cp.State.State.NeedsHost() {
			there[cp.State.ID] = cp
		}
	}
	programs := slices.Collect(maps.Values(there))
	slices.SortFunc(programs, func(a, b reducer.Checkpoint) int { return strings.Compare(string(a.State.ID), string(b.State.ID)) })
	return slices.Sorted(maps.Keys(known)), programs, nil
}

func tellHosts(known []events.HostID) string {
	const most = 20
	switch {
	case len(known) == 0:
		return "none is known"
	case len(known) > most:
		return fmt.Sprintf("%d are known, see `hersh hosts`", len(known))
	}
	names := make([]string, len(known))
	for i, host := range known {
		names[i] = string(host)
	}
	return "known are " + strings.Join(names, ", ")
}

// stopPrograms appends HostDrained to programs, and returns to how many. It goes on past what fails.
func (s *Server) stopPrograms(ctx context.Context, host events.HostID, programs []reducer.Checkpoint) (int, error) {
	told := 0
	var failures []error
	for _, cp := range programs {
		// Once for each event that the program is at: a repeated request stops nothing that was started since.
		key := fmt.Sprintf("%s/drained/%s/%d", cp.State.ID, host, cp.Seq)
		_, err := s.bus.Append(ctx, cp.State.ID, events.HostDrained{HostID: host}, key)
		switch {
		case err == nil:
			told++
		case !errors.Is(err, events.ErrNoProgram):
			failures = append(failures, err)
		}
	}
	return told, errors.Join(failures...)
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
