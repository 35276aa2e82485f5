package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/bus"
	"github.com/rlaaudgjs5638/hersh/internal/executor"
	"github.com/rlaaudgjs5638/hersh/internal/natstest"
	"github.com/rlaaudgjs5638/hersh/internal/natstest/tenantstest"
	"github.com/rlaaudgjs5638/hersh/internal/supervisor"
	"github.com/rlaaudgjs5638/hersh/internal/tenants"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

// deadline bounds every wait of these tests; it is far more than anything takes.
const deadline = 3 * time.Minute

// digest is that of a source that fake handlers never ask for.
const digest = events.SourceDigest("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")

// fakeSystem is NATS with supervisors and fake executors in this process.
type fakeSystem struct {
	t      *testing.T
	nats   *natstest.Server    // nil where secure is not.
	secure *tenantstest.Secure // A server with accounts, keys and TLS.
	bus    *bus.Bus            // Of somebody who may do everything.
}

// openAndSecure runs a test on a server that asks for nothing, and on one where each part has its own key and no more rights than that
// gives, for hosts h1 and h2 and tenant alice.
func openAndSecure(t *testing.T, test func(*fakeSystem)) {
	t.Run("open", func(t *testing.T) { test(newFakeSystem(t)) })
	t.Run("secure", func(t *testing.T) {
		secure := tenantstest.Start(t, []events.HostID{"h1", "h2"}, []events.UserID{"alice"})
		test(&fakeSystem{t: t, secure: secure, bus: secure.Bus(t, tenants.Provisioner, bus.Options{Bind: true})})
	})
}

// conn connects as alice.
func (s *fakeSystem) conn() *nats.Conn {
	s.t.Helper()
	if s.secure != nil {
		return s.secure.Conn(s.t, tenants.TenantKeyName("alice"))
	}
	return s.nats.Conn(s.t)
}

// admin connects as an operator.
func (s *fakeSystem) admin() *nats.Conn {
	s.t.Helper()
	if s.secure != nil {
		return s.secure.Conn(s.t, tenants.Provisioner)
	}
	return s.nats.Conn(s.t)
}

func newFakeSystem(t *testing.T) *fakeSystem {
	t.Helper()
	server := natstest.Start(t)
	return &fakeSystem{t: t, nats: server, bus: server.Bus(t)}
}

// serve runs something until the returned function is called, or the test ends.
func serve(t *testing.T, fn func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() {
		if err := fn(ctx); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("service ended: %v", err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); group.Wait() })
	t.Cleanup(stop)
	return stop
}

func (s *fakeSystem) startSupervisor(name string) (stop func()) {
	if s.secure != nil {
		return s.secure.Supervise(s.t, name).Stop
	}
	sup := supervisor.New(s.nats.Bus(s.t), name, natstest.Log(s.t), supervisor.NewMetrics(prometheus.NewRegistry()))
	return serve(s.t, sup.Run)
}

func (s *fakeSystem) startExecutor(id events.HostID, host executor.Host) (stop func()) {
	if s.secure != nil {
		return s.secure.ExecuteOn(s.t, id, host)
	}
	exec := executor.New(id, s.nats.Bus(s.t), host, executor.Options{BuildSlots: 2, RunSlots: 2}, natstest.Log(s.t), executor.NewMetrics(prometheus.NewRegistry()))
	return serve(s.t, exec.Run)
}

func (s *fakeSystem) create(user events.UserID) events.ProgramID {
	s.t.Helper()
	build, err := events.NewBuildID(digest)
	if err != nil {
		s.t.Fatal(err)
	}
	id := events.NewProgramID(user, build)
	if err := s.bus.Create(s.t.Context(), id, events.ProgramCreated{BuildID: build, SourceDigest: digest}); err != nil {
		s.t.Fatal(err)
	}
	return id
}

// publish publishes as alice does, with any NATS client.
func (s *fakeSystem) publish(ev events.Event, id events.ProgramID) {
	s.t.Helper()
	s.publishAs(s.conn(), ev, id)
}

func (s *fakeSystem) publishAs(nc *nats.Conn, ev events.Event, id events.ProgramID) {
	s.t.Helper()
	data, err := events.Encode(ev)
	if err != nil {
		s.t.Fatal(err)
	}
	answer, err := nc.Request(events.EventSubject(id, ev.Type()), data, deadline)
	if err != nil {
		s.t.Fatal(err)
	}
	var ack struct{ Seq uint64 }
	if json.Unmarshal(answer.Data, &ack) != nil || ack.Seq == 0 {
		s.t.Fatalf("%s was answered %s, want a sequence", ev.Type(), answer.Data)
	}
}

