package main

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rlaaudgjs5638/hersh/effects/compose"
	"github.com/rlaaudgjs5638/hersh/effects/runtime"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/bus"
	"github.com/rlaaudgjs5638/hersh/internal/service/executord"
)

const (
	devBuildSlots  = 2
	devRunSlots    = 4
	dockerPatience = 10 * time.Second // Somebody watches: better to be told than to wait.
)

type executorOptions struct {
	hostID   events.HostID
	bus      bus.Options
	dir      string // The folder of hersh dev.
	runtime  string
	fake     bool
	log      *slog.Logger
	registry prometheus.Registerer
}

// startExecutor starts the executor of hersh dev.
func startExecutor(ctx context.Context, nc *nats.Conn, o executorOptions) (*executord.Service, error) {
	dir, err := filepath.Abs(filepath.Join(o.dir, "programs")) // Docker takes no other.
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dockerPatience)
	defer cancel()
	exec, err := executord.Start(ctx, nc, executord.Options{
		HostID: o.hostID, Dir: dir, Runtime: o.runtime, Fake: o.fake,
		BuildSlots: devBuildSlots, RunSlots: devRunSlots, StateLimit: executord.DefaultStateLimit << 20,
		Bus: o.bus, Log: o.log, Registry: o.registry,
	})
	switch {
	case errors.Is(err, executord.ErrNoRuntime) && o.runtime == compose.RuntimeRunsc:
		return nil, sentence("Docker does not have gVisor's runtime, runsc. Install and register it (`hersh doctor` says how), " +
			"or ask for a weaker sandbox with --runtime runc.")
	case errors.Is(err, executord.ErrNoRuntime), errors.Is(err, runtime.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		return nil, sentence("Docker does not answer, or not as it should. `hersh doctor` says what is wrong; --fake does without Docker.")
	}
	return exec, err
}
