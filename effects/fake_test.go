package effects_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
)

var _ effects.EffectHandler = (*effects.FakeEffectHandler)(nil)

// TestFakeFails checks that each of the seed's flags fails its own effect and no other.
func TestFakeFails(t *testing.T) {
	all := []effects.Effect{
		effects.EnsureProgramFolders{ProgramID: alice}, effects.BuildRuntime{ProgramID: alice, BuildID: build},
		effects.StartRuntime{ProgramID: alice}, effects.StopRuntime{ProgramID: alice, ContainerID: "c1"},
	}
	for _, c := range []struct {
		name string
		set  func(*effects.FakeEffectHandler)
		want []bool // Which of all fail.
	}{
		{"none", func(*effects.FakeEffectHandler) {}, []bool{false, false, false, false}},
		{"folders", func(h *effects.FakeEffectHandler) { h.FailFolders = true }, []bool{true, false, false, false}},
		{"build", func(h *effects.FakeEffectHandler) { h.FailBuild = true }, []bool{false, true, false, false}},
		{"start", func(h *effects.FakeEffectHandler) { h.FailStart = true }, []bool{false, false, true, false}},
		{"stop", func(h *effects.FakeEffectHandler) { h.FailStop = true }, []bool{false, false, false, true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := effects.NewFakeEffectHandler()
			c.set(h)
			for i, eff := range all {
				result := h.Execute(t.Context(), eff)
				if result == nil || events.Failed(result) != c.want[i] {
					t.Errorf("%s gave %+v, want a failure: %v", eff.Type(), result, c.want[i])
				}
			}
		})
	}
}

// TestFakeDelay also shows that an effect which ctx cut short has no result: it is to be run again.
func TestFakeDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := effects.NewFakeEffectHandler()
		h.Delay = 10 * time.Second
		start := time.Now()
		if got := h.Execute(t.Context(), effects.EnsureProgramFolders{}); got != (events.FoldersEnsured{Success: true}) {
			t.Errorf("got %+v", got)
		}
		if took := time.Since(start); took != h.Delay {
			t.Errorf("it took %v", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		if got := h.Execute(ctx, effects.StartRuntime{ProgramID: alice}); got != nil {
			t.Errorf("an interrupted start gave %+v", got)
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("the interruption took %v", took)
		}
		if all := containers(t, h); len(all) != 0 {
			t.Errorf("an interrupted start left %+v", all)
		}
	})
}

func TestFakeDoesNothingOnceContextEnded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	h := effects.NewFakeEffectHandler()
	if got := h.Execute(ctx, effects.StartRuntime{ProgramID: alice}); got != nil || len(containers(t, h)) != 0 {
		t.Errorf("got %+v and containers %+v", got, containers(t, h))
	}
}

// TestFakeLateStart shows that a start of an earlier attempt, run late, leaves the container of the later one alone.
func TestFakeLateStart(t *testing.T) {
	h := effects.NewFakeEffectHandler()
	start := func(attempt uint64) string {
		eff := effects.StartRuntime{Placement: effects.Placement{Attempt: attempt}, ProgramID: alice}
		return h.Execute(t.Context(), eff).(events.RuntimeStarted).ContainerID
	}
	second := start(2)
	start(1)
	if !slices.ContainsFunc(containers(t, h), func(c effects.Container) bool { return c.ID == second && c.Running }) {
		t.Errorf("the container of attempt 2 is gone: %+v", containers(t, h))
	}
}

// TestFakeConcurrently is for the race detector: one handler serves many programs.
func TestFakeConcurrently(t *testing.T) {
	h := effects.NewFakeEffectHandler()
	var wg sync.WaitGroup
	for _, id := range []events.ProgramID{alice, bob} {
		for range 4 {
			wg.Go(func() {
				for range 50 {
					started := h.Execute(t.Context(), effects.StartRuntime{ProgramID: id}).(events.RuntimeStarted)
					h.Exit(started.ContainerID, 1)
					h.Execute(t.Context(), effects.FetchRuntimeStatus{ContainerID: started.ContainerID})
					h.Execute(t.Context(), effects.StopRuntime{ProgramID: id, ContainerID: started.ContainerID})
				}
			})
		}
	}
	wg.Wait()
	if all := containers(t, h); len(all) != 0 {
		t.Errorf("left over: %+v", all)
	}
}

func containers(t *testing.T, h *effects.FakeEffectHandler) []effects.Container {
	t.Helper()
	all, err := h.Containers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all
}
