package tenants_test

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/rlaaudgjs5638/hersh/client"
	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/bus"
	"github.com/rlaaudgjs5638/hersh/internal/executor"
	"github.com/rlaaudgjs5638/hersh/internal/natstest/tenantstest"
	"github.com/rlaaudgjs5638/hersh/internal/tenants"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

// The users of the attacks, by their key files.
var (
	asAlice      = tenants.TenantKeyName("alice")
	asBob        = tenants.TenantKeyName("bob")
	asH1         = tenants.HostKeyName("h1")
	asH2         = tenants.HostKeyName("h2")
	asSupervisor = tenants.Supervisor
)

// field is a Hersh that runs, with something of everybody's to attack.
type field struct {
	t      *testing.T
	s      *tenantstest.Secure
	admin  *nats.Conn // The operator, whom nothing is hidden from.
	js     jetstream.JetStream
	bus    *bus.Bus
	hosts  map[events.HostID]*executor.FakeHost
	victim events.ProgramID // Of bob; it runs on h2.
	own    events.ProgramID // Of alice; it was only created.
	held   jetstream.Msg    // Effects for h3, which somebody has in hand.

	last snapshot // Of the row before, where it still holds.

	mu    sync.Mutex
	conns map[string]*attacker
	heard []string // What eavesdroppers heard.
}

func newField(t *testing.T) *field {
	t.Helper()
	s := tenantstest.Start(t, []events.HostID{"h1", "h2", "h3"}, []events.UserID{"alice", "bob"})
	f := &field{t: t, s: s, hosts: map[events.HostID]*executor.FakeHost{}, conns: map[string]*attacker{}}
	f.admin = s.Conn(t, tenants.Provisioner)
	f.bus = s.Bus(t, tenants.Provisioner, bus.Options{})
	var err error
	if f.js, err = jetstream.New(f.admin); err != nil {
		t.Fatal(err)
	}
	sup := s.Supervise(t, "test")
	f.hosts["h2"] = s.Execute(t, "h2", effects.NewFakeEffectHandler())
	f.victim, f.own = create(t, s, sup.Bus(), "bob"), create(t, s, sup.Bus(), "alice")
	f.settle("bob", f.victim, reducer.StateReady, (*client.Client).Start)
	f.hosts["h1"] = s.Execute(t, "h1", effects.NewFakeEffectHandler())
	f.must(f.bus.PutSource(t.Context(), "bob", digest, strings.NewReader("bob's source")))
	f.must(f.bus.StageChunk(t.Context(), "bob", bobsUpload, 0, bobsChunk))
	f.must(f.bus.ShipLog(t.Context(), f.victim, events.LogStdout, "", []byte("bob's output")))
	f.fillQueues()
	f.awaitHosts()
	return f
}

func (f *field) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// settle asks for something as a tenant and waits until it has come about.
func (f *field) settle(user events.UserID, id events.ProgramID, want reducer.State, ask func(*client.Client, context.Context, events.ProgramID) (uint64, error)) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), deadline)
	defer cancel()
	c := client.New(f.s.Conn(f.t, tenants.TenantKeyName(user)))
	seq, err := ask(c, ctx, id)
	f.must(err)
	settled, err := c.WaitSettled(ctx, id, seq)
	if err != nil || settled.State.State != want {
		f.t.Fatalf("program of %s: %+v, %v; want %s", user, settled, err, want)
	}
}

// fillQueues puts effects for h3, which nobody runs, into its queues: some wait, and one message is in hand.
func (f *field) fillQueues() {
	f.must(f.bus.MakeQueues(f.t.Context(), "h3"))
	for seq := range uint64(3) {
		f.must(f.bus.PublishEffects(f.t.Context(), effects.Message{ProgramID: f.victim, Seq: 100 + seq, Attempt: 1, Effects: []effects.Effect{
			effects.StopRuntime{Placement: effects.Placement{HostID: "h3", Attempt: 1}, ProgramID: f.victim, ContainerID: "c"},
		}}))
	}
	consumer, err := f.js.Consumer(f.t.Context(), events.StreamEffects, "h3-run")
	f.must(err)
	f.held, err = consumer.Next()
	f.must(err)
}

