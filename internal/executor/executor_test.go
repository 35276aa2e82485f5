package executor_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/bus/bustest"
	"github.com/rlaaudgjs5638/hersh/internal/executor"
	"github.com/rlaaudgjs5638/hersh/internal/natstest"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const deadline = 30 * time.Second

var errFault = errors.New("it failed, as it was told to")

// testBus is a bus whose reads and publications fail when told to, and which notes the keys of what is published.
type testBus struct {
	*bustest.Memory
	failRead, failAppend error // Set only while nothing uses the bus.
	failReadOf           events.ProgramID
	hideFrom             uint64

	mu   sync.Mutex
	keys []string
}

func (b *testBus) Read(ctx context.Context, id events.ProgramID, after uint64) iter.Seq2[events.Stored, error] {
	return func(yield func(events.Stored, error) bool) {
		if b.failRead != nil {
			yield(events.Stored{}, b.failRead)
			return
		}
		if b.failReadOf == id {
			yield(events.Stored{}, errFault)
			return
		}
		for stored, err := range b.Memory.Read(ctx, id, after) {
			if b.hideFrom != 0 && stored.Seq >= b.hideFrom || !yield(stored, err) {
				return
			}
		}
	}
}

func (b *testBus) Append(ctx context.Context, id events.ProgramID, ev events.Event, key string) (uint64, error) {
	if b.failAppend != nil {
		return 0, b.failAppend
	}
	b.mu.Lock()
	b.keys = append(b.keys, strings.ReplaceAll(key, string(id), "P"))
	b.mu.Unlock()
	return b.Memory.Append(ctx, id, ev, key)
}

// testHost is a fake host that notes what it runs and can be held in the middle of it.
type testHost struct {
	*executor.FakeHost
	hold    func(ctx context.Context, eff effects.Effect) bool // Called before each effect; false is "could not be tried".
	adopted []string

	mu  sync.Mutex
	ran []string
}

func (h *testHost) Execute(ctx context.Context, eff effects.Effect) events.Event {
	h.mu.Lock()
	h.ran = append(h.ran, string(eff.Type()))
	h.mu.Unlock()
	if h.hold != nil && !h.hold(ctx, eff) {
		return nil
	}
	return h.FakeHost.Execute(ctx, eff)
}

func (h *testHost) Adopt(_ context.Context, c effects.Container) error {
	h.adopted = append(h.adopted, c.ID)
	return nil
}

// took returns what was run since the last call, without the questions for a status.
func (h *testHost) took() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []string
	for _, typ := range h.ran {
		if typ != string(effects.TypeFetchRuntimeStatus) {
			out = append(out, typ)
		}
	}
	h.ran = nil
	return strings.Join(out, " ")
}

// setUp is one executor, of host h1, with a program.
type setUp struct {
	t       *testing.T
	bus     *testBus
	handler *effects.FakeEffectHandler
	host    *testHost
	exec    *executor.Executor
	id      events.ProgramID
}

func newSetUp(t *testing.T, log ...events.Event) *setUp {
	t.Helper()
	handler := effects.NewFakeEffectHandler()
	s := &setUp{
		t: t, bus: &testBus{Memory: bustest.NewMemory(bustest.Config{})}, handler: handler,
		host: &testHost{FakeHost: executor.NewFakeHost(handler)},
	}
	s.exec = s.executor("h1", s.host)
	s.id = s.program(1, log...)
	return s
}

func (s *setUp) executor(id events.HostID, host executor.Host) *executor.Executor {
	return s.executorAt(id, s.bus, host)
}

func (s *setUp) executorOn(bus executor.Bus, host executor.Host) *executor.Executor {
	return s.executorAt("h1", bus, host)
}

func (s *setUp) executorAt(id events.HostID, bus executor.Bus, host executor.Host) *executor.Executor {
	return executor.New(id, bus, host, executor.Options{}, natstest.Log(s.t), executor.NewMetrics(prometheus.NewRegistry()))
}

