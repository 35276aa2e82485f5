package tenants_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"go.uber.org/goleak"

	"github.com/rlaaudgjs5638/hersh/client"
	"github.com/rlaaudgjs5638/hersh/client/wire"
	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/natstest/hershtest"
	"github.com/rlaaudgjs5638/hersh/internal/natstest/tenantstest"
	"github.com/rlaaudgjs5638/hersh/internal/tenants"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// deadline bounds every wait; it is far more than anything takes.
const deadline = 60 * time.Second

const digest = events.SourceDigest("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")

func create(t *testing.T, s *tenantstest.Secure, b interface {
	Create(context.Context, events.ProgramID, events.ProgramCreated) error
}, user events.UserID) events.ProgramID {
	t.Helper()
	build, err := events.NewBuildID(digest)
	if err != nil {
		t.Fatal(err)
	}
	id := events.NewProgramID(user, build)
	if err := b.Create(t.Context(), id, events.ProgramCreated{BuildID: build, SourceDigest: digest}); err != nil {
		t.Fatal(err)
	}
	return id
}

// TestEverythingWorksAcrossAccounts is what the attacks are measured against: with these rights Hersh does all that it does.
func TestEverythingWorksAcrossAccounts(t *testing.T) {
	s := tenantstest.Start(t, []events.HostID{"h1"}, []events.UserID{"alice"})
	sup := s.Supervise(t, "test")
	s.Execute(t, "h1", effects.NewFakeEffectHandler())
	id := create(t, s, sup.Bus(), "alice")
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()

	nc := s.Conn(t, tenants.TenantKeyName("alice"))
	feed, err := nc.SubscribeSync(events.UserFeedSubjects("alice"))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := nc.RequestWithContext(ctx, events.EventSubject(id, events.TypeUserStartRequested), []byte(`{}`))
	if err != nil {
		t.Fatalf("no PubAck across accounts: %v", err)
	}
	var ack struct{ Seq uint64 }
	if json.Unmarshal(answer.Data, &ack) != nil || ack.Seq != 2 {
		t.Errorf("PubAck %s, want sequence 2", answer.Data)
	}
	c := client.New(nc)
	settled, err := c.WaitSettled(ctx, id, ack.Seq)
	if err != nil || settled.State.State != reducer.StateReady {
		t.Fatalf("after a start: %+v, %v; want Ready", settled, err)
	}
	if msg, err := feed.NextMsgWithContext(ctx); err != nil || events.EventType(msg.Subject) != events.TypeUserStartRequested {
		t.Errorf("the feed gave %v, %v; want the start", msg, err)
	}
	if hosts := settled.State.HostID; hosts != "h1" {
		t.Errorf("it runs on %q, want h1", hosts)
	}
	if _, err := c.Stop(ctx, events.NewProgramID("alice", id.Build())); !errors.Is(err, client.ErrNoProgram) {
		t.Errorf("stop of a program that is not there: %v, want ErrNoProgram", err)
	}
	_, err = nc.RequestWithContext(ctx, events.EventSubject(events.NewProgramID("alice", id.Build()), events.TypeUserStopRequested), []byte(`{}`))
	if !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("publishing to a program that is not there: %v, want no responders", err)
	}
	reply, err := nc.RequestWithContext(ctx, events.APISubject("alice", wire.VerbGet), []byte(`{"programId":"nonsense"}`))
	if err != nil || reply.Header.Get(micro.ErrorCodeHeader) != "400" {
		t.Errorf("a wrong request: %v, %v; want the micro error 400", reply, err)
	}
}

