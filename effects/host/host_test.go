package host_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/effects/compose"
	"github.com/rlaaudgjs5638/hersh/effects/handlertest"
	"github.com/rlaaudgjs5638/hersh/effects/host"
	"github.com/rlaaudgjs5638/hersh/effects/runtime"
	"github.com/rlaaudgjs5638/hersh/effects/storage"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/dockertest"
	"github.com/rlaaudgjs5638/hersh/internal/source"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is a machine with Docker and a base folder, on which handlers come and go.
type bench struct {
	*testing.T
	docker  *dockertest.Docker
	storage *storage.Manager
	host    events.HostID
}

func newBench(t *testing.T) *bench {
	t.Helper()
	t.Parallel()
	docker := dockertest.Require(t)
	return &bench{T: t, docker: docker, storage: storage.NewManager(t.TempDir()), host: events.HostID("h-" + docker.Run)}
}

// handler returns a handler, as a process has one. Its output is quiet unless an option says otherwise.
func (b *bench) handler(dockerHost string, opts ...host.Option) *host.RealEffectHandler {
	b.Helper()
	quiet := slog.New(slog.DiscardHandler)
	docker, err := runtime.NewDockerManager(runtime.WithDockerHost(dockerHost), runtime.WithLogger(quiet))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := docker.Close(); err != nil {
			b.Error(err)
		}
	})
	all := append([]host.Option{
		host.WithHostID(b.host), host.WithLabels(b.docker.Labels()), host.WithLogger(quiet),
		host.WithDefaultLimits(events.Limits{MemoryBytes: 64 << 20}),
	}, opts...)
	h := host.NewRealEffectHandler(b.storage, compose.NewBuilder(), docker, all...)
	h.SetDefaultRuntime(b.docker.Runtime())
	return h
}

// program returns a new program with a source folder.
func (b *bench) program(t *testing.T, lines ...string) events.ProgramID {
	t.Helper()
	id := b.docker.ProgramID()
	if err := b.storage.EnsureProgramFolders(id); err != nil {
		t.Fatal(err)
	}
	b.docker.WriteSource(b.storage.GetSrcPath(id), lines...)
	return id
}

func buildEffect(id events.ProgramID, attempt uint64) effects.BuildRuntime {
	return effects.BuildRuntime{Placement: effects.Placement{Attempt: attempt}, ProgramID: id, BuildID: id.Build()}
}

func startEffect(id events.ProgramID, attempt uint64, image string) effects.StartRuntime {
	return effects.StartRuntime{Placement: effects.Placement{Attempt: attempt}, ProgramID: id, ImageID: image}
}

// run builds and starts an attempt, and returns its container.
func (b *bench) run(h effects.EffectHandler, id events.ProgramID, attempt uint64) string {
	b.Helper()
	built, ok := h.Execute(b.Context(), buildEffect(id, attempt)).(events.BuildFinished)
	if !ok || !built.Success {
		b.Fatalf("build gives %+v", built)
	}
	return b.start(h, startEffect(id, attempt, built.ImageID))
}

func (b *bench) start(h effects.EffectHandler, eff effects.StartRuntime) string {
	b.Helper()
	result := h.Execute(b.Context(), eff)
	started, ok := result.(events.RuntimeStarted)
	if !ok {
		b.Fatalf("start gives %+v", result)
	}
	return started.ContainerID
}

// signal lets a program go on that awaits a file in /state.
func (b *bench) signal(t *testing.T, id events.ProgramID, name string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(b.storage.GetStatePath(id), name), nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) file(path ...string) string {
	data, err := os.ReadFile(filepath.Join(path...))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		b.Error(err)
	}
	return string(data)
}

func (b *bench) output(id events.ProgramID) string {
	return b.file(b.storage.GetLogsPath(id), "runtime.log")
}

func (b *bench) waitOutput(id events.ProgramID, text string) {
	b.Helper()
	dockertest.WaitFor(b, "output "+text, func() bool { return strings.Contains(b.output(id), text) })
}