func (s *setUp) program(n int, log ...events.Event) events.ProgramID {
	s.t.Helper()
	id, first := bustest.NewProgram("alice", n)
	if err := s.bus.Create(s.t.Context(), id, first); err != nil {
		s.t.Fatal(err)
	}
	s.add(id, log...)
	return id
}

func (s *setUp) add(id events.ProgramID, log ...events.Event) {
	s.t.Helper()
	for _, ev := range log {
		if _, err := s.bus.Memory.Append(s.t.Context(), id, ev, ""); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *setUp) handle(seq uint64) {
	s.t.Helper()
	if err := s.exec.Handle(s.t.Context(), s.id, seq); err != nil {
		s.t.Fatal(err)
	}
}

// log is the types of the program's events after a sequence.
func (s *setUp) log(after uint64) string {
	s.t.Helper()
	var out []string
	for stored, err := range s.bus.Memory.Read(s.t.Context(), s.id, after) {
		if err != nil {
			s.t.Fatal(err)
		}
		out = append(out, string(stored.Type))
	}
	return strings.Join(out, " ")
}

func (s *setUp) state() reducer.ProgramState {
	s.t.Helper()
	at := reducer.NewCheckpoint(s.id)
	for stored, err := range s.bus.Memory.Read(s.t.Context(), s.id, 0) {
		if err == nil {
			at, _, err = at.Next(stored)
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
	return at.State
}

func (s *setUp) containers() string {
	s.t.Helper()
	list, err := s.handler.Containers(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	var out []string
	for _, c := range list {
		what := "ended"
		if c.Running {
			what = "runs"
		}
		out = append(out, fmt.Sprintf("%d:%s", c.Attempt, what))
	}
	return strings.Join(out, " ")
}

// toReady brings the program to Ready through the executor.
func (s *setUp) toReady() reducer.ProgramState {
	s.t.Helper()
	s.add(s.id, events.UserStartRequested{})
	s.handle(2)
	s.handle(4)
	state := s.state()
	if state.State != reducer.StateReady {
		s.t.Fatalf("the program is %+v, want Ready", state)
	}
	s.host.took()
	return state
}

func want(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s:\ngot  %s\nwant %s", what, got, want)
	}
}

func origin(attempt uint64) events.Origin { return events.Origin{HostID: "h1", Attempt: attempt} }

func TestHandleRunsAndPublishesInOrder(t *testing.T) {
	s := newSetUp(t, events.UserStartRequested{})
	s.handle(2)
	want(t, "effects", s.host.took(), "EnsureProgramFolders BuildRuntime")
	s.handle(4)
	want(t, "effects", s.host.took(), "StartRuntime")
	want(t, "log", s.log(2), "FoldersEnsured BuildFinished RuntimeStarted")
	want(t, "keys", strings.Join(s.bus.keys, " "), "P/2/0/h1 P/2/1/h1 P/4/0/h1")
	for stored, err := range s.bus.Memory.Read(t.Context(), s.id, 2) {
		ev, decodeErr := events.Decode(s.id, stored.Type, stored.Data)
		if err != nil || decodeErr != nil || events.WithOrigin(ev, origin(1)) != ev {
			t.Errorf("result %s does not carry its origin (%v, %v)", stored.Data, err, decodeErr)
		}
	}
	if state := s.state(); state.State != reducer.StateReady || state.HostID != "h1" {
		t.Errorf("the program is %+v", state)
	}
	s.handle(2)
	s.handle(4)
	want(t, "effects of messages that come again", s.host.took(), "")
}

func TestForgedMessagesRunNothing(t *testing.T) {
	s := newSetUp(t, events.UserStartRequested{})
	s.handle(1) // That event decided nothing.
	// The log has no such event. The leader must have said so often: one that was cut off says so too, for some seconds.
	for try := 1; ; try++ {
		err := s.exec.Handle(t.Context(), s.id, 99)
		if err == nil && try > 5 {
			break
		}
		if err == nil || try > 20 {
			t.Fatalf("try %d of a message that names an event which is not there: %v", try, err)
		}
	}
	unknown, _ := bustest.NewProgram("alice", 9)
	if err := s.exec.Handle(t.Context(), unknown, 1); err != nil {
		t.Errorf("an unknown program: %v", err)
	}
	s.add(s.id, events.FoldersEnsured{Success: true}, events.BuildFinished{Origin: events.Origin{HostID: "h2", Attempt: 1}, Success: true, ImageID: "i"})
	s.handle(4) // A start on another host.
	want(t, "effects", s.host.took(), "")
}

// Only what the queue delivers counts as a doubt: news of a program that is being built makes its log be read as well, and a read that
// lags then says nothing of the message.
func TestNewsDuringABuildRaisesNoDoubts(t *testing.T) {
	s := newSetUp(t, events.UserStartRequested{})
	lagging := &laggingBus{testBus: s.bus}
	s.exec = s.executorOn(lagging, s.host)
	s.host.hold = func(ctx context.Context, eff effects.Effect) bool {
		if eff.Type() != effects.TypeBuildRuntime {
			return true
		}
		lagging.old.Store(true)
		defer lagging.old.Store(false)
		for range 20 {
			before := lagging.reads.Load()
			s.add(s.id, events.UserStartRequested{})
			for end := time.Now().Add(deadline); lagging.reads.Load() == before && ctx.Err() == nil && time.Now().Before(end); {
				runtime.Gosched()
			}
		}
		return ctx.Err() == nil
	}
	s.handle(2)
	want(t, "effects", s.host.took(), "EnsureProgramFolders BuildRuntime")
	if log := s.log(2); !strings.HasSuffix(log, "BuildFinished") {
		t.Errorf("the log is %s, want the build to be finished", log)
	}
}

// laggingBus has reads and a leader that have not heard of anything after the first event, as long as it is told so.
type laggingBus struct {
	*testBus
	old   atomic.Bool
	reads atomic.Int64
}

func (b *laggingBus) Read(ctx context.Context, id events.ProgramID, after uint64) iter.Seq2[events.Stored, error] {
	return func(yield func(events.Stored, error) bool) {
		defer b.reads.Add(1)
		for stored, err := range b.testBus.Read(ctx, id, after) {
			if b.old.Load() && stored.Seq > 1 || !yield(stored, err) {
				return
			}
		}
	}
}

func (b *laggingBus) Head(ctx context.Context, id events.ProgramID) (events.Head, error) {
	head, err := b.testBus.Head(ctx, id)
	if b.old.Load() {
		head.Seq = 1
	}
	return head, err
}

func TestReadThatLagsMakesWorkComeAgain(t *testing.T) {
	s := newSetUp(t, events.UserStartRequested{})
	s.bus.hideFrom = 2
	if err := s.exec.Handle(t.Context(), s.id, 2); err == nil {
		t.Error("a message whose event a read does not show yet counts as done")
	}
	s.bus.hideFrom = 0
	s.handle(2)
	if ran := s.host.took(); ran != "EnsureProgramFolders BuildRuntime" {
		t.Errorf("once the read has caught up, it ran %q", ran)
	}
}

// A host that was cut off may have been declared lost, and its programs may be elsewhere.
func TestNoWorkIsTakenBeforeTheComparisonAfterAnOutage(t *testing.T) {
	s := newSetUp(t, events.UserStartRequested{})
	s.exec.Away()
	if err := s.exec.Handle(t.Context(), s.id, 2); err == nil || s.host.took() != "" {
		t.Errorf("after an outage and before a comparison: %v", err)
	}
	s.compare()
	s.handle(2)
	if ran := s.host.took(); ran != "EnsureProgramFolders BuildRuntime" {
		t.Errorf("after the comparison it ran %q", ran)
	}
}

// A container that Docker cannot remove, or whose program's log cannot be read, is nobody else's concern.
func TestOneBadContainerKeepsNobodyWaiting(t *testing.T) {
	for name, spoil := range map[string]func(s *setUp, bad events.ProgramID){
		"it cannot be removed":        func(s *setUp, _ events.ProgramID) { s.handler.FailStop = true },
		"its log cannot be read":      func(s *setUp, bad events.ProgramID) { s.bus.failReadOf = bad },
		"the daemon hangs at its end": func(s *setUp, _ events.ProgramID) { s.host.hold = hangAtStops },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSetUp(t, events.UserStartRequested{})
			s.saveCheckpoint()
			bad, _ := bustest.NewProgram("aaron", 9)
			s.handler.Execute(t.Context(), effects.StartRuntime{ProgramID: bad, Placement: effects.Placement{Attempt: 1}})
			spoil(s, bad)
			s.exec = executor.New("h1", s.bus, s.host, executor.Options{WithTimeout: soon}, natstest.Log(t), executor.NewMetrics(prometheus.NewRegistry()))
			s.exec.Away()
			ctx, cancel := context.WithCancel(t.Context())
			var group sync.WaitGroup
			group.Go(func() { _ = s.exec.Run(ctx) }) // Ends with ctx.
			eff := effects.Message{ProgramID: s.id, Seq: 2, Effects: []effects.Effect{effects.BuildRuntime{}}}
			if err := s.bus.PublishEffects(ctx, eff); err != nil {
				t.Fatal(err)
			}
			s.waitFor(reducer.StateStarting)
			cancel()
			group.Wait()
		})
	}
}

func hangAtStops(ctx context.Context, eff effects.Effect) bool {
	if eff.Type() == effects.TypeStopRuntime {
		<-ctx.Done()
		return false
	}
	return true
}

// soon ends a context much earlier than asked for.
func soon(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, limit/1000)
}

