package effects

import (
	"encoding/json"
	"testing"

	"github.com/rlaaudgjs5638/hersh/events"
)

// FuzzParseTrigger checks that whatever lies in the queue of effects, what is taken from it is the ID of a program and a
// sequence, and that an error about it fits into a line of a log.
func FuzzParseTrigger(f *testing.F) {
	const id = events.ProgramID("alice-build-0123456789ab-6ba7b810-9dad-41d1-80b4-00c04fd430c8")
	whole, err := json.Marshal(Message{ProgramID: id, Seq: 7, Attempt: 1, Effects: []Effect{
		EnsureProgramFolders{ProgramID: id}, BuildRuntime{ProgramID: id, BuildID: id.Build()},
	}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	for _, seed := range []string{
		``, `{}`, `null`, `[]`, `{"programId":"../x","seq":1}`, `{"programId":"` + string(id) + `","seq":-1}`, `{"PROGRAMID":"a","seq":1e9}`,
		`{"programId":"` + string(id) + `","seq":18446744073709551615}`, `{"programId":"` + string(id) + `","seq":1,"programId":"bob"}`,
		`{"programId":"alice-build-0123456789ab-6ba7b810-9dad-41d1-80b4-00c04fd430c8\u0000","seq":1}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		id, seq, err := ParseTrigger(data)
		if err != nil {
			if id != "" || seq != 0 || len(err.Error()) > 1024 {
				t.Errorf("%q, %d, and an error of %d bytes", id, seq, len(err.Error()))
			}
			return
		}
		if again, err := events.ParseProgramID(string(id)); again != id || err != nil || seq == 0 {
			t.Errorf("%q, %d is no trigger: %v", id, seq, err)
		}
	})
}
