package effects_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
)

const (
	digest events.SourceDigest = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	build  events.BuildID      = "build-0123456789ab"
	alice  events.ProgramID    = "alice-build-0123456789ab-6ba7b810-9dad-41d1-80b4-00c04fd430c8"
	bob    events.ProgramID    = "bob-build-0123456789ab-6ba7b810-9dad-41d1-80b4-00c04fd430c8"
)

// wireForms is every effect with every field set and with none, and how they look on the wire.
func wireForms() []struct {
	effect effects.Effect
	wire   string
} {
	place := effects.Placement{HostID: "h1", Attempt: 2}
	head := `"hostId":"h1","attempt":2,"programId":"` + string(alice) + `"`
	return []struct {
		effect effects.Effect
		wire   string
	}{
		{effects.EnsureProgramFolders{Placement: place, ProgramID: alice}, `{"type":"EnsureProgramFolders",` + head + `}`},
		{
			effects.BuildRuntime{Placement: place, ProgramID: alice, BuildID: build, SourceDigest: digest, SrcPath: "/src", Dockerfile: "D"},
			`{"type":"BuildRuntime",` + head + `,"buildId":"` + string(build) + `","sourceDigest":"` + string(digest) + `","srcPath":"/src","dockerfile":"D"}`,
		},
		{
			effects.StartRuntime{Placement: place, ProgramID: alice, ImageID: "sha256:1", StatePath: "/state", Limits: events.Limits{MemoryBytes: 1, CPUMillis: 2, Pids: 3}},
			`{"type":"StartRuntime",` + head + `,"imageId":"sha256:1","statePath":"/state","limits":{"memoryBytes":1,"cpuMillis":2,"pids":3}}`,
		},
		{effects.StopRuntime{Placement: place, ProgramID: alice, ContainerID: "c1"}, `{"type":"StopRuntime",` + head + `,"containerId":"c1"}`},
		{effects.FetchRuntimeStatus{Placement: place, ContainerID: "c1"}, `{"type":"FetchRuntimeStatus","hostId":"h1","attempt":2,"containerId":"c1"}`},

		{effects.EnsureProgramFolders{}, `{"type":"EnsureProgramFolders","programId":""}`},
		{effects.BuildRuntime{}, `{"type":"BuildRuntime","programId":"","buildId":""}`},
		{effects.StartRuntime{}, `{"type":"StartRuntime","programId":"","imageId":""}`},
		{effects.StopRuntime{}, `{"type":"StopRuntime","containerId":""}`},
		{effects.FetchRuntimeStatus{}, `{"type":"FetchRuntimeStatus","containerId":""}`},
	}
}

func TestMarshalEffect(t *testing.T) {
	for _, c := range wireForms() {
		got, err := effects.MarshalEffect(c.effect)
		if err != nil || string(got) != c.wire {
			t.Errorf("got  %s, %v\nwant %s", got, err, c.wire)
		}
		if !json.Valid(got) {
			t.Errorf("%s is not JSON", got)
		}
		if name := reflect.TypeOf(c.effect).Name(); string(c.effect.Type()) != name {
			t.Errorf("%s calls itself %s", name, c.effect.Type())
		}
	}
}

func TestPlace(t *testing.T) {
	for _, c := range wireForms() {
		want := effects.Placement{}
		if strings.Contains(c.wire, `"h1"`) {
			want = effects.Placement{HostID: "h1", Attempt: 2}
		}
		if got := c.effect.Place(); got != want {
			t.Errorf("%s is placed at %+v, want %+v", c.wire, got, want)
		}
	}
}

func TestMessageJSON(t *testing.T) {
	for _, c := range []struct {
		message effects.Message
		want    string
	}{
		{
			effects.Message{ProgramID: alice, Seq: 7, Attempt: 2, Effects: []effects.Effect{
				effects.EnsureProgramFolders{Placement: effects.Placement{Attempt: 2}, ProgramID: alice},
				effects.BuildRuntime{Placement: effects.Placement{Attempt: 2}, ProgramID: alice, BuildID: build},
			}},
			`{"programId":"` + string(alice) + `","seq":7,"attempt":2,"effects":[` +
				`{"type":"EnsureProgramFolders","attempt":2,"programId":"` + string(alice) + `"},` +
				`{"type":"BuildRuntime","attempt":2,"programId":"` + string(alice) + `","buildId":"` + string(build) + `"}]}`,
		},
		{effects.Message{}, `{"programId":"","seq":0,"attempt":0,"effects":[]}`},
	} {
		got, err := json.Marshal(c.message)
		if err != nil || string(got) != c.want {
			t.Errorf("got  %s, %v\nwant %s", got, err, c.want)
		}
	}
}