func TestStaleEffectsAreDropped(t *testing.T) {
	for name, after := range map[string][]events.Event{
		"stopped":        {events.UserStopRequested{}},
		"another try":    {events.UserStopRequested{}, events.UserStartRequested{}},
		"failed already": {events.BuildFinished{Origin: origin(1), Error: "no"}},
		"built already":  {events.BuildFinished{Origin: events.Origin{HostID: "h2", Attempt: 1}, Success: true, ImageID: "i"}},
	} {
		s := newSetUp(t, append([]events.Event{events.UserStartRequested{}}, after...)...)
		s.handle(2)
		want(t, "effects of a program that was "+name, s.host.took(), "")
	}
}

func TestFailureEndsTheTransition(t *testing.T) {
	s := newSetUp(t, events.UserStartRequested{})
	s.handler.FailFolders = true
	s.handle(2)
	want(t, "effects", s.host.took(), "EnsureProgramFolders")
	want(t, "log", s.log(2), "FoldersEnsured")
	if state := s.state(); state.State != reducer.StateError || !strings.Contains(state.ErrorMsg, "fake folder failure") {
		t.Errorf("the program is %+v", state)
	}
}

func TestEachFailureIsPublished(t *testing.T) {
	for _, test := range []struct {
		fail func(*effects.FakeEffectHandler)
		seqs []uint64
		log  string
	}{
		{func(h *effects.FakeEffectHandler) { h.FailBuild = true }, []uint64{2}, "FoldersEnsured BuildFinished"},
		{func(h *effects.FakeEffectHandler) { h.FailStart = true }, []uint64{2, 4}, "FoldersEnsured BuildFinished StartFailed"},
	} {
		s := newSetUp(t, events.UserStartRequested{})
		test.fail(s.handler)
		for _, seq := range test.seqs {
			s.handle(seq)
		}
		want(t, "log", s.log(2), test.log)
		if state := s.state(); state.State != reducer.StateError {
			t.Errorf("the program is %+v", state)
		}
	}
}

