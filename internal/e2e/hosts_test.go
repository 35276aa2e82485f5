package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/bus"
	"github.com/rlaaudgjs5638/hersh/internal/executor"
	"github.com/rlaaudgjs5638/hersh/internal/natstest"
	"github.com/rlaaudgjs5638/hersh/internal/supervisor"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

// A host that is gone is lost once for each program on it; the next start goes to another host, and what ran on the lost one is
// removed when it is back.
func TestHostLost(t *testing.T) {
	const ttl = 10 * time.Second // The least that executors keep up with.
	s := newFakeSystem(t)
	s.bus = s.nats.BusWith(t, bus.Options{HostTTL: ttl})
	for _, name := range []string{"s1", "s2"} { // Both see it; it is stored once.
		s.startWatching(name, ttl)
	}
	lost := executor.NewFakeHost(effects.NewFakeEffectHandler())
	stop := s.startExecutor("h1", lost)
	running, resting, stopped := s.create("alice"), s.create("alice"), s.create("alice")
	for _, id := range []events.ProgramID{running, stopped} {
		s.publish(events.UserStartRequested{}, id)
		s.waitState(id, "ready", is(reducer.StateReady))
	}
	s.publish(events.UserStopRequested{}, stopped)
	s.waitState(stopped, "stopped", is(reducer.StateStopped))

	stop()
	state := s.waitState(running, "lost with its host", is(reducer.StateError))
	if state.HostID != "" || state.ContainerID != "" || state.ErrorMsg != "host h1 was lost: no heartbeat for 10s" {
		t.Errorf("after the loss: %+v", state)
	}
	if n := countTypes(t, s.bus, running)[events.TypeHostLost]; n != 1 {
		t.Errorf("HostLost stands %d times in the log, want once", n)
	}
	if n := countTypes(t, s.bus, resting)[events.TypeHostLost]; n != 0 {
		t.Errorf("a program that is on no host was lost %d times", n)
	}

	s.startExecutor("h2", executor.NewFakeHost(effects.NewFakeEffectHandler()))
	s.publish(events.UserStartRequested{}, running)
	if again := s.waitState(running, "ready elsewhere", is(reducer.StateReady)); again.HostID != "h2" {
		t.Errorf("it is on %q, want h2", again.HostID)
	}
	// One that was stopped when its host was lost goes elsewhere with its next start, at once and not by way of Error.
	s.publish(events.UserStartRequested{}, stopped)
	if again := s.waitState(stopped, "ready elsewhere", notBuilding); again.State != reducer.StateReady || again.HostID != "h2" || again.Attempt != 3 {
		t.Errorf("it became %+v, want Ready on h2 at attempt 3", again)
	}
	js, err := s.nats.Conn(t).JetStream()
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the effects that wait for the lost host to be withdrawn", func() bool { return effectsWaiting(t, js, "h1") == 0 })

	if left, err := lost.Containers(t.Context()); err != nil || len(left) != 1 {
		t.Fatalf("the lost host has %v (%v), want the container that it ran", left, err)
	}
	s.startExecutor("h1", lost)
	next := s.create("bob") // Handled by either; what matters is that h1 compares before it works.
	s.publish(events.UserStartRequested{}, next)
	s.waitState(next, "ready", is(reducer.StateReady))
	waitFor(t, "the lost host to remove what is nobody's", func() bool {
		list, err := lost.Containers(t.Context())
		for _, c := range list {
			if c.ProgramID == running {
				return false
			}
		}
		return err == nil
	})
}

// A drained host takes no new program, also after everything was restarted; what is on it goes on, until it is told to stop.
func TestDrainedHost(t *testing.T) { openAndSecure(t, testDrainedHost) }

func testDrainedHost(s *fakeSystem) {
	t := s.t
	stopSup := s.startSupervisor("s1")
	first := executor.NewFakeHost(effects.NewFakeEffectHandler())
	stopExec := s.startExecutor("h1", first)
	mine := s.create("alice")
	s.publish(events.UserStartRequested{}, mine)
	s.waitState(mine, "ready", is(reducer.StateReady))
	if err := s.bus.Drain(t.Context(), "h1", true); err != nil {
		t.Fatal(err)
	}
	stopSup()
	stopExec()
	if s.nats != nil {
		s.nats.Restart(t)
	}
	s.startSupervisor("s2")
	s.startExecutor("h1", first)
	waitFor(t, "the host to say that it is drained", func() bool { return s.heartbeat("h1").Drained })

	next := s.create("alice")
	s.publish(events.UserStartRequested{}, next)
	s.publish(events.UserRestartRequested{}, mine) // Goes through the same executor, which has had time for the other one.
	s.waitState(mine, "ready again", func(p reducer.ProgramState) bool { return p.State == reducer.StateReady && p.Attempt == 2 })
	if state, err := fold(t.Context(), s.bus, next); err != nil || state.State.State != reducer.StateBuilding || state.State.HostID != "" {
		t.Errorf("a new program became %+v (%v), want it to wait", state.State, err)
	}
	if n := countTypes(t, s.bus, next)[events.TypeFoldersEnsured]; n != 0 {
		t.Error("the drained host began with a new program")
	}
	s.startExecutor("h2", executor.NewFakeHost(effects.NewFakeEffectHandler()))
	if ready := s.waitState(next, "ready", is(reducer.StateReady)); ready.HostID != "h2" {
		t.Errorf("it is on %q, want h2", ready.HostID)
	}

	s.publishAs(s.admin(), events.HostDrained{HostID: "h1"}, mine)
	stopped := s.waitState(mine, "stopped", is(reducer.StateStopped))
	if left, err := first.Containers(t.Context()); err != nil || len(left) != 0 || stopped.HostID != "h1" {
		t.Errorf("after the stop the host has %v (%v), and the program is %+v", left, err, stopped)
	}
	if err := s.bus.Drain(t.Context(), "h1", false); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the host to take programs again", func() bool { return !s.heartbeat("h1").Drained })
}