func TestKeys(t *testing.T) {
	message := effects.Message{ProgramID: alice, Seq: 12, Time: time.Unix(1, 5)}
	for _, c := range []struct{ got, want string }{
		{message.Key(), string(alice) + "/12/1000000005"},
		{effects.Key(alice, 12), string(alice) + "/12"},
		{effects.ResultKey(alice, 12, 1, "h1"), string(alice) + "/12/1/h1"},
		{effects.ResultKey(alice, 12, 0, ""), string(alice) + "/12/0/"},
		{effects.ExitKey(alice, "c1"), string(alice) + "/exit/c1"},
	} {
		if c.got != c.want {
			t.Errorf("got %s, want %s", c.got, c.want)
		}
	}
}

// TestKeysDiffer takes every combination of small parts: no two facts may share a key, or one of them is lost as a duplicate.
func TestKeysDiffer(t *testing.T) {
	seen := map[string]bool{}
	add := func(key string) {
		if seen[key] {
			t.Errorf("two facts share the key %s", key)
		}
		seen[key] = true
	}
	for _, id := range []events.ProgramID{alice, bob} {
		for _, container := range []string{"1", "11", "c1"} {
			add(effects.ExitKey(id, container))
		}
		for _, seq := range []uint64{1, 11, 111} {
			add(effects.Key(id, seq))
			for _, i := range []int{0, 1, 11} {
				for _, host := range []events.HostID{"", "1", "h1"} {
					add(effects.ResultKey(id, seq, i, host))
				}
			}
		}
	}
}

func TestClass(t *testing.T) {
	folders, built := effects.EnsureProgramFolders{}, effects.BuildRuntime{}
	start, stop, fetch := effects.StartRuntime{}, effects.StopRuntime{}, effects.FetchRuntimeStatus{}
	for _, c := range []struct {
		effects []effects.Effect
		want    events.Class
	}{
		{[]effects.Effect{folders, built}, events.ClassBuild},
		{[]effects.Effect{folders}, events.ClassBuild},
		{[]effects.Effect{built}, events.ClassBuild},
		{[]effects.Effect{start}, events.ClassRun},
		{[]effects.Effect{stop}, events.ClassRun},
		{[]effects.Effect{fetch}, events.ClassRun},
		{nil, events.ClassRun},
	} {
		if got := effects.Class(c.effects); got != c.want {
			t.Errorf("Class(%v) = %s, want %s", c.effects, got, c.want)
		}
	}
}

func TestParseTrigger(t *testing.T) {
	message := effects.Message{ProgramID: alice, Seq: 7, Attempt: 2, Effects: []effects.Effect{effects.StopRuntime{ContainerID: "c1"}}}
	data, err := json.Marshal(message)
	if err != nil {
		t.Fatal(err)
	}
	// Whatever else is in the body is not read, so it cannot be wrong.
	forged := `{"programId":"` + string(alice) + `","seq":7,"attempt":"x","effects":[{"type":"Format"}],"more":null}`
	for _, good := range []string{string(data), forged} {
		if id, seq, err := effects.ParseTrigger([]byte(good)); err != nil || id != alice || seq != 7 {
			t.Errorf("%s gave %q, %d, %v", good, id, seq, err)
		}
	}
}

func TestParseTriggerRefuses(t *testing.T) {
	for name, data := range map[string]string{
		"nothing":           ``,
		"garbage":           `hello`,
		"an array":          `[]`,
		"a null":            `null`,
		"no program":        `{"seq":7}`,
		"a program path":    `{"programId":"../etc","seq":7}`,
		"a program number":  `{"programId":7,"seq":7}`,
		"no sequence":       `{"programId":"` + string(alice) + `"}`,
		"sequence 0":        `{"programId":"` + string(alice) + `","seq":0}`,
		"negative sequence": `{"programId":"` + string(alice) + `","seq":-1}`,
		"sequence in text":  `{"programId":"` + string(alice) + `","seq":"7"}`,
		"two objects":       `{"programId":"` + string(alice) + `","seq":7}{}`,
		"a long sequence":   `{"programId":"` + string(alice) + `","seq":` + strings.Repeat("9", 100_000) + `}`,
	} {
		t.Run(name, func(t *testing.T) {
			id, seq, err := effects.ParseTrigger([]byte(data))
			if err == nil || id != "" || seq != 0 {
				t.Fatalf("%.100s gave %q, %d, %v", data, id, seq, err)
			}
			if !strings.HasPrefix(err.Error(), "read effects message") {
				t.Errorf("the error does not say what was tried: %v", err)
			}
			if len(err.Error()) > 1000 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
	if _, _, err := effects.ParseTrigger([]byte(`{"programId":"..","seq":1}`)); !errors.Is(err, events.ErrInvalidID) {
		t.Errorf("a bad program ID gave %v", err)
	}
}
