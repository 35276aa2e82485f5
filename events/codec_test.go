package events_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/rlaaudgjs5638/hersh/events"
)

func TestWireForm(t *testing.T) {
	for _, s := range samples() {
		t.Run(string(s.event.Type()), func(t *testing.T) {
			data, err := events.Encode(s.event)
			if err != nil || string(data) != s.wire {
				t.Errorf("Encode = %s, %v\nwant %s", data, err, s.wire)
			}
			got, err := events.Decode(alice, s.event.Type(), []byte(s.wire))
			if err != nil || got != s.event {
				t.Errorf("Decode = %+v, %v\nwant %+v", got, err, s.event)
			}
		})
	}
}

// TestZeroWire fixes which fields are written even when they are zero: a reader in another language may rely on them.
func TestZeroWire(t *testing.T) {
	want := map[events.Type]string{
		events.TypeProgramCreated:       `{"buildId":"","sourceDigest":""}`,
		events.TypeHostLost:             `{"hostId":""}`,
		events.TypeHostDrained:          `{"hostId":""}`,
		events.TypeUserStartRequested:   `{}`,
		events.TypeUserStopRequested:    `{}`,
		events.TypeUserRestartRequested: `{}`,
		events.TypeFoldersEnsured:       `{"success":false}`,
		events.TypeBuildFinished:        `{"success":false}`,
		events.TypeRuntimeStarted:       `{"containerId":""}`,
		events.TypeStartFailed:          `{"reason":""}`,
		events.TypeRuntimeExited:        `{"exitCode":0}`,
		events.TypeStopFinished:         `{"success":false}`,
	}
	for _, s := range samples() {
		zero := reflect.Zero(reflect.TypeOf(s.event)).Interface().(events.Event)
		if data, err := events.Encode(zero); err != nil || string(data) != want[zero.Type()] {
			t.Errorf("zero %s is %s, %v, want %s", zero.Type(), data, err, want[zero.Type()])
		}
	}
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ev := anyEvent().Draw(t, "event")
		data, err := events.Encode(ev)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := events.Decode(alice, ev.Type(), data); err != nil || got != ev {
			t.Fatalf("%s\ndecodes to %+v, %v\nwant %+v", data, got, err, ev)
		}
	})
}

// TestDecodeAccepts is what clients may send besides the form that Encode writes.
func TestDecodeAccepts(t *testing.T) {
	for _, c := range []struct {
		name string
		data string
		want events.Event
	}{
		{"the program's ID comes from the subject", `{}`, events.UserStartRequested{ProgramID: alice}},
		{"an empty program ID is none", `{"programId":""}`, events.UserStopRequested{ProgramID: alice}},
		{"space around and inside", "\r\n\t {\n \"programId\" : \"\" }\n ", events.UserRestartRequested{ProgramID: alice}},
		{"keys in any case", `{"SUCCESS":true}`, events.FoldersEnsured{Success: true}},
		{"no origin", `{"success":true,"imageId":"sha256:1"}`, events.BuildFinished{Success: true, ImageID: "sha256:1"}},
		{"any order", `{"success":true,"attempt":2,"hostId":"h1"}`, events.StopFinished{Origin: events.Origin{HostID: "h1", Attempt: 2}, Success: true}},
		{"no container", `{"exitCode":0}`, events.RuntimeExited{}},
		{"a negative exit code", `{"exitCode":-1}`, events.RuntimeExited{ExitCode: -1}},
		{"an image name", `{"success":true,"imageId":"reg.example:5000/a/b_c@sha256:1"}`, events.BuildFinished{Success: true, ImageID: "reg.example:5000/a/b_c@sha256:1"}},
		{"a lone surrogate", `{"reason":"a\ud800b"}`, events.StartFailed{Reason: "a\uFFFDb"}},
		{"an empty reason", `{"reason":""}`, events.StartFailed{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := events.Decode(alice, c.want.Type(), []byte(c.data))
			if err != nil || got != c.want {
				t.Errorf("%s gave %+v, %v, want %+v", c.data, got, err, c.want)
			}
		})
	}
}

type refusal struct {
	name string
	typ  events.Type
	data string
	want string // Part of the reason.
}

