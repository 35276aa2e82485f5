package api

import (
	"context"
	"encoding/json"

	"github.com/rlaaudgjs5638/hersh/client/wire"
	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

// history replays the log from its first event, so that the states of a page are right whatever the checkpoint says, and
// returns the steps of one page.
func (s *Server) history(ctx context.Context, user events.UserID, req wire.HistoryRequest) (wire.HistoryReply, error) {
	if err := ownProgram(user, req.ProgramID); err != nil {
		return wire.HistoryReply{}, err
	}
	page, err := newHistoryPage(req)
	if err != nil {
		return wire.HistoryReply{}, err
	}
	at := reducer.NewCheckpoint(req.ProgramID)
	for stored, err := range s.bus.Read(ctx, req.ProgramID, 0) {
		if err != nil {
			return wire.HistoryReply{}, err
		}
		page.reply.Head = stored.Seq
		if page.settled(stored) {
			continue // Only the head is still of interest.
		}
		next, step, err := at.Next(stored)
		if err != nil {
			return wire.HistoryReply{}, err
		}
		at = next
		if err := page.add(step, stored.Data); err != nil {
			return wire.HistoryReply{}, err
		}
	}
	return page.finish(at)
}

// historyPage collects the steps of a reply.
type historyPage struct {
	req   wire.HistoryRequest
	limit int
	size  int
	reply wire.HistoryReply
}

func newHistoryPage(req wire.HistoryRequest) (*historyPage, error) {
	limit, err := pageLimit(req.Limit)
	if err != nil {
		return nil, err
	}
	if req.At != nil && (req.At.Seq == 0) == req.At.Time.IsZero() {
		return nil, fail(wire.CodeBadRequest, "at needs a seq or a time, and not both")
	}
	return &historyPage{req: req, limit: limit, reply: wire.HistoryReply{Steps: []wire.Step{}, Next: req.After}}, nil
}

// settled reports whether an event cannot change the reply any more, but for the head.
func (p *historyPage) settled(stored events.Stored) bool {
	if p.req.At == nil {
		return p.reply.More
	}
	if p.req.At.Seq != 0 {
		return stored.Seq > p.req.At.Seq
	}
	return stored.Time.After(p.req.At.Time)
}

func (p *historyPage) add(step reducer.Step, data []byte) error {
	if step.Seq <= p.req.After || p.reply.More {
		return nil
	}
	out, err := wireStep(step, data, p.req.States)
	if err != nil {
		return err
	}
	encoded, err := json.Marshal(out)
	if err != nil {
		return err
	}
	size := p.size + len(encoded) + 1
	if n := len(p.reply.Steps); n == p.limit || n > 0 && size > wire.MaxPageBytes {
		p.reply.More = true
		return nil
	}
	p.size, p.reply.Next = size, step.Seq
	p.reply.Steps = append(p.reply.Steps, out)
	return nil
}

func (p *historyPage) finish(at reducer.Checkpoint) (wire.HistoryReply, error) {
	head := p.reply.Head
	switch {
	case head == 0:
		return wire.HistoryReply{}, noProgram(p.req.ProgramID)
	case p.req.At == nil:
		return p.reply, nil
	case p.req.At.Seq > head:
		return wire.HistoryReply{}, fail(wire.CodeBadRequest, "the log of the program ends at event %d", head)
	case at.Seq == 0:
		return wire.HistoryReply{}, fail(wire.CodeBadRequest, "the program did not exist then")
	}
	p.reply.At = &at
	return p.reply, nil
}

// wireStep writes a step as JSON. data is what was published.
func wireStep(step reducer.Step, data []byte, states bool) (wire.Step, error) {
	out := wire.Step{
		Seq: step.Seq, Time: step.Time, Type: step.Type, Ignored: step.Ignored,
		From: step.Before.State, To: step.After.State, Attempt: step.After.Attempt, Host: hostOf(step),
	}
	if states {
		out.State = &step.After
	}
	if step.Reject != nil {
		out.Rejected = step.Reject.Error()
		out.Data = data[:min(len(data), wire.MaxRejectedData)]
		return out, nil
	}
	var err error
	if out.Event, err = events.Encode(step.Event); err != nil {
		return out, err
	}
	for _, eff := range step.Effects {
		raw, err := effects.MarshalEffect(eff)
		if err != nil {
			return out, err
		}
		out.Effects = append(out.Effects, raw)
	}
	return out, nil
}

// hostOf says where an event comes from; of an event that comes from no host, where its effects go.
func hostOf(step reducer.Step) events.HostID {
	switch e := step.Event.(type) {
	case events.HostLost:
		return e.HostID
	case events.HostDrained:
		return e.HostID
	}
	if origin, isResult := events.OriginOf(step.Event); isResult && origin.HostID != "" {
		return origin.HostID
	}
	if len(step.Effects) > 0 {
		return step.Effects[0].Place().HostID
	}
	return ""
}
