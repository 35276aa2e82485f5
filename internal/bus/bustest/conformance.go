package bustest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/executor"
	"github.com/rlaaudgjs5638/hersh/internal/supervisor"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

// deadline bounds every wait of the suite; it is far more than anything takes.
const deadline = 30 * time.Second

// Bus is what supervisors and executors use of a bus, and what makes programs.
type Bus interface {
	supervisor.Bus
	supervisor.HostBus
	executor.Bus
	Create(ctx context.Context, id events.ProgramID, first events.ProgramCreated) error
	Remove(ctx context.Context, id events.ProgramID) error
}

// System is a bus under test, and what is done to it. Its times must be short: an ack wait, a lease and a heartbeat of about two
// seconds.
type System struct {
	Bus     Bus
	Restart func()                    // Restarts the server.
	Spoil   func(id events.ProgramID) // Makes the checkpoint of a program unreadable.
}

var errOnce = errors.New("not this time")

// Conformance checks that a bus does what supervisors and executors rely on. fresh returns an empty one.
func Conformance(t *testing.T, fresh func(*testing.T) System) {
	for name, test := range map[string]func(*testing.T, System){
		"LogInOrder":                  testLog,
		"UnknownProgram":              testUnknownProgram,
		"KeyStoresOnce":               testKey,
		"Heads":                       testHeads,
		"Checkpoints":                 testCheckpoints,
		"Lease":                       testLease,
		"EffectsByQueue":              testEffectsByQueue,
		"EffectsKey":                  testEffectsKey,
		"EffectsBacklog":              testEffectsBacklog,
		"FailedEffectsComeAgain":      testFailedEffects,
		"LongWorkIsNotGivenToAnother": testLongWork,
		"AbandonedWorkIsHandedBack":   testHandedBack,
		"WakeUpsCoalesce":             testWakesCoalesce,
		"WakeUpInFlightIsReplaced":    testWakeInFlight,
		"FailedWakeUpComesAgain":      testFailedWake,
		"RestartForgets":              testRestart,
		"Watch":                       testWatch,
		"Remove":                      testRemove,
		"DropCheckpoint":              testDropCheckpoint,
		"Heartbeats":                  testHeartbeats,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, fresh(t))
		})
	}
}

// Digest is a source digest that no source has; its last digits are n.
func Digest(n int) events.SourceDigest {
	return events.SourceDigest(fmt.Sprintf("%s%016x", strings.Repeat("0123456789abcdef", 3), n))
}

// NewProgram returns a program ID, the n-th of its user, the same one each time, with what its log begins with.
func NewProgram(user events.UserID, n int) (events.ProgramID, events.ProgramCreated) {
	digest := Digest(n)
	build, err := events.NewBuildID(digest)
	if err != nil {
		panic(err)
	}
	id := events.ProgramID(fmt.Sprintf("%s-%s-%08x-9dad-41d1-80b4-00c04fd430c8", user, build, n))
	return id, events.ProgramCreated{BuildID: build, SourceDigest: digest}
}

func create(t *testing.T, b Bus, n int) events.ProgramID {
	t.Helper()
	id, first := NewProgram("alice", n)
	if err := b.Create(t.Context(), id, first); err != nil {
		t.Fatal(err)
	}
	return id
}

func add(t *testing.T, b Bus, id events.ProgramID, ev events.Event, key string) uint64 {
	t.Helper()
	seq, err := b.Append(t.Context(), id, ev, key)
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

// types is the types of a log's events after a sequence.
func types(t *testing.T, b Bus, id events.ProgramID, after uint64) string {
	t.Helper()
	var out []string
	for stored, err := range b.Read(t.Context(), id, after) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("%d:%s", stored.Seq, stored.Type))
	}
	return strings.Join(out, " ")
}

