package runtime_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rlaaudgjs5638/hersh/effects/compose"
	"github.com/rlaaudgjs5638/hersh/effects/runtime"
	"github.com/rlaaudgjs5638/hersh/internal/dockertest"
	"github.com/rlaaudgjs5638/hersh/internal/source"
)

func (b *bench) buildOpts(lines ...string) runtime.BuildOpts {
	b.t.Helper()
	return runtime.BuildOpts{
		BuildID: b.id.Build(), ContextPath: b.docker.SourceWith(lines...), Labels: b.docker.Labels(),
		BuildLogPath: filepath.Join(b.t.TempDir(), "build.log"),
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestBuild(t *testing.T) {
	b := newBench(t)
	var live bytes.Buffer
	opts := b.buildOpts(`RUN ["/testprog", "say", "built"]`, `CMD ["/testprog", "say", "hello"]`)
	opts.Tags = []string{"hersh/" + string(b.id) + ":1"}
	opts.Labels[compose.LabelProgram] = string(b.id)
	opts.MemoryBytes, opts.NetworkMode, opts.Output = 64<<20, "none", &live
	result, err := b.Build(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	var image struct {
		ID     string
		Config struct{ Labels map[string]string }
	}
	b.docker.Get("/images/"+opts.Tags[0]+"/json", &image)
	if result.ImageID != image.ID || result.BuildID != b.id.Build() || !strings.HasPrefix(result.ImageID, "sha256:") {
		t.Errorf("the result is %+v, the tagged image %s", result, image.ID)
	}
	if image.Config.Labels[compose.LabelProgram] != string(b.id) || image.Config.Labels[dockertest.Label] != b.docker.Run {
		t.Errorf("the labels are %v", image.Config.Labels)
	}
	log := readFile(t, opts.BuildLogPath)
	if !strings.Contains(log, "Step 1/") || !strings.Contains(log, "\nbuilt\n") || log != live.String() {
		t.Errorf("the log is\n%s\nand the live output\n%s", log, live.String())
	}
	if info, err := os.Stat(opts.BuildLogPath); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the log's mode is %v, %v", info.Mode(), err)
	}
	again, err := b.Build(t.Context(), opts)
	if err != nil || again.ImageID != result.ImageID {
		t.Errorf("building it again gives %+v, %v", again, err)
	}
}

func TestBuildWithStagesAndIgnoredFiles(t *testing.T) {
	b := newBench(t)
	opts := b.buildOpts("", "FROM scratch", "COPY --from=0 /testprog /second", "COPY . /all/", `CMD ["/second", "say", "two"]`)
	opts.Dockerfile = filepath.Join(opts.ContextPath, "Dockerfile")
	for name, text := range map[string]string{"secret": "s", "kept": "k", ".dockerignore": "secret\ntestprog/x\n"} {
		if err := os.WriteFile(filepath.Join(opts.ContextPath, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	result, err := b.Build(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	id := b.start(b.spec(result.ImageID))
	b.waitEnd(id)
	b.waitLogged("two\n")
	var made struct{ ID string }
	b.docker.Post("/containers/create", map[string]any{"Image": result.ImageID, "Labels": b.docker.Labels()}, &made)
	for path, want := range map[string]bool{"/all/kept": true, "/all/secret": false} {
		if got := b.docker.Has("/containers/" + made.ID + "/archive?path=" + path); got != want {
			t.Errorf("%s is in the image: %t", path, got)
		}
	}
}

func TestBuildThatFails(t *testing.T) {
	const fails = `RUN ["/testprog", "complain", "first", "complain", "main.x:3: no such thing", "exit", "5"]`
	for name, c := range map[string]struct {
		line string
		want []string
	}{
		"step":           {fails, []string{"Step 4/5 : RUN", "returned a non-zero code: 5", "(last line of output: main.x:3: no such thing)"}},
		"no executable":  {`RUN ["/nowhere"]`, []string{"Step 4/5 : RUN", "/nowhere"}},
		"missing file":   {`COPY nothing /`, []string{"Step 4/5 : COPY", "nothing"}},
		"unknown word":   {`FOO bar`, []string{"unknown instruction: FOO"}},
		"base not there": {"FROM hersh.invalid/none:1", []string{"hersh.invalid"}},
		"out of memory":  {`RUN ["/testprog", "oom"]`, []string{"Step 4/5", "returned a non-zero code"}},
		"fake step":      {`RUN ["/testprog", "say", "Step 9/9 : FROM elsewhere", "exit", "1"]`, []string{"Step 4/5 : RUN", "code: 1"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			opts := b.buildOpts(c.line)
			opts.MemoryBytes = 64 << 20
			result, err := b.Build(t.Context(), opts)
			if err == nil {
				t.Fatalf("it built %+v", result)
			}
			log := readFile(t, opts.BuildLogPath)
			if strings.Contains(err.Error(), string(opts.BuildID)) || !strings.HasSuffix("\n"+log, "\nERROR: "+err.Error()+"\n") {
				t.Errorf("the error\n%v\nis not only the reason, or not the last line of the log\n%s", err, log)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) || !strings.Contains(log, want) {
					t.Errorf("no %q in the error\n%v\nor in the log\n%s", want, err, log)
				}
			}
			if errors.Is(err, runtime.ErrUnavailable) {
				t.Errorf("the error is an outage: %v", err)
			}
			b.checkNoBuildContainer()
		})
	}
}

// checkNoBuildContainer looks for containers of build steps, which have the label of the image that they come from.
func (b *bench) checkNoBuildContainer() {
	b.t.Helper()
	if left := b.docker.Containers(dockertest.Label + "=" + b.docker.Run); len(left) > 0 {
		b.t.Errorf("the build left containers behind: %v", left)
	}
}

func TestBuildOfBadSource(t *testing.T) {
	b := newBench(t)
	opts := b.buildOpts()
	for name, c := range map[string]struct {
		dockerfile string
		want       error
	}{
		"absent": {"Dockerfile.none", source.ErrNoDockerfile}, "outside": {"../Dockerfile", nil}, "elsewhere": {"/etc/passwd", nil},
	} {
		opts.Dockerfile = c.dockerfile
		_, err := b.Build(t.Context(), opts)
		if err == nil || c.want != nil && !errors.Is(err, c.want) || errors.Is(err, runtime.ErrUnavailable) {
			t.Errorf("%s: build gives %v", name, err)
		}
	}
	opts.Dockerfile = ""
	opts.ContextPath = filepath.Join(opts.ContextPath, "nowhere")
	if _, err := b.Build(t.Context(), opts); !errors.Is(err, os.ErrNotExist) || errors.Is(err, runtime.ErrUnavailable) {
		t.Errorf("build of no folder gives %v", err)
	}
	opts.BuildLogPath = filepath.Join(opts.ContextPath, "nowhere", "build.log")
	if _, err := b.Build(t.Context(), opts); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("build without a folder for the log gives %v", err)
	}
}

func TestBuildPrintsLongLine(t *testing.T) {
	b := newBench(t)
	opts := b.buildOpts(`RUN ["/testprog", "long", "3000000"]`)
	if _, err := b.Build(t.Context(), opts); err != nil {
		t.Fatal(err)
	}
	if count := strings.Count(readFile(t, opts.BuildLogPath), "x"); count < 2_999_999 {
		t.Errorf("of 2999999 characters %d are in the log", count)
	}
}

func TestBuildThatNeverEnds(t *testing.T) {
	hang := `RUN ["/testprog", "say", "working", "hang"]`
	t.Run("limit", func(t *testing.T) {
		b := newBench(t)
		opts := b.buildOpts(hang)
		opts.Timeout = 3 * time.Second
		_, err := b.Build(t.Context(), opts)
		if !errors.Is(err, runtime.ErrBuildTimeout) || !strings.Contains(err.Error(), "limit 3s") {
			t.Errorf("build gives %v", err)
		}
		if log := readFile(t, opts.BuildLogPath); !strings.Contains(log, "took too long") {
			t.Errorf("the log is\n%s", log)
		}
		b.checkNoBuildContainer()
	})
	t.Run("cancelled", func(t *testing.T) {
		b := newBench(t)
		ctx, cancel := context.WithCancel(t.Context())
		opts := b.buildOpts(hang)
		opts.Output = whenSeen{"working", func() {
			if len(b.docker.Containers(dockertest.Label+"="+b.docker.Run)) != 1 {
				t.Error("the container of the step cannot be seen: the check for what is left is worth nothing")
			}
			cancel()
		}}
		if _, err := b.Build(ctx, opts); !errors.Is(err, context.Canceled) {
			t.Errorf("build gives %v", err)
		}
		if log := readFile(t, opts.BuildLogPath); !strings.HasSuffix(log, "\nINTERRUPTED: the executor was stopped; it will be built again\n") {
			t.Errorf("the log is\n%s", log)
		}
		b.checkNoBuildContainer()
	})
	t.Run("not wanted any more", func(t *testing.T) {
		b := newBench(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		unwanted := errors.New("nobody wants it")
		opts := b.buildOpts(hang)
		opts.Output = whenSeen{"working", func() { cancel(unwanted) }}
		if _, err := b.Build(ctx, opts); !errors.Is(err, unwanted) {
			t.Errorf("build gives %v", err)
		}
		if log := readFile(t, opts.BuildLogPath); !strings.HasSuffix(log, "\nCANCELLED: nobody wants it\n") {
			t.Errorf("the log is\n%s", log)
		}
		b.checkNoBuildContainer()
	})
	t.Run("connection lost", func(t *testing.T) {
		b := newBench(t)
		proxy := dockertest.NewProxy(t, b.docker)
		m := b.open(runtime.WithDockerHost(proxy.Host))
		opts := b.buildOpts(hang)
		opts.Output = whenSeen{"working", proxy.Cut}
		if _, err := m.Build(t.Context(), opts); !errors.Is(err, runtime.ErrUnavailable) {
			t.Errorf("build gives %v", err)
		}
		b.checkNoBuildContainer()
	})
	t.Run("connection lost while the source is sent", func(t *testing.T) {
		b := newBench(t)
		proxy := dockertest.NewProxy(t, b.docker)
		m := b.open(runtime.WithDockerHost(proxy.Host))
		proxy.Change(func(r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/build") {
				proxy.Cut()
			}
		})
		if _, err := m.Build(t.Context(), b.buildOpts(hang)); !errors.Is(err, runtime.ErrUnavailable) {
			t.Errorf("build gives %v", err)
		}
		b.checkNoBuildContainer()
	})
}

// whenSeen does something when a text is written to it, in one piece.
type whenSeen struct {
	text string
	do   func()
}

func (w whenSeen) Write(data []byte) (int, error) {
	if strings.Contains(string(data), w.text) && !strings.Contains(string(data), "Step") {
		w.do()
	}
	return len(data), nil
}

// TestBuildThatMeetsARemoval has a daemon whose builder trips over images that are removed meanwhile.
func TestBuildThatMeetsARemoval(t *testing.T) {
	b := newBench(t)
	builds, trips := 0, 0
	daemon := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.41")
		if !strings.HasSuffix(r.URL.Path, "/build") {
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		if builds++; builds <= trips {
			fmt.Fprintln(w, `{"errorDetail":{"message":"unable to find image \"sha256:0123\""}}`)
			return
		}
		fmt.Fprintln(w, `{"aux":{"ID":"sha256:4567"}}`)
	}))
	t.Cleanup(daemon.Close)
	m := b.open(runtime.WithDockerHost("tcp://" + daemon.Listener.Addr().String()))
	opts := b.buildOpts()
	trips = 2
	if result, err := m.Build(t.Context(), opts); err != nil || result.ImageID != "sha256:4567" || builds != 3 {
		t.Errorf("after %d builds: %+v, %v", builds, result, err)
	}
	builds, trips = 0, 100
	if _, err := m.Build(t.Context(), opts); !errors.Is(err, runtime.ErrUnavailable) || builds > 10 {
		t.Errorf("after %d builds: %v", builds, err)
	}
}

func TestRemoveImages(t *testing.T) {
	b := newBench(t)
	build := func(host, attempt string) string {
		t.Helper()
		opts := b.buildOpts(`CMD ["/testprog", "say", "` + host + attempt + `"]`)
		opts.Tags = []string{"hersh/" + string(b.id) + ":" + host + attempt, "hersh/" + string(b.id) + ":too-" + host + attempt}
		opts.Labels[compose.LabelProgram], opts.Labels[compose.LabelHost] = string(b.id), host
		result, err := b.Build(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		return result.ImageID
	}
	old, used, current, other := build("h1", "1"), build("h1", "2"), build("h1", "3"), build("h2", "1")
	var made struct{ ID string }
	b.docker.Post("/containers/create", map[string]any{"Image": used, "Labels": b.docker.Labels()}, &made)
	removed, err := b.RemoveImages(t.Context(), b.id, "h1", current)
	if err != nil || removed != 1 {
		t.Errorf("removed %d images, %v", removed, err)
	}
	for id, want := range map[string]bool{old: false, used: true, current: true, other: true} {
		if got := b.docker.Has("/images/" + id + "/json"); got != want {
			t.Errorf("image %s is there: %t", id, got)
		}
	}
}
