package chaos

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/bus"
	"github.com/rlaaudgjs5638/hersh/internal/chaos/box"
	"github.com/rlaaudgjs5638/hersh/internal/chaos/prochost"
	"github.com/rlaaudgjs5638/hersh/internal/natstest"
	"github.com/rlaaudgjs5638/hersh/internal/pause"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

// scene is a world that a checker looks at, put together by hand: a real bus and real containers, but no service that would put
// anything right.
type scene struct {
	*checker
	t    *testing.T
	ctx  context.Context
	n    int                // Of publications.
	runs events.ProgramID   // Ready, in a container that runs on host-1.
	id   string             // Of that container.
	idle []events.ProgramID // Created, and nothing more.
}

// newScene makes a world in which all is as it should be.
func newScene(t *testing.T, server *natstest.Server, b *bus.Bus, binary string) *scene {
	t.Helper()
	dir := t.TempDir()
	system := &System{}
	for i := range 2 {
		svc := &service{host: boxes{prochost.Store(fmt.Sprintf("%s/host-%d", dir, i+1), binary)}}
		svc.Name = fmt.Sprintf("host-%d", i+1)
		system.executors = append(system.executors, svc)
	}
	nc := server.Conn(t)
	s := &scene{t: t, ctx: t.Context(), checker: &checker{
		bus: b, nc: nc, system: system, watch: newWatch(system), users: &users{nc: nc}, enemy: &nemesis{killed: map[string]bool{}},
	}}
	t.Cleanup(s.endContainers)
	for range 3 {
		s.ids = append(s.ids, s.create())
	}
	s.runs, s.idle = s.ids[0], s.ids[1:]
	for !s.uneventful() {
		s.seed++
	}
	s.user(s.runs, events.TypeUserStartRequested)
	s.append(s.runs, events.FoldersEnsured{Origin: s.origin(), Success: true}, "folders")
	s.append(s.runs, events.BuildFinished{Origin: s.origin(), Success: true, ImageID: "i"}, "build")
	s.id = s.launch(0, s.runs, 1).ID
	s.append(s.runs, events.RuntimeStarted{Origin: s.origin(), ContainerID: s.id}, "start")
	s.model()
	return s
}

func (s *scene) origin() events.Origin { return events.Origin{HostID: "host-1", Attempt: 1} }

// uneventful reports whether no plan of this seed makes a container exit.
func (s *scene) uneventful() bool {
	for _, id := range s.ids {
		for attempt := range uint64(3) {
			if prochost.PlanOf(s.seed, id, attempt).Script != (box.Script{}) {
				return false
			}
		}
	}
	return true
}

func (s *scene) endContainers() {
	for _, e := range s.system.executors {
		list, err := s.store(e).List()
		if err != nil {
			s.t.Error(err)
		}
		for _, c := range list {
			s.wipe(e, c)
		}
	}
}

func (s *scene) store(e *service) box.Store { return e.host.(boxes).store }

func (s *scene) wipe(e *service, c box.Status) {
	if err := s.store(e).Wipe(c); err != nil {
		s.t.Error(err)
	}
}

func (s *scene) create() events.ProgramID {
	s.t.Helper()
	build, err := events.NewBuildID(digest)
	if err != nil {
		s.t.Fatal(err)
	}
	id := events.NewProgramID("alice", build)
	if err := s.bus.Create(s.ctx, id, events.ProgramCreated{BuildID: build, SourceDigest: digest}); err != nil {
		s.t.Fatal(err)
	}
	return id
}

// user publishes as a user of the chaos does, who remembers.
func (s *scene) user(id events.ProgramID, typ events.Type) {
	s.t.Helper()
	s.n++
	s.users.publish(s.ctx, publication{program: id, typ: typ, token: fmt.Sprint(s.n), keyed: true}, "{}")
	if all := s.users.all(); all[len(all)-1].seq == 0 {
		s.t.Fatal("a publication was not acknowledged")
	}
}