// awaitHosts waits until both executors have queues and a heartbeat, after which nothing changes by itself.
func (f *field) awaitHosts() {
	ctx, cancel := context.WithTimeout(f.t.Context(), deadline)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		beats, err := f.bus.Hosts(ctx)
		f.must(err)
		ready := len(beats) == 2
		for _, host := range []events.HostID{"h1", "h2"} {
			for _, class := range []events.Class{events.ClassBuild, events.ClassRun} {
				consumer, err := f.js.Consumer(ctx, events.StreamEffects, events.EffectsQueue(host, class))
				ready = ready && err == nil && consumer.CachedInfo().NumWaiting > 0
			}
		}
		if ready {
			return
		}
		<-tick.C
		f.must(ctx.Err())
	}
}

// snapshot is all that an attack might change, by name.
type snapshot map[string]string

func (f *field) snapshot() snapshot {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), deadline)
	defer cancel()
	f.must(f.held.InProgress()) // However long the table takes, it stays in hand.
	out := snapshot{}
	streams := f.js.ListStreams(ctx)
	for info := range streams.Info() {
		name := info.Config.Name
		out["settings of "+name] = asJSON(f.t, info.Config)
		switch name {
		case events.StreamWake: // Comes and goes.
		case events.StreamEffects:
			out["queue"] = fmt.Sprintf("%d messages, last %d", info.State.Msgs, info.State.LastSeq)
			f.consumers(ctx, out)
		default:
			f.messages(ctx, out, name)
		}
	}
	f.must(streams.Err())
	for id, host := range f.hosts {
		containers, err := host.Containers(ctx)
		f.must(err)
		out["containers of "+string(id)] = asJSON(f.t, containers)
	}
	return out
}

func (f *field) consumers(ctx context.Context, out snapshot) {
	stream, err := f.js.Stream(ctx, events.StreamEffects)
	f.must(err)
	consumers := stream.ListConsumers(ctx)
	for c := range consumers.Info() {
		out["queue "+c.Name] = fmt.Sprintf("%s: acked %d, delivered %d, %d in hand, %d again, %d waiting",
			asJSON(f.t, c.Config), c.AckFloor.Stream, c.Delivered.Stream, c.NumAckPending, c.NumRedelivered, c.NumPending)
	}
	f.must(consumers.Err())
}

