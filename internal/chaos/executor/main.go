// Command executor is the production executor on a host whose containers are processes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/bus"
	"github.com/rlaaudgjs5638/hersh/internal/chaos/prochost"
	"github.com/rlaaudgjs5638/hersh/internal/executor"
	"github.com/rlaaudgjs5638/hersh/internal/service"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "executor:", err)
		os.Exit(1)
	}
}

func run() error {
	server := flag.String("server", nats.DefaultURL, "addresses of the NATS servers")
	host := flag.String("host-id", "", "name of this host")
	dir := flag.String("dir", "", "folder of its containers and images")
	container := flag.String("container", "", "the container's program")
	builds := flag.Int("build-slots", 4, "builds at once of programs without a host")
	seed := flag.Uint64("seed", 1, "of what builds and containers do")
	flag.Parse()
	id, err := events.ParseHostID(*host)
	if err != nil {
		return err
	}
	log, err := service.NewLogger(os.Stderr, service.LogText, "info")
	if err != nil {
		return err
	}
	ctx, stop := service.UntilSignal(context.Background(), log)
	defer stop()
	var nc *nats.Conn
	err = service.Retry(ctx, func(context.Context) (err error) {
		nc, err = bus.Dial(*server, "hersh executor "+*host, log)
		return err
	}, func(err error, _ time.Duration) {
		log.Warn("NATS does not answer yet", "error", err)
	})
	if err != nil {
		return err
	}
	defer nc.Close()
	b, err := bus.New(nc, log, bus.Options{})
	if err != nil {
		return err
	}
	loop := executor.New(id, b, prochost.New(*dir, *container, *seed), executor.Options{BuildSlots: *builds, RunSlots: 4},
		log, executor.NewMetrics(prometheus.NewRegistry()))
	log.Info("executor runs")
	if err := loop.Run(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}