func (s *scene) append(id events.ProgramID, ev events.Event, key string) {
	s.t.Helper()
	if _, err := s.bus.Append(s.ctx, id, ev, string(id)+"/"+key); err != nil {
		s.t.Fatal(err)
	}
}

// raw publishes without any record of it.
func (s *scene) raw(id events.ProgramID, typ events.Type, header nats.Header) {
	s.t.Helper()
	if _, err := s.nc.RequestMsg(&nats.Msg{Subject: events.EventSubject(id, typ), Header: header, Data: []byte("{}")}, ackWait); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) launch(host int, id events.ProgramID, attempt uint64) box.Status {
	s.t.Helper()
	store := s.store(s.system.executors[host])
	if err := store.Create(id, attempt, box.Script{}); err != nil {
		s.t.Fatal(err)
	}
	c, err := store.Start(s.ctx, id, attempt)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// kill ends the process of a container and leaves its folder.
func (s *scene) kill(host int, c box.Status) {
	s.t.Helper()
	if err := syscall.Kill(c.Pid, syscall.SIGKILL); err != nil {
		s.t.Fatal(err)
	}
	for now := c; now.Running(); {
		var err error
		if now, err = s.store(s.system.executors[host]).Find(c.ID); err != nil || !pause.For(s.ctx, healthEvery) {
			s.t.Fatalf("the container does not end: %v", err)
		}
	}
}

// model makes the read model what the logs say.
func (s *scene) model() {
	s.t.Helper()
	all, err := truths(s.ctx, s.bus, s.ids)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, t := range all {
		s.save(t.at)
	}
}

func (s *scene) save(cp reducer.Checkpoint) {
	s.t.Helper()
	if err := s.bus.Save(s.ctx, cp, true); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) truth(id events.ProgramID) reducer.Checkpoint {
	s.t.Helper()
	all, err := truths(s.ctx, s.bus, []events.ProgramID{id})
	if err != nil {
		s.t.Fatal(err)
	}
	return all[0].at
}

// problems is all that the checker finds.
func (s *scene) problems() []Problem {
	s.t.Helper()
	found, err := s.rest(s.ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	more, err := s.final(s.ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	return append(found, more...)
}

// mistake is something that must not be, and how the checker calls it.
type mistake struct {
	name string
	make func(s *scene)
	kind string
	text string // Part of what it says; a mistake may show in other ways too.
}

var mistakes = []mistake{
	{"an acknowledged event is not in the log", func(s *scene) {
		s.users.sent = append(s.users.sent, publication{program: s.idle[0], typ: events.TypeUserStopRequested, token: "gone", seq: 2})
	}, ProblemLost, "was acknowledged as event 2 and stands at []"},
	{"an event stands elsewhere than was acknowledged", func(s *scene) { s.users.sent[0].seq++ }, ProblemLost, "stands at [2]"},
	{"an event of another type stands where one was acknowledged", func(s *scene) {
		s.users.sent[0].typ = events.TypeUserRestartRequested
	}, ProblemLost, "UserRestartRequested 1 was acknowledged"},
	{"a publication is in the log twice", func(s *scene) {
		s.user(s.idle[0], events.TypeUserStopRequested)
		s.raw(s.idle[0], events.TypeUserStopRequested, nats.Header{tokenHeader: {fmt.Sprint(s.n)}})
		s.model()
	}, ProblemDuplicated, "stands at [2 3]"},
	{"a user event comes from nobody", func(s *scene) {
		s.raw(s.idle[0], events.TypeUserStopRequested, nats.Header{tokenHeader: {"unheard"}})
		s.model()
	}, ProblemWrong, "that no user published"},
	{"a container runs for a program that is not started", func(s *scene) { s.launch(0, s.idle[0], 1) }, ProblemOrphan, "runs on host-1; the program is Created"},
	{"a container of an earlier attempt runs beside the right one", func(s *scene) { s.launch(0, s.runs, 0) }, ProblemOrphan, "runs on host-1; the program is Ready"},
	{"a container runs on a host that the program is not on", func(s *scene) { s.launch(1, s.runs, 1) }, ProblemOrphan, "runs on host-2; the program is Ready"},
	{"a dead container lies about", func(s *scene) { s.kill(0, s.launch(0, s.idle[0], 1)) }, ProblemOrphan, "lies about on host-1"},
	{"a container of a program that there never was runs", func(s *scene) {
		s.launch(0, events.NewProgramID("bob", s.idle[0].Build()), 1)
	}, ProblemOrphan, "runs on host-1"},
	{"two containers of a program ran at once, and one is gone again", twoAtOnce, ProblemOrphan, "ran at the same time"},
	{"a program stays in between", func(s *scene) {
		s.user(s.idle[0], events.TypeUserStartRequested)
		s.model()
	}, ProblemStuck, "is Building of attempt 1"},
	{"a Ready program has no container", func(s *scene) {
		c, err := s.store(s.system.executors[0]).Find(s.id)
		if err != nil {
			s.t.Fatal(err)
		}
		s.wipe(s.system.executors[0], c)
	}, ProblemStuck, "which does not run"},
	{"the container of a Ready program is dead", func(s *scene) {
		c, err := s.store(s.system.executors[0]).Find(s.id)
		if err != nil {
			s.t.Fatal(err)
		}
		s.kill(0, c)
	}, ProblemStuck, "which does not run"},
	{"the read model is behind", func(s *scene) { s.user(s.idle[0], events.TypeUserStopRequested) }, ProblemWrong, "the read model has 1"},
	{"the read model tells another state", func(s *scene) {
		cp := s.truth(s.runs)
		cp.State.State = reducer.StateStopped
		s.save(cp)
	}, ProblemWrong, "the read model has 5 Stopped, the log 5 Ready"},
	{"the read model has another digest", func(s *scene) {
		cp := s.truth(s.runs)
		cp.Digest = reducer.Digest(strings.Repeat("0", 64))
		s.save(cp)
	}, ProblemWrong, "the read model has"},
	{"the read model has no such program", func(s *scene) { s.ids = append(s.ids, s.create()) }, ProblemWrong, "the read model has 0"},
	{"a container exited, and nothing made it", func(s *scene) {
		s.append(s.runs, events.RuntimeExited{Origin: s.origin(), ContainerID: s.id, ExitCode: 1}, "exit")
		s.model()
	}, ProblemWrong, "which nothing made it do"},
	{"a build failed, and nothing made it", func(s *scene) {
		s.user(s.idle[0], events.TypeUserStartRequested)
		s.append(s.idle[0], events.BuildFinished{Origin: s.origin(), Error: "no space left"}, "build")
		s.model()
	}, ProblemWrong, "Error for no reason"},
	{"more events than anybody could have made", func(s *scene) {
		for i := range 100 {
			s.append(s.runs, events.RuntimeStarted{Origin: s.origin(), ContainerID: s.id}, fmt.Sprint("storm", i))
		}
		s.model()
	}, ProblemWrong, "events, which is more than"},
	{"a process ended by itself", func(s *scene) { s.system.note(fmt.Errorf("supervisor-1 ended by itself")) }, ProblemWrong, "ended by itself"},
}

// twoAtOnce lets the watch see a second container, which is gone before anybody looks at rest.
func twoAtOnce(s *scene) {
	second := s.launch(1, s.runs, 1)
	ctx, cancel := context.WithTimeout(s.ctx, deadline)
	var group sync.WaitGroup
	group.Go(func() { s.watch.run(ctx) })
	for len(s.watch.of(s.runs)) == 0 && pause.For(ctx, watchEvery) {
	}
	cancel()
	group.Wait()
	if len(s.watch.of(s.runs)) == 0 {
		s.t.Fatal("the watch did not see two containers at once")
	}
	s.wipe(s.system.executors[1], second)
}

// A checker that finds nothing is worth nothing unless it finds what is there: each mistake is made in a world that was right before.
func TestCheckerFindsMistakes(t *testing.T) {
	binary, err := Build(t.Context(), t.TempDir(), module+"/internal/chaos/container")
	if err != nil {
		t.Fatal(err)
	}
	server := natstest.Start(t)
	b := server.Bus(t)
	for _, m := range mistakes {
		t.Run(m.name, func(t *testing.T) {
			s := newScene(t, server, b, binary)
			if found := s.problems(); len(found) > 0 {
				t.Fatalf("before the mistake: %v", found)
			}
			m.make(s)
			found := s.problems()
			for _, p := range found {
				if p.Kind == m.kind && strings.Contains(p.Text, m.text) {
					return
				}
			}
			t.Errorf("found %v, want one that is %s and says %q", found, m.kind, m.text)
		})
	}
}

// What the log itself cannot bring about, since Reduce would not, is judged by the state alone.
func TestCheckerJudgesStates(t *testing.T) {
	for _, tc := range []struct {
		state  reducer.State
		intent events.Type
		why    string
		want   string // "" is none.
	}{
		{reducer.StateReady, events.TypeUserStartRequested, "", ""},
		{reducer.StateReady, events.TypeUserStopRequested, "", "Ready although its user stopped it"},
		{reducer.StateStopped, events.TypeUserStopRequested, "", ""},
		{reducer.StateStopped, events.TypeUserRestartRequested, "", "Stopped although its user's last word was"},
		{reducer.StateCreated, events.TypeUserStartRequested, "", "Created although its user's last word was"},
		{reducer.StateCreated, "", "", ""},
		{reducer.StateError, events.TypeUserStartRequested, "it broke", ""},
		{reducer.StateError, events.TypeUserStartRequested, "", "Error without a reason"},
		{reducer.StateBuilding, events.TypeUserStartRequested, "", "is Building"},
		{reducer.StateStarting, events.TypeUserStartRequested, "", "is Starting"},
		{reducer.StateStopping, events.TypeUserStopRequested, "", "is Stopping"},
	} {
		tr := truth{intent: tc.intent}
		tr.at.State.State, tr.at.State.ErrorMsg = tc.state, tc.why
		var got string
		(&checker{}).state(tr, func(_ string, _ events.ProgramID, format string, args ...any) { got += fmt.Sprintf(format, args...) })
		if (tc.want == "") != (got == "") || !strings.Contains(got, tc.want) {
			t.Errorf("%s, %s, %q: %q, want %q", tc.state, tc.intent, tc.why, got, tc.want)
		}
	}
}

// A lost host is the one reason for which two containers of a program may run at once.
func TestCheckerAllowsTwoContainersOfALostHost(t *testing.T) {
	binary, err := Build(t.Context(), t.TempDir(), module+"/internal/chaos/container")
	if err != nil {
		t.Fatal(err)
	}
	server := natstest.Start(t)
	s := newScene(t, server, server.Bus(t), binary)
	twoAtOnce(s)
	s.append(s.runs, events.HostLost{HostID: "host-2", Reason: "no heartbeat"}, "lost")
	s.model()
	if found := s.problems(); len(found) > 0 {
		t.Errorf("found %v, want nothing", found)
	}
}

// A program that is run twice all the time does not fill the memory of the run.
func TestWatchRemembersSoManyPairs(t *testing.T) {
	w := newWatch(&System{})
	for i := range 2 * mostPairs {
		w.note("p", []runner{{host: "h1", id: fmt.Sprint(i)}, {host: "h2", id: fmt.Sprint(i)}})
	}
	if n := len(w.of("p")); n != mostPairs {
		t.Errorf("it remembers %d pairs, want %d", n, mostPairs)
	}
}

// A command line that hangs is given up, with what it started.
func TestCommandIsBounded(t *testing.T) {
	err := command(50*time.Millisecond, "sh", "-c", "sleep 600 | cat")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it ended with %v", err)
	}
	if err := command(time.Minute, "sh", "-c", "echo no; exit 3"); err == nil || !strings.Contains(err.Error(), "no") {
		t.Errorf("a failure is %v", err)
	}
	if err := command(time.Minute, "true"); err != nil {
		t.Error(err)
	}
}
