package events_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/rlaaudgjs5638/hersh/events"
)

// hostile is input that must never pass as an identifier of any kind: it would mean something to a path, a subject, a
// terminal or a Docker name.
func hostile() []string {
	return []string{
		"", " ", ".", "..", "/", "*", ">", "-", "--", "a/b", "../a", "a/..", "a.b", "a.*", "a.>", "a b", " a", "a ", "a\n",
		"a\x00", "a\tb", "\x1b[2J", "A", "Alice", "-a", "a-", "a_b", "a:b", "a@b", "a\\b", "ä", "а", "\u202eab", "a\u200bb",
		"\xff", "\xed\xa0\x80", "$(id)", "`id`", "${{x}}", "%2e%2e", "{{wildcard(1)}}", strings.Repeat("a", 300),
		strings.Repeat("../", 100), strings.Repeat("\x00", 100_000),
	}
}

func TestParseUserID(t *testing.T) {
	good := []string{"a", "0", "alice", "a--b", "build-0123456789ab", "build-0123456789ab-x", "any", "h1", strings.Repeat("a", events.MaxUserID)}
	for _, s := range good {
		if got, err := events.ParseUserID(s); err != nil || string(got) != s {
			t.Errorf("ParseUserID(%q) = %q, %v", s, got, err)
		}
	}
	refuseAll(t, events.ParseUserID, hostile()...)
	refuseAll(t, events.ParseUserID, strings.Repeat("a", events.MaxUserID+1))
}

func TestParseHostID(t *testing.T) {
	good := []string{"a", "h1", "host-2", "0", "anyone", "any-1", strings.Repeat("h", events.MaxHostID)}
	for _, s := range good {
		if got, err := events.ParseHostID(s); err != nil || string(got) != s {
			t.Errorf("ParseHostID(%q) = %q, %v", s, got, err)
		}
	}
	refuseAll(t, events.ParseHostID, hostile()...)
	refuseAll(t, events.ParseHostID, "any", strings.Repeat("h", events.MaxHostID+1))
}

func TestParseBuildID(t *testing.T) {
	for _, s := range []string{"build-0123456789ab", "build-ffffffffffff"} {
		if got, err := events.ParseBuildID(s); err != nil || string(got) != s {
			t.Errorf("ParseBuildID(%q) = %q, %v", s, got, err)
		}
	}
	refuseAll(t, events.ParseBuildID, hostile()...)
	refuseAll(t, events.ParseBuildID,
		"build", "build-", "build-0123456789a", "build-0123456789abc", "build-0123456789aB", "build-0123456789ag",
		"Build-0123456789ab", "build_0123456789ab", "build-../../../etc", "build-0123456789a\n", " build-0123456789ab", "0123456789ab",
	)
}

func TestParseSourceDigest(t *testing.T) {
	if got, err := events.ParseSourceDigest(string(digest)); err != nil || got != digest {
		t.Errorf("ParseSourceDigest(%q) = %q, %v", digest, got, err)
	}
	refuseAll(t, events.ParseSourceDigest, hostile()...)
	refuseAll(t, events.ParseSourceDigest,
		string(digest[1:]), string(digest)+"0", strings.ToUpper(string(digest)), "sha256:"+string(digest), string(digest[1:])+"g",
	)
}

func TestParseProgramID(t *testing.T) {
	for _, c := range []struct {
		id    events.ProgramID
		user  events.UserID
		build events.BuildID
	}{
		{alice, "alice", build},
		{trickyP, "build-0123456789ab", build},
		{"a-b-c-build-ffffffffffff-" + anUUID, "a-b-c", "build-ffffffffffff"},
		{"build-0123456789ab-x-build-ffffffffffff-" + anUUID, "build-0123456789ab-x", "build-ffffffffffff"},
		{"any-build-0123456789ab-00000000-0000-0000-0000-000000000000", "any", build},
		{events.ProgramID(strings.Repeat("u", events.MaxUserID)) + "-" + events.ProgramID(build) + "-" + anUUID, events.UserID(strings.Repeat("u", events.MaxUserID)), build},
	} {
		got, err := events.ParseProgramID(string(c.id))
		if err != nil || got != c.id {
			t.Errorf("ParseProgramID(%q) = %q, %v", c.id, got, err)
		}
		if got.User() != c.user || got.Build() != c.build {
			t.Errorf("%q: user %q and build %q, want %q and %q", c.id, got.User(), got.Build(), c.user, c.build)
		}
	}
}