// waitDead waits until Docker says that a container does not run.
func (b *bench) waitDead(t *testing.T, containerID string) {
	t.Helper()
	dockertest.WaitFor(t, "the container's end", func() bool {
		var c struct{ State struct{ Running bool } }
		b.docker.Get("/containers/"+containerID+"/json", &c)
		return !c.State.Running
	})
}

func TestRealHandlerConforms(t *testing.T) {
	handlertest.Run(t, func(t *testing.T) handlertest.Fixture {
		b := newBench(t)
		h := b.handler("")
		script := []string{"await", "go"} // Then it finds its exit code in the name of a file, see Exit.
		for _, code := range []string{"0", "1", "3", "4", "255"} {
			script = append(script, "exitif", code)
		}
		return handlertest.Fixture{
			Handler: h, HostID: b.host, Containers: h.Containers,
			Program: func(t *testing.T) events.ProgramID { return b.program(t, dockertest.Command(script...)) },
			Broken: func(t *testing.T, typ effects.Type) events.ProgramID {
				switch typ {
				case effects.TypeEnsureProgramFolders:
					id := b.docker.ProgramID()
					folder := filepath.Dir(b.storage.GetSrcPath(id))
					if err := errors.Join(os.MkdirAll(filepath.Dir(folder), 0o700), os.WriteFile(folder, nil, 0o600)); err != nil {
						t.Fatal(err)
					}
					return id
				case effects.TypeBuildRuntime:
					return b.program(t, `RUN ["/testprog", "exit", "1"]`)
				}
				return b.program(t, `CMD ["/nowhere"]`)
			},
			Exit: func(t *testing.T, c effects.Container, exitCode int) {
				b.signal(t, c.ProgramID, "exit-"+itoa(exitCode))
				b.signal(t, c.ProgramID, "go")
				b.waitDead(t, c.ID)
			},
		}
	})
}

func itoa(n int) string {
	data, _ := json.Marshal(n)
	return string(data)
}

// sink keeps what it is given.
type sink struct {
	mu   sync.Mutex
	text map[events.LogStream]string
	keys map[string]bool
}

func newSink() *sink { return &sink{text: map[events.LogStream]string{}, keys: map[string]bool{}} }

func (s *sink) ShipLog(_ context.Context, _ events.ProgramID, stream events.LogStream, key string, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.keys[key] {
		s.keys[key] = true
		s.text[stream] += string(data)
	}
	return nil
}

func (s *sink) get(stream events.LogStream) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text[stream]
}

func TestWhatIsKeptOfAProgram(t *testing.T) {
	b := newBench(t)
	sink := newSink()
	h := b.handler("", host.WithLogSink(sink))
	id := b.program(t, `RUN ["/testprog", "say", "building"]`, dockertest.Command("say", "out", "complain", "err", "wait"))
	container := b.run(h, id, 1)
	b.waitOutput(id, "waiting\n")

	file := b.file(b.storage.GetComposePath(id), "docker-compose.json")
	spec, err := compose.ParseFile([]byte(file))
	if err != nil {
		t.Fatal(err)
	}
	service := spec.Services[compose.ServiceName]
	if service.MemLimit != 64<<20 || service.Network() != compose.NetworkNone || service.StatePath() != b.storage.GetStatePath(id) {
		t.Errorf("the compose file is\n%s", file)
	}
	var noted struct{ ContainerID, ImageID, Runtime string }
	if err := json.Unmarshal([]byte(b.file(b.storage.GetRuntimePath(id), "container.json")), &noted); err != nil {
		t.Fatal(err)
	}
	if noted.ContainerID != container || noted.ImageID != service.Image || noted.Runtime != b.docker.Runtime() {
		t.Errorf("runtime/container.json says %+v", noted)
	}
	if log := b.file(b.storage.GetLogsPath(id), "build.log"); !strings.Contains(log, "\nbuilding\n") || sink.get(events.LogBuild) != log {
		t.Errorf("the build log is\n%s\nand what was shipped\n%s", log, sink.get(events.LogBuild))
	}
	stop := effects.StopRuntime{ProgramID: id, ContainerID: container}
	if result := h.Execute(t.Context(), stop); result != (events.StopFinished{ContainerID: container, Success: true}) {
		t.Errorf("stop gives %+v", result)
	}
	if out, err := sink.get(events.LogStdout), sink.get(events.LogStderr); out != "out\nwaiting\ngot terminated\n" || err != "err\n" {
		t.Errorf("what was shipped is %q and %q", out, err)
	}
}

