package host

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"strconv"
	"time"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/effects/compose"
	"github.com/rlaaudgjs5638/hersh/effects/runtime"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/source"
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
	if err := h.fetchSource(ctx, e); err != nil {
		return nil, err
	}
	output := h.buildOutput(ctx, e)
	result, err := h.docker.Build(ctx, runtime.BuildOpts{
		BuildID:      e.BuildID,
		ContextPath:  cmp.Or(e.SrcPath, h.storage.GetSrcPath(e.ProgramID)),
		Dockerfile:   cmp.Or(e.Dockerfile, defaultFile),
		Tags:         []string{imageTag(e.ProgramID, e.Attempt)},
		BuildLogPath: filepath.Join(h.storage.GetLogsPath(e.ProgramID), buildLogName),
		Labels:       h.imageLabels(e),
		MemoryBytes:  h.buildMemory,
		Timeout:      h.buildTimeout,
		Output:       output,
	})
	output.flush()
	if err != nil {
		return nil, err
	}
	if _, err := h.docker.RemoveImages(ctx, e.ProgramID, h.hostID, e.Attempt); err != nil && ctx.Err() == nil {
		h.log.Warn("could not remove older images", "program", e.ProgramID, "error", err)
	}
	return events.BuildFinished{Success: true, ImageID: result.ImageID}, nil
}

// fetchSource brings the verified source into src/. A source that the bus does not have, or that is not what the program's first
// event says, fails the build; a bus that does not answer is an outage.
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
	err = h.storage.StoreSource(ctx, e.ProgramID, tarball, e.SourceDigest)
	if err != nil && !isVerdict(err) && !isOutage(err) {
		return fmt.Errorf("%w: %w", errSourceAway, err) // The transfer broke.
	}
	return err
}

// isVerdict reports that a source was read to where it is known to be bad: it will be no better next time.
func isVerdict(err error) bool {
	for _, verdict := range []error{
		source.ErrDigest, source.ErrMalformed, source.ErrTooLarge, source.ErrUnsafePath, source.ErrUnsupportedEntry, source.ErrNoDockerfile,
	} {
		if errors.Is(err, verdict) {
			return true
		}
	}
	return false
}

func (h *RealEffectHandler) imageLabels(e effects.BuildRuntime) map[string]string {
	labels := map[string]string{}
	maps.Copy(labels, h.labels)
	labels[compose.LabelProgram] = string(e.ProgramID)
	labels[compose.LabelAttempt] = strconv.FormatUint(e.Attempt, 10)
	if h.hostID != "" {
		labels[compose.LabelHost] = string(h.hostID)
	}
	return labels
}

// imageTag keeps the image of an attempt from being pruned as dangling.
func imageTag(id events.ProgramID, attempt uint64) string {
	return fmt.Sprintf("hersh/%s:%d", id, attempt)
}

// liveOutput ships the output of a build while it comes. The build does not wait for a bus that is away: the whole output is in
// build.log, and shipping ends at the first failure.
type liveOutput struct {
	ctx     context.Context
	handler *RealEffectHandler
	effect  effects.BuildRuntime
	began   int64
	sent    int
	buf     bytes.Buffer
	flushed time.Time
	broken  bool
}

const (
	shipEvery = 200 * time.Millisecond
	shipLimit = 10 * time.Second
)

func (h *RealEffectHandler) buildOutput(ctx context.Context, e effects.BuildRuntime) *liveOutput {
	return &liveOutput{ctx: ctx, handler: h, effect: e, began: time.Now().UnixNano(), broken: h.sink == nil}
}

// Write implements io.Writer and never fails.
func (o *liveOutput) Write(p []byte) (int, error) {
	if o.broken {
		return len(p), nil
	}
	for rest := p; len(rest) > 0; {
		n := min(len(rest), runtime.MaxBatch-o.buf.Len())
		o.buf.Write(rest[:n])
		rest = rest[n:]
		if o.buf.Len() == runtime.MaxBatch {
			o.flush()
		}
	}
	if time.Since(o.flushed) >= shipEvery {
		o.flush()
	}
	return len(p), nil
}

func (o *liveOutput) flush() {
	if o.broken || o.buf.Len() == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(o.ctx), shipLimit)
	defer cancel()
	key := fmt.Sprintf("%s/build/%d/%d/%d", o.effect.ProgramID, o.effect.Attempt, o.began, o.sent)
	o.sent++
	if err := o.handler.sink.ShipLog(ctx, o.effect.ProgramID, events.LogBuild, key, o.buf.Bytes()); err != nil {
		o.broken = true
		o.handler.log.Warn("cannot ship the output of a build; it is in the build log on the host", "program", o.effect.ProgramID, "error", err)
	}
	o.buf.Reset()
	o.flushed = time.Now()
}
