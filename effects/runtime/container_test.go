package runtime_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rlaaudgjs5638/hersh/effects/compose"
	"github.com/rlaaudgjs5638/hersh/effects/runtime"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/dockertest"
)

func TestContainerIsSandboxed(t *testing.T) {
	for _, name := range []string{compose.RuntimeRunsc, compose.RuntimeRunc} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			if name == compose.RuntimeRunsc && b.docker.Runtime() != name {
				t.Skip("Docker does not know runsc here")
			}
			image := b.image("whereami", "complain", "beware", "wait")
			id := b.start(b.spec(image, func(o *compose.BuildOpts) { o.Runtime = name }))
			b.waitLogged("waiting")
			log := b.logged()
			for _, want := range []string{
				"write /forbidden false", "write /state/allowed true", "CapEff:\t0000000000000000", "interface lo", "beware",
			} {
				if !strings.Contains(log, want+"\n") {
					t.Errorf("no line %q in the output:\n%s", want, log)
				}
			}
			if strings.Contains(log, "interface eth") {
				t.Errorf("the container has a network:\n%s", log)
			}
			if isGVisor := strings.Contains(log, "Linux version 4.4.0 "); isGVisor != (name == compose.RuntimeRunsc) {
				t.Errorf("the kernel is not that of %s:\n%s", name, log)
			}
			if status, err := b.GetContainerStatus(t.Context(), id); status != "running" || err != nil {
				t.Errorf("status is %q, %v", status, err)
			}
			if running, err := b.IsContainerRunning(t.Context(), id); !running || err != nil {
				t.Errorf("running is %t, %v", running, err)
			}
			if ip, err := b.GetContainerIP(t.Context(), id); ip != "" || err != nil {
				t.Errorf("address is %q, %v", ip, err)
			}
		})
	}
}

