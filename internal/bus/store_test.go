package bus_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/bus"
	"github.com/rlaaudgjs5638/hersh/internal/bus/bustest"
	"github.com/rlaaudgjs5638/hersh/internal/natstest"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

func checkpoint(id events.ProgramID, seq uint64) reducer.Checkpoint {
	cp := reducer.NewCheckpoint(id)
	cp.Seq = seq
	return cp
}

func TestDrains(t *testing.T) {
	t.Parallel()
	b := hasty(t, natstest.Start(t))
	check := func(want ...events.HostID) {
		t.Helper()
		drains, err := b.Drains(t.Context())
		if err != nil || len(drains) != len(want) {
			t.Fatalf("drained are %v, %v; want %v", drains, err, want)
		}
		for _, host := range []events.HostID{"h1", "h2"} {
			drained, err := b.Drained(t.Context(), host)
			if err != nil || drained != slices.Contains(want, host) || drained == drains[host].IsZero() {
				t.Errorf("%s: drained is %t, %v, since %v; want %v", host, drained, err, drains[host], want)
			}
		}
	}
	drain := func(host events.HostID, drained bool) {
		t.Helper()
		if err := b.Drain(t.Context(), host, drained); err != nil {
			t.Fatal(err)
		}
	}
	check()
	drain("h1", false)
	check()
	drain("h1", true)
	first, err := b.Drains(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	drain("h1", true)
	again, err := b.Drains(t.Context())
	if err != nil || !first["h1"].Equal(again["h1"]) {
		t.Errorf("drained since %v, and then since %v (%v)", first, again, err)
	}
	drain("h2", true)
	check("h1", "h2")
	drain("h1", false)
	check("h2")
	drain("h1", true)
	check("h1", "h2")
}

func TestNewestOfConcurrentCheckpointsStays(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	buses := []*bus.Bus{hasty(t, srv), hasty(t, srv), hasty(t, srv)}
	id, _ := bustest.NewProgram("alice", 1)
	const perBus = 20
	errs := make(chan error, len(buses)*perBus)
	each(t, len(buses), func(i int) error {
		for n := range perBus {
			errs <- buses[i].Save(t.Context(), checkpoint(id, uint64(1+n*len(buses)+i)), false)
		}
		return nil
	})
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Errorf("save: %v", err)
		}
	}
	cp, found, err := buses[0].Load(t.Context(), id)
	if err != nil || !found || cp.Seq != uint64(len(buses)*perBus) {
		t.Errorf("the checkpoint is of event %d (%v, %v), want %d", cp.Seq, found, err, len(buses)*perBus)
	}
}

func TestUnreadableCheckpointsAreNone(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	b := hasty(t, srv)
	id, _ := bustest.NewProgram("alice", 1)
	other, _ := bustest.NewProgram("alice", 2)
	for _, value := range []string{"", "{", "null", "{}", `{"seq":3}`, "\xff",
		fmt.Sprintf(`{"version":%d,"seq":3,"state":{"id":%q,"state":"Ready","buildId":""},"digest":""}`, reducer.Version, other),
		fmt.Sprintf(`{"version":%d,"seq":3,"state":{"id":%q,"state":"Ready","buildId":""},"digest":""}`, reducer.Version+1, id), // Folded by other rules.
		fmt.Sprintf(`{"seq":3,"state":{"id":%q,"state":"Ready","buildId":""},"digest":""}`, id)} {
		spoil(t, srv, id, value)
		if cp, found, err := b.Load(t.Context(), id); found || err != nil {
			t.Errorf("checkpoint %q loads as %+v, %v", value, cp, err)
		}
		for cp, err := range b.Checkpoints(t.Context(), "") {
			t.Errorf("checkpoint %q is listed as %+v, %v", value, cp, err)
		}
		if err := b.Save(t.Context(), checkpoint(id, 1), false); err != nil {
			t.Errorf("save over checkpoint %q: %v", value, err)
		}
	}
}

