package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rlaaudgjs5638/hersh/client"
	"github.com/rlaaudgjs5638/hersh/effects/compose"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/bus"
	"github.com/rlaaudgjs5638/hersh/internal/dockertest"
	"github.com/rlaaudgjs5638/hersh/internal/natstest"
	"github.com/rlaaudgjs5638/hersh/internal/source"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

const module = "github.com/rlaaudgjs5638/hersh"

// system is NATS in this process, and the services as processes on real Docker.
type system struct {
	t      *testing.T
	nats   *natstest.Server
	bus    *bus.Bus
	docker *dockertest.Docker
	dir    string // Base folder of the hosts.
}

func newSystem(t *testing.T) *system {
	t.Helper()
	t.Parallel()
	docker := dockertest.Require(t)
	server := natstest.Start(t)
	return &system{t: t, nats: server, bus: server.Bus(t), docker: docker, dir: t.TempDir()}
}

func (s *system) startSupervisor() *process {
	s.t.Helper()
	return start(s.t, commands.command(s.t, module+"/cmd/supervisor"), "--server", s.nats.URL(), "--http", "")
}

// startExecutor starts the executor of a host. Hosts of different tests share the daemon, so their IDs are made unique.
func (s *system) startExecutor(host string, args ...string) *process {
	s.t.Helper()
	id := string(s.hostID(host))
	return start(s.t, commands.command(s.t, module+"/cmd/executor"), append([]string{
		"--server", s.nats.URL(), "--http", "", "--host-id", id, "--dir", filepath.Join(s.dir, host),
		"--runtime", s.docker.Runtime(), "--label", dockertest.Label + "=" + s.docker.Run,
	}, args...)...)
}

func (s *system) hostID(host string) events.HostID {
	return events.HostID(host + "-" + s.docker.Run[:10])
}

// deploy uploads a source folder and creates a program of it.
func (s *system) deploy(user events.UserID, dir string) events.ProgramID {
	s.t.Helper()
	return deploy(s.t, s.bus, user, dir)
}

