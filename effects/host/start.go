package host

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/effects/compose"
	"github.com/rlaaudgjs5638/hersh/effects/runtime"
	"github.com/rlaaudgjs5638/hersh/events"
)

const (
	composeFileName   = "docker-compose.json"
	containerFileName = "container.json"
)

// start makes the spec of the program, writes it to where people find it, and starts its container.
func (h *RealEffectHandler) start(ctx context.Context, e effects.StartRuntime) (events.Event, error) {
	// The folders may be gone: the image of a build outlives whoever tidied them up.
	if err := h.storage.EnsureProgramFolders(e.ProgramID); err != nil {
		return nil, err
	}
	if err := h.checkState(ctx, e.ProgramID); err != nil {
		return nil, err
	}
	spec, err := h.compose.GenerateSpec(compose.BuildOpts{
		ProgramID: e.ProgramID,
		ImageID:   e.ImageID,
		StatePath: cmp.Or(e.StatePath, h.storage.GetStatePath(e.ProgramID)),
		Runtime:   h.runtime,
		HostID:    h.hostID,
		Attempt:   e.Attempt,
		Limits:    h.withDefaults(e.Limits),
		Labels:    h.labels,
	})
	if err != nil {
		return nil, err
	}
	file, err := compose.MarshalFile(spec)
	if err == nil {
		err = replaceFile(filepath.Join(h.storage.GetComposePath(e.ProgramID), composeFileName), file)
	}
	if err != nil {
		return nil, fmt.Errorf("write compose file: %w", err)
	}
	result, err := h.docker.Start(ctx, runtime.StartOpts{
		ProgramID: e.ProgramID, Spec: spec, RuntimeLogPath: h.outputPath(e.ProgramID), LogSink: h.sink,
	})
	if err != nil {
		return nil, err
	}
	if err := h.noteContainer(e, result.ContainerID); err != nil {
		h.log.Warn("could not write the container's file", "program", e.ProgramID, "error", err) // It is for people only.
	}
	return events.RuntimeStarted{ContainerID: result.ContainerID}, nil
}

// noteContainer writes what runs to the program's runtime/ folder, for whoever looks there.
func (h *RealEffectHandler) noteContainer(e effects.StartRuntime, containerID string) error {
	data, err := json.MarshalIndent(map[string]any{
		"containerId": containerID, "imageId": e.ImageID, "attempt": e.Attempt, "runtime": h.runtime, "hostId": h.hostID,
	}, "", "  ")
	if err != nil {
		return err
	}
	return replaceFile(filepath.Join(h.storage.GetRuntimePath(e.ProgramID), containerFileName), append(data, '\n'))
}

func (h *RealEffectHandler) outputPath(id events.ProgramID) string {
	return filepath.Join(h.storage.GetLogsPath(id), outputLogName)
}

// replaceFile writes a file whole or not at all.
func replaceFile(path string, data []byte) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