func TestStopLetsTheProgramFinish(t *testing.T) {
	b := newBench(t)
	id := b.run("wait", "say", "bye")
	b.waitLogged("waiting")
	if err := b.Stop(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if want := "waiting\ngot terminated\nbye\n"; b.logged() != want {
		t.Errorf("the log is %q, want %q", b.logged(), want)
	}
	if left := b.docker.Containers(dockertest.Label + "=" + b.docker.Run); len(left) > 0 {
		t.Errorf("the container is still there: %v", left)
	}
	if err := b.Stop(t.Context(), id); err != nil {
		t.Errorf("stopping it again: %v", err)
	}
	if _, err := b.Inspect(t.Context(), id); !errors.Is(err, runtime.ErrNoContainer) {
		t.Errorf("inspecting it gives %v", err)
	}
}

func TestStopKillsWhatIgnoresSIGTERM(t *testing.T) {
	b := newBench(t, runtime.WithStopTimeout(time.Second))
	id := b.run("ignore", "hang")
	b.waitLogged("ignoring SIGTERM")
	begin := time.Now()
	if err := b.Stop(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took < time.Second || took > 20*time.Second {
		t.Errorf("it took %s, with a timeout of 1 s", took)
	}
}

// TestKillLeavesTheEvidence checks that a killed container stays, with its output and its exit code.
func TestKillLeavesTheEvidence(t *testing.T) {
	b := newBench(t)
	id := b.run("say", "alive", "hang")
	b.waitLogged("alive")
	for range 2 { // The second finds it dead.
		if err := b.Kill(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if c := b.waitEnd(id); c.ExitCode != 137 {
		t.Errorf("it ended as %+v", c)
	}
	for _, ref := range []string{strings.Repeat("0", 64), "../images/x", ""} {
		if err := b.Kill(t.Context(), ref); err != nil {
			t.Errorf("killing %q: %v", ref, err)
		}
	}
}

func TestStopByManyAtOnce(t *testing.T) {
	b := newBench(t)
	id := b.run("hang")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := b.Stop(t.Context(), id); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestContainerRemovedByHand(t *testing.T) {
	b := newBench(t)
	id := b.run("say", "hello", "hang")
	b.waitLogged("hello")
	b.docker.Remove(id)
	if _, err := b.Inspect(t.Context(), id); !errors.Is(err, runtime.ErrNoContainer) {
		t.Errorf("inspecting it gives %v", err)
	}
	if err := b.Stop(t.Context(), id); err != nil {
		t.Errorf("stopping it: %v", err)
	}
}

func TestStopOwnedLeavesOthersAlone(t *testing.T) {
	b := newBench(t)
	id := b.run("hang")
	other := b.docker.ProgramID()
	for _, owner := range []struct {
		program events.ProgramID
		host    events.HostID
	}{{other, ""}, {other, "h1"}, {b.id, "h2"}, {"", "h2"}} {
		if err := b.StopOwned(t.Context(), id, owner.program, owner.host); !errors.Is(err, runtime.ErrNotOwner) {
			t.Errorf("stopping it as %v gives %v", owner, err)
		}
	}
	if !b.inspect(id).Running {
		t.Error("it was stopped")
	}
	if err := b.StopOwned(t.Context(), id, b.id, "h1"); err != nil {
		t.Error(err)
	}
	if err := b.StopOwned(t.Context(), id, other, "h2"); err != nil {
		t.Errorf("one that is gone: %v", err)
	}

	foreign := b.plainContainer("hersh-test-"+b.docker.Run, nil)
	if err := b.StopOwned(t.Context(), foreign, "", ""); !errors.Is(err, runtime.ErrNotOwner) {
		t.Errorf("stopping a container that is not of Hersh gives %v", err)
	}
	for _, ref := range []string{"../images/x", "a b", "", "x?force=1", strings.Repeat("a", 300)} {
		if err := b.StopOwned(t.Context(), ref, "", ""); err != nil {
			t.Errorf("a reference that is none: %v", err)
		}
	}
}

// plainContainer makes a container without the help of what is tested.
func (b *bench) plainContainer(name string, labels map[string]string) string {
	b.t.Helper()
	all := b.docker.Labels()
	for k, v := range labels {
		all[k] = v
	}
	var made struct{ ID string }
	b.docker.Post("/containers/create?name="+name, map[string]any{"Image": b.image("hang"), "Labels": all}, &made)
	return made.ID
}

func TestStartIsIdempotent(t *testing.T) {
	b := newBench(t)
	spec := b.spec(b.image("await", "go", "exit", "7"))
	start := func() *runtime.StartResult {
		t.Helper()
		result, err := b.Start(t.Context(), runtime.StartOpts{ProgramID: b.id, Spec: spec})
		if err != nil {
			t.Fatal(err)
		}
		return result
	}
	first := start()
	if again := start(); *again != *first || !first.Running {
		t.Errorf("the second start gives %+v after %+v", again, first)
	}
	b.signal("go")
	if c := b.waitEnd(first.ContainerID); c.ExitCode != 7 || c.OOMKilled || c.Attempt != 1 || c.HostID != "h1" || c.ProgramID != b.id {
		t.Errorf("it ended as %+v", c)
	}
	if dead := start(); dead.ContainerID != first.ContainerID || dead.Running {
		t.Errorf("the start after its end gives %+v", dead)
	}
	limits := b.spec("sha256:"+strings.Repeat("0", 64), func(o *compose.BuildOpts) { o.Limits.Pids = 9 })
	if dead, err := b.Start(t.Context(), runtime.StartOpts{ProgramID: b.id, Spec: limits}); err != nil || dead.ContainerID != first.ContainerID {
		t.Errorf("the start after limits changed gives %+v, %v", dead, err)
	}
}

func TestStartsAtOnce(t *testing.T) {
	b := newBench(t)
	spec := b.spec(b.image("hang"))
	var wg sync.WaitGroup
	ids := make([]string, 4)
	for i := range ids {
		wg.Go(func() {
			result, err := b.Start(t.Context(), runtime.StartOpts{ProgramID: b.id, Spec: spec})
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = result.ContainerID
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Errorf("different containers: %v", ids)
		}
	}
}

func TestStartGoesOnWithWhatWasOnlyMade(t *testing.T) {
	b := newBench(t)
	image := b.image("say", "hello", "hang")
	proxy := dockertest.NewProxy(t, b.docker)
	broken := b.open(runtime.WithDockerHost(proxy.Host))
	proxy.Change(func(r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/start") {
			proxy.Cut()
			r.URL.Path = "/nowhere" // The request must not get through all the same.
		}
	})
	_, err := broken.Start(t.Context(), runtime.StartOpts{ProgramID: b.id, Spec: b.spec(image)})
	if !errors.Is(err, runtime.ErrUnavailable) {
		t.Fatalf("a daemon that goes away gives %v", err)
	}
	left := b.docker.Containers(compose.LabelProgram + "=" + string(b.id))
	if len(left) != 1 || left[0].State != "created" {
		t.Fatalf("there should be one container that has not run: %v", left)
	}
	if id := b.start(b.spec(image)); id != left[0].ID {
		t.Errorf("the next start made another container")
	}
	b.waitLogged("hello")
}

func TestNewAttemptTakesThePlace(t *testing.T) {
	b := newBench(t)
	image := b.image("wait")
	attempt := func(n uint64, host events.HostID) *compose.ComposeSpec {
		return b.spec(image, func(o *compose.BuildOpts) { o.Attempt, o.HostID = n, host })
	}
	first := b.start(attempt(1, "h1"))
	b.waitLogged("waiting")
	otherHost, err := b.Start(t.Context(), runtime.StartOpts{ProgramID: b.id, Spec: attempt(7, "h2")})
	if err != nil {
		t.Fatal(err)
	}
	third := b.start(attempt(3, "h1"))
	if _, err := b.Inspect(t.Context(), first); !errors.Is(err, runtime.ErrNoContainer) {
		t.Errorf("the container of the attempt before is still there: %v", err)
	}
	if !b.inspect(third).Running || !b.inspect(otherHost.ContainerID).Running {
		t.Error("the container of the attempt, or that of another host, does not run")
	}
	if _, err := b.Start(t.Context(), runtime.StartOpts{ProgramID: b.id, Spec: attempt(2, "h1")}); err == nil || !b.inspect(third).Running {
		t.Errorf("a start that comes too late gives %v", err)
	}
	dockertest.WaitFor(t, "both outputs in one log", func() bool {
		return b.logged() == "waiting\ngot terminated\nwaiting\n"
	})
}

func TestHostileNamesake(t *testing.T) {
	for name, labels := range map[string]map[string]string{
		"no labels":       nil,
		"another program": {compose.LabelProgram: "other", compose.LabelAttempt: "1", compose.LabelHost: "h1"},
		"nonsense":        {compose.LabelProgram: "../x", compose.LabelAttempt: "one", compose.LabelHost: "h1"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			taken := b.plainContainer(compose.ContainerName(b.id, 1), labels)
			_, err := b.Start(t.Context(), runtime.StartOpts{ProgramID: b.id, Spec: b.spec(b.image("hang"))})
			if !errors.Is(err, runtime.ErrNameTaken) {
				t.Errorf("start gives %v", err)
			}
			if status, err := b.GetContainerStatus(t.Context(), taken); status != "created" || err != nil {
				t.Errorf("the other container is %q, %v", status, err)
			}
		})
	}
	t.Run("right labels, no sandbox", func(t *testing.T) {
		b := newBench(t)
		taken := b.plainContainer(compose.ContainerName(b.id, 1), b.spec("x").Services[compose.ServiceName].Labels)
		b.docker.Post("/containers/"+taken+"/start", nil, nil)
		_, err := b.Start(t.Context(), runtime.StartOpts{ProgramID: b.id, Spec: b.spec(b.image("hang"))})
		if !errors.Is(err, runtime.ErrNameTaken) || !errors.Is(err, runtime.ErrSpecMismatch) {
			t.Errorf("start gives %v", err)
		}
		if running, err := b.IsContainerRunning(t.Context(), taken); !running || err != nil {
			t.Errorf("the other container runs: %t, %v", running, err)
		}
	})
}

func TestDaemonThatMakesSomethingElse(t *testing.T) {
	b := newBench(t)
	image := b.image("hang")
	proxy := dockertest.NewProxy(t, b.docker)
	m := b.open(runtime.WithDockerHost(proxy.Host))
	changes := map[string]func(config, host map[string]any){
		"runtime":              func(_, h map[string]any) { h["Runtime"] = "runc" },
		"privileged":           func(_, h map[string]any) { h["Privileged"] = true },
		"read-only root":       func(_, h map[string]any) { h["ReadonlyRootfs"] = false },
		"capabilities dropped": func(_, h map[string]any) { h["CapDrop"] = []string{"CAP_CHOWN"} },
		"capabilities added":   func(_, h map[string]any) { h["CapAdd"] = []string{"CAP_SYS_ADMIN"} },
		"security options":     func(_, h map[string]any) { h["SecurityOpt"] = nil },
		"network mode":         func(_, h map[string]any) { h["NetworkMode"] = "bridge" },
		"published ports": func(_, h map[string]any) {
			h["PortBindings"] = map[string]any{"8080/tcp": []any{map[string]any{"HostIp": "127.0.0.1", "HostPort": ""}}}
		},
		"mounts":                func(_, h map[string]any) { h["Binds"] = []string{b.state + ":/more"} },
		"devices":               func(_, h map[string]any) { h["DeviceCgroupRules"] = []string{"c 1:3 mr"} },
		"PID namespace":         func(_, h map[string]any) { h["PidMode"] = "host" },
		"IPC namespace":         func(_, h map[string]any) { h["IpcMode"] = "host" },
		"UTS namespace":         func(_, h map[string]any) { h["UTSMode"] = "host" },
		"user namespace":        func(_, h map[string]any) { h["UsernsMode"] = "host" },
		"cgroup namespace":      func(_, h map[string]any) { h["CgroupnsMode"] = "host" },
		"memory limit":          func(_, h map[string]any) { h["Memory"], h["MemorySwap"] = 0, 0 },
		"memory and swap limit": func(_, h map[string]any) { h["MemorySwap"] = 256 << 20 },
		"CPU limit":             func(_, h map[string]any) { h["NanoCpus"] = 0 },
		"process limit":         func(_, h map[string]any) { h["PidsLimit"] = 0 },
		"ulimits":               func(_, h map[string]any) { h["Ulimits"] = nil },
		"restart policy":        func(_, h map[string]any) { h["RestartPolicy"] = map[string]any{"Name": "always"} },
		"log driver":            func(_, h map[string]any) { h["LogConfig"] = map[string]any{"Type": "none"} },
		"log options":           func(_, h map[string]any) { h["LogConfig"] = map[string]any{"Type": "json-file"} },
		"labels":                func(c, _ map[string]any) { c["Labels"].(map[string]any)[compose.LabelHost] = "h2" },
		"image":                 func(c, _ map[string]any) { c["Image"] = b.image("say", "other") },
	}
	for field, change := range changes { // One after the other, since they share the proxy.
		t.Run(field, func(t *testing.T) {
			if field == "runtime" && b.docker.Runtime() == "runc" {
				t.Skip("Docker does not know another runtime here")
			}
			proxy.Change(changeCreate(t, change))
			_, err := m.Start(t.Context(), runtime.StartOpts{ProgramID: b.id, Spec: b.spec(image)})
			if !errors.Is(err, runtime.ErrSpecMismatch) || !strings.Contains(err.Error(), "its "+field+" is ") {
				t.Errorf("start gives %v", err)
			}
			if left := b.docker.Containers(compose.LabelProgram + "=" + string(b.id)); len(left) > 0 {
				t.Errorf("the container was left behind: %v", left)
			}
		})
	}
	t.Run("missing runtime", func(t *testing.T) {
		proxy.Change(changeCreate(t, func(_, h map[string]any) { h["Runtime"] = "not-there" }))
		_, err := m.Start(t.Context(), runtime.StartOpts{ProgramID: b.id, Spec: b.spec(image)})
		if !errors.Is(err, runtime.ErrRuntimeMissing) || !strings.Contains(err.Error(), "register ") {
			t.Errorf("start gives %v", err)
		}
	})
}

// changeCreate changes the request that creates a container, as a daemon does that does not do what it is told.
func changeCreate(t *testing.T, change func(config, host map[string]any)) func(*http.Request) {
	return func(r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/containers/create") {
			return
		}
		var config map[string]any
		data, err := io.ReadAll(r.Body)
		if err == nil {
			err = json.Unmarshal(data, &config)
		}
		if err != nil {
			t.Error(err)
			return
		}
		change(config, config["HostConfig"].(map[string]any))
		data, _ = json.Marshal(config)
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(string(data))), int64(len(data))
	}
}

func TestStartThatFailsLeavesNothing(t *testing.T) {
	for name, c := range map[string]struct{ lines, want string }{
		"no such executable":     {`CMD ["/nowhere"]`, "/nowhere"},
		"no command":             {``, "command"},
		"volume beside /state":   {"VOLUME /data\nCMD [\"/testprog\"]", "mounts"},
		"user that is not there": {"USER nobody\nCMD [\"/testprog\"]", "nobody"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			result, err := b.Build(t.Context(), runtime.BuildOpts{ContextPath: b.docker.SourceWith(c.lines), Labels: b.docker.Labels()})
			if err != nil {
				t.Fatal(err)
			}
			_, err = b.Start(t.Context(), runtime.StartOpts{ProgramID: b.id, Spec: b.spec(result.ImageID), RuntimeLogPath: b.log})
			if err == nil || !strings.Contains(err.Error(), c.want) || errors.Is(err, runtime.ErrUnavailable) {
				t.Errorf("start gives %v", err)
			}
			t.Log(err)
			if left := b.docker.Containers(compose.LabelProgram + "=" + string(b.id)); len(left) > 0 {
				t.Errorf("the container was left behind: %v", left)
			}
		})
	}
	t.Run("no such image", func(t *testing.T) {
		b := newBench(t)
		_, err := b.Start(t.Context(), runtime.StartOpts{ProgramID: b.id, Spec: b.spec("sha256:" + strings.Repeat("0", 64))})
		if err == nil || !strings.Contains(err.Error(), "No such image") {
			t.Errorf("start gives %v", err)
		}
	})
	t.Run("no state folder", func(t *testing.T) {
		b := newBench(t)
		image := b.image("hang")
		if err := os.Remove(b.state); err != nil {
			t.Fatal(err)
		}
		_, err := b.Start(t.Context(), runtime.StartOpts{ProgramID: b.id, Spec: b.spec(image)})
		if err == nil || !strings.Contains(err.Error(), b.state) {
			t.Errorf("start gives %v", err)
		}
	})
	t.Run("refused spec", func(t *testing.T) {
		b := newBench(t)
		spec := b.spec("x")
		service := spec.Services[compose.ServiceName]
		service.Ports = []string{"8080:8080"}
		spec.Services[compose.ServiceName] = service
		_, err := b.Start(t.Context(), runtime.StartOpts{ProgramID: b.id, Spec: spec})
		if !errors.Is(err, compose.ErrPort8080Published) {
			t.Errorf("start gives %v", err)
		}
		if _, err := b.Start(t.Context(), runtime.StartOpts{ProgramID: "other", Spec: b.spec("x")}); err == nil {
			t.Error("the spec of another program was started")
		}
	})
}

// TestLabelsOfImages lets a Dockerfile claim to be another program's, or another host's.
func TestLabelsOfImages(t *testing.T) {
	t.Run("container", func(t *testing.T) {
		b := newBench(t)
		result, err := b.Build(t.Context(), b.buildOpts("LABEL hersh.host=h9", `CMD ["/testprog"]`))
		if err != nil {
			t.Fatal(err)
		}
		spec := b.spec(result.ImageID, func(o *compose.BuildOpts) { o.HostID = "" })
		_, err = b.Start(t.Context(), runtime.StartOpts{ProgramID: b.id, Spec: spec})
		if !errors.Is(err, runtime.ErrSpecMismatch) || !strings.Contains(err.Error(), "its labels is ") {
			t.Errorf("start gives %v", err)
		}
	})
	t.Run("build step", func(t *testing.T) {
		b := newBench(t)
		claims := fmt.Sprintf("LABEL hersh.program=%s hersh.user=%s hersh.attempt=99 hersh.host=h1", b.id, b.id.User())
		ctx, cancel := context.WithCancel(t.Context())
		var id string
		opts := b.buildOpts(claims, `RUN ["/testprog", "say", "working", "hang"]`)
		opts.Output = whenSeen{"working", func() {
			defer cancel()
			id = b.docker.Containers(compose.LabelProgram + "=" + string(b.id))[0].ID
			if err := b.StopOwned(t.Context(), id, b.id, "h1"); !errors.Is(err, runtime.ErrNotOwner) {
				t.Errorf("stopping the build step gives %v", err)
			}
			list, notes, err := b.Containers(t.Context(), "h1")
			for _, c := range list {
				if c.ID == id {
					t.Errorf("the build step is one of the containers: %+v, %v, %v", c, notes, err)
				}
			}
			if own := b.start(b.spec(b.image("hang"))); own == id {
				t.Error("the build step was taken for the program")
			}
		}}
		if _, err := b.Build(ctx, opts); !errors.Is(err, context.Canceled) {
			t.Errorf("build gives %v", err)
		}
		if id == "" {
			t.Error("the build step was not seen")
		}
	})
}

func TestStartIsCancelled(t *testing.T) {
	b := newBench(t)
	image := b.image("hang")
	proxy := dockertest.NewProxy(t, b.docker)
	m := b.open(runtime.WithDockerHost(proxy.Host))
	ctx, cancel := context.WithCancel(t.Context())
	proxy.Change(func(r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/start") {
			cancel()
		}
	})
	_, err := m.Start(ctx, runtime.StartOpts{ProgramID: b.id, Spec: b.spec(image)})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("start gives %v", err)
	}
	if left := b.docker.Containers(compose.LabelProgram + "=" + string(b.id)); len(left) > 0 {
		t.Errorf("the container was left behind: %v", left)
	}
}

