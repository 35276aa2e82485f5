package reducer_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

const logLength = 60

// TestEveryStep checks what must hold of each step of any log.
func TestEveryStep(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		_, steps, _ := drawLog(t, logLength)
		for _, step := range steps {
			checkState(t, step.After)
			checkAttempt(t, step)
			checkEffects(t, step)
			checkExplain(t, step)
		}
	})
}

// checkState checks that each field is set where its meaning says so, and that the state survives its JSON form.
func checkState(t *rapid.T, s reducer.ProgramState) {
	if s.State < reducer.StateCreated || s.State > reducer.StateError {
		t.Fatalf("state %d is none of the seven", s.State)
	}
	if (s.ErrorMsg != "") != (s.State == reducer.StateError) || s.ExitCode != 0 && s.State != reducer.StateError {
		t.Fatalf("%s with error %q and exit code %d", s.State, s.ErrorMsg, s.ExitCode)
	}
	if s.RestartPending && s.State != reducer.StateStopping {
		t.Fatalf("%s with a restart pending", s.State)
	}
	runs := s.State == reducer.StateReady || s.State == reducer.StateStopping
	if runs && s.ContainerID == "" || !runs && s.ContainerID != "" && s.State != reducer.StateError {
		t.Fatalf("%s with container %q", s.State, s.ContainerID)
	}
	if (s.Attempt == 0) != (s.State == reducer.StateCreated) {
		t.Fatalf("%s in attempt %d", s.State, s.Attempt)
	}
	if s.ID != alice || s.BuildID != build {
		t.Fatalf("it became %s of %s", s.ID, s.BuildID)
	}
	data, err := json.Marshal(s)
	var back reducer.ProgramState
	if err != nil || json.Unmarshal(data, &back) != nil || back != s {
		t.Fatalf("%+v\nbecame %s, %v\nand then %+v", s, data, err, back)
	}
}

func checkAttempt(t *rapid.T, step reducer.Step) {
	want := step.Before.Attempt
	if step.After.State == reducer.StateBuilding && (step.Before.State != reducer.StateBuilding || movesBuild(step)) {
		want++
	}
	if step.After.Attempt != want {
		t.Fatalf("%s → %s went from attempt %d to %d", step.Before.State, step.After.State, step.Before.Attempt, step.After.Attempt)
	}
}

// movesBuild reports whether a build begins again elsewhere, because its host is lost.
func movesBuild(step reducer.Step) bool {
	lost, ok := step.Event.(events.HostLost)
	return ok && step.Before.State == reducer.StateBuilding && lost.HostID == step.Before.HostID && lost.HostID != ""
}

// checkEffects checks that effects have a reason: the state changed, or a container turned up that nobody waits for.
func checkEffects(t *rapid.T, step reducer.Step) {
	if len(step.Effects) == 0 {
		return
	}
	if started, ok := step.Event.(events.RuntimeStarted); ok {
		where := effects.Placement{HostID: started.HostID, Attempt: started.Attempt}
		if where.HostID == "" {
			where.HostID = step.Before.HostID
		}
		want := []effects.Effect{effects.StopRuntime{Placement: where, ProgramID: alice, ContainerID: started.ContainerID}}
		if !slices.Equal(step.Effects, want) || step.After != step.Before || started.ContainerID == step.Before.ContainerID {
			t.Fatalf("%+v in %+v gave %+v", started, step.Before, step.Effects)
		}
		return
	}
	if step.After.State == step.Before.State && !movesBuild(step) {
		t.Fatalf("%+v in %s gave %+v without a change", step.Event, step.Before.State, step.Effects)
	}
	for _, eff := range step.Effects {
		if want := (effects.Placement{HostID: step.After.HostID, Attempt: step.After.Attempt}); eff.Place() != want {
			t.Fatalf("%s is placed at %+v, want %+v", eff.Type(), eff.Place(), want)
		}
		if !reducer.Awaits(step.After, eff) {
			t.Fatalf("%s decided %+v and does not wait for it", step.After.State, eff)
		}
	}
}

// checkExplain checks that a step says why where nothing happened, and only there.
func checkExplain(t *rapid.T, step reducer.Step) {
	happened := step.After != step.Before || len(step.Effects) > 0
	if step.Reject != nil {
		if happened || step.Ignored != "" || step.Event != nil {
			t.Fatalf("rejected, and yet %+v", step)
		}
		return
	}
	folders, isFolders := step.Event.(events.FoldersEnsured)
	progress := isFolders && folders.Success && step.Before.State == reducer.StateBuilding && ofState(folders.Origin, step.Before)
	if why := reducer.Explain(step.Before, step.Event); why != step.Ignored || (why == "") != (happened || progress) {
		t.Fatalf("%+v in %+v: happened %v, explained by %q and %q", step.Event, step.Before, happened, why, step.Ignored)
	}
}

