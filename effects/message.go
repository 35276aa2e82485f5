package effects

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/rlaaudgjs5638/hersh/events"
)

// Message carries the effects of one transition, in order. For Hersh's own executors it is a trigger only: they derive
// the effects from the program's log, up to Seq.
type Message struct {
	ProgramID events.ProgramID
	Seq       uint64    // Sequence of the event whose transition decided them.
	Time      time.Time // When that event was stored.
	Attempt   uint64
	Effects   []Effect
}

// Key is the idempotency key of the publication of the message. The time tells the log from an earlier one of the same program, which
// was deleted, or restored to less than it was: that one's keys are remembered still.
func (m Message) Key() string {
	return fmt.Sprintf("%s/%d", Key(m.ProgramID, m.Seq), m.Time.UnixNano())
}

// Key names the effects of one transition.
func Key(id events.ProgramID, seq uint64) string { return fmt.Sprintf("%s/%d", id, seq) }

// ResultKey is the idempotency key of the result of the i-th effect of a transition. The host is part of it: two hosts
// may have run the same message, and neither may hide the other's result.
func ResultKey(id events.ProgramID, seq uint64, i int, host events.HostID) string {
	return fmt.Sprintf("%s/%d/%d/%s", id, seq, i, host)
}

// ExitKey is the idempotency key of the exit of a container.
func ExitKey(id events.ProgramID, containerID string) string {
	return fmt.Sprintf("%s/exit/%s", id, containerID)
}

// Class returns the queue for the effects of one transition, which are always of one class.
func Class(effs []Effect) events.Class {
	for _, eff := range effs {
		switch eff.(type) {
		case EnsureProgramFolders, BuildRuntime:
			return events.ClassBuild
		}
	}
	return events.ClassRun
}

// MarshalJSON writes each effect as an object with its "type" first.
func (m Message) MarshalJSON() ([]byte, error) {
	type wire struct {
		ProgramID events.ProgramID  `json:"programId"`
		Seq       uint64            `json:"seq"`
		Attempt   uint64            `json:"attempt"`
		Effects   []json.RawMessage `json:"effects"`
	}
	out := wire{ProgramID: m.ProgramID, Seq: m.Seq, Attempt: m.Attempt, Effects: []json.RawMessage{}}
	for _, eff := range m.Effects {
		raw, err := MarshalEffect(eff)
		if err != nil {
			return nil, err
		}
		out.Effects = append(out.Effects, raw)
	}
	return json.Marshal(out)
}

// MarshalEffect returns the JSON object of an effect, its "type" among the fields.
func MarshalEffect(eff Effect) (json.RawMessage, error) {
	fields, err := json.Marshal(eff)
	if err != nil {
		return nil, fmt.Errorf("encode effect %s: %w", eff.Type(), err)
	}
	head := fmt.Sprintf(`{"type":%q,`, eff.Type())
	return append([]byte(head), fields[1:]...), nil // Every effect has a field that is never omitted.
}

// ParseTrigger reads what Hersh's executors use of a message: which program, and up to which sequence. The rest of the
// body is not trusted and not read.
func ParseTrigger(data []byte) (events.ProgramID, uint64, error) {
	var m struct {
		ProgramID string `json:"programId"`
		Seq       uint64 `json:"seq"`
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return "", 0, fmt.Errorf("read effects message: %.200s", err) // It may quote the whole body.
	}
	id, err := events.ParseProgramID(m.ProgramID)
	if err != nil {
		return "", 0, fmt.Errorf("read effects message: %w", err)
	}
	if m.Seq == 0 {
		return "", 0, fmt.Errorf("read effects message of %s: it has no sequence", id)
	}
	return id, m.Seq, nil
}
