package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	docker "github.com/rlaaudgjs5638/hersh/effects/runtime"

	"github.com/rlaaudgjs5638/hersh/client"
	"github.com/rlaaudgjs5638/hersh/internal/bus"
	"github.com/rlaaudgjs5638/hersh/internal/dockertest"
	"github.com/rlaaudgjs5638/hersh/internal/tenants"
	"github.com/rlaaudgjs5638/hersh/reducer"
)

// TestDevOnDocker runs hersh dev as it is, with containers: a program that ends at once is built, started, and ends with code 0.
func TestDevOnDocker(t *testing.T) {
	t.Run("open", func(t *testing.T) { testDevOnDocker(t, false) })
	t.Run("secure", func(t *testing.T) { testDevOnDocker(t, true) })
}

func testDevOnDocker(t *testing.T, secure bool) {
	d := dockertest.Require(t)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	dir := t.TempDir()
	url, stop := startDev(t, devCmd{Dir: dir, Listen: "127.0.0.1:0", Runtime: d.Runtime(), LogLevel: "warn", Secure: secure, Tenant: []string{"alice"}})
	var access bus.Access
	if secure {
		dir = filepath.Join(dir, "secure")
		keys := tenants.In(filepath.Join(dir, "nats"))
		access = bus.Access{NKey: keys.KeyFile(tenants.TenantKeyName("alice")), TLSCA: keys.CertFile()}
	}
	t.Cleanup(func() { cleanHost(t, dir) })
	defer stop()

	src := t.TempDir()
	program, err := smallestProgram(runtime.GOARCH)
	if err != nil {
		t.Skip(err)
	}
	writeFile(t, filepath.Join(src, "end"), program, 0o755)
	writeFile(t, filepath.Join(src, "Dockerfile"), []byte("FROM scratch\nCOPY end /end\nCMD [\"/end\"]\n"), 0o644)
	url, opts, err := access.Resolve(url)
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.Connect(url, opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	id, err := c.Deploy(ctx, src, "alice", client.DeployOptions{Start: true})
	if err != nil {
		t.Fatal(err)
	}
	for step, err := range c.Watch(ctx, id, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if step.To != reducer.StateError {
			continue
		}
		if want := "the program exited with code 0"; step.State.ErrorMsg != want {
			t.Errorf("it ended with %q, want %q", step.State.ErrorMsg, want)
		}
		break
	}
	seq, err := c.Stop(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.WaitSettled(ctx, id, seq); err != nil || got.State.State != reducer.StateStopped {
		t.Errorf("stop: %+v, %v", got, err)
	}
}

// startDev runs hersh dev in this process and returns its URL once it is ready.
func startDev(t *testing.T, cmd devCmd) (url string, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out, in := io.Pipe()
	var errOut bytes.Buffer
	a := &app{globals: globals{Output: "json"}, ctx: ctx, out: in, errOut: &errOut}
	done := make(chan error, 1)
	go func() {
		err := cmd.Run(a)
		in.CloseWithError(err)
		done <- err
	}()
	stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("hersh dev: %v\n%s", err, &errOut)
		}
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	var banner struct {
		Server string `json:"server"`
	}
	if err == nil {
		err = json.Unmarshal(line, &banner)
	}
	if err != nil {
		stop()
		t.Fatalf("hersh dev did not start: %v", err)
	}
	return banner.Server, stop
}

// cleanHost removes what the host of a hersh dev has left on Docker.
func cleanHost(t *testing.T, dir string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	id, err := devHostID(dir)
	if err != nil {
		t.Fatal(err)
	}
	m, err := docker.NewDockerManager()
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	left, _, err := m.Containers(ctx, id)
	if err != nil {
		t.Error(err)
	}
	for _, container := range left {
		if err := m.Stop(ctx, container.ID); err != nil {
			t.Error(err)
		}
	}
	programs, err := os.ReadDir(filepath.Join(dir, "programs"))
	if err != nil {
		t.Error(err)
	}
	for _, p := range programs {
		if strings.HasPrefix(p.Name(), ".") {
			continue
		}
		if _, err := m.RemoveImages(ctx, programID(t, p.Name()), id, ""); err != nil {
			t.Error(err)
		}
	}
}
