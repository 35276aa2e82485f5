// Package handlertest is the conformance suite of effects.EffectHandler: what an executor relies on, whoever the handler
// is. The fake and the real handler pass it.
package handlertest

import (
	"context"
	"fmt"
	"reflect"
	"sync"
	"testing"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
)

// Fixture is a handler on a host of its own, and what the suite has to be able to do there.
type Fixture struct {
	Handler effects.EffectHandler
	HostID  events.HostID // Where the effects are placed; may be "".

	// Containers lists what the handler has started.
	Containers func(context.Context) ([]effects.Container, error)
	// Program returns a new program, whose container runs until it is told to end.
	Program func(t *testing.T) events.ProgramID
	// Broken returns a new program for which the effects of a type fail, and those before it do not.
	Broken func(t *testing.T, typ effects.Type) events.ProgramID
	// Exit makes the program in a container end by itself, and returns when it has.
	Exit func(t *testing.T, c effects.Container, exitCode int)
}

// Run runs the suite. fixture is called once for each test of it.
func Run(t *testing.T, fixture func(t *testing.T) Fixture) {
	for name, test := range map[string]func(*suite){
		"life":                     life,
		"folders twice":            foldersTwice,
		"build twice":              buildTwice,
		"start twice":              startTwice,
		"start of a dead one":      startOfDead,
		"new attempt":              newAttempt,
		"exit":                     exit,
		"status of nothing":        statusOfNothing,
		"stop twice":               stopTwice,
		"stop of nothing":          stopOfNothing,
		"stop of a dead one":       stopOfDead,
		"stop of another's":        stopOfAnothers,
		"stop of nobody's":         stopOfNobodys,
		"stop leaves others alone": stopLeavesOthersAlone,
		"failures":                 failures,
		"ended context":            endedContext,
		"many at once":             manyAtOnce,
	} {
		t.Run(name, func(t *testing.T) { test(&suite{T: t, Fixture: fixture(t)}) })
	}
}

type suite struct {
	*testing.T
	Fixture
}

// execute runs an effect and checks what holds for every result: it has no Origin, and it can be published.
func (s *suite) execute(eff effects.Effect) events.Event {
	s.Helper()
	result := s.Handler.Execute(s.Context(), eff)
	if result == nil {
		return nil
	}
	if bare := events.WithOrigin(result, events.Origin{}); !reflect.DeepEqual(bare, result) {
		s.Errorf("the result of %s has an origin: %+v", eff.Type(), result)
	}
	data, err := events.Encode(result)
	if err != nil {
		s.Fatalf("encode the result of %s: %v", eff.Type(), err)
	}
	decoded, err := events.Decode("", result.Type(), data)
	if err != nil || !reflect.DeepEqual(decoded, result) {
		s.Errorf("the result of %s is %+v and arrives as %+v, %v", eff.Type(), result, decoded, err)
	}
	return result
}

// expect runs an effect and returns its result, which must be of type E.
func expect[E events.Event](s *suite, eff effects.Effect) E {
	s.Helper()
	result, ok := s.execute(eff).(E)
	if !ok {
		s.Fatalf("%s of %+v did not give a %T", eff.Type(), eff, result)
	}
	return result
}

func (s *suite) place(attempt uint64) effects.Placement {
	return effects.Placement{HostID: s.HostID, Attempt: attempt}
}

func (s *suite) buildEffect(id events.ProgramID, attempt uint64) effects.BuildRuntime {
	return effects.BuildRuntime{Placement: s.place(attempt), ProgramID: id, BuildID: id.Build()}
}

// build prepares an attempt and returns its image.
func (s *suite) build(id events.ProgramID, attempt uint64) string {
	s.Helper()
	folders := expect[events.FoldersEnsured](s, effects.EnsureProgramFolders{Placement: s.place(attempt), ProgramID: id})
	if !folders.Success || folders.Error != "" {
		s.Fatalf("folders: %+v", folders)
	}
	built := expect[events.BuildFinished](s, s.buildEffect(id, attempt))
	if !built.Success || built.ImageID == "" || built.Error != "" {
		s.Fatalf("build: %+v", built)
	}
	return built.ImageID
}

// start starts an attempt and returns its container, as the host lists it.
func (s *suite) start(id events.ProgramID, image string, attempt uint64) effects.Container {
	s.Helper()
	started := expect[events.RuntimeStarted](s, effects.StartRuntime{Placement: s.place(attempt), ProgramID: id, ImageID: image})
	c, found := s.find(started.ContainerID)
	if !found || c.ProgramID != id || c.Attempt != attempt {
		s.Fatalf("started %s, and the host lists %+v", started.ContainerID, c)
	}
	return c
}

func (s *suite) run(id events.ProgramID) effects.Container {
	s.Helper()
	c := s.start(id, s.build(id, 1), 1)
	s.checkRunning(c)
	return c
}