func refusals() []refusal {
	const (
		start, folders, built = events.TypeUserStartRequested, events.TypeFoldersEnsured, events.TypeBuildFinished
		started, exited       = events.TypeRuntimeStarted, events.TypeRuntimeExited
		created, lost         = events.TypeProgramCreated, events.TypeHostLost
	)
	withLimits := func(limits string) string {
		return `{"buildId":"build-0123456789ab","sourceDigest":"` + string(digest) + `","limits":` + limits + `}`
	}
	return []refusal{
		{"nothing", start, ``, "shortest event is {}"},
		{"spaces", start, `  `, "not a JSON object"},
		{"garbage", start, `hello`, "not a JSON object"},
		{"a null", start, `null`, "not a JSON object"},
		{"an array", start, `[]`, "not a JSON object"},
		{"a string", start, `"{}"`, "not a JSON object"},
		{"a byte order mark", start, "\uFEFF{}", "not a JSON object"},
		{"half an object", start, `{"programId":`, "not valid JSON"},
		{"a comment", start, `{/**/}`, "not valid JSON"},
		{"a trailing comma", folders, `{"success":true,}`, "not valid JSON"},
		{"another object after it", start, `{}{}`, "not valid JSON"},
		{"text after it", start, `{} x`, "not valid JSON"},
		{"a NUL after it", start, "{}\x00", "not valid JSON"},
		{"invalid UTF-8", lost, "{\"hostId\":\"h1\",\"reason\":\"\xff\"}", "not valid UTF-8"},
		{"70 KB", lost, `{"hostId":"h1","reason":"` + strings.Repeat("x", 70_000) + `"}`, "more than 65536"},
		{"60 KB of brackets", start, strings.Repeat("[", 60_000), "not a JSON object"},
		{"60 KB of depth", start, strings.Repeat(`{"a":`, 10_000) + "1" + strings.Repeat("}", 10_000), "deep"},
		{"depth in arrays", start, `{"a":[[[[[]]]]]}`, "deep"},
		{"a thousand keys", start, manyKeys(1000), "more than 32 keys"},

		{"an unknown field", start, `{"force":true}`, `unknown field "force"`},
		{"an unknown field within", created, withLimits(`{"gpus":1}`), `unknown field "gpus"`},
		{"the name of the embedded struct", folders, `{"success":true,"Origin":{}}`, `unknown field "Origin"`},
		{"a field of another event", start, `{"success":true}`, `unknown field "success"`},
		{"a key twice", folders, `{"success":false,"success":true}`, "twice"},
		{"a key twice in another case", folders, `{"success":false,"Success":true}`, "twice"},
		{"a key twice by Unicode folding", folders, `{"success":false,"\u017fucce\u017fs":true}`, "twice"},
		{"a key twice by an escape", folders, `{"success":false,"succes\u0073":true}`, "twice"},
		{"a key twice within", created, withLimits(`{"pids":1,"PIDS":2}`), "twice"},
		{"a null field", folders, `{"success":null}`, "null"},
		{"a null text", start, `{"programId":null}`, "null"},
		{"null limits", created, withLimits(`null`), "null"},

		{"text for a truth", folders, `{"success":"true"}`, "success"},
		{"number for a text", start, `{"programId":1}`, "programId"},
		{"text for a number", exited, `{"exitCode":"1"}`, "exitCode"},
		{"a fraction", exited, `{"exitCode":1.5}`, "exitCode"},
		{"a huge number", exited, `{"exitCode":1e400}`, "exitCode"},
		{"60 KB of digits", exited, `{"exitCode":` + strings.Repeat("9", 60_000) + `}`, "number 9999"},
		{"a negative attempt", folders, `{"success":true,"attempt":-1}`, "attempt"},
		{"an object for a text", started, `{"containerId":{}}`, "containerId"},

		{"no success of folders", folders, `{}`, `no "success"`},
		{"no success of a build", built, `{"imageId":"a"}`, `no "success"`},
		{"no success of a stop", events.TypeStopFinished, `{"containerId":"c1"}`, `no "success"`},
		{"no reason", events.TypeStartFailed, `{}`, `no "reason"`},
		{"no exit code", exited, `{"containerId":"c1"}`, `no "exitCode"`},
		{"no image", built, `{"success":true}`, "imageId"},
		{"no container", started, `{}`, "containerId"},
		{"no host", lost, `{}`, "host ID"},
		{"no digest", created, `{"buildId":"build-0123456789ab"}`, "digest"},
		{"no build", created, `{"sourceDigest":"` + string(digest) + `"}`, "build ID"},

		{"another program", start, `{"programId":"` + string(trickyP) + `"}`, "not the program of the subject"},
		{"a program that does not parse", start, `{"programId":"../etc"}`, "not the program of the subject"},
		{"another build", created, `{"buildId":"build-ffffffffffff","sourceDigest":"` + string(digest) + `"}`, "build ID"},
		{"the digest of another program", created, `{"buildId":"build-ffffffffffff","sourceDigest":"` + strings.Repeat("f", 64) + `"}`, "not that of the program"},
		{"a digest in upper case", created, `{"buildId":"build-0123456789ab","sourceDigest":"` + strings.ToUpper(string(digest)) + `"}`, "digest"},
		{"a host called any", lost, `{"hostId":"any"}`, "reserved"},
		{"a host that is a path", folders, `{"success":true,"hostId":"../h1"}`, "host ID"},
		{"a host that is a wildcard", exited, `{"exitCode":1,"hostId":"*"}`, "host ID"},
		{"a container that is a path", started, `{"containerId":"../c1"}`, "containerId"},
		{"a container that is an option", started, `{"containerId":"--privileged"}`, "containerId"},
		{"a container with a space", exited, `{"exitCode":1,"containerId":"a b"}`, "containerId"},
		{"a container of 300 characters", events.TypeStopFinished, `{"success":true,"containerId":"` + strings.Repeat("c", 300) + `"}`, "containerId"},
		{"an image with a line break", built, `{"success":true,"imageId":"a\nb"}`, "imageId"},
		{"negative memory", created, withLimits(`{"memoryBytes":-1}`), "memoryBytes is negative"},
		{"negative CPU", created, withLimits(`{"cpuMillis":-1}`), "cpuMillis is negative"},
		{"negative processes", created, withLimits(`{"pids":-1}`), "pids is negative"},
		{"less memory than Docker takes", created, withLimits(`{"memoryBytes":6291455}`), "less than 6291456"},
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, c := range refusals() {
		t.Run(c.name, func(t *testing.T) {
			got, err := events.Decode(alice, c.typ, []byte(c.data))
			if !errors.Is(err, events.ErrMalformed) || got != nil {
				t.Fatalf("%.200s gave %+v, %v", c.data, got, err)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%q does not say %q", err, c.want)
			}
			if n := len(err.Error()); n > 600 {
				t.Errorf("the reason has %d bytes", n)
			}
		})
	}
}

func TestDecodeRefusesUnknownTypes(t *testing.T) {
	for _, typ := range []events.Type{
		"", "*", ">", "UserKillRequested", "userstartrequested", "USERSTARTREQUESTED", "UserStartRequested ", "events.UserStartRequested",
		events.Type(strings.Repeat("x", 60_000)), "\x1b[2J", "\xff",
	} {
		got, err := events.Decode(alice, typ, []byte(`{}`))
		if !errors.Is(err, events.ErrUnknownType) || errors.Is(err, events.ErrMalformed) || got != nil {
			t.Errorf("type %.60q gave %+v, %v", typ, got, err)
		} else if n := len(err.Error()); n > 600 || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("type %.60q gave an error of %d bytes that cannot be shown", typ, n)
		}
	}
}

