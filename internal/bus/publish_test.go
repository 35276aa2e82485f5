package bus_test

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/bus"
	"github.com/rlaaudgjs5638/hersh/internal/bus/bustest"
	"github.com/rlaaudgjs5638/hersh/internal/natstest"
)

// A cluster answers so while a leader is elected, or while two publish the same at once.
func TestAppendTriesAgainUnderTheSameKey(t *testing.T) {
	srv := natstest.Start(t)
	b, nc := srv.Bus(t), srv.Conn(t)
	b.Hasten()
	id, _ := bustest.NewProgram("alice", 1)
	answers := []string{
		`{"error":{"code":409,"err_code":10158,"description":"duplicate message id is in process"}}`,
		`{"error":{"code":503,"err_code":10008,"description":"JetStream system temporarily unavailable"}}`,
		`{"stream":"S","seq":7}`,
	}
	var keys []string
	sub, err := nc.Subscribe(events.EventSubject(id, events.TypeUserStartRequested), func(msg *nats.Msg) {
		keys = append(keys, msg.Header.Get(nats.MsgIdHdr))
		_ = msg.Respond([]byte(answers[len(keys)-1])) // The test fails without the answer.
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	seq, err := b.Append(t.Context(), id, events.UserStartRequested{}, "")
	if err != nil || seq != 7 {
		t.Fatalf("Append: %d, %v; want 7", seq, err)
	}
	if err := sub.Drain(); err != nil {
		t.Fatal(err)
	}
	if len(keys) != 3 || keys[0] == "" || keys[0] != keys[1] || keys[1] != keys[2] {
		t.Errorf("published under %q; want the same key three times", keys)
	}
}

func TestAppendSaysAtOnceThatThereIsNoProgram(t *testing.T) {
	b := natstest.Start(t).Bus(t)
	id, _ := bustest.NewProgram("alice", 1)
	began := time.Now()
	if _, err := b.Append(t.Context(), id, events.UserStartRequested{}, ""); !errors.Is(err, events.ErrNoProgram) {
		t.Errorf("Append: %v, want ErrNoProgram", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s to say so", took)
	}
}

// A read that nobody answers is no empty log: what is concluded from one may remove containers.
func TestReadOfASilentServerIsAnError(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	b, nc := srv.Bus(t), srv.Conn(t)
	id, _ := bustest.NewProgram("alice", 1)
	if _, err := nc.SubscribeSync("$JS.API.DIRECT.GET." + events.ProgramStream(id)); err != nil { // It takes requests and says nothing.
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	var got error
	for _, err := range b.Read(t.Context(), id, 0) {
		got = err
	}
	if got == nil || errors.Is(got, events.ErrNoProgram) {
		t.Errorf("reading without an answer: %v, want an error that is not ErrNoProgram", got)
	}
}

func TestHostAlive(t *testing.T) {
	b := natstest.Start(t).BusWith(t, bus.Options{HostTTL: 2 * time.Second})
	if err := b.Beat(t.Context(), events.Heartbeat{HostID: "h1"}); err != nil {
		t.Fatal(err)
	}
	if alive, err := b.HostAlive(t.Context(), "h1"); err != nil || !alive {
		t.Errorf("right after a heartbeat: %v, %v", alive, err)
	}
	if alive, err := b.HostAlive(t.Context(), "h2"); err != nil || alive {
		t.Errorf("a host that never was: %v, %v", alive, err)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(deadline); ; {
		alive, err := b.HostAlive(t.Context(), "h1")
		if err != nil {
			t.Fatal(err)
		}
		if !alive {
			return // Expired: nothing, or the marker of its end, is there.
		}
		select {
		case <-limit:
			t.Fatal("the heartbeat does not expire")
		case <-tick.C:
		}
	}
}
