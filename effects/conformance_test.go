package effects_test

import (
	"testing"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/effects/handlertest"
	"github.com/rlaaudgjs5638/hersh/events"
)

func TestFakeHandlerConforms(t *testing.T) {
	handlertest.Run(t, func(t *testing.T) handlertest.Fixture {
		h := effects.NewFakeEffectHandler()
		newProgram := func(*testing.T) events.ProgramID { return events.NewProgramID("alice", "build-0123456789ab") }
		return handlertest.Fixture{
			Handler:    h,
			Containers: h.Containers,
			Program:    newProgram,
			Broken: func(t *testing.T, typ effects.Type) events.ProgramID {
				h.FailFolders = typ == effects.TypeEnsureProgramFolders
				h.FailBuild = typ == effects.TypeBuildRuntime
				h.FailStart = typ == effects.TypeStartRuntime
				return newProgram(t)
			},
			Exit: func(t *testing.T, c effects.Container, exitCode int) {
				if !h.Exit(c.ID, exitCode) {
					t.Fatalf("container %s was not running", c.ID)
				}
			},
		}
	})
}
