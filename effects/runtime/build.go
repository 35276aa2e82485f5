package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/docker/docker/api/types/build"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/pause"
	"github.com/rlaaudgjs5638/hersh/internal/source"
)

// DefaultBuildTimeout bounds a build that names no limit of its own.
const DefaultBuildTimeout = 30 * time.Minute

// cpuPeriod is what a share of the processors is a share of, in microseconds.
const cpuPeriod = 100_000

// stepTime bounds how long the daemon may take to remove the container of an interrupted step.
const stepTime = 15 * time.Second

// BuildOpts says what to build.
type BuildOpts struct {
	BuildID      events.BuildID
	ContextPath  string // The source folder; .dockerignore is honoured.
	Dockerfile   string // Path of the Dockerfile, absolute or below ContextPath; "" is "Dockerfile".
	Tags         []string
	NoCache      bool
	PullParent   bool   // Ask the registry for a newer base image.
	BuildLogPath string // Optional: write the output to this file, which is replaced.

	Labels       map[string]string // Of the image.
	NetworkMode  string            // Of RUN steps; "" is the daemon's default, "none" is none.
	MemoryBytes  int64             // Of each RUN step, without swap; 0 is no limit.
	CPUs         float64           // Processors of each RUN step; 0 is no limit.
	CgroupParent string            // Of RUN steps; "" is the daemon's default.
	Timeout      time.Duration     // 0 is DefaultBuildTimeout.
	Output       io.Writer         // Optional: gets the output while it comes. Its errors end the build.
}

// BuildResult is an image that was built.
type BuildResult struct {
	ImageID string // "sha256:" and 64 hex digits.
	BuildID events.BuildID
}

// Build builds an image with the classic builder of the daemon. When it fails in a step of the Dockerfile, the message of
// its error holds that step and what Docker said of it; other errors wrap ErrBuildTimeout, ErrUnavailable, the cause of the
// end of ctx, or the errors of internal/source. In each of these cases, and when this process dies, the build is dead in
// Docker as well.
func (m *DockerManager) Build(ctx context.Context, opts BuildOpts) (*BuildResult, error) {
	limit := cmp.Or(opts.Timeout, DefaultBuildTimeout)
	bounded, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%w (limit %s)", ErrBuildTimeout, limit))
	defer cancel()
	imageID, err := m.build(bounded, opts)
	if err != nil {
		return nil, err // As it is: it becomes the reason that people read beside the program and its build.
	}
	return &BuildResult{ImageID: imageID, BuildID: opts.BuildID}, nil
}