func testLog(t *testing.T, s System) {
	id := create(t, s.Bus, 1)
	create(t, s.Bus, 1) // Again changes nothing.
	add(t, s.Bus, id, events.UserStartRequested{}, "")
	add(t, s.Bus, id, events.UserStartRequested{}, "")
	add(t, s.Bus, id, events.UserStopRequested{}, "")
	for after, want := range map[uint64]string{
		0:  "1:ProgramCreated 2:UserStartRequested 3:UserStartRequested 4:UserStopRequested",
		2:  "3:UserStartRequested 4:UserStopRequested",
		4:  "",
		99: "",
	} {
		if got := types(t, s.Bus, id, after); got != want {
			t.Errorf("read after %d: %q, want %q", after, got, want)
		}
	}
}

func testUnknownProgram(t *testing.T, s System) {
	id, _ := NewProgram("alice", 99)
	if _, err := s.Bus.Append(t.Context(), id, events.UserStartRequested{}, ""); !errors.Is(err, events.ErrNoProgram) {
		t.Errorf("append: %v, want ErrNoProgram", err)
	}
	if _, err := s.Bus.Head(t.Context(), id); !errors.Is(err, events.ErrNoProgram) {
		t.Errorf("head: %v, want ErrNoProgram", err)
	}
	n := 0
	for _, err := range s.Bus.Read(t.Context(), id, 0) {
		if n++; !errors.Is(err, events.ErrNoProgram) {
			t.Errorf("read: %v, want ErrNoProgram", err)
		}
	}
	if n != 1 {
		t.Errorf("read yields %d times, want once", n)
	}
}

func testKey(t *testing.T, s System) {
	one, two := create(t, s.Bus, 1), create(t, s.Bus, 2)
	first := add(t, s.Bus, one, events.UserStartRequested{}, "k")
	if again := add(t, s.Bus, one, events.UserStopRequested{}, "k"); again != first {
		t.Errorf("the same key gave event %d, then event %d", first, again)
	}
	add(t, s.Bus, two, events.UserStartRequested{}, "k") // A key is of one log.
	for _, id := range []events.ProgramID{one, two} {
		if got, want := types(t, s.Bus, id, 1), "2:UserStartRequested"; got != want {
			t.Errorf("log of %s: %q, want %q", id, got, want)
		}
	}
}

func testHeads(t *testing.T, s System) {
	one, two := create(t, s.Bus, 1), create(t, s.Bus, 2)
	add(t, s.Bus, two, events.UserStartRequested{}, "")
	got := map[events.ProgramID]uint64{}
	for head, err := range s.Bus.Heads(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		got[head.ProgramID] = head.Seq
		// The sweep holds it against the time that a checkpoint has from a read: they must be the same to the nanosecond.
		if last := lastStored(t, s.Bus, head.ProgramID); last.IsZero() || !head.Time.Equal(last) {
			t.Errorf("the head of %s is of %s, its last event of %s", head.ProgramID, head.Time, last)
		}
	}
	for id, want := range map[events.ProgramID]uint64{one: 1, two: 2} {
		if head, err := s.Bus.Head(t.Context(), id); err != nil || head.Seq != want || !head.Time.Equal(lastStored(t, s.Bus, id)) {
			t.Errorf("the head of %s by its leader: %+v, %v; want event %d", id, head, err, want)
		}
	}
	if len(got) != 2 || got[one] != 1 || got[two] != 2 {
		t.Errorf("heads are %v, want 1 and 2", got)
	}
}

// lastStored is when the last event of a log was stored, as a read of the log says.
func lastStored(t *testing.T, b Bus, id events.ProgramID) time.Time {
	t.Helper()
	var last time.Time
	for stored, err := range b.Read(t.Context(), id, 0) {
		if err != nil {
			t.Fatal(err)
		}
		last = stored.Time
	}
	return last
}

