package effects

import (
	"context"
	"errors"

	"github.com/rlaaudgjs5638/hersh/events"
)

// Type is the name of an effect type: the name of its Go struct.
type Type string

// Effect is one thing that a transition asks a host to do. The implementations are the structs of this package. Every
// effect is idempotent: running it twice, or on a half-done first try, ends in the same place.
type Effect interface {
	// Type returns the effect's type name.
	Type() Type
	// Place returns where it must run, and for which attempt of the program.
	Place() Placement
	isEffect()
}

// Placement is part of every effect.
type Placement struct {
	HostID  events.HostID `json:"hostId,omitempty"`  // The host that must run it; "" is any host.
	Attempt uint64        `json:"attempt,omitempty"` // ProgramState.Attempt when it was decided.
}

// EnsureProgramFolders creates the folders of a program. Its result is FoldersEnsured.
type EnsureProgramFolders struct {
	Placement
	ProgramID events.ProgramID `json:"programId"`
}

// BuildRuntime builds the image of a program. Its result is BuildFinished.
type BuildRuntime struct {
	Placement
	ProgramID    events.ProgramID    `json:"programId"`
	BuildID      events.BuildID      `json:"buildId"`
	SourceDigest events.SourceDigest `json:"sourceDigest,omitempty"` // What the source must hash to; "" builds what is in SrcPath.
	SrcPath      string              `json:"srcPath,omitempty"`      // Source folder; "" is the program's src/ on the host that builds.
	Dockerfile   string              `json:"dockerfile,omitempty"`   // Path below the source folder; "" is "Dockerfile".
}

// StartRuntime starts the container of an attempt. Its result is RuntimeStarted or StartFailed.
type StartRuntime struct {
	Placement
	ProgramID events.ProgramID `json:"programId"`
	ImageID   string           `json:"imageId"`
	StatePath string           `json:"statePath,omitempty"` // Host path of /state; "" is the program's state/ on the host.
	Limits    events.Limits    `json:"limits,omitzero"`
}

// StopRuntime stops and removes one container. Its result is StopFinished.
type StopRuntime struct {
	Placement
	ProgramID   events.ProgramID `json:"programId,omitempty"` // Owner; a container of another program is not touched. "" does not check.
	ContainerID string           `json:"containerId"`
}

// FetchRuntimeStatus asks for the fate of a container. Its result is RuntimeExited, or none while it runs. No transition
// asks for it: executors do, to find exits that they missed.
type FetchRuntimeStatus struct {
	Placement
	ContainerID string `json:"containerId"`
}

// The type names of all effects.
const (
	TypeEnsureProgramFolders Type = "EnsureProgramFolders"
	TypeBuildRuntime         Type = "BuildRuntime"
	TypeStartRuntime         Type = "StartRuntime"
	TypeStopRuntime          Type = "StopRuntime"
	TypeFetchRuntimeStatus   Type = "FetchRuntimeStatus"
)

func (EnsureProgramFolders) Type() Type { return TypeEnsureProgramFolders }
func (BuildRuntime) Type() Type         { return TypeBuildRuntime }
func (StartRuntime) Type() Type         { return TypeStartRuntime }
func (StopRuntime) Type() Type          { return TypeStopRuntime }
func (FetchRuntimeStatus) Type() Type   { return TypeFetchRuntimeStatus }

// Place returns the placement itself, so that embedding it is enough.
func (p Placement) Place() Placement { return p }

func (EnsureProgramFolders) isEffect() {}
func (BuildRuntime) isEffect()         {}
func (StartRuntime) isEffect()         {}
func (StopRuntime) isEffect()          {}
func (FetchRuntimeStatus) isEffect()   {}

// ErrElsewhere says that a host does not take effects which are for any host: it has no room, or takes no new program. Another may.
var ErrElsewhere = errors.New("it is left to another host")

// MaxWaiting is how many messages of one program may wait in one queue; more are ErrBacklog. A program waits for one thing at a time, so
// the rest is what its users took back before a host came to it: this is many more than an honest user makes, and of all the programs that
// a quota allows it is still little on a disk.
const MaxWaiting = 100

// ErrBacklog says that MaxWaiting messages of a program wait already in the queue that another is for. There is room again once a host
// takes some.
var ErrBacklog = errors.New("as many effects of the program as may wait already for a host to take them")

// EffectHandler runs effects. FakeEffectHandler and host.RealEffectHandler implement it and pass one conformance suite.
type EffectHandler interface {
	// Execute runs one effect and returns its result event, without an Origin. nil means that there is nothing to tell:
	// a container that still runs (FetchRuntimeStatus), or an effect that could not be tried to its end, because ctx
	// ended or the host's Docker or disk is out of order; such an effect is to be run again.
	Execute(ctx context.Context, eff Effect) events.Event
}

// Container is what a host knows of a container that Hersh started.
type Container struct {
	ID        string
	ProgramID events.ProgramID
	Attempt   uint64
	Running   bool
	ExitCode  int  // Meaningful when it does not run.
	OOMKilled bool // The daemon says that it ran out of memory.
}
