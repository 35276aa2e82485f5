package runtime

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/pause"
)

const (
	// drainTime bounds how long Stop waits for a follower that makes no progress, and longestDrain for one that does. Removing
	// the container destroys the output that was not followed.
	drainTime    = 10 * time.Second
	longestDrain = 2 * time.Minute
	// removeTime bounds how long a removal may take after the daemon said that it is in progress.
	removeTime = 30 * time.Second
)

// Stop stops a container with SIGTERM and, after the stop timeout, SIGKILL, waits until its output was followed to the end,
// removes it with its anonymous volumes, and makes sure that it is gone. A container that is not there is a success.
func (m *DockerManager) Stop(ctx context.Context, containerID string) error {
	err := m.stop(ctx, containerID)
	if err != nil && !errors.Is(err, ErrNoContainer) {
		return fmt.Errorf("stop container %.64q: %w", containerID, err)
	}
	return nil
}

// StopOwned is Stop, if the container's labels say that it is that of the program on the host; an empty ID is not compared.
// Else, and when it is no container of Hersh at all, the error wraps ErrNotOwner and the container is left alone.
func (m *DockerManager) StopOwned(
	ctx context.Context, containerID string, programID events.ProgramID, hostID events.HostID,
) error {
	c, err := m.Inspect(ctx, containerID)
	switch {
	case errors.Is(err, ErrNoContainer):
		return nil
	case err != nil:
		return err
	case programID != "" && c.ProgramID != programID:
		return fmt.Errorf("stop container %.64q: %w: it is one of program %s", containerID, ErrNotOwner, c.ProgramID)
	case hostID != "" && c.HostID != hostID:
		return fmt.Errorf("stop container %.64q: %w: it is one of host %q", containerID, ErrNotOwner, c.HostID)
	}
	return m.Stop(ctx, c.ID) // By its ID: a name might pass to another container in between.
}

// Kill kills a container with SIGKILL and leaves it there, with its output and its exit code. One that does not run, or is gone, is
// a success.
func (m *DockerManager) Kill(ctx context.Context, containerID string) error {
	full, err := m.inspect(ctx, containerID)
	if err == nil && full.State.Running {
		err = call(ctx, changeCall, func(ctx context.Context) error {
			return m.cli.ContainerKill(ctx, full.ID, "SIGKILL")
		})
	}
	if err == nil || errors.Is(err, ErrNoContainer) || errdefs.IsConflict(err) { // It ended in between.
		return nil
	}
	return fmt.Errorf("kill container %.64q: %w", containerID, err)
}

func (m *DockerManager) stop(ctx context.Context, ref string) error {
	full, err := m.inspect(ctx, ref)
	if err != nil {
		return err
	}
	seconds := int(m.stopTimeout / time.Second)
	err = call(ctx, m.stopTimeout+changeCall, func(ctx context.Context) error {
		return m.cli.ContainerStop(ctx, full.ID, container.StopOptions{Timeout: &seconds})
	})
	// One that cannot be stopped may still be removed by force, which tells the reason better if that fails as well.
	if err != nil && (ctx.Err() != nil || errors.Is(err, ErrUnavailable) || errors.Is(err, ErrNoContainer)) {
		return err
	}
	m.awaitFollower(ctx, full.ID)
	return m.remove(ctx, full.ID)
}

// remove kills and removes a container, and returns when it is gone.
func (m *DockerManager) remove(ctx context.Context, id string) error {
	err := call(ctx, changeCall, func(ctx context.Context) error {
		return m.cli.ContainerRemove(ctx, id, container.RemoveOptions{Force: true, RemoveVolumes: true})
	})
	if err != nil && !errors.Is(err, ErrNoContainer) && !strings.Contains(err.Error(), "already in progress") {
		return err
	}
	return m.awaitGone(ctx, id, removeTime)
}

// awaitGone asks until the daemon does not know the container any more.
func (m *DockerManager) awaitGone(ctx context.Context, id string, limit time.Duration) error {
	bounded, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%w: it is not removed after %s", ErrUnavailable, limit))
	defer cancel()
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		_, err := m.inspect(bounded, id)
		if errors.Is(err, ErrNoContainer) {
			return nil
		}
		if err != nil {
			return err
		}
		if !pause.For(bounded, wait) {
			return context.Cause(bounded)
		}
	}
}
