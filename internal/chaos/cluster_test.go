package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/bus"
	"github.com/rlaaudgjs5638/hersh/internal/executor"
	"github.com/rlaaudgjs5638/hersh/internal/natstest"
	"github.com/rlaaudgjs5638/hersh/internal/pause"
	"github.com/rlaaudgjs5638/hersh/internal/supervisor"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	deadline = 2 * time.Minute // Bounds every wait; it is far more than anything takes.
	digest   = events.SourceDigest("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")
)

// replicated is three NATS servers as processes, with two supervisors and two executors in this one.
type replicated struct {
	t       *testing.T
	cluster *Cluster
	nc      *nats.Conn
	bus     *bus.Bus
	ids     []events.ProgramID
}

func newReplicated(t *testing.T) *replicated {
	t.Helper()
	dir := t.TempDir()
	binary, err := Build(t.Context(), dir, "github.com/nats-io/nats-server/v2")
	if err != nil {
		t.Fatal(err)
	}
	cluster, err := StartCluster(binary, dir, ClusterOptions{Servers: servers, Sync: syncAlways, Died: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { must(t, cluster.Stop()) })
	r := &replicated{t: t, cluster: cluster}
	r.nc, r.bus = r.dial("test")
	r.await("the streams", func(ctx context.Context) error { return r.bus.Provision(ctx) })
	for i := range 2 {
		_, b := r.dial(fmt.Sprintf("supervisor %d", i))
		s := supervisor.New(b, fmt.Sprint(i), natstest.Log(t), supervisor.NewMetrics(prometheus.NewRegistry()))
		r.serve(s.Run)
		_, b = r.dial(fmt.Sprintf("executor %d", i))
		host := executor.NewFakeHost(effects.NewFakeEffectHandler())
		e := executor.New(events.HostID(fmt.Sprintf("h%d", i)), b, host, executor.Options{BuildSlots: 2, RunSlots: 4}, natstest.Log(t), executor.NewMetrics(prometheus.NewRegistry()))
		r.serve(e.Run)
	}
	for range 4 {
		r.ids = append(r.ids, r.create())
	}
	return r
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (r *replicated) dial(name string, opts ...nats.Option) (*nats.Conn, *bus.Bus) {
	r.t.Helper()
	var nc *nats.Conn
	closed := make(chan struct{})
	r.await("a connection", func(context.Context) (err error) {
		nc, err = bus.Dial(r.cluster.URL(), name, natstest.Log(r.t), append(opts, nats.ClosedHandler(func(*nats.Conn) { close(closed) }))...)
		return err
	})
	r.t.Cleanup(func() {
		nc.Close()
		<-closed
	})
	b, err := bus.New(nc, natstest.Log(r.t), bus.Options{Replicas: servers})
	if err != nil {
		r.t.Fatal(err)
	}
	return nc, b
}

func (r *replicated) serve(run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() { _ = run(ctx) }) // Returns the error of ctx.
	r.t.Cleanup(func() { cancel(); group.Wait() })
}

// await tries until it succeeds.
func (r *replicated) await(what string, try func(ctx context.Context) error) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), deadline)
	defer cancel()
	for {
		tryCtx, end := context.WithTimeout(ctx, ackWait)
		err := try(tryCtx)
		end()
		if err == nil {
			return
		}
		if !pause.For(ctx, healthEvery) {
			r.t.Fatalf("waited in vain for %s: %v", what, err)
		}
	}
}

func (r *replicated) create() events.ProgramID {
	r.t.Helper()
	build, err := events.NewBuildID(digest)
	if err != nil {
		r.t.Fatal(err)
	}
	id := events.NewProgramID("alice", build)
	r.await("a program", func(ctx context.Context) error {
		return r.bus.Create(ctx, id, events.ProgramCreated{BuildID: build, SourceDigest: digest})
	})
	return id
}

func (r *replicated) healthy() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), deadline)
	defer cancel()
	if err := r.cluster.AwaitHealthy(ctx); err != nil {
		r.t.Fatal(err)
	}
}