// ofState reports whether a result is of the state's attempt and host, as far as both say.
func ofState(o events.Origin, s reducer.ProgramState) bool {
	return (o.Attempt == 0 || o.Attempt == s.Attempt) && (o.HostID == "" || s.HostID == "" || o.HostID == s.HostID)
}

// TestReduceIsTotal gives Reduce states and events that no log leads to.
func TestReduceIsTotal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := reducer.ProgramState{
			ID: alice, BuildID: build, State: reducer.State(rapid.IntRange(-2, 9).Draw(t, "state")),
			HostID:  rapid.SampledFrom([]events.HostID{"", "h1", "../"}).Draw(t, "its host"),
			Attempt: rapid.Uint64().Draw(t, "its attempt"), RestartPending: rapid.Bool().Draw(t, "restart"),
			ContainerID: rapid.SampledFrom([]string{"", "c1"}).Draw(t, "its container"), ErrorMsg: rapid.String().Draw(t, "error"),
		}
		ev := rapid.SampledFrom([]events.Event{nil, drawEvent(t, s)}).Draw(t, "event")
		next, effs := reducer.Reduce(s, ev)
		again, effsAgain := reducer.Reduce(s, ev)
		if next != again || !reflect.DeepEqual(effs, effsAgain) {
			t.Fatalf("twice the same gave %+v %+v and %+v %+v", next, effs, again, effsAgain)
		}
		if why := reducer.Explain(s, ev); why != "" && (next != s || len(effs) > 0) {
			t.Fatalf("%q explains nothing: %+v became %+v with %+v", why, s, next, effs)
		}
	})
}

// TestDeterministic folds each log twice: at once, and in two parts by way of a stored checkpoint.
func TestDeterministic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		log, steps, end := drawLog(t, logLength)
		cut := rapid.IntRange(0, len(log)).Draw(t, "cut")
		mid, first := fold(t, reducer.NewCheckpoint(alice), log[:cut])
		stored, err := json.Marshal(mid)
		if err != nil {
			t.Fatal(err)
		}
		var loaded reducer.Checkpoint
		if err := json.Unmarshal(stored, &loaded); err != nil || loaded != mid {
			t.Fatalf("%s loads as %+v, %v", stored, loaded, err)
		}
		got, second := fold(t, loaded, log[cut:])
		if got != end {
			t.Fatalf("in two parts %+v\nat once      %+v", got, end)
		}
		if both := append(first, second...); !sameSteps(both, steps) {
			t.Fatalf("in two parts %+v\nat once      %+v", both, steps)
		}
	})
}

// TestReplayIsNext checks Replay against the fold by hand.
func TestReplayIsNext(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		log, steps, _ := drawLog(t, logLength)
		var got []reducer.Step
		for step, err := range reducer.Replay(reducer.NewCheckpoint(alice), sequence(log)) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, step)
		}
		if !sameSteps(got, steps) {
			t.Fatalf("Replay gave %+v\nwant        %+v", got, steps)
		}
	})
}

// TestAwaits checks Awaits against its definition in DESIGN section 4, for every effect of the log and every state after it.
func TestAwaits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		_, steps, _ := drawLog(t, logLength)
		effs, _ := allEffects(steps)
		for _, step := range steps {
			s := step.After
			for _, eff := range effs {
				p := eff.Place()
				current := p.Attempt == s.Attempt && (p.HostID == "" || s.HostID == "" || p.HostID == s.HostID)
				var want bool
				switch eff.(type) {
				case effects.EnsureProgramFolders, effects.BuildRuntime:
					want = s.State == reducer.StateBuilding && current
				case effects.StartRuntime:
					want = s.State == reducer.StateStarting && current
				case effects.StopRuntime:
					want = true
				}
				if got := reducer.Awaits(s, eff); got != want {
					t.Fatalf("Awaits(%+v, %+v) = %v", s, eff, got)
				}
			}
		}
	})
}

// TestOutstanding checks the list against its naive definition over the whole log: an effect is outstanding when the head
// awaits it and no later result has answered it. It also checks that nobody waits for nothing.
func TestOutstanding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		_, steps, end := drawLog(t, logLength)
		var out reducer.Outstanding
		for _, step := range steps {
			out.Observe(step)
			checkProgress(t, step.After, out.All())
		}
		var want []reducer.Pending
		for i, step := range steps {
			if left := leftOver(step.Effects, steps[i+1:], end.State); len(left) > 0 {
				p := step.Effects[0].Place()
				want = append(want, reducer.Pending{Seq: step.Seq, Time: step.Time, Attempt: p.Attempt, HostID: p.HostID, Effects: left})
			}
		}
		if got := out.All(); !reflect.DeepEqual(got, want) {
			t.Fatalf("outstanding %+v\nwant        %+v", got, want)
		}
		for _, step := range steps {
			i := slices.IndexFunc(want, func(p reducer.Pending) bool { return p.Seq == step.Seq })
			if p, found := out.At(step.Seq); found != (i >= 0) || found && !reflect.DeepEqual(p, want[i]) {
				t.Fatalf("At(%d) = %+v, %v", step.Seq, p, found)
			}
		}
	})
}

