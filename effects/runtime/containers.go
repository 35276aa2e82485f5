package runtime

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"

	"github.com/rlaaudgjs5638/hersh/effects/compose"
	"github.com/rlaaudgjs5638/hersh/events"
)

const maxRefLen = 256 // Of IDs and names of containers and images.

// Container is a container that Hersh made.
type Container struct {
	ID        string
	Name      string
	ProgramID events.ProgramID
	HostID    events.HostID // "" when no host was named at its start.
	Attempt   uint64
	Running   bool
	Created   bool // It was made and has never run.
	ExitCode  int  // Meaningful when it has run and does not now.
	OOMKilled bool // The daemon says that it ran out of memory.
}

// Containers lists the containers of a host, whatever their state, sorted by ID; hostID "" is those that name no host.
// Containers that say they are the host's but whose labels make no sense come back as notes, a sentence each: they are not
// to be touched. Of one that the daemon cannot inspect now there is a note as well, and the exit code is not known.
func (m *DockerManager) Containers(ctx context.Context, hostID events.HostID) (list []Container, notes []string, err error) {
	found, err := m.list(ctx, hostFilter(hostID))
	if err != nil {
		return nil, nil, fmt.Errorf("list containers of host %q: %w", hostID, err)
	}
	for _, summary := range found {
		c, err := identify(summary.ID, firstName(summary.Names), summary.Labels)
		if err != nil {
			notes = append(notes, fmt.Sprintf("container %.12s is left alone: %s", summary.ID, err))
			continue
		}
		if c.HostID != hostID {
			continue // The daemon cannot filter for a label that is not there.
		}
		full, err := m.Inspect(ctx, c.ID)
		switch {
		case err == nil:
			c = full
		case errors.Is(err, ErrNoContainer):
			continue // It went away meanwhile.
		case ctx.Err() != nil:
			return nil, nil, err
		default: // One container that the daemon hangs at must not hide the others.
			c.Running = summary.State == container.StateRunning
			notes = append(notes, fmt.Sprintf("container %.12s is known from the list only: %s", summary.ID, err))
		}
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b Container) int { return strings.Compare(a.ID, b.ID) })
	return list, notes, nil
}

// Inspect returns one container. Its error wraps ErrNoContainer when there is none of that ID, and ErrNotOwner when it is
// not one of Hersh's.
func (m *DockerManager) Inspect(ctx context.Context, containerID string) (Container, error) {
	full, err := m.inspect(ctx, containerID)
	if err != nil {
		return Container{}, fmt.Errorf("inspect container %.64q: %w", containerID, err)
	}
	c, err := fromInspect(full)
	if err != nil {
		return Container{}, fmt.Errorf("inspect container %.64q: %w: %w", containerID, ErrNotOwner, err)
	}
	return c, nil
}

// GetContainerStatus returns Docker's word for the state of a container: created, running, paused, restarting, removing,
// exited or dead.
func (m *DockerManager) GetContainerStatus(ctx context.Context, containerID string) (string, error) {
	full, err := m.inspect(ctx, containerID)
	if err != nil {
		return "", fmt.Errorf("get status of container %.64q: %w", containerID, err)
	}
	return full.State.Status, nil
}

// IsContainerRunning reports whether a container runs.
func (m *DockerManager) IsContainerRunning(ctx context.Context, containerID string) (bool, error) {
	full, err := m.inspect(ctx, containerID)
	if err != nil {
		return false, fmt.Errorf("get state of container %.64q: %w", containerID, err)
	}
	return full.State.Running, nil
}

// GetContainerIP returns the address of a container on the first of its networks, or "" when it has none, which is so for
// every container with network mode none.
func (m *DockerManager) GetContainerIP(ctx context.Context, containerID string) (string, error) {
	full, err := m.inspect(ctx, containerID)
	if err != nil {
		return "", fmt.Errorf("get address of container %.64q: %w", containerID, err)
	}
	if full.NetworkSettings == nil {
		return "", nil
	}
	for _, name := range slices.Sorted(maps.Keys(full.NetworkSettings.Networks)) {
		if network := full.NetworkSettings.Networks[name]; network != nil && network.IPAddress != "" {
			return network.IPAddress, nil
		}
	}
	return "", nil
}

