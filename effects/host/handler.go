package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"syscall"
	"time"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/effects/compose"
	"github.com/rlaaudgjs5638/hersh/effects/runtime"
	"github.com/rlaaudgjs5638/hersh/effects/storage"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/pause"
)

const (
	defaultPatience = 30 * time.Second
	firstRetry      = 100 * time.Millisecond
	lastRetry       = 5 * time.Second
)

// Sources opens source tarballs.
type Sources interface {
	// OpenSource returns the source tarball of a build, to be closed by the caller. What it holds is not verified.
	OpenSource(ctx context.Context, user events.UserID, build events.BuildID) (io.ReadCloser, error)
}

// RealEffectHandler runs effects on Docker and the file system. It is safe for concurrent use once it is set up.
type RealEffectHandler struct {
	storage *storage.Manager
	compose *compose.Builder
	docker  *runtime.DockerManager

	runtime      string // Container runtime of programs.
	hostID       events.HostID
	labels       map[string]string
	sources      Sources
	sink         runtime.LogSink
	limits       events.Limits // Where a program's own are silent.
	buildTimeout time.Duration
	buildMemory  int64
	buildNetwork string
	buildCPUs    float64
	buildCgroup  string
	stateLimit   int64
	patience     time.Duration
	log          *slog.Logger

	notes sync.Mutex // Held while a note of why a container is ended is written or removed.
}

// Option changes a RealEffectHandler.
type Option func(*RealEffectHandler)

// WithHostID labels containers and images with a host, and looks after those of that host only.
func WithHostID(id events.HostID) Option { return func(h *RealEffectHandler) { h.hostID = id } }

// WithLabels puts more labels on containers and images than Hersh's own.
func WithLabels(labels map[string]string) Option {
	return func(h *RealEffectHandler) { h.labels = labels }
}

// WithSources says where source tarballs come from. Without it a program's src/ folder is built as it is.
func WithSources(sources Sources) Option { return func(h *RealEffectHandler) { h.sources = sources } }

// WithLogSink ships the output of builds and programs.
func WithLogSink(sink runtime.LogSink) Option { return func(h *RealEffectHandler) { h.sink = sink } }

// WithDefaultLimits sets the limits of programs that name none.
func WithDefaultLimits(limits events.Limits) Option {
	return func(h *RealEffectHandler) { h.limits = limits }
}

// WithBuildTimeout bounds how long a build may take; 0 is runtime.DefaultBuildTimeout.
func WithBuildTimeout(d time.Duration) Option {
	return func(h *RealEffectHandler) { h.buildTimeout = d }
}

// WithBuildMemory bounds what a RUN step may use, in bytes; 0 is no bound.
func WithBuildMemory(bytes int64) Option { return func(h *RealEffectHandler) { h.buildMemory = bytes } }

// WithBuildCPUs bounds how many processors a RUN step may use; 0 is no bound.
func WithBuildCPUs(n float64) Option { return func(h *RealEffectHandler) { h.buildCPUs = n } }

// WithBuildCgroup puts RUN steps below a cgroup of the host; "" is the daemon's default. Only that can bound how many processes they
// start: the classic builder has no limit for it.
func WithBuildCgroup(parent string) Option {
	return func(h *RealEffectHandler) { h.buildCgroup = parent }
}

// WithBuildNetwork sets the network of RUN steps: "" is the daemon's default, "none" is none.
func WithBuildNetwork(mode string) Option {
	return func(h *RealEffectHandler) { h.buildNetwork = mode }
}

// WithStateLimit bounds what the state folder of a program may take of the disk, in bytes; 0 is no bound. One that takes more is
// not started, and EnforceStateLimit ends one that runs.
func WithStateLimit(bytes int64) Option { return func(h *RealEffectHandler) { h.stateLimit = bytes } }

// WithPatience says how long an effect is tried while Docker or the disk is out of order, before Execute returns nil.
func WithPatience(d time.Duration) Option { return func(h *RealEffectHandler) { h.patience = d } }

// WithLogger sets where the handler reports what it meets; the default is slog.Default.
func WithLogger(log *slog.Logger) Option { return func(h *RealEffectHandler) { h.log = log } }

// NewRealEffectHandler returns a handler on a machine. Programs run under runsc unless SetDefaultRuntime says otherwise.
func NewRealEffectHandler(storage *storage.Manager, builder *compose.Builder, docker *runtime.DockerManager, opts ...Option) *RealEffectHandler {
	h := &RealEffectHandler{
		storage: storage, compose: builder, docker: docker,
		runtime: compose.RuntimeRunsc, patience: defaultPatience, log: slog.Default(),
	}
	for _, opt := range opts {
		opt(h)
	}
	return h
}

// SetDefaultRuntime sets the container runtime of programs: "runsc", or "runc", which is no sandbox against the kernel. Any other
// makes every start fail.
func (h *RealEffectHandler) SetDefaultRuntime(runtime string) { h.runtime = runtime }

// Execute implements effects.EffectHandler. While Docker does not answer, or the disk is full, it tries again with growing
// waits, and returns nil when its patience ends.
func (h *RealEffectHandler) Execute(ctx context.Context, eff effects.Effect) events.Event {
	began := time.Now()
	var told error // The kind of outage that was logged last.
	for wait := firstRetry; ctx.Err() == nil; wait = min(2*wait, lastRetry) {
		result, err := h.run(ctx, eff)
		switch {
		case err == nil:
			return result
		case ctx.Err() != nil:
			return nil
		case outage(err) == nil:
			return failure(eff, err)
		}
		if kind := outage(err); kind != told {
			h.log.Warn("cannot run an effect now; trying again", "effect", eff.Type(), "error", err)
			told = kind
		}
		if time.Since(began)+wait > h.patience || !pause.For(ctx, wait) {
			return nil
		}
	}
	return nil
}

