// Command executor runs effects on the Docker host that it is on, for as many programs as it can carry.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/nats-io/nats.go"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/bus"
	"github.com/rlaaudgjs5638/hersh/internal/service"
	"github.com/rlaaudgjs5638/hersh/internal/service/executord"
)

type flags struct {
	Server string `help:"Addresses of the NATS servers, separated by commas." env:"NATS_URL" default:"nats://127.0.0.1:4222"`
	bus.Access
	HTTP string `name:"http" help:"Address of /healthz, /readyz and /metrics; empty is none." env:"HERSH_HTTP" default:"127.0.0.1:8082"`

	HostID       string            `help:"Name of this host, for ever: its programs are found by it. Default: the machine's name." env:"HERSH_HOST_ID"`
	Dir          string            `help:"Base folder of the programs; Docker must see it under the same path." env:"HERSH_DIR" default:"/var/lib/hersh/programs"`
	Runtime      string            `help:"Container runtime: runsc (gVisor), or runc, which is weaker." enum:"runsc,runc" env:"HERSH_RUNTIME" default:"runsc"`
	DockerHost   string            `help:"Address of the Docker daemon. Default: as DOCKER_HOST and the like say." env:"HERSH_DOCKER_HOST"`
	BuildSlots   int               `help:"Builds of programs without a host at once." env:"HERSH_BUILD_SLOTS" default:"2"`
	RunSlots     int               `help:"Starts and stops at once." env:"HERSH_RUN_SLOTS" default:"4"`
	Programs     int               `help:"Programs that are placed here at once, those at rest not counted; 0 is no bound." env:"HERSH_PROGRAMS" default:"0"`
	Memory       int64             `help:"Memory that may be promised to programs by their limits, in MiB; 0 is no bound. Default: what the machine has." env:"HERSH_MEMORY" default:"-1"`
	FenceAfter   time.Duration     `help:"For how long this host may be cut off from the bus before it ends its programs itself, at least 10s; 0 is for ever." env:"HERSH_FENCE_AFTER" default:"0"`
	CPUs         float64           `name:"cpus" help:"Processors that may be promised to programs by their limits; 0 is no bound, -1 is what the machine has." env:"HERSH_CPUS" default:"0"`
	BuildTimeout time.Duration     `help:"How long a build may take." env:"HERSH_BUILD_TIMEOUT" default:"15m"`
	BuildMemory  int64             `help:"Memory that a RUN step may use, in MiB; 0 is no bound." env:"HERSH_BUILD_MEMORY" default:"2048"`
	BuildNetwork string            `help:"Network of RUN steps: default is what the Docker daemon gives, none is none." enum:"default,none" env:"HERSH_BUILD_NETWORK" default:"default"`
	BuildCPUs    float64           `name:"build-cpus" help:"Processors that a RUN step may use; 0 is no bound." env:"HERSH_BUILD_CPUS" default:"0"`
	BuildCgroup  string            `help:"Parent cgroup of RUN steps, where the host bounds their processes; it must exist. Default: Docker's." env:"HERSH_BUILD_CGROUP"`
	StateLimit   int64             `help:"What the /state of a program may take of the disk, in MiB; one that takes more is ended. 0 is no limit." env:"HERSH_STATE_LIMIT" default:"${state_limit}"`
	Label        map[string]string `help:"Labels for every container and image, as name=value." env:"HERSH_LABELS" mapsep:","`
	Fake         bool              `help:"Run nothing: containers are in memory only." env:"HERSH_FAKE"`

	LogFormat string `help:"text or json." enum:"text,json" env:"HERSH_LOG_FORMAT" default:"text"`
	LogLevel  string `help:"debug, info, warn or error." enum:"debug,info,warn,error" env:"HERSH_LOG_LEVEL" default:"info"`
}

// leastFence is the least time after which a host that is cut off may be fenced: some heartbeats, each of which may be slow.
const leastFence = 10 * time.Second

func main() {
	var f flags
	kong.Parse(&f, kong.Name("executor"), kong.Description("Runs programs on this Docker host, as the log of each decides."),
		kong.UsageOnError(), kong.Vars{"state_limit": strconv.Itoa(executord.DefaultStateLimit)})
	if err := f.run(); err != nil {
		fmt.Fprintln(os.Stderr, "executor:", explain(err, f))
		os.Exit(1)
	}
}

