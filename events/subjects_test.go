package events_test

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/rlaaudgjs5638/hersh/events"
)

// TestNames writes the names out: clients in other languages build them by hand.
func TestNames(t *testing.T) {
	const a = "alice-build-0123456789ab-6ba7b810-9dad-41d1-80b4-00c04fd430c8"
	for _, c := range []struct{ got, want string }{
		{events.ProgramStream(alice), "PROGRAM-" + a},
		{events.EventSubject(alice, events.TypeUserStartRequested), "hersh.events.alice." + a + ".UserStartRequested"},
		{events.EventSubjects(alice), "hersh.events.alice." + a + ".*"},
		{events.FeedSubject(alice, "*"), "hersh.feed.alice." + a + ".*"},
		{events.UserFeedSubjects("alice"), "hersh.feed.alice.*.*"},
		{events.UserFeedSubjects("*"), events.SubjectsFeed},
		{events.LogSubject(alice, events.LogStdout), "hersh.logs.alice." + a + ".stdout"},
		{events.LogSubject(alice, events.LogStderr), "hersh.logs.alice." + a + ".stderr"},
		{events.LogSubject(alice, events.LogBuild), "hersh.logs.alice." + a + ".build"},
		{events.EffectsSubject("", events.ClassBuild, alice), "hersh.effects.any.build.alice." + a},
		{events.EffectsSubject("h1", events.ClassRun, alice), "hersh.effects.h1.run.alice." + a},
		{events.EffectsSubjects("", events.ClassBuild), "hersh.effects.any.build.*.*"},
		{events.EffectsSubjects("h1", "*"), "hersh.effects.h1.*.*.*"},
		{events.EffectsSubjects("*", "*"), events.SubjectsEffects},
		{events.ProgramEffects(alice), "hersh.effects.*.*.alice." + a},
		{events.FormerEffectsSubject("h1", events.ClassRun), "hersh.effects.h1.run"},
		{events.EffectsQueue("", events.ClassBuild), "any-build"},
		{events.EffectsQueue("rack1-07", events.ClassRun), "rack1-07-run"},
		{events.APISubject("alice", "create"), "hersh.api.alice.create"},
		{events.APISubject("*", "create"), "hersh.api.*.create"},
		{events.CheckpointKey(alice), "alice." + a},
		{events.UserCheckpointKeys("alice"), "alice.*"},
		{events.SourceKey("alice", build), "alice.build-0123456789ab"},
		{events.TransformWake, "hersh.wake.{{wildcard(1)}}.{{wildcard(2)}}"},
	} {
		if c.got != c.want {
			t.Errorf("got  %s\nwant %s", c.got, c.want)
		}
	}
}

func TestSubjectsRoundTrip(t *testing.T) {
	users := rapid.StringMatching(`[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?`)
	types := rapid.SampledFrom([]events.Type{events.TypeProgramCreated, events.TypeStopFinished, "SomethingNew"})
	rapid.Check(t, func(t *rapid.T) {
		user, typ := events.UserID(users.Draw(t, "user")), types.Draw(t, "type")
		id := events.ProgramID(string(user) + "-" + string(build) + "-" + anUUID)
		if got, ok := events.ParseProgramStream(events.ProgramStream(id)); !ok || got != id {
			t.Fatalf("stream %s parses to %q, %v", events.ProgramStream(id), got, ok)
		}
		if got, err := events.ParseCheckpointKey(events.CheckpointKey(id)); err != nil || got != id {
			t.Fatalf("key %s parses to %q, %v", events.CheckpointKey(id), got, err)
		}
		if got, gotType, err := events.ParseFeedSubject(events.FeedSubject(id, typ)); err != nil || got != id || gotType != typ {
			t.Fatalf("feed subject %s parses to %q, %q, %v", events.FeedSubject(id, typ), got, gotType, err)
		}
		if got := events.EventType(events.EventSubject(id, typ)); got != typ {
			t.Fatalf("the type of %s is %q", events.EventSubject(id, typ), got)
		}
		wake := wakeOf(events.FeedSubject(id, typ))
		if got, err := events.ParseWakeSubject(wake); err != nil || got != id {
			t.Fatalf("wake-up %s parses to %q, %v", wake, got, err)
		}
		if gotUser, verb, err := events.ParseAPISubject(events.APISubject(user, "create")); err != nil || gotUser != user || verb != "create" {
			t.Fatalf("API subject parses to %q, %q, %v", gotUser, verb, err)
		}
	})
}

