package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/client"
)

var (
	// ErrUnavailable says that nothing is known about the outcome: the daemon did not answer, or it or this process had no
	// disk space left. Such a failure is to be tried again; it is not a result.
	ErrUnavailable = errors.New("the Docker daemon is not available")
	// ErrBuildTimeout says that a build took longer than its limit, and was killed.
	ErrBuildTimeout = errors.New("the build took too long and was stopped")
	// ErrSpecMismatch says that Docker made a container that is not what the spec says. That container was removed.
	ErrSpecMismatch = errors.New("the container is not what Docker was told to make")
	// ErrRuntimeMissing says that the daemon does not know the runtime that the spec asks for.
	ErrRuntimeMissing = errors.New("the container runtime is not known to Docker")
	// ErrNameTaken says that a container which is not the program's has the name of the attempt. It was not touched.
	ErrNameTaken = errors.New("another container has the name of this one")
	// ErrNotOwner says that a container is of another program or another host, or not of Hersh. It was not touched.
	ErrNotOwner = errors.New("the container belongs to somebody else")
	// ErrNoContainer says that there is no such container, or no longer.
	ErrNoContainer = errors.New("no such container")
	// ErrClosed says that the DockerManager was closed.
	ErrClosed = errors.New("the Docker manager is closed")
)

// Limits of how long the daemon may take to answer. A daemon that hangs must not hang its callers.
const (
	quickCall  = 30 * time.Second // Reading calls.
	changeCall = 2 * time.Minute  // Creating, starting and removing; a busy daemon starts a few containers a second.
)

// call makes one call to the daemon within a limit, and sorts its error.
func call(ctx context.Context, limit time.Duration, do func(context.Context) error) error {
	bounded, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := do(bounded)
	if err != nil && ctx.Err() == nil && bounded.Err() != nil {
		return fmt.Errorf("%w: no answer within %s", ErrUnavailable, limit)
	}
	return sortError(ctx, err)
}

// sortError gives an error of the Docker client its sentinel. The end of ctx comes first: what fails after it fails
// because of it.
func sortError(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errdefs.IsNotFound(err) && strings.Contains(strings.ToLower(err.Error()), "no such container"):
		return ErrNoContainer
	case isOutage(err):
		return fmt.Errorf("%w: %w", ErrUnavailable, daemonError{err})
	}
	return daemonError{err}
}

// isOutage knows what a daemon says, or does not say, when it or its disk is out of order. Most of it reaches the client
// as text only.
func isOutage(err error) bool {
	if client.IsErrConnectionFailed(err) || errdefs.IsUnavailable(err) || errors.Is(err, syscall.ENOSPC) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) {
		return true
	}
	text := err.Error()
	for _, sign := range []string{
		syscall.ENOSPC.Error(),
		"containerd.sock",      // The daemon cannot reach containerd, which is starting or dead.
		"transport is closing", // The same, during a call.
		"ttrpc: closed",        // The container's shim died during a call: the machine or containerd goes down.
	} {
		if strings.Contains(text, sign) {
			return true
		}
	}
	return false
}

// daemonError is what the daemon said, without the client's preamble.
type daemonError struct{ error }

func (e daemonError) Error() string {
	return strings.TrimPrefix(e.error.Error(), "Error response from daemon: ")
}

func (e daemonError) Unwrap() error { return e.error }
