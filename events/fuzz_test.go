package events_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/rlaaudgjs5638/hersh/events"
)

// FuzzDecode checks that decoding is total, and that what decodes is a value that survives the wire again.
func FuzzDecode(f *testing.F) {
	for _, s := range samples() {
		f.Add(string(s.event.Type()), []byte(s.wire))
		f.Add(string(s.event.Type()), []byte(`{}`))
	}
	for _, r := range refusals() {
		if len(r.data) < 1000 {
			f.Add(string(r.typ), []byte(r.data))
		}
	}
	f.Add("StartFailed", []byte(`{"reason":"`+strings.Repeat("é", events.MaxText)+`"}`))
	f.Add("Nothing", []byte(`{}`))
	f.Fuzz(func(t *testing.T, typ string, data []byte) {
		ev, err := events.Decode(alice, events.Type(typ), data)
		if err != nil {
			checkRefusal(t, ev, err)
			return
		}
		if string(ev.Type()) != typ {
			t.Fatalf("type %q decodes to a %s", typ, ev.Type())
		}
		again, err := events.Encode(ev)
		if err != nil || len(again) > events.MaxEventBytes {
			t.Fatalf("%+v encodes to %d bytes, %v", ev, len(again), err)
		}
		if got, err := events.Decode(alice, ev.Type(), again); err != nil || got != ev {
			t.Fatalf("%q\nencodes to %s\nwhich decodes to %+v, %v\nwant %+v", data, again, got, err, ev)
		}
	})
}

func checkRefusal(t *testing.T, ev events.Event, err error) {
	t.Helper()
	if ev != nil {
		t.Fatalf("an event %+v beside the error %v", ev, err)
	}
	if errors.Is(err, events.ErrMalformed) == errors.Is(err, events.ErrUnknownType) {
		t.Fatalf("%v is not one of the two reasons", err)
	}
	if len(err.Error()) > 1200 { // A byte of a type may take ten in quotes.
		t.Fatalf("the reason has %d bytes", len(err.Error()))
	}
}

// FuzzParseProgramID checks that what parses is made of the parts that it names and of harmless characters.
func FuzzParseProgramID(f *testing.F) {
	f.Add(string(alice))
	f.Add(string(trickyP))
	f.Add(strings.ToUpper(string(alice)))
	f.Add("urn:uuid:" + anUUID)
	for _, bad := range hostile() {
		f.Add(bad + string(alice))
		f.Add(strings.Replace(string(alice), "alice", bad, 1))
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := events.ParseProgramID(s)
		if err != nil {
			if !errors.Is(err, events.ErrInvalidID) || id != "" {
				t.Fatalf("%q gave %q, %v", s, id, err)
			}
			return
		}
		tail, found := strings.CutPrefix(s, string(id.User())+"-"+string(id.Build())+"-")
		if string(id) != s || !found || len(tail) != len(anUUID) {
			t.Fatalf("%q has user %q and build %q", s, id.User(), id.Build())
		}
		if bad := strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-"); bad != "" || len(s) > 88 {
			t.Fatalf("%q is not harmless", s)
		}
		if _, err := events.ParseUserID(string(id.User())); err != nil {
			t.Fatal(err)
		}
		if _, err := events.ParseBuildID(string(id.Build())); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzSubjects checks that a subject which parses is the one that the parts build again: nobody can name a program by
// two subjects.
func FuzzSubjects(f *testing.F) {
	f.Add(events.ProgramStream(alice))
	f.Add(events.FeedSubject(alice, events.TypeStartFailed))
	f.Add(events.FeedSubject(trickyP, ""))
	f.Add(wakeOf(events.FeedSubject(alice, events.TypeStartFailed)))
	f.Add(events.CheckpointKey(trickyP))
	f.Add(events.APISubject("alice", "create"))
	f.Add(events.APISubject("alice", "a.b"))
	f.Add(events.EventSubjects(alice))
	f.Add(events.EffectsQueue("", events.ClassBuild))
	f.Add(events.EffectsQueue("rack1-07", events.ClassRun))
	for _, bad := range hostile() {
		f.Add("hersh.wake." + bad + "." + string(alice))
	}
	f.Fuzz(func(t *testing.T, s string) {
		if id, ok := events.ParseProgramStream(s); ok && events.ProgramStream(id) != s {
			t.Errorf("stream %q is that of %q", s, id)
		}
		if id, err := events.ParseCheckpointKey(s); err == nil && events.CheckpointKey(id) != s {
			t.Errorf("key %q is that of %q", s, id)
		}
		if id, typ, err := events.ParseFeedSubject(s); err == nil && events.FeedSubject(id, typ) != s {
			t.Errorf("feed %q is that of %q and %q", s, id, typ)
		}
		if id, err := events.ParseWakeSubject(s); err == nil && wakeOf(events.FeedSubject(id, "x")) != s {
			t.Errorf("wake-up %q is that of %q", s, id)
		}
		if user, verb, err := events.ParseAPISubject(s); err == nil && events.APISubject(user, verb) != s {
			t.Errorf("request %q is that of %q and %q", s, user, verb)
		}
		if host, class, err := events.ParseEffectsQueue(s); err == nil && events.EffectsQueue(host, class) != s {
			t.Errorf("queue %q is that of %q and %q", s, host, class)
		}
		if typ := string(events.EventType(s)); !strings.HasSuffix(s, typ) || strings.Contains(typ, ".") {
			t.Errorf("the type of %q is %q", s, typ)
		}
	})
}
