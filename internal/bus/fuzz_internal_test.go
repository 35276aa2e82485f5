package bus

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

// FuzzCheckpoint checks that whatever lies in the bucket of checkpoints, what is taken from it is one of the program that was
// asked for, comes back the same when it is written, and can be folded on with any event.
func FuzzCheckpoint(f *testing.F) {
	const id = events.ProgramID("alice-build-0123456789ab-6ba7b810-9dad-41d1-80b4-00c04fd430c8")
	cp := reducer.NewCheckpoint(id)
	cp.Seq, cp.Time = 3, time.Unix(1, 0).UTC()
	for _, state := range []reducer.State{reducer.StateCreated, reducer.StateReady, reducer.StateError, reducer.StateStopping} {
		cp.State.State = state
		data, err := json.Marshal(savedCheckpoint{reducer.Version, cp})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, "UserStopRequested", []byte(`{}`))
		f.Add(data, "RuntimeExited", []byte(`{"exitCode":3,"attempt":1}`))
	}
	for _, seed := range []string{``, `null`, `{}`, `{"seq":-1}`, `{"version":2,"seq":1,"state":{"id":"` + string(id) + `"},"digest":"zz"}`, `{"state":[]}`} {
		f.Add([]byte(seed), "HostLost", []byte(`{"hostId":"h1"}`))
	}
	f.Fuzz(func(t *testing.T, data []byte, typ string, event []byte) {
		cp, err := decodeCheckpoint(id, data)
		if err != nil {
			if !errors.Is(err, errUnreadable) || cp != (reducer.Checkpoint{}) {
				t.Errorf("%+v, %v", cp, err)
			}
			return
		}
		if cp.State.ID != id || cp.Seq == 0 {
			t.Fatalf("the checkpoint is one of %q at %d", cp.State.ID, cp.Seq)
		}
		text, err := json.Marshal(savedCheckpoint{reducer.Version, cp})
		if err != nil {
			t.Fatal(err)
		}
		if again, err := decodeCheckpoint(id, text); err != nil || !again.Time.Equal(cp.Time) || again.State != cp.State || again.Digest != cp.Digest {
			t.Errorf("%+v came back as %+v, %v", cp, again, err)
		}
		stored := events.Stored{Seq: cp.Seq + 1, Type: events.Type(typ), Data: event}
		if stored.Seq == 0 {
			return // The last there is.
		}
		if next, _, err := cp.Next(stored); err != nil || next.Seq != stored.Seq || next.State.ID != id {
			t.Errorf("folding on gives %+v, %v", next, err)
		}
	})
}
