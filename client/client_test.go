package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/nats-io/nats.go"

	"github.com/rlaaudgjs5638/hersh/client"
	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/natstest"
	"github.com/rlaaudgjs5638/hersh/internal/natstest/hershtest"
	"github.com/rlaaudgjs5638/hersh/internal/source"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type bench struct {
	*hershtest.Stack
	t   *testing.T
	c   *client.Client
	ctx context.Context
}

func newBench(t *testing.T, handler *effects.FakeEffectHandler) *bench {
	t.Parallel() // Much of a test is waiting for the disk.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	stack := hershtest.Start(t, handler)
	return &bench{Stack: stack, t: t, c: client.New(stack.Server.Conn(t)), ctx: ctx}
}

func (b *bench) deploy(user events.UserID) events.ProgramID {
	b.t.Helper()
	id, err := b.c.Deploy(b.ctx, hershtest.SourceDir(b.t, nil), user, client.DeployOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	return id
}

// do publishes an event and waits until the program is at rest.
func (b *bench) do(id events.ProgramID, publish func(context.Context, events.ProgramID) (uint64, error)) client.Settled {
	b.t.Helper()
	seq, err := publish(b.ctx, id)
	if err != nil {
		b.t.Fatal(err)
	}
	settled, err := b.c.WaitSettled(b.ctx, id, seq)
	if err != nil {
		b.t.Fatal(err)
	}
	return settled
}

func TestLifecycle(t *testing.T) {
	b := newBench(t, nil)
	var sent, total int64
	dir := hershtest.SourceDir(t, map[string]string{"main.txt": "hello"})
	upload := client.DeployOptions{Progress: func(s, n int64) { sent, total = s, n }}
	id, err := b.c.Deploy(b.ctx, dir, "alice", upload)
	if err != nil {
		t.Fatal(err)
	}
	if sent == 0 || sent != total {
		t.Errorf("progress ended at %d of %d", sent, total)
	}
	status, err := b.c.Status(b.ctx, id)
	if err != nil || status.State.State != reducer.StateCreated || status.Since.IsZero() {
		t.Fatalf("status after deploy: %+v, %v", status, err)
	}
	for _, step := range []struct {
		name  string
		do    func(context.Context, events.ProgramID) (uint64, error)
		state reducer.State
	}{
		{"start", b.c.Start, reducer.StateReady},
		{"restart", b.c.Restart, reducer.StateReady},
		{"stop", b.c.Stop, reducer.StateStopped},
	} {
		if got := b.do(id, step.do); got.State.State != step.state || got.Ignored != "" {
			t.Fatalf("%s: %+v; want %v", step.name, got, step.state)
		}
	}
	var types []events.Type
	for step, err := range b.c.History(b.ctx, id, 0) {
		if err != nil {
			t.Fatal(err)
		}
		types = append(types, step.Type)
	}
	want := []events.Type{
		"ProgramCreated",
		"UserStartRequested", "FoldersEnsured", "BuildFinished", "RuntimeStarted",
		"UserRestartRequested", "StopFinished", "FoldersEnsured", "BuildFinished", "RuntimeStarted",
		"UserStopRequested", "StopFinished",
	}
	if !slices.Equal(types, want) {
		t.Errorf("history: %v, want %v", types, want)
	}

	// The same source again is not uploaded again, and is another program.
	sent = 0
	again, err := b.c.Deploy(b.ctx, dir, "alice", upload)
	if err != nil || again == id || again.Build() != id.Build() || sent != 0 {
		t.Errorf("second deploy: %s, %v, %d bytes sent", again, err, sent)
	}
	if err := b.c.Delete(b.ctx, id); err != nil {
		t.Fatal(err)
	}
	if _, err := b.c.Status(b.ctx, id); !errors.Is(err, client.ErrNoProgram) {
		t.Errorf("status of a deleted program: %v, want ErrNoProgram", err)
	}
	if _, err := b.c.Start(b.ctx, id); !errors.Is(err, client.ErrNoProgram) {
		t.Errorf("start of a deleted program: %v, want ErrNoProgram", err)
	}
	if err := b.c.Delete(b.ctx, id); !errors.Is(err, client.ErrNoProgram) {
		t.Errorf("delete of a deleted program: %v, want ErrNoProgram", err)
	}
}

func TestDeployAndStart(t *testing.T) {
	b := newBench(t, nil)
	id, err := b.c.Deploy(b.ctx, hershtest.SourceDir(t, nil), "alice", client.DeployOptions{Start: true, Limits: events.Limits{Pids: 9}})
	if err != nil {
		t.Fatal(err)
	}
	settled, err := b.c.WaitSettled(b.ctx, id, 2)
	if err != nil || settled.State.State != reducer.StateReady || settled.State.Limits.Pids != 9 {
		t.Errorf("settled: %+v, %v", settled, err)
	}
}

func TestDeployRefuses(t *testing.T) {
	b := newBench(t, nil)
	dir := hershtest.SourceDir(t, nil)
	for name, c := range map[string]struct {
		dir    string
		user   events.UserID
		limits events.Limits
		want   error
	}{
		"no Dockerfile": {dir: t.TempDir(), user: "alice", want: source.ErrNoDockerfile},
		"bad user":      {dir: dir, user: "Alice.*", want: events.ErrInvalidID},
		"bad limits":    {dir: dir, user: "alice", limits: events.Limits{MemoryBytes: -1}, want: nil},
	} {
		_, err := b.c.Deploy(b.ctx, c.dir, c.user, client.DeployOptions{Limits: c.limits})
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	for cp := range b.c.List(b.ctx, "") {
		t.Errorf("there is a program: %+v", cp)
	}
}

func TestIgnoredAndRejected(t *testing.T) {
	b := newBench(t, nil)
	id := b.deploy("alice")
	if got := b.do(id, b.c.Stop); got.Ignored == "" || got.State.State != reducer.StateCreated || got.Seq != 2 {
		t.Errorf("stop of what never ran: %+v", got)
	}
	if got := b.do(id, b.c.Start); got.Ignored != "" || got.State.State != reducer.StateReady {
		t.Errorf("start: %+v", got)
	}
	if got := b.do(id, b.c.Start); got.Ignored == "" || got.State.State != reducer.StateReady {
		t.Errorf("second start: %+v", got)
	}
	nc := b.Server.Conn(t)
	answer, err := nc.RequestWithContext(b.ctx, events.EventSubject(id, "UserStopRequested"), []byte("garbage"))
	var ack struct {
		Seq uint64 `json:"seq"`
	}
	if err == nil {
		err = json.Unmarshal(answer.Data, &ack)
	}
	if err != nil {
		t.Fatal(err)
	}
	settled, err := b.c.WaitSettled(b.ctx, id, ack.Seq)
	if err != nil || settled.Rejected == "" || settled.State.State != reducer.StateReady {
		t.Errorf("rejected event: %+v, %v", settled, err)
	}
	step, err := b.c.Outcome(b.ctx, id, ack.Seq)
	if err != nil || step.Rejected == "" || string(step.Data) != "garbage" {
		t.Errorf("its outcome: %+v, %v", step, err)
	}
}

func TestEndsInError(t *testing.T) {
	handler := effects.NewFakeEffectHandler()
	handler.FailBuild = true
	b := newBench(t, handler)
	got := b.do(b.deploy("alice"), b.c.Start)
	if got.State.State != reducer.StateError || !strings.Contains(got.State.ErrorMsg, "fake build failure") {
		t.Errorf("start with a build that fails: %+v", got)
	}
}

// watcher collects the sequences that a live iterator gives, and says when one comes.
type watcher struct {
	mu   sync.Mutex
	seqs []uint64
	came chan uint64
	err  error
	done chan struct{}
}

func watch(seq iter.Seq2[client.Step, error]) *watcher {
	w := &watcher{came: make(chan uint64, 1000), done: make(chan struct{})}
	go func() {
		defer close(w.done)
		for step, err := range seq {
			w.mu.Lock()
			if err != nil {
				w.err = err
			} else {
				w.seqs = append(w.seqs, step.Seq)
			}
			w.mu.Unlock()
			w.came <- step.Seq
		}
	}()
	return w
}

func (w *watcher) await(t *testing.T, ctx context.Context, seq uint64) {
	t.Helper()
	for {
		select {
		case got := <-w.came:
			if got >= seq {
				return
			}
		case <-w.done:
			t.Fatalf("the watch ended before %d: %v", seq, w.err)
		case <-ctx.Done():
			t.Fatalf("event %d did not come", seq)
		}
	}
}

func (w *watcher) check(t *testing.T, after, last uint64) {
	t.Helper()
	var want []uint64
	for seq := after + 1; seq <= last; seq++ {
		want = append(want, seq)
	}
	if !slices.Equal(w.seqs, want) {
		t.Errorf("watched %v, want %v", w.seqs, want)
	}
}

// TestWatchMissesNothing watches from several points while events come fast and the server restarts.
func TestWatchMissesNothing(t *testing.T) {
	b := newBench(t, nil)
	id := b.deploy("alice")
	ctx, cancel := context.WithCancel(b.ctx)
	first, later := watch(b.c.Watch(ctx, id, 0)), watch(b.c.Watch(ctx, id, 10))
	last := uint64(0)
	publish := func(n int) {
		for range n {
			seq, err := b.c.Stop(b.ctx, id)
			if err != nil {
				t.Fatal(err)
			}
			last = seq
		}
	}
	publish(30)
	first.await(t, b.ctx, last)
	b.Server.Restart(t)
	publish(10)
	first.await(t, b.ctx, last)
	later.await(t, b.ctx, last)
	cancel()
	<-first.done
	<-later.done
	first.check(t, 0, last)
	later.check(t, 10, last)
	if !errors.Is(first.err, context.Canceled) {
		t.Errorf("the watch ended with %v, want the end of its context", first.err)
	}
	if last != 41 {
		t.Errorf("40 publications made %d events: retries must not store one twice", last-1)
	}
}

func TestWatchEndsWithTheProgram(t *testing.T) {
	b := newBench(t, nil)
	id := b.deploy("alice")
	w := watch(b.c.Watch(b.ctx, id, 0))
	w.await(t, b.ctx, 1)
	if err := b.c.Delete(b.ctx, id); err != nil {
		t.Fatal(err)
	}
	<-w.done
	if !errors.Is(w.err, client.ErrNoProgram) {
		t.Errorf("the watch ended with %v, want ErrNoProgram", w.err)
	}
}

func TestLogsFollow(t *testing.T) {
	b := newBench(t, nil)
	id := b.deploy("alice")
	ship := func(stream events.LogStream, text string) {
		if err := b.Bus.ShipLog(b.ctx, id, stream, "", []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	ship(events.LogStdout, "1")
	ship(events.LogBuild, "b")
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	lines := make(chan string, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for chunk, err := range b.c.Logs(ctx, id, "", true) {
			if err == nil {
				lines <- string(chunk.Stream) + string(chunk.Data)
			}
		}
	}()
	expect := func(want ...string) {
		t.Helper()
		for _, w := range want {
			select {
			case got := <-lines:
				if got != w {
					t.Errorf("got %q, want %q", got, w)
				}
			case <-b.ctx.Done():
				t.Fatalf("%q did not come", w)
			}
		}
	}
	expect("stdout1")
	ship(events.LogStderr, "2")
	expect("stderr2")
	b.Server.Restart(t)
	for {
		// The bus does not try again by itself; this test has restarted its server.
		if err := b.Bus.ShipLog(b.ctx, id, events.LogStdout, "key-3", []byte("3")); err == nil {
			break
		} else if b.ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	expect("stdout3")
	cancel()
	<-done

	var all []string
	for chunk, err := range b.c.Logs(b.ctx, id, events.LogBuild, false) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(chunk.Data))
	}
	if !slices.Equal(all, []string{"b"}) {
		t.Errorf("build output: %q", all)
	}
}

func TestListAndHosts(t *testing.T) {
	b := newBench(t, nil)
	want := []events.ProgramID{b.deploy("alice"), b.deploy("alice"), b.deploy("bob")}
	slices.Sort(want)
	var got []events.ProgramID
	for cp, err := range b.c.List(b.ctx, "") {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, cp.State.ID)
	}
	if !slices.Equal(got, want) {
		t.Errorf("all programs: %v, want %v", got, want)
	}
	n := 0
	for range b.c.List(b.ctx, "alice") {
		n++
	}
	if n != 2 {
		t.Errorf("alice has %d programs, want 2", n)
	}
	if err := b.Bus.Beat(b.ctx, events.Heartbeat{HostID: "h9"}); err != nil {
		t.Fatal(err)
	}
	hosts, err := b.c.Hosts(b.ctx)
	if err != nil || !slices.ContainsFunc(hosts, func(h client.Host) bool { return h.HostID == "h9" }) {
		t.Errorf("hosts: %+v, %v", hosts, err)
	}
}

func TestStateAt(t *testing.T) {
	b := newBench(t, nil)
	id := b.deploy("alice")
	b.do(id, b.c.Start)
	cp, err := b.c.StateAt(b.ctx, id, client.At{Seq: 3})
	if err != nil || cp.Seq != 3 || cp.State.State != reducer.StateBuilding {
		t.Errorf("at event 3: %+v, %v", cp, err)
	}
	if _, err := b.c.StateAt(b.ctx, id, client.At{Seq: 99}); !errors.Is(err, client.ErrRefused) {
		t.Errorf("at event 99: %v, want ErrRefused", err)
	}
}

func TestNobodyAnswers(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	srv := natstest.Start(t)
	c, err := client.Connect(srv.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	id := events.NewProgramID("alice", "build-0123456789ab")
	if _, err := c.Status(ctx, id); !errors.Is(err, client.ErrUnavailable) {
		t.Errorf("status without a supervisor: %v, want ErrUnavailable", err)
	}
	if _, err := c.Start(ctx, id); !errors.Is(err, client.ErrUnavailable) {
		t.Errorf("start of what nobody knows of: %v, want ErrUnavailable", err)
	}
	_, err = c.Deploy(ctx, hershtest.SourceDir(t, nil), "alice", client.DeployOptions{})
	if !errors.Is(err, client.ErrUnavailable) {
		t.Errorf("deploy without the streams: %v, want ErrUnavailable", err)
	}
	if _, err := client.Connect("nats://127.0.0.1:1"); err == nil {
		t.Error("connected to nothing")
	}
	// With the program's stream there, but no supervisor, an event is stored all the same.
	b := srv.Bus(t)
	digest := events.SourceDigest(strings.Repeat("0123456789abcdef", 4))
	if err := b.Create(ctx, id, events.ProgramCreated{BuildID: id.Build(), SourceDigest: digest}); err != nil {
		t.Fatal(err)
	}
	if seq, err := c.Start(ctx, id); err != nil || seq != 2 {
		t.Errorf("start without a supervisor: %d, %v", seq, err)
	}
}

// A client knows all servers, goes to another when one is gone, and is back when all were.
func TestConnectTriesEveryServerForEver(t *testing.T) {
	servers := map[string]*natstest.Server{}
	var urls []string
	for range 2 {
		s := natstest.Start(t)
		servers[s.URL()] = s
		urls = append(urls, s.URL())
	}
	back := make(chan struct{}, 10)
	c, err := client.Connect(strings.Join(urls, ","), nats.ReconnectHandler(func(*nats.Conn) { back <- struct{}{} }), client.ReportOutages(func(time.Duration, error) {}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	await := func() {
		t.Helper()
		select {
		case <-back:
		case <-time.After(time.Minute):
			t.Fatal("the connection does not come back")
		}
	}
	first := c.Conn().ConnectedUrl()
	servers[first].Stop()
	await()
	second := c.Conn().ConnectedUrl()
	if second == first {
		t.Fatalf("still connected to %s, which is gone", first)
	}
	servers[second].Stop()
	servers[first].Restart(t)
	await()
	if most := c.Conn().Opts.MaxReconnect; most >= 0 {
		t.Errorf("it gives up after %d tries", most)
	}
}

func TestBadIDs(t *testing.T) {
	srv := natstest.Start(t)
	c := client.New(srv.Conn(t))
	for _, id := range []events.ProgramID{"", "x", "alice-build-0123456789ab-*", "a.b", events.ProgramID(strings.Repeat("a", 300))} {
		if _, err := c.Start(t.Context(), id); !errors.Is(err, events.ErrInvalidID) {
			t.Errorf("start %.40q: %v", id, err)
		}
		if _, err := c.Status(t.Context(), id); !errors.Is(err, events.ErrInvalidID) {
			t.Errorf("status %.40q: %v", id, err)
		}
		for _, err := range c.Watch(t.Context(), id, 0) {
			if !errors.Is(err, events.ErrInvalidID) {
				t.Errorf("watch %.40q: %v", id, err)
			}
		}
	}
}

func TestErrorsAreSentences(t *testing.T) {
	b := newBench(t, nil)
	id := b.deploy("alice")
	b.do(id, b.c.Start)
	err := b.c.Delete(b.ctx, id)
	var refused *client.Error
	if !errors.Is(err, client.ErrRefused) || !errors.As(err, &refused) || refused.Code != 409 {
		t.Fatalf("delete of what runs: %v", err)
	}
	if want := fmt.Sprintf("program %s cannot be deleted: it is Ready; stop it first", id); refused.Message != want {
		t.Errorf("it says %q, want %q", refused.Message, want)
	}
}