// messages adds every message of a stream. What Hersh writes again and again counts without its sequence.
func (f *field) messages(ctx context.Context, out snapshot, name string) {
	stopCounting := regexp.MustCompile(`"(running|building|programs|memoryBytes|cpuMillis)":\d+`) // A heartbeat may be of before the start.
	volatile := name == "KV_"+events.BucketHosts || name == "KV_"+events.BucketLeases
	for after := uint64(0); ; {
		batch, err := jetstreamext.GetBatch(ctx, f.js, name, 500, jetstreamext.GetBatchSeq(after+1))
		f.must(err)
		n := 0
		for msg, err := range batch {
			if err != nil {
				break // No more.
			}
			n, after = n+1, msg.Sequence
			key := fmt.Sprintf("message %d of %s on %s", msg.Sequence, name, msg.Subject)
			if volatile {
				key = "value of " + msg.Subject
			}
			if name == "KV_"+events.BucketLeases && string(msg.Data) == "test" {
				continue // The supervisor takes its lease when it likes.
			}
			out[key] = stopCounting.ReplaceAllString(string(msg.Data), "")
		}
		if n == 0 {
			return
		}
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// diff names what is different.
func (s snapshot) diff(after snapshot) []string {
	var out []string
	for name, value := range s {
		if now, there := after[name]; !there {
			out = append(out, "gone: "+name)
		} else if now != value {
			out = append(out, fmt.Sprintf("changed: %s\n\tfrom %s\n\tto   %s", name, value, now))
		}
	}
	for name := range after {
		if _, there := s[name]; !there {
			out = append(out, "new: "+name+": "+after[name])
		}
	}
	return out
}

// consequences is what a snapshot must still be after an attack that the bus cannot keep out of a log: what programs are, what is
// queued, what runs. The logs have more in them, and checkpoints are of later events.
func (f *field) consequences() snapshot {
	out := f.snapshot()
	for name := range out {
		if strings.Contains(name, " of PROGRAM-") && strings.HasPrefix(name, "message") || strings.Contains(name, "KV_"+events.BucketPrograms+" on") {
			delete(out, name)
		}
	}
	for _, id := range []events.ProgramID{f.victim, f.own} {
		cp := reducer.NewCheckpoint(id)
		for stored, err := range f.bus.Read(f.t.Context(), id, 0) {
			f.must(err)
			cp, _, err = cp.Next(stored)
			f.must(err)
		}
		out["state of "+string(id)] = asJSON(f.t, cp.State)
	}
	return out
}

// reconciled waits until the supervisor has looked at all that is in the logs.
func (f *field) reconciled() {
	for _, id := range []events.ProgramID{f.victim, f.own} {
		c := client.New(f.admin)
		_, err := c.Status(f.t.Context(), id)
		f.must(err)
	}
}

// attacker is a connection of somebody who tries what is not theirs.
type attacker struct {
	*field
	key    string
	nc     *nats.Conn
	denied chan error
}

// as returns the connection of a user.
func (f *field) as(key string) *attacker {
	f.mu.Lock()
	defer f.mu.Unlock()
	if a := f.conns[key]; a != nil {
		return a
	}
	a := &attacker{field: f, key: key, denied: make(chan error, 64)}
	a.nc = f.s.Conn(f.t, key, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		select {
		case a.denied <- err:
		default: // More than anybody looks at.
		}
	}))
	f.conns[key] = a
	return a
}

// ask publishes a request, and returns what came back, or "" where nothing did: it was denied, there is nobody, or an error came.
func (a *attacker) ask(subject string, body string, header nats.Header) string {
	inbox := a.nc.NewInbox()
	answers := make(chan *nats.Msg, 8)
	sub, err := a.nc.ChanSubscribe(inbox, answers)
	if err != nil {
		return ""
	}
	defer func() { _ = sub.Unsubscribe() }()
	a.publish(subject, inbox, body, header)
	silence := time.NewTimer(2 * time.Second)
	defer silence.Stop()
	select {
	case msg := <-answers:
		return answerOf(msg)
	case <-a.denied:
	case <-silence.C:
		a.t.Logf("neither answered nor denied: %s as %s", subject, a.key)
	}
	select {
	case msg := <-answers:
		return answerOf(msg)
	default:
		return ""
	}
}

// answerOf is what an answer gives away: nothing where it is an error.
func answerOf(msg *nats.Msg) string {
	if msg.Header.Get("Status") == "503" || msg.Header.Get("Nats-Service-Error-Code") != "" || strings.Contains(string(msg.Data), `"error":`) {
		return ""
	}
	return fmt.Sprintf("%v %s", msg.Header, msg.Data)
}

// publish publishes, and returns when the server has seen it.
func (a *attacker) publish(subject, reply, body string, header nats.Header) {
	for len(a.denied) > 0 {
		<-a.denied
	}
	_ = a.nc.PublishMsg(&nats.Msg{Subject: subject, Reply: reply, Data: []byte(body), Header: header})
	_ = a.nc.FlushTimeout(5 * time.Second)
}

// eavesdrop listens until the end of the test.
func (a *attacker) eavesdrop(subject, queue string) {
	_, err := a.nc.QueueSubscribe(subject, queue, func(msg *nats.Msg) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.heard = append(a.heard, fmt.Sprintf("on %s, which %s subscribed to: %s", msg.Subject, subject, msg.Data))
	})
	if err == nil {
		_ = a.nc.FlushTimeout(5 * time.Second)
	}
}
