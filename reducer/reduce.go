package reducer

import (
	"fmt"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
)

// Why an event changed nothing, as people read it.
const (
	whyOtherProgram   = "it is for another program"
	whyLateAttempt    = "it is a result of another attempt"
	whyOtherHost      = "it comes from a host that the program is not on"
	whyNotOnHost      = "the program is not on that host"
	whyOtherContainer = "it is about a container that is not the program's"
	whyCreatedAlready = "the program was created already"
	whyRunsAlready    = "the program is being built or runs already"
	whyStopsNow       = "the program is stopping; it can be started once it has stopped"
	whyStopsAlready   = "the program is stopping already"
	whyRestarts       = "the program is being restarted already"
	whyNotRunning     = "the program does not run"
	whyNothingToStop  = "there is nothing to stop"
	whyNotExpected    = "nothing was waiting for it"
	whyUnknownEvent   = "it is no event of this version"
)

// Reduce folds one event into the state of a program: it returns the next state and the effects that follow, in order. It is
// pure, total and safe for concurrent use. An event that does not fit changes nothing and has no effects; Explain says why.
//
// The table is in DESIGN section 4 and in docs/architecture.md.
func Reduce(state ProgramState, event events.Event) (ProgramState, []effects.Effect) {
	next, effs, _ := transition(state, event)
	return next, effs
}

// Explain returns why Reduce leaves the state as it is without any effect, or "" where it does not.
func Explain(state ProgramState, event events.Event) string {
	_, _, why := transition(state, event)
	return why
}

// transition is Reduce, with the reason where nothing happens.
func transition(s ProgramState, event events.Event) (ProgramState, []effects.Effect, string) {
	switch e := event.(type) {
	case events.ProgramCreated:
		return created(s, e)
	case events.HostLost:
		return hostLost(s, e)
	case events.HostDrained:
		return hostDrained(s, e)
	case events.UserStartRequested:
		return startRequested(s, e)
	case events.UserStopRequested:
		return stopRequested(s, e)
	case events.UserRestartRequested:
		return restartRequested(s, e)
	case events.FoldersEnsured:
		return foldersEnsured(s, e)
	case events.BuildFinished:
		return buildFinished(s, e)
	case events.RuntimeStarted:
		return runtimeStarted(s, e)
	case events.StartFailed:
		return startFailed(s, e)
	case events.RuntimeExited:
		return runtimeExited(s, e)
	case events.StopFinished:
		return stopFinished(s, e)
	}
	return ignore(s, whyUnknownEvent)
}

func created(s ProgramState, e events.ProgramCreated) (ProgramState, []effects.Effect, string) {
	if s.State != StateCreated || s.SourceDigest != "" {
		return ignore(s, whyCreatedAlready)
	}
	s.BuildID, s.SourceDigest, s.Limits = e.BuildID, e.SourceDigest, e.Limits
	return s, nil, ""
}

func hostLost(s ProgramState, e events.HostLost) (ProgramState, []effects.Effect, string) {
	if e.HostID == "" || e.HostID != s.HostID {
		return ignore(s, whyNotOnHost)
	}
	switch s.State {
	case StateBuilding:
		// Nothing of this attempt runs before it is built, so it may begin again elsewhere, under a number that late results of
		// the lost host do not have.
		s.HostID = ""
		return enterBuilding(s)
	case StateStarting, StateReady, StateStopping:
		msg := "host " + string(e.HostID) + " was lost"
		if e.Reason != "" {
			msg += ": " + e.Reason
		}
		s.HostID, s.ContainerID = "", ""
		return fail(s, msg), nil, ""
	}
	return ignore(s, whyNotRunning)
}

// hostDrained stops what is on the host, as its user could. The program keeps its place: its /state is there.
func hostDrained(s ProgramState, e events.HostDrained) (ProgramState, []effects.Effect, string) {
	switch {
	case e.HostID == "" || e.HostID != s.HostID:
		return ignore(s, whyNotOnHost)
	case s.State == StateError: // Nothing of it runs, and its dead container is evidence.
		return ignore(s, whyNotRunning)
	}
	return stopRequested(s, events.UserStopRequested{})
}