func TestFailedStopIsPublishedAndCanBeAskedForAgain(t *testing.T) {
	s := newSetUp(t)
	s.toReady()
	s.handler.FailStop = true
	s.add(s.id, events.UserStopRequested{})
	s.handle(6)
	if state := s.state(); state.State != reducer.StateError {
		t.Errorf("after a failed stop the program is %+v", state)
	}
	s.handler.FailStop = false
	s.add(s.id, events.UserStopRequested{})
	s.handle(8)
	want(t, "log", s.log(5), "UserStopRequested StopFinished UserStopRequested StopFinished")
	want(t, "containers", s.containers(), "")
}

func TestWhatCouldNotBeTriedComesAgain(t *testing.T) {
	s := newSetUp(t, events.UserStartRequested{})
	s.host.hold = func(_ context.Context, eff effects.Effect) bool { return eff.Type() != effects.TypeBuildRuntime }
	if err := s.exec.Handle(t.Context(), s.id, 2); err == nil || !strings.Contains(err.Error(), "could not run it to its end") {
		t.Errorf("handle: %v", err)
	}
	want(t, "log", s.log(2), "FoldersEnsured")
	s.host.hold = nil
	s.handle(2)
	want(t, "log", s.log(2), "FoldersEnsured BuildFinished") // The key of the folders is the same.
}