func TestOutOfMemoryIsTold(t *testing.T) {
	for _, name := range []string{compose.RuntimeRunsc, compose.RuntimeRunc} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			if name == compose.RuntimeRunsc && b.docker.Runtime() != name {
				t.Skip("Docker does not know runsc here")
			}
			image := b.image("say", "hello", "oom")
			for attempt := range uint64(dockertest.OOMTries) {
				id := b.start(b.spec(image, func(o *compose.BuildOpts) { o.Runtime, o.Attempt = name, attempt+1 }))
				c := b.waitEnd(id)
				said := b.docker.SaysOutOfMemory(id)
				if c.OOMKilled != said || c.ExitCode == 0 {
					t.Fatalf("Docker says out of memory: %t; it ended as %+v", said, c)
				}
				if said {
					return
				}
			}
			t.Error("Docker never said that the program ran out of memory")
		})
	}
}

func TestContainersOfHost(t *testing.T) {
	b := newBench(t)
	host := events.HostID("h-" + b.docker.Run)
	image := b.image("hang")
	at := func(id events.ProgramID, host events.HostID) string {
		t.Helper()
		spec := b.spec(image, func(o *compose.BuildOpts) { o.ProgramID, o.HostID, o.Attempt = id, host, 4 })
		result, err := b.Start(t.Context(), runtime.StartOpts{ProgramID: id, Spec: spec})
		if err != nil {
			t.Fatal(err)
		}
		return result.ContainerID
	}
	own := at(b.id, host)
	dead := at(b.docker.ProgramID(), host)
	b.docker.Post("/containers/"+dead+"/kill", nil, nil)
	b.waitEnd(dead)
	at(b.docker.ProgramID(), "h-other")
	short := at(events.ProgramID("short-"+b.docker.Run), "")
	strange := b.plainContainer("strange-"+b.docker.Run, map[string]string{
		compose.LabelProgram: "../x", compose.LabelAttempt: "1", compose.LabelHost: string(host),
	})

	list, notes, err := b.Containers(t.Context(), host)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]runtime.Container{}
	for _, c := range list {
		found[c.ID] = c
	}
	if len(list) != 2 || !found[own].Running || found[own].Attempt != 4 || found[own].ProgramID != b.id ||
		found[dead].Running || found[dead].ExitCode != 137 || found[dead].OOMKilled {
		t.Errorf("the containers are %+v", list)
	}
	if len(notes) != 1 || !strings.Contains(notes[0], strange[:12]) {
		t.Errorf("the notes are %q", notes)
	}

	proxy := dockertest.NewProxy(t, b.docker)
	proxy.Change(func(r *http.Request) {
		if strings.HasSuffix(r.URL.Path, own+"/json") {
			r.URL.Path = "/out-of-order"
		}
	})
	list, notes, err = b.open(runtime.WithDockerHost(proxy.Host)).Containers(t.Context(), host)
	if err != nil || len(list) != 2 || len(notes) != 2 {
		t.Errorf("where one cannot be inspected there are %+v with the notes %q, %v", list, notes, err)
	}
	for _, c := range list {
		if c.ID == own && (!c.Running || c.Attempt != 4) {
			t.Errorf("what cannot be inspected is %+v", c)
		}
	}

	list, _, err = b.Containers(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	seen := false
	for _, c := range list {
		seen = seen || c.ID == short
		if c.HostID != "" {
			t.Errorf("a container of host %s is among those of none", c.HostID)
		}
	}
	if !seen {
		t.Error("the container that names no host is not there")
	}
}