// TestDecodeOfOneProcess is the seed's use: its short program IDs do not parse, and its user events name them.
func TestDecodeOfOneProcess(t *testing.T) {
	want := events.UserStartRequested{ProgramID: "my-prog"}
	if got, err := events.Decode("my-prog", want.Type(), []byte(`{"programId":"my-prog"}`)); err != nil || got != want {
		t.Errorf("Decode = %+v, %v", got, err)
	}
}

// TestLargestEvent shows that whatever a program prints, its result fits into a message.
func TestLargestEvent(t *testing.T) {
	for _, text := range []string{"x", "<", "\x00", "\"", "\u2028", "😀", "\xff"} {
		long := strings.Repeat(text, 1_000_000)
		for _, ev := range []events.Event{
			events.HostLost{HostID: "h1", Reason: long}, events.FoldersEnsured{Error: long}, events.BuildFinished{Error: long},
			events.StartFailed{Reason: long}, events.StopFinished{Error: long},
		} {
			data, err := events.Encode(ev)
			if err != nil || len(data) > events.MaxEventBytes {
				t.Errorf("%s of %q: %d bytes, %v", ev.Type(), text, len(data), err)
			}
			if _, err := events.Decode(alice, ev.Type(), data); err != nil {
				t.Errorf("%s of %q: %v", ev.Type(), text, err)
			}
		}
	}
}