func (r *replicated) start(s *Server) {
	r.t.Helper()
	if err := s.Start(); err != nil {
		r.t.Fatal(err)
	}
}

// publish appends an event to every program.
func (r *replicated) publish(ev events.Event) {
	r.t.Helper()
	for _, id := range r.ids {
		if _, err := r.bus.Append(r.t.Context(), id, ev, ""); err != nil {
			r.t.Fatal(err)
		}
	}
}

// awaitAll waits until all programs are in a state, and the read model says so too.
func (r *replicated) awaitAll(state reducer.State) {
	r.t.Helper()
	for _, id := range r.ids {
		r.await(fmt.Sprintf("%s to be %s", id, state), func(ctx context.Context) error {
			all, err := truths(ctx, r.bus, []events.ProgramID{id})
			if err != nil {
				return err
			}
			if got := all[0].at; got.State.State != state {
				return fmt.Errorf("is %s", got.State.State)
			}
			if cp, found, err := r.bus.Load(ctx, id); err != nil || !found || cp != all[0].at {
				return errors.Join(err, fmt.Errorf("the read model has event %d, the log %d", cp.Seq, all[0].at.Seq))
			}
			return nil
		})
	}
}

// noneTwice checks that no key stands in a log twice, and that none of those wanted is missing.
func (r *replicated) noneTwice(id events.ProgramID, want []string) {
	r.t.Helper()
	all, err := truths(r.t.Context(), r.bus, []events.ProgramID{id})
	if err != nil {
		r.t.Fatal(err)
	}
	counts := map[string]int{}
	c := &checker{nc: r.nc}
	if err := c.each(all[0], func(_ uint64, msg *nats.Msg) { counts[msg.Header.Get(nats.MsgIdHdr)]++ }); err != nil {
		r.t.Fatal(err)
	}
	for key, n := range counts {
		if n > 1 {
			r.t.Errorf("key %s stands %d times in the log of %s", key, n, id)
		}
	}
	for _, key := range want {
		if counts[key] != 1 {
			r.t.Errorf("key %s was acknowledged and stands %d times in the log of %s", key, counts[key], id)
		}
	}
}

// A cluster loses a disk, a leader in the middle of a burst, and its majority, and nothing that it acknowledged.
func TestReplicatedBus(t *testing.T) {
	r := newReplicated(t)
	t.Run("one disk wiped", r.diskWiped)
	t.Run("leader killed in a burst", r.leaderKilled)
	t.Run("two of three away", r.majorityAway)
	t.Run("one cut off from the others", r.serverCutOff)
	r.healthy()
	for _, id := range r.ids {
		r.noneTwice(id, nil)
	}
}

func (r *replicated) diskWiped(t *testing.T) {
	r.publish(events.UserStartRequested{})
	r.awaitAll(reducer.StateReady)
	r.healthy()
	wiped, other := r.cluster.Servers[0], r.cluster.Servers[1]
	if err := wiped.Wipe(); err != nil {
		t.Fatal(err)
	}
	r.publish(events.UserRestartRequested{}) // Two of three go on.
	r.start(wiped)
	r.healthy()
	r.awaitAll(reducer.StateReady)

	other.Kill() // Now what was wiped is needed.
	r.publish(events.UserStopRequested{})
	r.awaitAll(reducer.StateStopped)
	r.start(other)
	r.healthy()
	for _, id := range r.ids {
		r.noneTwice(id, nil)
	}
}

func (r *replicated) leaderKilled(t *testing.T) {
	id := r.ids[0]
	js, err := r.nc.JetStream()
	if err != nil {
		t.Fatal(err)
	}
	info, err := js.StreamInfo(events.ProgramStream(id))
	if err != nil {
		t.Fatal(err)
	}
	var leader *Server
	for _, s := range r.cluster.Servers {
		if s.Name == info.Cluster.Leader {
			leader = s
		}
	}
	if leader == nil {
		t.Fatalf("no server is called %q", info.Cluster.Leader)
	}
	acked := r.burst(id, 200, leader.Kill)
	r.start(leader)
	r.healthy()
	r.awaitAllAtRest()
	r.noneTwice(id, acked)
	if len(acked) != 200 {
		t.Errorf("%d of 200 were acknowledged: what cannot be stored for a moment must be tried again", len(acked))
	}
	r.publish(events.UserStopRequested{})
	r.awaitAll(reducer.StateStopped)
}

