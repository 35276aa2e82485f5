// Package natstest starts real NATS servers for tests: embedded, with JetStream on disk in the test's own folder, on a free
// port. Everything that it starts ends with the test, so that a test which checks for leaked goroutines passes.
package natstest

import (
	"context"
	"log/slog"
	"net/url"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rlaaudgjs5638/hersh/internal/bus"
	"github.com/rlaaudgjs5638/hersh/internal/natsserver"
)

// provisionTimeout bounds how long the streams and buckets may take to be created.
const provisionTimeout = 30 * time.Second

// Server is a NATS server of one test. Its methods are safe for concurrent use.
type Server struct {
	dir  string
	port int
	url  string

	mu  sync.Mutex
	srv *natsserver.Server // nil while it is stopped.
}

// Start starts a server with its files in t.TempDir. It is stopped at the end of the test.
func Start(t testing.TB) *Server {
	t.Helper()
	return StartIn(t, t.TempDir())
}

// StartIn is Start with the files in a folder of the caller's.
func StartIn(t testing.TB, dir string) *Server {
	t.Helper()
	srv, err := natsserver.Start(natsserver.Options{Dir: dir, Port: -1})
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{dir: dir, url: srv.URL(), srv: srv}
	t.Cleanup(s.Stop)
	u, err := url.Parse(s.url)
	if err == nil {
		s.port, err = strconv.Atoi(u.Port())
	}
	if err != nil {
		t.Fatalf("URL of the test server %q: %v", s.url, err)
	}
	return s
}

// URL is where clients connect. It stays the same over Restart.
func (s *Server) URL() string { return s.url }

// Dir is the folder of the server's files.
func (s *Server) Dir() string { return s.dir }

// Conn returns a connection of its own, which reconnects for ever and is closed at the end of the test.
func (s *Server) Conn(t testing.TB, opts ...nats.Option) *nats.Conn {
	t.Helper()
	base := []nats.Option{
		nats.MaxReconnects(-1), nats.ReconnectWait(20 * time.Millisecond),
		nats.ReconnectJitter(0, 0), nats.ReconnectBufSize(-1),
	}
	closed := make(chan struct{})
	nc, err := nats.Connect(s.url, append(append(base, opts...), nats.ClosedHandler(func(*nats.Conn) { close(closed) }))...)
	if err != nil {
		t.Fatalf("connect to the test server: %v", err)
	}
	t.Cleanup(func() {
		nc.Close()
		<-closed
	})
	return nc
}

// Bus returns a provisioned bus on a connection of its own.
func (s *Server) Bus(t testing.TB) *bus.Bus {
	t.Helper()
	return s.BusWith(t, bus.Options{})
}

// BusWith is Bus with options. It logs to the test's output.
func (s *Server) BusWith(t testing.TB, opts bus.Options) *bus.Bus {
	t.Helper()
	b, err := bus.New(s.Conn(t), Log(t), opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), provisionTimeout)
	defer cancel()
	if err := b.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	return b
}

// Restart stops the server, if it runs, and starts it again on the same files and the same port.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.Stop()
	srv, err := natsserver.Start(natsserver.Options{Dir: s.dir, Port: s.port})
	if err != nil {
		t.Fatalf("restart the test server: %v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.srv = srv
}

// Stop stops the server and waits until it has. Stopping twice is fine.
func (s *Server) Stop() {
	s.mu.Lock()
	srv := s.srv
	s.srv = nil
	s.mu.Unlock()
	if srv != nil {
		srv.Shutdown()
	}
}

// Log returns a logger that writes to the output of the test.
func Log(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}
