package bus_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/bus"
	"github.com/rlaaudgjs5638/hersh/internal/bus/bustest"
	"github.com/rlaaudgjs5638/hersh/internal/natstest"
)

func create(t *testing.T, b *bus.Bus, n int) events.ProgramID {
	t.Helper()
	id, first := bustest.NewProgram("alice", n)
	if err := b.Create(t.Context(), id, first); err != nil {
		t.Fatal(err)
	}
	return id
}

// request publishes as any client may, and returns the server's answer.
func request(t *testing.T, nc *nats.Conn, subject string, header nats.Header, data []byte) string {
	t.Helper()
	answer, err := nc.RequestMsg(&nats.Msg{Subject: subject, Header: header, Data: data}, deadline)
	if err != nil {
		t.Fatal(err)
	}
	return string(answer.Data)
}

func read(t *testing.T, b *bus.Bus, id events.ProgramID) []events.Stored {
	t.Helper()
	var log []events.Stored
	for stored, err := range b.Read(t.Context(), id, 0) {
		if err != nil {
			t.Fatal(err)
		}
		log = append(log, stored)
	}
	return log
}

// call is one call of a handler of work.
type call struct {
	id  events.ProgramID
	seq uint64
}

// listen runs a loop of the bus whose handler tells every call, until the returned function is called.
func listen(t *testing.T, loop func(context.Context, func(context.Context, events.ProgramID, uint64) error) error, answer func(context.Context, call) error) (calls <-chan call, stop func()) {
	t.Helper()
	out := make(chan call, 1000)
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() {
		err := loop(ctx, func(ctx context.Context, id events.ProgramID, seq uint64) error {
			out <- call{id, seq}
			return answer(ctx, call{id, seq})
		})
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("the loop ended: %v", err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); group.Wait() })
	t.Cleanup(stop)
	return out, stop
}

func done(context.Context, call) error { return nil }

func wakesOf(b *bus.Bus) func(context.Context, func(context.Context, events.ProgramID, uint64) error) error {
	return func(ctx context.Context, h func(context.Context, events.ProgramID, uint64) error) error {
		return b.Wakes(ctx, 1, h)
	}
}

func effectsOf(b *bus.Bus, host events.HostID, class events.Class) func(context.Context, func(context.Context, events.ProgramID, uint64) error) error {
	return func(ctx context.Context, h func(context.Context, events.ProgramID, uint64) error) error {
		return b.Effects(ctx, host, class, 1, nil, h)
	}
}

func receive[T any](t *testing.T, what string, from <-chan T) T {
	t.Helper()
	timer := time.NewTimer(deadline)
	defer timer.Stop()
	select {
	case v := <-from:
		return v
	case <-timer.C:
		t.Fatalf("this never came: %s", what)
		panic("unreachable")
	}
}

// eventually asks until something holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	end := time.NewTimer(deadline)
	defer end.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-end.C:
			t.Fatalf("this never came: %s", what)
		}
	}
}

func wantText(t *testing.T, what, got, want string) {
	t.Helper()
	if !strings.Contains(got, want) {
		t.Errorf("%s is %q, want it to say %q", what, got, want)
	}
}

// each runs fn n times at once and fails with the first error.
func each(t *testing.T, n int, fn func(i int) error) {
	t.Helper()
	errs := make([]error, n)
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() { errs[i] = fn(i) })
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// serve starts a server of its own on a free port. It leaves syncing to the operating system.
func serve(t *testing.T, o server.Options) *server.Server {
	t.Helper()
	o.Host, o.Port, o.NoSigs, o.NoLog = "127.0.0.1", -1, true, true
	srv, err := server.NewServer(&o)
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(deadline) {
		t.Fatal("the server does not accept connections")
	}
	return srv
}

// dial returns a connection to this server and no other.
func dial(t *testing.T, srv *server.Server) *nats.Conn {
	t.Helper()
	closed := make(chan struct{})
	nc, err := nats.Connect(srv.ClientURL(), nats.IgnoreDiscoveredServers(), nats.ClosedHandler(func(*nats.Conn) { close(closed) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close(); <-closed })
	return nc
}

// unsynced returns a bus on a server that leaves syncing to the operating system, for tests that store much.
func unsynced(t *testing.T) (*bus.Bus, *nats.Conn) {
	t.Helper()
	nc := dial(t, serve(t, server.Options{JetStream: true, StoreDir: t.TempDir()}))
	b, err := bus.New(nc, natstest.Log(t), bus.Options{})
	if err == nil {
		err = b.Provision(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return b, nc
}