func TestBuildTellsTheFailingLine(t *testing.T) {
	b := newBench(t)
	patient, impatient := b.handler(""), b.handler("", host.WithBuildTimeout(3*time.Second))
	for name, c := range map[string]struct {
		handler effects.EffectHandler
		line    string
		want    []string
	}{
		"exit":       {patient, `RUN ["/testprog", "complain", "it is broken", "exit", "5"]`, []string{"Step 4/", "RUN", "non-zero code: 5", "it is broken"}},
		"never ends": {impatient, `RUN ["/testprog", "hang"]`, []string{"took too long", "3s"}},
	} {
		id := b.program(t, c.line)
		result, ok := c.handler.Execute(t.Context(), buildEffect(id, 1)).(events.BuildFinished)
		log := b.file(b.storage.GetLogsPath(id), "build.log")
		for _, want := range c.want {
			if !ok || result.Success || !strings.Contains(result.Error, want) || !strings.Contains(log, want) {
				t.Errorf("%s: no %q in %+v or in the log\n%s", name, want, result, log)
			}
		}
	}
}

func TestCancelledBuildIsDead(t *testing.T) {
	b := newBench(t)
	h := b.handler("")
	id := b.program(t, `RUN ["/testprog", "say", "working", "hang"]`)
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan events.Event, 1)
	go func() { result <- h.Execute(ctx, buildEffect(id, 1)) }()
	dockertest.WaitFor(t, "the step that hangs", func() bool {
		return strings.Contains(b.file(b.storage.GetLogsPath(id), "build.log"), "\nworking\n")
	})
	cancel()
	if got := <-result; got != nil {
		t.Errorf("a cancelled build gives %+v", got)
	}
	if left := b.docker.Containers(dockertest.Label + "=" + b.docker.Run); len(left) > 0 {
		t.Errorf("the build left %v behind", left)
	}
}

// sources holds source tarballs. Before it gives one out it may do something else instead.
type sources struct {
	tarballs map[events.BuildID][]byte
	faults   []func(tarball []byte) (io.ReadCloser, error)
}

func (s *sources) OpenSource(_ context.Context, _ events.UserID, build events.BuildID) (io.ReadCloser, error) {
	tarball, found := s.tarballs[build]
	if len(s.faults) > 0 {
		fault := s.faults[0]
		s.faults = s.faults[1:]
		return fault(tarball)
	}
	if !found {
		return nil, events.ErrNoSource
	}
	return io.NopCloser(bytes.NewReader(tarball)), nil
}

