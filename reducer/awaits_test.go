package reducer_test

import (
	"testing"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

// TestAwaitsOfAnyEffect also asks about effects that no transition of the program decides: an executor may hold such.
func TestAwaitsOfAnyEffect(t *testing.T) {
	at := func(host events.HostID, attempt uint64) effects.Placement {
		return effects.Placement{HostID: host, Attempt: attempt}
	}
	for _, c := range []struct {
		name  string
		state reducer.State
		host  events.HostID
		eff   effects.Effect
		want  bool
	}{
		{"a build anywhere", reducer.StateBuilding, "", effects.BuildRuntime{Placement: at("", 2)}, true},
		{"a build of a host that may build", reducer.StateBuilding, "", effects.BuildRuntime{Placement: at("h1", 2)}, true},
		{"a build on the program's host", reducer.StateBuilding, "h1", effects.BuildRuntime{Placement: at("h1", 2)}, true},
		{"a build on another host", reducer.StateBuilding, "h1", effects.BuildRuntime{Placement: at("h2", 2)}, false},
		{"a build of an earlier attempt", reducer.StateBuilding, "h1", effects.BuildRuntime{Placement: at("h1", 1)}, false},
		{"a build of no attempt", reducer.StateBuilding, "h1", effects.BuildRuntime{Placement: at("h1", 0)}, false},
		{"folders on another host", reducer.StateBuilding, "h1", effects.EnsureProgramFolders{Placement: at("h2", 2)}, false},
		{"folders while building", reducer.StateBuilding, "h1", effects.EnsureProgramFolders{Placement: at("h1", 2)}, true},
		{"a start while building", reducer.StateBuilding, "h1", effects.StartRuntime{Placement: at("h1", 2)}, false},
		{"a start while starting", reducer.StateStarting, "h1", effects.StartRuntime{Placement: at("h1", 2)}, true},
		{"a start on another host", reducer.StateStarting, "h1", effects.StartRuntime{Placement: at("h2", 2)}, false},
		{"a build while starting", reducer.StateStarting, "h1", effects.BuildRuntime{Placement: at("h1", 2)}, false},
		{"a start while ready", reducer.StateReady, "h1", effects.StartRuntime{Placement: at("h1", 2)}, false},
		{"a stop, always", reducer.StateCreated, "h1", effects.StopRuntime{Placement: at("h9", 9), ContainerID: "c9"}, true},
		{"a look at its container", reducer.StateReady, "h1", effects.FetchRuntimeStatus{ContainerID: "c1"}, true},
		{"a look at another container", reducer.StateReady, "h1", effects.FetchRuntimeStatus{ContainerID: "c2"}, false},
		{"a look at a dead container", reducer.StateError, "h1", effects.FetchRuntimeStatus{ContainerID: "c1"}, false},
		{"nothing", reducer.StateBuilding, "h1", nil, false},
	} {
		s := reducer.NewProgramState(alice, build)
		s.State, s.HostID, s.Attempt, s.ContainerID = c.state, c.host, 2, "c1"
		if got := reducer.Awaits(s, c.eff); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
