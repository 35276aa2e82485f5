// Package executord is the executor as a service: a Docker host, or a fake one, on one connection. cmd/executor and `hersh dev`
// are both made with it.
package executord

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/effects/compose"
	"github.com/rlaaudgjs5638/hersh/effects/host"
	"github.com/rlaaudgjs5638/hersh/effects/runtime"
	"github.com/rlaaudgjs5638/hersh/effects/storage"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/bus"
	"github.com/rlaaudgjs5638/hersh/internal/executor"
	"github.com/rlaaudgjs5638/hersh/internal/service"
)

// ErrNoRuntime says that Docker does not have the runtime that programs are to run under.
var ErrNoRuntime = errors.New("no such container runtime in Docker")

// measureEvery is the time between two measurements of the state folders: what a program may write beyond its limit is what the disk
// takes in that time.
const measureEvery = 10 * time.Second

// DefaultStateLimit is what the /state of a program may take of the disk, in MiB, where nothing else is said.
const DefaultStateLimit = 4096

// Options say how an executor runs.
type Options struct {
	HostID       events.HostID
	Dir          string // Base folder of the programs; the Docker daemon must see it under the same path.
	Runtime      string // "runsc" or "runc".
	DockerHost   string // Address of the Docker daemon; "" is as DOCKER_HOST and the like say.
	Fake         bool   // No Docker: containers are in memory only.
	BuildSlots   int
	RunSlots     int
	FenceAfter   time.Duration   // For how long the bus may take no heartbeat before all programs are ended; 0 is for ever.
	Capacity     events.Capacity // Where memory or processors are negative, they are what Docker's machine has.
	BuildTimeout time.Duration
	BuildMemory  int64             // Bytes a RUN step may use.
	BuildNetwork string            // Network of RUN steps: "none", or "", which is the daemon's default.
	StateLimit   int64             // Bytes of the disk that the /state of a program may take; 0 is no limit.
	BuildCPUs    float64           // Processors that a RUN step may use; 0 is no bound.
	BuildCgroup  string            // Parent cgroup of RUN steps; "" is the daemon's default.
	Labels       map[string]string // Put on every container and image besides Hersh's own.
	Bus          bus.Options
	Log          *slog.Logger
	Registry     prometheus.Registerer
}

// Service is an executor that runs.
type Service struct {
	bus    *bus.Bus
	docker *runtime.DockerManager // nil for a fake host.
	cancel context.CancelFunc
	group  sync.WaitGroup
	log    *slog.Logger
}

// Start looks for Docker, trying again until ctx ends, and starts the loops. The connection stays the caller's, who calls Stop
// before it is closed. A Docker without the runtime is ErrNoRuntime: weaker isolation must be asked for by name.
func Start(ctx context.Context, nc *nats.Conn, o Options) (*Service, error) {
	b, err := bus.New(nc, o.Log, o.Bus)
	if err != nil {
		return nil, err
	}
	s := &Service{bus: b, log: o.Log}
	var machine executor.Host = executor.NewFakeHost(effects.NewFakeEffectHandler())
	var info runtime.Info // A fake host has no bounds.
	if !o.Fake {
		if machine, info, err = s.dockerHost(ctx, o); err != nil {
			return nil, err
		}
	}
	loop := executor.New(o.HostID, b, machine, executor.Options{
		BuildSlots: o.BuildSlots, RunSlots: o.RunSlots, Capacity: capacityOf(o.Capacity, info), FenceAfter: o.FenceAfter, Uptime: service.Uptime(), Version: service.Version(),
	}, o.Log, executor.NewMetrics(o.Registry))
	loopCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancel
	if docker, ok := machine.(*dockerHost); ok && o.StateLimit > 0 {
		s.group.Go(func() { enforceStateLimit(loopCtx, docker, o.Log) })
	}
	s.group.Go(func() {
		if err := loop.Run(loopCtx); err != nil && !errors.Is(err, context.Canceled) {
			o.Log.Error("the executor stopped", "error", err)
		}
	})
	return s, nil
}

