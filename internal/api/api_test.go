package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"go.uber.org/goleak"

	"github.com/rlaaudgjs5638/hersh/client/wire"
	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/natstest/hershtest"
	"github.com/rlaaudgjs5638/hersh/internal/service/supervisord"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	digest = events.SourceDigest("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")
	build  = events.BuildID("build-0123456789ab")
)

// bench is a running Hersh, asked as a client in any language would ask.
type bench struct {
	*hershtest.Stack
	t   *testing.T
	nc  *nats.Conn
	ctx context.Context
}

func newBench(t *testing.T) *bench { return newBenchWith(t, supervisord.Options{}) }

func newBenchWith(t *testing.T, o supervisord.Options) *bench {
	t.Parallel() // Much of a test is waiting for the disk.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	stack := hershtest.StartWith(t, nil, o)
	return &bench{Stack: stack, t: t, nc: stack.Server.Conn(t), ctx: ctx}
}

// ask sends a request and decodes the reply into out, strictly; it returns the error of the reply.
func (b *bench) ask(subject, body string, out any) (code int, sentence string) {
	b.t.Helper()
	answer, err := b.nc.RequestWithContext(b.ctx, subject, []byte(body))
	if err != nil {
		b.t.Fatalf("%s %s: %v", subject, body, err)
	}
	if text := answer.Header.Get(micro.ErrorCodeHeader); text != "" {
		if code, err = strconv.Atoi(text); err != nil || len(answer.Data) > 0 {
			b.t.Fatalf("%s: error code %q, data %q", subject, text, answer.Data)
		}
		return code, answer.Header.Get(micro.ErrorHeader)
	}
	if out != nil {
		dec := json.NewDecoder(bytes.NewReader(answer.Data))
		dec.DisallowUnknownFields()
		if err := dec.Decode(out); err != nil {
			b.t.Fatalf("%s: reply %s: %v", subject, answer.Data, err)
		}
	}
	return 0, ""
}

func (b *bench) mustAsk(subject, body string, out any) {
	b.t.Helper()
	if code, sentence := b.ask(subject, body, out); code != 0 {
		b.t.Fatalf("%s %s: %d %s", subject, body, code, sentence)
	}
}

func (b *bench) upload(user events.UserID) {
	b.t.Helper()
	if err := b.Bus.PutSource(b.ctx, user, digest, strings.NewReader("a tarball")); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) create(user events.UserID) events.ProgramID {
	b.t.Helper()
	b.upload(user)
	var reply wire.CreateReply
	b.mustAsk(events.APISubject(user, wire.VerbCreate), `{"sourceDigest":"`+string(digest)+`"}`, &reply)
	return reply.ProgramID
}

func (b *bench) publish(id events.ProgramID, typ events.Type, data string) {
	b.t.Helper()
	if _, err := b.nc.RequestWithContext(b.ctx, events.EventSubject(id, typ), []byte(data)); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) history(id events.ProgramID, fields string) (reply wire.HistoryReply) {
	b.t.Helper()
	b.mustAsk(events.APISubject(id.User(), wire.VerbHistory), fmt.Sprintf(`{"programId":%q%s}`, id, fields), &reply)
	return reply
}

// settle waits until a program is in a state.
func (b *bench) settle(id events.ProgramID, want reducer.State) {
	b.t.Helper()
	news := make(chan *nats.Msg, 64)
	sub, err := b.nc.ChanSubscribe(events.FeedSubject(id, "*"), news)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	for {
		var reply wire.GetReply
		b.mustAsk(events.APISubject(id.User(), wire.VerbGet), fmt.Sprintf(`{"programId":%q}`, id), &reply)
		if reply.State.State == want {
			return
		}
		select {
		case <-news:
		case <-b.ctx.Done():
			b.t.Fatalf("%s is %s, want %s", id, reply.State.State, want)
		}
	}
}

