package events

// Type is the name of an event type, as it stands in the last token of a subject: the name of its Go struct.
type Type string

// Event is a fact about one program. The implementations are the structs of this package and nothing else.
type Event interface {
	// Type returns the event's type name.
	Type() Type
	isEvent()
}

// Origin says which host produced a result event, and for which attempt. Its zero value, meaning "not said", is
// accepted everywhere: the in-process Program has no hosts.
type Origin struct {
	HostID  HostID `json:"hostId,omitempty"`
	Attempt uint64 `json:"attempt,omitempty"` // ProgramState.Attempt of the effect that this is the result of; 0 is "not said".
}

// Limits bounds what a program may use. A zero field means the default of the host that runs it.
type Limits struct {
	MemoryBytes int64 `json:"memoryBytes,omitempty"` // RAM, no swap beyond it.
	CPUMillis   int64 `json:"cpuMillis,omitempty"`   // Thousandths of one CPU: 500 is half a CPU.
	Pids        int64 `json:"pids,omitempty"`        // Processes and threads at once.
}

// ProgramCreated is the first event of every log, published by a supervisor. The seed creates programs in memory; here
// creation is a fact like any other.
type ProgramCreated struct {
	BuildID      BuildID      `json:"buildId"`
	SourceDigest SourceDigest `json:"sourceDigest"`
	Limits       Limits       `json:"limits,omitzero"`
}

// HostLost says that a host is not coming back soon, published by a supervisor for each program on it.
type HostLost struct {
	HostID HostID `json:"hostId"`
	Reason string `json:"reason,omitempty"`
}

// HostDrained says that an operator drains a host and stops what runs there, published by a supervisor for each program on it.
type HostDrained struct {
	HostID HostID `json:"hostId"`
}

// UserStartRequested asks for a program to be built and started. ProgramID may be empty on the wire: the subject
// names the program.
type UserStartRequested struct {
	ProgramID ProgramID `json:"programId,omitempty"`
}

// UserStopRequested asks for a program to be stopped, or for its build to be given up.
type UserStopRequested struct {
	ProgramID ProgramID `json:"programId,omitempty"`
}

// UserRestartRequested asks for a running program to be stopped, rebuilt and started.
type UserRestartRequested struct {
	ProgramID ProgramID `json:"programId,omitempty"`
}

// FoldersEnsured is the result of EnsureProgramFolders.
type FoldersEnsured struct {
	Origin
	Success bool   `json:"success"`
	Error   string `json:"error,omitempty"` // Set when Success is false.
}

// BuildFinished is the result of BuildRuntime.
type BuildFinished struct {
	Origin
	Success bool   `json:"success"`
	ImageID string `json:"imageId,omitempty"` // Set when Success is true.
	Error   string `json:"error,omitempty"`   // Set when Success is false.
}

// RuntimeStarted is the result of a StartRuntime that succeeded.
type RuntimeStarted struct {
	Origin
	ContainerID string `json:"containerId"`
}

// StartFailed is the result of a StartRuntime that failed.
type StartFailed struct {
	Origin
	Reason string `json:"reason"`
}

// RuntimeExited says that a container ended without being asked to.
type RuntimeExited struct {
	Origin
	ContainerID string `json:"containerId,omitempty"` // "" means the program's container, as in the seed.
	ExitCode    int    `json:"exitCode"`              // As Docker tells it; -1 when the container is gone and nobody knows.
	OOMKilled   bool   `json:"oomKilled,omitempty"`   // Docker says that it ran out of memory; exit code 137 alone is no proof.
	Reason      string `json:"reason,omitempty"`      // Why the host ended it, a sentence; "" when it ended by itself.
}

// StopFinished is the result of StopRuntime. A container that was gone already is a success.
type StopFinished struct {
	Origin
	ContainerID string `json:"containerId,omitempty"` // "" means the program's container, as in the seed.
	Success     bool   `json:"success"`
	Error       string `json:"error,omitempty"` // Set when Success is false.
}

// The type names of all events.
const (
	TypeProgramCreated       Type = "ProgramCreated"
	TypeHostLost             Type = "HostLost"
	TypeHostDrained          Type = "HostDrained"
	TypeUserStartRequested   Type = "UserStartRequested"
	TypeUserStopRequested    Type = "UserStopRequested"
	TypeUserRestartRequested Type = "UserRestartRequested"
	TypeFoldersEnsured       Type = "FoldersEnsured"
	TypeBuildFinished        Type = "BuildFinished"
	TypeRuntimeStarted       Type = "RuntimeStarted"
	TypeStartFailed          Type = "StartFailed"
	TypeRuntimeExited        Type = "RuntimeExited"
	TypeStopFinished         Type = "StopFinished"
)

func (ProgramCreated) Type() Type       { return TypeProgramCreated }
func (HostLost) Type() Type             { return TypeHostLost }
func (HostDrained) Type() Type          { return TypeHostDrained }
func (UserStartRequested) Type() Type   { return TypeUserStartRequested }
func (UserStopRequested) Type() Type    { return TypeUserStopRequested }
func (UserRestartRequested) Type() Type { return TypeUserRestartRequested }
func (FoldersEnsured) Type() Type       { return TypeFoldersEnsured }
func (BuildFinished) Type() Type        { return TypeBuildFinished }
func (RuntimeStarted) Type() Type       { return TypeRuntimeStarted }
func (StartFailed) Type() Type          { return TypeStartFailed }
func (RuntimeExited) Type() Type        { return TypeRuntimeExited }
func (StopFinished) Type() Type         { return TypeStopFinished }

func (ProgramCreated) isEvent()       {}
func (HostLost) isEvent()             {}
func (HostDrained) isEvent()          {}
func (UserStartRequested) isEvent()   {}
func (UserStopRequested) isEvent()    {}
func (UserRestartRequested) isEvent() {}
func (FoldersEnsured) isEvent()       {}
func (BuildFinished) isEvent()        {}
func (RuntimeStarted) isEvent()       {}
func (StartFailed) isEvent()          {}
func (RuntimeExited) isEvent()        {}
func (StopFinished) isEvent()         {}

// WithOrigin returns a result event with its Origin set. Events that are not results come back unchanged.
func WithOrigin(ev Event, origin Origin) Event {
	switch e := ev.(type) {
	case FoldersEnsured:
		e.Origin = origin
		return e
	case BuildFinished:
		e.Origin = origin
		return e
	case RuntimeStarted:
		e.Origin = origin
		return e
	case StartFailed:
		e.Origin = origin
		return e
	case RuntimeExited:
		e.Origin = origin
		return e
	case StopFinished:
		e.Origin = origin
		return e
	}
	return ev
}

// Failed reports whether a result event tells of a failure, after which the effects that follow in the same transition
// are not run.
func Failed(ev Event) bool {
	switch e := ev.(type) {
	case FoldersEnsured:
		return !e.Success
	case BuildFinished:
		return !e.Success
	case StopFinished:
		return !e.Success
	case StartFailed:
		return true
	}
	return false
}
