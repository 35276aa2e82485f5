package bus_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/bus"
	"github.com/rlaaudgjs5638/hersh/internal/bus/bustest"
	"github.com/rlaaudgjs5638/hersh/internal/natstest"
)

// electionDeadline bounds the waits for what a server takes some times 10 s to believe: that it has lost the others.
const electionDeadline = 2 * time.Minute

// cluster returns three servers that replicate.
func cluster(t *testing.T) []*server.Server {
	t.Helper()
	var ports []int
	var routes []*url.URL
	for range 3 {
		free, err := net.Listen("tcp", "127.0.0.1:0") // A server of a cluster must know the address of another before it starts.
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, free.Addr().(*net.TCPAddr).Port)
		routes = append(routes, &url.URL{Scheme: "nats", Host: free.Addr().String()})
		if err := free.Close(); err != nil {
			t.Fatal(err)
		}
	}
	var servers []*server.Server
	for i, port := range ports {
		servers = append(servers, serve(t, server.Options{
			ServerName: fmt.Sprintf("n%d", i), JetStream: true, StoreDir: t.TempDir(),
			Cluster: server.ClusterOpts{Name: "hersh", Host: "127.0.0.1", Port: port}, Routes: routes,
		}))
	}
	return servers
}

// A member that has lost the others answers for the logs that it has a copy of, and the copy may lag: that is not the leader's word.
func TestHeadIsNotTheWordOfALeaderlessMember(t *testing.T) {
	t.Parallel()
	servers := cluster(t)
	nc := dial(t, servers[0])
	b, err := bus.New(nc, natstest.Log(t), bus.Options{Replicas: 3})
	if err != nil {
		t.Fatal(err)
	}
	b.Hasten()
	within(t, "the streams are there", func(ctx context.Context) bool { return b.Provision(ctx) == nil })
	id := create(t, b, 1)
	if head, err := b.Head(t.Context(), id); err != nil || head.Seq != 1 {
		t.Fatalf("by the word of its leader the log goes to %d, %v; want 1", head.Seq, err)
	}
	for _, srv := range servers[1:] {
		srv.Shutdown()
		srv.WaitForShutdown()
	}
	within(t, "the last server answers that there is no leader", func(ctx context.Context) bool {
		_, err := b.Head(ctx, id)
		if errors.Is(err, events.ErrNoProgram) {
			t.Fatalf("the log is taken for one that is gone: %v", err)
		}
		return errors.Is(err, events.ErrNoLeader) && !errors.Is(err, context.DeadlineExceeded)
	})
	if exists, err := b.Exists(t.Context(), id); err != nil || !exists {
		t.Errorf("the log exists: %t, %v", exists, err)
	}
}

// within asks until something holds, each time for some seconds.
func within(t *testing.T, what string, holds func(context.Context) bool) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	end := time.NewTimer(electionDeadline)
	defer end.Stop()
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		held := holds(ctx)
		cancel()
		if held {
			return
		}
		select {
		case <-tick.C:
		case <-end.C:
			t.Fatalf("this never came: %s", what)
		}
	}
}

// A leader that is silent holds up nobody for long, and does not pass for a log that is gone.
func TestHeadOfASilentLeader(t *testing.T) {
	t.Parallel()
	nc := dial(t, serve(t, server.Options{})) // One without JetStream, whose part the test takes.
	b, err := bus.New(nc, natstest.Log(t), bus.Options{})
	if err != nil {
		t.Fatal(err)
	}
	id, _ := bustest.NewProgram("alice", 1)
	if _, err := nc.SubscribeSync("$JS.API.STREAM.INFO." + events.ProgramStream(id)); err != nil { // It takes requests and says nothing.
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := b.Head(ctx, id); !errors.Is(err, events.ErrNoLeader) || errors.Is(err, events.ErrNoProgram) {
		t.Errorf("the head by a leader that is silent: %v, want ErrNoLeader", err)
	}
	if ctx.Err() != nil {
		t.Error("it waited as long as its caller would, though that is longer than a worker may be held")
	}
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	if _, err := b.Head(ctx, id); !errors.Is(err, context.Canceled) || errors.Is(err, events.ErrNoLeader) {
		t.Errorf("the head for somebody who has given up: %v, want Canceled", err)
	}
}
