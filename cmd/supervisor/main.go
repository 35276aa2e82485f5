// Command supervisor moves programs forward and serves the request API. Any number may run; none keeps anything.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/rlaaudgjs5638/hersh/internal/bus"
	"github.com/rlaaudgjs5638/hersh/internal/service"
	"github.com/rlaaudgjs5638/hersh/internal/service/supervisord"
)

type flags struct {
	Server string `help:"Addresses of the NATS servers, separated by commas." env:"NATS_URL" default:"nats://127.0.0.1:4222"`
	HTTP   string `name:"http" help:"Address of /healthz, /readyz and /metrics; empty is none." env:"HERSH_HTTP" default:"127.0.0.1:8081"`

	Name     string `help:"Tells this supervisor from others; must be unique. Default: the machine's name and something random." env:"HERSH_NAME"`
	Replicas int    `help:"Copies of every stream that is created: 1, or 3 on a cluster." enum:"1,3" env:"HERSH_REPLICAS" default:"1"`

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
		machine, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("find the machine's name for --name: %w", err)
		}
		f.Name = machine + "-" + uuid.NewString()[:8]
	}
	ctx, stop := service.UntilSignal(context.Background(), log)
	defer stop()
	var nc *nats.Conn
	err = service.Retry(ctx, func(context.Context) (err error) {
		nc, err = bus.Dial(f.Server, "hersh supervisor "+f.Name, log)
		return err
	}, func(err error, wait time.Duration) {
		log.Warn("NATS does not answer yet", "error", err, "retry_in", wait)
	})
	if err != nil {
		return ended(err)
	}
	defer nc.Close()
	registry := service.NewRegistry()
	s, err := supervisord.Start(ctx, nc, supervisord.Options{
		Name: f.Name, Bus: bus.Options{Replicas: f.Replicas}, Log: log, Registry: registry,
	})
	if err != nil {
		return ended(err)
	}
	defer s.Stop()
	monitor, err := service.StartMonitor(f.HTTP, registry, log, s.Checks()...)
	if err != nil {
		return err
	}
	defer monitor.Stop()
	log.Info("supervisor runs", "name", f.Name, "http", monitor.Addr())
	<-ctx.Done()
	return nil
}

// ended is no failure when the process was asked to end while it waited for something.
func ended(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