func startRequested(s ProgramState, e events.UserStartRequested) (ProgramState, []effects.Effect, string) {
	if !addressed(s, e.ProgramID) {
		return ignore(s, whyOtherProgram)
	}
	switch s.State {
	case StateCreated, StateStopped, StateError:
		return enterBuilding(s)
	case StateStopping:
		return ignore(s, whyStopsNow)
	}
	return ignore(s, whyRunsAlready)
}

func stopRequested(s ProgramState, e events.UserStopRequested) (ProgramState, []effects.Effect, string) {
	if !addressed(s, e.ProgramID) {
		return ignore(s, whyOtherProgram)
	}
	switch {
	case s.State == StateBuilding, s.State == StateStarting:
		// What is on its way is stopped by its result: see runtimeStarted.
		s.State = StateStopped
		return s, nil, ""
	case s.State == StateReady, s.State == StateError && s.ContainerID != "":
		s.ErrorMsg, s.ExitCode = "", 0
		return enterStopping(s, false)
	case s.State == StateStopping && s.RestartPending:
		s.RestartPending = false
		return s, nil, ""
	case s.State == StateStopping:
		return ignore(s, whyStopsAlready)
	}
	return ignore(s, whyNothingToStop)
}

func restartRequested(s ProgramState, e events.UserRestartRequested) (ProgramState, []effects.Effect, string) {
	if !addressed(s, e.ProgramID) {
		return ignore(s, whyOtherProgram)
	}
	switch {
	case s.State == StateReady:
		return enterStopping(s, true)
	case s.State == StateStopping && s.RestartPending:
		return ignore(s, whyRestarts)
	case s.State == StateStopping:
		return ignore(s, whyStopsNow)
	}
	return ignore(s, whyNotRunning)
}

func foldersEnsured(s ProgramState, e events.FoldersEnsured) (ProgramState, []effects.Effect, string) {
	if why := stale(s, e.Origin); why != "" {
		return ignore(s, why)
	}
	if s.State != StateBuilding {
		return ignore(s, whyNotExpected)
	}
	if e.Success {
		return s, nil, "" // The build that follows in the same message goes on.
	}
	// The executor does not go on to the build after this failure, so nothing else would end the attempt.
	return fail(s, "preparing the folders failed: "+e.Error), nil, ""
}

func buildFinished(s ProgramState, e events.BuildFinished) (ProgramState, []effects.Effect, string) {
	if why := stale(s, e.Origin); why != "" {
		return ignore(s, why)
	}
	if s.State != StateBuilding {
		return ignore(s, whyNotExpected)
	}
	if !e.Success {
		return fail(s, "the build failed: "+e.Error), nil, ""
	}
	s.State, s.ImageID = StateStarting, e.ImageID
	if e.HostID != "" {
		s.HostID = e.HostID
	}
	return s, []effects.Effect{effects.StartRuntime{
		Placement: placement(s), ProgramID: s.ID, ImageID: s.ImageID, Limits: s.Limits,
	}}, ""
}

func runtimeStarted(s ProgramState, e events.RuntimeStarted) (ProgramState, []effects.Effect, string) {
	if e.ContainerID == "" || e.ContainerID == s.ContainerID {
		return ignore(s, whyNotExpected)
	}
	if s.State == StateStarting && stale(s, e.Origin) == "" {
		s.State, s.ContainerID = StateReady, e.ContainerID
		return s, nil, ""
	}
	// Nobody waits for this container: a stop, or a later attempt, overtook its start. It must not be left running.
	where := effects.Placement{HostID: e.HostID, Attempt: e.Attempt}
	if where.HostID == "" {
		where.HostID = s.HostID
	}
	return s, []effects.Effect{effects.StopRuntime{Placement: where, ProgramID: s.ID, ContainerID: e.ContainerID}}, ""
}