func TestCreate(t *testing.T) {
	b := newBench(t)
	subject := events.APISubject("alice", wire.VerbCreate)
	if code, sentence := b.ask(subject, `{"sourceDigest":"`+string(digest)+`"}`, nil); code != wire.CodeConflict || !strings.Contains(sentence, "upload it first") {
		t.Errorf("create without a source: %d %s", code, sentence)
	}
	b.upload("alice")
	if code, _ := b.ask(events.APISubject("bob", wire.VerbCreate), `{"sourceDigest":"`+string(digest)+`"}`, nil); code != wire.CodeConflict {
		t.Errorf("create from another user's source: %d", code)
	}

	own := events.NewProgramID("alice", build)
	body := fmt.Sprintf(`{"programId":%q,"sourceDigest":%q,"limits":{"pids":7}}`, own, digest)
	for range 3 {
		var reply wire.CreateReply
		b.mustAsk(subject, body, &reply)
		if reply.ProgramID != own || reply.BuildID != build {
			t.Fatalf("create: %+v", reply)
		}
	}
	if got := b.history(own, ""); got.Head != 1 || len(got.Steps) != 1 || got.Steps[0].Type != events.TypeProgramCreated {
		t.Errorf("history after three creates of one ID: %+v", got)
	}
	other := fmt.Sprintf(`{"programId":%q,"sourceDigest":%q,"limits":{"pids":8}}`, own, digest)
	if code, sentence := b.ask(subject, other, nil); code != wire.CodeConflict {
		t.Errorf("create with other limits: %d %s", code, sentence)
	}

	// It is in the read model at once.
	var list wire.ListReply
	b.mustAsk(events.APISubject("alice", wire.VerbList), ``, &list)
	if len(list.Programs) != 1 || list.Programs[0].State.ID != own || list.Programs[0].State.Limits.Pids != 7 || list.Next != "" {
		t.Errorf("list: %+v", list)
	}
}