// waitState waits until the log of a program gives the state, and returns it.
func (s *fakeSystem) waitState(id events.ProgramID, what string, want func(reducer.ProgramState) bool) reducer.ProgramState {
	s.t.Helper()
	return waitState(s.t, s.bus, id, what, want)
}

func waitState(t testing.TB, b *bus.Bus, id events.ProgramID, what string, want func(reducer.ProgramState) bool) reducer.ProgramState {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	news := make(chan struct{}, 1)
	stop, err := b.Watch(ctx, id, func() {
		select {
		case news <- struct{}{}:
		default:
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	poll := time.NewTicker(2 * time.Second) // The feed may be lost with a server that is killed.
	defer poll.Stop()
	for {
		cp, err := fold(ctx, b, id)
		if err == nil && want(cp.State) {
			return cp.State
		}
		select {
		case <-ctx.Done():
			t.Fatalf("program %s did not get %s; it is %+v (%v)\n%s", id, what, cp.State, err, history(t, b, id))
		case <-news:
		case <-poll.C:
		}
	}
}

func fold(ctx context.Context, b *bus.Bus, id events.ProgramID) (reducer.Checkpoint, error) {
	cp := reducer.NewCheckpoint(id)
	for stored, err := range b.Read(ctx, id, 0) {
		if err != nil {
			return cp, err
		}
		if cp, _, err = cp.Next(stored); err != nil {
			return cp, err
		}
	}
	return cp, nil
}

// history is the log of a program, a line an event.
func history(t testing.TB, b *bus.Bus, id events.ProgramID) string {
	t.Helper()
	var lines []string
	for step, err := range reducer.Replay(reducer.NewCheckpoint(id), b.Read(context.WithoutCancel(t.Context()), id, 0)) {
		if err != nil {
			lines = append(lines, err.Error())
			break
		}
		lines = append(lines, fmt.Sprintf("%d %s %s→%s %s %+v", step.Seq, step.Type, step.Before.State, step.After.State, step.Ignored, step.Event))
	}
	return strings.Join(lines, "\n")
}

func is(state reducer.State) func(reducer.ProgramState) bool {
	return func(s reducer.ProgramState) bool { return s.State == state }
}

// countTypes says how many events of each type a log has.
func countTypes(t *testing.T, b *bus.Bus, id events.ProgramID) map[events.Type]int {
	t.Helper()
	counts := map[events.Type]int{}
	for stored, err := range b.Read(t.Context(), id, 0) {
		if err != nil {
			t.Fatal(err)
		}
		counts[stored.Type]++
	}
	return counts
}

func TestLifecycleOverNATS(t *testing.T) { openAndSecure(t, testLifecycleOverNATS) }

// reprovision makes again what all share. Where there are accounts an operator does so, and else each supervisor that starts.
func (s *fakeSystem) reprovision() {
	s.t.Helper()
	if s.secure == nil {
		return
	}
	s.secure.Provision(s.t)
}

func testLifecycleOverNATS(s *fakeSystem) {
	t := s.t
	s.startSupervisor("s1")
	s.startSupervisor("s2")
	host := executor.NewFakeHost(effects.NewFakeEffectHandler())
	s.startExecutor("h1", host)
	id := s.create("alice")

	s.publish(events.UserStartRequested{}, id)
	ready := s.waitState(id, "ready", is(reducer.StateReady))
	if ready.HostID != "h1" || ready.Attempt != 1 {
		t.Errorf("placed on %q at attempt %d, want h1 at 1", ready.HostID, ready.Attempt)
	}

	s.publish(events.UserRestartRequested{}, id)
	s.waitState(id, "ready again", func(p reducer.ProgramState) bool { return p.State == reducer.StateReady && p.Attempt == 2 })

	running, err := host.Containers(t.Context())
	if err != nil || len(running) != 1 {
		t.Fatalf("containers after a restart: %v, %v; want one", running, err)
	}
	if !host.Crash(running[0], 7) {
		t.Fatal("the container did not run")
	}
	failed := s.waitState(id, "failed", is(reducer.StateError))
	if failed.ExitCode != 7 || failed.ErrorMsg != "the program exited with code 7" {
		t.Errorf("after a crash: exit code %d, message %q", failed.ExitCode, failed.ErrorMsg)
	}

	s.publish(events.UserStartRequested{}, id)
	s.waitState(id, "ready after the crash", is(reducer.StateReady))
	s.publish(events.UserStopRequested{}, id)
	s.waitState(id, "stopped", is(reducer.StateStopped))
	if left, err := host.Containers(t.Context()); err != nil || len(left) != 0 {
		t.Errorf("containers after a stop: %v, %v; want none", left, err)
	}
	for typ, n := range map[events.Type]int{events.TypeBuildFinished: 3, events.TypeRuntimeStarted: 3, events.TypeRuntimeExited: 1, events.TypeStopFinished: 2} {
		if got := countTypes(t, s.bus, id)[typ]; got != n {
			t.Errorf("%d events of type %s, want %d:\n%s", got, typ, n, history(t, s.bus, id))
		}
	}
}

// The headers of an event are republished with it, and a stream acts on them: without care, HERSH_WAKE refuses the wake-up.
func TestUserHeadersDoNotCostTheWakeUp(t *testing.T) {
	openAndSecure(t, testUserHeadersDoNotCostTheWakeUp)
}

func testUserHeadersDoNotCostTheWakeUp(s *fakeSystem) {
	t := s.t
	s.startSupervisor("s1")
	s.startExecutor("h1", executor.NewFakeHost(effects.NewFakeEffectHandler()))
	nc := s.conn()
	for _, header := range []nats.Header{
		{"Nats-Msg-Id": {"1"}},
		{"Nats-Msg-Id": {"1"}}, // Another program, the same key.
		{"Nats-Expected-Last-Sequence": {"1"}},
	} {
		id := s.create("alice")
		_, err := nc.RequestMsg(&nats.Msg{Subject: events.EventSubject(id, events.TypeUserStartRequested), Header: header, Data: []byte("{}")}, deadline)
		if err != nil {
			t.Fatal(err)
		}
		s.waitState(id, fmt.Sprintf("ready with %v", header), is(reducer.StateReady))
	}
}

func TestReadModelAndWakeUpsRebuiltFromLogs(t *testing.T) {
	openAndSecure(t, testReadModelAndWakeUpsRebuiltFromLogs)
}

func testReadModelAndWakeUpsRebuiltFromLogs(s *fakeSystem) {
	t := s.t
	stop := s.startSupervisor("s1")
	s.startExecutor("h1", executor.NewFakeHost(effects.NewFakeEffectHandler()))
	var ids []events.ProgramID
	for range 3 {
		id := s.create("alice")
		s.publish(events.UserStartRequested{}, id)
		s.waitState(id, "ready", is(reducer.StateReady))
		s.publish(events.UserRestartRequested{}, id)
		s.waitState(id, "ready again", func(p reducer.ProgramState) bool { return p.State == reducer.StateReady && p.Attempt == 2 })
		ids = append(ids, id)
	}
	before := map[events.ProgramID]map[events.Type]int{}
	for _, id := range ids {
		before[id] = countTypes(t, s.bus, id)
	}
	stop()
	js, err := s.admin().JetStream()
	if err != nil {
		t.Fatal(err)
	}
	for _, stream := range []string{"KV_" + events.BucketPrograms, events.StreamWake} {
		if err := js.DeleteStream(stream); err != nil {
			t.Fatal(err)
		}
	}

	s.reprovision()
	s.startSupervisor("s2")
	id := s.create("alice") // When this one is through, the sweep at the start is long over.
	s.publish(events.UserStartRequested{}, id)
	s.waitState(id, "ready", is(reducer.StateReady))
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	for _, id := range ids {
		want, err := fold(ctx, s.bus, id)
		if err != nil {
			t.Fatal(err)
		}
		for got := (reducer.Checkpoint{}); got != want; {
			if got, _, err = s.bus.Load(ctx, id); err != nil {
				t.Fatal(err)
			}
		}
		if after := countTypes(t, s.bus, id); fmt.Sprint(after) != fmt.Sprint(before[id]) {
			t.Errorf("something ran twice: %v before, %v after\n%s", before[id], after, history(t, s.bus, id))
		}
	}
}
