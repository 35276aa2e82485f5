package reducer_test

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

// named is a value and how the matrix calls it.
type named[T any] struct {
	name  string
	value T
}

// matrixStates is every state, in each of its varieties: on host h1, in attempt 2, with container c1 where it has one.
func matrixStates() []named[reducer.ProgramState] {
	var list []named[reducer.ProgramState]
	add := func(name string, state reducer.State, change func(*reducer.ProgramState)) {
		s := reducer.NewProgramState(alice, build)
		s.State, s.HostID, s.Attempt, s.SourceDigest = state, "h1", 2, digest
		change(&s)
		list = append(list, named[reducer.ProgramState]{name, s})
	}
	container := func(s *reducer.ProgramState) { s.ImageID, s.ContainerID = "i1", "c1" }
	failed := func(s *reducer.ProgramState) { s.ErrorMsg = "it failed" }
	list = append(list, named[reducer.ProgramState]{"Created", reducer.NewProgramState(alice, build)})
	add("Building", reducer.StateBuilding, func(*reducer.ProgramState) {})
	add("Starting", reducer.StateStarting, func(s *reducer.ProgramState) { s.ImageID = "i1" })
	add("Ready", reducer.StateReady, container)
	add("Stopping", reducer.StateStopping, container)
	add("Stopping, to restart", reducer.StateStopping, func(s *reducer.ProgramState) { container(s); s.RestartPending = true })
	add("Stopped", reducer.StateStopped, func(*reducer.ProgramState) {})
	add("Error", reducer.StateError, failed)
	add("Error, container", reducer.StateError, func(s *reducer.ProgramState) { container(s); failed(s) })
	return list
}

// matrixEvents is every event type, in each way that it can turn out.
func matrixEvents(o events.Origin) []named[events.Event] {
	return []named[events.Event]{
		{"ProgramCreated", events.ProgramCreated{BuildID: build, SourceDigest: digest}},
		{"HostLost(h1)", events.HostLost{HostID: "h1"}},
		{"HostLost(h2)", events.HostLost{HostID: "h2"}},
		{"HostDrained(h1)", events.HostDrained{HostID: "h1"}},
		{"HostDrained(h2)", events.HostDrained{HostID: "h2"}},
		{"UserStartRequested", events.UserStartRequested{ProgramID: alice}},
		{"UserStopRequested", events.UserStopRequested{ProgramID: alice}},
		{"UserRestartRequested", events.UserRestartRequested{ProgramID: alice}},
		{"FoldersEnsured(success)", events.FoldersEnsured{Origin: o, Success: true}},
		{"FoldersEnsured(failure)", events.FoldersEnsured{Origin: o, Error: "disk full"}},
		{"BuildFinished(success)", events.BuildFinished{Origin: o, Success: true, ImageID: "i2"}},
		{"BuildFinished(failure)", events.BuildFinished{Origin: o, Error: "exit 1"}},
		{"RuntimeStarted(c1)", events.RuntimeStarted{Origin: o, ContainerID: "c1"}},
		{"RuntimeStarted(c2)", events.RuntimeStarted{Origin: o, ContainerID: "c2"}},
		{"StartFailed", events.StartFailed{Origin: o, Reason: "no runsc"}},
		{"RuntimeExited(c1)", events.RuntimeExited{Origin: o, ContainerID: "c1", ExitCode: 1}},
		{"RuntimeExited(c2)", events.RuntimeExited{Origin: o, ContainerID: "c2", ExitCode: 1}},
		{"RuntimeExited()", events.RuntimeExited{Origin: o, ExitCode: 1}},
		{"StopFinished(c1, success)", events.StopFinished{Origin: o, ContainerID: "c1", Success: true}},
		{"StopFinished(c1, failure)", events.StopFinished{Origin: o, ContainerID: "c1", Error: "timeout"}},
		{"StopFinished(c2, success)", events.StopFinished{Origin: o, ContainerID: "c2", Success: true}},
		{"StopFinished(success)", events.StopFinished{Origin: o, Success: true}},
	}
}

