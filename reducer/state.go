package reducer

import (
	"fmt"

	"github.com/rlaaudgjs5638/hersh/events"
)

// State is where a program is in its life.
type State int

// The states of a program. Building, Starting and Stopping wait for a host; the others are at rest.
const (
	StateCreated State = iota
	StateBuilding
	StateStarting
	StateReady
	StateStopping
	StateStopped
	StateError
)

// String returns the name without its prefix, for instance "Ready".
func (s State) String() string {
	switch s {
	case StateCreated:
		return "Created"
	case StateBuilding:
		return "Building"
	case StateStarting:
		return "Starting"
	case StateReady:
		return "Ready"
	case StateStopping:
		return "Stopping"
	case StateStopped:
		return "Stopped"
	case StateError:
		return "Error"
	}
	return fmt.Sprintf("State(%d)", int(s))
}

// NeedsHost reports whether a program in this state waits for its host, or runs there.
func (s State) NeedsHost() bool {
	switch s {
	case StateBuilding, StateStarting, StateReady, StateStopping:
		return true
	}
	return false
}

// MarshalText writes the state as its name.
func (s State) MarshalText() ([]byte, error) {
	if s < StateCreated || s > StateError {
		return nil, fmt.Errorf("encode state %d: there is none of that number", int(s))
	}
	return []byte(s.String()), nil
}

// UnmarshalText reads the name of a state.
func (s *State) UnmarshalText(text []byte) error {
	for known := StateCreated; known <= StateError; known++ {
		if known.String() == string(text) {
			*s = known
			return nil
		}
	}
	return fmt.Errorf("decode state: there is none called %.20q", text)
}

// ProgramState is what the log of a program amounts to. It is comparable with ==.
type ProgramState struct {
	ID          events.ProgramID `json:"id"`
	State       State            `json:"state"`
	BuildID     events.BuildID   `json:"buildId"`
	ImageID     string           `json:"imageId,omitempty"`     // Set after a successful build.
	ContainerID string           `json:"containerId,omitempty"` // Set after a successful start; cleared when a stop succeeds and when Building is entered.
	ErrorMsg    string           `json:"errorMsg,omitempty"`    // Set when State is StateError.

	HostID         events.HostID       `json:"hostId,omitempty"`         // Where the program is placed: the host of its first successful build.
	Attempt        uint64              `json:"attempt,omitempty"`        // How many times Building was entered.
	RestartPending bool                `json:"restartPending,omitempty"` // Stopping, and to be started again after.
	ExitCode       int                 `json:"exitCode,omitempty"`       // Of the container that exited, when State is StateError for that.
	SourceDigest   events.SourceDigest `json:"sourceDigest,omitempty"`   // From ProgramCreated.
	Limits         events.Limits       `json:"limits,omitzero"`          // From ProgramCreated.
}

// NewProgramState returns the state of a program before its first event.
func NewProgramState(id events.ProgramID, buildID events.BuildID) ProgramState {
	return ProgramState{ID: id, State: StateCreated, BuildID: buildID}
}
