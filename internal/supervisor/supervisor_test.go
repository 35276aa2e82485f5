package supervisor_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/bus/bustest"
	"github.com/rlaaudgjs5638/hersh/internal/natstest"
	"github.com/rlaaudgjs5638/hersh/internal/supervisor"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const deadline = 30 * time.Second

var errFault = errors.New("the bus failed, as it was told to")

// recorder is a bus that notes what is written to it and fails when told to. Its hooks are called with the operation and
// the program before it takes effect.
type recorder struct {
	*bustest.Memory
	fail func(op string, id events.ProgramID) error
	hide func(id events.ProgramID) uint64 // Reads end before this event, as those of a replica that lags; 0 hides nothing.

	mu    sync.Mutex
	notes []string
}

func newRecorder() *recorder { return &recorder{Memory: bustest.NewMemory(bustest.Config{})} }

func (r *recorder) note(op string, id events.ProgramID, format string, args ...any) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail != nil {
		if err := r.fail(op, id); err != nil {
			r.notes = append(r.notes, op+" fails")
			return err
		}
	}
	if format != "" {
		r.notes = append(r.notes, op+" "+fmt.Sprintf(format, args...))
	}
	return nil
}

// taken returns the notes since the last call.
func (r *recorder) taken() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	notes := strings.Join(r.notes, "; ")
	r.notes = nil
	return notes
}

func (r *recorder) PublishEffects(ctx context.Context, m effects.Message) error {
	var types []string
	for _, eff := range m.Effects {
		types = append(types, string(eff.Type()))
	}
	host := m.Effects[0].Place().HostID
	if err := r.note("publish", m.ProgramID, "%d %s %s", m.Seq, events.EffectsQueue(host, effects.Class(m.Effects)), strings.Join(types, "+")); err != nil {
		return err
	}
	return r.Memory.PublishEffects(ctx, m)
}

func (r *recorder) Save(ctx context.Context, cp reducer.Checkpoint, replace bool) error {
	how := ""
	if replace {
		how = " replaces"
	}
	if err := r.note("save", cp.State.ID, "%d %s%s", cp.Seq, cp.State.State, how); err != nil {
		return err
	}
	return r.Memory.Save(ctx, cp, replace)
}

func (r *recorder) Load(ctx context.Context, id events.ProgramID) (reducer.Checkpoint, bool, error) {
	if err := r.note("load", id, ""); err != nil {
		return reducer.Checkpoint{}, false, err
	}
	return r.Memory.Load(ctx, id)
}

func (r *recorder) Read(ctx context.Context, id events.ProgramID, after uint64) iter.Seq2[events.Stored, error] {
	return func(yield func(events.Stored, error) bool) {
		if err := r.note("read", id, ""); err != nil {
			yield(events.Stored{}, err)
			return
		}
		for stored, err := range r.Memory.Read(ctx, id, after) {
			if r.hide != nil && err == nil && r.hide(id) != 0 && stored.Seq >= r.hide(id) {
				return
			}
			if !yield(stored, err) {
				return
			}
		}
	}
}

func newSupervisor(t *testing.T, b supervisor.Bus, name string) *supervisor.Supervisor {
	return supervisor.New(b, name, natstest.Log(t), supervisor.NewMetrics(prometheus.NewRegistry()))
}

// program makes a program whose log goes on with some events.
func program(t *testing.T, b *bustest.Memory, n int, log ...events.Event) events.ProgramID {
	t.Helper()
	id, first := bustest.NewProgram("alice", n)
	if err := b.Create(t.Context(), id, first); err != nil {
		t.Fatal(err)
	}
	add(t, b, id, log...)
	return id
}

func add(t *testing.T, b *bustest.Memory, id events.ProgramID, log ...events.Event) {
	t.Helper()
	for _, ev := range log {
		if _, err := b.Append(t.Context(), id, ev, ""); err != nil {
			t.Fatal(err)
		}
	}
}

