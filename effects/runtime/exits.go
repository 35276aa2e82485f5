package runtime

import (
	"context"
	"fmt"
	"strconv"

	dockerevents "github.com/docker/docker/api/types/events"

	"github.com/rlaaudgjs5638/hersh/events"
)

// WatchExits calls ended with each container of a host that dies, until ctx ends or the daemon's event stream
// breaks; its error says which, and is never nil. connected is called once no exit can be missed any more: what ended
// before that, Containers tells. An exit may be told twice, and that of a stopped container is told as well. Whether it ran
// out of memory is not known here; Inspect tells.
func (m *DockerManager) WatchExits(
	ctx context.Context, hostID events.HostID, connected func(), ended func(Container),
) error {
	info, err := m.info(ctx)
	if err != nil {
		return fmt.Errorf("watch exits of host %q: %w", hostID, err)
	}
	filter := hostFilter(hostID)
	filter.Add("type", string(dockerevents.ContainerEventType))
	filter.Add("event", string(dockerevents.ActionDie))

	watched, cancel := context.WithCancel(ctx)
	// The daemon answers before it subscribes. Since, in the daemon's own time, covers what happens in between.
	messages, errs := m.cli.Events(watched, dockerevents.ListOptions{Since: info.SystemTime, Filters: filter})
	defer func() { // The client's goroutine ends by closing errs.
		cancel()
		for range errs {
		}
	}()
	select {
	case err := <-errs:
		return fmt.Errorf("watch exits of host %q: %w", hostID, streamError(ctx, err))
	default:
		connected()
	}
	for {
		select {
		case err := <-errs:
			return fmt.Errorf("watch exits of host %q: %w", hostID, streamError(ctx, err))
		case message := <-messages:
			labels := message.Actor.Attributes // The labels, and a few words of Docker's own.
			if c, err := identify(message.Actor.ID, labels["name"], labels); err == nil && c.HostID == hostID {
				c.ExitCode, _ = strconv.Atoi(labels["exitCode"])
				ended(c)
			}
		}
	}
}

// streamError sorts the end of a stream that has no end of its own: its loss is an outage, whatever the client calls it.
func streamError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("%w: the stream ended: %v", ErrUnavailable, err)
}
