package bus_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/bus"
	"github.com/rlaaudgjs5638/hersh/internal/bus/bustest"
	"github.com/rlaaudgjs5638/hersh/internal/natstest"
)

func TestProvisionTwiceAndByManyAtOnce(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	buses := make([]*bus.Bus, 6)
	for i := range buses {
		b, err := bus.New(srv.Conn(t), natstest.Log(t), bus.Options{})
		if err != nil {
			t.Fatal(err)
		}
		buses[i] = b
	}
	for range 2 {
		each(t, len(buses), func(i int) error { return buses[i].Provision(t.Context()) })
	}
	if err := buses[0].Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestCreateByManyAtOnceMakesOneLog(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	b := hasty(t, srv)
	id, first := bustest.NewProgram("alice", 1)
	each(t, 8, func(int) error { return b.Create(t.Context(), id, first) })
	if log := read(t, b, id); len(log) != 1 || log[0].Type != events.TypeProgramCreated {
		t.Errorf("the log is %v, want one ProgramCreated", log)
	}
}

func TestReadsALongLogInOrder(t *testing.T) {
	t.Parallel()
	b, nc := unsynced(t)
	id := create(t, b, 1)
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(500))
	if err != nil {
		t.Fatal(err)
	}
	const n = 10_500
	for i := range n {
		typ := events.Type(fmt.Sprintf("Type%d", i%2))
		if _, err := js.PublishAsync(events.EventSubject(id, typ), fmt.Appendf(nil, "%d", i), jetstream.WithStallWait(deadline)); err != nil {
			t.Fatal(err)
		}
	}
	receive(t, "all publications acknowledged", js.PublishAsyncComplete())

	log := read(t, b, id)
	if len(log) != n+1 {
		t.Fatalf("read %d events, want %d", len(log), n+1)
	}
	for i, stored := range log[1:] {
		if stored.Seq != uint64(i+2) || string(stored.Data) != fmt.Sprint(i) || stored.Type != events.Type(fmt.Sprintf("Type%d", i%2)) || stored.Time.IsZero() {
			t.Fatalf("event %d is %+v", i+2, stored)
		}
	}
	seen := 0
	for stored, err := range b.Read(t.Context(), id, n-9) {
		if err != nil {
			t.Fatal(err)
		}
		if seen++; stored.Seq != uint64(n-9+seen) {
			t.Fatalf("read after %d gives event %d at place %d", n-9, stored.Seq, seen)
		}
	}
	if seen != 10 {
		t.Errorf("read %d events after %d, want 10", seen, n-9)
	}
	for range b.Read(t.Context(), id, 0) {
		break // A caller that has enough leaves nothing behind.
	}
}

func TestUnknownProgramIsToldAtOnce(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	b := hasty(t, srv)
	id, _ := bustest.NewProgram("alice", 9)
	began := time.Now()
	if _, err := b.Append(t.Context(), id, events.UserStartRequested{}, ""); !errors.Is(err, events.ErrNoProgram) {
		t.Errorf("append: %v, want ErrNoProgram", err)
	}
	for _, err := range b.Read(t.Context(), id, 0) {
		if !errors.Is(err, events.ErrNoProgram) {
			t.Errorf("read: %v, want ErrNoProgram", err)
		}
	}
	if exists, err := b.Exists(t.Context(), id); exists || err != nil {
		t.Errorf("exists: %v, %v", exists, err)
	}
	if took := time.Since(began); took > 9*time.Second {
		t.Errorf("it took %s; it should be the server's answer, not a timeout", took)
	}
}

func TestServerAwayIsNoUnknownProgram(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	b := hasty(t, srv)
	id := create(t, b, 1)
	srv.Stop()
	_, err := b.Append(t.Context(), id, events.UserStartRequested{}, "")
	if err == nil || errors.Is(err, events.ErrNoProgram) {
		t.Errorf("append while the server is away: %v", err)
	}
	for _, err := range b.Read(t.Context(), id, 0) {
		if err == nil || errors.Is(err, events.ErrNoProgram) {
			t.Errorf("read while the server is away: %v", err)
		}
	}
}

