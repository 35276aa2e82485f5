package bus_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/bus"
	"github.com/rlaaudgjs5638/hersh/internal/bus/bustest"
	"github.com/rlaaudgjs5638/hersh/internal/natstest"
)

func publishStop(t *testing.T, b *bus.Bus, id events.ProgramID, seq uint64) {
	t.Helper()
	stop := effects.StopRuntime{Placement: effects.Placement{HostID: "h1", Attempt: 1}, ProgramID: id, ContainerID: "c"}
	if err := b.PublishEffects(t.Context(), effects.Message{ProgramID: id, Seq: seq, Attempt: 1, Effects: []effects.Effect{stop}}); err != nil {
		t.Fatal(err)
	}
}

// The server republishes an event with its headers, and HERSH_WAKE acts on some of them as if they were meant for it. No sweep
// runs here that could mend a wake-up that is lost.
func TestUserHeadersDoNotCostTheWakeUp(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	b := hasty(t, srv)
	nc := srv.Conn(t)
	calls, _ := listen(t, wakesOf(b), done)
	id := create(t, b, 99)
	for receive(t, "the loop runs", calls) != (call{id, 1}) {
	}
	for n, header := range []nats.Header{
		{"Nats-Msg-Id": {"1"}},
		{"Nats-Msg-Id": {"1"}}, // Another program, the same key: within HERSH_WAKE's own window it is a duplicate.
		{"Nats-Expected-Last-Sequence": {"1"}},
		{"nats-msg-id": {"1"}},
		{"Nats-Expected-Last-Subject-Sequence": {"0"}, "Nats-Sequence": {"7"}},
	} {
		id := create(t, b, n)
		for receive(t, "the wake-up of the first event", calls) != (call{id, 1}) {
		}
		wantText(t, "the answer", request(t, nc, events.EventSubject(id, events.TypeUserStartRequested), header, []byte("{}")), `"seq":2`)
		for receive(t, "the wake-up of an event with headers", calls) != (call{id, 2}) {
		}
	}
}

func TestWorkersOutliveTheServer(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	b := hasty(t, srv)
	id := create(t, b, 1)
	wakes, _ := listen(t, wakesOf(b), done)
	work, _ := listen(t, effectsOf(b, "h1", events.ClassRun), done)
	receive(t, "a wake-up", wakes)
	publishStop(t, b, id, 1)
	receive(t, "work", work)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	back := b.Reconnected(ctx)

	for round := range uint64(2) {
		srv.Restart(t)
		receive(t, "the word that the connection is back", back)
		eventually(t, "a wake-up after the restart", func() bool {
			_, _ = b.Append(ctx, id, events.UserStartRequested{}, "") // Its wake-up is lost while HERSH_WAKE is.
			return len(wakes) > 0
		})
		for len(wakes) > 0 {
			<-wakes
		}
		publishStop(t, b, id, 10+round)
		receive(t, "work after the restart", work)
	}
	cancel()
	for range back { // It is closed once ctx has ended.
	}
}

func TestDeletedQueueIsMadeAgain(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	b := hasty(t, srv)
	id := create(t, b, 1)
	wakes, _ := listen(t, wakesOf(b), done)
	receive(t, "a wake-up", wakes)
	js, err := srv.Conn(t).JetStream()
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(events.StreamWake); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a wake-up from the new stream", func() bool {
		if _, err := b.Append(t.Context(), id, events.UserStartRequested{}, ""); err != nil {
			t.Fatal(err)
		}
		return len(wakes) > 0
	})
}

func TestPoisonIsDropped(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	b := hasty(t, srv)
	id := create(t, b, 1)
	nc := srv.Conn(t)
	for _, poison := range []string{"", "{", "null", `{"programId":"../x","seq":1}`, `{"programId":"` + string(id) + `"}`, `{"seq":-1}`, "\xff"} {
		wantText(t, "the answer", request(t, nc, events.EffectsSubject("h1", events.ClassRun, id), nil, []byte(poison)), `"seq":`)
	}
	publishStop(t, b, id, 7)
	calls, stop := listen(t, effectsOf(b, "h1", events.ClassRun), done)
	if got := receive(t, "work behind the poison", calls); got != (call{id, 7}) {
		t.Errorf("got %+v", got)
	}
	stop()
	js, err := nc.JetStream()
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "no message is left", func() bool {
		info, err := js.StreamInfo(events.StreamEffects)
		return err == nil && info.State.Msgs == 0
	})
}