func TestBadRequests(t *testing.T) {
	b := newBench(t)
	id := b.create("alice")
	long := strings.Repeat("x", wire.MaxRequestBytes+1)
	for _, c := range []struct {
		subject, body string
		code          int
		says          string
	}{
		{"hersh.api.alice.get", `{}`, 400, "is not {user}-{build}-{uuid}"},
		{"hersh.api.alice.get", `{"programId":"../etc"}`, 400, "is not {user}-{build}-{uuid}"},
		{"hersh.api.alice.get", `{"programId":7}`, 400, "cannot be understood"},
		{"hersh.api.alice.get", `garbage`, 400, "not a JSON object"},
		{"hersh.api.alice.get", `[]`, 400, "not a JSON object"},
		{"hersh.api.alice.get", `null`, 400, "not a JSON object"},
		{"hersh.api.alice.get", `{"programId":"` + string(id) + `"} {}`, 400, "something follows"},
		{"hersh.api.alice.get", `{"programId":"` + string(id) + `","extra":1}`, 400, "unknown field"},
		{"hersh.api.alice.get", `{"programId":"` + long + `"}`, 400, "bytes, more than"},
		{"hersh.api.alice.get", `{"` + strings.Repeat("a\\r\\nNats-Service-Error-Code: 1", 30) + `":1}`, 400, "unknown field"},
		{"hersh.api.bob.get", `{"programId":"` + string(id) + `"}`, 404, "there is no program"},
		{"hersh.api.Alice.get", `{"programId":"` + string(id) + `"}`, 400, "does not name a user"},
		{"hersh.api.bob.history", `{"programId":"` + string(id) + `"}`, 404, "there is no program"},
		{"hersh.api.bob.logs", `{"programId":"` + string(id) + `"}`, 404, "there is no program"},
		{"hersh.api.bob.delete", `{"programId":"` + string(id) + `"}`, 404, "there is no program"},
		{"hersh.api.bob.create", `{"programId":"` + string(id) + `","sourceDigest":"` + string(digest) + `"}`, 404, "there is no program"},
		{"hersh.api.alice.history", `{"programId":"` + string(id) + `","limit":-1}`, 400, "negative"},
		{"hersh.api.alice.history", `{"programId":"` + string(id) + `","after":-1}`, 400, "cannot be understood"},
		{"hersh.api.alice.history", `{"programId":"` + string(id) + `","at":{}}`, 400, "needs a seq or a time"},
		{"hersh.api.alice.history", `{"programId":"` + string(id) + `","at":{"seq":1,"time":"2026-01-01T00:00:00Z"}}`, 400, "not both"},
		{"hersh.api.alice.history", `{"programId":"` + string(id) + `","at":{"seq":2}}`, 400, "ends at event 1"},
		{"hersh.api.alice.history", `{"programId":"` + string(id) + `","at":{"time":"2001-01-01T00:00:00Z"}}`, 400, "did not exist"},
		{"hersh.api.alice.logs", `{"programId":"` + string(id) + `","stream":"*"}`, 400, "there is no log stream"},
		{"hersh.api.alice.logs", `{"programId":"` + string(id) + `","stream":"stdout.>"}`, 400, "there is no log stream"},
		{"hersh.api.alice.create", `{}`, 400, "source digest"},
		{"hersh.api.alice.create", `{"sourceDigest":"ABC"}`, 400, "source digest"},
		{"hersh.api.alice.create", `{"sourceDigest":"` + string(digest) + `","limits":{"pids":-1}}`, 400, "negative"},
		{"hersh.api.alice.create", `{"sourceDigest":"` + strings.Repeat("f", 64) + `","programId":"` + string(id) + `"}`, 400, "is not one of build"},
		{"hersh.api.alice.list", `{"limit":"all"}`, 400, "cannot be understood"},
		{"hersh.hosts.register", `{"hostId":"any"}`, 400, "reserved"},
		{"hersh.hosts.register", `{"hostId":"a.b"}`, 400, "character other than"},
		{"hersh.hosts.list", `{"x":1}`, 400, "unknown field"},
		{"hersh.hosts.drain", `{}`, 400, "host ID"},
		{"hersh.hosts.drain", `{"hostId":"a.b","drained":true}`, 400, "character other than"},
		{"hersh.hosts.drain", `{"hostId":"h9","drained":true}`, 400, "there is no host h9; known are fake-host"},
		{"hersh.hosts.drain", `{"hostId":"h9","drained":false}`, 400, "there is no host h9; known are fake-host"},
		{"hersh.hosts.drain", `{"hostId":"fake-host","stop":true}`, 400, "only what is on a host that is drained"},
	} {
		code, sentence := b.ask(c.subject, c.body, nil)
		if code != c.code || !strings.Contains(sentence, c.says) || len(sentence) > 600 {
			t.Errorf("%s %.80s: %d %q, want %d …%s…", c.subject, c.body, code, sentence, c.code, c.says)
		}
	}
	if got := b.history(id, ""); got.Head != 1 {
		t.Errorf("bad requests changed the log: %+v", got)
	}
	gone := events.NewProgramID("alice", build)
	for _, verb := range []string{wire.VerbGet, wire.VerbHistory, wire.VerbLogs, wire.VerbDelete} {
		if code, _ := b.ask(events.APISubject("alice", verb), fmt.Sprintf(`{"programId":%q}`, gone), nil); code != wire.CodeNotFound {
			t.Errorf("%s of a program that never was: %d, want 404", verb, code)
		}
	}
}

func TestHistoryPages(t *testing.T) {
	b := newBench(t)
	id := b.create("alice")
	b.publish(id, "UserStartRequested", `{}`)
	b.settle(id, reducer.StateReady)
	for i := range 20 {
		b.publish(id, "UserStopRequested", fmt.Sprintf(`garbage %d`, i))
	}
	all := b.history(id, `,"states":true`)
	if len(all.Steps) != int(all.Head) || all.More || all.Next != all.Head || all.At != nil {
		t.Fatalf("one page for all: %d steps, head %d, next %d, more %v", len(all.Steps), all.Head, all.Next, all.More)
	}
	var paged []wire.Step
	after := uint64(0)
	for pages := 1; ; pages++ {
		page := b.history(id, fmt.Sprintf(`,"states":true,"limit":3,"after":%d`, after))
		if len(page.Steps) > 3 || page.Head != all.Head {
			t.Fatalf("page after %d: %d steps, head %d", after, len(page.Steps), page.Head)
		}
		paged, after = append(paged, page.Steps...), page.Next
		if !page.More {
			break
		}
		if pages > len(all.Steps) {
			t.Fatal("the pages do not end")
		}
	}
	want, _ := json.Marshal(all.Steps)
	got, _ := json.Marshal(paged)
	if !bytes.Equal(want, got) {
		t.Errorf("the pages together are\n%s\nwant\n%s", got, want)
	}
	last := all.Steps[len(all.Steps)-1]
	if last.Rejected == "" || string(last.Data) != "garbage 19" || last.Event != nil || last.State.State != reducer.StateReady {
		t.Errorf("the last step is %+v", last)
	}
	if page := b.history(id, fmt.Sprintf(`,"after":%d`, all.Head)); len(page.Steps) != 0 || page.More || page.Next != all.Head {
		t.Errorf("page after the end: %+v", page)
	}
}

