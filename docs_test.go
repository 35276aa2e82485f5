package hersh_test

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"testing"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
)

// docProgram is the program of the examples in docs/events.md.
const docProgram = events.ProgramID("alice-build-0123456789ab-6f1c1a52-43a5-4e3c-9e0f-0d8a6f7b2c11")

// Every JSON example of the wire reference decodes as the type that its fence names, says all that it says (no field is lost on
// the way through the Go types), and every event type has an example.
func TestWireReferenceExamples(t *testing.T) {
	page, err := os.ReadFile("docs/events.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```json (\\w+)\n(.*?)```").FindAllSubmatch(page, -1)
	seen := map[string]bool{}
	for _, block := range blocks {
		name, body := string(block[1]), block[2]
		seen[name] = true
		if name == "effects" {
			checkEffects(t, body)
			continue
		}
		ev, err := events.Decode(docProgram, events.Type(name), bytes.TrimSpace(body))
		if err != nil {
			t.Errorf("example of %s: %v", name, err)
			continue
		}
		data, err := events.Encode(ev)
		if err != nil {
			t.Errorf("example of %s: %v", name, err)
			continue
		}
		got, want := generic(t, data), generic(t, body)
		delete(got, "programId") // User events get it from the subject.
		delete(want, "programId")
		if !sameJSON(got, want) {
			t.Errorf("example of %s says %v, its event %v", name, want, got)
		}
	}
	for _, typ := range []events.Type{
		events.TypeProgramCreated, events.TypeHostLost, events.TypeHostDrained, events.TypeUserStartRequested, events.TypeUserStopRequested,
		events.TypeUserRestartRequested, events.TypeFoldersEnsured, events.TypeBuildFinished, events.TypeRuntimeStarted,
		events.TypeStartFailed, events.TypeRuntimeExited, events.TypeStopFinished,
	} {
		if !seen[string(typ)] {
			t.Errorf("docs/events.md has no example of %s", typ)
		}
	}
}

func checkEffects(t *testing.T, body []byte) {
	t.Helper()
	id, seq, err := effects.ParseTrigger(body)
	if err != nil || id != docProgram || seq != 2 {
		t.Errorf("example of effects: program %s, sequence %d, %v", id, seq, err)
	}
	place := effects.Placement{Attempt: 1}
	msg := effects.Message{ProgramID: docProgram, Seq: 2, Attempt: 1, Effects: []effects.Effect{
		effects.EnsureProgramFolders{Placement: place, ProgramID: docProgram},
		effects.BuildRuntime{Placement: place, ProgramID: docProgram, BuildID: docProgram.Build(),
			SourceDigest: "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"},
	}}
	data, err := json.Marshal(msg)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := generic(t, data), generic(t, body); !sameJSON(got, want) {
		t.Errorf("the example says %v, the message %v", want, got)
	}
}

func generic(t *testing.T, data []byte) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	return v
}

func sameJSON(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}
