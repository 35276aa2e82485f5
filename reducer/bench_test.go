package reducer_test

import (
	"strings"
	"testing"
	"time"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

// moves is what Reduce is measured on: events that have no effects, and that do not compose an error message.
func moves() []struct {
	name  string
	state reducer.ProgramState
	event events.Event
} {
	state := func(s reducer.State, container string) reducer.ProgramState {
		p := reducer.NewProgramState(alice, build)
		p.State, p.HostID, p.Attempt, p.ContainerID = s, "h1", 2, container
		return p
	}
	now, late := events.Origin{HostID: "h1", Attempt: 2}, events.Origin{HostID: "h1", Attempt: 1}
	return []struct {
		name  string
		state reducer.ProgramState
		event events.Event
	}{
		{"ProgramCreated", reducer.NewProgramState(alice, build), events.ProgramCreated{BuildID: build, SourceDigest: digest}},
		{"FoldersEnsured", state(reducer.StateBuilding, ""), events.FoldersEnsured{Origin: now, Success: true}},
		{"RuntimeStarted", state(reducer.StateStarting, ""), events.RuntimeStarted{Origin: now, ContainerID: "c1"}},
		{"StopFinished", state(reducer.StateStopping, "c1"), events.StopFinished{Origin: now, ContainerID: "c1", Success: true}},
		{"UserStopRequested", state(reducer.StateBuilding, ""), events.UserStopRequested{ProgramID: alice}},
		{"ignored wish", state(reducer.StateReady, "c1"), events.UserStartRequested{ProgramID: alice}},
		{"late result", state(reducer.StateReady, "c1"), events.BuildFinished{Origin: late, Success: true, ImageID: "i1"}},
		{"lost elsewhere", state(reducer.StateReady, "c1"), events.HostLost{HostID: "h2"}},
		{"unknown", state(reducer.StateReady, "c1"), nil},
	}
}

func TestReduceDoesNotAllocate(t *testing.T) {
	for _, m := range moves() {
		if _, effs := reducer.Reduce(m.state, m.event); len(effs) > 0 {
			t.Errorf("%s has effects", m.name)
		}
		if n := testing.AllocsPerRun(100, func() { reducer.Reduce(m.state, m.event) }); n != 0 {
			t.Errorf("%s allocates %v times", m.name, n)
		}
	}
}

func BenchmarkReduce(b *testing.B) {
	for _, m := range moves() {
		b.Run(m.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				reducer.Reduce(m.state, m.event)
			}
		})
	}
	b.Run("with effects", func(b *testing.B) {
		b.ReportAllocs()
		s := reducer.NewProgramState(alice, build)
		for b.Loop() {
			reducer.Reduce(s, events.UserStartRequested{})
		}
	})
}

// BenchmarkReplay is a log of 10,000 events: lives of a program, one after the other, decoded, reduced and hashed.
func BenchmarkReplay(b *testing.B) {
	log := longLog(b, 10_000)
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for _, err := range reducer.Replay(reducer.NewCheckpoint(alice), sequence(log)) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n != len(log) {
			b.Fatalf("replayed %d events", n)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(log)), "ns/event")
}

// TestLongReplay replays such a log once and checks where it ends.
func TestLongReplay(t *testing.T) {
	const lives = 1000
	log := longLog(t, lives*6)
	var last reducer.Step
	for step, err := range reducer.Replay(reducer.NewCheckpoint(alice), sequence(log)) {
		if err != nil || step.Reject != nil || step.Ignored != "" {
			t.Fatalf("event %d: %v, %v, %s", step.Seq, err, step.Reject, step.Ignored)
		}
		last = step
	}
	want := reducer.NewProgramState(alice, build)
	want.State, want.HostID, want.ImageID, want.Attempt = reducer.StateStopped, "h1", "sha256:"+strings.Repeat("ab", 32), lives
	if last.After != want {
		t.Errorf("the log ends in %+v, want %+v", last.After, want)
	}
}

// longLog makes lives of six events each.
func longLog(t testing.TB, n int) []events.Stored {
	log := make([]events.Stored, 0, n)
	container := strings.Repeat("c0ffee42", 8)
	for len(log) < n {
		o := events.Origin{HostID: "h1", Attempt: uint64(len(log)/6) + 1}
		for _, ev := range []events.Event{
			events.UserStartRequested{}, events.FoldersEnsured{Origin: o, Success: true},
			events.BuildFinished{Origin: o, Success: true, ImageID: "sha256:" + strings.Repeat("ab", 32)},
			events.RuntimeStarted{Origin: o, ContainerID: container}, events.UserStopRequested{},
			events.StopFinished{Origin: o, ContainerID: container, Success: true},
		} {
			data, err := events.Encode(ev)
			if err != nil {
				t.Fatal(err)
			}
			seq := uint64(len(log) + 1)
			log = append(log, events.Stored{Seq: seq, Time: time.Unix(int64(seq), 0).UTC(), Type: ev.Type(), Data: data})
		}
	}
	return log[:n]
}