// explain turns what an operator can mend into a sentence that says how.
func explain(err error, f flags) error {
	if errors.Is(err, executord.ErrNoRuntime) {
		return fmt.Errorf("%w.\nPrograms are not run under anything weaker unless you ask for it: install gVisor "+
			"(scripts/ensure-docker.sh does so on Debian and Ubuntu), or start with --runtime runc", err)
	}
	return err
}

func (f *flags) run() error {
	log, err := service.NewLogger(os.Stderr, f.LogFormat, f.LogLevel)
	if err != nil {
		return err
	}
	hostID, err := hostID(f.HostID)
	if err != nil {
		return err
	}
	if f.FenceAfter != 0 && f.FenceAfter < leastFence {
		return fmt.Errorf("--fence-after %s is less than %s, and a heartbeat may take that long", f.FenceAfter, leastFence)
	}
	ctx, stop := service.UntilSignal(context.Background(), log)
	defer stop()
	err = f.serve(ctx, hostID, log)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil // It was asked to end while it waited for something.
	}
	return err
}

// serve runs until ctx ends, or the connection is closed for good. Health is served while NATS and Docker are waited for, since
// services are started in any order.
func (f *flags) serve(ctx context.Context, hostID events.HostID, log *slog.Logger) error {
	registry := service.NewRegistry()
	var started service.Gate
	monitor, err := service.StartMonitor(f.HTTP, registry, log, started.Check("the executor works"))
	if err != nil {
		return err
	}
	defer monitor.Stop()
	nc, err := f.dial(ctx, hostID, log)
	if err != nil {
		return err
	}
	defer nc.Close()
	closed := nc.StatusChanged(nats.CLOSED)
	s, err := executord.Start(ctx, nc, executord.Options{
		HostID: hostID, Dir: f.Dir, Runtime: f.Runtime, DockerHost: f.DockerHost, Fake: f.Fake,
		BuildSlots: f.BuildSlots, RunSlots: f.RunSlots, Capacity: f.capacity(), FenceAfter: f.FenceAfter,
		BuildTimeout: f.BuildTimeout, BuildMemory: f.BuildMemory << 20, BuildNetwork: networkMode(f.BuildNetwork),
		BuildCPUs: f.BuildCPUs, BuildCgroup: f.BuildCgroup, StateLimit: f.StateLimit << 20,
		Labels: f.Label, Log: log, Registry: registry, Bus: bus.Options{Bind: f.Set()},
	})
	if err != nil {
		return err
	}
	defer s.Stop()
	started.Open(s.Checks()...)
	log.Info("executor runs", "host", hostID, "runtime", f.Runtime, "dir", f.Dir, "http", monitor.Addr(), "version", service.Version())
	select {
	case <-ctx.Done():
		return nil
	case <-closed:
		return errors.New("the NATS server closed the connection for good; its log says why")
	}
}

// capacity is negative where it is to be what the machine has.
func (f *flags) capacity() events.Capacity {
	return events.Capacity{Programs: f.Programs, MemoryBytes: f.Memory << 20, CPUMillis: int64(f.CPUs * 1000)}
}

// networkMode returns what the Engine API calls the network of a build; its word for the default is none at all.
func networkMode(flag string) string {
	if flag == "default" {
		return ""
	}
	return flag
}

func (f *flags) dial(ctx context.Context, hostID events.HostID, log *slog.Logger) (nc *nats.Conn, err error) {
	err = service.Retry(ctx, func(context.Context) error {
		url, access, err := f.Resolve(f.Server)
		if err != nil {
			return err
		}
		nc, err = bus.Dial(url, "hersh executor "+string(hostID), log, access...)
		return err
	}, func(err error, wait time.Duration) {
		log.Warn("NATS does not answer yet", "error", err, "retry_in", wait)
	})
	return nc, err
}

// hostID is the given one, or made of the machine's name.
func hostID(given string) (events.HostID, error) {
	if given != "" {
		return events.ParseHostID(given)
	}
	name, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("find the machine's name for --host-id: %w", err)
	}
	id, err := events.ParseHostID(strings.ToLower(strings.ReplaceAll(name, ".", "-")))
	if err != nil {
		return "", fmt.Errorf("the machine's name is no host ID, so give one with --host-id: %w", err)
	}
	return id, nil
}
