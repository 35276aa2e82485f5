// Command supervisor moves programs forward and serves the request API. Any number may run; none keeps anything.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/rlaaudgjs5638/hersh/internal/bus"
	"github.com/rlaaudgjs5638/hersh/internal/service"
	"github.com/rlaaudgjs5638/hersh/internal/service/supervisord"
)

// minHostTTL leaves room for two heartbeats that are late.
const minHostTTL = 10 * time.Second

type flags struct {
	Server string `help:"Addresses of the NATS servers, separated by commas." env:"NATS_URL" default:"nats://127.0.0.1:4222"`
	bus.Access
	HTTP string `name:"http" help:"Address of /healthz, /readyz and /metrics; empty is none." env:"HERSH_HTTP" default:"127.0.0.1:8081"`

	Name     string        `help:"Tells this supervisor from others; must be unique. Default: the machine's name, the process and something random." env:"HERSH_NAME"`
	Replicas int           `help:"Copies of every stream that is created: 1, or 3 on a cluster." enum:"1,3" env:"HERSH_REPLICAS" default:"1"`
	HostTTL  time.Duration `name:"host-ttl" help:"How long a host may say nothing before it is lost." env:"HERSH_HOST_TTL" default:"30s"`

	quotas

	LogFormat string `help:"text or json." enum:"text,json" env:"HERSH_LOG_FORMAT" default:"text"`
	LogLevel  string `help:"debug, info, warn or error." enum:"debug,info,warn,error" env:"HERSH_LOG_LEVEL" default:"info"`
}

func main() {
	var f flags
	kong.Parse(&f, kong.Name("supervisor"), kong.Description("Reads the programs' logs and says what their hosts must do."),
		kong.UsageOnError())
	if err := run(f); err != nil {
		fmt.Fprintln(os.Stderr, "supervisor:", err)
		os.Exit(1)
	}
}

func run(f flags) error {
	log, err := service.NewLogger(os.Stderr, f.LogFormat, f.LogLevel)
	if err != nil {
		return err
	}
	if f.Name == "" {
		if f.Name, err = defaultName(); err != nil {
			return err
		}
	}
	if f.HostTTL < minHostTTL {
		return fmt.Errorf("--host-ttl %s is too short: executors send a heartbeat every 3s, so give at least %s", f.HostTTL, minHostTTL)
	}
	if err := f.quotas.check(); err != nil {
		return err
	}
	ctx, stop := service.UntilSignal(context.Background(), log)
	defer stop()
	err = f.serve(ctx, log)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil // It was asked to end while it waited for something.
	}
	return err
}

func defaultName() (string, error) {
	machine, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("find the machine's name for --name: %w", err)
	}
	return fmt.Sprintf("%s-%d-%s", machine, os.Getpid(), uuid.NewString()[:8]), nil
}

// serve runs until ctx ends, or the connection is closed for good. Health is served while NATS is waited for, since services are
// started in any order.
func (f *flags) serve(ctx context.Context, log *slog.Logger) error {
	registry := service.NewRegistry()
	var started service.Gate
	monitor, err := service.StartMonitor(f.HTTP, registry, log, started.Check("the supervisor works"))
	if err != nil {
		return err
	}
	defer monitor.Stop()
	nc, err := f.dial(ctx, log)
	if err != nil {
		return err
	}
	defer nc.Close()
	closed := nc.StatusChanged(nats.CLOSED)
	s, err := supervisord.Start(ctx, nc, supervisord.Options{
		Name: f.Name, Bus: bus.Options{Replicas: f.Replicas, HostTTL: f.HostTTL, EventsPerType: f.quotas.Events, Bind: f.Set()},
		Quotas: f.quotas.perUser(), Log: log, Registry: registry,
	})
	if err != nil {
		return err
	}
	defer s.Stop()
	started.Open(s.Checks()...)
	log.Info("supervisor runs", "name", f.Name, "http", monitor.Addr(), "version", service.Version())
	select {
	case <-ctx.Done():
		return nil
	case <-closed:
		return errors.New("the NATS server closed the connection for good; its log says why")
	}
}

func (f *flags) dial(ctx context.Context, log *slog.Logger) (nc *nats.Conn, err error) {
	err = service.Retry(ctx, func(context.Context) error {
		url, access, err := f.Resolve(f.Server)
		if err != nil {
			return err
		}
		nc, err = bus.Dial(url, "hersh supervisor "+f.Name, log, access...)
		return err
	}, func(err error, wait time.Duration) {
		log.Warn("NATS does not answer yet", "error", err, "retry_in", wait)
	})
	return nc, err
}
