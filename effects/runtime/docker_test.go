package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/rlaaudgjs5638/hersh/effects/compose"
	"github.com/rlaaudgjs5638/hersh/effects/runtime"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/dockertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is a manager on the machine's Docker, and what a test needs to use it.
type bench struct {
	*runtime.DockerManager
	t      *testing.T
	docker *dockertest.Docker
	id     events.ProgramID
	state  string // Folder that is mounted at /state.
	log    string // Path of the followed output.
}

func newBench(t *testing.T, opts ...runtime.Option) *bench {
	t.Helper()
	t.Parallel()
	docker := dockertest.Require(t)
	dir := t.TempDir()
	b := &bench{t: t, docker: docker, id: docker.ProgramID(), state: filepath.Join(dir, "state"), log: filepath.Join(dir, "runtime.log")}
	if err := os.Mkdir(b.state, 0o777); err != nil {
		t.Fatal(err)
	}
	b.DockerManager = b.open(opts...)
	return b
}

// open returns one more manager, as a restarted process has one.
func (b *bench) open(opts ...runtime.Option) *runtime.DockerManager {
	b.t.Helper()
	m, err := runtime.NewDockerManager(opts...)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		if err := m.Close(); err != nil {
			b.t.Error(err)
		}
	})
	return m
}

// image builds an image that runs a script of the test program.
func (b *bench) image(script ...string) string {
	b.t.Helper()
	result, err := b.Build(b.t.Context(), runtime.BuildOpts{
		BuildID: b.id.Build(), ContextPath: b.docker.Source(script...), Labels: b.docker.Labels(),
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return result.ImageID
}

func (b *bench) spec(image string, change ...func(*compose.BuildOpts)) *compose.ComposeSpec {
	b.t.Helper()
	opts := compose.BuildOpts{
		ProgramID: b.id, ImageID: image, StatePath: b.state, Runtime: b.docker.Runtime(),
		HostID: "h1", Attempt: 1, Labels: b.docker.Labels(), Limits: events.Limits{MemoryBytes: 64 << 20},
	}
	for _, f := range change {
		f(&opts)
	}
	spec, err := compose.NewBuilder().GenerateSpec(opts)
	if err != nil {
		b.t.Fatal(err)
	}
	return spec
}

func (b *bench) start(spec *compose.ComposeSpec) string {
	b.t.Helper()
	result, err := b.Start(b.t.Context(), runtime.StartOpts{ProgramID: b.id, Spec: spec, RuntimeLogPath: b.log})
	if err != nil {
		b.t.Fatal(err)
	}
	return result.ContainerID
}

func (b *bench) run(script ...string) string {
	b.t.Helper()
	return b.start(b.spec(b.image(script...)))
}

// signal lets a program go on that awaits a file in /state.
func (b *bench) signal(name string) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.state, name), nil, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) logged() string {
	data, err := os.ReadFile(b.log)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		b.t.Error(err)
	}
	return string(data)
}

func (b *bench) waitLogged(text string) {
	b.t.Helper()
	dockertest.WaitFor(b.t, fmt.Sprintf("%q in the log", text), func() bool { return strings.Contains(b.logged(), text) })
}

func (b *bench) inspect(id string) runtime.Container {
	b.t.Helper()
	c, err := b.Inspect(context.Background(), id)
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

func (b *bench) waitEnd(id string) runtime.Container {
	b.t.Helper()
	dockertest.WaitFor(b.t, "the container's end", func() bool {
		c := b.inspect(id)
		return !c.Running && !c.Created
	})
	return b.inspect(id)
}
