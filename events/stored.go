package events

import (
	"errors"
	"time"
)

// ErrNoProgram says that there is no program of that ID: it was never created, or it was deleted.
var ErrNoProgram = errors.New("no such program")

// ErrNoSource says that the source tarball of a build is not there.
var ErrNoSource = errors.New("the source was never uploaded, or was removed")

// ErrLogFull says that the log of a program holds as many events of a type as it may: none of that type is ever stored again.
var ErrLogFull = errors.New("the log of the program holds as many events of this type as it may")

// ErrNoLeader says that nobody can say just now how far the log of a program goes: its leader is being elected, or does not answer.
// Whoever asked tries again; it never means that the program is gone.
var ErrNoLeader = errors.New("the leader of the log does not answer")

// ErrBehind says that a read returned less of a log than is known to exist, as a copy that lags may do. The next read may do better.
var ErrBehind = errors.New("the log that was read ends before an event that is known to be in it")

// How the server answers what ErrLogFull says. The code alone says only that it did not store the event.
const (
	LogFullCode = 10077
	LogFullText = "maximum messages per subject exceeded"
)

// Stored is one message of a program's log, as the stream keeps it. It need not hold an event that decodes.
type Stored struct {
	Seq  uint64    // Stream sequence; grows, but need not be contiguous.
	Time time.Time // When the server stored it.
	Type Type      // Last token of the subject; any string a client may have published.
	Data []byte

	decoded *decoded // Of one that is kept.
}

// decoded is what a message says as an event of a program.
type decoded struct {
	of  ProgramID
	ev  Event
	err error
}

// Kept is the same message in the log of a program that is kept in memory and replayed often: it is decoded now, and not again.
// Whoever changes a copy makes a new one.
func (s Stored) Kept(id ProgramID) Stored {
	ev, err := Decode(id, s.Type, s.Data)
	s.decoded = &decoded{of: id, ev: ev, err: err}
	return s
}

// Decode is what the message says as an event of the program whose log it is in; see the function.
func (s Stored) Decode(id ProgramID) (Event, error) {
	if s.decoded != nil && s.decoded.of == id {
		return s.decoded.ev, s.decoded.err
	}
	return Decode(id, s.Type, s.Data)
}

// Head is how far the log of a program goes.
type Head struct {
	ProgramID ProgramID
	Seq       uint64    // Of its last event; 0 is an empty log.
	Time      time.Time // When its last event was stored.
}