// TestLimitOfServer keeps every name below what a server takes as the name of a stream.
func TestLimitOfServer(t *testing.T) {
	longest := events.ProgramID(strings.Repeat("u", events.MaxUserID) + "-" + string(build) + "-" + anUUID)
	if _, err := events.ParseProgramID(string(longest)); err != nil {
		t.Fatal(err)
	}
	if n := len(events.ProgramStream(longest)); n > 255 {
		t.Errorf("the longest stream name has %d characters", n)
	}
}

func TestSubjectsOfOthers(t *testing.T) {
	other := strings.Replace(string(alice), "alice", "mallory", 1)
	prefixes := []string{"", "hersh.", "hersh.wake.", "hersh.feed.", "hersh.events.", "PROGRAM-", "program-", "PROGRAM-hersh."}
	tails := []string{
		"", ".", "..", "*", ">", "alice", "alice.", "alice." + other, "mallory." + string(alice), "alice..", "*.*", "alice.*",
		"alice." + string(alice)[1:], "." + string(alice), "alice." + string(alice) + ".x.y", strings.Repeat("a.", 5000),
	}
	for _, prefix := range prefixes {
		for _, tail := range tails {
			refuseSubject(t, prefix+tail)
		}
	}
	for _, good := range []string{events.CheckpointKey(alice), events.ProgramStream(alice), events.FeedSubject(alice, "X")} {
		for _, bad := range hostile()[1:] { // The first is nothing at all.
			refuseSubject(t, bad+good)
			refuseSubject(t, strings.Replace(good, string(alice), string(alice)+bad, 1))
		}
	}
}

// refuseSubject checks that no parser takes the subject for one of its own.
func refuseSubject(t *testing.T, subject string) {
	t.Helper()
	if id, ok := events.ParseProgramStream(subject); ok || id != "" {
		t.Errorf("%.90q is taken for the stream of %q", subject, id)
	}
	if id, err := events.ParseCheckpointKey(subject); !errors.Is(err, events.ErrInvalidID) || id != "" {
		t.Errorf("%.90q is taken for the key of %q, %v", subject, id, err)
	}
	if id, err := events.ParseWakeSubject(subject); !errors.Is(err, events.ErrInvalidID) || id != "" {
		t.Errorf("%.90q is taken for the wake-up of %q, %v", subject, id, err)
	}
	if id, _, err := events.ParseFeedSubject(subject); !errors.Is(err, events.ErrInvalidID) || id != "" {
		t.Errorf("%.90q is taken for the feed of %q, %v", subject, id, err)
	}
}

func TestParseAPISubjectRefuses(t *testing.T) {
	for _, subject := range []string{
		"", "hersh.api", "hersh.api.", "hersh.api.alice", "hersh.api.alice.", "hersh.api..create", "hersh.api.*.create",
		"hersh.api.Alice.create", "hersh.hosts.register", "hersh.api.alice/.create", "x.hersh.api.alice.create",
	} {
		if user, verb, err := events.ParseAPISubject(subject); !errors.Is(err, events.ErrInvalidID) || user != "" || verb != "" {
			t.Errorf("%q gave user %q, verb %q, %v", subject, user, verb, err)
		}
	}
}

func TestParseEffectsQueue(t *testing.T) {
	for _, host := range []events.HostID{"", "h1", "rack1-07", "build", "run-build"} {
		for _, class := range []events.Class{events.ClassBuild, events.ClassRun} {
			name := events.EffectsQueue(host, class)
			if got, gotClass, err := events.ParseEffectsQueue(name); err != nil || got != host || gotClass != class {
				t.Errorf("queue %s parses to %q, %q, %v", name, got, gotClass, err)
			}
		}
	}
	for _, name := range []string{"", "-", "build", "-build", "h1", "h1-", "h1-stop", "h1-Build", "H1-run", "h1.run", "any--run", "*-run", "supervisors"} {
		if host, class, err := events.ParseEffectsQueue(name); !errors.Is(err, events.ErrInvalidID) || host != "" || class != "" {
			t.Errorf("%q gave host %q, class %q, %v", name, host, class, err)
		}
	}
}

func TestEventType(t *testing.T) {
	for subject, want := range map[string]events.Type{"": "", "a": "a", "a.b": "b", "a.": "", ".": "", "hersh.logs.u.p.stdout": "stdout"} {
		if got := events.EventType(subject); got != want {
			t.Errorf("EventType(%q) = %q, want %q", subject, got, want)
		}
	}
}

// wakeOf does what the server does with TransformWake.
func wakeOf(feed string) string {
	tokens := strings.Split(feed, ".")
	return strings.NewReplacer("{{wildcard(1)}}", tokens[2], "{{wildcard(2)}}", tokens[3]).Replace(events.TransformWake)
}
