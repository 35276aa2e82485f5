package runtime

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"

	"github.com/rlaaudgjs5638/hersh/effects/compose"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/pause"
)

// cleanupTime bounds what is still done after a caller has gone: removing what it would leave behind.
const cleanupTime = 30 * time.Second

// StartOpts says which container to start.
type StartOpts struct {
	ProgramID events.ProgramID // Must be the one of the spec's labels.
	Spec      *compose.ComposeSpec

	RuntimeLogPath string  // Optional: follow the output to this file; see Follow.
	LogSink        LogSink // Optional, with RuntimeLogPath: ship the output there as well.
}

// StartResult is a container that was started.
type StartResult struct {
	ContainerID string
	ProgramID   events.ProgramID
	Running     bool // False when the container of the attempt was found dead.
}

// Start makes and starts the container of a spec. It is idempotent: when the container of the same attempt is there, alive
// or dead, it is the result. Containers of earlier attempts of the program on the same host are stopped and removed
// before: a program has one container.
//
// Its error wraps what ValidateSpec refused, ErrSpecMismatch, ErrRuntimeMissing, ErrNameTaken or ErrUnavailable, or holds
// the daemon's reason. No container is left behind then, except with ErrUnavailable, after which Start goes on from there.
func (m *DockerManager) Start(ctx context.Context, opts StartOpts) (*StartResult, error) {
	result, err := m.start(ctx, opts)
	if err != nil {
		return nil, fmt.Errorf("start %.100q: %w", opts.ProgramID, err)
	}
	return result, nil
}

func (m *DockerManager) start(ctx context.Context, opts StartOpts) (*StartResult, error) {
	if err := compose.NewBuilder().ValidateSpec(opts.Spec); err != nil {
		return nil, err
	}
	service := opts.Spec.Services[compose.ServiceName]
	want, err := identify("", service.ContainerName, service.Labels)
	if err != nil {
		return nil, err
	}
	if want.ProgramID != opts.ProgramID {
		return nil, fmt.Errorf("the spec is that of program %s", want.ProgramID)
	}
	seen, err := m.removeEarlier(ctx, opts, want)
	if err != nil {
		return nil, err
	}
	id, running, err := m.ensureRunning(ctx, service, want, seen)
	if err != nil {
		return nil, err
	}
	want.ID = id
	if err := m.follow(opts, want); err != nil {
		return nil, err
	}
	return &StartResult{ContainerID: id, ProgramID: want.ProgramID, Running: running}, nil
}

// follow follows a container of the program where the caller of Start wants it. That of an earlier attempt may have said
// something that nobody has read, if its follower's process is no more.
func (m *DockerManager) follow(opts StartOpts, c Container) error {
	if opts.RuntimeLogPath == "" {
		return nil
	}
	return m.Follow(FollowOpts{
		ContainerID: c.ID, ProgramID: c.ProgramID, Attempt: c.Attempt, Path: opts.RuntimeLogPath, Sink: opts.LogSink,
	})
}

// removeEarlier makes room, and reports whether the attempt has a container already. A later attempt that has one means
// that this start comes too late.
func (m *DockerManager) removeEarlier(ctx context.Context, opts StartOpts, want Container) (seen bool, err error) {
	found, err := m.list(ctx, programFilter(want))
	if err != nil {
		return false, err
	}
	for _, summary := range found {
		other, err := identify(summary.ID, firstName(summary.Names), summary.Labels)
		if err != nil || other.ProgramID != want.ProgramID || other.HostID != want.HostID {
			continue
		}
		switch {
		case other.Attempt > want.Attempt:
			return false, fmt.Errorf("attempt %d of the program is there already", other.Attempt)
		case other.Attempt == want.Attempt:
			seen = true
			continue
		}
		if err := m.follow(opts, other); err != nil {
			return false, err
		}
		if err := m.Stop(ctx, other.ID); err != nil {
			return false, fmt.Errorf("remove the container of attempt %d: %w", other.Attempt, err)
		}
	}
	return seen, nil
}

