// Package tenantstest starts a NATS server on which everybody has an account, with Hersh on it, as it is in production: each part
// connects with its own key, and has no rights that its key does not give.
package tenantstest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rlaaudgjs5638/hersh/effects"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/bus"
	"github.com/rlaaudgjs5638/hersh/internal/executor"
	"github.com/rlaaudgjs5638/hersh/internal/natsserver"
	"github.com/rlaaudgjs5638/hersh/internal/natstest"
	"github.com/rlaaudgjs5638/hersh/internal/service/supervisord"
	"github.com/rlaaudgjs5638/hersh/internal/tenants"
)

// timeout bounds what is done to start something.
const timeout = time.Minute

// Secure is a NATS server with accounts.
type Secure struct {
	Dir    tenants.Dir
	Server *natsserver.Server
	URL    string
}

// Start makes the configuration for some hosts and tenants, starts the server and provisions it.
func Start(t testing.TB, hosts []events.HostID, users []events.UserID) *Secure {
	t.Helper()
	s := &Secure{Dir: tenants.In(t.TempDir())}
	check(t, s.Dir.Init(tenants.ServerOptions{Listen: "127.0.0.1:0", StoreDir: t.TempDir()}))
	for _, host := range hosts {
		check(t, s.Dir.AddHost(host))
	}
	for _, user := range users {
		check(t, s.Dir.AddTenant(user))
	}
	server, err := natsserver.StartConfig(s.Dir.ServerConfig(), nil)
	check(t, err)
	t.Cleanup(server.Shutdown)
	s.Server, s.URL = server, server.URL()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	check(t, s.Bus(t, tenants.Provisioner, bus.Options{}).Provision(ctx))
	return s
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Conn connects as the user of a key file; see tenants.Dir.KeyFile for the names.
func (s *Secure) Conn(t testing.TB, key string, opts ...nats.Option) *nats.Conn {
	t.Helper()
	_, access, err := bus.Access{NKey: s.Dir.KeyFile(key)}.Resolve(s.URL, false)
	check(t, err)
	closed := make(chan struct{})
	base := append(access, nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.ReconnectJitter(0, 0),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}), nats.ClosedHandler(func(*nats.Conn) { close(closed) }))
	nc, err := nats.Connect(s.URL, append(base, opts...)...)
	if err != nil {
		t.Fatalf("connect as %s: %v", key, err)
	}
	t.Cleanup(func() {
		nc.Close()
		<-closed
	})
	return nc
}

// Bus is a bus on a connection of its own.
func (s *Secure) Bus(t testing.TB, key string, opts bus.Options) *bus.Bus {
	t.Helper()
	b, err := bus.New(s.Conn(t, key, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		t.Logf("%s: NATS reports: %v", key, err)
	})), natstest.Log(t), opts)
	check(t, err)
	return b
}

// Supervise starts a supervisor with its request API.
func (s *Secure) Supervise(t testing.TB) *supervisord.Service {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	svc, err := supervisord.Start(ctx, s.Conn(t, tenants.Supervisor), supervisord.Options{
		Name: "test", Bus: bus.Options{Bind: true}, Log: natstest.Log(t), Registry: prometheus.NewRegistry(),
	})
	check(t, err)
	t.Cleanup(svc.Stop)
	return svc
}

// Execute starts the executor of a host that runs nothing, with the rights of its host.
func (s *Secure) Execute(t testing.TB, host events.HostID, handler *effects.FakeEffectHandler) *executor.FakeHost {
	t.Helper()
	fake := executor.NewFakeHost(handler)
	exec := executor.New(host, s.Bus(t, tenants.HostKeyName(host), bus.Options{Bind: true}), fake,
		executor.Options{BuildSlots: 2, RunSlots: 2, Version: "test"}, natstest.Log(t), executor.NewMetrics(prometheus.NewRegistry()))
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() { _ = exec.Run(ctx) }) // Returns the error of ctx.
	t.Cleanup(func() {
		cancel()
		group.Wait()
	})
	return fake
}