func leftOver(effs []effects.Effect, later []reducer.Step, head reducer.ProgramState) []effects.Effect {
	return slices.DeleteFunc(slices.Clone(effs), func(eff effects.Effect) bool {
		stop, isStop := eff.(effects.StopRuntime)
		answered := isStop && slices.ContainsFunc(later, func(step reducer.Step) bool {
			e, ok := step.Event.(events.StopFinished)
			container := e.ContainerID
			if container == "" {
				container = step.Before.ContainerID
			}
			return ok && container == stop.ContainerID &&
				(e.Attempt == stop.Attempt || e.Attempt == 0 || stop.Attempt == 0) &&
				(e.HostID == stop.HostID || e.HostID == "" || stop.HostID == "")
		})
		return answered || !reducer.Awaits(head, eff)
	})
}

// checkProgress checks that a program which waits has something outstanding that ends its wait, and that one at rest
// waits for stops of strange containers at most.
func checkProgress(t *rapid.T, s reducer.ProgramState, list []reducer.Pending) {
	waits := map[reducer.State]effects.Type{
		reducer.StateBuilding: effects.TypeBuildRuntime,
		reducer.StateStarting: effects.TypeStartRuntime,
		reducer.StateStopping: effects.TypeStopRuntime,
	}[s.State]
	found := waits == ""
	for _, p := range list {
		for _, eff := range p.Effects {
			if stop, isStop := eff.(effects.StopRuntime); isStop {
				found = found || s.State == reducer.StateStopping && stop.ContainerID == s.ContainerID && stop.Attempt == s.Attempt
				continue
			}
			if s.State != reducer.StateBuilding && s.State != reducer.StateStarting {
				t.Fatalf("%s still waits for %+v", s.State, eff)
			}
			found = found || eff.Type() == waits
		}
	}
	if !found {
		t.Fatalf("%+v waits for nothing: %+v", s, list)
	}
}

// TestDigest checks that any change of a log changes its digest.
func TestDigest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		log, _, end := drawLog(t, 20)
		if (len(log) == 0) != (end.Digest == "") {
			t.Fatalf("digest %q of %d events", end.Digest, len(log))
		}
		if len(log) == 0 {
			return
		}
		changed, what := slices.Clone(log), rapid.IntRange(0, 5).Draw(t, "what")
		i := rapid.IntRange(0, len(log)-1).Draw(t, "which")
		switch what {
		case 0:
			changed[i].Data = append(slices.Clone(changed[i].Data), ' ')
		case 1:
			changed[i].Type += "X"
		case 2:
			changed = slices.Delete(changed, i, i+1)
		case 3: // The border between type and data moves.
			changed[i].Type, changed[i].Data = changed[i].Type+"X", slices.Concat([]byte("X"), changed[i].Data)
		case 4:
			for ; i < len(changed); i++ {
				changed[i].Seq++
			}
		case 5:
			if changed[i].Data = slices.Clone(changed[i].Data); len(changed[i].Data) == 0 {
				changed[i].Data = []byte{0}
			}
			changed[i].Data[0] ^= 1
		}
		if got, _ := fold(t, reducer.NewCheckpoint(alice), changed); got.Digest == end.Digest {
			t.Fatalf("change %d of event %d leaves the digest as it is", what, i)
		}
	})
}

func fold(t *rapid.T, at reducer.Checkpoint, log []events.Stored) (reducer.Checkpoint, []reducer.Step) {
	var steps []reducer.Step
	for _, stored := range log {
		next, step, err := at.Next(stored)
		if err != nil {
			t.Fatal(err)
		}
		at, steps = next, append(steps, step)
	}
	return at, steps
}

// sameSteps compares all of the steps, rejections by their text.
func sameSteps(a, b []reducer.Step) bool {
	return slices.EqualFunc(a, b, func(x, y reducer.Step) bool {
		if (x.Reject == nil) != (y.Reject == nil) || x.Reject != nil && x.Reject.Error() != y.Reject.Error() {
			return false
		}
		x.Reject, y.Reject = nil, nil
		return reflect.DeepEqual(x, y)
	})
}
