package client

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/rlaaudgjs5638/hersh/client/wire"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/bus"
)

// Bounds of one request.
const (
	maxTries       = 6
	attemptTimeout = 10 * time.Second
	firstPause     = 100 * time.Millisecond // Doubles up to lastPause.
	lastPause      = 2 * time.Second
	pingEvery      = 5 * time.Second // A server that keeps the connection and answers nothing is left after three of these.
)

var (
	// ErrNoProgram says that there is no program of that ID: it was never created, or it was deleted.
	ErrNoProgram = events.ErrNoProgram
	// ErrUnavailable says that nobody answers requests: no supervisor runs, or the bus is away.
	ErrUnavailable = errors.New("no supervisor of Hersh answers")
	// ErrRefused says that the request cannot be served as it is: it is wrong, or the state of the program does not allow it. The
	// error is an *Error and says more.
	ErrRefused = errors.New("refused")
)

// Error is what the request API answers when it does not do what was asked.
type Error struct {
	Code    int    // One of the codes of package wire.
	Message string // A sentence for people.
}

func (e *Error) Error() string { return e.Message }

// Is matches ErrNoProgram and ErrRefused.
func (e *Error) Is(target error) bool {
	switch target {
	case ErrNoProgram:
		return e.Code == wire.CodeNotFound
	case ErrRefused:
		return e.Code == wire.CodeBadRequest || e.Code == wire.CodeConflict || e.Code == wire.CodeQuota
	}
	return false
}

// Client talks to Hersh over a NATS connection. It is safe for concurrent use.
type Client struct {
	nc      *nats.Conn
	denials *denials
	owns    bool
}

// New returns a client on a connection, which stays the caller's to close. It hears of the connection's errors before the error handler
// that is set by then, so make one client of a connection, and not one for each request.
func New(nc *nats.Conn) *Client { return &Client{nc: nc, denials: watchDenials(nc)} }

// Connect connects to NATS; url has the addresses of all servers, separated by commas. The connection is closed by Close; when it is
// lost it is tried again without end, at every server. ReportOutages tells of one that stays away.
func Connect(url string, opts ...nats.Option) (*Client, error) {
	base := []nats.Option{
		nats.Name("hersh client"), nats.MaxReconnects(-1),
		// While it is away requests fail at once and are tried again here, so that nothing is sent twice in a burst.
		nats.ReconnectBufSize(-1), nats.ReconnectWait(250 * time.Millisecond),
		nats.PingInterval(pingEvery),
	}
	nc, err := nats.Connect(url, append(base, opts...)...)
	if err != nil {
		return nil, bus.ConnectError(url, err)
	}
	c := New(nc)
	c.owns = true
	return c, nil
}

// ReportOutages is an option of Connect: report is called when the connection has been away for 10 s, and every 10 s from then on, with
// the error of the last try.
func ReportOutages(report func(waited time.Duration, err error)) nats.Option {
	return bus.ReportOutages(report)
}

// Close closes the connection if Connect made it.
func (c *Client) Close() {
	if c.owns {
		c.nc.Close()
	}
}

// Conn returns the NATS connection.
func (c *Client) Conn() *nats.Conn { return c.nc }

// request asks the API and decodes the reply. What is transient is tried again, so repeat must be harmless.
func (c *Client) request(ctx context.Context, subject string, req, reply any) error {
	data, err := json.Marshal(req)
	if err != nil {
		return err
	}
	msg := nats.NewMsg(subject)
	msg.Data = data
	var answer *nats.Msg
	err = retry(ctx, func(ctx context.Context) (err error) {
		answer, err = c.ask(ctx, msg)
		return err
	})
	if errors.Is(err, nats.ErrNoResponders) {
		return ErrUnavailable
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(answer.Data, reply)
}

// ask sends one request and returns the reply, or the error that the reply tells.
func (c *Client) ask(ctx context.Context, msg *nats.Msg) (*nats.Msg, error) {
	answer, err := c.exchange(ctx, msg)
	if err != nil {
		return nil, err
	}
	if text := answer.Header.Get(micro.ErrorCodeHeader); text != "" {
		code, err := strconv.Atoi(text)
		if err != nil {
			code = wire.CodeInternal
		}
		return nil, &Error{Code: code, Message: answer.Header.Get(micro.ErrorHeader)}
	}
	return answer, nil
}

// exchange sends a message and returns its answer, whatever it says. One that the server denies is a *DeniedError, at once.
func (c *Client) exchange(ctx context.Context, msg *nats.Msg) (*nats.Msg, error) {
	ctx, done := c.denials.expect(ctx, msg.Subject)
	defer done()
	answer, err := c.nc.RequestMsgWithContext(ctx, msg)
	if denied := (*DeniedError)(nil); err != nil && errors.As(context.Cause(ctx), &denied) {
		return nil, denied
	}
	return answer, err
}

// retry calls fn until it succeeds, fails for good, or has been tried often enough. It returns the last error.
func retry(ctx context.Context, fn func(context.Context) error) error {
	pause := firstPause
	for try := 1; ; try++ {
		attempt, cancel := context.WithTimeout(ctx, attemptTimeout)
		err := fn(attempt)
		cancel()
		if err == nil || ctx.Err() != nil || try == maxTries || !transient(err) {
			return err
		}
		if !sleep(ctx, pause) {
			return ctx.Err()
		}
		pause = min(2*pause, lastPause)
	}
}

// transient reports whether the same request may do better in a moment.
func transient(err error) bool {
	var apiErr *Error
	if errors.As(err, &apiErr) {
		return apiErr.Code == wire.CodeBusy || apiErr.Code == wire.CodeInternal
	}
	for _, passing := range []error{
		nats.ErrNoResponders, nats.ErrTimeout, context.DeadlineExceeded, nats.ErrDisconnected,
		nats.ErrReconnectBufExceeded, nats.ErrConnectionReconnecting, ErrUnavailable,
	} {
		if errors.Is(err, passing) {
			return true
		}
	}
	return false
}

// sleep waits, and reports whether ctx is still alive.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