func (s *suite) find(containerID string) (effects.Container, bool) {
	s.Helper()
	list, err := s.Containers(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	for _, c := range list {
		if c.ID == containerID {
			return c, true
		}
	}
	return effects.Container{}, false
}

func (s *suite) checkRunning(c effects.Container) {
	s.Helper()
	if now, found := s.find(c.ID); !found || !now.Running {
		s.Errorf("the container does not run: %+v", now)
	}
	if result := s.status(c.ID); result != nil {
		s.Errorf("the status of a running container is %+v", result)
	}
}

func (s *suite) checkGone(c effects.Container) {
	s.Helper()
	if now, found := s.find(c.ID); found {
		s.Errorf("the container is still there: %+v", now)
	}
	s.checkExit(c.ID, -1)
}

func (s *suite) checkExit(containerID string, exitCode int) {
	s.Helper()
	want := events.RuntimeExited{ContainerID: containerID, ExitCode: exitCode}
	if result := s.status(containerID); result != want {
		s.Errorf("the status is %+v, want %+v", result, want)
	}
}

func (s *suite) status(containerID string) events.Event {
	s.Helper()
	return s.execute(effects.FetchRuntimeStatus{Placement: s.place(1), ContainerID: containerID})
}

func (s *suite) stop(owner events.ProgramID, containerID string) {
	s.Helper()
	want := events.StopFinished{ContainerID: containerID, Success: true}
	result := s.execute(effects.StopRuntime{Placement: s.place(1), ProgramID: owner, ContainerID: containerID})
	if result != want {
		s.Errorf("stop gives %+v, want %+v", result, want)
	}
}

func life(s *suite) {
	id := s.Program(s.T)
	c := s.run(id)
	s.stop(id, c.ID)
	s.checkGone(c)
}

func foldersTwice(s *suite) {
	id := s.Program(s.T)
	for range 2 {
		folders := expect[events.FoldersEnsured](s, effects.EnsureProgramFolders{Placement: s.place(1), ProgramID: id})
		if want := (events.FoldersEnsured{Success: true}); folders != want {
			s.Errorf("folders: %+v", folders)
		}
	}
}

// buildTwice leaves open whether a second build of an attempt makes the same image, but each must start.
func buildTwice(s *suite) {
	id := s.Program(s.T)
	first, second := s.build(id, 1), s.build(id, 1)
	s.start(id, second, 1)
	s.start(id, first, 2)
}

func startTwice(s *suite) {
	id := s.Program(s.T)
	image := s.build(id, 1)
	first, second := s.start(id, image, 1), s.start(id, image, 1)
	if first.ID != second.ID {
		s.Errorf("the second start made another container")
	}
	s.checkRunning(first)
}

func startOfDead(s *suite) {
	id := s.Program(s.T)
	image := s.build(id, 1)
	c := s.start(id, image, 1)
	s.Exit(s.T, c, 4)
	if again := s.start(id, image, 1); again.ID != c.ID || again.Running {
		s.Errorf("the start of an attempt whose container is dead gives %+v", again)
	}
	s.checkExit(c.ID, 4)
}

func newAttempt(s *suite) {
	id, other := s.Program(s.T), s.Program(s.T)
	first, bystander := s.run(id), s.run(other)
	second := s.start(id, s.build(id, 2), 2)
	if second.ID == first.ID {
		s.Fatal("two attempts have one container")
	}
	s.checkRunning(second)
	s.checkRunning(bystander)
	s.checkGone(first)
}

func exit(s *suite) {
	for _, code := range []int{0, 3, 255} {
		c := s.run(s.Program(s.T))
		s.Exit(s.T, c, code)
		if now, found := s.find(c.ID); !found || now.Running || now.ExitCode != code || now.OOMKilled {
			s.Errorf("after its exit with %d the container is %+v", code, now)
		}
		s.checkExit(c.ID, code)
		s.checkExit(c.ID, code) // Asking changes nothing.
	}
}

func statusOfNothing(s *suite) {
	s.checkExit("nothing-of-that-name", -1)
}

func stopTwice(s *suite) {
	id := s.Program(s.T)
	c := s.run(id)
	s.stop(id, c.ID)
	s.stop(id, c.ID)
}

func stopOfNothing(s *suite) {
	s.stop(s.Program(s.T), "nothing-of-that-name")
	s.stop("", "nothing-of-that-name")
}

func stopOfDead(s *suite) {
	id := s.Program(s.T)
	c := s.run(id)
	s.Exit(s.T, c, 1)
	s.stop(id, c.ID)
	s.checkGone(c)
}

func stopOfAnothers(s *suite) {
	owner, other := s.Program(s.T), s.Program(s.T)
	c := s.run(owner)
	result := expect[events.StopFinished](s, effects.StopRuntime{Placement: s.place(1), ProgramID: other, ContainerID: c.ID})
	if result.Success || result.Error == "" || result.ContainerID != c.ID {
		s.Errorf("stopping another program's container gives %+v", result)
	}
	s.checkRunning(c)
}

func stopOfNobodys(s *suite) {
	c := s.run(s.Program(s.T))
	s.stop("", c.ID) // "" does not check.
	s.checkGone(c)
}

func stopLeavesOthersAlone(s *suite) {
	id, other := s.Program(s.T), s.Program(s.T)
	c, bystander := s.run(id), s.run(other)
	s.stop(id, c.ID)
	s.checkGone(c)
	s.checkRunning(bystander)
}

func failures(s *suite) {
	s.Run(string(effects.TypeEnsureProgramFolders), func(t *testing.T) {
		s := &suite{T: t, Fixture: s.Fixture}
		id := s.Broken(t, effects.TypeEnsureProgramFolders)
		result := expect[events.FoldersEnsured](s, effects.EnsureProgramFolders{Placement: s.place(1), ProgramID: id})
		if result.Success || result.Error == "" {
			t.Errorf("the result is %+v", result)
		}
	})
	s.Run(string(effects.TypeBuildRuntime), func(t *testing.T) {
		s := &suite{T: t, Fixture: s.Fixture}
		id := s.Broken(t, effects.TypeBuildRuntime)
		result := expect[events.BuildFinished](s, s.buildEffect(id, 1))
		if result.Success || result.ImageID != "" || result.Error == "" {
			t.Errorf("the result is %+v", result)
		}
	})
	s.Run(string(effects.TypeStartRuntime), func(t *testing.T) {
		s := &suite{T: t, Fixture: s.Fixture}
		id := s.Broken(t, effects.TypeStartRuntime)
		built := s.execute(s.buildEffect(id, 1))
		image := "no-image"
		if b, ok := built.(events.BuildFinished); ok && b.Success {
			image = b.ImageID
		}
		result := expect[events.StartFailed](s, effects.StartRuntime{Placement: s.place(1), ProgramID: id, ImageID: image})
		if result.Reason == "" {
			t.Error("there is no reason")
		}
		list, err := s.Containers(t.Context())
		for _, c := range list {
			if c.ProgramID == id {
				t.Errorf("a container was left behind: %+v, %v", c, err)
			}
		}
	})
}

// endedContext runs everything in a context that has ended: nothing comes of it, and nothing is told.
func endedContext(s *suite) {
	id := s.Program(s.T)
	c := s.run(id)
	ended, cancel := context.WithCancel(s.Context())
	cancel()
	for _, eff := range []effects.Effect{
		effects.EnsureProgramFolders{ProgramID: id}, s.buildEffect(id, 2), effects.StartRuntime{Placement: s.place(2), ProgramID: id, ImageID: "x"},
		effects.StopRuntime{ProgramID: id, ContainerID: c.ID}, effects.FetchRuntimeStatus{ContainerID: "nothing-of-that-name"},
	} {
		if result := s.Handler.Execute(ended, eff); result != nil {
			s.Errorf("%s gives %+v", eff.Type(), result)
		}
	}
	s.checkRunning(c)
}

func manyAtOnce(s *suite) {
	const programs = 3
	ids := make([]events.ProgramID, programs)
	for i := range ids {
		ids[i] = s.Program(s.T)
	}
	var wg sync.WaitGroup
	faults := make(chan string, programs)
	for _, id := range ids {
		wg.Go(func() {
			if fault := s.liveQuietly(id); fault != "" {
				faults <- fmt.Sprintf("%s: %s", id, fault)
			}
		})
	}
	wg.Wait()
	close(faults)
	for fault := range faults {
		s.Error(fault)
	}
}

// liveQuietly is life for a goroutine, which may not end the test.
func (s *suite) liveQuietly(id events.ProgramID) string {
	ctx := s.Context()
	if folders, ok := s.Handler.Execute(ctx, effects.EnsureProgramFolders{ProgramID: id}).(events.FoldersEnsured); !ok || !folders.Success {
		return fmt.Sprintf("folders: %+v", folders)
	}
	built, ok := s.Handler.Execute(ctx, s.buildEffect(id, 1)).(events.BuildFinished)
	if !ok || !built.Success {
		return fmt.Sprintf("build: %+v", built)
	}
	start := effects.StartRuntime{Placement: s.place(1), ProgramID: id, ImageID: built.ImageID}
	started, ok := s.Handler.Execute(ctx, start).(events.RuntimeStarted)
	if !ok {
		return "not started"
	}
	stop := effects.StopRuntime{Placement: s.place(1), ProgramID: id, ContainerID: started.ContainerID}
	if stopped, ok := s.Handler.Execute(ctx, stop).(events.StopFinished); !ok || !stopped.Success {
		return fmt.Sprintf("stop: %+v", stopped)
	}
	return ""
}
