package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rlaaudgjs5638/hersh/client"
	docker "github.com/rlaaudgjs5638/hersh/effects/runtime"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/dockertest"
	"github.com/rlaaudgjs5638/hersh/internal/natstest"
)

func testApp(t *testing.T, g globals) (a *app, out, errOut *bytes.Buffer) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	out, errOut = &bytes.Buffer{}, &bytes.Buffer{}
	return &app{globals: g, ctx: ctx, out: out, errOut: errOut}, out, errOut
}

// TestDoctorOnBareServer looks at a NATS server that nothing of Hersh has touched.
func TestDoctorOnBareServer(t *testing.T) {
	srv := natstest.Start(t)
	a, out, _ := testApp(t, globals{Server: srv.URL()})
	err := (&doctorCmd{SkipDocker: true}).Run(a)
	if a.finish(err) != exitFailed {
		t.Errorf("exit code for %v", err)
	}
	for _, want := range []string{
		"ok       NATS", "ok       JetStream", "warning  sync         cannot be seen from here",
		"failed   streams      missing: HERSH_WAKE", "→ start a supervisor",
		"failed   supervisor", "failed   executors    cannot be listed: the NATS server at nats://127.0.0.1",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the doctor does not say %q:\n%s", want, out)
		}
	}
}

// A host that is drained and away is no executor, and no failure of one.
func TestDoctorOnHosts(t *testing.T) {
	away := client.Host{Heartbeat: events.Heartbeat{HostID: "away"}, Drain: true, Away: true}
	there := client.Host{Heartbeat: events.Heartbeat{HostID: "there", DefaultRuntime: "runsc", Docker: "28"}}
	broken := client.Host{Heartbeat: events.Heartbeat{HostID: "broken", Problem: "no Docker"}}
	for _, c := range []struct {
		hosts          []client.Host
		failures, fine int
		says           string
	}{
		{nil, 1, 0, "none says that it is there"},
		{[]client.Host{away}, 1, 0, "none says that it is there"},
		{[]client.Host{away, there}, 0, 1, "there: runsc, Docker 28, 0 running"},
		{[]client.Host{away, broken, there}, 1, 1, "broken: no Docker"},
	} {
		a, out, _ := testApp(t, globals{})
		r := &doctor{a: a}
		r.tellHosts(c.hosts)
		if r.failures != c.failures || r.hosts != c.fine || !strings.Contains(out.String(), c.says) || strings.Contains(out.String(), "away") {
			t.Errorf("%d failures and %d fine, want %d and %d, and %q:\n%s", r.failures, r.hosts, c.failures, c.fine, c.says, out)
		}
	}
}

func TestSyncSetting(t *testing.T) {
	srv := natstest.Start(t)
	nc, other := srv.Conn(t), srv.Conn(t)
	if _, known := syncSetting(nc); known {
		t.Error("the sync setting is known without the right to read it")
	}
	for _, always := range []bool{true, false} {
		// As a server answers whom it lets ask.
		sub, err := other.Subscribe("$SYS.REQ.SERVER.PING.JSZ", func(msg *nats.Msg) {
			_ = msg.Respond(fmt.Appendf(nil, `{"server":{"name":"n1"},"data":{"memory":0,"config":{"max_memory":1,"sync_interval":120000000000,"sync_always":%v}}}`, always))
		})
		if err != nil || other.Flush() != nil {
			t.Fatal(err)
		}
		if got, known := syncSetting(nc); got != always || !known {
			t.Errorf("sync setting %v, %v; want %v", got, known, always)
		}
		if sub.Unsubscribe() != nil || other.Flush() != nil {
			t.Fatal("unsubscribe")
		}
	}
}

// TestTryContainer runs the doctor's own container on Docker, and checks that it leaves nothing.
func TestTryContainer(t *testing.T) {
	d := dockertest.Require(t)
	m, err := docker.NewDockerManager()
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := tryContainer(ctx, m, d.Runtime()); err != nil {
		t.Errorf("the smallest program does not run under %s: %v", d.Runtime(), err)
	}
	if err := tryContainer(ctx, m, "runc"); err != nil {
		t.Errorf("the smallest program does not run under runc: %v", err)
	}
	var containers, images []struct {
		Labels map[string]string
	}
	d.Get("/containers/json?all=true", &containers)
	d.Get("/images/json?all=true", &images)
	for _, thing := range append(containers, images...) {
		if strings.HasPrefix(thing.Labels["hersh.host"], "doctor-") {
			t.Errorf("left behind: %v", thing.Labels)
		}
	}
}

func TestSmallestProgram(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		program, err := smallestProgram(arch)
		if err != nil || len(program) < 120 || !bytes.HasPrefix(program, []byte("\x7fELF")) {
			t.Errorf("%s: %x, %v", arch, program, err)
		}
	}
	if _, err := smallestProgram("pdp11"); err == nil {
		t.Error("a program for pdp11")
	}
	program, err := smallestProgram(runtime.GOARCH)
	if err != nil || runtime.GOOS != "linux" {
		t.Skipf("cannot run it here: %v", err)
	}
	path := filepath.Join(t.TempDir(), "end")
	if err := os.WriteFile(path, program, 0o755); err != nil {
		t.Fatal(err)
	}
	process, err := os.StartProcess(path, []string{path}, &os.ProcAttr{})
	if err != nil {
		t.Fatal(err)
	}
	if state, err := process.Wait(); err != nil || state.ExitCode() != 0 {
		t.Errorf("it ended with %v, %v", state, err)
	}
}

func TestVersionAtLeast(t *testing.T) {
	for version, want := range map[string]bool{"1.41": true, "1.50": true, "1.40": false, "2.0": true, "1.9": false, "": false, "x": false} {
		if got := versionAtLeast(version, leastAPI); got != want {
			t.Errorf("%q is at least %s: %v", version, leastAPI, got)
		}
	}
}