func startFailed(s ProgramState, e events.StartFailed) (ProgramState, []effects.Effect, string) {
	if why := stale(s, e.Origin); why != "" {
		return ignore(s, why)
	}
	if s.State != StateStarting {
		return ignore(s, whyNotExpected)
	}
	return fail(s, "the start failed: "+e.Reason), nil, ""
}

func runtimeExited(s ProgramState, e events.RuntimeExited) (ProgramState, []effects.Effect, string) {
	if why := stale(s, e.Origin); why != "" {
		return ignore(s, why)
	}
	if s.State != StateReady {
		return ignore(s, whyNotExpected)
	}
	if e.ContainerID != "" && e.ContainerID != s.ContainerID {
		return ignore(s, whyOtherContainer)
	}
	s.ExitCode = e.ExitCode
	return fail(s, exitMessage(e)), nil, ""
}

func stopFinished(s ProgramState, e events.StopFinished) (ProgramState, []effects.Effect, string) {
	if why := stale(s, e.Origin); why != "" {
		return ignore(s, why)
	}
	if s.State != StateStopping {
		return ignore(s, whyNotExpected)
	}
	if e.ContainerID != "" && e.ContainerID != s.ContainerID {
		return ignore(s, whyOtherContainer)
	}
	if !e.Success {
		return fail(s, "the stop failed: "+e.Error), nil, ""
	}
	if s.RestartPending {
		return enterBuilding(s)
	}
	s.State, s.ContainerID = StateStopped, ""
	return s, nil, ""
}

// enterBuilding begins a new attempt. A program that has a host stays there, where its image and its /state are.
func enterBuilding(s ProgramState) (ProgramState, []effects.Effect, string) {
	s.State = StateBuilding
	s.Attempt++
	s.ContainerID, s.ErrorMsg, s.ExitCode, s.RestartPending = "", "", 0, false
	where := placement(s)
	return s, []effects.Effect{
		effects.EnsureProgramFolders{Placement: where, ProgramID: s.ID},
		effects.BuildRuntime{Placement: where, ProgramID: s.ID, BuildID: s.BuildID, SourceDigest: s.SourceDigest},
	}, ""
}

func enterStopping(s ProgramState, restart bool) (ProgramState, []effects.Effect, string) {
	s.State, s.RestartPending = StateStopping, restart
	return s, []effects.Effect{
		effects.StopRuntime{Placement: placement(s), ProgramID: s.ID, ContainerID: s.ContainerID},
	}, ""
}

func fail(s ProgramState, msg string) ProgramState {
	s.State, s.ErrorMsg, s.RestartPending = StateError, msg, false
	return s
}

func ignore(s ProgramState, why string) (ProgramState, []effects.Effect, string) { return s, nil, why }

// stale says why a result must not move the program: it is of another attempt, or from a host that the program is not on.
func stale(s ProgramState, o events.Origin) string {
	if o.Attempt != 0 && o.Attempt != s.Attempt {
		return whyLateAttempt
	}
	if o.HostID != "" && s.HostID != "" && o.HostID != s.HostID {
		return whyOtherHost
	}
	return ""
}

// addressed accepts a user event without ProgramID: its subject, or its queue, names the program.
func addressed(s ProgramState, id events.ProgramID) bool { return id == "" || id == s.ID }

func placement(s ProgramState) effects.Placement {
	return effects.Placement{HostID: s.HostID, Attempt: s.Attempt}
}

func exitMessage(e events.RuntimeExited) string {
	switch {
	case e.Reason != "":
		return fmt.Sprintf("the host ended the program: %s (exit code %d)", e.Reason, e.ExitCode)
	case e.OOMKilled:
		return fmt.Sprintf("the program ran out of memory and was killed (exit code %d)", e.ExitCode)
	case e.ExitCode < 0:
		return "the program's container is gone; its exit code is not known"
	}
	return fmt.Sprintf("the program exited with code %d", e.ExitCode)
}