// TestHistoryBytes fills a page to its limit of bytes: the reply must fit into a message.
func TestHistoryBytes(t *testing.T) {
	b := newBench(t)
	id := b.create("alice")
	reason := strings.Repeat(`\"`, events.MaxText) // A quote is four bytes here: escaped, in a string of JSON.
	const n = 80
	for range n {
		b.publish(id, "StartFailed", `{"reason":"`+reason+`"}`)
	}
	seen, after := 0, uint64(0)
	for page := (wire.HistoryReply{More: true}); page.More; after = page.Next {
		page = b.history(id, fmt.Sprintf(`,"states":true,"after":%d`, after))
		seen += len(page.Steps)
		if data, _ := json.Marshal(page); len(data) > wire.MaxPageBytes+1000 {
			t.Fatalf("a page has %d bytes", len(data))
		}
		if len(page.Steps) == 0 {
			t.Fatal("an empty page before the end")
		}
	}
	if seen != n+1 {
		t.Errorf("saw %d steps, want %d", seen, n+1)
	}
}

func TestHistoryAt(t *testing.T) {
	b := newBench(t)
	id := b.create("alice")
	b.publish(id, "UserStartRequested", `{}`)
	b.settle(id, reducer.StateReady)
	for seq, state := range map[int]reducer.State{1: reducer.StateCreated, 2: reducer.StateBuilding, 4: reducer.StateStarting, 5: reducer.StateReady} {
		got := b.history(id, fmt.Sprintf(`,"at":{"seq":%d}`, seq))
		if got.At == nil || got.At.State.State != state || got.At.Seq != uint64(seq) || len(got.Steps) != seq || got.Head != 5 || got.More {
			t.Errorf("at %d: %+v", seq, got)
		}
	}
	all := b.history(id, "")
	got := b.history(id, fmt.Sprintf(`,"limit":1,"at":{"time":%q}`, all.Steps[1].Time.Format(time.RFC3339Nano)))
	if got.At == nil || got.At.Seq != 2 || len(got.Steps) != 1 || !got.More {
		t.Errorf("at the time of event 2: %+v", got)
	}
}

func TestGetTellsSinceWhen(t *testing.T) {
	b := newBench(t)
	id := b.create("alice")
	b.publish(id, "UserStartRequested", `{}`)
	b.settle(id, reducer.StateReady)
	b.publish(id, "UserStartRequested", `{}`) // Changes nothing.
	var got wire.GetReply
	b.mustAsk(events.APISubject("alice", wire.VerbGet), fmt.Sprintf(`{"programId":%q}`, id), &got)
	all := b.history(id, "")
	if got.Seq != 6 || got.State.State != reducer.StateReady || got.State.HostID != hershtest.HostID || got.Digest == "" {
		t.Errorf("get: %+v", got)
	}
	if !got.Since.Equal(all.Steps[4].Time) || !got.Time.Equal(all.Steps[5].Time) {
		t.Errorf("since %v, time %v; want those of events 5 and 6 of %+v", got.Since, got.Time, all.Steps)
	}
}