// TestDeleteTakesBackWhatWaits deletes a program whose build no host has taken. A supervisor may not purge the queue of all.
func TestDeleteTakesBackWhatWaits(t *testing.T) {
	s := tenantstest.Start(t, nil, []events.UserID{"alice"})
	sup := s.Supervise(t, "test")
	id := create(t, s, sup.Bus(), "alice")
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	js, err := jetstream.New(s.Conn(t, tenants.Provisioner))
	if err != nil {
		t.Fatal(err)
	}
	waiting := func() uint64 {
		t.Helper()
		stream, err := js.Stream(ctx, events.StreamEffects)
		if err != nil {
			t.Fatal(err)
		}
		return stream.CachedInfo().State.Msgs
	}
	c := client.New(s.Conn(t, tenants.TenantKeyName("alice")))
	if _, err := c.Start(ctx, id); err != nil {
		t.Fatal(err)
	}
	if status, err := c.Status(ctx, id); err != nil || status.State.State != reducer.StateBuilding || waiting() != 1 {
		t.Fatalf("after a start: %+v, %v, and %d messages wait; want Building, and one", status.State, err, waiting())
	}
	if _, err := c.Stop(ctx, id); err != nil {
		t.Fatal(err)
	}
	if err := c.Delete(ctx, id); err != nil {
		t.Fatal(err)
	}
	if n := waiting(); n != 0 {
		t.Errorf("%d messages wait for a program that was deleted", n)
	}
}

// TestDeniedAtOnce uses another's name. The server denies it without an answer; the client must not wait for one.
func TestDeniedAtOnce(t *testing.T) {
	s := tenantstest.Start(t, nil, []events.UserID{"alice", "bob"})
	sup := s.Supervise(t, "test")
	bobs := create(t, s, sup.Bus(), "bob")
	nc := s.Conn(t, tenants.TenantKeyName("alice"))
	passed := make(chan error, 16)
	nc.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { passed <- err })
	c := client.New(nc)
	ctx := t.Context() // Without a deadline: an answer that never comes is found by the timeout of the tests.

	if tenant, err := c.Tenant(ctx); err != nil || tenant != "alice" {
		t.Errorf("the key is of %q, %v; want alice", tenant, err)
	}
	if tenant, err := client.New(s.Conn(t, tenants.Provisioner)).Tenant(ctx); err != nil || tenant != "" {
		t.Errorf("the provisioner is tenant %q, %v", tenant, err)
	}
	listed := func(user events.UserID) error {
		for _, err := range c.List(ctx, user) {
			return err
		}
		return nil
	}
	for name, do := range map[string]func() error{
		"start":   func() error { _, err := c.Start(ctx, bobs); return err },
		"status":  func() error { _, err := c.Status(ctx, bobs); return err },
		"delete":  func() error { return c.Delete(ctx, bobs) },
		"list":    func() error { return listed("bob") },
		"of all":  func() error { return listed("") },
		"hosts":   func() error { _, err := c.Hosts(ctx); return err },
		"outcome": func() error { _, err := c.Outcome(ctx, bobs, 1); return err },
		"watch": func() error {
			for _, err := range c.Watch(ctx, bobs, 0) {
				return err
			}
			return nil
		},
		"deploy": func() error {
			_, err := c.Deploy(ctx, hershtest.SourceDir(t, nil), "bob", client.DeployOptions{})
			return err
		},
	} {
		denied := (*client.DeniedError)(nil)
		if err := do(); !errors.Is(err, client.ErrDenied) || !errors.As(err, &denied) || denied.Subject == "" {
			t.Errorf("%s: %v, want ErrDenied with the subject", name, err)
		}
	}
	if err := listed("alice"); err != nil {
		t.Errorf("what is allowed fails afterwards: %v", err)
	}
	for len(passed) > 0 { // The subscription of Watch is nobody's request.
		if err := <-passed; !strings.Contains(err.Error(), "Subscription to") {
			t.Errorf("an error that a request was told of was passed on too: %v", err)
		}
	}
}

// TestDeniedAnswer connects without the inbox prefix of its key.
func TestDeniedAnswer(t *testing.T) {
	s := tenantstest.Start(t, nil, nil)
	s.Supervise(t, "test")
	c := client.New(s.Conn(t, tenants.Provisioner, nats.CustomInboxPrefix("_INBOX")))
	if _, err := c.Hosts(t.Context()); !errors.Is(err, client.ErrDenied) {
		t.Errorf("answers that may not be heard: %v, want ErrDenied", err)
	}
}
