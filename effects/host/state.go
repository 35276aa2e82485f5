package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/effects/runtime"
	"github.com/rlaaudgjs5638/hersh/effects/storage"
	"github.com/rlaaudgjs5638/hersh/events"
)

// endFileName is the note of why the host ends a container. It is written before the container is killed, so that whoever finds it
// dead, even another process, knows why.
const endFileName = "ended.json"

const (
	maxEndFile = 64 << 10 // Of a note, which is not read further.
	// staleNote is the age at which a note on a container that still runs is taken for that of a kill that did not succeed. Until
	// then the kill may be under way, for whatever reason and whoever asked for it.
	staleNote = time.Minute
	killed    = 137 // The exit code of what SIGKILL ended.
)

type endNote struct {
	ContainerID string `json:"containerId"`
	Reason      string `json:"reason"`
}

// EnforceStateLimit measures the state folders of the programs that run here, and kills those that take more of the disk than the
// limit; their exit then carries the reason. One that has too many files to be measured is over the limit as well. It goes on past
// what fails and returns the errors together. Between two calls a program can write as fast as the disk takes it.
func (h *RealEffectHandler) EnforceStateLimit(ctx context.Context) error {
	if h.stateLimit <= 0 {
		return nil
	}
	containers, _, err := h.docker.Containers(ctx, h.hostID)
	if err != nil {
		return err
	}
	var failures []error
	for _, c := range containers {
		if c.Running && ctx.Err() == nil {
			failures = append(failures, h.holdState(ctx, c))
		}
	}
	return errors.Join(failures...)
}

func (h *RealEffectHandler) holdState(ctx context.Context, c runtime.Container) error {
	reason, err := h.overLimit(ctx, c.ProgramID)
	if err != nil {
		return err
	}
	if reason == "" {
		return h.dropStaleNote(ctx, c)
	}
	return h.End(ctx, fromDocker(c), reason)
}

// dropStaleNote removes the note of an earlier kill that did not succeed, so that an end of the container's own does not carry its
// reason. That it still runs is asked again: it may have been killed since it was listed, and its exit not been told yet.
func (h *RealEffectHandler) dropStaleNote(ctx context.Context, c runtime.Container) error {
	note := h.endFile(c.ProgramID)
	if !isStale(note) {
		return nil
	}
	now, err := h.docker.Inspect(ctx, c.ID)
	if errors.Is(err, runtime.ErrNoContainer) || err == nil && !now.Running {
		return nil
	}
	if err != nil {
		return err
	}
	h.notes.Lock()
	defer h.notes.Unlock()
	if !isStale(note) {
		return nil // Another was written meanwhile.
	}
	if err := os.Remove(note); err != nil {
		return fmt.Errorf("remove the note on container %.12s: %w", c.ID, err)
	}
	return nil
}

func isStale(note string) bool {
	info, err := os.Stat(note)
	return err == nil && time.Since(info.ModTime()) > staleNote
}

func (h *RealEffectHandler) endFile(id events.ProgramID) string {
	return filepath.Join(h.storage.GetRuntimePath(id), endFileName)
}

// End kills a container of this host and leaves it there, with its output and its exit code. Its exit carries the reason. One that
// has ended is fine.
func (h *RealEffectHandler) End(ctx context.Context, c effects.Container, reason string) error {
	// A disk that is full takes no note, and is the best of reasons to go on.
	if err := h.noteEnd(c, reason); err != nil {
		h.log.Error("cannot note why a program is ended", "program", c.ProgramID, "container", c.ID, "reason", reason, "error", err)
	}
	h.log.Warn("ending a program", "program", c.ProgramID, "container", c.ID, "reason", reason)
	return h.docker.Kill(ctx, c.ID)
}

// noteEnd writes the note. The limit of /state and the fence of a host that is cut off may want to at once.
func (h *RealEffectHandler) noteEnd(c effects.Container, reason string) error {
	data, err := json.Marshal(endNote{ContainerID: c.ID, Reason: reason})
	if err != nil {
		return err
	}
	h.notes.Lock()
	defer h.notes.Unlock()
	return replaceFile(h.endFile(c.ProgramID), data)
}

// checkState refuses to start a program whose state has outgrown the limit.
func (h *RealEffectHandler) checkState(ctx context.Context, id events.ProgramID) error {
	if h.stateLimit <= 0 {
		return nil
	}
	reason, err := h.overLimit(ctx, id)
	if err != nil || reason == "" {
		return err
	}
	// The program itself, which alone reaches the folder, cannot run to tidy up.
	return fmt.Errorf("%s: it must be made smaller before the program can start; ask the operator of host %s to do that, or delete the program", reason, h.hostID)
}

// overLimit says what is wrong with the size of a state folder; "" is nothing.
func (h *RealEffectHandler) overLimit(ctx context.Context, id events.ProgramID) (string, error) {
	size, err := h.storage.StateSize(ctx, id)
	switch {
	case errors.Is(err, storage.ErrUncountable):
		return "its /state cannot be measured, since it has too many files or folders nested too deep", nil
	case err != nil || size <= h.stateLimit:
		return "", err
	}
	return fmt.Sprintf("its /state takes %d MiB of the disk, more than the %d MiB that this host allows", size>>20, h.stateLimit>>20), nil
}

// endReason returns why this host ended a container; "" when it did not, or cannot tell any more. One that ended by itself, between
// the note and the kill, has an exit code of its own.
func (h *RealEffectHandler) endReason(c runtime.Container) string {
	if c.ExitCode != killed {
		return ""
	}
	file, err := os.Open(h.endFile(c.ProgramID))
	if err != nil {
		return ""
	}
	defer func() { _ = file.Close() }() // Nothing was written.
	data, err := io.ReadAll(io.LimitReader(file, maxEndFile))
	var note endNote
	if err != nil || json.Unmarshal(data, &note) != nil || note.ContainerID != c.ID {
		return ""
	}
	return events.Clip(note.Reason)
}
