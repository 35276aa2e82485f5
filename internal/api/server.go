package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/rlaaudgjs5638/hersh/client/wire"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/bus"
	"github.com/rlaaudgjs5638/hersh/internal/keylock"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

const (
	workers        = 8
	queueSize      = 256
	requestTimeout = 20 * time.Second // From the arrival of a request; its client has given up by then.
	drainTimeout   = 5 * time.Second  // How long requests in hand may go on after Stop.
)

// Bus is what the API needs of the bus; package bus documents the methods.
type Bus interface {
	HasSource(ctx context.Context, user events.UserID, digest events.SourceDigest) (bool, error)
	Create(ctx context.Context, id events.ProgramID, first events.ProgramCreated) error
	Append(ctx context.Context, id events.ProgramID, ev events.Event, key string) (uint64, error)
	Remove(ctx context.Context, id events.ProgramID) error
	Exists(ctx context.Context, id events.ProgramID) (bool, error)
	Full(ctx context.Context, id events.ProgramID) (bool, error)
	Head(ctx context.Context, id events.ProgramID) (events.Head, error)
	Read(ctx context.Context, id events.ProgramID, after uint64) iter.Seq2[events.Stored, error]
	ReadOutput(ctx context.Context, id events.ProgramID, stream events.LogStream, after uint64) iter.Seq2[bus.Output, error]
	Checkpoints(ctx context.Context, user events.UserID) iter.Seq2[reducer.Checkpoint, error]
	Hosts(ctx context.Context) ([]events.Heartbeat, error)
	HostAlive(ctx context.Context, host events.HostID) (bool, error)
	Drain(ctx context.Context, host events.HostID, drained bool) error
	Drains(ctx context.Context) (map[events.HostID]time.Time, error)
	HostTTL() time.Duration

	PutSource(ctx context.Context, user events.UserID, digest events.SourceDigest, tarball io.Reader) error
	StageChunk(ctx context.Context, user events.UserID, upload string, offset int64, data []byte) error
	StagedChunks(ctx context.Context, user events.UserID) (int64, error)
	CopyUpload(ctx context.Context, w io.Writer, user events.UserID, upload string) (int64, error)
	DropUpload(ctx context.Context, user events.UserID, upload string) error
	SourceBytes(ctx context.Context, user events.UserID) (int64, error)
	CountOutput(ctx context.Context) (counts map[events.UserID]int64, last uint64, err error)
	TrimOutput(ctx context.Context, user events.UserID, most int64) (kept int64, err error)
	MakeQueues(ctx context.Context, host events.HostID) error
}

// Reconciler brings the checkpoint of a program up to its log. A program without a log gives the checkpoint of sequence 0.
type Reconciler interface {
	Reconcile(ctx context.Context, id events.ProgramID, atLeast uint64) (reducer.Checkpoint, error)
}

// Options say how the API runs.
type Options struct {
	Version  string            // A semantic version, which `nats micro ls` shows.
	Metadata map[string]string // Shown by `nats micro info`.
	Log      *slog.Logger
	Metrics  *Metrics
	Quotas   Quotas           // Of each user.
	Now      func() time.Time // The clock of the quotas; nil is the real one.
}

// Server is one running instance of the API.
type Server struct {
	nc         *nats.Conn
	bus        Bus
	reconciler Reconciler
	opts       Options
	log        *slog.Logger
	metrics    *Metrics
	limiter    *limiter
	commits    keylock.Locks // Of sources that are being stored.

	svc    micro.Service
	ctx    context.Context // Of the requests in hand.
	cancel context.CancelFunc
	group  sync.WaitGroup

	mu      sync.RWMutex
	stopped bool
	// stopping is closed by Stop, for what is not a request.
	stopping chan struct{}
	queue    chan job // Closed by Stop, under mu.
}

// job is a request that waits for a worker.
type job struct {
	endpoint endpoint
	subject  string
	reply    string
	data     []byte
	header   nats.Header
	deadline time.Time
}