// burst appends starts and stops to a program, from several goroutines, while something happens, and returns the keys of those
// that were acknowledged.
func (r *replicated) burst(id events.ProgramID, n int, during func()) []string {
	var mu sync.Mutex
	var acked []string
	var group sync.WaitGroup
	begun := make(chan struct{}, n)
	const writers = 4
	for w := range writers {
		group.Go(func() {
			for i := w; i < n; i += writers {
				key := fmt.Sprintf("%s/burst/%d", id, i)
				var ev events.Event = events.UserStartRequested{}
				if i%5 == 4 {
					ev = events.UserStopRequested{}
				}
				_, err := r.bus.Append(r.t.Context(), id, ev, key)
				begun <- struct{}{}
				if err != nil {
					r.t.Logf("burst: %v", err)
					continue
				}
				mu.Lock()
				acked = append(acked, key)
				mu.Unlock()
			}
		})
	}
	for range n / 4 {
		<-begun
	}
	during()
	group.Wait()
	return acked
}

func (r *replicated) awaitAllAtRest() {
	r.t.Helper()
	r.await("all programs to be at rest", func(ctx context.Context) error {
		all, err := truths(ctx, r.bus, r.ids)
		for _, tr := range all {
			if !atRest(tr.at.State.State) {
				return fmt.Errorf("%s is %s", tr.id, tr.at.State.State)
			}
		}
		return err
	})
}

func (r *replicated) majorityAway(t *testing.T) {
	r.cluster.Servers[1].Kill()
	r.cluster.Servers[2].Kill()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := r.bus.Append(ctx, r.ids[0], events.UserStartRequested{}, string(r.ids[0])+"/alone"); err == nil {
		t.Error("one server of three acknowledged an event")
	}
	var group sync.WaitGroup
	for _, id := range r.ids {
		group.Go(func() {
			r.await("a start to be stored", func(ctx context.Context) error {
				_, err := r.bus.Append(ctx, id, events.UserStartRequested{}, string(id)+"/waits")
				return err
			})
		})
	}
	r.start(r.cluster.Servers[1])
	r.start(r.cluster.Servers[2])
	group.Wait()
	r.healthy()
	r.awaitAll(reducer.StateReady)
	for _, id := range r.ids {
		r.noneTwice(id, []string{string(id) + "/waits"})
	}
}

// A server that is cut off from the others keeps its clients; a host that is connected to it goes elsewhere, and is not lost.
func (r *replicated) serverCutOff(t *testing.T) {
	r.healthy()
	nc, b := r.dial("host", nats.DontRandomize()) // Takes the first server.
	if first := "nats://" + r.cluster.Servers[0].Addr; nc.ConnectedUrl() != first {
		t.Fatalf("connected to %s, want %s", nc.ConnectedUrl(), first)
	}
	for _, p := range r.cluster.around(0) {
		p.Hold()
		defer p.Mend()
	}
	// A heartbeat may still be stored while the server believes that it leads; from then on none is, until another server is taken.
	r.await("the host to leave the server", func(ctx context.Context) error {
		if err := b.Beat(ctx, events.Heartbeat{HostID: "moves"}); err != nil {
			return err
		}
		if nc.ConnectedUrl() == "nats://"+r.cluster.Servers[0].Addr {
			return errors.New("it is still there")
		}
		return nil
	})
	if nc.Stats().Reconnects == 0 {
		t.Error("it did not reconnect")
	}
}

// The configuration that ships for a cluster says what the tests run with.
func TestShippedConfigurationSyncsAlways(t *testing.T) {
	conf, err := os.ReadFile("../../deploy/cluster/nats.conf")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"sync_interval: always", "max_file_store", "routes"} {
		if !strings.Contains(string(conf), want) {
			t.Errorf("deploy/cluster/nats.conf has no %q", want)
		}
	}
}