func TestListPages(t *testing.T) {
	b := newBench(t)
	want := map[events.ProgramID]bool{}
	for i := range 7 {
		want[b.create(events.UserID([]string{"alice", "bob"}[i%2]))] = true
	}
	for _, c := range []struct {
		subject string
		want    int
	}{{events.SubjectProgramsList, 7}, {events.APISubject("alice", wire.VerbList), 4}, {events.APISubject("carol", wire.VerbList), 0}} {
		var after, last events.ProgramID
		n := 0
		for {
			var page wire.ListReply
			b.mustAsk(c.subject, fmt.Sprintf(`{"limit":2,"after":%q}`, after), &page)
			for _, cp := range page.Programs {
				if cp.State.ID <= last || !want[cp.State.ID] {
					t.Errorf("%s lists %s after %s", c.subject, cp.State.ID, last)
				}
				last = cp.State.ID
				n++
			}
			if page.Next == "" || n > c.want {
				break
			}
			after = page.Next
		}
		if n != c.want {
			t.Errorf("%s lists %d programs, want %d", c.subject, n, c.want)
		}
	}
}

func TestLogsPages(t *testing.T) {
	b := newBench(t)
	id, other := b.create("alice"), b.create("alice")
	ship := func(id events.ProgramID, stream events.LogStream, data string) {
		if err := b.Bus.ShipLog(b.ctx, id, stream, "", []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	big := strings.Repeat("x", 30<<10)
	var want string
	for i := range 40 {
		stream := []events.LogStream{events.LogStdout, events.LogBuild, events.LogStderr}[i%3]
		ship(id, stream, fmt.Sprintf("%d%s\n", i, big))
		ship(other, stream, "of another program\n")
		if stream != events.LogBuild {
			want += fmt.Sprintf("%d%s\n", i, big)
		}
	}
	read := func(fields string) string {
		var got strings.Builder
		after := uint64(0)
		for {
			var page wire.LogsReply
			b.mustAsk(events.APISubject("alice", wire.VerbLogs), fmt.Sprintf(`{"programId":%q,"after":%d%s}`, id, after, fields), &page)
			for _, c := range page.Chunks {
				got.Write(c.Data)
			}
			if !page.More {
				return got.String()
			}
			if page.Next <= after {
				t.Fatalf("page after %d goes on after %d", after, page.Next)
			}
			after = page.Next
		}
	}
	if got := read(""); got != want {
		t.Errorf("output has %d bytes, want %d", len(got), len(want))
	}
	if got := read(`,"limit":5`); got != want {
		t.Errorf("output in small pages has %d bytes, want %d", len(got), len(want))
	}
	if got := read(`,"stream":"build"`); strings.Count(got, "\n") != 13 {
		t.Errorf("build output has %d lines, want 13", strings.Count(got, "\n"))
	}
}

// Nobody can stop a program any more whose log is full.
func TestDeleteOfAFullLog(t *testing.T) {
	b := newBench(t)
	id := b.create("alice")
	b.publish(id, "UserStartRequested", `{}`)
	b.settle(id, reducer.StateReady)
	js, err := jetstream.New(b.nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(b.ctx, events.ProgramStream(id))
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.MaxMsgsPerSubject = 1
	if _, err := js.UpdateStream(b.ctx, cfg); err != nil {
		t.Fatal(err)
	}
	// A host that publishes through an account of its own hears of it as from the stream.
	subject := events.ResultSubject("h1", string(id.User()), string(id), events.TypeRuntimeStarted)
	answer, err := b.nc.RequestWithContext(b.ctx, subject, []byte(`{"hostId":"h1","attempt":1,"containerId":"c"}`))
	if err != nil || !strings.Contains(string(answer.Data), events.LogFullText) {
		t.Errorf("a result is answered %v, %v", answer, err)
	}
	b.mustAsk(events.APISubject("alice", wire.VerbDelete), fmt.Sprintf(`{"programId":%q}`, id), nil)
	if exists, err := b.Bus.Exists(b.ctx, id); err != nil || exists {
		t.Errorf("its log exists: %v, %v", exists, err)
	}
}

func TestDelete(t *testing.T) {
	b := newBench(t)
	id := b.create("alice")
	b.publish(id, "UserStartRequested", `{}`)
	b.settle(id, reducer.StateReady)
	body := fmt.Sprintf(`{"programId":%q}`, id)
	if code, sentence := b.ask(events.APISubject("alice", wire.VerbDelete), body, nil); code != wire.CodeConflict || !strings.Contains(sentence, "it is Ready; stop it first") {
		t.Errorf("delete while it runs: %d %s", code, sentence)
	}
	b.publish(id, "UserStopRequested", `{}`)
	b.settle(id, reducer.StateStopped)
	b.mustAsk(events.APISubject("alice", wire.VerbDelete), body, nil)
	if code, _ := b.ask(events.APISubject("alice", wire.VerbDelete), body, nil); code != wire.CodeNotFound {
		t.Errorf("delete again: %d, want 404", code)
	}
	if exists, err := b.Bus.Exists(b.ctx, id); err != nil || exists {
		t.Errorf("its log exists: %v, %v", exists, err)
	}
	if _, found, err := b.Bus.Load(b.ctx, id); err != nil || found {
		t.Errorf("its checkpoint exists: %v, %v", found, err)
	}
}

func TestHosts(t *testing.T) {
	b := newBench(t)
	var reply wire.RegisterReply
	b.mustAsk(events.SubjectHostsRegister, `{"hostId":"h1"}`, &reply)
	if reply.HostID != "h1" || reply.HostTTLMillis != b.Bus.HostTTL().Milliseconds() || reply.Version == "" {
		t.Errorf("register: %+v", reply)
	}
	if err := b.Bus.Beat(b.ctx, events.Heartbeat{HostID: "h1"}); err != nil {
		t.Fatal(err)
	}
	var hosts wire.HostsReply
	b.mustAsk(events.SubjectHostsList, ``, &hosts)
	found := false
	for _, h := range hosts.Hosts {
		found = found || h.HostID == "h1"
	}
	if !found {
		t.Errorf("hosts: %+v, want h1 among them", hosts)
	}
}

func TestDrain(t *testing.T) {
	b := newBench(t)
	runs, rests := b.create("alice"), b.create("bob")
	b.publish(runs, events.TypeUserStartRequested, `{}`)
	b.settle(runs, reducer.StateReady)
	ask := func(body string, want wire.DrainReply) {
		t.Helper()
		var got wire.DrainReply
		b.mustAsk(events.SubjectHostsDrain, body, &got)
		if got != want {
			t.Errorf("%s gives %+v, want %+v", body, got, want)
		}
	}
	listed := func() wire.Host {
		t.Helper()
		var hosts wire.HostsReply
		b.mustAsk(events.SubjectHostsList, ``, &hosts)
		if len(hosts.Hosts) != 1 || hosts.Hosts[0].HostID != hershtest.HostID {
			t.Fatalf("hosts: %+v", hosts)
		}
		return hosts.Hosts[0]
	}
	const drain = `{"hostId":"fake-host","drained":true}`
	for range 2 {
		ask(drain, wire.DrainReply{HostID: hershtest.HostID, Drained: true, Programs: 1})
	}
	for !listed().Drained { // The host says so with its next heartbeat.
		if b.ctx.Err() != nil {
			t.Fatal("the host does not say that it is drained")
		}
	}
	b.publish(rests, events.TypeUserStartRequested, `{}`)
	b.settle(rests, reducer.StateBuilding)
	status := func(id events.ProgramID) (reply wire.GetReply) {
		b.mustAsk(events.APISubject(id.User(), wire.VerbGet), fmt.Sprintf(`{"programId":%q}`, id), &reply)
		return reply
	}
	if got := status(rests).Waiting; got != "all hosts are drained" {
		t.Errorf("a program without a host waits because %q", got)
	}
	if got := status(runs).Waiting; got != "" {
		t.Errorf("a program that runs waits because %q", got)
	}

	const stop = `{"hostId":"fake-host","drained":true,"stop":true}`
	ask(stop, wire.DrainReply{HostID: hershtest.HostID, Drained: true, Programs: 1, Stopping: 1})
	b.settle(runs, reducer.StateStopped)
	ask(stop, wire.DrainReply{HostID: hershtest.HostID, Drained: true})
	last := b.history(runs, "").Steps
	if step := last[len(last)-2]; step.Type != events.TypeHostDrained || step.To != reducer.StateStopping || step.Host != hershtest.HostID {
		t.Errorf("the history says %+v", step)
	}
	if state := status(runs).State; state.HostID != hershtest.HostID {
		t.Errorf("a program that was stopped lost its place: %+v", state)
	}
	for range 2 {
		ask(`{"hostId":"fake-host","drained":false}`, wire.DrainReply{HostID: hershtest.HostID})
	}
	b.settle(rests, reducer.StateReady)
	for h := listed(); h.Drain || h.Drained; h = listed() { // The host says so with its next heartbeat.
		if b.ctx.Err() != nil {
			t.Fatalf("the host is %+v, want it not drained", h)
		}
	}
	if err := b.Bus.Drain(b.ctx, "h2", true); err != nil { // Somebody drained it, and it is away.
		t.Fatal(err)
	}
	var hosts wire.HostsReply
	b.mustAsk(events.SubjectHostsList, ``, &hosts)
	if len(hosts.Hosts) != 2 || hosts.Hosts[1].HostID != "h2" || !hosts.Hosts[1].Drain || !hosts.Hosts[1].Away {
		t.Errorf("hosts: %+v, want h2, drained and away", hosts)
	}
	ask(`{"hostId":"h2","drained":false}`, wire.DrainReply{HostID: "h2"})
}

// A program whose effects find no room is shown as it is, can be stopped, and goes on once a host has taken what waits.
func TestProgramWithABacklog(t *testing.T) {
	b := newBench(t)
	id := b.create("alice")
	b.mustAsk(events.SubjectHostsDrain, `{"hostId":"fake-host","drained":true}`, nil)
	for hosts := (wire.HostsReply{}); len(hosts.Hosts) != 1 || !hosts.Hosts[0].Drained; { // The host says so with its next heartbeat.
		hosts = wire.HostsReply{}
		b.mustAsk(events.SubjectHostsList, ``, &hosts)
	}
	for n := range int64(effects.MaxWaiting) {
		build := effects.BuildRuntime{ProgramID: id}
		if err := b.Bus.PublishEffects(b.ctx, effects.Message{ProgramID: id, Seq: 1, Time: time.Unix(n, 0), Effects: []effects.Effect{build}}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		b.publish(id, events.TypeUserStartRequested, `{}`)
		b.settle(id, reducer.StateBuilding)
		var page wire.ListReply
		b.mustAsk(events.APISubject("alice", wire.VerbList), ``, &page)
		if len(page.Programs) != 1 || page.Programs[0].State.ID != id {
			t.Errorf("the list has %+v", page.Programs)
		}
		b.mustAsk(events.APISubject("alice", wire.VerbCreate), fmt.Sprintf(`{"programId":%q,"sourceDigest":%q}`, id, digest), nil) // Again changes nothing.
		b.publish(id, events.TypeUserStopRequested, `{}`)
		b.settle(id, reducer.StateStopped)
	}
	b.publish(id, events.TypeUserStartRequested, `{}`)
	b.settle(id, reducer.StateBuilding)
	b.mustAsk(events.SubjectHostsDrain, `{"hostId":"fake-host","drained":false}`, nil)
	b.settle(id, reducer.StateReady)
}

func TestMicroServiceIsFound(t *testing.T) {
	b := newBench(t)
	subject, err := micro.ControlSubject(micro.InfoVerb, events.ServiceName, "")
	if err != nil {
		t.Fatal(err)
	}
	var info micro.Info
	answer, err := b.nc.RequestWithContext(b.ctx, subject, nil)
	if err == nil {
		err = json.Unmarshal(answer.Data, &info)
	}
	if err != nil || info.Name != "hersh" {
		t.Errorf("info: %+v, %v", info, err)
	}
	for _, verb := range []string{"create", "list", "get", "history", "logs", "delete"} {
		if !slices.ContainsFunc(info.Endpoints, func(e micro.EndpointInfo) bool { return e.Subject == "hersh.api.*."+verb }) {
			t.Errorf("there is no endpoint for %s: %+v", verb, info.Endpoints)
		}
	}
}
