// Package natsserver starts a NATS server with JetStream inside this process, for `hersh dev` and for tests.
package natsserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// startTimeout bounds how long a server may take to accept connections; recovery of 10,000 streams takes seconds.
const startTimeout = time.Minute

// Options say how the server runs.
type Options struct {
	Dir  string       // Folder of the JetStream files; it is created. The streams of an earlier run are recovered.
	Host string       // Address to listen on; "" is 127.0.0.1.
	Port int          // Port to listen on; 0 is the default 4222, -1 is any free one.
	Log  *slog.Logger // Gets the server's warnings and errors; nil drops them.
}

// Server is a running NATS server.
type Server struct {
	srv    *server.Server
	config Config // Of StartConfig.
}

// Start starts a server and waits until it accepts connections. Every write to a stream is synced to disk before it is
// acknowledged, so that an acknowledged event survives a power failure.
func Start(o Options) (*Server, error) {
	if o.Host == "" {
		o.Host = "127.0.0.1"
	}
	return run(&server.Options{
		ServerName: "hersh", Host: o.Host, Port: o.Port,
		JetStream: true, StoreDir: o.Dir, SyncAlways: true,
		NoSigs: true, NoLog: o.Log == nil,
	}, o.Log)
}

// run starts a server and waits until it accepts connections.
func run(opts *server.Options, log *slog.Logger) (*Server, error) {
	srv, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("start NATS server on %s:%d: %w", opts.Host, opts.Port, err)
	}
	if log != nil {
		srv.SetLogger(&logger{log: log, failed: make(chan string, 1)}, false, false)
	}
	srv.Start()
	s := &Server{srv: srv}
	if !srv.ReadyForConnections(startTimeout) {
		reason := s.lastFatal()
		s.Shutdown()
		return nil, fmt.Errorf("start NATS server on %s:%d: %w", opts.Host, opts.Port, reason)
	}
	return s, nil
}

// URL is where clients connect.
func (s *Server) URL() string { return s.srv.ClientURL() }

// Shutdown stops the server and waits until it has.
func (s *Server) Shutdown() {
	s.srv.Shutdown()
	s.srv.WaitForShutdown()
}

// Wait returns when the server has stopped by itself, or ctx ends.
func (s *Server) Wait(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.srv.WaitForShutdown()
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

func (s *Server) lastFatal() error {
	if l, ok := s.srv.Logger().(*logger); ok {
		select {
		case msg := <-l.failed:
			return errors.New(msg)
		default:
		}
	}
	return errors.New("it does not accept connections")
}

// logger passes the server's messages on. The server calls Fatalf where a process of its own would exit.
type logger struct {
	log    *slog.Logger
	failed chan string // Of size 1: the first fatal message.
}

func (l *logger) Noticef(format string, v ...any) { l.log.Debug("nats: " + fmt.Sprintf(format, v...)) }
func (l *logger) Errorf(format string, v ...any)  { l.log.Error("nats: " + fmt.Sprintf(format, v...)) }
func (l *logger) Debugf(string, ...any)           {}
func (l *logger) Tracef(string, ...any)           {}
func (l *logger) Warnf(format string, v ...any) {
	msg, level := fmt.Sprintf(format, v...), slog.LevelWarn
	if staleIndex.MatchString(msg) {
		level = slog.LevelInfo
	}
	l.log.Log(context.Background(), level, "nats: "+msg)
}

// staleIndex knows what the server says after it was killed: it makes the index of a stream anew from the stream itself, which is as it
// should be.
var staleIndex = regexp.MustCompile(`^Filestore \[[^]]*\] (Stream state |Recovering \w+ state from index |\w+ state is outdated)`)

func (l *logger) Fatalf(format string, v ...any) {
	msg := fmt.Sprintf(format, v...)
	l.log.Error("nats: " + msg)
	select {
	case l.failed <- msg:
	default:
	}
}