// The first try has published that the folders are there, and then could not build. The second finds that they cannot be made.
func TestFailureOfALaterTryIsNotHiddenByAnEarlierSuccess(t *testing.T) {
	s := newSetUp(t, events.UserStartRequested{})
	s.host.hold = func(_ context.Context, eff effects.Effect) bool { return eff.Type() != effects.TypeBuildRuntime }
	if err := s.exec.Handle(t.Context(), s.id, 2); err == nil {
		t.Fatal("a build that could not be tried is no error")
	}
	s.handler.FailFolders = true
	s.handle(2)
	want(t, "log", s.log(2), "FoldersEnsured FoldersEnsured")
	if state := s.state(); state.State != reducer.StateError {
		t.Errorf("the program is %+v, want Error", state)
	}
}

func TestFailingBusMakesWorkComeAgain(t *testing.T) {
	s := newSetUp(t, events.UserStartRequested{})
	s.bus.failRead = errFault
	if err := s.exec.Handle(t.Context(), s.id, 2); !errors.Is(err, errFault) {
		t.Errorf("failing reads: %v", err)
	}
	s.bus.failRead, s.bus.hideFrom = nil, 2
	if err := s.exec.Handle(t.Context(), s.id, 2); err == nil {
		t.Error("a read that ends too early is no error")
	}
	want(t, "effects", s.host.took(), "")
	s.bus.hideFrom, s.bus.failAppend = 0, errFault
	if err := s.exec.Handle(t.Context(), s.id, 2); !errors.Is(err, errFault) {
		t.Errorf("failing publications: %v", err)
	}
	s.bus.failAppend = nil
	s.handle(2)
	want(t, "log", s.log(2), "FoldersEnsured BuildFinished")
}

func TestProgramRemovedMeanwhileIsNoError(t *testing.T) {
	s := newSetUp(t, events.UserStartRequested{})
	s.host.hold = func(context.Context, effects.Effect) bool {
		return s.bus.Remove(t.Context(), s.id) == nil
	}
	s.handle(2)
	want(t, "effects", s.host.took(), "EnsureProgramFolders")
}

// A result that the log will never take must not bring the whole build or start again.
func TestResultsOfAFullLogAreGivenUp(t *testing.T) {
	s := newSetUp(t)
	s.toReady()
	s.add(s.id, events.UserStopRequested{})
	s.bus.failAppend = events.ErrLogFull
	s.handle(6)
	want(t, "effects", s.host.took(), "StopRuntime")

	s = newSetUp(t)
	state := s.toReady()
	s.bus.failAppend = events.ErrLogFull
	s.handler.Exit(state.ContainerID, 1)
	s.compare()
}

func TestExitIsPublishedAfterTheStart(t *testing.T) {
	s := newSetUp(t, events.UserStartRequested{})
	s.handle(2)
	s.host.hold = func(_ context.Context, eff effects.Effect) bool {
		if eff.Type() != effects.TypeFetchRuntimeStatus {
			return true
		}
		// The container dies the moment it runs; Docker's word of that comes before its start is known.
		list, err := s.handler.Containers(t.Context())
		if err != nil || len(list) != 1 {
			t.Fatalf("containers: %v, %v", list, err)
		}
		s.host.Crash(list[0], 3)
		return true
	}
	s.bus.failAppend = errFault
	if err := s.exec.Handle(t.Context(), s.id, 4); !errors.Is(err, errFault) {
		t.Fatalf("handle: %v", err)
	}
	list, _ := s.handler.Containers(t.Context())
	s.host.Crash(list[0], 3)
	s.bus.failAppend = nil
	if err := s.exec.Settle(t.Context(), list[0]); err != nil {
		t.Fatal(err)
	}
	want(t, "log before the start is known", s.log(4), "")
	s.handle(4)
	want(t, "log", s.log(4), "RuntimeStarted RuntimeExited")
	if state := s.state(); state.State != reducer.StateError || state.ExitCode != 3 {
		t.Errorf("the program is %+v, want Error with exit code 3", state)
	}
	if last := s.bus.keys[len(s.bus.keys)-1]; last != "P/exit/"+strings.ReplaceAll(list[0].ID, string(s.id), "P") {
		t.Errorf("the exit has key %s", last)
	}
}

