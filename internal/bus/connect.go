package bus

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// pingEvery finds a server that keeps the connection and answers nothing, after three of them: well within the TTL of a
	// heartbeat, since a host must not be lost because its server is.
	pingEvery = 3 * time.Second
	// reportAfter is how long a connection may be away before it is worth an error, and then how often.
	reportAfter = 10 * time.Second
)

// Dial connects to the bus and goes on trying for ever once it was connected, with the waits of nats.go between. servers has the
// addresses of all servers, separated by commas. The error handler logs what the server reports asynchronously: denied
// permissions show nowhere else.
func Dial(servers, name string, log *slog.Logger, opts ...nats.Option) (*nats.Conn, error) {
	away := &outage{report: func(waited time.Duration, err error) {
		log.Error("still no connection to NATS; trying on", "waited", waited, "last_error", err)
	}}
	base := []nats.Option{
		nats.Name(name),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(500 * time.Millisecond),
		nats.ReconnectJitter(250*time.Millisecond, time.Second),
		nats.ReconnectBufSize(-1), // Publishing while disconnected fails at once, so that no caller believes it was sent.
		nats.PingInterval(pingEvery),
		nats.DisconnectErrHandler(func(nc *nats.Conn, err error) {
			if err != nil {
				log.Warn("lost the connection to NATS, reconnecting", "error", err)
			}
			away.begin(nc)
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			log.Info("reconnected to NATS", "url", nc.ConnectedUrlRedacted(), "waited", away.end())
		}),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			subject := ""
			if sub != nil {
				subject = sub.Subject
			}
			log.Error("NATS reports", "error", err, "subject", subject)
		}),
	}
	nc, err := nats.Connect(servers, append(base, opts...)...)
	if err != nil {
		return nil, ConnectError(servers, err)
	}
	return nc, nil
}

// ConnectError says what kept from connecting, without the passwords of the address, which some errors quote.
func ConnectError(servers string, err error) error {
	var parse *url.Error
	if errors.As(err, &parse) {
		err = parse.Err
	}
	return fmt.Errorf("connect to NATS at %s: %w", Redact(servers), err)
}

// ReportOutages makes a connection tell when it has been away for 10 s, and every 10 s from then on, with the error of the last
// try. report is called by a timer. Handlers of disconnects and reconnects that were set before go on.
func ReportOutages(report func(waited time.Duration, err error)) nats.Option {
	away := &outage{report: report}
	return func(o *nats.Options) error {
		lost, back := o.DisconnectedErrCB, o.ReconnectedCB
		o.DisconnectedErrCB = func(nc *nats.Conn, err error) {
			away.begin(nc)
			if lost != nil {
				lost(nc, err)
			}
		}
		o.ReconnectedCB = func(nc *nats.Conn) {
			away.end()
			if back != nil {
				back(nc)
			}
		}
		return nil
	}
}

// connection is what an outage asks of a *nats.Conn.
type connection interface {
	IsClosed() bool
	LastError() error
}

// outage tells of a connection that stays away.
type outage struct {
	report func(waited time.Duration, err error)

	mu    sync.Mutex
	since time.Time
	timer *time.Timer // nil while the connection is there.
}

func (o *outage) begin(nc connection) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.timer != nil || nc.IsClosed() {
		return
	}
	o.since = time.Now()
	o.timer = time.AfterFunc(reportAfter, func() { o.tell(nc) })
}

// end returns how long the connection was away.
func (o *outage) end() time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.timer == nil {
		return 0
	}
	o.timer.Stop()
	o.timer = nil
	return time.Since(o.since).Round(time.Millisecond)
}

func (o *outage) tell(nc connection) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.timer == nil || nc.IsClosed() {
		return
	}
	o.report(time.Since(o.since).Round(time.Second), nc.LastError())
	o.timer.Reset(reportAfter)
}