// life is a program's way to Ready, with results of host h1.
func life(attempt uint64) []events.Event {
	origin := events.Origin{HostID: "h1", Attempt: attempt}
	return []events.Event{
		events.UserStartRequested{},
		events.FoldersEnsured{Origin: origin, Success: true},
		events.BuildFinished{Origin: origin, Success: true, ImageID: "image"},
		events.RuntimeStarted{Origin: origin, ContainerID: fmt.Sprintf("c%d", attempt)},
	}
}

func reconcile(t *testing.T, s *supervisor.Supervisor, id events.ProgramID, atLeast uint64) reducer.Checkpoint {
	t.Helper()
	cp, err := s.Reconcile(t.Context(), id, atLeast)
	if err != nil {
		t.Fatal(err)
	}
	return cp
}

func want(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s:\ngot  %s\nwant %s", what, got, want)
	}
}

func TestReconcilePublishesOnlyWhatTheHeadAwaits(t *testing.T) {
	start, stop, restart := events.UserStartRequested{}, events.UserStopRequested{}, events.UserRestartRequested{}
	stopped := events.StopFinished{Origin: events.Origin{HostID: "h1", Attempt: 1}, ContainerID: "c1", Success: true}
	for _, test := range []struct {
		name string
		log  []events.Event
		want string
	}{
		{"created", nil, "save 1 Created"},
		{"start", []events.Event{start}, "publish 2 any-build EnsureProgramFolders+BuildRuntime; save 2 Building"},
		{"given up before it began", []events.Event{start, stop}, "save 3 Stopped"},
		{"started again at once", []events.Event{start, stop, start}, "publish 4 any-build EnsureProgramFolders+BuildRuntime; save 4 Building"},
		{"half built", life(1)[:2], "publish 2 any-build EnsureProgramFolders+BuildRuntime; save 3 Building"},
		{"built", life(1)[:3], "publish 4 h1-run StartRuntime; save 4 Starting"},
		{"ready", life(1), "save 5 Ready"},
		{"stopping", append(life(1), stop), "publish 6 h1-run StopRuntime; save 6 Stopping"},
		{"stopped", append(life(1), stop, stopped), "save 7 Stopped"},
		{"restarting", append(life(1), restart), "publish 6 h1-run StopRuntime; save 6 Stopping"},
		{"restarted", append(life(1), restart, stopped), "publish 7 h1-build EnsureProgramFolders+BuildRuntime; save 7 Building"},
		{"orphan", append(life(1)[:3], stop, life(1)[3]), "publish 6 h1-run StopRuntime; save 6 Stopped"},
		{"orphan and new attempt", append(life(1)[:3], stop, start, life(1)[3]), "publish 6 h1-build EnsureProgramFolders+BuildRuntime; publish 7 h1-run StopRuntime; save 7 Building"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newRecorder()
			s := newSupervisor(t, b, "s1")
			id := program(t, b.Memory, 1, test.log...)
			reconcile(t, s, id, uint64(1+len(test.log)))
			want(t, "at once", b.taken(), test.want)
			reconcile(t, s, id, 0)
			want(t, "again", b.taken(), "")

			// One event at a time ends in the same read model.
			step := newRecorder()
			s = newSupervisor(t, step, "s2")
			program(t, step.Memory, 1)
			reconcile(t, s, id, 1)
			for i, ev := range test.log {
				add(t, step.Memory, id, ev)
				reconcile(t, s, id, uint64(i+2))
			}
			one, _, _ := b.Load(t.Context(), id)
			other, _, _ := step.Load(t.Context(), id)
			one.Time, other.Time = time.Time{}, time.Time{}
			if one != other {
				t.Errorf("read models differ:\n%+v\n%+v", one, other)
			}
		})
	}
}

