package host

import (
	"context"
	"slices"

	"github.com/rlaaudgjs5638/hersh/events"
)

// Remains returns the programs that have folders below the base folder, or images that this host built, sorted. Programs with short
// IDs, which live in one process, are nobody's to remove.
func (h *RealEffectHandler) Remains(ctx context.Context) ([]events.ProgramID, error) {
	list, err := h.storage.Programs()
	if err != nil {
		return nil, err
	}
	built, err := h.docker.ProgramsWithImages(ctx, h.hostID)
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(append(list, built...), func(id events.ProgramID) bool {
		_, err := events.ParseProgramID(string(id))
		return err != nil
	})
	slices.Sort(list)
	return slices.Compact(list), nil
}

// Forget removes the images that this host built of a program, and the folders of the program, its state included. What a container
// still uses stays, and is an error, or goes with the next call.
func (h *RealEffectHandler) Forget(ctx context.Context, id events.ProgramID) error {
	if _, err := h.docker.RemoveImages(ctx, id, h.hostID, ""); err != nil {
		return err
	}
	return h.storage.DeleteProgram(id)
}