// Start subscribes to the requests and begins to answer them. The caller ends it with Stop before it closes the connection.
func Start(nc *nats.Conn, b Bus, reconciler Reconciler, opts Options) (*Server, error) {
	opts.Quotas = opts.Quotas.orDefault()
	if opts.Now == nil {
		opts.Now = time.Now
	}
	s := &Server{
		limiter: newLimiter(opts.Quotas, opts.Now),
		nc:      nc, bus: b, reconciler: reconciler, opts: opts, log: opts.Log, metrics: opts.Metrics,
		queue: make(chan job, queueSize), stopping: make(chan struct{}),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	for range workers {
		s.group.Go(s.work)
	}
	s.group.Go(s.boundOutput)
	if err := s.subscribe(); err != nil {
		s.Stop()
		return nil, fmt.Errorf("start the request API: %w", err)
	}
	return s, nil
}

func (s *Server) subscribe() error {
	svc, err := micro.AddService(s.nc, micro.Config{
		Name: events.ServiceName, Version: s.opts.Version, Metadata: s.opts.Metadata, Description: "Programs of Hersh: create, list, read, follow, delete",
		ErrorHandler: func(_ micro.Service, err *micro.NATSError) {
			s.log.Warn("the request API lost requests", "subject", err.Subject, "error", err.Description)
		},
	})
	if err != nil {
		return err
	}
	s.svc = svc
	for _, e := range s.endpoints() {
		if err := svc.AddEndpoint(e.name, micro.HandlerFunc(s.enqueue(e)), micro.WithEndpointSubject(e.subject)); err != nil {
			return err
		}
	}
	return s.nc.FlushTimeout(requestTimeout) // Now the server knows the subscriptions.
}

// Stop takes no more requests, finishes those in hand within some seconds, and returns when nothing is left running.
func (s *Server) Stop() {
	defer s.cancel()
	if s.svc != nil {
		if err := s.svc.Stop(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
			s.log.Warn("could not unsubscribe from requests", "error", err)
		}
		_ = s.nc.FlushTimeout(drainTimeout) // Without it a request that is on its way is refused, and comes again.
	}
	s.mu.Lock()
	if !s.stopped {
		s.stopped = true
		close(s.stopping)
		close(s.queue)
	}
	s.mu.Unlock()
	timer := time.AfterFunc(drainTimeout, s.cancel)
	defer timer.Stop()
	s.group.Wait()
}

// enqueue returns the handler of an endpoint. It does not answer through the micro.Request: that may only be done before the
// handler returns.
func (s *Server) enqueue(e endpoint) func(micro.Request) {
	return func(r micro.Request) {
		j := job{endpoint: e, subject: r.Subject(), reply: r.Reply(), data: r.Data(), header: nats.Header(r.Headers()), deadline: time.Now().Add(requestTimeout)}
		if err := s.limit(j.subject); err != nil {
			s.answer(j, nil, err, time.Now())
			return
		}
		if !s.offer(j) {
			s.answer(j, nil, fail(wire.CodeBusy, "too many requests are waiting; try again in a moment"), time.Now())
		}
	}
}

func (s *Server) offer(j job) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.stopped {
		return false
	}
	select {
	case s.queue <- j:
		return true
	default:
		return false
	}
}

func (s *Server) work() {
	for j := range s.queue {
		ctx, cancel := context.WithDeadline(s.ctx, j.deadline)
		began := time.Now()
		reply, err := j.endpoint.handle(ctx, j)
		cancel()
		s.answer(j, reply, err, began)
	}
}

// answer sends a reply or an error. Only what a fault says reaches the client; the chain of causes is for the log.
func (s *Server) answer(j job, reply any, err error, began time.Time) {
	code := 0
	msg := nats.NewMsg(j.reply)
	if err == nil {
		msg.Data, err = json.Marshal(reply)
	}
	if err != nil {
		f := asFault(err)
		code = f.code
		msg.Data = nil
		msg.Header.Set(micro.ErrorCodeHeader, strconv.Itoa(f.code))
		msg.Header.Set(micro.ErrorHeader, oneLine(f.sentence))
		if f.code == wire.CodeInternal && s.ctx.Err() == nil {
			s.log.Error("a request failed", "subject", j.subject, "error", err)
		}
	}
	s.metrics.observe(j.endpoint.name, code, time.Since(began))
	if j.reply == "" {
		return // Nobody waits for it.
	}
	if err := s.nc.PublishMsg(msg); err != nil {
		s.log.Warn("could not send a reply", "subject", j.subject, "bytes", len(msg.Data), "error", err)
	}
}

// oneLine makes a sentence, which may quote a request, fit for a header.
func oneLine(s string) string {
	const most = 512
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return ' '
		}
		return r
	}, s)
}

// fault is an error with what its client is told.
type fault struct {
	code     int
	sentence string
	cause    error // For the log; nil where the sentence says it all.
}

func (f *fault) Error() string {
	if f.cause == nil {
		return f.sentence
	}
	return f.cause.Error()
}

func (f *fault) Unwrap() error { return f.cause }

func fail(code int, format string, args ...any) error {
	return &fault{code: code, sentence: fmt.Sprintf(format, args...)}
}

// asFault finds what to tell the client of an error. What no handler expected is told without its details.
func asFault(err error) *fault {
	var f *fault
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, events.ErrNoProgram):
		return &fault{wire.CodeNotFound, "there is no such program", err}
	case errors.Is(err, events.ErrNoLeader), errors.Is(err, events.ErrBehind):
		return &fault{wire.CodeInternal, "how far the log of the program goes cannot be said just now; try again in a moment", err}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return &fault{wire.CodeInternal, "Hersh did not get it done in time; try again", err}
	}
	return &fault{wire.CodeInternal, "Hersh could not answer; try again, or look into the supervisor's log", err}
}
