package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/effects/compose"
	"github.com/rlaaudgjs5638/hersh/effects/runtime"
	"github.com/rlaaudgjs5638/hersh/events"
)

const (
	buildLogName  = "build.log"
	outputLogName = "runtime.log"
	defaultFile   = "Dockerfile"
)

// errSourceAway says that the source could not be fetched now.
var errSourceAway = errors.New("the source cannot be fetched now")

// build verifies and unpacks the source, where there is one to fetch, and builds the image.
func (h *RealEffectHandler) build(ctx context.Context, e effects.BuildRuntime) (events.Event, error) {
	if err := h.storage.EnsureProgramFolders(e.ProgramID); err != nil {
		return nil, err
	}
	if err := h.fetchSource(ctx, e); err != nil {
		return nil, err
	}
	opts := runtime.BuildOpts{
		BuildID:      e.BuildID,
		ContextPath:  cmp.Or(e.SrcPath, h.storage.GetSrcPath(e.ProgramID)),
		Dockerfile:   cmp.Or(e.Dockerfile, defaultFile),
		Tags:         imageTags(e.ProgramID),
		BuildLogPath: filepath.Join(h.storage.GetLogsPath(e.ProgramID), buildLogName),
		Labels:       h.imageLabels(e.ProgramID),
		MemoryBytes:  h.buildMemory,
		CPUs:         h.buildCPUs,
		CgroupParent: h.buildCgroup,
		NetworkMode:  h.buildNetwork,
		Timeout:      h.buildTimeout,
	}
	if h.sink != nil {
		output := newLiveOutput(ctx, h.sink, e.ProgramID, h.log)
		defer output.close()
		opts.Output = output
	}
	result, err := h.docker.Build(ctx, opts)
	if err != nil {
		return nil, err
	}
	if _, err := h.docker.RemoveImages(ctx, e.ProgramID, h.hostID, result.ImageID); err != nil && ctx.Err() == nil {
		h.log.Warn("could not remove older images", "program", e.ProgramID, "error", err)
	}
	return events.BuildFinished{Success: true, ImageID: result.ImageID}, nil
}

// fetchSource brings the verified source into src/. A source that the bus does not have, or that is not what the program's
// first event says, fails the build; a bus that does not answer is an outage.
func (h *RealEffectHandler) fetchSource(ctx context.Context, e effects.BuildRuntime) error {
	if h.sources == nil {
		return nil
	}
	if e.SourceDigest == "" {
		return errors.New("the program's log names no source digest, so nothing can be verified: it was not created as programs are")
	}
	tarball, err := h.sources.OpenSource(ctx, e.ProgramID.User(), e.BuildID)
	if errors.Is(err, events.ErrNoSource) {
		return err
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errSourceAway, err)
	}
	defer tarball.Close()
	arriving := &transfer{Reader: tarball}
	err = h.storage.StoreSource(ctx, e.ProgramID, arriving, e.SourceDigest)
	if err != nil && arriving.err != nil {
		return fmt.Errorf("%w: %w", errSourceAway, arriving.err)
	}
	return err
}

// transfer tells a source that did not arrive from one that did and is bad.
type transfer struct {
	io.Reader
	err error
}

func (t *transfer) Read(b []byte) (int, error) {
	n, err := t.Reader.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		t.err = err
	}
	return n, err
}

// imageLabels say whose an image is. They are the same for every attempt, so that building the same source again changes nothing.
func (h *RealEffectHandler) imageLabels(id events.ProgramID) map[string]string {
	labels := map[string]string{}
	maps.Copy(labels, h.labels)
	labels[compose.LabelProgram] = string(id)
	if h.hostID != "" {
		labels[compose.LabelHost] = string(h.hostID)
	}
	return labels
}

// imageTags keep the image of a program from being pruned as dangling. Not every short ID can be part of an image name.
func imageTags(id events.ProgramID) []string {
	if _, err := events.ParseProgramID(string(id)); err != nil {
		return nil
	}
	return []string{"hersh/" + string(id)}
}