// enforceStateLimit measures the state folders again and again, until ctx ends.
func enforceStateLimit(ctx context.Context, host *dockerHost, log *slog.Logger) {
	ticker := time.NewTicker(measureEvery)
	defer ticker.Stop()
	for {
		if err := host.EnforceStateLimit(ctx); err != nil && ctx.Err() == nil {
			log.Warn("cannot hold programs to the limit of /state now", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// capacityOf fills in what the machine has.
func capacityOf(c events.Capacity, machine runtime.Info) events.Capacity {
	if c.MemoryBytes < 0 {
		c.MemoryBytes = machine.MemoryBytes
	}
	if c.CPUMillis < 0 {
		c.CPUMillis = int64(machine.CPUs) * 1000
	}
	return c
}

// Checks are what the service needs to be ready.
func (s *Service) Checks() []service.Check {
	checks := []service.Check{{Name: "NATS JetStream answers", Ready: s.bus.Ping}}
	if s.docker != nil {
		checks = append(checks, service.Check{Name: "Docker answers", Ready: s.docker.Ping})
	}
	return checks
}

// Stop takes no more work, finishes or hands back what is in hand, and returns when nothing of the service is left. Containers
// go on running.
func (s *Service) Stop() {
	s.cancel()
	s.group.Wait()
	if s.docker != nil {
		if err := s.docker.Close(); err != nil {
			s.log.Warn("could not close the Docker client", "error", err)
		}
	}
}

// dockerHost waits for Docker and makes the real handler on it.
func (s *Service) dockerHost(ctx context.Context, o Options) (executor.Host, runtime.Info, error) {
	docker, err := runtime.NewDockerManager(runtime.WithLogger(o.Log), runtime.WithDockerHost(o.DockerHost))
	if err != nil {
		return nil, runtime.Info{}, err
	}
	level := slog.LevelWarn
	var info runtime.Info
	err = service.Retry(ctx, func(ctx context.Context) (err error) {
		info, err = docker.Info(ctx)
		return err
	}, func(err error, wait time.Duration) {
		o.Log.Log(ctx, level, "Docker does not answer yet; trying again", "error", err, "retry_in", wait)
		level = slog.LevelDebug // Once is enough for who reads along.
	})
	if err == nil && !slices.Contains(info.Runtimes, o.Runtime) {
		err = fmt.Errorf("%w: %s (it has %v)", ErrNoRuntime, o.Runtime, info.Runtimes)
	}
	if err != nil {
		return nil, info, errors.Join(err, docker.Close())
	}
	if o.Runtime != compose.RuntimeRunsc {
		o.Log.Warn("programs run without gVisor: a hole in the kernel is a hole in the sandbox", "runtime", o.Runtime)
	}
	s.docker = docker
	handler := host.NewRealEffectHandler(storage.NewManager(o.Dir), compose.NewBuilder(), docker,
		host.WithHostID(o.HostID), host.WithLabels(o.Labels), host.WithSources(s.bus), host.WithLogSink(s.bus),
		host.WithBuildTimeout(o.BuildTimeout), host.WithBuildMemory(o.BuildMemory),
		host.WithBuildNetwork(o.BuildNetwork), host.WithStateLimit(o.StateLimit),
		host.WithBuildCPUs(o.BuildCPUs), host.WithBuildCgroup(o.BuildCgroup), host.WithLogger(o.Log))
	handler.SetDefaultRuntime(o.Runtime)
	return &dockerHost{RealEffectHandler: handler, docker: docker, runtime: o.Runtime}, info, nil
}

// dockerHost is the real handler with the account that a heartbeat gives of it.
type dockerHost struct {
	*host.RealEffectHandler
	docker  *runtime.DockerManager
	runtime string
}

// Describe implements executor.Host.
func (h *dockerHost) Describe(ctx context.Context) events.Heartbeat {
	beat := events.Heartbeat{DefaultRuntime: h.runtime}
	info, err := h.docker.Info(ctx)
	if err != nil {
		beat.Problem = err.Error()
		return beat
	}
	beat.Docker, beat.Runtimes, beat.CPUs, beat.MemoryBytes = info.ServerVersion, info.Runtimes, info.CPUs, info.MemoryBytes
	if !slices.Contains(info.Runtimes, h.runtime) {
		beat.Problem = fmt.Sprintf("Docker has no runtime %q", h.runtime)
	}
	containers, err := h.Containers(ctx)
	if err != nil {
		beat.Problem = err.Error()
	}
	for _, c := range containers {
		if c.Running {
			beat.Running++
		}
	}
	return beat
}