func TestSourceIsFetchedAndVerified(t *testing.T) {
	b := newBench(t)
	var tarball bytes.Buffer
	digest, err := source.Pack(t.Context(), &tarball, b.docker.Source("say", "hello"))
	if err != nil {
		t.Fatal(err)
	}
	build, err := events.NewBuildID(digest)
	if err != nil {
		t.Fatal(err)
	}
	id := events.NewProgramID("tester", build)
	eff := effects.BuildRuntime{Placement: effects.Placement{Attempt: 1}, ProgramID: id, BuildID: build, SourceDigest: digest}
	store := &sources{tarballs: map[events.BuildID][]byte{build: tarball.Bytes()}}
	h := b.handler("", host.WithSources(store))
	build1 := func(eff effects.BuildRuntime) events.BuildFinished {
		t.Helper()
		result, ok := h.Execute(t.Context(), eff).(events.BuildFinished)
		if !ok {
			t.Fatal("the build has no result")
		}
		return result
	}
	if result := build1(eff); !result.Success {
		t.Fatalf("build gives %+v", result)
	}
	// What somebody does to the folder does not get into the next build.
	if err := os.WriteFile(filepath.Join(b.storage.GetSrcPath(id), "Dockerfile"), []byte("FROM nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if result := build1(eff); !result.Success {
		t.Errorf("the second build gives %+v", result)
	}

	broken := func(tarball []byte) (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(bytes.NewReader(tarball[:len(tarball)/2]), badReader{})), nil
	}
	away := func([]byte) (io.ReadCloser, error) { return nil, errors.New("the bus is away") }
	store.faults = []func([]byte) (io.ReadCloser, error){away, broken}
	if result := build1(eff); !result.Success || len(store.faults) > 0 {
		t.Errorf("after outages the build gives %+v", result)
	}

	short := func(tarball []byte) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(tarball[:len(tarball)/2])), nil
	}
	store.faults = []func([]byte) (io.ReadCloser, error){short}
	if result := build1(eff); result.Success || result.Error == "" {
		t.Errorf("half a source gives %+v", result)
	}
	other := eff
	other.SourceDigest = events.SourceDigest(strings.Repeat("0", 64))
	if result := build1(other); result.Success || !strings.Contains(result.Error, "digest") {
		t.Errorf("a source with another digest gives %+v", result)
	}
	other.SourceDigest = ""
	if result := build1(other); result.Success || !strings.Contains(result.Error, "digest") {
		t.Errorf("a program without digest gives %+v", result)
	}
	store.tarballs = nil
	if result := build1(eff); result.Success || !strings.Contains(result.Error, events.ErrNoSource.Error()) {
		t.Errorf("a source that is not there gives %+v", result)
	}
}

type badReader struct{}

func (badReader) Read([]byte) (int, error) { return 0, errors.New("the transfer broke") }

// TestDockerAwayForAWhile breaks the line to Docker in each kind of effect, and mends it.
func TestDockerAwayForAWhile(t *testing.T) {
	b := newBench(t)
	proxy := dockertest.NewProxy(t, b.docker)
	var logged bytes.Buffer
	h := b.handler(proxy.Host, host.WithLogger(slog.New(slog.NewTextHandler(&logged, nil))))
	id := b.program(t, dockertest.Command("hang"))
	away := func() {
		proxy.Break()
		time.AfterFunc(500*time.Millisecond, proxy.Mend)
	}
	away()
	container := b.run(h, id, 1)
	away()
	if result := h.Execute(t.Context(), effects.FetchRuntimeStatus{ContainerID: container}); result != nil {
		t.Errorf("status gives %+v", result)
	}
	away()
	stop := effects.StopRuntime{ProgramID: id, ContainerID: container}
	if result := h.Execute(t.Context(), stop); result != (events.StopFinished{ContainerID: container, Success: true}) {
		t.Errorf("stop gives %+v", result)
	}
	if n := strings.Count(logged.String(), "trying again"); n < 3 || n > 6 {
		t.Errorf("it was logged %d times:\n%s", n, logged.String())
	}
}

func TestPatienceEnds(t *testing.T) {
	b := newBench(t)
	h := b.handler("unix://"+b.TempDir()+"/no.sock", host.WithPatience(300*time.Millisecond))
	id := b.program(t, dockertest.Command("hang"))
	for _, eff := range []effects.Effect{
		buildEffect(id, 1), startEffect(id, 1, "image"), effects.StopRuntime{ProgramID: id, ContainerID: "c"},
		effects.FetchRuntimeStatus{ContainerID: "c"},
	} {
		if result := h.Execute(t.Context(), eff); result != nil {
			t.Errorf("%s gives %+v", eff.Type(), result)
		}
	}
	if _, err := h.Containers(t.Context()); !errors.Is(err, runtime.ErrUnavailable) {
		t.Errorf("listing gives %v", err)
	}
	if err := h.Exits(t.Context(), func() { t.Error("connected") }, nil); !errors.Is(err, runtime.ErrUnavailable) {
		t.Errorf("watching gives %v", err)
	}
}

// TestInspectThatFails must not declare a live program dead.
func TestInspectThatFails(t *testing.T) {
	b := newBench(t)
	proxy := dockertest.NewProxy(t, b.docker)
	h := b.handler(proxy.Host)
	container := b.run(h, b.program(t, dockertest.Command("hang")), 1)
	proxy.Change(func(r *http.Request) { r.URL.Path = "/v1.41/nonsense" })
	if result := h.Execute(t.Context(), effects.FetchRuntimeStatus{ContainerID: container}); result != nil {
		t.Errorf("status gives %+v", result)
	}
}

