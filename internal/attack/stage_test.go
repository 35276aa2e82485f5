package attack_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/effects/compose"
	"github.com/rlaaudgjs5638/hersh/effects/host"
	"github.com/rlaaudgjs5638/hersh/effects/runtime"
	"github.com/rlaaudgjs5638/hersh/effects/storage"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/dockertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// orders mirrors the type of the hostile program.
type orders struct {
	Mode     string
	Targets  map[string]string
	HostPids []int
	HostFile string
	Amount   int64
}

// report mirrors the type of the hostile program.
type report struct {
	Kind    string `json:"kind"`
	Attempt string `json:"attempt"`
	Worked  bool   `json:"worked"`
	Detail  string `json:"detail"`
	Count   int64  `json:"count"`
}

// hostile is the binary of the hostile program, built once.
var hostile = sync.OnceValues(buildHostile)

func buildHostile() ([]byte, error) {
	dir, err := os.MkdirTemp("", "hersh-hostile-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "hostile")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, "./testdata/hostile")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the hostile program: %w\n%s", err, text)
	}
	return os.ReadFile(out)
}

// stage is a host as an executor has it, for one test: the real handler on the machine's Docker.
type stage struct {
	t       *testing.T
	docker  *dockertest.Docker
	base    string // Folder of the programs.
	storage *storage.Manager
	handler *host.RealEffectHandler
	runtime string
}

const hostID = events.HostID("attacked")

// runtimes runs a test under each runtime that Docker has; gVisor may be missing on a developer's machine only.
func runtimes(t *testing.T, test func(t *testing.T, runtime string)) {
	for _, name := range []string{compose.RuntimeRunsc, compose.RuntimeRunc} {
		t.Run(name, func(t *testing.T) {
			if name == compose.RuntimeRunsc && dockertest.Require(t).Runtime() != name {
				t.Skip("Docker does not know runsc here")
			}
			test(t, name)
		})
	}
}

// newStage returns a stage on the Docker at an address; "" is the machine's own.
func newStage(t *testing.T, runtimeName, dockerHost string, opts ...host.Option) *stage {
	t.Helper()
	base := filepath.Join(t.TempDir(), "programs") // Asked for before Docker is, so that it goes after the containers that write to it.
	s := &stage{t: t, docker: dockertest.Require(t), runtime: runtimeName, base: base}
	s.storage = storage.NewManager(s.base)
	manager, err := runtime.NewDockerManager(runtime.WithDockerHost(dockerHost), runtime.WithStopTimeout(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := manager.Close(); err != nil {
			t.Error(err)
		}
	})
	opts = append([]host.Option{host.WithHostID(hostID), host.WithLabels(s.docker.Labels()), host.WithPatience(5 * time.Second)}, opts...)
	s.handler = host.NewRealEffectHandler(s.storage, compose.NewBuilder(), manager, opts...)
	s.handler.SetDefaultRuntime(runtimeName)
	return s
}

// source returns a source folder: the hostile program in an empty image, and then the given lines.
func (s *stage) source(lines ...string) string {
	s.t.Helper()
	binary, err := hostile()
	if err != nil {
		s.t.Fatal(err)
	}
	head := []string{"FROM scratch", "LABEL " + dockertest.Label + "=" + s.docker.Run, "COPY hostile /hostile"}
	dir := s.t.TempDir()
	s.write(filepath.Join(dir, "hostile"), string(binary), 0o755)
	s.write(filepath.Join(dir, "Dockerfile"), strings.Join(append(head, lines...), "\n")+"\n", 0o644)
	return dir
}

func (s *stage) write(path, text string, mode fs.FileMode) {
	s.t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		s.t.Fatal(err)
	}
}

// build builds a source folder as the executor does, and returns what came of it.
func (s *stage) build(id events.ProgramID, dir string) events.BuildFinished {
	s.t.Helper()
	s.ensure(id)
	result := s.handler.Execute(s.t.Context(), effects.BuildRuntime{
		ProgramID: id, BuildID: id.Build(), SrcPath: dir, Placement: effects.Placement{HostID: hostID, Attempt: 1},
	})
	finished, ok := result.(events.BuildFinished)
	if !ok {
		s.t.Fatalf("the build ended with %#v", result)
	}
	return finished
}

func (s *stage) ensure(id events.ProgramID) {
	s.t.Helper()
	if result := s.handler.Execute(s.t.Context(), effects.EnsureProgramFolders{ProgramID: id}); result != (events.FoldersEnsured{Success: true}) {
		s.t.Fatalf("the folders: %#v", result)
	}
}

// image builds the hostile program's image, with a setuid copy of it, and returns its ID.
func (s *stage) image(lines ...string) string {
	s.t.Helper()
	lines = append([]string{
		"COPY hostile /hostile-setuid", `RUN ["/hostile", "makesuid", "/hostile-setuid"]`, `CMD ["/hostile"]`,
	}, lines...)
	finished := s.build(s.docker.ProgramID(), s.source(lines...))
	if !finished.Success {
		s.t.Fatal(finished.Error)
	}
	return finished.ImageID
}