func deploy(t testing.TB, b *bus.Bus, user events.UserID, dir string) events.ProgramID {
	t.Helper()
	var tarball bytes.Buffer
	digest, err := source.Pack(t.Context(), &tarball, dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.PutSource(t.Context(), user, digest, &tarball); err != nil {
		t.Fatal(err)
	}
	build, err := events.NewBuildID(digest)
	if err != nil {
		t.Fatal(err)
	}
	id := events.NewProgramID(user, build)
	if err := b.Create(t.Context(), id, events.ProgramCreated{BuildID: build, SourceDigest: digest}); err != nil {
		t.Fatal(err)
	}
	return id
}

func (s *system) publish(ev events.Event, id events.ProgramID) {
	s.t.Helper()
	if _, err := s.bus.Append(s.t.Context(), id, ev, ""); err != nil {
		s.t.Fatal(err)
	}
}

func (s *system) waitState(id events.ProgramID, what string, want func(reducer.ProgramState) bool) reducer.ProgramState {
	s.t.Helper()
	return waitState(s.t, s.bus, id, what, want)
}

func (s *system) start(id events.ProgramID) reducer.ProgramState {
	s.t.Helper()
	s.publish(events.UserStartRequested{}, id)
	return s.waitState(id, "ready", is(reducer.StateReady))
}

func (s *system) stop(id events.ProgramID) {
	s.t.Helper()
	s.publish(events.UserStopRequested{}, id)
	s.waitState(id, "stopped", is(reducer.StateStopped))
	if left := s.containers(id); len(left) != 0 {
		s.t.Errorf("containers of %s after its stop: %v", id, left)
	}
}

func (s *system) containers(id events.ProgramID) []dockertest.Object {
	s.t.Helper()
	return s.docker.Containers(compose.LabelProgram + "=" + string(id))
}

// wantOne checks that a Ready program has the one container that its state names, and that it runs.
func (s *system) wantOne(state reducer.ProgramState) {
	s.t.Helper()
	list := s.containers(state.ID)
	if len(list) != 1 || list[0].ID != state.ContainerID || list[0].State != "running" {
		s.t.Errorf("containers of %s: %+v, want only %s, running\n%s", state.ID, list, state.ContainerID, history(s.t, s.bus, state.ID))
	}
}

// output waits until the program has printed the text, and returns all that it printed.
func (s *system) output(id events.ProgramID, stream events.LogStream, text string) string {
	s.t.Helper()
	var all strings.Builder
	dockertest.WaitFor(s.t, fmt.Sprintf("%q in the output of %s", text, id), func() bool {
		all.Reset()
		for out, err := range s.bus.ReadOutput(s.t.Context(), id, stream, 0) {
			if err != nil {
				s.t.Fatal(err)
			}
			all.Write(out.Data)
		}
		return strings.Contains(all.String(), text)
	})
	return all.String()
}

func TestDockerKillMinusNine(t *testing.T) {
	for _, tc := range []struct {
		name   string
		victim string   // Which service is killed,
		at     []string // when it has logged a line with these words.
	}{
		{"executor in a build", "executor", []string{"msg=effect", "effect=BuildRuntime"}},
		{"executor in a start", "executor", []string{"msg=effect", "effect=StartRuntime"}},
		{"supervisor in a build", "supervisor", []string{"msg=program", "to=Building"}},
		{"supervisor in a start", "supervisor", []string{"msg=program", "to=Starting"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSystem(t)
			services := map[string]*process{"supervisor": s.startSupervisor(), "executor": s.startExecutor("h1")}
			again := map[string]func() *process{"supervisor": s.startSupervisor, "executor": func() *process { return s.startExecutor("h1") }}
			id := s.deploy("alice", s.docker.Source("say", "up", "wait"))
			s.publish(events.UserStartRequested{}, id)
			services[tc.victim].await(tc.at...)
			services[tc.victim].kill()
			again[tc.victim]()
			ready := s.waitState(id, "ready after the kill", is(reducer.StateReady))
			s.wantOne(ready)
			s.output(id, events.LogStdout, "up\n")
			s.stop(id)
		})
	}
}

// Three programs of two users on two executors that share a daemon: each effect runs on its program's host only, and no
// executor touches the other's containers.
func TestDockerTwoHostsShareADaemon(t *testing.T) {
	s := newSystem(t)
	s.startSupervisor()
	executors := map[events.HostID]*process{
		s.hostID("h1"): s.startExecutor("h1", "--build-slots", "1"),
		s.hostID("h2"): s.startExecutor("h2", "--build-slots", "1"),
	}
	dir := s.docker.Source("say", "up", "wait")
	ids := []events.ProgramID{s.deploy("alice", dir), s.deploy("alice", dir), s.deploy("bob", dir)}
	for _, id := range ids {
		s.publish(events.UserStartRequested{}, id)
	}
	placed := map[events.ProgramID]reducer.ProgramState{}
	used := map[events.HostID]bool{}
	for _, id := range ids {
		placed[id] = s.waitState(id, "ready", is(reducer.StateReady))
		used[placed[id].HostID] = true
	}
	if len(used) != 2 {
		t.Errorf("the programs are on %v, want both hosts", used)
	}
	for _, id := range ids {
		s.publish(events.UserRestartRequested{}, id)
	}
	for _, id := range ids {
		again := s.waitState(id, "ready again", func(p reducer.ProgramState) bool { return p.State == reducer.StateReady && p.Attempt == 2 })
		if again.HostID != placed[id].HostID {
			t.Errorf("%s moved from %s to %s", id, placed[id].HostID, again.HostID)
		}
		s.wantOne(again)
		s.wantHost(again)
	}
	// A host's restart compares its containers with the logs, and leaves those of the other alone.
	gone := placed[ids[0]].HostID
	executors[gone].kill()
	host := strings.TrimSuffix(string(gone), "-"+s.docker.Run[:10])
	s.startExecutor(host)
	for _, id := range ids {
		s.wantOne(s.waitState(id, "ready still", is(reducer.StateReady)))
		s.stop(id) // Its executor compares before it takes work, so this one has.
	}
}

// wantHost checks that every result in the log of a program, and its container, is of its host.
func (s *system) wantHost(state reducer.ProgramState) {
	s.t.Helper()
	for _, c := range s.containers(state.ID) {
		if c.Labels[compose.LabelHost] != string(state.HostID) {
			s.t.Errorf("container of %s is labelled for host %s, want %s", state.ID, c.Labels[compose.LabelHost], state.HostID)
		}
	}
	text := history(s.t, s.bus, state.ID)
	for _, host := range []string{"h1", "h2"} {
		if id := s.hostID(host); id != state.HostID && strings.Contains(text, string(id)) {
			s.t.Errorf("%s is on %s, but %s had to do with it:\n%s", state.ID, state.HostID, id, text)
		}
	}
}

// A server that is nobody's of Hersh, from its Go module, through the whole life cycle.
func TestDockerThirdPartyServer(t *testing.T) {
	s := newSystem(t)
	s.startSupervisor()
	s.startExecutor("h1")
	dir := t.TempDir()
	binary, err := os.ReadFile(commands.command(t, "github.com/nats-io/nats-server/v2"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "server"), binary, 0o755)
	write(t, filepath.Join(dir, "Dockerfile"), []byte("FROM scratch\nLABEL "+dockertest.Label+"="+s.docker.Run+"\nCOPY server /server\n"+
		`CMD ["/server", "--addr", "127.0.0.1", "--jetstream", "--store_dir", "/state"]`+"\n"), 0o644)
	id := s.deploy("alice", dir)
	s.wantOne(s.start(id))
	s.output(id, events.LogStderr, "Server is ready")
	s.publish(events.UserRestartRequested{}, id)
	again := s.waitState(id, "ready again", func(p reducer.ProgramState) bool { return p.State == reducer.StateReady && p.Attempt == 2 })
	s.wantOne(again)
	dockertest.WaitFor(t, "the server to stop and start again", func() bool {
		return strings.Count(s.output(id, events.LogStderr, "Server is ready"), "Server is ready") == 2
	})
	if _, err := os.Stat(filepath.Join(s.dir, "h1", string(id), "state", "jetstream")); err != nil {
		t.Errorf("the server keeps nothing in /state: %v", err)
	}
	s.stop(id)
}

// A program that imports nothing of Hersh starts, watches and stops a program.
func TestDockerExternalClient(t *testing.T) {
	s := newSystem(t)
	s.startSupervisor()
	s.startExecutor("h1")
	id := s.deploy("alice", s.docker.Source("wait"))
	external := commands.command(t, module+"/internal/e2e/testdata/external")
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	out, err := exec.CommandContext(ctx, external, s.nats.URL(), "alice", string(id)).CombinedOutput()
	if err != nil {
		t.Fatalf("external client: %v\n%s", err, out)
	}
	s.waitState(id, "stopped", is(reducer.StateStopped))
	if left := s.containers(id); len(left) != 0 {
		t.Errorf("containers after the stop: %v", left)
	}
}

func TestDockerExits(t *testing.T) {
	s := newSystem(t)
	s.startSupervisor()
	executor := s.startExecutor("h1")
	failed := func(script ...string) reducer.ProgramState {
		t.Helper()
		id := s.deploy("alice", s.docker.Source(script...))
		s.publish(events.UserStartRequested{}, id)
		state := s.waitState(id, "failed", is(reducer.StateError))
		if len(s.containers(id)) != 1 {
			t.Errorf("%v: the dead container, which is evidence, is gone", script)
		}
		return state
	}
	atOnce := failed("complain", "no", "exit", "3")
	if atOnce.ExitCode != 3 || atOnce.ErrorMsg != "the program exited with code 3" {
		t.Errorf("exit at once: exit code %d, message %q", atOnce.ExitCode, atOnce.ErrorMsg)
	}
	s.stop(atOnce.ID) // Removes the container.
	s.output(atOnce.ID, events.LogStderr, "no\n")

	said := false
	for range dockertest.OOMTries {
		state := failed("oom")
		if said = s.docker.SaysOutOfMemory(state.ContainerID); state.ExitCode != 137 || strings.Contains(state.ErrorMsg, "out of memory") != said {
			t.Errorf("Docker says out of memory: %t; exit code %d, message %q", said, state.ExitCode, state.ErrorMsg)
		}
		s.stop(state.ID)
		if said {
			break
		}
	}
	if !said {
		t.Error("Docker never said that the program ran out of memory")
	}

	removed, missed := s.deploy("alice", s.docker.Source("wait")), s.deploy("alice", s.docker.Source("await", "end", "exit", "5"))
	s.docker.Remove(s.start(removed).ContainerID)
	s.waitState(removed, "failed for want of its container", is(reducer.StateError))

	s.start(missed)
	if code := executor.terminate(); code != 0 {
		t.Errorf("the executor ended with code %d after SIGTERM, want 0", code)
	}
	if list := s.containers(missed); len(list) != 1 || list[0].State != "running" {
		t.Fatalf("after the executor's end: %+v, want the container running", list)
	}
	write(t, filepath.Join(s.dir, "h1", string(missed), "state", "end"), nil, 0o644)
	dockertest.WaitFor(t, "the container to end", func() bool { return s.containers(missed)[0].State == "exited" })
	s.startExecutor("h1")
	if state := s.waitState(missed, "failed", is(reducer.StateError)); state.ExitCode != 5 {
		t.Errorf("an exit that was missed has code %d, want 5", state.ExitCode)
	}
}

// TestDockerStateLimit lets one of two programs outgrow its /state while it runs.
func TestDockerStateLimit(t *testing.T) {
	s := newSystem(t)
	s.startSupervisor()
	s.startExecutor("h1", "--state-limit", "1")
	small := s.start(s.deploy("alice", s.docker.Source("keep", "100000", "wait")))
	big := s.deploy("bob", s.docker.Source("await", "go", "keep", "3000000", "say", "kept", "wait"))
	s.start(big)
	write(t, filepath.Join(s.dir, "h1", string(big), "state", "go"), nil, 0o644)
	ended := s.waitState(big, "ended for its state", is(reducer.StateError))
	if !strings.Contains(ended.ErrorMsg, "/state takes 2 MiB of the disk, more than the 1 MiB") {
		t.Errorf("the reason is %q", ended.ErrorMsg)
	}
	s.output(big, events.LogStdout, "kept\n")
	s.publish(events.UserStartRequested{}, big) // As it is, it cannot be started.
	refused := s.waitState(big, "refused", func(p reducer.ProgramState) bool { return p.State == reducer.StateError && p.Attempt == 2 })
	if !strings.Contains(refused.ErrorMsg, "must be made smaller") {
		t.Errorf("the reason is %q", refused.ErrorMsg)
	}
	s.wantOne(small)
}

// An executor that is cut off from the bus ends its programs after a while, and says so when it is back.
func TestDockerFence(t *testing.T) {
	s := newSystem(t)
	s.startSupervisor()
	executor := s.startExecutor("h1", "--fence-after", "10s")
	id := s.deploy("alice", s.docker.Source("say", "hello", "wait"))
	running := s.start(id)
	s.output(id, events.LogStdout, "hello\n")
	s.nats.Stop()
	executor.await("the host is cut off", running.ContainerID)
	dockertest.WaitFor(t, "the container to end while the bus is away", func() bool {
		list := s.containers(id)
		return len(list) == 1 && list[0].State == "exited"
	})
	s.nats.Restart(t)
	ended := s.waitState(id, "ended by its host", is(reducer.StateError))
	if ended.ContainerID != running.ContainerID || !strings.Contains(ended.ErrorMsg, "its host was cut off from the bus for ") {
		t.Errorf("the program is %+v", ended)
	}
	s.wantOne(s.start(id))
	s.stop(id)
}

// What is left of a program that is deleted goes from its host when that is back, and its source goes at once.
func TestDockerRemainsOfADeletedProgram(t *testing.T) {
	s := newSystem(t)
	s.startSupervisor()
	executor := s.startExecutor("h1")
	source := s.docker.Source("keep", "1000", "wait")
	gone, kept := s.deploy("alice", source), s.deploy("alice", s.docker.Source("keep", "2000", "wait"))
	image := s.start(gone).ImageID
	s.start(kept)
	s.stop(gone)
	executor.kill()
	digest := s.waitState(gone, "stopped", is(reducer.StateStopped)).SourceDigest
	if err := client.New(s.nats.Conn(t)).Delete(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	if found, err := s.bus.HasSource(t.Context(), "alice", digest); err != nil || found {
		t.Errorf("the source is there: %t, %v", found, err)
	}
	folder := filepath.Join(s.dir, "h1", string(gone))
	if _, err := os.Stat(filepath.Join(folder, "state")); err != nil || !s.docker.Has("/images/"+image+"/json") {
		t.Fatalf("its state or its image is gone already (%v)", err)
	}
	s.startExecutor("h1")
	dockertest.WaitFor(t, "the host to remove what is left", func() bool {
		_, err := os.Stat(folder)
		return errors.Is(err, fs.ErrNotExist) && !s.docker.Has("/images/"+image+"/json")
	})
	s.wantOne(s.waitState(kept, "ready still", is(reducer.StateReady)))
	s.stop(kept)
	if state, err := os.Stat(filepath.Join(s.dir, "h1", string(kept), "state")); err != nil || !state.IsDir() {
		t.Errorf("the state of a program at rest: %v", err)
	}
}

func TestDockerBadDockerfile(t *testing.T) {
	for _, tc := range []struct {
		name, line, want, timeout string
	}{
		{"fails", `RUN ["/testprog", "complain", "woe", "exit", "9"]`, "returned a non-zero code: 9", "5m"},
		{"never ends", `RUN ["/testprog", "hang"]`, "too long", "10s"}, // Not less: a busy machine must come to that line.
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSystem(t)
			s.startSupervisor()
			s.startExecutor("h1", "--build-timeout", tc.timeout)
			id := s.deploy("alice", s.docker.SourceWith(tc.line))
			s.publish(events.UserStartRequested{}, id)
			state := s.waitState(id, "failed", is(reducer.StateError))
			if !strings.Contains(state.ErrorMsg, tc.want) {
				t.Errorf("%s: message %q, want %q in it", tc.line, state.ErrorMsg, tc.want)
			}
			s.output(id, events.LogBuild, "Step 1/") // The whole log is kept.
		})
	}
}