// inspect refuses what is no ID or name, so that nothing else reaches the path of a request.
func (m *DockerManager) inspect(ctx context.Context, ref string) (full container.InspectResponse, err error) {
	if !isContainerRef(ref) {
		return full, ErrNoContainer
	}
	err = call(ctx, quickCall, func(ctx context.Context) (err error) {
		full, err = m.cli.ContainerInspect(ctx, ref)
		return err
	})
	if err == nil && (full.ContainerJSONBase == nil || full.State == nil || full.Config == nil || full.HostConfig == nil) {
		err = errors.New("the daemon's answer is incomplete")
	}
	return full, err
}

func (m *DockerManager) list(ctx context.Context, filter filters.Args) (found []container.Summary, err error) {
	err = call(ctx, quickCall, func(ctx context.Context) (err error) {
		found, err = m.cli.ContainerList(ctx, container.ListOptions{All: true, Filters: filter})
		return err
	})
	return found, err
}

func hostFilter(hostID events.HostID) filters.Args {
	filter := filters.NewArgs(filters.Arg("label", compose.LabelProgram))
	if hostID != "" {
		filter.Add("label", compose.LabelHost+"="+string(hostID))
	}
	return filter
}

func fromInspect(full container.InspectResponse) (Container, error) {
	c, err := identify(full.ID, strings.TrimPrefix(full.Name, "/"), full.Config.Labels)
	if err != nil {
		return Container{}, err
	}
	c.Running = full.State.Running
	c.Created = full.State.Status == container.StateCreated
	c.ExitCode = full.State.ExitCode
	c.OOMKilled = full.State.OOMKilled
	return c, nil
}

// identify reads whose a container is from its labels. Its name must agree: whoever writes a Dockerfile may put any label on
// the containers of their build steps, but has no say in how those are named.
func identify(id, name string, labels map[string]string) (Container, error) {
	program := events.ProgramID(labels[compose.LabelProgram])
	if !isProgramID(program) || labels[compose.LabelUser] != string(program.User()) {
		return Container{}, fmt.Errorf("its labels name no program: %s=%.100q, %s=%.100q", compose.LabelProgram, program,
			compose.LabelUser, labels[compose.LabelUser])
	}
	attempt, err := strconv.ParseUint(labels[compose.LabelAttempt], 10, 64)
	if err != nil {
		return Container{}, fmt.Errorf("its label %s=%.100q is no number", compose.LabelAttempt, labels[compose.LabelAttempt])
	}
	host := events.HostID(labels[compose.LabelHost])
	if _, err := events.ParseHostID(string(host)); err != nil && host != "" {
		return Container{}, fmt.Errorf("its label %s: %w", compose.LabelHost, err)
	}
	if name != compose.ContainerName(program, attempt) {
		return Container{}, fmt.Errorf("its name %.100q is not that of attempt %d of %s", name, attempt, program)
	}
	return Container{ID: id, Name: name, ProgramID: program, HostID: host, Attempt: attempt}, nil
}

// isProgramID accepts every ProgramID, and the short IDs of programs that live in one process.
func isProgramID(id events.ProgramID) bool {
	return id != "" && len(id) <= maxRefLen && strings.Trim(string(id), "abcdefghijklmnopqrstuvwxyz0123456789-_") == ""
}

func isContainerRef(ref string) bool {
	if ref == "" || len(ref) > maxRefLen {
		return false
	}
	for i := range len(ref) {
		c := ref[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || !strings.ContainsRune("_.-", rune(c))) {
			return false
		}
	}
	return true
}

func firstName(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return strings.TrimPrefix(names[0], "/")
}