func TestParseProgramIDRefuses(t *testing.T) {
	withUUID := func(u string) string { return "alice-" + string(build) + "-" + u }
	withUser := func(u string) string { return u + "-" + string(build) + "-" + anUUID }
	refuseAll(t, events.ParseProgramID, hostile()...)
	for _, bad := range hostile() {
		refuseAll(t, events.ParseProgramID, withUser(bad), "alice-"+bad+"-"+anUUID, withUUID(bad), string(alice)+bad+"x")
	}
	refuseAll(t, events.ParseProgramID,
		// Spellings of a UUID that are not the canonical one.
		withUUID(strings.ToUpper(anUUID)), withUUID("{"+anUUID+"}"), withUUID("urn:uuid:"+anUUID), withUUID(strings.ReplaceAll(anUUID, "-", "")),
		withUUID(anUUID[:35]), withUUID(anUUID+"0"), withUUID(strings.Repeat("-", 36)), withUUID("6ba7b8109-dad-41d1-80b4-00c04fd430c8"),
		// Parts that are missing, swapped or joined otherwise.
		string(build)+"-"+anUUID, "-"+string(build)+"-"+anUUID, "alice--"+anUUID, "alice-"+anUUID+"-"+string(build),
		"alice_"+string(build)+"-"+anUUID, "alice-"+string(build)+"_"+anUUID, "alice."+string(build)+"."+anUUID,
		withUser(strings.Repeat("u", events.MaxUserID+1)), withUser("alice-"), withUser("-alice"), "alice-build-0123456789AB-"+anUUID,
		string(alice)+"\n", " "+string(alice), string(alice)+"/..", "../"+string(alice),
	)
	for _, id := range []events.ProgramID{"", "my-prog", "../etc", events.ProgramID(strings.Repeat("a", 300))} {
		if id.User() != "" || id.Build() != "" {
			t.Errorf("%q has user %q and build %q", id, id.User(), id.Build())
		}
	}
}

func TestNewProgramID(t *testing.T) {
	a, b := events.NewProgramID("alice", build), events.NewProgramID("alice", build)
	if a == b {
		t.Errorf("twice the same ID %s", a)
	}
	if _, err := events.ParseProgramID(string(a)); err != nil {
		t.Error(err)
	}
	if _, err := events.ParseProgramID(string(events.NewProgramID("../x", build))); !errors.Is(err, events.ErrInvalidID) {
		t.Errorf("an ID of unparsed parts: %v", err)
	}
}

func TestNewBuildID(t *testing.T) {
	if got, err := events.NewBuildID(digest); err != nil || got != build {
		t.Errorf("NewBuildID = %q, %v, want %q", got, err, build)
	}
	if got, err := events.NewBuildID("0123"); !errors.Is(err, events.ErrInvalidID) || got != "" {
		t.Errorf("NewBuildID of a short digest = %q, %v", got, err)
	}
}

// TestProgramIDIsSafe checks what the rest of Hersh relies on: whatever parses is one path element, one subject token and
// one Docker name.
func TestProgramIDIsSafe(t *testing.T) {
	safe := regexp.MustCompile(`\A[a-z0-9][a-z0-9-]{0,87}\z`)
	users := rapid.OneOf(rapid.StringMatching(`[a-z0-9-]{0,34}`), rapid.String(), rapid.SampledFrom(hostile()))
	rapid.Check(t, func(t *rapid.T) {
		user := users.Draw(t, "user")
		id := events.NewProgramID(events.UserID(user), build)
		_, userErr := events.ParseUserID(user)
		parsed, err := events.ParseProgramID(string(id))
		if (userErr == nil) != (err == nil) {
			t.Fatalf("user %q: %v, program %q: %v", user, userErr, id, err)
		}
		if err == nil && (!safe.MatchString(string(parsed)) || string(parsed.User()) != user || parsed.Build() != build) {
			t.Fatalf("%q parsed as %q with user %q and build %q", id, parsed, parsed.User(), parsed.Build())
		}
	})
}

// refuseAll checks that each input is refused with ErrInvalidID, an empty result, and a text that is safe to show.
func refuseAll[T ~string](t *testing.T, parse func(string) (T, error), inputs ...string) {
	t.Helper()
	for _, s := range inputs {
		got, err := parse(s)
		if !errors.Is(err, events.ErrInvalidID) || got != "" {
			t.Errorf("%T: %.60q gave %q, %v", got, s, got, err)
			continue
		}
		if text := err.Error(); len(text) > 2000 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' }) {
			t.Errorf("%T: %.60q gave an error of %d bytes that cannot be shown: %.200q", got, s, len(text), text)
		}
	}
}
