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

const (
	timeout = time.Minute      // For what is done to start something.
	hostTTL = 10 * time.Minute // So long that no host is lost because the machine that runs the tests is busy.
)

// Secure is a NATS server with accounts.
type Secure struct {
	Dir    tenants.Dir
	Server *natsserver.Server
	URL    string
}

// Start makes the configuration for some hosts and tenants, starts the server, which speaks TLS only, and provisions it.
func Start(t testing.TB, hosts []events.HostID, users []events.UserID) *Secure {
	t.Helper()
	s := &Secure{Dir: tenants.In(t.TempDir())}
	check(t, s.Dir.SelfSign([]string{"127.0.0.1"}, time.Now()))
	check(t, s.Dir.Init(tenants.ServerOptions{
		Listen: "127.0.0.1:0", StoreDir: t.TempDir(), TLSCert: s.Dir.CertFile(), TLSKey: s.Dir.CertKeyFile(),
	}))
	for _, host := range hosts {
		check(t, s.Dir.AddHost(host))
	}
	for _, user := range users {
		check(t, s.Dir.AddTenant(user))
	}
	server, err := natsserver.StartConfig(natsserver.Config{Path: s.Dir.ServerConfig()})
	check(t, err)
	t.Cleanup(server.Shutdown)
	s.Server, s.URL = server, server.URL()
	s.Provision(t)
	return s
}

// Provision makes what all programs share, as Start has done already.
func (s *Secure) Provision(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	check(t, s.Bus(t, tenants.Provisioner, bus.Options{HostTTL: hostTTL}).Provision(ctx))
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Access is how the user of a key file connects; see tenants.Dir.KeyFile for the names.
func (s *Secure) Access(key string) bus.Access {
	return bus.Access{NKey: s.Dir.KeyFile(key), TLSCA: s.Dir.CertFile()}
}

// Conn connects as the user of a key file; see tenants.Dir.KeyFile for the names.
func (s *Secure) Conn(t testing.TB, key string, opts ...nats.Option) *nats.Conn {
	t.Helper()
	_, access, err := s.Access(key).Resolve(s.URL)
	check(t, err)
	closed := make(chan struct{})
	base := append(access, nats.Timeout(timeout), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.ReconnectJitter(0, 0),
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

// Supervise starts a supervisor of that name, with its request API. Stop may be called on it before the end of the test.
func (s *Secure) Supervise(t testing.TB, name string) *supervisord.Service {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	svc, err := supervisord.Start(ctx, s.Conn(t, tenants.Supervisor), supervisord.Options{
		Name: name, Bus: bus.Options{Bind: true, HostTTL: hostTTL}, Log: natstest.Log(t), Registry: prometheus.NewRegistry(),
	})
	check(t, err)
	t.Cleanup(svc.Stop)
	return svc
}

// Execute starts the executor of a host that runs nothing, with the rights of its host.
func (s *Secure) Execute(t testing.TB, host events.HostID, handler *effects.FakeEffectHandler) *executor.FakeHost {
	t.Helper()
	fake := executor.NewFakeHost(handler)
	s.ExecuteOn(t, host, fake)
	return fake
}

// ExecuteOn starts the executor of a host until stop is called, or the test ends.
func (s *Secure) ExecuteOn(t testing.TB, host events.HostID, machine executor.Host) (stop func()) {
	t.Helper()
	exec := executor.New(host, s.Bus(t, tenants.HostKeyName(host), bus.Options{Bind: true}), machine,
		executor.Options{BuildSlots: 2, RunSlots: 2, Version: "test"}, natstest.Log(t), executor.NewMetrics(prometheus.NewRegistry()))
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() { _ = exec.Run(ctx) }) // Returns the error of ctx.
	stop = sync.OnceFunc(func() {
		cancel()
		group.Wait()
	})
	t.Cleanup(stop)
	return stop
}