func TestFullDisk(t *testing.T) {
	b := newBench(t)
	h := b.handler("", host.WithPatience(300*time.Millisecond), host.WithSources(fullDisk{}))
	id := b.program(t, dockertest.Command("hang"))
	eff := buildEffect(id, 1)
	eff.SourceDigest = events.SourceDigest(strings.Repeat("0", 64))
	if result := h.Execute(t.Context(), eff); result != nil {
		t.Errorf("a full disk gives %+v", result)
	}
}

type fullDisk struct{}

func (fullDisk) OpenSource(context.Context, events.UserID, events.BuildID) (io.ReadCloser, error) {
	return nil, syscall.ENOSPC
}

// The result says what Docker says, and Docker says that a program ran out of memory, if not always.
func TestOutOfMemoryIsReported(t *testing.T) {
	b := newBench(t)
	h := b.handler("")
	id := b.program(t, dockertest.Command("oom"))
	for attempt := range uint64(dockertest.OOMTries) {
		container := b.run(h, id, attempt+1)
		b.waitDead(t, container)
		said := b.docker.SaysOutOfMemory(container)
		result, ok := h.Execute(t.Context(), effects.FetchRuntimeStatus{ContainerID: container}).(events.RuntimeExited)
		if !ok || result.OOMKilled != said || result.ExitCode != 137 {
			t.Fatalf("Docker says out of memory: %t; status gives %+v", said, result)
		}
		if said {
			return
		}
	}
	t.Error("Docker never said that the program ran out of memory")
}

// TestRestartedExecutor lets a program speak while no process follows it.
func TestRestartedExecutor(t *testing.T) {
	b := newBench(t)
	sink := newSink()
	docker, err := runtime.NewDockerManager()
	if err != nil {
		t.Fatal(err)
	}
	first := host.NewRealEffectHandler(b.storage, compose.NewBuilder(), docker, host.WithHostID(b.host), host.WithLabels(b.docker.Labels()))
	first.SetDefaultRuntime(b.docker.Runtime())
	alive := b.program(t, dockertest.Command("say", "one", "await", "go", "say", "two", "hang"))
	dies := b.program(t, dockertest.Command("say", "one", "await", "go", "complain", "last words", "exit", "9"))
	running, dead := b.run(first, alive, 1), b.run(first, dies, 1)
	b.waitOutput(alive, "one\n")
	b.waitOutput(dies, "one\n")
	if err := docker.Close(); err != nil {
		t.Fatal(err)
	}
	b.signal(t, alive, "go")
	b.signal(t, dies, "go")
	b.waitDead(t, dead)

	h := b.handler("", host.WithLogSink(sink))
	found, err := h.Containers(t.Context())
	if err != nil || len(found) != 2 {
		t.Fatalf("the containers are %+v, %v", found, err)
	}
	for _, c := range found {
		if c.Running != (c.ID == running) || c.Attempt != 1 {
			t.Errorf("the host lists %+v", c)
		}
		if !c.Running {
			continue
		}
		for range 2 {
			if err := h.Adopt(t.Context(), c); err != nil {
				t.Error(err)
			}
		}
	}
	b.waitOutput(alive, "two\n")
	if result := h.Execute(t.Context(), effects.FetchRuntimeStatus{ContainerID: dead}); result != (events.RuntimeExited{ContainerID: dead, ExitCode: 9}) {
		t.Errorf("status gives %+v", result)
	}
	b.waitOutput(dies, "last words\n")
	if one, two := b.output(alive), b.output(dies); one != "one\ntwo\n" || two != "one\nlast words\n" {
		t.Errorf("the logs are %q and %q", one, two)
	}
}