func TestWatchExits(t *testing.T) {
	b := newBench(t)
	host := events.HostID("h-" + b.docker.Run)
	spec := func(host events.HostID, attempt uint64) *compose.ComposeSpec {
		return b.spec(b.image("await", "go", "exit", "5"), func(o *compose.BuildOpts) { o.HostID, o.Attempt = host, attempt })
	}
	proxy := dockertest.NewProxy(t, b.docker)
	m := b.open(runtime.WithDockerHost(proxy.Host))

	connected, ended, over := make(chan struct{}), make(chan runtime.Container, 10), make(chan error, 1)
	watch := func(ctx context.Context) {
		over <- m.WatchExits(ctx, host, func() { connected <- struct{}{} }, func(c runtime.Container) { ended <- c })
	}
	go watch(t.Context())
	<-connected
	own, other := b.start(spec(host, 1)), b.start(spec("h-other", 1+1))
	b.signal("go")
	if c := receive(t, ended); c.ID != own || c.ProgramID != b.id || c.Attempt != 1 || c.ExitCode != 5 {
		t.Errorf("%+v ended, want %s; the container of another host is %s", c, own, other)
	}
	proxy.Cut()
	if err := receive(t, over); !errors.Is(err, runtime.ErrUnavailable) {
		t.Errorf("a broken stream gives %v", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	go watch(ctx)
	<-connected
	cancel()
	if err := receive(t, over); !errors.Is(err, context.Canceled) {
		t.Errorf("the end of the context gives %v", err)
	}
	if len(ended) > 0 {
		t.Errorf("%+v ended as well", <-ended)
	}
}

func receive[T any](t *testing.T, from <-chan T) (got T) {
	t.Helper()
	select {
	case got = <-from:
	case <-time.After(dockertest.Patience):
		t.Fatal("nothing came in time")
	}
	return got
}

func TestDaemonThatIsNotThere(t *testing.T) {
	b := newBench(t)
	m := b.open(runtime.WithDockerHost("unix://" + b.state + "/no.sock"))
	_, buildErr := m.Build(t.Context(), runtime.BuildOpts{ContextPath: b.docker.Source("hang")})
	_, startErr := m.Start(t.Context(), runtime.StartOpts{ProgramID: b.id, Spec: b.spec("x")})
	_, inspectErr := m.Inspect(t.Context(), "x")
	_, _, listErr := m.Containers(t.Context(), "h1")
	_, infoErr := m.Info(t.Context())
	for i, err := range []error{
		buildErr, startErr, inspectErr, listErr, infoErr, m.Ping(t.Context()), m.Stop(t.Context(), "x"),
		m.WatchExits(t.Context(), "h1", func() { t.Error("connected") }, nil),
	} {
		if !errors.Is(err, runtime.ErrUnavailable) {
			t.Errorf("call %d gives %v", i, err)
		}
	}
}

func TestInfo(t *testing.T) {
	b := newBench(t)
	if err := b.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	info, err := b.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.ServerVersion == "" || info.APIVersion == "" || len(info.Runtimes) == 0 || info.CPUs == 0 || info.MemoryBytes == 0 {
		t.Errorf("the daemon says %+v", info)
	}
	if !strings.Contains(fmt.Sprint(info.Runtimes), info.DefaultRuntime) {
		t.Errorf("default runtime %s is not among %v", info.DefaultRuntime, info.Runtimes)
	}
}