func TestOverSizeIsRefusedAndGarbageStays(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	b := hasty(t, srv)
	id := create(t, b, 1)
	nc := srv.Conn(t)
	answer := request(t, nc, events.EventSubject(id, events.TypeUserStartRequested), nil, []byte(strings.Repeat("x", 70<<10)))
	wantText(t, "the answer to 70 KB", answer, "message size exceeds maximum allowed")
	for _, garbage := range []string{"", "{", "\xff\xfe", strings.Repeat("x", 60<<10)} {
		wantText(t, "the answer to garbage", request(t, nc, events.EventSubject(id, "NoSuchType"), nil, []byte(garbage)), `"seq":`)
	}
	log := read(t, b, id)
	if len(log) != 5 || len(log[1].Data) != 0 || string(log[3].Data) != "\xff\xfe" || log[4].Type != "NoSuchType" {
		t.Errorf("the log has %d events, want the four of garbage as they came", len(log))
	}
}

func TestFloodOfOneTypeShutsOutNoOther(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	b := hasty(t, srv, func(b *bus.Bus) { b.LimitEvents(5) })
	id := create(t, b, 1)
	for i := range 7 {
		_, err := b.Append(t.Context(), id, events.UserStartRequested{}, "")
		if refused := err != nil; refused != (i >= 5) {
			t.Errorf("event %d of one type: %v", i+1, err)
		}
		if refused := err != nil; refused != errors.Is(err, events.ErrLogFull) {
			t.Errorf("the refusal is %v, want ErrLogFull", err)
		}
		if full, err := b.Full(t.Context(), id); err != nil || full != (i >= 4) {
			t.Errorf("after %d events of one type: full %t, %v", i+1, full, err)
		}
	}
	if _, err := b.Append(t.Context(), id, events.UserStopRequested{}, ""); err != nil {
		t.Errorf("another type: %v", err)
	}
}

func TestFeedCarriesWhatIsStored(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	b := hasty(t, srv)
	nc := srv.Conn(t)
	feed := make(chan *nats.Msg, 10)
	if _, err := nc.ChanSubscribe(events.UserFeedSubjects("alice"), feed); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	id := create(t, b, 1)
	if _, err := b.Append(t.Context(), id, events.UserStartRequested{}, ""); err != nil {
		t.Fatal(err)
	}
	for seq, want := range []events.Type{events.TypeProgramCreated, events.TypeUserStartRequested} {
		msg := receive(t, "an event on the feed", feed)
		got, typ, err := events.ParseFeedSubject(msg.Subject)
		if err != nil || got != id || typ != want || msg.Header.Get(jetstream.SequenceHeader) != fmt.Sprint(seq+1) {
			t.Errorf("the feed has %s %s at %s (%v), want %s at %d", got, typ, msg.Header.Get(jetstream.SequenceHeader), err, want, seq+1)
		}
	}
}

func TestHeadsOfManyPrograms(t *testing.T) {
	t.Parallel()
	b, _ := unsynced(t)
	const n = 300 // More than one page of the server's list.
	for i := range n {
		create(t, b, i)
	}
	seen := map[events.ProgramID]bool{}
	for head, err := range b.Heads(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		seen[head.ProgramID] = head.Seq == 1
	}
	if len(seen) != n {
		t.Errorf("heads list %d programs, want %d", len(seen), n)
	}
	for range b.Heads(t.Context()) {
		break // A caller that has enough leaves nothing behind.
	}
}

func TestRemoveTakesOutputAndLogWithIt(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	b := hasty(t, srv)
	id, other := create(t, b, 1), create(t, b, 2)
	for _, p := range []events.ProgramID{id, other} {
		if err := b.ShipLog(t.Context(), p, events.LogStdout, "", []byte("hello")); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Remove(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if got := output(t, b, id, "*", 0); got != "" {
		t.Errorf("output of a removed program: %q", got)
	}
	if got := output(t, b, other, "*", 0); got != "stdout:hello" {
		t.Errorf("output of another program: %q", got)
	}
	if exists, err := b.Exists(t.Context(), id); exists || err != nil {
		t.Errorf("a removed program exists: %v, %v", exists, err)
	}
}