// matrix is a line for every state and event, of a program whose results come from its host and attempt. With an origin it
// shows what results from elsewhere do, and gathers those that do nothing.
func matrix(origin string) string {
	o := events.Origin{HostID: "h1", Attempt: 2}
	switch strings.TrimSpace(origin) {
	case "origin: attempt":
		o.Attempt = 1
	case "origin: host":
		o.HostID = "h2"
	case "origin: none":
		o = events.Origin{}
	}
	var b strings.Builder
	for _, s := range matrixStates() {
		var others []string
		for _, ev := range matrixEvents(o) {
			isResult := events.WithOrigin(ev.value, events.Origin{Attempt: 99}) != ev.value
			cell := matrixCell(s.value, ev.value)
			switch {
			case origin == "" || isResult && strings.HasPrefix(cell, "→"):
				fmt.Fprintf(&b, "%-20s  %-25s  %s\n", s.name, ev.name, cell)
			case isResult && !slices.Contains(others, cell):
				others = append(others, cell)
			}
		}
		for _, why := range others {
			fmt.Fprintf(&b, "%-20s  %-25s  %s\n", s.name, "all other results", why)
		}
	}
	return b.String()
}

func matrixCell(s reducer.ProgramState, ev events.Event) string {
	if why := reducer.Explain(s, ev); why != "" {
		cell := why
		if next, effs := reducer.Reduce(s, ev); next != s || len(effs) > 0 {
			cell = "CONTRADICTION: " + cell // Explain and Reduce disagree.
		}
		return cell
	}
	next, effs := reducer.Reduce(s, ev)
	cell := "→ " + next.State.String()
	if next.RestartPending {
		cell += ", to restart"
	}
	for _, eff := range effs {
		cell += fmt.Sprintf(", %s at %s", effectNames([]effects.Effect{eff}), place(eff))
	}
	return cell
}

// place is a host and the attempt.
func place(eff effects.Effect) string {
	p := eff.Place()
	host := string(p.HostID)
	if host == "" {
		host = "any"
	}
	return fmt.Sprintf("%s/%d", host, p.Attempt)
}

// filled sets every field that a state leaves empty, so that a rule which clears or keeps one shows.
func filled(s reducer.ProgramState) reducer.ProgramState {
	s.ImageID, s.ContainerID = cmp.Or(s.ImageID, "i0"), cmp.Or(s.ContainerID, "c0")
	s.ErrorMsg, s.ExitCode = cmp.Or(s.ErrorMsg, "it failed before"), cmp.Or(s.ExitCode, 3)
	s.HostID, s.Attempt, s.SourceDigest = cmp.Or(s.HostID, "h1"), cmp.Or(s.Attempt, 2), cmp.Or(s.SourceDigest, digest)
	s.Limits, s.RestartPending = events.Limits{MemoryBytes: 64 << 20, CPUMillis: 500, Pids: 60}, true
	return s
}

// folds is what Reduce makes of every state, as it is in the matrix and filled, and every event from everywhere: each field of the state
// and of the effects.
func folds(w io.Writer) {
	created := events.ProgramCreated{BuildID: build, SourceDigest: digest, Limits: events.Limits{MemoryBytes: 32 << 20, CPUMillis: 250, Pids: 70}}
	for _, o := range []events.Origin{{}, {HostID: "h1", Attempt: 2}, {HostID: "h1", Attempt: 1}, {HostID: "h2", Attempt: 2}} {
		list := append(matrixEvents(o), named[events.Event]{"ProgramCreated(limits)", created})
		for _, s := range matrixStates() {
			for _, from := range []reducer.ProgramState{s.value, filled(s.value)} {
				for _, ev := range list {
					next, effs := reducer.Reduce(from, ev.value)
					fmt.Fprintf(w, "%#v\n%#v\n%#v %#v\n", from, ev.value, next, effs)
				}
			}
		}
	}
}

// TestVersionFollowsTheRules fails when a log folds to something else than before. Then raise Version, so that no service goes on from a
// checkpoint of the older rules, and put the new sum here. A state, an event or a field that is only new needs the new sum alone.
func TestVersionFollowsTheRules(t *testing.T) {
	const version, want = 2, "e011702f8b3464575bceebb584508ae3078a4a4287afcca4058f3f69e0daa9d4"
	sum := sha256.New()
	folds(sum)
	if got := hex.EncodeToString(sum.Sum(nil)); reducer.Version != version || got != want {
		t.Errorf("the rules are version %d with the sum %s, want version %d with %s", reducer.Version, got, version, want)
	}
}

// TestFilledLeavesNoFieldEmpty, or a field that is added would be out of the sum.
func TestFilledLeavesNoFieldEmpty(t *testing.T) {
	for _, s := range matrixStates() {
		full := reflect.ValueOf(filled(s.value))
		for i := range full.NumField() {
			if name := full.Type().Field(i).Name; name != "State" && full.Field(i).IsZero() {
				t.Errorf("%s: %s is empty", s.name, name)
			}
		}
	}
}
