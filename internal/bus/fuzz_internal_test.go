package bus

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

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

// FuzzHeaders checks that no headers of a publisher make an answer of a read be taken for another message than it is, or for none.
func FuzzHeaders(f *testing.F) {
	for _, seed := range []string{
		"NATS/1.0\r\n\r\n", "NATS/1.0\r\nNats-Sequence: 3\r\n\r\n", "NATS/1.0 404 Message Not Found\r\n\r\nX: ", "NATS/1.0 204 EOB\r\n\r\n", "", "\r\n",
		"NATS/1.0\r\nNats-Stream:x\r\nNats-Subject:s\r\nNats-Sequence:9\r\nNats-Time-Stamp:1999-01-01T00:00:00Z\r\nNats-Num-Pending:0\r\n\r\n",
		"NATS/1.0\r\nNats-Subject:s\nNats-Sequence:9\nNats-Time-Stamp:1999-01-01T00:00:00Z\n" + strings.Repeat("a:\n", 30) + "\nX: ",
	} {
		f.Add([]byte(seed), []byte(`{}`))
	}
	f.Fuzz(func(t *testing.T, block, data []byte) {
		const subject, at = "hersh.events.a.b.C", "2026-01-02T03:04:05.000000006Z"
		// As the server does it: without the last two bytes of the block, which should be the empty line at its end.
		head := append([]byte(nil), block[:max(len(block)-2, 0)]...)
		if len(block) <= 2 {
			head = []byte("NATS/1.0\r\n")
		}
		head = fmt.Appendf(head, "Nats-Stream: PROGRAM-x\r\nNats-Subject: %s\r\nNats-Sequence: 7\r\nNats-Time-Stamp: %s\r\nNats-Num-Pending: 5\r\nNats-Last-Sequence: 6\r\n\r\n", subject, at)
		msg := &nats.Msg{Data: data}
		msg.Header, _ = nats.DecodeHeadersMsg(head)
		if !isWhole(msg.Header, len(head)) {
			return // It is asked for again.
		}
		stored := fromHeaders(msg, 6)
		if stored == nil {
			t.Fatalf("with %q it passes for what a server says", block)
		}
		if stored.Subject != subject || stored.Sequence != 7 || stored.Time.Format(time.RFC3339Nano) != at ||
			last(msg.Header, "Nats-Num-Pending") != "5" {
			t.Errorf("with %q it is taken for %+v", block, stored)
		}
	})
}
