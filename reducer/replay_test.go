package reducer_test

import (
	"encoding/json"
	"errors"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

// sequence is a log that is read without an error.
func sequence(log []events.Stored) iter.Seq2[events.Stored, error] {
	return func(yield func(events.Stored, error) bool) {
		for _, stored := range log {
			if !yield(stored, nil) {
				return
			}
		}
	}
}

func stored(seq uint64, typ events.Type, data string) events.Stored {
	return events.Stored{Seq: seq, Time: time.Unix(int64(seq), 0).UTC(), Type: typ, Data: []byte(data)}
}

func TestNextRefusesWrongOrder(t *testing.T) {
	at, _, err := reducer.NewCheckpoint(alice).Next(stored(5, events.TypeUserStartRequested, `{}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, seq := range []uint64{0, 4, 5} {
		got, step, err := at.Next(stored(seq, events.TypeUserStopRequested, `{}`))
		if err == nil || got != at || step.Seq != 0 {
			t.Errorf("event %d after event 5 gave %+v, %+v, %v", seq, got, step, err)
		}
		if err != nil && !strings.Contains(err.Error(), string(alice)) {
			t.Errorf("the error does not name the program: %v", err)
		}
	}
	if _, _, err := reducer.NewCheckpoint(alice).Next(stored(0, events.TypeUserStartRequested, `{}`)); err == nil {
		t.Error("sequence 0 is accepted")
	}
}

func TestNextKeepsTimeAndRejection(t *testing.T) {
	at, step, err := reducer.NewCheckpoint(alice).Next(stored(3, "UserPaused", `{}`))
	if err != nil || !errors.Is(step.Reject, events.ErrUnknownType) || step.Type != "UserPaused" || step.Event != nil {
		t.Errorf("an unknown type gave %+v, %v", step, err)
	}
	if want := time.Unix(3, 0).UTC(); at.Seq != 3 || !at.Time.Equal(want) || !step.Time.Equal(want) || step.Seq != 3 {
		t.Errorf("checkpoint %+v and step %+v, want sequence 3 at %v", at, step, want)
	}
	if at.State != reducer.NewProgramState(alice, build) || at.Digest == "" {
		t.Errorf("a rejected event counts in the digest and nowhere else: %+v", at)
	}
}

func TestReplayEndsAtTheFirstError(t *testing.T) {
	broken := errors.New("the connection is closed")
	for name, log := range map[string]iter.Seq2[events.Stored, error]{
		"of the log": func(yield func(events.Stored, error) bool) {
			_ = yield(stored(1, events.TypeUserStartRequested, `{}`), nil) &&
				yield(events.Stored{}, broken) && yield(stored(2, events.TypeUserStopRequested, `{}`), nil)
		},
		"of its order": sequence([]events.Stored{
			stored(1, events.TypeUserStartRequested, `{}`), stored(1, events.TypeUserStartRequested, `{}`), stored(2, events.TypeUserStopRequested, `{}`),
		}),
	} {
		t.Run(name, func(t *testing.T) {
			var seqs []uint64
			var errs []error
			for step, err := range reducer.Replay(reducer.NewCheckpoint(alice), log) {
				seqs, errs = append(seqs, step.Seq), append(errs, err)
			}
			if len(seqs) != 2 || seqs[0] != 1 || errs[0] != nil || seqs[1] != 0 || errs[1] == nil {
				t.Fatalf("sequences %v with errors %v", seqs, errs)
			}
			if name == "of the log" && !errors.Is(errs[1], broken) {
				t.Errorf("the error is %v", errs[1])
			}
		})
	}
}

// TestReplayStops checks that a reader who has seen enough ends the reading of the log too.
func TestReplayStops(t *testing.T) {
	read := 0
	log := func(yield func(events.Stored, error) bool) {
		for seq := uint64(1); yield(stored(seq, events.TypeUserStartRequested, `{}`), nil); seq++ {
			read++
		}
	}
	for step, err := range reducer.Replay(reducer.NewCheckpoint(alice), log) {
		if err != nil {
			t.Fatal(err)
		}
		if step.Seq == 3 {
			break
		}
	}
	if read != 2 {
		t.Errorf("the log was asked for %d more events after the reader stopped", read-2)
	}
}

// TestDigestForEver fixes the digest of one log. Recorded digests must be right for ever: when this fails, do not change
// the number but the code.
func TestDigestForEver(t *testing.T) {
	at := reducer.NewCheckpoint(alice)
	for _, s := range []events.Stored{
		stored(1, events.TypeProgramCreated, `{"buildId":"build-0123456789ab","sourceDigest":"`+string(digest)+`"}`),
		stored(2, events.TypeUserStartRequested, `{}`),
		stored(7, "UserPaused", `garbage`),
	} {
		var err error
		if at, _, err = at.Next(s); err != nil {
			t.Fatal(err)
		}
	}
	if want := reducer.Digest("2d69651331289925691dbdbe2a575eb28b9d5dcff3affc93ae3a005c43129ff6"); at.Digest != want {
		t.Errorf("digest %s, want %s", at.Digest, want)
	}
}

// TestCheckpointJSON fixes the form in which checkpoints are stored.
func TestCheckpointJSON(t *testing.T) {
	at, _, err := reducer.NewCheckpoint(alice).Next(stored(1, events.TypeUserStartRequested, `{}`))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"seq":1,"state":{"id":"` + string(alice) + `","state":"Building","buildId":"build-0123456789ab","attempt":1},` +
		`"digest":"` + string(at.Digest) + `","time":"1970-01-01T00:00:01Z"}`
	if got, err := json.Marshal(at); err != nil || string(got) != want {
		t.Errorf("got  %s, %v\nwant %s", got, err, want)
	}
}

func TestStateText(t *testing.T) {
	names := []string{"Created", "Building", "Starting", "Ready", "Stopping", "Stopped", "Error"}
	for i, name := range names {
		state := reducer.State(i) // The seed's numbers.
		text, err := state.MarshalText()
		var back reducer.State
		if err != nil || string(text) != name || state.String() != name || back.UnmarshalText(text) != nil || back != state {
			t.Errorf("state %d is %q (%s), %v and back %v", i, text, state, err, back)
		}
	}
	for _, none := range []reducer.State{-1, reducer.State(len(names))} {
		if text, err := none.MarshalText(); err == nil || !strings.HasPrefix(none.String(), "State(") {
			t.Errorf("%s marshals to %q", none, text)
		}
	}
	for _, text := range []string{"", "ready", "Ready ", "3", strings.Repeat("x", 10_000)} {
		back := reducer.StateReady
		if err := back.UnmarshalText([]byte(text)); err == nil || back != reducer.StateReady || len(err.Error()) > 200 {
			t.Errorf("%.20q unmarshals to %s, %.300v", text, back, err)
		}
	}
}

func TestReduceRefusesOtherPrograms(t *testing.T) {
	s := reducer.NewProgramState("my-prog", "build-123")
	for _, ev := range []events.Event{
		events.UserStartRequested{ProgramID: "other"}, events.UserStopRequested{ProgramID: "other"}, events.UserRestartRequested{ProgramID: "other"},
	} {
		if next, effs := reducer.Reduce(s, ev); next != s || effs != nil || !strings.Contains(reducer.Explain(s, ev), "another program") {
			t.Errorf("%s of another program: %+v, %+v, %q", ev.Type(), next, effs, reducer.Explain(s, ev))
		}
	}
}