// ensureRunning finds or makes the container of an attempt, and starts it if it has never run. One that has been seen is
// looked for first: making another would need its image, which may be gone.
func (m *DockerManager) ensureRunning(ctx context.Context, s compose.Service, want Container, seen bool) (string, bool, error) {
	const tries = 5 // A name may be held by a container that is just being removed.
	for range tries {
		err := errNameInUse
		if !seen {
			var id string
			if id, err = m.create(ctx, s); err == nil {
				return id, true, m.startNew(ctx, s, id)
			}
		}
		if !errors.Is(err, errNameInUse) {
			return "", false, err
		}
		id, running, err := m.reuse(ctx, s, want)
		if !errors.Is(err, ErrNoContainer) {
			return id, running, err
		}
		if seen = false; !pause.For(ctx, leastBackoff) {
			return "", false, context.Cause(ctx)
		}
	}
	return "", false, fmt.Errorf("%w: a container named %s is being removed and does not go away", ErrUnavailable, s.ContainerName)
}

// errNameInUse says that create met a container of the same name.
var errNameInUse = errors.New("container name is in use")

func (m *DockerManager) create(ctx context.Context, s compose.Service) (string, error) {
	config, host := containerConfig(s)
	var made container.CreateResponse
	err := call(ctx, changeCall, func(ctx context.Context) (err error) {
		made, err = m.cli.ContainerCreate(ctx, config, host, nil, nil, s.ContainerName)
		return err
	})
	switch {
	case err == nil:
		for _, warning := range made.Warnings {
			m.log.Warn("Docker warns about a container", "container", made.ID, "name", s.ContainerName, "warning", warning)
		}
		return made.ID, nil
	case errdefs.IsConflict(err) && strings.Contains(err.Error(), "is already in use"):
		return "", errNameInUse
	case strings.Contains(strings.ToLower(err.Error()), "unknown runtime"), strings.Contains(err.Error(), "unknown or invalid runtime"):
		return "", fmt.Errorf("%w: register %q in the daemon's configuration, or ask for another by name (%w)",
			ErrRuntimeMissing, s.Runtime, err)
	}
	// The daemon may have made it although its answer did not arrive; the next try finds it by its name.
	return "", err
}

// startNew starts a container that create has just made, and removes it when that fails.
func (m *DockerManager) startNew(ctx context.Context, s compose.Service, id string) error {
	err := m.verifyAndStart(ctx, s, id)
	if err == nil || errors.Is(err, ErrUnavailable) {
		return err
	}
	return m.discard(ctx, id, err)
}

// reuse takes over the container that has the name of the attempt, if it is the attempt's.
func (m *DockerManager) reuse(ctx context.Context, s compose.Service, want Container) (string, bool, error) {
	full, err := m.inspect(ctx, s.ContainerName)
	if err != nil {
		return "", false, err
	}
	got, err := fromInspect(full)
	if err != nil {
		return "", false, fmt.Errorf("%w: %s: %w", ErrNameTaken, s.ContainerName, err)
	}
	if got.ProgramID != want.ProgramID || got.HostID != want.HostID || got.Attempt != want.Attempt {
		return "", false, fmt.Errorf("%w: %s is labelled as attempt %d of %s on host %q", ErrNameTaken, s.ContainerName,
			got.Attempt, got.ProgramID, got.HostID)
	}
	if full.State.Status == "removing" || full.State.Dead {
		return "", false, ErrNoContainer
	}
	if got.Created { // An earlier try made it and did not get further.
		return got.ID, true, m.startNew(ctx, s, got.ID)
	}
	if err := verifySandbox(s, full); err != nil {
		return "", false, fmt.Errorf("%w: %s: %w", ErrNameTaken, s.ContainerName, err)
	}
	return got.ID, got.Running, nil
}

func (m *DockerManager) verifyAndStart(ctx context.Context, s compose.Service, id string) error {
	made, err := m.inspect(ctx, id)
	if err != nil {
		return err
	}
	if err := verify(s, made); err != nil {
		return err
	}
	return call(ctx, changeCall, func(ctx context.Context) error {
		return m.cli.ContainerStart(ctx, id, container.StartOptions{})
	})
}

// discard removes a container that must not stay, also when the caller has gone. It returns the reason, with the failure
// to remove if there is one.
func (m *DockerManager) discard(ctx context.Context, id string, reason error) error {
	detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	if err := m.remove(detached, id); err != nil {
		return fmt.Errorf("%w (and its container %.12s could not be removed: %w)", reason, id, err)
	}
	return reason
}

func programFilter(c Container) filters.Args {
	filter := hostFilter(c.HostID)
	filter.Add("label", compose.LabelProgram+"="+string(c.ProgramID))
	return filter
}