// TestStopKeepsWhatNobodyFollowed stops a container whose follower's process is no more.
func TestStopKeepsWhatNobodyFollowed(t *testing.T) {
	b := newBench(t)
	docker, err := runtime.NewDockerManager()
	if err != nil {
		t.Fatal(err)
	}
	first := host.NewRealEffectHandler(b.storage, compose.NewBuilder(), docker, host.WithHostID(b.host), host.WithLabels(b.docker.Labels()))
	first.SetDefaultRuntime(b.docker.Runtime())
	id := b.program(t, dockertest.Command("wait", "say", "bye"))
	container := b.run(first, id, 1)
	b.waitOutput(id, "waiting\n")
	if err := docker.Close(); err != nil {
		t.Fatal(err)
	}
	h := b.handler("")
	stop := effects.StopRuntime{ProgramID: id, ContainerID: container}
	if result := h.Execute(t.Context(), stop); result != (events.StopFinished{ContainerID: container, Success: true}) {
		t.Errorf("stop gives %+v", result)
	}
	if want := "waiting\ngot terminated\nbye\n"; b.output(id) != want {
		t.Errorf("the log is %q, want %q", b.output(id), want)
	}
}

func TestHostsShareADaemon(t *testing.T) {
	b := newBench(t)
	one := b.handler("")
	two := b.handler("", host.WithHostID(b.host+"-2"))
	id := b.program(t, dockertest.Command("await", "go"))
	first := b.run(one, id, 1)
	second := b.run(two, id, 2) // Not the end of the first: that belongs to another host.
	for h, want := range map[*host.RealEffectHandler]string{one: first, two: second} {
		found, err := h.Containers(t.Context())
		if err != nil || len(found) != 1 || found[0].ID != want || !found[0].Running {
			t.Errorf("a host lists %+v, %v", found, err)
		}
	}
	stop := effects.StopRuntime{ProgramID: id, ContainerID: second}
	if result, ok := one.Execute(t.Context(), stop).(events.StopFinished); !ok || result.Success || result.Error == "" {
		t.Errorf("stopping the container of another host gives %+v", result)
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	connected, over := make(chan struct{}), make(chan error, 1)
	var ended []effects.Container
	go func() {
		over <- one.Exits(ctx, func() { close(connected) }, func(c effects.Container) {
			ended = append(ended, c)
			cancel()
		})
	}()
	<-connected
	b.signal(t, id, "go") // Both end; both have the folder.
	if err := <-over; !errors.Is(err, context.Canceled) {
		t.Errorf("watching gives %v", err)
	}
	if !slices.Equal(ended, []effects.Container{{ID: first, ProgramID: id, Attempt: 1}}) {
		t.Errorf("the exits are %+v", ended)
	}
}

func TestRuntimeIsAskedForByName(t *testing.T) {
	b := newBench(t)
	h := b.handler("")
	id := b.program(t, dockertest.Command("whereami", "hang"))
	h.SetDefaultRuntime("runc")
	b.run(h, id, 1)
	b.waitOutput(id, "interface lo\n")
	h.SetDefaultRuntime("crun")
	result, ok := h.Execute(t.Context(), startEffect(id, 2, "image")).(events.StartFailed)
	if !ok || !strings.Contains(result.Reason, compose.ErrInvalidRuntime.Error()) {
		t.Errorf("start gives %+v", result)
	}
}

// The same source gives the same image, whatever the attempt; of other sources the older images go once no container uses them.
func TestOlderImagesGo(t *testing.T) {
	b := newBench(t)
	h := b.handler("")
	build := func(id events.ProgramID, attempt uint64) string {
		t.Helper()
		built, ok := h.Execute(t.Context(), buildEffect(id, attempt)).(events.BuildFinished)
		if !ok || !built.Success {
			t.Fatalf("build gives %+v", built)
		}
		return built.ImageID
	}
	id := b.program(t, dockertest.Command("hang"))
	first := build(id, 1)
	b.start(h, startEffect(id, 1, first))
	if again := build(id, 2); again != first {
		t.Errorf("the same source gives image %s, and then %s", first, again)
	}
	b.docker.WriteSource(b.storage.GetSrcPath(id), dockertest.Command("say", "other", "hang"))
	other := build(id, 3)
	if !b.docker.Has("/images/" + first + "/json") {
		t.Error("the image of a container that runs is gone")
	}
	b.start(h, startEffect(id, 3, other)) // Ends the earlier one.
	if last := build(id, 4); last != other || b.docker.Has("/images/"+first+"/json") {
		t.Errorf("image %s after %s; the first one is there: %t", last, other, b.docker.Has("/images/"+first+"/json"))
	}
}

// TestShortIDs is for programs that live in one process, without hosts.
func TestShortIDs(t *testing.T) {
	b := newBench(t)
	h := b.handler("", host.WithHostID(""))
	id := events.ProgramID("my-prog_" + b.docker.Run)
	if err := b.storage.EnsureProgramFolders(id); err != nil {
		t.Fatal(err)
	}
	b.docker.WriteSource(b.storage.GetSrcPath(id), dockertest.Command("say", "hello", "hang"))
	container := b.run(h, id, 1)
	b.waitOutput(id, "hello\n")
	stop := effects.StopRuntime{ProgramID: id, ContainerID: container}
	if result := h.Execute(t.Context(), stop); result != (events.StopFinished{ContainerID: container, Success: true}) {
		t.Errorf("stop gives %+v", result)
	}
	for _, unsafe := range []events.ProgramID{"../x", "a/b", "", "A"} {
		for _, eff := range []effects.Effect{
			effects.EnsureProgramFolders{ProgramID: unsafe}, buildEffect(unsafe, 1), startEffect(unsafe, 1, "image"),
		} {
			if result := h.Execute(t.Context(), eff); result == nil || !events.Failed(result) {
				t.Errorf("%s of %q gives %+v", eff.Type(), unsafe, result)
			}
		}
	}
}

// What is left of a program goes altogether; that of others, and of other hosts, stays.
func TestForget(t *testing.T) {
	b := newBench(t)
	h, other := b.handler(""), b.handler("", host.WithHostID(b.host+"-2"))
	mine, kept := b.program(t, dockertest.Command("hang")), b.program(t, dockertest.Command("say", "kept", "hang"))
	build := func(h *host.RealEffectHandler, id events.ProgramID) string {
		t.Helper()
		built, ok := h.Execute(t.Context(), buildEffect(id, 1)).(events.BuildFinished)
		if !ok || !built.Success {
			t.Fatalf("build gives %+v", built)
		}
		return built.ImageID
	}
	gone, stays, elsewhere := build(h, mine), build(h, kept), build(other, mine)
	container := b.start(h, startEffect(kept, 1, stays))
	remains := func(h *host.RealEffectHandler) []events.ProgramID {
		t.Helper()
		list, err := h.Remains(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	if list := remains(h); !slices.Contains(list, mine) || !slices.Contains(list, kept) {
		t.Errorf("the remains are %v, want both programs", list)
	}
	for range 2 {
		if err := h.Forget(t.Context(), mine); err != nil {
			t.Fatal(err)
		}
	}
	if b.docker.Has("/images/"+gone+"/json") || b.storage.ProgramExists(mine) {
		t.Error("an image or a folder of the program is still there")
	}
	if !b.docker.Has("/images/"+elsewhere+"/json") || !b.docker.Has("/images/"+stays+"/json") || !b.storage.ProgramExists(kept) {
		t.Error("something of another program or host is gone")
	}
	if list := remains(h); slices.Contains(list, mine) || !slices.Contains(list, kept) {
		t.Errorf("the remains are %v, want the other program only", list)
	}
	if list := remains(other); !slices.Contains(list, mine) {
		t.Errorf("the remains of the other host are %v, want the program that it built", list)
	}

	// The exit of a container that the host ended carries the reason.
	if err := h.End(t.Context(), effects.Container{ID: container, ProgramID: kept, Attempt: 1}, "for a test"); err != nil {
		t.Fatal(err)
	}
	b.waitDead(t, container)
	want := events.RuntimeExited{ContainerID: container, ExitCode: 137, Reason: "for a test"}
	if result := h.Execute(t.Context(), effects.FetchRuntimeStatus{ContainerID: container}); result != want {
		t.Errorf("status gives %+v", result)
	}
}
