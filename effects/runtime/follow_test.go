package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rlaaudgjs5638/hersh/effects/compose"
	"github.com/rlaaudgjs5638/hersh/effects/runtime"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/dockertest"
)

// sink is a server that takes each key once, and from time to time takes a piece without saying so.
type sink struct {
	mu     sync.Mutex
	calls  int
	seen   map[string]string
	text   map[events.LogStream]string
	faults []string
}

func newSink() *sink { return &sink{seen: map[string]string{}, text: map[events.LogStream]string{}} }

func (s *sink) ShipLog(_ context.Context, _ events.ProgramID, stream events.LogStream, key string, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls++; s.calls%7 == 3 {
		return errors.New("the server is away")
	}
	before, found := s.seen[key]
	if found && before != string(data) {
		s.faults = append(s.faults, key)
	}
	if !found {
		s.seen[key] = string(data)
		s.text[stream] += string(data)
	}
	if s.calls%7 == 6 {
		return errors.New("the answer was lost")
	}
	return nil
}

func (s *sink) get(stream events.LogStream) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text[stream]
}

// TestOutputOfCrashedProgram keeps the output of a program that is dead before anybody follows it.
func TestOutputOfCrashedProgram(t *testing.T) {
	b := newBench(t)
	id := b.run("say", "before", "complain", "panic: no", "exit", "3")
	if c := b.waitEnd(id); c.ExitCode != 3 {
		t.Errorf("it ended as %+v", c)
	}
	b.waitLogged("panic: no\n")
	b.waitLogged("before\n")
	if err := b.Stop(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if log := b.logged(); len(log) != len("before\npanic: no\n") {
		t.Errorf("the log is %q", log)
	}
}

func TestOutputInOneLongLine(t *testing.T) {
	b := newBench(t)
	const size = 1 << 20
	id := b.run("long", fmt.Sprint(size), "say", "end", "await", "go")
	b.waitLogged("end\n")
	b.signal("go")
	if err := b.Stop(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if want := strings.Repeat("x", size-1) + "\nend\n"; b.logged() != want {
		t.Errorf("the log has %d bytes, want %d", len(b.logged()), len(want))
	}
}

// TestFollowingResumes closes the manager again and again in the middle of the output of both streams.
func TestFollowingResumes(t *testing.T) {
	b := newBench(t)
	const count = 20_000
	sink := newSink()
	quiet := runtime.WithLogger(slog.New(slog.DiscardHandler))
	image := b.image("both", fmt.Sprint(count), "long", "100000", "both", fmt.Sprint(count))
	m := b.open(quiet)
	result, err := m.Start(t.Context(), runtime.StartOpts{
		ProgramID: b.id, Spec: b.spec(image), RuntimeLogPath: b.log, LogSink: sink,
	})
	if err != nil {
		t.Fatal(err)
	}
	follow := runtime.FollowOpts{ContainerID: result.ContainerID, ProgramID: b.id, Attempt: 1, Path: b.log, Sink: sink}
	for i := range 20 {
		size := len(b.logged())
		dockertest.WaitFor(t, "more output, or the end of the container", func() bool {
			return len(b.logged()) > size || !b.inspect(result.ContainerID).Running
		})
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		if err := m.Follow(follow); !errors.Is(err, runtime.ErrClosed) {
			t.Fatalf("a closed manager follows: %v", err)
		}
		m = b.open(quiet)
		for range i%2 + 1 { // Twice is once.
			if err := m.Follow(follow); err != nil {
				t.Fatal(err)
			}
		}
	}
	b.waitEnd(result.ContainerID)
	if err := m.Stop(t.Context(), result.ContainerID); err != nil {
		t.Fatal(err)
	}
	checkStream(t, "log file", b.logged(), 2*count)
	checkStream(t, "stdout", sink.get(events.LogStdout), count)
	checkStream(t, "stderr", sink.get(events.LogStderr), count)
	if len(sink.faults) > 0 {
		t.Errorf("keys came with different data: %q", sink.faults)
	}
}

// checkStream checks that each numbered line is there as often as it was printed.
func checkStream(t *testing.T, name, text string, want int) {
	t.Helper()
	counts := map[string]int{}
	total, long := 0, 0
	for line := range strings.Lines(text) {
		// A line of the other stream may stand between the pieces of the long one.
		numbered := strings.TrimLeft(line, "x")
		long += len(line) - len(numbered)
		if strings.HasPrefix(numbered, "line ") && len(numbered) == len("line 0000000\n") {
			counts[numbered]++
			total++
		}
	}
	if total != want {
		t.Errorf("%s has %d lines, want %d", name, total, want)
	}
	for line, n := range counts {
		if n != 2 {
			t.Errorf("%s has %q %d times, want 2", name, line, n)
			break
		}
	}
	if long != 99_999 && name != "stderr" {
		t.Errorf("%s has %d characters of the long line, want 99999", name, long)
	}
}

// TestFollowingSurvivesBrokenConnection cuts the line to Docker again and again.
func TestFollowingSurvivesBrokenConnection(t *testing.T) {
	b := newBench(t)
	proxy := dockertest.NewProxy(t, b.docker)
	m := b.open(runtime.WithDockerHost(proxy.Host))
	id := b.start(b.spec(b.image("await", "go", "print", "20000", "await", "end")))
	if err := b.DockerManager.Close(); err != nil { // It has read nothing yet; the other manager goes on from there.
		t.Fatal(err)
	}
	if err := m.Follow(runtime.FollowOpts{ContainerID: id, ProgramID: b.id, Path: b.log}); err != nil {
		t.Fatal(err)
	}
	b.signal("go")
	for _, mark := range []string{"line 0000000", "line 0004000", "line 0008000", "line 0012000"} {
		b.waitLogged(mark)
		proxy.Cut()
	}
	proxy.Break()
	time.AfterFunc(300*time.Millisecond, proxy.Mend)
	b.waitLogged("line 0019999")
	b.signal("end")
	if err := m.Stop(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for i := range 20000 {
		fmt.Fprintf(&want, "line %07d\n", i)
	}
	if b.logged() != want.String() {
		t.Errorf("the log has %d bytes, want %d", len(b.logged()), want.Len())
	}
}

// TestFollowingWhileDockerRotates has Docker put its own log file aside again and again, in the middle of long lines too.
func TestFollowingWhileDockerRotates(t *testing.T) {
	b := newBench(t)
	const lines, longs = 20_000, 40
	script := []string{"both", fmt.Sprint(lines)}
	for range longs {
		script = append(script, "counted", "20000", "both", "200")
	}
	spec := b.spec(b.image(script...))
	service := spec.Services[compose.ServiceName]
	service.Logging.Options = map[string]string{"max-size": "1m", "max-file": "50"}
	spec.Services[compose.ServiceName] = service
	id := b.start(spec)
	b.waitEnd(id)
	if err := b.Stop(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	log := b.logged()
	var long strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&long, "%d,", i)
	}
	if want := longs*(long.Len()+1) + (lines+200*longs)*len("line 0000000\n"); len(log) != want {
		t.Errorf("the log has %d bytes, want %d", len(log), want)
	}
	if n := strings.Count(log, "line "); n != lines+200*longs {
		t.Errorf("the log has %d numbered lines, want %d", n, lines+200*longs)
	}
}