func TestStopCancelsABuild(t *testing.T) {
	s := newSetUp(t, events.UserStartRequested{})
	s.host.hold = func(ctx context.Context, eff effects.Effect) bool {
		if eff.Type() != effects.TypeBuildRuntime {
			return true
		}
		s.add(s.id, events.UserStopRequested{})
		select {
		case <-ctx.Done():
		case <-time.After(deadline):
			t.Error("the build was not cancelled")
		}
		return false
	}
	s.handle(2)
	want(t, "log", s.log(2), "FoldersEnsured UserStopRequested")
}

// The stop comes after the log was read and before anybody watches it.
func TestStopJustBeforeTheWatchCancelsABuild(t *testing.T) {
	s := newSetUp(t, events.UserStartRequested{})
	s.host.hold = func(ctx context.Context, eff effects.Effect) bool {
		if eff.Type() == effects.TypeEnsureProgramFolders {
			s.add(s.id, events.UserStopRequested{})
			return true
		}
		return ctx.Err() == nil
	}
	s.handle(2)
	want(t, "log", s.log(2), "UserStopRequested FoldersEnsured")
}

func TestShutdownHandsABuildBack(t *testing.T) {
	s := newSetUp(t, events.UserStartRequested{})
	ctx, cancel := context.WithCancel(t.Context())
	s.host.hold = func(ctx context.Context, eff effects.Effect) bool {
		if eff.Type() == effects.TypeBuildRuntime {
			cancel()
			<-ctx.Done()
			return false
		}
		return true
	}
	if err := s.exec.Handle(ctx, s.id, 2); !errors.Is(err, context.Canceled) {
		t.Errorf("handle: %v, want it to come again", err)
	}
	want(t, "log", s.log(2), "FoldersEnsured")
}

func TestSameMessageTwiceAtOnceRunsOnce(t *testing.T) {
	s := newSetUp(t, events.UserStartRequested{})
	s.host.hold = func(ctx context.Context, eff effects.Effect) bool { return true }
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if err := s.exec.Handle(t.Context(), s.id, 2); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	want(t, "effects", s.host.took(), "EnsureProgramFolders BuildRuntime")
	want(t, "log", s.log(2), "FoldersEnsured BuildFinished")
}

func TestTwoHostsWithOneMessageHideNothing(t *testing.T) {
	s := newSetUp(t, events.UserStartRequested{})
	other := s.executor("h2", executor.NewFakeHost(effects.NewFakeEffectHandler()))
	s.host.hold = func(_ context.Context, eff effects.Effect) bool {
		if eff.Type() == effects.TypeBuildRuntime { // h2 is given the message too, and is faster.
			if err := other.Handle(t.Context(), s.id, 2); err != nil {
				t.Error(err)
			}
		}
		return true
	}
	s.handle(2)
	// The slower build may end early, when its executor hears that nobody waits for it any more.
	if log := s.log(2); !strings.HasPrefix(log, "FoldersEnsured FoldersEnsured BuildFinished") {
		t.Errorf("the log is %s, want the results of both", log)
	}
	if state := s.state(); state.HostID != "h2" || state.State != reducer.StateStarting {
		t.Errorf("the program is %+v, want Starting on h2", state)
	}
}

func (s *setUp) compare() {
	s.t.Helper()
	s.saveCheckpoint()
	if tried, err := s.exec.Compare(s.t.Context()); err != nil || !tried {
		s.t.Fatal(tried, err)
	}
}

