package client_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rlaaudgjs5638/hersh/client"
	"github.com/rlaaudgjs5638/hersh/internal/natsserver"
	"github.com/rlaaudgjs5638/hersh/internal/service/executord"
	"github.com/rlaaudgjs5638/hersh/internal/service/supervisord"
)

// This deploys a folder, starts it, waits until it runs, and shows what happened. It runs against a Hersh in this process; yours
// would be at nats://127.0.0.1:4222, where `hersh dev` is.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	url, stop := startHersh(ctx)
	defer stop()

	c, err := client.Connect(url)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	dir, err := os.MkdirTemp("", "hersh-example-*")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM scratch\n"), 0o600); err != nil {
		log.Fatal(err)
	}

	id, err := c.Deploy(ctx, dir, "alice", client.DeployOptions{})
	if err != nil {
		log.Fatal(err)
	}
	seq, err := c.Start(ctx, id)
	if err != nil {
		log.Fatal(err)
	}
	settled, err := c.WaitSettled(ctx, id, seq)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("the program is", settled.State.State)
	for step, err := range c.History(ctx, id, 0) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(step.Seq, step.Type, step.From, "→", step.To)
	}
	// Output:
	// the program is Ready
	// 1 ProgramCreated Created → Created
	// 2 UserStartRequested Created → Building
	// 3 FoldersEnsured Building → Building
	// 4 BuildFinished Building → Starting
	// 5 RuntimeStarted Starting → Ready
}

// startHersh starts what `hersh dev --fake` does.
func startHersh(ctx context.Context) (url string, stop func()) {
	quiet := slog.New(slog.DiscardHandler)
	dir, err := os.MkdirTemp("", "hersh-example-nats-*")
	if err != nil {
		log.Fatal(err)
	}
	srv, err := natsserver.Start(natsserver.Options{Dir: dir, Port: -1})
	if err != nil {
		log.Fatal(err)
	}
	closed := make(chan struct{})
	nc, err := nats.Connect(srv.URL(), nats.ClosedHandler(func(*nats.Conn) { close(closed) }))
	if err != nil {
		log.Fatal(err)
	}
	sup, err := supervisord.Start(ctx, nc, supervisord.Options{Name: "example", Log: quiet, Registry: prometheus.NewRegistry()})
	if err != nil {
		log.Fatal(err)
	}
	exec, err := executord.Start(ctx, nc, executord.Options{HostID: "example", Fake: true, Log: quiet, Registry: prometheus.NewRegistry()})
	if err != nil {
		log.Fatal(err)
	}
	return srv.URL(), func() {
		exec.Stop()
		sup.Stop()
		nc.Close()
		<-closed
		srv.Shutdown()
		if err := os.RemoveAll(dir); err != nil {
			log.Fatal(err)
		}
	}
}
