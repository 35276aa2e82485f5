package reducer

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"iter"
	"time"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
)

// Step is what one stored event did.
type Step struct {
	Seq     uint64
	Time    time.Time // When the server stored the event.
	Type    events.Type
	Event   events.Event // nil when it was rejected.
	Reject  error        // Why it does not count: it wraps events.ErrMalformed or events.ErrUnknownType.
	Ignored string       // Why an event that decodes changes nothing and has no effects; "" where it does.
	Before  ProgramState
	After   ProgramState
	Effects []effects.Effect
}

// Digest is the rolling SHA-256 of a log up to some sequence, in hex; "" is that of an empty log. Each event adds its
// sequence, type and bytes.
type Digest string

// Version is that of the rules by which a log is folded. It is raised with every change that gives a log another fold than before, so
// that no service goes on from a checkpoint that was made by other rules.
const Version = 2

// Checkpoint is the fold of a log up to one sequence. It is a cache: the log gives the same one again.
type Checkpoint struct {
	Seq    uint64       `json:"seq"` // Of the last event folded in; 0 is none.
	State  ProgramState `json:"state"`
	Digest Digest       `json:"digest"`
	Time   time.Time    `json:"time,omitzero"` // When the last event was stored.
}

// NewCheckpoint is the fold of the empty log of a program.
func NewCheckpoint(id events.ProgramID) Checkpoint {
	return Checkpoint{State: NewProgramState(id, id.Build())}
}

// Next folds in one stored event. An event that is not after the checkpoint is a fault of the caller's and is an error.
func (c Checkpoint) Next(stored events.Stored) (Checkpoint, Step, error) {
	if stored.Seq <= c.Seq {
		return c, Step{}, fmt.Errorf("replay %s: event %d comes after event %d", c.State.ID, stored.Seq, c.Seq)
	}
	step := Step{Seq: stored.Seq, Time: stored.Time, Type: stored.Type, Before: c.State, After: c.State}
	step.Event, step.Reject = stored.Decode(c.State.ID)
	if step.Reject == nil {
		step.After, step.Effects, step.Ignored = transition(c.State, step.Event)
	}
	return Checkpoint{Seq: stored.Seq, State: step.After, Digest: c.Digest.add(stored), Time: stored.Time}, step, nil
}

// Replay folds a log from a checkpoint on and returns each step. It ends at the first error, of the log or of its order, which
// it returns. Callers that need the checkpoint itself fold with Next.
func Replay(from Checkpoint, log iter.Seq2[events.Stored, error]) iter.Seq2[Step, error] {
	return func(yield func(Step, error) bool) {
		at := from
		for stored, err := range log {
			var step Step
			if err == nil {
				at, step, err = at.Next(stored)
			}
			if !yield(step, err) || err != nil {
				return
			}
		}
	}
}

// add hashes the digest so far, then sequence, lengths and bytes: no two logs give the same input.
func (d Digest) add(stored events.Stored) Digest {
	head := make([]byte, 0, sha256.Size+3*8+len(stored.Type)+len(stored.Data))
	head, _ = hex.AppendDecode(head, []byte(d))
	head = binary.BigEndian.AppendUint64(head, stored.Seq)
	head = binary.BigEndian.AppendUint64(head, uint64(len(stored.Type)))
	head = append(head, stored.Type...)
	head = binary.BigEndian.AppendUint64(head, uint64(len(stored.Data)))
	sum := sha256.Sum256(append(head, stored.Data...))
	return Digest(hex.EncodeToString(sum[:]))
}