// testHeartbeats checks that hosts are listed with their last word, and are gone once they say nothing any more.
func testHeartbeats(t *testing.T, s System) {
	alive := func(host events.HostID) bool {
		is, err := s.Bus.HostAlive(t.Context(), host)
		if err != nil {
			t.Fatal(err)
		}
		return is
	}
	listed := func() (all string) {
		hosts, err := s.Bus.Hosts(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, host := range hosts {
			all += fmt.Sprint(host.HostID, host.Running, " ")
		}
		return all
	}
	if got := listed(); got != "" || alive("h1") {
		t.Errorf("before any heartbeat: %q, h1 alive: %v", got, alive("h1"))
	}
	for _, beat := range []events.Heartbeat{{HostID: "h2"}, {HostID: "h1"}, {HostID: "h1", Running: 7}} {
		if err := s.Bus.Beat(t.Context(), beat); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := listed(), "h17 h20 "; got != want {
		t.Errorf("hosts are %q, want %q", got, want)
	}
	if !alive("h1") || !alive("h2") || alive("h3") {
		t.Errorf("alive: h1 %v, h2 %v, h3 %v", alive("h1"), alive("h2"), alive("h3"))
	}
	eventually(t, "h2 is gone while h1 goes on", func() bool {
		if err := s.Bus.Beat(t.Context(), events.Heartbeat{HostID: "h1"}); err != nil {
			t.Fatal(err)
		}
		return !alive("h2") && listed() == "h10 "
	})
	eventually(t, "h1 is gone too", func() bool { return !alive("h1") && listed() == "" })
}

func checkpoint(id events.ProgramID, seq uint64, msg string) reducer.Checkpoint {
	cp := reducer.NewCheckpoint(id)
	cp.Seq, cp.State.ErrorMsg = seq, msg
	return cp
}

func testCheckpoints(t *testing.T, s System) {
	id, _ := NewProgram("alice", 1)
	other, _ := NewProgram("bob", 2)
	if _, found, err := s.Bus.Load(t.Context(), id); found || err != nil {
		t.Fatalf("load of nothing: %v, %v", found, err)
	}
	for _, step := range []struct {
		save    reducer.Checkpoint
		replace bool
		want    string
	}{
		{checkpoint(id, 5, "first"), false, "first"},
		{checkpoint(id, 4, "older"), false, "first"},
		{checkpoint(id, 5, "same"), false, "same"},
		{checkpoint(id, 6, "newer"), false, "newer"},
		{checkpoint(id, 2, "replaced"), true, "replaced"},
	} {
		if err := s.Bus.Save(t.Context(), step.save, step.replace); err != nil {
			t.Fatal(err)
		}
		if cp, found, err := s.Bus.Load(t.Context(), id); err != nil || !found || cp.State.ErrorMsg != step.want {
			t.Errorf("after saving %q: %q, %v, %v; want %q", step.save.State.ErrorMsg, cp.State.ErrorMsg, found, err, step.want)
		}
	}
	if err := s.Bus.Save(t.Context(), checkpoint(other, 1, "bob's"), false); err != nil {
		t.Fatal(err)
	}
	if got := listed(t, s.Bus, "alice"); got != "replaced" {
		t.Errorf("checkpoints of alice: %q", got)
	}
	s.Spoil(id)
	if _, found, err := s.Bus.Load(t.Context(), id); found || err != nil {
		t.Errorf("load of a spoilt checkpoint: %v, %v; want none", found, err)
	}
	if got := listed(t, s.Bus, ""); got != "bob's" {
		t.Errorf("checkpoints with a spoilt one: %q", got)
	}
	if err := s.Bus.Save(t.Context(), checkpoint(id, 1, "mended"), false); err != nil {
		t.Fatal(err)
	}
	if got := listed(t, s.Bus, "alice"); got != "mended" {
		t.Errorf("checkpoints of alice once mended: %q", got)
	}
	for range 2 { // Again changes nothing.
		if err := s.Bus.DropCheckpoint(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if got := listed(t, s.Bus, ""); got != "bob's" {
		t.Errorf("checkpoints without the one that was dropped: %q", got)
	}
}

func listed(t *testing.T, b Bus, user events.UserID) string {
	t.Helper()
	var out []string
	for cp, err := range b.Checkpoints(t.Context(), user) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, cp.State.ErrorMsg)
	}
	return strings.Join(out, " ")
}

func testLease(t *testing.T, s System) {
	take := func(holder string) bool {
		held, err := s.Bus.Lease(t.Context(), "sweep", holder)
		if err != nil {
			t.Fatal(err)
		}
		return held
	}
	if !take("s1") || take("s2") || !take("s1") {
		t.Fatal("s1 took the lease: s2 must not have it, s1 must be able to renew it")
	}
	eventually(t, "s2 takes the lease that nobody renews", func() bool { return take("s2") })
	if take("s1") {
		t.Error("s1 has the lease that s2 took")
	}
}

// eventually asks until something holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
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

// work is one call of a handler.
type work struct {
	id  events.ProgramID
	seq uint64
	ctx context.Context
}

// listen runs a loop of a bus, whose handler tells every call and then asks answer, until the returned function is called.
func listen(t *testing.T, loop func(context.Context, handler) error, answer func(work) error) (calls <-chan work, stop func()) {
	t.Helper()
	out := make(chan work, 1000)
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() {
		err := loop(ctx, func(ctx context.Context, id events.ProgramID, seq uint64) error {
			out <- work{id: id, seq: seq, ctx: ctx}
			return answer(work{id: id, seq: seq, ctx: ctx})
		})
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("the loop ended: %v", err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); group.Wait() })
	t.Cleanup(stop)
	return out, stop
}

func done(work) error { return nil }

func effectsOf(b Bus, host events.HostID, class events.Class) func(context.Context, handler) error {
	return func(ctx context.Context, h handler) error { return b.Effects(ctx, host, class, 1, nil, h) }
}

func wakesOf(b Bus) func(context.Context, handler) error {
	return func(ctx context.Context, h handler) error { return b.Wakes(ctx, 1, h) }
}

func next(t *testing.T, calls <-chan work) work {
	t.Helper()
	timer := time.NewTimer(deadline)
	defer timer.Stop()
	select {
	case w := <-calls:
		return w
	case <-timer.C:
		t.Fatal("no work came")
		return work{}
	}
}

func wantNext(t *testing.T, calls <-chan work, id events.ProgramID, seq uint64) work {
	t.Helper()
	w := next(t, calls)
	if w.id != id || w.seq != seq {
		t.Fatalf("got %s/%d, want %s/%d", w.id, w.seq, id, seq)
	}
	return w
}

func wantNone(t *testing.T, calls <-chan work) {
	t.Helper()
	select {
	case w := <-calls:
		t.Errorf("got %s/%d, want nothing more", w.id, w.seq)
	default:
	}
}

func publish(t *testing.T, b Bus, id events.ProgramID, seq uint64, eff effects.Effect) {
	t.Helper()
	msg := effects.Message{ProgramID: id, Seq: seq, Attempt: eff.Place().Attempt, Effects: []effects.Effect{eff}}
	if err := b.PublishEffects(t.Context(), msg); err != nil {
		t.Fatal(err)
	}
}

func buildOn(host events.HostID) effects.Effect {
	return effects.BuildRuntime{Placement: effects.Placement{HostID: host, Attempt: 1}}
}

func stopOn(host events.HostID) effects.Effect {
	return effects.StopRuntime{Placement: effects.Placement{HostID: host, Attempt: 1}, ContainerID: "c"}
}

func testEffectsByQueue(t *testing.T, s System) {
	id, _ := NewProgram("alice", 1)
	publish(t, s.Bus, id, 1, buildOn(""))
	publish(t, s.Bus, id, 2, stopOn("h1"))
	publish(t, s.Bus, id, 3, buildOn("h2"))
	publish(t, s.Bus, id, 4, buildOn("h1"))
	publish(t, s.Bus, id, 5, stopOn("h1"))
	for _, q := range []struct {
		host  events.HostID
		class events.Class
		want  []uint64
	}{
		{"", events.ClassBuild, []uint64{1}},
		{"h1", events.ClassRun, []uint64{2, 5}},
		{"h1", events.ClassBuild, []uint64{4}},
		{"h2", events.ClassBuild, []uint64{3}},
	} {
		calls, stop := listen(t, effectsOf(s.Bus, q.host, q.class), done)
		for _, seq := range q.want {
			wantNext(t, calls, id, seq)
		}
		stop()
		wantNone(t, calls)
	}
}

func testEffectsKey(t *testing.T, s System) {
	id, _ := NewProgram("alice", 1)
	publish(t, s.Bus, id, 1, stopOn("h1"))
	publish(t, s.Bus, id, 1, stopOn("h1"))
	calls, _ := listen(t, effectsOf(s.Bus, "h1", events.ClassRun), done)
	wantNext(t, calls, id, 1)
	publish(t, s.Bus, id, 1, stopOn("h1")) // Done or not, the key is remembered.
	publish(t, s.Bus, id, 2, stopOn("h1"))
	wantNext(t, calls, id, 2)
}

// testEffectsBacklog checks that what waits of a program in a queue is bounded, and that this shuts out nothing else.
func testEffectsBacklog(t *testing.T, s System) {
	id, _ := NewProgram("alice", 1)
	other, _ := NewProgram("alice", 2)
	for seq := range uint64(effects.MaxWaiting) {
		publish(t, s.Bus, id, seq+1, buildOn(""))
	}
	last := uint64(effects.MaxWaiting + 1)
	more := effects.Message{ProgramID: id, Seq: last, Attempt: 1, Effects: []effects.Effect{buildOn("")}}
	if err := s.Bus.PublishEffects(t.Context(), more); !errors.Is(err, effects.ErrBacklog) || errors.Is(err, events.ErrLogFull) {
		t.Errorf("one more: %v, want ErrBacklog, and not ErrLogFull", err)
	}
	publish(t, s.Bus, id, 1, buildOn("")) // It is there already.
	publish(t, s.Bus, id, last+1, stopOn("h1"))
	publish(t, s.Bus, other, 1, buildOn(""))

	resume := make(chan struct{})
	calls, stop := listen(t, effectsOf(s.Bus, "", events.ClassBuild), func(work) error { <-resume; return nil })
	defer stop()
	wantNext(t, calls, id, 1)
	if err := s.Bus.PublishEffects(t.Context(), more); !errors.Is(err, effects.ErrBacklog) {
		t.Errorf("while the first is in hand: %v, want ErrBacklog", err)
	}
	close(resume)
	for seq := uint64(2); seq <= effects.MaxWaiting; seq++ {
		wantNext(t, calls, id, seq)
	}
	wantNext(t, calls, other, 1)
	publish(t, s.Bus, id, last, buildOn("")) // Nothing remembers that it was refused.
	wantNext(t, calls, id, last)
	stops, _ := listen(t, effectsOf(s.Bus, "h1", events.ClassRun), done)
	wantNext(t, stops, id, last+1)
}

func testFailedEffects(t *testing.T, s System) {
	id, _ := NewProgram("alice", 1)
	publish(t, s.Bus, id, 1, stopOn("h1"))
	failures := 0
	calls, _ := listen(t, effectsOf(s.Bus, "h1", events.ClassRun), func(w work) error {
		if failures++; failures < 3 {
			return errOnce
		}
		return nil
	})
	for range 3 {
		wantNext(t, calls, id, 1)
	}
	publish(t, s.Bus, id, 2, stopOn("h1"))
	wantNext(t, calls, id, 2)
}

func testLongWork(t *testing.T, s System) {
	id, _ := NewProgram("alice", 1)
	long := make(chan struct{})
	answer := func(w work) error {
		if w.seq == 1 {
			<-long
		}
		return nil
	}
	loop := func(ctx context.Context, h handler) error {
		return s.Bus.Effects(ctx, "h1", events.ClassRun, 2, nil, h)
	}
	calls, stop := listen(t, loop, answer)
	defer stop()
	end := sync.OnceFunc(func() { close(long) })
	defer end()
	publish(t, s.Bus, id, 1, stopOn("h1"))
	wantNext(t, calls, id, 1)
	for seq, until := uint64(2), time.Now().Add(4*time.Second); time.Now().Before(until); seq++ {
		publish(t, s.Bus, id, seq, stopOn("h1"))
		wantNext(t, calls, id, seq) // And not the first again.
	}
	end()
}

func testHandedBack(t *testing.T, s System) {
	id, _ := NewProgram("alice", 1)
	leaving := make(chan struct{})
	first, stop := listen(t, effectsOf(s.Bus, "h1", events.ClassRun), func(w work) error {
		<-leaving
		return errOnce
	})
	publish(t, s.Bus, id, 1, stopOn("h1"))
	wantNext(t, first, id, 1)
	var group sync.WaitGroup
	group.Go(stop)
	second, _ := listen(t, effectsOf(s.Bus, "h1", events.ClassRun), done)
	close(leaving)
	group.Wait()
	wantNext(t, second, id, 1)
}

func testWakesCoalesce(t *testing.T, s System) {
	heads := map[events.ProgramID]uint64{}
	for n := range 3 {
		id := create(t, s.Bus, n)
		for range 20 {
			heads[id] = add(t, s.Bus, id, events.UserStartRequested{}, "")
		}
	}
	calls, stop := listen(t, wakesOf(s.Bus), done)
	defer stop()
	const enough = 9 // One a program, and a few more since a wake-up may come a moment after its event.
	for n := 0; len(heads) > 0; n++ {
		if n == enough {
			t.Fatalf("%d wake-ups for 63 events of 3 programs", n)
		}
		if w := next(t, calls); heads[w.id] == w.seq {
			delete(heads, w.id)
		}
	}
}

func testWakeInFlight(t *testing.T, s System) {
	id := create(t, s.Bus, 1)
	resume := make(chan struct{}, 10)
	calls, stop := listen(t, wakesOf(s.Bus), func(work) error { <-resume; return nil })
	defer stop()
	defer close(resume)
	wantNext(t, calls, id, 1)
	add(t, s.Bus, id, events.UserStartRequested{}, "")
	last := add(t, s.Bus, id, events.UserStopRequested{}, "")
	resume <- struct{}{}
	for next(t, calls).seq < last {
		resume <- struct{}{}
	}
}

func testFailedWake(t *testing.T, s System) {
	id := create(t, s.Bus, 1)
	failures := 0
	calls, _ := listen(t, wakesOf(s.Bus), func(work) error {
		if failures++; failures < 3 {
			return errOnce
		}
		return nil
	})
	for range 3 {
		wantNext(t, calls, id, 1)
	}
}

func testRestart(t *testing.T, s System) {
	lost, marker := create(t, s.Bus, 1), create(t, s.Bus, 2)
	publish(t, s.Bus, lost, 1, stopOn("h1"))
	publish(t, s.Bus, lost, 2, stopOn("h2"))
	first, stopFirst := listen(t, effectsOf(s.Bus, "h1", events.ClassRun), done)
	wantNext(t, first, lost, 1)
	stopFirst() // It is acknowledged when the loop has ended.
	if err := s.Bus.Save(t.Context(), checkpoint(lost, 1, "kept"), false); err != nil {
		t.Fatal(err)
	}

	s.Restart()

	eventually(t, "the bus answers again", func() bool { _, _, err := s.Bus.Load(t.Context(), lost); return err == nil })
	if got, want := types(t, s.Bus, lost, 0), "1:ProgramCreated"; got != want {
		t.Errorf("the log is %q, want %q", got, want)
	}
	if got := listed(t, s.Bus, ""); got != "kept" {
		t.Errorf("checkpoints are %q", got)
	}
	publish(t, s.Bus, lost, 1, stopOn("h1")) // Its key went with the message.
	publish(t, s.Bus, lost, 2, stopOn("h2")) // Its key is still there, as the message is.
	publish(t, s.Bus, lost, 3, stopOn("h2"))
	again, _ := listen(t, effectsOf(s.Bus, "h1", events.ClassRun), done)
	wantNext(t, again, lost, 1)
	other, stopOther := listen(t, effectsOf(s.Bus, "h2", events.ClassRun), done)
	wantNext(t, other, lost, 2)
	wantNext(t, other, lost, 3)
	stopOther()
	wantNone(t, other)

	wakes, stop := listen(t, wakesOf(s.Bus), done)
	eventually(t, "a wake-up after the restart", func() bool {
		add(t, s.Bus, marker, events.UserStartRequested{}, "")
		return len(wakes) > 0
	})
	stop()
	for len(wakes) > 0 {
		if w := <-wakes; w.id == lost {
			t.Error("a wake-up in memory outlived the server")
		}
	}
}

func testWatch(t *testing.T, s System) {
	id, other := create(t, s.Bus, 1), create(t, s.Bus, 2)
	news := make(chan struct{}, 100)
	stop, err := s.Bus.Watch(t.Context(), id, func() { news <- struct{}{} })
	if err != nil {
		t.Fatal(err)
	}
	add(t, s.Bus, other, events.UserStartRequested{}, "")
	add(t, s.Bus, id, events.UserStartRequested{}, "")
	timer := time.NewTimer(deadline)
	defer timer.Stop()
	select {
	case <-news:
	case <-timer.C:
		t.Fatal("no news of an event")
	}
	stop()
	add(t, s.Bus, id, events.UserStopRequested{}, "")
	if len(news) > 0 {
		t.Error("more news than events, or news after the end")
	}
}

func testRemove(t *testing.T, s System) {
	id, other := create(t, s.Bus, 1), create(t, s.Bus, 2)
	if err := s.Bus.Save(t.Context(), checkpoint(id, 1, "gone"), false); err != nil {
		t.Fatal(err)
	}
	publish(t, s.Bus, id, 1, stopOn("h1"))
	publish(t, s.Bus, id, 2, buildOn("h2"))
	publish(t, s.Bus, other, 1, stopOn("h1"))
	publish(t, s.Bus, other, 2, buildOn("h2"))
	for range 2 { // Again changes nothing.
		if err := s.Bus.Remove(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Bus.Append(t.Context(), id, events.UserStartRequested{}, ""); !errors.Is(err, events.ErrNoProgram) {
		t.Errorf("append to a removed program: %v, want ErrNoProgram", err)
	}
	if _, found, err := s.Bus.Load(t.Context(), id); found || err != nil {
		t.Errorf("checkpoint of a removed program: %v, %v", found, err)
	}
	for head, err := range s.Bus.Heads(t.Context()) {
		if err != nil || head.ProgramID != other {
			t.Errorf("heads list %v, %v", head, err)
		}
	}
	stops, _ := listen(t, effectsOf(s.Bus, "h1", events.ClassRun), done)
	wantNext(t, stops, other, 1)
	builds, _ := listen(t, effectsOf(s.Bus, "h2", events.ClassBuild), done)
	wantNext(t, builds, other, 2)
	wantDeletions(t, s.Bus, id)
	create(t, s.Bus, 1) // A program that is created again is not one that was deleted, whatever becomes of its log.
	wantDeletions(t, s.Bus)
}

// What comes late of a program that was deleted goes with its checkpoint; what is of one whose log is lost, or there, does not.
func testDropCheckpoint(t *testing.T, s System) {
	lost, _ := NewProgram("alice", 1)
	deleted, again := create(t, s.Bus, 2), create(t, s.Bus, 3)
	for _, id := range []events.ProgramID{deleted, again} {
		if err := s.Bus.Remove(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	create(t, s.Bus, 3)
	for i, id := range []events.ProgramID{deleted, lost, again} {
		publish(t, s.Bus, id, uint64(i+1), stopOn("h1"))
		if err := s.Bus.Save(t.Context(), checkpoint(id, 1, "late"), true); err != nil {
			t.Fatal(err)
		}
		if err := s.Bus.DropCheckpoint(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if got := listed(t, s.Bus, ""); got != "" {
		t.Errorf("checkpoints without those that were dropped: %q", got)
	}
	stops, _ := listen(t, effectsOf(s.Bus, "h1", events.ClassRun), done)
	wantNext(t, stops, lost, 2)
	wantNext(t, stops, again, 3)
	if err := s.Bus.TakeBackDeletion(t.Context(), deleted); err != nil {
		t.Fatal(err)
	}
	wantDeletions(t, s.Bus, deleted) // Its log is gone.
}

func wantDeletions(t *testing.T, b Bus, want ...events.ProgramID) {
	t.Helper()
	deleted := map[events.ProgramID]bool{}
	for id, err := range b.Deletions(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		deleted[id] = true
	}
	if got := slices.Sorted(maps.Keys(deleted)); !slices.Equal(got, want) {
		t.Errorf("remembered as deleted are %v, want %v", got, want)
	}
}
