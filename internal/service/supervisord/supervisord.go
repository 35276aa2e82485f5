// Package supervisord is the supervisor as a service: the loop that moves programs forward and the request API, on one
// connection. cmd/supervisor and `hersh dev` are both made with it.
package supervisord

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rlaaudgjs5638/hersh/internal/api"
	"github.com/rlaaudgjs5638/hersh/internal/bus"
	"github.com/rlaaudgjs5638/hersh/internal/service"
	"github.com/rlaaudgjs5638/hersh/internal/supervisor"
)

// Options say how a supervisor runs.
type Options struct {
	Name     string // Tells it from other supervisors; it must be unique.
	Bus      bus.Options
	Log      *slog.Logger
	Registry prometheus.Registerer // Gets its metrics.
	Quotas   api.Quotas            // Of each user; zero fields are the defaults.
	Metadata map[string]string     // What the request API says of itself to who asks, as with `nats micro info hersh`.
}

// Service is a supervisor that runs.
type Service struct {
	bus    *bus.Bus
	api    *api.Server
	cancel context.CancelFunc
	group  sync.WaitGroup
	log    *slog.Logger
}

// Start provisions the bus, trying again until ctx ends, and starts the loop and the API. When it returns, requests are answered.
// The connection stays the caller's, who calls Stop before it is closed.
func Start(ctx context.Context, nc *nats.Conn, o Options) (*Service, error) {
	b, err := bus.New(nc, o.Log, o.Bus)
	if err != nil {
		return nil, err
	}
	err = service.Retry(ctx, b.Provision, func(err error, wait time.Duration) {
		o.Log.Warn("cannot prepare the streams of Hersh yet", "error", err, "retry_in", wait)
	})
	if err != nil {
		return nil, fmt.Errorf("prepare the streams of Hersh: %w", err)
	}
	loop := supervisor.New(b, o.Name, o.Log, supervisor.NewMetrics(o.Registry))
	watch := supervisor.NewHostWatch(b, b.HostTTL(), o.Log, time.Now())
	loop.UseHosts(watch, time.Now)
	requests, err := api.Start(nc, b, loop, api.Options{
		Version: service.Version(), Metadata: o.Metadata, Log: o.Log, Metrics: api.NewMetrics(o.Registry), Quotas: o.Quotas,
	})
	if err != nil {
		return nil, err
	}
	loopCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &Service{bus: b, api: requests, cancel: cancel, log: o.Log}
	s.group.Go(func() {
		if err := loop.Run(loopCtx); err != nil && !errors.Is(err, context.Canceled) {
			o.Log.Error("the supervisor stopped", "error", err)
		}
	})
	s.group.Go(func() { watch.Run(loopCtx) })
	return s, nil
}

// Bus returns the bus, which is provisioned.
func (s *Service) Bus() *bus.Bus { return s.bus }

// Checks are what the service needs to be ready.
func (s *Service) Checks() []service.Check {
	return []service.Check{{Name: "NATS JetStream answers", Ready: s.bus.Ping}}
}

// Stop takes no more work, finishes what is in hand, and returns when nothing is left running.
func (s *Service) Stop() {
	s.cancel()
	s.api.Stop()
	s.group.Wait()
}