func (m *DockerManager) build(ctx context.Context, opts BuildOpts) (imageID string, err error) {
	dockerfile, err := relativeDockerfile(opts.ContextPath, opts.Dockerfile)
	if err != nil {
		return "", err
	}
	const tries = 5
	for range tries {
		imageID, err = m.tryBuild(ctx, opts, dockerfile)
		if !errors.Is(err, errCacheRace) || !pause.For(ctx, leastBackoff) {
			return imageID, err
		}
	}
	return "", fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// errCacheRace says that the builder, looking for a step that it had run before, met an image that was removed at that moment.
// It looks through all images that come from the same base, whoever built them, so that any removal can fail any build.
var errCacheRace = errors.New("an image was removed while the builder looked at it")

func (m *DockerManager) tryBuild(ctx context.Context, opts BuildOpts, dockerfile string) (string, error) {
	log, err := openBuildLog(opts.BuildLogPath, opts.Output)
	if err != nil {
		return "", sortError(ctx, err)
	}
	output := &buildOutput{log: log}
	if err = refuseRemoteAdd(opts.ContextPath, dockerfile); err == nil {
		err = m.runBuild(ctx, opts, dockerfile, output)
	}
	if err != nil {
		_ = log.line(lastWords(ctx, err)) // The build's own error says more than that of its log.
		m.awaitStep(ctx, output.running)
	}
	if closeErr := log.close(); err == nil {
		err = sortError(ctx, closeErr)
	}
	if err != nil || output.imageID != "" {
		return output.imageID, err
	}
	return m.taggedImage(ctx, opts.Tags)
}

// lastWords is the last line in the log of a build that made no image.
func lastWords(ctx context.Context, err error) string {
	switch {
	case ctx.Err() == nil, errors.Is(err, ErrBuildTimeout):
		return "ERROR: " + err.Error()
	case errors.Is(err, context.Canceled):
		return "INTERRUPTED: the executor was stopped; it will be built again"
	}
	return "CANCELLED: " + err.Error()
}

// runBuild sends the source and reads the output to its end.
func (m *DockerManager) runBuild(ctx context.Context, opts BuildOpts, dockerfile string, output *buildOutput) error {
	body := &contextReader{ReadCloser: source.Stream(ctx, opts.ContextPath, dockerfile)}
	defer body.Close()
	resp, err := m.cli.ImageBuild(ctx, body, build.ImageBuildOptions{
		Version:      build.BuilderV1,
		Dockerfile:   dockerfile,
		Tags:         opts.Tags,
		NoCache:      opts.NoCache,
		PullParent:   opts.PullParent,
		Remove:       true,
		ForceRemove:  true, // Also of the container of a step that failed.
		Labels:       opts.Labels,
		NetworkMode:  opts.NetworkMode,
		Memory:       opts.MemoryBytes,
		MemorySwap:   opts.MemoryBytes,
		CPUPeriod:    cpuPeriod,
		CPUQuota:     int64(opts.CPUs * cpuPeriod),
		CgroupParent: opts.CgroupParent,
	})
	if err == nil {
		defer resp.Body.Close()
		err = output.read(resp.Body)
	}
	// A source that cannot be packed reaches the daemon as a broken connection, and the caller as its own error.
	if sourceErr := body.failure(); sourceErr != nil && ctx.Err() == nil {
		err = sourceErr
		if isOutage(sourceErr) {
			err = fmt.Errorf("%w: %w", ErrUnavailable, sourceErr)
		}
		return err
	}
	var failed *stepError
	switch {
	case !errors.As(err, &failed) || ctx.Err() != nil || isOutage(failed):
		return sortError(ctx, err)
	case strings.Contains(failed.reason, `unable to find image "sha256:`):
		return fmt.Errorf("%w: %w", errCacheRace, failed)
	}
	return failed
}

// awaitStep waits until the container of an interrupted step is gone: the daemon removes it when it sees that the client has
// left. It only waits, since the ID is read from output that the step itself may have made up, to have somebody else's
// container removed.
func (m *DockerManager) awaitStep(ctx context.Context, containerID string) {
	if containerID == "" {
		return
	}
	err := m.awaitGone(context.WithoutCancel(ctx), containerID, stepTime)
	if err != nil {
		m.log.Warn("the container of an interrupted build may still be there", "container", containerID, "error", err)
	}
}

// taggedImage is for daemons that do not say which image they built.
func (m *DockerManager) taggedImage(ctx context.Context, tags []string) (string, error) {
	if len(tags) == 0 {
		return "", errors.New("the daemon did not say which image it built")
	}
	var imageID string
	err := call(ctx, quickCall, func(ctx context.Context) error {
		image, err := m.cli.ImageInspect(ctx, tags[0])
		imageID = image.ID
		return err
	})
	return imageID, err
}

// relativeDockerfile returns the slash path of the Dockerfile in the build context.
func relativeDockerfile(dir, dockerfile string) (string, error) {
	rel := cmp.Or(dockerfile, "Dockerfile")
	if filepath.IsAbs(rel) {
		var err error
		if rel, err = filepath.Rel(dir, rel); err != nil {
			return "", fmt.Errorf("the Dockerfile %q is not below the source folder", dockerfile)
		}
	}
	if !filepath.IsLocal(rel) {
		return "", fmt.Errorf("the Dockerfile %q is not below the source folder", dockerfile)
	}
	return filepath.ToSlash(filepath.Clean(rel)), nil
}

// contextReader remembers why the build context could not be read to its end. The HTTP client reads it from a goroutine
// of its own.
type contextReader struct {
	io.ReadCloser
	mu  sync.Mutex
	err error
}

func (c *contextReader) Read(b []byte) (int, error) {
	n, err := c.ReadCloser.Read(b)
	// A closed pipe is what the client makes of it once the daemon has heard enough.
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrClosedPipe) {
		c.mu.Lock()
		c.err = err
		c.mu.Unlock()
	}
	return n, err
}

func (c *contextReader) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}
