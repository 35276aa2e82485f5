package events_test

import (
	"errors"
	"reflect"
	"testing"

	"github.com/rlaaudgjs5638/hersh/events"
)

// TestKeptSaysTheSame holds a message that was decoded once against one that is decoded each time, also for another program.
func TestKeptSaysTheSame(t *testing.T) {
	const own, other = "u-build-0123456789ab-00000000-0000-4000-8000-000000000001", "u-build-0123456789ab-00000000-0000-4000-8000-000000000002"
	for _, stored := range []events.Stored{
		{Seq: 1, Type: events.TypeUserStartRequested, Data: []byte(`{"programId":"` + own + `"}`)},
		{Seq: 2, Type: events.TypeUserStopRequested, Data: []byte(`{}`)},
		{Seq: 3, Type: events.TypeBuildFinished, Data: []byte(`{"x":`)},
		{Seq: 4, Type: "Nonsense", Data: []byte(`{}`)},
	} {
		kept := stored.Kept(own)
		for _, id := range []events.ProgramID{own, other} {
			want, wrong := events.Decode(id, stored.Type, stored.Data)
			for what, s := range map[string]events.Stored{"stored": stored, "kept": kept} {
				got, err := s.Decode(id)
				if !reflect.DeepEqual(got, want) || (err == nil) != (wrong == nil) || err != nil && err.Error() != wrong.Error() {
					t.Errorf("event %d of %s, %s, says %+v, %v; want %+v, %v", stored.Seq, id, what, got, err, want, wrong)
				}
			}
		}
	}
	kept := events.Stored{Seq: 1, Type: events.TypeUserStopRequested, Data: []byte(`{}`)}.Kept(own)
	kept.Data = nil // Nobody looks at it again.
	if ev, err := kept.Decode(own); err != nil || ev != (events.UserStopRequested{ProgramID: own}) {
		t.Errorf("what was decoded before says %+v, %v", ev, err)
	}
	if _, err := (events.Stored{Type: events.TypeUserStartRequested, Data: []byte(`{"programId":"` + own + `"}`)}).Kept(own).Decode(other); !errors.Is(err, events.ErrMalformed) {
		t.Errorf("a request for another program gives %v", err)
	}
}