// run runs an effect once. An error is a failure that failure makes the result of, an outage, or the end of ctx.
func (h *RealEffectHandler) run(ctx context.Context, eff effects.Effect) (events.Event, error) {
	switch e := eff.(type) {
	case effects.EnsureProgramFolders:
		return events.FoldersEnsured{Success: true}, h.storage.EnsureProgramFolders(e.ProgramID)
	case effects.BuildRuntime:
		return h.build(ctx, e)
	case effects.StartRuntime:
		return h.start(ctx, e)
	case effects.StopRuntime:
		return h.stop(ctx, e)
	case effects.FetchRuntimeStatus:
		return h.status(ctx, e)
	}
	return nil, fmt.Errorf("no such effect: %T", eff)
}

// failure is the result of an effect that failed. What cannot be asked about is not known: a failed inspect says nothing of the
// container.
func failure(eff effects.Effect, err error) events.Event {
	text := events.Clip(err.Error())
	switch e := eff.(type) {
	case effects.EnsureProgramFolders:
		return events.FoldersEnsured{Error: text}
	case effects.BuildRuntime:
		return events.BuildFinished{Error: text}
	case effects.StartRuntime:
		return events.StartFailed{Reason: text}
	case effects.StopRuntime:
		return events.StopFinished{ContainerID: e.ContainerID, Error: text}
	}
	return nil
}

// outage returns what is out of order, or nil when the error is a result: one that will be the same next time.
func outage(err error) error {
	for _, kind := range []error{runtime.ErrUnavailable, syscall.ENOSPC, storage.ErrBusy, errSourceAway} {
		if errors.Is(err, kind) {
			return kind
		}
	}
	return nil
}

// stop stops a container of the program on this host. What it has said to the end is kept, also when the process that
// started it is not this one.
func (h *RealEffectHandler) stop(ctx context.Context, e effects.StopRuntime) (events.Event, error) {
	c, err := h.docker.Inspect(ctx, e.ContainerID)
	if err == nil && h.owns(c) && (e.ProgramID == "" || c.ProgramID == e.ProgramID) {
		err = h.follow(c)
	}
	if err != nil && !errors.Is(err, runtime.ErrNoContainer) {
		return nil, err
	}
	err = h.docker.StopOwned(ctx, e.ContainerID, e.ProgramID, h.hostID)
	return events.StopFinished{ContainerID: e.ContainerID, Success: true}, err
}

func (h *RealEffectHandler) status(ctx context.Context, e effects.FetchRuntimeStatus) (events.Event, error) {
	c, err := h.docker.Inspect(ctx, e.ContainerID)
	switch {
	case errors.Is(err, runtime.ErrNoContainer):
		return events.RuntimeExited{ContainerID: e.ContainerID, ExitCode: -1}, nil
	case err != nil || c.Running || c.Created:
		return nil, err
	}
	if h.owns(c) { // It may have ended while nobody followed its output; its last words are what people look for.
		if err := h.follow(c); err != nil {
			return nil, err
		}
	}
	return events.RuntimeExited{
		ContainerID: c.ID, ExitCode: c.ExitCode, OOMKilled: c.OOMKilled, Reason: h.endReason(c),
	}, nil
}

func (h *RealEffectHandler) owns(c runtime.Container) bool { return c.HostID == h.hostID }

// follow follows the output of a container to the program's log. A program whose folders are gone was deleted; nobody is
// to read what its container says.
func (h *RealEffectHandler) follow(c runtime.Container) error {
	if !h.storage.ProgramExists(c.ProgramID) {
		return nil
	}
	return h.docker.Follow(runtime.FollowOpts{
		ContainerID: c.ID, ProgramID: c.ProgramID, Attempt: c.Attempt, Path: h.outputPath(c.ProgramID), Sink: h.sink,
	})
}

// Containers returns the containers of the host, running and dead.
func (h *RealEffectHandler) Containers(ctx context.Context) ([]effects.Container, error) {
	found, notes, err := h.docker.Containers(ctx, h.hostID)
	if err != nil {
		return nil, err
	}
	for _, note := range notes {
		h.log.Debug(note) // For instance the containers of RUN steps, which have the labels of their image.
	}
	list := make([]effects.Container, 0, len(found))
	for _, c := range found {
		list = append(list, fromDocker(c))
	}
	return list, nil
}

// Adopt goes on following the output of a container that an earlier process started. Doing it twice changes nothing.
func (h *RealEffectHandler) Adopt(_ context.Context, c effects.Container) error {
	return h.follow(runtime.Container{ID: c.ID, ProgramID: c.ProgramID, Attempt: c.Attempt})
}

// Exits calls ended for each container of the host that ends, until ctx does or Docker's event stream breaks, which is the error. It
// calls connected once no exit can be missed any more. That of a container which was stopped is told as well.
func (h *RealEffectHandler) Exits(ctx context.Context, connected func(), ended func(effects.Container)) error {
	return h.docker.WatchExits(ctx, h.hostID, connected, func(c runtime.Container) { ended(fromDocker(c)) })
}

func fromDocker(c runtime.Container) effects.Container {
	return effects.Container{
		ID: c.ID, ProgramID: c.ProgramID, Attempt: c.Attempt, Running: c.Running, ExitCode: c.ExitCode, OOMKilled: c.OOMKilled,
	}
}

func (h *RealEffectHandler) withDefaults(l events.Limits) events.Limits {
	return events.Limits{
		MemoryBytes: cmp.Or(l.MemoryBytes, h.limits.MemoryBytes),
		CPUMillis:   cmp.Or(l.CPUMillis, h.limits.CPUMillis),
		Pids:        cmp.Or(l.Pids, h.limits.Pids),
	}
}
