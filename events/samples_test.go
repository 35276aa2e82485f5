package events_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"testing"

	"pgregory.net/rapid"

	"github.com/rlaaudgjs5638/hersh/events"
)

const (
	digest  events.SourceDigest = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	build   events.BuildID      = "build-0123456789ab"
	anUUID                      = "6ba7b810-9dad-41d1-80b4-00c04fd430c8"
	alice   events.ProgramID    = "alice-build-0123456789ab-" + anUUID
	trickyP events.ProgramID    = "build-0123456789ab-build-0123456789ab-" + anUUID // Its user is called like a build.
)

// sample is an event with every field set, and how it looks on the wire.
type sample struct {
	event events.Event
	wire  string
}

func samples() []sample {
	origin := events.Origin{HostID: "h1", Attempt: 3}
	return []sample{
		{
			events.ProgramCreated{BuildID: build, SourceDigest: digest, Limits: events.Limits{MemoryBytes: 64 << 20, CPUMillis: 500, Pids: 32}},
			`{"buildId":"build-0123456789ab","sourceDigest":"` + string(digest) + `","limits":{"memoryBytes":67108864,"cpuMillis":500,"pids":32}}`,
		},
		{events.HostDrained{HostID: "h1"}, `{"hostId":"h1"}`},
		{events.HostLost{HostID: "h1", Reason: "no heartbeat for 30s"}, `{"hostId":"h1","reason":"no heartbeat for 30s"}`},
		{events.UserStartRequested{ProgramID: alice}, `{"programId":"` + string(alice) + `"}`},
		{events.UserStopRequested{ProgramID: alice}, `{"programId":"` + string(alice) + `"}`},
		{events.UserRestartRequested{ProgramID: alice}, `{"programId":"` + string(alice) + `"}`},
		{
			events.FoldersEnsured{Origin: origin, Success: false, Error: "no space left"},
			`{"hostId":"h1","attempt":3,"success":false,"error":"no space left"}`,
		},
		{
			events.BuildFinished{Origin: origin, Success: true, ImageID: "sha256:ab12"},
			`{"hostId":"h1","attempt":3,"success":true,"imageId":"sha256:ab12"}`,
		},
		{events.RuntimeStarted{Origin: origin, ContainerID: "c0ffee"}, `{"hostId":"h1","attempt":3,"containerId":"c0ffee"}`},
		{events.StartFailed{Origin: origin, Reason: "no such runtime"}, `{"hostId":"h1","attempt":3,"reason":"no such runtime"}`},
		{
			events.RuntimeExited{Origin: origin, ContainerID: "c0ffee", ExitCode: 137, OOMKilled: true, Reason: "it took too much"},
			`{"hostId":"h1","attempt":3,"containerId":"c0ffee","exitCode":137,"oomKilled":true,"reason":"it took too much"}`,
		},
		{
			events.StopFinished{Origin: origin, ContainerID: "c0ffee", Success: false, Error: "it does not die"},
			`{"hostId":"h1","attempt":3,"containerId":"c0ffee","success":false,"error":"it does not die"}`,
		},
	}
}

// TestSamplesAreComplete fails when an event is added to the package and not to the samples that the other tests use.
func TestSamplesAreComplete(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "event.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	missing := map[string]bool{}
	for _, decl := range file.Decls {
		if fn, ok := decl.(*ast.FuncDecl); ok && fn.Name.Name == "isEvent" {
			missing[fn.Recv.List[0].Type.(*ast.Ident).Name] = true
		}
	}
	if len(missing) == 0 {
		t.Fatal("found no event in event.go")
	}
	for _, s := range samples() {
		if !missing[string(s.event.Type())] {
			t.Errorf("%T calls itself %q, or is there twice", s.event, s.event.Type())
		}
		delete(missing, string(s.event.Type()))
	}
	for name := range missing {
		t.Errorf("no sample of %s", name)
	}
}

// anyEvent draws an event of the program alice that Encode writes and Decode accepts.
func anyEvent() *rapid.Generator[events.Event] {
	return rapid.Custom(func(t *rapid.T) events.Event {
		text := rapid.StringN(0, 60, -1)
		ref := rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9_.:/@-]{0,80}`)
		origin := events.Origin{
			HostID:  events.HostID(rapid.SampledFrom([]string{"", "h1", "host-2"}).Draw(t, "host")),
			Attempt: rapid.Uint64().Draw(t, "attempt"),
		}
		limit := rapid.Int64Range(6<<20, 1<<62)
		switch rapid.IntRange(0, 10).Draw(t, "type") {
		case 0:
			return events.ProgramCreated{BuildID: build, SourceDigest: digest, Limits: events.Limits{
				MemoryBytes: limit.Draw(t, "memory"), CPUMillis: limit.Draw(t, "cpu"), Pids: limit.Draw(t, "pids"),
			}}
		case 1:
			return events.HostLost{HostID: "h1", Reason: text.Draw(t, "reason")}
		case 2:
			return events.UserStartRequested{ProgramID: alice}
		case 3:
			return events.UserStopRequested{ProgramID: alice}
		case 4:
			return events.UserRestartRequested{ProgramID: alice}
		case 5:
			return events.FoldersEnsured{Origin: origin, Success: rapid.Bool().Draw(t, "success"), Error: text.Draw(t, "error")}
		case 6:
			return events.BuildFinished{Origin: origin, Success: true, ImageID: ref.Draw(t, "image"), Error: text.Draw(t, "error")}
		case 7:
			return events.RuntimeStarted{Origin: origin, ContainerID: ref.Draw(t, "container")}
		case 8:
			return events.StartFailed{Origin: origin, Reason: text.Draw(t, "reason")}
		case 9:
			return events.RuntimeExited{
				Origin: origin, ContainerID: ref.Draw(t, "container"),
				ExitCode: rapid.Int().Draw(t, "code"), OOMKilled: rapid.Bool().Draw(t, "oom"),
			}
		}
		return events.StopFinished{
			Origin: origin, ContainerID: ref.Draw(t, "container"),
			Success: rapid.Bool().Draw(t, "success"), Error: text.Draw(t, "error"),
		}
	})
}
