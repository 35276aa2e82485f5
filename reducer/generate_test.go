package reducer_test

import (
	"time"

	"pgregory.net/rapid"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

// drawEvent draws an event from few hosts, attempts and containers, so that they meet. Half of the time it is one that the
// state waits for: a program that never gets beyond Building shows little.
func drawEvent(t *rapid.T, s reducer.ProgramState) events.Event {
	if rapid.Bool().Draw(t, "fitting") {
		if ev := fittingEvent(t, s); ev != nil {
			return ev
		}
	}
	o := events.Origin{
		HostID:  rapid.SampledFrom([]events.HostID{"", "h1", "h2", s.HostID}).Draw(t, "host"),
		Attempt: rapid.SampledFrom([]uint64{0, 1, 2, 3, s.Attempt}).Draw(t, "attempt"),
	}
	container := rapid.SampledFrom([]string{"c1", "c2", "c3", s.ContainerID}).Draw(t, "container")
	success := rapid.Bool().Draw(t, "success")
	switch rapid.IntRange(0, 11).Draw(t, "type") {
	case 11:
		return events.HostDrained{HostID: rapid.SampledFrom([]events.HostID{"h1", "h2"}).Draw(t, "drained")}
	case 0:
		return events.ProgramCreated{BuildID: build, SourceDigest: digest, Limits: events.Limits{Pids: 9}}
	case 1:
		return events.HostLost{HostID: rapid.SampledFrom([]events.HostID{"h1", "h2"}).Draw(t, "lost"), Reason: "silence"}
	case 2:
		return events.UserStartRequested{ProgramID: alice}
	case 3:
		return events.UserStopRequested{ProgramID: alice}
	case 4:
		return events.UserRestartRequested{ProgramID: alice}
	case 5:
		return events.FoldersEnsured{Origin: o, Success: success, Error: "disk full"}
	case 6:
		return events.BuildFinished{Origin: o, Success: success, ImageID: "i1"}
	case 7:
		return events.RuntimeStarted{Origin: o, ContainerID: container}
	case 8:
		return events.StartFailed{Origin: o, Reason: "no runtime"}
	case 9:
		return events.RuntimeExited{Origin: o, ContainerID: container, ExitCode: rapid.IntRange(-1, 3).Draw(t, "code")}
	}
	return events.StopFinished{Origin: o, ContainerID: container, Success: success, Error: "timeout"}
}

// fittingEvent is what moves the program on, or nil where nothing could.
func fittingEvent(t *rapid.T, s reducer.ProgramState) events.Event {
	o := events.Origin{HostID: s.HostID, Attempt: s.Attempt}
	if o.HostID == "" {
		o.HostID = rapid.SampledFrom([]events.HostID{"", "h1", "h2"}).Draw(t, "builder")
	}
	switch s.State {
	case reducer.StateCreated, reducer.StateStopped, reducer.StateError:
		return events.UserStartRequested{}
	case reducer.StateBuilding:
		return events.BuildFinished{Origin: o, Success: true, ImageID: "i1"}
	case reducer.StateStarting:
		return events.RuntimeStarted{Origin: o, ContainerID: rapid.SampledFrom([]string{"c1", "c2", "c3"}).Draw(t, "new container")}
	case reducer.StateReady:
		return rapid.SampledFrom([]events.Event{
			events.UserStopRequested{}, events.UserRestartRequested{}, events.RuntimeExited{Origin: o, ExitCode: 1},
		}).Draw(t, "end")
	case reducer.StateStopping:
		return events.StopFinished{Origin: o, ContainerID: s.ContainerID, Success: true}
	}
	return nil
}

// drawStored draws the next message of a log; one in eight is nothing that decodes.
func drawStored(t *rapid.T, at reducer.Checkpoint) events.Stored {
	stored := events.Stored{
		Seq:  at.Seq + rapid.Uint64Range(1, 3).Draw(t, "gap"), // A sequence may skip.
		Time: time.Unix(1_700_000_000+int64(at.Seq), 0).UTC(),
	}
	if rapid.IntRange(0, 7).Draw(t, "garbage") == 0 {
		stored.Type = rapid.SampledFrom([]events.Type{events.TypeBuildFinished, events.TypeUserStopRequested, "", "UserPaused"}).Draw(t, "of type")
		stored.Data = rapid.SampledFrom([][]byte{nil, []byte("x"), []byte(`{"a":1}`), []byte("null"), {0xff}}).Draw(t, "bytes")
		return stored
	}
	ev := drawEvent(t, at.State)
	data, err := events.Encode(ev)
	if err != nil {
		t.Fatal(err)
	}
	stored.Type, stored.Data = ev.Type(), data
	return stored
}

// drawLog draws a log of up to limit messages, with its steps and the checkpoint at its end.
func drawLog(t *rapid.T, limit int) ([]events.Stored, []reducer.Step, reducer.Checkpoint) {
	at := reducer.NewCheckpoint(alice)
	var log []events.Stored
	var steps []reducer.Step
	for range rapid.IntRange(0, limit).Draw(t, "length") {
		stored := drawStored(t, at)
		next, step, err := at.Next(stored)
		if err != nil {
			t.Fatal(err)
		}
		at, log, steps = next, append(log, stored), append(steps, step)
	}
	return log, steps, at
}

// allEffects is every effect of a log, in order, with the index of its step.
func allEffects(steps []reducer.Step) (effs []effects.Effect, at []int) {
	for i, step := range steps {
		for _, eff := range step.Effects {
			effs, at = append(effs, eff), append(at, i)
		}
	}
	return effs, at
}
