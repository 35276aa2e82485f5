package client

import (
	"context"
	"fmt"
	"iter"

	"github.com/rlaaudgjs5638/hersh/client/wire"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

// Status is the newest state of a program, and since when it is in it.
type Status = wire.GetReply

// Status returns the newest state of a program, or ErrNoProgram.
func (c *Client) Status(ctx context.Context, id events.ProgramID) (Status, error) {
	var reply Status
	err := c.programRequest(ctx, id, wire.VerbGet, wire.ProgramRequest{ProgramID: id}, &reply)
	if err != nil {
		return Status{}, fmt.Errorf("read program %s: %w", id, err)
	}
	return reply, nil
}

// List returns the programs of a user, "" for all users, sorted by ID, as the read model has them: it may be some milliseconds
// behind. The iteration ends after the first error.
func (c *Client) List(ctx context.Context, user events.UserID) iter.Seq2[reducer.Checkpoint, error] {
	return func(yield func(reducer.Checkpoint, error) bool) {
		subject := events.SubjectProgramsList
		if user != "" {
			subject = events.APISubject(user, wire.VerbList)
		}
		after := events.ProgramID("")
		for {
			var page wire.ListReply
			if err := c.request(ctx, subject, wire.ListRequest{After: after}, &page); err != nil {
				yield(reducer.Checkpoint{}, fmt.Errorf("list programs: %w", err))
				return
			}
			for _, cp := range page.Programs {
				if !yield(cp, nil) {
					return
				}
			}
			if page.Next <= after {
				return // "" at the end; a page that does not advance would never end.
			}
			after = page.Next
		}
	}
}

// Delete removes a program, its log and its output for good. One that runs, or whose container is still there, is refused.
func (c *Client) Delete(ctx context.Context, id events.ProgramID) error {
	var reply wire.DeleteReply
	if err := c.programRequest(ctx, id, wire.VerbDelete, wire.ProgramRequest{ProgramID: id}, &reply); err != nil {
		return fmt.Errorf("delete program %s: %w", id, err)
	}
	return nil
}

// Host is what is known of a host.
type Host = wire.Host

// Hosts returns the hosts whose executors are there, and those that are drained, sorted by ID.
func (c *Client) Hosts(ctx context.Context) ([]Host, error) {
	var reply wire.HostsReply
	if err := c.request(ctx, events.SubjectHostsList, struct{}{}, &reply); err != nil {
		return nil, fmt.Errorf("list hosts: %w", err)
	}
	return reply.Hosts, nil
}

// programRequest asks about one program, in the name of its owner.
func (c *Client) programRequest(ctx context.Context, id events.ProgramID, verb string, req, reply any) error {
	if _, err := events.ParseProgramID(string(id)); err != nil {
		return err
	}
	return c.request(ctx, events.APISubject(id.User(), verb), req, reply)
}
