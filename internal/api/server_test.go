package api_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/api"
	"github.com/rlaaudgjs5638/hersh/internal/natstest"
)

// slowBus lists hosts only when it is let go. Of the rest of the interface nothing is called.
type slowBus struct {
	api.Bus
	begun chan struct{}
	let   chan struct{}
	err   error
}

func (b *slowBus) Drains(context.Context) (map[events.HostID]time.Time, error) { return nil, nil }

func (b *slowBus) Hosts(ctx context.Context) ([]events.Heartbeat, error) {
	b.begun <- struct{}{}
	select {
	case <-b.let:
		return nil, b.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func startSlow(t *testing.T, b *slowBus) (*api.Server, *nats.Conn) {
	srv := natstest.Start(t)
	s, err := api.Start(srv.Conn(t), b, nil, api.Options{
		Version: "1.2.3", Log: natstest.Log(t), Metrics: api.NewMetrics(prometheus.NewRegistry()),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s, srv.Conn(t)
}

// TestOverload sends more than fits: what does not is refused at once, and the rest is answered.
func TestOverload(t *testing.T) {
	const sent = 2000
	b := &slowBus{begun: make(chan struct{}, sent), let: make(chan struct{})}
	_, nc := startSlow(t, b)
	answers := make(chan *nats.Msg, sent)
	inbox := nc.NewInbox()
	if _, err := nc.ChanSubscribe(inbox, answers); err != nil {
		t.Fatal(err)
	}
	for range sent {
		if err := nc.PublishRequest(events.SubjectHostsList, inbox, nil); err != nil {
			t.Fatal(err)
		}
	}
	deadline := time.After(time.Minute)
	busy, served := 0, 0
	next := func() *nats.Msg {
		select {
		case msg := <-answers:
			return msg
		case <-deadline:
			t.Fatalf("%d answers of busy and %d of %d requests", busy, served, sent)
			return nil
		}
	}
	for busy+api.MaxInHand < sent {
		if code := next().Header.Get(micro.ErrorCodeHeader); code != "429" {
			t.Fatalf("an answer with code %q while everything is busy", code)
		}
		busy++
	}
	close(b.let)
	for busy+served < sent {
		if code := next().Header.Get(micro.ErrorCodeHeader); code != "" {
			t.Fatalf("an answer with code %q after it was let go", code)
		}
		served++
	}
	if served != api.MaxInHand {
		t.Errorf("%d were served, want %d", served, api.MaxInHand)
	}
}

// TestStopFinishesWhatIsInHand stops while requests wait: each gets an answer.
func TestStopFinishesWhatIsInHand(t *testing.T) {
	b := &slowBus{begun: make(chan struct{}, 100), let: make(chan struct{})}
	s, nc := startSlow(t, b)
	answers := make(chan *nats.Msg, 100)
	inbox := nc.NewInbox()
	if _, err := nc.ChanSubscribe(inbox, answers); err != nil {
		t.Fatal(err)
	}
	const sent = 20
	for range sent {
		if err := nc.PublishRequest(events.SubjectHostsList, inbox, nil); err != nil {
			t.Fatal(err)
		}
	}
	<-b.begun
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.Stop()
	}()
	close(b.let)
	<-stopped
	for range sent {
		select {
		case msg := <-answers:
			if code := msg.Header.Get(micro.ErrorCodeHeader); code != "" && code != "429" {
				t.Errorf("an answer with code %q", code)
			}
		case <-time.After(time.Minute):
			t.Fatal("a request was not answered")
		}
	}
	if _, err := nc.Request(events.SubjectHostsList, nil, time.Minute); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("a request after Stop: %v, want no responders", err)
	}
}

// TestCausesStayInside checks that an error inside does not reach the client in full.
func TestCausesStayInside(t *testing.T) {
	b := &slowBus{begun: make(chan struct{}, 1), let: make(chan struct{}), err: errors.New("secret internals")}
	close(b.let)
	_, nc := startSlow(t, b)
	answer, err := nc.Request(events.SubjectHostsList, nil, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	code, sentence := answer.Header.Get(micro.ErrorCodeHeader), answer.Header.Get(micro.ErrorHeader)
	if code != "500" || strings.Contains(sentence, "secret") || sentence == "" {
		t.Errorf("answer %q %q", code, sentence)
	}
}