func TestDeletedBucketIsAnError(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	b := hasty(t, srv)
	id, _ := bustest.NewProgram("alice", 1)
	if err := b.Save(t.Context(), checkpoint(id, 1), false); err != nil {
		t.Fatal(err)
	}
	js, err := srv.Conn(t).JetStream()
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteKeyValue(events.BucketPrograms); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	if _, _, err := b.Load(ctx, id); err == nil {
		t.Error("load from a deleted bucket is no error")
	}
	if err := b.Save(ctx, checkpoint(id, 2), false); err == nil {
		t.Error("save into a deleted bucket is no error")
	}
	failed := false
	for _, err := range b.Checkpoints(ctx, "") {
		failed = err != nil
	}
	if !failed || ctx.Err() != nil {
		t.Errorf("list of a deleted bucket: failed %v, %v", failed, ctx.Err())
	}
	if err := b.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	if _, found, err := b.Load(ctx, id); found || err != nil {
		t.Errorf("after provisioning again: %v, %v", found, err)
	}
}

// The listing is under way when the bucket goes: the caller must get an error and no hang.
func TestBucketDeletedWhileItIsListed(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	b := hasty(t, srv)
	const n = 600 // More than a client buffers of a watch before its caller reads.
	js, err := srv.Conn(t).JetStream()
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		id, _ := bustest.NewProgram("alice", i)
		if err := b.Save(t.Context(), checkpoint(id, 1), false); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	seen := 0
	for _, err := range b.Checkpoints(ctx, "") {
		if err != nil {
			break
		}
		if seen++; seen == 1 {
			if err := js.DeleteKeyValue(events.BucketPrograms); err != nil {
				t.Fatal(err)
			}
		}
	}
	if ctx.Err() != nil {
		t.Errorf("the listing hung after %d of %d", seen, n)
	}
}