// inmate is a started program.
type inmate struct {
	*stage
	id        events.ProgramID
	container string
	image     string
	limits    events.Limits
}

// start starts a program with its orders.
func (s *stage) start(image string, o orders, limits events.Limits) *inmate {
	s.t.Helper()
	p := &inmate{stage: s, id: s.docker.ProgramID(), image: image, limits: limits}
	s.ensure(p.id)
	data, err := json.Marshal(o)
	if err != nil {
		s.t.Fatal(err)
	}
	s.write(filepath.Join(p.state(), "orders.json"), string(data), 0o644)
	started, ok := p.startAgain().(events.RuntimeStarted)
	if !ok {
		s.t.Fatalf("the start ended with %#v", p.startAgain())
	}
	p.container = started.ContainerID
	return p
}

func (p *inmate) startAgain() events.Event {
	return p.handler.Execute(p.t.Context(), effects.StartRuntime{
		ProgramID: p.id, ImageID: p.image, Limits: p.limits, Placement: effects.Placement{HostID: hostID, Attempt: 1},
	})
}

func (p *inmate) state() string { return p.storage.GetStatePath(p.id) }

func (p *inmate) logPath() string { return filepath.Join(p.storage.GetLogsPath(p.id), "runtime.log") }

// reports returns what the program has said so far. Lines that are none are the text of a crash.
func (p *inmate) reports() (list []report, rest string) {
	p.t.Helper()
	file, err := os.Open(p.logPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ""
	}
	if err != nil {
		p.t.Fatal(err)
	}
	defer file.Close()
	scanner := bufio.NewScanner(file)
	for scanner.Scan() {
		var r report
		if json.Unmarshal(scanner.Bytes(), &r) != nil || r.Kind == "" {
			if len(rest) < 2000 {
				rest += scanner.Text() + "\n"
			}
			continue
		}
		list = append(list, r)
	}
	return list, rest
}

// await waits until the program says that it is done, or has ended, and returns all that it said.
func (p *inmate) await(mode string) []report {
	p.t.Helper()
	var list []report
	dockertest.WaitFor(p.t, "the end of mode "+mode, func() bool {
		list, _ = p.reports()
		return len(list) > 0 && list[len(list)-1].Kind == "done"
	})
	return list
}

// exit waits until the container has ended.
func (p *inmate) exit() events.RuntimeExited {
	p.t.Helper()
	var exited events.RuntimeExited
	dockertest.WaitFor(p.t, "the end of the container", func() (ended bool) {
		exited, ended = p.handler.Execute(p.t.Context(), effects.FetchRuntimeStatus{ContainerID: p.container}).(events.RuntimeExited)
		return ended
	})
	return exited
}

// stop stops the program, and checks that nothing of it is left on the host.
func (p *inmate) stop() {
	p.t.Helper()
	pids := p.pids()
	result := p.handler.Execute(context.Background(), effects.StopRuntime{
		ProgramID: p.id, ContainerID: p.container, Placement: effects.Placement{HostID: hostID, Attempt: 1},
	})
	if finished, ok := result.(events.StopFinished); !ok || !finished.Success {
		p.t.Errorf("the stop ended with %#v", result)
	}
	if left := p.pids(); len(left) > 0 {
		p.t.Errorf("of its processes %v there are still %v", pids, left)
	}
	if p.docker.Has("/containers/" + p.container + "/json") {
		p.t.Error("its container is still there")
	}
}

// pids returns the processes of the host that are in a cgroup of the container: all that runs in it, or for it.
func (p *inmate) pids() (list []int) {
	p.t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		p.t.Fatal(err)
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		groups, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "cgroup"))
		if err == nil && strings.Contains(string(groups), p.container) {
			list = append(list, pid)
		}
	}
	return list
}

// neighbour is a program that only lives, and shows it.
type neighbour struct{ *inmate }

// startNeighbour starts a program beside the hostile one, as another tenant's would be.
func (s *stage) startNeighbour(image string) neighbour {
	n := neighbour{s.start(image, orders{Mode: "live"}, events.Limits{MemoryBytes: 64 << 20})}
	n.checkAlive()
	return n
}

// checkAlive waits for two more signs of life.
func (n neighbour) checkAlive() {
	n.t.Helper()
	first := n.beat()
	dockertest.WaitFor(n.t, "a sign of life of the neighbour", func() bool { return n.beat() > first+1 })
}

func (n neighbour) beat() int {
	data, _ := os.ReadFile(filepath.Join(n.state(), "stays"))
	beat, err := strconv.Atoi(string(data))
	if err != nil {
		return -1
	}
	return beat
}