func TestGarbageStopsNothing(t *testing.T) {
	b := newRecorder()
	s := newSupervisor(t, b, "s1")
	id := program(t, b.Memory, 1)
	for _, data := range []string{"", "{", "null", "\xff", `{"success":1}`} {
		if _, err := b.AppendRaw(t.Context(), id, events.TypeBuildFinished, []byte(data), ""); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.AppendRaw(t.Context(), id, "NoSuchType", []byte("{}"), ""); err != nil {
		t.Fatal(err)
	}
	add(t, b.Memory, id, events.UserStartRequested{})
	reconcile(t, s, id, 8)
	want(t, "behind garbage", b.taken(), "publish 8 any-build EnsureProgramFolders+BuildRuntime; save 8 Building")
}

func TestNothingIsSavedBeforeAllIsPublished(t *testing.T) {
	b := newRecorder()
	s := newSupervisor(t, b, "s1")
	start, stop := events.UserStartRequested{}, events.UserStopRequested{}
	id := program(t, b.Memory, 1, append(life(1)[:3], stop, start, life(1)[3])...) // A build and an orphan's stop are due.
	failures := 2
	b.fail = func(op string, _ events.ProgramID) error {
		if op == "publish" && failures > 0 {
			failures--
			return errFault
		}
		return nil
	}
	for range 2 {
		if _, err := s.Reconcile(t.Context(), id, 7); !errors.Is(err, errFault) {
			t.Fatalf("reconcile: %v, want the fault", err)
		}
		want(t, "with a failing publication", b.taken(), "publish fails")
	}
	reconcile(t, s, id, 7)
	want(t, "once it works", b.taken(), "publish 6 h1-build EnsureProgramFolders+BuildRuntime; publish 7 h1-run StopRuntime; save 7 Building")
}

// backlog makes a program whose builds no host takes, as many as may wait, and which is to be built once more.
func backlog(t *testing.T, s *supervisor.Supervisor, b *bustest.Memory) events.ProgramID {
	t.Helper()
	id := program(t, b, 1)
	for range effects.MaxWaiting {
		for _, ev := range []events.Event{events.UserStartRequested{}, events.UserStopRequested{}} {
			add(t, b, id, ev)
			reconcile(t, s, id, 0)
		}
	}
	add(t, b, id, events.UserStartRequested{})
	return id
}

func wantSaved(t *testing.T, b *bustest.Memory, id events.ProgramID, want reducer.State) {
	t.Helper()
	if cp, found, err := b.Load(t.Context(), id); err != nil || !found || cp.State.State != want {
		t.Errorf("the read model says %s (%v, %v), want %s", cp.State.State, found, err, want)
	}
}

// What there is no room for is not taken for published, and a stop needs no room.
func TestReconcileOfABacklog(t *testing.T) {
	b := newRecorder()
	s := newSupervisor(t, b, "s1")
	id := backlog(t, s, b.Memory)
	for range 2 {
		cp, err := s.Reconcile(t.Context(), id, 0)
		if !errors.Is(err, effects.ErrBacklog) || cp.State.State != reducer.StateBuilding {
			t.Fatalf("reconcile gives %s, %v; want Building, and ErrBacklog", cp.State.State, err)
		}
		wantSaved(t, b.Memory, id, reducer.StateStopped)
	}
	add(t, b.Memory, id, events.UserStopRequested{})
	cp := reconcile(t, s, id, 0)
	wantSaved(t, b.Memory, id, reducer.StateStopped)
	if head, err := b.Head(t.Context(), id); err != nil || cp.Seq != head.Seq {
		t.Errorf("after the stop the read model is of event %d of %d (%v)", cp.Seq, head.Seq, err)
	}
}

// Nobody has to ask for it: the wake-up comes again until a host has taken something.
func TestSupervisorGoesOnOnceABacklogHasRoom(t *testing.T) {
	b := newRecorder()
	id := backlog(t, newSupervisor(t, b, "s1"), b.Memory)
	refused := make(chan struct{}, 3)
	b.fail = func(op string, _ events.ProgramID) error {
		if op == "publish" && len(refused) < cap(refused) {
			refused <- struct{}{}
		}
		return nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	s := newSupervisor(t, b, "s2")
	group.Go(func() { _ = s.Run(ctx) })
	late := time.After(deadline)
	for range 3 {
		select {
		case <-refused:
		case <-late:
			t.Fatal("the supervisor does not try again")
		}
	}
	wantSaved(t, b.Memory, id, reducer.StateStopped)
	d, found := b.TakeEffects("", events.ClassBuild)
	if !found {
		t.Fatal("no build waits")
	}
	d.Ack()
	end := time.Now().Add(deadline)
	tick := time.Tick(5 * time.Millisecond)
	for saved := func() reducer.State { cp, _, _ := b.Load(ctx, id); return cp.State.State }; saved() != reducer.StateBuilding; <-tick {
		if time.Now().After(end) {
			t.Fatalf("the read model says %s still", saved())
		}
	}
}

// A stop must not wait for room in the queue of builds.
func TestReconcileGoesOnPastAFullQueue(t *testing.T) {
	b := newRecorder()
	s := newSupervisor(t, b, "s1")
	start, stop := events.UserStartRequested{}, events.UserStopRequested{}
	id := program(t, b.Memory, 1, append(life(1)[:3], stop, start, life(1)[3])...) // A build and an orphan's stop are due.
	full := true
	b.fail = func(op string, _ events.ProgramID) error {
		if op != "publish" || !full {
			return nil
		}
		full = false
		return effects.ErrBacklog
	}
	if _, err := s.Reconcile(t.Context(), id, 7); !errors.Is(err, effects.ErrBacklog) {
		t.Errorf("reconcile: %v, want ErrBacklog", err)
	}
	want(t, "with a full queue", b.taken(), "publish fails; publish 7 h1-run StopRuntime")
}

// A host that the program is not on can make up any number of containers, and then take none of their stops.
func TestOrphansOfAnotherHostDoNotHoldUpAProgram(t *testing.T) {
	b := newRecorder()
	s := newSupervisor(t, b, "s1")
	id := program(t, b.Memory, 1, life(1)...)
	made := events.RuntimeStarted{Origin: events.Origin{HostID: "h2", Attempt: 1}, ContainerID: "c9"}
	for range effects.MaxWaiting {
		if err := b.PublishTrigger(t.Context(), events.EffectsSubject("h2", events.ClassRun, id), id, 6, ""); err != nil {
			t.Fatal(err)
		}
	}
	add(t, b.Memory, id, made)
	cp, err := s.Reconcile(t.Context(), id, 6)
	if err != nil || cp.Seq != 6 {
		t.Errorf("reconcile comes to event %d: %v", cp.Seq, err)
	}
	if saved, found, err := b.Load(t.Context(), id); err != nil || !found || saved != cp {
		t.Errorf("saved is %+v, %v, %v", saved, found, err)
	}
}

// Nobody takes the effects of a host that is lost, and no checkpoint says yet that the program is to go there.
func TestReconcileOfABacklogFindsALostHost(t *testing.T) {
	b := newRecorder()
	s := newSupervisor(t, b, "s1")
	watch, now := watchLooked(t, b, 4) // It is blind for a TTL.
	s.UseHosts(watch, func() time.Time { return now })
	stopped := events.StopFinished{Origin: events.Origin{HostID: "h1", Attempt: 1}, ContainerID: "c1", Success: true}
	id := program(t, b.Memory, 1, append(life(1), events.UserStopRequested{}, stopped)...)
	for range effects.MaxWaiting {
		if err := b.PublishTrigger(t.Context(), events.EffectsSubject("h1", events.ClassBuild, id), id, 7, ""); err != nil {
			t.Fatal(err)
		}
	}
	add(t, b.Memory, id, events.UserStartRequested{})
	if _, err := s.Reconcile(t.Context(), id, 8); !errors.Is(err, effects.ErrBacklog) {
		t.Fatalf("reconcile: %v, want ErrBacklog", err)
	}
	if n := b.WaitingFor("h1"); n != 0 {
		t.Errorf("%d messages wait for the lost host still", n)
	}
	b.taken()
	reconcile(t, s, id, 9)
	want(t, "once the host is known to be lost", b.taken(), "publish 9 any-build EnsureProgramFolders+BuildRuntime; save 9 Building")
}

// watchLooked returns a watch that has looked so often, and the time then. It looks three times in a TTL.
func watchLooked(t *testing.T, b supervisor.HostBus, times int) (*supervisor.HostWatch, time.Time) {
	t.Helper()
	const ttl = 30 * time.Second
	now := time.Now()
	watch := supervisor.NewHostWatch(b, ttl, natstest.Log(t), now)
	for range times {
		now = now.Add(ttl / 3)
		if _, err := watch.Look(t.Context(), now); err != nil {
			t.Fatal(err)
		}
	}
	return watch, now
}

// A loss that told a program nothing, since a checkpoint that lagged made somebody say it, does not hide the one that does.
func TestALossForNothingHidesNoOther(t *testing.T) {
	b := newRecorder()
	s := newSupervisor(t, b, "s1")
	failed := events.StopFinished{Origin: events.Origin{HostID: "h1", Attempt: 1}, ContainerID: "c1", Error: "no"}
	id := program(t, b.Memory, 1, append(life(1), events.UserStopRequested{}, failed)...)
	lost := events.HostLost{HostID: "h1", Reason: "no heartbeat"}
	if _, err := b.Append(t.Context(), id, lost, string(id)+"/lost/h1/1"); err != nil {
		t.Fatal(err)
	}
	add(t, b.Memory, id, events.UserStopRequested{})
	if cp := reconcile(t, s, id, 9); cp.State.State != reducer.StateStopping {
		t.Fatalf("the program is %s", cp.State.State)
	}
	watchLooked(t, b, 8) // It is blind for a TTL, and then looks at all programs every 30 s.
	if cp := reconcile(t, s, id, 0); cp.State.State != reducer.StateError || cp.Seq != 10 {
		t.Errorf("the program is %s at event %d, want one more loss", cp.State.State, cp.Seq)
	}
}

func TestCrashBetweenPublishAndSavePublishesTheSameKey(t *testing.T) {
	b := newRecorder()
	id := program(t, b.Memory, 1, events.UserStartRequested{})
	b.fail = func(op string, _ events.ProgramID) error {
		if op == "save" {
			return errFault
		}
		return nil
	}
	if _, err := newSupervisor(t, b, "s1").Reconcile(t.Context(), id, 2); !errors.Is(err, errFault) {
		t.Fatalf("reconcile: %v, want the fault", err)
	}
	b.fail = nil
	reconcile(t, newSupervisor(t, b, "s2"), id, 2)
	publication := "publish 2 any-build EnsureProgramFolders+BuildRuntime; "
	want(t, "both", b.taken(), publication+"save fails; "+publication+"save 2 Building")
	if _, queued := b.Waiting(); queued != 1 {
		t.Errorf("%d messages are queued, want one", queued)
	}
}

// The queue of effects remembers the keys of the log that was deleted.
func TestProgramThatIsCreatedAgainIsBuilt(t *testing.T) {
	b := newRecorder()
	s := newSupervisor(t, b, "s1")
	for life := range 2 {
		id := program(t, b.Memory, 1, events.UserStartRequested{})
		reconcile(t, s, id, 2)
		d, found := b.TakeEffects("", events.ClassBuild)
		if !found {
			t.Fatalf("life %d: nothing is to be built", life+1)
		}
		d.Ack()
		if err := b.Remove(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
}

func TestReadThatEndsTooEarlyIsAnError(t *testing.T) {
	b := newRecorder()
	s := newSupervisor(t, b, "s1")
	id := program(t, b.Memory, 1, life(1)...)
	b.hide = func(events.ProgramID) uint64 { return 4 }
	if _, err := s.Reconcile(t.Context(), id, 5); !errors.Is(err, events.ErrBehind) || !strings.Contains(err.Error(), "read to 3, expected 5") {
		t.Errorf("reconcile of a log that lags: %v", err)
	}
	want(t, "with a log that lags", b.taken(), "")
	b.hide = nil
	reconcile(t, s, id, 5)
	want(t, "once it is there", b.taken(), "save 5 Ready")
}

// leaderless is a bus whose lists lack the programs, and whose leaders are being elected.
type leaderless struct{ noHeads }

func (leaderless) Head(context.Context, events.ProgramID) (events.Head, error) {
	return events.Head{}, events.ErrNoLeader
}

// While nobody can say how far a log goes, nothing is concluded: neither that a read is all there is, nor that a program is gone.
func TestNothingIsConcludedWithoutALeader(t *testing.T) {
	b := newRecorder()
	id := program(t, b.Memory, 1, life(1)...)
	reconcile(t, newSupervisor(t, b, "s1"), id, 5)
	b.taken()
	s := newSupervisor(t, leaderless{noHeads{b}}, "s2")
	if _, err := s.Reconcile(t.Context(), id, 6); !errors.Is(err, events.ErrNoLeader) || errors.Is(err, events.ErrBehind) {
		t.Errorf("reconcile: %v, want ErrNoLeader", err)
	}
	if _, err := s.Sweep(t.Context()); !errors.Is(err, events.ErrNoLeader) {
		t.Errorf("sweep: %v, want ErrNoLeader", err)
	}
	want(t, "without a leader", b.taken(), "")
	if _, found, err := b.Load(t.Context(), id); !found || err != nil {
		t.Errorf("its checkpoint is there: %t, %v", found, err)
	}
}

func TestFailingBusIsAnErrorAndSavesNothing(t *testing.T) {
	for _, op := range []string{"load", "read", "save"} {
		b := newRecorder()
		id := program(t, b.Memory, 1)
		b.fail = func(what string, _ events.ProgramID) error {
			if what == op {
				return errFault
			}
			return nil
		}
		if _, err := newSupervisor(t, b, "s1").Reconcile(t.Context(), id, 1); !errors.Is(err, errFault) {
			t.Errorf("reconcile with failing %s: %v", op, err)
		}
		want(t, "with failing "+op, b.taken(), op+" fails")
	}
}

func TestUnknownProgramIsNoError(t *testing.T) {
	b := newRecorder()
	s := newSupervisor(t, b, "s1")
	id, _ := bustest.NewProgram("alice", 9)
	if cp := reconcile(t, s, id, 3); cp != reducer.NewCheckpoint(id) {
		t.Errorf("checkpoint of an unknown program: %+v", cp)
	}
	want(t, "of an unknown program", b.taken(), "")
}

func sweep(t *testing.T, s *supervisor.Supervisor) int {
	t.Helper()
	found, err := s.Sweep(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// wantMended checks that the read model is what the log gives.
func wantMended(t *testing.T, b *recorder, id events.ProgramID) {
	t.Helper()
	log := reducer.NewCheckpoint(id)
	for stored, err := range b.Memory.Read(t.Context(), id, 0) {
		if err == nil {
			log, _, err = log.Next(stored)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if cp, found, err := b.Load(t.Context(), id); err != nil || !found || cp != log {
		t.Errorf("checkpoint is %+v (%v, %v), the log gives %+v", cp, found, err, log)
	}
}

func TestSweepMendsEveryCheckpoint(t *testing.T) {
	b := newRecorder()
	s := newSupervisor(t, b, "s1")
	var ids []events.ProgramID
	for n := range 6 {
		ids = append(ids, program(t, b.Memory, n, life(1)...))
		reconcile(t, s, ids[n], 5)
	}
	behind, _, _ := b.Load(t.Context(), ids[1])
	behind.Seq, behind.State = 2, reducer.NewProgramState(ids[1], ids[1].Build())
	ahead, _, _ := b.Load(t.Context(), ids[3])
	ahead.Seq, ahead.State.State = 40, reducer.StateStopped
	if err := b.DropCheckpoint(t.Context(), ids[0]); err != nil {
		t.Fatal(err)
	}
	add(t, b.Memory, ids[1], events.UserStopRequested{}) // Its wake-up was lost.
	b.SetCheckpoint(ids[2], reducer.Checkpoint{}, false)
	b.SetCheckpoint(ids[3], ahead, true)
	b.taken()

	if found := sweep(t, s); found != 4 {
		t.Errorf("the sweep found %d programs, want 4", found)
	}
	want(t, "of the sweep", b.taken(), "save 5 Ready; publish 6 h1-run StopRuntime; save 6 Stopping; save 5 Ready; save 5 Ready replaces")
	for _, id := range ids {
		wantMended(t, b, id)
	}
	if found := sweep(t, s); found != 0 {
		t.Errorf("a second sweep found %d programs", found)
	}
}

// A supervisor that reconciles a program while it is deleted may save its checkpoint last. That is no sign of a program; nor is a list
// that lacks one a sign that it was deleted.
func TestSweepRemovesCheckpointsWithoutALog(t *testing.T) {
	b := newRecorder()
	kept, gone := program(t, b.Memory, 1, life(1)...), program(t, b.Memory, 2, life(1)...)
	s := newSupervisor(t, b, "s1")
	reconcile(t, s, kept, 5)
	late, err := s.Reconcile(t.Context(), gone, 5)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Remove(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	if err := b.Save(t.Context(), late, false); err != nil {
		t.Fatal(err)
	}
	if _, err := newSupervisor(t, noHeads{b}, "s2").Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, found, err := b.Load(t.Context(), gone); found || err != nil {
		t.Errorf("the checkpoint of a program that was deleted: %v, %v", found, err)
	}
	if _, found, err := b.Load(t.Context(), kept); !found || err != nil {
		t.Errorf("the checkpoint of a program that a list lacks: %v, %v", found, err)
	}
}

// A program whose log is there lives, whatever was noted of a deletion; but a list may have a log that is gone.
func TestSweepTakesBackTheDeletionsOfProgramsThatLive(t *testing.T) {
	b := newRecorder()
	lives, gone := program(t, b.Memory, 1, life(1)...), program(t, b.Memory, 2, life(1)...)
	b.NoteDeletion(lives)
	var old []events.Head
	for head := range b.Heads(t.Context()) {
		old = append(old, head)
	}
	if err := b.Remove(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	_, err := newSupervisor(t, oldHeads{b, old}, "s1").Sweep(t.Context())
	if err != nil && !errors.Is(err, events.ErrNoProgram) {
		t.Fatal(err)
	}
	var deleted []events.ProgramID
	for id := range b.Deletions(t.Context()) {
		deleted = append(deleted, id)
	}
	if !slices.Equal(deleted, []events.ProgramID{gone}) {
		t.Errorf("noted as deleted are %v, want %v", deleted, gone)
	}
}

type oldHeads struct {
	*recorder
	heads []events.Head
}

func (o oldHeads) Heads(context.Context) iter.Seq2[events.Head, error] {
	return func(yield func(events.Head, error) bool) {
		for _, head := range o.heads {
			if !yield(head, nil) {
				return
			}
		}
	}
}

type noHeads struct{ *recorder }

func (noHeads) Heads(context.Context) iter.Seq2[events.Head, error] {
	return func(func(events.Head, error) bool) {}
}

func TestSweepGoesOnPastAFailure(t *testing.T) {
	b := newRecorder()
	s := newSupervisor(t, b, "s1")
	var ids []events.ProgramID
	for n := range 3 {
		ids = append(ids, program(t, b.Memory, n))
	}
	b.fail = func(op string, id events.ProgramID) error {
		if op == "read" && id == ids[1] {
			return errFault
		}
		return nil
	}
	if found, err := s.Sweep(t.Context()); found != 3 || !errors.Is(err, errFault) {
		t.Errorf("the sweep found %d programs (%v), want 3 and the fault", found, err)
	}
	want(t, "of the sweep", b.taken(), "save 1 Created; read fails; save 1 Created")
}

// A checkpoint that was saved after the heads were listed looks as if it were ahead, and is not.
func TestSweepLeavesACheckpointThatIsJustNew(t *testing.T) {
	b := newRecorder()
	s := newSupervisor(t, b, "s1")
	id := program(t, b.Memory, 1)
	reconcile(t, s, id, 1)
	late := lateHeads{recorder: b, between: func() {
		add(t, b.Memory, id, events.UserStartRequested{})
		reconcile(t, s, id, 2)
	}}
	b.taken()
	if _, err := newSupervisor(t, late, "s2").Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	want(t, "of the sweep", b.taken(), "publish 2 any-build EnsureProgramFolders+BuildRuntime; save 2 Building")
	wantMended(t, b, id)
}

// lateHeads lists heads as they were before something else happened, and checkpoints as they are after.
type lateHeads struct {
	*recorder
	between func()
}

func (l lateHeads) Checkpoints(ctx context.Context, user events.UserID) iter.Seq2[reducer.Checkpoint, error] {
	l.between()
	return l.recorder.Checkpoints(ctx, user)
}

func (l lateHeads) Heads(ctx context.Context) iter.Seq2[events.Head, error] {
	return func(yield func(events.Head, error) bool) {
		for head, err := range l.recorder.Heads(ctx) {
			head.Seq = min(head.Seq, 1)
			if !yield(head, err) {
				return
			}
		}
	}
}

// A checkpoint that claims more than its log has must not be taken for true once the log has grown to where it claims to be.
func TestCheckpointAheadIsNotBelievedWhenTheLogCatchesUp(t *testing.T) {
	b := newRecorder()
	s := newSupervisor(t, b, "s1")
	id := program(t, b.Memory, 1)
	cp := reconcile(t, s, id, 1)
	cp.Seq, cp.State.State, cp.Time = 3, reducer.StateStopped, cp.Time.Add(time.Hour)
	b.SetCheckpoint(id, cp, true)
	add(t, b.Memory, id, events.UserStartRequested{})
	if _, err := s.Reconcile(t.Context(), id, 2); err == nil || !strings.Contains(err.Error(), "the checkpoint is of event 3") {
		t.Errorf("reconcile from a checkpoint that is ahead: %v", err)
	}
	add(t, b.Memory, id, events.UserStopRequested{})
	reconcile(t, s, id, 3)
	wantMended(t, b, id)
}

func TestManySupervisorsAtOnceWriteTheSame(t *testing.T) {
	b := newRecorder()
	const programs = 20
	var ids []events.ProgramID
	for n := range programs {
		ids = append(ids, program(t, b.Memory, n, append(life(1), events.UserRestartRequested{})...))
	}
	var group sync.WaitGroup
	for i := range 4 {
		s := newSupervisor(t, b, fmt.Sprint("s", i))
		group.Go(func() {
			for _, id := range ids {
				if _, err := s.Reconcile(t.Context(), id, 6); err != nil {
					t.Error(err)
				}
			}
		})
		group.Go(func() {
			if _, err := s.Sweep(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if _, queued := b.Waiting(); queued != programs {
		t.Errorf("%d messages are queued, want one a program", queued)
	}
	for _, id := range ids {
		wantMended(t, b, id)
	}
}

func TestRunFollowsWakeUpsAndSweepsAtTheStart(t *testing.T) {
	b := newRecorder()
	lost := program(t, b.Memory, 1, events.UserStartRequested{})
	b.DropWake(lost)
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	for i := range 2 {
		s := newSupervisor(t, b, fmt.Sprint("s", i))
		group.Go(func() {
			if err := s.Run(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("run ended with %v", err)
			}
		})
	}
	told := program(t, b.Memory, 2, life(1)...)
	end := time.Now().Add(deadline)
	tick := time.Tick(5 * time.Millisecond)
	for saved := func(id events.ProgramID) uint64 { cp, _, _ := b.Load(ctx, id); return cp.Seq }; saved(lost) != 2 || saved(told) != 5; <-tick {
		if time.Now().After(end) {
			t.Fatalf("checkpoints are of %d and %d, want 2 and 5", saved(lost), saved(told))
		}
	}
	cancel()
	group.Wait()
}