// TestDecodeClips shows that an event of 60 KB, from a client that did not use Encode, does not make a state of 60 KB.
func TestDecodeClips(t *testing.T) {
	long := strings.Repeat("é", 30_000)
	got, err := events.Decode(alice, events.TypeStartFailed, fmt.Appendf(nil, `{"reason":%q}`, long))
	if want := (events.StartFailed{Reason: events.Clip(long)}); err != nil || got != want {
		t.Errorf("Decode gave %.80v…, %v", got, err)
	}
}

func TestClip(t *testing.T) {
	for _, same := range []string{"", "x", "ä\x00\n", strings.Repeat("x", events.MaxText)} {
		if got := events.Clip(same); got != same {
			t.Errorf("Clip(%.40q) = %.40q", same, got)
		}
	}
	if got := events.Clip("a\xffb"); got != "a\uFFFDb" {
		t.Errorf("Clip of invalid UTF-8 = %q", got)
	}
	long := "BEGIN" + strings.Repeat("x", events.MaxText) + "END"
	if got := events.Clip(long); !strings.HasPrefix(got, "BEGINx") || !strings.HasSuffix(got, "xEND") || !strings.Contains(got, " … ") {
		t.Errorf("Clip of a long text = %.40q…", got)
	}
	texts := rapid.OneOf(rapid.String(), rapid.Custom(func(t *rapid.T) string {
		unit := rapid.SampledFrom([]string{"a", "é", "…", "😀", "\xff", "e\u0301"}).Draw(t, "unit")
		return rapid.StringN(0, 4, -1).Draw(t, "head") + strings.Repeat(unit, rapid.IntRange(0, 2*events.MaxText).Draw(t, "times"))
	}))
	rapid.Check(t, func(t *rapid.T) {
		once := events.Clip(texts.Draw(t, "text"))
		if len(once) > events.MaxText || !utf8.ValidString(once) {
			t.Fatalf("%d bytes, valid UTF-8: %v", len(once), utf8.ValidString(once))
		}
		if twice := events.Clip(once); twice != once {
			t.Fatalf("clipping twice gives %d bytes, once %d", len(twice), len(once))
		}
	})
}

func TestLimitsValidate(t *testing.T) {
	for _, good := range []events.Limits{{}, {MemoryBytes: 6 << 20}, {CPUMillis: 1, Pids: 1}, {MemoryBytes: 1 << 40, CPUMillis: 1 << 20, Pids: 1 << 20}} {
		if err := good.Validate(); err != nil {
			t.Errorf("%+v: %v", good, err)
		}
	}
	for _, bad := range []events.Limits{{MemoryBytes: -1}, {CPUMillis: -1}, {Pids: -1}, {MemoryBytes: 1}, {MemoryBytes: 6<<20 - 1}} {
		if bad.Validate() == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
}

func TestWithOrigin(t *testing.T) {
	origin := events.Origin{HostID: "h9", Attempt: 9}
	for _, s := range samples() {
		got := events.WithOrigin(s.event, origin)
		data, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		isResult := strings.Contains(s.wire, `"attempt"`)
		if want := strings.Replace(s.wire, `"hostId":"h1","attempt":3`, `"hostId":"h9","attempt":9`, 1); string(data) != want {
			t.Errorf("%s (a result: %v) became %s\nwant %s", s.event.Type(), isResult, data, want)
		}
		if !isResult && got != s.event {
			t.Errorf("%s is no result, and changed to %+v", s.event.Type(), got)
		}
	}
	if got := events.WithOrigin(nil, origin); got != nil {
		t.Errorf("WithOrigin(nil) = %v", got)
	}
}

func TestFailed(t *testing.T) {
	for _, failure := range []events.Event{events.FoldersEnsured{}, events.BuildFinished{}, events.StopFinished{}, events.StartFailed{}} {
		if !events.Failed(failure) {
			t.Errorf("%+v of %s is no failure", failure, failure.Type())
		}
	}
	for _, other := range []events.Event{
		nil, events.FoldersEnsured{Success: true}, events.BuildFinished{Success: true}, events.StopFinished{Success: true},
		events.RuntimeStarted{}, events.RuntimeExited{ExitCode: 1}, events.UserStopRequested{}, events.HostLost{}, events.ProgramCreated{},
	} {
		if events.Failed(other) {
			t.Errorf("%T is a failure", other)
		}
	}
}

func manyKeys(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"k%d":1`, i)
	}
	return "{" + b.String()[1:] + "}"
}