func TestHostThatSaysNothingIsGone(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	b := hasty(t, srv)
	hosts := func() string {
		list, err := b.Hosts(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, beat := range list {
			out = append(out, fmt.Sprintf("%s:%d", beat.HostID, beat.Running))
		}
		return strings.Join(out, " ")
	}
	for _, beat := range []events.Heartbeat{{HostID: "h2", Running: 1}, {HostID: "h1", Running: 1}, {HostID: "h1", Running: 2}} {
		if err := b.Beat(t.Context(), beat); err != nil {
			t.Fatal(err)
		}
	}
	if got := hosts(); got != "h1:2 h2:1" {
		t.Errorf("hosts are %q", got)
	}
	eventually(t, "the hosts expire", func() bool { return hosts() == "" })
}

// Two executors with one host ID would each take the other's work and containers for their own. Each says so, in words; one that
// follows another does not.
func TestHeartbeatsOfTwoExecutorsWithOneID(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	executor := func() *bus.Bus {
		b, err := bus.New(srv.Conn(t), natstest.Log(t), bus.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	all, first, second, third := hasty(t, srv), executor(), executor(), executor()
	beat := func(b *bus.Bus) string {
		t.Helper()
		if err := b.Beat(t.Context(), events.Heartbeat{HostID: "h1"}); err != nil {
			t.Fatal(err)
		}
		hosts, err := all.Hosts(t.Context())
		if err != nil || len(hosts) != 1 {
			t.Fatalf("the hosts are %v, %v", hosts, err)
		}
		return hosts[0].Problem
	}
	for i, b := range []*bus.Bus{first, first, second, second, second} { // The second comes after the first.
		if problem := beat(b); problem != "" {
			t.Errorf("heartbeat %d says %q", i+1, problem)
		}
	}
	problem := ""
	for range 3 {
		problem = beat(third) + beat(second)
	}
	if strings.Count(problem, "another executor") != 2 {
		t.Errorf("the heartbeats of two at once say %q, want both to say it", problem)
	}
	own := events.Heartbeat{HostID: "h1", Problem: "Docker does not answer"}
	for _, b := range []*bus.Bus{third, second} {
		if err := b.Beat(t.Context(), own); err != nil {
			t.Fatal(err)
		}
	}
	if hosts, err := all.Hosts(t.Context()); err != nil || len(hosts) != 1 || !strings.Contains(hosts[0].Problem, "another executor") || !strings.Contains(hosts[0].Problem, own.Problem) {
		t.Errorf("a host with a trouble of its own is %+v, %v; want both", hosts, err)
	}
	if problem := beat(second); problem != "" {
		t.Errorf("when the other is gone, the heartbeat says %q", problem)
	}
}

func TestSourcesAreWrittenOnce(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	b := hasty(t, srv)
	id, first := bustest.NewProgram("alice", 1)
	if found, err := b.HasSource(t.Context(), "alice", first.SourceDigest); found || err != nil {
		t.Fatalf("before the upload: %v, %v", found, err)
	}
	if _, err := b.OpenSource(t.Context(), "alice", id.Build()); !errors.Is(err, events.ErrNoSource) {
		t.Fatalf("before the upload: %v, want ErrNoSource", err)
	}
	for _, content := range []string{strings.Repeat("first", 100_000), "second"} {
		if err := b.PutSource(t.Context(), "alice", first.SourceDigest, strings.NewReader(content)); err != nil {
			t.Fatal(err)
		}
	}
	source, err := b.OpenSource(t.Context(), "alice", id.Build())
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	data, err := io.ReadAll(source)
	if err != nil || string(data) != strings.Repeat("first", 100_000) {
		t.Errorf("the source has %d bytes (%v), want those of the first upload", len(data), err)
	}
	if found, err := b.HasSource(t.Context(), "bob", first.SourceDigest); found || err != nil {
		t.Errorf("another user's source: %v, %v", found, err)
	}
}

// Two sources may share the 12 digits of a BuildID; the one that was not uploaded must not be taken for there.
func TestSourceOfAnotherDigestIsNotThere(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	b := hasty(t, srv)
	if err := b.PutSource(t.Context(), "alice", bustest.Digest(1), strings.NewReader("one")); err != nil {
		t.Fatal(err)
	}
	if found, err := b.HasSource(t.Context(), "alice", bustest.Digest(2)); found || err != nil {
		t.Errorf("the source of another digest: %v, %v", found, err)
	}
}

func output(t *testing.T, b *bus.Bus, id events.ProgramID, stream events.LogStream, after uint64) string {
	t.Helper()
	var out []string
	for chunk, err := range b.ReadOutput(t.Context(), id, stream, after) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(chunk.Stream)+":"+string(chunk.Data))
	}
	return strings.Join(out, " ")
}

func TestOutputIsReadBackInOrderAndOnce(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	b := hasty(t, srv)
	id, other := create(t, b, 1), create(t, b, 2)
	for _, chunk := range []struct {
		id     events.ProgramID
		stream events.LogStream
		key    string
		data   string
	}{
		{id, events.LogBuild, "k1", "building"},
		{other, events.LogStdout, "o1", "other"},
		{id, events.LogStdout, "k2", "one\x00\xff"},
		{id, events.LogStdout, "k2", "one\x00\xff"}, // Shipped again: its answer was lost.
		{id, events.LogStderr, "k3", "two"},
	} {
		if err := b.ShipLog(t.Context(), chunk.id, chunk.stream, chunk.key, []byte(chunk.data)); err != nil {
			t.Fatal(err)
		}
	}
	if got := output(t, b, id, "*", 0); got != "build:building stdout:one\x00\xff stderr:two" {
		t.Errorf("all output: %q", got)
	}
	if got := output(t, b, id, events.LogStdout, 0); got != "stdout:one\x00\xff" {
		t.Errorf("stdout: %q", got)
	}
	if got := output(t, b, id, "*", 3); got != "stderr:two" {
		t.Errorf("output after 3: %q", got)
	}
	big := strings.Repeat("x", 32<<10)
	for i := range 100 { // More than one request gives.
		if err := b.ShipLog(t.Context(), other, events.LogStdout, fmt.Sprint("big", i), []byte(big)); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := len(output(t, b, other, events.LogStdout, 0)), len("stdout:other")+100*(1+len("stdout:")+len(big)); got != want {
		t.Errorf("long output has %d bytes, want %d", got, want)
	}
}

// Where Remove did not come to its end, whoever removes the checkpoint of a program without a log goes on; not where a log was lost.
func TestDropCheckpointFinishesARemoval(t *testing.T) {
	t.Parallel()
	b := hasty(t, natstest.Start(t))
	for n, lose := range map[int]func(context.Context, events.ProgramID) error{1: b.BeginRemove, 2: b.LoseLog} {
		id := create(t, b, n)
		digest := bustest.Digest(n)
		if err := b.PutSource(t.Context(), "alice", digest, strings.NewReader("tarball")); err != nil {
			t.Fatal(err)
		}
		cp := reducer.NewCheckpoint(id)
		cp.Seq = 1
		if err := b.Save(t.Context(), cp, false); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(lose(t.Context(), id), b.DropCheckpoint(t.Context(), id)); err != nil {
			t.Fatal(err)
		}
		found, err := b.HasSource(t.Context(), "alice", digest)
		if wantSource := n == 2; err != nil || found != wantSource {
			t.Errorf("program %d: its source is there: %t, %v; want %t", n, found, err, wantSource)
		}
		if _, found, err := b.Load(t.Context(), id); err != nil || found {
			t.Errorf("program %d: its checkpoint is there: %t, %v", n, found, err)
		}
	}
}

// A source that is uploaded after the deletion is that of a program which is about to be created, when the sweep comes upon a checkpoint
// that was saved last of all.
func TestDropCheckpointKeepsASourceThatIsNew(t *testing.T) {
	t.Parallel()
	b := hasty(t, natstest.Start(t))
	id, digest := create(t, b, 1), bustest.Digest(1)
	late := reducer.NewCheckpoint(id)
	late.Seq = 1
	for _, what := range []func() error{
		func() error { return b.PutSource(t.Context(), "alice", digest, strings.NewReader("tarball")) },
		func() error { return b.Remove(t.Context(), id) },
		func() error { return b.Save(t.Context(), late, false) },
		func() error { return b.PutSource(t.Context(), "alice", digest, strings.NewReader("tarball")) },
		func() error { return b.DropCheckpoint(t.Context(), id) },
	} {
		if err := what(); err != nil {
			t.Fatal(err)
		}
	}
	if found, err := b.HasSource(t.Context(), "alice", digest); err != nil || !found {
		t.Errorf("the source that was uploaded again is there: %t, %v", found, err)
	}
}

// A program that lived on after its deletion is not taken for deleted when its log is lost: nothing else goes with it, here or on hosts.
func TestALogLostAfterAnEarlierDeletion(t *testing.T) {
	t.Parallel()
	b := hasty(t, natstest.Start(t))
	for n, before := range map[int]func(context.Context, events.ProgramID) error{
		1: func(ctx context.Context, id events.ProgramID) error {
			return errors.Join(b.FailRemove(ctx, id), b.TakeBackDeletion(ctx, id)) // The latter is for the sweep to do.
		},
		2: func(ctx context.Context, id events.ProgramID) error {
			_, first := bustest.NewProgram("alice", 2)
			return errors.Join(b.Remove(ctx, id), b.Create(ctx, id, first))
		},
	} {
		id, digest := create(t, b, n), bustest.Digest(n)
		if err := before(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		cp := afterOneMoreEvent(t, b, id)
		err := errors.Join(
			b.PutSource(t.Context(), "alice", digest, strings.NewReader("tarball")),
			b.ShipLog(t.Context(), id, events.LogStdout, string(id), []byte("printed")),
			b.Save(t.Context(), cp, true),
			b.LoseLog(t.Context(), id), b.DropCheckpoint(t.Context(), id),
		)
		if err != nil {
			t.Fatal(err)
		}
		if found, err := b.HasSource(t.Context(), "alice", digest); err != nil || !found {
			t.Errorf("program %d: its source is there: %t, %v", n, found, err)
		}
		if got := output(t, b, id, "*", 0); got != "stdout:printed" {
			t.Errorf("program %d: what it printed is %q", n, got)
		}
		if _, found, err := b.Load(t.Context(), id); err != nil || found {
			t.Errorf("program %d: its checkpoint is there: %t, %v", n, found, err)
		}
	}
	for id, err := range b.Deletions(t.Context()) {
		t.Errorf("hosts are told that %s was deleted (%v)", id, err)
	}
}

// Whoever publishes while a program is deleted does not keep anything of it, nor its hosts from removing what they have.
func TestAnEventAmidADeletionSavesNothing(t *testing.T) {
	t.Parallel()
	b := hasty(t, natstest.Start(t))
	id, digest := create(t, b, 1), bustest.Digest(1)
	err := errors.Join(
		b.PutSource(t.Context(), "alice", digest, strings.NewReader("tarball")),
		b.ShipLog(t.Context(), id, events.LogStdout, "k", []byte("printed")),
		b.FailRemove(t.Context(), id),
	)
	if err != nil {
		t.Fatal(err)
	}
	cp := afterOneMoreEvent(t, b, id)
	if err := errors.Join(b.Save(t.Context(), cp, true), b.LoseLog(t.Context(), id), b.DropCheckpoint(t.Context(), id)); err != nil {
		t.Fatal(err)
	}
	if found, err := b.HasSource(t.Context(), "alice", digest); err != nil || found {
		t.Errorf("the source is there: %t, %v", found, err)
	}
	if got := output(t, b, id, "*", 0); got != "" {
		t.Errorf("what it printed is %q", got)
	}
	if !noted(t, b, id) {
		t.Error("hosts are not told that the program was deleted")
	}
}

// afterOneMoreEvent publishes one, and returns a checkpoint of the log that it ends.
func afterOneMoreEvent(t *testing.T, b *bus.Bus, id events.ProgramID) reducer.Checkpoint {
	t.Helper()
	if _, err := b.Append(t.Context(), id, events.UserStartRequested{}, ""); err != nil {
		t.Fatal(err)
	}
	head, err := b.Head(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	cp := reducer.NewCheckpoint(id)
	cp.Seq, cp.Time = head.Seq, head.Time
	return cp
}

// noted reports whether hosts are told that a program was deleted.
func noted(t *testing.T, b *bus.Bus, id events.ProgramID) bool {
	t.Helper()
	for deleted, err := range b.Deletions(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if deleted == id {
			return true
		}
	}
	return false
}

// A sweep that comes between the note of a deletion and the end of the log takes the note back.
func TestADeletionThatASweepTakesBackAmidIsNotedAgain(t *testing.T) {
	t.Parallel()
	b := hasty(t, natstest.Start(t))
	id := create(t, b, 1)
	b.AfterRemove(func() {
		if err := b.TakeBackLate(t.Context(), id, func() error { return nil }); err != nil || noted(t, b, id) {
			t.Errorf("the note is still there (%v)", err)
		}
	})
	if err := b.Remove(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if !noted(t, b, id) {
		t.Error("hosts are not told that the program was deleted")
	}
}

func TestTakingBackADeletionLeavesANewerNote(t *testing.T) {
	t.Parallel()
	b := hasty(t, natstest.Start(t))
	id := create(t, b, 1)
	if err := b.FailRemove(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := b.TakeBackLate(t.Context(), id, func() error { return b.Remove(t.Context(), id) }); err != nil {
		t.Fatal(err)
	}
	if !noted(t, b, id) {
		t.Error("the note of the second deletion is gone with that of the first")
	}
}

// What a program has that was created again under its ID, while the deletion was not through or when the sweep finishes it, is its own.
func TestDeletionSparesAProgramThatWasCreatedAgain(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(b *bus.Bus, id events.ProgramID, again func() error) error{
		"Remove": func(b *bus.Bus, id events.ProgramID, again func() error) error {
			var err error
			b.AfterRemove(func() { err = again() })
			return errors.Join(b.Remove(t.Context(), id), err)
		},
		"DropCheckpoint": func(b *bus.Bus, id events.ProgramID, again func() error) error {
			return errors.Join(b.BeginRemove(t.Context(), id), again(), b.FailRemove(t.Context(), id), b.DropCheckpoint(t.Context(), id))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := hasty(t, natstest.Start(t))
			id := create(t, b, 1)
			_, first := bustest.NewProgram("alice", 1)
			err := end(b, id, func() error {
				return errors.Join(
					b.Create(t.Context(), id, first), b.Save(t.Context(), checkpoint(id, 1), true),
					b.ShipLog(t.Context(), id, events.LogStdout, "k", []byte("printed")),
				)
			})
			if err != nil {
				t.Fatal(err)
			}
			if got := output(t, b, id, "*", 0); got != "stdout:printed" {
				t.Errorf("what it printed is %q", got)
			}
			if _, found, err := b.Load(t.Context(), id); err != nil || !found {
				t.Errorf("its checkpoint is there: %t, %v", found, err)
			}
		})
	}
}

// A program is made whole, though nobody can say whether one of its ID was deleted before.
func TestCreateWithoutTheBucketOfDeletions(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	b := hasty(t, srv)
	js, err := srv.Conn(t).JetStream()
	if err == nil {
		err = js.DeleteKeyValue(events.BucketDeleted)
	}
	if err != nil {
		t.Fatal(err)
	}
	id := create(t, b, 1)
	if head, err := b.Head(t.Context(), id); err != nil || head.Seq != 1 {
		t.Errorf("the log goes to %d, %v; want its first event", head.Seq, err)
	}
}

// The source of a program goes with the last program of its user that has it; that the program was deleted is remembered.
func TestRemoveDropsTheLastSource(t *testing.T) {
	t.Parallel()
	b := hasty(t, natstest.Start(t))
	digest := bustest.Digest(1)
	first, created := bustest.NewProgram("alice", 1)
	second := events.NewProgramID("alice", first.Build())
	others := events.NewProgramID("bob", first.Build())
	for _, id := range []events.ProgramID{first, second, others} {
		if err := b.PutSource(t.Context(), id.User(), digest, strings.NewReader("tarball")); err != nil {
			t.Fatal(err)
		}
		if err := b.Create(t.Context(), id, created); err != nil {
			t.Fatal(err)
		}
	}
	check := func(alice, bob bool) {
		t.Helper()
		for user, want := range map[events.UserID]bool{"alice": alice, "bob": bob} {
			if found, err := b.HasSource(t.Context(), user, digest); err != nil || found != want {
				t.Errorf("the source of %s is there: %t, %v; want %t", user, found, err, want)
			}
		}
	}
	remove := func(id events.ProgramID) {
		t.Helper()
		if err := b.Remove(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	remove(first)
	check(true, true)
	remove(first) // Again changes nothing.
	check(true, true)
	remove(second)
	check(false, true)
	if _, err := b.OpenSource(t.Context(), "alice", first.Build()); !errors.Is(err, events.ErrNoSource) {
		t.Errorf("opening the source gives %v, want ErrNoSource", err)
	}
	deleted := map[events.ProgramID]bool{}
	for id, err := range b.Deletions(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		deleted[id] = true
	}
	if len(deleted) != 2 || !deleted[first] || !deleted[second] {
		t.Errorf("remembered as deleted are %v, want the two of alice", deleted)
	}
	if err := b.PutSource(t.Context(), "alice", digest, strings.NewReader("tarball")); err != nil {
		t.Fatal(err)
	}
	check(true, true) // It can come back.
}
