package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/rlaaudgjs5638/hersh/client/wire"
	"github.com/rlaaudgjs5638/hersh/events"
)

// Start publishes UserStartRequested and returns its sequence in the log of the program: the event is stored, what comes of it is
// for WaitSettled. A program that does not exist is ErrNoProgram.
func (c *Client) Start(ctx context.Context, id events.ProgramID) (seq uint64, err error) {
	return c.publish(ctx, id, events.UserStartRequested{ProgramID: id})
}

// Stop publishes UserStopRequested; see Start.
func (c *Client) Stop(ctx context.Context, id events.ProgramID) (seq uint64, err error) {
	return c.publish(ctx, id, events.UserStopRequested{ProgramID: id})
}

// Restart publishes UserRestartRequested; see Start.
func (c *Client) Restart(ctx context.Context, id events.ProgramID) (seq uint64, err error) {
	return c.publish(ctx, id, events.UserRestartRequested{ProgramID: id})
}

// publish stores an event. Its key makes a repeated try store it once; it begins with the program, so that no other program's key
// is ever the same.
func (c *Client) publish(ctx context.Context, id events.ProgramID, ev events.Event) (uint64, error) {
	if _, err := events.ParseProgramID(string(id)); err != nil {
		return 0, fmt.Errorf("publish %s: %w", ev.Type(), err)
	}
	data, err := events.Encode(ev)
	if err != nil {
		return 0, err
	}
	msg := nats.NewMsg(events.EventSubject(id, ev.Type()))
	msg.Header.Set(nats.MsgIdHdr, string(id)+"/"+uuid.NewString())
	msg.Data = data
	var seq uint64
	err = retry(ctx, func(ctx context.Context) (err error) {
		seq, err = c.publishOnce(ctx, id, msg)
		return err
	})
	if errors.Is(err, nats.ErrNoResponders) {
		err = ErrUnavailable
	}
	if err != nil {
		return 0, fmt.Errorf("publish %s of program %s: %w", ev.Type(), id, err)
	}
	return seq, nil
}

// pubAck is the answer of the server that stores the event.
type pubAck struct {
	Seq   uint64 `json:"seq"`
	Error *struct {
		Code        int    `json:"code"`
		ErrCode     int    `json:"err_code"`
		Description string `json:"description"`
	} `json:"error"`
}

func (c *Client) publishOnce(ctx context.Context, id events.ProgramID, msg *nats.Msg) (uint64, error) {
	answer, err := c.exchange(ctx, msg)
	if errors.Is(err, nats.ErrNoResponders) {
		return 0, c.whyNoResponders(ctx, id, err)
	}
	if err != nil {
		return 0, err
	}
	var ack pubAck
	if err := json.Unmarshal(answer.Data, &ack); err != nil {
		return 0, fmt.Errorf("the server's answer cannot be read: %w", err)
	}
	switch {
	case ack.Error == nil && ack.Seq > 0:
		return ack.Seq, nil
	case ack.Error == nil:
		return 0, &Error{Code: wire.CodeInternal, Message: "the server answered without a sequence"}
	}
	if ack.Error.ErrCode == events.LogFullCode && ack.Error.Description == events.LogFullText {
		return 0, &Error{Code: wire.CodeConflict, Message: events.ErrLogFull.Error() + "; delete the program and deploy it again"}
	}
	// 503 is a server that is just coming up or down.
	code := wire.CodeConflict
	if ack.Error.Code >= 500 {
		code = wire.CodeInternal
	}
	return 0, &Error{Code: code, Message: "the server did not store the event: " + ack.Error.Description}
}

// whyNoResponders tells a program that does not exist, by the word of a supervisor, from a log that nobody serves at this moment.
func (c *Client) whyNoResponders(ctx context.Context, id events.ProgramID, err error) error {
	data, marshalErr := json.Marshal(wire.ProgramRequest{ProgramID: id})
	if marshalErr != nil {
		return marshalErr
	}
	msg := nats.NewMsg(events.APISubject(id.User(), wire.VerbGet))
	msg.Data = data
	if _, askErr := c.ask(ctx, msg); errors.Is(askErr, ErrNoProgram) {
		return ErrNoProgram
	}
	return err
}
