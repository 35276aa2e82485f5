package runtime

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"

	"github.com/rlaaudgjs5638/hersh/effects/compose"
	"github.com/rlaaudgjs5638/hersh/events"
)

// maxRemovedImages bounds one call of RemoveImages; what is left goes with the next.
const maxRemovedImages = 100

// RemoveImages removes the images that a host built for a program, but for the one to keep ("" keeps none), and the layers that
// only they use. It goes by the labels of the images; those that a container still uses stay. It returns how many went.
func (m *DockerManager) RemoveImages(
	ctx context.Context, programID events.ProgramID, hostID events.HostID, keep string,
) (int, error) {
	filter := hostFilter(hostID)
	filter.Add("label", compose.LabelProgram+"="+string(programID))
	found, err := m.images(ctx, filter)
	if err != nil {
		return 0, fmt.Errorf("list images of %.100q: %w", programID, err)
	}
	removed := 0
	var failed error
	for _, summary := range found {
		if summary.ID == keep || summary.Labels[compose.LabelHost] != string(hostID) || removed == maxRemovedImages {
			continue
		}
		err = m.removeImage(ctx, summary)
		if errdefs.IsConflict(err) {
			continue // A container uses it.
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("remove image %.19s of %.100q: %w", summary.ID, programID, err))
			continue
		}
		removed++
	}
	return removed, failed
}

// ProgramsWithImages returns the programs whose images a host built, sorted.
func (m *DockerManager) ProgramsWithImages(ctx context.Context, hostID events.HostID) ([]events.ProgramID, error) {
	found, err := m.images(ctx, hostFilter(hostID))
	if err != nil {
		return nil, fmt.Errorf("list images of host %q: %w", hostID, err)
	}
	var list []events.ProgramID
	for _, summary := range found {
		if summary.Labels[compose.LabelHost] == string(hostID) {
			list = append(list, events.ProgramID(summary.Labels[compose.LabelProgram]))
		}
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}

func (m *DockerManager) images(ctx context.Context, filter filters.Args) (found []image.Summary, err error) {
	err = call(ctx, quickCall, func(ctx context.Context) (err error) {
		found, err = m.cli.ImageList(ctx, image.ListOptions{Filters: filter})
		return err
	})
	return found, err
}

// removeImage removes by name first: by its ID, an image with several names goes by force only, and force would also take
// it from a stopped container.
func (m *DockerManager) removeImage(ctx context.Context, summary image.Summary) error {
	for _, ref := range append(summary.RepoTags, summary.ID) {
		if ref == "<none>:<none>" {
			continue
		}
		err := call(ctx, changeCall, func(ctx context.Context) error {
			_, err := m.cli.ImageRemove(ctx, ref, image.RemoveOptions{PruneChildren: true})
			return err
		})
		if err != nil && !errdefs.IsNotFound(err) {
			return err
		}
	}
	return nil
}