// Programs wait for a host with room, and are taken when there is some. No host ever gets more than it takes.
func TestFullHosts(t *testing.T) {
	s := newFakeSystem(t)
	s.startSupervisor("s1")
	hosts := map[events.HostID]*executor.FakeHost{}
	for _, id := range []events.HostID{"h1", "h2"} {
		hosts[id] = executor.NewFakeHost(effects.NewFakeEffectHandler())
		exec := executor.New(id, s.nats.Bus(t), hosts[id], executor.Options{BuildSlots: 2, RunSlots: 2, Capacity: events.Capacity{MemoryBytes: 600 << 20}},
			natstest.Log(t), executor.NewMetrics(prometheus.NewRegistry()))
		serve(t, exec.Run)
	}
	var ids []events.ProgramID
	for range 6 { // Of 256 MiB each, of which a host takes two.
		id := s.create("alice")
		s.publish(events.UserStartRequested{}, id)
		ids = append(ids, id)
	}
	count := func() (ready []events.ProgramID, waiting int) {
		for _, id := range ids {
			cp, err := fold(t.Context(), s.bus, id)
			if err != nil {
				t.Fatal(err)
			}
			if cp.State.State == reducer.StateReady {
				ready = append(ready, id)
			}
			if cp.State.State == reducer.StateBuilding {
				waiting++
			}
		}
		return ready, waiting
	}
	check := func(ready, waiting int) {
		t.Helper()
		waitFor(t, fmt.Sprintf("%d programs ready and %d waiting", ready, waiting), func() bool {
			r, w := count()
			return len(r) == ready && w == waiting
		})
		for id, host := range hosts {
			if list, err := host.Containers(t.Context()); err != nil || len(list) > 2 {
				t.Errorf("%s has %v (%v), and takes two", id, list, err)
			}
		}
	}
	check(4, 2)
	waitFor(t, "both hosts to say that they are full", func() bool {
		return s.heartbeat("h1").Promised.Programs == 2 && s.heartbeat("h2").Promised.Programs == 2
	})
	ready, _ := count()
	s.publish(events.UserStopRequested{}, ready[0])
	s.publish(events.UserStopRequested{}, ready[1])
	check(4, 0)
}

func (s *fakeSystem) heartbeat(host events.HostID) events.Heartbeat {
	s.t.Helper()
	beats, err := s.bus.Hosts(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	for _, beat := range beats {
		if beat.HostID == host {
			return beat
		}
	}
	return events.Heartbeat{}
}

// startWatching starts a supervisor that looks after the hosts.
func (s *fakeSystem) startWatching(name string, ttl time.Duration) (stop func()) {
	b := s.nats.BusWith(s.t, bus.Options{HostTTL: ttl})
	sup := supervisor.New(b, name, natstest.Log(s.t), supervisor.NewMetrics(prometheus.NewRegistry()))
	watch := supervisor.NewHostWatch(b, ttl, natstest.Log(s.t), time.Now())
	sup.UseHosts(watch, time.Now)
	stopWatch := serve(s.t, func(ctx context.Context) error { watch.Run(ctx); return nil })
	stopSup := serve(s.t, sup.Run)
	return func() { stopSup(); stopWatch() }
}

// effectsWaiting counts the messages in the queues of a host.
func effectsWaiting(t *testing.T, js nats.JetStreamContext, host events.HostID) uint64 {
	t.Helper()
	info, err := js.StreamInfo(events.StreamEffects, &nats.StreamInfoRequest{SubjectsFilter: events.EffectsSubjects(host, "*")})
	if err != nil {
		t.Fatal(err)
	}
	n := uint64(0)
	for _, count := range info.State.Subjects {
		n += count
	}
	return n
}

func notBuilding(s reducer.ProgramState) bool {
	return s.State != reducer.StateBuilding && s.State != reducer.StateStarting && s.State != reducer.StateStopped
}

// waitFor polls until the condition holds.
func waitFor(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		case <-tick.C:
		}
	}
}