// Work whose worker dies without a word comes again after the ack wait.
func TestWorkOfADeadWorkerComesAgain(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	b := hasty(t, srv)
	id := create(t, b, 1)
	nc := srv.Conn(t)
	dying, err := bus.New(nc, natstest.Log(t), bus.Options{})
	if err != nil {
		t.Fatal(err)
	}
	dying.Hasten()
	publishStop(t, b, id, 1)
	calls, _ := listen(t, effectsOf(dying, "h1", events.ClassRun), func(context.Context, call) error { nc.Close(); return nil })
	receive(t, "work for the one that dies", calls)
	other, _ := listen(t, effectsOf(b, "h1", events.ClassRun), done)
	if got := receive(t, "work for another", other); got != (call{id, 1}) {
		t.Errorf("got %+v", got)
	}
}

// At the end the context of work in hand lives on for a while, then ends; the work goes to another at once.
func TestWorkInHandEndsAWhileAfterTheLoop(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	b := hasty(t, srv, func(b *bus.Bus) { b.DrainWait(300 * time.Millisecond) })
	id := create(t, b, 1)
	publishStop(t, b, id, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err := b.Effects(ctx, "h1", events.ClassRun, 1, nil, func(work context.Context, _ events.ProgramID, _ uint64) error {
		cancel()
		if work.Err() != nil {
			t.Error("the context of work in hand ended with the loop's")
		}
		<-work.Done()
		return work.Err()
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the loop ended with %v", err)
	}
	calls, _ := listen(t, effectsOf(b, "h1", events.ClassRun), done)
	if got := receive(t, "the work that was handed back", calls); got != (call{id, 1}) {
		t.Errorf("got %+v", got)
	}
}

// As when `hersh dev` is ended in the middle of a build, and started again: the server ends with the worker.
func TestWorkHandedBackComesAtOnceFromAServerThatRestarted(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	usual := func(b *bus.Bus) { b.AckWait(deadline * 2) }
	b := hasty(t, srv, usual, func(b *bus.Bus) { b.DrainWait(0) })
	id := create(t, b, 1)
	publishStop(t, b, id, 1)
	nc := srv.Conn(t)
	answers, err := nc.SubscribeSync("$JS.ACK.>")
	if err := errors.Join(err, nc.Flush()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_ = b.Effects(ctx, "h1", events.ClassRun, 1, nil, func(work context.Context, _ events.ProgramID, _ uint64) error {
		cancel()
		<-work.Done()
		return work.Err()
	})
	// Mostly the server hears of it in time even where nobody waits for that.
	if msg, err := answers.NextMsg(deadline); err != nil || !strings.HasPrefix(string(msg.Data), "-NAK") || msg.Reply == "" {
		t.Fatalf("the work was handed back as %+v, %v; want a NAK that the server is to answer", msg, err)
	}
	srv.Restart(t)
	calls, _ := listen(t, effectsOf(hasty(t, srv, usual), "h1", events.ClassRun), done)
	if got := receive(t, "the work that was handed back", calls); got != (call{id, 1}) {
		t.Errorf("got %+v", got)
	}
}

// Only what a loss has made obsolete goes: not what was decided after it, nor what is of other programs or hosts.
func TestWithdraw(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	b := hasty(t, srv)
	lost, other := create(t, b, 1), create(t, b, 2)
	put := func(id events.ProgramID, seq uint64, host events.HostID, build bool) {
		t.Helper()
		place := effects.Placement{HostID: host, Attempt: 1}
		var eff effects.Effect = effects.StopRuntime{Placement: place, ProgramID: id, ContainerID: "c"}
		if build {
			eff = effects.BuildRuntime{Placement: place, ProgramID: id}
		}
		if err := b.PublishEffects(t.Context(), effects.Message{ProgramID: id, Seq: seq, Attempt: 1, Effects: []effects.Effect{eff}}); err != nil {
			t.Fatal(err)
		}
	}
	put(lost, 2, "h1", true)
	put(lost, 4, "h1", false)
	put(other, 4, "h1", false)
	put(lost, 5, "h2", false)
	put(lost, 6, "", true)
	put(lost, 9, "h1", true)
	wantText(t, "the answer", request(t, srv.Conn(t), events.EffectsSubject("h1", events.ClassRun, lost), nil, []byte("{")), `"seq":`)
	if n, err := b.Withdraw(t.Context(), "h1", map[events.ProgramID]uint64{lost: 8}); err != nil || n != 2 {
		t.Fatalf("withdrew %d messages, %v; want 2", n, err)
	}
	if n, err := b.Withdraw(t.Context(), "h1", map[events.ProgramID]uint64{lost: 8}); err != nil || n != 0 {
		t.Errorf("again it withdrew %d messages, %v; want none", n, err)
	}
	if n, err := b.Withdraw(t.Context(), "h9", map[events.ProgramID]uint64{lost: 8}); err != nil || n != 0 {
		t.Errorf("for a host without queues it withdrew %d messages, %v; want none", n, err)
	}
	for _, q := range []struct {
		host  events.HostID
		class events.Class
		want  call
	}{
		{"h1", events.ClassRun, call{other, 4}},
		{"h2", events.ClassRun, call{lost, 5}},
		{"", events.ClassBuild, call{lost, 6}},
		{"h1", events.ClassBuild, call{lost, 9}},
	} {
		calls, stop := listen(t, effectsOf(b, q.host, q.class), done)
		if got := receive(t, "work", calls); got != q.want {
			t.Errorf("%s/%s gives %+v, want %+v", q.host, q.class, got, q.want)
		}
		stop()
	}
}

// As many effects wait as may, until a host takes some. Nobody else is shut out by them, nor the same program from another queue.
func TestEffectsOfEachProgramAreBounded(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	b := hasty(t, srv)
	flooder, other := create(t, b, 1), create(t, b, 2)
	build := func(id events.ProgramID, seq uint64) error {
		eff := effects.BuildRuntime{Placement: effects.Placement{Attempt: seq}, ProgramID: id}
		return b.PublishEffects(t.Context(), effects.Message{ProgramID: id, Seq: seq, Attempt: seq, Effects: []effects.Effect{eff}})
	}
	for seq := range uint64(effects.MaxWaiting) {
		if err := build(flooder, seq+1); err != nil {
			t.Fatalf("build %d: %v", seq+1, err)
		}
	}
	const refused = effects.MaxWaiting + 1
	for range 2 {
		if err := build(flooder, refused); !errors.Is(err, effects.ErrBacklog) || errors.Is(err, events.ErrLogFull) {
			t.Fatalf("one build more: %v, want ErrBacklog, and not ErrLogFull", err)
		}
	}
	if err := build(flooder, 1); err != nil {
		t.Errorf("one that waits already, again: %v", err)
	}
	if err := build(other, 1); err != nil {
		t.Errorf("a build of another program: %v", err)
	}
	const stopped = refused + 1
	publishStop(t, b, flooder, stopped)
	publishStop(t, b, other, stopped)

	builds, stop := listen(t, effectsOf(b, "", events.ClassBuild), done)
	for range effects.MaxWaiting + 1 {
		receive(t, "a build", builds)
	}
	eventually(t, "there is room again", func() bool { return build(flooder, refused) == nil })
	if got := receive(t, "what was refused", builds); got != (call{flooder, refused}) {
		t.Errorf("what was refused comes as %v", got)
	}
	stop()
	stops, _ := listen(t, effectsOf(b, "h1", events.ClassRun), done)
	for _, id := range []events.ProgramID{flooder, other} {
		if got := receive(t, "a stop", stops); got != (call{id, stopped}) {
			t.Errorf("a stop comes as %v, want one of %s", got, id)
		}
	}
}

// A Provision finds what versions before made: a stream without a bound whose subjects name no program, and the queues of hosts that make
// none themselves. What waits there is not lost.
func TestProvisionUpdatesFormerQueues(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	nc := srv.Conn(t)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	former := jetstream.StreamConfig{
		Name: events.StreamEffects, Subjects: []string{"hersh.effects.*.*"},
		Retention: jetstream.WorkQueuePolicy, Storage: jetstream.FileStorage, Duplicates: 10 * time.Minute,
	}
	if _, err := js.CreateStream(t.Context(), former); err != nil {
		t.Fatal(err)
	}
	id, _ := bustest.NewProgram("alice", 1)
	queues := []struct {
		host  events.HostID
		class events.Class
		next  uint64
	}{{"h1", events.ClassRun, 3}, {"", events.ClassBuild, 4}}
	for _, q := range queues {
		subject := events.FormerEffectsSubject(q.host, q.class)
		cfg := jetstream.ConsumerConfig{Durable: events.EffectsQueue(q.host, q.class), FilterSubject: subject, AckPolicy: jetstream.AckExplicitPolicy, MaxDeliver: -1}
		if _, err := js.CreateConsumer(t.Context(), events.StreamEffects, cfg); err != nil {
			t.Fatal(err)
		}
		wantText(t, "the answer", request(t, nc, subject, nil, fmt.Appendf(nil, `{"programId":%q,"seq":2}`, id)), `"seq":`)
	}
	wantNoUpgrade(t, srv, nc, id)
	for range 2 { // Again changes nothing.
		hasty(t, srv)
	}
	binding, err := bus.New(srv.Conn(t), natstest.Log(t), bus.Options{Bind: true})
	if err != nil {
		t.Fatal(err)
	}
	binding.Hasten()
	publishStop(t, binding, id, 3)
	build := effects.BuildRuntime{ProgramID: id}
	if err := binding.PublishEffects(t.Context(), effects.Message{ProgramID: id, Seq: 4, Effects: []effects.Effect{build}}); err != nil {
		t.Fatal(err)
	}
	for _, q := range queues {
		calls, _ := listen(t, effectsOf(binding, q.host, q.class), done)
		for _, want := range []call{{id, 2}, {id, q.next}} {
			if got := receive(t, "work", calls); got != want {
				t.Errorf("%q %s gives %v, want %v", q.host, q.class, got, want)
			}
		}
	}
}

// wantNoUpgrade fills a former queue beyond the new bound, and empties it again.
func wantNoUpgrade(t *testing.T, srv *natstest.Server, nc *nats.Conn, id events.ProgramID) {
	t.Helper()
	full := events.FormerEffectsSubject("h9", events.ClassRun)
	for range effects.MaxWaiting + 1 {
		wantText(t, "the answer", request(t, nc, full, nil, fmt.Appendf(nil, `{"programId":%q,"seq":2}`, id)), `"seq":`)
	}
	b, err := bus.New(srv.Conn(t), natstest.Log(t), bus.Options{})
	if err != nil {
		t.Fatal(err)
	}
	err = b.Provision(t.Context())
	if err == nil || !strings.Contains(err.Error(), "101 effects of a former version wait in hersh.effects.h9.run") {
		t.Errorf("provision: %v", err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), events.StreamEffects)
	if err != nil {
		t.Fatal(err)
	}
	if state := stream.CachedInfo().State; state.Msgs != effects.MaxWaiting+3 {
		t.Errorf("%d messages are there, want all %d", state.Msgs, effects.MaxWaiting+3)
	}
	if err := stream.Purge(t.Context(), jetstream.WithPurgeSubject(full)); err != nil {
		t.Fatal(err)
	}
}

// A worker that is closed takes nothing, and one that leaves work to others does not keep it.
func TestClosedWorkersTakeNothing(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	b := hasty(t, srv)
	id := create(t, b, 1)
	var open atomic.Bool
	asked := make(chan struct{}, 1)
	loop := func(ctx context.Context, h func(context.Context, events.ProgramID, uint64) error) error {
		return b.Effects(ctx, "h1", events.ClassRun, 1, func() bool {
			select {
			case asked <- struct{}{}:
			default:
			}
			return open.Load()
		}, h)
	}
	calls, stop := listen(t, loop, func(context.Context, call) error { return fmt.Errorf("no room: %w", effects.ErrElsewhere) })
	publishStop(t, b, id, 1)
	for range 3 {
		receive(t, "a question whether it is open", asked)
	}
	if len(calls) > 0 {
		t.Fatal("a closed worker took work")
	}
	open.Store(true)
	receive(t, "work once it is open", calls)
	receive(t, "the same work again", calls)
	stop()
	other, _ := listen(t, effectsOf(b, "h1", events.ClassRun), done)
	if got := receive(t, "work for another", other); got != (call{id, 1}) {
		t.Errorf("got %+v", got)
	}
}