// saveCheckpoint brings the read model up to the log, as a supervisor would.
func (s *setUp) saveCheckpoint() {
	s.t.Helper()
	at := reducer.NewCheckpoint(s.id)
	for stored, err := range s.bus.Memory.Read(s.t.Context(), s.id, 0) {
		if err == nil {
			at, _, err = at.Next(stored)
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
	if err := s.bus.Save(s.t.Context(), at, true); err != nil {
		s.t.Fatal(err)
	}
}

func TestCompareAdoptsWhatShouldRun(t *testing.T) {
	s := newSetUp(t)
	state := s.toReady()
	s.compare()
	want(t, "adopted", strings.Join(s.host.adopted, " "), state.ContainerID)
	want(t, "effects", s.host.took(), "")
	want(t, "log", s.log(5), "")
}

func TestCompareReportsAMissedExitOnce(t *testing.T) {
	s := newSetUp(t)
	state := s.toReady()
	s.handler.Exit(state.ContainerID, 9)
	s.compare()
	s.compare()
	want(t, "log", s.log(5), "RuntimeExited")
	if state := s.state(); state.State != reducer.StateError || state.ExitCode != 9 {
		t.Errorf("the program is %+v, want Error with exit code 9", state)
	}
	want(t, "containers: the dead one is evidence", s.containers(), "1:ended")
}

func TestCompareReportsAContainerThatWasRemovedByHand(t *testing.T) {
	s := newSetUp(t)
	state := s.toReady()
	s.handler.Execute(t.Context(), effects.StopRuntime{ProgramID: s.id, ContainerID: state.ContainerID})
	s.compare()
	s.compare()
	want(t, "log", s.log(5), "RuntimeExited")
	if state := s.state(); state.State != reducer.StateError || state.ExitCode != -1 {
		t.Errorf("the program is %+v, want Error with exit code -1", state)
	}
}

func TestCompareRemovesWhatIsNobodys(t *testing.T) {
	s := newSetUp(t)
	s.toReady()
	unknown, _ := bustest.NewProgram("alice", 9)
	s.handler.Execute(t.Context(), effects.StartRuntime{ProgramID: unknown, Placement: effects.Placement{Attempt: 1}})
	if s.compare(); s.containers() != "1:runs" {
		t.Errorf("containers: %s, want the program's own only", s.containers())
	}
	s.add(s.id, events.UserStopRequested{}, events.StopFinished{Origin: origin(1), Success: true}, events.UserStartRequested{})
	s.compare()
	want(t, "containers: one of an attempt that is over", s.containers(), "")
}

func TestFailingReadsRemoveNothing(t *testing.T) {
	for name, spoil := range map[string]func(*testBus){
		"failing": func(b *testBus) { b.failRead = errFault },
		"lagging": func(b *testBus) { b.hideFrom = 1 },
	} {
		s := newSetUp(t)
		s.toReady()
		s.saveCheckpoint()
		spoil(s.bus)
		if _, err := s.exec.Compare(t.Context()); (err != nil) != (name == "failing") {
			t.Errorf("compare with %s reads: %v", name, err)
		}
		want(t, "containers with "+name+" reads", s.containers(), "1:runs")
		want(t, "log with "+name+" reads", s.log(5), "")
	}
}

func TestCompareLeavesAnAttemptThatIsStarting(t *testing.T) {
	s := newSetUp(t, events.UserStartRequested{})
	s.handle(2)
	s.host.hold = func(_ context.Context, eff effects.Effect) bool {
		if eff.Type() == effects.TypeStartRuntime {
			s.handler.Execute(t.Context(), eff) // The container is there, its start is not known yet.
			s.compare()
			want(t, "containers in the middle of a start", s.containers(), "1:runs")
		}
		return true
	}
	s.handle(4)
	want(t, "log", s.log(4), "RuntimeStarted")
}

func TestCompareGoesOnPastAFailure(t *testing.T) {
	s := newSetUp(t)
	s.toReady()
	unknown, _ := bustest.NewProgram("aaron", 9) // Sorts before the other.
	s.handler.Execute(t.Context(), effects.StartRuntime{ProgramID: unknown, Placement: effects.Placement{Attempt: 1}})
	s.handler.FailStop = true
	s.saveCheckpoint()
	if tried, err := s.exec.Compare(t.Context()); !tried || err == nil || !strings.Contains(err.Error(), "fake stop failure") {
		t.Errorf("compare: %t, %v", tried, err)
	}
	if len(s.host.adopted) != 1 {
		t.Errorf("%d containers were adopted, want the one that can be", len(s.host.adopted))
	}
}

func TestStartFindsTheContainerOfItsAttemptDead(t *testing.T) {
	s := newSetUp(t, events.UserStartRequested{})
	s.handle(2)
	s.bus.failAppend = errFault
	if err := s.exec.Handle(t.Context(), s.id, 4); err == nil {
		t.Fatal("handle with failing publications is no error")
	}
	list, _ := s.handler.Containers(t.Context())
	s.handler.Exit(list[0].ID, 5)
	s.bus.failAppend = nil
	s.handle(4)
	want(t, "log", s.log(4), "RuntimeStarted RuntimeExited")
	want(t, "containers", s.containers(), "1:ended")
}

func TestRunWorksThroughALife(t *testing.T) {
	s := newSetUp(t, events.UserStartRequested{})
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() {
		if err := s.exec.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("run ended with %v", err)
		}
	})
	eff := effects.Message{ProgramID: s.id, Seq: 2, Effects: []effects.Effect{effects.BuildRuntime{}}}
	if err := s.bus.PublishEffects(ctx, eff); err != nil {
		t.Fatal(err)
	}
	s.waitFor(reducer.StateStarting)
	eff = effects.Message{ProgramID: s.id, Seq: 4, Effects: []effects.Effect{effects.StartRuntime{Placement: effects.Placement{HostID: "h1"}}}}
	if err := s.bus.PublishEffects(ctx, eff); err != nil {
		t.Fatal(err)
	}
	s.waitFor(reducer.StateReady)
	list, _ := s.handler.Containers(ctx)
	s.host.Crash(list[0], 1)
	s.waitFor(reducer.StateError)
	cancel()
	group.Wait()
	want(t, "containers after the end", s.containers(), "1:ended")
}