// A stop during a build cancels it, whatever it is doing.
func TestDockerStopDuringBuild(t *testing.T) {
	s := newSystem(t)
	s.startSupervisor()
	executor := s.startExecutor("h1")
	id := s.deploy("alice", s.docker.SourceWith(`RUN ["/testprog", "hang"]`))
	s.publish(events.UserStartRequested{}, id)
	executor.await("msg=effect", "effect=BuildRuntime")
	s.publish(events.UserStopRequested{}, id)
	s.waitState(id, "stopped", is(reducer.StateStopped))
	executor.await("given up", "effect=BuildRuntime")
	dockertest.WaitFor(t, "the build's container to go", func() bool { return len(s.docker.Containers(dockertest.Label+"="+s.docker.Run)) == 0 })
}

func TestDockerAndNATSComeBack(t *testing.T) {
	s := newSystem(t)
	proxy := dockertest.NewProxy(t, s.docker)
	t.Logf("Docker through %s", proxy.Host)
	s.startSupervisor()
	executor := s.startExecutorWith(proxy.Host, "h1")
	first := s.deploy("alice", s.docker.Source("wait"))
	s.wantOne(s.start(first))

	proxy.Break()
	second := s.deploy("alice", s.docker.Source("say", "x", "wait"))
	s.publish(events.UserStartRequested{}, second)
	executor.await("msg=effect", "effect=BuildRuntime", string(second))
	executor.await("cannot run an effect now")
	proxy.Mend()
	s.wantOne(s.waitState(second, "ready once Docker is back", is(reducer.StateReady)))

	third := s.deploy("alice", s.docker.Source("say", "y", "wait"))
	s.publish(events.UserStartRequested{}, third)
	executor.await("msg=effect", "effect=BuildRuntime", string(third))
	s.nats.Restart(t)
	s.wantOne(s.waitState(third, "ready once NATS is back", is(reducer.StateReady)))
	for _, id := range []events.ProgramID{first, second, third} {
		s.wantOne(s.waitState(id, "ready still", is(reducer.StateReady)))
		s.stop(id)
	}
}

func (s *system) startExecutorWith(dockerHost, host string) *process {
	s.t.Helper()
	return s.startExecutor(host, "--docker-host", dockerHost)
}

func write(t *testing.T, path string, data []byte, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, data, mode); err != nil {
		t.Fatal(err)
	}
}

// The seed's complete lifecycle example, in one process on real Docker.
func TestDockerLifecycleExample(t *testing.T) {
	t.Parallel()
	docker := dockertest.Require(t)
	example := commands.command(t, module+"/examples/lifecycle")
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	id := "my-prog-" + docker.Run[:10]
	out, err := exec.CommandContext(ctx, example, "-dir", t.TempDir(), "-runtime", docker.Runtime(), "-id", id, docker.Source("wait")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if want := id + " is Ready\n" + id + " is Stopped\n"; string(out) != want {
		t.Errorf("it printed %q, want %q", out, want)
	}
	if left := docker.Containers(compose.LabelProgram + "=" + id); len(left) != 0 {
		t.Errorf("containers after its end: %v", left)
	}
}