func (s *setUp) waitFor(state reducer.State) {
	s.t.Helper()
	tick := time.Tick(5 * time.Millisecond)
	for end := time.Now().Add(deadline); s.state().State != state; <-tick {
		if time.Now().After(end) {
			s.t.Fatalf("the program is %+v, want %s", s.state(), state)
		}
	}
}

// hungHost is a host whose Docker does not answer.
type hungHost struct{ *executor.FakeHost }

func (h hungHost) Describe(ctx context.Context) events.Heartbeat {
	<-ctx.Done()
	return events.Heartbeat{Problem: "Docker does not answer"}
}

// beatBus refuses a heartbeat whose time is over, as the real bus does, and tells of the others.
type beatBus struct {
	*bustest.Memory
	beats chan events.Heartbeat
}

func (b beatBus) Beat(ctx context.Context, beat events.Heartbeat) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	select {
	case b.beats <- beat:
	default:
	}
	return nil
}

// TestHeartbeatOfAHungDocker checks that a host whose Docker hangs is not taken for lost.
func TestHeartbeatOfAHungDocker(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	b := beatBus{bustest.NewMemory(bustest.Config{}), make(chan events.Heartbeat, 1)}
	host := hungHost{executor.NewFakeHost(effects.NewFakeEffectHandler())}
	loop := executor.New("h1", b, host, executor.Options{}, natstest.Log(t), executor.NewMetrics(prometheus.NewRegistry()))
	ended := make(chan error, 1)
	go func() { ended <- loop.Run(ctx) }()
	select {
	case beat := <-b.beats:
		if beat.HostID != "h1" || beat.Problem != "Docker does not answer" {
			t.Errorf("the heartbeat is %+v", beat)
		}
	case <-time.After(deadline):
		t.Error("there was no heartbeat")
	}
	cancel()
	<-ended
}
